//! The time of day where this device is, by the system's own rules for its place and its summer.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Local {
    /// 0..=23
    pub hour: u8,
    /// 0..=59
    pub minute: u8,
    /// 0..=60, since some minutes are longer.
    pub second: u8,
}

impl Local {
    /// Minutes since midnight by the clock on the wall.
    pub const fn minute_of_day(self) -> u16 {
        self.hour as u16 * 60 + self.minute as u16
    }
}

unsafe extern "C" {
    // POSIX; not in the libc crate for every system.
    fn tzset();
}

/// Unix seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

/// The time of day at a Unix time. Where the system knows no zone, that is UTC.
pub fn local(unix: u64) -> Local {
    let time = libc::time_t::try_from(unix).unwrap_or(libc::time_t::MAX);
    // SAFETY: an all-zero `tm` is a valid value; localtime_r fills it from a pointer to this stack or fails. tzset reads
    // the environment, which nothing in this program changes, and looks again at the zone's file: an owner who travels
    // need not start his node anew.
    let tm = unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        tzset();
        (!libc::localtime_r(&raw const time, &raw mut tm).is_null()).then_some(tm)
    };
    let part = |of: fn(&libc::tm) -> libc::c_int| tm.as_ref().and_then(|tm| u8::try_from(of(tm)).ok()).unwrap_or(0);
    Local { hour: part(|tm| tm.tm_hour), minute: part(|tm| tm.tm_min), second: part(|tm| tm.tm_sec) }
}

/// The time of day at a Unix time that is still to come, with the number of days when that is one or more.
pub fn told(unix: u64, now: u64) -> String {
    let there = local(unix);
    let time = format!("{:02}:{:02}", there.hour, there.minute);
    match unix.saturating_sub(now) / 86_400 {
        0 => time,
        1 => format!("{time}, more than a day from now"),
        days => format!("{time}, {days} days from now"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The zone is the process's, so each is asked of a process of its own: this test, run again.
    #[test]
    fn summer_and_winter_are_the_systems() {
        const ASKED: &str = "MSM_TEST_CLOCK";
        if let Ok(unix) = std::env::var(ASKED) {
            let Local { hour, minute, .. } = local(unix.parse().unwrap());
            eprintln!("local time {hour:02}:{minute:02}");
            return;
        }
        // A rule as POSIX writes it needs no files: an hour more from the last Sunday of March to that of October.
        let berlin = "CET-1CEST,M3.5.0,M10.5.0/3";
        for (zone, unix, expected) in [
            ("UTC", 1_800_000_000, "08:00"),
            (berlin, 1_800_000_000, "09:00"),
            // 2026-03-29: 01:59 is followed by 03:00.
            (berlin, 1_774_745_999, "01:59"),
            (berlin, 1_774_746_000, "03:00"),
            // 2026-10-25: 02:59 is followed by another 02:00.
            (berlin, 1_792_889_999_u64, "02:59"),
            (berlin, 1_792_890_000, "02:00"),
            ("<+0545>-5:45", 0, "05:45"),
        ] {
            let test = "clock::tests::summer_and_winter_are_the_systems";
            let mut again = std::process::Command::new(std::env::current_exe().unwrap());
            let output = again.args(["--exact", test, "--nocapture"]).env(ASKED, unix.to_string()).env("TZ", zone);
            let output = output.output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(text.contains(&format!("local time {expected}")), "{zone} {unix}: {text}");
        }
    }
}
