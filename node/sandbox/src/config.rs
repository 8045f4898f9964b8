//! How many children there are, of which program, and which walls they must have.

use std::{io, path::PathBuf, thread, time::Duration};

use crate::walls::WallName;

/// How a [`crate::Sandbox`] is set up.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// The program whose `main` calls [`crate::run_if_child`]; by default the running one, whatever has happened to
    /// its file since.
    pub program: PathBuf,
    /// Children that run a call or wait, loaded, for the next of theirs. At least 1.
    pub max_children: usize,
    /// Children beyond those that stand ready behind their walls, with no package yet.
    pub warm: usize,
    /// A loaded child with nothing to do is kept this long.
    pub idle: Duration,
    /// What happens when a wall cannot be put up.
    pub walls: WallPolicy,
    /// A folder of this user's where compiled WebAssembly outlives the process; it is made if it is not there, and kept
    /// within 128 MiB. What is in it is hashed again before it is used. None: in memory only.
    pub cache: Option<PathBuf>,
    /// Walls that are left out, to show in a test that they bite. Only programs built on
    /// [`crate::run_if_child_with_probe`] obey; a program with [`crate::run_if_child`] puts up every wall.
    #[doc(hidden)]
    pub without: &'static [WallName],
}

impl Default for SandboxConfig {
    fn default() -> Self {
        let program = if cfg!(target_os = "linux") {
            // The kernel resolves this to the running file itself, even when it was replaced or deleted.
            PathBuf::from("/proc/self/exe")
        } else {
            std::env::current_exe().unwrap_or_default()
        };
        // Twice the cores: one set runs while services that alternate stay loaded. *Judgement.*
        let cores = thread::available_parallelism().map_or(1, usize::from);
        // Long enough for the next task of a job, short enough that a job's children do not outlive it by much.
        // *Judgement.*
        let idle = Duration::from_secs(30);
        Self {
            program,
            idle,
            max_children: (2 * cores).clamp(4, 16),
            warm: 1,
            walls: WallPolicy::BestEffort,
            cache: None,
            without: &[],
        }
    }
}

/// What happens when a wall cannot be put up on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WallPolicy {
    /// Guests run behind the walls that there are; [`crate::Sandbox::walls`] says which.
    #[default]
    BestEffort,
    /// No guest runs without the mandatory walls (see [`crate::Walls::missing`]).
    Require,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The first child could not be started.
    #[error("cannot start a sandbox child from {program}: {source}")]
    Start {
        /// The configured program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The program started, and did not behave as a sandbox child.
    #[error("{program} does not answer as a sandbox child: {reason}")]
    NotAChild {
        /// The configured program.
        program: PathBuf,
        /// What it did.
        reason: String,
    },
    /// [`WallPolicy::Require`], and a mandatory wall is missing.
    #[error("the sandbox lacks a mandatory wall: {missing}")]
    Walls {
        /// Which, and why.
        missing: String,
    },
    /// The system gives no thread.
    #[error("cannot start a thread for the sandbox: {0}")]
    Thread(io::Error),
}
