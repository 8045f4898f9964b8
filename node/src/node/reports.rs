//! The reports of the newest jobs, each as it was told last.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use crate::command::JobReport;

/// Reports remembered; what a journal keeps of older jobs is found there. *Judgement.*
const REPORTS: usize = 64;

/// Written by jobs as they go, and read by whoever asks: nobody is woken for that, as a small call would notice.
#[derive(Debug, Default)]
pub struct Reports(Mutex<VecDeque<JobReport>>);

impl Reports {
    /// A job has started, changed or ended.
    pub fn tell(&self, report: JobReport) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.iter().position(|known| known.job_id == report.job_id).and_then(|at| all.remove(at));
        all.push_front(report);
        let oldest = if all.len() > REPORTS { all.pop_back() } else { None };
        drop(all);
        // What is heavy to drop is dropped behind the lock.
        drop((before, oldest));
    }

    /// All of them, newest first.
    pub fn all(&self) -> Vec<JobReport> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
