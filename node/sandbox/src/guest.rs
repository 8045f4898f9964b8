//! The child's side: started as this same program, it walls itself in, then serves one package until it is killed.

mod built_in;
mod chance;
mod channel;
mod heap;
mod host;
mod js;
mod out;
mod run;
mod seal;
#[cfg(target_os = "linux")]
mod seccomp;
mod walls;
mod wasi;
mod wasi_abi;
mod wasi_calls;
mod wasi_clock;
mod wasi_files;
mod wasm;
mod wasm_alarm;
mod wasm_check;
mod wasm_compile;
mod wasm_resources;
mod wasm_task;

use std::time::Duration;

use channel::Channel;

use crate::{
    wire::{Fault, kind},
    work::WorkError,
};

/// The hidden first argument of a child.
pub(crate) const CHILD_ARG: &str = "__sandbox-child";

#[cfg(target_os = "linux")]
pub(crate) use seccomp::name_of as syscall_name;

/// What a test program does behind the walls instead of running a guest; it gets the package's source.
pub type Probe = fn(&str) -> String;

/// Serves as a sandbox child and never returns, if this process was started as one; else returns at once.
///
/// Must be the first thing in `main`: before any thread exists, and before anything is printed.
pub fn run_if_child() {
    if let Some(start) = Start::from_args() {
        serve(&Start { without: vec![], ..start }, None);
    }
}

/// [`run_if_child`] for test programs: packages whose source starts with `//probe` are handed to `probe`, and the
/// parent may leave walls out.
#[doc(hidden)]
pub fn run_if_child_with_probe(probe: Probe) {
    if let Some(start) = Start::from_args() {
        serve(&start, Some(probe));
    }
}

/// What the parent says on the command line: `__sandbox-child PARENT-PID [WALL-TO-LEAVE-OUT]…`.
struct Start {
    parent: u32,
    without: Vec<crate::WallName>,
}

impl Start {
    fn from_args() -> Option<Self> {
        let mut args = std::env::args_os().skip(1);
        if args.next()? != CHILD_ARG {
            return None;
        }
        let parent = args.next().and_then(|text| text.to_str()?.parse().ok());
        let named = |text: std::ffi::OsString| {
            crate::WallName::ALL.into_iter().find(|wall| text.to_str() == Some(wall.as_str()))
        };
        let without = args.filter_map(named).collect();
        // 0 is nobody's parent: a child started by hand stops at its first wall.
        Some(Self { parent: parent.unwrap_or(0), without })
    }
}

fn serve(start: &Start, probe: Option<Probe>) -> ! {
    let channel = Channel::inherited();
    report_panics();
    chance::gather();
    let walls = walls::put_up(start);
    let report = serde_json::to_vec(&walls).unwrap_or_default();
    channel.send(kind::HELLO, &[&report]);
    run::serve(channel, probe, walls.seccomp.is_up())
}

/// A panic in the child is told to the parent and ends the child: there is no stderr, and no state worth saving.
fn report_panics() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        let cut = text.floor_char_boundary(crate::wire::REASON_BYTES);
        Channel::inherited().send(kind::PANICKED, &[&text.as_bytes()[..cut]]);
        std::process::abort();
    }));
}

/// Why a call failed, as the child says it.
#[derive(Debug, Clone)]
pub struct Failure {
    fault: Fault,
    text: String,
}

impl Failure {
    fn new(fault: Fault, text: impl Into<String>) -> Self {
        Self { fault, text: text.into() }
    }

    fn service(text: impl Into<String>) -> Self {
        Self::new(Fault::ServiceFailed, text)
    }

    fn deadline(time: Duration) -> Self {
        Self::new(Fault::Deadline, format!("the service ran past its deadline of {} ms", time.as_millis()))
    }

    fn memory(limit: u64) -> Self {
        Self::new(Fault::OutOfMemory, format!("the service needs more than its memory limit of {limit} bytes"))
    }
}

impl From<WorkError> for Failure {
    fn from(error: WorkError) -> Self {
        let fault = match error {
            WorkError::Bad(_) => Fault::BadInput,
            WorkError::Memory { .. } => Fault::OutOfMemory,
        };
        Self::new(fault, error.to_string())
    }
}
