//! How long nobody has used this device: terminals tell when they were last typed at, logind tells of a desktop.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::Roots;

/// Terminals looked at. *Judgement*: more than anybody has open.
const TERMINALS: usize = 4_096;
/// Sessions of a desktop looked at. *Judgement.*
const SESSIONS: usize = 16;
/// logind is asked this often: desktops call themselves idle after minutes.
const ASK_EVERY: Duration = Duration::from_secs(15);
/// Its answer is waited for this long; it takes some milliseconds.
const ANSWER: Duration = Duration::from_secs(1);
/// Between two looks whether it has answered.
const LOOK: Duration = Duration::from_millis(10);

/// Watches the people at this device.
#[derive(Debug)]
pub(super) struct Idle {
    dev: PathBuf,
    sessions: PathBuf,
    asked: Option<(Instant, bool)>,
}

impl Idle {
    pub(super) fn new(roots: &Roots) -> Self {
        Self { dev: roots.dev.clone(), sessions: roots.run.join("systemd/sessions"), asked: None }
    }

    /// For how long nobody has used the device, by the system's clock; very long when nobody ever did.
    ///
    /// A terminal (a console, a window, ssh) was used when something was last read from it, as `w` has it. Keys and
    /// mice of a desktop leave no such trace: there, its session must call itself idle or locked.
    pub(super) fn read(&mut self, now: SystemTime) -> Duration {
        if self.desktop_in_use() {
            return Duration::ZERO;
        }
        let newest = typed_at(&self.dev).max();
        newest.map_or(Duration::MAX, |at| now.duration_since(at).unwrap_or_default())
    }

    /// Whether a desktop is up that does not say that it is idle. Who cannot be asked counts as one.
    fn desktop_in_use(&mut self) -> bool {
        let sessions: Vec<String> = desktops(&self.sessions).take(SESSIONS).collect();
        if sessions.is_empty() {
            self.asked = None;
            return false;
        }
        match self.asked {
            Some((at, in_use)) if at.elapsed() < ASK_EVERY => in_use,
            _ => {
                let in_use = !sessions.iter().all(|session| is_idle(session));
                self.asked = Some((Instant::now(), in_use));
                in_use
            }
        }
    }
}

/// When each terminal was last read from. Serial lines are left out: receivers and modems talk there all the time.
fn typed_at(dev: &Path) -> impl Iterator<Item = SystemTime> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let entries = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
    let consoles = entries(dev.to_owned())
        .filter(move |entry| entry.file_name().to_str().and_then(|name| name.strip_prefix("tty")).is_some_and(digits));
    let windows = entries(dev.join("pts")).filter(move |entry| entry.file_name().to_str().is_some_and(digits));
    consoles.chain(windows).take(TERMINALS).filter_map(|entry| entry.metadata().ok()?.accessed().ok())
}

/// Desktop sessions that somebody is logged in to and that are on the screen.
fn desktops(sessions: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(sessions).into_iter().flatten().flatten().filter_map(|entry| {
        let id = entry.file_name().to_str().filter(|id| id.bytes().all(|c| c.is_ascii_alphanumeric()))?.to_owned();
        // Pipes lie there too.
        let text =
            entry.metadata().ok().filter(fs::Metadata::is_file).and_then(|_| fs::read_to_string(entry.path()).ok())?;
        let says = |line: &str| text.lines().any(|other| other == line);
        let drawn = ["TYPE=x11", "TYPE=wayland", "TYPE=mir"].iter().any(|line| says(line));
        (drawn && says("CLASS=user") && says("ACTIVE=1")).then_some(id)
    })
}

/// Whether logind says that a session is idle or locked.
fn is_idle(session: &str) -> bool {
    let asked = Command::new("loginctl")
        .args(["show-session", session, "--property=IdleHint", "--property=LockedHint"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = asked else { return false };
    let end = Instant::now() + ANSWER;
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if Instant::now() < end => thread::sleep(LOOK),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
    let output = child.wait_with_output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().any(|line| line == "IdleHint=yes" || line == "LockedHint=yes")
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes};

    use super::*;

    struct Device {
        folder: tempfile::TempDir,
        now: SystemTime,
    }

    impl Device {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            for sub in ["dev/pts", "run/systemd/sessions"] {
                fs::create_dir_all(folder.path().join(sub)).unwrap();
            }
            Self { folder, now: SystemTime::now() }
        }

        fn typed(&self, terminal: &str, ago_s: u64) {
            let file = File::create(self.folder.path().join("dev").join(terminal)).unwrap();
            let times = FileTimes::new().set_accessed(self.now - Duration::from_secs(ago_s));
            file.set_times(times).unwrap();
        }

        fn idle(&self) -> Duration {
            let roots =
                Roots { dev: self.folder.path().join("dev"), run: self.folder.path().join("run"), ..Roots::default() };
            Idle::new(&roots).read(self.now)
        }
    }

    #[test]
    fn the_terminal_that_was_used_last_counts() {
        let device = Device::new();
        assert_eq!(device.idle(), Duration::MAX, "nobody has ever been here");
        for (terminal, ago, expected) in [
            ("tty1", 900, 900),
            ("pts/0", 400, 400),
            ("pts/7", 500, 400),
            ("tty2", 12, 12),
            // A GPS receiver, the parent of all windows, and what is no terminal at all.
            ("ttyUSB0", 0, 12),
            ("ttyS0", 0, 12),
            ("tty", 0, 12),
            ("pts/ptmx", 0, 12),
            ("null", 0, 12),
        ] {
            device.typed(terminal, ago);
            assert_eq!(device.idle(), Duration::from_secs(expected), "{terminal}");
        }
        // The clock was put back: somebody was there a moment ago, as far as anybody can say.
        File::create(device.folder.path().join("dev/pts/9")).unwrap();
        File::options()
            .write(true)
            .open(device.folder.path().join("dev/pts/9"))
            .unwrap()
            .set_times(FileTimes::new().set_accessed(device.now + Duration::from_secs(60)))
            .unwrap();
        assert_eq!(device.idle(), Duration::ZERO);
    }

    /// A desktop's sessions, and a loginctl in the place of the system's that says what a file says.
    #[test]
    fn a_desktop_counts_as_used_until_it_says_otherwise() {
        let setup = "mount -t tmpfs none /mnt; mkdir /mnt/bin
            printf '#!/bin/sh\\n[ \"$1 $2\" = \"show-session 3\" ] && exec cat /mnt/says\\n' > /mnt/bin/loginctl
            chmod +x /mnt/bin/loginctl; PATH=/mnt/bin:$PATH; export PATH";
        let test = "monitor::idle::tests::a_desktop_counts_as_used_until_it_says_otherwise";
        if !crate::own_mounts::inside(test, setup) {
            return;
        }
        let device = Device::new();
        let session = |name: &str, text: &str| {
            fs::write(device.folder.path().join("run/systemd/sessions").join(name), text).unwrap();
        };
        let desktop = "UID=1000\nACTIVE=1\nTYPE=wayland\nCLASS=user\n";
        session("1", "UID=0\nACTIVE=1\nTYPE=tty\nCLASS=user\n");
        session("c1", &desktop.replace("user", "greeter"));
        session("2", &desktop.replace("ACTIVE=1", "ACTIVE=0"));
        assert_eq!(device.idle(), Duration::MAX, "nobody sits before a desktop");
        session("3", desktop);
        for (says, expected) in [
            ("IdleHint=no\nLockedHint=no\n", Duration::ZERO),
            ("IdleHint=yes\nLockedHint=no\n", Duration::MAX),
            ("IdleHint=no\nLockedHint=yes\n", Duration::MAX),
            ("", Duration::ZERO),
        ] {
            fs::write("/mnt/says", says).unwrap();
            assert_eq!(device.idle(), expected, "{says:?}");
        }
        // One of two desktops is in use; and nobody is there to ask.
        fs::write("/mnt/says", "IdleHint=yes\n").unwrap();
        session("4", desktop);
        assert_eq!(device.idle(), Duration::ZERO);
        fs::remove_file(device.folder.path().join("run/systemd/sessions/4")).unwrap();
        assert_eq!(device.idle(), Duration::MAX);
        fs::remove_file("/mnt/bin/loginctl").unwrap();
        assert_eq!(device.idle(), Duration::ZERO);
    }
}
