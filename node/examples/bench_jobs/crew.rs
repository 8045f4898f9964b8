//! A requester in this process and workers in processes of their own, on loopback.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use msm_market_index::{MarketFolder, Publisher, Signers, pack_folder};
use msm_node::{
    command::{self, Door, Invoke, JobReport, Reply, Request, Response},
    home::{Home, HomeError, MarketEntry},
    node::{Node, NodeDoor, NodeOptions},
    speed::Speed,
};
use msm_protocol::{ContentHash, MarketId, PeerId, SecretKey};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;

/// Anything that is no measurement happens within this.
const SOON: Duration = Duration::from_secs(60);

/// `tcp`, or what `MSM_BENCH_TRANSPORT` says.
pub fn transport() -> String {
    std::env::var("MSM_BENCH_TRANSPORT").unwrap_or_else(|_| "tcp".into())
}

/// Where everybody listens.
pub fn listen() -> &'static str {
    if transport() == "quic" { "/ip4/127.0.0.1/udp/0/quic-v1" } else { "/ip4/127.0.0.1/tcp/0" }
}

pub fn open_home(folder: &Path) -> Result<Home> {
    Ok(Home::open(Some(folder))?)
}

/// The services: name, split and script.
const SERVICES: [(&str, &str, &str); 3] = [
    ("noop", "none", "export function run() { return new Uint8Array(); }"),
    (
        "tiny",
        "service",
        "export function run(input) { return input; }
         export function* split(input) { for (let at = 0; at < input.length; at++) yield input.subarray(at, at + 1); }
         export function merge(parts) {
           const all = Array.from(parts), output = new Uint8Array(all.length);
           for (let at = 0; at < all.length; at++) output[at] = all[at][0];
           return output;
         }",
    ),
    ("echo", "bytes:8MiB", "export function run(input) { return input; }"),
];

/// A call, ready to be made again and again.
pub type Wish = Invoke;

/// Makes calls. Cheap to clone.
#[derive(Clone)]
pub struct Caller(NodeDoor);

impl Caller {
    pub async fn run(&self, wish: &Wish, input: Bytes) -> Result<(Box<JobReport>, Bytes)> {
        // Nobody listens to events.
        let (events, _) = mpsc::channel(1);
        let request = Request { command: command::Command::Invoke(Box::new(wish.clone())), input: input.into() };
        match self.0.execute(request, events).await? {
            Response { reply: Reply::Job(report), output } => Ok((report, output.whole(u64::MAX).await?)),
            other => bail!("a job was answered by {other:?}"),
        }
    }

    async fn ask(&self, command: command::Command) -> Result<Reply> {
        let (events, _) = mpsc::channel(1);
        Ok(self.0.execute(command.into(), events).await?.reply)
    }
}

/// A worker's process. Dropping it kills it, by its own id.
struct Worker {
    peer: PeerId,
    child: Child,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A requester and its workers.
pub struct Crew {
    caller: Caller,
    workers: Vec<Worker>,
    _node: Node,
    folder: TempDir,
}

impl Crew {
    /// Starts them; they know each other and the services when it returns.
    pub async fn start(workers: usize) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("msm-bench-").tempdir()?;
        let market = Market::publish(folder.path())?;
        // All devices are this machine: its speed is measured once, so that they agree on it.
        let clock = open_home(&folder.path().join("clock"))?;
        Speed::load_or_measure(&clock).settle();
        let speed = fs::read(clock.speed_file())?;
        let home = |name: &str, serve: bool| -> Result<Home> {
            let home = open_home(&folder.path().join(name))?;
            fs::write(home.speed_file(), &speed)?;
            market.trusted_by(&home, serve)?;
            Ok(home)
        };
        let options = NodeOptions {
            home: home("requester", true)?,
            listen: vec![listen().to_owned()],
            peers: Vec::new(),
            mdns: Some(false),
            offer: Some(false),
            ephemeral: false,
        };
        let node = Node::start(options).await?;
        let caller = Caller(node.door());
        caller.0.wait_listening(SOON).await?;
        let Reply::Status(status) = caller.ask(command::Command::Status).await? else { bail!("no status") };
        let address = status.addresses.first().context("it listens")?.clone();
        let crew = (0..workers)
            .map(|number| Worker::start(&home(&format!("worker{number}"), false)?, &address))
            .collect::<Result<Vec<_>>>()?;
        let peers: Vec<PeerId> = crew.iter().map(|worker| worker.peer).collect();
        ensure!(caller.0.wait_connected(&peers, SOON).await, "the workers do not come");
        Ok(Self { caller, workers: crew, _node: node, folder })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn caller(&self) -> Caller {
        self.caller.clone()
    }

    pub async fn run(&self, wish: &Wish, input: Bytes) -> Result<(Box<JobReport>, Bytes)> {
        self.caller.run(wish, input).await
    }

    /// A call of `service` with these fields of [`Invoke`], which never runs on this device.
    pub fn invoke(&self, service: &str, more: Value) -> Result<Wish> {
        let elsewhere = Invoke { service: service.into(), remote_only: true, ..Invoke::default() };
        let mut wish = serde_json::to_value(elsewhere)?;
        for (name, value) in more.as_object().context("fields")? {
            wish[name] = value.clone();
        }
        Ok(serde_json::from_value(wish)?)
    }

    /// Calls until every worker has done a part of it, or for a while: then all have the package.
    pub async fn warm(&self, wish: &Wish, input: Bytes) -> Result<()> {
        /// Calls that do not reach everybody are many enough.
        const CALLS: usize = 50;
        let mut cold: Vec<PeerId> = self.workers.iter().map(|worker| worker.peer).collect();
        for call in 0.. {
            let ended = tokio::time::timeout(SOON, self.run(wish, input.clone())).await.context("a call hangs")?;
            // Until the index has come to a worker, nobody may run it.
            let Ok((report, _)) = ended else {
                ensure!(call < CALLS, "{:?}", ended.err());
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            cold.retain(|peer| !report.devices.iter().any(|device| device.peer_id == *peer && device.tasks > 0));
            if cold.is_empty() || call >= CALLS {
                break;
            }
        }
        Ok(())
    }
}

impl Worker {
    fn start(home: &Home, requester: &str) -> Result<Self> {
        let peer = PeerId::of(&home.identity()?.public());
        let log = fs::File::create(home.folder().join("node.log"))?;
        let mut child = Command::new(msm()?)
            .args(["node", "--json", "--no-mdns", "--listen", listen(), "--peer", requester, "--home"])
            .arg(home.folder())
            .env("MSM_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("cannot start a worker")?;
        // Its first line says that it is up; an empty one, that it is not.
        let mut said = String::new();
        let mut out = BufReader::new(child.stdout.take().context("stdout is piped")?);
        out.read_line(&mut said)?;
        // A node must not find its stdout closed.
        std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        let worker = Self { peer, child };
        let log = || fs::read_to_string(home.folder().join("node.log")).unwrap_or_default();
        ensure!(!said.is_empty(), "a worker did not start:\n{}", log());
        Ok(worker)
    }
}

/// `MSM_BIN`, or the one that was built beside this example.
fn msm() -> Result<PathBuf> {
    let beside = || Some(std::env::current_exe().ok()?.ancestors().nth(2)?.join("msm"));
    let msm = std::env::var_os("MSM_BIN").map(PathBuf::from).or_else(beside).context("where is msm")?;
    ensure!(msm.is_file(), "{} is missing.\n  try: cargo build -p msm-node --bin msm", msm.display());
    Ok(msm)
}

/// A market with the services.
struct Market {
    id: MarketId,
    folder: PathBuf,
}

impl Market {
    fn publish(folder: &Path) -> Result<Self> {
        let keys = [0, 1, 2].map(|n| SecretKey::from_seed(ContentHash::of(&[n]).as_bytes()));
        let signers = Signers { root: vec![&keys[0]], index: vec![&keys[1]], head: vec![&keys[2]] };
        let market = folder.join("market");
        let id = MarketFolder::init(&market, "bench", &signers, now()).context("a market")?.share();
        for (name, split, script) in SERVICES {
            let service = folder.join(name);
            fs::create_dir_all(&service)?;
            let manifest = format!(
                "[service]\nname = \"{name}\"\nversion = \"1.0.0\"\nsummary = \"To be measured\"\nscope = \"test/bench\"\n\
                 license = \"MIT\"\n[io]\ninput = \"application/octet-stream\"\noutput = \"application/octet-stream\"\n\
                 [work]\nsplit = \"{split}\"\ndeterministic = true\n[constraints]\neqs = {{ default = 0, min = 0, max = 100 }}\n\
                 [[variant]]\nengine = \"js\"\nfile = \"main.js\"\n"
            );
            fs::write(service.join("service.toml"), manifest)?;
            fs::write(service.join("main.js"), script)?;
            let packed = pack_folder(&service).map_err(|faults| anyhow::anyhow!("{name}: {faults:?}"))?;
            MarketFolder::open(&market)?.publish(&packed, &Publisher::named(keys[1].public()), &signers, now())?;
        }
        Ok(Self { id, folder: market })
    }

    fn trusted_by(&self, home: &Home, serve: bool) -> Result<()> {
        let publish_folder = serve.then(|| self.folder.clone());
        let entry = MarketEntry { alias: "bench".into(), market: self.id, source: None, publish_folder, added: now() };
        home.update_markets::<_, HomeError>(|markets| Ok(markets.add(entry)?))?;
        Ok(())
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
