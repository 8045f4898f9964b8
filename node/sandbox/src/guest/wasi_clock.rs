//! A guest's time and chance: the same in every run, unless its manifest asks for the real ones.

use std::{
    rc::Rc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{chance::Chance, channel::Channel, wasi_abi::Errno};

/// How far a look at the clock moves it: a program that waits by looking comes to an end, and one that divides by the
/// time it took has something to divide by. *Judgement.*
const STEP: Duration = Duration::from_millis(1);
/// Where made randomness begins in every run: any number but 0.
const SEED: u64 = 0x4d53_4d31_4d53_4d31;

/// A guest's clocks.
pub enum Clock {
    /// Begins at 0 and moves when it is looked at or waited for.
    Made { now: Duration },
    /// The device's.
    Real { started: Instant },
}

impl Clock {
    pub fn new(real: bool) -> Self {
        if real { Self::Real { started: Instant::now() } } else { Self::Made { now: Duration::ZERO } }
    }

    /// The time in ns by the clock of this number.
    pub fn now(&mut self, clock: u32) -> Result<u64, Errno> {
        let time = match (self, clock) {
            (_, 4..) => return Err(Errno::INVAL),
            (Self::Made { now }, _) => {
                *now += STEP;
                now.saturating_sub(STEP)
            }
            (Self::Real { .. }, 0) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            // Monotonic, and the two of CPU time: a task has no other process or thread to tell itself from.
            (Self::Real { started }, _) => started.elapsed(),
        };
        Ok(nanos(time))
    }

    /// How fine the clock is, in ns.
    pub fn resolution(&self, clock: u32) -> Result<u64, Errno> {
        match (self, clock) {
            (_, 4..) => Err(Errno::INVAL),
            (Self::Made { .. }, _) => Ok(nanos(STEP)),
            (Self::Real { .. }, _) => Ok(1),
        }
    }

    /// Waits so long, but not beyond the end of the run. A made clock is moved instead.
    pub fn wait(&mut self, time: Duration, end: Option<Instant>) {
        match self {
            Self::Made { now } => *now = now.saturating_add(time),
            Self::Real { .. } => {
                let until = Instant::now().checked_add(time).into_iter().chain(end).min();
                // The alarm may end a wait early.
                while let Some(left) = until.map(|until| until.saturating_duration_since(Instant::now()))
                    && !left.is_zero()
                {
                    Channel::inherited().wait(left, false);
                }
            }
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A guest's random bytes.
pub enum Random {
    /// xorshift64*, as in JavaScript: plain, quick, and the same on every device.
    Made { state: u64 },
    /// Of the child's own source, which repeats itself in no run.
    Real(Rc<Chance>),
}

impl Random {
    pub fn new(real: bool, source: &Rc<Chance>) -> Self {
        if real { Self::Real(source.clone()) } else { Self::Made { state: SEED } }
    }

    /// Fills with random bytes.
    pub fn fill(&mut self, out: &mut [u8]) -> Result<(), Errno> {
        match self {
            Self::Made { state } => {
                for chunk in out.chunks_mut(8) {
                    *state ^= *state >> 12;
                    *state ^= *state << 25;
                    *state ^= *state >> 27;
                    let bytes = state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
                    chunk.copy_from_slice(&bytes[..chunk.len()]);
                }
                Ok(())
            }
            Self::Real(source) => {
                if source.fill(out) {
                    Ok(())
                } else {
                    Err(Errno::IO)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::chance, *};

    #[test]
    fn a_made_clock_moves_by_itself_only() {
        let mut clock = Clock::new(false);
        assert_eq!([clock.now(0), clock.now(1), clock.now(3)], [Ok(0), Ok(1_000_000), Ok(2_000_000)]);
        let started = Instant::now();
        clock.wait(Duration::from_secs(1_000), None);
        assert!(started.elapsed() < Duration::from_secs(1));
        assert_eq!(clock.now(0), Ok(1_000_003_000_000));
        assert_eq!((clock.now(4), clock.resolution(9)), (Err(Errno::INVAL), Err(Errno::INVAL)));
        clock.wait(Duration::MAX, None);
        assert_eq!(Clock::new(false).resolution(0), Ok(1_000_000));
    }

    #[test]
    fn a_real_wait_ends_with_the_run() {
        let mut clock = Clock::new(true);
        let started = Instant::now();
        clock.wait(Duration::from_secs(1_000), Some(started + Duration::from_millis(20)));
        assert!((Duration::from_millis(20)..Duration::from_secs(10)).contains(&started.elapsed()));
        assert!(clock.now(0).unwrap() > 1_600_000_000_000_000_000);
    }

    #[test]
    fn made_randomness_repeats_and_real_randomness_does_not() {
        chance::gather();
        let source = Rc::new(Chance::new());
        let fill = |real| {
            let mut out = [0; 20];
            Random::new(real, &source).fill(&mut out).unwrap();
            out
        };
        assert_eq!(fill(false), fill(false));
        assert_ne!(fill(true), fill(true));
    }
}
