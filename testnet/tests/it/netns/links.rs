//! Bad links between real nodes: lost, late, doubled and slow frames, and links that come and go.

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use msm_testnet::{
    delay::{Faults, Flap, Way},
    net::Net,
    node::Node,
    stats, wait,
};

use super::{FOUND, Lab, devices_used, lost_devices};

/// About 30 ms of work for a part.
const ROUNDS: u32 = 8_000;
const MS: Duration = Duration::from_millis(1);
/// The relay's draws; `MSM_SEED` tries others.
const SEED: u64 = 4;
/// A datagram that is not answered by then is lost.
const ANSWER: Duration = Duration::from_secs(2);

pub fn seed() -> u64 {
    let given = std::env::var("MSM_SEED").ok().map(|text| text.parse().expect("MSM_SEED is a number"));
    let seed = given.unwrap_or(SEED);
    eprintln!("MSM_SEED={seed}");
    seed
}

/// Answers every datagram on `host` for as long as it lives.
struct Echo {
    address: String,
    socket: UdpSocket,
}

impl Echo {
    fn start(net: &Net, host: &str) -> Self {
        let socket = net.on(host, || Ok(UdpSocket::bind("0.0.0.0:0")?)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let (echo, address) = (socket.try_clone().unwrap(), format!("{}:{port}", net.address(host).unwrap()));
        // An empty datagram ends it.
        std::thread::spawn(move || {
            let mut bytes = [0; 2_048];
            while let Ok((length, from)) = echo.recv_from(&mut bytes) {
                if length == 0 {
                    return;
                }
                let _ = echo.send_to(&bytes[..length], from);
            }
        });
        Self { address, socket }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // To itself, inside its own host.
        let here = self.socket.local_addr().map(|at| format!("127.0.0.1:{}", at.port()));
        let _ = here.map(|here| self.socket.send_to(&[], here));
    }
}

/// Round trips of datagrams from `cli`, one after the other; `None` for one that was lost.
fn round_trips(net: &Net, echo: &Echo, count: u32) -> Vec<Option<Duration>> {
    let socket = net.on("cli", || Ok(UdpSocket::bind("0.0.0.0:0")?)).unwrap();
    socket.connect(&echo.address).unwrap();
    socket.set_read_timeout(Some(ANSWER)).unwrap();
    let trip = |number: u32| {
        let sent = Instant::now();
        socket.send(&number.to_le_bytes()).unwrap();
        let mut bytes = [0; 4];
        // A late copy of an earlier one is not the answer.
        while socket.recv(&mut bytes).ok()? != 4 || u32::from_le_bytes(bytes) != number {}
        Some(sent.elapsed())
    };
    (0..count).map(trip).collect()
}

/// The instrument first: the round trip that was set is the one that is measured.
#[test]
fn a_link_has_the_delay_that_it_was_told() {
    let mut net = Net::new(&["cli", "w1"]).unwrap();
    let echo = Echo::start(&net, "w1");
    // Addresses are asked for once.
    round_trips(&net, &echo, 3);
    for delay in [0, 10, 100] {
        net.link("w1", Faults::delay(delay * MS), seed()).unwrap();
        round_trips(&net, &echo, 2);
        let trips: Vec<Duration> = round_trips(&net, &echo, 15).into_iter().flatten().collect();
        let (least, median) = (stats::quantile(&trips, 0.0), stats::median(&trips));
        eprintln!("{delay} ms each way: round trip {least:?}, median {median:?} of {}", trips.len());
        assert_eq!(trips.len(), 15, "none is lost");
        assert!(least >= 2 * delay * MS, "never early: {least:?}");
        // The quickest of them, as this machine may be busy with something else during the others.
        assert!(least <= 2 * delay * MS + 5 * MS, "and not late: {least:?}");
    }
    // What msm itself measures, by its pings.
    let nodes = ["cli", "w1"].map(|host| Node::start(net.client(host).unwrap(), &[]).unwrap());
    nodes[0].sees(&[&nodes[1]], FOUND).unwrap();
    let (rtt, _) = wait::until(FOUND, "a ping has come back", || {
        Ok(nodes[0].client.json(&["peers"])?["peers"][0]["rtt_ms"].as_f64().filter(|rtt| *rtt >= 200.0))
    })
    .unwrap();
    eprintln!("msm peers says {rtt} ms");
    assert!(rtt < 400.0, "{rtt} ms");
}

/// The instrument: shares of loss and the directions of a cut.
#[test]
fn a_link_loses_and_closes_as_it_was_told() {
    let mut net = Net::new(&["cli", "w1"]).unwrap();
    let echo = Echo::start(&net, "w1");
    round_trips(&net, &echo, 3);
    net.link("w1", Faults { loss: 1.0, ..Faults::default() }, seed()).unwrap();
    let sends = net.on("cli", || Ok(UdpSocket::bind("0.0.0.0:0")?)).unwrap();
    for _ in 0..10 {
        sends.send_to(b"lost", &echo.address).unwrap();
    }
    wait::until(FOUND, "all are lost", || Ok((net.counts("w1").lost >= 10).then_some(()))).unwrap();
    for way in [Way::FromHost, Way::ToHost] {
        net.link("w1", Faults { silent: Some(way), ..Faults::default() }, seed()).unwrap();
        let before = net.counts("w1");
        sends.send_to(b"one way", &echo.address).unwrap();
        wait::until(FOUND, "it meets the closed way", || Ok((net.counts("w1").closed > before.closed).then_some(())))
            .unwrap();
        // On its way back it has come through once.
        let through = net.counts("w1").passed > before.passed;
        assert!(through || way == Way::ToHost, "{way:?}: {:?}", net.counts("w1"));
    }
    net.link("w1", Faults::default(), seed()).unwrap();
    wait::until(FOUND, "it is whole again", || Ok(round_trips(&net, &echo, 1)[0])).unwrap();
}

/// Jobs until one of them was shared, at most: a requester that is quick enough by itself may keep one or two.
const TRIES: usize = 6;

/// Puts these faults on the links of both workers and runs jobs of `parts` until others than this device took part; their
/// records.
fn jobs_under(lab: &mut Lab, faults: Faults, parts: usize) -> Vec<serde_json::Value> {
    for (number, worker) in ["w1", "w2"].iter().enumerate() {
        lab.net.link(worker, faults, seed() + number as u64).unwrap();
    }
    let work = lab.work(parts, ROUNDS);
    let mut jobs = Vec::new();
    while jobs.last().is_none_or(|job| devices_used(job) < 2) {
        assert!(jobs.len() < TRIES, "bad links are links: {jobs:#?}");
        let running = lab.start(&work, "out.bin");
        jobs.push(lab.check_work(&work, running, "out.bin"));
    }
    eprintln!("{faults:?}\n  {:?}\n  {jobs:?}", ["w1", "w2"].map(|worker| lab.net.counts(worker)));
    jobs
}

#[test]
fn b83_a_fifth_of_all_packets_is_lost() {
    let mut lab = Lab::new(&["w1", "w2"], 64, 64);
    jobs_under(&mut lab, Faults { loss: 0.2, ..Faults::default() }, 128);
    let lost = ["w1", "w2"].map(|worker| lab.net.counts(worker).lost);
    assert!(lost.iter().all(|lost| *lost >= 10), "both links lost packets: {lost:?}");
}

#[test]
fn b84_a_link_of_64_kbit_a_second() {
    let mut lab = Lab::new(&["w1", "w2"], 256, 192);
    let slow = Faults { rate: Some(64_000), ..Faults::default() };
    for job in jobs_under(&mut lab, slow, 128) {
        assert_eq!(lost_devices(&job), 0, "slow is not dead: {job}");
    }
    // A picture that such a link takes 20 s for: the job does not wait for it.
    let running = lab.invoke("out.png");
    lab.check(running, "out.png");
}

#[test]
fn b85_late_doubled_and_out_of_order_is_not_dead() {
    let mut lab = Lab::new(&["w1", "w2"], 64, 64);
    let faults = Faults { delay: 300 * MS, jitter: 200 * MS, reorder: 0.5, duplicate: 0.05, ..Faults::default() };
    for job in jobs_under(&mut lab, faults, 256) {
        assert_eq!(lost_devices(&job), 0, "nobody was taken for dead: {job}");
    }
    for worker in ["w1", "w2"] {
        let counts = lab.net.counts(worker);
        assert!(counts.doubled > 0 && counts.overtook > 0, "{worker}: {counts:?}");
    }
    let log = lab.cli.log();
    assert!(!log.contains("peer left"), "nobody left:\n{log}");
}

/// New connections that `host` has tried to make so far, each try counted.
fn dials(net: &Net, host: &str) -> u64 {
    let output = net.command(host, "nft").unwrap().args(["list", "table", "inet", "dials"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let count = text.split("packets ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    count.unwrap_or_else(|| panic!("no counter in {text}"))
}

/// A link that is there for a second and away for the next. By FAULTS.md it flaps for 60 s: the figure is dials a second,
/// which 20 s show as well; `MSM_LONG=1` takes the minute.
#[test]
fn b87_a_flapping_link_is_not_dialled_all_the_time() {
    let flapping = Duration::from_secs(if super::long() { 60 } else { 20 });
    // TCP, where each dial begins with a packet that can be counted (and sent again, which counts too).
    let mut lab = Lab::with(&["w1", "w2"], 64, 64, &["--listen", "/ip4/0.0.0.0/tcp/0"]);
    let hosts = ["cli", "w1", "w2"];
    for host in hosts {
        let rule = "tcp flags & (syn | ack) == syn counter";
        let table = format!("table inet dials {{ chain out {{ type filter hook output priority 0; {rule}; }}; }}");
        assert!(lab.net.command(host, "nft").unwrap().arg(table).status().unwrap().success());
    }
    let work = lab.work(192, ROUNDS);
    let (second, started) = (Duration::from_secs(1), Instant::now());
    lab.net.link("w1", Faults { flap: Some(Flap { on: second, off: second }), ..Faults::default() }, seed()).unwrap();
    let (mut jobs, mut left) = (0, 0);
    while started.elapsed() < flapping {
        let running = lab.start(&work, "out.bin");
        let job = lab.check_work(&work, running, "out.bin");
        left += lost_devices(&job);
        jobs += 1;
    }
    let took = started.elapsed();
    let dialled = hosts.map(|host| dials(&lab.net, host));
    let rate = dialled.iter().max().copied().unwrap_or(0) as f64 / took.as_secs_f64();
    eprintln!(
        "b87: {jobs} jobs in {took:?} of flapping, {left} times lost, dials {dialled:?}: at most {rate:.2} a second"
    );
    assert!(lab.net.counts("w1").closed > 0, "it flapped");
    assert!(rate <= 1.0, "{dialled:?}");
    lab.net.link("w1", Faults::default(), seed()).unwrap();
    lab.cli.sees(&[&lab.workers[0]], FOUND).unwrap();
    // The counter counts: a dial is seen.
    let before = dials(&lab.net, "cli");
    lab.net.on("cli", || Ok(std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, 9)).is_err())).unwrap();
    assert!(dials(&lab.net, "cli") > before);
}
