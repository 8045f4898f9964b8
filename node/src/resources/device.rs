//! `device.status`: the state of this device in words too coarse to tell one device from another.

use msm_protocol::device::Network;
use msm_sandbox::Answer;
use serde::Serialize;

use super::{DeviceState, Permit};
use crate::monitor::{Battery, Sample};

/// Charge below which a battery is low, and from which it is high. *Judgement.*
const LEVELS: (f64, f64) = (0.3, 0.7);

#[derive(Serialize)]
struct Status<'a> {
    battery: &'static str,
    network: &'static str,
    name: &'a str,
}

/// What a guest gets to know: `{"battery", "network", "name"}`. `name` is the owner's for the device, which every peer
/// sees anyway.
pub fn status(_: &Permit<DeviceState>, sample: &Sample, name: &str) -> Answer {
    let status = Status {
        battery: level(&sample.battery),
        network: match sample.network {
            Network::Off => "off",
            Network::Low => "low",
            Network::High => "high",
        },
        name,
    };
    // Three strings always serialise.
    Answer { json: serde_json::to_string(&status).unwrap_or_default(), ..Answer::default() }
}

fn level(battery: &Battery) -> &'static str {
    match battery.level {
        _ if battery.charging || !battery.present => "mains",
        level if level < LEVELS.0 => "low",
        level if level < LEVELS.1 => "medium",
        _ => "high",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_is_told_in_three_words() {
        let of = |level, charging| Battery { level, charging, present: true };
        for (battery, word) in [
            (Battery::MAINS, "mains"),
            (of(0.1, true), "mains"),
            (of(0.0, false), "low"),
            (of(0.29, false), "low"),
            (of(0.3, false), "medium"),
            (of(0.69, false), "medium"),
            (of(0.7, false), "high"),
            (of(1.0, false), "high"),
        ] {
            assert_eq!(level(&battery), word, "{battery:?}");
        }
    }
}
