//! A running node. Read in this order:
//!
//! 1. [`peers`], [`rates`], [`measured`]: the tables. [`context`]: what every task shares.
//! 2. [`coordinator`]: the driver that hears the network and decides.
//! 3. [`markets`], [`fetch`], [`packages`]: from a trusted fingerprint to code that may run.
//! 4. [`frames`], [`worker`], [`inputs`], [`slots`], [`lending`], [`pause`], [`standing`]: serving others. [`job`],
//!    [`lanes`]: using others; [`trust`]: whom to believe; [`journal`]: what is kept of jobs.
//! 5. [`door`]: carrying out commands; [`consent`]: those about grants; [`events`]: who hears of what.

pub mod consent;
pub mod context;
pub mod coordinator;
pub mod door;
pub mod events;
pub mod fetch;
pub mod frames;
pub mod inputs;
pub mod job;
pub mod journal;
pub mod lanes;
pub mod lending;
pub mod markets;
pub mod measured;
pub mod packages;
pub mod pause;
pub mod peers;
pub mod rates;
pub mod reports;
pub mod slots;
pub mod standing;
pub mod trust;
pub mod worker;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use msm_protocol::PeerId;
use msm_sandbox::{Ceiling, Sandbox, SandboxConfig};
use tokio::sync::{OnceCell, Semaphore, mpsc, watch};

pub use door::NodeDoor;

use self::{
    context::Context,
    coordinator::{ASKS, Coordinator},
    events::Events,
    inputs::Inputs,
    journal::Journals,
    lanes::Lanes,
    markets::Markets,
    measured::Measured,
    packages::Packages,
    reports::Reports,
    slots::Slots,
    trust::TrustBook,
};
use crate::{
    command::{CommandError, ErrorCode},
    config::{BadValue, Config, RawConfig, Settings},
    floors::Floors,
    home::{Home, HomeLock},
    monitor::Monitor,
    net::{self, NetConfig, NetError},
    resources::{Steward, steward::Household},
    speed::Speed,
    store::StoreHandle,
};

/// Guests of the owner's own jobs at a time, on however many cores: each takes a child and its memory. *Judgement.*
const OWN_SLOTS: usize = 8;
/// Lanes of others that may be open at a time, in all. A few stay warm for each requester.
const JOB_STREAMS: usize = 128;

/// How a node is started.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// Its files.
    pub home: Home,
    /// Multiaddresses to listen on; empty for what the configuration says.
    pub listen: Vec<String>,
    /// Multiaddresses to dial; empty for what the configuration says.
    pub peers: Vec<String>,
    /// Announce and discover by mDNS, when a flag says so.
    pub mdns: Option<bool>,
    /// Lend this device, when a flag says so.
    pub offer: Option<bool>,
    /// Started for one call only.
    pub ephemeral: bool,
}

impl NodeOptions {
    /// The flags as the topmost layer of the configuration.
    fn flags(&self) -> Result<RawConfig, CommandError> {
        let usage = |e: BadValue| CommandError::new(ErrorCode::Usage, e.to_string());
        let mut flags = RawConfig::default();
        if !self.listen.is_empty() {
            let parsed = self.listen.iter().map(|text| text.parse()).collect::<Result<_, _>>();
            flags.node.listen = Some(parsed.map_err(usage)?);
        }
        if !self.peers.is_empty() {
            let parsed = self.peers.iter().map(|text| text.parse()).collect::<Result<_, _>>();
            flags.node.peers = Some(parsed.map_err(usage)?);
        }
        flags.node.mdns = self.mdns;
        flags.offer.enabled = self.offer;
        Ok(flags)
    }
}

/// A running node. Dropping it without [`Node::shutdown`] ends it without a word to its peers.
pub struct Node {
    ctx: Arc<Context>,
    home: Home,
    settings: Settings,
    addresses: watch::Receiver<Vec<libp2p::Multiaddr>>,
    coordinator: tokio::task::JoinHandle<()>,
    _lock: HomeLock,
}

fn failed(error: impl std::fmt::Display) -> CommandError {
    CommandError::new(ErrorCode::Failed, error.to_string())
}

impl Node {
    /// Starts a node: reads the home, opens the store, joins the network.
    pub async fn start(options: NodeOptions) -> Result<Self, CommandError> {
        let flags = options.flags()?;
        let home = options.home;
        let lock = home.lock()?;
        let mut config = Config::load(&home, flags)?;
        let settings = Settings::of(&home);
        let pause = home.pause()?;
        if options.ephemeral {
            config.offer.enabled = false;
        }
        for warning in &config.warnings {
            tracing::warn!(warning, "configuration");
        }
        let key = home.identity()?;
        let floors = Arc::new(Floors::open(&home.floors_dir())?);
        let store = StoreHandle::open(&home.store_dir()).await?;
        let speed = Speed::load_or_measure(&home);
        let monitor = Arc::new(Monitor::start(&config));
        let household = Household {
            local: PeerId::of(&key.public()),
            known: config.node.peers.iter().filter_map(door::peer_of).collect(),
            name: config.name.clone(),
        };
        let steward = Arc::new(Steward::start(home.clone(), household, config.resources.clone(), monitor.clone())?);
        let listen = config.node.listen.clone();
        let mdns = config.node.mdns;
        let (net, net_events) = net::start(NetConfig { key: home.identity()?, listen, mdns }).await.map_err(failed)?;
        let markets = Markets::open(home.clone(), floors, &store).await?;

        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let slot_count = config.offer.slot_count(cores);
        let own_slot_count = cores.min(OWN_SLOTS);
        let ceiling = Ceiling::new(config.offer.cpu * cores as f64, slot_count).map_err(failed)?;
        let sandbox = SandboxConfig { cache: Some(home.compiled_dir()), ..SandboxConfig::default() };
        // A child for everybody who holds a slot: guests of others that wait for one would hold up the owner's.
        let max_children = sandbox.max_children.max(slot_count + own_slot_count);
        let sandbox = Sandbox::new(SandboxConfig { max_children, ..sandbox }).map_err(failed)?;
        let guest_mib = u32::try_from(config.offer.memory >> 20).unwrap_or(u32::MAX);
        let (connected_sender, connected) = watch::channel(Arc::new(Vec::<PeerId>::new()));
        let (address_sender, addresses) = watch::channel(Vec::new());
        let (asks, ask_receiver) = mpsc::channel(ASKS);
        let ctx = Arc::new(Context {
            started: Instant::now(),
            settled: OnceCell::new(),
            local: PeerId::of(&key.public()),
            key,
            net,
            store,
            sandbox,
            monitor,
            steward,
            config,
            pause: watch::Sender::new(pause),
            speed,
            markets,
            packages: Packages::default(),
            slots: Slots::new(slot_count, guest_mib),
            trust: TrustBook::open(&home),
            slot_count,
            ceiling,
            own_slots: Arc::new(Semaphore::new(own_slot_count)),
            own_slot_count,
            inputs: Inputs::default(),
            running_tasks: AtomicU32::new(0),
            job_streams: Arc::new(Semaphore::new(JOB_STREAMS)),
            lanes: Lanes::default(),
            connected,
            asks,
            journals: Journals::open(&home.journal_dir()).map_err(failed)?,
            jobs: Arc::default(),
            reports: Reports::default(),
            events: Events::default(),
            measured: Measured::open(&home),
            asked: Mutex::default(),
            bans: Mutex::default(),
        });
        let coordinator = Coordinator::new(ctx.clone(), connected_sender, address_sender);
        let coordinator = tokio::spawn(coordinator.run(net_events, ask_receiver));
        let node = Self { ctx, home, settings, addresses, coordinator, _lock: lock };
        if let Err(error) = node.ctx.markets.reload(&node.ctx).await {
            tracing::error!(%error, "a published market is not served");
        }
        if let Some(missing) = node.ctx.sandbox.walls().missing() {
            tracing::warn!(missing, "guests run behind fewer walls than they should: msm doctor");
        }
        node.dial_configured();
        node.measure_again();
        let unfinished = job::remember(&node.ctx).await;
        if !options.ephemeral {
            job::resume_all(&node.ctx, unfinished);
        }
        Ok(node)
    }

    /// From now on jobs that end do so because the node does: they go on when it is started again.
    pub fn begin_to_end(&self) {
        self.ctx.journals.end();
    }

    /// Measures this machine's speed until it was measured often enough, while it does nothing for others.
    fn measure_again(&self) {
        let ctx = Arc::downgrade(&self.ctx);
        tokio::spawn(async move {
            while let Some(wait) = ctx.upgrade().and_then(|ctx| ctx.speed.next()) {
                tokio::time::sleep(wait).await;
                let Some(ctx) = ctx.upgrade() else { return };
                if ctx.running_tasks.load(Ordering::Relaxed) == 0 {
                    drop(tokio::task::spawn_blocking(move || ctx.speed.measure_again()).await);
                }
            }
        });
    }

    /// Dials the addresses that the owner gave, again and again while they do not answer.
    fn dial_configured(&self) {
        // Some only say who is known: `/p2p/PEER` leads nowhere.
        let leads = |address: &&libp2p::Multiaddr| {
            !matches!(address.iter().next(), None | Some(libp2p::multiaddr::Protocol::P2p(_)))
        };
        for address in self.ctx.config.node.peers.iter().filter(leads) {
            let (ctx, address) = (self.ctx.clone(), address.clone());
            tokio::spawn(async move {
                let mut wait = Duration::from_millis(250);
                while let Err(error) = ctx.net.dial(door::peer_of(&address), vec![address.clone()]).await {
                    if error == NetError::Closed {
                        return;
                    }
                    tracing::debug!(%address, %error, "not reached yet");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(30));
                }
            });
        }
    }

    /// Carries out commands.
    pub fn door(&self) -> NodeDoor {
        NodeDoor::new(self.ctx.clone(), self.home.clone(), self.settings, self.addresses.clone())
    }

    /// Its home.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Leaves the network in order and ends, when what is kept of jobs that somebody waited for is on the disk. Nobody may
    /// wait for a job any more.
    pub async fn shutdown(self) {
        self.ctx.net.shutdown().await;
        self.ctx.journals.settled().await;
        self.ctx.store.flush().await;
        self.ctx.measured.save();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The coordinator holds what holds everything else.
        self.coordinator.abort();
    }
}
