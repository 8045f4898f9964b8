//! The owner's limits: what he says while others use his device happens at once, and is told to them in words.

use std::{
    fs::{self, File, FileTimes},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use msm_node::command::{self, Devices, Event, Invoke, JobReport, Reply};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::Notify,
};

use crate::rig::*;

/// Waits, without work, for each line; or computes for ever.
fn waiter(lab: &Lab) -> PathBuf {
    let more = "[params]\nms = { type = \"integer\", minimum = 1, maximum = 60000 }\n[work]\nsplit = \"lines:1\"\n\
                deterministic = true\n[limits]\ntime = \"60s\"";
    let source = "export async function run(input, ctx) {
          await new Promise(done => setTimeout(done, ctx.params.ms));
          return new TextDecoder().decode(input).toUpperCase();
        }";
    lab.service("waiter", "1.0.0", more, source)
}

fn waits(devices: u32, ms: u32) -> Invoke {
    let params = serde_json::json!({ "ms": ms }).as_object().unwrap().clone();
    let devices = Devices::Range { min: devices, max: devices };
    Invoke { service: "waiter".into(), params, devices, ..Invoke::default() }
}

/// A requester and two workers that know it; the second is started by a command of its own, with its own `[offer]`.
struct Scene {
    lab: Lab,
    market: Market,
    phone: Node,
    /// Kept running for the tasks that come back.
    _steady: Node,
}

impl Scene {
    async fn new() -> Self {
        let lab = Lab::new();
        let market = lab.market("shop", &[waiter(&lab), lab.grind()]);
        let home = lab.requester("phone");
        market.served_by(&home);
        let phone = Node::start(&home, &[]).await;
        let home = lab.home("steady");
        market.trusted_by(&home);
        let steady = Node::start_near(&home, &phone).await;
        steady.has_index(&market, 2).await;
        Self { lab, market, phone, _steady: steady }
    }

    async fn owned(&self, how: Command, offer: &str) -> Node {
        let home = self.lab.home_with("owned", &format!("listen = [{TCP:?}]"), offer);
        self.market.trusted_by(&home);
        let node = Node::start_by(how, &home, &["--peer", &self.phone.address]).await;
        self.phone.sees(&[&node]).await;
        node.has_index(&self.market, 2).await;
        node
    }

    /// Runs a job that takes long on both workers and here. When `owned` has a task, `act`; then the rest is done by the other.
    /// The reason that the requester got to hear, and how long after `act` began the last child was gone.
    async fn handed_back(&self, owned: &Node, act: impl AsyncFnOnce()) -> (String, Duration, JobReport) {
        let (began, mut lost) = (Notify::new(), None);
        let acts = async {
            began.notified().await;
            until("its task runs", SOON, async || (owned.status().await.running_tasks > 0).then_some(())).await;
            let before = owned.children();
            let start = Instant::now();
            act().await;
            until("a child of it is gone", SOON, async || {
                let now = owned.children();
                before.iter().any(|child| !now.iter().any(|other| other.0 == child.0)).then_some(())
            })
            .await;
            start.elapsed()
        };
        let job = self.phone.job(waits(3, 3_000), "a\nb\nc\nd\ne\nf\ng\nh\n", |event| match event {
            Event::TaskStarted { peer_id, .. } if *peer_id == owned.peer => began.notify_one(),
            Event::DeviceLost { peer_id, name, reason, tasks_back, .. } => {
                assert!(*peer_id == owned.peer && name == "owned" && *tasks_back > 0, "{name}: {reason}");
                lost = Some(reason.clone());
            }
            _ => {}
        });
        let ((report, output), after) = tokio::join!(job, acts);
        assert_eq!(output, "A\nB\nC\nD\nE\nF\nG\nH\n");
        assert_counted_once(&report);
        assert_eq!(owned.status().await.running_tasks, 0);
        (lost.unwrap_or_else(|| panic!("nobody was lost: {report:?}\n{}", owned.log())), after, report)
    }

    async fn is_left_out(&self, owned: &Node) {
        let (report, _) = self.phone.job(waits(3, 1), "a\nb\nc\n", |_| {}).await;
        assert!(!report.devices.iter().any(|device| device.peer_id == owned.peer), "{report:?}");
    }
}

async fn lending(node: &Node, wanted: bool) -> String {
    until(&format!("lending is {wanted}"), SOON, async || {
        let status = node.status().await;
        (status.lending == wanted).then_some(status.lending_detail)
    })
    .await
}

#[tokio::test]
async fn a_pause_hands_tasks_back_at_once_and_outlives_a_restart() {
    let scene = Scene::new().await;
    let mut owned = scene.owned(Command::new(MSM), "slots = 1").await;
    let mut watch = owned.watch().await;
    let act = async || {
        let Reply::Lending(reply) = owned.ask(command::Command::Pause { for_s: Some(3_600) }).await.unwrap() else {
            panic!("not about lending")
        };
        assert!(!reply.lending && reply.paused && reply.until.is_some() && reply.tasks_back == 1, "{reply:?}");
    };
    let (reason, after, report) = scene.handed_back(&owned, act).await;
    eprintln!("the child was gone {after:?} after the owner's word");
    assert!(reason.contains("not-lending: paused by its owner until "), "{reason}");
    assert!(report.reruns.lost > 0, "{report:?}");
    let paused = |event| matches!(event, Event::Paused { until: Some(_), tasks_back: 1 }).then_some(());
    watch.next("it tells its watchers", SOON, paused).await;
    scene.is_left_out(&owned).await;

    // What runs for the owner himself goes on.
    let own = Invoke { local: true, ..waits(1, 10) };
    assert_eq!(owned.job(own, "own\n", |_| {}).await.1, "OWN\n");

    owned.leave().await;
    let mut owned = Node::start_near(&owned.home, &scene.phone).await;
    assert!(owned.status().await.paused);
    scene.is_left_out(&owned).await;
    let status = msm(&owned.home, &["status"]).await;
    assert!(
        status.text().contains("paused by its owner until") && status.err.contains("try: msm resume"),
        "{}",
        status.err
    );
    let resumed = msm(&owned.home, &["resume", "--json"]).await.json();
    assert_eq!((&resumed["schema"], &resumed["lending"]), (&"msm.lending/1".into(), &true.into()), "{resumed}");
    owned.leave().await;
    let owned = Node::start_near(&owned.home, &scene.phone).await;
    assert!(!owned.status().await.paused);

    // One that ends by itself tells so too.
    let mut watch = owned.watch().await;
    msm(&owned.home, &["pause", "1s"]).await;
    watch.next("it is over", SOON, |event| matches!(event, Event::Resumed { .. }).then_some(())).await;
    assert!(owned.status().await.lending);
    assert!(!owned.home.pause_file().exists() || !owned.status().await.paused);
}

/// A zone east of Greenwich, as the system has it in a file: a header without transitions, one kind of time, its name.
fn zone(hours: i32) -> Vec<u8> {
    let mut file = Vec::new();
    for version in 0..2 {
        file.extend(b"TZif2");
        file.extend([0; 15]);
        // No leap seconds or indicators; one type of time, four letters.
        for count in [0_u32, 0, 0, 0, 1, 4] {
            file.extend(count.to_be_bytes());
        }
        let offset = if version == 0 { 0 } else { hours * 3_600 };
        file.extend(offset.to_be_bytes());
        file.extend([0, 0]);
        file.extend(b"TST\0");
    }
    file.extend(format!("\nTST{}\n", -hours).into_bytes());
    file
}

/// A command that runs `msm` after `setup`, in mounts of its own; `None` where this user may have none.
fn in_own_mounts(setup: &str) -> Option<Command> {
    // Root needs no user namespace for it.
    let how = if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" };
    let allowed = Command::new("unshare").args([how, "sh", "-ec", setup]).stderr(Stdio::null()).status();
    if !allowed.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: not shown here: unshare {how} is not allowed");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args([how, "sh", "-ec", &format!("{setup}; exec \"$0\" \"$@\""), MSM]);
    Some(command)
}

/// Writes into a file that is mounted elsewhere, with a time that shows the change to who looks for it.
fn rewrite(file: &Path, bytes: &[u8], age: u64) {
    fs::write(file, bytes).unwrap();
    let at = SystemTime::now() - Duration::from_secs(age);
    File::options().write(true).open(file).unwrap().set_modified(at).unwrap();
}

#[tokio::test]
async fn tasks_are_handed_back_when_the_hours_are_over() {
    let scene = Scene::new().await;
    let place = scene.lab.path("localtime");
    // Where it is noon in the middle of the hours, and an hour after them.
    let utc = (now() / 3_600 % 24) as i32;
    let (inside, outside) = (zone((12 - utc) % 24), zone((15 - utc) % 24));
    rewrite(&place, &inside, 100);
    // The file itself, not what a link leads to.
    let setup = format!(
        "mount -t tmpfs none /mnt; cp -a /etc/. /mnt; rm -f /mnt/localtime; touch /mnt/localtime
        mount --bind /mnt /etc; mount --bind '{}' /etc/localtime",
        place.display()
    );
    let Some(mut how) = in_own_mounts(&setup) else { return };
    how.env_remove("TZ");
    let owned = scene.owned(how, "slots = 1\nhours = \"11:00-14:00\"").await;
    lending(&owned, true).await;
    let (reason, ..) = scene.handed_back(&owned, async || rewrite(&place, &outside, 50)).await;
    assert!(reason.contains("not-lending: outside the hours 11:00-14:00 (offer.hours), it is 15:"), "{reason}");
    scene.is_left_out(&owned).await;
    rewrite(&place, &inside, 20);
    lending(&owned, true).await;
}

#[tokio::test]
async fn tasks_are_handed_back_when_the_owner_comes_back() {
    let scene = Scene::new().await;
    let terminals = scene.lab.path("pts");
    fs::create_dir(&terminals).unwrap();
    let typed = |ago: u64| {
        let file = File::create(terminals.join("0")).unwrap();
        file.set_times(FileTimes::new().set_accessed(SystemTime::now() - Duration::from_secs(ago))).unwrap();
    };
    typed(0);
    let setup = format!("mount --bind '{}' /dev/pts", terminals.display());
    let Some(how) = in_own_mounts(&setup) else { return };
    let owned = scene.owned(how, "slots = 1\nwhen = \"idle\"").await;
    let detail = lending(&owned, false).await;
    assert!(detail.contains("somebody used it") && detail.contains("offer.when"), "{detail}");
    scene.is_left_out(&owned).await;
    typed(600);
    lending(&owned, true).await;
    let (reason, ..) = scene.handed_back(&owned, async || typed(0)).await;
    assert!(reason.contains("not-lending: somebody used it "), "{reason}");
}

/// What the kernel counts for programs, in a second: always the same, whatever its own clock does.
const TICKS: f64 = 100.0;

/// Processor time of a process, in seconds.
fn cpu(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit_once(") ").map_or(vec![], |(_, rest)| rest.split(' ').collect());
    let ticks = |n: usize| fields.get(n).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / TICKS
}

#[tokio::test]
async fn guests_of_others_get_the_share_of_the_processor_that_is_lent() {
    let scene = Scene::new().await;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // As many guests as could take all of it.
    let owned = scene.owned(Command::new(MSM), &format!("slots = {cores}\ncpu = \"25%\"")).await;
    let measured = Notify::new();
    let measure = async {
        until("a guest computes", SOON, async || (owned.status().await.running_tasks > 0).then_some(())).await;
        let used = || owned.children().iter().map(|(pid, _)| cpu(*pid)).sum::<f64>();
        let (start, before) = (Instant::now(), used());
        tokio::time::sleep(Duration::from_secs(2)).await;
        let share = (used() - before) / start.elapsed().as_secs_f64() / cores as f64;
        measured.notify_one();
        share
    };
    let job = async {
        let (events, _) = tokio::sync::mpsc::channel(1);
        let invoke = Box::new(grind_on(3, 1_000_000_000));
        let request = command::Request { command: command::Command::Invoke(invoke), input: lines(4).into() };
        let door = scene.phone.door();
        tokio::select! {
            ended = command::Door::execute(&door, request, events) => panic!("it was to last: {ended:?}"),
            () = measured.notified() => {}
        }
    };
    let (share, ()) = tokio::join!(measure, job);
    eprintln!("guests of others got {:.1} % of {cores} cores", share * 100.0);
    assert!(share < 0.35, "{share}");
    assert!(share > 0.02, "it did compute: {share}");
}

#[tokio::test]
async fn jobs_at_once_do_not_hear_of_each_other_and_a_watcher_hears_of_both() {
    let lab = Lab::new();
    let market = lab.market("shop", &[waiter(&lab)]);
    let home = lab.home("alone");
    market.served_by(&home);
    let node = Node::start(&home, &[]).await;
    node.has_index(&market, 2).await;
    let mut watcher = tokio::process::Command::new(MSM);
    watcher.args(["events", "--json", "--home"]).arg(home.folder()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut watcher = watcher.spawn().unwrap();
    let mut lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
    // It listens when it has heard something.
    let mut heard = Vec::new();
    while heard.is_empty() {
        let probe = Invoke { service: "no-such-service".into(), local: true, ..Invoke::default() };
        assert!(node.invoke(probe, "", |_| {}).await.is_err());
        if let Ok(line) = tokio::time::timeout(Duration::from_millis(50), lines.next_line()).await {
            heard.extend(line.unwrap());
        }
    }
    let one = async || {
        let mut jobs = Vec::new();
        let local = Invoke { local: true, ..waits(1, 200) };
        let (report, _) = node.job(local, "a\nb\nc\n", |event| jobs.extend(event.job_id())).await;
        jobs.dedup();
        assert_eq!(jobs, [report.job_id], "only its own events, and those in order");
        report
    };
    let (first, second) = tokio::join!(one(), one());
    let mut done = 0;
    while done < 2 {
        let line = tokio::time::timeout(SOON, lines.next_line()).await.unwrap().unwrap().unwrap();
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(event["schema"] == "msm.event/1" && event["time"].as_f64().unwrap() > 1e9, "{line}");
        done += u32::from(event["event"] == "job-done");
        if event["event"] == "task-started" {
            assert!(event["name"] == "alone" && event["why"] == "fresh", "{line}");
        }
        heard.push(line);
    }
    for job in [first.job_id, second.job_id] {
        let of = |kind: &str| {
            let wanted = (format!("\"event\":\"{kind}\""), job.to_string());
            heard.iter().filter(|line| line.contains(&wanted.0) && line.contains(&wanted.1)).count()
        };
        assert_eq!(["task-started", "task-done", "job-done"].map(of), [3, 3, 1], "{heard:#?}");
    }
    let ended = msm(&home, &["events", "--job", &first.job_id.to_string(), "--json"]).await.error();
    assert_eq!(ended["code"], "not-found", "{ended}");
}

#[tokio::test]
async fn a_changed_config_says_that_the_node_must_be_restarted() {
    let lab = Lab::new();
    let home = lab.home("attic");
    let node = Node::start(&home, &[]).await;
    assert!(!node.status().await.config_changed);
    let text = fs::read_to_string(home.config_file()).unwrap();
    fs::write(home.config_file(), format!("{text}cpu = \"10%\"\n")).unwrap();
    let status = msm(&home, &["status"]).await.text();
    assert!(status.contains("config.toml changed since this node started: restart to use it"), "{status}");
    fs::write(home.config_file(), text).unwrap();
    assert!(!node.status().await.config_changed);
}
