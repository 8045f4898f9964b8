//! What the requester has on disk: the outputs that it accepted, line by line, and who is known to lie.

use std::collections::{BTreeMap, BTreeSet};

use msm_scheduler::{OutputId, Trust, Worker};

#[derive(Debug, Clone)]
enum Line {
    Accepted(u32, OutputId, Worker),
    Withdrawn(u32),
}

#[derive(Debug, Default)]
pub struct Journal {
    lines: Vec<Line>,
    /// A file of its own, written before anything else happens.
    liars: BTreeSet<Worker>,
}

impl Journal {
    pub fn accepted(&mut self, task: u32, output: OutputId, worker: Worker) {
        self.lines.push(Line::Accepted(task, output, worker));
    }

    pub fn withdrawn(&mut self, task: u32) {
        self.lines.push(Line::Withdrawn(task));
    }

    pub fn struck(&mut self, worker: Worker) {
        self.liars.insert(worker);
    }

    /// The power went before the last write reached the disk.
    pub fn lose_last_line(&mut self) {
        self.lines.pop();
    }

    /// What a new process reads: as strict as the one of a node, which calls such a job lost.
    pub fn tasks(&self) -> BTreeMap<u32, (OutputId, Worker)> {
        let mut tasks = BTreeMap::new();
        for line in &self.lines {
            match line {
                Line::Accepted(task, output, worker) => {
                    let before = tasks.insert(*task, (*output, *worker));
                    assert!(before.is_none(), "task {task} has two results");
                }
                Line::Withdrawn(task) => {
                    assert!(tasks.remove(task).is_some(), "a result of task {task} is withdrawn that is not there");
                }
            }
        }
        tasks
    }

    pub fn liars(&self) -> Vec<Worker> {
        self.liars.iter().copied().collect()
    }

    pub fn trust(&self, worker: Worker) -> Trust {
        Trust { struck: self.liars.contains(&worker), ..Trust::default() }
    }
}
