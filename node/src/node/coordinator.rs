//! The driver of the node: hears the network and its own tasks, keeps the table of peers, decides.
//!
//! It never waits for the network: whatever takes time runs as a task of its own and reports back.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::Multiaddr;
use msm_protocol::{
    Envelope, MarketId, PeerId, Refusal, RefusalCode,
    limits::{CHUNK_BYTES, PACKAGE_BYTES, PRESENCE_ADDRESSES},
    message::{BlobRange, BlobRequest, BlobResponse, Discovery, Presence},
};
use serde_bytes::ByteBuf;
use tokio::sync::{Semaphore, mpsc, watch};

use super::{
    context::{Ask, Context},
    fetch::BAN,
    markets::{self, HeadNews},
    packages, pause,
    peers::{Network, PeerTable},
    rates::{Allowed, Kind, Rates},
    worker,
};
use crate::{
    command::Event,
    config::Interfaces,
    net::{FoundBy, Gossip, NetEvent, Verdict, limits::JOB_STREAMS_PER_PEER},
};

/// Questions of the node's tasks that wait for the coordinator.
pub const ASKS: usize = 256;
/// Unconnected peers are tried again, and DeviceInfos asked again, this often.
const ROUND: Duration = Duration::from_secs(10);
/// Whether the DHT has grown is looked at this often.
const ANNOUNCE: Duration = Duration::from_millis(500);
/// Presence is gossiped this often.
const PRESENCE: Duration = Duration::from_secs(30);
/// Addresses of one presence message that are dialled: two transports.
const PRESENCE_DIALLED: usize = 2;
/// A presence message is news for this long.
const PRESENCE_AGE: u64 = 120;
/// Markets are compared with a neighbour's this often, besides when it connects and when it gossips.
const SYNC: Duration = Duration::from_secs(60);
/// Strikes after which a peer is blocked, for as long as a ban.
const STRIKES: u32 = 3;

/// Excluded networks looked at. *Judgement.*
const EXCLUDED: usize = 64;
/// Peers blocked at a time; the one blocked longest makes room. *Judgement.*
const BLOCKED: usize = 256;

/// The coordinator's own state.
pub struct Coordinator {
    ctx: Arc<Context>,
    peers: PeerTable,
    rates: Rates,
    listening: Vec<Multiaddr>,
    connected: watch::Sender<Arc<Vec<PeerId>>>,
    addresses: watch::Sender<Vec<Multiaddr>>,
    strikes: HashMap<PeerId, u32>,
    blocked: Vec<(PeerId, Instant)>,
    /// Job streams that each peer may open.
    streams: HashMap<PeerId, Arc<Semaphore>>,
    /// Somebody has entered the routing table since the DHT was last told what is here.
    routed: bool,
    /// Connected peers that have not told their names yet; `connected` bounds them.
    nameless: HashSet<PeerId>,
    /// When it was last told.
    announced: Option<Instant>,
    /// What the newest presence message was about: its time, and whether this device lent.
    present: (u64, bool),
}

impl Coordinator {
    /// A coordinator with empty tables.
    pub fn new(
        ctx: Arc<Context>,
        connected: watch::Sender<Arc<Vec<PeerId>>>,
        addresses: watch::Sender<Vec<Multiaddr>>,
    ) -> Self {
        Self {
            ctx,
            peers: PeerTable::default(),
            rates: Rates::default(),
            listening: Vec::new(),
            connected,
            addresses,
            strikes: HashMap::new(),
            blocked: Vec::new(),
            streams: HashMap::new(),
            routed: false,
            nameless: HashSet::new(),
            announced: None,
            present: (0, false),
        }
    }

    /// Runs until the network or the node ends.
    pub async fn run(mut self, mut net: mpsc::Receiver<NetEvent>, mut asks: mpsc::Receiver<Ask>) {
        for market in self.ctx.markets.view().iter() {
            self.ctx.net.subscribe(market.id).await;
            if market.version() > 0 {
                self.ctx.net.provide(markets::place_of(&market.id)).await;
            }
        }
        let mut round = tokio::time::interval(ROUND);
        let mut presence = tokio::time::interval(PRESENCE);
        let mut sync = tokio::time::interval(SYNC);
        let mut announce = tokio::time::interval(ANNOUNCE);
        loop {
            tokio::select! {
                event = net.recv() => match event {
                    Some(event) => self.hear(event).await,
                    None => return,
                },
                ask = asks.recv() => match ask {
                    Some(ask) => self.answer(ask).await,
                    None => return,
                },
                _ = round.tick() => self.round().await,
                _ = presence.tick() => self.tell_presence().await,
                _ = sync.tick() => self.spawn_sync(),
                _ = announce.tick() => {
                    pause::look(&self.ctx);
                    self.tell_lending().await;
                    self.announce().await;
                }
            }
        }
    }

    // ---- The network speaks -----------------------------------------------------------------------------------------

    async fn hear(&mut self, event: NetEvent) {
        let now = Instant::now();
        match event {
            NetEvent::Listening(address) => {
                self.listening.push(address);
                self.addresses.send_replace(self.listening.clone());
                self.tell_presence().await;
            }
            NetEvent::NotListening(address) => {
                self.listening.retain(|known| *known != address);
                self.addresses.send_replace(self.listening.clone());
            }
            NetEvent::Connected { peer, address, inbound } => self.joined(peer, &address, inbound),
            NetEvent::Disconnected { peer, reason } => self.left(peer, reason).await,
            NetEvent::DialFailed { peer: Some(peer) } => self.peers.dial_failed(&peer, now),
            NetEvent::DialFailed { peer: None } => {}
            NetEvent::Rtt { peer, rtt } => self.peers.rtt(&peer, rtt),
            NetEvent::Identified { peer, addresses, speaks_kad } => self.identified(peer, &addresses, speaks_kad).await,
            NetEvent::Discovered { peer, address, by } => self.discovered(peer, &address, by).await,
            NetEvent::DeviceAsked { peer, message, reply } => {
                if self.allowed(peer, Kind::Device).await {
                    self.ctx.net.answer_device(reply, &self.device_for(&message)).await;
                }
            }
            NetEvent::HeadAsked { peer, message, reply } => {
                if self.allowed(peer, Kind::Head).await {
                    let response = self.ctx.markets.head_response(&message);
                    self.ctx.net.answer_head(reply, &response).await;
                }
            }
            NetEvent::BlobAsked { peer, message, reply } => {
                let allowed = self.allowed(peer, Kind::Blob).await;
                let ctx = self.ctx.clone();
                tokio::spawn(async move {
                    let response = if allowed { serve_blob(&ctx, &message).await } else { rate_limited() };
                    ctx.net.answer_blob(reply, &response).await;
                });
            }
            NetEvent::JobStream { peer, stream } => self.job_stream(peer, stream).await,
            NetEvent::PresenceGossip(gossip) => self.presence(gossip).await,
            NetEvent::MarketGossip { market, gossip } => self.market_gossip(market, gossip).await,
            NetEvent::RecordOffered { from, market, head, record } => match self.ctx.markets.judge(&market, &head) {
                HeadNews::Bad => self.strike(from, "a head record with a bad signature").await,
                HeadNews::Newer => {
                    self.ctx.net.store_record(record).await;
                    self.spawn_sync_with(market, from);
                }
                HeadNews::Current => self.ctx.net.store_record(record).await,
                HeadNews::Contradiction => {
                    let ctx = self.ctx.clone();
                    tokio::spawn(async move { ctx.markets.compare(&ctx, &market, &head, Some(from)).await });
                }
                HeadNews::Old | HeadNews::Unknown => {}
            },
            NetEvent::ProviderOffered { from, record } => {
                let blob = crate::net::event_loop::blob_of_key(record.key.as_ref()).is_some();
                if blob && self.rates.allow(from, Kind::Provide, now) == Allowed::Yes {
                    self.ctx.net.store_provider(record).await;
                }
            }
            NetEvent::Misbehaved { peer, what } => self.strike(peer, &what).await,
        }
    }

    fn joined(&mut self, peer: PeerId, address: &Multiaddr, inbound: bool) {
        self.peers.connected(peer, address, inbound, Instant::now());
        self.publish_connected();
        tracing::info!(peer = peer.short(), %address, inbound, "peer connected");
        self.nameless.insert(peer);
        self.spawn_device_query(peer);
        for market in self.ctx.markets.view().iter() {
            self.spawn_sync_with(market.id, peer);
        }
    }

    async fn left(&mut self, peer: PeerId, reason: String) {
        let name = self.peers.name(&peer);
        self.peers.disconnected(&peer, Instant::now());
        self.streams.remove(&peer);
        self.publish_connected();
        self.ctx.net.unroute(peer).await;
        tracing::info!(peer = peer.short(), reason, "peer left");
        self.introduce(peer);
        self.ctx.emit(Event::PeerLeft { peer_id: peer, name, reason });
    }

    /// Tells that a peer has joined, when its name is known or is not going to be.
    fn introduce(&mut self, peer: PeerId) {
        if self.nameless.remove(&peer) {
            self.ctx.emit(Event::PeerJoined { peer_id: peer, name: self.peers.name(&peer) });
        }
    }

    fn publish_connected(&self) {
        self.connected.send_replace(Arc::new(self.peers.connected_ids()));
    }

    async fn identified(&mut self, peer: PeerId, addresses: &[Multiaddr], speaks_kad: bool) {
        self.peers.identified(&peer, addresses);
        if speaks_kad {
            let known = self.peers.snapshots().into_iter().find(|known| known.peer == peer);
            for address in known.into_iter().flat_map(|known| known.addresses) {
                self.ctx.net.route(peer, address).await;
                self.routed = true;
            }
        } else {
            self.ctx.net.unroute(peer).await;
        }
    }

    async fn discovered(&mut self, peer: PeerId, address: &Multiaddr, by: FoundBy) {
        let now = Instant::now();
        if peer == self.ctx.local || self.ctx.is_banned(&peer) {
            return;
        }
        if self.peers.discovered(peer, address, by, now) {
            let addresses = self.peers.dialling(&peer, now);
            self.ctx.net.start_dial(peer, addresses).await;
        }
    }

    /// The device as it answers a discovery message: one that does not fit says that it is not available.
    fn device_for(&self, message: &Discovery) -> msm_protocol::device::DeviceInfo {
        let mut device = self.ctx.device();
        if let Some(need) = &message.need
            && need.unmet_by(&device, device.eqs).is_some()
        {
            device.availability = false;
        }
        device
    }

    async fn allowed(&mut self, peer: PeerId, kind: Kind) -> bool {
        match self.rates.allow(peer, kind, Instant::now()) {
            Allowed::Yes => true,
            Allowed::No => false,
            Allowed::Drop => {
                self.ctx.remember_ban(peer, BAN, "far too many requests");
                self.strike(peer, "far too many requests").await;
                self.ctx.net.disconnect(peer).await;
                false
            }
        }
    }

    async fn job_stream(&mut self, peer: PeerId, stream: libp2p::Stream) {
        if !self.allowed(peer, Kind::Offer).await {
            return;
        }
        let mine = self.streams.entry(peer).or_insert_with(|| Arc::new(Semaphore::new(JOB_STREAMS_PER_PEER))).clone();
        // Dropping the stream tells the requester that this device is busy; it goes on without it.
        let Ok(place) = mine.try_acquire_owned() else {
            tracing::debug!(peer = peer.short(), "job stream refused: too many are open");
            return;
        };
        tokio::spawn(worker::serve(self.ctx.clone(), peer, stream, place));
    }

    async fn presence(&mut self, gossip: Gossip) {
        if self.rates.allow(gossip.from, Kind::Gossip, Instant::now()) != Allowed::Yes {
            return self.ctx.net.judge(gossip, Verdict::Ignore).await;
        }
        let verdict = match read_presence(&gossip.data) {
            Some((peer, _)) if peer == self.ctx.local => Verdict::Ignore,
            // Old ones are replayed to have us dial: not passed on, not acted on.
            Some((_, presence)) if markets::now().abs_diff(presence.time) > PRESENCE_AGE => Verdict::Ignore,
            Some((peer, presence)) => {
                if self.ctx.connected.borrow().contains(&peer)
                    && self.rates.allow(peer, Kind::Presence, Instant::now()) == Allowed::Yes
                {
                    self.spawn_device_query(peer);
                }
                for address in presence.addresses.iter().take(PRESENCE_DIALLED).filter_map(|text| text.parse().ok()) {
                    self.discovered(peer, &address, FoundBy::Gossip).await;
                }
                Verdict::Accept
            }
            None => Verdict::Reject,
        };
        self.pass_judgement(gossip, verdict).await;
    }

    async fn market_gossip(&mut self, market: MarketId, gossip: Gossip) {
        if self.rates.allow(gossip.from, Kind::Gossip, Instant::now()) != Allowed::Yes {
            return self.ctx.net.judge(gossip, Verdict::Ignore).await;
        }
        let news = self.ctx.markets.judge(&market, &gossip.data);
        let from = gossip.from;
        if news == HeadNews::Contradiction {
            let (ctx, head) = (self.ctx.clone(), gossip.data.clone());
            tokio::spawn(async move { ctx.markets.compare(&ctx, &market, &head, Some(from)).await });
        }
        self.pass_judgement(gossip, news.verdict()).await;
        if matches!(news, HeadNews::Newer | HeadNews::Unknown) {
            self.spawn_sync_with(market, from);
        }
    }

    /// Carries a verdict out; who passes on what no honest peer does is struck.
    async fn pass_judgement(&mut self, gossip: Gossip, verdict: Verdict) {
        let from = gossip.from;
        self.ctx.net.judge(gossip, verdict).await;
        if verdict == Verdict::Reject {
            self.strike(from, "gossip that no honest peer passes on").await;
        }
    }

    async fn strike(&mut self, peer: PeerId, what: &str) {
        let strikes = self.strikes.entry(peer).or_default();
        *strikes += 1;
        tracing::warn!(peer = peer.short(), what, strikes = *strikes, "misbehaviour");
        let (name, reason) = (self.peers.name(&peer), what.to_owned());
        let struck = Event::Struck { job_id: None, peer_id: peer, name, task: None, reason, evidence: None };
        self.ctx.emit(struck);
        if *strikes >= STRIKES {
            self.strikes.remove(&peer);
            if self.blocked.len() >= BLOCKED {
                let (oldest, _) = self.blocked.remove(0);
                self.ctx.net.unblock(oldest).await;
            }
            self.blocked.push((peer, Instant::now() + BAN));
            self.ctx.net.block(peer).await;
        }
        if self.strikes.len() > super::peers::PEERS {
            self.strikes.clear();
        }
    }

    // ---- The node's own tasks speak ---------------------------------------------------------------------------------

    async fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Peers(answer) => drop(answer.send(self.peers.snapshots())),
            Ask::Told(peer, info) => {
                if let Some(info) = info {
                    self.peers.told(&peer, *info);
                }
                self.introduce(peer);
            }
            Ask::Doubted(peer) => self.peers.doubted(&peer),
            Ask::Strike(peer, what) => self.strike(peer, &what).await,
            Ask::MarketChanged(market) => {
                self.ctx.net.subscribe(market).await;
                if let Some(head) = self.ctx.markets.head(&market) {
                    self.ctx.net.provide(markets::place_of(&market)).await;
                    self.ctx.net.publish_head(market, head.clone()).await;
                    self.ctx.net.put_head(market, head).await;
                }
            }
            Ask::MarketRemoved(market) => self.ctx.net.unsubscribe(market).await,
        }
    }

    // ---- Time passes ------------------------------------------------------------------------------------------------

    async fn round(&mut self) {
        let now = Instant::now();
        let ctx = self.ctx.clone();
        tokio::task::spawn_blocking(move || ctx.measured.save());
        self.peers.exclude(excluded_networks(&self.ctx.config.node.interfaces));
        let (over, still) = std::mem::take(&mut self.blocked).into_iter().partition(|(_, until)| *until <= now);
        self.blocked = still;
        let over: Vec<(PeerId, Instant)> = over;
        for (peer, _) in over {
            self.ctx.net.unblock(peer).await;
        }
        for peer in self.peers.due(now) {
            let addresses = self.peers.dialling(&peer, now);
            self.ctx.net.start_dial(peer, addresses).await;
        }
        for peer in self.peers.connected_ids() {
            self.spawn_device_query(peer);
        }
    }

    /// Tells the DHT again what is here after it has grown: at once for the first who joins, then once a round.
    async fn announce(&mut self) {
        let now = Instant::now();
        if !self.routed || self.announced.is_some_and(|at| now.duration_since(at) < ROUND) {
            return;
        }
        (self.routed, self.announced) = (false, Some(now));
        self.ctx.net.provide_again().await;
        for market in self.ctx.markets.view().iter() {
            if let Some(head) = self.ctx.markets.head(&market.id) {
                self.ctx.net.put_head(market.id, head).await;
            }
        }
    }

    /// Neighbours that hear of this device ask it what it is like: at once when it begins or ends to lend, whatever made
    /// it. Two messages of one second would be one.
    async fn tell_lending(&mut self) {
        let (time, lent) = self.present;
        if lent != self.ctx.lending().is_ok() && time != markets::now() {
            self.tell_presence().await;
        }
    }

    async fn tell_presence(&mut self) {
        let addresses = dialable(&self.listening).into_iter().take(PRESENCE_ADDRESSES).map(|a| a.to_string()).collect();
        let presence = Presence { v: 1, time: markets::now(), addresses };
        self.present = (presence.time, self.ctx.lending().is_ok());
        if let Ok(bytes) = Envelope::sign(&presence, &[&self.ctx.key]).and_then(|envelope| envelope.to_vec()) {
            self.ctx.net.publish_presence(bytes).await;
        }
    }

    fn spawn_device_query(&self, peer: PeerId) {
        let ctx = self.ctx.clone();
        tokio::spawn(async move {
            let info = ctx.net.device(peer, &Discovery { v: 1, need: None }).await.ok();
            ctx.tell(Ask::Told(peer, info.map(Box::new))).await;
        });
    }

    /// Asks one peer for a newer index of one market. A peer cannot make this run more often than its rate allows.
    fn spawn_sync_with(&mut self, market: MarketId, peer: PeerId) {
        if self.rates.allow(peer, Kind::Sync, Instant::now()) != Allowed::Yes {
            return;
        }
        let ctx = self.ctx.clone();
        tokio::spawn(async move {
            if let Err(error) = ctx.markets.sync_from(&ctx, market, peer).await {
                tracing::debug!(peer = peer.short(), market = market.short(), %error, "no market update");
            }
        });
    }

    fn spawn_sync(&self) {
        let ctx = self.ctx.clone();
        tokio::spawn(async move { ctx.markets.sync_widely(&ctx).await });
    }
}

/// Networks of the interfaces that the owner excluded.
fn excluded_networks(interfaces: &Interfaces) -> Vec<Network> {
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    let networks =
        all.into_iter().filter(|interface| !interfaces.allows(&interface.name)).filter_map(|interface| match interface
            .addr
        {
            if_addrs::IfAddr::V4(v4) => Some(Network { address: v4.ip, mask: v4.netmask }),
            if_addrs::IfAddr::V6(_) => None,
        });
    networks.take(EXCLUDED).collect()
}

/// Addresses that others can use: not loopback, unless there is nothing else.
pub fn dialable(listening: &[Multiaddr]) -> Vec<Multiaddr> {
    let loopback = |address: &&Multiaddr| crate::net::per_ip::ip_of(address).is_some_and(|ip| ip.is_loopback());
    let outside: Vec<_> = listening.iter().filter(|address| !loopback(address)).cloned().collect();
    if outside.is_empty() { listening.to_vec() } else { outside }
}

/// A presence message and who signed it.
fn read_presence(data: &[u8]) -> Option<(PeerId, Presence)> {
    let envelope = Envelope::from_slice::<Presence>(data).ok()?;
    let key = envelope.claimed_key()?;
    let presence = envelope.verify_from::<Presence>(&key).ok()?;
    Some((PeerId::of(&key), presence.into_inner()))
}

async fn serve_blob(ctx: &Context, message: &BlobRequest) -> BlobResponse {
    if message.len == 0 {
        let size = match ctx.store.size(message.hash).await {
            None => ctx.markets.file_blob(message.hash, PACKAGE_BYTES as u64).await.map(|bytes| bytes.len() as u64),
            there => there,
        };
        return match size {
            Some(size) => BlobResponse::Have(BlobRange { more: Vec::new(), size, bytes: ByteBuf::new() }),
            None => BlobResponse::Missing,
        };
    }
    let bytes = match ctx.store.get(message.hash).await {
        Some(bytes) => bytes,
        None => match ctx.markets.file_blob(message.hash, PACKAGE_BYTES as u64).await {
            Some(bytes) => bytes,
            None => return BlobResponse::Missing,
        },
    };
    let size = bytes.len() as u64;
    let start = message.offset.min(size) as usize;
    let end = start.saturating_add((message.len as usize).min(CHUNK_BYTES)).min(bytes.len());
    let more = match message.more > 0 && start == 0 && end == bytes.len() {
        true => packages::named_by(ctx, &bytes, (message.more as usize).min(CHUNK_BYTES - end)).await,
        false => Vec::new(),
    };
    BlobResponse::Have(BlobRange { more, size, bytes: ByteBuf::from(&bytes[start..end]) })
}

fn rate_limited() -> BlobResponse {
    BlobResponse::Refused(Refusal::new(RefusalCode::RateLimited, "too many blob requests"))
}
