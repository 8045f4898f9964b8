//! What is run in a sandbox, within which budget, and what comes back.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use msm_protocol::{ContentHash, PeerId};

use crate::{resources::Resources, work::Aim};

/// One run of a service's code.
///
/// Every run begins in a fresh global scope with the module evaluated anew: nothing of an earlier run is left in it,
/// though the process may be the same.
#[derive(Clone)]
pub struct Call {
    /// Whose code. Calls with the same package hash, work and client may share a child, one after the other.
    pub package: Arc<Package>,
    /// On whose behalf: a child never serves two clients.
    pub client: PeerId,
    /// Which part of the service.
    pub op: Op,
    /// The parameters: the text of a JSON object.
    pub params: Arc<str>,
    /// What the operation reads; its shape depends on `op`.
    pub input: Bytes,
    /// What the guest may use.
    pub budget: Budget,
    /// Who answers what the guest asks of the device; without it nobody does.
    pub resources: Option<Arc<dyn Resources>>,
}

/// A service's code as the sandbox needs it. The caller has verified it: the sandbox trusts its hash.
#[derive(Debug)]
pub struct Package {
    /// Hash of the manifest: it names the package.
    pub hash: ContentHash,
    /// What executes `source`.
    pub engine: Engine,
    /// The variant's bytes.
    pub source: Bytes,
    /// How inputs are cut and outputs put together.
    pub work: Work,
    /// Modules that the source imports, and files that the guest may read.
    pub files: Files,
    /// What the manifest asks for.
    pub asks: Asks,
    /// For people: `name@version`; stands in the guest's error positions.
    pub label: String,
}

/// The files of a package beside its source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// JavaScript modules, by their path from the source's folder.
    pub modules: Vec<(String, Bytes)>,
    /// Read-only files, by their path in `assets/`.
    pub assets: Vec<(String, Bytes)>,
}

/// What a manifest asks for. What is not asked for fails at once in the child, naming the line that is missing; what is
/// asked for still needs the [`Resources`]' consent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Asks {
    /// Picture codecs; they work inside the child.
    pub image: bool,
    /// The time of day.
    pub clock: bool,
    /// Real randomness.
    pub random: bool,
    /// Position.
    pub gps: bool,
    /// Web fetches.
    pub net: bool,
    /// State of the device.
    pub device: bool,
}

impl Asks {
    /// Whether anything of it is asked of the parent: the rest is the child's own.
    pub(crate) const fn reach_out(self) -> bool {
        self.gps || self.net || self.device
    }
}

/// What executes a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Engine {
    /// An ES module, in QuickJS.
    Js,
    /// A WASI preview 1 command, in wasmtime.
    Wasm,
}

/// How a service's input becomes tasks and its task outputs become one output. See [`crate::work`] for the formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Work {
    /// One task: the whole input.
    Whole,
    /// Bands of rows of a picture, each with up to `halo` rows of its neighbours above and below.
    ImageRows {
        /// Rows of neighbours that a band needs on each side.
        halo: u32,
    },
    /// Runs of `size` bytes.
    Bytes {
        /// Bytes that stay together.
        size: u64,
    },
    /// Runs of `n` lines.
    Lines {
        /// Lines that stay together.
        n: u64,
    },
    /// The elements of a JSON array.
    JsonArray,
    /// The guest exports `split` and `merge`.
    Service,
}

/// Which part of a service is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Raw input to raw output in one go, by one call of the guest's `run`.
    Whole,
    /// Raw input to frames, one per task.
    Split(Aim),
    /// One task's input to its output.
    Part {
        /// Which task, from 0.
        index: u32,
        /// Of how many.
        count: u32,
    },
    /// Frames, one per task output in order, to the raw output.
    Merge,
}

/// What one call may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of the guest's own heap. Decoded pictures are held outside that heap, within the same number again.
    pub memory: u64,
    /// Wall time from the moment a child is at hand. Soft stop at its end, SIGKILL 200 ms later.
    pub time: Duration,
    /// Bytes of output.
    pub output: u64,
}

/// What a call gave.
#[derive(Debug, Clone)]
pub struct Output {
    /// Raw output, task output or frames, by the operation.
    pub bytes: Bytes,
    /// What the guest logged, one line each, cut at 64 KiB.
    pub log: String,
    /// CPU time of the child during the call, by the kernel's account.
    pub cpu: Duration,
    /// Wall time of the call once a child was at hand.
    pub wall: Duration,
}

/// Where the time of a cold call went; for benchmarks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Phases {
    /// Until the child process exists.
    pub spawn: Duration,
    /// Until the child reports its walls.
    pub walls: Duration,
    /// Compiling and evaluating the package, by the child's account.
    pub load: Duration,
    /// From the walls to the result, `load` included.
    pub first_result: Duration,
}
