//! The bytes between a sandbox and its child: small headers made and read by hand, payloads never copied here.
//!
//! Both directions are sequences of messages: kind (1 byte), 3 zero bytes, length (u32 LE), that many bytes. All
//! numbers are little-endian. Parent and child are the same file, so the format has no versions; but the parent
//! believes nothing that a child says.
//!
//! | to the child | payload |
//! |---|---|
//! | `LOAD` | work tag u8, image u8, engine u8, 0, work number u64, label length u32, label, source |
//! | `CALL` | op u8, 7 zero bytes, a u64, b u64, memory u64, time in us u64, output u64, input length u64, parameters; the input follows the message |
//!
//! | from the child | payload |
//! |---|---|
//! | `HELLO` | [`Walls`](crate::Walls) as JSON, once, when they are up |
//! | `OUTPUT` | the next bytes of the output |
//! | `LOG` | lines of the guest's log |
//! | `PROGRESS` | f32 from 0 to 1 |
//! | `DONE` | load time in us u64: the call is over and went well |
//! | `FAIL` | [`Fault`] u8, text: the call is over and failed |
//! | `TRAPPED` | system call number u64: seccomp is about to kill the child |
//! | `PANICKED` | text: the child is about to abort |

use std::time::Duration;

use msm_protocol::RefusalCode;

use crate::call::{Budget, Engine, Op, Package, Work};

pub const HEADER_BYTES: usize = 8;

pub mod kind {
    pub const LOAD: u8 = 1;
    pub const CALL: u8 = 2;

    pub const HELLO: u8 = 16;
    pub const OUTPUT: u8 = 17;
    pub const LOG: u8 = 18;
    pub const PROGRESS: u8 = 19;
    pub const DONE: u8 = 20;
    pub const FAIL: u8 = 21;
    pub const TRAPPED: u8 = 22;
    pub const PANICKED: u8 = 23;
}

/// Any message but `OUTPUT` is small. Larger than the log's cap and the longest reason.
pub const SMALL_BYTES: usize = 72 * 1024;
/// A guest's log in one call: enough to follow a run, too little to fill a memory or a disk. *Judgement.*
pub const LOG_BYTES: usize = 64 * 1024;
/// An error text that the child sends; the parent cuts it further to the protocol's reason.
pub const REASON_BYTES: usize = 4 * 1024;
/// Bytes of one `OUTPUT` message: any length is cheap, this keeps the u32 honest.
pub const OUTPUT_CHUNK: usize = 1 << 30;

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
}

impl Fault {
    pub fn from_wire(byte: u8) -> Option<Self> {
        [Self::ServiceFailed, Self::BadInput, Self::BadPackage, Self::OutOfMemory, Self::OutputTooLarge, Self::Deadline]
            .into_iter()
            .find(|fault| *fault as u8 == byte)
    }

    pub const fn code(self) -> RefusalCode {
        match self {
            Self::ServiceFailed => RefusalCode::ServiceFailed,
            Self::BadInput => RefusalCode::BadInput,
            Self::BadPackage => RefusalCode::BadPackage,
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
    pub work: Work,
    pub image: bool,
    pub label: String,
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

/// Appends a `LOAD` message.
pub fn put_load(out: &mut Vec<u8>, package: &Package) {
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
    };
    out.extend(header(kind::LOAD, 16 + label.len() + package.source.len()));
    out.extend([tag, u8::from(package.image), engine, 0]);
    out.extend(u64::to_le_bytes(number));
    out.extend((label.len() as u32).to_le_bytes());
    out.extend(label);
    out.extend(&*package.source);
}

/// Reads the payload of `LOAD`.
pub fn read_load(payload: Vec<u8>) -> Option<Loaded> {
    let mut reader = Reader(&payload);
    let [tag, image, _engine, _] = reader.array()?;
    let number = reader.u64()?;
    let label_len = u32::from_le_bytes(reader.array()?) as usize;
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
    let source_at = payload.len() - reader.0.len();
    let mut source = payload;
    source.drain(..source_at);
    Some(Loaded { work, image: image != 0, label, source })
}

/// Appends a `CALL` message; the input follows it on the wire.
pub fn put_call(out: &mut Vec<u8>, op: Op, budget: &Budget, input_len: usize, params: &str) {
    let (tag, a, b) = match op {
        Op::Whole => (0, 0, 0),
        Op::Split { want, target_bytes } => (1, u64::from(want), target_bytes),
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
        1 => Op::Split { want: u32::try_from(a).ok()?, target_bytes: b },
        2 => Op::Part { index: u32::try_from(a).ok()?, count: u32::try_from(b).ok()? },
        3 => Op::Merge,
        _ => return None,
    };
    let params = String::from_utf8(reader.0.to_vec()).ok()?;
    Some(Request { op, budget: Budget { memory, time: Duration::from_micros(time_us), output }, input_len, params })
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
                image: true,
                label: "blür@1".into(),
            };
            let mut bytes = Vec::new();
            put_load(&mut bytes, &package);
            let (kind, length) = read_header(bytes[..HEADER_BYTES].try_into().unwrap());
            assert_eq!((kind, length), (kind::LOAD, bytes.len() - HEADER_BYTES));
            let loaded = read_load(bytes[HEADER_BYTES..].to_vec()).unwrap();
            assert_eq!((loaded.work, loaded.image, &*loaded.label), (work, true, "blür@1"));
            assert_eq!(loaded.source, package.source);
        }

        let budget = Budget { memory: 1, time: Duration::from_micros(2), output: 3 };
        for op in [Op::Whole, Op::Split { want: 4, target_bytes: 5 }, Op::Part { index: 6, count: 7 }, Op::Merge] {
            let params: Arc<str> = "{\"radius\":3}".into();
            let mut bytes = Vec::new();
            put_call(&mut bytes, op, &budget, 9, &params);
            let request = read_call(&bytes[HEADER_BYTES..]).unwrap();
            assert_eq!(request, Request { op, budget, input_len: 9, params: params.to_string() });
            assert!((0..56).all(|cut| read_call(&bytes[HEADER_BYTES..][..cut]).is_none()), "cut messages are refused");
        }
    }
}
