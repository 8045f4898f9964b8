//! One invocation from its name to its output: resolve, discover, split, run, merge.

pub use discover::settle;
pub use later::{cancel, remember, resume, resume_all, taken, wait};
pub(crate) use split::{frame, inputs_of};

mod again;
mod ask;
mod believe;
mod carry;
mod choose;
mod discover;
mod drive;
mod hear;
mod hiring;
mod keep;
mod later;
mod prefix;
mod quick;
mod record;
mod remote;
mod split;
mod tell;
mod tile;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use msm_protocol::{
    JobId, Refusal, RefusalCode,
    job::{Offer, TaskOp},
    limits::{GUEST_MEMORY, JOB_INPUT_BYTES, TASK_TIME_MAX},
};
use msm_sandbox::{Budget, Call, Op, Work};
use msm_scheduler::job::UNDECIDED;

use self::{
    ask::Resolved,
    choose::{Around, Cut},
    hiring::Hiring,
    keep::Restored,
    prefix::Prefix,
    record::Record,
    split::unread,
};
use super::{
    context::Context,
    journal::{self, Journal, record::Ended, table::Fate},
    packages::Installed,
};
use crate::{
    blob::Blob,
    body::Body,
    command::{CommandError, ErrorCode, Event, Invoke, JobState, Plan, Reply, Request, Response},
};

/// Bytes that a split or a merge in a sandbox may hold. *Judgement*: a decoded photo is some times larger than the photo.
const MERGED_BYTES: u64 = 4 * JOB_INPUT_BYTES;

/// Carries out an invocation.
pub async fn invoke(
    ctx: Arc<Context>,
    job_id: JobId,
    request: Request,
    invoke: Invoke,
) -> Result<Response, CommandError> {
    let taken = || CommandError::new(ErrorCode::Failed, format!("job {} runs already", job_id.short()));
    let place = ctx.jobs.enter(job_id, invoke.detach).ok_or_else(taken)?;
    if invoke.detach && !invoke.plan {
        return later::detach(ctx, place, job_id, request, invoke).await;
    }
    let job = Invocation::new(ctx.clone(), job_id, invoke, request.input, place.fate.clone());
    let result = bounded(job, &place.fate).await;
    if let Err(error) = &result {
        ctx.emit(Event::JobFailed { job_id, error: error.message.clone() });
    }
    result
}

/// Runs a job until it ends, its time is over, or somebody says that it is to end.
async fn bounded(job: Invocation, fate: &Fate) -> Result<Response, CommandError> {
    let limit = job.invoke.deadline_ms.map(Duration::from_millis);
    // Said before the job is dropped, which happens before the arms below.
    let deadline = async {
        let Some(limit) = limit else { return std::future::pending().await };
        tokio::time::sleep(limit).await;
        let message = format!("deadline: the job did not end within {} ms", limit.as_millis());
        fate.seal(JobState::Failed, message.clone());
        message
    };
    tokio::select! {
        result = job.run() => result,
        () = fate.sealed() => {
            let why = fate.why().map_or("cancelled", |(_, why)| why);
            Err(CommandError::new(ErrorCode::Failed, why))
        }
        message = deadline => Err(CommandError::new(ErrorCode::Deadline, message)),
    }
}

/// A name for a new job.
pub fn random_job_id() -> Result<JobId, CommandError> {
    let mut bytes = [0; 16];
    let failed = |e| CommandError::new(ErrorCode::Failed, format!("no random numbers: {e}"));
    getrandom::fill(&mut bytes).map_err(failed)?;
    Ok(JobId::from_bytes(bytes))
}

/// A number from 0 to 1 that nobody can foresee; 0 where there are no random numbers.
fn random_share() -> f64 {
    let mut bytes = [0; 4];
    let known = getrandom::fill(&mut bytes).is_ok();
    if known { f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX) } else { 0.0 }
}

/// An invocation on its way.
struct Invocation {
    ctx: Arc<Context>,
    invoke: Invoke,
    input: Blob,
    phase: Instant,
    record: Record,
    /// Where what is done is kept, if it is.
    journal: Option<Journal>,
    /// What an earlier run of the node left of this job.
    restored: Option<Restored>,
    /// Of the outputs, where the result is those one after the other.
    prefix: Prefix,
}

impl Invocation {
    fn new(ctx: Arc<Context>, job_id: JobId, invoke: Invoke, input: Blob, fate: Arc<Fate>) -> Self {
        let report = later::report(job_id, &invoke.service);
        let record = Record {
            ctx: ctx.clone(),
            report,
            started: Instant::now(),
            told: None,
            silent: invoke.plan,
            detached: false,
            fate,
        };
        Self {
            ctx,
            invoke,
            input,
            phase: Instant::now(),
            record,
            journal: None,
            restored: None,
            prefix: Prefix::default(),
        }
    }

    /// Nobody waits for it at its door: what becomes of it is kept.
    fn be_detached(&mut self, journal: Journal) {
        (self.journal, self.record.detached) = (Some(journal), true);
    }

    async fn run(mut self) -> Result<Response, CommandError> {
        let result = self.steps().await;
        if let Err(error) = &result {
            let waits = self.record.detached && keep::may_go_on(error);
            self.record.report.state = if waits { JobState::Interrupted } else { JobState::Failed };
            self.record.report.error = Some(error.message.clone());
            self.record.tell();
        }
        match result? {
            Steps::Planned(plan) => {
                self.record.tell();
                Ok(Reply::Plan(plan).into())
            }
            Steps::Done(output) => {
                let body = self.hand_over(output).await?;
                self.record.tell();
                let report = self.record.report.clone();
                self.ctx.emit(Event::JobDone { job_id: report.job_id, wall_ms: report.wall_ms });
                Ok(Response { reply: Reply::Job(Box::new(report)), output: body })
            }
        }
    }

    /// The output on its way to whoever waits for it, or into the journal until somebody asks.
    async fn hand_over(&mut self, output: Merged) -> Result<Body, CommandError> {
        let (pieces, outputs) = match output {
            Merged::Outputs(pieces) => (pieces, true),
            Merged::Whole(bytes) => (vec![bytes], false),
        };
        let Some(journal) = self.journal.take() else { return Ok(Body::of_pieces(pieces)) };
        if !self.record.detached {
            if let Some(why) = journal.broken() {
                self.record.report.notes.push(format!("this job could not go on after a crash: {why}"));
            }
            // Its folder goes when the bytes have been read from it.
            return Ok(Body::of_pieces(pieces).keeping(journal.folder()));
        }
        self.record.wall();
        let report = self.record.report.clone();
        let ended = Ended { at: journal::now(), report, error: None, pieces: None, result: None };
        let result = if outputs { journal::Result::Outputs } else { journal::Result::Bytes(pieces) };
        journal.end(ended, result).await.map_err(|error| {
            let error = keep::unkept(&error);
            self.record.report.state = JobState::Failed;
            self.record.report.error = Some(error.message.clone());
            self.record.tell();
            error
        })?;
        Ok(Body::default())
    }

    async fn steps(&mut self) -> Result<Steps, CommandError> {
        self.begin("resolve");
        let resolved = self.resolve().await?;
        self.end("resolve");
        if self.invoke.remote_only {
            self.phase = Instant::now();
            if let Some(output) = self.quick(&resolved).await {
                self.end("call");
                return Ok(Steps::Done(Merged::Whole(output)));
            }
        }
        self.begin("discover");
        let own = self.ctx.device();
        let around = self.discover(&resolved, &own).await;
        self.end("discover");

        let aim = self.aim(&resolved, &own, &around);
        let Around { found, asks, .. } = around;
        let remote = resolved.installed.manifest.work.remote;
        if remote && self.invoke.plan {
            // Cutting the input would do half of the job.
            let selection = self.choice(&resolved, &own, choose::wanted(&resolved), Cut::Into(aim.want)).select(&found);
            return Ok(Steps::Planned(self.plan(&resolved, &selection, &found, aim.want)));
        }
        self.begin("split");
        let inputs = match self.restored_parts() {
            Some(parts) => parts,
            None if remote => self.split_elsewhere(&resolved, &own, &found, aim.want).await?,
            None => self.split_here(&resolved, aim).await?,
        };
        self.end("split");
        let choice = self.choice(&resolved, &own, choose::wanted(&resolved), Cut::Parts(&inputs));
        let selection = choice.select(&found);
        if self.invoke.plan {
            return Ok(Steps::Planned(self.plan(&resolved, &selection, &found, inputs.len() as u32)));
        }
        self.enough_devices(&resolved, &selection, &found)?;
        self.enough_votes(resolved.redundancy, &selection)?;
        self.record.report.checks.redundancy = resolved.redundancy.to_string();
        self.own_receiver(&resolved, &selection);
        self.predict(&selection);
        let inputs = self.keep(&resolved, inputs).await?;
        self.begin("run");
        let lengths: Vec<u64> = inputs.iter().map(Blob::len).collect();
        let bytes = lengths.iter().sum();
        let mut hiring = Hiring::new(&self.ctx, choice, &selection, &found, lengths, asks);
        let round = Round { op: TaskOp::Run, count: inputs.len() as u32, inputs };
        let outputs = match self.drive(&resolved, &mut hiring, round).await {
            Err(error) if error.code == ErrorCode::NotAllowed => return Err(self.or_grant(&resolved, error)),
            other => other?,
        };
        self.end("run");
        // Some may have come while it ran.
        let (asked, used) = (resolved.wish.min, self.record.report.devices.len());
        if used < asked as usize {
            let note = format!("{asked} devices asked for, {used} used: msm invoke … --plan says why");
            self.record.report.notes.push(note);
        }
        if !hiring.hired_any() {
            self.stayed(&resolved, &selection);
        }
        let (shown, returned) = (hiring.shown(), outputs.iter().map(Blob::len).sum());
        drop(hiring);
        self.begin("merge");
        let output = self.merge(&resolved, outputs).await?;
        self.end("merge");
        self.learn(&resolved, &shown, bytes, returned);
        if self.record.is_running() {
            self.record.report.state = JobState::Done;
        } else if self.invoke.strict {
            let message = "the result is partial, which --strict does not allow";
            return Err(CommandError::new(ErrorCode::Failed, message));
        }
        let pieces = output.pieces();
        let hash = std::mem::take(&mut self.prefix).finish(pieces).await.map_err(unread)?;
        self.record.report.output_bytes = pieces.iter().map(Blob::len).sum();
        self.record.report.output_sha256 = HEXLOWER.encode(hash.as_bytes());
        Ok(Steps::Done(output))
    }

    fn begin(&mut self, phase: &str) {
        self.phase = Instant::now();
        self.ctx.emit(Event::Phase { job_id: self.record.report.job_id, name: phase.to_owned() });
    }

    fn end(&mut self, phase: &str) {
        self.record.report.phases_ms.push((phase.to_owned(), millis(self.phase.elapsed())));
    }

    /// Puts the outputs together: where that is one after the other, nothing is copied and nothing held; otherwise in a
    /// sandbox, which has to hold them.
    async fn merge(&self, resolved: &Resolved, outputs: Vec<Blob>) -> Result<Merged, CommandError> {
        if in_a_row(resolved.installed.package(&resolved.params).work) {
            return Ok(Merged::Outputs(outputs));
        }
        let bytes: u64 = outputs.iter().map(Blob::len).sum();
        if bytes > MERGED_BYTES {
            let message = format!("output-too-large: {bytes} bytes of results, at most {MERGED_BYTES} can be merged");
            return Err(CommandError::new(ErrorCode::ServiceFailed, message));
        }
        let mut parts = Vec::with_capacity(outputs.len());
        for output in &outputs {
            parts.push(output.whole().await.map_err(unread)?);
        }
        Ok(Merged::Whole(self.call_here(resolved, Op::Merge, split::frame(&parts)).await?.into()))
    }

    /// Runs a whole-job step on this device. It handles all of the input, so its budget is the job's, not a task's.
    async fn call_here(&self, resolved: &Resolved, op: Op, input: Bytes) -> Result<Bytes, CommandError> {
        let memory = resolved.installed.budget().memory.max(GUEST_MEMORY);
        let budget = Budget { memory: memory.max(MERGED_BYTES), time: TASK_TIME_MAX, output: MERGED_BYTES };
        let call = Call {
            package: Arc::new(resolved.installed.package(&resolved.params)),
            client: self.ctx.local,
            op,
            params: resolved.params.clone(),
            input,
            budget,
            resources: Some(self.ctx.steward.broker(resolved.service.clone(), self.ctx.local)),
        };
        self.ctx.sandbox.call(call).await.map(|output| output.bytes).map_err(|refusal| error_of(&refusal))
    }

    fn offer(&self, resolved: &Resolved, op: TaskOp) -> Offer {
        let Installed { manifest, engine, .. } = &*resolved.installed;
        // Variants that give the same bytes may be mixed; others must not be, nor when the caller has chosen.
        let free = manifest.work.deterministic && self.invoke.engine.is_none();
        Offer {
            v: 1,
            op,
            name: manifest.name.clone(),
            need: resolved.need.clone(),
            engine: (!free).then_some(*engine),
            market: resolved.market,
            version: resolved.index_version,
            manifest: resolved.release.manifest,
        }
    }
}

/// Tasks that are driven together.
struct Round {
    /// What each does.
    op: TaskOp,
    /// What each gets.
    inputs: Vec<Blob>,
    /// The number that each is told: of tasks, or of those wished for.
    count: u32,
}

enum Steps {
    Planned(Plan),
    Done(Merged),
}

/// A job's output.
enum Merged {
    /// The tasks' outputs one after the other.
    Outputs(Vec<Blob>),
    /// What a merge made of them.
    Whole(Blob),
}

impl Merged {
    fn pieces(&self) -> &[Blob] {
        match self {
            Self::Outputs(pieces) => pieces,
            Self::Whole(bytes) => std::slice::from_ref(bytes),
        }
    }
}

/// Whether the result of such work is its tasks' outputs one after the other.
fn in_a_row(work: Work) -> bool {
    matches!(work, Work::Whole | Work::Bytes { .. } | Work::Lines { .. })
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// A refusal as the caller sees it.
pub fn error_of(refusal: &Refusal) -> CommandError {
    let code = match refusal.code {
        RefusalCode::ServiceFailed
        | RefusalCode::OutOfMemory
        | RefusalCode::OutputTooLarge
        | RefusalCode::TaskCrashed => ErrorCode::ServiceFailed,
        RefusalCode::BadInput => ErrorCode::Usage,
        RefusalCode::Deadline => ErrorCode::Deadline,
        RefusalCode::BadPackage | RefusalCode::Revoked | RefusalCode::StaleMarket => ErrorCode::Verification,
        RefusalCode::UnknownPackage => ErrorCode::NotFound,
        RefusalCode::Unavailable => ErrorCode::NoNode,
        RefusalCode::UntrustedMarket | RefusalCode::Denied | RefusalCode::NotLending => ErrorCode::NotAllowed,
        RefusalCode::Constraint | RefusalCode::Busy => ErrorCode::NoDevice,
        // Outputs that contradict each other, or too few to be believed.
        RefusalCode::Other if refusal.reason.starts_with(UNDECIDED) => ErrorCode::Verification,
        _ => ErrorCode::Failed,
    };
    let error = CommandError::new(code, refusal.to_string());
    match code {
        ErrorCode::NoNode => error.or_try("msm peers"),
        _ => error,
    }
}
