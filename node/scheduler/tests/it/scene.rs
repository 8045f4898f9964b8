//! What a simulated world is made of: a job, this device, and others with their habits.

use std::time::Duration;

use msm_protocol::limits::CREDIT;
use msm_scheduler::{
    OnLoss,
    job::{ATTEMPT_MAX, ATTEMPTS_PER_TASK, STALL},
};

use crate::rng::Rng;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// What is wrong with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    Steady,
    /// 50 times slower than it looks.
    Slow,
    /// Its connection closes and it never returns.
    Dies,
    /// Like `Dies`, but nobody notices the connection.
    DiesUnnoticed,
    /// Dies and returns, again and again.
    Flaps,
    /// What it sends does not arrive any more.
    Mute,
    /// Like `Mute`, for some seconds.
    MuteAwhile,
    /// SIGSTOP and SIGCONT: works and speaks again after some seconds.
    Freezes,
    /// Answers twice, the second time much later.
    Doubles,
    /// Half of its attempts fail.
    Fails,
    /// Forgets some attempts but goes on speaking.
    Forgets,
    /// Says that it works and never finishes.
    Hogs,
    /// Claims results of attempts that it was never given.
    Lies,
}

impl Habit {
    pub const ALL: [Self; 13] = [
        Self::Steady,
        Self::Slow,
        Self::Dies,
        Self::DiesUnnoticed,
        Self::Flaps,
        Self::Mute,
        Self::MuteAwhile,
        Self::Freezes,
        Self::Doubles,
        Self::Fails,
        Self::Forgets,
        Self::Hogs,
        Self::Lies,
    ];
}

/// A world to simulate.
#[derive(Debug, Clone)]
pub struct Scene {
    pub tasks: u32,
    pub on_loss: OnLoss,
    pub credit: u32,
    /// Cores that this device lends; `None` when it takes no part.
    pub local: Option<u32>,
    /// Percent of local attempts that crash.
    pub local_crashes: u64,
    /// Time of a task on this device, and on others.
    pub local_time: Duration,
    pub remote_time: Duration,
    pub remotes: Vec<Habit>,
    /// On this task the guest fails everywhere.
    pub poison: Option<u32>,
    /// When this device falls asleep, and for how long.
    pub sleep: Option<(Duration, Duration)>,
}

impl Scene {
    /// A world drawn by lot.
    pub fn draw(rng: &mut Rng) -> Self {
        let tasks = match rng.range(0..20) {
            0 => 1,
            1 => rng.range(200..400) as u32,
            _ => rng.range(2..64) as u32,
        };
        let on_loss = match rng.range(0..6) {
            0 => OnLoss::Local,
            1 => OnLoss::Partial,
            _ => OnLoss::Remote,
        };
        let remotes = (0..rng.range(0..7)).map(|_| match rng.chance(25) {
            true => Habit::Steady,
            false => Habit::ALL[rng.range(0..Habit::ALL.len() as u64) as usize],
        });
        Self {
            tasks,
            on_loss,
            remotes: remotes.collect(),
            credit: if rng.chance(30) { rng.range(1..9) as u32 } else { CREDIT },
            local: (!rng.chance(15)).then(|| rng.range(1..5) as u32),
            local_crashes: if rng.chance(10) { 10 } else { 0 },
            local_time: rng.ms(20..2_000),
            remote_time: rng.ms(20..2_000),
            poison: rng.chance(4).then(|| rng.range(0..u64::from(tasks)) as u32),
            sleep: rng.chance(8).then(|| (rng.ms(0..8_000), rng.ms(2_500..600_000))),
        }
    }

    /// This device works and never crashes, so that nothing but a failing guest can stop a job.
    pub fn sound_at_home(&self) -> bool {
        self.local.is_some() && self.local_crashes == 0 && self.on_loss != OnLoss::Partial
    }

    /// When the job must be over.
    pub fn deadline(&self) -> Duration {
        let asleep = self.sleep.map_or(Duration::ZERO, |(_, time)| time);
        let alone = self.local_time * self.tasks.div_ceil(self.local.unwrap_or(1)) * 13 / 10;
        if self.sound_at_home() {
            // Never much slower than alone: what others hold is noticed within leases, then done here.
            return alone + self.local_time * 4 + 20 * S + asleep;
        }
        let slowness = if self.remotes.contains(&Habit::Slow) { 50 } else { 1 };
        let slow = (self.remote_time * slowness).max(self.local_time).min(ATTEMPT_MAX) * 2;
        slow * self.tasks * ATTEMPTS_PER_TASK + ATTEMPT_MAX * 10 + STALL + asleep
    }
}

/// A tame world to compare times in: `remotes` steady devices as fast as this one.
pub fn tame(tasks: u32, remotes: Vec<Habit>) -> Scene {
    Scene {
        tasks,
        on_loss: OnLoss::Remote,
        credit: CREDIT,
        local: Some(1),
        local_crashes: 0,
        local_time: 500 * MS,
        remote_time: 500 * MS,
        remotes,
        poison: None,
        sleep: None,
    }
}
