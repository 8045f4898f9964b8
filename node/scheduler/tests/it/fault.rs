//! What can go wrong in a simulated world, and the lot that draws it.

use std::time::Duration;

use crate::rng::Rng;

const S: Duration = Duration::from_secs(1);

/// One thing that goes wrong. Times are since the start of the job; `on` is the number of a device or of the link to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    // ---- The network -----------------------------------------------------------------------------------------------
    /// Percent of its messages are held up by a lost packet.
    Loss {
        on: usize,
        percent: u64,
    },
    Delay {
        on: usize,
        by: Duration,
    },
    Jitter {
        on: usize,
        by: Duration,
    },
    SlowLink {
        on: usize,
        bytes_per_s: u64,
    },
    /// A cable is pulled, or a firewall drops one direction only.
    Cut {
        on: usize,
        at: Duration,
        lasts: Duration,
        up: bool,
        down: bool,
    },
    /// A second on, a second off, so many times.
    Flaps {
        on: usize,
        at: Duration,
        times: u32,
    },

    // ---- Devices ---------------------------------------------------------------------------------------------------
    /// So many times slower than the others.
    Slow {
        on: usize,
        times: u32,
    },
    /// As fast as the others, then cut to 5 % of its speed.
    SlowsDown {
        on: usize,
        at: Duration,
    },
    /// What it sends does not arrive any more, though its connection stays.
    Silent {
        on: usize,
        at: Duration,
    },
    /// Says that it works and never finishes.
    Hogs {
        on: usize,
    },
    /// SIGSTOP and SIGCONT.
    Freezes {
        on: usize,
        at: Duration,
        lasts: Duration,
    },
    /// `back`: the process comes again after that time. `noticed`: its connection closes.
    Crashes {
        on: usize,
        at: Duration,
        back: Option<Duration>,
        noticed: bool,
    },
    /// Forgets a third of its attempts and goes on speaking.
    Forgets {
        on: usize,
    },
    /// Answers again, later.
    Doubles {
        on: usize,
    },
    /// Half of its attempts fail.
    Fails {
        on: usize,
    },
    /// Wrong outputs, signed: this percentage. `plot`: the same wrong bytes as every other plotter's.
    Lies {
        on: usize,
        percent: u64,
        plot: bool,
    },
    /// Wrong outputs, this percentage, for which it never signs: it leaves soon after, and comes again.
    Flees {
        on: usize,
        percent: u64,
    },
    /// Claims results of attempts that it was never given.
    Forges {
        on: usize,
        at: Duration,
    },
    /// Claims a credit that it cannot use.
    Boasts {
        on: usize,
    },

    // ---- The requester ---------------------------------------------------------------------------------------------
    /// Suspended; its clock goes on meanwhile (`counted`) or stands still.
    Sleeps {
        at: Duration,
        lasts: Duration,
        counted: bool,
    },
    /// Its clock alone is suddenly later.
    ClockJumps {
        at: Duration,
        by: Duration,
    },
    /// `kill -9`, and started again on its journal, whose last line may not have reached the disk.
    Dies {
        at: Duration,
        down: Duration,
        last_line_lost: bool,
    },
    /// Percent of its own attempts crash.
    CrashesAtHome {
        percent: u64,
    },
}

impl Fault {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Loss { .. } => "loss",
            Self::Delay { .. } => "delay",
            Self::Jitter { .. } => "jitter",
            Self::SlowLink { .. } => "slow link",
            Self::Cut { up: true, down: true, .. } => "cut",
            Self::Cut { up: true, .. } => "cut upwards",
            Self::Cut { .. } => "cut downwards",
            Self::Flaps { .. } => "flapping",
            Self::Slow { .. } => "slow",
            Self::SlowsDown { .. } => "slows down",
            Self::Silent { .. } => "silent",
            Self::Hogs { .. } => "hogs",
            Self::Freezes { .. } => "freezes",
            Self::Crashes { back: None, .. } => "crashes",
            Self::Crashes { .. } => "crashes and returns",
            Self::Forgets { .. } => "forgets",
            Self::Doubles { .. } => "doubles",
            Self::Fails { .. } => "fails",
            Self::Lies { plot: false, .. } => "lies",
            Self::Lies { .. } => "plots",
            Self::Flees { .. } => "flees",
            Self::Forges { .. } => "forges",
            Self::Boasts { .. } => "boasts",
            Self::Sleeps { counted: true, .. } => "requester sleeps",
            Self::Sleeps { .. } => "requester stands still",
            Self::ClockJumps { .. } => "clock jumps",
            Self::Dies { .. } => "requester dies",
            Self::CrashesAtHome { .. } => "crashes at home",
        }
    }

    /// Names of all kinds, for the test that each of them is drawn and happens.
    pub const NAMES: [&str; 28] = [
        "loss",
        "delay",
        "jitter",
        "slow link",
        "cut",
        "cut upwards",
        "cut downwards",
        "flapping",
        "slow",
        "slows down",
        "silent",
        "hogs",
        "freezes",
        "crashes",
        "crashes and returns",
        "forgets",
        "doubles",
        "fails",
        "lies",
        "plots",
        "flees",
        "forges",
        "boasts",
        "requester sleeps",
        "requester stands still",
        "clock jumps",
        "requester dies",
        "crashes at home",
    ];

    /// A fault by lot among `devices` (at least one), in the first `span` of the job.
    pub fn draw(rng: &mut Rng, devices: usize, span: Duration) -> Self {
        let on = rng.range(0..devices as u64) as usize;
        let at = Duration::from_micros(rng.range(0..span.as_micros().max(1) as u64));
        let lasts = if rng.chance(50) { rng.ms(200..6_000) } else { rng.ms(6_000..20_000) };
        let (both, up) = (rng.chance(50), rng.chance(50));
        match rng.range(0..26) {
            0 => Self::Loss { on, percent: rng.range(5..50) },
            1 => Self::Delay { on, by: rng.ms(50..1_500) },
            2 => Self::Jitter { on, by: rng.ms(50..1_000) },
            3 => Self::SlowLink { on, bytes_per_s: rng.range(8_000..400_000) },
            4 | 5 => Self::Cut { on, at, lasts, up: both || up, down: both || !up },
            6 => Self::Flaps { on, at, times: rng.range(2..30) as u32 },
            7 => Self::Slow { on, times: rng.range(3..60) as u32 },
            8 => Self::SlowsDown { on, at },
            9 => Self::Silent { on, at },
            10 => Self::Hogs { on },
            11 => Self::Freezes { on, at, lasts },
            12 | 13 => Self::Crashes { on, at, back: both.then_some(lasts), noticed: up },
            14 => Self::Forgets { on },
            15 => Self::Doubles { on },
            16 => Self::Fails { on },
            17 | 18 => Self::Lies { on, percent: [10, 50, 100][rng.range(0..3) as usize], plot: up },
            19 => Self::Forges { on, at },
            20 => Self::Boasts { on },
            21 => Self::Sleeps { at, lasts: if both { lasts } else { lasts * 30 }, counted: up },
            22 => Self::ClockJumps { at, by: if both { lasts } else { 10 * 24 * 3_600 * S } },
            23 => Self::Dies { at, down: lasts / 4, last_line_lost: up },
            24 => Self::Flees { on, percent: [10, 50, 100][rng.range(0..3) as usize] },
            _ => Self::CrashesAtHome { percent: 10 },
        }
    }

    /// The device that it concerns.
    pub fn on(&self) -> Option<usize> {
        match self {
            Self::Loss { on, .. }
            | Self::Delay { on, .. }
            | Self::Jitter { on, .. }
            | Self::SlowLink { on, .. }
            | Self::Cut { on, .. }
            | Self::Flaps { on, .. }
            | Self::Slow { on, .. }
            | Self::SlowsDown { on, .. }
            | Self::Silent { on, .. }
            | Self::Hogs { on }
            | Self::Freezes { on, .. }
            | Self::Crashes { on, .. }
            | Self::Forgets { on }
            | Self::Doubles { on }
            | Self::Fails { on }
            | Self::Lies { on, .. }
            | Self::Flees { on, .. }
            | Self::Forges { on, .. }
            | Self::Boasts { on } => Some(*on),
            _ => None,
        }
    }

    /// Time that this fault alone can take from a job.
    pub fn lasts(&self) -> Duration {
        match self {
            Self::Cut { lasts, .. } | Self::Freezes { lasts, .. } | Self::Sleeps { lasts, .. } => *lasts,
            Self::Flaps { times, .. } => S * 2 * *times,
            Self::Dies { down, .. } => *down,
            Self::Crashes { back: Some(back), .. } => *back,
            _ => Duration::ZERO,
        }
    }
}
