//! One `msm`: calls of its command line, and a running node of a home.

use std::{
    ffi::OsStr,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{binary, speed, wait};

/// A node that is not up by then has failed.
const START: Duration = Duration::from_secs(20);
/// A node that was told to leave has left by then.
const LEAVE: Duration = Duration::from_secs(10);
/// A line of the REPL that is not answered by then has failed.
const REPLY: Duration = Duration::from_secs(60);
/// Lines of stderr that wait to be looked at: more than any call says.
const LINES: usize = 1_024;

/// Calls `msm` for one home, from one host.
#[derive(Debug, Clone)]
pub struct Client {
    binary: PathBuf,
    home: PathBuf,
    /// Network namespace; `None` is the one of this process.
    namespace: Option<String>,
    /// Environment variables that are set for it.
    variables: Vec<(String, String)>,
    /// A program with its arguments that runs `msm` with some limit or other.
    by: Vec<String>,
}

impl Client {
    /// Calls from this process's own network.
    ///
    /// # Errors
    /// The binary is missing.
    pub fn new(home: PathBuf) -> Result<Self> {
        Ok(Self { binary: binary::msm()?, home, namespace: None, variables: Vec::new(), by: Vec::new() })
    }

    /// The same home, called from inside a network namespace.
    pub fn inside(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// The same with an environment variable.
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same, run by a program that sets something up first, such as `prlimit --nofile=64`.
    pub fn by(mut self, program: &str, args: &[&str]) -> Self {
        self.by = [program].iter().chain(args).map(|word| (*word).to_owned()).collect();
        self
    }

    /// The same home and host, another binary.
    pub fn with_binary(mut self, binary: PathBuf) -> Self {
        self.binary = binary;
        self
    }

    /// The home's folder.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// `msm ARGS…`, not started yet. `ip netns exec` becomes the program it starts, so the process id is `msm`'s own.
    pub fn command(&self, args: &[&str]) -> Command {
        let enter = self.namespace.iter().flat_map(|namespace| ["ip", "netns", "exec", namespace]);
        // Limits first: inside the namespace /sys is another one.
        let mut words =
            self.by.iter().map(String::as_str).chain(enter).map(OsStr::new).chain([self.binary.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or(self.binary.as_os_str()));
        command
            .args(words)
            .args(args)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env("MSM_HOME", &self.home)
            .env_remove("MSM_CONFIG")
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn output(&self, args: &[&str]) -> Result<Output> {
        self.command(args).output().with_context(|| format!("cannot start msm {}", args.join(" ")))
    }

    /// Runs it with `--json`; the object on stdout.
    ///
    /// # Errors
    /// It failed (the text has its stderr), or printed something else than one JSON value.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let args = [args, &["--json"]].concat();
        let output = self.output(&args)?;
        read_json(&args, &output)
    }
}

/// The JSON of a successful call.
fn read_json(args: &[&str], output: &Output) -> Result<Value> {
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "msm {}: {}\n{errors}", args.join(" "), output.status);
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("msm {}: stdout is not JSON\n{errors}", args.join(" ")))
}

/// A running `msm node`. Dropping it kills it.
#[derive(Debug)]
pub struct Node {
    /// Calls it.
    pub client: Client,
    /// Its peer id.
    pub peer_id: String,
    child: Child,
    /// Kept open: a node must not find its stdout closed.
    _out: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Node {
    /// Starts a node and returns when it is up.
    ///
    /// # Errors
    /// It ended or was not up in time; the text has its log.
    pub fn start(client: Client, flags: &[&str]) -> Result<Self> {
        Self::launch(client, flags)?.ready()
    }

    /// Starts a node without waiting for it: [`Starting::ready`] does.
    pub fn launch(client: Client, flags: &[&str]) -> Result<Starting> {
        speed::tell(client.home())?;
        Self::launch_as_it_is(client, flags)
    }

    /// The same, and it measures how fast it is.
    pub(crate) fn launch_as_it_is(client: Client, flags: &[&str]) -> Result<Starting> {
        std::fs::create_dir_all(client.home())?;
        let log = client.home().with_extension("log");
        let file = File::options().create(true).append(true).open(&log)?;
        let args = [&["node", "--json"], flags].concat();
        let mut child = client
            .command(&args)
            .env("MSM_LOG", "error,msm_node=debug")
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .context("cannot start a node")?;
        let out = BufReader::new(child.stdout.take().context("stdout is piped")?);
        Ok(Starting { client, child, out, log, since: Instant::now() })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: gone without a word.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM; it leaves cleanly.
    ///
    /// # Errors
    /// It did not, or not in time.
    pub fn leave(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let (status, _) = wait::until(LEAVE, "a node leaves after SIGTERM", || Ok(self.child.try_wait()?))?;
        ensure!(status.success(), "a node left with {status}\n{}", self.log());
        Ok(())
    }

    /// Sends a signal to this process only.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("cannot signal process {}", self.pid()))
    }

    /// Resident memory, bytes.
    pub fn rss_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kib * 1024)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ids of the peers that it is connected to and knows the EQS of.
    pub fn peers(&self) -> Result<Vec<String>> {
        known(&self.client.json(&["peers"])?)
    }

    /// Waits until it knows all of these nodes.
    pub fn sees(&self, others: &[&Node], limit: Duration) -> Result<Duration> {
        let what = format!("{} sees {} peers", self.client.home().display(), others.len());
        let mut repl = Repl::open(&self.client)?;
        let seen = wait::until(limit, &what, || {
            let peers = known(&repl.json("peers")?)?;
            Ok(others.iter().all(|other| peers.contains(&other.peer_id)).then_some(()))
        });
        seen.map(|(_, took)| took).with_context(|| format!("its log:\n{}", self.log()))
    }
}

fn known(reply: &Value) -> Result<Vec<String>> {
    let rows = reply["peers"].as_array().context("peers --json has peers")?;
    let known = rows.iter().filter(|row| row["eqs"].is_number());
    Ok(known.filter_map(|row| row["peer_id"].as_str().map(str::to_owned)).collect())
}

impl Drop for Node {
    fn drop(&mut self) {
        // A stopped process dies of SIGKILL too; one that was waited for is not signalled again.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- log of {} ---\n{}", self.client.home().display(), self.log());
        }
    }
}

/// A node that was started and may not be up yet.
#[derive(Debug)]
pub struct Starting {
    client: Client,
    child: Child,
    out: BufReader<ChildStdout>,
    log: PathBuf,
    since: Instant,
}

impl Starting {
    /// Waits until it says that it is up.
    pub fn ready(self) -> Result<Node> {
        let Self { client, mut child, out, log, since } = self;
        let (sender, receiver) = mpsc::sync_channel(1);
        // Reading a pipe has no deadline; a thread that does it ends with the child.
        thread::spawn(move || {
            let mut out = out;
            let mut line = String::new();
            let read = out.read_line(&mut line).map(|_| line);
            let _ = sender.send((read, out));
        });
        let said = receiver.recv_timeout(START.saturating_sub(since.elapsed()));
        let said_log = || std::fs::read_to_string(&log).unwrap_or_default();
        let (line, out) = match said {
            Ok((Ok(line), out)) if !line.is_empty() => (line, out),
            _ => {
                let _ = child.kill();
                let status = child.wait()?;
                bail!("msm node of {} was not up within {START:?} ({status})\n{}", client.home().display(), said_log());
            }
        };
        let status: Value = serde_json::from_str(&line).with_context(|| format!("msm node --json said {line:?}"))?;
        let peer_id = status["peer_id"].as_str().with_context(|| format!("no peer_id in {line}"))?.to_owned();
        Ok(Node { client, peer_id, child, _out: out, log })
    }
}

/// An open `msm repl`: calls without the start of a process each.
#[derive(Debug)]
pub struct Repl {
    child: Child,
    lines: Option<ChildStdin>,
    replies: mpsc::Receiver<String>,
}

impl Repl {
    /// Opens a REPL on the running node of `client`.
    pub fn open(client: &Client) -> Result<Self> {
        let mut command = client.command(&["repl"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start msm repl")?;
        let lines = child.stdin.take();
        let stdout = child.stdout.take().context("stdout is piped")?;
        let (sender, replies) = mpsc::sync_channel(LINES);
        // Ends with the child.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines, replies })
    }

    /// Carries out a line that answers with one object.
    pub fn json(&mut self, line: &str) -> Result<Value> {
        writeln!(self.lines.as_mut().context("stdin is piped")?, "{line} --json")?;
        let reply = self.replies.recv_timeout(REPLY).with_context(|| format!("no answer to {line:?}"))?;
        serde_json::from_str(&reply).with_context(|| format!("{line:?} was answered by {reply:?}"))
    }
}

impl Drop for Repl {
    fn drop(&mut self) {
        // The end of its input ends it; when it does not listen, the signal does.
        drop(self.lines.take());
        let ended = wait::until(LEAVE, "msm repl ends", || Ok(self.child.try_wait()?));
        if ended.is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A call that runs while the test does something else.
#[derive(Debug)]
pub struct Running {
    child: Child,
    args: String,
    lines: mpsc::Receiver<(Instant, String)>,
    seen: Vec<(Instant, String)>,
    out: mpsc::Receiver<Vec<u8>>,
}

impl Running {
    /// Starts `msm ARGS…`; its stderr is read line by line, each with the moment it came.
    pub fn start(client: &Client, args: &[&str]) -> Result<Self> {
        let mut child = client.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (mut stdout, stderr) =
            (child.stdout.take().context("stdout is piped")?, child.stderr.take().context("stderr is piped")?);
        let (sender, lines) = mpsc::sync_channel(LINES);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = sender.send((Instant::now(), line));
            }
        });
        let (sender, out) = mpsc::sync_channel(1);
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stdout.read_to_end(&mut bytes);
            let _ = sender.send(bytes);
        });
        Ok(Self { child, args: args.join(" "), lines, seen: Vec::new(), out })
    }

    /// Waits for a line on stderr that contains `words`; when it came.
    pub fn says(&mut self, words: &str, limit: Duration) -> Result<Instant> {
        let until = Instant::now() + limit;
        loop {
            if let Some((at, _)) = self.seen.iter().find(|(_, line)| line.contains(words)) {
                return Ok(*at);
            }
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(_) => {
                    let said = self.said();
                    bail!("msm {}: no {words:?} within {limit:?}; it said:\n{said}", self.args);
                }
            }
        }
    }

    /// What it has said on stderr so far.
    pub fn said(&mut self) -> String {
        self.seen.extend(self.lines.try_iter());
        self.seen.iter().map(|(_, line)| format!("{line}\n")).collect()
    }

    /// Kills the call itself.
    pub fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill()?)
    }

    /// Waits for its end and returns its stdout.
    ///
    /// # Errors
    /// It failed, or has not ended in time.
    pub fn end(mut self, limit: Duration) -> Result<Vec<u8>> {
        let ended = wait::until(limit, &format!("msm {} ends", self.args), || Ok(self.child.try_wait()?));
        let (status, _) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let _ = self.child.kill();
                return Err(error.context(self.said()));
            }
        };
        let said = self.said();
        ensure!(status.success(), "msm {}: {status}\n{said}", self.args);
        self.out.recv_timeout(LEAVE).context("stdout of an ended call")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
