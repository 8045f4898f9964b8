//! The journal's side of an invocation: what is kept of it, and how one goes on that an earlier run of the node began.

use msm_protocol::{JobId, PeerId, limits::JOB_INPUT_BYTES};
use msm_scheduler::{Input, OutputId, Worker};

use super::{
    Invocation,
    ask::Resolved,
    drive::{Driver, End},
    in_a_row,
    split::pieces,
};
use crate::{
    blob::Blob,
    command::{CommandError, ErrorCode, Event, JobDevice},
    node::journal::{
        self, Journal,
        record::{self, Accepted, Asked, Planned, Record},
    },
};

/// A job of one task is kept from this much input on: below, doing it again costs less than keeping it. *Judgement.*
const KEPT_INPUT: u64 = 1024 * 1024;

/// What an earlier run of the node left of a job.
pub(super) struct Restored {
    /// Its parts; `None` when it was not cut yet.
    pub(super) parts: Option<Vec<Blob>>,
    /// Outputs that are there.
    pub(super) outputs: Vec<(Accepted, Blob)>,
}

/// A job's first record.
pub(super) fn asked(job: JobId, invoke: &crate::command::Invoke, detached: bool) -> Asked {
    Asked { v: record::VERSION, job, at: journal::now(), invoke: invoke.clone(), detached, input: None }
}

/// A full disk, or another reason why a job that must be kept cannot be.
pub(super) fn unkept(error: &std::io::Error) -> CommandError {
    let text = error.to_string();
    let message = if text.starts_with("disk-full") { text } else { format!("the job cannot be kept: {text}") };
    CommandError::new(ErrorCode::Failed, message)
}

impl Invocation {
    /// Parts that are pieces of the input need not be kept besides it.
    fn cut_by_place(&self, resolved: &Resolved) -> bool {
        !resolved.installed.manifest.work.remote && in_a_row(resolved.installed.package(&resolved.params).work)
    }

    /// Begins the journal of a job that is worth one, or tells that of one that has it what runs. The parts come back as
    /// they are to be read from now on.
    pub(super) async fn keep(&mut self, resolved: &Resolved, parts: Vec<Blob>) -> Result<Vec<Blob>, CommandError> {
        if self.is_cut() {
            return Ok(parts);
        }
        let bytes: u64 = parts.iter().map(Blob::len).sum();
        if self.journal.is_none() && parts.len() == 1 && bytes < KEPT_INPUT {
            return Ok(parts);
        }
        let by_place = self.cut_by_place(resolved);
        let mut parts = parts;
        if self.journal.is_none() {
            let asked = asked(self.record.report.job_id, &self.invoke, false);
            match self.ctx.journals.begin(asked, by_place.then(|| self.input.clone())).await {
                Ok((journal, input)) => {
                    self.journal = Some(journal);
                    if let Some(input) = input {
                        let lengths: Vec<u64> = parts.iter().map(Blob::len).collect();
                        parts = pieces(&input, &lengths)?;
                        self.input = input;
                    }
                }
                Err(error) if self.input.len() > JOB_INPUT_BYTES => return Err(unkept(&error)),
                Err(error) => {
                    self.record.report.notes.push(format!("this job could not go on after a crash: {error}"));
                    return Ok(parts);
                }
            }
        }
        if let Some(journal) = &self.journal {
            let planned = Planned {
                service: self.record.report.service.clone(),
                market: resolved.market,
                manifest: resolved.release.manifest,
                params: resolved.params.to_string(),
                parts: parts.iter().map(Blob::len).collect(),
                kept: None,
            };
            journal.plan(planned, (!by_place).then(|| parts.clone())).await;
        }
        Ok(parts)
    }

    /// Whether an earlier run of the node has cut the input.
    pub(super) fn is_cut(&self) -> bool {
        self.restored.as_ref().is_some_and(|restored| restored.parts.is_some())
    }

    /// The parts of a job that goes on, as they were cut.
    pub(super) fn restored_parts(&self) -> Option<Vec<Blob>> {
        self.restored.as_ref()?.parts.clone()
    }
}

fn id_of(worker: Worker) -> Option<PeerId> {
    match worker {
        Worker::Local => None,
        Worker::Remote(peer) => Some(peer),
    }
}

impl Driver<'_> {
    /// Counts what was done before the node was started again: it is not done twice.
    pub(super) fn restore(&mut self, outputs: Vec<(Accepted, Blob)>) {
        let (tasks, restored) = (self.record.report.tasks, outputs.len());
        for (accepted, bytes) in outputs {
            let Some(place) = self.outputs.get_mut(accepted.task as usize) else { continue };
            *place = Some(bytes);
            let output = OutputId { hash: accepted.stored.hash, size: accepted.stored.bytes };
            let worker = accepted.worker.map_or(Worker::Local, Worker::Remote);
            self.handle(Input::Restored { task: accepted.task, output, worker });
            self.record.report.tasks_done += 1;
            self.credit(worker);
        }
        let (job_id, service) = (self.record.report.job_id, self.record.report.service.clone());
        self.note(format!("resumed: {restored} of {tasks} tasks were done before"));
        let tasks_done = self.record.report.tasks_done;
        self.ctx.emit(Event::JobResumed { job_id, service, tasks, tasks_done });
    }

    /// One more task of this device; one that is not here now stands in the report for what it did.
    fn credit(&mut self, worker: Worker) {
        let peer_id = self.peer_of(worker);
        let (name, local) = (self.name(peer_id), worker == Worker::Local);
        let devices = &mut self.record.report.devices;
        match devices.iter_mut().find(|device| device.peer_id == peer_id) {
            Some(device) => device.tasks += 1,
            None => devices.push(JobDevice { peer_id, name, tasks: 1, local, engine: None, lost: None }),
        }
    }

    /// Hands an accepted output to the journal; what is to be held of it comes back.
    pub(super) async fn keep_output(&mut self, worker: Worker, task: u32, id: OutputId, bytes: Blob) -> Blob {
        let Some(journal) = self.journal.clone() else { return bytes };
        match journal.output(task, id_of(worker), id, bytes.clone()).await {
            Ok(kept) => kept,
            Err(error) => {
                self.not_kept(&journal, &error);
                bytes
            }
        }
    }

    /// Whether so much is at stake that the job cannot do without its journal.
    fn must_be_kept(&self) -> bool {
        self.record.detached || self.inputs.iter().map(Blob::len).sum::<u64>() > JOB_INPUT_BYTES
    }

    /// The journal broke, on a full disk say: the job goes on in memory if it fits there.
    fn not_kept(&mut self, journal: &Journal, error: &std::io::Error) {
        self.journal = None;
        journal.folder().discard(true);
        // Otherwise the report will say so.
        if self.must_be_kept() {
            self.broken = Some(unkept(error));
        }
    }

    /// What must be known after a crash besides outputs.
    pub(super) async fn log(&mut self, record: Record) {
        if let Some(journal) = &self.journal {
            journal.record(record).await;
        }
    }

    /// The check of an answer, for the journal.
    pub(super) async fn log_checked(&mut self, task: u32, worker: Worker, by: Worker, agrees: bool) {
        self.log(Record::Checked { task, worker: id_of(worker), by: id_of(by), agrees }).await;
    }

    /// A liar, for the journal.
    pub(super) async fn log_struck(&mut self, worker: Worker, task: u32, claimed: OutputId, right: OutputId) {
        let (claimed, right) = (claimed.hash, right.hash);
        self.log(Record::Struck { worker: id_of(worker), task, claimed, right }).await;
    }

    /// Why the job cannot go on, if its journal was lost and it needs that.
    pub(super) fn broken(&mut self) -> Option<End> {
        self.broken.take().map(End::Broken)
    }
}

/// Whether a job that failed so may still be done later, when other devices are around.
pub(super) fn may_go_on(error: &CommandError) -> bool {
    matches!(error.code, ErrorCode::NoDevice | ErrorCode::NoNode | ErrorCode::NotAllowed)
}
