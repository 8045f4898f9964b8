//! Who is told which position, and how often: pure, with the time and the receiver's state passed in.
//!
//! A coarse position must stay one however often and by however many it is asked for. So it is the centre of a cell; the
//! cell is one for all callers and is left only when that is clear; and a caller gets a new answer only every ten minutes,
//! until then the old one as it was, with its growing age. Many answers then say no more than one.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use msm_protocol::PeerId;
use msm_sandbox::{AskError, AskErrorKind};
use serde::{Deserialize, Serialize};

use super::cell::Cell;
use crate::{
    monitor::{Fix, Receiver, Signal},
    resources::words::{Caller, Kin, Precision},
};

/// A caller gets a new coarse position this often: 144 a day.
pub const INTERVAL: Duration = Duration::from_secs(600);
/// How old a position may be when the question does not say: one interval, and half of one for the receiver. *Judgement.*
pub const MAX_AGE: Duration = Duration::from_secs(900);
/// Callers remembered: more than can call in an interval. A stranger beyond them is refused rather than another one
/// forgotten, who could then ask again at once. *Judgement.*
pub const CALLERS: usize = 1_024;
/// The time of a coarse position is told in these steps, in seconds. *Judgement.*
const TIME_STEP: u64 = 10;
/// The error of a coarse position is told in these steps, in metres: the receiver's own, which is part of it, says something
/// about the place too. *Judgement.*
const ERROR_STEP: f64 = 100.0;

/// A moment on both clocks: the steady one for ages, the other for what is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) at: Instant,
    /// Unix seconds.
    pub(super) unix: u64,
}

/// What a guest asks for.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Query {
    /// Seconds that the position may be old.
    max_age: Option<f64>,
    /// Metres that it may be off.
    accuracy: Option<f64>,
}

impl Query {
    /// Reads `{"maxAge"?, "accuracy"?}`; nothing at all means anything goes.
    pub(super) fn read(body: &[u8]) -> Result<Self, LocationError> {
        if matches!(body.trim_ascii(), b"" | b"null") {
            return Ok(Self::default());
        }
        let query: Self = serde_json::from_slice(body).map_err(|error| {
            // The first line alone: the rest may repeat what came in.
            LocationError::Usage(error.to_string().lines().next().unwrap_or_default().chars().take(120).collect())
        })?;
        match query {
            Self { max_age: Some(seconds), .. } if seconds < 0.0 => {
                Err(LocationError::Usage(format!("maxAge is {seconds} s, it must be 0 or more")))
            }
            Self { accuracy: Some(metres), .. } if metres <= 0.0 => {
                Err(LocationError::Usage(format!("accuracy is {metres} m, it must be more than 0")))
            }
            query => Ok(query),
        }
    }

    fn max_age(&self) -> f64 {
        self.max_age.unwrap_or(MAX_AGE.as_secs_f64())
    }
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Position {
    /// Degrees.
    pub(super) lat: f64,
    pub(super) lon: f64,
    /// Metres above the ellipsoid; never in a coarse one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) alt: Option<f64>,
    /// Metres that it may be off.
    pub(super) accuracy: f64,
    /// When it was so, Unix seconds.
    pub(super) time: u64,
    /// How many seconds ago that was.
    pub(super) age: u64,
    /// Who knew it.
    pub(super) source: &'static str,
}

/// The only source so far.
const SOURCE: &str = "gpsd";

/// Why a guest does not get to know the position.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LocationError {
    /// The question makes no sense.
    #[error("gps.position: {0}")]
    Usage(String),
    /// It is not known, and why.
    #[error("gps.position: this device does not know where it is: {0}")]
    Unknown(Signal),
    /// What is known is too old.
    #[error("gps.position: the position is {age} s old, at most {wanted} s were asked for ({signal})")]
    Old {
        /// Of the newest, seconds.
        age: u64,
        /// Seconds.
        wanted: f64,
        /// How it stands with the receiver.
        signal: Signal,
    },
    /// What this caller was told is too old, and it is too early for more.
    #[error(
        "gps.position: a coarse position changes every {} s at most; the last one is {age} s old, {wanted} s were asked \
         for; try again in {wait} s",
        INTERVAL.as_secs()
    )]
    TooSoon {
        /// Of the last answer, seconds.
        age: u64,
        /// Seconds.
        wanted: f64,
        /// Until there may be a new one, seconds.
        wait: u64,
    },
    /// Only a coarse position may be told.
    #[error(
        "gps.position: this job may know the position to {radius} m (coarse), {wanted} m were asked for; more needs \
         gps = \"precise\" under [permissions], and a grant of it"
    )]
    Coarse {
        /// Metres.
        radius: f64,
        /// Metres.
        wanted: f64,
    },
    /// The receiver knows no better.
    #[error("gps.position: the receiver knows the position to {accuracy:.0} m, {wanted} m were asked for")]
    Vague {
        /// Metres.
        accuracy: f64,
        /// Metres.
        wanted: f64,
    },
    /// Too many others asked.
    #[error("gps.position: {CALLERS} others were told the position in the last {} s; try again later", INTERVAL.as_secs())]
    Crowded,
}

impl From<LocationError> for AskError {
    fn from(error: LocationError) -> Self {
        let kind = match error {
            LocationError::Usage(_) => AskErrorKind::Usage,
            LocationError::Coarse { .. } => AskErrorKind::Denied,
            LocationError::TooSoon { .. } | LocationError::Crowded => AskErrorKind::Limit,
            LocationError::Unknown(_) | LocationError::Old { .. } | LocationError::Vague { .. } => AskErrorKind::Failed,
        };
        Self::new(kind, error.to_string())
    }
}

/// What one caller was told.
#[derive(Debug, Clone, Copy)]
struct Told {
    position: Position,
    at: Instant,
}

impl Told {
    /// Seconds until there may be a new answer; `None` when there may.
    fn wait(&self, now: Instant) -> Option<u64> {
        let left = INTERVAL.checked_sub(now.saturating_duration_since(self.at)).filter(|left| !left.is_zero())?;
        Some(left.as_secs() + u64::from(left.subsec_nanos() > 0))
    }

    /// The same answer, as old as it is now by the steady clock.
    fn again(&self, now: Instant) -> Position {
        let since = now.saturating_duration_since(self.at).as_secs();
        Position { age: self.position.age + since, ..self.position }
    }
}

/// Who was told what.
#[derive(Debug, Default)]
pub(super) struct Policy {
    /// The cell that this device is said to be in. One for all callers: whoever takes many names learns no more than one.
    cell: Option<Cell>,
    /// At most [`CALLERS`], and the owner.
    told: HashMap<PeerId, Told>,
}

impl Policy {
    /// The answer for `caller` at `now`.
    pub(super) fn tell(
        &mut self,
        caller: Caller,
        precision: Precision,
        query: &Query,
        receiver: &Receiver,
        now: Moment,
    ) -> Result<Position, LocationError> {
        match precision {
            Precision::Precise => precise(query, receiver, now),
            Precision::Coarse => self.coarse(caller, query, receiver, now),
        }
    }

    fn coarse(
        &mut self,
        caller: Caller,
        query: &Query,
        receiver: &Receiver,
        now: Moment,
    ) -> Result<Position, LocationError> {
        if let Some(told) = self.told.get(&caller.peer)
            && let Some(wait) = told.wait(now.at)
        {
            let position = told.again(now.at);
            check_accuracy(query, &position)?;
            if position.age as f64 > query.max_age() {
                return Err(LocationError::TooSoon { age: position.age, wanted: query.max_age(), wait });
            }
            return Ok(position);
        }
        let fix = receiver.fix.ok_or(LocationError::Unknown(receiver.signal))?;
        self.make_room(caller, now.at)?;
        let cell = match self.cell {
            Some(cell) if !cell.is_left_by(fix.lat, fix.lon) => cell,
            _ => Cell::at(fix.lat, fix.lon),
        };
        let (lat, lon) = cell.centre();
        let seen = now.unix.saturating_sub(fix.age(now.at).as_secs());
        let time = seen - seen % TIME_STEP;
        let accuracy = ((cell.radius() + fix.accuracy) / ERROR_STEP).ceil() * ERROR_STEP;
        let position = Position { lat, lon, alt: None, accuracy, time, age: now.unix - time, source: SOURCE };
        check_accuracy(query, &position)?;
        check_age(query, position.age, receiver)?;
        self.cell = Some(cell);
        self.told.insert(caller.peer, Told { position, at: now.at });
        Ok(position)
    }

    /// Forgets whose interval is over, when there is no room for one more.
    fn make_room(&mut self, caller: Caller, now: Instant) -> Result<(), LocationError> {
        if self.told.len() >= CALLERS {
            self.told.retain(|_, told| told.wait(now).is_some());
        }
        // The owner never stands behind strangers.
        if self.told.len() >= CALLERS && caller.kin != Kin::Own {
            return Err(LocationError::Crowded);
        }
        Ok(())
    }
}

fn precise(query: &Query, receiver: &Receiver, now: Moment) -> Result<Position, LocationError> {
    let fix @ Fix { lat, lon, alt, accuracy, .. } = receiver.fix.ok_or(LocationError::Unknown(receiver.signal))?;
    let age = fix.age(now.at).as_secs();
    let position = Position { lat, lon, alt, accuracy, time: now.unix.saturating_sub(age), age, source: SOURCE };
    check_age(query, age, receiver)?;
    match query.accuracy {
        Some(wanted) if accuracy > wanted => Err(LocationError::Vague { accuracy, wanted }),
        _ => Ok(position),
    }
}

fn check_age(query: &Query, age: u64, receiver: &Receiver) -> Result<(), LocationError> {
    if age as f64 > query.max_age() {
        return Err(LocationError::Old { age, wanted: query.max_age(), signal: receiver.signal });
    }
    Ok(())
}

fn check_accuracy(query: &Query, coarse: &Position) -> Result<(), LocationError> {
    match query.accuracy {
        Some(wanted) if coarse.accuracy > wanted => Err(LocationError::Coarse { radius: coarse.accuracy, wanted }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
