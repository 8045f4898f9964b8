//! Programs on a pseudo-terminal; the REPL.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{FromRawFd, OwnedFd},
    process::{Child, Command},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::Duration,
};

use crate::program::Home;

/// Longer than anything here takes; only a failing test waits for it.
const LONG: Duration = Duration::from_secs(30);

/// A program on a terminal of its own.
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    /// What was shown and not yet looked at.
    shown: String,
}

impl Terminal {
    pub fn run(mut command: Command) -> Self {
        let (mut master, mut slave) = (0, 0);
        let size = libc::winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: both descriptors are written by openpty and owned from here on; name and settings may be null.
        let (master, slave) = unsafe {
            let opened = libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), &size);
            assert_eq!(opened, 0, "no pseudo-terminal");
            (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
        };
        let copy = || slave.try_clone().unwrap();
        let child = command.stdin(copy()).stdout(copy()).stderr(copy()).env("TERM", "xterm").spawn().unwrap();
        drop((command, slave));
        let mut reader = File::from(master.try_clone().unwrap());
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The other side's end shows as an error on Linux.
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keyboard: File::from(master), screen, shown: String::new() }
    }

    pub fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until `text` is shown, and forgets everything up to its end. What was shown before it.
    pub fn expect(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.shown.find(text) {
                let before = self.shown[..at].to_owned();
                self.shown.drain(..at + text.len());
                return before;
            }
            match self.screen.recv_timeout(LONG) {
                Ok(bytes) => self.shown.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout) => panic!("no {text:?} in {:?}", self.shown),
                Err(RecvTimeoutError::Disconnected) => panic!("ended without {text:?}: {:?}", self.shown),
            }
        }
    }

    /// What Ctrl-C sends to a program that reads no keys.
    pub fn interrupt(&self) {
        crate::program::signal(&self.child, libc::SIGINT);
    }

    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_node_on_a_terminal_takes_commands_and_shows_who_comes() {
    let home = Home::new();
    let args = ["node", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"];
    let mut terminal = Terminal::run(home.command(&args));
    terminal.expect("listens on ");
    terminal.expect("msm> ");
    // Tab completes the verb.
    terminal.type_keys("stat\t\r");
    terminal.expect("lending");
    terminal.expect("msm> ");
    terminal.type_keys("nonsense\r");
    terminal.expect("there is no command \"nonsense\"");
    terminal.expect("msm> ");
    // Ctrl-C forgets the line, not the node.
    terminal.type_keys("half a line\u{3}");
    terminal.expect("msm> ");

    let status: serde_json::Value =
        serde_json::from_slice(&home.msm(&["status", "--json"]).stdout).expect("the node answers others too");
    let address = status["addresses"][0].as_str().unwrap().to_owned();
    terminal.type_keys("typed so far");
    terminal.expect("typed so far");
    let other = Home::new();
    let _neighbour = {
        let args = ["node", "--json", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0", "--peer", &address];
        Reaper(
            other
                .command(&args)
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap(),
        )
    };
    terminal.expect("is here");
    // The prompt comes back below with what was typed.
    terminal.expect("typed so far");
    terminal.type_keys("\u{15}quit\r");
    assert_eq!(terminal.exit_code(), Some(0));
    let history = std::fs::read_to_string(home.folder().join("history")).unwrap();
    assert!(history.contains("status") && history.contains("nonsense"), "{history}");
}

#[test]
fn an_attached_repl_ends_with_control_d_and_the_node_goes_on() {
    let home = Home::new();
    let node = home.node();
    let mut terminal = Terminal::run(home.command(&["repl"]));
    terminal.expect("msm> ");
    terminal.type_keys("peers --json\r");
    terminal.expect("{\"schema\":\"msm.peers/1\",\"peers\":[],\"struck\":[]}");
    terminal.expect("msm> ");
    terminal.type_keys("\u{4}");
    assert_eq!(terminal.exit_code(), Some(0));
    assert!(home.msm(&["status"]).status.success());
    assert_eq!(node.terminate().0, Some(0));
}

#[test]
fn sigterm_in_the_middle_of_a_line_leaves_cleanly() {
    let home = Home::new();
    let args = ["node", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"];
    let mut terminal = Terminal::run(home.command(&args));
    terminal.expect("msm> ");
    terminal.type_keys("half");
    terminal.expect("half");
    crate::program::signal(&terminal.child, libc::SIGTERM);
    assert_eq!(terminal.exit_code(), Some(0));
    assert!(!home.folder().join("control.sock").exists());
}

/// Kills and reaps a child when dropped.
struct Reaper(Child);

impl Drop for Reaper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
