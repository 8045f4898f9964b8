//! One fixed sample of every message and document: a small market, and a job that runs one of its services.
//!
//! Keys are made of seeds of one repeated byte: 1 root, 2 index, 3 head, 4 the requester, 5 the worker, 6 the publisher,
//! 7 a second root key.

use msm_protocol::{
    ContentHash, PeerId, Refusal, RefusalCode,
    device::{Network, Requirements},
    job::{Chunk, Done, JobRefused, Offer, Outcome, TaskHeader, TaskOp, TaskResult, ToRequester, ToWorker},
    limits::{CONTROL_BYTES, FRAME_BYTES, HEAD_RESPONSE_BYTES},
    manifest::Engine,
    message::{BlobRange, BlobRequest, BlobResponse, Discovery, HeadResponse, Presence, name},
};
use serde_bytes::ByteBuf;

use crate::{
    market::{Market, market},
    refused::refused,
    sample::{Sample, Samples, key},
    session::{job_id, session},
};

/// The present of the samples, Unix seconds.
pub const NOW: u64 = 1_800_000_000;

/// All samples in the order of `PROTOCOL.md`.
pub fn all() -> Vec<Sample> {
    let mut samples = Samples::default();
    let market = market(&mut samples);
    session(&mut samples, &market);
    others(&mut samples, &market);
    refused(&mut samples, &market);
    samples.0
}

/// What the session does not need.
fn others(samples: &mut Samples, market: &Market) {
    let peer = PeerId::of(&key(5).public());
    let hello = ContentHash::of(b"hello");
    samples.text("id/content-hash", "SHA-256 of the 5 bytes `hello`, and its CID", hello.as_bytes(), hello);
    samples.raw("id/content-hash/kad-key", "the Kademlia key of the same blob", &hello.multihash());
    let manifest = ContentHash::of(&market.manifest);
    samples.text("manifest/small/cid", "the name of the package upper-case 1.0.0", manifest.as_bytes(), manifest);
    samples.text("id/public-key", "the key of seed 5 (the worker's)", key(5).public().as_bytes(), key(5).public());
    samples.text("id/peer", "the peer of the same key", key(5).public().as_bytes(), peer);
    samples.raw("id/peer/libp2p", "the same peer id in libp2p's binary form", &peer.to_libp2p_bytes());
    samples.text("id/market", "SHA-256 of the payload of root/1", market.id.as_bytes(), market.id);
    samples.text(
        "id/market/fingerprint",
        "the same as people compare it",
        market.id.as_bytes(),
        market.id.fingerprint(),
    );
    let topic = name::market_topic(&market.id);
    samples.text("id/market/topic", "the gossip topic of the same market", topic.as_bytes(), &topic);
    samples.raw("id/market/kad-key", "the Kademlia key of the same market's head record", &name::head_key(&market.id));
    let job: [u8; 16] = std::array::from_fn(|n| n as u8);
    samples.text("id/job", "the job of the session", &job, job_id());

    let presence = Presence {
        v: 1,
        time: NOW,
        addresses: vec!["/ip4/192.0.2.7/udp/4001/quic-v1".into(), "/ip4/192.0.2.7/tcp/4001".into()],
    };
    samples.signed("presence", "data of a gossip message, signed by the worker's own key", &presence, &[5]);
    let plain = Discovery { v: 1, need: None };
    samples.message::<_, CONTROL_BYTES>("discovery/plain", "a discovery message that asks for nothing special", &plain);
    let need = Requirements { eqs: 40.5, gps: true, battery: 20, network: Some(Network::High) };
    let strict = Discovery { v: 1, need: Some(need) };
    samples.message::<_, CONTROL_BYTES>("discovery/strict", "one that asks for much", &strict);
    samples.message::<_, HEAD_RESPONSE_BYTES>(
        "head-response/empty",
        "the market is not known here",
        &HeadResponse::default(),
    );
    let ask = BlobRequest { v: 1, len: 0, hash: ContentHash::of(&market.manifest), more: 0, offset: 0 };
    samples.message::<_, CONTROL_BYTES>("blob-request/have", "only whether manifest/small is there", &ask);
    let there = BlobRange { more: Vec::new(), size: market.manifest.len() as u64, bytes: ByteBuf::new() };
    samples.message::<_, FRAME_BYTES>("blob-response/have", "it is there", &BlobResponse::Have(there));
    let ask = BlobRequest { len: 262_144, more: 32_768, ..ask };
    samples.message::<_, CONTROL_BYTES>("blob-request/package", "manifest/small and what it names", &ask);
    let package = BlobRange {
        more: vec![ByteBuf::from(crate::market::JS)],
        size: market.manifest.len() as u64,
        bytes: ByteBuf::from(&market.manifest[..]),
    };
    samples.message::<_, FRAME_BYTES>("blob-response/package", "both", &BlobResponse::Have(package));
    samples.message::<_, FRAME_BYTES>("blob-response/missing", "it is not", &BlobResponse::Missing);
    let busy = Refusal::new(RefusalCode::RateLimited, "too many blob requests");
    samples.message::<_, FRAME_BYTES>("blob-response/refused", "no room", &BlobResponse::Refused(busy));
    let refusal = Refusal::new(RefusalCode::Constraint, "battery 41 % < 50 %");
    samples.message::<_, FRAME_BYTES>(
        "job/refuse",
        "worker to requester: offer not taken, or the job is left",
        &ToRequester::Refuse(refusal),
    );
    samples.message::<_, FRAME_BYTES>(
        "job/cancel",
        "requester to worker: this task is not wanted any more",
        &ToWorker::Cancel(7),
    );
    let refusal = Refusal::new(RefusalCode::BadInput, "radius 0 is below 1");
    samples.message::<_, FRAME_BYTES>(
        "job/job-refused",
        "worker to requester: this job is not taken, others may be",
        &ToRequester::JobRefused(JobRefused { slot: 3, refusal }),
    );
    let long = b"a longer input ";
    let task = TaskHeader { id: 300, hash: ContentHash::of(long), size: 70_000, slot: 2, task: 9, bytes: None };
    samples.message::<_, FRAME_BYTES>(
        "job/task-long",
        "requester to worker: 70,000 bytes follow in chunks",
        &ToWorker::Task(task),
    );
    let chunk = Chunk { at: 0, id: 300, bytes: ByteBuf::from(*long) };
    samples.message::<_, FRAME_BYTES>(
        "job/chunk-input",
        "requester to worker: the first of them",
        &ToWorker::Chunk(chunk),
    );
    let done = Done { hash: ContentHash::of(long), size: 70_000, bytes: None, cpu_us: 20_000, input_us: Some(3_500) };
    let result = TaskResult { id: 300, outcome: Outcome::Done(done) };
    samples.message::<_, FRAME_BYTES>(
        "job/result-long",
        "worker to requester: 70,000 bytes follow in chunks",
        &ToRequester::Result(Box::new(result)),
    );
    let chunk = Chunk { at: 65_536, id: 300, bytes: ByteBuf::from(*long) };
    samples.message::<_, FRAME_BYTES>(
        "job/chunk-output",
        "worker to requester: some of them",
        &ToRequester::Chunk(chunk),
    );
    let split = Offer {
        v: 1,
        op: TaskOp::Split,
        name: "upper-case".into(),
        need: Requirements { eqs: 0.0, gps: false, battery: 0, network: Some(Network::Low) },
        engine: Some(Engine::Js),
        market: market.id,
        version: 2,
        manifest: ContentHash::of(&market.manifest),
    };
    samples.message::<_, FRAME_BYTES>(
        "job/offer-split",
        "requester to worker: cut the input, in JavaScript",
        &ToWorker::Offer(Box::new(split)),
    );
    let failed = Refusal::new(RefusalCode::ServiceFailed, "TypeError: not a function");
    let result = TaskResult { id: 8, outcome: Outcome::Failed(failed) };
    samples.message::<_, FRAME_BYTES>(
        "job/result-failed",
        "worker to requester: no bytes follow",
        &ToRequester::Result(Box::new(result)),
    );
}
