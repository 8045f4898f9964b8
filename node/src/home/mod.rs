//! The home of a node: which folders and files it owns, that they are private, and that one process uses them.
//!
//! With `--home` or `MSM_HOME` everything lies below one folder; otherwise in the XDG places:
//! ```text
//! what                       one folder        XDG
//! identity.key, keys/        DIR/              ~/.local/share/msm/
//! floors/, store/, journal/  DIR/              ~/.local/share/msm/
//! markets.toml, lock         DIR/              ~/.local/share/msm/
//! grants.toml, trust.toml,
//! evidence/                  DIR/              ~/.local/share/msm/
//! audit.jsonl, quota.json,
//! pause.json, history        DIR/              ~/.local/state/msm/
//! speed.toml, measured.json  DIR/              ~/.local/state/msm/
//! config.toml                DIR/              ~/.config/msm/
//! control.sock               DIR/              $XDG_RUNTIME_DIR/msm-HASH/
//! ```

pub mod files;
mod grants;
mod identity;
mod lock;
pub mod markets;
mod pause;
mod socket;
mod spent;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use etcetera::BaseStrategy;

pub use self::{
    files::FileError,
    lock::HomeLock,
    markets::{MarketEntry, Markets},
};
use crate::command::{CommandError, ErrorCode};

/// Why a home cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// Neither `--home`, `MSM_HOME` nor `HOME` says where.
    #[error("no home folder: neither --home, MSM_HOME nor HOME is set")]
    Unknown,
    /// A file or folder of the home is missing, foreign, exposed, a link, or cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key file is not what msm writes.
    #[error("{} is not a key file: {source}", .path.display())]
    BadIdentity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: crate::keys::BadKeyFile,
    },
    /// The system gave no random bytes.
    #[error("no random bytes for a new key: {0}")]
    NoRandom(getrandom::Error),
    /// Another node uses this home (B55).
    #[error("already-running: another msm node{} uses {}; a home serves one node at a time", pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(), .home.display())]
    AlreadyRunning {
        /// The home.
        home: PathBuf,
        /// The other node's process, when it could be read.
        pid: Option<u32>,
    },
    /// `markets.toml` cannot be understood.
    #[error("{}: {why}", .path.display())]
    BadMarkets {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        why: String,
    },
    /// `grants.toml` cannot be understood: nothing is granted by guessing.
    #[error("{}: {why}", .path.display())]
    BadGrants {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        why: String,
    },
    /// A market's alias, or the number of markets, breaks a rule.
    #[error("{0}")]
    RefusedMarket(#[from] markets::RefusedMarket),
}

impl HomeError {
    /// Lines to type that would change the outcome.
    pub fn tries(&self) -> Vec<String> {
        match self {
            Self::Unknown => vec!["msm --home DIR status".into()],
            Self::File(error) => error.tries(),
            Self::BadIdentity { path, .. } => {
                let path = files::quoted(path);
                vec![format!("mv {path} {path}.bad")]
            }
            Self::BadGrants { path, .. } => {
                let path = files::quoted(path);
                vec![format!("mv {path} {path}.bad")]
            }
            Self::AlreadyRunning { .. } => {
                vec!["msm status".into(), "msm node --home DIR".into()]
            }
            _ => Vec::new(),
        }
    }
}

impl From<HomeError> for CommandError {
    fn from(error: HomeError) -> Self {
        let code = match &error {
            HomeError::Unknown => ErrorCode::Usage,
            HomeError::File(
                FileError::Exposed { .. }
                | FileError::ForeignOwner { .. }
                | FileError::SharedFolder { .. }
                | FileError::Symlink { .. },
            ) => ErrorCode::NotAllowed,
            HomeError::RefusedMarket(_) => ErrorCode::Usage,
            _ => ErrorCode::Failed,
        };
        let mut answer = Self::new(code, error.to_string());
        answer.r#try = error.tries();
        answer
    }
}

/// The folders and files of one node. Cheap to clone; nothing is held open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    data: PathBuf,
    state: PathBuf,
    cache: PathBuf,
    config_file: PathBuf,
    /// `MSM_CONFIG` named the file: then it must exist.
    config_is_named: bool,
    control_socket: PathBuf,
}

/// Names of the environment variables that decide where a home is.
mod variable {
    pub(super) const HOME: &str = "MSM_HOME";
    pub(super) const CONFIG: &str = "MSM_CONFIG";
    pub(super) const RUNTIME: &str = "XDG_RUNTIME_DIR";
}

impl Home {
    /// Finds the home (`explicit` wins over `MSM_HOME`, that over the XDG places), and makes its folders (0700) where
    /// they are missing. Refuses folders of other users, folders that others can write to, and links.
    pub fn open(explicit: Option<&Path>) -> Result<Self, HomeError> {
        Self::open_with(explicit, &|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn open_with(explicit: Option<&Path>, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, HomeError> {
        let chosen = explicit.map(Path::to_owned).or_else(|| variable(variable::HOME).map(PathBuf::from));
        let runtime = socket::runtime_folder(variable(variable::RUNTIME).map(PathBuf::from));
        let config = variable(variable::CONFIG).map(PathBuf::from);
        let config_is_named = config.is_some();
        let home = match chosen {
            Some(folder) => {
                files::chosen_folder(&folder)?;
                let folder = canonical(&folder)?;
                let control_socket = socket::place(&folder, Some(&folder), runtime.as_deref());
                let config_file = config.unwrap_or_else(|| folder.join("config.toml"));
                let (state, cache) = (folder.clone(), folder.join("cache"));
                Self { state, cache, data: folder, config_file, config_is_named, control_socket }
            }
            None => {
                let xdg = etcetera::base_strategy::Xdg::new().map_err(|_| HomeError::Unknown)?;
                let data = xdg.data_dir().join("msm");
                let state = xdg.state_dir().unwrap_or_else(|| xdg.data_dir()).join("msm");
                files::private_folder(&data)?;
                files::private_folder(&state)?;
                let data = canonical(&data)?;
                let own = runtime.is_none().then_some(data.as_path());
                let control_socket = socket::place(&data, own, runtime.as_deref());
                let config_file = config.unwrap_or_else(|| xdg.config_dir().join("msm/config.toml"));
                let cache = xdg.cache_dir().join("msm");
                Self { data, state, cache, config_file, config_is_named, control_socket }
            }
        };
        for folder in [home.keys_dir(), home.floors_dir(), home.store_dir(), home.journal_dir()] {
            files::private_folder(&folder)?;
        }
        socket::prepare(&home.control_socket, &home.data)?;
        Ok(home)
    }

    /// The folder that names this home: with `--home DIR`, DIR.
    pub fn folder(&self) -> &Path {
        &self.data
    }

    /// The node's secret key (0600).
    pub fn identity_key(&self) -> PathBuf {
        self.data.join("identity.key")
    }

    /// Named keys, one `NAME.key` each.
    pub fn keys_dir(&self) -> PathBuf {
        self.data.join("keys")
    }

    /// Trusted versions of markets, outside the store.
    pub fn floors_dir(&self) -> PathBuf {
        self.data.join("floors")
    }

    /// The content store: a cache that may be deleted while no node runs.
    pub fn store_dir(&self) -> PathBuf {
        self.data.join("store")
    }

    /// Compiled WebAssembly: a cache that may be deleted at any time. The sandbox makes it when it first needs it.
    pub fn compiled_dir(&self) -> PathBuf {
        self.cache.join("wasm")
    }

    /// Inputs of running commands that are too large for memory; beside the journals, which may take them over.
    pub fn spool_dir(&self) -> PathBuf {
        self.journal_dir().join("spool")
    }

    /// Journals of jobs.
    pub fn journal_dir(&self) -> PathBuf {
        self.data.join("journal")
    }

    /// The trusted and published markets.
    pub fn markets_file(&self) -> PathBuf {
        self.data.join("markets.toml")
    }

    /// How workers have answered.
    pub fn trust_file(&self) -> PathBuf {
        self.data.join("trust.toml")
    }

    /// Receipts of wrong outputs. Made when the first is kept.
    pub fn evidence_dir(&self) -> PathBuf {
        self.data.join("evidence")
    }

    /// What services were granted (0600).
    pub fn grants_file(&self) -> PathBuf {
        self.data.join("grants.toml")
    }

    /// One line for each call of a resource by a guest.
    pub fn audit_file(&self) -> PathBuf {
        self.state.join("audit.jsonl")
    }

    /// What others have fetched through this device today.
    pub fn quota_file(&self) -> PathBuf {
        self.state.join("quota.json")
    }

    /// The owner's word that nothing is lent for a while.
    pub fn pause_file(&self) -> PathBuf {
        self.state.join("pause.json")
    }

    /// What was typed in the REPL.
    pub fn history_file(&self) -> PathBuf {
        self.state.join("history")
    }

    /// The measured speed of this machine.
    pub fn speed_file(&self) -> PathBuf {
        self.state.join("speed.toml")
    }

    /// What jobs have shown of services, devices and links: a cache.
    pub fn measured_file(&self) -> PathBuf {
        self.state.join("measured.json")
    }

    /// The owner's settings; need not exist.
    pub fn config_file(&self) -> &Path {
        &self.config_file
    }

    /// True when the owner named the config file (`MSM_CONFIG`), so that it must exist.
    pub fn config_is_named(&self) -> bool {
        self.config_is_named
    }

    /// Where the running node listens for commands; at most 107 bytes, as the system demands.
    pub fn control_socket(&self) -> &Path {
        &self.control_socket
    }

    fn lock_file(&self) -> PathBuf {
        self.data.join("lock")
    }
}

fn canonical(folder: &Path) -> Result<PathBuf, FileError> {
    fs::canonicalize(folder).map_err(|source| FileError::Io { what: "find", path: folder.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    /// Opens `dir` as if nothing of the environment were set.
    fn open(dir: &Path) -> Result<Home, HomeError> {
        Home::open_with(Some(dir), &|_| None)
    }

    #[test]
    fn a_chosen_home_has_everything_below_it() {
        let dir = tempfile::tempdir().unwrap();
        let home = open(&dir.path().join("new")).unwrap();
        let folder = home.folder().to_owned();
        for path in [
            home.identity_key(),
            home.keys_dir(),
            home.floors_dir(),
            home.store_dir(),
            home.journal_dir(),
            home.markets_file(),
            home.grants_file(),
            home.trust_file(),
            home.evidence_dir(),
            home.audit_file(),
            home.quota_file(),
            home.history_file(),
            home.speed_file(),
            home.measured_file(),
            home.config_file().to_owned(),
            home.control_socket().to_owned(),
        ] {
            assert_eq!(path.parent(), Some(folder.as_path()), "{}", path.display());
        }
        for path in [folder, home.keys_dir(), home.floors_dir(), home.store_dir(), home.journal_dir()] {
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700, "{}", path.display());
        }
    }

    #[test]
    fn explicit_wins_over_the_variable_and_the_variable_over_xdg() {
        let dir = tempfile::tempdir().unwrap();
        let variable = |name: &str| {
            let path = match name {
                "MSM_HOME" => dir.path().join("variable"),
                "MSM_CONFIG" => dir.path().join("elsewhere.toml"),
                _ => return None,
            };
            Some(path.into_os_string())
        };
        let home = Home::open_with(None, &variable).unwrap();
        assert!(home.folder().ends_with("variable"));
        assert!(home.config_file().ends_with("elsewhere.toml"));
        let home = Home::open_with(Some(&dir.path().join("explicit")), &variable).unwrap();
        assert!(home.folder().ends_with("explicit"));
    }

    #[test]
    fn a_relative_home_means_the_same_after_a_change_of_folder() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let relative = Path::new(dir.path().file_name().unwrap());
        assert!(open(relative).unwrap().folder().is_absolute());
    }

    #[test]
    fn b56_own_folders_that_are_links_are_refused() {
        for name in ["store", "floors", "keys", "journal"] {
            let dir = tempfile::tempdir().unwrap();
            symlink("/etc", dir.path().join(name)).unwrap();
            let error = open(dir.path()).unwrap_err();
            assert!(matches!(error, HomeError::File(FileError::Symlink { .. })), "{name}: {error}");
            assert_eq!(CommandError::from(error).code, ErrorCode::NotAllowed);
        }
        // The home itself may be a link: people keep it on another disk.
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        symlink(dir.path().join("real"), dir.path().join("home")).unwrap();
        assert!(open(&dir.path().join("home")).unwrap().folder().ends_with("real"));
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_no_home() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = open(dir.path()).unwrap_err();
        assert!(matches!(error, HomeError::File(FileError::SharedFolder { .. })), "{error}");
        assert_eq!(error.tries(), [format!("chmod go-w {}", dir.path().display())]);
    }

    /// Without a chosen home. In a process of its own: the XDG variables are the environment's.
    #[test]
    fn xdg_places_are_used_without_a_chosen_home() {
        let Some(dir) = std::env::var_os("MSM_TEST_XDG").map(PathBuf::from) else {
            let dir = tempfile::tempdir().unwrap();
            let run = dir.path().join("run");
            fs::create_dir(&run).unwrap();
            let output = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "home::tests::xdg_places_are_used_without_a_chosen_home", "--nocapture"])
                .env_clear()
                .envs([("HOME", dir.path()), ("MSM_TEST_XDG", dir.path()), ("XDG_RUNTIME_DIR", &run)])
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            return;
        };
        let home = Home::open(None).unwrap();
        assert_eq!(home.identity_key(), dir.join(".local/share/msm/identity.key"));
        assert_eq!(home.history_file(), dir.join(".local/state/msm/history"));
        assert_eq!(home.config_file(), dir.join(".config/msm/config.toml"));
        let socket = home.control_socket();
        assert!(socket.starts_with(dir.join("run")), "{}", socket.display());
        assert_eq!(fs::metadata(socket.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        // What is there already stays, but is closed to others.
        fs::set_permissions(dir.join(".local/share/msm"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(Home::open(None).unwrap(), home);
        assert_eq!(fs::metadata(home.folder()).unwrap().mode() & 0o777, 0o700);
    }
}
