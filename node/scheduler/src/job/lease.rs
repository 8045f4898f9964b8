//! Leases: heartbeats renew them, silence ends them, and the time in which this device slept does not count.

use std::time::Duration;

use msm_protocol::{job::AttemptRef, limits::LEASE_MIN};

use super::{
    ATTEMPT_MAX, DELIVERY, JobState, LEASE_MAX, OVERSLEPT, Output, STALL, Worker, attempt, attempt_mut,
    member::Presence,
};

impl JobState {
    pub(super) fn heartbeat(&mut self, worker: Worker, attempts: &[AttemptRef]) {
        self.hear(worker);
        let Some(member) = self.members.get(&worker) else { return };
        for held in member.held() {
            let lease_ends = self.now + self.lease(held.weight);
            let Some(attempt) = attempt_mut(&mut self.tasks, held.attempt) else { continue };
            let named = attempts.contains(&held.attempt);
            attempt.named |= named;
            let carried_to = match (named, attempt.named) {
                (true, _) => attempt.started + ATTEMPT_MAX,
                (false, false) => attempt.started + DELIVERY,
                // The worker knew of it and does not work on it any more.
                (false, true) => continue,
            };
            if let Some(end) = &mut attempt.lease_ends {
                *end = (*end).max(lease_ends.min(carried_to));
            }
        }
    }

    /// Moves the clock. Time in which this device itself was not there to listen does not count, and leases wait for
    /// their workers to speak again.
    pub(super) fn wake(&mut self, now: Duration) {
        let mut now = now.saturating_sub(self.asleep).max(self.now);
        let stalled = self.stuck_since.map_or(Duration::MAX, |since| since + STALL);
        let overslept = |due: Duration| now > due.saturating_add(OVERSLEPT);
        if overslept(stalled)
            || overslept(self.watch)
            || (overslept(self.lease_floor) && self.leases().min().is_some_and(overslept))
        {
            self.asleep += now - self.now;
            now = self.now;
            let held: Vec<AttemptRef> = self.members.values().flat_map(|member| member.attempts()).collect();
            for which in held {
                let end = attempt_mut(&mut self.tasks, which).and_then(|attempt| attempt.lease_ends.as_mut());
                if let Some(end) = end {
                    *end = (*end).max(now + OVERSLEPT);
                }
            }
        }
        self.now = now;
    }

    /// Ends leases. A worker that said nothing for a whole lease is lost with all that it holds; of one that speaks only
    /// the attempt that it no longer names.
    pub(super) fn expire(&mut self) {
        let now = self.now;
        // Leases only ever grow: before the floor none can have ended.
        if now < self.lease_floor {
            return;
        }
        let over =
            |held: &AttemptRef| attempt(&self.tasks, *held).is_some_and(|a| a.lease_ends.is_some_and(|end| end <= now));
        let late: Vec<(Worker, Vec<AttemptRef>)> = self
            .members
            .values()
            .map(|m| (m.worker, m.attempts().into_iter().filter(over).collect::<Vec<_>>()))
            .filter(|(_, ended)| !ended.is_empty())
            .collect();
        for (worker, mut ended) in late {
            if self.over {
                return;
            }
            let Some(member) = self.members.get_mut(&worker) else { continue };
            let quiet = now.saturating_sub(member.heard);
            let silent = quiet >= LEASE_MIN;
            if silent {
                member.presence = Presence::Silent;
                ended = member.attempts();
            }
            self.outputs.extend(ended.iter().map(|attempt| Output::Cancel { worker, attempt: *attempt }));
            if silent {
                self.lose(worker, &ended, format!("silent for {} s", quiet.as_secs()));
            } else {
                self.fault(worker, &ended);
            }
        }
        self.lease_floor = self.leases().min().unwrap_or(Duration::MAX);
    }

    /// The lease of an attempt of this weight, by how long others took.
    pub(super) fn lease(&self, weight: u64) -> Duration {
        let Some(p95) = self.times.percentile(95) else { return self.config.lease };
        Duration::try_from_secs_f64(2.0 * p95 * weight as f64).unwrap_or(LEASE_MAX).clamp(LEASE_MIN, LEASE_MAX)
    }

    fn leases(&self) -> impl Iterator<Item = Duration> {
        let held = self.members.values().flat_map(|member| member.held());
        held.filter_map(|held| attempt(&self.tasks, held.attempt)?.lease_ends)
    }
}
