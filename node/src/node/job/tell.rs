//! What a driver tells of its job: events for whoever watches, and the lines of the report.

use std::collections::HashMap;

use msm_protocol::{
    PeerId, Refusal,
    job::{AttemptRef, TaskOp},
    manifest::Engine,
};
use msm_scheduler::Worker;

use super::{
    again::Before,
    discover,
    drive::{Driver, NOTES},
};
use crate::{
    command::{Event, JobDevice},
    node::context::Context,
};

/// Names of the devices; those that several devices have get the end of the peer id too.
pub(super) fn told_apart(ctx: &Context, found: &[discover::Found]) -> HashMap<PeerId, String> {
    let all = || found.iter().map(|found| (found.candidate.peer, &found.name)).chain([(ctx.local, &ctx.config.name)]);
    let unique = |name: &String| all().filter(|(_, other)| *other == name).count() == 1;
    all()
        .map(|(peer, name)| (peer, if unique(name) { name.clone() } else { format!("{name} ({})", peer.short()) }))
        .collect()
}

impl Driver<'_> {
    pub(super) fn failed(&mut self, peer: PeerId, attempt: AttemptRef, refusal: &Refusal) {
        let AttemptRef { task, attempt } = attempt;
        let (job_id, code, reason) = (self.record.report.job_id, refusal.code.to_string(), refusal.reason.clone());
        let name = self.name(peer);
        self.note(format!("task {task} failed on {name}: {refusal}"));
        self.attempts.failed(task, peer, refusal.to_string());
        self.ctx.emit(Event::TaskFailed { job_id, peer_id: peer, name, task, attempt, code, reason });
    }

    /// An attempt was handed out: a first one, or a further one with its reason.
    pub(super) fn started_on(&mut self, worker: Worker, attempt: AttemptRef, why: msm_scheduler::Why) {
        if self.op != TaskOp::Run {
            return;
        }
        let AttemptRef { task, attempt } = attempt;
        let (job_id, peer_id) = (self.record.report.job_id, self.peer_of(worker));
        let (why, before) = self.attempts.started(task, why, self.ctx.local);
        let name = self.name(peer_id);
        if let Some(Before { peer: from, reason }) = before {
            let (from_name, name) = (self.name(from), name.clone());
            let retried = Event::TaskRetried { job_id, task, attempt, peer_id, name, from, from_name, why, reason };
            self.ctx.emit(retried);
        }
        self.ctx.emit(Event::TaskStarted { job_id, peer_id, name, task, attempt, why });
    }

    /// A task's result counts.
    pub(super) fn done_by(&mut self, peer_id: PeerId, attempt: AttemptRef) {
        if self.op != TaskOp::Run {
            return;
        }
        let AttemptRef { task, attempt } = attempt;
        let (job_id, name) = (self.record.report.job_id, self.name(peer_id));
        let (done, tasks) = (self.record.report.tasks_done, self.record.report.tasks);
        self.ctx.emit(Event::TaskDone { job_id, peer_id, name, task, attempt, done, tasks });
    }

    /// A device's answer was compared with another's.
    pub(super) fn tell_checked(&mut self, task: u32, worker: Worker, by: Worker, agrees: bool) {
        let (job_id, peer_id, by) = (self.record.report.job_id, self.peer_of(worker), self.peer_of(by));
        let (name, by_name) = (self.name(peer_id), self.name(by));
        self.ctx.emit(Event::TaskChecked { job_id, task, peer_id, name, by, by_name, agrees });
    }

    /// An answer counts no more.
    pub(super) fn tell_withdrawn(&mut self, task: u32, peer_id: PeerId) {
        let (job_id, name) = (self.record.report.job_id, self.name(peer_id));
        self.ctx.emit(Event::TaskWithdrawn { job_id, task, peer_id, name });
    }

    /// A device was found out; `evidence` names the file with what proves it.
    pub(super) fn tell_struck(&mut self, peer_id: PeerId, task: u32, reason: &str, evidence: Option<String>) {
        let (job_id, name) = (Some(self.record.report.job_id), self.name(peer_id));
        let reason = reason.to_owned();
        self.ctx.emit(Event::Struck { job_id, peer_id, name, task: Some(task), reason, evidence });
    }

    pub(super) fn leave(&mut self, peer: PeerId, reason: String) {
        self.remotes.remove(&peer);
        if let Some(device) = self.record.report.devices.iter_mut().find(|device| device.peer_id == peer) {
            device.lost = Some(reason);
        }
    }

    pub(super) fn joined(&mut self, worker: Worker, engine: Option<Engine>) {
        let peer_id = self.peer_of(worker);
        let (job_id, name, local) = (self.record.report.job_id, self.name(peer_id), worker == Worker::Local);
        if !self.record.report.devices.iter().any(|device| device.peer_id == peer_id) {
            let device = JobDevice { peer_id, name: name.clone(), tasks: 0, local, engine, lost: None };
            self.record.report.devices.push(device);
        }
        self.ctx.emit(Event::DeviceJoined { job_id, peer_id, name, local });
    }

    pub(super) fn lost(&mut self, worker: Worker, tasks_back: u32, reason: String) {
        let peer_id = self.peer_of(worker);
        let (job_id, name) = (self.record.report.job_id, self.name(peer_id));
        self.leave(peer_id, reason.clone());
        self.attempts.lost(peer_id, &reason);
        let tasks = if tasks_back == 1 { "task" } else { "tasks" };
        self.note(format!("{name} was lost ({reason}); {tasks_back} {tasks} moved to others"));
        self.ctx.emit(Event::DeviceLost { job_id, peer_id, name, reason, tasks_back });
    }

    pub(super) fn note(&mut self, note: String) {
        let notes = &mut self.record.report.notes;
        match notes.len() {
            0..NOTES => notes.push(note),
            NOTES => notes.push("… and more".to_owned()),
            _ => {}
        }
    }

    pub(super) fn peer_of(&self, worker: Worker) -> PeerId {
        match worker {
            Worker::Local => self.ctx.local,
            Worker::Remote(peer) => peer,
        }
    }

    pub(super) fn name(&self, peer: PeerId) -> String {
        self.names.get(&peer).cloned().unwrap_or_else(|| peer.short())
    }

    pub(super) fn tally(&mut self) {
        let progress = self.state.progress();
        self.record.report.tasks_rerun = progress.reruns + progress.hedges;
        self.record.report.reruns = self.attempts.reruns;
        self.record.report.checks.unchecked = progress.unchecked;
    }
}
