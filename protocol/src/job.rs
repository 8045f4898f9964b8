//! `/msm/job/1`: the frames of a lane, which carries jobs of one service from a requester to a worker, and the receipts.
//!
//! The requester opens the stream and sends [`ToWorker::Offer`]; without waiting for [`ToRequester::Accept`] it may send
//! jobs and the first [`crate::limits::CREDIT`] tasks right behind it. Then it sends tasks as long as the worker's credit
//! lasts; each [`ToRequester::Result`] or [`ToWorker::Cancel`] gives one credit back. Short inputs and outputs lie in the
//! frame that announces them; longer ones follow in [`Chunk`]s, so that a heartbeat or a cancel waits for one chunk at
//! most. Receipts are signed for many results at a time and follow them.
//! On the wire each frame is a u32 LE length and that many bytes of CBOR.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    ContentHash, JobId, MarketId, PeerId, Refusal, Signed,
    device::Requirements,
    limits::{CHUNK_BYTES, CONTROL_BYTES},
    manifest::Engine,
};

/// A frame from the requester.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToWorker {
    /// First frame: the service.
    Offer(Box<Offer>),
    /// A job begins.
    Job(Box<Job>),
    /// A task of a job that has begun; its input is in the frame or follows in chunks.
    Task(TaskHeader),
    /// A piece of a task's input.
    Chunk(Chunk),
    /// Stop working on the task of this id; no result is wanted.
    Cancel(u64),
    /// The job of this slot is over: nothing more comes for it, and what still runs for it is not wanted.
    Over(u32),
    /// Nothing more will come.
    Done,
}

/// A frame from the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToRequester {
    /// The offer is taken.
    Accept(Accept),
    /// The offer is not taken, or the worker leaves: nothing more will come.
    Refuse(Refusal),
    /// One job is not taken; the others go on.
    JobRefused(JobRefused),
    /// The worker is still at these tasks.
    Heartbeat(Heartbeat),
    /// A task has ended; on success its output is in the frame or follows in chunks.
    Result(Box<TaskResult>),
    /// A piece of a task's output.
    Chunk(Chunk),
    /// Envelope of a [`Receipt`] for results that came before it, signed by the worker's own key.
    Receipt(ByteBuf),
}

/// A service as a worker must know it to decide.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// Format version, 1.
    pub v: u8,
    /// What its tasks do.
    #[serde(default, skip_serializing_if = "TaskOp::is_run")]
    pub op: TaskOp,
    /// The service: by it the worker finds the release in the market's index without reading all of it.
    pub name: String,
    /// What the device must meet, now and before each task.
    pub need: Requirements,
    /// The engine that every worker must use; absent when the service's variants give the same bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// The market that vouches for the package.
    pub market: MarketId,
    /// Index version under which the requester found the release (a hint: a worker that does not find the manifest asks
    /// the requester for a newer index).
    pub version: u64,
    /// The manifest: what is to be run.
    pub manifest: ContentHash,
}

/// What the tasks of a lane do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskOp {
    /// The service's `run` on one part of the job.
    #[default]
    Run,
    /// The service's `split` on the job's whole input: its one task gives the inputs of the job that follows, as frames
    /// (u32 LE length and bytes, repeated). Only for a manifest whose `work.remote` is true.
    Split,
}

impl TaskOp {
    fn is_run(&self) -> bool {
        *self == Self::Run
    }
}

/// Opens a job on a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The job.
    pub job: JobId,
    /// Its number on this lane: larger than any before it.
    pub slot: u32,
    /// Tasks in the job, at most [`crate::limits::TASKS_PER_JOB`]; for [`TaskOp::Split`] the number wished for.
    pub tasks: u32,
    /// The parameters as a JSON object, at most [`crate::limits::PARAMS_BYTES`].
    pub params: String,
}

/// Terms of an accepted offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accept {
    /// Tasks that the worker takes at a time, over all jobs of the lane: announced, and neither answered nor cancelled.
    pub credit: u32,
    /// Engine of the variant that it will run, such as `js`.
    pub engine: String,
}

/// A job that the worker does not take, or leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRefused {
    /// The job's slot.
    pub slot: u32,
    /// Why.
    pub refusal: Refusal,
}

/// Announces a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskHeader {
    /// Number of this attempt on this lane: larger than any before it.
    pub id: u64,
    /// SHA-256 of the input.
    pub hash: ContentHash,
    /// Bytes of input, at most [`crate::limits::TASK_BYTES`].
    pub size: u64,
    /// Slot of the job.
    pub slot: u32,
    /// Index of the task in the job, from 0.
    pub task: u32,
    /// The whole input, when it has 1 to [`crate::limits::INLINE_BYTES`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<ByteBuf>,
}

/// Names one attempt of one task, as the requester's scheduler counts them. It does not travel: on a lane an attempt has
/// an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptRef {
    /// Index of the task.
    pub task: u32,
    /// Number of the attempt.
    pub attempt: u32,
}

/// Tasks still being worked on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// At most [`crate::limits::CREDIT_MAX`] of them.
    pub ids: Vec<u64>,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskResult {
    /// Which one.
    pub id: u64,
    /// Success or failure.
    pub outcome: Outcome,
}

/// Success or failure of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The output is in the frame or follows; a receipt will vouch for it.
    Done(Done),
    /// It failed.
    Failed(Refusal),
}

/// A success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// SHA-256 of the output.
    pub hash: ContentHash,
    /// Bytes of output, at most the manifest's output limit.
    pub size: u64,
    /// The whole output, when it has 1 to [`crate::limits::INLINE_BYTES`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<ByteBuf>,
    /// CPU time that the guest used, microseconds (the worker's own word).
    pub cpu_us: u64,
    /// Microseconds from the end of the input's first chunk to the end of its last (the worker's own word). Absent when
    /// it came in one, or was not read as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_us: Option<u64>,
}

/// A piece of an input or output. Its bytes stand last in the frame, so that a reader can put them where they belong
/// without holding the frame: see [`ChunkHead`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Place of the first byte in the whole: chunks come in order and without gaps.
    pub at: u64,
    /// Id of the task.
    pub id: u64,
    /// 1 to [`CHUNK_BYTES`] of them.
    pub bytes: ByteBuf,
}

/// What stands before the bytes in the frame of a [`Chunk`], read and written by hand: the bytes are copied once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHead {
    /// Place of the first byte in the whole.
    pub at: u64,
    /// Id of the task.
    pub id: u64,
    /// Bytes that follow, 1 to [`CHUNK_BYTES`].
    pub len: usize,
}

impl ChunkHead {
    /// The longest form, in bytes.
    pub const BYTES: usize = CHUNK.len() + 9 + ID.len() + 9 + BYTES.len() + 5;

    /// Reads it from the start of a frame, with the bytes that it takes; `None` when the frame is no chunk or no
    /// deterministic CBOR.
    pub fn read(frame: &[u8]) -> Option<(Self, usize)> {
        let mut rest = frame.strip_prefix(CHUNK)?;
        let at = number(&mut rest, 0)?;
        rest = rest.strip_prefix(ID)?;
        let id = number(&mut rest, 0)?;
        rest = rest.strip_prefix(BYTES)?;
        let len = usize::try_from(number(&mut rest, 2)?).ok().filter(|len| (1..=CHUNK_BYTES).contains(len))?;
        Some((Self { at, id, len }, frame.len() - rest.len()))
    }

    /// Appends it to `frame`; the chunk's bytes follow.
    pub fn write(&self, frame: &mut Vec<u8>) {
        frame.extend_from_slice(CHUNK);
        put_number(frame, 0, self.at);
        frame.extend_from_slice(ID);
        put_number(frame, 0, self.id);
        frame.extend_from_slice(BYTES);
        put_number(frame, 2, self.len as u64);
    }
}

/// `{"chunk": {"at":`
const CHUNK: &[u8] = b"\xa1\x65chunk\xa3\x62at";
/// `"id":`
const ID: &[u8] = b"\x62id";
/// `"bytes":`
const BYTES: &[u8] = b"\x65bytes";

/// Takes the head of an item of this major type: its number, in the shortest form only.
fn number(rest: &mut &[u8], major: u8) -> Option<u64> {
    let (first, tail) = rest.split_first()?;
    let width = match (first >> 5 == major, first & 0x1f) {
        (true, low @ 0..=23) => {
            *rest = tail;
            return Some(u64::from(low));
        }
        (true, low @ 24..=27) => 1usize << (low - 24),
        _ => return None,
    };
    let (digits, tail) = tail.split_at_checked(width)?;
    let value = digits.iter().fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
    let least = [24, 0x100, 0x1_0000, 0x1_0000_0000][width.trailing_zeros() as usize];
    *rest = tail;
    (value >= least).then_some(value)
}

fn put_number(frame: &mut Vec<u8>, major: u8, value: u64) {
    let major = major << 5;
    let bytes = value.to_be_bytes();
    match value {
        0..=23 => frame.push(major | value as u8),
        24..=0xff => frame.extend_from_slice(&[major | 24, value as u8]),
        0x100..=0xffff => {
            frame.push(major | 25);
            frame.extend_from_slice(&bytes[6..]);
        }
        0x1_0000..=0xffff_ffff => {
            frame.push(major | 26);
            frame.extend_from_slice(&bytes[4..]);
        }
        _ => {
            frame.push(major | 27);
            frame.extend_from_slice(&bytes);
        }
    }
}

/// A worker's signed word about results of one lane: evidence against it if an output proves wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Format version, 1.
    pub v: u8,
    /// The worker.
    pub peer: PeerId,
    /// 1 to [`crate::limits::CLAIMS`] of them, each for another result.
    pub claims: Vec<Claim>,
    /// The manifest that was run.
    pub package: ContentHash,
}

/// One result, as its worker signs for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// The job.
    pub job: JobId,
    /// Index of the task.
    pub task: u32,
    /// SHA-256 of the task's input.
    pub input: ContentHash,
    /// SHA-256 of the output.
    pub output: ContentHash,
}

impl Signed for Receipt {
    const TYPE: &'static str = "receipt";
    const LIMIT: usize = CONTROL_BYTES;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbor;

    const NUMBERS: [u64; 10] = [0, 23, 24, 0xff, 0x100, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, u64::MAX];

    /// The head that is written by hand is the one that serde writes, in both directions.
    #[test]
    fn both_forms_of_a_chunk_are_the_same_bytes() {
        for at in NUMBERS {
            for id in NUMBERS {
                for len in [1, 23, 24, 255, 256, 65_535, 65_536, CHUNK_BYTES] {
                    let chunk = Chunk { at, id, bytes: ByteBuf::from(vec![7; len]) };
                    let whole = cbor::to_vec(&ToWorker::Chunk(chunk.clone())).unwrap();
                    assert_eq!(whole, cbor::to_vec(&ToRequester::Chunk(chunk)).unwrap());
                    let head = ChunkHead { at, id, len };
                    let mut written = Vec::new();
                    head.write(&mut written);
                    assert_eq!(written, &whole[..whole.len() - len], "{head:?}");
                    assert!(written.len() <= ChunkHead::BYTES, "{head:?}");
                    assert_eq!(ChunkHead::read(&whole), Some((head, written.len())));
                }
            }
        }
    }

    #[test]
    fn what_is_no_head_is_not_read_as_one() {
        let mut head = Vec::new();
        ChunkHead { at: 300, id: 70_000, len: 5 }.write(&mut head);
        for end in 0..head.len() {
            assert_eq!(ChunkHead::read(&head[..end]), None, "cut at {end}");
        }
        let with = |at: &[u8], len: &[u8]| [CHUNK, at, ID, &[1], BYTES, len].concat();
        assert!(ChunkHead::read(&with(&[1], &[0x45])).is_some());
        for (at, len, why) in [
            (&[0x18, 1][..], &[0x45][..], "a long form"),
            (&[0x19, 0, 255], &[0x45], "a longer form"),
            (&[0x20], &[0x45], "a negative place"),
            (&[1], &[0x40], "no bytes"),
            (&[1], &[0x65], "a text"),
            (&[1], &[0x5a, 0, 4, 0, 1], "more than a chunk"),
            (&[1], &[0x5f], "an indefinite length"),
        ] {
            assert_eq!(ChunkHead::read(&with(at, len)), None, "{why}");
        }
    }

    /// As many claims as a receipt may have fit into a control message, envelope and all.
    #[test]
    fn a_full_receipt_fits() {
        let key = crate::SecretKey::from_seed(&[5; 32]);
        let hash = ContentHash::of(b"");
        let claim = Claim { job: JobId::from_bytes([255; 16]), task: u32::MAX, input: hash, output: hash };
        let claims = vec![claim; crate::limits::CLAIMS];
        let receipt = Receipt { v: 1, peer: PeerId::of(&key.public()), claims, package: hash };
        let bytes = crate::Envelope::sign(&receipt, &[&key]).unwrap().to_vec().unwrap();
        assert!(bytes.len() <= CONTROL_BYTES, "{}", bytes.len());
    }
}
