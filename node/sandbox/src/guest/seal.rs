//! The second wall of system calls: put up when the engine is known and ready, before any guest code runs.

/// What a process is for from now on. Every child is born alike and may make memory executable, because some will run
/// compiled code; the seal takes away what getting ready needed and running does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    /// Interprets JavaScript.
    Js,
    /// Compiles, and runs nothing of what it made.
    Compiler,
    /// Runs compiled code that is in place already.
    Wasm,
}

impl Seal {
    /// Puts the wall up; false when the kernel does not.
    #[cfg(target_os = "linux")]
    pub fn put_up(self) -> bool {
        super::seccomp::seal(self).is_ok()
    }

    /// There is no such wall here.
    #[cfg(not(target_os = "linux"))]
    pub const fn put_up(self) -> bool {
        true
    }
}
