//! What goes into a job ([`Input`]) and what comes out of it ([`Output`]).

use std::fmt;

use msm_protocol::{ContentHash, PeerId, Refusal, RefusalCode, job::AttemptRef};

/// Who works on a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Worker {
    /// The requester's own device.
    Local,
    /// Another device.
    Remote(PeerId),
}

impl fmt::Display for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("this device"),
            Self::Remote(peer) => f.write_str(&peer.short()),
        }
    }
}

/// Names the bytes of an output, which the driver keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputId {
    /// SHA-256 of the bytes.
    pub hash: ContentHash,
    /// Number of bytes.
    pub size: u64,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// A worker takes tasks from now on (an accepted offer), or has a new credit. The local worker's credit is the number
    /// of cores that it lends. When a worker's stream was replaced, say `WorkerLost` first.
    WorkerReady {
        /// Who.
        worker: Worker,
        /// Attempts that it takes at a time; a remote one gets at most [`super::JobConfig::credit`].
        credit: u32,
    },
    /// A worker's stream or connection ended. May be repeated, and may be said of strangers.
    WorkerLost {
        /// Who.
        worker: Worker,
        /// For people.
        reason: String,
    },
    /// A worker still works on these attempts.
    Heartbeat {
        /// Who.
        worker: Worker,
        /// Those that are not its own or not running are ignored.
        attempts: Vec<AttemptRef>,
    },
    /// An output has arrived whole, and its hash and receipt are right.
    Result {
        /// Who.
        worker: Worker,
        /// Of which attempt.
        attempt: AttemptRef,
        /// The bytes.
        output: OutputId,
    },
    /// An attempt failed, or its output was not what it should be.
    Failed {
        /// Who.
        worker: Worker,
        /// Which attempt.
        attempt: AttemptRef,
        /// Why.
        refusal: Refusal,
    },
    /// Time has passed.
    Tick,
    /// The job is not wanted any more: every running attempt is cancelled and nothing else follows.
    Cancel,
}

/// What the driver has to do. At most one of `Done`, `Failed` and `Partial` comes, as the last but for `Dropped`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send (or, for the local worker, run) this attempt.
    Start {
        /// Who.
        worker: Worker,
        /// Task and attempt number; the pair is never used twice.
        attempt: AttemptRef,
    },
    /// This attempt is not wanted any more.
    Cancel {
        /// Who.
        worker: Worker,
        /// Which attempt.
        attempt: AttemptRef,
    },
    /// This output is the task's, once per task: keep its bytes.
    Accepted {
        /// Of which attempt.
        attempt: AttemptRef,
        /// Who.
        worker: Worker,
    },
    /// This answer does not count: throw its bytes away.
    Dropped {
        /// Of which attempt.
        attempt: AttemptRef,
        /// Who.
        worker: Worker,
        /// `duplicate`: the task's output was there already. `stale-lease`: the attempt was given up before.
        /// `bad-message`: this worker was never given that attempt, which no honest worker answers.
        why: RefusalCode,
    },
    /// A worker was lost, by the driver's word or by its silence.
    Lost {
        /// Who.
        worker: Worker,
        /// Tasks that went back to the queue.
        tasks_back: u32,
        /// For people.
        reason: String,
    },
    /// Every task has its output.
    Done,
    /// The job cannot be finished.
    Failed {
        /// The guest's own failure, or why nobody could run a task.
        refusal: Refusal,
    },
    /// The job ends without these tasks ([`super::OnLoss::Partial`] only).
    Partial {
        /// In order.
        missing: Vec<u32>,
    },
}
