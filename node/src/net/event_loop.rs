//! The task that owns the swarm: carries out commands, translates events, decides nothing, waits for nobody.
//!
//! Events leave through a bounded queue. While it is full the swarm is not polled, so that a slow node slows its peers
//! down instead of growing; commands are taken all the same, so that the two queues cannot wait for each other.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    marker::PhantomData,
    time::Instant,
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId as Libp2pPeerId, Stream, Swarm,
    core::ConnectedPoint,
    gossipsub, identify, identity,
    kad::{self, store::RecordStore},
    ping,
    request_response::{self, OutboundRequestId},
    swarm::{DialError, SwarmEvent, dial_opts::DialOpts},
};
use msm_protocol::{ContentHash, MarketId, PeerId, cbor, limits::CONTROL_BYTES, message::name};
use tokio::sync::mpsc;

use super::{
    behaviour::{self, Behaviour, BehaviourEvent},
    handle::{Answer, FoundBy, Gossip, NetCommand, NetConfig, NetError, NetEvent, NetHandle, Reply, Verdict},
    limits::{
        ADDRESSES_PER_PEER, CLOSING, COMMANDS, EVENTS, GOODBYE, KAD_PROVIDERS, KAD_TTL, MAKING, PROVIDED,
        PROVIDERS_WANTED, SILENCE, SILENCE_LOOK,
    },
    mdns, stream,
};

/// Starts the network. The receiver must be read: a full queue stops the network.
pub async fn start(config: NetConfig) -> Result<(NetHandle, mpsc::Receiver<NetEvent>), NetError> {
    let failed = |error: &dyn std::fmt::Display| NetError::Start(error.to_string());
    tokio::task::spawn_blocking(gather_randomness);
    let keypair = identity::Keypair::ed25519_from_bytes(config.key.seed()).map_err(|e| failed(&e))?;
    let local = PeerId::of(&config.key.public());
    let mut swarm = behaviour::swarm(keypair, config.mdns).map_err(|e| failed(&e))?;
    for address in config.listen {
        swarm.listen_on(address.clone()).map_err(|e| NetError::Start(format!("cannot listen on {address}: {e}")))?;
    }
    let presence = gossipsub::IdentTopic::new(name::PRESENCE);
    swarm.behaviour_mut().gossip.subscribe(&presence).map_err(|e| failed(&e))?;

    let (commands, command_receiver) = mpsc::channel(COMMANDS);
    let (events, event_receiver) = mpsc::channel(EVENTS);
    let handle = NetHandle { commands, local };
    tokio::spawn(
        EventLoop {
            swarm,
            commands: command_receiver,
            outbox: VecDeque::new(),
            topics: HashMap::new(),
            dials: HashMap::new(),
            requests: HashMap::new(),
            opening: HashMap::new(),
            next_open: 0,
            provider_queries: HashMap::new(),
            record_queries: HashMap::new(),
            heard: HashMap::new(),
            looked: Instant::now(),
            provided: HashSet::new(),
        }
        .run(events),
    );
    Ok((handle, event_receiver))
}

/// Which exchange a request id belongs to: each behaviour counts its own ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Exchange {
    Device,
    Head,
    Blob,
}

struct EventLoop {
    swarm: Swarm<Behaviour>,
    commands: mpsc::Receiver<NetCommand>,
    /// Events that came in one swarm event and have not left yet. Empty before the swarm is polled again.
    outbox: VecDeque<NetEvent>,
    topics: HashMap<gossipsub::TopicHash, MarketId>,
    dials: HashMap<libp2p::swarm::ConnectionId, Answer<PeerId>>,
    requests: HashMap<(Exchange, OutboundRequestId), Answer<Vec<u8>>>,
    opening: HashMap<stream::OpenId, Answer<Stream>>,
    next_open: stream::OpenId,
    provider_queries: HashMap<kad::QueryId, (mpsc::Sender<PeerId>, HashSet<Libp2pPeerId>)>,
    record_queries: HashMap<kad::QueryId, mpsc::Sender<Vec<u8>>>,
    /// Who is connected, and when each last answered a ping.
    heard: HashMap<Libp2pPeerId, Instant>,
    /// When silent peers were last looked for.
    looked: Instant,
    /// Blobs announced in the DHT.
    provided: HashSet<ContentHash>,
}

impl EventLoop {
    async fn run(mut self, events: mpsc::Sender<NetEvent>) {
        let mut look = tokio::time::interval(SILENCE_LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let done = loop {
            tokio::select! {
                _ = look.tick(), if self.outbox.is_empty() => self.drop_silent(),
                command = self.commands.recv() => match command {
                    Some(NetCommand::Shutdown(done)) => break done,
                    Some(command) => self.carry_out(command),
                    None => return,
                },
                permit = events.reserve(), if !self.outbox.is_empty() => {
                    let Ok(permit) = permit else { return };
                    if let Some(event) = self.outbox.pop_front() {
                        permit.send(event);
                    }
                }
                event = self.swarm.select_next_some(), if self.outbox.is_empty() => self.translate(event),
            }
        };
        self.shutdown(done).await;
    }

    /// Leaves: peers see closed connections, not a timeout. One that is just being made is closed when it stands: the
    /// other side may think already that it does.
    async fn shutdown(mut self, done: tokio::sync::oneshot::Sender<()>) {
        let making = tokio::time::Instant::now() + MAKING;
        let closed = async {
            loop {
                let peers: Vec<_> = self.swarm.connected_peers().copied().collect();
                for peer in &peers {
                    let _ = self.swarm.disconnect_peer_id(*peer);
                }
                let pending = self.swarm.network_info().connection_counters().num_pending();
                if peers.is_empty() && (pending == 0 || tokio::time::Instant::now() >= making) {
                    break;
                }
                let _ = tokio::time::timeout_at(
                    making.max(tokio::time::Instant::now() + GOODBYE),
                    self.swarm.select_next_some(),
                )
                .await;
            }
        };
        if tokio::time::timeout(CLOSING, closed).await.is_ok() {
            // QUIC says goodbye when its driver is polled next, and tells nobody when it has.
            tokio::time::sleep(GOODBYE).await;
        }
        let _ = done.send(());
    }

    fn emit(&mut self, event: NetEvent) {
        self.outbox.push_back(event);
    }

    fn carry_out(&mut self, command: NetCommand) {
        let behaviour = self.swarm.behaviour_mut();
        match command {
            NetCommand::Dial { peer, addresses, answer } => self.dial(peer, addresses, answer),
            NetCommand::Disconnect(peer) => {
                if let Some(peer) = to_libp2p(&peer) {
                    let _ = self.swarm.disconnect_peer_id(peer);
                }
            }
            NetCommand::Block(peer) => {
                if let Some(peer) = to_libp2p(&peer) {
                    behaviour.blocked.block_peer(peer);
                }
            }
            NetCommand::Unblock(peer) => {
                if let Some(peer) = to_libp2p(&peer) {
                    behaviour.blocked.unblock_peer(peer);
                }
            }
            NetCommand::AskDevice(peer, bytes, answer) => self.request(Exchange::Device, &peer, bytes, answer),
            NetCommand::AskHead(peer, bytes, answer) => self.request(Exchange::Head, &peer, bytes, answer),
            NetCommand::AskBlob(peer, bytes, answer) => self.request(Exchange::Blob, &peer, bytes, answer),
            // An answer that can no longer be delivered is its asker's loss.
            NetCommand::AnswerDevice(channel, bytes) => drop(behaviour.device.send_response(channel, bytes)),
            NetCommand::AnswerHead(channel, bytes) => drop(behaviour.head.send_response(channel, bytes)),
            NetCommand::AnswerBlob(channel, bytes) => drop(behaviour.blob.send_response(channel, bytes)),
            NetCommand::OpenJob(peer, answer) => match to_libp2p(&peer) {
                Some(peer) => {
                    self.next_open += 1;
                    self.opening.insert(self.next_open, answer);
                    behaviour.job.open(peer, self.next_open);
                }
                None => drop(answer.send(Err(stream::OpenError::NotConnected.into()))),
            },
            NetCommand::Route { peer, address } => {
                if let Some(peer) = to_libp2p(&peer) {
                    behaviour.kad.add_address(&peer, address);
                }
            }
            NetCommand::Unroute(peer) => {
                if let Some(peer) = to_libp2p(&peer) {
                    behaviour.kad.remove_peer(&peer);
                }
            }
            NetCommand::Provide(hash) => {
                if self.provided.len() < PROVIDED && self.provided.insert(hash) {
                    self.provide(hash);
                }
            }
            NetCommand::ProvideAgain => {
                for hash in self.provided.clone() {
                    self.provide(hash);
                }
            }
            NetCommand::FindProviders(hash, found) => {
                let query = behaviour.kad.get_providers(hash.multihash().to_vec().into());
                self.provider_queries.insert(query, (found, HashSet::new()));
                self.end_unwanted_searches();
            }
            NetCommand::PutHead(market, head) => {
                let record = kad::Record {
                    key: name::head_key(&market).into(),
                    value: head,
                    publisher: None,
                    expires: Some(std::time::Instant::now() + KAD_TTL),
                };
                if let Err(error) = behaviour.kad.put_record(record, kad::Quorum::One) {
                    tracing::debug!(%error, "head record not stored");
                }
            }
            NetCommand::FindHeads(market, found) => {
                let query = behaviour.kad.get_record(name::head_key(&market).into());
                self.record_queries.insert(query, found);
            }
            NetCommand::StoreRecord(record) => {
                let _ = behaviour.kad.store_mut().put(*record);
            }
            NetCommand::StoreProvider(record) => self.store_provider(*record),
            NetCommand::Subscribe(market) => {
                let topic = gossipsub::IdentTopic::new(name::market_topic(&market));
                self.topics.insert(topic.hash(), market);
                if let Err(error) = behaviour.gossip.subscribe(&topic) {
                    tracing::warn!(%error, market = market.short(), "not subscribed");
                }
            }
            NetCommand::Unsubscribe(market) => {
                let topic = gossipsub::IdentTopic::new(name::market_topic(&market));
                self.topics.remove(&topic.hash());
                behaviour.gossip.unsubscribe(&topic);
            }
            NetCommand::PublishPresence(bytes) => self.publish(name::PRESENCE.to_owned(), bytes),
            NetCommand::PublishHead(market, bytes) => self.publish(name::market_topic(&market), bytes),
            NetCommand::Judge(Gossip { from, id, .. }, verdict) => {
                let acceptance = match verdict {
                    Verdict::Accept => gossipsub::MessageAcceptance::Accept,
                    Verdict::Ignore => gossipsub::MessageAcceptance::Ignore,
                    Verdict::Reject => gossipsub::MessageAcceptance::Reject,
                };
                if let Some(from) = to_libp2p(&from) {
                    behaviour.gossip.report_message_validation_result(&id, &from, acceptance);
                }
            }
            NetCommand::Shutdown(_) => {} // taken by `run`
        }
    }

    fn provide(&mut self, hash: ContentHash) {
        if let Err(error) = self.swarm.behaviour_mut().kad.start_providing(hash.multihash().to_vec().into()) {
            tracing::warn!(%error, hash = hash.short(), "not announced in the DHT");
        }
    }

    /// Stores a provider record. The store takes no more than so many for one blob; of those who have left, and of whom
    /// no address is told, the oldest makes room: nobody is sent to it.
    fn store_provider(&mut self, record: kad::ProviderRecord) {
        let mut known = self.swarm.behaviour_mut().kad.store_mut().providers(&record.key);
        if known.len() >= KAD_PROVIDERS && !known.iter().any(|known| known.provider == record.provider) {
            let local = *self.swarm.local_peer_id();
            let has_left = |peer: &Libp2pPeerId| *peer != local && !self.swarm.is_connected(peer);
            known.retain(|known| known.addresses.is_empty() && has_left(&known.provider));
            if let Some(gone) = known.iter().min_by_key(|known| known.expires) {
                self.swarm.behaviour_mut().kad.store_mut().remove_provider(&gone.key, &gone.provider);
            }
        }
        let _ = self.swarm.behaviour_mut().kad.store_mut().add_provider(record);
    }

    fn dial(&mut self, peer: Option<PeerId>, addresses: Vec<Multiaddr>, answer: Option<Answer<PeerId>>) {
        let options = match (peer.as_ref().and_then(to_libp2p), addresses.split_first()) {
            (Some(peer), _) => {
                DialOpts::peer_id(peer).addresses(addresses).extend_addresses_through_behaviour().build()
            }
            (None, Some((first, _))) => DialOpts::unknown_peer_id().address(first.clone()).build(),
            (None, None) => {
                if let Some(answer) = answer {
                    let _ = answer.send(Err(NetError::Dial("no address".into())));
                }
                return;
            }
        };
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                if let Some(answer) = answer {
                    self.dials.insert(connection, answer);
                }
            }
            Err(error) => {
                if let Some(answer) = answer {
                    // Already connected is what the caller wants.
                    let connected = peer.filter(|peer| to_libp2p(peer).is_some_and(|p| self.swarm.is_connected(&p)));
                    let _ = answer.send(connected.ok_or_else(|| NetError::Dial(error.to_string())));
                }
                self.emit(NetEvent::DialFailed { peer });
            }
        }
    }

    fn request(&mut self, exchange: Exchange, peer: &PeerId, bytes: Vec<u8>, answer: Answer<Vec<u8>>) {
        let Some(peer) = to_libp2p(peer) else {
            let _ = answer.send(Err(NetError::NoAnswer("not a peer id".into())));
            return;
        };
        let behaviour = self.swarm.behaviour_mut();
        let id = match exchange {
            Exchange::Device => behaviour.device.send_request(&peer, bytes),
            Exchange::Head => behaviour.head.send_request(&peer, bytes),
            Exchange::Blob => behaviour.blob.send_request(&peer, bytes),
        };
        self.requests.insert((exchange, id), answer);
    }

    fn publish(&mut self, topic: String, bytes: Vec<u8>) {
        match self.swarm.behaviour_mut().gossip.publish(gossipsub::IdentTopic::new(topic), bytes) {
            // Alone on the network there is nobody to tell; a repeated head is no news.
            Ok(_) | Err(gossipsub::PublishError::NoPeersSubscribedToTopic | gossipsub::PublishError::Duplicate) => {}
            Err(error) => tracing::debug!(%error, "not gossiped"),
        }
    }

    fn translate(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.translate_behaviour(event),
            SwarmEvent::NewListenAddr { address, .. } => self.emit(NetEvent::Listening(address)),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.emit(NetEvent::NotListening(address)),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.connected(peer_id, connection_id, endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, cause, .. } => {
                if self.heard.remove(&peer_id).is_some()
                    && let Some(peer) = from_libp2p(&peer_id)
                {
                    let reason = cause.map_or_else(|| "closed".to_owned(), |cause| cause.to_string());
                    self.emit(NetEvent::Disconnected { peer, reason });
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                if let Some(answer) = self.dials.remove(&connection_id) {
                    let _ = answer.send(Err(NetError::Dial(error.to_string())));
                }
                self.emit(NetEvent::DialFailed { peer: peer_id.as_ref().and_then(from_libp2p) });
            }
            _ => {}
        }
    }

    fn connected(&mut self, peer_id: Libp2pPeerId, connection: libp2p::swarm::ConnectionId, endpoint: ConnectedPoint) {
        let answer = self.dials.remove(&connection);
        let Some(peer) = from_libp2p(&peer_id) else {
            // Not an Ed25519 key: no MSM node.
            let _ = self.swarm.disconnect_peer_id(peer_id);
            return;
        };
        if let ConnectedPoint::Dialer { address, .. } = &endpoint {
            // It can be asked for providers now: what identify says of it is a round trip away.
            self.swarm.behaviour_mut().kad.add_address(&peer_id, address.clone());
        }
        if self.heard.insert(peer_id, Instant::now()).is_none() {
            let address = endpoint.get_remote_address().clone();
            self.emit(NetEvent::Connected { peer, address, inbound: endpoint.is_listener() });
        }
        if let Some(answer) = answer {
            let _ = answer.send(Ok(peer));
        }
    }

    fn translate_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Ping(event) => self.ping(event),
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                if let Some(peer) = from_libp2p(&peer_id) {
                    let speaks_kad = info.protocols.iter().any(|protocol| protocol.as_ref() == name::KAD);
                    let addresses = info.listen_addrs.into_iter().take(ADDRESSES_PER_PEER).collect();
                    self.emit(NetEvent::Identified { peer, addresses, speaks_kad });
                }
            }
            BehaviourEvent::Mdns(mdns::Discovered(found)) => {
                for (peer, address) in found {
                    if let Some(peer) = from_libp2p(&peer) {
                        self.emit(NetEvent::Discovered { peer, address, by: FoundBy::Mdns });
                    }
                }
            }
            BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                self.gossip(propagation_source, message_id, message);
            }
            BehaviourEvent::Kad(event) => self.kad(event),
            BehaviourEvent::Device(event) => self.exchange(Exchange::Device, event),
            BehaviourEvent::Head(event) => self.exchange(Exchange::Head, event),
            BehaviourEvent::Blob(event) => self.exchange(Exchange::Blob, event),
            BehaviourEvent::Job(stream::Event::Inbound(peer, stream)) => {
                if let Some(peer) = from_libp2p(&peer) {
                    self.emit(NetEvent::JobStream { peer, stream });
                }
            }
            BehaviourEvent::Job(stream::Event::Outbound(id, result)) => {
                if let Some(answer) = self.opening.remove(&id) {
                    let _ = answer.send(result.map_err(NetError::from));
                }
            }
            _ => {}
        }
    }

    fn ping(&mut self, event: ping::Event) {
        match event.result {
            Ok(rtt) => {
                if let Some(heard) = self.heard.get_mut(&event.peer) {
                    *heard = Instant::now();
                }
                if let Some(peer) = from_libp2p(&event.peer) {
                    self.emit(NetEvent::Rtt { peer, rtt });
                }
            }
            Err(error) => tracing::debug!(peer = %event.peer, %error, "ping failed"),
        }
    }

    /// Lets go of peers that answer no more. They are reported at once: closing a connection on which nothing moves may
    /// take as long as the system tries to deliver what is still in its buffers.
    fn drop_silent(&mut self) {
        let now = Instant::now();
        let pause = now.duration_since(std::mem::replace(&mut self.looked, now));
        if pause > 4 * SILENCE_LOOK {
            // This node stood still itself (stopped, suspended, or its events were not taken): answers may wait unread.
            self.heard.values_mut().for_each(|heard| *heard += pause);
            return;
        }
        let silent: Vec<_> = self
            .heard
            .iter()
            .filter(|(_, heard)| now.duration_since(**heard) > SILENCE)
            .map(|(peer, _)| *peer)
            .collect();
        for peer_id in silent {
            self.heard.remove(&peer_id);
            let _ = self.swarm.disconnect_peer_id(peer_id);
            if let Some(peer) = from_libp2p(&peer_id) {
                let reason = format!("no answer for {:.1} s", SILENCE.as_secs_f64());
                self.emit(NetEvent::Disconnected { peer, reason });
            }
        }
    }

    fn gossip(&mut self, from: Libp2pPeerId, id: gossipsub::MessageId, message: gossipsub::Message) {
        let Some(from) = from_libp2p(&from) else { return };
        let gossip = Gossip { from, data: message.data, id };
        match self.topics.get(&message.topic) {
            Some(market) => self.emit(NetEvent::MarketGossip { market: *market, gossip }),
            None => self.emit(NetEvent::PresenceGossip(gossip)),
        }
    }

    fn exchange(&mut self, exchange: Exchange, event: request_response::Event<Vec<u8>, Vec<u8>>) {
        match event {
            request_response::Event::Message { message, peer, .. } => match message {
                request_response::Message::Request { request, channel, .. } => {
                    if let Some(peer) = from_libp2p(&peer) {
                        let event = inbound(exchange, peer, &request, channel);
                        self.emit(event.unwrap_or_else(|error| NetEvent::Misbehaved { peer, what: error.to_string() }));
                    }
                }
                request_response::Message::Response { request_id, response } => {
                    if let Some(answer) = self.requests.remove(&(exchange, request_id)) {
                        let _ = answer.send(Ok(response));
                    }
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                if let Some(answer) = self.requests.remove(&(exchange, request_id)) {
                    let _ = answer.send(Err(NetError::NoAnswer(error.to_string())));
                }
            }
            _ => {}
        }
    }

    fn kad(&mut self, event: kad::Event) {
        match event {
            kad::Event::InboundRequest {
                request: kad::InboundRequest::PutRecord { source, record: Some(record), .. },
            } => {
                let market = record.key.as_ref().strip_prefix(b"/msm/head/").and_then(|id| id.try_into().ok());
                match (from_libp2p(&source), market) {
                    (Some(from), Some(market)) => {
                        let (market, head) = (MarketId::from_bytes(market), record.value.clone());
                        self.emit(NetEvent::RecordOffered { from, market, head, record: Box::new(record) });
                    }
                    (Some(peer), None) => {
                        self.emit(NetEvent::Misbehaved { peer, what: "a DHT record that is no head".into() });
                    }
                    (None, _) => {}
                }
            }
            kad::Event::InboundRequest { request: kad::InboundRequest::AddProvider { record: Some(record) } } => {
                // Kademlia lets a peer announce nobody but itself.
                if let Some(from) = from_libp2p(&record.provider) {
                    self.emit(NetEvent::ProviderOffered { from, record: Box::new(record) });
                }
            }
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => self.kad_progress(id, result, step.last),
            _ => {}
        }
    }

    /// Searches go on only while somebody waits for what they find: most blobs are a neighbour's, who answers first. Looked
    /// at when the next begins, and when one finds something.
    fn end_unwanted_searches(&mut self) {
        for (query, (found, _)) in &self.provider_queries {
            if found.is_closed()
                && let Some(mut query) = self.swarm.behaviour_mut().kad.query_mut(query)
            {
                query.finish();
            }
        }
    }

    fn kad_progress(&mut self, id: kad::QueryId, result: kad::QueryResult, last: bool) {
        match result {
            kad::QueryResult::GetProviders(Ok(kad::GetProvidersOk::FoundProviders { providers, .. })) => {
                let Some((found, seen)) = self.provider_queries.get_mut(&id) else { return };
                if found.is_closed() {
                    // Somebody else had it: nobody is dialled for that.
                    return self.end_unwanted_searches();
                }
                for provider in providers {
                    if seen.len() >= PROVIDERS_WANTED || seen.contains(&provider) {
                        continue;
                    }
                    // The search knows the provider's addresses only while it runs: dial now. One of whom none is known
                    // has left, and takes no place of those who are there.
                    if matches!(self.swarm.dial(provider), Err(DialError::NoAddresses)) {
                        continue;
                    }
                    seen.insert(provider);
                    if let Some(peer) = from_libp2p(&provider) {
                        let _ = found.try_send(peer);
                    }
                }
            }
            kad::QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(found))) => {
                if let Some(sender) = self.record_queries.get(&id) {
                    let _ = sender.try_send(found.record.value);
                }
            }
            _ => {}
        }
        if last {
            self.provider_queries.remove(&id);
            self.record_queries.remove(&id);
        }
    }
}

/// QUIC's cryptography measures the processor's jitter for 30 ms before it gives its first random number. Not in the first
/// dial: a fresh device's first job waits for that.
fn gather_randomness() {
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    if random.fill(&mut [0; 32]).is_err() {
        tracing::warn!("no random numbers for QUIC yet");
    }
}

/// Decodes a request. A request that cannot be decoded gets no answer: its channel is dropped.
fn inbound(
    exchange: Exchange,
    peer: PeerId,
    request: &[u8],
    channel: request_response::ResponseChannel<Vec<u8>>,
) -> Result<NetEvent, cbor::CborError> {
    fn reply<T>(channel: request_response::ResponseChannel<Vec<u8>>) -> Reply<T> {
        Reply { channel, kind: PhantomData }
    }
    Ok(match exchange {
        Exchange::Device => {
            NetEvent::DeviceAsked { peer, message: cbor::from_slice(request, CONTROL_BYTES)?, reply: reply(channel) }
        }
        Exchange::Head => {
            NetEvent::HeadAsked { peer, message: cbor::from_slice(request, CONTROL_BYTES)?, reply: reply(channel) }
        }
        Exchange::Blob => {
            NetEvent::BlobAsked { peer, message: cbor::from_slice(request, CONTROL_BYTES)?, reply: reply(channel) }
        }
    })
}

fn from_libp2p(peer: &Libp2pPeerId) -> Option<PeerId> {
    PeerId::from_libp2p_bytes(&peer.to_bytes()).ok()
}

fn to_libp2p(peer: &PeerId) -> Option<Libp2pPeerId> {
    Libp2pPeerId::from_bytes(&peer.to_libp2p_bytes()).ok()
}

/// The blob that a DHT key names, if it names one.
pub fn blob_of_key(key: &[u8]) -> Option<ContentHash> {
    let digest = key.strip_prefix(&[0x12, 0x20])?;
    digest.try_into().ok().map(ContentHash::from_bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use msm_protocol::SecretKey;

    use super::*;

    fn key(n: u8) -> SecretKey {
        SecretKey::from_seed(&[n; 32])
    }

    /// A swarm on this machine, where it listens, and what happens on it, which is taken for as long as it runs.
    async fn node(n: u8) -> (NetHandle, Multiaddr, mpsc::Receiver<PeerId>) {
        let listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()];
        let (handle, mut events) = start(NetConfig { key: key(n), listen, mdns: false }).await.unwrap();
        let address = loop {
            if let NetEvent::Listening(address) = events.recv().await.unwrap() {
                break address;
            }
        };
        let (joined, connected) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let NetEvent::Connected { peer, .. } = event {
                    let _ = joined.try_send(peer);
                }
            }
        });
        (handle, address, connected)
    }

    #[tokio::test]
    async fn providers_who_have_left_make_room_for_one_who_is_there() {
        let ((keeper, at, mut joined), (provider, there, _), (asker, ..)) =
            (node(1).await, node(2).await, node(3).await);
        provider.dial(None, vec![at.clone()]).await.unwrap();
        assert_eq!(joined.recv().await, Some(provider.local()));
        keeper.route(provider.local(), there).await;
        let hash = ContentHash::of(b"a package");
        let gone = (100..).take(KAD_PROVIDERS).map(|n| PeerId::of(&key(n).public()));
        for peer in gone.chain([provider.local()]) {
            let peer = to_libp2p(&peer).unwrap();
            let record = kad::ProviderRecord::new(hash.multihash().to_vec(), peer, Vec::new());
            keeper.store_provider(Box::new(record)).await;
        }
        asker.dial(None, vec![at]).await.unwrap();
        let mut found = asker.find_providers(hash).await;
        let found = tokio::time::timeout(Duration::from_secs(30), found.recv()).await.expect("the search ends");
        assert_eq!(found, Some(provider.local()));
    }
}
