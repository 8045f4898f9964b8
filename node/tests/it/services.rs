//! The shipped services in real jobs: several processes, both engines.

use std::{fs, io::Write, process::Stdio};

use msm_node::command::{Devices, Invoke};
use msm_protocol::{
    Refusal, RefusalCode, cbor,
    device::DeviceInfo,
    job::{Offer, Outcome, ToRequester, ToWorker},
    manifest::Engine,
    message::Discovery,
};
use serde_json::json;

use crate::{
    evil::{Evil, Knobs, Protocol},
    rig::*,
    wire,
};

fn shipped(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../services").join(name)
}

/// What a worker makes of an offer and its one task: the engine that it names, and the output.
async fn offered(
    peer: &Evil,
    worker: &Node,
    (offer, params): (&Offer, &str),
    input: &[u8],
) -> Result<(String, Vec<u8>), Refusal> {
    let mut stream = peer.open_job(worker.peer).await.unwrap();
    assert!(wire::send(&mut stream, &ToWorker::Offer(Box::new(offer.clone()))).await);
    let engine = match wire::receive(&mut stream).await {
        Some(ToRequester::Accept(accept)) => accept.engine,
        Some(ToRequester::Refuse(refusal)) => return Err(refusal),
        other => panic!("{other:?}"),
    };
    assert!(wire::send(&mut stream, &wire::job(0, params)).await);
    assert!(wire::send(&mut stream, &wire::task(0, 0, input)).await);
    for chunk in wire::chunks(0, input) {
        assert!(wire::send(&mut stream, &ToWorker::Chunk(chunk)).await);
    }
    loop {
        match wire::receive(&mut stream).await {
            Some(ToRequester::Chunk(chunk)) => return Ok((engine, chunk.bytes.into_vec())),
            Some(ToRequester::Result(result)) => assert!(matches!(result.outcome, Outcome::Done(_)), "{result:?}"),
            Some(ToRequester::Heartbeat(_) | ToRequester::Receipt(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// An owner says which engines are lent; a part has the same bytes out of each.
#[tokio::test]
async fn a_part_is_the_same_from_devices_that_lend_different_engines() {
    let lab = Lab::new();
    let market = lab.market("shop", &[]);
    let manifest = market.publish(&shipped("image-blur"));
    let listen = format!("listen = [{TCP:?}]");
    let peer = Evil::start(Knobs::default()).await;
    let mut workers = Vec::new();
    for (name, engines) in [("both", r#"["js", "wasm"]"#), ("plain", r#"["js"]"#)] {
        let home = lab.home_with(name, &listen, &format!("slots = 1\nengines = {engines}"));
        market.served_by(&home);
        let worker = Node::start(&home, &[]).await;
        peer.dial(&worker.address).await;
        workers.push(worker);
    }
    let info = async |worker: &Node| -> DeviceInfo {
        let discovery = cbor::to_vec(&Discovery { v: 1, need: None }).unwrap();
        let answer = peer.ask(Protocol::Device, worker.peer, discovery).await.unwrap();
        cbor::from_slice(&answer, answer.len()).unwrap()
    };
    assert_eq!(info(&workers[0]).await.ext.engines, ["js", "wasm"]);
    assert_eq!(info(&workers[1]).await.ext.engines, ["js"]);

    // 200 x 60 pixels, of which 12 rows above and below are the neighbours'.
    let mut tile: Vec<u8> = [200u32, 60, 12, 12].iter().flat_map(|n| n.to_le_bytes()).collect();
    tile.extend((0..200 * 60 * 4u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8));
    let mut offer = wire::offer(&market, manifest, 2);
    // What service.toml asks at least.
    offer.need.battery = 10;
    offer.name = "image-blur".into();
    for kind in ["box", "gaussian"] {
        let params = format!(r#"{{"kind":"{kind}","radius":12}}"#);
        let (wasm, compiled) = offered(&peer, &workers[0], (&offer, &params), &tile).await.unwrap();
        let (js, interpreted) = offered(&peer, &workers[1], (&offer, &params), &tile).await.unwrap();
        assert_eq!((&*wasm, &*js), ("wasm", "js"), "the publisher's first that the device lends");
        assert_eq!(compiled.len(), 8 + 200 * 36 * 4);
        assert!(compiled == interpreted, "{kind}");
    }

    let offer = Offer { engine: Some(Engine::Wasm), ..offer };
    let refusal = offered(&peer, &workers[1], (&offer, "{}"), &tile).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Constraint, "{refusal}");
    assert!(refusal.reason.contains("the job is to run in wasm, this device lends js (offer.engines)"), "{refusal}");
}

/// One picture of several devices, and of one device in either engine.
#[tokio::test]
async fn a_picture_is_the_same_in_either_engine() {
    let lab = Lab::new();
    let market = lab.market("shop", &[shipped("image-blur")]);
    let crew = Crew::gather(&lab, &market, 2).await;
    let requester = &crew.requester;
    let picture = requester.home.folder().join("photo.png");
    photo(&picture, 320, 240);
    let picture = fs::read(picture).unwrap();
    let params = json!({ "kind": "gaussian", "radius": 7 }).as_object().unwrap().clone();
    let devices = Devices::Range { min: 3, max: 3 };
    let blur = Invoke { service: "image-blur".into(), params, devices, ..Invoke::default() };
    let (report, together) = requester.job(blur.clone(), picture.clone(), |_| {}).await;
    assert_counted_once(&report);
    for (name, engine) in [("js", Engine::Js), ("wasm", Engine::Wasm)] {
        let alone = Invoke { engine: Some(name.into()), ..locally(&blur) };
        let (report, output) = requester.job(alone, picture.clone(), |_| {}).await;
        assert_eq!(report.devices.iter().map(|device| device.engine).collect::<Vec<_>>(), [Some(engine)]);
        assert!(output == together, "{name} on this device alone gives something else");
    }
}

/// A program that knows nothing of msm, on several devices: one file that gunzip opens, the same as from one device.
#[tokio::test]
async fn a_file_is_compressed_by_several_devices() {
    let lab = Lab::new();
    let market = lab.market("shop", &[shipped("gzip")]);
    let crew = Crew::gather(&lab, &market, 2).await;
    let home = &crew.requester.home;
    let text = lines(400_000);
    fs::write(home.folder().join("book.txt"), &text).unwrap();
    let devices = Devices::Range { min: 3, max: 3 };
    crew.warm(&Invoke { service: "gzip".into(), devices, ..Invoke::default() }, text.clone()).await;

    let call = ["invoke", "gzip", "book.txt", "-p", "level=9", "--json", "-o"];
    let args = |more: &[&'static str]| [&call[..], more].concat();
    let job = msm(home, &args(&["far.gz", "--devices", "3", "--strict"])).await.json();
    assert_eq!(job["tasks"], text.len().div_ceil(1 << 20), "a member for each MiB: {job}");
    let alone = msm(home, &args(&["near.gz", "--local"])).await.json();
    assert_eq!(job["output_sha256"], alone["output_sha256"]);

    let packed = fs::read(home.folder().join("far.gz")).unwrap();
    assert!(packed.len() < text.len() / 4, "{} bytes of {}", packed.len(), text.len());
    let mut gunzip = std::process::Command::new("gunzip");
    let mut child = gunzip.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&packed));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success() && output.stdout == text.into_bytes(), "{}", output.status);

    // There is no JavaScript in it: said before anything runs.
    let refused = msm(home, &["invoke", "gzip", "book.txt", "-o", "never.gz", "--engine", "js", "--json"]).await;
    let error = refused.error();
    assert_eq!(refused.code, 5, "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("it is to run in js, the package has wasm"), "{message}");
}
