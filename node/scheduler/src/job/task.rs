//! One task of a job and the record of every attempt at it.

use std::time::Duration;

use super::{OutputId, Worker};

/// What became of an attempt. It leaves `Running` once and never returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Running,
    /// Its output is the task's.
    Accepted,
    /// Another attempt's output was accepted first.
    Overtaken,
    /// It failed, its lease ended or its worker was lost.
    Ended,
    /// The job ended before it did.
    Stopped,
}

#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) worker: Worker,
    pub(super) state: State,
    pub(super) started: Duration,
    /// When it counts as lost; `None` for the local worker, which its own deadline ends.
    pub(super) lease_ends: Option<Duration>,
    /// Its worker has named it in a heartbeat, so it has arrived there.
    pub(super) named: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Task {
    /// By attempt number; at most `ATTEMPTS_PER_TASK`.
    pub(super) attempts: Vec<Attempt>,
    pub(super) output: Option<OutputId>,
}

impl Task {
    pub(super) fn running(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| attempt.state == State::Running)
    }

    pub(super) fn tries_by(&self, worker: Worker) -> u32 {
        self.count(|attempt| attempt.worker == worker)
    }

    pub(super) fn remote_tries(&self) -> u32 {
        self.count(|attempt| attempt.worker != Worker::Local)
    }

    /// Who made the newest attempt.
    pub(super) fn last_worker(&self) -> Option<Worker> {
        self.attempts.last().map(|attempt| attempt.worker)
    }

    fn count(&self, which: impl Fn(&Attempt) -> bool) -> u32 {
        self.attempts.iter().filter(|attempt| which(attempt)).count() as u32
    }
}
