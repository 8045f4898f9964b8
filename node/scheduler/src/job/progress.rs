//! How far a job is, for people and their screens.

use std::time::Duration;

use super::Worker;

/// How far a job is.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Tasks in the job.
    pub tasks: u32,
    /// Tasks with an output.
    pub done: u32,
    /// Attempts that run.
    pub running: u32,
    /// Times that a task was started again after a lost or failed attempt.
    pub reruns: u32,
    /// Second attempts of stragglers: nothing was lost.
    pub hedges: u32,
    /// Those of them that answered first.
    pub hedges_won: u32,
    /// Attempts that were started to check an output or to vote on one.
    pub checks: u32,
    /// Outputs that another worker has confirmed.
    pub checked: u32,
    /// Outputs that were chosen for a check which nobody was left to make.
    pub unchecked: u32,
    /// Outputs that were chosen for a check because their worker left before it had signed for them.
    pub unsigned: u32,
    /// Outputs of liars that were thrown away.
    pub withdrawn: u32,
    /// Nothing more will be started.
    pub over: bool,
    /// Everyone who ever took part, the local worker first, then by peer id.
    pub workers: Vec<WorkerProgress>,
}

/// One worker's part in a job.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerProgress {
    /// Who.
    pub worker: Worker,
    /// Tasks whose output is this worker's.
    pub done: u32,
    /// Attempts that it holds.
    pub running: u32,
    /// Attempts that it failed, or that were lost with it.
    pub lost: u32,
    /// Gets more tasks.
    pub ready: bool,
    /// Smoothed time from a start to its result.
    pub mean: Option<Duration>,
    /// Weight per second of the time in which it was busy.
    pub rate: Option<f64>,
    /// Answers of it that another worker has confirmed.
    pub checked: u32,
    /// It lied, or is known to: it gets no more tasks.
    pub struck: bool,
}
