//! Decides which devices take part in a job, what each of them does next, and what happens when one fails.
//!
//! Pure: no IO, no async, no clock, no threads. Time is a `Duration` since the job's start, passed in; randomness is a
//! seed, passed in. The driver feeds [`job::Input`]s and carries out [`job::Output`]s; so does the simulator in `tests/`.
//!
//! Read in this order:
//! 1. [`eqs`]: one number that says how well a device would do; [`rates`]: what was measured replaces what is said.
//! 2. [`mod@select`]: from the devices around to those that take part, with the reason for each; [`makespan`] predicts how
//!    long `k` of them would take; [`hire`] asks that again while the job runs.
//! 3. [`plan`]: into how many tasks the input is cut.
//! 4. [`trust`]: how often a worker's results are checked.
//! 5. [`job`]: the state machine of one running job.

pub mod eqs;
pub mod rates;

pub mod hire;
pub mod makespan;
pub mod select;

pub mod plan;

pub mod trust;

pub mod job;

pub use hire::Hiring;
pub use job::{
    Input, JobConfig, JobState, OnLoss, Output, OutputId, Progress, Redundancy, Why, Worker, WorkerProgress,
};
pub use makespan::Sure;
pub use select::{Candidate, DeviceWish, JobShape, Known, Order, Row, Selection, select};
pub use trust::Trust;
