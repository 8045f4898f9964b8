//! The one task that writes a stream, and the place where its owner leaves what is to be written.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use msm_protocol::{cbor, job::ChunkHead, limits::CHUNK_BYTES};
use serde::Serialize;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::Notify,
};

use crate::blob::Blob;

/// Frames collected before they are written in one go. *Judgement.*
const BATCH_BYTES: usize = 64 * 1024;
/// A write that takes longer has nobody who reads it: its stream must not be held for ever. A whole chunk passes in this
/// time at 35 kbit/s.
const WRITE_TIME: Duration = Duration::from_secs(60);

/// What an owner has to say to its peer.
pub trait Outgoing: Send + 'static {
    /// Appends frames to `batch` with [`put_frame`], in the order in which they are to be written, and says what comes
    /// after them. Called again when that is done; must leave off when `batch` is as long as `room`.
    fn fill(&mut self, batch: &mut Vec<u8>, room: usize) -> Next;
}

/// What is to be written behind a batch of frames.
#[derive(Debug)]
pub enum Next {
    /// More frames.
    More,
    /// A chunk, with this piece of a body.
    Chunk(ChunkHead, Blob),
    /// Nothing until the owner has something.
    Idle,
    /// Nothing for ever: the stream is closed.
    End,
}

/// Appends a frame. What cannot be encoded (a type of ours that holds what CBOR refuses) is left out and logged.
pub fn put_frame<T: Serialize>(batch: &mut Vec<u8>, message: &T) {
    match cbor::to_vec(message) {
        Ok(frame) => {
            batch.extend_from_slice(&(frame.len() as u32).to_le_bytes());
            batch.extend_from_slice(&frame);
        }
        Err(error) => tracing::error!(%error, "a frame of this node's own cannot be encoded"),
    }
}

/// An [`Outgoing`] shared by its owner and its writer.
pub struct Outbox<O> {
    state: Mutex<O>,
    wake: Notify,
}

impl<O: Outgoing> Outbox<O> {
    /// Of this content.
    pub fn new(state: O) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(state), wake: Notify::new() })
    }

    /// Looks at it, or changes what does not concern the writer.
    pub fn lock(&self) -> MutexGuard<'_, O> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it and wakes the writer.
    pub fn change<R>(&self, change: impl FnOnce(&mut O) -> R) -> R {
        let changed = change(&mut self.lock());
        self.wake.notify_one();
        changed
    }
}

/// Writes until there is nothing more to write, then closes.
pub async fn write_all<O: Outgoing>(io: impl AsyncWrite + Unpin, outbox: Arc<Outbox<O>>) -> io::Result<()> {
    write_within(io, outbox, WRITE_TIME).await
}

async fn write_within<O: Outgoing>(
    mut io: impl AsyncWrite + Unpin,
    outbox: Arc<Outbox<O>>,
    limit: Duration,
) -> io::Result<()> {
    let mut batch = Vec::new();
    loop {
        batch.clear();
        let next = outbox.lock().fill(&mut batch, BATCH_BYTES);
        if let Next::Chunk(head, _) = &next {
            batch.extend_from_slice(&0u32.to_le_bytes());
            let start = batch.len();
            head.write(&mut batch);
            let length = (batch.len() - start + head.len) as u32;
            batch[start - 4..start].copy_from_slice(&length.to_le_bytes());
        }
        if !batch.is_empty() {
            within(limit, io.write_all(&batch)).await?;
        }
        match next {
            Next::More => {}
            Next::Chunk(head, piece) => {
                debug_assert!(head.len <= CHUNK_BYTES && head.len as u64 == piece.len());
                let bytes = piece.whole().await?;
                within(limit, io.write_all(&bytes)).await?;
            }
            Next::Idle => {
                within(limit, io.flush()).await?;
                outbox.wake.notified().await;
            }
            Next::End => {
                within(limit, io.flush()).await?;
                return within(limit, io.shutdown()).await;
            }
        }
    }
}

async fn within(limit: Duration, write: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    tokio::time::timeout(limit, write).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use bytes::Bytes;
    use msm_protocol::job::ToWorker;

    use super::{
        super::{Frame, FrameReader},
        *,
    };

    /// Says what it is told to, in order.
    struct Script(VecDeque<(ToWorker, Next)>);

    impl Outgoing for Script {
        fn fill(&mut self, batch: &mut Vec<u8>, _: usize) -> Next {
            let Some((frame, next)) = self.0.pop_front() else { return Next::Idle };
            put_frame(batch, &frame);
            next
        }
    }

    #[tokio::test]
    async fn what_is_written_is_read() {
        let body = Blob::from(Bytes::from(vec![5; 70_000]));
        let head = ChunkHead { at: 3, id: 4, len: 70_000 };
        let script = [
            (ToWorker::Over(1), Next::More),
            (ToWorker::Over(2), Next::Chunk(head, body)),
            (ToWorker::Done, Next::End),
        ];
        let mut out = Vec::new();
        write_all(&mut out, Outbox::new(Script(script.into()))).await.unwrap();
        let mut reader = FrameReader::new(&out[..]);
        let mut seen = Vec::new();
        while let Some(frame) = reader.next::<ToWorker>().await.unwrap() {
            match frame {
                Frame::Message(message) => seen.push(format!("{message:?}")),
                Frame::Chunk(head) => {
                    seen.push(format!("{head:?}"));
                    reader.read_into(Vec::new());
                }
                Frame::Body(_, bytes) => assert_eq!(bytes, vec![5; 70_000]),
            }
        }
        assert_eq!(seen, ["Over(1)", "Over(2)", &format!("{head:?}"), "Done"]);
    }

    /// Somebody who takes frames no more does not hold their writer for ever.
    #[tokio::test]
    async fn b45_a_reader_that_reads_nothing_is_given_up() {
        let (here, _there) = tokio::io::duplex(4);
        let outbox = Outbox::new(Script([(ToWorker::Over(1), Next::Idle)].into()));
        let ended = write_within(here, outbox, Duration::from_millis(20)).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
