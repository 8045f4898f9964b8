//! [`CommandError`]: why a command failed, with its exit code and what to type next.

use serde::{Deserialize, Serialize};

/// Why a command failed: the text form of each is the `code` of `msm.error/1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    Failed,
    Usage,
    NoNode,
    NotAllowed,
    NoDevice,
    ServiceFailed,
    Deadline,
    Verification,
    NotFound,
}

impl ErrorCode {
    /// The process's exit code.
    pub const fn exit(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NoNode => 3,
            Self::NotAllowed => 4,
            Self::NoDevice => 5,
            Self::ServiceFailed => 6,
            Self::Deadline => 7,
            Self::Verification => 8,
            Self::NotFound => 9,
        }
    }
}

/// A command that failed: what, why (with the number), and what to type next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    pub code: ErrorCode,
    /// Begins with the quoted refusal where there is one, such as `refused: untrusted-market: …`.
    pub message: String,
    /// Runnable lines, `msm …`.
    pub r#try: Vec<String>,
}

impl CommandError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), r#try: Vec::new() }
    }

    /// Adds a line that would change the outcome.
    pub fn or_try(mut self, line: impl Into<String>) -> Self {
        self.r#try.push(line.into());
        self
    }
}
