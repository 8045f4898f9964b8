//! The soft deadline of a compiled guest: a timer signal moves the engine's epoch on, and the guest's next loop or call
//! ends it.

use std::{io, time::Duration};

use super::wasm;

/// A set alarm; dropped, it does not ring any more.
pub struct Alarm(());

impl Alarm {
    /// Has the signal handled; once in a process.
    pub fn install() -> io::Result<()> {
        // SAFETY: an all-zero sigaction is valid; the handler is async-signal-safe. No SA_RESTART: a wait for an
        // answer must look at the clock again.
        let installed = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = ring as extern "C" fn(libc::c_int) as usize;
            libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut())
        };
        if installed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Rings once, after this time.
    pub fn set(after: Duration) -> Self {
        // Nothing would be "never".
        start(after.max(Duration::from_micros(1)));
        Self(())
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // A ring that was on its way has come when this call is over: it cannot end the next guest.
        start(Duration::ZERO);
    }
}

fn start(after: Duration) {
    let seconds = libc::time_t::try_from(after.as_secs()).unwrap_or(libc::time_t::MAX);
    let value = libc::timeval { tv_sec: seconds, tv_usec: after.subsec_micros() as libc::suseconds_t };
    let once = libc::itimerval { it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 }, it_value: value };
    // SAFETY: a valid pointer to a struct of this stack. Without a timer the parent's SIGKILL is what is left.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const once, std::ptr::null_mut()) };
}

/// An atomic load and an atomic addition.
extern "C" fn ring(_: libc::c_int) {
    if let Some(engine) = wasm::running_engine() {
        engine.increment_epoch();
    }
}
