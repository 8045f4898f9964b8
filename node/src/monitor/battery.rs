//! Where the power comes from: the batteries of the device, or the mains.

use std::{fs, path::PathBuf};

use starship_battery::{Manager, State};

use super::Roots;

/// The power supply.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Battery {
    /// Charge, 0..1; 1 without a battery.
    pub level: f64,
    /// True when the charge does not fall: charging, full, held, or no battery at all.
    pub charging: bool,
    /// There is a battery.
    pub present: bool,
}

impl Battery {
    /// A device without a battery.
    pub const MAINS: Self = Self { level: 1.0, charging: true, present: false };

    /// Several batteries as one: charge weighted by capacity, charging unless one is drained.
    fn of(cells: impl IntoIterator<Item = Cell>, mains: bool) -> Self {
        let (mut charge, mut capacity, mut drained) = (0.0, 0.0, false);
        for cell in cells {
            let weight = if cell.capacity.is_finite() && cell.capacity > 0.0 { cell.capacity } else { 1.0 };
            let level = if cell.level.is_finite() { cell.level.clamp(0.0, 1.0) } else { 0.0 };
            charge += level * weight;
            capacity += weight;
            drained |= match cell.state {
                State::Charging | State::Full | State::Paused => false,
                State::Discharging | State::Empty => true,
                // Firmware that holds the charge at a limit often says that it does not know.
                State::Unknown => !mains,
            };
        }
        if capacity == 0.0 {
            return Self::MAINS;
        }
        Self { level: charge / capacity, charging: !drained, present: true }
    }
}

/// One battery as the system tells it.
#[derive(Debug, Clone, Copy)]
struct Cell {
    /// 0..1
    level: f64,
    /// Full charge, joules.
    capacity: f64,
    state: State,
}

/// Reads the batteries.
#[derive(Debug)]
pub(super) struct Batteries {
    manager: Option<Manager>,
    supplies: PathBuf,
}

impl Batteries {
    pub(super) fn new(roots: &Roots) -> Self {
        Self { manager: Manager::new().ok(), supplies: roots.sys.join("class/power_supply") }
    }

    /// The power supply now. Blocks on firmware, at times for tens of milliseconds.
    pub(super) fn read(&self) -> Battery {
        // Without the folder there are no batteries.
        let batteries = self.manager.as_ref().and_then(|manager| manager.batteries().ok());
        let cells = batteries.into_iter().flatten().filter_map(|battery| {
            let battery = battery.inspect_err(|error| tracing::debug!(%error, "battery not readable")).ok()?;
            Some(Cell {
                level: f64::from(battery.state_of_charge().value),
                capacity: f64::from(battery.energy_full().value),
                state: battery.state(),
            })
        });
        Battery::of(cells, self.mains())
    }

    /// True when a charger is plugged in.
    fn mains(&self) -> bool {
        let supplies = fs::read_dir(&self.supplies).into_iter().flatten().flatten();
        supplies.map(|supply| supply.path()).any(|supply| {
            let is =
                |file: &str, value: &str| fs::read_to_string(supply.join(file)).is_ok_and(|text| text.trim() == value);
            (is("type", "Mains") || is("type", "USB")) && is("online", "1")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batteries_count_by_their_size() {
        let cell = |level, capacity, state| Cell { level, capacity, state };
        let battery = |level, charging| Battery { level, charging, present: true };
        for (cells, mains, expected) in [
            (vec![], false, Battery::MAINS),
            (vec![cell(0.41, 50.0, State::Discharging)], false, battery(0.41, false)),
            (vec![cell(1.0, 30.0, State::Full), cell(0.5, 10.0, State::Charging)], true, battery(0.875, true)),
            (vec![cell(1.0, 30.0, State::Full), cell(0.5, 10.0, State::Discharging)], false, battery(0.875, false)),
            (vec![cell(0.8, 30.0, State::Paused)], true, battery(0.8, true)),
            (vec![cell(0.8, 30.0, State::Unknown)], true, battery(0.8, true)),
            (vec![cell(0.8, 30.0, State::Unknown)], false, battery(0.8, false)),
            (vec![cell(1.7, 30.0, State::Full)], true, battery(1.0, true)),
            (vec![cell(f64::NAN, f64::NAN, State::Full)], true, battery(0.0, true)),
        ] {
            assert_eq!(Battery::of(cells.clone(), mains), expected, "{cells:?}");
        }
    }

    #[test]
    fn a_charger_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let batteries = Batteries::new(&Roots { proc: dir.path().into(), sys: dir.path().into(), ..Roots::default() });
        assert!(!batteries.mains());
        let supply = dir.path().join("class/power_supply/AC");
        fs::create_dir_all(&supply).unwrap();
        fs::write(supply.join("type"), "Mains\n").unwrap();
        for (online, expected) in [("0\n", false), ("1\n", true)] {
            fs::write(supply.join("online"), online).unwrap();
            assert_eq!(batteries.mains(), expected);
        }
    }

    /// A laptop's files in the place of this machine's, read by the same code.
    #[test]
    fn a_battery_in_sysfs_is_read() {
        let setup =
            "mount -t tmpfs none /sys/class && mkdir -p /sys/class/power_supply/BAT0 /sys/class/power_supply/MOUSE";
        if !crate::own_mounts::inside("monitor::battery::tests::a_battery_in_sysfs_is_read", setup) {
            return;
        }
        let write = |name: &str, value: &str| {
            fs::write(format!("/sys/class/power_supply/{name}"), format!("{value}\n")).unwrap();
        };
        let batteries = Batteries::new(&Roots::default());
        assert_eq!(batteries.read(), Battery::MAINS);
        for (name, value) in [
            ("type", "Battery"),
            ("status", "Discharging"),
            ("energy_now", "20500000"),
            ("energy_full", "50000000"),
            ("energy_full_design", "57000000"),
            ("power_now", "8000000"),
            ("voltage_now", "11400000"),
            ("voltage_min_design", "11100000"),
        ] {
            write(&format!("BAT0/{name}"), value);
        }
        // A mouse's battery is not the device's.
        write("MOUSE/type", "Battery");
        write("MOUSE/scope", "Device");
        let near = |battery: Battery, level: f64| (battery.level - level).abs() < 0.01 && battery.present;
        let battery = batteries.read();
        assert!(near(battery, 0.41) && !battery.charging, "{battery:?}");
        write("BAT0/status", "Charging");
        write("BAT0/energy_now", "25000000");
        let battery = batteries.read();
        assert!(near(battery, 0.5) && battery.charging, "{battery:?}");
        // Files that make no sense are no battery, and no panic.
        write("BAT0/energy_now", "many");
        write("BAT0/energy_full", "-1");
        let battery = batteries.read();
        assert!((0.0..=1.0).contains(&battery.level), "{battery:?}");
    }
}
