//! Measures jobs on the wire: small calls, many tiny tasks and bulk, each beside a raw libp2p stream in the same run.
//!
//! The requester is a node in this process, used through its door; workers are `msm node` processes on loopback, and so
//! is the raw peer: this program once more, with the swarm of a node and nothing else. Prints one flat JSON object: a
//! figure's key, and `KEY_n`, `KEY_p50`, `KEY_p99`, `KEY_min`, `KEY_max` of what it was made of. `scripts/bench jobs`
//! shows it as a table, with the figures of whole processes and slow links.

mod crew;
mod figure;
mod raw;

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use msm_node::command::JobReport;
use msm_protocol::limits::{TASK_BYTES, TASKS_PER_JOB};
use serde_json::{Map, Value, json};

use self::{crew::Crew, figure::Report, raw::Raw};

/// Calls at a time, where throughput is measured.
const AT_ONCE: usize = 64;
/// Workers that share the tiny tasks.
const WORKERS: usize = 4;
/// Tiny tasks of one measurement.
const TINY_TASKS: usize = 10_000;
/// Bulk, each way.
const BULK_BYTES: usize = 64 << 20;
/// Bytes of a small call.
const SMALL: &[u8] = b"a few bytes\n";

/// How often things are done: `MSM_BENCH_QUICK=1` only sees that all of it works.
struct Scale {
    calls: usize,
    blocks: usize,
    many_calls: u64,
    rounds: usize,
    tiny: usize,
    bulk: usize,
}

impl Scale {
    fn asked() -> Self {
        let quick = std::env::var_os("MSM_BENCH_QUICK").is_some_and(|value| value == "1");
        let (full, short) = (
            Self { calls: 1_000, blocks: 4, many_calls: 20_000, rounds: 3, tiny: TINY_TASKS, bulk: BULK_BYTES },
            Self { calls: 50, blocks: 2, many_calls: 500, rounds: 1, tiny: 500, bulk: 8 << 20 },
        );
        if quick { short } else { full }
    }
}

fn main() -> Result<()> {
    msm_sandbox::run_if_child();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if std::env::args().nth(1).as_deref() == Some(raw::SERVER) {
        return runtime.block_on(raw::serve());
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let report = runtime.block_on(measure(&Scale::asked(), &wanted))?;
    writeln!(std::io::stdout().lock(), "{}", Value::Object(report))?;
    Ok(())
}

async fn measure(scale: &Scale, wanted: &[String]) -> Result<Report> {
    let mut report = Map::new();
    report.insert("optimised".into(), json!(!cfg!(debug_assertions)));
    report.insert("cores".into(), json!(std::thread::available_parallelism()?.get()));
    report.insert("transport".into(), json!(crew::transport()));
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|it| it == part);
    // One part that fails must not hide the others.
    let tell = |report: &mut Report, part: &str, result: Result<()>| {
        if let Err(error) = result {
            eprintln!("bench_jobs: {part}: {error}");
            report.insert(format!("{part}_error"), json!(format!("{error:#}")));
        }
    };
    if wants("noop") || wants("bulk") {
        // One worker, so that nobody else's pings and answers are measured with it.
        let crew = Crew::start(1).await?;
        let raw = Raw::start(crew.folder()).await?;
        if wants("noop") {
            let result = noop(&crew, &raw, scale, &mut report).await;
            tell(&mut report, "noop", result);
        }
        if wants("bulk") {
            let result = bulk(&crew, &raw, scale, &mut report).await;
            tell(&mut report, "bulk", result);
        }
    }
    if wants("tasks") {
        let result = tiny(&Crew::start(WORKERS).await?, scale, &mut report).await;
        tell(&mut report, "tasks", result);
    }
    Ok(report)
}

/// Tasks that were done elsewhere.
fn remote(report: &JobReport) -> u32 {
    report.devices.iter().filter(|device| !device.local).map(|device| device.tasks).sum()
}

/// One call after the other, in turns with round trips of a raw stream; then many at a time.
async fn noop(crew: &Crew, raw: &Raw, scale: &Scale, report: &mut Report) -> Result<()> {
    let call = crew.invoke("noop", json!({}))?;
    crew.warm(&call, Bytes::from_static(SMALL)).await?;
    let mut stream = raw.open().await?;
    let (mut calls, mut trips, mut elsewhere) = (Vec::new(), Vec::new(), 0);
    for block in 0..=scale.blocks {
        let (mut these, mut those) = (Vec::new(), Vec::new());
        for _ in 0..scale.calls {
            let since = Instant::now();
            raw::echo(&mut stream, SMALL).await?;
            those.push(since.elapsed());
        }
        for _ in 0..scale.calls {
            let since = Instant::now();
            let (job, output) = crew.run(&call, Bytes::from_static(SMALL)).await?;
            these.push(since.elapsed());
            ensure!(output.is_empty(), "a no-op gave {} bytes", output.len());
            elsewhere += remote(&job);
        }
        // The first block warms caches up.
        if block > 0 {
            calls.extend(these);
            trips.extend(those);
        } else {
            elsewhere = 0;
        }
    }
    let share = f64::from(elsewhere) / calls.len() as f64;
    report.insert("noop_remote_share".into(), json!(share));
    let micros = |times: &[Duration]| times.iter().map(|time| time.as_secs_f64() * 1e6).collect::<Vec<_>>();
    let (calls, trips) = (micros(&calls), micros(&trips));
    figure::median(report, "noop_p50_us", &calls);
    figure::median(report, "raw_p50_us", &trips);
    let ratio = |part: f64| figure::quantile(&calls, part) / figure::quantile(&trips, part);
    if share < 1.0 {
        figure::none(report, "noop_p50_ratio", "this node ran calls itself: nothing went over the wire");
        figure::none(report, "noop_p99_ratio", "this node ran calls itself: nothing went over the wire");
    } else {
        figure::one(report, "noop_p50_ratio", ratio(0.5), calls.len());
        figure::one(report, "noop_p99_ratio", ratio(0.99), calls.len());
    }

    let mut rates = Vec::new();
    for _ in 0..scale.rounds {
        rates.push(calls_per_second(crew, &call, scale.many_calls).await?);
    }
    figure::median(report, "noop_calls_per_s", &rates);
    Ok(())
}

/// So many calls, [`AT_ONCE`] at a time.
async fn calls_per_second(crew: &Crew, call: &crew::Wish, count: u64) -> Result<f64> {
    let left = Arc::new(AtomicU64::new(count));
    let since = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        let (caller, call, left) = (crew.caller(), call.clone(), left.clone());
        callers.spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                caller.run(&call, Bytes::from_static(SMALL)).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(count as f64 / since.elapsed().as_secs_f64())
}

/// Many tasks that do nothing, over several workers: whole jobs, with their split and merge.
async fn tiny(crew: &Crew, scale: &Scale, report: &mut Report) -> Result<()> {
    let call = crew.invoke("tiny", json!({ "devices": { "range": { "min": 4, "max": 5 } } }))?;
    let tasks = scale.tiny.min(TASKS_PER_JOB);
    let jobs = scale.tiny.div_ceil(tasks);
    let input = Bytes::from((0..tasks).map(|at| at as u8).collect::<Vec<_>>());
    crew.warm(&call, input.clone()).await?;
    let (mut rates, mut elsewhere) = (Vec::new(), 0);
    for _ in 0..scale.rounds {
        let since = Instant::now();
        for _ in 0..jobs {
            let (job, output) = crew.run(&call, input.clone()).await?;
            ensure!(output == input, "tiny tasks give back what they get");
            ensure!(job.tasks as usize == tasks, "{} tasks, not {tasks}", job.tasks);
            elsewhere += remote(&job);
        }
        rates.push((tasks * jobs) as f64 / since.elapsed().as_secs_f64());
    }
    report.insert("tasks_of_a_job".into(), json!(tasks));
    report.insert("tasks_remote_share".into(), json!(f64::from(elsewhere) / (tasks * jobs * scale.rounds) as f64));
    figure::median(report, "tasks_per_s", &rates);
    Ok(())
}

/// 64 MiB to a worker and back, in the largest parts that there are, against a raw stream that carries and hashes the same.
async fn bulk(crew: &Crew, raw: &Raw, scale: &Scale, report: &mut Report) -> Result<()> {
    let call = crew.invoke("echo", json!({}))?;
    let mut noise = 0x9e37_79b9_u32;
    let input: Vec<u8> = std::iter::repeat_with(|| {
        // xorshift
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        noise as u8
    })
    .take(scale.bulk)
    .collect();
    let input = Bytes::from(input);
    crew.warm(&call, input.slice(..1024)).await?;
    let mut stream = raw.open().await?;
    let (mut ours, mut theirs, mut elsewhere, mut parts) = (Vec::new(), Vec::new(), 0, 0);
    // Both ways, in megabytes a second.
    let rate = |since: Instant| 2.0 * input.len() as f64 / 1e6 / since.elapsed().as_secs_f64();
    for round in 0..=scale.rounds {
        let since = Instant::now();
        stream = raw::echo_hashed(stream, &input, TASK_BYTES).await?;
        let raw = rate(since);
        let since = Instant::now();
        let (job, output) = crew.run(&call, input.clone()).await?;
        let msm = rate(since);
        ensure!(output == input, "other bytes came back");
        if round > 0 {
            ours.push(msm);
            theirs.push(raw);
            elsewhere += remote(&job);
            parts += job.tasks;
        }
    }
    report.insert("bulk_remote_share".into(), json!(f64::from(elsewhere) / f64::from(parts.max(1))));
    figure::median(report, "bulk_mb_per_s", &ours);
    figure::median(report, "raw_mb_per_s", &theirs);
    if elsewhere < parts {
        figure::none(report, "bulk_ratio", "this node ran parts itself: not all went over the wire");
    } else {
        figure::one(report, "bulk_ratio", figure::quantile(&ours, 0.5) / figure::quantile(&theirs, 0.5), ours.len());
    }
    Ok(())
}
