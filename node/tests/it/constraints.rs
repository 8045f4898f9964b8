//! Constraints while a job runs: a worker that falls short of them hands its tasks back at once and says why.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use msm_node::{
    command::{Devices, Event, Invoke, JobReport},
    home::Home,
};

use crate::{gpsd::Receiver, rig::*};

/// Battery charge in percent that the service wants.
const BATTERY: u32 = 50;

/// A service for devices with a fix and some battery that takes its time, without work, for each line.
fn waiter(lab: &Lab) -> PathBuf {
    let more = format!(
        "[params]\nms = {{ type = \"integer\", minimum = 1, maximum = 60000 }}\n[work]\nsplit = \"lines:1\"\n\
         deterministic = true\n[constraints]\ngps = \"REQ\"\nbattery = {BATTERY}\n[limits]\ntime = \"60s\""
    );
    let source = "export async function run(input, ctx) {
          await new Promise(done => setTimeout(done, ctx.params.ms));
          return new TextDecoder().decode(input).toUpperCase();
        }";
    lab.service("waiter", "1.0.0", &more, source)
}

/// A requester that cannot do the job itself, and a worker that stays fit.
struct Scene {
    lab: Lab,
    market: Market,
    phone: Node,
    steady: Node,
}

impl Scene {
    async fn new() -> Self {
        let lab = Lab::new();
        let market = lab.market("shop", &[waiter(&lab)]);
        let home = lab.requester("phone");
        market.served_by(&home);
        let phone = Node::start(&home, &[]).await;
        let home = lab.home_with("steady", &format!("listen = [{TCP:?}]"), &Receiver::outdoors().config());
        market.trusted_by(&home);
        let steady = Node::start_near(&home, &phone).await;
        let scene = Self { lab, market, phone, steady };
        scene.ready(&scene.steady).await;
        scene
    }

    /// A home for a second worker, which follows `receiver`.
    fn home(&self, name: &str, receiver: &Receiver) -> Home {
        let home = self.lab.home_with(name, &format!("listen = [{TCP:?}]"), &receiver.config());
        self.market.trusted_by(&home);
        home
    }

    async fn ready(&self, node: &Node) {
        self.phone.sees(&[node]).await;
        node.has_index(&self.market, 2).await;
        until(&format!("{} has a fix", node.name), SOON, async || node.status().await.gps.then_some(())).await;
    }

    /// Runs a job on both workers, of one task more than either takes at a time; when `weak` has begun its first, `fall`
    /// happens to it. What became of the job, how long it took until `weak` was lost, and with which words.
    async fn job(&self, ms: u32, weak: &Node, mut fall: impl FnMut()) -> (JobReport, Duration, String) {
        let params = serde_json::json!({ "ms": ms }).as_object().unwrap().clone();
        let devices = Devices::Range { min: 2, max: 2 };
        let invoke = Invoke { service: "waiter".into(), params, devices, ..Invoke::default() };
        let (mut fallen, mut lost) = (None, None);
        let (report, output) = self
            .phone
            .job(invoke, "a\nb\nc\n", |event| match event {
                Event::TaskStarted { peer_id, .. } if *peer_id == weak.peer && fallen.is_none() => {
                    fall();
                    fallen = Some(Instant::now());
                }
                Event::DeviceLost { peer_id, reason, tasks_back, .. } => {
                    assert!(*peer_id == weak.peer && *tasks_back >= 1, "{reason}: {tasks_back} tasks");
                    lost = Some((fallen.unwrap().elapsed(), reason.clone()));
                }
                _ => {}
            })
            .await;
        assert_eq!(output, "A\nB\nC\n");
        assert_counted_once(&report);
        let (after, reason) = lost.unwrap_or_else(|| panic!("nobody was lost: {report:?}"));
        (report, after, reason)
    }

    /// A job of two tasks now runs on the steady worker alone.
    async fn only_the_steady_one_is_asked(&self) {
        let params = serde_json::json!({ "ms": 1 }).as_object().unwrap().clone();
        let invoke = Invoke { service: "waiter".into(), params, ..Invoke::default() };
        let (report, _) = self.phone.job(invoke, "a\nb\n", |_| {}).await;
        let devices: Vec<_> = report.devices.iter().map(|device| device.peer_id).collect();
        assert_eq!(devices, [self.steady.peer], "{report:?}");
    }
}

#[tokio::test]
async fn a_worker_that_loses_its_fix_hands_its_tasks_back() {
    let scene = Scene::new().await;
    let receiver = Receiver::outdoors();
    let weak = Node::start_near(&scene.home("weak", &receiver), &scene.phone).await;
    scene.ready(&weak).await;
    let (_, after, reason) = scene.job(4_000, &weak, || receiver.goes_indoors()).await;
    assert!(reason.contains("no position source"), "{reason}");
    // A sample is taken every 2 s; the rest is for a busy machine.
    assert!(after < Duration::from_secs(5), "{after:?}");
    assert!(!weak.status().await.gps);
    scene.only_the_steady_one_is_asked().await;
}

/// A laptop's battery in files, as the kernel shows it.
struct Battery(PathBuf);

impl Battery {
    /// One of 50 Wh, in a copy of the kernel's classes in `folder`.
    fn discharging(folder: &Path, percent: u32) -> Self {
        let battery = folder.join("power_supply/BAT0");
        fs::create_dir_all(&battery).unwrap();
        // The links to interfaces go on leading to them from their copies.
        let copied = Command::new("cp").arg("-a").arg("/sys/class/net").arg(folder).status().unwrap();
        assert!(copied.success());
        for (name, value) in [
            ("type", "Battery"),
            ("status", "Discharging"),
            ("energy_full", "50000000"),
            ("energy_full_design", "57000000"),
            ("power_now", "8000000"),
            ("voltage_now", "11400000"),
            ("voltage_min_design", "11100000"),
        ] {
            fs::write(battery.join(name), format!("{value}\n")).unwrap();
        }
        let battery = Self(battery);
        battery.falls_to(percent);
        battery
    }

    fn falls_to(&self, percent: u32) {
        fs::write(self.0.join("energy_now"), format!("{}\n", percent * 500_000)).unwrap();
    }

    /// A command that runs `msm` where these are the kernel's classes.
    fn in_place(folder: &Path) -> Command {
        let mut command = Command::new("unshare");
        // Root needs no user namespace for it.
        let how = if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" };
        command.args([how, "sh", "-ec", "mount --bind \"$0\" /sys/class; exec \"$@\""]).arg(folder).arg(MSM);
        command
    }
}

#[tokio::test]
async fn a_worker_whose_battery_falls_under_the_threshold_hands_its_tasks_back() {
    let scene = Scene::new().await;
    let classes = scene.lab.path("classes");
    let battery = Battery::discharging(&classes, 80);
    let receiver = Receiver::outdoors();
    let home = scene.home("weak", &receiver);
    let weak = Node::start_by(Battery::in_place(&classes), &home, &["--peer", &scene.phone.address]).await;
    scene.ready(&weak).await;
    let charge = weak.status().await.battery;
    assert!((charge - 0.8).abs() < 0.01, "the battery is the one in the files: {charge}");

    let (_, after, reason) = scene.job(15_000, &weak, || battery.falls_to(BATTERY - 9)).await;
    // Whom he knows gets the number.
    assert!(reason.contains("battery 41 % < 50 %"), "{reason}");
    // Batteries are asked every 10 s.
    assert!(after < Duration::from_secs(14), "{after:?}");
    scene.only_the_steady_one_is_asked().await;
}
