//! The driver of one running job: feeds the scheduler with what happens and carries out what it decides.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use msm_protocol::{
    ContentHash, PeerId, Refusal, RefusalCode,
    job::{AttemptRef, TaskOp},
    limits::{CREDIT_MAX, LEASE_MIN},
};
use msm_sandbox::{Package, Work};
use msm_scheduler::{Candidate, Input, JobConfig, JobState, Redundancy, Worker};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use super::{
    Invocation, Record, Round,
    again::Attempts,
    ask::Resolved,
    believe::{Beliefs, of_wish},
    error_of,
    hiring::Hiring,
    in_a_row,
    prefix::Prefix,
    remote::{self, FromRemote, Terms, ToRemote},
    tell::told_apart,
    tile::Core,
};
use crate::{
    blob::Blob,
    command::{self, CommandError, ErrorCode, Event, OnLoss},
    node::{
        context::Context,
        journal::Journal,
        lanes::{Delivery, JobTerms, LaneKey},
    },
};

/// Commands that may wait for one worker's stream: its credit, and a cancel for each.
const COMMANDS: usize = 4 * CREDIT_MAX as usize;
/// Notes kept of what went wrong in one job.
pub(super) const NOTES: usize = 64;
/// Missing tasks of a partial result that are told by number. *Judgement.*
const MISSING_TOLD: usize = 32;
/// Reports of all streams that may wait for the driver.
const REPORTS: usize = 64;

impl Invocation {
    /// Runs all tasks of a round; returns their outputs in order.
    pub(super) async fn drive(
        &mut self,
        resolved: &Resolved,
        hiring: &mut Hiring,
        round: Round,
    ) -> Result<Vec<Blob>, CommandError> {
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
        let offer = self.offer(resolved, op);
        let job = JobTerms {
            job: self.record.report.job_id,
            tasks: count,
            params: resolved.params.clone(),
            output_limit: resolved.installed.budget().output,
        };
        let terms = Arc::new(Terms { key: LaneKey::of(&offer), offer, job });
        let (reports, receiver) = mpsc::channel(REPORTS);
        // Requesters that were refused together must not come back together.
        let seed = u64::from_le_bytes(self.record.report.job_id.random());
        let package = Arc::new(resolved.installed.package(&resolved.params));
        let follows = op == TaskOp::Run && in_a_row(package.work);
        let mut driver = Driver {
            ctx: self.ctx.clone(),
            record: &mut self.record,
            state: JobState::new(
                JobConfig {
                    tasks,
                    weights: inputs.iter().map(Blob::len).collect(),
                    on_loss: match self.invoke.on_loss {
                        OnLoss::Remote => msm_scheduler::OnLoss::Remote,
                        OnLoss::Local => msm_scheduler::OnLoss::Local,
                        OnLoss::Partial => msm_scheduler::OnLoss::Partial,
                    },
                    credit: CREDIT_MAX,
                    lease: LEASE_MIN,
                    seed,
                    // A split asks what no other device may be able to say again.
                    redundancy: if op == TaskOp::Run { of_wish(resolved.redundancy) } else { Redundancy::None },
                },
                Duration::ZERO,
            ),
            started: Instant::now(),
            package,
            resolved,
            op,
            count,
            hashes: vec![None; inputs.len()],
            outputs: vec![None; inputs.len()],
            attempts: Attempts::default(),
            inputs,
            remotes: HashMap::new(),
            names: told_apart(&self.ctx, hiring.found()),
            streams: JoinSet::new(),
            locals: JoinSet::new(),
            local_handles: HashMap::new(),
            arrived: None,
            delivery: None,
            kept: HashMap::new(),
            beliefs: Beliefs::default(),
            refusals: Vec::new(),
            expected: 0,
            links: hiring.found().iter().filter_map(|it| Some((it.candidate.peer, link_of(&it.candidate)?))).collect(),
            hiring,
            prefix: Some(&mut self.prefix).filter(|_| follows),
            in_doubt: false,
            terms,
            reports,
            journal: self.journal.clone().filter(|_| op == TaskOp::Run),
            broken: None,
        };
        if let (TaskOp::Run, Some(restored)) = (op, self.restored.take()) {
            driver.restore(restored.outputs);
        }
        if driver.hiring.is_here() {
            driver.work_here();
        }
        for peer in driver.hiring.start(driver.started) {
            driver.hire(peer);
        }
        driver.run(receiver).await
    }
}

/// What the scheduler is told of the way to a device, and of the device, when it joins.
fn link_of(candidate: &Candidate) -> Option<(Duration, u32)> {
    Some((candidate.rtt?, candidate.info.ext.slots.into()))
}

/// How a job ended.
pub(super) enum End {
    Done,
    Partial(Vec<u32>),
    Failed(Refusal),
    /// By this device's own fault.
    Broken(CommandError),
}

/// How an attempt on this device ended.
pub(super) type LocalResult = (AttemptRef, Result<Bytes, Refusal>);

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
    pub(super) inputs: Vec<Blob>,
    /// Hashes of inputs that were sent to somebody.
    pub(super) hashes: Vec<Option<ContentHash>>,
    pub(super) outputs: Vec<Option<Blob>>,
    pub(super) attempts: Attempts,
    pub(super) remotes: HashMap<PeerId, mpsc::Sender<ToRemote>>,
    pub(super) names: HashMap<PeerId, String>,
    // Dropping these ends every stream and kills every local child.
    pub(super) streams: JoinSet<()>,
    pub(super) locals: JoinSet<LocalResult>,
    pub(super) local_handles: HashMap<AttemptRef, AbortHandle>,
    /// Bytes of the result that the scheduler is being told about.
    pub(super) arrived: Option<Blob>,
    /// Their share of the memory for outputs that were not kept yet: the lane reads on when it is free.
    pub(super) delivery: Delivery,
    /// Bytes of answers that the scheduler has not decided about: at most a few for each task in question.
    pub(super) kept: HashMap<AttemptRef, Blob>,
    /// Receipts, and whom they convict.
    pub(super) beliefs: Beliefs,
    pub(super) refusals: Vec<(PeerId, Refusal)>,
    /// Devices that may still join, as the scheduler knows it.
    pub(super) expected: u32,
    /// Round trips and slots of the devices that were found.
    pub(super) links: HashMap<PeerId, (Duration, u32)>,
    /// Who is hired, and when.
    pub(super) hiring: &'a mut Hiring,
    /// Of the outputs, where the result is those one after the other.
    pub(super) prefix: Option<&'a mut Prefix>,
    /// The one device that works on the job failed a task: another one has to say so too, or to do better.
    pub(super) in_doubt: bool,
    /// What every worker is offered.
    pub(super) terms: Arc<Terms>,
    /// For the streams of those that are hired later.
    pub(super) reports: mpsc::Sender<FromRemote>,
    /// Where what is done is kept, if it is.
    pub(super) journal: Option<Journal>,
    /// The journal was lost, and the job cannot do without it.
    pub(super) broken: Option<CommandError>,
}

impl Driver<'_> {
    pub(super) fn hire(&mut self, peer: PeerId) {
        if self.ctx.trust.is_struck(&peer) {
            return self.hiring.refused(&peer);
        }
        // Whatever chose it: this is where the input would leave.
        if self.resolved.installed.manifest.work.private && !self.ctx.is_own(&peer) {
            tracing::error!(peer = peer.short(), "a private service is not given to a foreign device");
            return self.hiring.refused(&peer);
        }
        if let Some(newcomer) = self.hiring.found().iter().find(|found| found.candidate.peer == peer) {
            let taken = self.names.iter().any(|(other, name)| *other != peer && *name == newcomer.name);
            let name = if taken { format!("{} ({})", newcomer.name, peer.short()) } else { newcomer.name.clone() };
            self.names.entry(peer).or_insert(name);
            if let Some(link) = link_of(&newcomer.candidate) {
                self.links.entry(peer).or_insert(link);
            }
        }
        let (commands, receiver) = mpsc::channel(COMMANDS);
        self.remotes.insert(peer, commands);
        self.streams.spawn(remote::run(self.ctx.clone(), peer, self.terms.clone(), receiver, self.reports.clone()));
    }

    /// Asks the next best device that fits; false when there is none.
    pub(super) fn hire_spare(&mut self) -> bool {
        while let Some(peer) = self.hiring.spare() {
            self.hire(peer);
            // Who was struck out meanwhile is not hired.
            if self.remotes.contains_key(&peer) {
                return true;
            }
        }
        false
    }

    /// Has another device do what one could not.
    pub(super) fn second_opinion(&mut self) {
        if self.in_doubt && self.hire_spare() {
            self.in_doubt = false;
        }
    }

    fn work_here(&mut self) {
        self.joined(Worker::Local, Some(self.resolved.installed.engine));
        let credit = self.ctx.own_slot_count as u32;
        self.handle(Input::WorkerReady { worker: Worker::Local, credit, trust: self.trust_of(Worker::Local) });
    }

    async fn run(mut self, mut reports: mpsc::Receiver<FromRemote>) -> Result<Vec<Blob>, CommandError> {
        self.record.progress();
        let mut markets = self.ctx.markets.subscribe();
        let mut strikes = self.ctx.trust.strikes();
        let end = loop {
            self.second_opinion();
            self.expect();
            let end = self.carry_out().await;
            // What arrived is kept by now, or thrown away.
            self.delivery = None;
            self.settle().await;
            if let Some(end) = end {
                break end;
            }
            if self.remotes.is_empty() && self.no_local() && !self.hire_spare() && !self.hiring.may_find() {
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
                Ok(()) = strikes.changed() => self.heed_strikes(),
                hired = self.hiring.next() => hired.into_iter().for_each(|peer| self.hire(peer)),
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
        if self.record.report.checks.compared > 0 {
            self.ctx.trust.save_soon();
        }
        match end {
            End::Done => {}
            End::Partial(missing) => {
                self.record.report.state = command::JobState::Partial;
                let first: Vec<String> = missing.iter().take(MISSING_TOLD).map(u32::to_string).collect();
                let more = if missing.len() > first.len() { ", …" } else { "" };
                let tasks = self.record.report.tasks;
                let note = format!("{} of {tasks} tasks are missing: {}{more}", missing.len(), first.join(", "));
                self.note(note);
            }
            End::Failed(refusal) => return Err(error_of(&refusal)),
            End::Broken(error) => return Err(error),
        }
        self.fill_gaps().await
    }

    /// The outputs in order. Where a task has none (a partial result) a picture gets transparent rows of the same size,
    /// pieces of bytes, lines and arrays are left out, and a service's own merge is not asked to guess.
    async fn fill_gaps(self) -> Result<Vec<Blob>, CommandError> {
        let mut parts = Vec::with_capacity(self.outputs.len());
        for (input, output) in self.inputs.iter().zip(self.outputs) {
            match (output, self.package.work) {
                (Some(output), _) => parts.push(output),
                (None, Work::ImageRows { .. }) => {
                    let core = Core::of_input(input).await;
                    parts.extend(core.map(|core| core.blank().into()));
                }
                (None, Work::Bytes { .. } | Work::Lines { .. } | Work::JsonArray) => {}
                (None, _) => {
                    let message = "the job is incomplete, and this service's result cannot be put together from parts";
                    return Err(CommandError::new(ErrorCode::Failed, message).or_try("msm jobs"));
                }
            }
        }
        Ok(parts)
    }

    pub(super) fn no_local(&self) -> bool {
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

    /// Tells the scheduler how many devices may still join: one stranger's word that the service itself fails ends the
    /// job only where nobody else can be asked.
    fn expect(&mut self) {
        let joined = |peer: &PeerId| {
            self.record.report.devices.iter().any(|device| device.peer_id == *peer && device.lost.is_none())
        };
        let asked = self.remotes.keys().filter(|peer| !joined(peer)).count();
        let workers = (asked + self.hiring.spares()) as u32;
        if std::mem::replace(&mut self.expected, workers) != workers {
            self.handle(Input::Expected { workers });
        }
    }

    pub(super) fn handle(&mut self, input: Input) {
        self.hiring.heard(&input);
        self.state.handle(input, self.started.elapsed());
    }
}
