//! Many real jobs while links and workers go bad at random: `chaos --jobs 2000 --seed 1 [--at-once 4]`.
//!
//! A requester and four workers on hosts of their own. One thread makes the weather: it draws a host and what happens to
//! its link, kills workers and has them come back, stops them and lets them go on. Others run jobs through the requester
//! and compare each output with what the requester alone made of the input before the weather began. One line for each
//! job that went wrong, with its number and the weather then, and a summary at the end. Fails when any did.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use image::ImageFormat;
use msm_testnet::{
    binary::repository,
    delay::{Counts, Faults, Flap, Way, line::Draw},
    market::{Market, PART_BYTES, WORK, text, write_work},
    net::Net,
    node::{Client, Node, Repl},
    photo,
    quota::Quota,
    stats,
};
use rustix::process::Signal;
use serde_json::Value;

const WORKERS: [&str; 4] = ["w1", "w2", "w3", "w4"];
const REQUESTER: &str = "cli";
/// What the requester has of a core.
const REQUESTER_SHARE: f64 = 0.4;
/// Neighbours are found by then.
const FOUND: Duration = Duration::from_secs(30);
/// Between two changes of the weather, ms.
const CHANGE_MS: (u64, u64) = (50, 400);
/// A stopped worker goes on after so long at most, ms: around what is taken for dead.
const STOPPED_MS: u64 = 10_000;

/// A job that can be run again and again.
struct Kind {
    /// The line without output and number of devices.
    line: String,
    expected: Vec<u8>,
}

/// What all threads share.
struct Shared {
    kinds: Vec<Kind>,
    seed: u64,
    jobs: u64,
    next: AtomicU64,
    folder: PathBuf,
    /// Threads that still run jobs. The weather ends with the last of them, however they ended.
    callers: AtomicU64,
    /// The last thing that happened to each host.
    weather: Mutex<BTreeMap<&'static str, String>>,
    tally: Mutex<Tally>,
}

/// A caller at work: one less when it is dropped, on a panic too.
struct Here<'a>(&'a AtomicU64);

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What came of the jobs.
#[derive(Default)]
struct Tally {
    done: u64,
    wrong: u64,
    incomplete: u64,
    /// Attempts beyond the first of a task.
    again: u64,
    /// Jobs that lost a device.
    lossy: u64,
    /// Jobs in which somebody else than the requester finished tasks.
    shared: u64,
    walls: Vec<Duration>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (jobs, seed, at_once) =
        (given(&args, "--jobs", 200)?, given(&args, "--seed", 1)?, given(&args, "--at-once", 4)?);
    let mut net = Net::new(&[&[REQUESTER], &WORKERS[..]].concat())?;
    let services = ["image-blur", "gzip"].map(|name| repository().join("services").join(name));
    let services = services.into_iter().chain([write_work(net.folder())?]).collect::<Vec<_>>();
    let market = Market::publish(&net.client(REQUESTER)?, &services)?;
    // A weak device, as those are that ask others: most of the work is worth being given away.
    let quota = Quota::new(REQUESTER_SHARE)?;
    let requester = Node::start(quota.holds(net.client(REQUESTER)?), &[])?;
    let mut workers = WORKERS.iter().map(|host| Node::start(net.client(host)?, &[])).collect::<Result<Vec<_>>>()?;
    requester.sees(&workers.iter().collect::<Vec<_>>(), FOUND)?;
    for worker in &workers {
        worker.client.json(&["market", "add", &market.name, "--yes"])?;
    }
    let shared = Shared {
        kinds: kinds(&net.client(REQUESTER)?, net.folder())?,
        seed,
        jobs,
        next: AtomicU64::new(0),
        folder: net.folder().to_owned(),
        callers: AtomicU64::new(at_once),
        weather: Mutex::default(),
        tally: Mutex::default(),
    };
    eprintln!("chaos: {jobs} jobs of {} kinds, {at_once} at a time, seed {seed}", shared.kinds.len());
    let started = Instant::now();
    let weather = thread::scope(|scope| {
        for _ in 0..at_once {
            let client = requester.client.clone();
            let shared = &shared;
            scope.spawn(move || {
                let _here = Here(&shared.callers);
                if let Err(error) = runs(shared, &client) {
                    eprintln!("chaos: a caller gave up: {error:#}");
                }
            });
        }
        make_weather(&shared, &mut net, &mut workers)
    })?;
    report(&shared, &weather, &net, started.elapsed())
}

fn given(args: &[String], name: &str, default: u64) -> Result<u64> {
    match args.iter().position(|arg| arg == name) {
        None => Ok(default),
        Some(at) => {
            args.get(at + 1).and_then(|value| value.parse().ok()).with_context(|| format!("{name} needs a number"))
        }
    }
}

/// Small and split jobs, in JavaScript and in wasm, and what the requester alone makes of each.
fn kinds(requester: &Client, folder: &Path) -> Result<Vec<Kind>> {
    let mut lines = Vec::new();
    for (parts, rounds) in [(1, 0), (1, 2_000), (8, 2_000), (24, 12_000), (64, 500), (96, 6_000)] {
        let input = folder.join(format!("work-{parts}-{rounds}.bin"));
        let bytes: Vec<u8> = (0..parts * PART_BYTES).map(|at| (at * 31 + parts) as u8).collect();
        fs::write(&input, bytes)?;
        lines.push(format!("invoke {WORK} {} -p rounds={rounds}", input.display()));
    }
    let picture = folder.join("photo.png");
    photo::write(&picture, 320, 240, ImageFormat::Png)?;
    for engine in ["wasm", "js"] {
        lines.push(format!("invoke image-blur {} -p radius=4 --engine {engine}", picture.display()));
    }
    let long = folder.join("long.txt");
    let words: String = (0..300_000).map(|at: u32| format!("{} ", at.wrapping_mul(2_654_435_761) % 9_973)).collect();
    fs::write(&long, &words)?;
    let short = folder.join("short.txt");
    fs::write(&short, &words[..words.len().min(20_000)])?;
    lines.extend([&long, &short].map(|file| format!("invoke gzip {}", file.display())));

    let mut repl = Repl::open(requester)?;
    let local = folder.join("local.bin");
    let alone = |line: String| {
        repl.json(&format!("{line} -o {} --local", text(&local)?))?;
        Ok(Kind { line, expected: fs::read(&local)? })
    };
    lines.into_iter().map(alone).collect()
}

/// Runs jobs until there are no more.
fn runs(shared: &Shared, client: &Client) -> Result<()> {
    let mut repl = Repl::open(client)?;
    loop {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        if number >= shared.jobs {
            return Ok(());
        }
        let mut draw = Draw::new(shared.seed ^ number.wrapping_mul(0x9e37_79b9));
        let kind = draw.one(&shared.kinds);
        let devices = draw.one(&["auto", "2", "3", "5", "5"]);
        let on_loss = draw.one(&["remote", "remote", "local"]);
        let redundancy = draw.one(&["spot", "spot", "none", "2/3"]);
        let out = shared.folder.join(format!("out-{number}.bin"));
        let wish = format!("--devices {devices} --on-loss {on_loss} --redundancy {redundancy}");
        let line = format!("{} {wish} -o {}", kind.line, text(&out)?);
        let before = lock(&shared.weather).clone();
        let since = Instant::now();
        let answer = repl.json(&line);
        let took = since.elapsed();
        let fault = judge(&answer, &out, kind);
        let mut tally = lock(&shared.tally);
        tally.done += 1;
        tally.walls.push(took);
        if let Ok(job) = &answer {
            count(&mut tally, job);
        }
        let _ = fs::remove_file(&out);
        if let Some(fault) = fault {
            *if fault == WRONG { &mut tally.wrong } else { &mut tally.incomplete } += 1;
            eprintln!(
                "FAILED seed {} job {number} after {took:?}: {fault}\n  {line}\n  began in {before:?}",
                shared.seed
            );
        }
        if tally.done.is_multiple_of(100) {
            eprintln!("chaos: {} jobs, {} wrong, {} incomplete", tally.done, tally.wrong, tally.incomplete);
        }
        drop(tally);
        if answer.is_err() {
            // A late answer must not be taken for the next one's.
            repl = Repl::open(client)?;
        }
    }
}

const WRONG: &str = "WRONG: other bytes than the requester alone";

/// What is wrong with a job, if anything.
fn judge(answer: &Result<Value>, out: &Path, kind: &Kind) -> Option<String> {
    let job = match answer {
        Err(error) => return Some(format!("{error:#}")),
        Ok(job) => job,
    };
    if job["state"] != "done" {
        return Some(format!("not done: {job}"));
    }
    if fs::read(out).ok().as_deref() != Some(&kind.expected) {
        return Some(WRONG.into());
    }
    let counted: u64 = job["devices"].as_array()?.iter().filter_map(|device| device["tasks"].as_u64()).sum();
    (Some(counted) != job["tasks"].as_u64()).then(|| format!("tasks are not counted once: {job}"))
}

fn count(tally: &mut Tally, job: &Value) {
    let devices = job["devices"].as_array().map(Vec::as_slice).unwrap_or_default();
    tally.again += job["tasks_rerun"].as_u64().unwrap_or(0);
    tally.lossy += u64::from(devices.iter().any(|device| device["lost"].is_string()));
    let remote = |device: &Value| device["local"] == false && device["tasks"].as_u64() > Some(0);
    tally.shared += u64::from(devices.iter().any(remote));
}

/// How often what happened.
type Weather = BTreeMap<&'static str, u64>;

/// Draws what happens, until the jobs are over.
fn make_weather(shared: &Shared, net: &mut Net, workers: &mut [Node]) -> Result<Weather> {
    let mut draw = Draw::new(shared.seed);
    let mut seen = Weather::new();
    let mut stopped: Vec<(Instant, usize)> = Vec::new();
    while shared.callers.load(Ordering::Relaxed) > 0 {
        thread::sleep(Duration::from_millis(CHANGE_MS.0 + draw.below(CHANGE_MS.1 - CHANGE_MS.0)));
        for (_, worker) in stopped.extract_if(.., |(until, _)| *until <= Instant::now()) {
            workers[worker].signal(Signal::CONT)?;
        }
        let worker = draw.below(WORKERS.len() as u64) as usize;
        let what = match draw.below(100) {
            0..5 => {
                stopped.retain(|(_, number)| *number != worker);
                workers[worker].kill()?;
                let client = workers[worker].client.clone();
                // On a link that may be bad just now; it is up when it listens.
                workers[worker] = Node::start(client, &[])?;
                "kill"
            }
            5..8 if stopped.is_empty() => {
                workers[worker].signal(Signal::STOP)?;
                stopped.push((Instant::now() + Duration::from_millis(draw.below(STOPPED_MS)), worker));
                "stop"
            }
            _ => {
                // The requester's own link is bad sometimes too.
                let host = if draw.chance(0.1) { REQUESTER } else { WORKERS[worker] };
                let (what, faults) = fault(&mut draw);
                net.link(host, faults, draw.number())?;
                lock(&shared.weather).insert(host, format!("{what} {faults:?}"));
                what
            }
        };
        if what == "kill" || what == "stop" {
            lock(&shared.weather).insert(WORKERS[worker], what.to_owned());
        }
        *seen.entry(what).or_default() += 1;
    }
    for (_, worker) in stopped {
        workers[worker].signal(Signal::CONT)?;
    }
    Ok(seen)
}

/// A fault of a link.
fn fault(draw: &mut Draw) -> (&'static str, Faults) {
    let perfect = Faults::default();
    let ms = |draw: &mut Draw, most: u64| Duration::from_millis(draw.below(most));
    match draw.below(12) {
        0 | 1 => ("loss", Faults { loss: draw.share() * 0.25, ..perfect }),
        2 | 3 => {
            let delay = ms(draw, 200);
            ("delay", Faults { delay, jitter: delay / 2, reorder: draw.share(), ..perfect })
        }
        4 => ("double", Faults { duplicate: draw.share() * 0.2, jitter: ms(draw, 20), reorder: 0.5, ..perfect }),
        5 => ("rate", Faults { rate: Some(64_000 << draw.below(7)), ..perfect }),
        6 => ("cut", Faults { loss: 1.0, ..perfect }),
        7 => ("one-way", Faults { silent: Some(*draw.one(&[Way::FromHost, Way::ToHost])), ..perfect }),
        8 => {
            let flap = Flap { on: ms(draw, 1_500), off: ms(draw, 1_500) };
            ("flap", Faults { flap: Some(flap), ..perfect })
        }
        _ => ("calm", perfect),
    }
}

fn report(shared: &Shared, weather: &Weather, net: &Net, took: Duration) -> Result<()> {
    let tally = lock(&shared.tally);
    let hosts = WORKERS.iter().chain([&REQUESTER]).map(|host| net.counts(host));
    let frames = hosts.fold(Counts::default(), |sum, it| Counts {
        passed: sum.passed + it.passed,
        lost: sum.lost + it.lost,
        doubled: sum.doubled + it.doubled,
        overtook: sum.overtook + it.overtook,
        closed: sum.closed + it.closed,
        overflowed: sum.overflowed + it.overflowed,
    });
    let wall = |part| stats::ms(stats::quantile(&tally.walls, part));
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "chaos: seed {}: {} of {} jobs, {} wrong, {} incomplete; {} used other devices, {} lost one, {} tasks run again; \
         median {} ms, p99 {} ms, longest {} ms; {:.0} s",
        shared.seed,
        tally.done,
        shared.jobs,
        tally.wrong,
        tally.incomplete,
        tally.shared,
        tally.lossy,
        tally.again,
        wall(0.5),
        wall(0.99),
        wall(1.0),
        took.as_secs_f64(),
    )?;
    writeln!(out, "chaos: weather {weather:?}; {frames:?}")?;
    ensure!(tally.done == shared.jobs, "only {} of {} jobs were run", tally.done, shared.jobs);
    if tally.wrong + tally.incomplete > 0 {
        bail!("{} jobs wrong, {} incomplete", tally.wrong, tally.incomplete);
    }
    Ok(())
}
