//! What is wrong with this device, home and network, each with the line that would change it.

mod home;
mod machine;
mod network;

use msm_sandbox::{Sandbox, SandboxConfig, Walls};
use serde::{Deserialize, Serialize};

use crate::{
    config::{Config, RawConfig},
    home::Home,
};

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// A node works, but less well or with less protection.
    Warn,
    /// A node does not start, or does not do its work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What: `home`, `identity`, `multicast eth0`, …
    pub name: String,
    /// How it went.
    pub status: CheckStatus,
    /// What was found, with the number.
    pub detail: String,
    /// A line to type that would change it.
    #[serde(rename = "try", default, skip_serializing_if = "Option::is_none")]
    pub try_line: Option<String>,
}

impl Check {
    fn new(name: impl Into<String>, status: CheckStatus, detail: impl Into<String>) -> Self {
        Self { name: name.into(), status, detail: detail.into(), try_line: None }
    }

    fn ok(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, CheckStatus::Ok, detail)
    }

    fn warn(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, CheckStatus::Warn, detail)
    }

    fn fail(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, CheckStatus::Fail, detail)
    }

    fn or_try(mut self, line: impl Into<String>) -> Self {
        self.try_line = Some(line.into());
        self
    }

    fn or_try_first(mut self, lines: Vec<String>) -> Self {
        self.try_line = lines.into_iter().next();
        self
    }
}

/// All checks, as `msm doctor --json` prints them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "schema", rename = "msm.doctor/1")]
pub struct Report {
    /// True when nothing failed.
    pub ok: bool,
    /// In the order to read them: what the others rest on comes first.
    pub checks: Vec<Check>,
}

impl Report {
    /// The most serious outcome.
    pub fn worst(&self) -> CheckStatus {
        self.checks.iter().map(|check| check.status).max().unwrap_or(CheckStatus::Ok)
    }
}

/// Looks at everything: starts one sandbox child, and sends one small packet to this machine itself on each interface.
/// Takes up to about a second for each interface that does not work.
pub async fn report(home: &Home) -> Report {
    let walls = Sandbox::new(SandboxConfig { warm: 0, ..SandboxConfig::default() })
        .map(|sandbox| sandbox.walls())
        .map_err(|error| error.to_string());
    let home = home.clone();
    let checks = tokio::task::spawn_blocking(move || checks(&home, walls)).await;
    let checks = checks.unwrap_or_else(|error| vec![Check::fail("doctor", format!("the checks broke off: {error}"))]);
    let ok = checks.iter().all(|check| check.status < CheckStatus::Fail);
    Report { ok, checks }
}

/// All checks; `walls` are those of a sandbox child on this machine, or why there is none. Blocks.
pub fn checks(home: &Home, walls: Result<Walls, String>) -> Vec<Check> {
    let mut checks = home::folder(home);
    checks.push(home::identity(home));
    let config = Config::load(home, RawConfig::default());
    checks.push(home::config(home, config.as_ref()));
    checks.extend(home::markets(home));
    checks.push(home::grants(home));
    let (node, running) = home::node(home);
    checks.push(node);
    checks.push(home::clock(home));
    checks.extend(machine::walls(walls));
    checks.extend(machine::system());
    // With settings that cannot be read, the network is looked at as it would be by default.
    let config = config.unwrap_or_default();
    checks.extend(network::ports(&config, running));
    checks.extend(network::multicast(&config));
    checks.extend(network::gpsd(&config));
    checks
}

#[cfg(test)]
mod tests {
    use msm_sandbox::Wall;

    use super::*;

    pub(super) fn walls() -> Walls {
        let up = || Wall::Up("yes".into());
        Walls { no_new_privs: up(), landlock: up(), seccomp: up(), rlimits: up(), fds: up(), parent: up() }
    }

    #[test]
    fn a_fresh_home_has_no_failed_check_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        home.identity().unwrap();
        let checks = checks(&home, Ok(walls()));
        for name in ["home", "identity", "config", "markets", "node", "clock", "sandbox landlock", "descriptors"] {
            let check = checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no check {name}"));
            assert!(check.status < CheckStatus::Fail, "{check:?}");
        }
    }

    #[test]
    fn the_report_is_the_documented_json() {
        let checks = vec![Check::ok("home", "fine"), Check::warn("node", "none runs").or_try("msm node")];
        let report = Report { ok: true, checks };
        let json = serde_json::json!({"schema": "msm.doctor/1", "ok": true, "checks": [
            {"name": "home", "status": "ok", "detail": "fine"},
            {"name": "node", "status": "warn", "detail": "none runs", "try": "msm node"},
        ]});
        assert_eq!(serde_json::to_value(&report).unwrap(), json);
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
        assert_eq!(report.worst(), CheckStatus::Warn);
    }
}
