//! Checks of the home: folder, key, settings, markets, a running node, and the clock that dates them.

use std::{
    fs,
    os::unix::net::UnixStream,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use msm_protocol::{PeerId, limits::CLOCK_SKEW};

use super::Check;
use crate::{
    command::CommandError,
    config::{Config, ConfigError},
    floors::Floors,
    home::{Home, HomeError, files},
    store::StoreLimits,
};

/// A clock before this is not set: the program is younger (1 November 2026).
const NOT_BEFORE: Duration = Duration::from_secs(1_793_491_200);
/// A clock after this is not set either (1 January 2100).
const NOT_AFTER: Duration = Duration::from_secs(4_102_444_800);

const MIB: u64 = 1 << 20;

/// The folder can be written to and has room. Who owns it was checked when the home was opened.
pub(super) fn folder(home: &Home) -> Vec<Check> {
    let folder = home.folder();
    let probe = folder.join("doctor.probe");
    let written = files::replace(&probe, b"msm doctor\n").and_then(|()| files::remove(&probe));
    let check = match written {
        Ok(_) => Check::ok("home", folder.display().to_string()),
        Err(error) => Check::fail("home", error.to_string()).or_try_first(error.tries()),
    };
    let disk = rustix::fs::statvfs(folder).ok().map(|disk| {
        let (free, total) = (disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize));
        room(free, StoreLimits::default().must_stay_free(total))
    });
    [Some(check), disk].into_iter().flatten().collect()
}

fn room(free: u64, minimum: u64) -> Check {
    let detail = format!("{} MiB free, at least {} MiB stay free", free / MIB, minimum / MIB);
    if free > minimum {
        Check::ok("disk", detail)
    } else {
        Check::warn("disk", format!("disk-full: {detail}: nothing new is stored"))
    }
}

/// The node's key can be used.
pub(super) fn identity(home: &Home) -> Check {
    match home.read_identity() {
        Ok(Some(key)) => Check::ok("identity", PeerId::of(&key.public()).to_string()),
        Ok(None) => Check::ok("identity", "none yet; made when a node starts"),
        Err(error) => failed("identity", &error),
    }
}

fn failed(name: &str, error: &HomeError) -> Check {
    Check::fail(name, error.to_string()).or_try_first(error.tries())
}

/// The settings can be read.
pub(super) fn config(home: &Home, config: Result<&Config, &ConfigError>) -> Check {
    let path = home.config_file();
    match config {
        Err(error) => Check::fail("config", error.to_string()),
        Ok(config) if !config.warnings.is_empty() => Check::warn("config", config.warnings.join("; ")),
        Ok(_) if path.exists() => Check::ok("config", path.display().to_string()),
        Ok(_) => Check::ok("config", format!("defaults (no {})", path.display())),
    }
}

/// What is granted can be read: a node that cannot read it does not start.
pub(super) fn grants(home: &Home) -> Check {
    match home.grants() {
        Err(error) => failed("grants", &error),
        Ok(grants) => match grants.entries().len() {
            0 => Check::ok("grants", "none: services use nothing of this device"),
            count => Check::ok("grants", format!("{count} (msm grants)")),
        },
    }
}

/// Markets are trusted, and what was trusted of them is known.
pub(super) fn markets(home: &Home) -> Vec<Check> {
    let markets = match home.markets() {
        Ok(markets) => markets,
        Err(error) => return vec![failed("markets", &error)],
    };
    if markets.entries().is_empty() {
        let check = Check::warn("markets", "no market is trusted: no service runs here, and nothing is lent");
        return vec![check.or_try("msm market add msm:market:FINGERPRINT")];
    }
    let names: Vec<&str> = markets.entries().iter().map(|entry| entry.alias.as_str()).collect();
    let mut checks = vec![Check::ok("markets", names.join(", "))];
    let floors = match Floors::open(&home.floors_dir()) {
        Ok(floors) => floors,
        Err(error) => return vec![Check::fail("floors", error.to_string())],
    };
    for entry in markets.entries() {
        if let Err(error) = floors.check(entry.market).map_err(CommandError::from) {
            let check = Check::fail(format!("floor {}", entry.alias), error.message);
            checks.push(check.or_try_first(error.r#try));
        }
    }
    checks
}

/// Whether a node runs on this home; the flag says so to later checks.
pub(super) fn node(home: &Home) -> (Check, bool) {
    let socket = home.control_socket();
    if UnixStream::connect(socket).is_ok() {
        return (Check::ok("node", format!("runs, and listens at {}", socket.display())), true);
    }
    match home.lock() {
        Ok(_lock) => (Check::ok("node", "none runs on this home"), false),
        Err(HomeError::AlreadyRunning { pid, .. }) => {
            let who = pid.map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"));
            let detail = format!("{who} uses this home but does not listen at {}", socket.display());
            let check = Check::warn("node", detail);
            (pid.into_iter().fold(check, |check, pid| check.or_try(format!("kill {pid}"))), true)
        }
        Err(error) => (failed("node", &error), false),
    }
}

/// The clock is believable: expiry of markets is judged by it.
pub(super) fn clock(home: &Home) -> Check {
    let newest = [home.identity_key(), home.markets_file(), home.floors_dir(), home.store_dir()]
        .iter()
        .filter_map(|path| fs::metadata(path).and_then(|meta| meta.modified()).ok())
        .max();
    judge_clock(SystemTime::now(), newest)
}

fn judge_clock(now: SystemTime, newest_file: Option<SystemTime>) -> Check {
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    if !(NOT_BEFORE..NOT_AFTER).contains(&since_epoch) {
        let detail = format!("clock-suspect: {} s since 1970: the clock is not set", since_epoch.as_secs());
        return Check::fail("clock", detail).or_try("timedatectl set-ntp true");
    }
    let ahead = newest_file.and_then(|file| file.duration_since(now).ok()).unwrap_or_default();
    if ahead > CLOCK_SKEW {
        let detail = format!("clock-suspect: files of this home are {} s newer than now", ahead.as_secs());
        return Check::warn("clock", detail).or_try("timedatectl set-ntp true");
    }
    Check::ok("clock", utc(since_epoch.as_secs()))
}

/// A date and time as RFC 3339 writes it. Days to date: counted in eras of 400 years that begin on a 1 March.
fn utc(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    // Months counted from March: the leap day is the last day of such a year.
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next_year;
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::PermissionsExt, net::UnixListener};

    use msm_protocol::MarketId;

    use super::{super::CheckStatus, *};
    use crate::home::MarketEntry;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        (dir, home)
    }

    #[test]
    fn b55_an_exposed_key_fails_with_the_line_that_closes_it() {
        let (_dir, home) = home();
        assert_eq!(identity(&home).status, CheckStatus::Ok);
        home.identity().unwrap();
        fs::set_permissions(home.identity_key(), fs::Permissions::from_mode(0o644)).unwrap();
        let check = identity(&home);
        assert_eq!(check.status, CheckStatus::Fail);
        assert_eq!(check.try_line, Some(format!("chmod 600 {}", home.identity_key().display())));
    }

    #[test]
    fn a_node_that_runs_hangs_or_is_absent_is_told_apart() {
        let (_dir, home) = home();
        assert_eq!(node(&home), (Check::ok("node", "none runs on this home"), false));
        let lock = home.lock().unwrap();
        let (check, running) = node(&home);
        assert_eq!((check.status, running), (CheckStatus::Warn, true));
        assert_eq!(check.try_line, Some(format!("kill {}", std::process::id())));
        let _listener = UnixListener::bind(home.control_socket()).unwrap();
        let (check, running) = node(&home);
        assert_eq!((check.status, running), (CheckStatus::Ok, true));
        drop(lock);
    }

    #[test]
    fn a_lost_floor_is_found() {
        let (_dir, home) = home();
        assert_eq!(markets(&home)[0].status, CheckStatus::Warn);
        let market = MarketId::from_bytes([3; 32]);
        let entry = MarketEntry { alias: "home".into(), market, source: None, publish_folder: None, added: 0 };
        home.update_markets(|markets| markets.add(entry).map_err(HomeError::from)).unwrap();
        Floors::open(&home.floors_dir()).unwrap().save(market, b"7").unwrap();
        assert_eq!(markets(&home), [Check::ok("markets", "home")]);
        for file in fs::read_dir(home.floors_dir()).unwrap() {
            fs::write(file.unwrap().path(), b"").unwrap();
        }
        let check = markets(&home).remove(1);
        assert_eq!((check.name.as_str(), check.status), ("floor home", CheckStatus::Fail));
        assert!(check.detail.starts_with("floor-unreadable"), "{}", check.detail);
    }

    #[test]
    fn clocks_that_cannot_be_right_are_noticed() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let now = 1_800_000_000;
        for (now, newest, expected) in [
            (now, None, CheckStatus::Ok),
            (now, Some(now - 5), CheckStatus::Ok),
            (now, Some(now + 60), CheckStatus::Ok),
            (now, Some(now + 3_600), CheckStatus::Warn),
            (0, None, CheckStatus::Fail),
            (9_000_000_000, None, CheckStatus::Fail),
        ] {
            assert_eq!(judge_clock(at(now), newest.map(at)).status, expected, "{now} {newest:?}");
        }
    }

    #[test]
    fn dates_are_those_of_date_u() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_795_372_854, "2026-11-22T18:40:54Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), expected);
        }
    }

    #[test]
    fn little_room_is_a_warning_with_numbers() {
        assert_eq!(room(200 * MIB, 64 * MIB), Check::ok("disk", "200 MiB free, at least 64 MiB stay free"));
        assert_eq!(room(64 * MIB, 64 * MIB).status, CheckStatus::Warn);
    }

    #[test]
    fn wrong_settings_fail_with_their_line() {
        let (_dir, home) = home();
        fs::write(home.config_file(), "[offer]\ncpu = 1\n").unwrap();
        let read = Config::load(&home, Default::default());
        let check = config(&home, read.as_ref());
        assert_eq!(check.status, CheckStatus::Fail);
        assert!(check.detail.contains("config.toml:2: offer.cpu"), "{}", check.detail);
    }
}
