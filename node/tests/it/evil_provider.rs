//! Providers that send wrong, endless or no bytes: their bytes are never used, others' are, and liars are left alone.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use msm_node::command::{Command, Invoke, Reply};
use msm_protocol::{ContentHash, Manifest, cbor, message::BlobResponse};
use rustix::process::Signal;

use crate::{
    evil::{Answer, Evil, Knobs, plain},
    rig::*,
};

/// A requester that knows an evil provider, which gives the index honestly, and an honest one that sleeps until the
/// evil one has been asked for the bytes that matter.
struct Scene {
    market: Market,
    requester: Node,
    honest: Node,
    evil: Evil,
    /// Requests to the evil provider for bytes of the variant.
    asked: Arc<Mutex<Vec<Instant>>>,
    /// Goes last: the logs are in it.
    lab: Lab,
}

/// What the evil provider does when it is asked for bytes of the variant.
type Trick = fn(BlobResponse) -> Answer;

async fn scene(trick: Trick) -> Scene {
    let lab = Lab::new();
    let market = lab.market("shop", &[]);
    let manifest = market.publish(&lab.grind());
    market.publish(&lab.service("shout", "1.0.0", "", "export const run = input => input;"));
    let bytes = std::fs::read(market.folder.join("blobs").join(manifest.to_string())).unwrap();
    let variant = Manifest::from_slice(&bytes).unwrap().variants[0].hash;

    let home = lab.requester("phone");
    market.trusted_by(&home);
    let requester = Node::start(&home, &[]).await;
    let home = lab.home("honest");
    market.served_by(&home);
    let honest = Node::start_near(&home, &requester).await;

    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = asked.clone();
    let knobs = Knobs::default().with_head_of(&market).with_blobs_of(&market, move |request, response| {
        if request.hash != variant || request.len == 0 {
            return plain(&response);
        }
        heard.lock().unwrap().push(Instant::now());
        trick(response)
    });
    let evil = Evil::start(knobs).await;
    evil.dial(&requester.address).await;
    until("the requester sees both", SOON, async || (requester.peers().await.len() == 2).then_some(())).await;
    requester.has_index(&market, 3).await;
    Scene { market, requester, honest, evil, asked, lab }
}

impl Scene {
    /// Runs a job that needs the variant. The honest provider wakes up when the evil one has been asked.
    async fn run(&self) -> (Bytes, Duration) {
        self.honest.signal(Signal::STOP);
        let since = Instant::now();
        let invoke = Invoke { local: true, ..locally(&grind_on(1, 10)) };
        let job = self.requester.job(invoke, lines(3), |_| {});
        let wake = async {
            until("the evil one is asked", SOON, async || (!self.asked.lock().unwrap().is_empty()).then_some(())).await;
            self.honest.signal(Signal::CONT);
            std::future::pending::<()>().await;
        };
        let (_, output) = tokio::select! {
            done = job => done,
            () = wake => unreachable!(),
        };
        assert!(!self.asked.lock().unwrap().is_empty(), "the evil provider was tried");
        (output, since.elapsed())
    }

    fn banned(&self) -> bool {
        let short = self.evil.peer.short();
        self.requester.log().lines().any(|line| line.contains("peer banned") && line.contains(&short))
    }
}

#[tokio::test]
async fn b18_right_size_wrong_bytes() {
    let scene = scene(|response| {
        let BlobResponse::Have(mut range) = response else { return plain(&response) };
        *range.bytes.last_mut().unwrap() ^= 1;
        plain(&BlobResponse::Have(range))
    })
    .await;
    let (output, _) = scene.run().await;
    assert_eq!(output, grind(&lines(3), 10));
    assert!(scene.banned(), "{}", scene.requester.log());
    assert_eq!(scene.asked.lock().unwrap().len(), 1, "one lie is enough");

    // Another package: the liar is not asked for it any more, though it is still there.
    assert!(scene.evil.is_connected(scene.requester.peer).await);
    let shout = Invoke { service: "shout".into(), local: true, ..Invoke::default() };
    let (_, output) = scene.requester.job(shout, "a\n", |_| {}).await;
    assert_eq!(output, "a\n");
    assert_eq!(scene.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn b18_nobody_gives_the_right_bytes() {
    let Scene { market, requester, honest, evil, asked, lab } = scene(|response| {
        let BlobResponse::Have(mut range) = response else { return plain(&response) };
        range.bytes[0] ^= 1;
        plain(&BlobResponse::Have(range))
    })
    .await;
    drop(honest);
    until("only the evil one is left", SOON, async || (requester.peers().await.len() == 1).then_some(())).await;
    std::fs::write(requester.home.folder().join("in.txt"), lines(1)).unwrap();
    let refused = msm(&requester.home, &["invoke", "grind", "in.txt", "--json"]).await;
    assert_eq!((refused.code, refused.error()["code"].as_str()), (8, Some("verification")), "{}", refused.err);
    assert!(refused.error()["message"].as_str().unwrap().starts_with("refused: bad-package: "), "{}", refused.err);
    assert!(refused.err.contains("hash mismatch"), "{}", refused.err);
    assert_eq!(asked.lock().unwrap().len(), 1);
    drop((lab, market, evil));
}

#[tokio::test]
async fn b19_a_larger_size_than_was_signed() {
    let scene = scene(|response| {
        let BlobResponse::Have(mut range) = response else { return plain(&response) };
        range.size += 1;
        range.bytes.push(0);
        plain(&BlobResponse::Have(range))
    })
    .await;
    let (output, _) = scene.run().await;
    assert_eq!(output, grind(&lines(3), 10));
    assert!(scene.banned(), "{}", scene.requester.log());
}

#[tokio::test]
async fn b19_bytes_without_end() {
    let scene = scene(|_| Answer::Endless).await;
    let before = scene.requester.figure("VmRSS");
    let (output, took) = scene.run().await;
    assert_eq!(output, grind(&lines(3), 10));
    assert!(took < Duration::from_secs(5), "cut, not waited for: {took:?}");
    let grown = scene.requester.figure("VmRSS").saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB");
}

#[tokio::test]
async fn b19_nothing_again_and_again() {
    let scene = scene(|response| {
        let BlobResponse::Have(mut range) = response else { return plain(&response) };
        range.bytes.clear();
        plain(&BlobResponse::Have(range))
    })
    .await;
    let (output, _) = scene.run().await;
    assert_eq!(output, grind(&lines(3), 10));
    assert!(scene.asked.lock().unwrap().len() <= 2, "no endless loop");
}

#[tokio::test]
async fn b20_a_provider_that_never_answers() {
    let scene = scene(|_| Answer::Silence).await;
    let (output, took) = scene.run().await;
    assert_eq!(output, grind(&lines(3), 10));
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert!(!scene.banned(), "slow is no lie");
}

/// Slower than anything that is worth waiting for: it is left after the time that one chunk may take, and nothing of
/// what it gave is lost or believed.
#[tokio::test]
async fn b20_a_provider_at_one_byte_a_second() {
    let scene = scene(|response| Answer::Trickle(cbor::to_vec(&response).unwrap())).await;
    let (output, took) = scene.run().await;
    assert_eq!(output, grind(&lines(3), 10));
    assert!(took < Duration::from_secs(8), "left within 5 s: {took:?}");
    assert_eq!(scene.asked.lock().unwrap().len(), 1, "and not asked again");
    assert!(!scene.banned(), "slow is no lie");
}

/// What others have is offered: a blob that nobody has is asked for everywhere, and said to be missing.
#[tokio::test]
async fn a_blob_that_nobody_has_is_no_verification_failure() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let home = lab.requester("phone");
    market.trusted_by(&home);
    let requester = Node::start(&home, &[]).await;
    // It gives head and index, and no package.
    let knobs = Knobs::default().with_head_of(&market).with_blobs_of(&market, |request, response| {
        let manifest = matches!(&response, BlobResponse::Have(range) if request.len > 0 && Manifest::from_slice(&range.bytes).is_ok());
        if manifest { plain(&BlobResponse::Missing) } else { plain(&response) }
    });
    let evil = Evil::start(knobs).await;
    evil.dial(&requester.address).await;
    requester.has_index(&market, 2).await;
    std::fs::write(home.folder().join("in.txt"), lines(1)).unwrap();
    let missing = msm(&home, &["invoke", "grind", "in.txt", "--json"]).await;
    assert_eq!((missing.code, missing.error()["code"].as_str()), (3, Some("no-node")), "{}", missing.err);
    let found = requester.ask(Command::Search(Default::default())).await.unwrap();
    assert!(matches!(found, Reply::Services { services } if services.len() == 1));
    let unknown = msm(&home, &["invoke", &ContentHash::of(b"?").to_string(), "in.txt", "--json"]).await;
    assert_eq!((unknown.code, unknown.error()["code"].as_str()), (9, Some("not-found")), "{}", unknown.err);
    assert!(unknown.err.contains("unknown-package"), "{}", unknown.err);
}
