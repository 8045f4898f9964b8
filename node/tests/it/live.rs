//! More of workers that fall short of a service: what strangers hear of it, and a link that goes down.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use msm_node::command::{Devices, Event, Invoke};

use crate::{gpsd::Gpsd, rig::*};

/// A change is noticed with the next sample, after 2 s; the rest is for a busy machine. It is less than a part takes:
/// who looks only between two parts is too late.
const NOTICED: Duration = Duration::from_millis(4_500);
/// A part of the job.
const PART_MS: u32 = 6_000;
/// The middle of a cell.
const PLACE: (f64, f64) = (46.51, 7.51);

/// Parts that wait and do not compute: there are fewer cores than devices here.
fn waiter(lab: &Lab, constraints: &str) -> PathBuf {
    let more = format!("[work]\nsplit = \"service\"\ndeterministic = true\n[constraints]\n{constraints}");
    let source = "const text = (bytes) => new TextDecoder().decode(bytes);
        export function* split(input) { for (const line of text(input).trim().split('\\n')) yield line; }
        export async function run(input) {
          await new Promise((done) => setTimeout(done, PART_MS));
          return text(input).toUpperCase() + '\\n';
        }
        export const merge = (parts) => parts.map(text).join('');";
    lab.service("waiter", "1.0.0", &more, &source.replace("PART_MS", &PART_MS.to_string()))
}

fn call(devices: u32) -> Invoke {
    let devices = Devices::Range { min: devices, max: devices };
    Invoke { service: "waiter".into(), devices, ..Invoke::default() }
}

/// Runs a job and makes `falling` fall short once it has started a part; returns the reason that the job got to hear.
/// The job must be whole all the same.
async fn falls_short(requester: &Node, falling: &Node, parts: usize, fall: impl FnOnce()) -> String {
    let (mut fall, mut fell, mut told) = (Some(fall), None, None);
    let text: String = (0..parts).map(|n| format!("part {n}\n")).collect();
    let (report, output) = requester
        .job(call(2), text.clone(), |event| match event {
            Event::TaskStarted { peer_id, .. } if *peer_id == falling.peer => {
                if let Some(fall) = fall.take() {
                    fall();
                    fell = Some(Instant::now());
                }
            }
            Event::DeviceLost { peer_id, reason, tasks_back, .. } if *peer_id == falling.peer => {
                told = Some((reason.clone(), *tasks_back, fell.map(|fell| fell.elapsed())));
            }
            _ => {}
        })
        .await;
    assert_eq!(output, text.to_uppercase());
    assert_counted_once(&report);
    let (reason, back, after) = told.unwrap_or_else(|| panic!("nobody was lost: {report:?}\n{}", falling.log()));
    let after = after.expect("it fell before it was lost");
    eprintln!("{}: handed {back} tasks back {after:?} after it fell short: {reason}", falling.name);
    assert!(after < NOTICED, "{after:?}");
    assert!(back > 0, "a task was running");
    until("nothing runs there any more", SOON, async || (falling.status().await.running_tasks == 0).then_some(()))
        .await;
    reason
}

/// The next job leaves it out, and the plan says why.
async fn is_left_out(requester: &Node, falling: &Node, why: &str) {
    fs::write(requester.home.folder().join("in.txt"), "one\ntwo\n").unwrap();
    let plan = msm(&requester.home, &["invoke", "waiter", "in.txt", "--devices", "3", "--plan", "--json"]).await.json();
    let rows = plan["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["peer_id"] == falling.peer.to_string()).unwrap();
    assert_eq!(row["used"], false, "{plan}");
    assert!(row["why"].as_str().unwrap().contains(why), "{plan}");
}

/// False where the kernel does not let this user have namespaces: then what needs them is not shown.
fn namespaces(flags: &str) -> bool {
    let made = Command::new("unshare").args([flags, "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    let may = made.is_ok_and(|output| output.status.success());
    if !may {
        eprintln!("SKIPPED: not shown here: unshare {flags} is not allowed");
    }
    may
}

#[tokio::test]
async fn a_stranger_hears_that_a_worker_falls_short_and_no_numbers() {
    let lab = Lab::new();
    let market = lab.market("shop", &[waiter(&lab, "gps = \"REQ\"")]);
    fs::create_dir_all(lab.path("receivers")).unwrap();
    let mut receivers = [0, 1].map(|_| Some(Gpsd::walking_from(&lab.path("receivers"), PLACE)));
    let mut workers = Vec::new();
    for (n, receiver) in receivers.iter().flatten().enumerate() {
        let home = lab.home_with(&format!("worker{n}"), &format!("listen = [{TCP:?}]"), &receiver.config());
        if n == 0 {
            market.served_by(&home)
        } else {
            market.trusted_by(&home)
        }
        workers.push(Node::start(&home, &[]).await);
    }
    // Nobody named the phone: it is a stranger to both.
    let home = lab.requester("phone");
    market.trusted_by(&home);
    let flags: Vec<&str> = workers.iter().flat_map(|worker| ["--peer", &worker.address]).collect();
    let phone = Node::start(&home, &flags).await;
    let workers: Vec<&Node> = workers.iter().collect();
    phone.sees(&workers).await;
    phone.has_index(&market, 2).await;
    for worker in &workers {
        worker.has_index(&market, 2).await;
        until("it has a fix", SOON, async || worker.status().await.gps.then_some(())).await;
    }
    let reason = falls_short(&phone, workers[1], 3, || drop(receivers[1].take())).await;
    assert!(reason.contains("constraint: this device does not meet the service's constraints now"), "{reason}");
    is_left_out(&phone, workers[1], "no position source").await;
}

/// A network namespace with a link to nowhere, and somebody who holds it.
struct Island(Child);

impl Island {
    fn new() -> Self {
        // sysfs shows the interfaces of the namespace in which it was mounted.
        let script =
            "mount -t sysfs none /sys; ip link set lo up; ip link add wan type veth peer name far; ip link set far up
            ip addr add 198.51.100.2/24 dev wan; ip link set wan up; ip route add default dev wan
            echo ready; exec cat";
        let mut held = Command::new("unshare")
            .args(["-Urmn", "sh", "-ec", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let out = held.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        Self(held)
    }

    /// Runs a program in it.
    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.0.id().to_string(), "-U", "--preserve-credentials", "-n", "-m", program]);
        command
    }

    fn run(&self, line: &str) {
        let ran = self.inside("sh").args(["-ec", line]).output().unwrap();
        assert!(ran.status.success(), "{line}: {}", String::from_utf8_lossy(&ran.stderr));
    }
}

impl Drop for Island {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_worker_that_loses_its_network_hands_its_tasks_back() {
    if !namespaces("-Urmn") {
        return;
    }
    let lab = Lab::new();
    let market = lab.market("shop", &[waiter(&lab, "network = \"HIGH\"")]);
    let island = Island::new();
    let home = lab.requester("phone");
    market.served_by(&home);
    let phone = Node::start_by(island.inside(MSM), &home, &[]).await;
    let home = lab.home("desk");
    market.trusted_by(&home);
    let desk = Node::start_by(island.inside(MSM), &home, &["--peer", &phone.address]).await;
    phone.sees(&[&desk]).await;
    desk.has_index(&market, 2).await;
    // Both lose their way to the internet, and keep the one between them: the phone's own work goes on.
    let reason = falls_short(&phone, &desk, 4, || island.run("ip link set wan down")).await;
    assert!(reason.contains("constraint: network off < high"), "{reason}");
    island.run("ip link set wan up; ip route add default dev wan");
    until("the network is seen", NOTICED, async || {
        (desk.status().await.network == msm_protocol::device::Network::High).then_some(())
    })
    .await;
}
