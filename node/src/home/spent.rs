//! `quota.json`: what others have fetched through this device today, kept across restarts.

use super::{Home, HomeError, files};
use crate::resources::quota::Spent;

/// Bytes of `quota.json`: two numbers.
const QUOTA_FILE_BYTES: u64 = 256;

impl Home {
    /// What others fetched on the last day on which they did; nothing before the first. A damaged file counts as
    /// everything, for the day that `today` is: a day without fetches for others is better than one without a bound.
    pub fn spent(&self, today: u64) -> Result<Spent, HomeError> {
        let path = self.quota_file();
        let Some(bytes) = files::read(&path, QUOTA_FILE_BYTES, files::Secrecy::Plain)? else {
            return Ok(Spent::default());
        };
        Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(%error, path = %path.display(), "the quota of today counts as used up");
            Spent { day: today, bytes: u64::MAX }
        }))
    }

    /// Replaces it, in one step. For the node that holds the home's lock.
    pub fn keep_spent(&self, spent: Spent) -> Result<(), HomeError> {
        // Numbers always serialise.
        let text = serde_json::to_string(&spent).unwrap_or_default() + "\n";
        Ok(files::replace(&self.quota_file(), text.as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spent_survives_and_a_damaged_file_counts_as_all() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        assert_eq!(home.spent(7).unwrap(), Spent::default());
        let spent = Spent { day: 7, bytes: 12 };
        home.keep_spent(spent).unwrap();
        assert_eq!(home.spent(7).unwrap(), spent);
        for damaged in ["", "{", "{\"day\":7}", "{\"day\":7,\"bytes\":-1}"] {
            std::fs::write(home.quota_file(), damaged).unwrap();
            assert_eq!(home.spent(7).unwrap(), Spent { day: 7, bytes: u64::MAX }, "{damaged:?}");
        }
        std::fs::write(home.quota_file(), " ".repeat(1_000)).unwrap();
        assert!(home.spent(7).is_err(), "larger than anything that is written there");
    }
}
