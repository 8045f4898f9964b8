//! Every bound of a job, with its reason. *Judgement* marks a number that was chosen and not measured.

use std::time::Duration;

use msm_protocol::limits::{HEARTBEAT, LEASE_MIN, REMOTE_ATTEMPTS, TASK_TIME_MAX};

/// Local attempts of one task: a crash may be bad luck once.
pub const LOCAL_ATTEMPTS: u32 = 2;
/// Remote attempts of one task while this device takes no part in the job: there is nobody to fall back on.
pub const REMOTE_ATTEMPTS_ALONE: u32 = 2 * REMOTE_ATTEMPTS;
/// Workers that are asked about one task at most, where they have to agree or do not. *Judgement.*
pub const VOTES_MAX: u32 = 5;
/// Tasks that may wait for a second vote before workers start on others: bounds the outputs that are kept undecided.
/// *Judgement.*
pub const VOTES_WAITING: usize = 64;
/// All attempts of one task: those that brought nothing, those that run beside others, and those that answered, this
/// device's among them.
pub const ATTEMPTS_PER_TASK: u32 = REMOTE_ATTEMPTS_ALONE + LOCAL_ATTEMPTS + 2 * VOTES_MAX;
/// Workers of one job, those that have left included; a node holds no more connections.
pub const WORKERS: usize = 128;
/// Attempts that any worker may hold, whatever it or the configuration says: more than the cores of any lent device.
pub const CREDIT_MAX: u32 = 64;
/// A worker gets its next tasks so long before it needs them, beside the round trip: covers a requester that was busy
/// for a moment. *Judgement.*
pub const PREFETCH: Duration = Duration::from_millis(20);
/// Slots that a remote worker is believed to have, whatever it says (B72): no more than a device lends by default.
pub const SLOTS_BELIEVED: u32 = 4;
/// A remote worker that fails this often with no good result between is not used again in this job. *Judgement.*
pub const WORKER_FAULTS: u32 = 3;
/// The longest lease once tasks have finished: whatever their length, heartbeats come every second, and a silent worker
/// must be noticed within 8 s (B86, B91).
pub const LEASE_MAX: Duration = Duration::from_secs(8);
/// Time for an input to reach its worker, behind another one. Until an attempt is first named by a heartbeat, any
/// heartbeat of its worker renews its lease for as long as this. *Judgement.*
pub const DELIVERY: Duration = Duration::from_secs(30);
/// Heartbeats carry a remote attempt no further than this: one task that runs, one that waits behind it, the delivery.
pub const ATTEMPT_MAX: Duration = Duration::from_secs(2 * TASK_TIME_MAX.as_secs() + DELIVERY.as_secs());
/// A second attempt starts after this when no task has finished yet to compare with. *Judgement.*
pub const HEDGE_BLIND: Duration = Duration::from_secs(2);
/// An attempt is late when its own work takes this many times as long as its worker's speed promised. *Judgement.*
pub const HEDGE_LATE: f64 = 1.5;
/// A second attempt before the first is late must be expected to end this many times sooner, and [`HEDGE_MIN`].
/// *Judgement.*
pub const HEDGE_GAIN: f64 = 1.25;
/// No second attempt before this: sending it would cost more than it could save. *Judgement.*
pub const HEDGE_MIN: Duration = Duration::from_millis(50);
/// A worker that is slower than the others waits up to this many times longer before it makes a second attempt, and no
/// more: its own mean may rest on one odd measurement. *Judgement.*
pub const HEDGER_PATIENCE: u32 = 4;
/// When nothing runs and nothing can be handed out, workers have this long to come (back). *Judgement.*
pub const STALL: Duration = Duration::from_secs(10);
/// Back-off after the first `busy`; it doubles with each fault, and a random half is added or taken away so that
/// requesters that were refused together do not return together. *Judgement.*
pub const BUSY_PAUSE: Duration = Duration::from_millis(250);
/// When the driver comes this much later than it was asked to, this device was asleep and not its workers: each gets as
/// long to speak before leases end (B90). Two heartbeats.
pub const OVERSLEPT: Duration = Duration::from_secs(2 * HEARTBEAT.as_secs());
/// While anything runs the driver is asked to come this often, though nothing may end then: where only this device works
/// there are no leases, and a sleep would pass for the time of a task. *Judgement.*
pub const WATCH: Duration = LEASE_MIN;
