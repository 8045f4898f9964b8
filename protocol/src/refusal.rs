//! How a node says no: a code for machines and a bounded reason for people.

use serde::{Deserialize, Serialize};

use crate::limits::REASON_BYTES;

/// Why something was refused. The text forms are part of the protocol; unknown ones read as `Other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RefusalCode {
    /// The hash is in no index that this node trusts.
    UnknownPackage,
    /// This node's owner does not trust that market.
    UntrustedMarket,
    /// The market's documents are expired: installed services run, new ones do not.
    StaleMarket,
    /// The market has withdrawn this package.
    Revoked,
    /// Fewer reviews hold than its market asks for.
    Unreviewed,
    /// The package's bytes are not what was signed, or nothing that runs here.
    BadPackage,
    /// Nobody reachable has the package's bytes.
    Unavailable,
    /// The message could not be read.
    BadMessage,
    /// A parameter or an input is outside what the manifest allows.
    BadInput,
    /// This device does not meet a constraint.
    Constraint,
    /// The owner does not lend this device now.
    NotLending,
    /// Every slot is taken: try later.
    Busy,
    /// Too many requests.
    RateLimited,
    /// This message was already handled.
    Duplicate,
    /// The lease of this attempt is over.
    StaleLease,
    /// The owner's policy forbids it.
    Denied,
    /// The service itself failed (its message follows): the same input fails everywhere.
    ServiceFailed,
    /// The guest used more memory than its limit.
    OutOfMemory,
    /// The guest wrote more than its output limit.
    OutputTooLarge,
    /// The guest ran past its deadline and was killed.
    Deadline,
    /// The guest's process died.
    TaskCrashed,
    /// None of the above, or a code of a later protocol.
    #[serde(other)]
    Other,
}

impl RefusalCode {
    /// Every code, in the order of `PROTOCOL.md`.
    pub const ALL: [Self; 22] = [
        Self::UnknownPackage,
        Self::UntrustedMarket,
        Self::StaleMarket,
        Self::Revoked,
        Self::Unreviewed,
        Self::BadPackage,
        Self::Unavailable,
        Self::BadMessage,
        Self::BadInput,
        Self::Constraint,
        Self::NotLending,
        Self::Busy,
        Self::RateLimited,
        Self::Duplicate,
        Self::StaleLease,
        Self::Denied,
        Self::ServiceFailed,
        Self::OutOfMemory,
        Self::OutputTooLarge,
        Self::Deadline,
        Self::TaskCrashed,
        Self::Other,
    ];

    /// The code as it stands on the wire and in error texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownPackage => "unknown-package",
            Self::UntrustedMarket => "untrusted-market",
            Self::StaleMarket => "stale-market",
            Self::Revoked => "revoked",
            Self::Unreviewed => "unreviewed",
            Self::BadPackage => "bad-package",
            Self::Unavailable => "unavailable",
            Self::BadMessage => "bad-message",
            Self::BadInput => "bad-input",
            Self::Constraint => "constraint",
            Self::NotLending => "not-lending",
            Self::Busy => "busy",
            Self::RateLimited => "rate-limited",
            Self::Duplicate => "duplicate",
            Self::StaleLease => "stale-lease",
            Self::Denied => "denied",
            Self::ServiceFailed => "service-failed",
            Self::OutOfMemory => "out-of-memory",
            Self::OutputTooLarge => "output-too-large",
            Self::Deadline => "deadline",
            Self::TaskCrashed => "task-crashed",
            Self::Other => "other",
        }
    }

    /// True when the same task would fail in the same way on every device, so that trying elsewhere is waste.
    pub const fn is_deterministic(self) -> bool {
        matches!(self, Self::ServiceFailed | Self::BadInput | Self::OutOfMemory | Self::OutputTooLarge)
    }
}

impl std::fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal: code and reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("refused: {code}: {reason}")]
pub struct Refusal {
    /// For machines.
    pub code: RefusalCode,
    /// For people: what, and the number. At most [`REASON_BYTES`] bytes.
    pub reason: String,
}

impl Refusal {
    /// Makes a refusal; a longer reason is cut at a character boundary.
    pub fn new(code: RefusalCode, reason: impl Into<String>) -> Self {
        Self { code, reason: bounded(reason.into(), REASON_BYTES) }
    }

    /// The same refusal with its reason cut to the limit and stripped of control characters: for text from a peer
    /// that is about to be shown.
    pub fn sanitised(self) -> Self {
        let reason = self.reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Self::new(self.code, bounded(reason, REASON_BYTES))
    }
}

fn bounded(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_serde_and_unknown_codes_read_as_other() {
        for (place, code) in RefusalCode::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, place, "a code that ALL lacks");
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
        assert_eq!(serde_json::from_str::<RefusalCode>("\"of-the-future\"").unwrap(), RefusalCode::Other);
    }

    #[test]
    fn reasons_are_cut_at_a_character() {
        let refusal = Refusal::new(RefusalCode::Busy, "é".repeat(REASON_BYTES));
        assert_eq!(refusal.reason.len(), REASON_BYTES);
        assert_eq!(Refusal::new(RefusalCode::Busy, "a\u{1b}[31mb").sanitised().reason, "a [31mb");
    }
}
