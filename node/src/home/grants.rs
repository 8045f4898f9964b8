//! `grants.toml`: what the owner has granted to services, kept across restarts.

use super::{Home, HomeError, files};
use crate::resources::grants::GrantTable;

/// Bytes of `grants.toml`: all grants there can be, each with its hosts, several times over.
const GRANTS_FILE_BYTES: u64 = 4 << 20;

impl Home {
    /// The grants of this home; none before the first was given. A file that others can read or that does not keep the
    /// rules is refused: nothing is granted by guessing.
    pub fn grants(&self) -> Result<GrantTable, HomeError> {
        let path = self.grants_file();
        let Some(bytes) = files::read(&path, GRANTS_FILE_BYTES, files::Secrecy::Secret)? else {
            return Ok(GrantTable::default());
        };
        let bad = |why: String| HomeError::BadGrants { path: path.clone(), why };
        let text = String::from_utf8(bytes).map_err(|_| bad("not UTF-8 text".into()))?;
        let read: GrantTable = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;
        let mut checked = GrantTable::default();
        for grant in read.entries() {
            checked.put(grant.clone()).map_err(|error| bad(error.to_string()))?;
        }
        Ok(checked)
    }

    /// Replaces the grants, in one step. For the node that holds the home's lock.
    pub fn keep_grants(&self, grants: &GrantTable) -> Result<(), HomeError> {
        let path = self.grants_file();
        let text = toml::to_string(grants)
            .map_err(|error| HomeError::BadGrants { path: path.clone(), why: error.to_string() })?;
        let text =
            format!("# What services may use of this device. Written by msm: msm grant, msm revoke-grant.\n{text}");
        Ok(files::replace(&path, text.as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt},
    };

    use msm_protocol::{MarketId, PeerId, SecretKey};

    use super::*;
    use crate::resources::{
        grants::Grant,
        words::{Audience, Precision, Right},
    };

    #[test]
    fn grants_survive_in_a_private_file_and_damaged_ones_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        assert_eq!(home.grants().unwrap(), GrantTable::default());
        let mut grants = GrantTable::default();
        let grant = |right, to| Grant {
            market: MarketId::of_first_root(b"home"),
            service: "all-of-it".into(),
            right,
            to,
            precision: (right == Right::Gps).then_some(Precision::Coarse),
            hosts: if right == Right::Net { vec!["*".into()] } else { vec![] },
            since: 1,
            until: (right == Right::Gps).then_some(2),
        };
        let peer = PeerId::of(&SecretKey::from_seed(&[7; 32]).public());
        for (right, to) in
            [(Right::Gps, Audience::Peer(peer)), (Right::Net, Audience::Own), (Right::Device, Audience::Anyone)]
        {
            grants.put(grant(right, to)).unwrap();
        }
        home.keep_grants(&grants).unwrap();
        assert_eq!(home.grants().unwrap(), grants);
        let path = home.grants_file();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);

        let good = fs::read_to_string(&path).unwrap();
        for (from, to) in [
            ("\"coarse\"", "\"exact\""),
            ("right = \"device\"", "right = \"everything\""),
            ("to = \"own\"", "to = \"all my friends\""),
            ("service = \"all-of-it\"", "service = \"../../x\""),
            ("hosts = [\"*\"]", "hosts = []"),
            ("since = 1", "since = -1"),
            ("since = 1", "from = 1"),
            ("precision = \"coarse\"\n", ""),
        ] {
            assert!(good.contains(from), "{from}: {good}");
            fs::write(&path, good.replacen(from, to, 1)).unwrap();
            assert!(matches!(home.grants(), Err(HomeError::BadGrants { .. })), "{to}");
        }
        fs::write(&path, good).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = home.grants().unwrap_err();
        assert!(error.to_string().contains("can be read by others"), "{error}");
    }
}
