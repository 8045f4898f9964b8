//! A requester that lies, floods and mumbles: a worker refuses fast, strikes, blocks, and goes on serving others.

use std::time::{Duration, Instant};

use futures::AsyncReadExt;
use msm_protocol::{
    ContentHash, RefusalCode, cbor,
    device::DeviceInfo,
    job::{Offer, TaskOp, ToRequester, ToWorker},
    message::Discovery,
};

use crate::{
    evil::{Evil, Knobs, Protocol},
    rig::*,
    wire::{self, offer},
};

/// What the worker answers to an offer, and how long it took.
async fn offered(evil: &Evil, worker: &Node, message: ToWorker) -> (ToRequester, Duration) {
    let mut stream = evil.open_job(worker.peer).await.unwrap();
    let since = Instant::now();
    assert!(wire::send(&mut stream, &message).await);
    let answer = wire::receive(&mut stream).await.expect("an answer");
    (answer, since.elapsed())
}

async fn worker_with(lab: &Lab, market: &Market) -> Node {
    let home = lab.home("worker");
    market.served_by(&home);
    Node::start(&home, &[]).await
}

#[tokio::test]
async fn b01_what_no_market_vouches_for_is_refused_at_once() {
    let lab = Lab::new();
    let market = lab.market("shop", &[]);
    let manifest = market.publish(&lab.grind());
    let worker = worker_with(&lab, &market).await;
    let evil = Evil::start(Knobs::default()).await;
    evil.dial(&worker.address).await;
    let before = worker.children();

    let foreign = lab.market("somebodys", &[]);
    let unknown = ContentHash::of(b"no manifest");
    let mut greedy = offer(&market, manifest, 2, "{}");
    greedy.v = 2;
    let splitting = Offer { op: TaskOp::Split, ..offer(&market, manifest, 2, "{}") };
    let cases = [
        ("unknown package", offer(&market, unknown, 2, "{}"), RefusalCode::UnknownPackage),
        ("unknown market", offer(&foreign, manifest, 2, "{}"), RefusalCode::UntrustedMarket),
        ("unknown parameter", offer(&market, manifest, 2, r#"{"speed":1}"#), RefusalCode::BadInput),
        ("parameter of another type", offer(&market, manifest, 2, r#"{"rounds":"many"}"#), RefusalCode::BadInput),
        ("parameter out of range", offer(&market, manifest, 2, r#"{"rounds":0}"#), RefusalCode::BadInput),
        ("no parameters at all", offer(&market, manifest, 2, "rounds=1"), RefusalCode::BadInput),
        ("another version", greedy, RefusalCode::BadMessage),
        ("a split that is the requester's own", splitting, RefusalCode::BadMessage),
    ];
    for (name, offer, code) in cases {
        let (answer, took) = offered(&evil, &worker, ToWorker::Offer(Box::new(offer))).await;
        let ToRequester::Refuse(refusal) = answer else { panic!("{name}: {answer:?}") };
        assert_eq!(refusal.code, code, "{name}: {refusal}");
        // Measured: a millisecond or two. The bound is for a busy machine.
        assert!(took < Duration::from_millis(500), "{name}: {took:?}");
    }
    assert_eq!(worker.children(), before, "no child was started");
    assert_eq!(worker.status().await.running_tasks, 0);
}

/// A requester may know a newer index, but a promise of one is no reason to wait for it for ever.
#[tokio::test]
async fn b01_a_newer_index_that_never_comes() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let worker = worker_with(&lab, &market).await;
    let evil = Evil::start(Knobs::default()).await;
    evil.dial(&worker.address).await;
    let promised = offer(&market, ContentHash::of(b"no manifest"), 99, "{}");
    let (answer, took) = offered(&evil, &worker, ToWorker::Offer(Box::new(promised))).await;
    assert!(matches!(answer, ToRequester::Refuse(refusal) if refusal.code == RefusalCode::UnknownPackage));
    assert!(took < Duration::from_secs(7), "{took:?}");
}

/// Messages that are none: nested too deep, without end, longer than they are, or nothing at all.
fn garbage() -> Vec<(&'static str, Vec<u8>)> {
    let long = |head: &[u8]| [head, &[0; 7][..]].concat();
    vec![
        ("B13 arrays in arrays", vec![0x81; 16_000]),
        ("B13 endless arrays", vec![0x9f; 16_000]),
        ("B13 tags", vec![0xc6; 16_000]),
        ("B14 array of 2^40", long(&[0x9b, 0, 0, 1, 0, 0, 0, 0, 0])),
        ("B14 text of 2^64-1", long(&[0x7b, 255, 255, 255, 255, 255, 255, 255, 255])),
        ("B14 map of 2^63", long(&[0xbb, 128, 0, 0, 0, 0, 0, 0, 0])),
        ("B16 empty texts", [&[0x99, 0x3e, 0x80][..], &vec![0x60; 16_000]].concat()),
        ("nothing", Vec::new()),
        ("too long", vec![0; 17 * 1024]),
        ("another message", cbor::to_vec(&("x", 1)).unwrap()),
    ]
}

/// The worker still answers this peer, and within a second.
async fn assert_served(honest: &Evil, worker: &Node) {
    let since = Instant::now();
    let discovery = cbor::to_vec(&Discovery { v: 1, need: None }).unwrap();
    let answer = honest.ask(Protocol::Device, worker.peer, discovery).await.unwrap();
    let info: DeviceInfo = cbor::from_slice(&answer, answer.len()).unwrap();
    assert!(info.availability);
    assert!(since.elapsed() < Duration::from_secs(1));
}

/// Waits until the worker has dropped the peer, and sees that it does not let it in again.
async fn assert_blocked(evil: &Evil, worker: &Node) {
    until("it is thrown out", SOON, async || (!evil.is_connected(worker.peer).await).then_some(())).await;
    // The handshake may end before the block is seen; a connection that lasts is what must not be.
    if evil.try_dial(&worker.address).await.is_ok() {
        until("it is thrown out again", SOON, async || (!evil.is_connected(worker.peer).await).then_some(())).await;
    }
}

#[tokio::test]
async fn b13_b14_garbage_requests_cost_their_sender_the_connection() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let worker = worker_with(&lab, &market).await;
    let honest = Evil::start(Knobs::default()).await;
    honest.dial(&worker.address).await;
    let before = worker.figure("VmRSS");
    for protocol in [Protocol::Device, Protocol::Head, Protocol::Blob] {
        for (name, bytes) in garbage() {
            let evil = Evil::start(Knobs::default()).await;
            evil.dial(&worker.address).await;
            for strike in 1..=3 {
                assert!(evil.is_connected(worker.peer).await, "{protocol:?}, {name}: out before strike {strike}");
                let answer = evil.ask(protocol, worker.peer, bytes.clone()).await;
                assert!(answer.is_err() || answer.is_ok_and(|it| it.is_empty()), "{protocol:?}, {name}: no word to it");
            }
            assert_blocked(&evil, &worker).await;
        }
        assert_served(&honest, &worker).await;
    }
    let grown = worker.figure("VmRSS").saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB for 90 bad messages from 30 peers");
}

#[tokio::test]
async fn b13_b14_garbage_frames_cost_their_sender_the_connection() {
    let lab = Lab::new();
    let market = lab.market("shop", &[]);
    let manifest = market.publish(&lab.grind());
    let worker = worker_with(&lab, &market).await;
    let honest = Evil::start(Knobs::default()).await;
    honest.dial(&worker.address).await;
    let framed = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat();
    let offer = || wire::frame(&ToWorker::Offer(Box::new(offer(&market, manifest, 2, "{}"))));
    let mut frames: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, bytes) in garbage() {
        frames.push((format!("first: {name}"), framed(&bytes)));
        frames.push((format!("after an offer: {name}"), [offer(), framed(&bytes)].concat()));
    }
    frames.push(("a frame of 4 GiB".into(), u32::MAX.to_le_bytes().to_vec()));
    frames.push(("no offer first".into(), wire::frame(&ToWorker::Done)));
    frames.push(("two offers".into(), [offer(), offer()].concat()));
    for (name, bytes) in frames {
        let evil = Evil::start(Knobs::default()).await;
        evil.dial(&worker.address).await;
        for strike in 1..=3 {
            let mut stream =
                evil.open_job(worker.peer).await.unwrap_or_else(|e| panic!("{name}: strike {strike}: {e}"));
            wire::send_bytes(&mut stream, &bytes).await;
            // It says why, as far as it can, and ends the stream.
            let mut answer = Vec::new();
            let end = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await;
            assert!(end.is_ok(), "{name}: the stream stays open");
        }
        assert_blocked(&evil, &worker).await;
    }
    assert_served(&honest, &worker).await;
}

/// Half a frame and then nothing: the stream is closed, the peer is not blamed (its link may be slow).
#[tokio::test]
async fn b45_half_an_offer_is_waited_for_no_longer_than_five_seconds() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let worker = worker_with(&lab, &market).await;
    let evil = Evil::start(Knobs::default()).await;
    evil.dial(&worker.address).await;
    let since = Instant::now();
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = evil.open_job(worker.peer).await.unwrap();
        assert!(wire::send_bytes(&mut stream, &[200, 0, 0, 0, 0xa1]).await);
        streams.push(stream);
    }
    assert_served(&evil, &worker).await;
    for mut stream in streams {
        let mut answer = Vec::new();
        assert!(tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.is_ok());
    }
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
    assert!(evil.is_connected(worker.peer).await);
}

/// A stranger's records do not get into the DHT of others.
#[tokio::test]
async fn b47_records_that_are_no_heads_are_not_stored() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let worker = worker_with(&lab, &market).await;
    let evil = Evil::start(Knobs { kad: true, ..Knobs::default() }).await;
    evil.dial(&worker.address).await;
    until("it routes", SOON, async || evil.routes(worker.peer).await.then_some(())).await;
    for n in 0..3u8 {
        evil.put_record(vec![n; 8], vec![0; 64]).await;
    }
    assert_blocked(&evil, &worker).await;
}
