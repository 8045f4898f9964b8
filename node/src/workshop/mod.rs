//! The service author's bench: a folder is built, checked, tested and run here, without a market and without a node.
//!
//! Everything that is a guest's runs in the same walled children as on a node. What runs outside them is the author's
//! own `build` lines, on the author's machine, in the service's folder, and only those.
//!
//! Read in this order:
//! 1. [`project`]: a folder with a `service.toml`. [`build`]: how its variants are made. [`glob`]: from which files.
//! 2. [`bench`]: one run of a variant, whole or in parts. [`replay`], [`local`]: what it gets for position,
//!    web and device.
//! 3. [`case`], [`compare`]: a test and what its output is held against. [`trial`]: every case on every variant.
//! 4. [`check`], [`score`]: what is wrong with a service, and what would make it better. [`sources`]: where.
//! 5. [`scaffold`]: new folders. [`watch`]: which files have changed.

pub mod bench;
pub mod build;
pub mod case;
pub mod check;
pub mod compare;
pub mod glob;
pub mod local;
pub mod project;
pub mod replay;
pub mod review;
pub mod scaffold;
pub mod score;
pub mod sources;
pub mod trial;
pub mod watch;

use std::{io, ops::Range, path::PathBuf};

use msm_market_index::PackError;
use msm_sandbox::SandboxError;

/// Why something on the bench cannot be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkshopError {
    /// The folder is no package.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// A file cannot be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A `build` line failed.
    #[error("the build of {file} failed: {reason}\n$ {line}\n{output}")]
    Build {
        /// What it was to make.
        file: String,
        /// Exit code or signal, or that it took too long.
        reason: String,
        /// The line.
        line: String,
        /// The end of what it printed.
        output: String,
    },
    /// A test file says something it must not.
    #[error("{}: {reason}", .path.display())]
    Case {
        /// The test file.
        path: PathBuf,
        /// Its text.
        text: String,
        /// Bytes of the text that it is about.
        span: Option<Range<usize>>,
        /// What is wrong.
        reason: String,
    },
    /// There is no sandbox on this machine.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// What was named is not there.
    #[error("{0}")]
    NotFound(String),
    /// A value that the caller gave makes no sense.
    #[error("{0}")]
    Usage(String),
}

impl WorkshopError {
    fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
