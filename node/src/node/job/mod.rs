//! One invocation from its name to its output: resolve, discover, split, run, merge.

pub use discover::settle;
pub(crate) use split::{frame, inputs_of};

mod discover;
mod drive;
mod remote;
mod split;
mod tile;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use msm_protocol::{
    ContentHash, JobId, Refusal, RefusalCode,
    device::{DeviceInfo, Requirements},
    document::Release,
    job::{Offer, TaskOp},
    limits::{GUEST_MEMORY, JOB_INPUT_BYTES, TASK_TIME_MAX},
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
use crate::resources::{denial::PermissionError, gate::Service, words::needs};

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
    service: Arc<Service>,
    /// Why this device's own guests may not run it: a stranger's code needs the owner's grant in his own jobs too.
    not_here: Option<PermissionError>,
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

        let most = (found.len() as u32 + 1).min(resolved.wish.max).max(1);
        let want = msm_scheduler::plan::tasks(most, self.input.len() as u64);
        let remote = resolved.installed.manifest.work.remote;
        if remote && self.invoke.plan {
            // Cutting the input would do half of the job.
            let selection = self.select(&resolved, &own, &found, resolved.wish, want, self.input.len() as u64);
            return Ok(Steps::Planned(self.plan(&resolved, &selection, &found, want)));
        }
        self.begin("split");
        let inputs = match remote {
            true => self.split_elsewhere(&resolved, &own, &found, want).await?,
            false => self.split_here(&resolved, want).await?,
        };
        self.end("split");
        let bytes = inputs.iter().map(|input| input.len() as u64).sum();
        let selection = self.select(&resolved, &own, &found, resolved.wish, inputs.len() as u32, bytes);
        if self.invoke.plan {
            return Ok(Steps::Planned(self.plan(&resolved, &selection, &found, inputs.len() as u32)));
        }
        self.enough_devices(&resolved, &selection)?;
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
        let engines = match self.invoke.engine.as_deref() {
            None => &packages::ENGINES[..],
            Some("js") => &[Engine::Js],
            Some("wasm") => &[Engine::Wasm],
            Some(other) => {
                let message = format!("engine {other:?} does not run on this node, which has: js, wasm");
                return Err(CommandError::new(ErrorCode::NoDevice, message));
            }
        };
        let installed = packages::install(&self.ctx, &market, &release, engines, None)
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
        let service = Arc::new(installed.service(market, alias));
        let not_here = self.not_here(&service, &need).await?;
        Ok(Resolved { market, index_version, release, installed, service, not_here, params, need, wish })
    }

    /// Whether this device may work on the job, as far as its owner's grants go. Other devices may all the same.
    async fn not_here(
        &mut self,
        service: &Arc<Service>,
        need: &Requirements,
    ) -> Result<Option<PermissionError>, CommandError> {
        let (steward, caller) = (&self.ctx.steward, self.ctx.steward.caller(self.ctx.local));
        // Whose device could not do it anyway is not asked for a grant that would not help.
        let could = self.could(need);
        let admitted = match self.invoke.plan || !could {
            true => steward.at_gate(|gate| gate.check_all(service, &caller)),
            false => steward.admit(service, &caller).await,
        };
        let Err(error) = admitted else { return Ok(None) };
        if !could {
            return Ok(Some(error));
        }
        if self.invoke.local {
            let denied = CommandError::new(ErrorCode::NotAllowed, format!("refused: denied: {error}"));
            return Err(match error.r#try() {
                Some(line) => denied.or_try(line),
                None => denied,
            });
        }
        self.record.report.notes.push(format!("this device did not work itself: {}", error.text_for(caller.kin)));
        Ok(Some(error))
    }

    /// Whether this device meets the constraints now.
    fn could(&self, need: &Requirements) -> bool {
        let own = self.ctx.device();
        need.unmet_by(&own, own.eqs).is_none()
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
            // What the manifest prefers is no demand: fewer do.
            Devices::Auto => Ok(match allowed.default {
                Some(count) => DeviceWish { min: auto.min, max: count.max(1), auto: false },
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

    /// Chooses the devices for a round of `tasks` tasks with so many bytes of input.
    fn select(
        &self,
        resolved: &Resolved,
        own: &DeviceInfo,
        found: &[discover::Found],
        wish: DeviceWish,
        tasks: u32,
        bytes: u64,
    ) -> Selection {
        let not_here = resolved.not_here.as_ref().map(ToString::to_string);
        let shape = JobShape { tasks, bytes, startup: STARTUP, not_here, ..JobShape::default() };
        // Who says that its owner does not trust the market would refuse: not counted among those that could help.
        let (willing, others): (Vec<_>, Vec<_>) = found.iter().partition(|found| found.trusts(&resolved.market));
        let candidates: Vec<_> = willing.iter().map(|found| found.candidate.clone()).collect();
        let mut selection = msm_scheduler::select(own, &candidates, &resolved.need, wish, shape);
        if resolved.need.gps && !own.gps {
            // What keeps his own receiver from it is the owner's to know.
            let signal = self.ctx.monitor.position().signal;
            let unmet = resolved.need.unmet_by(own, own.eqs);
            let here = |row: &&mut Row| row.peer.is_none() && Some(&row.why) == unmet.as_ref();
            selection.rows.iter_mut().filter(here).for_each(|row| row.why = format!("{}: {signal}", row.why));
        }
        selection.rows.extend(others.iter().map(|found| Row {
            peer: Some(found.candidate.peer),
            eqs: found.candidate.info.eqs,
            used: false,
            why: "its owner does not trust this market".to_owned(),
        }));
        selection
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
            let error = CommandError::new(ErrorCode::NoDevice, message).or_try("msm peers");
            return Err(self.or_grant(resolved, error));
        }
        if self.invoke.strict && selection.count < resolved.wish.min {
            let message = format!("{} devices wanted, {} fit ({})", resolved.wish.min, selection.count, reasons());
            return Err(CommandError::new(ErrorCode::NoDevice, message).or_try("msm peers"));
        }
        Ok(())
    }

    /// Adds the line with which this device could do the job itself, if it lacks the owner's grant and nothing else.
    fn or_grant(&self, resolved: &Resolved, error: CommandError) -> CommandError {
        let denial = resolved.not_here.as_ref().filter(|_| self.could(&resolved.need));
        match denial.and_then(PermissionError::r#try) {
            Some(line) => error.or_try(line),
            None => error,
        }
    }

    /// Tells who asks for a position and has a receiver himself that neighbours were not needed.
    fn own_receiver(&mut self, resolved: &Resolved, selection: &Selection) {
        let here = selection.rows.iter().find(|row| row.used && row.peer.is_none());
        if let Some(row) = here.filter(|_| resolved.need.gps && !self.invoke.local) {
            let others = match selection.spare.len() {
                0 => "no neighbour has one".to_owned(),
                1 => "1 neighbour that has one was not asked".to_owned(),
                count => format!("{count} neighbours that have one were not asked"),
            };
            self.record.report.notes.push(format!("{}; {others}", row.why));
        }
    }

    fn plan(&self, resolved: &Resolved, selection: &Selection, found: &[discover::Found], tasks: u32) -> Plan {
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
        let permissions = &resolved.installed.manifest.permissions;
        let (rating, needs) = (permissions.rating(), needs(permissions));
        Plan { service: self.record.report.service.clone(), rating, needs, rows: rows.collect(), tasks }
    }

    async fn merge(&self, resolved: &Resolved, outputs: Vec<Bytes>) -> Result<Bytes, CommandError> {
        self.call_here(resolved, Op::Merge, split::frame(&outputs)).await
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
            resources: Some(self.ctx.steward.broker(resolved.service.clone(), self.ctx.local)),
        };
        self.ctx.sandbox.call(call).await.map(|output| output.bytes).map_err(|refusal| error_of(&refusal))
    }

    fn offer(&self, resolved: &Resolved, op: TaskOp, tasks: u32) -> Offer {
        let Installed { manifest, engine, .. } = &*resolved.installed;
        // Variants that give the same bytes may be mixed; others must not be, nor when the caller has chosen.
        let free = manifest.work.deterministic && self.invoke.engine.is_none();
        Offer {
            v: 1,
            op,
            job: self.record.report.job_id,
            need: resolved.need.clone(),
            tasks,
            engine: (!free).then_some(*engine),
            market: resolved.market,
            params: resolved.params.to_string(),
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
    inputs: Vec<Bytes>,
    /// The number that each is told: of tasks, or of those wished for.
    count: u32,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types() {
        assert!(accepts("image/png", "image/png") && accepts("image/*", "image/png") && accepts("*/*", "text/plain"));
        assert!(!accepts("image/png", "image/jpeg") && !accepts("image/*", "text/plain"));
    }
}
