//! The bytes between a sandbox and its child: small headers made and read by hand, payloads never copied here.
//!
//! Both directions are sequences of messages: kind (1 byte), 3 zero bytes, length (u32 LE), that many bytes. All
//! numbers are little-endian. Parent and child are the same file, so the format has no versions; but the parent
//! believes nothing that a child says.
//!
//! | to the child | payload |
//! |---|---|
//! | `LOAD` | work tag u8, asks u8, engine u8, 0, work number u64, label length u32, modules u32, assets u32, label, then every file: path length u32, length u32, path, bytes; then the source, for wasm the compiled code |
//! | `CALL` | op u8, 7 zero bytes, a u64, b u64, memory u64, time in us u64, output u64, input length u64, parameters; the input follows the message |
//! | `COMPILE` | a wasm module; none: the compiler's fingerprint is asked for. The answer is as to `CALL` |
//! | `ANSWER` | id u32, 0 or [`AskErrorKind`] u8, length u32, JSON or text of that length, bytes |
//!
//! | from the child | payload |
//! |---|---|
//! | `HELLO` | [`Walls`](crate::Walls) as JSON, once, when they are up |
//! | `OUTPUT` | the next bytes of the output |
//! | `LOG` | lines of the guest's log |
//! | `PROGRESS` | f32 from 0 to 1 |
//! | `ASK` | id u32, operation length u8, operation, body |
//! | `DONE` | load time in us u64: the call is over and went well |
//! | `FAIL` | [`Fault`] u8, text: the call is over and failed |
//! | `TRAPPED` | system call number u64: seccomp is about to kill the child |
//! | `PANICKED` | text: the child is about to abort |

use std::time::Duration;

use bytes::Bytes;
use msm_protocol::RefusalCode;

use crate::{
    call::{Asks, Budget, Engine, Op, Package, Work},
    resources::{ASK_BYTES, Answer, Ask, AskError, AskErrorKind},
    work::Aim,
};

pub const HEADER_BYTES: usize = 8;

pub mod kind {
    pub const LOAD: u8 = 1;
    pub const CALL: u8 = 2;
    pub const ANSWER: u8 = 3;
    pub const COMPILE: u8 = 4;

    pub const HELLO: u8 = 16;
    pub const OUTPUT: u8 = 17;
    pub const LOG: u8 = 18;
    pub const PROGRESS: u8 = 19;
    pub const DONE: u8 = 20;
    pub const FAIL: u8 = 21;
    pub const TRAPPED: u8 = 22;
    pub const PANICKED: u8 = 23;
    pub const ASK: u8 = 24;
}

/// Any message but `OUTPUT` is small. Larger than the log's cap and the longest reason.
pub const SMALL_BYTES: usize = 72 * 1024;
/// A guest's log in one call: enough to follow a run, too little to fill a memory or a disk. *Judgement.*
pub const LOG_BYTES: usize = 64 * 1024;
/// An error text that the child sends; the parent cuts it further to the protocol's reason.
pub const REASON_BYTES: usize = 4 * 1024;
/// Bytes of one `OUTPUT` message: any length is cheap, this keeps the u32 honest.
pub const OUTPUT_CHUNK: usize = 1 << 30;

/// Compiled code of one module: the largest module (4 MiB) gives about three times its size. *Judgement.*
pub const CODE_BYTES: usize = 32 << 20;

/// A message's first bytes.
pub fn header(kind: u8, length: usize) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[0] = kind;
    // Callers keep to the caps above; a longer payload would be cut by its reader as a broken message.
    out[4..].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    out
}

/// Appends a whole message.
pub fn put(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    out.extend(header(kind, parts.iter().map(|part| part.len()).sum()));
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Kind and length of a message.
pub fn read_header(bytes: [u8; HEADER_BYTES]) -> (u8, usize) {
    let [kind, _, _, _, length @ ..] = bytes;
    (kind, u32::from_le_bytes(length) as usize)
}

/// What a child may say went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    ServiceFailed = 1,
    BadInput = 2,
    BadPackage = 3,
    OutOfMemory = 4,
    OutputTooLarge = 5,
    Deadline = 6,
    /// The compiled code is not for this machine or program: it must be made again.
    StaleCode = 7,
}

impl Fault {
    pub fn from_wire(byte: u8) -> Option<Self> {
        let faults = [
            Self::ServiceFailed,
            Self::BadInput,
            Self::BadPackage,
            Self::OutOfMemory,
            Self::OutputTooLarge,
            Self::Deadline,
            Self::StaleCode,
        ];
        faults.into_iter().find(|fault| *fault as u8 == byte)
    }

    pub const fn code(self) -> RefusalCode {
        match self {
            Self::ServiceFailed => RefusalCode::ServiceFailed,
            Self::BadInput => RefusalCode::BadInput,
            Self::BadPackage | Self::StaleCode => RefusalCode::BadPackage,
            Self::OutOfMemory => RefusalCode::OutOfMemory,
            Self::OutputTooLarge => RefusalCode::OutputTooLarge,
            Self::Deadline => RefusalCode::Deadline,
        }
    }

    /// Whether the child is sound after it, fit for the next call of the same package.
    pub const fn spares_child(self) -> bool {
        matches!(self, Self::ServiceFailed | Self::BadInput)
    }
}

/// A package as it arrives in the child.
pub struct Loaded {
    pub engine: Engine,
    pub work: Work,
    pub asks: Asks,
    pub label: String,
    pub modules: Vec<(String, Vec<u8>)>,
    pub assets: Vec<(String, Vec<u8>)>,
    pub source: Vec<u8>,
}

/// A call as it arrives in the child, without its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub op: Op,
    pub budget: Budget,
    pub input_len: u64,
    pub params: String,
}

/// Appends a `LOAD` message but for the source, of `length` bytes, which follows it on the wire.
pub fn put_load(out: &mut Vec<u8>, package: &Package, length: usize) {
    let label = package.label.as_bytes();
    let label = &label[..label.len().min(usize::from(u8::MAX))];
    let (tag, number) = match package.work {
        Work::Whole => (0, 0),
        Work::ImageRows { halo } => (1, u64::from(halo)),
        Work::Bytes { size } => (2, size),
        Work::Lines { n } => (3, n),
        Work::JsonArray => (4, 0),
        Work::Service => (5, 0),
    };
    let engine = match package.engine {
        Engine::Js => 0,
        Engine::Wasm => 1,
    };
    let files = || package.files.modules.iter().chain(&package.files.assets);
    let file_bytes: usize = files().map(|(path, bytes)| 8 + path.len() + bytes.len()).sum();
    out.extend(header(kind::LOAD, 24 + label.len() + file_bytes + length));
    out.extend([tag, asks_to_wire(package.asks), engine, 0]);
    out.extend(u64::to_le_bytes(number));
    for length in [label.len(), package.files.modules.len(), package.files.assets.len()] {
        out.extend((length as u32).to_le_bytes());
    }
    out.extend(label);
    for (path, bytes) in files() {
        out.extend((path.len() as u32).to_le_bytes());
        out.extend((bytes.len() as u32).to_le_bytes());
        out.extend(path.as_bytes());
        out.extend(&**bytes);
    }
}

fn asks_to_wire(asks: Asks) -> u8 {
    let Asks { image, clock, random, gps, net, device } = asks;
    [image, clock, random, gps, net, device].iter().rev().fold(0, |bits, ask| bits << 1 | u8::from(*ask))
}

fn asks_from_wire(bits: u8) -> Asks {
    let bit = |n: u8| bits >> n & 1 == 1;
    Asks { image: bit(0), clock: bit(1), random: bit(2), gps: bit(3), net: bit(4), device: bit(5) }
}

/// Reads the payload of `LOAD`.
pub fn read_load(payload: Vec<u8>) -> Option<Loaded> {
    let mut reader = Reader(&payload);
    let [tag, asks, engine, _] = reader.array()?;
    let number = reader.u64()?;
    let (label_len, modules, assets) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let label = String::from_utf8_lossy(reader.take(label_len)?).into_owned();
    let work = match tag {
        0 => Work::Whole,
        1 => Work::ImageRows { halo: u32::try_from(number).ok()? },
        2 => Work::Bytes { size: number },
        3 => Work::Lines { n: number },
        4 => Work::JsonArray,
        5 => Work::Service,
        _ => return None,
    };
    let engine = match engine {
        0 => Engine::Js,
        1 => Engine::Wasm,
        _ => return None,
    };
    let (modules, assets) = (reader.files(modules)?, reader.files(assets)?);
    let source_at = payload.len() - reader.0.len();
    let mut source = payload;
    source.drain(..source_at);
    Some(Loaded { engine, work, asks: asks_from_wire(asks), label, modules, assets, source })
}

/// Appends a `CALL` message; the input follows it on the wire.
pub fn put_call(out: &mut Vec<u8>, op: Op, budget: &Budget, input_len: usize, params: &str) {
    let (tag, a, b) = match op {
        Op::Whole => (0, 0, 0),
        Op::Split(Aim { want, target_bytes, slots }) => (1, u64::from(want) << 32 | u64::from(slots), target_bytes),
        Op::Part { index, count } => (2, u64::from(index), u64::from(count)),
        Op::Merge => (3, 0, 0),
    };
    let time_us = u64::try_from(budget.time.as_micros()).unwrap_or(u64::MAX);
    out.extend(header(kind::CALL, 56 + params.len()));
    for number in [tag, a, b, budget.memory, time_us, budget.output, input_len as u64] {
        out.extend(u64::to_le_bytes(number));
    }
    out.extend(params.as_bytes());
}

/// Reads the payload of `CALL`.
pub fn read_call(payload: &[u8]) -> Option<Request> {
    let mut reader = Reader(payload);
    let [tag, a, b, memory, time_us, output, input_len] =
        [reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?];
    let op = match tag {
        0 => Op::Whole,
        1 => Op::Split(Aim { want: (a >> 32) as u32, slots: a as u32, target_bytes: b }),
        2 => Op::Part { index: u32::try_from(a).ok()?, count: u32::try_from(b).ok()? },
        3 => Op::Merge,
        _ => return None,
    };
    let params = String::from_utf8(reader.0.to_vec()).ok()?;
    Some(Request { op, budget: Budget { memory, time: Duration::from_micros(time_us), output }, input_len, params })
}

/// Appends an `ASK` message.
pub fn put_ask(out: &mut Vec<u8>, id: u32, op: &str, body: &[u8]) {
    put(out, kind::ASK, &[&id.to_le_bytes(), &[op.len() as u8], op.as_bytes(), body]);
}

/// Reads the payload of `ASK`.
pub fn read_ask(payload: &Bytes) -> Option<(u32, Ask)> {
    let mut reader = Reader(payload);
    let id = u32::from_le_bytes(reader.array()?);
    let [length] = reader.array()?;
    let op = std::str::from_utf8(reader.take(length.into())?).ok()?.to_owned();
    let body = payload.slice(payload.len() - reader.0.len()..);
    (body.len() <= ASK_BYTES).then_some((id, Ask { op, body }))
}

/// The bytes of an `ANSWER` message but for those of the answer that are no JSON, which follow.
pub fn answer_head(id: u32, answer: &Result<Answer, AskError>) -> Vec<u8> {
    let (status, text, more) = match answer {
        Ok(answer) => (0, &*answer.json, answer.bytes.len()),
        Err(error) => (error.kind as u8, &*error.message, 0),
    };
    let mut out = Vec::with_capacity(HEADER_BYTES + 9 + text.len());
    out.extend(header(kind::ANSWER, 9 + text.len() + more));
    out.extend(id.to_le_bytes());
    out.push(status);
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
    out
}

/// Reads the payload of `ANSWER`.
pub fn read_answer(payload: Vec<u8>) -> Option<(u32, Result<Answer, AskError>)> {
    let payload = Bytes::from(payload);
    let mut reader = Reader(&payload);
    let id = u32::from_le_bytes(reader.array()?);
    let [status] = reader.array()?;
    let length = reader.u32()?;
    let text = String::from_utf8(reader.take(length)?.to_vec()).ok()?;
    let bytes = payload.slice(payload.len() - reader.0.len()..);
    let answer = match status {
        0 => Ok(Answer { json: text, bytes }),
        kind => Err(AskError::new(AskErrorKind::from_wire(kind)?, text)),
    };
    Some((id, answer))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<usize> {
        self.array().map(|bytes| u32::from_le_bytes(bytes) as usize)
    }

    fn files(&mut self, count: usize) -> Option<Vec<(String, Vec<u8>)>> {
        let mut files = Vec::new();
        for _ in 0..count {
            let (path, bytes) = (self.u32()?, self.u32()?);
            let path = String::from_utf8(self.take(path)?.to_vec()).ok()?;
            files.push((path, self.take(bytes)?.to_vec()));
        }
        Some(files)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use msm_protocol::ContentHash;

    use super::*;
    use crate::call::Files;

    #[test]
    fn questions_and_answers_read_back() {
        let mut bytes = Vec::new();
        put_ask(&mut bytes, 7, "net.fetch", b"{}");
        let ask = Ask { op: "net.fetch".into(), body: Bytes::from_static(b"{}") };
        assert_eq!(read_ask(&Bytes::from(bytes).slice(HEADER_BYTES..)), Some((7, ask)));
        let good = Ok(Answer { json: "{\"status\":200}".into(), bytes: Bytes::from_static(b"\0body") });
        let bad = Err(AskError::new(AskErrorKind::Denied, "no"));
        for answer in [good, bad] {
            let mut bytes = answer_head(9, &answer);
            bytes.extend(answer.as_ref().map_or(&[][..], |answer| &answer.bytes));
            let (kind, length) = read_header(bytes[..HEADER_BYTES].try_into().unwrap());
            assert_eq!((kind, length), (kind::ANSWER, bytes.len() - HEADER_BYTES));
            assert_eq!(read_answer(bytes[HEADER_BYTES..].to_vec()), Some((9, answer)));
        }
        assert_eq!(read_answer(vec![0; 8]), None);
    }

    #[test]
    fn messages_read_back() {
        for work in [
            Work::Whole,
            Work::ImageRows { halo: 7 },
            Work::Bytes { size: 1 << 40 },
            Work::Lines { n: 3 },
            Work::JsonArray,
            Work::Service,
        ] {
            let package = Package {
                hash: ContentHash::of(b""),
                engine: Engine::Js,
                source: Bytes::from_static(b"export function run() {}"),
                work,
                files: Files {
                    modules: vec![("lib/a.js".into(), Bytes::from_static(b"1"))],
                    assets: vec![("x.bin".into(), Bytes::new()), ("y".into(), Bytes::from_static(b"\0\xff"))],
                },
                asks: Asks { image: true, gps: true, device: true, ..Asks::default() },
                label: "blür@1".into(),
            };
            let mut bytes = Vec::new();
            put_load(&mut bytes, &package, package.source.len());
            bytes.extend(&package.source);
            let (kind, length) = read_header(bytes[..HEADER_BYTES].try_into().unwrap());
            assert_eq!((kind, length), (kind::LOAD, bytes.len() - HEADER_BYTES));
            let loaded = read_load(bytes[HEADER_BYTES..].to_vec()).unwrap();
            assert_eq!((loaded.work, loaded.asks, &*loaded.label), (work, package.asks, "blür@1"));
            assert_eq!(loaded.modules, [("lib/a.js".to_owned(), b"1".to_vec())]);
            assert_eq!(loaded.assets, [("x.bin".to_owned(), vec![]), ("y".to_owned(), b"\0\xff".to_vec())]);
            assert_eq!(loaded.source, package.source);
        }

        let budget = Budget { memory: 1, time: Duration::from_micros(2), output: 3 };
        let split = Op::Split(Aim { want: 4, target_bytes: 5, slots: u32::MAX });
        for op in [Op::Whole, split, Op::Part { index: 6, count: 7 }, Op::Merge] {
            let params: Arc<str> = "{\"radius\":3}".into();
            let mut bytes = Vec::new();
            put_call(&mut bytes, op, &budget, 9, &params);
            let request = read_call(&bytes[HEADER_BYTES..]).unwrap();
            assert_eq!(request, Request { op, budget, input_len: 9, params: params.to_string() });
            assert!((0..56).all(|cut| read_call(&bytes[HEADER_BYTES..][..cut]).is_none()), "cut messages are refused");
        }
    }
}
