//! For the test that kills the node at every write of a journal: in debug builds `MSM_KILL_AT_WRITE=N` ends the process
//! in the middle of its N-th such write, `MSM_KILL_AT_WRITE=N+` right after it. In release builds there is nothing here.

#[cfg(debug_assertions)]
mod armed {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };

    struct Point {
        write: u64,
        after: bool,
    }

    static POINT: LazyLock<Option<Point>> = LazyLock::new(|| {
        let text = std::env::var("MSM_KILL_AT_WRITE").ok()?;
        let number = text.trim_end_matches('+');
        Some(Point { write: number.parse().ok()?, after: number != text })
    });
    static WRITES: AtomicU64 = AtomicU64::new(0);

    /// Counts a write of `length` bytes; how much of it is still written, if this is the one.
    pub fn half(length: usize) -> Option<usize> {
        let point = POINT.as_ref()?;
        let write = WRITES.fetch_add(1, Ordering::SeqCst) + 1;
        (write == point.write && !point.after).then_some(length / 2)
    }

    /// After a write that [`half`] has counted.
    pub fn after() {
        if POINT.as_ref().is_some_and(|point| point.after && WRITES.load(Ordering::SeqCst) == point.write) {
            now();
        }
    }

    /// Ends this process as a power cut would.
    pub fn now() -> ! {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::process::abort()
    }
}

#[cfg(debug_assertions)]
pub use armed::{after, half, now};

#[cfg(not(debug_assertions))]
mod absent {
    pub fn half(_: usize) -> Option<usize> {
        None
    }
    pub fn after() {}
    pub fn now() {}
}

#[cfg(not(debug_assertions))]
pub use absent::{after, half, now};
