//! Where the control socket lies: unix socket paths are short, homes need not be.

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use msm_protocol::ContentHash;

use super::files::{FileError, private_folder};

/// Bytes of the longest path a unix socket can have on every system we build for (macOS 104, Linux 108, with the NUL).
const SOCKET_PATH_BYTES: usize = 103;
const NAME: &str = "control.sock";

/// The folder for run-time files of this user, when there is one that is really theirs. It is found without
/// `XDG_RUNTIME_DIR` too, so that a shell without a login session sees the node that a session started.
pub(super) fn runtime_folder(from_environment: Option<PathBuf>) -> Option<PathBuf> {
    let you = rustix::process::geteuid().as_raw();
    let candidates = from_environment.into_iter().chain([PathBuf::from(format!("/run/user/{you}"))]);
    candidates.filter(|path| path.is_absolute()).find(|path| {
        fs::metadata(path).is_ok_and(|meta| meta.is_dir() && meta.uid() == you && meta.mode() & 0o022 == 0)
    })
}

/// The socket of the home at `home`: in `own` when that is short enough, else in a folder named after the home below
/// `runtime` or `/tmp`. The same home gives the same path in every process.
pub(super) fn place(home: &Path, own: Option<&Path>, runtime: Option<&Path>) -> PathBuf {
    let hash = ContentHash::of(home.as_os_str().as_bytes()).short();
    let you = rustix::process::geteuid().as_raw();
    let last = Path::new("/tmp").join(format!("msm-{you}-{hash}")).join(NAME);
    let candidates = [own.map(|own| own.join(NAME)), runtime.map(|run| run.join(format!("msm-{hash}")).join(NAME))];
    candidates.into_iter().flatten().find(|path| path.as_os_str().len() <= SOCKET_PATH_BYTES).unwrap_or(last)
}

/// Makes the socket's folder, when it lies outside the home: private, ours, no link, whatever others put in `/tmp`.
pub(super) fn prepare(socket: &Path, home: &Path) -> Result<(), FileError> {
    match socket.parent() {
        Some(folder) if folder != home => private_folder(folder),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn long_homes_get_a_short_socket_of_their_own() {
        let short = Path::new("/h");
        let long = PathBuf::from(format!("/{}", "h".repeat(120)));
        let longer = PathBuf::from(format!("/{}", "h".repeat(121)));
        let run = Path::new("/run/user/7");
        assert_eq!(place(short, Some(short), Some(run)), Path::new("/h/control.sock"));
        let placed = place(&long, Some(&long), Some(run));
        assert!(placed.starts_with(run), "{}", placed.display());
        assert_eq!(placed, place(&long, Some(&long), Some(run)));
        assert_ne!(placed, place(&longer, Some(&longer), Some(run)));
        assert!(place(&long, Some(&long), None).starts_with("/tmp"));
        assert!(place(&long, Some(&long), Some(&long)).starts_with("/tmp"));
        assert!(place(short, None, Some(run)).starts_with(run));
    }

    #[test]
    fn a_home_with_a_long_path_can_listen() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(60)).join("e".repeat(60));
        let home = super::super::Home::open(Some(&deep)).unwrap();
        assert!(!home.control_socket().starts_with(home.folder()));
        let listener = UnixListener::bind(home.control_socket()).unwrap();
        drop(listener);
        fs::remove_dir_all(home.control_socket().parent().unwrap()).unwrap();
    }

    #[test]
    fn b56_a_link_in_tmp_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("msm-0-abc");
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        assert!(matches!(prepare(&link.join(NAME), Path::new("/h")), Err(FileError::Symlink { .. })));
    }
}
