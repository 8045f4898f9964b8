//! One invocation from its name to its output: resolve, discover, split, run, merge.

pub use discover::settle;
pub(crate) use split::{frame, inputs_of};

mod again;
mod ask;
mod believe;
mod carry;
mod choose;
mod discover;
mod drive;
mod hear;
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
    ContentHash, JobId, Refusal, RefusalCode,
    job::{Offer, TaskOp},
    limits::{GUEST_MEMORY, JOB_INPUT_BYTES, TASK_TIME_MAX},
};
use msm_sandbox::{Budget, Call, Op, Work};

use self::{ask::Resolved, record::Record, split::unread};
use super::{context::Context, packages::Installed};
use crate::{
    blob::Blob,
    body::Body,
    command::{CommandError, ErrorCode, Event, Invoke, JobReport, JobState, Plan, Reply, Request, Reruns, Response},
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
    let deadline = invoke.deadline_ms.map(Duration::from_millis);
    let job = Invocation::new(ctx.clone(), job_id, invoke, request.input);
    let result = match deadline {
        Some(limit) => match tokio::time::timeout(limit, job.run()).await {
            Ok(result) => result,
            Err(_) => {
                let message = format!("deadline: the job did not end within {} ms", limit.as_millis());
                Err(CommandError::new(ErrorCode::Deadline, message))
            }
        },
        None => job.run().await,
    };
    if let Err(error) = &result {
        ctx.emit(Event::JobFailed { job_id, error: error.message.clone() });
    }
    result
}

/// A name for a new job.
pub fn random_job_id() -> Result<JobId, CommandError> {
    let mut bytes = [0; 16];
    let failed = |e| CommandError::new(ErrorCode::Failed, format!("no random numbers: {e}"));
    getrandom::fill(&mut bytes).map_err(failed)?;
    Ok(JobId::from_bytes(bytes))
}

/// An invocation on its way.
struct Invocation {
    ctx: Arc<Context>,
    invoke: Invoke,
    input: Blob,
    phase: Instant,
    record: Record,
}

impl Invocation {
    fn new(ctx: Arc<Context>, job_id: JobId, invoke: Invoke, input: Blob) -> Self {
        let report = JobReport {
            job_id,
            service: invoke.service.clone(),
            state: JobState::Running,
            tasks: 0,
            tasks_done: 0,
            tasks_rerun: 0,
            reruns: Reruns::default(),
            devices: Vec::new(),
            wall_ms: 0.0,
            output_bytes: 0,
            output_sha256: String::new(),
            phases_ms: Vec::new(),
            error: None,
            notes: Vec::new(),
            checks: Default::default(),
        };
        let record = Record { ctx: ctx.clone(), report, started: Instant::now(), told: None, silent: invoke.plan };
        Self { ctx, invoke, input, phase: Instant::now(), record }
    }

    async fn run(mut self) -> Result<Response, CommandError> {
        let result = self.steps().await;
        if let Err(error) = &result {
            self.record.report.state = JobState::Failed;
            self.record.report.error = Some(error.message.clone());
        }
        self.record.tell();
        match result? {
            Steps::Planned(plan) => Ok(Reply::Plan(plan).into()),
            Steps::Done(output) => {
                let report = self.record.report.clone();
                self.ctx.emit(Event::JobDone { job_id: report.job_id, wall_ms: report.wall_ms });
                Ok(Response { reply: Reply::Job(Box::new(report)), output: Body::of_pieces(output) })
            }
        }
    }

    async fn steps(&mut self) -> Result<Steps, CommandError> {
        self.begin("resolve");
        let resolved = self.resolve().await?;
        self.end("resolve");
        self.begin("discover");
        let own = self.ctx.device();
        let found = if self.invoke.local { Vec::new() } else { discover::candidates(&self.ctx, &resolved.need).await };
        self.end("discover");

        let most = (found.len() as u32 + 1).min(resolved.wish.max).max(1);
        let want = msm_scheduler::plan::tasks(most, self.input.len());
        let remote = resolved.installed.manifest.work.remote;
        if remote && self.invoke.plan {
            // Cutting the input would do half of the job.
            let selection = self.select(&resolved, &own, &found, resolved.wish, want, self.input.len());
            return Ok(Steps::Planned(self.plan(&resolved, &selection, &found, want)));
        }
        self.begin("split");
        let inputs = match remote {
            true => self.split_elsewhere(&resolved, &own, &found, want).await?,
            false => self.split_here(&resolved, want).await?,
        };
        self.end("split");
        let bytes = inputs.iter().map(Blob::len).sum();
        let selection = self.select(&resolved, &own, &found, resolved.wish, inputs.len() as u32, bytes);
        if self.invoke.plan {
            return Ok(Steps::Planned(self.plan(&resolved, &selection, &found, inputs.len() as u32)));
        }
        self.enough_devices(&resolved, &selection, &found)?;
        self.enough_votes(resolved.redundancy, &selection)?;
        self.record.report.checks.redundancy = resolved.redundancy.to_string();
        self.own_receiver(&resolved, &selection);
        if selection.count < resolved.wish.min {
            let note = format!(
                "{} devices asked for, {} used: msm invoke … --plan says why",
                resolved.wish.min, selection.count
            );
            self.record.report.notes.push(note);
        }

        self.begin("run");
        let round = Round { op: TaskOp::Run, count: inputs.len() as u32, inputs };
        let outputs = match self.drive(&resolved, &selection, &found, round).await {
            Err(error) if error.code == ErrorCode::NotAllowed => return Err(self.or_grant(&resolved, error)),
            other => other?,
        };
        self.end("run");
        self.begin("merge");
        let output = self.merge(&resolved, outputs).await?;
        self.end("merge");
        if self.record.report.state == JobState::Running {
            self.record.report.state = JobState::Done;
        }
        self.record.report.output_bytes = output.iter().map(Blob::len).sum();
        self.record.report.output_sha256 = HEXLOWER.encode(hash_of(&output).await.map_err(unread)?.as_bytes());
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
    async fn merge(&self, resolved: &Resolved, outputs: Vec<Blob>) -> Result<Vec<Blob>, CommandError> {
        if let Work::Whole | Work::Bytes { .. } | Work::Lines { .. } = resolved.installed.package(&resolved.params).work
        {
            return Ok(outputs);
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
        Ok(vec![self.call_here(resolved, Op::Merge, split::frame(&parts)).await?.into()])
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
    Done(Vec<Blob>),
}

/// The hash of these bytes one after the other.
async fn hash_of(pieces: &[Blob]) -> std::io::Result<ContentHash> {
    let mut hasher = msm_protocol::hash::Hasher::default();
    let mut body = Body::of_pieces(pieces.iter().cloned());
    while let Some(bytes) = body.next().await? {
        hasher.update(&bytes);
    }
    Ok(hasher.finish())
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
        _ => ErrorCode::Failed,
    };
    let error = CommandError::new(code, refusal.to_string());
    match code {
        ErrorCode::NoNode => error.or_try("msm peers"),
        _ => error,
    }
}
