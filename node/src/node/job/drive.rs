//! The driver of one running job: feeds the scheduler with what happens and carries out what it decides.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use msm_protocol::{
    ContentHash, PeerId, Refusal, RefusalCode,
    job::{AttemptRef, TaskOp},
    limits::{CREDIT, LEASE_MIN},
};
use msm_sandbox::{Call, Package, Work};
use msm_scheduler::{Input, JobConfig, JobState, Output, OutputId, Redundancy, Selection, Trust, Worker};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use super::{
    Invocation, Record, Round,
    again::Attempts,
    ask::Resolved,
    discover, error_of,
    remote::{self, FromRemote, Terms, ToRemote},
    tell::told_apart,
    tile::Core,
};
use crate::{
    command::{self, CommandError, ErrorCode, Event, OnLoss},
    node::{context::Context, fetch::BAN, packages},
};

/// Commands that may wait for one worker's stream: its credit, and a cancel for each.
const COMMANDS: usize = 4 * CREDIT as usize;
/// Notes kept of what went wrong in one job.
pub(super) const NOTES: usize = 64;
/// Reports of all streams that may wait for the driver.
const REPORTS: usize = 64;
/// Devices that are asked, one after the other, in place of those that refuse. *Judgement.*
const SPARES: usize = 16;

impl Invocation {
    /// Runs all tasks of a round; returns their outputs in order.
    pub(super) async fn drive(
        &mut self,
        resolved: &Resolved,
        selection: &Selection,
        found: &[discover::Found],
        round: Round,
    ) -> Result<Vec<Bytes>, CommandError> {
        let Round { op, inputs, count } = round;
        let tasks = inputs.len() as u32;
        // A report counts one round; the one before it was the split's.
        let report = &mut self.record.report;
        (report.tasks, report.tasks_done) = (tasks, 0);
        report.devices.clear();
        if op == TaskOp::Run {
            let service = self.record.report.service.clone();
            self.ctx.emit(Event::JobStarted { job_id: self.record.report.job_id, service, tasks });
        }
        let offer = self.offer(resolved, op, tasks);
        let terms = Arc::new(Terms { offer, count, output_limit: resolved.installed.budget().output });
        let (reports, receiver) = mpsc::channel(REPORTS);
        // Requesters that were refused together must not come back together.
        let seed = u64::from_le_bytes(self.record.report.job_id.random());
        let mut driver = Driver {
            ctx: self.ctx.clone(),
            record: &mut self.record,
            state: JobState::new(
                JobConfig {
                    tasks,
                    weights: inputs.iter().map(|input| input.len() as u64).collect(),
                    on_loss: match self.invoke.on_loss {
                        OnLoss::Remote => msm_scheduler::OnLoss::Remote,
                        OnLoss::Local => msm_scheduler::OnLoss::Local,
                        OnLoss::Partial => msm_scheduler::OnLoss::Partial,
                    },
                    credit: CREDIT,
                    lease: LEASE_MIN,
                    seed,
                    redundancy: Redundancy::None,
                },
                Duration::ZERO,
            ),
            started: Instant::now(),
            package: Arc::new(resolved.installed.package(&resolved.params)),
            resolved,
            op,
            count,
            hashes: vec![None; inputs.len()],
            outputs: vec![None; inputs.len()],
            attempts: Attempts::default(),
            inputs,
            remotes: HashMap::new(),
            names: told_apart(&self.ctx, found),
            streams: JoinSet::new(),
            locals: JoinSet::new(),
            local_handles: HashMap::new(),
            arrived: None,
            kept: HashMap::new(),
            refusals: Vec::new(),
            failed_on: HashMap::new(),
            spare: selection.spare.iter().copied().take(SPARES).collect(),
            terms,
            reports,
        };
        for row in selection.rows.iter().filter(|row| row.used) {
            match row.peer {
                Some(peer) => driver.hire(peer),
                None => driver.work_here(),
            }
        }
        driver.run(receiver).await
    }
}

/// How a job ended.
enum End {
    Done,
    Partial(Vec<u32>),
    Failed(Refusal),
}

type LocalResult = (AttemptRef, Result<Bytes, Refusal>);

pub(super) struct Driver<'a> {
    pub(super) ctx: Arc<Context>,
    pub(super) record: &'a mut Record,
    pub(super) state: JobState,
    pub(super) started: Instant,
    pub(super) package: Arc<Package>,
    pub(super) resolved: &'a Resolved,
    pub(super) op: TaskOp,
    /// What each task is told of their number.
    pub(super) count: u32,
    pub(super) inputs: Vec<Bytes>,
    /// Hashes of inputs that were sent to somebody.
    pub(super) hashes: Vec<Option<ContentHash>>,
    pub(super) outputs: Vec<Option<Bytes>>,
    pub(super) attempts: Attempts,
    pub(super) remotes: HashMap<PeerId, mpsc::Sender<ToRemote>>,
    pub(super) names: HashMap<PeerId, String>,
    // Dropping these ends every stream and kills every local child.
    pub(super) streams: JoinSet<()>,
    pub(super) locals: JoinSet<LocalResult>,
    pub(super) local_handles: HashMap<AttemptRef, AbortHandle>,
    /// Bytes of the result that the scheduler is being told about.
    pub(super) arrived: Option<Bytes>,
    /// Bytes of answers that the scheduler has not decided about: at most a few for each task in question.
    pub(super) kept: HashMap<AttemptRef, Bytes>,
    pub(super) refusals: Vec<(PeerId, Refusal)>,
    /// Who was the first to fail a task.
    pub(super) failed_on: HashMap<u32, PeerId>,
    /// Who is asked next when one of the chosen does not take the job.
    pub(super) spare: VecDeque<PeerId>,
    /// What every worker is offered.
    pub(super) terms: Arc<Terms>,
    /// For the streams of those that are hired later.
    pub(super) reports: mpsc::Sender<FromRemote>,
}

impl Driver<'_> {
    fn hire(&mut self, peer: PeerId) {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        self.remotes.insert(peer, commands);
        self.streams.spawn(remote::run(self.ctx.clone(), peer, self.terms.clone(), receiver, self.reports.clone()));
    }

    /// Asks the next best device that fits; false when there is none.
    fn hire_spare(&mut self) -> bool {
        let next = self.spare.pop_front();
        next.map(|peer| self.hire(peer)).is_some()
    }

    fn work_here(&mut self) {
        self.joined(Worker::Local, Some(self.resolved.installed.engine));
        let credit = self.ctx.own_slot_count as u32;
        self.handle(Input::WorkerReady { worker: Worker::Local, credit, trust: Trust::default() });
    }

    async fn run(mut self, mut reports: mpsc::Receiver<FromRemote>) -> Result<Vec<Bytes>, CommandError> {
        self.record.progress();
        let mut markets = self.ctx.markets.subscribe();
        let end = loop {
            if let Some(end) = self.carry_out() {
                break end;
            }
            if self.remotes.is_empty() && self.no_local() && !self.hire_spare() {
                break End::Failed(self.nobody());
            }
            let timeout = self.state.next_timeout();
            let alarm = async {
                match timeout {
                    Some(at) => tokio::time::sleep_until((self.started + at).into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(report) = reports.recv() => self.hear(report).await,
                Some(result) = self.locals.join_next(), if !self.locals.is_empty() => self.local_done(result),
                () = alarm => self.handle(Input::Tick),
                // A package that its market withdraws runs nowhere any more, here least of all.
                Ok(()) = markets.changed() => {
                    let vouched = self.ctx.markets.vouches(&self.resolved.market, &self.resolved.release.manifest);
                    if let Err(refusal) = vouched {
                        break End::Failed(refusal);
                    }
                }
            }
        };
        self.tally();
        match end {
            End::Done => {}
            End::Partial(missing) => {
                self.record.report.state = command::JobState::Partial;
                let note = format!("{} of {} tasks are missing: {missing:?}", missing.len(), self.record.report.tasks);
                self.note(note);
            }
            End::Failed(refusal) => return Err(error_of(&refusal)),
        }
        self.fill_gaps()
    }

    /// The outputs in order. Where a task has none (a partial result) a picture gets transparent rows of the same size,
    /// pieces of bytes, lines and arrays are left out, and a service's own merge is not asked to guess.
    fn fill_gaps(self) -> Result<Vec<Bytes>, CommandError> {
        let mut parts = Vec::with_capacity(self.outputs.len());
        for (input, output) in self.inputs.iter().zip(self.outputs) {
            match (output, self.package.work) {
                (Some(output), _) => parts.push(output),
                (None, Work::ImageRows { .. }) => parts.extend(Core::of_input(input).map(Core::blank)),
                (None, Work::Bytes { .. } | Work::Lines { .. } | Work::JsonArray) => {}
                (None, _) => {
                    let message = "the job is incomplete, and this service's result cannot be put together from parts";
                    return Err(CommandError::new(ErrorCode::Failed, message).or_try("msm jobs"));
                }
            }
        }
        Ok(parts)
    }

    fn no_local(&self) -> bool {
        !self.record.report.devices.iter().any(|device| device.local)
    }

    fn nobody(&self) -> Refusal {
        match self.refusals.first() {
            Some((peer, refusal)) => {
                Refusal::new(refusal.code, format!("no device took the job; {}: {refusal}", self.name(*peer)))
            }
            None => {
                let mut devices = self.record.report.devices.iter();
                let lost = devices.find_map(|it| Some(format!("; {}: {}", it.name, it.lost.as_deref()?)));
                Refusal::new(RefusalCode::Constraint, format!("every device was lost{}", lost.unwrap_or_default()))
            }
        }
    }

    fn handle(&mut self, input: Input) {
        self.state.handle(input, self.started.elapsed());
    }

    async fn hear(&mut self, report: FromRemote) {
        match report {
            FromRemote::Input(input, bytes) => {
                if let (Input::Result { worker: Worker::Remote(peer), attempt, .. }, Some(bytes)) = (&input, &bytes)
                    && !self.has_shape(attempt.task, bytes)
                {
                    let (peer, what) = (*peer, "an output that is not the size of its tile".to_owned());
                    return Box::pin(self.hear(FromRemote::Lied(peer, what))).await;
                }
                match &input {
                    Input::WorkerLost { worker: Worker::Remote(peer), reason } => self.leave(*peer, reason.clone()),
                    Input::Failed { worker: Worker::Remote(peer), attempt, refusal } => {
                        self.failed(*peer, *attempt, refusal);
                        // Another one has to say so too, or to do better.
                        if self.remotes.len() == 1 && self.no_local() {
                            self.hire_spare();
                        }
                    }
                    _ => {}
                }
                let input = self.weigh(input);
                self.arrived = bytes;
                self.handle(input);
            }
            FromRemote::Ready { peer, credit, engine } => {
                let worker = Worker::Remote(peer);
                self.joined(worker, engine);
                self.handle(Input::WorkerReady { worker, credit, trust: Trust::default() });
            }
            FromRemote::Refused(peer, refusal) => {
                self.remotes.remove(&peer);
                let (job_id, name, code) = (self.record.report.job_id, self.name(peer), refusal.code.to_string());
                self.note(format!("{name} did not take the job: {refusal}"));
                let reason = refusal.reason.clone();
                self.ctx.emit(Event::DeviceRefused { job_id, peer_id: peer, name, code, reason });
                self.refusals.push((peer, refusal));
                self.hire_spare();
            }
            FromRemote::Lied(peer, what) => {
                self.ctx.ban(peer, BAN, &what).await;
                self.leave(peer, what.clone());
                self.handle(Input::WorkerLost { worker: Worker::Remote(peer), reason: what });
            }
        }
    }

    /// Whether an output can be one of this task: a picture's tile has a size that nobody may change.
    fn has_shape(&self, task: u32, output: &Bytes) -> bool {
        let Work::ImageRows { .. } = self.package.work else { return true };
        let core = self.inputs.get(task as usize).and_then(Core::of_input);
        core.is_some_and(|core| core.fits(output))
    }

    /// One stranger's word that the service itself fails does not end the job: another device must say so too.
    fn weigh(&mut self, input: Input) -> Input {
        let Input::Failed { worker: Worker::Remote(peer), attempt, refusal } = &input else { return input };
        let first = *self.failed_on.entry(attempt.task).or_insert(*peer);
        // Where nobody else can be asked, his word is all there is.
        let alone = self.remotes.len() == 1 && self.no_local() && self.spare.is_empty();
        if !refusal.code.is_deterministic() || first != *peer || alone {
            return input;
        }
        let refusal = Refusal::new(RefusalCode::TaskCrashed, refusal.to_string());
        Input::Failed { worker: Worker::Remote(*peer), attempt: *attempt, refusal }
    }

    fn local_done(&mut self, result: Result<LocalResult, tokio::task::JoinError>) {
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
                self.arrived = Some(bytes);
                self.handle(Input::Result { worker, attempt, output });
            }
            Err(refusal) => {
                self.failed(self.ctx.local, attempt, &refusal);
                self.handle(Input::Failed { worker, attempt, refusal });
            }
        }
    }

    /// Carries out everything the scheduler has decided; `Some` at the end of the job.
    fn carry_out(&mut self) -> Option<End> {
        let mut end = None;
        while let Some(output) = self.state.poll_output() {
            match output {
                Output::Start { worker, attempt, why } => self.start(worker, attempt, why),
                Output::Cancel { worker, attempt } => self.cancel(worker, attempt),
                Output::Accepted { attempt, worker } => self.accepted(worker, attempt),
                Output::Kept { attempt, .. } => self.kept.extend(self.arrived.take().map(|bytes| (attempt, bytes))),
                Output::Withdrawn { task, worker } => self.withdrawn(task, worker),
                Output::Checked { task, worker, by, agrees } => {
                    self.tell_checked(task, worker, by, agrees);
                }
                Output::Struck { worker, task, by, .. } => self.struck(worker, task, by),
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

    fn start(&mut self, worker: Worker, attempt: AttemptRef, why: msm_scheduler::Why) {
        let Some(input) = self.inputs.get(attempt.task as usize).cloned() else { return };
        match worker {
            Worker::Local => self.start_here(attempt, input),
            Worker::Remote(peer) => {
                let hash = self.hash_of(attempt.task, &input);
                let sent =
                    self.remotes.get(&peer).map(|remote| remote.try_send(ToRemote::Start { attempt, input, hash }));
                if !matches!(sent, Some(Ok(()))) {
                    let reason = "its stream takes no more".to_owned();
                    self.handle(Input::WorkerLost { worker, reason });
                    return;
                }
            }
        }
        self.started_on(worker, attempt, why);
    }

    fn hash_of(&mut self, task: u32, input: &Bytes) -> ContentHash {
        match self.hashes.get_mut(task as usize) {
            Some(known) => *known.get_or_insert_with(|| ContentHash::of(input)),
            None => ContentHash::of(input),
        }
    }

    fn start_here(&mut self, attempt: AttemptRef, input: Bytes) {
        let ctx = self.ctx.clone();
        let call = Call {
            package: self.package.clone(),
            client: ctx.local,
            op: packages::operation(self.op, attempt.task, self.count),
            params: self.resolved.params.clone(),
            input,
            budget: self.resolved.installed.budget(),
            resources: Some(ctx.steward.broker(self.resolved.service.clone(), ctx.local)),
        };
        let handle = self.locals.spawn(async move {
            let _slot = ctx.own_slots.acquire().await;
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

    fn accepted(&mut self, worker: Worker, attempt: AttemptRef) {
        if let Some(place) = self.outputs.get_mut(attempt.task as usize) {
            *place = self.kept.remove(&attempt).or_else(|| self.arrived.take());
        }
        let peer_id = self.peer_of(worker);
        self.record.report.tasks_done += 1;
        self.record.progress();
        if let Some(device) = self.record.report.devices.iter_mut().find(|device| device.peer_id == peer_id) {
            device.tasks += 1;
        }
        self.done_by(peer_id, attempt);
    }

    /// A liar's output is thrown away; the task is done again.
    fn withdrawn(&mut self, task: u32, worker: Worker) {
        let peer_id = self.peer_of(worker);
        if let Some(place) = self.outputs.get_mut(task as usize) {
            *place = None;
        }
        self.record.report.tasks_done = self.record.report.tasks_done.saturating_sub(1);
        if let Some(device) = self.record.report.devices.iter_mut().find(|device| device.peer_id == peer_id) {
            device.tasks = device.tasks.saturating_sub(1);
        }
        self.record.progress();
        self.tell_withdrawn(task, peer_id);
    }

    /// Nothing more goes to a liar: its stream is closed.
    fn struck(&mut self, worker: Worker, task: u32, by: Worker) {
        let (peer_id, finder) = (self.peer_of(worker), self.name(self.peer_of(by)));
        let reason = format!("it gave a wrong result for task {task}, found by {finder}");
        self.note(format!("{} was struck out: {reason}", self.name(peer_id)));
        self.tell_struck(peer_id, task, &reason, None);
        self.leave(peer_id, reason);
    }
}
