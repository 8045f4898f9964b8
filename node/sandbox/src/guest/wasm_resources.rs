//! `msm_v1`: what a wasm guest asks of its device. Pictures and progress are done here, the rest is the parent's to
//! answer, and the guest waits.
//!
//! `call(op, op_len, in, in_len)` gives the number of bytes that wait, or an error number below 0; `take(to, room)`
//! copies the next of them. What waits is one line of JSON, a newline, and the bytes that belong to it; after an error,
//! a text that says what was wrong.

use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};

use super::{Failure, channel::Channel, wasi::Trouble, wasi_abi::Errno};
use crate::{
    call::Asks,
    resources::{ANSWER_BYTES, ASK_BYTES, ASKS, Answer, AskError, AskErrorKind},
    wire::{self, kind},
    work::{WorkError, codec},
};

/// The calls of one run and the answer to the last one.
pub struct Desk {
    asks: Asks,
    /// Bytes that a decoded picture may take.
    memory: u64,
    calls: u32,
    /// What is left of the answer: its line or text, then its bytes, which are not copied to stand behind it.
    line: Bytes,
    bytes: Bytes,
}

impl Desk {
    pub const fn new(asks: Asks, memory: u64) -> Self {
        Self { asks, memory, calls: 0, line: Bytes::new(), bytes: Bytes::new() }
    }

    /// Bytes of the last answer that were not taken yet.
    pub fn waiting(&self) -> usize {
        self.line.len() + self.bytes.len()
    }

    /// Takes as many of them as there is room for.
    pub fn take(&mut self, mut to: &mut [u8]) {
        for part in [&mut self.line, &mut self.bytes] {
            let (now, later) = to.split_at_mut(to.len().min(part.len()));
            part.copy_to_slice(now);
            to = later;
        }
    }

    /// One call. Any earlier answer is forgotten.
    pub fn call(&mut self, op: &[u8], body: &[u8], deadline: Option<Instant>) -> Result<u32, Trouble> {
        (self.line, self.bytes) = (Bytes::new(), Bytes::new());
        self.calls += 1;
        let answered = if self.calls > ASKS {
            Err(AskError::new(AskErrorKind::Limit, format!("more than {ASKS} calls of resources in one task")))
        } else {
            self.answer(op, body, deadline)?
        };
        match answered {
            Ok(Answer { json, bytes }) => {
                // One line: a newline between JSON's tokens means nothing.
                self.line = (json.replace('\n', " ") + "\n").into();
                self.bytes = bytes;
                Ok(self.waiting() as u32)
            }
            Err(AskError { kind, message }) => {
                self.line = message.into();
                Err(Trouble::Errno(match kind {
                    AskErrorKind::Denied => Errno::ACCES,
                    AskErrorKind::Failed => Errno::IO,
                    AskErrorKind::Limit => Errno::TOOBIG,
                    AskErrorKind::Usage => Errno::INVAL,
                }))
            }
        }
    }

    fn answer(&self, op: &[u8], body: &[u8], deadline: Option<Instant>) -> Result<Result<Answer, AskError>, Trouble> {
        let (asked, line) = match op {
            b"image.decode" | b"image.encode" => (self.asks.image, "image = true"),
            b"gps.position" => (self.asks.gps, "gps = \"coarse\""),
            b"net.fetch" => (self.asks.net, "net = [\"example.org\"]"),
            b"device.status" => (self.asks.device, "device = true"),
            b"progress" => (true, ""),
            _ => return Err(Errno::NOSYS.into()),
        };
        // Every name above is ASCII.
        let name = String::from_utf8_lossy(op);
        if !asked {
            let text = format!("{name} is not permitted: add `{line}` under [permissions]");
            return Ok(Err(AskError::new(AskErrorKind::Denied, text)));
        }
        match op {
            b"image.decode" => Ok(self.decode(body)),
            b"image.encode" => Ok(encode(body)),
            b"progress" => Ok(progress(body)),
            _ if body.len() > ASK_BYTES => {
                let text = format!("a question of {} bytes, the limit is {ASK_BYTES}", body.len());
                Ok(Err(AskError::new(AskErrorKind::Limit, text)))
            }
            _ => ask(self.calls, &name, body, deadline),
        }
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, AskError> {
        let picture = codec::decode(body, self.memory).map_err(|error| of_work(&error))?;
        let json = format!("{{\"width\":{},\"height\":{}}}", picture.width, picture.height);
        Ok(Answer { json, bytes: picture.data.into() })
    }
}

/// Without a deadline it is looked at now and then.
const FOREVER: Duration = Duration::from_secs(60);

/// Asks the parent, and waits for its answer as long as the run has time.
fn ask(id: u32, op: &str, body: &[u8], deadline: Option<Instant>) -> Result<Result<Answer, AskError>, Trouble> {
    let channel = Channel::inherited();
    let mut message = Vec::new();
    wire::put_ask(&mut message, id, op, body);
    channel.write(&mut [std::io::IoSlice::new(&message)]);
    // The alarm may interrupt the wait. With a question open the child is of no more use, and its parent knows that.
    loop {
        let left = deadline.map_or(FOREVER, |deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            let text = "the service ran past its deadline while it waited for an answer";
            return Err(Failure::new(wire::Fault::Deadline, text).into());
        }
        if channel.wait(left, true) {
            break;
        }
    }
    let (kind, payload) = channel.receive(ANSWER_BYTES + 64 * 1024);
    let answer = if kind == kind::ANSWER { wire::read_answer(payload) } else { None };
    match answer {
        Some((answered, answer)) if answered == id => Ok(answer),
        // The parent is this same program: it answers what was asked.
        _ => std::process::abort(),
    }
}

/// A line of JSON with width and height, then RGBA.
fn encode(body: &[u8]) -> Result<Answer, AskError> {
    let usage = |text: &str| AskError::new(AskErrorKind::Usage, text);
    let line = body.iter().position(|byte| *byte == b'\n').ok_or_else(|| usage("no line of JSON before the pixels"))?;
    let (about, rgba) = (&body[..line], &body[line + 1..]);
    let about: serde_json::Value = serde_json::from_slice(about).map_err(|error| usage(&error.to_string()))?;
    let side = |name: &str| {
        let number = about.get(name).and_then(serde_json::Value::as_u64).and_then(|side| u32::try_from(side).ok());
        number.filter(|side| *side > 0).ok_or_else(|| usage(&format!("{name} must be a number from 1")))
    };
    let (width, height) = (side("width")?, side("height")?);
    if u64::from(width) * u64::from(height) * 4 != rgba.len() as u64 {
        return Err(usage(&format!("{width}x{height} pixels need 4 bytes each, there are {}", rgba.len())));
    }
    let png = codec::encode(width, height, rgba).map_err(|error| of_work(&error))?;
    Ok(Answer { json: "{}".to_owned(), bytes: png.into() })
}

fn of_work(error: &WorkError) -> AskError {
    let kind = match error {
        WorkError::Memory { .. } => AskErrorKind::Limit,
        WorkError::Bad(_) => AskErrorKind::Failed,
    };
    AskError::new(kind, error.to_string())
}

/// A number from 0 to 1 as text.
fn progress(body: &[u8]) -> Result<Answer, AskError> {
    let part: Option<f32> = std::str::from_utf8(body).ok().and_then(|text| text.trim().parse().ok());
    let Some(part) = part.filter(|part| part.is_finite()) else {
        return Err(AskError::new(AskErrorKind::Usage, "progress takes a number from 0 to 1"));
    };
    Channel::inherited().send(kind::PROGRESS, &[&part.clamp(0.0, 1.0).to_le_bytes()]);
    Ok(Answer { json: "{}".to_owned(), ..Answer::default() })
}
