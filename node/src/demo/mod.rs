//! `msm demo`: several nodes on this machine blur a picture together while one of them is killed.
//!
//! Nothing is staged but the moment of the kill: real processes, a real market signed with a throw-away key, the
//! service fetched by hash, SIGKILL. Everything lies in one temporary folder and is gone afterwards.

mod crew;
mod picture;

use std::{
    collections::HashSet,
    fs,
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use msm_protocol::{PeerId, limits::JOB_INPUT_BYTES};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::{
    cli::{
        demo::Demo,
        render::{self, progress::Progress},
        screen::{Screen, Stop},
        signals::Signals,
    },
    command::{
        Command, CommandError, Devices, Door, EVENT_QUEUE, ErrorCode, Event, Invoke, JobReport, Reply, Request,
        Response,
    },
    node::{Node, NodeDoor, NodeOptions},
};
use crew::Crew;

/// Blur radius of the demo.
const RADIUS: u64 = 8;
/// All workers must be connected within this.
const GATHER: Duration = Duration::from_secs(30);
/// Between two small pictures: workers ration the offers that they look at.
const WARM_PAUSE: Duration = Duration::from_millis(100);
/// The name that the demo's service is called by.
const SERVICE: &str = "image-blur";

/// The result, `msm.demo/1`.
#[derive(Debug, Serialize)]
struct Outcome {
    schema: &'static str,
    /// Worker processes that took part: those with a counted result, and the killed one.
    devices: u32,
    tasks: u32,
    tasks_rerun: u32,
    killed: String,
    equal_to_local: bool,
    output: PathBuf,
    output_sha256: String,
    wall_ms: f64,
    local_ms: f64,
    workers: Vec<Share>,
}

/// One device's share.
#[derive(Debug, Serialize)]
struct Share {
    name: String,
    tasks: u32,
    lost: Option<String>,
}

/// Runs the demo.
pub async fn run(args: Demo, screen: &mut Screen) -> Result<(), Stop> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        outcome = perform(&args, screen) => outcome,
        // Dropping the performance ends every process it has started.
        code = signals.next() => Err(Stop::Exit(code)),
    }
}

async fn perform(args: &Demo, screen: &mut Screen) -> Result<(), Stop> {
    let (photo, kind) = photo(args)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let stage = crew::Stage::build(args.devices as usize, now).map_err(failed)?;
    say(screen, "market", &format!("\"Demo Market\" {} signed with a throw-away key", short(&stage.fingerprint)));
    let node = Node::start(NodeOptions {
        home: stage.requester.clone(),
        listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
        peers: Vec::new(),
        mdns: Some(false),
        offer: Some(false),
        ephemeral: false,
    })
    .await?;
    let result = with_node(args, &stage, &node, photo, kind, screen).await;
    node.shutdown().await;
    if args.keep {
        let folder = stage.keep();
        say(screen, "kept", &folder.display().to_string());
    }
    result
}

async fn with_node(
    args: &Demo,
    stage: &crew::Stage,
    node: &Node,
    photo: Bytes,
    kind: &str,
    screen: &mut Screen,
) -> Result<(), Stop> {
    let door = node.door();
    let address = listening(&door).await?;
    let mut crew = Crew::start(stage, &address).map_err(failed)?;
    crew.gather(&door, GATHER).await?;
    say(
        screen,
        "devices",
        &format!("{} and this one, {} processes on 127.0.0.1", crew.names().join(", "), crew.len() + 1),
    );

    // The first calls install the service on every device: by its hash, from the device that publishes the market.
    warm(args, &door, crew.len()).await?;
    say(screen, "service", "image-blur fetched by hash and verified on every device");

    let mut progress = Progress::new(screen.style);
    let victim = crew.victim();
    let mut held = 0;
    let mut killed = None;
    let (report, output) = {
        let mut watch = |event: &Event| {
            if let Event::TaskStarted { peer_id, .. } = event
                && Some(*peer_id) == victim
            {
                held += 1;
                // It has its whole credit now: killed here, it takes tasks with it.
                if held == 2 {
                    killed = crew.kill(*peer_id);
                }
            }
            progress.event(event, screen);
        };
        call(&door, invoke(args, kind, false), photo.clone(), &mut watch).await?
    };
    progress.finish(screen);
    let (local, local_output) = call(&door, invoke(args, kind, true), photo, &mut |_| {}).await?;
    crew.end().await;

    let equal = output == local_output;
    fs::write(&args.out, &output).map_err(|e| failed(format!("cannot write {}: {e}", args.out.display())))?;
    let outcome = outcome(args, &report, &local, equal, killed.unwrap_or_default());
    show(&outcome, screen)?;
    if !equal {
        let message = "the result is not the one of a local run";
        return Err(CommandError::new(ErrorCode::Verification, message).into());
    }
    Ok(())
}

fn outcome(args: &Demo, report: &JobReport, local: &JobReport, equal_to_local: bool, killed: String) -> Outcome {
    let workers: Vec<Share> = report
        .devices
        .iter()
        .map(|device| Share { name: device.name.clone(), tasks: device.tasks, lost: device.lost.clone() })
        .collect();
    let took_part = report.devices.iter().filter(|device| !device.local && (device.tasks > 0 || device.name == killed));
    Outcome {
        schema: "msm.demo/1",
        devices: took_part.count() as u32,
        tasks: report.tasks,
        tasks_rerun: report.tasks_rerun,
        killed,
        equal_to_local,
        output: std::path::absolute(&args.out).unwrap_or_else(|_| args.out.clone()),
        output_sha256: report.output_sha256.clone(),
        wall_ms: report.wall_ms,
        local_ms: local.wall_ms,
        workers,
    }
}

fn show(outcome: &Outcome, screen: &mut Screen) -> Result<(), Stop> {
    if screen.style.json {
        return screen.result_json(outcome);
    }
    let most = outcome.workers.iter().map(|share| share.tasks).max().unwrap_or(1).max(1);
    for share in &outcome.workers {
        let bar = "█".repeat((share.tasks * 20).div_ceil(most) as usize);
        let fate = match &share.lost {
            Some(reason) => format!("  killed on purpose; its tasks moved to others ({reason})"),
            None => String::new(),
        };
        screen.result_line(format!("  {:<9} {bar:<20} {:>3} tasks{fate}", share.name, share.tasks))?;
    }
    let verdict = if outcome.equal_to_local { "same bytes as a local run" } else { "NOT the bytes of a local run" };
    screen.result_line(format!(
        "  result    {}  sha256 {}…: {verdict}",
        outcome.output.display(),
        outcome.output_sha256.get(..12).unwrap_or_default(),
    ))?;
    screen.result_line(format!(
        "  time      {}, {} tasks, {} run again; this device alone {}",
        render::text::milliseconds(outcome.wall_ms),
        outcome.tasks,
        outcome.tasks_rerun,
        render::text::milliseconds(outcome.local_ms),
    ))?;
    screen.result_line("Next: msm node | msm help")
}

fn photo(args: &Demo) -> Result<(Bytes, &'static str), CommandError> {
    let Some(path) = &args.photo else {
        return Ok((picture::draw(1600, 1200).map_err(failed)?, "image/png"));
    };
    let missing = |e: std::io::Error| {
        let code = if e.kind() == std::io::ErrorKind::NotFound { ErrorCode::NotFound } else { ErrorCode::Failed };
        CommandError::new(code, format!("cannot read {}: {e}", path.display()))
    };
    let size = fs::metadata(path).map_err(missing)?.len();
    if size > JOB_INPUT_BYTES {
        let message = format!("{} has {size} bytes, at most {JOB_INPUT_BYTES}", path.display());
        return Err(CommandError::new(ErrorCode::Usage, message));
    }
    let bytes = fs::read(path).map_err(missing)?;
    let kind = match bytes.as_slice() {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [0xff, 0xd8, ..] => "image/jpeg",
        _ => {
            let message = format!("{} is neither a PNG nor a JPEG", path.display());
            return Err(CommandError::new(ErrorCode::Usage, message).or_try("msm demo"));
        }
    };
    Ok((bytes.into(), kind))
}

fn invoke(args: &Demo, kind: &str, local: bool) -> Invoke {
    let all = args.devices + 1;
    Invoke {
        service: SERVICE.into(),
        params: [("radius".to_owned(), RADIUS.into())].into_iter().collect(),
        input_type: Some(kind.to_owned()),
        devices: if local { Devices::Auto } else { Devices::Range { min: all, max: all } },
        local,
        ..Invoke::default()
    }
}

/// Carries out one invocation and shows its events to `watch` as they come.
async fn call(
    door: &NodeDoor,
    invoke: Invoke,
    input: Bytes,
    watch: &mut impl FnMut(&Event),
) -> Result<(JobReport, Bytes), CommandError> {
    let (events, mut receiver) = mpsc::channel(EVENT_QUEUE);
    let request = Request { command: Command::Invoke(Box::new(invoke)), input: input.into() };
    let mut running = std::pin::pin!(door.execute(request, events));
    let response = loop {
        tokio::select! {
            biased;
            Some(event) = receiver.recv() => watch(&event),
            response = &mut running => break response,
        }
    };
    while let Ok(event) = receiver.try_recv() {
        watch(&event);
    }
    match response? {
        Response { reply: Reply::Job(report), output } => {
            let output = output.whole(JOB_INPUT_BYTES).await;
            Ok((*report, output.map_err(|e| CommandError::new(ErrorCode::Failed, e.to_string()))?))
        }
        other => Err(CommandError::new(ErrorCode::Failed, format!("not the report of a job: {:?}", other.reply))),
    }
}

/// Blurs a small picture until every worker has done a part: then all have the service, compiled. One that takes longer
/// than that is left as it is.
async fn warm(args: &Demo, door: &NodeDoor, workers: usize) -> Result<(), Stop> {
    let sample = picture::draw(64, 64).map_err(failed)?;
    let end = Instant::now() + GATHER;
    let mut warm = HashSet::new();
    while warm.len() < workers && Instant::now() < end {
        let (report, _) = call(door, invoke(args, "image/png", false), sample.clone(), &mut |_| {}).await?;
        let took_part = report.devices.iter().filter(|device| !device.local && device.tasks > 0);
        warm.extend(took_part.map(|device| device.peer_id));
        tokio::time::sleep(WARM_PAUSE).await;
    }
    Ok(())
}

async fn status(door: &NodeDoor) -> Result<crate::command::Status, CommandError> {
    let (events, _) = mpsc::channel(1);
    match door.execute(Command::Status.into(), events).await?.reply {
        Reply::Status(status) => Ok(*status),
        _ => Err(CommandError::new(ErrorCode::Failed, "not a status")),
    }
}

/// Where this node listens, once it does.
async fn listening(door: &NodeDoor) -> Result<String, CommandError> {
    door.wait_listening(GATHER).await?;
    let addresses = status(door).await?.addresses;
    addresses.into_iter().next().ok_or_else(|| CommandError::new(ErrorCode::Failed, "this node listens nowhere"))
}

fn say(screen: &mut Screen, what: &str, text: &str) {
    if !screen.style.quiet && !screen.style.json {
        screen.message(format!("  {what:<9} {text}"));
    }
}

fn short(fingerprint: &str) -> &str {
    fingerprint.get(..19).unwrap_or(fingerprint)
}

fn failed(error: impl std::fmt::Display) -> CommandError {
    CommandError::new(ErrorCode::Failed, error.to_string())
}

/// A worker process as the demo knows it.
#[derive(Debug, Clone)]
struct WorkerId {
    name: String,
    peer: PeerId,
}
