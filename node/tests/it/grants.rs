//! What services may use of a device: nothing without the owner's word, told in refusals, lists and the ledger.

use std::{fs, time::Duration};

use msm_node::command::{Devices, ErrorCode, Event, Invoke};

use crate::rig::*;

/// A service that tells the device's state, one part at a time.
fn sensor(lab: &Lab) -> std::path::PathBuf {
    let more = "[work]\nsplit = \"lines:1\"\n[permissions]\ndevice = true";
    let source = "export async function run(input, ctx) {
          const { name, battery } = await ctx.device.status({});
          return `${new TextDecoder().decode(input).trim()} ${name} ${battery}\\n`;
        }";
    lab.service("sensor", "1.0.0", more, source)
}

/// Asks for nothing that needs a grant.
fn plain(lab: &Lab) -> std::path::PathBuf {
    let more = "[permissions]\nclock = true\nrandom = true\nimage = true";
    let source =
        "export function run() { return Date.now() > 1700000000000 && Math.random() < 1 ? 'fine' : 'frozen'; }";
    lab.service("plain", "1.0.0", more, source)
}

fn on_device(wish: Devices, local: bool) -> Invoke {
    Invoke { service: "sensor".into(), devices: wish, local, ..Invoke::default() }
}

/// One worker that knows the requester (it dials him) or, the other way round, does not.
async fn gather(lab: &Lab, market: &Market, known: bool) -> (Node, Node) {
    let (phone, desk) = (lab.requester("phone"), lab.home("desk"));
    market.trusted_by(&phone);
    market.served_by(&desk);
    let (requester, worker) = if known {
        let requester = Node::start(&phone, &[]).await;
        let worker = Node::start_near(&desk, &requester).await;
        (requester, worker)
    } else {
        let worker = Node::start(&desk, &[]).await;
        let requester = Node::start_near(&phone, &worker).await;
        (requester, worker)
    };
    requester.sees(&[&worker]).await;
    requester.has_index(market, 3).await;
    (requester, worker)
}

#[tokio::test]
async fn a_stranger_is_refused_asked_about_granted_served_and_written_down() {
    let lab = Lab::new();
    let market = lab.market("shop", &[sensor(&lab), plain(&lab)]);
    let (requester, worker) = gather(&lab, &market, false).await;
    fs::write(requester.home.folder().join("in.txt"), "one\n").unwrap();

    // Nobody has granted anything: not this owner to himself, not the other to him.
    let local = msm(&requester.home, &["invoke", "sensor", "in.txt", "--local", "--json"]).await;
    let error = local.error();
    assert_eq!((local.code, &error["try"][0]), (4, &"msm grant test/sensor device --to own".into()), "{error}");
    let ran = msm(&requester.home, &["invoke", "sensor", "in.txt", "--json"]).await;
    let error = ran.error();
    assert_eq!((ran.code, &error["code"]), (4, &"not-allowed".into()), "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("sensor may not use device here"), "{message}");
    assert!(!message.contains("grant"), "a stranger learns no more: {message}");
    assert_eq!(error["try"][0], "msm grant test/sensor device --to own", "this device could do it itself: {error}");
    // What needs no grant runs as ever.
    let ran = msm(&requester.home, &["invoke", "plain", "in.txt"]).await;
    assert_eq!(ran.text(), "fine", "{}", ran.err);

    // The worker's owner sees who asked, and what the line is that says yes.
    let pending = msm(&worker.home, &["pending", "--json"]).await.json();
    let question = &pending["pending"][0];
    assert_eq!(
        (&question["service"], &question["right"], &question["kin"]),
        (&"test/sensor".into(), &"device".into(), &"stranger".into())
    );
    assert_eq!(
        (question["rating"].as_u64(), question["peer_id"].as_str()),
        (Some(5), Some(&*requester.peer.to_string()))
    );
    let line = question["try"].as_str().unwrap().to_owned();
    assert_eq!(line, format!("msm grant test/sensor device --to {}", requester.peer));
    let shown = msm(&worker.home, &["show", "sensor"]).await.text();
    assert!(shown.contains("device = true: battery, network and name of this device [not granted here]"), "{shown}");
    let words: Vec<&str> = line.split(' ').skip(1).collect();
    let ran = msm(&worker.home, &words).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(msm(&worker.home, &["pending", "--json"]).await.json()["pending"], serde_json::json!([]));
    let shown = msm(&worker.home, &["show", "sensor"]).await.text();
    assert!(shown.contains("[granted here to others only: 12D3"), "{shown}");

    // Now it runs there and not here, and the report says why.
    let (report, output) = requester.job(on_device(Devices::Auto, false), "one\ntwo\n", |_| {}).await;
    let text = String::from_utf8(output.to_vec()).unwrap();
    assert!(text.starts_with("one desk ") && text.contains("two desk "), "{text}");
    assert!(report.devices.iter().all(|device| !device.local), "{report:?}");
    let note = report.notes.iter().find(|note| note.contains("did not work itself")).unwrap();
    assert!(note.contains("msm grant test/sensor device --to own"), "{note}");
    let plan = msm(&requester.home, &["invoke", "sensor", "in.txt", "--plan"]).await.text();
    assert!(plan.contains("5/6 battery, network and name of the device"), "{plan}");
    assert!(
        plan.lines()
            .any(|line| line.starts_with("phone") && line.contains("no") && line.contains("has not granted it")),
        "{plan}"
    );

    // Everything is in the ledger, and nothing of the answer is.
    let history = msm(&worker.home, &["history", "--today", "--json"]).await.json();
    let seen: Vec<_> = history["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["op"].as_str().unwrap(), it["outcome"].as_str().unwrap()))
        .collect();
    assert_eq!(seen.iter().filter(|it| **it == ("device.status", "allowed")).count(), 2, "{seen:?}");
    assert!(seen.contains(&("offer", "denied")), "{seen:?}");

    // Taken back: the next one is refused again; so it is after a restart.
    let ran = msm(&worker.home, &["revoke-grant", "sensor", "device"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let error = requester.invoke(on_device(Devices::Auto, false), "one\n", |_| {}).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotAllowed, "{error}");
    let ran = msm(&worker.home, &["revoke-grant", "sensor", "device", "--json"]).await;
    assert_eq!((ran.code, &ran.error()["try"][0]), (9, &"msm grants".into()));
}

#[tokio::test]
async fn a_known_peer_learns_why_and_a_grant_for_known_peers_covers_him() {
    let lab = Lab::new();
    let market = lab.market("shop", &[sensor(&lab), plain(&lab)]);
    let (requester, mut worker) = gather(&lab, &market, true).await;
    let error = requester.invoke(on_device(Devices::Auto, false), "one\n", |_| {}).await.unwrap_err();
    assert!(error.message.contains("its owner has not granted it"), "{error}");
    // The default audience; the node is not running: a grant is a file.
    assert!(worker.leave().await.success());
    let ran = msm(&worker.home, &["grant", "test/sensor", "device", "--json"]).await;
    let given = &ran.json()["grants"][0];
    assert_eq!((&given["to"], &given["until"]), (&"known".into(), &serde_json::Value::Null));
    let worker = Node::start_near(&worker.home, &requester).await;
    requester.sees(&[&worker]).await;
    let (_, output) = requester.job(on_device(Devices::Auto, false), "one\n", |_| {}).await;
    assert!(output.starts_with(b"one desk "), "{output:?}");
}

#[tokio::test]
async fn grants_that_would_be_without_effect_are_refused_with_what_stands_against_them() {
    let lab = Lab::new();
    let gps = lab.service("where", "1.0.0", "[permissions]\ngps = \"coarse\"", "export const run = () => '';");
    let exact = lab.service(
        "exactly",
        "1.0.0",
        "[permissions]\ngps = \"precise\"\nnet = [\"a.example.org\"]",
        "export const run = () => '';",
    );
    let market = lab.market("shop", &[gps, exact]);
    let home = lab.home_with("desk", &format!("listen = [{TCP:?}]"), "slots = 1\n[resources]\nnet = \"off\"");
    market.served_by(&home);
    let _node = Node::start(&home, &[]).await;
    for (args, code, says, line) in [
        (&["grant", "where", "net"][..], 2, "does not ask for net", "msm show test/where"),
        (
            &["grant", "where", "gps", "--accuracy", "precise"],
            2,
            "a coarse position only",
            "msm grant test/where gps --accuracy coarse",
        ),
        (
            &["grant", "exactly", "gps", "--accuracy", "precise"],
            4,
            "gps = \"coarse\" below [resources]",
            "msm grant test/exactly gps --accuracy coarse",
        ),
        (&["grant", "exactly", "net"], 4, "net = \"off\" below [resources]", "msm help grants"),
        (&["grant", "nowhere", "gps"], 9, "not-found", "msm show where"),
        (&["revoke-grant", "where", "gps"], 9, "gps is not granted to where", "msm grants"),
        (&["revoke-grant", "nobody/where", "gps"], 9, "no market", "msm grants"),
    ] {
        let ran = msm(&home, &[args, &["--json"]].concat()).await;
        let error = ran.error();
        assert_eq!(ran.code, code, "{args:?}: {error}");
        assert!(error["message"].as_str().unwrap().contains(says), "{args:?}: {error}");
        assert!(error["try"][0].as_str().unwrap().starts_with(line), "{args:?}: {error}");
    }
    // A position is granted for a day, as a cell, unless the owner says otherwise.
    let now = now();
    let given = msm(&home, &["grant", "where", "gps", "--json"]).await.json()["grants"][0].clone();
    assert_eq!(given["accuracy"], "coarse");
    assert!((86_390..=86_410).contains(&(given["until"].as_u64().unwrap() - now)), "{given}");
    let given = msm(&home, &["grant", "where", "gps", "--for", "1s", "--to", "own", "--json"]).await.json();
    assert_eq!(given["grants"].as_array().unwrap().len(), 1);
    until("the grant ends by itself", SOON, async || {
        let grants = msm(&home, &["grants", "--json"]).await.json();
        let grants = grants["grants"].as_array().unwrap().clone();
        assert_eq!(grants.len(), 2);
        grants.iter().any(|it| it["to"] == "own" && it["holds"] == false).then_some(())
    })
    .await;
}

/// B77: the owner takes the grant back while the job runs: the worker stops it at once and says so.
#[tokio::test]
async fn b77_a_job_whose_grant_is_taken_back_is_stopped() {
    let lab = Lab::new();
    let source = "export async function run(input, ctx) {
          await ctx.device.status({});
          for (;;) ;
        }";
    let slow = lab.service("slow", "1.0.0", "[permissions]\ndevice = true\n[limits]\ntime = \"60s\"", source);
    let market = lab.market("shop", &[slow, plain(&lab)]);
    let (requester, worker) = gather(&lab, &market, true).await;
    assert_eq!(msm(&worker.home, &["grant", "slow", "device"]).await.code, 0);
    let invoke = Invoke { service: "slow".into(), ..Invoke::default() };
    let (started, mut begins) = tokio::sync::mpsc::channel(8);
    let job = requester.invoke(invoke, "x", |event| {
        if let Event::TaskStarted { .. } = event {
            let _ = started.try_send(());
        }
    });
    let home = worker.home.clone();
    let revoke = async {
        begins.recv().await.unwrap();
        until("the guest runs", SOON, async || (worker.status().await.running_tasks == 1).then_some(())).await;
        // Its question was answered.
        until("the answer is in the ledger", SOON, async || {
            let history = msm(&home, &["history", "--json"]).await.json();
            history["entries"].as_array().unwrap().iter().any(|it| it["outcome"] == "allowed").then_some(())
        })
        .await;
        assert_eq!(msm(&home, &["revoke-grant", "slow", "device"]).await.code, 0);
        std::time::Instant::now()
    };
    let (ended, revoked) = tokio::join!(job, revoke);
    let error = ended.unwrap_err();
    assert!(revoked.elapsed() < Duration::from_secs(5), "{:?}", revoked.elapsed());
    assert!(error.message.contains("slow may not use device"), "{error}");
    until("nothing runs there", SOON, async || (worker.status().await.running_tasks == 0).then_some(())).await;
}

/// A guest with every right that asks for more than there is, for what there is not, and for nonsense.
#[tokio::test]
async fn a_greedy_guest_is_held_to_its_bounds_and_written_down() {
    let lab = Lab::new();
    let source = "export async function run(input, ctx) {
          const said = async (what) => { try { await what(); return 'done'; } catch (e) { return e.name; } };
          const out = [];
          out.push(await said(() => ctx.device.status({ everything: true })));
          out.push(await said(() => ctx.net.fetch('x'.repeat(100000))));
          out.push(await said(() => ctx.gps.position({})));
          let answered = 0;
          let last = 'done';
          while (last === 'done' && answered < 2000) {
            last = await said(() => ctx.device.status({}));
            if (last === 'done') answered += 1;
          }
          return [...out, last, answered].join(' ');
        }";
    let greedy =
        lab.service("greedy", "1.0.0", "[permissions]\ndevice = true\nnet = [\"*\"]\n[limits]\ntime = \"30s\"", source);
    let market = lab.market("shop", &[greedy]);
    let home = lab.home("desk");
    market.served_by(&home);
    let node = Node::start(&home, &[]).await;
    for right in ["device", "net"] {
        assert_eq!(msm(&home, &["grant", "greedy", right, "--to", "own"]).await.code, 0);
    }
    let invoke = Invoke { service: "greedy".into(), local: true, ..Invoke::default() };
    let (_, output) = node.job(invoke.clone(), "x", |_| {}).await;
    let text = String::from_utf8(output.to_vec()).unwrap();
    let words: Vec<&str> = text.split(' ').collect();
    let [status, fetch, position, last, answered] = words.as_slice() else { panic!("{text}") };
    eprintln!("{text}");
    assert_eq!((*position, *last), ("PermissionError", "RangeError"), "{text}");
    assert!(*fetch != "done" && ["done", "TypeError"].contains(status), "{text}");
    let answered: usize = answered.parse().unwrap();
    assert!((990..=1_000).contains(&answered), "1,000 questions in one task, whatever they are: {text}");
    let history = msm(&home, &["history", "--json"]).await.json();
    let entries = history["entries"].as_array().unwrap();
    let status: Vec<_> =
        entries.iter().filter(|it| it["op"] == "device.status" && it["outcome"] == "allowed").collect();
    let times: Vec<_> = status.iter().map(|it| it["times"].as_u64().unwrap()).collect();
    assert!(times.len() == 2 && times[1] == 1, "the first, and the others with their number: {times:?}");
    assert!((990..=1_000).contains(&(times[0] + 1)), "{times:?}");
    assert!(entries.len() < 10 && status.iter().all(|it| it["own"] == true), "{}", history);
    // The node is as well as before.
    let (_, again) = node.job(invoke, "x", |_| {}).await;
    assert_eq!(again, output);
}
