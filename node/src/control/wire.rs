//! Frames of the control socket and what they carry.
//!
//! A frame is the payload's length (u32, little endian), one byte of kind, and the payload. Kind `J` is one JSON value,
//! kind `B` is the next piece of bulk bytes.
//!
//! ```text
//! client: J Ask, then B frames that add up to `input_bytes`; then it only listens. Its end of file cancels the command.
//! server: J {"event": …} any number of times, then either J {"error": …}
//!         or J {"reply": …} and B frames that add up to `output_bytes`; then it closes.
//! ```

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use msm_protocol::limits::{CHUNK_BYTES, JOB_DISK_BYTES};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{
    body::Body,
    command::{Command, CommandError, Event, Reply, Response},
};

/// Version of this wire. A node and a client of different versions say so instead of guessing.
pub const VERSION: u32 = 1;
/// JSON of one [`Ask`]. Parameters are at most 8 KiB; the rest is names, addresses and search words.
pub const ASK_BYTES: usize = 64 * 1024;
/// JSON of one [`Answer`]. The longest is a list of jobs: some hundred bytes for each job and each of its devices.
pub const ANSWER_BYTES: usize = 8 * 1024 * 1024;
/// Input of a command: what a job may have.
pub const INPUT_BYTES: u64 = JOB_DISK_BYTES;
/// Input that a node holds in memory; more of it goes to a file as it arrives. *Judgement*: most photos.
pub const MEMORY_BYTES: u64 = 4 * 1024 * 1024;
/// Output of a command. It passes in pieces and is never held.
pub const OUTPUT_BYTES: u64 = JOB_DISK_BYTES;
/// Longest silence in the middle of a message. Both ends are on one machine.
pub const STALL: Duration = Duration::from_secs(30);

const KIND_JSON: u8 = b'J';
const KIND_BYTES: u8 = b'B';

/// What a client sends first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// [`VERSION`].
    pub v: u32,
    /// The command.
    pub command: Command,
    /// Bytes of input that follow.
    pub input_bytes: u64,
}

/// What a server sends.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Something happened.
    Event(Event),
    /// The command is done; `output_bytes` of output follow.
    Reply {
        /// Its answer.
        reply: Reply,
        /// Bytes that follow.
        output_bytes: u64,
    },
    /// The command failed.
    Error(CommandError),
}

/// Why a peer on the control socket cannot be understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The other side closed at the end of a frame.
    #[error("the other side closed the connection")]
    Closed,
    /// A frame is longer than its kind may be.
    #[error("bad-message: a frame of {length} bytes, at most {limit} are allowed here")]
    TooLong {
        /// Bytes announced.
        length: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A frame of another kind than the one that is due.
    #[error("bad-message: frame kind {found:#04x} where {expected:?} is due")]
    Kind {
        /// What came.
        found: u8,
        /// What was due.
        expected: char,
    },
    /// The JSON is not what it should be.
    #[error("bad-message: {0}")]
    Json(#[from] serde_json::Error),
    /// More bulk bytes than were announced, or an empty piece.
    #[error("bad-message: a piece of {length} bytes where {left} are left")]
    Piece {
        /// Bytes of the piece.
        length: u64,
        /// Bytes still due.
        left: u64,
    },
    /// The other side stopped in the middle of something.
    #[error("the other side was silent for {} s", STALL.as_secs())]
    Stalled,
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

async fn within<T>(stall: Duration, io: impl Future<Output = io::Result<T>>) -> Result<T, WireError> {
    Ok(tokio::time::timeout(stall, io).await.map_err(|_| WireError::Stalled)??)
}

/// Reads the header of the next frame: its kind and length. [`WireError::Closed`] at a clean end.
async fn read_header<R: AsyncRead + Unpin>(reader: &mut R, stall: Duration) -> Result<(u8, u32), WireError> {
    let first = match reader.read_u8().await {
        Ok(first) => first,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(WireError::Closed),
        Err(error) => return Err(error.into()),
    };
    let mut rest = [0; 4];
    within(stall, reader.read_exact(&mut rest)).await?;
    let [second, third, fourth, kind] = rest;
    Ok((kind, u32::from_le_bytes([first, second, third, fourth])))
}

/// Reads one JSON frame of at most `limit` bytes. Waits for its first byte as long as it takes.
pub async fn read_json<T: DeserializeOwned, R: AsyncRead + Unpin>(
    reader: &mut R,
    limit: usize,
) -> Result<T, WireError> {
    read_json_within(reader, limit, STALL).await
}

async fn read_json_within<T: DeserializeOwned, R: AsyncRead + Unpin>(
    reader: &mut R,
    limit: usize,
    stall: Duration,
) -> Result<T, WireError> {
    let (kind, length) = read_header(reader, stall).await?;
    if kind != KIND_JSON {
        return Err(WireError::Kind { found: kind, expected: KIND_JSON as char });
    }
    let length = length as usize;
    if length > limit {
        return Err(WireError::TooLong { length: length as u64, limit: limit as u64 });
    }
    let payload = read_payload(reader, length, stall).await?;
    Ok(serde_json::from_slice(&payload)?)
}

/// Reads `total` bulk bytes in as many frames as they come in; memory grows with what has arrived.
pub async fn read_bulk<R: AsyncRead + Unpin>(reader: &mut R, total: u64, limit: u64) -> Result<Bytes, WireError> {
    if total > limit {
        return Err(WireError::TooLong { length: total, limit });
    }
    let mut bulk = BytesMut::new();
    let mut left = total;
    while left > 0 {
        let piece = read_piece(reader, left).await?;
        left -= piece.len() as u64;
        bulk.extend_from_slice(&piece);
    }
    Ok(bulk.freeze())
}

/// Reads the next frame of bulk bytes, of which `left` are due.
pub async fn read_piece<R: AsyncRead + Unpin>(reader: &mut R, left: u64) -> Result<Vec<u8>, WireError> {
    let header = tokio::time::timeout(STALL, read_header(reader, STALL));
    let (kind, length) = header.await.map_err(|_| WireError::Stalled)??;
    if kind != KIND_BYTES {
        return Err(WireError::Kind { found: kind, expected: KIND_BYTES as char });
    }
    let length = u64::from(length);
    if length > CHUNK_BYTES as u64 {
        return Err(WireError::TooLong { length, limit: CHUNK_BYTES as u64 });
    }
    if length == 0 || length > left {
        return Err(WireError::Piece { length, left });
    }
    read_payload(reader, length as usize, STALL).await
}

/// Reads `length` bytes, which the caller has checked, without trusting it for the first allocation.
async fn read_payload<R: AsyncRead + Unpin>(
    reader: &mut R,
    length: usize,
    stall: Duration,
) -> Result<Vec<u8>, WireError> {
    let mut payload = Vec::with_capacity(length.min(CHUNK_BYTES));
    while payload.len() < length {
        let step = (length - payload.len()).min(CHUNK_BYTES);
        let start = payload.len();
        payload.resize(start + step, 0);
        within(stall, reader.read_exact(&mut payload[start..])).await?;
    }
    Ok(payload)
}

/// Writes one JSON frame; a value longer than `limit` is not sent.
pub async fn write_json<T: Serialize, W: AsyncWrite + Unpin>(
    writer: &mut W,
    value: &T,
    limit: usize,
) -> Result<(), WireError> {
    let payload = serde_json::to_vec(value)?;
    if payload.len() > limit {
        return Err(WireError::TooLong { length: payload.len() as u64, limit: limit as u64 });
    }
    write_frame(writer, KIND_JSON, &payload).await
}

/// Writes `bulk` in pieces of at most [`CHUNK_BYTES`].
pub async fn write_bulk<W: AsyncWrite + Unpin>(writer: &mut W, bulk: &[u8]) -> Result<(), WireError> {
    for piece in bulk.chunks(CHUNK_BYTES) {
        write_frame(writer, KIND_BYTES, piece).await?;
    }
    Ok(())
}

/// Writes what is left of `body`, a piece at a time.
pub async fn write_body<W: AsyncWrite + Unpin>(writer: &mut W, body: &mut Body) -> Result<(), WireError> {
    while let Some(piece) = body.next().await? {
        write_bulk(writer, &piece).await?;
    }
    Ok(())
}

/// Callers have bounded `payload` far below 4 GiB: [`ANSWER_BYTES`] or [`CHUNK_BYTES`].
async fn write_frame<W: AsyncWrite + Unpin>(writer: &mut W, kind: u8, payload: &[u8]) -> Result<(), WireError> {
    let mut header = [0; 5];
    header[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[4] = kind;
    within(STALL, writer.write_all(&header)).await?;
    within(STALL, writer.write_all(payload)).await
}

/// The answer frame for a finished command, and the bulk bytes after it. What is too large to send is an error.
pub fn finished(outcome: Result<Response, CommandError>) -> (Answer, Body) {
    use crate::command::ErrorCode::Failed;
    match outcome {
        Ok(Response { output, .. }) if output.len() > OUTPUT_BYTES => {
            let message = format!("output-too-large: {} bytes, at most {OUTPUT_BYTES} leave a node", output.len());
            (Answer::Error(CommandError::new(Failed, message)), Body::default())
        }
        Ok(Response { reply, output }) => (Answer::Reply { reply, output_bytes: output.len() }, output),
        Err(error) => (Answer::Error(error), Body::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.push(kind);
        bytes.extend_from_slice(payload);
        bytes
    }

    #[tokio::test]
    async fn json_reads_back_and_stops_at_its_end() {
        let mut sent = Vec::new();
        write_json(&mut sent, &Ask { v: VERSION, command: Command::Peers, input_bytes: 3 }, ASK_BYTES).await.unwrap();
        write_bulk(&mut sent, b"abc").await.unwrap();
        let mut reader = sent.as_slice();
        let ask: Ask = read_json(&mut reader, ASK_BYTES).await.unwrap();
        assert_eq!((ask.command, ask.input_bytes), (Command::Peers, 3));
        assert_eq!(read_bulk(&mut reader, 3, INPUT_BYTES).await.unwrap(), "abc");
        assert!(matches!(read_json::<Ask, _>(&mut reader, ASK_BYTES).await, Err(WireError::Closed)));
    }

    /// A header that announces more than allowed is refused before a byte of its payload is read.
    #[tokio::test]
    async fn b14_lengths_are_checked_before_reading() {
        let huge = frame(b'J', u32::MAX, b"");
        let error = read_json::<Ask, _>(&mut huge.as_slice(), ASK_BYTES).await.unwrap_err();
        assert!(matches!(error, WireError::TooLong { length, .. } if length == u64::from(u32::MAX)), "{error}");

        let huge = frame(b'B', CHUNK_BYTES as u32 + 1, b"");
        assert!(matches!(read_bulk(&mut huge.as_slice(), 1 << 20, INPUT_BYTES).await, Err(WireError::TooLong { .. })));
        assert!(matches!(
            read_bulk(&mut [].as_slice(), INPUT_BYTES + 1, INPUT_BYTES).await,
            Err(WireError::TooLong { .. })
        ));
    }

    #[tokio::test]
    async fn broken_frames_are_errors() {
        let cases: [(&str, Vec<u8>); 6] = [
            ("kind", frame(b'X', 2, b"{}")),
            ("wrong kind", frame(b'B', 2, b"{}")),
            ("not json", frame(b'J', 2, b"{x")),
            ("unknown field", frame(b'J', 45, br#"{"v":1,"command":"peers","input_bytes":0,"x":1}"#)),
            ("cut payload", frame(b'J', 9, b"{}")),
            ("cut header", vec![2, 0, 0]),
        ];
        for (name, bytes) in cases {
            let error = read_json::<Ask, _>(&mut bytes.as_slice(), ASK_BYTES).await.expect_err(name);
            assert!(!matches!(error, WireError::Closed), "{name}: {error}");
        }
    }

    #[tokio::test]
    async fn bulk_must_add_up() {
        let too_much = frame(b'B', 4, b"abcd");
        let error = read_bulk(&mut too_much.as_slice(), 3, INPUT_BYTES).await.unwrap_err();
        assert!(matches!(error, WireError::Piece { length: 4, left: 3 }), "{error}");
        let empty = frame(b'B', 0, b"");
        assert!(matches!(read_bulk(&mut empty.as_slice(), 3, INPUT_BYTES).await, Err(WireError::Piece { .. })));
        let short = frame(b'B', 2, b"ab");
        assert!(matches!(read_bulk(&mut short.as_slice(), 3, INPUT_BYTES).await, Err(WireError::Closed)));
    }

    #[tokio::test]
    async fn large_bulk_travels_in_chunks() {
        let bulk: Vec<u8> = (0..CHUNK_BYTES * 2 + 7).map(|n| n as u8).collect();
        let mut sent = Vec::new();
        write_bulk(&mut sent, &bulk).await.unwrap();
        assert_eq!(sent.len(), bulk.len() + 3 * 5);
        assert_eq!(read_bulk(&mut sent.as_slice(), bulk.len() as u64, INPUT_BYTES).await.unwrap(), bulk);
    }

    #[tokio::test]
    async fn what_is_too_long_is_not_sent() {
        let mut sent = Vec::new();
        assert!(matches!(write_json(&mut sent, &"x".repeat(20), 10).await, Err(WireError::TooLong { .. })));
        assert!(sent.is_empty());
    }

    #[tokio::test]
    async fn b20_silence_in_the_middle_of_a_frame_ends_it() {
        let (mut client, mut server) = tokio::io::duplex(64);
        client.write_all(&frame(b'J', 10, b"{")).await.unwrap();
        let read = read_json_within::<Ask, _>(&mut server, ASK_BYTES, Duration::from_millis(20));
        assert!(matches!(read.await, Err(WireError::Stalled)));
    }
}
