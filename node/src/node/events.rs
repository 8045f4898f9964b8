//! Who hears of what happens: each listener gets the events that are for it, at once, and nobody waits for a slow one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use msm_protocol::JobId;
use tokio::sync::mpsc;

use crate::command::Event;

/// Which events a listener wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// All.
    All,
    /// What belongs to no job: peers, markets, the owner's limits.
    Node,
    /// One job's only.
    Job(JobId),
    /// One job's, and who comes and goes: for whoever runs the job.
    Own(JobId),
}

impl Filter {
    const fn job(self) -> Option<JobId> {
        match self {
            Self::Job(job) | Self::Own(job) => Some(job),
            Self::All | Self::Node => None,
        }
    }

    /// Whether an event of no job is wanted.
    const fn wants_from_node(self, event: &Event) -> bool {
        match self {
            Self::All | Self::Node => true,
            Self::Own(_) => matches!(event, Event::PeerJoined { .. } | Event::PeerLeft { .. }),
            Self::Job(_) => false,
        }
    }
}

/// The listeners of a node: one for each command that runs and has somebody to show it, so as many as the doors let in.
/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Events(Arc<Mutex<Listeners>>);

#[derive(Debug, Default)]
struct Listeners {
    last: u64,
    /// Those of one job, so that a hundred small jobs at once do not look through each other's listeners.
    of_jobs: HashMap<JobId, Vec<Listener>>,
    others: Vec<Listener>,
}

#[derive(Debug)]
struct Listener {
    id: u64,
    filter: Filter,
    sink: mpsc::Sender<Event>,
}

impl Listener {
    /// A listener that does not read misses events; nobody waits for it.
    fn tell(&self, event: &Event) {
        let _ = self.sink.try_send(event.clone());
    }
}

impl Events {
    /// Sends what `filter` lets through to `sink` until the subscription is dropped.
    pub fn subscribe(&self, filter: Filter, sink: mpsc::Sender<Event>) -> Subscription {
        let mut listeners = self.lock();
        listeners.last += 1;
        let id = listeners.last;
        let listener = Listener { id, filter, sink };
        match filter.job() {
            Some(job) => listeners.of_jobs.entry(job).or_default().push(listener),
            None => listeners.others.push(listener),
        }
        Subscription { events: self.clone(), id, filter }
    }

    /// Tells everybody whom it concerns. Nobody listening is fine.
    pub fn emit(&self, event: &Event) {
        let listeners = self.lock();
        match event.job_id() {
            Some(job) => {
                listeners.of_jobs.get(&job).into_iter().flatten().for_each(|listener| listener.tell(event));
                let all = listeners.others.iter().filter(|listener| listener.filter == Filter::All);
                all.for_each(|listener| listener.tell(event));
            }
            None => {
                let everybody = listeners.others.iter().chain(listeners.of_jobs.values().flatten());
                let wanting = everybody.filter(|listener| listener.filter.wants_from_node(event));
                wanting.for_each(|listener| listener.tell(event));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Listeners> {
        // Nothing under this lock can leave the lists half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody listens for as long as this lives.
#[derive(Debug)]
pub struct Subscription {
    events: Events,
    id: u64,
    filter: Filter,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut listeners = self.events.lock();
        match self.filter.job() {
            Some(job) => {
                if let Some(mine) = listeners.of_jobs.get_mut(&job) {
                    mine.retain(|listener| listener.id != self.id);
                    if mine.is_empty() {
                        listeners.of_jobs.remove(&job);
                    }
                }
            }
            None => listeners.others.retain(|listener| listener.id != self.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples::peer;

    const A: JobId = JobId::from_bytes([1; 16]);
    const B: JobId = JobId::from_bytes([2; 16]);

    fn heard(sink: &mut mpsc::Receiver<Event>) -> Vec<String> {
        std::iter::from_fn(|| sink.try_recv().ok())
            .map(|event| serde_json::to_value(event).unwrap()["event"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn everybody_hears_what_is_for_him() {
        let all = [
            Event::PeerJoined { peer_id: peer(), name: "attic".into() },
            Event::Paused { until: None, tasks_back: 0 },
            Event::Struck {
                job_id: Some(A),
                peer_id: peer(),
                name: "attic".into(),
                task: Some(3),
                reason: "lied".into(),
                evidence: None,
            },
            Event::Phase { job_id: A, name: "run".into() },
            Event::JobDone { job_id: B, wall_ms: 1.0 },
        ];
        for (filter, expected) in [
            (Filter::All, &["peer-joined", "paused", "struck", "phase", "job-done"][..]),
            (Filter::Node, &["peer-joined", "paused"]),
            (Filter::Job(A), &["struck", "phase"]),
            (Filter::Own(A), &["peer-joined", "struck", "phase"]),
            (Filter::Own(B), &["peer-joined", "job-done"]),
        ] {
            let events = Events::default();
            let (sink, mut heard_by) = mpsc::channel(16);
            let subscription = events.subscribe(filter, sink);
            all.iter().for_each(|event| events.emit(event));
            assert_eq!(heard(&mut heard_by), expected, "{filter:?}");
            drop(subscription);
            all.iter().for_each(|event| events.emit(event));
            assert_eq!(heard(&mut heard_by), [""; 0]);
            assert!(events.lock().of_jobs.is_empty() && events.lock().others.is_empty());
        }
    }

    #[test]
    fn who_does_not_read_misses_events_and_holds_up_nobody() {
        let events = Events::default();
        let (slow, mut late) = mpsc::channel(2);
        let (quick, mut reader) = mpsc::channel(16);
        let _both = [events.subscribe(Filter::Job(A), slow), events.subscribe(Filter::Job(A), quick)];
        for _ in 0..5 {
            events.emit(&Event::Phase { job_id: A, name: "run".into() });
        }
        assert_eq!((heard(&mut late).len(), heard(&mut reader).len()), (2, 5));
    }
}
