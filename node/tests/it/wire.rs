//! Frames of a job stream, written and read by hand: what a second implementation, or an attacker, would do.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::Stream;
use msm_protocol::{
    ContentHash, Envelope, JobId, SecretKey, cbor,
    device::Requirements,
    job::{Chunk, Done, Job, Offer, Outcome, Receipt, TaskHeader, TaskOp, TaskResult, ToRequester, ToWorker},
    limits::{CHUNK_BYTES, INLINE_BYTES},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_bytes::ByteBuf;

use crate::rig::{Market, SOON};

/// A frame: u32 LE length and CBOR.
pub fn frame(message: &impl Serialize) -> Vec<u8> {
    let payload = cbor::to_vec(message).unwrap();
    let mut frame = (payload.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(&payload);
    frame
}

/// Writes a frame; false when the other side is gone.
pub async fn send(stream: &mut Stream, message: &impl Serialize) -> bool {
    send_bytes(stream, &frame(message)).await
}

/// Writes bytes as they are; false when the other side is gone.
pub async fn send_bytes(stream: &mut Stream, bytes: &[u8]) -> bool {
    stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok()
}

/// The next frame; `None` at the end of the stream.
pub async fn receive<T: DeserializeOwned>(stream: &mut Stream) -> Option<T> {
    receive_within(stream, SOON).await.expect("a frame or an end in time")
}

/// The next frame within `limit`; `Err` when nothing came.
pub async fn receive_within<T: DeserializeOwned>(stream: &mut Stream, limit: Duration) -> Result<Option<T>, ()> {
    let read = async {
        let mut length = [0; 4];
        stream.read_exact(&mut length).await.ok()?;
        let mut payload = vec![0; u32::from_le_bytes(length) as usize];
        stream.read_exact(&mut payload).await.ok()?;
        Some(cbor::from_slice(&payload, payload.len()).expect("a frame of the protocol"))
    };
    tokio::time::timeout(limit, read).await.map_err(|_| ())
}

/// An offer that asks nothing special.
pub fn offer(market: &Market, manifest: ContentHash, version: u64) -> Offer {
    Offer {
        op: TaskOp::Run,
        name: "grind".into(),
        engine: None,
        v: 1,
        need: Requirements { eqs: 0.0, gps: false, battery: 0, network: None },
        market: market.id,
        version,
        manifest,
    }
}

/// A job of one task.
pub fn job(slot: u32, params: &str) -> ToWorker {
    let job = JobId::from_bytes([7; 16]);
    ToWorker::Job(Box::new(Job { job, slot, tasks: 1, params: params.to_owned() }))
}

/// The first task of the job in this slot, with its input in the frame when it is short.
pub fn task(id: u64, slot: u32, input: &[u8]) -> ToWorker {
    let bytes = (input.len() <= INLINE_BYTES).then(|| ByteBuf::from(input));
    ToWorker::Task(TaskHeader { id, hash: ContentHash::of(input), size: input.len() as u64, slot, task: 0, bytes })
}

/// Bytes in chunks.
pub fn chunks(id: u64, bytes: &[u8]) -> impl Iterator<Item = Chunk> {
    let at = |n: usize| (n * CHUNK_BYTES) as u64;
    bytes.chunks(CHUNK_BYTES).enumerate().map(move |(n, piece)| Chunk { at: at(n), id, bytes: ByteBuf::from(piece) })
}

/// The answer of an honest worker to one task, to be made worse.
pub fn result(id: u64, output: &[u8]) -> TaskResult {
    let bytes = Some(ByteBuf::from(output));
    let done = Done { hash: ContentHash::of(output), size: output.len() as u64, bytes, cpu_us: 1, input_us: None };
    TaskResult { id, outcome: Outcome::Done(done) }
}

/// The frame of a receipt, signed by `key`.
pub fn receipt(key: &SecretKey, receipt: &Receipt) -> ToRequester {
    ToRequester::Receipt(ByteBuf::from(Envelope::sign(receipt, &[key]).unwrap().to_vec().unwrap()))
}

/// What an honest worker would have answered with this output, but for the time that it took.
pub fn result_like(seen: &TaskResult, output: &[u8]) -> TaskResult {
    let mut result = result(seen.id, output);
    if let (Outcome::Done(mine), Outcome::Done(seen)) = (&mut result.outcome, &seen.outcome) {
        (mine.cpu_us, mine.input_us) = (seen.cpu_us, seen.input_us);
    }
    result
}
