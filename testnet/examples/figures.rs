//! `scripts/bench`: measures a release binary from outside, and shows the figures as a table or as one JSON object.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use msm_testnet::{
    binary,
    market::{Market, write_service},
    node::{Client, Node, Repl},
    stats::{median, ms, quantile},
    wait,
};
use serde_json::{Map, Value, json};

/// Fresh requesters that call the service for the first time.
const COLD_RUNS: usize = 20;
/// Calls over one open REPL.
const WARM_RUNS: usize = 500;
/// Calls before those that count.
const WARM_UP: usize = 50;
/// Nodes that idle.
const IDLE_NODES: usize = 3;
/// How long they idle before they are looked at: start-up work is over, several pings are done.
const IDLE: Duration = Duration::from_secs(10);
/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(30);

/// One part of the report.
type Measure = fn() -> Result<Value>;

/// A service that does nothing.
const NOOP: &str = "export function run() { return new Uint8Array(); }\n";

/// What it is given: a few bytes.
const INPUT: &[u8] = b"a few bytes\n";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let as_json = args.iter().any(|arg| arg == "--json");
    let wanted: Vec<&str> = args.iter().map(String::as_str).filter(|arg| !arg.starts_with("--")).collect();
    let parts: [(&str, Measure); 5] =
        [("binary", size), ("sandbox", sandbox), ("idle", idle), ("cold", cold), ("warm", warm)];
    if let Some(unknown) = wanted.iter().find(|it| parts.iter().all(|(name, _)| name != *it)) {
        bail!("no part {unknown}; there are: binary sandbox idle cold warm");
    }
    let mut report = Map::new();
    report.insert("schema".into(), json!("msm.bench/1"));
    report.insert("cores".into(), json!(std::thread::available_parallelism()?.get()));
    for (name, measure) in parts {
        if wanted.is_empty() || wanted.contains(&name) {
            eprintln!("bench: {name}");
            report.insert(name.into(), measure().with_context(|| format!("measuring {name}"))?);
        }
    }
    let mut out = std::io::stdout().lock();
    if as_json {
        writeln!(out, "{}", Value::Object(report))?;
    } else {
        table(&report, &mut out)?;
    }
    Ok(())
}

fn size() -> Result<Value> {
    Ok(json!({ "bytes": fs::metadata(binary::msm()?)?.len() }))
}

/// The sandbox without a network, measured by its own example.
fn sandbox() -> Result<Value> {
    let built = std::env::current_exe()?.with_file_name("bench");
    let output =
        Command::new(&built).arg("--json").output().with_context(|| format!("cannot start {}", built.display()))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Resident memory of nodes that know each other and do nothing.
fn idle() -> Result<Value> {
    let folder = tempfile::tempdir()?;
    let first = local(folder.path(), "idle-0", &[])?;
    let mut nodes = vec![];
    let address = address(&first)?;
    for number in 1..IDLE_NODES {
        nodes.push(local(folder.path(), &format!("idle-{number}"), &["--peer", &address])?);
    }
    nodes.push(first);
    for node in &nodes[..IDLE_NODES - 1] {
        node.sees(&[&nodes[IDLE_NODES - 1]], LIMIT)?;
    }
    // What is measured is a node that has done nothing for this long.
    std::thread::sleep(IDLE);
    let rss = nodes.iter().map(Node::rss_bytes).collect::<Result<Vec<_>>>()?;
    Ok(
        json!({ "nodes": IDLE_NODES, "after_s": IDLE.as_secs(), "rss_bytes_min": rss.iter().min(), "rss_bytes_max": rss.iter().max() }),
    )
}

/// From a home that has never seen the service to its first result, over a connection on this machine.
fn cold() -> Result<Value> {
    let folder = tempfile::tempdir()?;
    let (worker, market) = publisher(folder.path())?;
    let address = address(&worker)?;
    let input = input(folder.path())?;
    let (mut walls, mut calls, mut phases) = (Vec::new(), Vec::new(), Vec::<(String, Vec<Duration>)>::new());
    for run in 0..COLD_RUNS {
        let node = local(folder.path(), &format!("fresh-{run}"), &["--peer", &address, "--no-offer"])?;
        node.sees(&[&worker], LIMIT)?;
        node.client.json(&["market", "add", &market.name, "--yes"])?;
        // The index is there before the clock starts; the service is not.
        wait::until(LIMIT, "the service is listed", || {
            Ok(node.client.json(&["search", "noop"])?["services"]
                .as_array()
                .is_some_and(|rows| !rows.is_empty())
                .then_some(()))
        })?;
        let started = Instant::now();
        let job = node.client.json(&["invoke", "noop", &input, "-o", "/dev/null"])?;
        calls.push(started.elapsed());
        walls.push(millis(&job["wall_ms"])?);
        for phase in job["phases_ms"].as_array().context("phases_ms")? {
            let name = phase[0].as_str().context("a phase has a name")?;
            let time = millis(&phase[1])?;
            match phases.iter_mut().find(|(known, _)| known == name) {
                Some((_, times)) => times.push(time),
                None => phases.push((name.to_owned(), vec![time])),
            }
        }
        node.leave()?;
    }
    let phases: Map<String, Value> = phases.iter().map(|(name, times)| (name.clone(), spread(times))).collect();
    Ok(json!({ "runs": COLD_RUNS, "job": spread(&walls), "command": spread(&calls), "phases": phases }))
}

/// Calls one after the other from an open REPL: a line in, the job's report out.
fn warm() -> Result<Value> {
    let folder = tempfile::tempdir()?;
    let (worker, market) = publisher(folder.path())?;
    let address = address(&worker)?;
    let node = local(folder.path(), "requester", &["--peer", &address, "--no-offer"])?;
    node.sees(&[&worker], LIMIT)?;
    node.client.json(&["market", "add", &market.name, "--yes"])?;

    let mut repl = Repl::open(&node.client)?;
    // Two parts of 1 KiB: one of them for the other device.
    let two = folder.path().join("two-parts.bin");
    fs::write(&two, [0; 2048])?;
    let one = calls(&mut repl, &format!("invoke noop {} -o /dev/null", input(folder.path())?))?;
    let two = calls(&mut repl, &format!("invoke noop {} -o /dev/null --devices 2", two.display()))?;
    Ok(json!({ "one_task": one, "two_tasks_two_devices": two }))
}

/// Measures one line of the REPL.
fn calls(repl: &mut Repl, line: &str) -> Result<Value> {
    let (mut lines, mut walls, mut remote) = (Vec::new(), Vec::new(), 0_u64);
    for run in 0..WARM_UP + WARM_RUNS {
        let started = Instant::now();
        let job = repl.json(line)?;
        if run >= WARM_UP {
            lines.push(started.elapsed());
            walls.push(millis(&job["wall_ms"])?);
            let devices = job["devices"].as_array().into_iter().flatten();
            remote += devices.filter(|it| it["local"] == false).filter_map(|it| it["tasks"].as_u64()).sum::<u64>();
        }
    }
    Ok(json!({ "job": spread(&walls), "line": spread(&lines), "tasks_on_the_other_device": remote }))
}

/// The path of a file with [`INPUT`].
fn input(folder: &Path) -> Result<String> {
    let path = folder.join("input.txt");
    fs::write(&path, INPUT)?;
    Ok(path.to_str().context("a folder of text")?.to_owned())
}

/// A node with a market that has the service, reachable on loopback only.
fn publisher(folder: &Path) -> Result<(Node, Market)> {
    let service = write_service(folder, "noop", NOOP, "10s")?;
    let client = Client::new(folder.join("worker"))?;
    let market = Market::publish(&client, &[service])?;
    Ok((local(folder, "worker", &[])?, market))
}

fn local(folder: &Path, name: &str, flags: &[&str]) -> Result<Node> {
    let home: PathBuf = folder.join(name);
    Node::start(Client::new(home)?, &[&["--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns"], flags].concat())
}

fn address(node: &Node) -> Result<String> {
    let status = node.client.json(&["status"])?;
    Ok(status["addresses"][0].as_str().context("a node listens")?.to_owned())
}

fn millis(value: &Value) -> Result<Duration> {
    Ok(Duration::from_secs_f64(value.as_f64().context("milliseconds are a number")? / 1e3))
}

fn spread(times: &[Duration]) -> Value {
    let at = |part| ms(quantile(times, part));
    json!({ "n": times.len(), "min_ms": at(0.0), "p50_ms": ms(median(times)), "p99_ms": at(0.99), "max_ms": at(1.0) })
}

/// Every measured thing on one line.
fn table(report: &Map<String, Value>, out: &mut impl Write) -> Result<()> {
    writeln!(out, "{:<40} {:>5} {:>10} {:>10} {:>10}", "what", "n", "p50", "p99", "max")?;
    for (part, value) in report.iter().filter(|(_, value)| value.is_object()) {
        rows(part, value, "", out)?;
    }
    Ok(())
}

fn rows(name: &str, value: &Value, n: &str, out: &mut impl Write) -> Result<()> {
    let time = |field: &str| value[field].as_f64().map_or(String::new(), |ms| format!("{ms:.3} ms"));
    let micros = |field: &str| value[field].as_f64().map_or(String::new(), |us| format!("{:.3} ms", us / 1e3));
    if value["p50_ms"].is_number() {
        let n = value["n"].to_string();
        return Ok(writeln!(
            out,
            "{name:<40} {n:>5} {:>10} {:>10} {:>10}",
            time("p50_ms"),
            time("p99_ms"),
            time("max_ms")
        )?);
    }
    if value["p50_us"].is_number() {
        return Ok(writeln!(out, "{name:<40} {n:>5} {:>10} {:>10}", micros("p50_us"), micros("p99_us"))?);
    }
    let n = value["runs"].as_u64().map_or(String::new(), |runs| runs.to_string());
    for (key, value) in value.as_object().into_iter().flatten().filter(|(key, _)| *key != "runs") {
        let name = format!("{name} {key}");
        if value.is_object() {
            rows(&name, value, &n, out)?;
        } else if key.contains("bytes") && value.as_f64().is_some_and(|bytes| bytes > 1e5) {
            writeln!(out, "{name:<40} {:>13.1} MB", value.as_f64().unwrap_or_default() / 1e6)?;
        } else {
            writeln!(out, "{name:<40} {value:>16}")?;
        }
    }
    Ok(())
}
