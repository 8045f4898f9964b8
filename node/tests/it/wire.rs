//! Frames of a job stream, written and read by hand: what a second implementation, or an attacker, would do.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::Stream;
use msm_protocol::{
    ContentHash, Envelope, JobId, PeerId, SecretKey, cbor,
    device::Requirements,
    job::{AttemptRef, ChunkBuf, Done, Offer, Outcome, Receipt, TaskHeader, TaskOp, TaskResult, ToRequester},
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
pub fn offer(market: &Market, manifest: ContentHash, version: u64, params: &str) -> Offer {
    Offer {
        op: TaskOp::Run,
        engine: None,
        v: 1,
        job: JobId::from_bytes([7; 16]),
        need: Requirements { eqs: 0.0, gps: false, battery: 0, network: None },
        tasks: 1,
        market: market.id,
        params: params.to_owned(),
        version,
        manifest,
    }
}

/// The only chunk of a short input or output.
pub fn chunk(attempt: AttemptRef, bytes: &[u8]) -> ChunkBuf {
    ChunkBuf { task: attempt.task, bytes: ByteBuf::from(bytes), offset: 0, attempt: attempt.attempt }
}

/// The answer of an honest worker to one task, to be made worse.
pub fn result(key: &SecretKey, offer: &Offer, task: &TaskHeader, output: &[u8]) -> ToRequester {
    result_of(PeerId::of(&key.public()), key, offer, task, output)
}

/// The same in the name of `peer`, signed by `key`.
pub fn result_of(peer: PeerId, key: &SecretKey, offer: &Offer, task: &TaskHeader, output: &[u8]) -> ToRequester {
    let receipt = Receipt {
        v: 1,
        job: offer.job,
        peer,
        task: task.task,
        input: task.hash,
        output: ContentHash::of(output),
        package: offer.manifest,
    };
    let receipt = Envelope::sign(&receipt, &[key]).unwrap().to_vec().unwrap();
    let done = Done { size: output.len() as u64, cpu_us: 1, receipt: ByteBuf::from(receipt) };
    ToRequester::Result(Box::new(TaskResult { task: task.task, attempt: task.attempt, outcome: Outcome::Done(done) }))
}
