//! What a device says about itself ([`DeviceInfo`]) and what a job asks of one ([`Requirements`]).

use serde::{Deserialize, Serialize};

use crate::{MarketId, limits::DEVICE_LIST};

/// A device's network class (the paper's values), worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// No connection to the internet.
    Off,
    /// A slow or metered link.
    Low,
    /// A fast link.
    High,
}

/// The answer to a discovery message. Its JSON view without `ext` is exactly the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// Format version, 1.
    pub v: u8,
    /// Execution quality score without the network factor: 100 x speed x mean(cpu, mem, battery), 0..300.
    #[serde(rename = "EQS")]
    pub eqs: f64,
    /// More than the paper's four.
    pub ext: DeviceExt,
    /// Has a position.
    pub gps: bool,
    /// Network class.
    pub network: Network,
    /// Takes tasks now.
    pub availability: bool,
}

/// MSM's extension of the paper's DeviceInfo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceExt {
    /// Share of the CPU that is free, 0..1.
    pub cpu: f64,
    /// Share of the memory that is free, 0..1.
    pub mem: f64,
    /// The owner's name for the device, at most 64 characters.
    pub name: String,
    /// CPU cores lent.
    pub cores: u16,
    /// Tasks that can start now.
    pub slots: u16,
    /// Single-core speed relative to the reference, 0.1..3.
    pub speed: f64,
    /// Battery charge, 0..1; mains counts as 1.
    pub battery: f64,
    /// Engines, such as `js`; at most [`DEVICE_LIST`].
    pub engines: Vec<String>,
    /// Markets whose services it runs; at most [`DEVICE_LIST`].
    pub markets: Vec<MarketId>,
}

/// Bounds of the measured speed in a score.
pub const SPEED_RANGE: (f64, f64) = (0.1, 3.0);

impl DeviceInfo {
    /// Forces every number from a stranger into its range and every list under its cap (B17).
    pub fn clamped(mut self) -> Self {
        let clamp = |value: f64, low: f64, high: f64| if value.is_finite() { value.clamp(low, high) } else { low };
        self.eqs = clamp(self.eqs, 0.0, 100.0 * SPEED_RANGE.1);
        self.ext.cpu = clamp(self.ext.cpu, 0.0, 1.0);
        self.ext.mem = clamp(self.ext.mem, 0.0, 1.0);
        self.ext.battery = clamp(self.ext.battery, 0.0, 1.0);
        self.ext.speed = clamp(self.ext.speed, SPEED_RANGE.0, SPEED_RANGE.1);
        self.ext.name = self.ext.name.chars().filter(|c| !c.is_control()).take(64).collect();
        self.ext.engines.truncate(DEVICE_LIST);
        self.ext.markets.truncate(DEVICE_LIST);
        self
    }
}

/// What one job asks of each device, after the application's wishes were fitted into the manifest's ranges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Requirements {
    /// Smallest EQS, 0..300; 0 for any. Workers compare it with the score without network factor.
    pub eqs: f64,
    /// A position source is needed.
    pub gps: bool,
    /// Smallest battery charge, percent.
    pub battery: u8,
    /// Smallest network class, absent for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
}

impl Requirements {
    /// Why `device` does not fit, or `None` when it does. `eqs` is the score to compare: with or without the network
    /// factor, as the asker knows it.
    pub fn unmet_by(&self, device: &DeviceInfo, eqs: f64) -> Option<String> {
        let battery = device.ext.battery * 100.0;
        if self.gps && !device.gps {
            return Some("no position source (gps is required)".into());
        }
        if battery < f64::from(self.battery) {
            return Some(format!("battery {battery:.0} % < {} %", self.battery));
        }
        if eqs < self.eqs {
            return Some(format!("EQS {eqs:.0} < {:.0}", self.eqs));
        }
        match self.network {
            Some(need) if device.network < need => {
                Some(format!("network {:?} < {need:?}", device.network).to_lowercase())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbor;

    pub(crate) fn device() -> DeviceInfo {
        DeviceInfo {
            v: 1,
            eqs: 88.0,
            ext: DeviceExt {
                cpu: 0.9,
                mem: 0.8,
                name: "attic".into(),
                cores: 4,
                slots: 4,
                speed: 1.0,
                battery: 1.0,
                engines: vec!["js".into()],
                markets: vec![],
            },
            gps: false,
            network: Network::High,
            availability: true,
        }
    }

    #[test]
    fn json_view_is_the_papers() {
        let mut json = serde_json::to_value(device()).unwrap();
        let object = json.as_object_mut().unwrap();
        object.remove("ext");
        object.remove("v");
        assert_eq!(json, serde_json::json!({"availability": true, "gps": false, "network": "high", "EQS": 88.0}));
    }

    /// B17: what is not a number is refused by the decoder; what is out of range is clamped.
    #[test]
    fn b17_odd_floats_are_refused_or_clamped() {
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let bytes = cbor4ii::serde::to_vec(Vec::new(), &DeviceInfo { eqs: odd, ..device() }).unwrap();
            assert!(cbor::from_slice::<DeviceInfo>(&bytes, 16_384).is_err());
        }
        for (odd, clamped) in [(-0.0, 0.0), (1e308, 300.0), (-5.0, 0.0), (f64::NAN, 0.0)] {
            assert_eq!(DeviceInfo { eqs: odd, ..device() }.clamped().eqs, clamped);
        }
    }

    #[test]
    fn unmet_requirements_say_the_number() {
        let any = Requirements { gps: false, eqs: 0.0, battery: 0, network: None };
        assert_eq!(any.unmet_by(&device(), 88.0), None);
        let cases = [
            (Requirements { gps: true, ..any.clone() }, "no position source (gps is required)"),
            (Requirements { eqs: 95.0, ..any.clone() }, "EQS 88 < 95"),
            (Requirements { battery: 50, ..any.clone() }, "battery 41 % < 50 %"),
            (Requirements { network: Some(Network::High), ..any }, "network low < high"),
        ];
        let mut weak = device();
        weak.ext.battery = 0.41;
        weak.network = Network::Low;
        for (requirements, expected) in cases {
            assert_eq!(requirements.unmet_by(&weak, 88.0).as_deref(), Some(expected));
        }
    }
}
