//! Named signing keys in the home: made, listed, shown, exported and imported.
//!
//! A key file is text of two lines, so that it can be printed, compared and carried:
//! ```text
//! # ed25519:<64 hex digits of the public key>
//! <64 hex digits of the seed>
//! ```
//! The first line may be shown to anybody. The second is the secret.

use std::{
    fs,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use msm_protocol::{PublicKey, SecretKey, manifest::is_name};
use zeroize::Zeroizing;

use crate::{
    command::{CommandError, ErrorCode},
    home::{
        FileError,
        files::{self, Secrecy},
    },
};

/// Bytes of a key file: `# ed25519:`, 64 digits, newline, 64 digits, newline, and one more so that a longer file shows.
pub const KEY_FILE_BYTES: u64 = 10 + 64 + 1 + 64 + 1;
/// Named keys in one home; far more than a person has. Bounds what `list` reads.
pub const KEYS: usize = 256;
const EXTENSION: &str = "key";

/// Why text is not a key file. The text itself is never shown: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadKeyFile {
    /// Not two lines as [`encode`] writes them.
    #[error("expected two lines: `# ed25519:PUBLIC` and the secret, 64 hex digits each")]
    Shape,
    /// The secret is another key's.
    #[error("the secret does not belong to the public key above it")]
    Mismatch,
}

/// Why a named key cannot be made, found or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not a name.
    #[error("{0:?} is not a key name: use 2 to 40 lower-case letters, digits and -")]
    BadName(String),
    /// There is one of that name.
    #[error("a key named {0:?} exists already; it was not changed")]
    Exists(String),
    /// There is none of that name.
    #[error("no key named {name:?} ({})", if .known.is_empty() { "there are none".into() } else { format!("there are: {}", .known.join(", ")) })]
    NotFound {
        /// The name.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// The file or the imported text is no key.
    #[error("key {name:?}: {source}")]
    Bad {
        /// The name.
        name: String,
        /// What is wrong.
        source: BadKeyFile,
    },
    /// [`KEYS`] are there already.
    #[error("{KEYS} keys are there already, and that is the most")]
    TooMany,
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The system gave no random bytes.
    #[error("no random bytes for a new key: {0}")]
    NoRandom(getrandom::Error),
}

impl From<KeyError> for CommandError {
    fn from(error: KeyError) -> Self {
        let (code, lines) = match &error {
            KeyError::BadName(_) => (ErrorCode::Usage, vec![]),
            KeyError::NotFound { name, .. } if is_name(name) => {
                (ErrorCode::NotFound, vec!["msm key list".into(), format!("msm key new {name}")])
            }
            KeyError::NotFound { .. } => (ErrorCode::NotFound, vec!["msm key list".into()]),
            KeyError::File(error @ (FileError::Exposed { .. } | FileError::ForeignOwner { .. })) => {
                (ErrorCode::NotAllowed, error.tries())
            }
            KeyError::File(error) => (ErrorCode::Failed, error.tries()),
            KeyError::Bad { .. } => (ErrorCode::Verification, vec![]),
            _ => (ErrorCode::Failed, vec![]),
        };
        let mut answer = Self::new(code, error.to_string());
        answer.r#try = lines;
        answer
    }
}

/// The public half of a named key.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KeyInfo {
    /// Its name in this home.
    pub name: String,
    /// What others know it by.
    pub public: PublicKey,
}

/// The folder with the named keys of a home.
#[derive(Debug, Clone)]
pub struct Keys {
    dir: PathBuf,
}

impl Keys {
    /// The keys in `dir` ([`crate::home::Home::keys_dir`]).
    pub fn open(dir: &Path) -> Result<Self, KeyError> {
        files::private_folder(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Makes a key. An existing one is never replaced.
    pub fn new_key(&self, name: &str) -> Result<KeyInfo, KeyError> {
        let key = random().map_err(KeyError::NoRandom)?;
        self.store(name, &key)
    }

    /// All keys, by name. A file that is no key is an error: silence would hide a lost secret.
    pub fn list(&self) -> Result<Vec<KeyInfo>, KeyError> {
        self.names()?.iter().map(|name| self.show(name)).collect()
    }

    /// The public half of one key.
    pub fn show(&self, name: &str) -> Result<KeyInfo, KeyError> {
        let key = self.secret(name)?;
        Ok(KeyInfo { name: name.to_owned(), public: key.public() })
    }

    /// One key, to sign with.
    pub fn secret(&self, name: &str) -> Result<SecretKey, KeyError> {
        let path = self.path(name)?;
        let missing = || KeyError::NotFound { name: name.to_owned(), known: self.names().unwrap_or_default() };
        let bytes = files::read(&path, KEY_FILE_BYTES, Secrecy::Secret)?.map(Zeroizing::new).ok_or_else(missing)?;
        decode(&bytes).map_err(|source| KeyError::Bad { name: name.to_owned(), source })
    }

    /// The text of a key file, to back up. **It contains the secret.**
    pub fn export(&self, name: &str) -> Result<Zeroizing<String>, KeyError> {
        self.secret(name).map(|key| encode(&key))
    }

    /// Takes in the text of a key file under `name`. An existing key is never replaced.
    pub fn import(&self, name: &str, text: &[u8]) -> Result<KeyInfo, KeyError> {
        let key = decode(text).map_err(|source| KeyError::Bad { name: name.to_owned(), source })?;
        self.store(name, &key)
    }

    fn store(&self, name: &str, key: &SecretKey) -> Result<KeyInfo, KeyError> {
        let path = self.path(name)?;
        if self.names()?.len() >= KEYS {
            return Err(KeyError::TooMany);
        }
        if !files::create(&path, encode(key).as_bytes())? {
            return Err(KeyError::Exists(name.to_owned()));
        }
        Ok(KeyInfo { name: name.to_owned(), public: key.public() })
    }

    fn path(&self, name: &str) -> Result<PathBuf, KeyError> {
        if !is_name(name) {
            return Err(KeyError::BadName(name.to_owned()));
        }
        Ok(self.dir.join(name).with_extension(EXTENSION))
    }

    fn names(&self) -> Result<Vec<String>, KeyError> {
        let failed = |source| FileError::Io { what: "read", path: self.dir.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| is_name(stem));
            if let (Some(name), Some(true)) = (stem, path.extension().map(|extension| extension == EXTENSION)) {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// A new key of 32 random bytes from the system.
pub fn random() -> Result<SecretKey, getrandom::Error> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice())?;
    Ok(SecretKey::from_seed(&seed))
}

/// The text of the key's file. **It contains the secret.**
pub fn encode(key: &SecretKey) -> Zeroizing<String> {
    let seed = Zeroizing::new(key.seed());
    let secret = Zeroizing::new(HEXLOWER.encode(seed.as_slice()));
    // Room from the start: a string that grows leaves copies of the secret behind.
    let mut text = Zeroizing::new(String::with_capacity(KEY_FILE_BYTES as usize));
    for part in ["# ", key.public().to_string().as_str(), "\n", secret.as_str(), "\n"] {
        text.push_str(part);
    }
    text
}

/// Reads what [`encode`] wrote: byte for byte, but for a missing last newline.
pub fn decode(bytes: &[u8]) -> Result<SecretKey, BadKeyFile> {
    let text = std::str::from_utf8(bytes).map_err(|_| BadKeyFile::Shape)?;
    let (public, secret) = text.split_once('\n').ok_or(BadKeyFile::Shape)?;
    let public = public.strip_prefix("# ").filter(|text| text.starts_with("ed25519:")).ok_or(BadKeyFile::Shape)?;
    let public: PublicKey = public.parse().map_err(|_| BadKeyFile::Shape)?;
    let secret = secret.strip_suffix('\n').unwrap_or(secret);
    let mut seed = Zeroizing::new([0; 32]);
    if secret.len() != 64 || HEXLOWER.decode_mut(secret.as_bytes(), seed.as_mut_slice()).is_err() {
        return Err(BadKeyFile::Shape);
    }
    let key = SecretKey::from_seed(&seed);
    if key.public() == public { Ok(key) } else { Err(BadKeyFile::Mismatch) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn keys() -> (tempfile::TempDir, Keys) {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::open(&dir.path().join("keys")).unwrap();
        (dir, keys)
    }

    #[test]
    fn a_key_is_made_listed_exported_and_imported() {
        let (_dir, keys) = keys();
        let made = keys.new_key("home-root").unwrap();
        keys.new_key("ada").unwrap();
        let names: Vec<_> = keys.list().unwrap().into_iter().map(|key| key.name).collect();
        assert_eq!(names, ["ada", "home-root"]);
        let text = keys.export("home-root").unwrap();
        assert_eq!(text.len() as u64, KEY_FILE_BYTES);
        let copy = keys.import("copy", text.as_bytes()).unwrap();
        assert_eq!(copy.public, made.public);
        assert_eq!(keys.secret("copy").unwrap().public(), made.public);
        let file = keys.dir.join("copy.key");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read(&file).unwrap(), text.as_bytes());
    }

    #[test]
    fn no_key_is_ever_replaced() {
        let (_dir, keys) = keys();
        let made = keys.new_key("root").unwrap();
        assert!(matches!(keys.new_key("root"), Err(KeyError::Exists(_))));
        let other = encode(&random().unwrap());
        assert!(matches!(keys.import("root", other.as_bytes()), Err(KeyError::Exists(_))));
        assert_eq!(keys.show("root").unwrap(), made);
    }

    #[test]
    fn only_what_encode_writes_is_a_key() {
        let key = SecretKey::from_seed(&[7; 32]);
        let good = encode(&key);
        assert_eq!(decode(good.as_bytes()).unwrap().public(), key.public());
        assert_eq!(decode(good.trim_end().as_bytes()).unwrap().public(), key.public());
        let other = encode(&SecretKey::from_seed(&[8; 32]));
        let mixed = format!("{}\n{}", good.lines().next().unwrap(), other.lines().nth(1).unwrap());
        for (bad, expected) in [
            (String::new(), BadKeyFile::Shape),
            (good[..good.len() - 2].into(), BadKeyFile::Shape),
            (format!("{}\n", *good), BadKeyFile::Shape),
            (format!("\n{}", *good), BadKeyFile::Shape),
            (good.replace('\n', "\r\n"), BadKeyFile::Shape),
            (good.replacen("# ", "", 1), BadKeyFile::Shape),
            (good.to_uppercase(), BadKeyFile::Shape),
            (good.lines().nth(1).unwrap().into(), BadKeyFile::Shape),
            (mixed, BadKeyFile::Mismatch),
        ] {
            assert_eq!(decode(bad.as_bytes()).unwrap_err(), expected, "{bad:?}");
        }
        assert_eq!(decode(b"\xff\xfe").unwrap_err(), BadKeyFile::Shape);
    }

    #[test]
    fn names_cannot_leave_the_folder() {
        let (_dir, keys) = keys();
        for name in ["../x", "a/b", "", ".", "a\0b", "Root", "x.key", "con", &"a".repeat(41)] {
            assert!(matches!(keys.new_key(name), Err(KeyError::BadName(_))), "{name:?}");
            assert!(matches!(keys.show(name), Err(KeyError::BadName(_))), "{name:?}");
        }
        assert_eq!(fs::read_dir(&keys.dir).unwrap().count(), 0);
    }

    #[test]
    fn a_missing_key_says_which_there_are() {
        let (_dir, keys) = keys();
        assert_eq!(keys.show("root").unwrap_err().to_string(), "no key named \"root\" (there are none)");
        keys.new_key("ada").unwrap();
        let error = CommandError::from(keys.show("root").unwrap_err());
        assert_eq!(
            (error.code, error.message.as_str()),
            (ErrorCode::NotFound, "no key named \"root\" (there are: ada)")
        );
        assert_eq!(error.r#try, ["msm key list", "msm key new root"]);
    }

    #[test]
    fn b55_b56_exposed_and_linked_keys_are_refused() {
        let (dir, keys) = keys();
        keys.new_key("root").unwrap();
        let path = keys.dir.join("root.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = CommandError::from(keys.secret("root").unwrap_err());
        assert_eq!((error.code, error.r#try), (ErrorCode::NotAllowed, vec![format!("chmod 600 {}", path.display())]));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let moved = dir.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        symlink(&moved, &path).unwrap();
        assert!(matches!(keys.secret("root"), Err(KeyError::File(FileError::Symlink { .. }))));
    }
}
