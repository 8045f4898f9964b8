//! The report of a job as it goes: kept by its driver, told to whoever asks for reports.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::millis;
use crate::{
    command::{JobReport, JobState},
    node::{context::Context, journal::table::Fate},
};

/// The job's report, of which a copy is told while it runs and when it ends, in whatever way.
pub(super) struct Record {
    pub(super) ctx: Arc<Context>,
    pub(super) report: JobReport,
    pub(super) started: Instant,
    pub(super) told: Option<Instant>,
    /// A plan is no job.
    pub(super) silent: bool,
    /// Nobody waits for it at its door.
    pub(super) detached: bool,
    /// Why it ends early, when it does.
    pub(super) fate: Arc<Fate>,
}

/// Progress is recorded at most this often.
const RECORD_INTERVAL: Duration = Duration::from_millis(200);

impl Record {
    /// Hands a copy on, unless that was done a moment ago.
    pub(super) fn progress(&mut self) {
        if self.told.is_none_or(|told| told.elapsed() >= RECORD_INTERVAL) {
            self.told = Some(Instant::now());
            self.tell();
        }
    }

    /// True until it has ended.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.report.state, JobState::Running | JobState::Resumed)
    }

    /// How long it has taken.
    pub(super) fn wall(&mut self) {
        self.report.wall_ms = millis(self.started.elapsed());
    }

    pub(super) fn tell(&mut self) {
        self.wall();
        if !self.silent {
            self.ctx.reports.tell(self.report.clone());
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.is_running() {
            return;
        }
        let (state, why) = match self.fate.why() {
            Some((state, why)) => (*state, why.as_str()),
            None if self.ctx.journals.is_ending() => (JobState::Interrupted, "interrupted: the node ended"),
            None => (JobState::Cancelled, "cancelled: whoever asked for it has gone"),
        };
        (self.report.state, self.report.error) = (state, Some(why.to_owned()));
        self.tell();
    }
}
