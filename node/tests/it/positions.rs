//! Positions: whose receiver is used, and what becomes of receivers that are none.

use std::{
    fs,
    path::{Path, PathBuf},
};

use msm_node::home::Home;
use serde_json::Value;

use crate::{
    gpsd::{Gpsd, impostor},
    rig::*,
};

/// Where the walks begin: in the middle of a cell.
const HOME: (f64, f64) = (46.51, 7.51);

/// A service that only runs where there is a fix, and asks for nothing: no grant is needed to run it.
fn seer(lab: &Lab) -> PathBuf {
    lab.service(
        "seer",
        "1.0.0",
        "[constraints]\ngps = \"REQ\"\ndevices = 1",
        "export const run = input => 'seen ' + new TextDecoder().decode(input);",
    )
}

fn listening(name: &str, lab: &Lab, offer: &str) -> Home {
    lab.home_with(name, &format!("listen = [{TCP:?}]"), offer)
}

/// Has this home's device score a tenth of what it would, or less.
fn slow_down(home: &Home) {
    let text = fs::read_to_string(home.speed_file()).unwrap();
    let slow = |line: &str| if line.starts_with("speed = ") { "speed = 0.1\n".into() } else { format!("{line}\n") };
    fs::write(home.speed_file(), text.lines().map(slow).collect::<String>()).unwrap();
}

async fn has_fix(node: &Node) {
    until(&format!("{} has a fix", node.name), SOON, async || node.status().await.gps.then_some(())).await;
}

#[tokio::test]
async fn a_position_comes_from_the_own_receiver_or_from_a_neighbour_who_takes_the_job() {
    let lab = Lab::new();
    let market = lab.market("shop", &[seer(&lab)]);
    let gpsd = Gpsd::walking_from(&lab.path("shop"), HOME);

    let home = lab.requester("phone");
    market.served_by(&home);
    let phone = Node::start(&home, &[]).await;
    fs::write(home.folder().join("in.txt"), "here").unwrap();
    let seen = async |more: &[&str]| msm(&home, &[&["invoke", "seer", "in.txt"], more].concat()).await;

    // Nobody has one, and each says why.
    let blind = listening("blind", &lab, "slots = 1");
    market.trusted_by(&blind);
    let blind = Node::start_near(&blind, &phone).await;
    blind.has_index(&market, 2).await;
    let refused = seen(&["--json"]).await;
    let message = refused.error()["message"].as_str().unwrap().to_owned();
    assert_eq!((refused.code, refused.error()["code"].as_str()), (5, Some("no-device")), "{message}");
    assert!(
        message.contains("this device: no position source (gps is required): no receiver is configured"),
        "{message}"
    );
    assert!(message.contains("blind: no position source"), "{message}");

    // The better neighbour has one and is lent to his friends only; the next one takes the job.
    let shy = listening("shy", &lab, &format!("who = \"known\"\n{}", gpsd.config()));
    let kind = listening("kind", &lab, &gpsd.config());
    slow_down(&kind);
    market.trusted_by(&shy);
    market.trusted_by(&kind);
    // Whom he dials himself is a friend.
    let shy = Node::start(&shy, &[]).await;
    assert_eq!(msm(&home, &["peers", "add", &shy.address]).await.code, 0);
    let kind = Node::start_near(&kind, &phone).await;
    for node in [&shy, &kind] {
        has_fix(node).await;
        node.has_index(&market, 2).await;
        // Whoever says so first would do.
        until("the phone knows of its fix", SOON, async || {
            phone.peers().await.iter().any(|row| row.peer_id == node.peer && row.gps == Some(true)).then_some(())
        })
        .await;
    }
    let report = seen(&["--json", "-o", "out.txt"]).await.json();
    assert_eq!(fs::read_to_string(home.folder().join("out.txt")).unwrap(), "seen here");
    let devices = report["devices"].as_array().unwrap();
    assert_eq!((devices.len(), &devices[0]["peer_id"]), (1, &kind.peer.to_string().into()), "{report}");
    let notes = report["notes"].to_string();
    assert!(notes.contains("shy did not take the job: refused: denied"), "{report}");
    drop(kind);
    // Nobody is left who would: the last word of the one that has a fix is told.
    let refused = until("the kind one is gone", SOON, async || {
        let refused = seen(&["--json"]).await;
        (refused.code != 0).then_some(refused)
    })
    .await;
    assert_eq!(refused.error()["code"], "not-allowed", "{}", refused.err);
    assert!(refused.err.contains("shy: refused: denied"), "{}", refused.err);

    // A node with a receiver of its own asks nobody.
    let seeing = listening("seeing", &lab, &gpsd.config());
    market.trusted_by(&seeing);
    let seeing = Node::start_near(&seeing, &phone).await;
    seeing.has_index(&market, 2).await;
    has_fix(&seeing).await;
    fs::write(seeing.home.folder().join("in.txt"), "there").unwrap();
    let report = msm(&seeing.home, &["invoke", "seer", "in.txt", "--json", "-o", "out.txt"]).await.json();
    let devices = report["devices"].as_array().unwrap();
    assert_eq!((devices.len(), &devices[0]["local"]), (1, &true.into()), "{report}");
    assert!(
        report["notes"].to_string().contains("this device's own receiver: faster than any neighbour's"),
        "{report}"
    );
}

/// The case study: a device without a receiver asks for a position, and gets a neighbour's when he allows it.
#[tokio::test]
async fn gps_sharing_tells_a_neighbours_cell_to_whom_he_allows_it() {
    let lab = Lab::new();
    let market = lab.market("shop", &[Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/gps-sharing")]);
    let gpsd = Gpsd::walking_from(&lab.path("shop"), HOME);
    let phone_home = lab.requester("phone");
    market.served_by(&phone_home);
    let phone = Node::start(&phone_home, &[]).await;
    let attic = listening("attic", &lab, &gpsd.config());
    market.trusted_by(&attic);
    let attic = Node::start_near(&attic, &phone).await;
    attic.has_index(&market, 2).await;
    has_fix(&attic).await;
    let ask = async |node: &Node, more: &[&str]| msm(&node.home, &[&["invoke", "gps-sharing"], more].concat()).await;
    let position = |ran: Ran| -> Value {
        assert_eq!(ran.code, 0, "{}", ran.err);
        serde_json::from_slice(&ran.out).unwrap()
    };

    // Not without a word of the owner; to a stranger no more than that.
    let refused = ask(&phone, &["--json"]).await;
    assert_eq!((refused.code, refused.error()["code"].as_str()), (4, Some("not-allowed")), "{}", refused.err);
    assert!(refused.err.contains("gps-sharing") && refused.err.contains("gps"), "{}", refused.err);
    let pending = msm(&attic.home, &["pending"]).await;
    assert!(pending.text().contains("msm grant"), "{}", pending.text());

    let granted = ["grant", "gps-sharing", "gps", "--to", &phone.peer.to_string()];
    assert_eq!(msm(&attic.home, &granted).await.code, 0);
    let first = position(ask(&phone, &[]).await);
    let keys: Vec<_> = first.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["accuracy", "age", "lat", "lon", "source", "time"], "{first}");
    assert_eq!((&first["lat"], &first["lon"], &first["source"]), (&46.51.into(), &7.51.into(), &"gpsd".into()));
    assert_eq!(
        first["accuracy"], 3_000.0,
        "half of a cell, what does not count beyond it, and the receiver's error: {first}"
    );
    let (time, age) = (first["time"].as_u64().unwrap(), first["age"].as_u64().unwrap());
    assert!(time % 10 == 0 && age < 30 && now().abs_diff(time + age) < 30, "{first}");
    // The walk goes on, the answer does not.
    let second = position(ask(&phone, &[]).await);
    for key in ["lat", "lon", "accuracy", "time"] {
        assert_eq!(second[key], first[key], "{key}");
    }
    assert!(second["age"].as_u64() >= Some(age), "{second}");

    // Whose device could not do it is not asked to allow it.
    let report = ask(&phone, &["--json", "-o", "there.json"]).await.json();
    assert_eq!(report["notes"], serde_json::json!([]), "{report}");
    assert!(!msm(&phone.home, &["pending"]).await.text().contains("gps-sharing"));
    // What the service says of a failure is told once, where nobody else can be asked. It takes a second to be too old.
    let early = until("the answer is a second old", SOON, async || {
        let ran = ask(&phone, &["--json", "-o", "there.json", "-p", "max-age=0"]).await;
        (ran.code != 0).then_some(ran)
    })
    .await;
    let message = early.error()["message"].as_str().unwrap().to_owned();
    assert_eq!(early.code, 6, "{message}");
    assert!(message.starts_with("refused: service-failed: RangeError: gps.position: a coarse position"), "{message}");

    // His own jobs need his word too; then he asks nobody.
    let refused = ask(&attic, &["--json"]).await.error();
    assert_eq!(
        (&refused["code"], &refused["try"][1]),
        (&"no-device".into(), &"msm grant test/gps-sharing gps --to own".into())
    );
    assert_eq!(msm(&attic.home, &["grant", "gps-sharing", "gps", "--to", "own"]).await.code, 0);
    let out = attic.home.folder().join("here.json");
    let report = ask(&attic, &["--json", "-o", out.to_str().unwrap()]).await.json();
    assert_eq!(report["devices"][0]["local"], true, "{report}");
    assert!(report["notes"].to_string().contains("faster than any neighbour's; no neighbour has one"), "{report}");
    assert_eq!(serde_json::from_slice::<Value>(&fs::read(out).unwrap()).unwrap()["lat"], 46.51);

    // What was granted can be taken back.
    assert_eq!(msm(&attic.home, &["revoke-grant", "gps-sharing", "gps"]).await.code, 0);
    assert_eq!(ask(&phone, &[]).await.code, 4);
}

/// More than a cell takes three: the manifest asks, the owner grants, and the device's ceiling allows it.
#[tokio::test]
async fn a_precise_position_needs_manifest_grant_and_ceiling() {
    let lab = Lab::new();
    let service = |name: &str, asks: &str| {
        let folder = lab.service(
            name,
            "1.0.0",
            &format!("[constraints]\ngps = \"REQ\"\n[permissions]\ngps = \"{asks}\""),
            "export const run = async (input, ctx) => JSON.stringify(await ctx.gps.position({ accuracy: 100000 }));",
        );
        let toml = fs::read_to_string(folder.join("service.toml")).unwrap();
        fs::write(folder.join("service.toml"), toml.replace("input = \"text/plain\"", "input = \"none\"")).unwrap();
        folder
    };
    let market = lab.market("shop", &[service("about", "coarse"), service("exactly", "precise")]);
    let gpsd = Gpsd::walking_from(&lab.path("shop"), HOME);
    let is_exact = |position: &Value| {
        // The walk is a minute long, a metre or so a second.
        let walked = |key: &str, from: f64| (from..from + 0.001).contains(&position[key].as_f64().unwrap());
        let exact = walked("lat", HOME.0) && walked("lon", HOME.1) && position["accuracy"].as_f64() < Some(100.0);
        let cell = position["lat"] == HOME.0 && position["lon"] == HOME.1 && position["accuracy"] == 3_000.0;
        assert!(position["alt"].is_number() != cell, "{position}");
        assert!(exact != cell, "{position}");
        exact
    };
    let open = "[resources]\ngps = \"precise\"\n";
    // Whether an exact position comes of it; `None` where not even the grant is taken.
    for (name, ceiling, grants) in [
        (
            "wary",
            "",
            [("about", "coarse", Some(false)), ("exactly", "precise", None), ("exactly", "coarse", Some(false))],
        ),
        (
            "open",
            open,
            [("about", "precise", None), ("exactly", "coarse", Some(false)), ("exactly", "precise", Some(true))],
        ),
    ] {
        let home = listening(name, &lab, &format!("{}{ceiling}", gpsd.config()));
        market.served_by(&home);
        let node = Node::start(&home, &[]).await;
        has_fix(&node).await;
        for (service, granted, exact) in grants {
            let done = msm(&home, &["grant", service, "gps", "--to", "own", "--accuracy", granted]).await;
            assert_eq!(done.code == 0, exact.is_some(), "{}", done.err);
            let Some(exact) = exact else { continue };
            let ran = msm(&home, &["invoke", service, "--local"]).await;
            let position = serde_json::from_slice(&ran.out).unwrap_or_else(|error| panic!("{error}: {}", ran.err));
            assert_eq!(is_exact(&position), exact, "{service}, granted {granted}, ceiling {ceiling:?}: {position}");
        }
    }
}

/// A gpsd that hangs, and some that are none: the reason is told, and the node is as well as ever.
#[tokio::test]
async fn a_gpsd_that_hangs_or_babbles_is_refused_with_the_reason() {
    const VERSION: &[u8] = b"{\"class\":\"VERSION\",\"release\":\"3.22\",\"proto_major\":3}\r\n";
    let lab = Lab::new();
    let market = lab.market("shop", &[seer(&lab)]);
    let liar: &'static [u8] =
        Box::leak([VERSION, b"{\"class\":\"TPV\",\"mode\":3,\"lat\":400,\"lon\":7.5}\r\n"].concat().into_boxed_slice());
    let endless: &'static [u8] = Box::leak([VERSION, &[b'x'; 64 << 20]].concat().into_boxed_slice());
    for (name, speech, reason) in [
        ("hangs", &b""[..], "gpsd does not answer"),
        ("babbles", b"HTTP/1.1 400 Bad Request\r\n", "what answers in place of gpsd is none"),
        ("endless", endless, "what answers in place of gpsd is none"),
        ("lies", liar, "the receiver has no fix"),
    ] {
        let home = listening(name, &lab, &impostor(speech));
        market.served_by(&home);
        let node = Node::start(&home, &[]).await;
        fs::write(home.folder().join("in.txt"), "here").unwrap();
        let says = format!("no position source (gps is required): {reason}");
        until(&says, SOON, async || {
            let refused = msm(&home, &["invoke", "seer", "in.txt", "--json"]).await;
            assert_eq!((refused.code, refused.error()["code"].as_str()), (5, Some("no-device")), "{}", refused.err);
            refused.err.contains(&says).then_some(())
        })
        .await;
        let status = node.status().await;
        assert_eq!((status.gps, status.gps_detail.as_str()), (false, reason));
        assert!(node.figure("VmRSS") < 200 * 1024, "{name}: {} KiB", node.figure("VmRSS"));
    }
}
