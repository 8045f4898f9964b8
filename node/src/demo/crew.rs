//! The demo's stage (a market and one home per device) and its crew (one `msm node` process per worker).

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command as Process, Stdio},
    time::Duration,
};

use msm_market_index::{MarketFolder, Publisher, Signers, pack_folder};
use msm_protocol::PeerId;
use tempfile::TempDir;

use super::WorkerId;
use crate::{
    command::{CommandError, ErrorCode},
    home::{Home, MarketEntry},
    keys,
    node::NodeDoor,
    speed::Speed,
};

/// What the devices are called.
const NAMES: [&str; 16] = [
    "attic", "garage", "kitchen", "cellar", "porch", "study", "hall", "barn", "loft", "tower", "shed", "studio", "den",
    "mill", "gate", "dock",
];
/// The service's folder, carried in the program.
const SERVICE: [(&str, &[u8]); 3] = [
    ("service.toml", include_bytes!("../../../services/image-blur/service.toml")),
    ("src/main.js", include_bytes!("../../../services/image-blur/src/main.js")),
    ("build/image-blur.wasm", include_bytes!("../../../services/image-blur/build/image-blur.wasm")),
];

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One temporary folder with everything in it.
pub struct Stage {
    folder: TempDir,
    /// Home of this process's node.
    pub requester: Home,
    workers: Vec<(String, Home)>,
    /// The market's fingerprint, for people.
    pub fingerprint: String,
}

impl Stage {
    /// Makes the market, publishes the service and prepares `workers` homes that trust the market. The first of them
    /// publishes it; the others know nothing but its fingerprint.
    pub fn build(workers: usize, now: u64) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("msm-demo-").tempdir()?;
        let service = folder.path().join("image-blur");
        for (path, bytes) in SERVICE {
            let path = service.join(path);
            fs::create_dir_all(path.parent().unwrap_or(&service))?;
            fs::write(path, bytes)?;
        }
        let market_folder = folder.path().join("market");
        let (root, online) = (keys::random()?, keys::random()?);
        let signers = Signers { root: vec![&root], index: vec![&online], head: vec![&online] };
        let market = MarketFolder::init(&market_folder, "Demo Market", &signers, now)?;
        market.publish(&pack_folder(&service)?, &Publisher::named(online.public()), &signers, now)?;

        let requester = home(folder.path(), "phone", "[offer]\ncpu = \"50%\"\n")?;
        // All devices are this machine: its speed is measured once.
        Speed::load_or_measure(&requester).settle();
        let entry = |publish_folder| MarketEntry {
            alias: "demo".into(),
            market: market.share(),
            source: None,
            publish_folder,
            added: now,
        };
        trust(&requester, entry(None))?;
        let mut homes = Vec::new();
        for (index, name) in NAMES.iter().take(workers).enumerate() {
            let home = home(folder.path(), name, "[offer]\nslots = 1\n")?;
            fs::copy(requester.speed_file(), home.speed_file())?;
            trust(&home, entry((index == 0).then(|| market_folder.clone())))?;
            homes.push(((*name).to_owned(), home));
        }
        Ok(Self { folder, requester, workers: homes, fingerprint: market.share().fingerprint() })
    }

    /// Leaves the folder where it is.
    pub fn keep(self) -> PathBuf {
        self.folder.keep()
    }
}

fn home(folder: &Path, name: &str, config: &str) -> Result<Home, Failure> {
    let path = folder.join(name);
    let home = Home::open(Some(&path))?;
    fs::write(home.config_file(), format!("name = \"{name}\"\n{config}"))?;
    Ok(home)
}

fn trust(home: &Home, entry: MarketEntry) -> Result<(), Failure> {
    home.update_markets::<_, crate::home::HomeError>(|markets| Ok(markets.add(entry)?))?;
    Ok(())
}

struct Worker {
    name: String,
    peer: PeerId,
    process: Child,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Its own process, by its own id; a process that has ended already is only collected.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The worker processes. Dropping it ends them.
pub struct Crew {
    workers: Vec<Worker>,
    ids: Vec<WorkerId>,
}

impl Crew {
    /// Starts one process for each worker's home; each dials `requester`.
    pub fn start(stage: &Stage, requester: &str) -> Result<Self, Failure> {
        let program = std::env::current_exe()?;
        let mut crew = Self { workers: Vec::new(), ids: Vec::new() };
        for (name, home) in &stage.workers {
            let peer = PeerId::of(&home.identity()?.public());
            let log = fs::File::create(home.folder().join("node.log"))?;
            let process = Process::new(&program)
                .args(["node", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0", "--peer", requester, "--home"])
                .arg(home.folder())
                .env_remove("MSM_HOME")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .map_err(|e| io::Error::new(e.kind(), format!("cannot start {name}: {e}")))?;
            crew.workers.push(Worker { name: name.clone(), peer, process });
            crew.ids.push(WorkerId { name: name.clone(), peer });
        }
        Ok(crew)
    }

    /// Waits until every worker is connected.
    pub async fn gather(&mut self, door: &NodeDoor, patience: Duration) -> Result<(), CommandError> {
        let peers: Vec<PeerId> = self.ids.iter().map(|id| id.peer).collect();
        if door.wait_connected(&peers, patience).await {
            return Ok(());
        }
        let ended: Vec<String> = self
            .workers
            .iter_mut()
            .filter_map(|worker| {
                let status = worker.process.try_wait().ok()??;
                Some(format!("{} ({status})", worker.name))
            })
            .collect();
        let message = format!("not all devices came up in {} s; ended: {}", patience.as_secs(), ended.join(", "));
        Err(CommandError::new(ErrorCode::Failed, message).or_try("msm doctor"))
    }

    /// Number of workers.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Their names.
    pub fn names(&self) -> Vec<&str> {
        self.ids.iter().map(|id| id.name.as_str()).collect()
    }

    /// Who is to be killed: not the publisher, though the job would survive that too.
    pub fn victim(&self) -> Option<PeerId> {
        self.ids.last().map(|id| id.peer)
    }

    /// Kills a worker's process with SIGKILL; returns its name.
    pub fn kill(&mut self, peer: PeerId) -> Option<String> {
        let at = self.workers.iter().position(|worker| worker.peer == peer)?;
        Some(self.workers.remove(at).name.clone())
    }

    /// Ends all processes.
    pub async fn end(self) {
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}
