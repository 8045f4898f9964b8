//! What goes into a job ([`Input`]) and what comes out of it ([`Output`]).

use std::{fmt, time::Duration};

use msm_protocol::{ContentHash, PeerId, Refusal, RefusalCode, job::AttemptRef};

use crate::Trust;

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
        /// What earlier jobs have shown of it; the local worker is always believed.
        trust: Trust,
    },
    /// What the driver knows of a worker that is ready: said once, or again when it changes, or never.
    Link {
        /// Who.
        worker: Worker,
        /// The newest round trip; without one, a worker's speed looks slower until it has work waiting.
        rtt: Duration,
        /// Attempts that it works on at a time, at least 1 (assumed when nothing is said).
        slots: u32,
    },
    /// So many devices are still being asked, or would be: where they could help, the job waits for them a little.
    Expected {
        /// Their number from now on; 0 at first.
        workers: u32,
    },
    /// From the journal, before any worker is ready: this task was done before the requester was restarted. It counts
    /// as done and is never handed out, unless its worker turns out to lie.
    Restored {
        /// Which task.
        task: u32,
        /// The bytes, which the driver has.
        output: OutputId,
        /// Whose they are.
        worker: Worker,
    },
    /// A worker is known from elsewhere to lie: as if it had been found out here.
    Struck {
        /// Who.
        worker: Worker,
        /// For people.
        reason: String,
    },
    /// A worker's stream has ended, and it never signed for these results of it. Said before `WorkerLost`. What nobody
    /// has confirmed of them is compared with somebody's who stands for it.
    Unsigned {
        /// Who.
        worker: Worker,
        /// Tasks, and what it said; of others than its answers nothing is thought.
        claims: Vec<(u32, ContentHash)>,
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

/// Why an attempt is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nobody has had this task yet.
    Fresh,
    /// The attempt before it failed or was lost.
    Lost {
        /// With whom.
        from: Worker,
    },
    /// The output that was there is void: its worker lied.
    Withdrawn {
        /// The liar.
        from: Worker,
    },
    /// It runs elsewhere for longer than it should.
    Straggler {
        /// Where.
        slow: Worker,
    },
    /// Its output is there and is compared with this one's.
    Check {
        /// Whose output is checked.
        of: Worker,
    },
    /// Several workers have to agree on it, or two of them do not.
    Vote,
}

/// What the driver has to do. Each [`Input::Result`] is answered by one `Accepted`, `Kept` or `Dropped` of its attempt
/// (`Accepted` of an attempt that was kept before comes besides). At most one of `Done`, `Failed` and `Partial` comes, as the last but for `Dropped`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send (or, for the local worker, run) this attempt.
    Start {
        /// Who.
        worker: Worker,
        /// Task and attempt number; the pair is never used twice.
        attempt: AttemptRef,
        /// For people.
        why: Why,
    },
    /// This attempt is not wanted any more.
    Cancel {
        /// Who.
        worker: Worker,
        /// Which attempt.
        attempt: AttemptRef,
    },
    /// This output is the task's, once per task (once more after `Withdrawn`): keep its bytes, those that have just
    /// arrived or those that were kept under this attempt.
    Accepted {
        /// Of which attempt.
        attempt: AttemptRef,
        /// Who.
        worker: Worker,
        /// What it is. The task may have lost it again by the time that this is carried out.
        output: OutputId,
    },
    /// Hold these bytes beside the task: a vote, or a disagreement that is not decided yet. `Accepted` or `Dropped` of
    /// this attempt follows, or the job's end.
    Kept {
        /// Of which attempt.
        attempt: AttemptRef,
        /// Who.
        worker: Worker,
    },
    /// The accepted output of this task is void, because its worker lied: throw the bytes away, it is done again.
    Withdrawn {
        /// Which task.
        task: u32,
        /// The liar.
        worker: Worker,
    },
    /// A worker's answer was compared with another's.
    Checked {
        /// Which task.
        task: u32,
        /// Who was checked.
        worker: Worker,
        /// Who computed it too.
        by: Worker,
        /// Its answer was the right one.
        agrees: bool,
    },
    /// A liar: it gets nothing more, and its unchecked tasks are done again. The driver has its receipt for `claimed`.
    Struck {
        /// Who.
        worker: Worker,
        /// On which task it was found out.
        task: u32,
        /// What it said.
        claimed: OutputId,
        /// What is right.
        right: OutputId,
        /// Who says so.
        by: Worker,
    },
    /// This answer does not count: throw its bytes away, those that have just arrived or those that were kept under this
    /// attempt.
    Dropped {
        /// Of which attempt.
        attempt: AttemptRef,
        /// Who.
        worker: Worker,
        /// `duplicate`: the task's output was there already, or it confirmed that. `stale-lease`: the attempt was given
        /// up before, or its worker was struck.
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
