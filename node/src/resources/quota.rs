//! How much others may fetch through this device in one day, counted at once and kept on disk a little later.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// Seconds of a day. Days begin at midnight UTC.
pub const DAY: u64 = 86_400;
/// From one writing of the count to the next: what a power cut may make the device forget. *Judgement*: a line's worth
/// of disk every few seconds wears nothing out, and a few seconds of fetches are little of a day's.
pub const KEPT_EVERY: Duration = Duration::from_secs(3);

/// No more may be fetched today.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the device's quota of {limit} bytes for one day is used up (net-quota below [resources])")]
pub struct QuotaSpent {
    /// Bytes in a day.
    pub limit: u64,
}

/// What was used on one day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spent {
    /// Days since 1970.
    pub day: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Counts the bytes of one day over all services of others. Clones share the count.
#[derive(Debug, Clone)]
pub struct Quota {
    /// Bytes in a day; `None` for no bound.
    limit: Option<u64>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    count: Mutex<Count>,
    /// Told of every change of the count.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Count {
    spent: Spent,
    /// The keeper is to write once more and end.
    ended: bool,
}

impl Shared {
    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Quota {
    /// A quota of so many bytes a day, of which `spent` was used before `now`, Unix seconds. A day that is still to come
    /// is one of a clock that went wrong: its bytes count for today.
    pub fn new(limit: Option<u64>, spent: Spent, now: u64) -> Self {
        let day = now / DAY;
        let bytes = if spent.day >= day { spent.bytes } else { 0 };
        let count = Mutex::new(Count { spent: Spent { day, bytes }, ended: false });
        Self { limit, shared: Arc::new(Shared { count, changed: Condvar::new() }) }
    }

    /// For the owner's own jobs: it is the owner's network.
    pub fn unlimited() -> Self {
        Self::new(None, Spent::default(), 0)
    }

    fn today(&self, now: u64) -> MutexGuard<'_, Count> {
        let mut count = self.shared.count();
        // A clock that is set back begins no new day: it would give the quota twice.
        if now / DAY > count.spent.day {
            count.spent = Spent { day: now / DAY, bytes: 0 };
        }
        count
    }

    /// Bytes that are left at `now`, Unix seconds.
    pub fn left(&self, now: u64) -> u64 {
        let spent = self.today(now).spent.bytes;
        self.limit.map_or(u64::MAX, |limit| limit.saturating_sub(spent))
    }

    /// Takes `bytes` of what is left at `now`, Unix seconds. To be called for bytes as they move, so that several fetches
    /// at a time cannot take the rest twice. They count even when they are too many: they have moved. To take none asks
    /// whether anything is left.
    pub fn take(&self, bytes: u64, now: u64) -> Result<(), QuotaSpent> {
        let mut count = self.today(now);
        let before = count.spent.bytes;
        let after = before.saturating_add(bytes);
        count.spent.bytes = after;
        drop(count);
        self.shared.changed.notify_all();
        match self.limit {
            Some(limit) if before >= limit || after > limit => Err(QuotaSpent { limit }),
            _ => Ok(()),
        }
    }

    /// Has `keep` write the count whenever it has changed, not more often than each [`KEPT_EVERY`], and once more when
    /// the keeper is dropped. `keep` answers whether that worked; if not, it is asked again.
    pub fn kept_by(&self, keep: impl FnMut(Spent) -> bool + Send + 'static) -> std::io::Result<Keeper> {
        let shared = self.shared.clone();
        // Known before the thread begins: what is taken until then has changed it.
        let kept = shared.count().spent;
        let run = move || shared.run(kept, keep);
        let thread = std::thread::Builder::new().name("msm-quota".into()).spawn(run)?;
        Ok(Keeper { shared: self.shared.clone(), thread: Some(thread) })
    }
}

impl Shared {
    fn run(&self, mut kept: Spent, mut keep: impl FnMut(Spent) -> bool) {
        loop {
            let same = |count: &mut Count| count.spent == kept && !count.ended;
            let count = self.changed.wait_while(self.count(), same).unwrap_or_else(PoisonError::into_inner);
            let (spent, ended) = (count.spent, count.ended);
            drop(count);
            if spent != kept && keep(spent) {
                kept = spent;
            }
            if ended {
                return;
            }
            let pause = self.changed.wait_timeout_while(self.count(), KEPT_EVERY, |count| !count.ended);
            drop(pause.unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// Keeps a quota's count on disk until it is dropped.
#[derive(Debug)]
pub struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.count().ended = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Instant};

    use super::*;

    #[test]
    fn a_day_has_its_bytes_and_the_next_has_them_again() {
        let day = 20_000 * DAY;
        let spent = |day: u64, bytes: u64| Spent { day, bytes };
        let quota = Quota::new(Some(100), spent(20_000, 30), day);
        assert_eq!(quota.left(day), 70);
        assert_eq!(quota.take(60, day + 5), Ok(()));
        // Two at a time do not get the rest twice, and what has moved has moved.
        assert_eq!(quota.clone().take(10, day + 5), Ok(()));
        assert_eq!(quota.take(0, day + 5), Err(QuotaSpent { limit: 100 }), "nothing is left");
        assert_eq!(quota.left(day + DAY - 1), 0);
        assert_eq!(quota.take(1, day - DAY), Err(QuotaSpent { limit: 100 }), "a clock set back");
        assert_eq!(quota.take(0, day + DAY), Ok(()));
        assert_eq!(quota.take(101, day + DAY), Err(QuotaSpent { limit: 100 }));
        assert_eq!(quota.left(day + DAY), 0, "what is over the quota counts too");
        assert_eq!(Quota::new(Some(0), Spent::default(), day).take(1, day), Err(QuotaSpent { limit: 0 }));
        assert_eq!(Quota::unlimited().take(u64::MAX, day), Ok(()));
        // What was kept counts on its day; that of a day to come counts today, and not tomorrow.
        assert_eq!(Quota::new(Some(100), spent(19_999, 90), day).left(day), 100);
        let early = Quota::new(Some(100), spent(30_000, 90), day);
        assert_eq!((early.left(day), early.left(day + DAY)), (10, 100));
    }

    #[test]
    fn the_count_is_kept_seldom_and_at_the_end() {
        let quota = Quota::new(None, Spent::default(), 0);
        let (wrote, writes) = mpsc::channel();
        let mut broken = true;
        let keeper = quota.kept_by(move |spent| {
            wrote.send((spent.bytes, Instant::now())).unwrap();
            !std::mem::take(&mut broken)
        });
        let keeper = keeper.unwrap();
        for _ in 0..1_000 {
            quota.take(1, 0).unwrap();
        }
        let patience = KEPT_EVERY * 5;
        let (_, first) = writes.recv_timeout(patience).unwrap();
        // The first writing failed: it is tried again, though nothing has changed since.
        let (bytes, second) = writes.recv_timeout(patience).unwrap();
        assert_eq!(bytes, 1_000);
        assert!(second - first >= KEPT_EVERY, "{:?}", second - first);
        quota.take(5, 0).unwrap();
        drop(keeper);
        assert_eq!(writes.try_iter().map(|(bytes, _)| bytes).collect::<Vec<_>>(), [1_005], "the end is kept");
    }
}
