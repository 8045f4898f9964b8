//! The report of a job as it goes: kept by its driver, told to the coordinator.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::millis;
use crate::{
    command::{JobReport, JobState},
    node::context::{Ask, Context},
};

/// The job's report, which the coordinator gets a copy of while it runs and when it ends, in whatever way.
pub(super) struct Record {
    pub(super) ctx: Arc<Context>,
    pub(super) report: JobReport,
    pub(super) started: Instant,
    pub(super) told: Option<Instant>,
    /// A plan is no job.
    pub(super) silent: bool,
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

    pub(super) fn tell(&mut self) {
        self.report.wall_ms = millis(self.started.elapsed());
        if !self.silent {
            // A full queue loses one copy; the next brings all of it.
            let _ = self.ctx.asks.try_send(Ask::Job(Box::new(self.report.clone())));
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.report.state == JobState::Running {
            self.report.state = JobState::Failed;
            self.report.error = Some("cancelled, or over its deadline".into());
            self.tell();
        }
    }
}
