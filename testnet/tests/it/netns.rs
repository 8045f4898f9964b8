//! Nodes on hosts of their own, joined by a bridge: they find each other, share jobs, and lose each other.

mod kills;
mod links;
mod market;
mod odd_hosts;
mod sharing;

use std::{
    fs,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use image::ImageFormat;
use msm_testnet::{
    binary::repository,
    market::{Market, PART_BYTES, WORK, text, write_service, write_work},
    net::Net,
    node::{Node, Repl, Running},
    photo, stats, wait,
};
use rustix::process::Signal;
use serde_json::Value;

/// Longer than any neighbour takes to be found.
const FOUND: Duration = Duration::from_secs(30);
/// Longer than any job here takes, losses included.
const JOB: Duration = Duration::from_secs(90);
/// A peer that is not heard of any more is gone by then: three pings of 2 s, and the time of the last.
const NOTICED: Duration = Duration::from_secs(8);

/// A requester `cli` with a market and a photo, and workers that trust the market.
struct Lab {
    cli: Node,
    workers: Vec<Node>,
    photo: PathBuf,
    /// What this device alone makes of it.
    expected: Vec<u8>,
    market: Market,
    /// Last, as it takes the folder with the nodes' logs away.
    net: Net,
}

impl Lab {
    fn new(workers: &[&str], width: u32, height: u32) -> Self {
        Self::with(workers, width, height, &[])
    }

    fn with(workers: &[&str], width: u32, height: u32, flags: &[&str]) -> Self {
        let hosts: Vec<&str> = ["cli"].iter().chain(workers).copied().collect();
        let net = Net::new(&hosts).unwrap();
        let endless = write_service(net.folder(), "endless", "export function run() { for (;;); }\n", "60s").unwrap();
        let services = [repository().join("services/image-blur"), endless, write_work(net.folder()).unwrap()];
        let market = Market::publish(&net.client("cli").unwrap(), &services).unwrap();
        let launched: Vec<_> =
            hosts.iter().map(|host| Node::launch(net.client(host).unwrap(), flags).unwrap()).collect();
        let mut nodes = launched.into_iter().map(|node| node.ready().unwrap());
        let (cli, workers) = (nodes.next().unwrap(), nodes.by_ref().collect::<Vec<_>>());
        cli.sees(&workers.iter().collect::<Vec<_>>(), FOUND).unwrap();
        for worker in &workers {
            worker.client.json(&["market", "add", &market.name, "--yes"]).unwrap();
        }
        let (photo, local) = (net.file("photo.png"), net.file("local.png"));
        photo::write(&photo, width, height, ImageFormat::Png).unwrap();
        cli.client
            .json(&["invoke", "image-blur", text(&photo).unwrap(), "-o", text(&local).unwrap(), "--local"])
            .unwrap();
        let expected = fs::read(local).unwrap();
        Self { net, cli, workers, photo, expected, market }
    }

    /// Starts a job on all devices; its output goes to `out`.
    fn invoke(&self, out: &str) -> Running {
        let (out, devices) = (self.net.file(out), self.workers.len() + 1);
        let args = [
            "invoke",
            "image-blur",
            text(&self.photo).unwrap(),
            "-o",
            text(&out).unwrap(),
            "--devices",
            &devices.to_string(),
            // Interpreted, so that there is a job to disturb: compiled, it is over in a tenth of a second. The picture
            // that it is compared with was made by the compiled variant.
            "--engine",
            "js",
        ];
        Running::start(&self.cli.client, &args).unwrap()
    }

    /// Writes an input of so many parts of [`WORK`], and gives what comes of it on this device alone.
    fn work(&self, parts: usize, rounds: u32) -> Work {
        let (input, local) = (self.net.file("work.bin"), self.net.file("work-local.bin"));
        let bytes: Vec<u8> = (0..parts * PART_BYTES).map(|at| ((at * at) >> 3) as u8).collect();
        fs::write(&input, bytes).unwrap();
        let rounds = format!("rounds={rounds}");
        let line = ["invoke", WORK, text(&input).unwrap(), "-p", &rounds, "-o", text(&local).unwrap(), "--local"];
        self.cli.client.json(&line).unwrap();
        Work { input, rounds, expected: fs::read(local).unwrap() }
    }

    /// Starts that job on all devices.
    fn start(&self, work: &Work, out: &str) -> Running {
        let (out, devices) = (self.net.file(out), (self.workers.len() + 1).to_string());
        let (input, out) = (text(&work.input).unwrap(), text(&out).unwrap());
        let line = ["invoke", WORK, input, "-p", &work.rounds, "-o", out, "--devices", &devices];
        Running::start(&self.cli.client, &line).unwrap()
    }

    /// It ended well, with the bytes of this device alone.
    fn check_work(&self, work: &Work, running: Running, out: &str) -> Value {
        running.end(JOB).unwrap();
        assert!(fs::read(self.net.file(out)).unwrap() == work.expected, "{out} differs from the local result");
        self.counted_once()
    }

    /// The newest job, whose tasks are each counted once.
    fn counted_once(&self) -> Value {
        let job = self.job();
        let counted: u64 = job["devices"].as_array().unwrap().iter().map(|it| it["tasks"].as_u64().unwrap()).sum();
        assert_eq!(Some(counted), job["tasks"].as_u64(), "each task is counted once: {job}");
        job
    }

    /// The newest job of the requester.
    fn job(&self) -> Value {
        self.cli.client.json(&["jobs"]).unwrap()["jobs"][0].clone()
    }

    /// Waits until the running job has this share of its tasks done.
    fn done(&self, running: &mut Running, percent: u64) {
        running.says("job ", JOB).unwrap();
        let mut repl = Repl::open(&self.cli.client).unwrap();
        wait::until(JOB, &format!("{percent} % of the tasks are done"), || {
            let job = &repl.json("jobs")?["jobs"][0];
            let (done, tasks) = (job["tasks_done"].as_u64(), job["tasks"].as_u64());
            Ok((done.map(|done| done * 100) >= tasks.map(|tasks| tasks * percent)).then_some(()))
        })
        .unwrap();
    }

    /// The job ended well: same bytes as locally, each task counted once.
    fn check(&self, running: Running, out: &str) -> Value {
        running.end(JOB).unwrap();
        assert!(fs::read(self.net.file(out)).unwrap() == self.expected, "{out} differs from the local result");
        self.counted_once()
    }

    fn gone(&self, worker: &Node, since: Instant) -> Duration {
        wait::until(FOUND, "the requester drops a silent worker", || {
            Ok((!self.cli.peers()?.contains(&worker.peer_id)).then_some(()))
        })
        .unwrap();
        since.elapsed()
    }
}

/// A job of the service [`WORK`].
struct Work {
    input: PathBuf,
    /// As a parameter.
    rounds: String,
    /// What this device alone makes of it.
    expected: Vec<u8>,
}

/// How many devices finished tasks.
fn devices_used(job: &Value) -> usize {
    job["devices"].as_array().unwrap().iter().filter(|device| device["tasks"].as_u64() > Some(0)).count()
}

/// How many devices were given up.
fn lost_devices(job: &Value) -> usize {
    job["devices"].as_array().unwrap().iter().filter(|device| device["lost"].is_string()).count()
}

/// Whether faults are to last as long as FAULTS.md says, where a shorter time shows the same.
fn long() -> bool {
    std::env::var_os("MSM_LONG").is_some_and(|value| value == "1")
}

#[test]
fn nodes_without_addresses_find_each_other() {
    const RUNS: usize = 10;
    let hosts = ["a", "b", "c", "d"];
    let (mut since_start, mut since_up) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        let net = Net::new(&hosts).unwrap();
        // Half of the runs start all at once, half one after the other.
        let mut started = Instant::now();
        let nodes: Vec<Node> = if run % 2 == 0 {
            let launched: Vec<_> =
                hosts.iter().map(|host| Node::launch(net.client(host).unwrap(), &[]).unwrap()).collect();
            launched.into_iter().map(|node| node.ready().unwrap()).collect()
        } else {
            let start = |host: &&str| {
                started = Instant::now();
                Node::start(net.client(host).unwrap(), &[]).unwrap()
            };
            hosts.iter().map(start).collect()
        };
        let up = Instant::now();
        thread::scope(|scope| {
            for node in &nodes {
                let others: Vec<_> = nodes.iter().filter(|other| other.peer_id != node.peer_id).collect();
                scope.spawn(move || node.sees(&others, FOUND).unwrap());
            }
        });
        since_start.push(started.elapsed());
        since_up.push(up.elapsed());
        if run == 0 {
            let rows = nodes[0].client.json(&["peers"]).unwrap();
            let row = &rows["peers"][0];
            assert_eq!(rows["schema"], "msm.peers/1");
            assert!(row["rtt_ms"].is_number() && row["network"].is_string() && row["gps"].is_boolean(), "{row}");
            assert!(row["addresses"].as_array().is_some_and(|addresses| !addresses.is_empty()), "{row}");
        }
        for node in nodes {
            node.leave().unwrap();
        }
    }
    for (from, times) in [("started", &since_start), ("listens", &since_up)] {
        let (median, worst) = (stats::ms(stats::median(times)), stats::ms(stats::quantile(times, 1.0)));
        eprintln!(
            "mDNS: {} nodes know each other's EQS, since the last one {from}: median {median} ms, worst {worst} ms of {RUNS}",
            hosts.len()
        );
    }
    assert!(stats::quantile(&since_start, 1.0) < Duration::from_secs(10), "{since_start:?}");
}

#[test]
fn a_job_of_one_runs_on_the_others() {
    let lab = Lab::new(&["w1", "w2", "w3"], 1024, 768);
    let running = lab.invoke("out.png");
    let job = lab.check(running, "out.png");
    eprintln!("one job on {} devices: {job}", devices_used(&job));
    assert!(devices_used(&job) >= 3, "{job}");
    assert_eq!(lab.cli.client.json(&["market", "list"]).unwrap()["markets"][0]["market"], lab.market.name.as_str());
    for worker in &lab.workers {
        let services = worker.client.json(&["search", "blur"]).unwrap();
        assert_eq!(services["services"][0]["name"], "image-blur", "the market came over the network");
    }
}

#[test]
fn b86_one_way_silence_is_noticed() {
    let lab = Lab::new(&["w1", "w2"], 2048, 1536);
    let mut running = lab.invoke("out.png");
    lab.done(&mut running, 5);
    let since = Instant::now();
    lab.net.drop_one_way("w1", "cli").unwrap();
    let noticed = lab.gone(&lab.workers[0], since);
    let job = lab.check(running, "out.png");
    eprintln!("b86: one-way silence noticed after {noticed:?}; {job}");
    assert!(noticed <= NOTICED, "noticed after {noticed:?} only");
}

#[test]
fn b91_a_stopped_worker_is_noticed_and_may_come_back() {
    /// How long it stands still (FAULTS.md says 15 s).
    const STOPPED: Duration = Duration::from_secs(15);
    // TCP, where the system itself would wait for minutes.
    let lab = Lab::with(&["w1", "w2"], 2048, 1536, &["--listen", "/ip4/0.0.0.0/tcp/0"]);
    let mut running = lab.invoke("out.png");
    lab.done(&mut running, 5);
    let since = Instant::now();
    lab.workers[0].signal(Signal::STOP).unwrap();
    let noticed = lab.gone(&lab.workers[0], since);
    let job = lab.check(running, "out.png");
    eprintln!("b91: a stopped worker noticed after {noticed:?}; {job}");
    assert!(noticed <= NOTICED, "noticed after {noticed:?} only");
    // The standstill itself, not a wait for something.
    thread::sleep(STOPPED.saturating_sub(since.elapsed()));
    lab.workers[0].signal(Signal::CONT).unwrap();
    lab.cli.sees(&[&lab.workers[0]], FOUND).unwrap();
    let running = lab.invoke("again.png");
    lab.check(running, "again.png");
}

fn busy(worker: &Node) -> anyhow::Result<bool> {
    Ok(worker.client.json(&["status"])?["running_tasks"].as_u64() > Some(0))
}

#[test]
fn b92_workers_drop_the_tasks_of_a_killed_requester() {
    /// By FAULTS.md.
    const DROPPED: Duration = Duration::from_secs(10);
    for pulled in [false, true] {
        let mut lab = Lab::new(&["w1", "w2"], 64, 64);
        // Tasks that would run for their whole minute.
        let input = lab.net.file("input.bin");
        fs::write(&input, [0; 16 * 1024]).unwrap();
        let args = ["invoke", "endless", text(&input).unwrap(), "-o", "/dev/null", "--devices", "3"];
        let _running = Running::start(&lab.cli.client, &args).unwrap();
        wait::until(JOB, "both workers are busy", || {
            Ok((busy(&lab.workers[0])? && busy(&lab.workers[1])?).then_some(()))
        })
        .unwrap();
        if pulled {
            // Nobody tells the workers: no FIN, no reset.
            lab.net.cable("cli", false).unwrap();
        }
        lab.cli.kill().unwrap();
        let since = Instant::now();
        for worker in &lab.workers {
            wait::until(FOUND, "the worker is idle", || Ok((!busy(worker)?).then_some(()))).unwrap();
        }
        let dropped = since.elapsed();
        eprintln!("b92: tasks of a killed requester (cable pulled: {pulled}) dropped after {dropped:?}");
        assert!(dropped <= DROPPED, "{dropped:?}");
    }
}

#[test]
fn b98_alone_a_job_runs_here() {
    let mut lab = Lab::new(&["w1", "w2"], 512, 384);
    for worker in &mut lab.workers {
        worker.kill().unwrap();
    }
    let running = lab.invoke("killed.png");
    let job = lab.check(running, "killed.png");
    assert_eq!(devices_used(&job), 1, "all workers were gone: {job}");

    lab.net.only_link_local("cli").unwrap();
    let running = lab.invoke("link-local.png");
    lab.check(running, "link-local.png");

    lab.net.cable("cli", false).unwrap();
    let running = lab.invoke("no-link.png");
    lab.check(running, "no-link.png");

    // And so does a node that starts without any network.
    lab.cli.kill().unwrap();
    lab.cli = Node::start(lab.net.client("cli").unwrap(), &[]).unwrap();
    let running = lab.invoke("started-alone.png");
    let job = lab.check(running, "started-alone.png");
    assert_eq!(devices_used(&job), 1, "{job}");
}

#[test]
fn a_network_leaves_nothing_behind() {
    let ours = || {
        let list = Command::new("ip").args(["netns", "list"]).output().unwrap();
        let prefix = format!("msmt-{}-", std::process::id());
        String::from_utf8_lossy(&list.stdout).lines().filter(|line| line.starts_with(&prefix)).count()
    };
    let failed = std::panic::catch_unwind(|| {
        let net = Net::new(&["a", "b"]).unwrap();
        let node = Node::start(net.client("a").unwrap(), &[]).unwrap();
        assert_eq!(ours(), 3, "two hosts and their bridge");
        // The network goes first, with the node still running in it.
        drop(net);
        assert!(!std::path::Path::new(&format!("/proc/{}/net/dev", node.pid())).exists(), "the node was ended");
        panic!("as a failing test does");
    });
    assert!(failed.is_err());
    assert_eq!(ours(), 0);
}
