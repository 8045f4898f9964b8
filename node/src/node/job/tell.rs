//! What a driver tells of its job: events for whoever watches, and the lines of the report.

use std::collections::HashMap;

use msm_protocol::{PeerId, Refusal, job::AttemptRef, manifest::Engine};
use msm_scheduler::Worker;

use super::{
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
        self.note(format!("task {task} failed on {}: {refusal}", self.name(peer)));
        self.ctx.emit(Event::TaskFailed { job_id, peer_id: peer, task, attempt, code, reason });
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
        self.note(format!("{name} was lost ({reason}); {tasks_back} tasks moved to others"));
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
    }
}
