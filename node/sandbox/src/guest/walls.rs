//! The walls, put up by the child around itself before it reads the first byte of a package.

use super::Start;
use crate::walls::{Wall, WallName, Walls};

/// Puts up every wall that this system has, and says which stand.
pub fn put_up(start: &Start) -> Walls {
    warm_up();
    let wall = |name: WallName, put_up: fn(&Start) -> Result<String, String>| {
        if start.without.contains(&name) {
            return Wall::Down("left out for a test".into());
        }
        match put_up(start) {
            Ok(detail) => Wall::Up(detail),
            Err(why) => Wall::Down(why),
        }
    };
    // Seccomp is last: it takes away what the others need.
    let parent = wall(WallName::Parent, os::parent);
    let fds = wall(WallName::Fds, os::fds);
    let no_new_privs = wall(WallName::NoNewPrivs, os::no_new_privs);
    let rlimits = wall(WallName::Rlimits, os::rlimits);
    let landlock = wall(WallName::Landlock, os::landlock);
    let seccomp = wall(WallName::Seccomp, os::seccomp);
    Walls { no_new_privs, landlock, seccomp, rlimits, fds, parent }
}

/// Does once what libraries do lazily with files and system calls that are out of reach later.
fn warm_up() {
    // SAFETY: this process has one thread, so nobody else reads the environment or the time zone.
    unsafe {
        // With no TZ, libc would look for /etc/localtime when a guest asks for a local time.
        std::env::set_var("TZ", "UTC0");
        tzset();
        // Rust's handlers for stack overflow write to a stderr that is closed; a plain signal tells the parent more.
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            libc::signal(signal, libc::SIG_DFL);
        }
        libc::chdir(c"/".as_ptr());
    }
    // Rust's hash maps draw their seed at first use.
    drop(std::collections::HashMap::<u8, u8>::new());
}

unsafe extern "C" {
    fn tzset();
}

/// What an `rlimit` call is given.
fn limit(resource: Resource, value: u64, ceiling: u64) -> Result<(), String> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid pointer to a struct on this stack.
    unsafe {
        if libc::getrlimit(resource, &raw mut now) != 0 {
            return Err(last_error("getrlimit"));
        }
        // A limit that is lower already stays: it cannot be raised.
        let max = now.rlim_max.min(ceiling as libc::rlim_t);
        let new = libc::rlimit { rlim_cur: max.min(value as libc::rlim_t), rlim_max: max };
        if libc::setrlimit(resource, &raw const new) != 0 {
            return Err(last_error("setrlimit"));
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_os = "linux"))]
type Resource = libc::c_int;

pub(super) fn last_error(call: &str) -> String {
    format!("{call}: {}", std::io::Error::last_os_error())
}

#[cfg(target_os = "linux")]
mod os {
    use landlock::{ABI, Access, AccessFs, AccessNet, Compatible, Ruleset, RulesetAttr, RulesetStatus, Scope};

    use super::{Start, last_error, limit};
    use crate::{guest::channel, process::limits};

    pub fn parent(start: &Start) -> Result<String, String> {
        // SAFETY: prctl with these options takes no pointers.
        unsafe {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(last_error("PR_SET_PDEATHSIG"));
            }
            // The parent may have died before the line above took hold.
            if libc::getppid().unsigned_abs() != start.parent {
                libc::_exit(0);
            }
            if libc::prctl(libc::PR_SET_DUMPABLE, 0) != 0 {
                return Err(last_error("PR_SET_DUMPABLE"));
            }
        }
        Ok("dies with its parent, not traceable".into())
    }

    pub fn fds(_: &Start) -> Result<String, String> {
        const _: () = assert!(channel::FD == 0, "everything above the channel is closed");
        // SAFETY: closing descriptors that nothing in this process uses; std tolerates closed stdout and stderr.
        let closed = unsafe { libc::syscall(libc::SYS_close_range, 1, libc::c_uint::MAX, 0) };
        if closed != 0 {
            // A kernel before 5.9: std opens everything close-on-exec, so only what was inherited is left.
            (1..1024).for_each(|fd| unsafe {
                // SAFETY: as above.
                libc::close(fd);
            });
        }
        Ok("only the channel is open".into())
    }

    pub fn no_new_privs(_: &Start) -> Result<String, String> {
        // SAFETY: no pointers.
        if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
            return Err(last_error("PR_SET_NO_NEW_PRIVS"));
        }
        Ok(String::new())
    }

    pub fn rlimits(_: &Start) -> Result<String, String> {
        // The engine keeps itself far below this stack; a hard stop for everything else.
        const CHILD_STACK: u64 = 8 << 20;
        limit(libc::RLIMIT_AS, limits::ADDRESS_SPACE, limits::ADDRESS_SPACE_CEILING)?;
        limit(libc::RLIMIT_DATA, limits::DATA, limits::DATA_CEILING)?;
        limit(libc::RLIMIT_STACK, CHILD_STACK, CHILD_STACK)?;
        limit(libc::RLIMIT_NOFILE, 16, 16)?;
        limit(libc::RLIMIT_NPROC, 1, 1)?;
        for nothing in [libc::RLIMIT_FSIZE, libc::RLIMIT_CORE, libc::RLIMIT_MEMLOCK, libc::RLIMIT_MSGQUEUE] {
            limit(nothing, 0, 0)?;
        }
        Ok("memory, files, processes, stack; cpu and memory again for each task".into())
    }

    pub fn landlock(_: &Start) -> Result<String, String> {
        // The newest interface that this build knows; an older kernel enforces what it has of it.
        let abi = ABI::V7;
        let restricted = Ruleset::default()
            .set_compatibility(landlock::CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))
            .and_then(|rules| rules.handle_access(AccessNet::from_all(abi)))
            .and_then(|rules| rules.scope(Scope::from_all(abi)))
            .and_then(Ruleset::create)
            .and_then(landlock::RulesetCreated::restrict_self)
            .map_err(|error| error.to_string())?;
        let detail = format!("no paths, no TCP; {:?}", restricted.landlock);
        match restricted.ruleset {
            RulesetStatus::FullyEnforced => Ok(detail),
            RulesetStatus::PartiallyEnforced => Ok(format!("{detail}, in part")),
            RulesetStatus::NotEnforced => Err(format!("this kernel has no Landlock ({:?})", restricted.landlock)),
        }
    }

    pub fn seccomp(_: &Start) -> Result<String, String> {
        crate::guest::seccomp::put_up()
    }
}

#[cfg(not(target_os = "linux"))]
mod os {
    use super::{Start, limit};
    use crate::process::limits;

    pub fn parent(_: &Start) -> Result<String, String> {
        Err("only on Linux; the child ends when it next uses its channel".into())
    }

    pub fn fds(_: &Start) -> Result<String, String> {
        // SAFETY: closing descriptors that nothing in this process uses.
        (1..1024).for_each(|fd| unsafe {
            libc::close(fd);
        });
        Ok("only the channel is open".into())
    }

    pub fn no_new_privs(_: &Start) -> Result<String, String> {
        Err("only on Linux".into())
    }

    pub fn rlimits(_: &Start) -> Result<String, String> {
        limit(libc::RLIMIT_NOFILE, 16, 16)?;
        limit(libc::RLIMIT_NPROC, 1, 1)?;
        limit(libc::RLIMIT_FSIZE, 0, 0)?;
        limit(libc::RLIMIT_CORE, 0, 0)?;
        limit(libc::RLIMIT_DATA, limits::DATA_CEILING, limits::DATA_CEILING)?;
        Ok("files, processes, data".into())
    }

    pub fn landlock(_: &Start) -> Result<String, String> {
        Err("only on Linux".into())
    }

    pub fn seccomp(_: &Start) -> Result<String, String> {
        Err("only on Linux".into())
    }
}
