//! Checks of the machine: the sandbox's walls, the system, and its limits.

use msm_sandbox::Walls;
use rustix::process::{Resource, getrlimit};

use super::Check;

/// Open files that a node with all its connections (128), streams and sandbox children needs, with room to spare.
/// *Judgement.*
const DESCRIPTORS: u64 = 1_024;

/// Which walls stand between a guest and this machine.
pub(super) fn walls(walls: Result<Walls, String>) -> Vec<Check> {
    let walls = match walls {
        Ok(walls) => walls,
        Err(why) => return vec![Check::fail("sandbox", format!("no guest can run: {why}"))],
    };
    let mut checks: Vec<Check> = walls
        .iter()
        .map(|(name, wall)| {
            let name = format!("sandbox {}", name.as_str());
            if wall.is_up() { Check::ok(name, wall.detail()) } else { Check::warn(name, wall.detail()) }
        })
        .collect();
    if let Some(missing) = walls.missing() {
        let detail = format!("guests are held by too few walls: {missing}");
        checks.push(Check::fail("sandbox", detail).or_try("msm node --no-offer"));
    }
    checks
}

/// What this machine is, and how many files a process may open.
pub(super) fn system() -> Vec<Check> {
    let kernel = sysinfo::System::long_os_version().unwrap_or_else(|_| std::env::consts::OS.into());
    let version = sysinfo::System::kernel_version().unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let detail = format!("{kernel}, kernel {version}, {}, {cores} cores", std::env::consts::ARCH);
    vec![Check::ok("system", detail), descriptors(getrlimit(Resource::Nofile).current)]
}

/// `limit` is absent when there is none.
fn descriptors(limit: Option<u64>) -> Check {
    match limit {
        Some(limit) if limit < DESCRIPTORS => {
            let detail = format!("{limit} open files allowed; a busy node needs up to {DESCRIPTORS}");
            Check::warn("descriptors", detail).or_try(format!("ulimit -n {DESCRIPTORS}"))
        }
        Some(limit) => Check::ok("descriptors", format!("{limit} open files allowed")),
        None => Check::ok("descriptors", "any number of open files allowed"),
    }
}

#[cfg(test)]
mod tests {
    use msm_sandbox::Wall;

    use super::{
        super::{CheckStatus, tests::walls as all_up},
        *,
    };

    fn worst(walls: Walls) -> CheckStatus {
        super::walls(Ok(walls)).iter().map(|check| check.status).max().unwrap()
    }

    #[test]
    fn a_missing_wall_warns_and_too_few_fail() {
        let down = || Wall::Down("not in this kernel".into());
        assert_eq!(worst(all_up()), CheckStatus::Ok);
        assert_eq!(worst(Walls { landlock: down(), ..all_up() }), CheckStatus::Warn);
        assert_eq!(worst(Walls { landlock: down(), seccomp: down(), ..all_up() }), CheckStatus::Fail);
        assert_eq!(super::walls(Err("no child".into()))[0].status, CheckStatus::Fail);
    }

    #[test]
    fn few_descriptors_warn() {
        for (limit, expected) in
            [(Some(64), CheckStatus::Warn), (Some(1_024), CheckStatus::Ok), (None, CheckStatus::Ok)]
        {
            assert_eq!(descriptors(limit).status, expected);
        }
    }
}
