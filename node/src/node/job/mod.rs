//! One invocation from its name to its output: resolve, discover, split, run, merge.

pub use discover::settle;

mod discover;
mod drive;
mod remote;
mod tile;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use msm_protocol::{
    ContentHash, JobId, Refusal, RefusalCode,
    device::Requirements,
    document::Release,
    job::{Offer, TaskOp},
    limits::{GUEST_MEMORY, JOB_INPUT_BYTES, TASK_BYTES, TASK_TARGET_BYTES, TASK_TIME_MAX, TASKS_PER_JOB},
    manifest::{Engine, Range},
};
use msm_sandbox::{Budget, Call, Op};
use msm_scheduler::{DeviceWish, JobShape, Row, Selection};

use super::{
    context::{Ask, Context},
    markets::Found,
    packages::{self, Installed},
};
use crate::command::{
    CommandError, Devices, ErrorCode, Event, Invoke, JobReport, JobState, Plan, PlanRow, Reply, Request, Response,
};

/// Start-up of a worker that does not have the package yet; a guess until it is measured per link. *Judgement.*
const STARTUP: Duration = Duration::from_millis(50);

/// Carries out an invocation.
pub async fn invoke(ctx: Arc<Context>, request: Request, invoke: Invoke) -> Result<Response, CommandError> {
    let deadline = invoke.deadline_ms.map(Duration::from_millis);
    let job_id = random_job_id().map_err(|e| CommandError::new(ErrorCode::Failed, e))?;
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

fn random_job_id() -> Result<JobId, String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| format!("no random numbers: {e}"))?;
    Ok(JobId::from_bytes(bytes))
}

/// An invocation on its way.
struct Invocation {
    ctx: Arc<Context>,
    invoke: Invoke,
    input: Bytes,
    phase: Instant,
    record: Record,
}

/// The job's report, which the coordinator gets a copy of while it runs and when it ends, in whatever way.
struct Record {
    ctx: Arc<Context>,
    report: JobReport,
    started: Instant,
    told: Option<Instant>,
    /// A plan is no job.
    silent: bool,
}

/// Progress is recorded at most this often.
const RECORD_INTERVAL: Duration = Duration::from_millis(200);

impl Record {
    /// Hands a copy on, unless that was done a moment ago.
    fn progress(&mut self) {
        if self.told.is_none_or(|told| told.elapsed() >= RECORD_INTERVAL) {
            self.told = Some(Instant::now());
            self.tell();
        }
    }

    fn tell(&mut self) {
        self.report.wall_ms = millis(self.started.elapsed());
        if !self.silent {
            // A full queue loses one copy; the next brings all of it.
            let _ = self.ctx.asks.try_send(Ask::Job(Box::new(self.report.clone())));
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.report.state == JobState::Running {
            self.report.state = JobState::Failed;
            self.report.error = Some("cancelled, or over its deadline".into());
            self.tell();
        }
    }
}

/// A service that was found and may run here.
struct Resolved {
    market: msm_protocol::MarketId,
    index_version: u64,
    release: Release,
    installed: Arc<Installed>,
    params: Arc<str>,
    need: Requirements,
    wish: DeviceWish,
}

impl Invocation {
    fn new(ctx: Arc<Context>, job_id: JobId, invoke: Invoke, input: Bytes) -> Self {
        let report = JobReport {
            job_id,
            service: invoke.service.clone(),
            state: JobState::Running,
            tasks: 0,
            tasks_done: 0,
            tasks_rerun: 0,
            devices: Vec::new(),
            wall_ms: 0.0,
            output_bytes: 0,
            output_sha256: String::new(),
            phases_ms: Vec::new(),
            error: None,
            notes: Vec::new(),
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
                Ok(Response { reply: Reply::Job(Box::new(report)), output })
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

        self.begin("split");
        let most = (found.len() as u32 + 1).min(resolved.wish.max).max(1);
        let inputs = self.split(&resolved, most).await?;
        self.end("split");
        let shape = JobShape {
            tasks: inputs.len() as u32,
            bytes: inputs.iter().map(|input| input.len() as u64).sum(),
            work: None,
            startup: STARTUP,
            upload: None,
            rates: Vec::new(),
        };
        // Who says that its owner does not trust the market would refuse: not counted among those that could help.
        let (willing, others): (Vec<_>, Vec<_>) = found.iter().partition(|found| found.trusts(&resolved.market));
        let candidates: Vec<_> = willing.iter().map(|found| found.candidate.clone()).collect();
        let mut selection = msm_scheduler::select(&own, &candidates, &resolved.need, resolved.wish, shape);
        selection.rows.extend(others.iter().map(|found| Row {
            peer: Some(found.candidate.peer),
            eqs: found.candidate.info.eqs,
            used: false,
            why: "its owner does not trust this market".to_owned(),
        }));
        if self.invoke.plan {
            return Ok(Steps::Planned(self.plan(&selection, &found, inputs.len() as u32)));
        }
        self.enough_devices(&resolved, &selection)?;
        if selection.count < resolved.wish.min {
            let note = format!(
                "{} devices asked for, {} used: msm invoke … --plan says why",
                resolved.wish.min, selection.count
            );
            self.record.report.notes.push(note);
        }

        self.begin("run");
        let outputs = self.drive(&resolved, &selection, &found, inputs).await?;
        self.end("run");
        self.begin("merge");
        let output = self.merge(&resolved, outputs).await?;
        self.end("merge");
        if self.record.report.state == JobState::Running {
            self.record.report.state = JobState::Done;
        }
        self.record.report.output_bytes = output.len() as u64;
        self.record.report.output_sha256 = HEXLOWER.encode(ContentHash::of(&output).as_bytes());
        Ok(Steps::Done(output))
    }

    fn begin(&mut self, phase: &str) {
        self.phase = Instant::now();
        self.ctx.emit(Event::Phase { job_id: self.record.report.job_id, name: phase.to_owned() });
    }

    fn end(&mut self, phase: &str) {
        self.record.report.phases_ms.push((phase.to_owned(), millis(self.phase.elapsed())));
    }

    /// Finds the service, gets its package and checks what the caller gave.
    async fn resolve(&mut self) -> Result<Resolved, CommandError> {
        let Found { market, alias, index_version, release } =
            self.ctx.markets.find(&self.ctx, &self.invoke.service).await?;
        self.record.report.service = format!("{alias}/{}@{}", release.name, release.version);
        let engine = match self.invoke.engine.as_deref() {
            None => None,
            Some("js") => Some(Engine::Js),
            Some(other) => {
                let message = format!("engine {other:?} does not run on this node, which has: js");
                return Err(CommandError::new(ErrorCode::NoDevice, message));
            }
        };
        let installed = packages::install(&self.ctx, &market, &release, engine, None)
            .await
            .map_err(|refusal| error_of(&refusal))?;
        let manifest = &installed.manifest;
        let usage = |e: msm_protocol::manifest::ManifestError| {
            CommandError::new(ErrorCode::Usage, format!("bad-input: {e}"))
                .or_try(format!("msm show {}", self.invoke.service))
        };
        let params: Arc<str> = manifest.resolve_params(&self.invoke.params).map_err(usage)?.into();
        self.check_input(manifest)?;
        let need = self.requirements(manifest)?;
        let wish = self.wish(&manifest.constraints.devices)?;
        Ok(Resolved { market, index_version, release, installed, params, need, wish })
    }

    fn check_input(&self, manifest: &msm_protocol::Manifest) -> Result<(), CommandError> {
        let usage = |message: String| Err(CommandError::new(ErrorCode::Usage, message));
        let size = self.input.len() as u64;
        let cap = manifest.limits.input.min(JOB_INPUT_BYTES);
        if size > cap {
            return usage(format!("bad-input: {size} bytes of input, {} takes at most {cap}", manifest.name));
        }
        let takes_none = manifest.input.iter().any(|kind| kind == "none");
        if size == 0 && !takes_none {
            return usage(format!(
                "bad-input: the input is empty, {} takes {}",
                manifest.name,
                manifest.input.join(" or ")
            ));
        }
        match &self.invoke.input_type {
            Some(kind) if size > 0 && !manifest.input.iter().any(|takes| accepts(takes, kind)) => {
                usage(format!("bad-input: {kind} is not what {} takes: {}", manifest.name, manifest.input.join(", ")))
            }
            _ => Ok(()),
        }
    }

    /// Fits the application's wishes into what the manifest lets it change.
    fn requirements(&self, manifest: &msm_protocol::Manifest) -> Result<Requirements, CommandError> {
        let mut need = manifest.requirements();
        if let Some(eqs) = self.invoke.eqs_min {
            need.eqs = eqs;
        }
        if let Some(battery) = self.invoke.battery_min {
            need.battery = battery;
        }
        if let Some(network) = self.invoke.network {
            need.network = network;
        }
        need.gps |= self.invoke.require_gps;
        if manifest.allows(&need) {
            return Ok(need);
        }
        let Range { min, max, .. } = manifest.constraints.battery;
        let eqs = &manifest.constraints.eqs;
        let message = format!(
            "a constraint is outside what {} allows: battery {min}..{max}, eqs {}..{}, network {}",
            manifest.name,
            eqs.min,
            eqs.max,
            manifest.constraints.network.map_or("any".into(), |n| format!("{n:?}").to_lowercase()),
        );
        Err(CommandError::new(ErrorCode::Usage, message).or_try(format!("msm show {}", self.invoke.service)))
    }

    fn wish(&self, allowed: &Range) -> Result<DeviceWish, CommandError> {
        let auto = DeviceWish { min: allowed.min.max(1), max: allowed.max.max(1), auto: true };
        match self.invoke.devices {
            _ if self.invoke.local => Ok(DeviceWish { min: 1, max: 1, auto: false }),
            Devices::Auto => Ok(match allowed.default {
                Some(count) => DeviceWish { min: count, max: count, auto: false },
                None => auto,
            }),
            Devices::Range { min, max } if min >= 1 && min <= max && min >= allowed.min && max <= allowed.max => {
                Ok(DeviceWish { min, max, auto: false })
            }
            Devices::Range { min, max } => {
                let message = format!(
                    "devices {min}..{max} is outside what the service allows: {}..{}",
                    allowed.min, allowed.max
                );
                Err(CommandError::new(ErrorCode::Usage, message))
            }
        }
    }

    fn enough_devices(&self, resolved: &Resolved, selection: &Selection) -> Result<(), CommandError> {
        let reasons = || {
            let rows = selection.rows.iter().filter(|row| !row.used);
            let reasons: Vec<String> = rows
                .map(|row| format!("{}: {}", row.peer.map_or("this device".into(), |p| p.short()), row.why))
                .collect();
            if reasons.is_empty() { "no other device is around".to_owned() } else { reasons.join("; ") }
        };
        if selection.count == 0 {
            let message = format!("no device fits the constraints ({})", reasons());
            return Err(CommandError::new(ErrorCode::NoDevice, message).or_try("msm peers"));
        }
        if self.invoke.strict && selection.count < resolved.wish.min {
            let message = format!("{} devices wanted, {} fit ({})", resolved.wish.min, selection.count, reasons());
            return Err(CommandError::new(ErrorCode::NoDevice, message).or_try("msm peers"));
        }
        Ok(())
    }

    fn plan(&self, selection: &Selection, found: &[discover::Found], tasks: u32) -> Plan {
        let rows = selection.rows.iter().map(|row| {
            let found = found.iter().find(|found| Some(found.candidate.peer) == row.peer);
            PlanRow {
                peer_id: row.peer.unwrap_or(self.ctx.local),
                name: found.map_or_else(|| self.ctx.config.name.clone(), |found| found.name.clone()),
                eqs: Some(row.eqs),
                rtt_ms: found.and_then(|found| found.candidate.rtt).map(millis),
                used: row.used,
                why: row.why.clone(),
                local: row.peer.is_none(),
            }
        });
        Plan { service: self.record.report.service.clone(), rows: rows.collect(), tasks }
    }

    /// Cuts the input into the inputs of tasks, in a sandbox: a hostile picture must not meet the node's own process.
    async fn split(&self, resolved: &Resolved, devices: u32) -> Result<Vec<Bytes>, CommandError> {
        let want = msm_scheduler::plan::tasks(devices, self.input.len() as u64);
        let op = Op::Split { want, target_bytes: TASK_TARGET_BYTES as u64 };
        let frames = self.call_here(resolved, op, self.input.clone()).await?;
        let inputs = unframe(&frames).ok_or_else(|| CommandError::new(ErrorCode::Failed, "the split is malformed"))?;
        if inputs.len() > TASKS_PER_JOB {
            let message = format!("{} tasks, at most {TASKS_PER_JOB} are allowed in one job", inputs.len());
            return Err(CommandError::new(ErrorCode::Failed, message));
        }
        if let Some(big) = inputs.iter().find(|input| input.len() > TASK_BYTES) {
            let message = format!("a task of {} bytes is over {TASK_BYTES}", big.len());
            return Err(CommandError::new(ErrorCode::Failed, message));
        }
        Ok(inputs)
    }

    async fn merge(&self, resolved: &Resolved, outputs: Vec<Bytes>) -> Result<Bytes, CommandError> {
        self.call_here(resolved, Op::Merge, frame(&outputs)).await
    }

    /// Runs a whole-job step on this device. It handles all of the input, so its budget is the job's, not a task's.
    async fn call_here(&self, resolved: &Resolved, op: Op, input: Bytes) -> Result<Bytes, CommandError> {
        let memory = resolved.installed.budget().memory.max(GUEST_MEMORY);
        let budget =
            Budget { memory: memory.max(4 * JOB_INPUT_BYTES), time: TASK_TIME_MAX, output: 4 * JOB_INPUT_BYTES };
        let call = Call {
            package: Arc::new(resolved.installed.package(&resolved.params)),
            client: self.ctx.local,
            op,
            params: resolved.params.clone(),
            input,
            budget,
            resources: None,
        };
        self.ctx.sandbox.call(call).await.map(|output| output.bytes).map_err(|refusal| error_of(&refusal))
    }

    fn offer(&self, resolved: &Resolved, tasks: u32) -> Offer {
        Offer {
            v: 1,
            op: TaskOp::Run,
            job: self.record.report.job_id,
            need: resolved.need.clone(),
            tasks,
            engine: None,
            market: resolved.market,
            params: resolved.params.to_string(),
            version: resolved.index_version,
            manifest: resolved.release.manifest,
        }
    }
}

enum Steps {
    Planned(Plan),
    Done(Bytes),
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// `image/*` accepts `image/png`.
fn accepts(takes: &str, kind: &str) -> bool {
    takes == kind
        || takes == "*/*"
        || takes.strip_suffix("/*").is_some_and(|major| kind.split('/').next() == Some(major))
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

/// Frames as splits and merges carry them: u32 LE length and bytes, repeated.
fn frame(parts: &[Bytes]) -> Bytes {
    let mut framed = Vec::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
    for part in parts {
        framed.extend_from_slice(&(part.len() as u32).to_le_bytes());
        framed.extend_from_slice(part);
    }
    framed.into()
}

fn unframe(framed: &Bytes) -> Option<Vec<Bytes>> {
    let (mut parts, mut at) = (Vec::new(), 0);
    while at < framed.len() {
        let length = u32::from_le_bytes(framed.get(at..at + 4)?.try_into().ok()?) as usize;
        let end = (at + 4).checked_add(length).filter(|end| *end <= framed.len())?;
        parts.push(framed.slice(at + 4..end));
        at = end;
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_back_and_broken_ones_do_not() {
        let parts = vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"c")];
        let framed = frame(&parts);
        assert_eq!(unframe(&framed), Some(parts));
        assert_eq!(unframe(&Bytes::new()), Some(vec![]));
        for end in 1..framed.len() {
            let cut = framed.slice(..end);
            assert!(unframe(&cut).is_none_or(|parts| parts.len() < 3), "{end}");
        }
        assert_eq!(unframe(&Bytes::from_static(&[255, 255, 255, 255, 0])), None);
    }

    #[test]
    fn media_types() {
        assert!(accepts("image/png", "image/png") && accepts("image/*", "image/png") && accepts("*/*", "text/plain"));
        assert!(!accepts("image/png", "image/jpeg") && !accepts("image/*", "text/plain"));
    }
}
