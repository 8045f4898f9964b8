//! Measures the sandbox and prints one JSON object a line: cold start in phases, warm call, bulk in and out.

use std::{
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use msm_protocol::{ContentHash, PeerId, SecretKey};
use msm_sandbox::{Budget, Call, Engine, Op, Package, Phases, Sandbox, SandboxConfig, Work};
use serde_json::json;

/// A service that gives back what it gets.
const ECHO: &str = "export function run(input) { return input; }";
const COLD_RUNS: usize = 100;
const WARM_RUNS: usize = 2_000;
const BULK_RUNS: usize = 10;
const BULK_BYTES: usize = 48 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    msm_sandbox::run_if_child();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(bench())
}

async fn bench() -> Result<(), Box<dyn std::error::Error>> {
    let sandbox = Sandbox::new(SandboxConfig::default())?;
    let package = Arc::new(Package {
        hash: ContentHash::of(ECHO.as_bytes()),
        engine: Engine::Js,
        source: Bytes::from_static(ECHO.as_bytes()),
        work: Work::Whole,
        files: Default::default(),
        asks: Default::default(),
        label: "echo@1.0.0".into(),
    });
    let call = |input: Bytes| Call {
        package: package.clone(),
        client: PeerId::of(&SecretKey::from_seed(&[7; 32]).public()),
        op: Op::Whole,
        params: "{}".into(),
        budget: Budget { memory: 64 << 20, time: Duration::from_secs(10), output: input.len() as u64 },
        input,
        resources: None,
    };

    let mut totals = Vec::new();
    let mut phases = Vec::new();
    for _ in 0..COLD_RUNS {
        let started = Instant::now();
        phases.push(sandbox.call_cold(call(Bytes::new())).await?.1);
        totals.push(started.elapsed());
    }
    let mut out = std::io::stdout().lock();
    let of = |phase: fn(&Phases) -> Duration| quantiles(phases.iter().map(phase).collect());
    writeln!(
        out,
        "{}",
        json!({
            "bench": "sandbox.cold", "runs": COLD_RUNS, "total": quantiles(totals), "spawn": of(|p| p.spawn),
            "walls": of(|p| p.walls), "load": of(|p| p.load), "first_result": of(|p| p.first_result),
        })
    )?;

    let mut spare = Vec::new();
    for seed in 0..COLD_RUNS as u8 {
        let mut call = call(Bytes::new());
        call.client = PeerId::of(&SecretKey::from_seed(&[seed; 32]).public());
        // The pool's spare child is started while nobody waits: let it.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let started = Instant::now();
        sandbox.call(call).await?;
        spare.push(started.elapsed());
    }
    writeln!(out, "{}", json!({ "bench": "sandbox.spare", "runs": COLD_RUNS, "total": quantiles(spare) }))?;

    let mut warm = Vec::new();
    let all = Instant::now();
    for _ in 0..WARM_RUNS {
        let started = Instant::now();
        sandbox.call(call(Bytes::new())).await?;
        warm.push(started.elapsed());
    }
    let per_second = WARM_RUNS as f64 / all.elapsed().as_secs_f64();
    let line = json!({
        "bench": "sandbox.warm", "runs": WARM_RUNS, "call": quantiles(warm), "calls_per_s": per_second.round(),
    });
    writeln!(out, "{line}")?;

    let input = Bytes::from(vec![0x5a; BULK_BYTES]);
    let mut bulk = Vec::new();
    for _ in 0..BULK_RUNS {
        let started = Instant::now();
        let output = sandbox.call(call(input.clone())).await?;
        bulk.push(started.elapsed());
        assert_eq!(output.bytes.len(), input.len(), "the echo is whole");
    }
    bulk.sort();
    let median = bulk[bulk.len() / 2];
    let both_ways = 2.0 * BULK_BYTES as f64 / 1e6 / median.as_secs_f64();
    let line = json!({
        "bench": "sandbox.bulk", "runs": BULK_RUNS, "bytes_each_way": BULK_BYTES, "call": quantiles(bulk),
        "mb_per_s_each_way": (both_ways / 2.0).round(), "mb_per_s_both": both_ways.round(),
    });
    writeln!(out, "{line}")?;
    Ok(())
}

fn quantiles(mut times: Vec<Duration>) -> serde_json::Value {
    times.sort();
    let at = |part: f64| (times[((times.len() - 1) as f64 * part) as usize].as_nanos() as f64 / 1e3).round();
    json!({ "p50_us": at(0.5), "p99_us": at(0.99) })
}
