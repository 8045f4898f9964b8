//! What a simulated world is made of: a job, this device, others, and what goes wrong with them.

use std::{collections::BTreeSet, time::Duration};

use msm_scheduler::{
    OnLoss, Redundancy,
    job::{ATTEMPT_MAX, ATTEMPTS_PER_TASK, CREDIT_MAX, OVERSLEPT, STALL},
};

use crate::{fault::Fault, rng::Rng};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// A world to simulate.
#[derive(Debug, Clone)]
pub struct Scene {
    pub tasks: u32,
    /// Relative sizes; empty when all are equal.
    pub weights: Vec<u64>,
    pub redundancy: Redundancy,
    pub on_loss: OnLoss,
    pub credit: u32,
    /// Cores that this device lends; `None` when it takes no part.
    pub local: Option<u32>,
    /// Time of a task on this device, and on others.
    pub local_time: Duration,
    pub remote_time: Duration,
    /// Bytes of a task's input, and of its output.
    pub bytes: u64,
    pub devices: usize,
    pub faults: Vec<Fault>,
    /// Right answers of every device before this job.
    pub known: u32,
    /// On this task the guest fails everywhere.
    pub poison: Option<u32>,
}

impl Scene {
    /// A world drawn by lot.
    pub fn draw(rng: &mut Rng) -> Self {
        let tasks = match rng.range(0..40) {
            0 => 1,
            1 => rng.range(100..200) as u32,
            _ => rng.range(6..50) as u32,
        };
        let on_loss = match rng.range(0..6) {
            0 => OnLoss::Local,
            1 => OnLoss::Partial,
            _ => OnLoss::Remote,
        };
        let devices = rng.range(1..6) as usize;
        let mut scene = Self {
            tasks,
            weights: if rng.chance(30) { (0..tasks).map(|_| rng.range(1..8)).collect() } else { vec![] },
            redundancy: match rng.range(0..10) {
                0 => Redundancy::None,
                1..4 => {
                    let agree = rng.range(2..4) as u32;
                    Redundancy::Agree { agree, of: agree + rng.range(0..3) as u32 }
                }
                _ => Redundancy::Spot,
            },
            on_loss,
            credit: if rng.chance(30) { rng.range(1..9) as u32 } else { CREDIT_MAX },
            local: (!rng.chance(15)).then(|| rng.range(1..3) as u32),
            local_time: rng.ms(50..2_000),
            remote_time: rng.ms(20..1_000),
            bytes: if rng.chance(80) { rng.range(100..20_000) } else { rng.range(20_000..300_000) },
            devices,
            faults: vec![],
            known: if rng.chance(30) { 50 } else { 0 },
            poison: rng.chance(3).then(|| rng.range(0..u64::from(tasks)) as u32),
        };
        let span = scene.undisturbed() * 3 / 4;
        let faults = rng.range(7..12);
        scene.faults = (0..faults).map(|_| Fault::draw(rng, devices, span)).collect();
        scene
    }

    /// About the time of this job when nothing goes wrong.
    fn undisturbed(&self) -> Duration {
        let (local, remote) = (self.local_time.as_secs_f64(), self.remote_time.as_secs_f64());
        let rate = f64::from(self.local.unwrap_or(0)) / local + self.devices as f64 / remote;
        Duration::from_secs_f64(f64::from(self.tasks) / rate)
    }

    pub fn has(&self, which: impl Fn(&Fault) -> bool) -> bool {
        self.faults.iter().any(which)
    }

    /// Devices that tell the same lies.
    pub fn plotters(&self) -> u32 {
        let plots = |fault: &&Fault| matches!(fault, Fault::Lies { plot: true, .. });
        let devices: BTreeSet<usize> = self.faults.iter().filter(plots).filter_map(Fault::on).collect();
        devices.len() as u32
    }

    pub fn has_liars(&self) -> bool {
        self.has(|fault| matches!(fault, Fault::Lies { .. } | Fault::Flees { .. } | Fault::Forges { .. }))
    }

    /// Time of a task on a device that takes `each` for one of middle size.
    pub fn time_of(&self, task: u32, each: Duration) -> Duration {
        match self.weights.get(task as usize) {
            Some(weight) => each * *weight as u32 * self.tasks / self.weights.iter().sum::<u64>().max(1) as u32,
            None => each,
        }
    }

    /// This device works and never crashes, so that nothing but a failing guest can stop a job.
    pub fn sound_at_home(&self) -> bool {
        let crashes = self.has(|fault| matches!(fault, Fault::CrashesAtHome { .. }));
        self.local.is_some() && !crashes && self.on_loss != OnLoss::Partial
    }

    /// Its clock skips about as long as a job waits for its first worker, too little to pass for sleep: from the job's
    /// own sight nobody came.
    pub fn skips_the_wait(&self) -> bool {
        let skips = self.faults.iter().filter_map(|fault| match fault {
            Fault::ClockJumps { by, .. } => Some(*by),
            Fault::Sleeps { lasts, counted: true, .. } => Some(*lasts),
            _ => None,
        });
        skips.filter(|skip| *skip <= STALL + 2 * OVERSLEPT).sum::<Duration>() >= STALL - S
    }

    /// When the job must be over.
    pub fn deadline(&self) -> Duration {
        let troubles: Duration = self.faults.iter().map(Fault::lasts).sum();
        let deaths = self.faults.iter().filter(|fault| matches!(fault, Fault::Dies { .. })).count() as u32;
        (1 + deaths) * self.deadline_of_one_life() + troubles
    }

    fn deadline_of_one_life(&self) -> Duration {
        if self.sound_at_home() {
            // Never much slower than alone: what others hold is noticed within leases, then done here.
            let alone = self.local_time * self.tasks.div_ceil(self.local.unwrap_or(1)) * 13 / 10;
            return alone + self.local_time * 4 + 20 * S;
        }
        let slowness = self.faults.iter().map(|fault| match fault {
            Fault::Slow { times, .. } => *times,
            Fault::SlowsDown { .. } => 20,
            _ => 1,
        });
        let slow = (self.remote_time * slowness.max().unwrap_or(1)).max(self.local_time).min(ATTEMPT_MAX) * 2;
        slow * self.tasks * ATTEMPTS_PER_TASK + ATTEMPT_MAX * 10 + STALL
    }
}

/// A tame world to compare times in: devices as fast as this one.
pub fn tame(tasks: u32, devices: usize, faults: Vec<Fault>) -> Scene {
    Scene {
        tasks,
        weights: vec![],
        redundancy: Redundancy::Spot,
        on_loss: OnLoss::Remote,
        credit: CREDIT_MAX,
        local: Some(1),
        local_time: 500 * MS,
        remote_time: 500 * MS,
        bytes: 1_000,
        devices,
        faults,
        known: 0,
        poison: None,
    }
}
