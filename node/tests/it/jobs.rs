//! The main job: a picture blurred by several processes, byte for byte as one machine would do it.

use std::{fs, time::Duration};

use msm_node::command::{Devices, Event, Invoke};
use serde_json::Value;

use crate::rig::*;

/// The fields that scripts rely on, and their kinds.
fn assert_peers_contract(peers: &Value, count: usize) {
    assert_eq!(peers["schema"], "msm.peers/1");
    let rows = peers["peers"].as_array().unwrap();
    assert_eq!(rows.len(), count, "{peers}");
    for row in rows {
        assert!(row["peer_id"].as_str().unwrap().starts_with("12D3KooW"), "{row}");
        assert!(row["eqs"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["rtt_ms"].as_f64().unwrap() > 0.0, "{row}");
        assert!(["low", "high", "off"].contains(&row["network"].as_str().unwrap()), "{row}");
        assert!(row["gps"].is_boolean() && row["availability"].is_boolean(), "{row}");
        assert!(!row["addresses"].as_array().unwrap().is_empty(), "{row}");
    }
}

/// Waits until scores and round trips of all peers are known, as scripts read them.
async fn peers_json(node: &Node, count: usize) -> Value {
    until("every peer has a score", SOON, async || {
        let peers = msm(&node.home, &["peers", "--json"]).await.json();
        let rows = peers["peers"].as_array().unwrap();
        (rows.len() == count && rows.iter().all(|row| row["eqs"].is_number())).then_some(peers)
    })
    .await
}

async fn main_job(listen: &str) {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.blur()]);
    let crew = Crew::gather_on(listen, &lab, &market, 4).await;
    let (requester, phone) = (&crew.requester, &crew.requester.home);
    assert!(requester.address.contains(if listen == QUIC { "/quic-v1/" } else { "/tcp/" }));
    assert_peers_contract(&peers_json(requester, 4).await, 4);

    photo(&phone.folder().join("small.png"), 200, 400);
    let devices = Devices::Range { min: 5, max: 5 };
    let short = Invoke { service: "image-blur".into(), devices, ..Invoke::default() };
    crew.warm(&short, fs::read(phone.folder().join("small.png")).unwrap()).await;
    photo(&phone.folder().join("photo.png"), 1280, 960);
    // WebAssembly would be done before the last worker has a task.
    let blur = ["invoke", "image-blur", "photo.png", "-p", "radius=9", "--engine", "js", "--json", "-o"];
    let args = |more: &[&'static str]| [&blur[..], more].concat();
    let job = msm(phone, &args(&["far.png", "--devices", "5", "--strict"])).await.json();
    assert_eq!(job["schema"], "msm.job/1");
    assert!(job["job_id"].as_str().is_some_and(|id| id.len() == 32), "{job}");
    assert_eq!(job["service"], "test/image-blur@1.1.0");
    assert_eq!(job["tasks"], 20, "four for each device: {job}");
    assert!(job["tasks_rerun"].is_u64() && job["wall_ms"].as_f64().unwrap() > 0.0, "{job}");
    let devices = job["devices"].as_array().unwrap();
    let counted: u64 = devices.iter().map(|device| device["tasks"].as_u64().unwrap()).sum();
    assert_eq!(counted, 20, "{job}");
    let far = devices.iter().filter(|d| d["peer_id"] != requester.peer.to_string() && d["tasks"].as_u64() > Some(0));
    assert!(far.count() >= 3, "workers took part: {job}");

    let local = msm(phone, &args(&["near.png", "--local"])).await.json();
    assert_eq!(local["devices"].as_array().unwrap().len(), 1, "{local}");
    let bytes = fs::read(phone.folder().join("far.png")).unwrap();
    assert_same_picture(&bytes, &fs::read(phone.folder().join("near.png")).unwrap());
    assert_eq!(local["output_sha256"], job["output_sha256"]);
    let sum = run(
        {
            let mut command = std::process::Command::new("sha256sum");
            command.arg(phone.folder().join("far.png"));
            command
        },
        "",
    )
    .await;
    assert!(sum.text().starts_with(job["output_sha256"].as_str().unwrap()), "{}", sum.text());
}

fn assert_same_picture(far: &[u8], near: &[u8]) {
    if far == near {
        return;
    }
    let [far, near] = [far, near].map(|png| image::load_from_memory(png).unwrap().to_rgba8());
    assert_eq!(far.dimensions(), near.dimensions());
    let row = far.rows().zip(near.rows()).position(|(a, b)| !a.eq(b));
    panic!("the pictures differ, first in row {row:?} of {}", far.height());
}

#[tokio::test]
async fn main_job_on_four_workers_equals_local() {
    main_job(TCP).await;
}

#[tokio::test]
async fn main_job_over_quic_alone() {
    main_job(QUIC).await;
}

#[tokio::test]
async fn b98_alone_it_runs_here() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let home = lab.requester("phone");
    market.served_by(&home);
    fs::write(home.folder().join("in.txt"), lines(3)).unwrap();
    // No node runs: one is started for the call, finds nobody, and does the work itself.
    let job = msm(&home, &["invoke", "grind", "in.txt", "-o", "out.txt", "--json"]).await.json();
    assert_eq!((&job["tasks"], &job["devices"][0]["local"]), (&3.into(), &true.into()), "{job}");
    let expected = grind(&lines(3), 1_000);
    assert_eq!(fs::read_to_string(home.folder().join("out.txt")).unwrap(), expected);
}

#[tokio::test]
async fn b98_all_workers_gone_before_the_first_part() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let mut crew = Crew::gather(&lab, &market, 3).await;
    // The package is here; the workers die when the job has looked around and cuts its input.
    let (alone, expected) = crew.requester.job(locally(&grind_on(4, 1_000)), lines(8), |_| {}).await;
    assert_eq!(alone.devices.len(), 1);
    let Crew { requester, workers } = &mut crew;
    let mut left = std::mem::take(workers);
    let (report, output) = requester
        .job(grind_on(4, 1_000), lines(8), |event| {
            if matches!(event, Event::Phase { name, .. } if name == "split") {
                left.clear();
            }
        })
        .await;
    assert_eq!(output, expected);
    assert_counted_once(&report);
    assert!(report.devices.iter().all(|device| device.local || device.tasks == 0), "{report:?}");
}

/// A job that ends early is not shown as running for ever.
#[tokio::test]
async fn a_job_past_its_deadline_is_over_in_the_list_too() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let home = lab.home("phone");
    market.served_by(&home);
    let node = Node::start(&home, &[]).await;
    fs::write(home.folder().join("in.txt"), lines(2)).unwrap();
    let args = ["invoke", "grind", "in.txt", "-p", "rounds=1000000000", "--deadline", "300ms", "--local", "--json"];
    let late = msm(&home, &args).await;
    assert_eq!((late.code, late.error()["code"].as_str()), (7, Some("deadline")), "{}", late.err);

    // One whose caller goes away ends too.
    let invoke = Invoke { devices: Devices::Auto, ..locally(&grind_on(1, 1_000_000_000)) };
    let started = tokio::time::timeout(Duration::from_secs(20), async {
        let mut watch = node.watch().await;
        let call = node.job(invoke, lines(2), |_| {});
        tokio::select! {
            _ = call => panic!("it has no end"),
            () = watch.next("the job starts", SOON, |event| matches!(event, Event::JobStarted { .. }).then_some(())) => {}
        }
    });
    started.await.unwrap();
    until("both jobs are over", SOON, async || {
        let jobs = msm(&home, &["jobs", "--json"]).await.json();
        let states: Vec<_> = jobs["jobs"].as_array().unwrap().iter().map(|job| job["state"].clone()).collect();
        assert!(states.len() >= 2, "{jobs}");
        // The first is the newest: its caller went away.
        (states[0] == "cancelled" && states[1..].iter().all(|state| state == "failed")).then_some(())
    })
    .await;
    until("no guest is left", SOON, async || (node.children().len() <= 1).then_some(())).await;
}
