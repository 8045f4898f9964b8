//! `gps.position`: where the device is, as exactly as was agreed.
//!
//! [`cell`] is the grid that coarse positions are told by, [`policy`] who is told what and how often; both are pure.

mod cell;
mod policy;

use std::{
    sync::{Mutex, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use msm_sandbox::{Answer, AskError};

pub use self::policy::{CALLERS, INTERVAL, LocationError, MAX_AGE};
use self::policy::{Moment, Policy, Query};
use super::{Gps, Permit};
use crate::monitor::Monitor;

/// What all questions for the position share: who was told what, and when.
#[derive(Debug, Default)]
pub struct Locator(Mutex<Policy>);

/// Answers what `body`, the guest's JSON, asks for, at `now`. It never waits: what is not known is refused.
pub async fn position(
    permit: &Permit<Gps>,
    locator: &Locator,
    monitor: &Monitor,
    body: &[u8],
    now: SystemTime,
) -> Result<Answer, AskError> {
    let query = Query::read(body)?;
    let unix = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let receiver = monitor.position();
    let mut policy = locator.0.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Moment { at: Instant::now(), unix };
    let position = policy.tell(permit.caller(), permit.precision(), &query, &receiver, now)?;
    // Numbers that were checked always serialise.
    Ok(Answer { json: serde_json::to_string(&position).unwrap_or_default(), ..Answer::default() })
}
