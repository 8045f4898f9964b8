//! Carrying out what the scheduler has decided: attempts are started, cancelled, and their bytes kept or thrown away.

use std::{io, sync::Arc};

use msm_protocol::{ContentHash, Refusal, RefusalCode, job::AttemptRef};
use msm_sandbox::Call;
use msm_scheduler::{Input, Output, OutputId, Why, Worker};

use super::{
    drive::{Driver, End, LocalResult},
    remote::ToRemote,
};
use crate::{
    blob::Blob,
    node::{journal::record::Record, packages},
};

impl Driver<'_> {
    pub(super) fn local_done(&mut self, result: Result<LocalResult, tokio::task::JoinError>) {
        let (attempt, result) = match result {
            Ok(done) => done,
            Err(error) => {
                // A cancelled attempt is not waited for; one that broke is, and has no lease.
                let broken = self.local_handles.iter().find(|(_, handle)| handle.id() == error.id()).map(|(at, _)| *at);
                let Some(attempt) = broken else { return };
                (attempt, Err(Refusal::new(RefusalCode::TaskCrashed, "the local attempt broke")))
            }
        };
        self.local_handles.remove(&attempt);
        let worker = Worker::Local;
        match result {
            Ok(bytes) => {
                let output = OutputId { hash: ContentHash::of(&bytes), size: bytes.len() as u64 };
                self.arrived = Some(bytes.into());
                self.handle(Input::Result { worker, attempt, output });
            }
            Err(refusal) => {
                self.failed(self.ctx.local, attempt, &refusal);
                self.handle(Input::Failed { worker, attempt, refusal });
            }
        }
    }

    /// Carries out everything the scheduler has decided; `Some` at the end of the job.
    pub(super) async fn carry_out(&mut self) -> Option<End> {
        let mut end = None;
        while let Some(output) = self.state.poll_output() {
            self.hiring.told(&output);
            match output {
                Output::Start { worker, attempt, why } => {
                    if let Err(error) = self.start(worker, attempt, why).await {
                        let reason = format!("the input cannot be read any more: {error}");
                        return Some(End::Failed(Refusal::new(RefusalCode::BadInput, reason)));
                    }
                }
                Output::Cancel { worker, attempt } => self.cancel(worker, attempt),
                Output::Accepted { attempt, worker, output } => {
                    self.accepted(worker, attempt, output).await;
                    if let Some(broken) = self.broken() {
                        return Some(broken);
                    }
                }
                Output::Kept { attempt, .. } => self.kept.extend(self.arrived.take().map(|bytes| (attempt, bytes))),
                Output::Withdrawn { task, worker } => {
                    self.log(Record::Withdrawn { task }).await;
                    self.withdrawn(task, worker);
                }
                Output::Checked { task, worker, by, agrees } => {
                    self.log_checked(task, worker, by, agrees).await;
                    self.tell_checked(task, worker, by, agrees);
                    self.checked(task, worker, by, agrees);
                }
                Output::Struck { worker, task, claimed, right, by } => {
                    self.log_struck(worker, task, claimed, right).await;
                    self.found_out(worker, task, claimed, right, by);
                }
                Output::Dropped { attempt, worker, why } => {
                    if self.kept.remove(&attempt).is_none() {
                        self.arrived = None;
                    }
                    tracing::debug!(job = self.record.report.job_id.short(), %worker, ?attempt, %why, "result dropped");
                }
                Output::Lost { worker, tasks_back, reason } => self.lost(worker, tasks_back, reason),
                Output::Done => end = Some(End::Done),
                Output::Failed { refusal } => end = Some(End::Failed(refusal)),
                Output::Partial { missing } => end = Some(End::Partial(missing)),
            }
        }
        end
    }

    async fn start(&mut self, worker: Worker, attempt: AttemptRef, why: Why) -> io::Result<()> {
        let Some(input) = self.inputs.get(attempt.task as usize).cloned() else { return Ok(()) };
        match worker {
            Worker::Local => self.start_here(attempt, input),
            Worker::Remote(peer) => {
                let hash = self.hash_of(attempt.task, &input).await?;
                let sent =
                    self.remotes.get(&peer).map(|remote| remote.try_send(ToRemote::Start { attempt, input, hash }));
                if !matches!(sent, Some(Ok(()))) {
                    let reason = "its stream takes no more".to_owned();
                    self.handle(Input::WorkerLost { worker, reason });
                    return Ok(());
                }
            }
        }
        self.started_on(worker, attempt, why);
        Ok(())
    }

    async fn hash_of(&mut self, task: u32, input: &Blob) -> io::Result<ContentHash> {
        if let Some(Some(known)) = self.hashes.get(task as usize) {
            return Ok(*known);
        }
        let hash = ContentHash::of(&input.whole().await?);
        if let Some(place) = self.hashes.get_mut(task as usize) {
            *place = Some(hash);
        }
        Ok(hash)
    }

    fn start_here(&mut self, attempt: AttemptRef, input: Blob) {
        let ctx = self.ctx.clone();
        let (package, params) = (self.package.clone(), self.resolved.params.clone());
        let op = packages::operation(self.op, attempt.task, self.count);
        let budget = self.resolved.installed.budget();
        let service = self.resolved.service.clone();
        let handle = self.locals.spawn(async move {
            let _slot = ctx.own_slots.acquire().await;
            // Read when its turn has come: what waits is not held.
            let input = match input.whole().await {
                Ok(input) => input,
                Err(error) => return (attempt, Err(Refusal::new(RefusalCode::BadInput, error.to_string()))),
            };
            let resources = Some(ctx.steward.broker(service, ctx.local) as Arc<dyn msm_sandbox::Resources>);
            let call = Call { package, client: ctx.local, op, params, input, budget, resources };
            (attempt, ctx.sandbox.call(call).await.map(|output| output.bytes))
        });
        self.local_handles.insert(attempt, handle);
    }

    fn cancel(&mut self, worker: Worker, attempt: AttemptRef) {
        match worker {
            Worker::Local => {
                if let Some(handle) = self.local_handles.remove(&attempt) {
                    handle.abort();
                }
            }
            Worker::Remote(peer) => {
                if let Some(remote) = self.remotes.get(&peer) {
                    let _ = remote.try_send(ToRemote::Cancel(attempt));
                }
            }
        }
    }

    async fn accepted(&mut self, worker: Worker, attempt: AttemptRef, output: OutputId) {
        if let Some(bytes) = self.kept.remove(&attempt).or_else(|| self.arrived.take()) {
            let bytes = self.keep_output(worker, attempt.task, output, bytes).await;
            if let Some(place) = self.outputs.get_mut(attempt.task as usize) {
                *place = Some(bytes);
            }
            self.hash_on().await;
        }
        let peer_id = self.peer_of(worker);
        self.record.report.tasks_done += 1;
        self.record.progress();
        if let Some(device) = self.record.report.devices.iter_mut().find(|device| device.peer_id == peer_id) {
            device.tasks += 1;
        }
        self.done_by(peer_id, attempt);
    }

    /// Hashes outputs of which all before have arrived: at the end little is left of that.
    async fn hash_on(&mut self) {
        let Some(prefix) = &mut self.prefix else { return };
        // What cannot be read now is told when the result is read.
        if let Err(error) = prefix.follow(&self.outputs).await {
            tracing::warn!(%error, "an output cannot be read back");
            self.prefix = None;
        }
    }

    /// A liar's output is thrown away; the task is done again.
    fn withdrawn(&mut self, task: u32, worker: Worker) {
        let peer_id = self.peer_of(worker);
        if let Some(place) = self.outputs.get_mut(task as usize) {
            *place = None;
        }
        if let Some(prefix) = &mut self.prefix {
            prefix.without(task);
        }
        self.record.report.tasks_done = self.record.report.tasks_done.saturating_sub(1);
        self.record.report.checks.withdrawn += 1;
        if let Some(device) = self.record.report.devices.iter_mut().find(|device| device.peer_id == peer_id) {
            device.tasks = device.tasks.saturating_sub(1);
        }
        self.record.progress();
        self.tell_withdrawn(task, peer_id);
    }
}
