//! What every task of a node shares: handles to the actors, and a few small tables behind short locks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, atomic::AtomicU32},
    time::{Duration, Instant},
};

use msm_protocol::{PeerId, Refusal, RefusalCode, SecretKey, device::DeviceInfo, limits::DEVICE_LIST};
use msm_sandbox::{Ceiling, Sandbox};
use tokio::sync::{OnceCell, Semaphore, mpsc, oneshot, watch};

use crate::{
    clock,
    command::Event,
    config::{Config, Who},
    monitor::{Monitor, Sample},
    net::NetHandle,
    node::{
        events::Events,
        inputs::Inputs,
        journal::{Journals, table::Table},
        lanes::Lanes,
        lending::{self, Now, Pause},
        markets::Markets,
        measured::Measured,
        packages::Packages,
        peers::PeerSnapshot,
        reports::Reports,
        slots::Slots,
        trust::TrustBook,
    },
    resources::{Steward, words::Kin},
    speed::Speed,
    store::StoreHandle,
};

/// Peers remembered as banned; the oldest is forgotten for the newest. *Judgement.*
const BANS: usize = 256;

/// Questions to the coordinator, who owns the table of peers.
#[derive(Debug)]
pub enum Ask {
    /// Everybody connected, with what is known of them.
    Peers(oneshot::Sender<Vec<PeerSnapshot>>),
    /// A peer did something that no honest peer does.
    Strike(PeerId, String),
    /// A market was added, or has a newer index: tell others, and listen to its gossip.
    MarketChanged(msm_protocol::MarketId),
    /// A market is not trusted any more.
    MarketRemoved(msm_protocol::MarketId),
    /// A peer has told about itself, or would not.
    Told(PeerId, Option<Box<DeviceInfo>>),
    /// A peer did not do what it had said that it would: who needs it asks it first.
    Doubted(PeerId),
}

/// Shared by every task of one node.
pub struct Context {
    /// When the node started.
    pub started: Instant,
    /// Set when the first neighbours have had their time to connect.
    pub settled: OnceCell<()>,
    /// This node's id.
    pub local: PeerId,
    /// Signs receipts and presence.
    pub key: SecretKey,
    /// The network.
    pub net: NetHandle,
    /// Blobs.
    pub store: StoreHandle,
    /// Guests.
    pub sandbox: Sandbox,
    /// State of this device.
    pub monitor: Arc<Monitor>,
    /// What guests may use of it beside its processor.
    pub steward: Arc<Steward>,
    /// The owner's settings.
    pub config: Config,
    /// His word that nothing is lent for a while.
    pub pause: watch::Sender<Option<Pause>>,
    /// Of one core.
    pub speed: Speed,
    /// Trusted markets.
    pub markets: Markets,
    /// Packages ready to run.
    pub packages: Packages,
    /// How workers have answered.
    pub trust: TrustBook,
    /// Guests of others that may run at a time, and their memory (`offer.memory`).
    pub slots: Slots,
    /// How many slots there are.
    pub slot_count: usize,
    /// The processor time that they may take together, where they could take more (`offer.cpu`).
    pub ceiling: Option<Ceiling>,
    /// Guests of the owner's own jobs: they never wait behind strangers.
    pub own_slots: Arc<Semaphore>,
    /// How many of those there are.
    pub own_slot_count: usize,
    /// Memory for inputs of others.
    pub inputs: Inputs,
    /// Tasks of others that run now.
    pub running_tasks: AtomicU32,
    /// Lanes of others that may be open.
    pub job_streams: Arc<Semaphore>,
    /// Lanes to others.
    pub lanes: Lanes,
    /// Who is connected.
    pub connected: watch::Receiver<Arc<Vec<PeerId>>>,
    /// To the coordinator.
    pub asks: mpsc::Sender<Ask>,
    /// What is kept of jobs.
    pub journals: Journals,
    /// Jobs that run now.
    pub jobs: Arc<Table>,
    /// What became of the newest.
    pub reports: Reports,
    /// Everybody who listens.
    pub events: Events,
    /// What jobs have shown of services, devices and links.
    pub measured: Measured,
    /// When peers were last asked about themselves by jobs that did not wait for the answer.
    pub asked: Mutex<HashMap<PeerId, Instant>>,
    /// Peers not dealt with for a while.
    pub bans: Mutex<HashMap<PeerId, Instant>>,
}

impl Context {
    /// Peers connected now.
    pub fn connected(&self) -> Vec<PeerId> {
        self.connected.borrow().to_vec()
    }

    /// Waits until `peer` is connected; false when it is not within `patience`.
    pub async fn wait_connected(&self, peer: PeerId, patience: Duration) -> bool {
        let mut connected = self.connected.clone();
        let there = connected.wait_for(|peers| peers.contains(&peer));
        matches!(tokio::time::timeout(patience, there).await, Ok(Ok(_)))
    }

    /// Waits until anybody is connected; false when nobody is within `patience`.
    pub async fn wait_anybody(&self, patience: Duration) -> bool {
        let mut connected = self.connected.clone();
        let there = connected.wait_for(|peers| !peers.is_empty());
        matches!(tokio::time::timeout(patience, there).await, Ok(Ok(_)))
    }

    /// Tells everybody whom it concerns. Nobody listening is fine.
    pub fn emit(&self, event: Event) {
        self.events.emit(&event);
    }

    /// Tells the coordinator.
    pub async fn tell(&self, ask: Ask) {
        let _ = self.asks.send(ask).await;
    }

    /// True for another device of the same owner.
    pub fn is_own(&self, peer: &PeerId) -> bool {
        self.config.node.own.contains(peer)
    }

    /// What the coordinator knows of the connected peers.
    pub async fn peers(&self) -> Vec<PeerSnapshot> {
        let (answer, receiver) = oneshot::channel();
        self.tell(Ask::Peers(answer)).await;
        receiver.await.unwrap_or_default()
    }

    fn bans(&self) -> MutexGuard<'_, HashMap<PeerId, Instant>> {
        self.bans.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// True while `peer` is not to be asked for anything.
    pub fn is_banned(&self, peer: &PeerId) -> bool {
        self.bans().get(peer).is_some_and(|until| *until > Instant::now())
    }

    /// Deals with `peer` no more until `time` has passed. Not for the coordinator, who would wait for himself.
    pub async fn ban(&self, peer: PeerId, time: Duration, why: &str) {
        self.remember_ban(peer, time, why);
        self.tell(Ask::Strike(peer, why.to_owned())).await;
    }

    /// The ban alone, without the strike.
    pub fn remember_ban(&self, peer: PeerId, time: Duration, why: &str) {
        tracing::warn!(peer = peer.short(), why, seconds = time.as_secs(), "peer banned");
        let mut bans = self.bans();
        let now = Instant::now();
        bans.retain(|_, until| *until > now);
        if bans.len() >= BANS
            && let Some(first) = bans.iter().min_by_key(|(_, until)| **until).map(|(peer, _)| *peer)
        {
            bans.remove(&first);
        }
        bans.insert(peer, now + time);
    }

    /// This device as it is now. Reads the newest sample; never waits for one.
    pub fn device(&self) -> DeviceInfo {
        let sample = self.monitor.sample();
        let (cpu, mem, battery) = (sample.cpu_free.min(self.config.offer.cpu), sample.mem_free, sample.battery.level);
        DeviceInfo {
            v: 1,
            eqs: msm_scheduler::eqs::eqs0(self.speed.value(), cpu, mem, battery),
            ext: msm_protocol::device::DeviceExt {
                cpu,
                mem,
                name: self.config.name.clone(),
                cores: self.slot_count as u16,
                slots: self.slots.free() as u16,
                speed: self.speed.value(),
                battery,
                engines: self.config.offer.engines.iter().map(|engine| engine.as_str().to_owned()).collect(),
                markets: self.markets.view().iter().map(|market| market.id).take(DEVICE_LIST).collect(),
            },
            gps: sample.gps,
            network: sample.network,
            availability: self.lending().is_ok(),
        }
    }

    /// Whether tasks of this peer are taken now, or why not.
    pub fn lends_to(&self, peer: &PeerId) -> Result<(), Refusal> {
        let kin = self.steward.caller(*peer).kin;
        self.lending().map_err(|refusal| match (kin, refusal.code) {
            // The number is for those whom the owner knows.
            (Kin::Stranger, RefusalCode::NotLending) => Refusal::new(refusal.code, "this device does not lend now"),
            _ => refusal,
        })?;
        if self.config.offer.who == Who::Known && kin < Kin::Known {
            return Err(Refusal::new(RefusalCode::Denied, "this device is lent to known peers only (offer.who)"));
        }
        Ok(())
    }

    /// Whether tasks of others are taken now, or why not.
    pub fn lending(&self) -> Result<(), Refusal> {
        let Sample { battery, idle_for, minute_of_day, .. } = self.monitor.sample();
        let (pause, has_market) = (*self.pause.borrow(), !self.markets.view().is_empty());
        let now = Now { unix: clock::now(), minute_of_day, idle_for, battery, pause, has_market };
        lending::lending(&now, &self.config.offer)
    }
}
