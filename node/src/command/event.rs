//! [`Event`]: what happens while a command runs, as one stream with reasons.

use msm_protocol::{JobId, PeerId};
use serde::{Deserialize, Serialize};

/// Why an attempt is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The task's first.
    #[default]
    Fresh,
    /// The device that had the task was lost.
    Lost,
    /// The device that had the task could not do it.
    Failed,
    /// The device that has the task takes long.
    Straggler,
    /// The answer of another device is checked.
    Check,
    /// Several devices must agree, or two do not.
    Vote,
    /// The answer that was there counts no more: its device lied.
    Withdrawn,
}

impl Why {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Lost => "lost",
            Self::Failed => "failed",
            Self::Straggler => "straggler",
            Self::Check => "check",
            Self::Vote => "vote",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// What happens: shown while a command runs, and streamed by [`Command::Watch`]. A job's events go to its own door only.
///
/// A name is the owner's for the device, empty when it has not told one. Serialised, each is an object whose `event`
/// says which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    PeerJoined {
        peer_id: PeerId,
        name: String,
    },
    PeerLeft {
        peer_id: PeerId,
        name: String,
        reason: String,
    },
    MarketUpdated {
        alias: String,
        version: u64,
    },
    /// A market has signed two histories; it is not followed any further.
    MarketSplit {
        alias: String,
        /// Where they part.
        version: u64,
    },
    /// The owner lends nothing for a while.
    Paused {
        /// Unix seconds; absent for until he says so.
        until: Option<u64>,
        /// Tasks of others that were handed back.
        tasks_back: u32,
    },
    /// The device is lent again.
    Resumed {
        reason: String,
    },
    /// A device did what no honest one does.
    Struck {
        /// The job in which it was found out, if it was in one.
        job_id: Option<JobId>,
        peer_id: PeerId,
        name: String,
        task: Option<u32>,
        reason: String,
        /// What proves it: a file below `evidence/` in this home.
        evidence: Option<String>,
    },
    JobStarted {
        job_id: JobId,
        service: String,
        tasks: u32,
    },
    /// A job goes on that an earlier run of this node began.
    JobResumed {
        job_id: JobId,
        service: String,
        tasks: u32,
        tasks_done: u32,
    },
    DeviceJoined {
        job_id: JobId,
        peer_id: PeerId,
        name: String,
        local: bool,
    },
    DeviceLost {
        job_id: JobId,
        peer_id: PeerId,
        name: String,
        reason: String,
        tasks_back: u32,
    },
    /// An offer was not taken.
    DeviceRefused {
        job_id: JobId,
        peer_id: PeerId,
        name: String,
        code: String,
        reason: String,
    },
    /// A device has the task now, for as long as its lease lasts.
    TaskStarted {
        job_id: JobId,
        peer_id: PeerId,
        #[serde(default)]
        name: String,
        task: u32,
        attempt: u32,
        #[serde(default)]
        why: Why,
    },
    /// A task that another device had, or still has, is given to one more.
    TaskRetried {
        job_id: JobId,
        task: u32,
        attempt: u32,
        /// Who has it now.
        peer_id: PeerId,
        name: String,
        /// Who had it.
        from: PeerId,
        from_name: String,
        why: Why,
        /// In words, such as why the device was lost.
        reason: String,
    },
    TaskDone {
        job_id: JobId,
        peer_id: PeerId,
        #[serde(default)]
        name: String,
        task: u32,
        attempt: u32,
        done: u32,
        tasks: u32,
    },
    TaskFailed {
        job_id: JobId,
        peer_id: PeerId,
        #[serde(default)]
        name: String,
        task: u32,
        attempt: u32,
        code: String,
        reason: String,
    },
    /// A device's answer was compared with another's.
    TaskChecked {
        job_id: JobId,
        task: u32,
        /// Who was checked.
        peer_id: PeerId,
        name: String,
        by: PeerId,
        by_name: String,
        agrees: bool,
    },
    /// An answer counts no more, because its device lied elsewhere; the task is done again.
    TaskWithdrawn {
        job_id: JobId,
        task: u32,
        peer_id: PeerId,
        name: String,
    },
    JobDone {
        job_id: JobId,
        wall_ms: f64,
    },
    JobFailed {
        job_id: JobId,
        error: String,
    },
    /// A phase of the job begins; for spinners.
    Phase {
        job_id: JobId,
        name: String,
    },
}

impl Event {
    /// The job that it belongs to.
    pub fn job_id(&self) -> Option<JobId> {
        match self {
            Self::PeerJoined { .. }
            | Self::PeerLeft { .. }
            | Self::MarketUpdated { .. }
            | Self::MarketSplit { .. }
            | Self::Paused { .. }
            | Self::Resumed { .. } => None,
            Self::Struck { job_id, .. } => *job_id,
            Self::JobStarted { job_id, .. }
            | Self::JobResumed { job_id, .. }
            | Self::DeviceJoined { job_id, .. }
            | Self::DeviceLost { job_id, .. }
            | Self::DeviceRefused { job_id, .. }
            | Self::TaskStarted { job_id, .. }
            | Self::TaskRetried { job_id, .. }
            | Self::TaskDone { job_id, .. }
            | Self::TaskFailed { job_id, .. }
            | Self::TaskChecked { job_id, .. }
            | Self::TaskWithdrawn { job_id, .. }
            | Self::JobDone { job_id, .. }
            | Self::JobFailed { job_id, .. }
            | Self::Phase { job_id, .. } => Some(*job_id),
        }
    }
}
