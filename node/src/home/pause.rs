//! `pause.json`: the owner's word that nothing is lent for a while, kept across restarts.

use super::{Home, HomeError, files};
use crate::node::lending::Pause;

/// Bytes of `pause.json`: one number.
const PAUSE_FILE_BYTES: u64 = 256;

impl Home {
    /// What the owner said last. A damaged file counts as a pause until he says otherwise: a device that he meant to
    /// keep for himself is worse lent than one that stands idle.
    pub fn pause(&self) -> Result<Option<Pause>, HomeError> {
        let path = self.pause_file();
        let Some(bytes) = files::read(&path, PAUSE_FILE_BYTES, files::Secrecy::Plain)? else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(%error, path = %path.display(), "this device is paused until msm resume");
            Pause { until: None }
        })))
    }

    /// Replaces it, in one step; `None` for a device that is lent. For the node that holds the home's lock.
    pub fn keep_pause(&self, pause: Option<Pause>) -> Result<(), HomeError> {
        let Some(pause) = pause else { return Ok(files::remove(&self.pause_file()).map(drop)?) };
        // Numbers always serialise.
        let text = serde_json::to_string(&pause).unwrap_or_default() + "\n";
        Ok(files::replace(&self.pause_file(), text.as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_survives_and_a_damaged_file_counts_as_one() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        assert_eq!(home.pause().unwrap(), None);
        for pause in [Some(Pause { until: Some(7) }), Some(Pause { until: None }), None, None] {
            home.keep_pause(pause).unwrap();
            assert_eq!(home.pause().unwrap(), pause);
        }
        for damaged in ["", "{", "{\"until\":-1}", "{\"until\":7,\"from\":1}"] {
            std::fs::write(home.pause_file(), damaged).unwrap();
            assert_eq!(home.pause().unwrap(), Some(Pause { until: None }), "{damaged:?}");
        }
        std::fs::write(home.pause_file(), " ".repeat(1_000)).unwrap();
        assert!(home.pause().is_err(), "larger than anything that is written there");
    }
}
