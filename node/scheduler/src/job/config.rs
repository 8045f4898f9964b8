//! What a job is told once: [`JobConfig`].

use std::time::Duration;

use msm_protocol::limits::LEASE_MIN;

use super::CREDIT_MAX;

/// Where a task goes whose attempt was lost or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLoss {
    /// To another worker; to this device after `REMOTE_ATTEMPTS` or when nobody else can take it.
    #[default]
    Remote,
    /// To this device at once; elsewhere only if this device takes no part.
    Local,
    /// To another worker, never to this device: what no other worker can do is reported as missing.
    Partial,
}

/// How results of remote workers come to be believed. What this device computed itself is always believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Redundancy {
    /// The first answer is taken.
    None,
    /// The first answer is taken and a share of them is computed again ([`crate::Trust::check_share`]).
    #[default]
    Spot,
    /// An answer is taken when `agree` workers gave the same one; at most `of` are asked.
    Agree {
        /// At least 2.
        agree: u32,
        /// `agree..=VOTES_MAX`.
        of: u32,
    },
}

/// What a job is.
#[derive(Debug, Clone)]
pub struct JobConfig {
    /// Number of tasks, at most `TASKS_PER_JOB`.
    pub tasks: u32,
    /// Relative sizes of the tasks by index; empty when all are equal. Without a size, a task counts as 1.
    pub weights: Vec<u64>,
    /// Where lost tasks go.
    pub on_loss: OnLoss,
    /// Most attempts that a remote worker may ever hold, at most [`CREDIT_MAX`]. It holds as many as keep it busy.
    pub credit: u32,
    /// Lease of an attempt before any task has finished, at least `LEASE_MIN`. Then it is twice the 95th percentile
    /// of the finished ones, within `LEASE_MIN` and [`super::LEASE_MAX`].
    pub lease: Duration,
    /// Seed of back-offs and of the choice of what is checked.
    pub seed: u64,
    /// How results are checked.
    pub redundancy: Redundancy,
}

impl Default for JobConfig {
    fn default() -> Self {
        Self {
            tasks: 1,
            weights: Vec::new(),
            on_loss: OnLoss::default(),
            credit: CREDIT_MAX,
            lease: LEASE_MIN,
            seed: 0,
            redundancy: Redundancy::default(),
        }
    }
}
