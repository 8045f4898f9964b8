//! What a job is told once: [`JobConfig`].

use std::time::Duration;

use msm_protocol::limits::{CREDIT, LEASE_MIN};

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

/// What a job is.
#[derive(Debug, Clone)]
pub struct JobConfig {
    /// Number of tasks, at most `TASKS_PER_JOB`.
    pub tasks: u32,
    /// Where lost tasks go.
    pub on_loss: OnLoss,
    /// Most attempts that a remote worker holds at a time, usually `CREDIT`.
    pub credit: u32,
    /// Lease of an attempt before any task has finished, at least `LEASE_MIN`. Then it is twice the 95th percentile
    /// of the finished ones, within `LEASE_MIN` and [`super::LEASE_MAX`].
    pub lease: Duration,
    /// Seed of the random part of back-offs.
    pub seed: u64,
}

impl Default for JobConfig {
    fn default() -> Self {
        Self { tasks: 1, on_loss: OnLoss::default(), credit: CREDIT, lease: LEASE_MIN, seed: 0 }
    }
}
