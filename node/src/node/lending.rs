//! Whether this device is lent now: the owner's limits in the order in which they are told, most lasting first.

use std::time::Duration;

use msm_protocol::{Refusal, RefusalCode};
use serde::{Deserialize, Serialize};

use crate::{
    clock,
    config::{OfferConfig, When},
    monitor::Battery,
};

/// Nobody has used the device for this long before it counts as idle. *Judgement*: longer than it takes to read a page.
pub const IDLE: Duration = Duration::from_secs(300);

/// The owner wants to lend nothing for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// Unix seconds; `None` for until he says so.
    pub until: Option<u64>,
}

impl Pause {
    /// Whether it still holds at `now`, Unix seconds.
    pub fn holds(self, now: u64) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// In words: until when.
    pub fn told(self, now: u64) -> String {
        self.until.map_or_else(|| "he says otherwise".to_owned(), |until| clock::told(until, now))
    }
}

/// What the decision depends on besides the settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Now {
    /// Unix seconds.
    pub unix: u64,
    /// Minutes since midnight by the clock on the wall.
    pub minute_of_day: u16,
    /// Since somebody last used the device; very long when nobody ever did.
    pub idle_for: Duration,
    /// The power supply.
    pub battery: Battery,
    /// What the owner said last.
    pub pause: Option<Pause>,
    /// A market is trusted.
    pub has_market: bool,
}

/// Whether tasks of others are taken, or why not.
pub fn lending(now: &Now, offer: &OfferConfig) -> Result<(), Refusal> {
    let refuse = |reason: String| Err(Refusal::new(RefusalCode::NotLending, reason));
    if !offer.enabled {
        return refuse("the owner lends nothing (offer.enabled = false)".into());
    }
    if let Some(pause) = now.pause.filter(|pause| pause.holds(now.unix)) {
        return refuse(format!("paused by its owner until {}", pause.told(now.unix)));
    }
    if let Some(hours) = offer.hours.filter(|hours| !hours.contains(now.minute_of_day)) {
        let (hour, minute) = (now.minute_of_day / 60, now.minute_of_day % 60);
        return refuse(format!("outside the hours {hours} (offer.hours), it is {hour:02}:{minute:02}"));
    }
    if offer.when == When::Idle && now.idle_for < IDLE {
        let (idle, wanted) = (now.idle_for.as_secs(), IDLE.as_secs());
        return refuse(format!("somebody used it {idle} s ago, {wanted} s without are wanted (offer.when = \"idle\")"));
    }
    let percent = now.battery.level * 100.0;
    if now.battery.present && !now.battery.charging && percent < f64::from(offer.battery_min) {
        return refuse(format!("battery {percent:.0} % < {} % (its owner's limit)", offer.battery_min));
    }
    if !now.has_market {
        return refuse("no market is trusted here".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const NOW: Now = Now {
        unix: 1_800_000_000,
        minute_of_day: 14 * 60 + 10,
        idle_for: Duration::MAX,
        battery: Battery::MAINS,
        pause: None,
        has_market: true,
    };

    fn offer(text: &str) -> OfferConfig {
        let text = format!("[offer]\n{text}");
        let path = std::path::Path::new("config.toml");
        Config::of_layers(Some((path, &text)), [], Default::default(), "attic").unwrap().offer
    }

    #[test]
    fn every_limit_of_the_owner_wins() {
        let battery = |level, charging| Battery { level, charging, present: true };
        let pause = |until| Some(Pause { until });
        let idle = |secs| Now { idle_for: Duration::from_secs(secs), ..NOW };
        let ok = "";
        for (settings, now, expected) in [
            ("", NOW, ok),
            ("enabled = false", NOW, "the owner lends nothing (offer.enabled = false)"),
            ("", Now { pause: pause(None), ..NOW }, "paused by its owner until he says otherwise"),
            ("", Now { pause: pause(Some(NOW.unix)), ..NOW }, ok),
            ("", Now { pause: pause(Some(NOW.unix - 1)), ..NOW }, ok),
            ("hours = \"22:00-07:00\"", NOW, "outside the hours 22:00-07:00 (offer.hours), it is 14:10"),
            ("hours = \"22:00-07:00\"", Now { minute_of_day: 7 * 60 - 1, ..NOW }, ok),
            ("hours = \"14:00-14:30\"", NOW, ok),
            ("hours = \"14:11-14:10\"", NOW, "outside the hours 14:11-14:10 (offer.hours), it is 14:10"),
            ("when = \"idle\"", NOW, ok),
            ("when = \"idle\"", idle(300), ok),
            (
                "when = \"idle\"",
                idle(299),
                "somebody used it 299 s ago, 300 s without are wanted (offer.when = \"idle\")",
            ),
            ("when = \"always\"", idle(0), ok),
            ("", Now { battery: battery(0.19, false), ..NOW }, "battery 19 % < 20 % (its owner's limit)"),
            ("", Now { battery: battery(0.19, true), ..NOW }, ok),
            ("battery-min = 10", Now { battery: battery(0.19, false), ..NOW }, ok),
            ("", Now { has_market: false, ..NOW }, "no market is trusted here"),
            // What lasts longest is told, when several hold.
            ("enabled = false\nhours = \"22:00-07:00\"", idle(0), "the owner lends nothing (offer.enabled = false)"),
            (
                "hours = \"22:00-07:00\"\nwhen = \"idle\"",
                idle(0),
                "outside the hours 22:00-07:00 (offer.hours), it is 14:10",
            ),
        ] {
            let told = match lending(&now, &offer(settings)) {
                Ok(()) => String::new(),
                Err(refusal) => {
                    assert_eq!(refusal.code, RefusalCode::NotLending);
                    refusal.reason
                }
            };
            assert_eq!(told, expected, "{settings} {now:?}");
        }
        let soon = Now { pause: pause(Some(NOW.unix + 3_600)), ..NOW };
        let told = lending(&soon, &offer("")).unwrap_err().reason;
        assert_eq!(told, format!("paused by its owner until {}", clock::told(NOW.unix + 3_600, NOW.unix)));
    }
}
