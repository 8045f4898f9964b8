//! What a guest may ask of its device while it runs: the questions leave its child as messages, and the caller of the
//! sandbox answers them. The sandbox carries them and keeps their number and size within bounds; whether one is allowed
//! is decided by who answers.

use std::{future::Future, pin::Pin};

use bytes::Bytes;

/// Questions of one call that may be under way at a time: enough for a page's pictures, few enough for a phone.
pub const ASKS_AT_ONCE: usize = 8;
/// Questions of one call in all. *Judgement.*
pub const ASKS: u32 = 1_000;
/// Bytes of one question's body.
pub const ASK_BYTES: usize = 64 * 1024;
/// Bytes of one answer: the largest fetched body after unpacking (20 MiB) with its headers.
pub const ANSWER_BYTES: usize = 21 << 20;

/// A guest's question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// What is asked for: `gps.position`, `net.fetch`, `device.status`.
    pub op: String,
    /// The arguments as JSON.
    pub body: Bytes,
}

/// An answer: JSON, and bytes where the operation has some.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// A JSON value.
    pub json: String,
    /// Bytes that are no JSON, such as a fetched body.
    pub bytes: Bytes,
}

/// Why a question gets no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AskError {
    /// What kind of error the guest sees.
    pub kind: AskErrorKind,
    /// For people: what, why, and what would change it.
    pub message: String,
}

/// Kinds of [`AskError`]; the number is the one on the wire between child and parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum AskErrorKind {
    /// Not allowed: the guest sees a `PermissionError`.
    Denied = 1,
    /// Allowed, but it did not work.
    Failed = 2,
    /// Too much, too often, or too large: the guest sees a `RangeError`.
    Limit = 3,
    /// The arguments make no sense: the guest sees a `TypeError`.
    Usage = 4,
}

impl AskErrorKind {
    /// From the number on the wire.
    pub fn from_wire(byte: u8) -> Option<Self> {
        [Self::Denied, Self::Failed, Self::Limit, Self::Usage].into_iter().find(|kind| *kind as u8 == byte)
    }
}

impl AskError {
    /// An error of this kind.
    pub fn new(kind: AskErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// What a question becomes.
pub type Answering = Pin<Box<dyn Future<Output = Result<Answer, AskError>> + Send>>;

/// Answers the questions of one call.
pub trait Resources: Send + Sync {
    /// Answers one question. Dropping the future gives up on it: its call is over.
    fn answer(&self, ask: Ask) -> Answering;
}
