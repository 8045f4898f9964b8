//! Runs `msm` on a home of its own.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::JoinHandle,
};

use serde_json::Value;

/// A home in a temporary folder.
pub struct Home(tempfile::TempDir);

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn folder(&self) -> PathBuf {
        self.0.path().join("home")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The command, with nothing of the caller's environment that could change what it does.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_msm"));
        command.args(args).env("MSM_HOME", self.folder()).current_dir(self.0.path()).stdin(Stdio::null());
        for name in ["MSM_LOG", "MSM_CONFIG", "NO_COLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        command
    }

    pub fn msm(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Starts a node on loopback that nobody finds by multicast, and waits until it is up.
    pub fn node(&self) -> Node {
        self.node_with(&[])
    }

    /// The same with more arguments.
    pub fn node_with(&self, more: &[&str]) -> Node {
        let args = [&["node", "--json", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"], more].concat();
        let mut child = self.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let messages = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Ok(status) = serde_json::from_str(&line) else {
            panic!("no status: {line:?} {}", messages.join().unwrap())
        };
        Node { child, status, messages: Some(messages) }
    }
}

/// A running node; killed when dropped.
pub struct Node {
    child: Child,
    pub status: Value,
    messages: Option<JoinHandle<String>>,
}

impl Node {
    /// Sends SIGTERM; the exit code (`None` when a signal killed it) and all it has said.
    pub fn terminate(mut self) -> (Option<i32>, String) {
        signal(&self.child, libc::SIGTERM);
        let code = self.child.wait().unwrap().code();
        (code, self.messages.take().unwrap().join().unwrap())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(child: &Child, signal: i32) {
    // SAFETY: the child has not been waited for, so its id is its own.
    assert_eq!(unsafe { libc::kill(child.id().cast_signed(), signal) }, 0);
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Writes a service that gives back what it gets.
pub fn write_echo(folder: &Path) {
    std::fs::create_dir_all(folder.join("src")).unwrap();
    std::fs::write(folder.join("src/main.js"), "export function run(input) { return input }\n").unwrap();
    let toml = r#"schema = 1
[service]
name = "echo"
version = "1.0.0"
summary = "Gives back what it gets"
scope = "text"
license = "MIT"
authors = ["Ada"]
[io]
input = ["text/plain", "application/octet-stream"]
output = "text/plain"
[work]
split = "none"
deterministic = true
[[variant]]
engine = "js"
file = "src/main.js"
"#;
    std::fs::write(folder.join("service.toml"), toml).unwrap();
}
