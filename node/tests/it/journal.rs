//! Jobs that outlive whoever asked for them, and the node that ran them: nothing is lost, nothing is done twice.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use msm_node::{command::JobState, home::Home};
use serde_json::Value;

use crate::rig::*;

/// Parts of a job that takes a while.
const PARTS: usize = 12;

/// Folders of kept jobs.
fn journals(home: &Home) -> Vec<PathBuf> {
    let folders = fs::read_dir(home.journal_dir()).unwrap().map(|entry| entry.unwrap().path());
    folders.filter(|path| path.file_name().unwrap() != "spool").collect()
}

/// The tasks whose outputs a journal says are there, in the order in which they came.
fn accepted(home: &Home) -> Vec<u64> {
    let [folder] = journals(home).try_into().unwrap();
    let log = fs::read_to_string(folder.join("log")).unwrap();
    let records = log.lines().filter_map(|line| serde_json::from_str::<Value>(line.split_once(' ')?.1).ok());
    records.filter_map(|record| record["accepted"]["task"].as_u64()).collect()
}

async fn detached(home: &Home, devices: &str, rounds: usize) -> Ran {
    let rounds = format!("rounds={rounds}");
    msm(home, &["invoke", "grind", "in.txt", "-p", &rounds, "--devices", devices, "--detach"]).await
}

async fn state(home: &Home, id: &str) -> Value {
    msm(home, &["jobs", "show", id, "--json"]).await.json()
}

fn id_of(ran: &Ran) -> String {
    assert_eq!(ran.code, 0, "{}", ran.err);
    let id = ran.text().trim().to_owned();
    assert_eq!(id.len(), 32, "the whole id and nothing else: {id:?}");
    id
}

/// A home alone, with a text of so many lines.
fn alone(lab: &Lab, market: &Market, name: &str, count: usize) -> Home {
    let home = lab.home(name);
    market.served_by(&home);
    fs::write(home.folder().join("in.txt"), lines(count)).unwrap();
    home
}

#[tokio::test]
async fn a_detached_job_is_waited_for_and_its_result_taken_once() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let home = alone(&lab, &market, "phone", 4);
    let nobody = detached(&home, "1", 1_000).await;
    assert_eq!(nobody.code, 3, "without a node there is nobody to leave it to: {}", nobody.err);
    let _node = Node::start(&home, &[]).await;
    let id = id_of(&detached(&home, "1", 1_000).await);
    let followed = msm(&home, &["jobs", "follow", &id, "--json"]).await.json();
    assert_eq!((followed["state"].as_str(), followed["tasks"].as_u64()), (Some("done"), Some(4)), "{followed}");
    assert_eq!(journals(&home).len(), 1, "who follows takes nothing");
    let waited = msm(&home, &["jobs", "wait", &id[..8], "-o", "out.txt", "--json"]).await.json();
    let expected = grind(&lines(4), 1_000);
    assert_eq!(fs::read_to_string(home.folder().join("out.txt")).unwrap(), expected);
    assert_eq!(waited["output_bytes"].as_u64(), Some(expected.len() as u64));
    assert!(journals(&home).is_empty(), "what was taken is not kept");
    let again = msm(&home, &["jobs", "wait", &id, "--json"]).await;
    assert_eq!((again.code, again.error()["code"].as_str()), (9, Some("not-found")));

    // One that fails says so to whoever waits, with the same exit code as if he had waited from the start.
    let late = ["invoke", "grind", "in.txt", "-p", "rounds=1000000000", "--deadline", "300ms", "--detach"];
    let id = id_of(&msm(&home, &late).await);
    let waited = msm(&home, &["jobs", "wait", &id, "--json"]).await;
    assert_eq!((waited.code, waited.error()["code"].as_str()), (7, Some("deadline")));
    assert_eq!(state(&home, &id).await["state"], "failed");
}

#[tokio::test]
async fn a_cancelled_job_ends_everywhere_and_leaves_nothing() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let crew = Crew::gather(&lab, &market, 2).await;
    let home = &crew.requester.home;
    fs::write(home.folder().join("in.txt"), lines(PARTS)).unwrap();
    crew.warm(&grind_on(3, 1_000), lines(PARTS)).await;
    let id = id_of(&detached(home, "3", 1_000_000_000).await);
    for worker in &crew.workers {
        until("it works", SOON, async || (worker.status().await.running_tasks > 0).then_some(())).await;
    }
    let cancelled = msm(home, &["jobs", "cancel", &id, "--json"]).await.json();
    assert_eq!(cancelled["state"], "cancelled");
    for worker in &crew.workers {
        until("it has stopped", SOON, async || (worker.status().await.running_tasks == 0).then_some(())).await;
    }
    assert_eq!(state(home, &id).await["state"], "cancelled", "it did not fail");
    until("nothing is kept of it", SOON, async || journals(home).is_empty().then_some(())).await;
    assert_eq!(msm(home, &["jobs", "wait", &id]).await.code, 1);
    assert_eq!(msm(home, &["jobs", "cancel", &id]).await.code, 9, "it has ended");
}

#[tokio::test]
async fn b92_a_job_goes_on_after_its_node_was_killed() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let mut crew = Crew::gather(&lab, &market, 2).await;
    let home = crew.requester.home.clone();
    fs::write(home.folder().join("in.txt"), lines(PARTS)).unwrap();
    crew.warm(&grind_on(3, 1_000), lines(PARTS)).await;
    const ROUNDS: usize = 2_000_000;
    let id = id_of(&detached(&home, "3", ROUNDS).await);
    let before = until("some tasks are done", SOON, async || {
        let done = accepted(&home);
        (done.len() >= 3).then_some(done)
    })
    .await;
    crew.requester.kill();
    let before = accepted(&home).len().max(before.len());
    for worker in &crew.workers {
        until("nobody works for the dead", SOON, async || (worker.status().await.running_tasks == 0).then_some(()))
            .await;
    }
    let listen = crew.requester.address.split("/p2p/").next().unwrap().to_owned();
    crew.requester = Node::start(&home, &["--listen", &listen]).await;
    let waited = msm(&home, &["jobs", "wait", &id, "-o", "out.txt", "--json"]).await.json();
    assert_eq!(fs::read_to_string(home.folder().join("out.txt")).unwrap(), grind(&lines(PARTS), ROUNDS));
    let note = format!("resumed: {before} of {} tasks were done before", waited["tasks"]);
    assert!(waited["notes"].as_array().unwrap().iter().any(|it| *it == note), "{note}: {waited}");
    let counted: u64 = waited["devices"].as_array().unwrap().iter().map(|it| it["tasks"].as_u64().unwrap()).sum();
    assert_eq!((waited["tasks_done"].as_u64(), counted), (waited["tasks"].as_u64(), waited["tasks"].as_u64().unwrap()));
}

/// `kill -9` in the middle of every write and right after it, one run each.
#[tokio::test]
async fn b95_killed_at_every_write_of_its_journal_a_job_still_gives_the_same_bytes() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let text = lines(3);
    let expected = grind(&text, 1_000);
    let (mut killed, mut finished) = (0, 0);
    for write in 1.. {
        for moment in ["", "+"] {
            let home = alone(&lab, &market, &format!("phone{write}{}", moment.len()), 3);
            let mut command = Command::new(MSM);
            command.env("MSM_KILL_AT_WRITE", format!("{write}{moment}"));
            let mut node = Node::start_by(command, &home, &[]).await;
            let begun = detached(&home, "1", 1_000).await;
            let id = (begun.code == 0).then(|| id_of(&begun));
            if let Some(id) = &id {
                // Ends when the job does, or when the node is killed.
                msm(&home, &["jobs", "follow", id, "--json"]).await;
            }
            let dead = match &id {
                Some(id) => msm(&home, &["jobs", "show", id, "--json"]).await.code != 0,
                None => true,
            };
            if dead {
                killed += 1;
                until("it is dead", SOON, async || node.ended()).await;
                node = Node::start(&home, &[]).await;
            } else {
                finished += 1;
            }
            match id {
                Some(id) => {
                    let waited = msm(&home, &["jobs", "wait", &id, "-o", "out.txt", "--json"]).await;
                    let report = waited.json();
                    let out = fs::read_to_string(home.folder().join("out.txt")).unwrap();
                    assert_eq!(out, expected, "write {write}{moment}");
                    assert_eq!((report["tasks_done"].as_u64(), report["tasks"].as_u64()), (Some(3), Some(3)));
                }
                // Whoever was not told that it is kept asks again.
                None => {
                    let again = msm(&home, &["invoke", "grind", "in.txt", "-o", "out.txt", "--json"]).await.json();
                    assert_eq!(again["state"], "done", "write {write}{moment}");
                    assert_eq!(fs::read_to_string(home.folder().join("out.txt")).unwrap(), expected);
                }
            }
            drop(node);
        }
        if finished >= 2 {
            break;
        }
    }
    // What was asked and its input, the plan, three outputs and their records, the end.
    assert!(killed >= 2 * 10, "{killed} kills");
}

#[tokio::test]
async fn a_call_that_is_killed_is_finished_by_jobs_resume() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let home = alone(&lab, &market, "phone", PARTS);
    const ROUNDS: usize = 1_000_000;
    let mut command = Command::new(MSM);
    command.args(["invoke", "grind", "in.txt", "-o", "never.txt", "-p", &format!("rounds={ROUNDS}"), "--home"]);
    command.arg(home.folder()).current_dir(home.folder()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut call = command.spawn().unwrap();
    until("two tasks are done", SOON, async || {
        (journals(&home).len() == 1 && accepted(&home).len() >= 2).then_some(())
    })
    .await;
    call.kill().unwrap();
    call.wait().unwrap();
    let id = journals(&home)[0].file_name().unwrap().to_string_lossy().into_owned();
    let resumed = msm(&home, &["jobs", "resume", &id, "-o", "out.txt", "--json"]).await.json();
    assert_eq!(fs::read_to_string(home.folder().join("out.txt")).unwrap(), grind(&lines(PARTS), ROUNDS));
    assert!(!home.folder().join("never.txt").exists());
    let notes = resumed["notes"].as_array().unwrap();
    assert!(notes.iter().any(|note| note.as_str().unwrap().starts_with("resumed: ")), "{resumed}");
    assert!(journals(&home).is_empty());
}

#[tokio::test]
async fn a_node_that_is_stopped_goes_on_with_its_jobs_when_it_is_started() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let home = alone(&lab, &market, "phone", PARTS);
    let mut node = Node::start(&home, &[]).await;
    let id = id_of(&detached(&home, "1", 1_000_000).await);
    until("a task is done", SOON, async || (!accepted(&home).is_empty()).then_some(())).await;
    node.leave().await;
    let kept = accepted(&home).len();
    assert!(kept > 0 && journals(&home).len() == 1);
    let _node = Node::start(&home, &[]).await;
    let waited = msm(&home, &["jobs", "wait", &id, "-o", "out.txt", "--json"]).await.json();
    assert_eq!(fs::read_to_string(home.folder().join("out.txt")).unwrap(), grind(&lines(PARTS), 1_000_000));
    assert_eq!(waited["state"], serde_json::to_value(JobState::Done).unwrap());
}

/// B53: a journal that is damaged costs its own job, and says so.
#[tokio::test]
async fn b53_a_damaged_journal_is_a_lost_job_and_no_more() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let home = alone(&lab, &market, "phone", PARTS);
    let mut node = Node::start(&home, &[]).await;
    let id = id_of(&detached(&home, "1", 1_000_000).await);
    until("a task is done", SOON, async || (!accepted(&home).is_empty()).then_some(())).await;
    node.kill();
    let log = journals(&home)[0].join("log");
    let mut bytes = fs::read(&log).unwrap();
    bytes[40] ^= 1;
    fs::write(&log, &bytes).unwrap();
    let _node = Node::start(&home, &[]).await;
    let lost = state(&home, &id).await;
    assert_eq!(lost["state"], "failed");
    assert!(
        lost["error"].as_str().unwrap().starts_with("lost: its journal cannot be used: damaged at byte 0"),
        "{lost}"
    );
    let fine = msm(&home, &["invoke", "grind", "in.txt", "-o", "out.txt", "--json"]).await.json();
    assert_eq!(fine["state"], "done");
}

/// A small call leaves no trace on the disk, and a larger one none after its end.
#[tokio::test]
async fn a_finished_call_leaves_nothing_behind() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let home = alone(&lab, &market, "phone", PARTS);
    let node = Node::start(&home, &[]).await;
    for count in [1, PARTS] {
        let (report, output) = node.job(locally(&grind_on(1, 1_000)), lines(count), |_| {}).await;
        // At most four for each device; fewer when what the first one showed says that they are not worth their cost.
        assert!((1..=count.min(4)).contains(&(report.tasks as usize)), "{} tasks", report.tasks);
        assert_eq!(output, grind(&lines(count), 1_000));
        until("nothing is left", SOON, async || journals(&home).is_empty().then_some(())).await;
    }
    // One that takes longer is kept meanwhile.
    let wish = locally(&grind_on(1, 1_000_000));
    let kept = until("it is kept", SOON, async || (journals(&home).len() == 1).then_some(()));
    let ((_, output), ()) = tokio::join!(node.job(wish, lines(PARTS), |_| {}), kept);
    assert_eq!(output, grind(&lines(PARTS), 1_000_000));
    until("nothing is left", SOON, async || journals(&home).is_empty().then_some(())).await;
}
