//! Values of `[offer]` that say when a device is lent.

use std::{fmt, str::FromStr};

use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

use super::{BadValue, bad};

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// A part of every day by the clock on the wall, such as `22:00-07:00`. The first minute belongs to it, the last does
/// not. Where the clock is put forward or back, it means what the wall says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    from: u16,
    to: u16,
}

impl Hours {
    /// Whether a minute of the day, counted from midnight, belongs to it.
    pub const fn contains(self, minute_of_day: u16) -> bool {
        if self.from < self.to {
            self.from <= minute_of_day && minute_of_day < self.to
        } else {
            self.from <= minute_of_day || minute_of_day < self.to
        }
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}-{:02}:{:02}", self.from / 60, self.from % 60, self.to / 60, self.to % 60)
    }
}

/// `"always"`, or [`Hours`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfferHours(Option<Hours>);

impl FromStr for OfferHours {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        if text == "always" {
            return Ok(Self(None));
        }
        let digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        let minute = |time: &str| {
            let (hour, minute) = time.trim().split_once(':').filter(|(hour, minute)| digits(hour) && digits(minute))?;
            let (hour, minute) = (hour.parse::<u16>().ok()?, minute.parse::<u16>().ok()?);
            (minute < 60 && hour * 60 + minute <= DAY).then_some(hour * 60 + minute)
        };
        let read = text.split_once('-').and_then(|(from, to)| {
            let (from, to) = (minute(from)?, minute(to)?);
            // Two equal times could mean never or always.
            (from < DAY && from != to).then_some(Hours { from, to })
        });
        read.map(|hours| Self(Some(hours))).ok_or_else(|| bad(text, Self::EXPECTED))
    }
}

impl From<OfferHours> for Option<Hours> {
    fn from(hours: OfferHours) -> Self {
        hours.0
    }
}

read_from_text!(OfferHours, "\"always\" or hours such as \"22:00-07:00\"");

/// Whether the owner's own use of the device matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum When {
    /// It is lent while he uses it too.
    #[default]
    Always,
    /// It is lent when nobody has used it for a while.
    Idle,
}

impl FromStr for When {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text {
            "always" => Ok(Self::Always),
            "idle" => Ok(Self::Idle),
            _ => Err(bad(text, Self::EXPECTED)),
        }
    }
}

read_from_text!(When, "\"always\" or \"idle\"");

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(text: &str) -> Hours {
        Option::from(text.parse::<OfferHours>().unwrap()).unwrap()
    }

    #[test]
    fn hours_go_over_midnight() {
        let at = |hour: u16, minute: u16| hour * 60 + minute;
        for (text, minute, expected) in [
            ("22:00-07:00", at(22, 0), true),
            ("22:00-07:00", at(23, 59), true),
            ("22:00-07:00", at(0, 0), true),
            ("22:00-07:00", at(6, 59), true),
            ("22:00-07:00", at(7, 0), false),
            ("22:00-07:00", at(21, 59), false),
            ("09:30-17:00", at(9, 29), false),
            ("09:30-17:00", at(9, 30), true),
            ("09:30-17:00", at(16, 59), true),
            ("09:30-17:00", at(17, 0), false),
            ("18:00-24:00", at(23, 59), true),
            ("18:00-24:00", at(0, 0), false),
            ("18:00-00:00", at(23, 59), true),
            ("18:00-00:00", at(0, 0), false),
        ] {
            assert_eq!(hours(text).contains(minute), expected, "{text} at minute {minute}");
        }
        assert_eq!(hours("22:00-07:05").to_string(), "22:00-07:05");
        assert_eq!(hours("22:00 - 07:05").to_string(), "22:00-07:05");
    }

    #[test]
    fn each_kind_takes_what_it_says() {
        assert_eq!(Option::<Hours>::from("always".parse::<OfferHours>().unwrap()), None);
        for text in
            ["", "never", "22-7", "22:00", "22:00-22:00", "25:00-07:00", "22:60-07:00", "2:00-07:00", "24:00-07:00"]
        {
            let error = text.parse::<OfferHours>().unwrap_err().to_string();
            assert_eq!(error, format!("{text:?} is not \"always\" or hours such as \"22:00-07:00\""));
        }
        assert_eq!(["always", "idle"].map(|text| text.parse::<When>().unwrap()), [When::Always, When::Idle]);
        assert_eq!("never".parse::<When>().unwrap_err().to_string(), "\"never\" is not \"always\" or \"idle\"");
    }
}
