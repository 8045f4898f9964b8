//! Homes, `msm` processes, markets and services that the tests are made of.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    pin::pin,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use msm_market_index::{MarketFolder, Publisher, Signers, pack_folder};
use msm_node::{
    blob::Blob,
    command::{
        self, CommandError, Devices, Door, EVENT_QUEUE, Event, Invoke, JobReport, PeerRow, Reply, Request, Response,
        Status,
    },
    control::ControlClient,
    home::{Home, HomeError, MarketEntry},
    speed::Speed,
};
use msm_protocol::{ContentHash, MarketId, PeerId, SecretKey};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;

/// The program under test.
pub const MSM: &str = env!("CARGO_BIN_EXE_msm");
/// A node that is not up by then has failed. Nodes come up in a tenth of a second; machines may be busy.
const START: Duration = Duration::from_secs(30);
/// Anything that is no measurement happens within this.
pub const SOON: Duration = Duration::from_secs(30);
/// One call of the command line.
const CALL: Duration = Duration::from_secs(60);
/// Where nodes listen unless a test says otherwise.
pub const TCP: &str = "/ip4/127.0.0.1/tcp/0";
pub const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
/// `[offer]` of a requester: it lends nothing, and its own score is at the bottom, so that no worker is too slow for it.
const MODEST: &str = "enabled = false\nslots = 1\ncpu = \"1%\"";
/// Between two looks at something that gives no event.
const LOOK: Duration = Duration::from_millis(10);

/// Looks until `look` gives something.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = look().await {
            return value;
        }
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        tokio::time::sleep(LOOK).await;
    }
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// One folder with all homes, markets and services of a test.
pub struct Lab {
    folder: TempDir,
    speed: Vec<u8>,
}

impl Lab {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("msm-it-").tempdir().unwrap();
        // All devices are this machine: its speed is measured once, so that they agree on it.
        let clock = Home::open(Some(&folder.path().join("clock"))).unwrap();
        Speed::load_or_measure(&clock).settle();
        let speed = fs::read(clock.speed_file()).unwrap();
        Self { folder, speed }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A home that listens on TCP of this machine and lends one slot.
    pub fn home(&self, name: &str) -> Home {
        self.home_with(name, &format!("listen = [{TCP:?}]"), "slots = 1")
    }

    /// A home whose owner lends nothing.
    pub fn requester(&self, name: &str) -> Home {
        self.home_with(name, &format!("listen = [{TCP:?}]"), MODEST)
    }

    /// A home with these lines in `[node]` and `[offer]`.
    pub fn home_with(&self, name: &str, node: &str, offer: &str) -> Home {
        let home = Home::open(Some(&self.path(name))).unwrap();
        let config = format!("name = \"{name}\"\n[node]\nmdns = false\n{node}\n[offer]\n{offer}\n");
        fs::write(home.config_file(), config).unwrap();
        fs::write(home.speed_file(), &self.speed).unwrap();
        home
    }

    /// A service folder with one JavaScript variant; `more` is added to its `service.toml`.
    pub fn service(&self, name: &str, version: &str, more: &str, source: &str) -> PathBuf {
        let folder = self.path(&format!("{name}-{version}"));
        fs::create_dir_all(&folder).unwrap();
        let toml = format!(
            "[service]\nname = \"{name}\"\nversion = \"{version}\"\nsummary = \"For tests\"\nscope = \"test/text\"\n\
             license = \"MIT\"\n[io]\ninput = \"text/plain\"\noutput = \"text/plain\"\n{more}\n\
             [[variant]]\nengine = \"js\"\nfile = \"main.js\"\n"
        );
        fs::write(folder.join("service.toml"), toml).unwrap();
        fs::write(folder.join("main.js"), source).unwrap();
        folder
    }

    /// [`grind`] as a service: lines in, the same in upper case with a hash of each out, as slowly as wanted.
    pub fn grind(&self) -> PathBuf {
        self.grind_asking("")
    }

    /// The same with more in its `service.toml`, such as permissions.
    pub fn grind_asking(&self, asks: &str) -> PathBuf {
        let more = "[params]\nrounds = { type = \"integer\", default = 1000, minimum = 1, maximum = 1000000000 }\n\
                    [work]\nsplit = \"lines:1\"\ndeterministic = true\n[limits]\ntime = \"60s\"";
        let source = "export function run(input, ctx) {
              const { rounds } = ctx.params;
              let out = '';
              for (const line of new TextDecoder().decode(input).split('\\n').slice(0, -1)) {
                const bytes = new TextEncoder().encode(line);
                let hash = 2166136261;
                for (let i = 0; i < rounds; i++) hash = Math.imul(hash ^ bytes[i % bytes.length], 16777619);
                out += line.toUpperCase() + ' ' + (hash >>> 0) + '\\n';
              }
              return out;
            }";
        self.service("grind", "1.0.0", &format!("{more}\n{asks}"), source)
    }

    /// The blur that ships with msm.
    pub fn blur(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/image-blur")
    }

    /// A market, with its keys in this process, that holds these services.
    pub fn market(&self, name: &str, services: &[PathBuf]) -> Market {
        let mut market = Market {
            folder: self.path(name),
            keys: [0, 1, 2].map(|n| SecretKey::from_seed(ContentHash::of(format!("{name}{n}").as_bytes()).as_bytes())),
            id: MarketId::from_bytes([0; 32]),
        };
        let made = MarketFolder::init(&market.folder, name, &market.signers(), now()).unwrap();
        market.id = made.share();
        for service in services {
            market.publish(service);
        }
        market
    }
}

/// What `grind` makes of a text.
pub fn grind(text: &str, rounds: usize) -> String {
    let line = |line: &str| {
        let bytes = line.as_bytes();
        let hash = (0..rounds)
            .fold(2_166_136_261_u32, |hash, i| (hash ^ u32::from(bytes[i % bytes.len()])).wrapping_mul(16_777_619));
        format!("{} {hash}\n", line.to_uppercase())
    };
    text.lines().map(line).collect()
}

/// Lines for `grind`.
pub fn lines(count: usize) -> String {
    (0..count).map(|n| format!("line {n} of the text\n")).collect()
}

pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target)
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// An operator's market.
pub struct Market {
    pub folder: PathBuf,
    pub id: MarketId,
    keys: [SecretKey; 3],
}

impl Market {
    pub fn signers(&self) -> Signers<'_> {
        Signers { root: vec![&self.keys[0]], index: vec![&self.keys[1]], head: vec![&self.keys[2]] }
    }

    /// Publishes a service; returns its manifest's hash.
    pub fn publish(&self, service: &Path) -> ContentHash {
        let folder = MarketFolder::open(&self.folder).unwrap();
        let package = pack_folder(service).unwrap();
        folder.publish(&package, &Publisher::named(self.keys[1].public()), &self.signers(), now()).unwrap();
        package.hash
    }

    /// The same market in another folder: from now on there are two.
    pub fn forked(&self, folder: PathBuf) -> Self {
        copy_folder(&self.folder, &folder);
        Self { folder, id: self.id, keys: self.keys.each_ref().map(|key| SecretKey::from_seed(&key.seed())) }
    }

    /// Gives the market new index and head keys, as after a theft.
    pub fn rotate_all(&self) {
        let [index, head] = [7, 8].map(|n| SecretKey::from_seed(&[n; 32]));
        let folder = MarketFolder::open(&self.folder).unwrap();
        let mut roles = folder.state().unwrap().trusted.root().unwrap().roles.clone();
        (roles.index.keys, roles.head.keys) = (vec![index.public()], vec![head.public()]);
        let signers = Signers { root: vec![&self.keys[0]], index: vec![&index], head: vec![&head] };
        assert!(folder.rotate(roles, &signers, now()).unwrap().wanting.is_empty());
    }

    /// Makes `home` trust it.
    pub fn trusted_by(&self, home: &Home) {
        self.enter(home, None);
    }

    /// Makes `home` trust it and serve it from its folder.
    pub fn served_by(&self, home: &Home) {
        self.enter(home, Some(self.folder.clone()));
    }

    fn enter(&self, home: &Home, publish_folder: Option<PathBuf>) {
        let entry = MarketEntry { alias: "test".into(), market: self.id, source: None, publish_folder, added: now() };
        home.update_markets::<_, HomeError>(|markets| Ok(markets.add(entry)?)).unwrap();
    }
}

/// A running `msm node`. Dropping it kills it.
pub struct Node {
    pub name: String,
    pub home: Home,
    pub peer: PeerId,
    /// Where others can dial it.
    pub address: String,
    child: Child,
    log: PathBuf,
}

impl Node {
    /// Starts a node and waits until it listens and answers.
    pub async fn start(home: &Home, flags: &[&str]) -> Self {
        Self::start_by(Command::new(MSM), home, flags).await
    }

    /// Starts a node by a command that runs `msm` with the arguments it is given.
    pub async fn start_by(mut command: Command, home: &Home, flags: &[&str]) -> Self {
        let name = home.folder().file_name().unwrap().to_string_lossy().into_owned();
        let log = home.folder().join("node.log");
        let peer = PeerId::of(&home.identity().unwrap().public());
        command.args(["node", "-v"]).args(flags).arg("--home").arg(home.folder());
        let child = clean(&mut command)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(&log).unwrap())
            .spawn()
            .unwrap();
        let mut node = Self { name, home: home.clone(), peer, address: String::new(), child, log };
        let status = until(&format!("{} is up", node.name), START, async || {
            let ended = node.child.try_wait().unwrap();
            assert!(ended.is_none(), "{} ended: {}\n{}", node.name, ended.unwrap(), node.log());
            let status = node.try_status().await.ok()?;
            (!status.addresses.is_empty()).then_some(status)
        })
        .await;
        assert_eq!(node.peer, status.peer_id);
        node.address = status.addresses[0].clone();
        node
    }

    /// Starts a node that dials `other`.
    pub async fn start_near(home: &Home, other: &Node) -> Self {
        let node = Self::start(home, &["--peer", &other.address]).await;
        node.sees(&[other]).await;
        node
    }

    /// The way in, as the command line takes it.
    pub fn door(&self) -> ControlClient {
        ControlClient::at(self.home.control_socket())
    }

    /// One command without input.
    pub async fn ask(&self, command: command::Command) -> Result<Reply, CommandError> {
        let (events, _) = mpsc::channel(1);
        self.door().execute(command.into(), events).await.map(|response| response.reply)
    }

    async fn try_status(&self) -> Result<Box<Status>, CommandError> {
        match self.ask(command::Command::Status).await? {
            Reply::Status(status) => Ok(status),
            other => panic!("{other:?}"),
        }
    }

    pub async fn status(&self) -> Box<Status> {
        self.try_status().await.unwrap_or_else(|error| panic!("{}: {error}\n{}", self.name, self.log()))
    }

    pub async fn peers(&self) -> Vec<PeerRow> {
        match self.ask(command::Command::Peers).await.unwrap() {
            Reply::Peers { peers, .. } => peers,
            other => panic!("{other:?}"),
        }
    }

    /// Version of its index of `market`.
    pub async fn version_of(&self, market: &Market) -> u64 {
        self.status().await.markets.iter().find(|row| row.market == market.id).map_or(0, |row| row.version)
    }

    /// Waits until it is connected to all of them.
    pub async fn sees(&self, others: &[&Node]) {
        until(&format!("{} sees {} others", self.name, others.len()), SOON, async || {
            let peers = self.peers().await;
            others.iter().all(|other| peers.iter().any(|row| row.peer_id == other.peer)).then_some(())
        })
        .await;
    }

    /// Waits until it has an index of `market` of at least this version.
    pub async fn has_index(&self, market: &Market, version: u64) {
        until(&format!("{} has index {version}", self.name), SOON, async || {
            (self.version_of(market).await >= version).then_some(())
        })
        .await;
    }

    /// Everything that happens on it from now on.
    pub async fn watch(&self) -> Watch {
        let (sender, events) = mpsc::channel(EVENT_QUEUE);
        let door = self.door();
        let task =
            tokio::spawn(async move { drop(door.execute(command::Command::Watch { job: None }.into(), sender).await) });
        let mut watch = Watch { events, task };
        // A watch that is being set up may miss an event: wait for one that it has seen.
        watch.settled(self).await;
        watch
    }

    /// Runs a service on it; `each` sees every event on the way.
    pub async fn invoke(
        &self,
        invoke: Invoke,
        input: impl Into<Blob>,
        mut each: impl FnMut(&Event),
    ) -> Result<(JobReport, Bytes), CommandError> {
        let (events, mut queue) = mpsc::channel(EVENT_QUEUE);
        let request = Request { command: command::Command::Invoke(Box::new(invoke)), input: input.into() };
        let door = self.door();
        let mut run = pin!(door.execute(request, events));
        let outcome = loop {
            tokio::select! {
                biased;
                Some(event) = queue.recv() => each(&event),
                outcome = &mut run => break outcome,
            }
        };
        while let Ok(event) = queue.try_recv() {
            each(&event);
        }
        let Response { reply, output } = outcome?;
        match reply {
            Reply::Job(report) => Ok((*report, output.whole(u64::MAX).await.unwrap())),
            other => panic!("{other:?}"),
        }
    }

    /// [`Self::invoke`] for a job that must succeed.
    pub async fn job(&self, invoke: Invoke, input: impl Into<Blob>, each: impl FnMut(&Event)) -> (JobReport, Bytes) {
        match self.invoke(invoke, input, each).await {
            Ok(done) => done,
            Err(error) => panic!("{}: {error}\n{}", self.name, self.log()),
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How its process ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// SIGKILL: gone without a word.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGTERM, and waits for its end.
    pub async fn leave(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        until(&format!("{} leaves", self.name), SOON, async || self.child.try_wait().unwrap()).await
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A number from `/proc/PID/status`, such as `VmRSS` in KiB.
    pub fn figure(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Its child processes: id and state (`Z` for a zombie).
    pub fn children(&self) -> Vec<(u32, char)> {
        let processes =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let of_mine = |pid: u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (_, rest) = stat.rsplit_once(") ")?;
            let mut fields = rest.split(' ');
            let state = fields.next()?.chars().next()?;
            (fields.next()?.parse() == Ok(self.pid())).then_some((pid, state))
        };
        processes.filter_map(of_mine).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Its own process, by its own id; one that was waited for is not signalled again.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of {} ---\n{}", self.name, self.log());
        } else {
            assert!(!self.log().contains("panicked at"), "{} panicked:\n{}", self.name, self.log());
        }
    }
}

/// Events of one node.
pub struct Watch {
    events: mpsc::Receiver<Event>,
    task: tokio::task::JoinHandle<()>,
}

impl Watch {
    async fn settled(&mut self, node: &Node) {
        // A job on this device alone that fails at once says so to everybody who watches.
        let end = Instant::now() + SOON;
        loop {
            let probe = Invoke { service: "no-such-service".into(), local: true, ..Invoke::default() };
            assert!(node.invoke(probe, Bytes::new(), |_| {}).await.is_err());
            match tokio::time::timeout(LOOK, self.events.recv()).await {
                Ok(Some(_)) => break,
                Ok(None) => panic!("the watch ended"),
                Err(_) => assert!(Instant::now() < end, "no events from {}", node.name),
            }
        }
        while let Ok(Some(_)) = tokio::time::timeout(LOOK, self.events.recv()).await {}
    }

    /// Waits for an event for which `pick` gives something.
    pub async fn next<T>(&mut self, what: &str, limit: Duration, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        let seen = async {
            loop {
                let event = self.events.recv().await.expect("the watch goes on");
                if let Some(picked) = pick(event) {
                    return picked;
                }
            }
        };
        tokio::time::timeout(limit, seen).await.unwrap_or_else(|_| panic!("{what}: not within {limit:?}"))
    }

    /// Waits until `peer` has left; how it did.
    pub async fn left(&mut self, peer: PeerId, limit: Duration) -> String {
        self.next("the peer leaves", limit, |event| match event {
            Event::PeerLeft { peer_id, reason, .. } if peer_id == peer => Some(reason),
            _ => None,
        })
        .await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A publisher's or worker's crew around one requester.
pub struct Crew {
    pub requester: Node,
    pub workers: Vec<Node>,
}

impl Crew {
    /// One requester and `count` workers on TCP that trust `market`; the first worker serves it.
    pub async fn gather(lab: &Lab, market: &Market, count: usize) -> Self {
        Self::gather_on(TCP, lab, market, count).await
    }

    /// The same, listening on another kind of address.
    pub async fn gather_on(listen: &str, lab: &Lab, market: &Market, count: usize) -> Self {
        let listen = format!("listen = [{listen:?}]");
        let home = lab.home_with("phone", &listen, MODEST);
        market.trusted_by(&home);
        let requester = Node::start(&home, &[]).await;
        let mut workers = Vec::new();
        for n in 0..count {
            let home = lab.home_with(&format!("worker{n}"), &listen, "slots = 1");
            if n == 0 {
                market.served_by(&home)
            } else {
                market.trusted_by(&home)
            }
            workers.push(Node::start(&home, &["--peer", &requester.address]).await);
        }
        requester.sees(&workers.iter().collect::<Vec<_>>()).await;
        if !workers.is_empty() {
            requester.has_index(market, 2).await;
        }
        Self { requester, workers }
    }

    /// Runs a short job until every worker has done a part of it: then all have the package.
    pub async fn warm(&self, short: &Invoke, input: impl Into<Blob>) {
        let (mut cold, input) = (self.workers.iter().map(|worker| worker.peer).collect::<Vec<_>>(), input.into());
        until("every worker has the package", SOON, async || {
            let (report, _) = self.requester.job(short.clone(), input.clone(), |_| {}).await;
            cold.retain(|peer| !report.devices.iter().any(|device| device.peer_id == *peer && device.tasks > 0));
            cold.is_empty().then_some(())
        })
        .await;
    }
}

/// A call of `grind` on this many devices.
pub fn grind_on(devices: u32, rounds: u64) -> Invoke {
    let params = serde_json::json!({ "rounds": rounds }).as_object().unwrap().clone();
    let devices = Devices::Range { min: devices, max: devices };
    Invoke { service: "grind".into(), params, devices, ..Invoke::default() }
}

/// The same on the requester alone.
pub fn locally(invoke: &Invoke) -> Invoke {
    Invoke { local: true, devices: Devices::Auto, ..invoke.clone() }
}

/// Each task of a finished job was counted once.
pub fn assert_counted_once(report: &JobReport) {
    assert_eq!(report.tasks_done, report.tasks, "{report:?}");
    assert_eq!(report.devices.iter().map(|device| device.tasks).sum::<u32>(), report.tasks, "{report:?}");
}

/// One finished call of `msm`.
pub struct Ran {
    pub code: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Ran {
    pub fn text(&self) -> String {
        String::from_utf8(self.out.clone()).unwrap()
    }

    /// The one JSON object that stdout has, and nothing else.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.err);
        let text = self.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The `msm.error/1` object on stderr, beside an empty stdout.
    pub fn error(&self) -> Value {
        assert_ne!(self.code, 0, "{}", self.text());
        assert!(self.out.is_empty(), "{}", self.text());
        let last = self.err.lines().last().unwrap_or_default();
        let error: Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {}", self.err));
        assert_eq!(error["schema"], "msm.error/1");
        error
    }
}

/// Runs `msm` on `home` to its end.
pub async fn msm(home: &Home, args: &[&str]) -> Ran {
    msm_with(home, args, "").await
}

/// Runs `msm` with this standard input.
pub async fn msm_with(home: &Home, args: &[&str], input: &str) -> Ran {
    run(msm_command(home, args), input).await
}

/// `msm` on `home`, not started yet.
pub fn msm_command(home: &Home, args: &[&str]) -> Command {
    let mut command = Command::new(MSM);
    command.args(args).env("MSM_HOME", home.folder()).current_dir(home.folder());
    command
}

/// Runs a command to its end.
pub async fn run(mut command: Command, input: &str) -> Ran {
    use tokio::io::AsyncWriteExt;
    clean(&mut command);
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let mut child = tokio::process::Command::from(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that does not read its input has said all that it wants.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let ended = tokio::time::timeout(CALL, child.wait_with_output()).await;
    let output = ended.unwrap_or_else(|_| panic!("msm {args:?} did not end within {CALL:?}")).unwrap();
    Ran { code: output.status.code().unwrap_or(-1), out: output.stdout, err: String::from_utf8(output.stderr).unwrap() }
}

/// Without settings of whoever runs the tests.
fn clean(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MSM_")) {
        if !command.get_envs().any(|(set, _)| *set == *name) {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1")
}

/// Writes a picture with edges, gradients and noise: a blur that loses or moves a row changes it.
pub fn photo(path: &Path, width: u32, height: u32) {
    let mut noise = 0x9e37_79b9_u32;
    let picture = image::RgbImage::from_fn(width, height, |x, y| {
        // xorshift
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        let stripes = if (x / 16 + y / 24) % 2 == 0 { 200 } else { 20 };
        image::Rgb([(x * 255 / width) as u8, stripes ^ (noise as u8 & 0x1f), (y * 255 / height) as u8])
    });
    picture.save_with_format(path, image::ImageFormat::Png).unwrap();
}
