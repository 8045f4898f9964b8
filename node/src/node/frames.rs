//! Frames of a job stream: a u32 LE length and that many bytes of CBOR, in both directions.
//!
//! One task writes a stream: control frames go first, and bulk is cut into chunks, so that a heartbeat or a cancel
//! waits for one chunk at most. One task reads it: a frame is never half taken when something else happens first.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use libp2p::Stream;
use msm_protocol::{
    ContentHash,
    cbor::{self, CborError},
    job::{AttemptRef, Chunk, ChunkBuf},
    limits::{CHUNK_BYTES, FRAME_BYTES},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter, ReadBuf, ReadHalf, WriteHalf},
    sync::mpsc,
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};

/// Control frames that wait for the writer: heartbeats, results and cancels of at most a few attempts.
const CONTROL_QUEUE: usize = 32;
/// Inputs or outputs that wait for the writer.
const BULK_QUEUE: usize = 4;
/// Frames read ahead of the one being handled.
const READ_QUEUE: usize = 4;
/// A frame that takes longer to write has nobody who reads it: its stream must not be held for ever. A whole chunk
/// passes in this time at 35 kbit/s.
const WRITE_TIME: Duration = Duration::from_secs(60);

/// Why a stream ended badly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The connection broke.
    #[error("stream broke: {0}")]
    Io(#[from] io::Error),
    /// A frame longer than any frame may be.
    #[error("frame of {0} bytes is over {FRAME_BYTES}")]
    TooLong(usize),
    /// A frame that is not the message it should be.
    #[error("{0}")]
    Message(#[from] CborError),
}

/// Splits a stream into its two ends and starts the tasks that drive them.
pub fn open<In: DeserializeOwned + Send + 'static>(
    stream: Stream,
) -> (mpsc::Receiver<Result<In, FrameError>>, FrameWriter) {
    let (read, write) = tokio::io::split(Fused { inner: Some(stream.compat()) });
    let (frames, receiver) = mpsc::channel(READ_QUEUE);
    tokio::spawn(read_frames(BufReader::new(read), frames));
    (receiver, spawn_writer(write))
}

/// A stream that is not touched again after an error. libp2p's lazily negotiated streams panic when one end is used
/// after the other has seen the connection fail.
struct Fused {
    inner: Option<Compat<Stream>>,
}

impl Fused {
    fn poll<T>(&mut self, poll: impl FnOnce(Pin<&mut Compat<Stream>>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        let polled = poll(Pin::new(inner));
        if matches!(polled, Poll::Ready(Err(_))) {
            self.inner = None;
        }
        polled
    }
}

impl AsyncRead for Fused {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll(|inner| inner.poll_read(cx, buf))
    }
}

impl AsyncWrite for Fused {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(|inner| inner.poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|inner| inner.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|inner| inner.poll_shutdown(cx))
    }
}

/// Reads frames until the stream ends; an error is the last thing sent.
async fn read_frames<In: DeserializeOwned>(
    mut io: BufReader<ReadHalf<Fused>>,
    frames: mpsc::Sender<Result<In, FrameError>>,
) {
    loop {
        let read = tokio::select! {
            read = read_frame(&mut io) => read,
            // Nobody listens any more: a peer that never closes must not keep this task.
            () = frames.closed() => return,
        };
        let frame = match read {
            Ok(Some(bytes)) => cbor::from_slice(&bytes, FRAME_BYTES).map_err(FrameError::from),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        let ended = frame.is_err();
        if frames.send(frame).await.is_err() || ended {
            return;
        }
    }
}

/// Reads one frame's bytes, or `None` at the end of the stream.
async fn read_frame(io: &mut (impl AsyncRead + Unpin)) -> Result<Option<Vec<u8>>, FrameError> {
    let length = match io.read_u32_le().await {
        Ok(length) => length as usize,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if length > FRAME_BYTES {
        return Err(FrameError::TooLong(length));
    }
    let mut bytes = Vec::with_capacity(length);
    io.take(length as u64).read_to_end(&mut bytes).await?;
    if bytes.len() < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(Some(bytes))
}

/// Bytes that follow their announcement.
struct Bulk {
    announce: Vec<u8>,
    attempt: AttemptRef,
    bytes: Bytes,
}

/// A frame that goes before bulk.
struct Control {
    frame: Vec<u8>,
    /// Bulk of this attempt that has not been written is not written any more.
    cancels: Option<AttemptRef>,
}

/// The way to a stream's writer. The stream is closed when the last clone is gone.
#[derive(Clone)]
pub struct FrameWriter {
    control: mpsc::Sender<Control>,
    bulk: mpsc::Sender<Bulk>,
}

/// The writer has ended: the other side is gone.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the stream is closed")]
pub struct WriterGone;

impl FrameWriter {
    /// Sends one frame.
    pub async fn send<T: Serialize>(&self, message: &T) -> Result<(), WriterGone> {
        self.control(message, None).await
    }

    /// Sends one frame that takes an attempt back, and drops what is left of that attempt's bulk: an input that was
    /// announced after its cancel would be worked on for nobody.
    pub async fn cancel<T: Serialize>(&self, message: &T, attempt: AttemptRef) -> Result<(), WriterGone> {
        self.control(message, Some(attempt)).await
    }

    async fn control<T: Serialize>(&self, message: &T, cancels: Option<AttemptRef>) -> Result<(), WriterGone> {
        let frame = cbor::to_vec(message).map_err(|_| WriterGone)?;
        self.control.send(Control { frame, cancels }).await.map_err(|_| WriterGone)
    }

    /// Sends `announce` and then `bytes` in chunks.
    pub async fn send_bulk<T: Serialize>(
        &self,
        announce: &T,
        attempt: AttemptRef,
        bytes: Bytes,
    ) -> Result<(), WriterGone> {
        let announce = cbor::to_vec(announce).map_err(|_| WriterGone)?;
        self.bulk.send(Bulk { announce, attempt, bytes }).await.map_err(|_| WriterGone)
    }
}

/// The chunk frame, borrowed: the same bytes as the `chunk` variant of both directions.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum ChunkFrame<'a> {
    Chunk(Chunk<'a>),
}

fn spawn_writer(io: WriteHalf<Fused>) -> FrameWriter {
    let (control, controls) = mpsc::channel(CONTROL_QUEUE);
    let (bulk, bulks) = mpsc::channel(BULK_QUEUE);
    tokio::spawn(async move {
        let mut io = BufWriter::with_capacity(FRAME_BYTES, io);
        // A broken stream shows itself to the reader too; here it only ends the task.
        let _ = write_all(&mut io, controls, bulks, WRITE_TIME).await;
        let _ = tokio::time::timeout(WRITE_TIME, io.shutdown()).await;
    });
    FrameWriter { control, bulk }
}

/// Writes until the last [`FrameWriter`] is gone. `limit` is how long one frame may take.
async fn write_all(
    io: &mut (impl AsyncWrite + Unpin),
    mut controls: mpsc::Receiver<Control>,
    mut bulks: mpsc::Receiver<Bulk>,
    limit: Duration,
) -> io::Result<()> {
    // Taken from the queue while a cancel was looked for in it: at most what one worker holds.
    let mut waiting: VecDeque<Bulk> = VecDeque::new();
    let mut current: Option<(Bulk, usize)> = None;
    let mut woken_by: Option<Control> = None;
    loop {
        if let Some(control) = woken_by.take().or_else(|| controls.try_recv().ok()) {
            if let Some(attempt) = control.cancels {
                while let Ok(bulk) = bulks.try_recv() {
                    waiting.push_back(bulk);
                }
                waiting.retain(|bulk| bulk.attempt != attempt);
                current = current.filter(|(bulk, _)| bulk.attempt != attempt);
            }
            within(limit, write_frame(io, &control.frame)).await?;
            continue;
        }
        let Some((bulk, offset)) = &mut current else {
            let next = match waiting.pop_front() {
                Some(bulk) => Some(bulk),
                None => bulks.try_recv().ok(),
            };
            let next = match next {
                Some(bulk) => bulk,
                None => {
                    within(limit, io.flush()).await?;
                    tokio::select! {
                        biased;
                        control = controls.recv() => match control {
                            Some(control) => {
                                woken_by = Some(control);
                                continue;
                            }
                            None => return Ok(()),
                        },
                        Some(bulk) = bulks.recv() => bulk,
                    }
                }
            };
            within(limit, write_frame(io, &next.announce)).await?;
            current = (!next.bytes.is_empty()).then_some((next, 0));
            continue;
        };
        let end = (*offset + CHUNK_BYTES).min(bulk.bytes.len());
        let AttemptRef { task, attempt } = bulk.attempt;
        let bytes = serde_bytes::Bytes::new(&bulk.bytes[*offset..end]);
        let chunk = ChunkFrame::Chunk(Chunk { task, bytes, offset: *offset as u64, attempt });
        let frame = cbor::to_vec(&chunk).map_err(io::Error::other)?;
        *offset = end;
        if end == bulk.bytes.len() {
            current = None;
        }
        within(limit, write_frame(io, &frame)).await?;
    }
}

async fn within(limit: Duration, write: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    tokio::time::timeout(limit, write).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn write_frame(io: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
    io.write_u32_le(frame.len() as u32).await?;
    io.write_all(frame).await
}

/// Why chunks do not add up to what was announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AssemblyError {
    /// More bytes were announced than a task may have.
    #[error("{size} bytes announced, at most {limit} are allowed")]
    TooLarge {
        /// Bytes announced.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A chunk out of order or past the end.
    #[error("chunk at {offset}, expected {expected}")]
    Offset {
        /// Where the chunk says it belongs.
        offset: u64,
        /// Where the next chunk belongs.
        expected: u64,
    },
    /// The bytes are not those announced.
    #[error("the bytes do not match their hash")]
    Hash,
}

/// Puts the chunks of one input or output together.
#[derive(Debug)]
pub struct Assembly {
    hash: ContentHash,
    size: u64,
    bytes: Vec<u8>,
}

impl Assembly {
    /// Expects `size` bytes with `hash`. Memory is taken as bytes arrive, not as they are announced.
    pub fn new(hash: ContentHash, size: u64, limit: u64) -> Result<Self, AssemblyError> {
        if size > limit {
            return Err(AssemblyError::TooLarge { size, limit });
        }
        Ok(Self { hash, size, bytes: Vec::with_capacity((size as usize).min(CHUNK_BYTES)) })
    }

    /// Adds the next chunk. `Some` when the last byte has arrived and the hash is right.
    pub fn add(&mut self, chunk: &ChunkBuf) -> Result<Option<Bytes>, AssemblyError> {
        let expected = self.bytes.len() as u64;
        let end = expected + chunk.bytes.len() as u64;
        if chunk.offset != expected || end > self.size || chunk.bytes.is_empty() {
            return Err(AssemblyError::Offset { offset: chunk.offset, expected });
        }
        self.bytes.extend_from_slice(&chunk.bytes);
        if end < self.size { Ok(None) } else { self.finish().map(Some) }
    }

    /// True when nothing is to be waited for.
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// The whole, checked against its hash.
    pub fn finish(&mut self) -> Result<Bytes, AssemblyError> {
        let bytes = std::mem::take(&mut self.bytes);
        if ContentHash::of(&bytes) == self.hash { Ok(bytes.into()) } else { Err(AssemblyError::Hash) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use msm_protocol::job::{TaskHeader, ToWorker};
    use serde_bytes::ByteBuf;

    fn chunk(offset: u64, bytes: &[u8]) -> ChunkBuf {
        ChunkBuf { task: 0, bytes: ByteBuf::from(bytes), offset, attempt: 0 }
    }

    #[test]
    fn chunks_add_up_or_are_refused() {
        let hash = ContentHash::of(b"abcd");
        let new = || Assembly::new(hash, 4, 10).unwrap();
        let mut good = new();
        assert_eq!(good.add(&chunk(0, b"ab")), Ok(None));
        assert_eq!(good.add(&chunk(2, b"cd")).unwrap().as_deref(), Some(&b"abcd"[..]));
        assert_eq!(new().add(&chunk(1, b"a")), Err(AssemblyError::Offset { offset: 1, expected: 0 }));
        assert!(matches!(new().add(&chunk(0, b"abcde")), Err(AssemblyError::Offset { .. })));
        assert!(matches!(new().add(&chunk(0, b"")), Err(AssemblyError::Offset { .. })), "an endless stream of nothing");
        assert_eq!(new().add(&chunk(0, b"abcx")), Err(AssemblyError::Hash));
        assert_eq!(Assembly::new(hash, 11, 10).err(), Some(AssemblyError::TooLarge { size: 11, limit: 10 }));
    }

    #[tokio::test]
    async fn frames_over_the_cap_are_refused_unread() {
        let mut bytes = (FRAME_BYTES as u32 + 1).to_le_bytes().to_vec();
        bytes.push(0);
        assert!(matches!(read_frame(&mut &bytes[..]).await, Err(FrameError::TooLong(_))));
        assert!(matches!(read_frame(&mut &[5, 0, 0, 0, 1][..]).await, Err(FrameError::Io(_))));
        assert!(matches!(read_frame(&mut &[][..]).await, Ok(None)));
    }

    fn bulk(task: u32, bytes: &'static [u8]) -> Bulk {
        let attempt = AttemptRef { task, attempt: 0 };
        Bulk { announce: cbor::to_vec(&ToWorker::Task(header(task))).unwrap(), attempt, bytes: bytes.into() }
    }

    fn header(task: u32) -> TaskHeader {
        TaskHeader { hash: ContentHash::of(b""), size: 1, task, count: 9, attempt: 0 }
    }

    fn cancel(task: u32) -> Control {
        let attempt = AttemptRef { task, attempt: 0 };
        Control { frame: cbor::to_vec(&ToWorker::Cancel(attempt)).unwrap(), cancels: Some(attempt) }
    }

    /// What is written when all of this waits already.
    async fn written(controls: Vec<Control>, bulks: Vec<Bulk>) -> Vec<ToWorker> {
        let (control, control_queue) = mpsc::channel(8);
        let (bulk, bulk_queue) = mpsc::channel(8);
        for item in controls {
            control.send(item).await.unwrap();
        }
        for item in bulks {
            bulk.send(item).await.unwrap();
        }
        drop((control, bulk));
        let mut out = Vec::new();
        write_all(&mut out, control_queue, bulk_queue, WRITE_TIME).await.unwrap();
        let (mut rest, mut frames) = (&out[..], Vec::new());
        while let Some(frame) = read_frame(&mut rest).await.unwrap() {
            frames.push(cbor::from_slice(&frame, FRAME_BYTES).unwrap());
        }
        frames
    }

    /// An attempt that is taken back before its input was announced is never announced: its worker would run it.
    #[tokio::test]
    async fn a_cancelled_input_is_not_sent() {
        let frames = written(vec![cancel(1)], vec![bulk(0, b"a"), bulk(1, b"b"), bulk(2, b"c")]).await;
        let tasks: Vec<String> = frames
            .iter()
            .map(|frame| match frame {
                ToWorker::Task(task) => format!("task {}", task.task),
                ToWorker::Chunk(chunk) => format!("chunk {}", chunk.task),
                ToWorker::Cancel(attempt) => format!("cancel {}", attempt.task),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(tasks, ["cancel 1", "task 0", "chunk 0", "task 2", "chunk 2"]);
    }

    /// Somebody who takes frames no more does not hold their writer for ever.
    #[tokio::test]
    async fn b45_a_reader_that_reads_nothing_is_given_up() {
        let (mut here, _there) = tokio::io::duplex(4);
        let (_control, controls) = mpsc::channel(1);
        let (queue, bulks) = mpsc::channel(1);
        queue.send(bulk(0, b"a")).await.unwrap();
        let ended = write_all(&mut here, controls, bulks, Duration::from_millis(20)).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    /// The borrowed chunk that is written is the owned chunk that is read.
    #[test]
    fn both_forms_of_a_chunk_are_the_same_bytes() {
        let borrowed =
            ChunkFrame::Chunk(Chunk { task: 1, bytes: serde_bytes::Bytes::new(b"x"), offset: 2, attempt: 3 });
        let owned = ChunkBuf { task: 1, bytes: ByteBuf::from(*b"x"), offset: 2, attempt: 3 };
        let bytes = cbor::to_vec(&borrowed).unwrap();
        assert_eq!(bytes, cbor::to_vec(&msm_protocol::job::ToWorker::Chunk(owned.clone())).unwrap());
        assert_eq!(bytes, cbor::to_vec(&msm_protocol::job::ToRequester::Chunk(owned)).unwrap());
    }
}
