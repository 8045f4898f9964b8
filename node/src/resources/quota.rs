//! How much others may fetch through this device in one day: pure, with the time passed in.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Seconds of a day. Days begin at midnight UTC.
pub const DAY: u64 = 86_400;

/// No more may be fetched today.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the device's quota of {limit} bytes for one day is used up (net-quota below [resources])")]
pub struct QuotaSpent {
    /// Bytes in a day.
    pub limit: u64,
}

/// Counts the bytes of one day over all services of others. Clones share the count.
#[derive(Debug, Clone)]
pub struct Quota {
    /// Bytes in a day; `None` for no bound.
    limit: Option<u64>,
    spent: Arc<Mutex<Spent>>,
}

#[derive(Debug, Default)]
struct Spent {
    day: u64,
    bytes: u64,
}

impl Quota {
    /// A quota of so many bytes a day, of which `spent` are used at `now`, Unix seconds.
    pub fn new(limit: Option<u64>, spent: u64, now: u64) -> Self {
        Self { limit, spent: Arc::new(Mutex::new(Spent { day: now / DAY, bytes: spent })) }
    }

    /// For the owner's own jobs: it is the owner's network.
    pub fn unlimited() -> Self {
        Self::new(None, 0, 0)
    }

    fn today(&self, now: u64) -> MutexGuard<'_, Spent> {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that is set back begins no new day: it would give the quota twice.
        if now / DAY > spent.day {
            *spent = Spent { day: now / DAY, bytes: 0 };
        }
        spent
    }

    /// Bytes that are left at `now`, Unix seconds.
    pub fn left(&self, now: u64) -> u64 {
        let spent = self.today(now).bytes;
        self.limit.map_or(u64::MAX, |limit| limit.saturating_sub(spent))
    }

    /// Takes `bytes` of what is left at `now`, Unix seconds. To be called for bytes as they arrive, so that several
    /// fetches at a time cannot take the rest twice; what was taken when it fails stays taken.
    pub fn take(&self, bytes: u64, now: u64) -> Result<(), QuotaSpent> {
        let mut spent = self.today(now);
        let after = spent.bytes.saturating_add(bytes);
        match self.limit {
            Some(limit) if after > limit => Err(QuotaSpent { limit }),
            _ => {
                spent.bytes = after;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_its_bytes_and_the_next_has_them_again() {
        let day = 20_000 * DAY;
        let quota = Quota::new(Some(100), 30, day);
        assert_eq!(quota.left(day), 70);
        assert_eq!(quota.take(60, day + 5), Ok(()));
        // Two at a time do not get the rest twice.
        assert_eq!(quota.clone().take(11, day + 5), Err(QuotaSpent { limit: 100 }));
        assert_eq!(quota.take(10, day + 5), Ok(()));
        assert_eq!(quota.left(day + DAY - 1), 0);
        assert_eq!(quota.take(1, day - DAY), Err(QuotaSpent { limit: 100 }), "a clock set back");
        assert_eq!(quota.take(100, day + DAY), Ok(()));
        assert_eq!(Quota::new(Some(0), 0, day).take(1, day), Err(QuotaSpent { limit: 0 }));
        assert_eq!(Quota::unlimited().take(u64::MAX, day), Ok(()));
    }
}
