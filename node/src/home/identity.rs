//! The node's own key: made once, read ever after, refused when others could have read it.

use msm_protocol::SecretKey;

use super::{Home, HomeError, files};
use crate::keys::{self, KEY_FILE_BYTES};

impl Home {
    /// Reads the node's key, or makes it (0600, durable) at the first start. Two processes that start at once agree.
    ///
    /// # Errors
    /// A key file that others can read, that belongs to another user, that is a link, or that is damaged is never
    /// used: the owner must decide (B55, B56).
    pub fn identity(&self) -> Result<SecretKey, HomeError> {
        if let Some(key) = self.read_identity()? {
            return Ok(key);
        }
        let key = keys::random().map_err(HomeError::NoRandom)?;
        if files::create(&self.identity_key(), keys::encode(&key).as_bytes())? {
            return Ok(key);
        }
        // Another process was quicker.
        let gone = || HomeError::File(files::FileError::WrongKind { path: self.identity_key(), expected: "file" });
        self.read_identity()?.ok_or_else(gone)
    }

    /// The node's key if it was made before.
    pub fn read_identity(&self) -> Result<Option<SecretKey>, HomeError> {
        let path = self.identity_key();
        let Some(bytes) = files::read(&path, KEY_FILE_BYTES, files::Secrecy::Secret)? else { return Ok(None) };
        let bytes = zeroize::Zeroizing::new(bytes);
        keys::decode(&bytes).map(Some).map_err(|source| HomeError::BadIdentity { path, source })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::{
        command::{CommandError, ErrorCode},
        home::FileError,
    };

    #[test]
    fn the_key_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        assert!(home.read_identity().unwrap().is_none());
        let first = home.identity().unwrap().public();
        assert_eq!(home.identity().unwrap().public(), first);
        assert_eq!(fs::metadata(home.identity_key()).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn starts_at_the_same_time_agree_on_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        let keys: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| home.identity().unwrap().public())).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }

    #[test]
    fn b55_an_exposed_key_stops_the_start_and_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        home.identity().unwrap();
        fs::set_permissions(home.identity_key(), fs::Permissions::from_mode(0o644)).unwrap();
        let error = CommandError::from(home.identity().unwrap_err());
        assert_eq!(error.code, ErrorCode::NotAllowed);
        assert!(error.message.contains("can be read by others (mode 0644)"), "{}", error.message);
        assert_eq!(error.r#try, [format!("chmod 600 {}", home.identity_key().display())]);
    }

    #[test]
    fn b56_a_key_behind_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        let elsewhere = dir.path().join("elsewhere");
        for exists in [false, true] {
            if exists {
                fs::write(&elsewhere, keys::encode(&keys::random().unwrap()).as_bytes()).unwrap();
                fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o600)).unwrap();
            }
            let _ = fs::remove_file(home.identity_key());
            std::os::unix::fs::symlink(&elsewhere, home.identity_key()).unwrap();
            let error = home.identity().unwrap_err();
            assert!(matches!(error, HomeError::File(FileError::Symlink { .. })), "{error}");
        }
    }

    #[test]
    fn a_damaged_key_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        home.identity().unwrap();
        fs::write(home.identity_key(), b"").unwrap();
        assert!(matches!(home.identity(), Err(HomeError::BadIdentity { .. })));
        assert_eq!(fs::read(home.identity_key()).unwrap(), b"");
    }
}
