//! The jobs that run on this node now: to cancel one, to wait for one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use msm_protocol::JobId;
use tokio::sync::watch;

use crate::command::JobState;

/// Jobs that run now.
#[derive(Debug, Default)]
pub struct Table {
    running: Mutex<HashMap<JobId, Running>>,
}

#[derive(Debug)]
struct Running {
    fate: Arc<Fate>,
    over: watch::Receiver<()>,
    detached: bool,
}

/// Why a job ends before its time, and how it is told to.
#[derive(Debug, Default)]
pub struct Fate {
    why: OnceLock<(JobState, String)>,
    told: tokio::sync::Notify,
}

impl Fate {
    /// Ends the job. The first word counts.
    pub fn seal(&self, state: JobState, why: impl Into<String>) {
        let _ = self.why.set((state, why.into()));
        // One that is not listening yet hears it when it does.
        self.told.notify_one();
    }

    /// How it ended early, and why.
    pub fn why(&self) -> Option<&(JobState, String)> {
        self.why.get()
    }

    /// Comes back when the job is to end.
    pub async fn sealed(&self) {
        self.told.notified().await;
    }
}

/// A running job's place in the table, until it is dropped: then whoever waits for the job goes on.
pub struct Place {
    table: Arc<Table>,
    job: JobId,
    /// What the job is told.
    pub fate: Arc<Fate>,
    _over: watch::Sender<()>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.table.lock().remove(&self.job);
    }
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a job; `None` when it runs already.
    pub fn enter(self: &Arc<Self>, job: JobId, detached: bool) -> Option<Place> {
        let mut running = self.lock();
        if running.contains_key(&job) {
            return None;
        }
        let (fate, (sender, over)) = (Arc::new(Fate::default()), watch::channel(()));
        running.insert(job, Running { fate: fate.clone(), over, detached });
        Some(Place { table: self.clone(), job, fate, _over: sender })
    }

    /// Whether somebody else waits for the result of a running job; `None` for one that does not run.
    pub fn is_attached(&self, job: JobId) -> Option<bool> {
        self.lock().get(&job).map(|running| !running.detached)
    }

    /// Tells a running job to end; false when it does not run.
    pub fn cancel(&self, job: JobId, why: &str) -> bool {
        let fate = self.lock().get(&job).map(|running| running.fate.clone());
        fate.map(|fate| fate.seal(JobState::Cancelled, why)).is_some()
    }

    /// Comes back when the job does not run (any more).
    pub async fn until_over(&self, job: JobId) {
        let over = self.lock().get(&job).map(|running| running.over.clone());
        if let Some(mut over) = over {
            // Nothing is ever sent: what comes is the end of the sender.
            while over.changed().await.is_ok() {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_is_cancelled_once_and_waited_for() {
        let (table, job) = (Arc::new(Table::default()), JobId::from_bytes([1; 16]));
        assert!(!table.cancel(job, "early"));
        table.until_over(job).await;
        let place = table.enter(job, true).unwrap();
        assert!(table.enter(job, true).is_none());
        assert_eq!(table.is_attached(job), Some(false));
        assert!(table.cancel(job, "first") && table.cancel(job, "second"));
        place.fate.sealed().await;
        assert_eq!(place.fate.why(), Some(&(JobState::Cancelled, "first".to_owned())));
        let (waiting, other) = (table.clone(), table.clone());
        let waits = tokio::spawn(async move { waiting.until_over(job).await });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(place);
        waits.await.unwrap();
        assert_eq!(other.is_attached(job), None);
    }
}
