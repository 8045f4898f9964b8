//! Hosts that are odd: asleep for a while, with another idea of the time since they started, almost without descriptors.

use std::{
    fs,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use msm_testnet::{node::Node, wait};
use rustix::process::Signal;

use super::{FOUND, JOB, Lab, devices_used, lost_devices};

/// About 30 ms of work for a part.
const ROUNDS: u32 = 8_000;

/// A device that was asleep sees all of its leases over at once. Its workers may be gone, or as they were.
#[test]
fn b90_after_ten_days_of_sleep_leases_end_once() {
    /// Longer than leases and silences are allowed to be.
    const ASLEEP: Duration = Duration::from_secs(12);
    const PARTS: usize = 96;
    let mut lab = Lab::new(&["w1", "w2"], 64, 64);
    // One worker's clock since it was started is ten days ahead of the others'.
    lab.workers[1].kill().unwrap();
    let ahead = ["--time", "--boottime", "864000", "--monotonic", "864000", "--fork", "--kill-child"];
    let client = lab.workers[1].client.clone().by("unshare", &ahead);
    lab.workers[1] = Node::start(client, &[]).unwrap();
    lab.cli.sees(&[&lab.workers[1]], FOUND).unwrap();
    let work = lab.work(PARTS, ROUNDS);

    let mut running = lab.start(&work, "out.bin");
    running.says("job ", JOB).unwrap();
    wait::until(JOB, "it runs", || Ok((lab.job()["tasks_done"].as_u64() > Some(8)).then_some(()))).unwrap();
    // What sleeps hears nothing and does nothing, and then all of its timers are due.
    lab.cli.signal(Signal::STOP).unwrap();
    thread::sleep(ASLEEP);
    lab.cli.signal(Signal::CONT).unwrap();
    let job = lab.check_work(&work, running, "out.bin");
    eprintln!("b90: {job}");
    let again = job["tasks_rerun"].as_u64().unwrap();
    assert!(again < PARTS as u64 / 2, "what was under way is done again, and not more: {job}");
    lab.cli.sees(&lab.workers.iter().collect::<Vec<_>>(), FOUND).unwrap();
    // All of them work again, and nobody leaves. Whether a busy machine asks for all three at once is another question.
    let mut idle: Vec<&str> = lab.workers.iter().map(|worker| worker.peer_id.as_str()).collect();
    wait::until(JOB, "both workers have worked again", || {
        let running = lab.start(&work, "again.bin");
        let job = lab.check_work(&work, running, "again.bin");
        assert_eq!(lost_devices(&job), 0, "{job}");
        let rows = job["devices"].as_array().unwrap();
        idle.retain(|peer| !rows.iter().any(|row| row["peer_id"] == *peer && row["tasks"].as_u64() > Some(0)));
        Ok(idle.is_empty().then_some(()))
    })
    .unwrap();
}

/// CPU time of a process, its children left out.
fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
    // Fields 14 and 15 of proc(5), in ticks of 10 ms on every Linux that we know.
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

/// Descriptors that a process has open.
fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// A worker that may have 64 descriptors, and then hardly more than it has, is given connections: it waits, and serves
/// again when it may have some.
#[test]
fn b93_without_descriptors_a_node_waits() {
    const OPEN: usize = 200;
    const WATCHED: Duration = Duration::from_secs(5);
    let tcp = ["--listen", "/ip4/0.0.0.0/tcp/7481"];
    let mut lab = Lab::with(&["w1"], 64, 64, &tcp);
    lab.net.add_host("atk").unwrap();
    lab.workers[0].kill().unwrap();
    let client = lab.workers[0].client.clone().by("prlimit", &["--nofile=64:64"]);
    lab.workers[0] = Node::start(client, &tcp).unwrap();
    let worker = &lab.workers[0];
    lab.cli.sees(&[worker], FOUND).unwrap();
    let address = format!("{}:7481", lab.net.address("w1").unwrap());
    // By itself it stops before the limit: strangers get a few connections only.
    let limit = |files: usize| {
        let line = ["--pid".to_owned(), worker.pid().to_string(), format!("--nofile={files}:64")];
        assert!(std::process::Command::new("prlimit").args(line).status().unwrap().success());
    };
    limit(open_files(worker.pid()) + 1);
    let open = lab.net.on("atk", || {
        let connect = |_| TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(1)).ok();
        Ok((0..OPEN).filter_map(connect).collect::<Vec<_>>())
    });
    let open = open.unwrap();
    let (before, since) = (cpu(worker.pid()), Instant::now());
    // What is measured is that nothing happens.
    thread::sleep(WATCHED);
    let share = (cpu(worker.pid()) - before).as_secs_f64() / since.elapsed().as_secs_f64();
    let held = open_files(worker.pid());
    eprintln!("b93: {} connections of a stranger, {held} descriptors, {:.1} % of a core", open.len(), share * 100.0);
    assert!(held <= 64);
    assert!(share <= 0.05, "a busy loop: {share}");
    drop(open);
    limit(64);
    lab.cli.sees(&[worker], FOUND).unwrap();
    let work = lab.work(64, ROUNDS);
    let running = lab.start(&work, "out.bin");
    let job = lab.check_work(&work, running, "out.bin");
    assert_eq!(devices_used(&job), 2, "it works again: {job}");
}
