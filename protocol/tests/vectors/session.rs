//! A job from its first question to its end, in the order in which the messages travel.

use msm_protocol::{
    ContentHash, JobId, PeerId,
    device::{DeviceExt, DeviceInfo, Network, Requirements},
    evidence::{EVIDENCE_BYTES, Evidence},
    job::{
        Accept, Claim, Done, Heartbeat, Job, Offer, Outcome, Receipt, TaskHeader, TaskOp, TaskResult, ToRequester,
        ToWorker,
    },
    limits::{CONTROL_BYTES, FRAME_BYTES, HEAD_RESPONSE_BYTES},
    message::{BlobRange, BlobRequest, BlobResponse, Discovery, HeadRequest, HeadResponse},
};
use serde_bytes::ByteBuf;

use crate::{
    market::Market,
    sample::{Samples, key},
};

/// The job.
pub fn job_id() -> JobId {
    JobId::from_bytes(*b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f")
}

/// The second of two tasks.
const TASK: u32 = 1;
/// Its number on the lane, and the job's.
const ID: u64 = 0;
const SLOT: u32 = 0;
const INPUT: &[u8] = b"two\nthree\n";
const OUTPUT: &[u8] = b"TWO\nTHREE\n";

fn need() -> Requirements {
    Requirements { eqs: 0.0, gps: false, battery: 0, network: None }
}

/// A frame of a job stream as it lies on the wire.
fn framed(cbor: &[u8]) -> Vec<u8> {
    [&(cbor.len() as u32).to_le_bytes()[..], cbor].concat()
}

/// All of its messages, and both directions of its stream.
pub fn session(samples: &mut Samples, market: &Market) {
    let discovery = Discovery { v: 1, need: Some(need()) };
    samples.message::<_, CONTROL_BYTES>("session/discovery", "requester to worker, /msm/device/1 request", &discovery);
    let device = DeviceInfo {
        v: 1,
        eqs: 90.0,
        ext: DeviceExt {
            cpu: 0.75,
            mem: 0.5,
            name: "attic".into(),
            cores: 4,
            slots: 2,
            speed: 1.2,
            battery: 1.0,
            engines: vec!["js".into()],
            markets: vec![market.id],
        },
        gps: false,
        network: Network::High,
        availability: true,
    };
    samples.message::<_, CONTROL_BYTES>("session/device-info", "its response", &device);

    let manifest = ContentHash::of(&market.manifest);
    let offer = ToWorker::Offer(Box::new(Offer {
        op: TaskOp::Run,
        name: "upper-case".into(),
        engine: None,
        v: 1,
        need: need(),
        market: market.id,
        version: 2,
        manifest,
    }));
    let mut to_worker = Vec::new();
    let mut to_requester = Vec::new();
    to_worker.push(samples.message::<_, FRAME_BYTES>(
        "session/offer",
        "requester to worker, first frame of /msm/job/1",
        &offer,
    ));

    let job = ToWorker::Job(Box::new(Job { job: job_id(), slot: SLOT, tasks: 2, params: "{}".into() }));
    to_worker.push(samples.message::<_, FRAME_BYTES>("session/job", "requester to worker, right behind it", &job));
    let header = TaskHeader {
        id: ID,
        hash: ContentHash::of(INPUT),
        size: INPUT.len() as u64,
        slot: SLOT,
        task: TASK,
        bytes: Some(ByteBuf::from(INPUT)),
    };
    to_worker.push(samples.message::<_, FRAME_BYTES>(
        "session/task",
        "requester to worker: the second task, its input of 10 bytes in the frame",
        &ToWorker::Task(header),
    ));

    let ask = HeadRequest { v: 1, root: 1, market: market.id, version: Some(1) };
    samples.message::<_, CONTROL_BYTES>(
        "session/head-request",
        "worker to requester, /msm/head/1 request: the worker knows root 1 and does not find the manifest",
        &ask,
    );
    let answer = HeadResponse {
        head: Some(ByteBuf::from(&market.head[..])),
        past: Some(ByteBuf::from(&market.first_index[..])),
        roots: vec![ByteBuf::from(&market.roots[1][..])],
    };
    samples.message::<_, HEAD_RESPONSE_BYTES>(
        "session/head-response",
        "its response: head/2, root/2, and index/1",
        &answer,
    );
    let ask = BlobRequest { v: 1, len: 262_144, hash: manifest, more: 0, offset: 0 };
    samples.message::<_, CONTROL_BYTES>(
        "session/blob-request",
        "worker to requester, /msm/blob/1 request for manifest/small",
        &ask,
    );
    let bytes = ByteBuf::from(&market.manifest[..]);
    let range = BlobRange { more: Vec::new(), size: market.manifest.len() as u64, bytes };
    samples.message::<_, FRAME_BYTES>("session/blob-have", "its response: the whole blob", &BlobResponse::Have(range));

    let accept = ToRequester::Accept(Accept { credit: 64, engine: "js".into() });
    to_requester.push(samples.message::<_, FRAME_BYTES>("session/accept", "worker to requester, first frame", &accept));
    let heartbeat = ToRequester::Heartbeat(Heartbeat { ids: vec![ID] });
    to_requester.push(samples.message::<_, FRAME_BYTES>(
        "session/heartbeat",
        "worker to requester: still at it",
        &heartbeat,
    ));
    let output = ContentHash::of(OUTPUT);
    let (size, bytes) = (OUTPUT.len() as u64, Some(ByteBuf::from(OUTPUT)));
    let done = Done { hash: output, size, bytes, cpu_us: 1_234, input_us: None };
    let result = ToRequester::Result(Box::new(TaskResult { id: ID, outcome: Outcome::Done(done) }));
    to_requester.push(samples.message::<_, FRAME_BYTES>(
        "session/result",
        "worker to requester: 10 bytes of output, in the frame",
        &result,
    ));
    let claim = Claim { job: job_id(), task: TASK, input: ContentHash::of(INPUT), output };
    let peer = PeerId::of(&key(5).public());
    let receipt = Receipt { v: 1, peer, claims: vec![claim], package: manifest };
    let lie = Claim { output: ContentHash::of(b"TWO\nTREE\n"), ..claim };
    let lie = Receipt { peer: PeerId::of(&key(6).public()), claims: vec![lie], ..receipt.clone() };
    let receipt =
        samples.signed("session/receipt", "inside the next frame, signed by the worker's own key", &receipt, &[5]);
    let honest = receipt.clone();
    let receipt = ToRequester::Receipt(ByteBuf::from(receipt));
    to_requester.push(samples.message::<_, FRAME_BYTES>(
        "session/receipt-frame",
        "worker to requester: its word for what it has answered",
        &receipt,
    ));
    to_worker.push(samples.message::<_, FRAME_BYTES>(
        "session/over",
        "requester to worker: the job is over, another may follow",
        &ToWorker::Over(SLOT),
    ));
    to_worker.push(samples.message::<_, FRAME_BYTES>(
        "session/done",
        "requester to worker, last frame: the lane is not needed any more",
        &ToWorker::Done,
    ));

    let wire = |frames: &[Vec<u8>]| frames.iter().map(|frame| framed(frame)).collect::<Vec<_>>().concat();
    samples.raw("session/stream-to-worker", "all that the requester writes to the job stream", &wire(&to_worker));
    samples.raw("session/stream-to-requester", "all that the worker writes to the job stream", &wire(&to_requester));

    let lie = samples.signed("evidence/receipt", "another worker's receipt for the same task", &lie, &[6]);
    let evidence = Evidence {
        v: 1,
        by: PeerId::of(&key(5).public()),
        job: job_id(),
        task: TASK,
        time: 1_800_000_000,
        count: 2,
        right: ContentHash::of(OUTPUT),
        others: vec![ByteBuf::from(honest)],
        params: "{}".into(),
        receipt: ByteBuf::from(lie),
    };
    assert!(evidence.claim().is_ok());
    samples.message::<_, EVIDENCE_BYTES>("evidence", "what its requester keeps of it, with session/receipt", &evidence);
}
