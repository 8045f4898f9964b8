//! A bad link made by ourselves, as this kernel may have no netem: frames pass one relay thread, late, lost or never.
//!
//! The relay sits between a host's port and the bridge, as two TAP devices: every frame of every protocol goes through it,
//! and the kernel has finished checksums and segments before it gets them. What happens to a frame is decided in
//! [`line`], without a clock or a socket.

pub mod line;
mod tap;

use std::{
    fs::File,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

pub use self::line::{Counts, Faults, Flap, Way};
use self::line::{Draw, Line};

/// The relay looks at least this often whether it was told to end. *Judgement.*
const LOOK: Duration = Duration::from_millis(50);
/// Frames read in one go from one side, so that the other is not forgotten. *Judgement.*
const BATCH: usize = 64;

/// What the thread and its owner share.
#[derive(Debug, Default)]
struct Shared {
    faults: Faults,
    /// The beginning of what is told now: flapping is counted from it.
    since: Option<Instant>,
    counts: Counts,
}

/// A running relay. Dropping it ends the thread, and with it its two interfaces.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<Mutex<Shared>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Makes the interfaces `near` (towards the host) and `far` (towards the others) in a network namespace, and carries
    /// frames between them. Both are down and on no bridge yet.
    ///
    /// # Errors
    /// No right to, or no `/dev/net/tun`.
    pub fn start(namespace: &str, near: &str, far: &str, seed: u64) -> Result<Self> {
        let (near, far) = (near.to_owned(), far.to_owned());
        let taps = super::net::within(namespace, move || Ok([tap::open(&near)?, tap::open(&far)?]))?;
        let (shared, stop) = (Arc::<Mutex<Shared>>::default(), Arc::new(AtomicBool::new(false)));
        let thread = {
            let (shared, stop) = (shared.clone(), stop.clone());
            std::thread::Builder::new().name("relay".into()).spawn(move || carry(&taps, &shared, &stop, seed))
        }
        .context("cannot start a relay")?;
        Ok(Self { shared, stop, thread: Some(thread) })
    }

    /// From now on frames fare like this. What is on its way already is not touched.
    pub fn set(&self, faults: Faults) {
        let mut shared = lock(&self.shared);
        shared.faults = faults;
        shared.since = Some(Instant::now());
    }

    /// What has happened to frames so far, both ways together.
    pub fn counts(&self) -> Counts {
        lock(&self.shared).counts
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Only numbers are changed under it: a thread that panicked has left none half changed.
fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads, decides, waits, writes, until it is told to stop.
fn carry(taps: &[File; 2], shared: &Mutex<Shared>, stop: &AtomicBool, seed: u64) {
    let mut lines = [Line::new(Way::FromHost), Line::new(Way::ToHost)];
    let mut draw = Draw::new(seed);
    let mut frame = vec![0; tap::FRAME_BYTES];
    while !stop.load(Ordering::Relaxed) {
        let next = lines.iter().filter_map(Line::next).min();
        let wait = next.map_or(LOOK, |at| at.saturating_duration_since(Instant::now()).min(LOOK));
        let readable = tap::wait(taps, wait);
        for (side, line) in lines.iter_mut().enumerate() {
            for _ in 0..if readable[side] { BATCH } else { 0 } {
                let Some(length) = tap::read(&taps[side], &mut frame) else { break };
                let mut shared = lock(shared);
                let Shared { faults, since, counts } = &mut *shared;
                let now = Instant::now();
                let flapping = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
                line.push(now, flapping, &frame[..length], faults, &mut draw, counts);
            }
            while let Some(frame) = line.due(Instant::now()) {
                tap::write(&taps[1 - side], &frame);
            }
        }
    }
}
