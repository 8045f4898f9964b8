//! `/msm/job/1`: the frames of one job between its requester and one worker, and the receipts for its results.
//!
//! The requester opens the stream and sends [`ToWorker::Offer`]; after [`ToRequester::Accept`] it sends tasks as long as
//! its credit lasts; each [`ToRequester::Result`] or [`ToWorker::Cancel`] gives one credit back. A cancel may overtake the
//! task that it cancels. Bytes of inputs and outputs follow their
//! announcement in [`Chunk`]s, so that a heartbeat or a cancel waits for one chunk at most.
//! On the wire each frame is a u32 LE length and that many bytes of CBOR.

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};

use crate::{
    ContentHash, JobId, MarketId, PeerId, Refusal, Signed, device::Requirements, limits::CONTROL_BYTES,
    manifest::Engine,
};

/// A frame from the requester.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToWorker {
    /// First frame: the job.
    Offer(Box<Offer>),
    /// A task; `size` bytes of input follow in chunks.
    Task(TaskHeader),
    /// A piece of a task's input.
    Chunk(ChunkBuf),
    /// Stop working on this attempt; no result is wanted.
    Cancel(AttemptRef),
    /// The job is over: nothing more will come.
    Done,
}

/// A frame from the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToRequester {
    /// The offer is taken.
    Accept(Accept),
    /// The offer is not taken, or the worker leaves the job: nothing more will come.
    Refuse(Refusal),
    /// The worker is still at these attempts.
    Heartbeat(Heartbeat),
    /// An attempt has ended; on success `size` bytes of output follow in chunks.
    Result(Box<TaskResult>),
    /// A piece of a task's output.
    Chunk(ChunkBuf),
}

/// A job as a worker must know it to decide.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// Format version, 1.
    pub v: u8,
    /// What its tasks do.
    #[serde(default, skip_serializing_if = "TaskOp::is_run")]
    pub op: TaskOp,
    /// The job.
    pub job: JobId,
    /// What the device must meet, now and before each task.
    pub need: Requirements,
    /// Tasks in the whole job, at most [`crate::limits::TASKS_PER_JOB`] (a hint).
    pub tasks: u32,
    /// The engine that every worker must use; absent when the service's variants give the same bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// The market that vouches for the package.
    pub market: MarketId,
    /// The parameters as a JSON object, at most [`crate::limits::PARAMS_BYTES`].
    pub params: String,
    /// Index version under which the requester found the release (a hint: a worker that does not find the manifest asks
    /// the requester for a newer index).
    pub version: u64,
    /// The manifest: what is to be run.
    pub manifest: ContentHash,
}

/// What the tasks of a job do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// Terms of an accepted offer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accept {
    /// Attempts that the worker takes at a time: announced, and neither answered nor cancelled.
    pub credit: u32,
    /// Engine of the variant that it will run, such as `js`.
    pub engine: String,
}

/// Announces a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskHeader {
    /// SHA-256 of the input.
    pub hash: ContentHash,
    /// Bytes of input that follow, at most [`crate::limits::TASK_BYTES`].
    pub size: u64,
    /// Index of the task in the job, from 0.
    pub task: u32,
    /// Tasks in the job.
    pub count: u32,
    /// Number of this attempt; a task's attempts are numbered by the requester and never reused.
    pub attempt: u32,
}

/// Names one attempt of one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AttemptRef {
    /// Index of the task.
    pub task: u32,
    /// Number of the attempt.
    pub attempt: u32,
}

/// Attempts still being worked on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// At most [`crate::limits::CREDIT`] of them.
    pub attempts: Vec<AttemptRef>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    /// Index of the task.
    pub task: u32,
    /// Number of the attempt.
    pub attempt: u32,
    /// Success or failure.
    pub outcome: Outcome,
}

/// Success or failure of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// `size` bytes follow; the receipt vouches for them.
    Done(Done),
    /// It failed.
    Failed(Refusal),
}

/// A successful attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Bytes of output that follow, at most the manifest's output limit.
    pub size: u64,
    /// CPU time that the guest used, microseconds (the worker's own word).
    pub cpu_us: u64,
    /// Envelope of a [`Receipt`] signed by the worker's own key.
    pub receipt: ByteBuf,
}

/// A piece of an input or output, borrowed from the frame that carried it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chunk<'a> {
    /// Index of the task.
    pub task: u32,
    /// 1 to [`crate::limits::CHUNK_BYTES`] of them.
    #[serde(borrow)]
    pub bytes: &'a Bytes,
    /// Place of the first byte in the whole: chunks come in order and without gaps.
    pub offset: u64,
    /// Number of the attempt.
    pub attempt: u32,
}

/// A piece of an input or output, owned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChunkBuf {
    /// Index of the task.
    pub task: u32,
    /// 1 to [`crate::limits::CHUNK_BYTES`] of them.
    pub bytes: ByteBuf,
    /// Place of the first byte in the whole: chunks come in order and without gaps.
    pub offset: u64,
    /// Number of the attempt.
    pub attempt: u32,
}

/// A worker's signed word about one result: evidence against it if the output proves wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Format version, 1.
    pub v: u8,
    /// The job.
    pub job: JobId,
    /// The worker.
    pub peer: PeerId,
    /// Index of the task.
    pub task: u32,
    /// SHA-256 of the task's input.
    pub input: ContentHash,
    /// SHA-256 of the output.
    pub output: ContentHash,
    /// The manifest that was run.
    pub package: ContentHash,
}

impl Signed for Receipt {
    const TYPE: &'static str = "receipt";
    const LIMIT: usize = CONTROL_BYTES;
}
