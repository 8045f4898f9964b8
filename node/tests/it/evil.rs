//! A peer that speaks MSM's protocols without its rules: a bare libp2p swarm whose answers are closures.
//!
//! TCP, Noise and Yamux, the protocol names of MSM, and nothing of its limits, checks or manners.

use std::{collections::HashMap, fs, io, path::Path, time::Duration};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, Stream, StreamProtocol, Swarm, SwarmBuilder,
    core::ConnectedPoint,
    gossipsub, identify, identity, kad, noise, ping,
    request_response::{self, OutboundRequestId, ProtocolSupport, ResponseChannel},
    swarm::{NetworkBehaviour, SwarmEvent, behaviour::toggle::Toggle, dial_opts::DialOpts},
    yamux,
};
use msm_node::net::stream;
use msm_protocol::{
    ContentHash, PeerId, SecretKey, cbor,
    device::{DeviceExt, DeviceInfo, Network},
    message::{BlobRange, BlobRequest, BlobResponse, HeadResponse, name},
};
use serde_bytes::ByteBuf;
use tokio::sync::{mpsc, oneshot};

use crate::rig::{Market, SOON};

/// An answer to a request.
#[derive(Debug)]
pub enum Answer {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Zeros for as long as the other side reads.
    Endless,
    /// These bytes, one a second.
    Trickle(Vec<u8>),
    /// Nothing, for ever: the stream stays open.
    Silence,
}

/// Answers the requests of one protocol.
type Answers = Box<dyn FnMut(&[u8]) -> Answer + Send>;

/// How it behaves.
pub struct Knobs {
    /// `/msm/device/1`.
    pub device: Answers,
    /// `/msm/head/1`.
    pub head: Answers,
    /// `/msm/blob/1`.
    pub blob: Answers,
    /// A Kademlia server that stores what anybody sends.
    pub kad: bool,
    /// Tells who asks what it speaks.
    pub identify: bool,
    /// Takes part in gossip.
    pub gossip: bool,
}

impl Default for Knobs {
    /// Knows nothing and never answers.
    fn default() -> Self {
        let silence = || -> Answers { Box::new(|_| Answer::Silence) };
        Self { device: silence(), head: silence(), blob: silence(), kad: false, identify: true, gossip: false }
    }
}

impl Knobs {
    /// Claims to be the best device around for services of this market.
    pub fn lending(mut self, market: &Market) -> Self {
        let info = DeviceInfo {
            v: 1,
            eqs: 300.0,
            ext: DeviceExt {
                cpu: 1.0,
                mem: 1.0,
                name: "evil".into(),
                cores: 4,
                slots: 4,
                speed: 3.0,
                battery: 1.0,
                engines: vec!["js".into()],
                markets: vec![market.id],
            },
            gps: true,
            network: Network::High,
            availability: true,
        };
        self.device = Box::new(move |_| Answer::Bytes(cbor::to_vec(&info).unwrap()));
        self
    }

    /// Gives the head and roots of a market's folder as they are.
    pub fn with_head_of(mut self, market: &Market) -> Self {
        let read = |path: &str| ByteBuf::from(fs::read(market.folder.join(path)).unwrap());
        let response = HeadResponse { head: Some(read("head.cbor")), past: None, roots: vec![read("root/1.cbor")] };
        let bytes = cbor::to_vec(&response).unwrap();
        self.head = Box::new(move |_| Answer::Bytes(bytes.clone()));
        self
    }

    /// Gives the blobs of a market's folder, as `change` makes them.
    pub fn with_blobs_of(
        mut self,
        market: &Market,
        mut change: impl FnMut(&BlobRequest, BlobResponse) -> Answer + Send + 'static,
    ) -> Self {
        let blobs = blobs_of(&market.folder);
        self.blob = Box::new(move |request| {
            let request: BlobRequest = cbor::from_slice(request, request.len()).unwrap();
            let response = match blobs.get(&request.hash) {
                Some(blob) => {
                    let start = (request.offset as usize).min(blob.len());
                    let end = (start + request.len as usize).min(blob.len());
                    let bytes = ByteBuf::from(&blob[start..end]);
                    BlobResponse::Have(BlobRange { more: Vec::new(), size: blob.len() as u64, bytes })
                }
                None => BlobResponse::Missing,
            };
            change(&request, response)
        });
        self
    }
}

/// The honest form of a response.
pub fn plain(response: &BlobResponse) -> Answer {
    Answer::Bytes(cbor::to_vec(response).unwrap())
}

fn blobs_of(folder: &Path) -> HashMap<ContentHash, Vec<u8>> {
    let files = fs::read_dir(folder.join("blobs")).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| fs::read(path).unwrap()).map(|bytes| (ContentHash::of(&bytes), bytes)).collect()
}

/// A request-response protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    Device,
    Head,
    Blob,
}

enum Command {
    Dial(Multiaddr, Outcome<()>),
    Ask(Protocol, PeerId, Vec<u8>, Outcome<Vec<u8>>),
    OpenJob(PeerId, Outcome<Stream>),
    Provide(ContentHash),
    PutRecord(Vec<u8>, Vec<u8>),
    Publish(String, Vec<u8>),
    Connected(PeerId, oneshot::Sender<bool>),
    Known(Vec<u8>, oneshot::Sender<bool>),
    Routes(PeerId, oneshot::Sender<bool>),
    Subscribe(String),
    Gossips(PeerId, oneshot::Sender<bool>),
    Heard(oneshot::Sender<Vec<Vec<u8>>>),
}

/// A running evil peer. It ends when it is dropped.
pub struct Evil {
    pub key: SecretKey,
    pub peer: PeerId,
    /// Where it listens.
    pub address: Multiaddr,
    /// Job streams that others open to it.
    pub jobs: mpsc::Receiver<Stream>,
    commands: mpsc::Sender<Command>,
    task: tokio::task::JoinHandle<()>,
}

impl Evil {
    pub async fn start(knobs: Knobs) -> Self {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let key = SecretKey::from_seed(&seed);
        let mut swarm = swarm(&key, &knobs);
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        swarm.add_external_address(address.clone());
        let peer = PeerId::of(&key.public());
        let address = address.with_p2p(to_libp2p(&peer)).unwrap();
        let (commands, receiver) = mpsc::channel(64);
        let (sender, jobs) = mpsc::channel(64);
        let state = State { swarm, knobs, jobs: sender, pending: Pending::default() };
        let task = tokio::spawn(state.run(receiver));
        Self { key, peer, address, jobs, commands, task }
    }

    async fn tell(&self, command: Command) {
        assert!(self.commands.send(command).await.is_ok(), "the evil peer runs");
    }

    async fn ask_it<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> T {
        let (answer, receiver) = oneshot::channel();
        self.tell(command(answer)).await;
        tokio::time::timeout(SOON, receiver).await.expect("in time").expect("the evil peer runs")
    }

    /// Dials once.
    pub async fn try_dial(&self, address: &str) -> Result<(), String> {
        let address = address.parse().unwrap();
        self.ask_it(|answer| Command::Dial(address, answer)).await
    }

    /// Dials a node that must let it in.
    pub async fn dial(&self, address: &str) {
        self.try_dial(address).await.unwrap();
    }

    /// Sends a request as it is; the whole response.
    pub async fn ask(&self, protocol: Protocol, peer: PeerId, request: Vec<u8>) -> Result<Vec<u8>, String> {
        self.ask_it(|answer| Command::Ask(protocol, peer, request, answer)).await
    }

    /// Opens a job stream.
    pub async fn open_job(&self, peer: PeerId) -> Result<Stream, String> {
        self.ask_it(|answer| Command::OpenJob(peer, answer)).await
    }

    /// Announces a blob in the DHT.
    pub async fn provide(&self, hash: ContentHash) {
        self.tell(Command::Provide(hash)).await;
    }

    /// Puts a record into the DHT.
    pub async fn put_record(&self, key: Vec<u8>, value: Vec<u8>) {
        self.tell(Command::PutRecord(key, value)).await;
    }

    /// Takes part in a topic.
    pub async fn subscribe(&self, topic: &str) {
        self.tell(Command::Subscribe(topic.to_owned())).await;
    }

    /// Whether this peer would pass gossip of it on: it is in the mesh.
    pub async fn gossips_with(&self, peer: PeerId) -> bool {
        self.ask_it(|answer| Command::Gossips(peer, answer)).await
    }

    /// All gossip that came to it.
    pub async fn heard(&self) -> Vec<Vec<u8>> {
        self.ask_it(Command::Heard).await
    }

    /// Gossips.
    pub async fn publish(&self, topic: &str, data: Vec<u8>) {
        self.tell(Command::Publish(topic.to_owned(), data)).await;
    }

    pub async fn is_connected(&self, peer: PeerId) -> bool {
        self.ask_it(|answer| Command::Connected(peer, answer)).await
    }

    /// Whether its DHT store has providers for this key.
    pub async fn knows_provider(&self, key: Vec<u8>) -> bool {
        self.ask_it(|answer| Command::Known(key, answer)).await
    }

    /// Whether its routing table has this peer.
    pub async fn routes(&self, peer: PeerId) -> bool {
        self.ask_it(|answer| Command::Routes(peer, answer)).await
    }

    /// A job stream that somebody has opened to it.
    pub async fn next_job(&mut self) -> Stream {
        tokio::time::timeout(SOON, self.jobs.recv()).await.expect("a job stream in time").expect("the evil peer runs")
    }
}

impl Drop for Evil {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: Toggle<identify::Behaviour>,
    ping: ping::Behaviour,
    kad: Toggle<kad::Behaviour<kad::store::MemoryStore>>,
    gossip: Toggle<gossipsub::Behaviour>,
    device: request_response::Behaviour<Raw>,
    head: request_response::Behaviour<Raw>,
    blob: request_response::Behaviour<Raw>,
    job: stream::Behaviour,
}

fn swarm(key: &SecretKey, knobs: &Knobs) -> Swarm<Behaviour> {
    let keypair = identity::Keypair::ed25519_from_bytes(key.seed()).unwrap();
    let exchange = |protocol| {
        let config = request_response::Config::default().with_request_timeout(Duration::from_secs(60));
        request_response::Behaviour::with_codec(Raw, [(StreamProtocol::new(protocol), ProtocolSupport::Full)], config)
    };
    let told = identify::Config::new(name::IDENTIFY.to_owned(), keypair.public());
    let behaviour = Behaviour {
        identify: knobs.identify.then(|| identify::Behaviour::new(told)).into(),
        ping: ping::Behaviour::default(),
        kad: knobs.kad.then(|| dht(&keypair)).into(),
        gossip: knobs.gossip.then(gossip).into(),
        device: exchange(name::DEVICE),
        head: exchange(name::HEAD),
        blob: exchange(name::BLOB),
        job: stream::Behaviour::default(),
    };
    SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(libp2p::tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| behaviour)
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(3600)))
        .build()
}

fn dht(keypair: &identity::Keypair) -> kad::Behaviour<kad::store::MemoryStore> {
    let peer = keypair.public().to_peer_id();
    let config = kad::Config::new(StreamProtocol::new(name::KAD));
    let mut behaviour = kad::Behaviour::with_config(peer, kad::store::MemoryStore::new(peer), config);
    behaviour.set_mode(Some(kad::Mode::Server));
    behaviour
}

fn gossip() -> gossipsub::Behaviour {
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        .max_transmit_size(1 << 20)
        .build()
        .unwrap();
    gossipsub::Behaviour::new(gossipsub::MessageAuthenticity::Anonymous, config).unwrap()
}

struct State {
    swarm: Swarm<Behaviour>,
    knobs: Knobs,
    jobs: mpsc::Sender<Stream>,
    pending: Pending,
}

type Answered = oneshot::Sender<Result<Vec<u8>, String>>;

type Outcome<T> = oneshot::Sender<Result<T, String>>;

/// What somebody waits for.
#[derive(Default)]
struct Pending {
    dials: HashMap<libp2p::swarm::ConnectionId, Outcome<()>>,
    requests: HashMap<(Protocol, OutboundRequestId), Answered>,
    streams: HashMap<stream::OpenId, Outcome<Stream>>,
    opened: stream::OpenId,
    /// Gossip that came.
    heard: Vec<Vec<u8>>,
    /// Requests that are never answered.
    held: Vec<ResponseChannel<Answer>>,
}

impl State {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.carry_out(command),
                    None => return,
                },
                event = self.swarm.select_next_some() => self.hear(event).await,
            }
        }
    }

    fn carry_out(&mut self, command: Command) {
        let behaviour = self.swarm.behaviour_mut();
        match command {
            Command::Dial(address, answer) => {
                let options = DialOpts::from(address);
                let connection = options.connection_id();
                match self.swarm.dial(options) {
                    Ok(()) => drop(self.pending.dials.insert(connection, answer)),
                    Err(error) => drop(answer.send(Err(error.to_string()))),
                }
            }
            Command::Ask(protocol, peer, bytes, answer) => {
                let exchange = match protocol {
                    Protocol::Device => &mut behaviour.device,
                    Protocol::Head => &mut behaviour.head,
                    Protocol::Blob => &mut behaviour.blob,
                };
                let id = exchange.send_request(&to_libp2p(&peer), bytes);
                self.pending.requests.insert((protocol, id), answer);
            }
            Command::OpenJob(peer, answer) => {
                self.pending.opened += 1;
                behaviour.job.open(to_libp2p(&peer), self.pending.opened);
                self.pending.streams.insert(self.pending.opened, answer);
            }
            Command::Provide(hash) => {
                let kad = behaviour.kad.as_mut().expect("a DHT");
                kad.start_providing(hash.multihash().to_vec().into()).unwrap();
            }
            Command::PutRecord(key, value) => {
                let kad = behaviour.kad.as_mut().expect("a DHT");
                kad.put_record(kad::Record::new(key, value), kad::Quorum::One).unwrap();
            }
            Command::Publish(topic, data) => {
                let gossip = behaviour.gossip.as_mut().expect("gossip");
                // Not heard by anybody is what the test will see.
                let _ = gossip.publish(gossipsub::IdentTopic::new(topic), data);
            }
            Command::Subscribe(topic) => {
                let gossip = behaviour.gossip.as_mut().expect("gossip");
                gossip.subscribe(&gossipsub::IdentTopic::new(topic)).unwrap();
            }
            Command::Gossips(peer, answer) => {
                let gossip = behaviour.gossip.as_ref().expect("gossip");
                let _ = answer
                    .send(gossip.topics().all(|topic| gossip.mesh_peers(topic).any(|it| *it == to_libp2p(&peer))));
            }
            Command::Heard(answer) => {
                let _ = answer.send(self.pending.heard.clone());
            }
            Command::Connected(peer, answer) => {
                let connected = self.swarm.is_connected(&to_libp2p(&peer));
                let _ = answer.send(connected);
            }
            Command::Routes(peer, answer) => {
                let peer = to_libp2p(&peer);
                let kad = behaviour.kad.as_mut().expect("a DHT");
                let routes = kad.kbuckets().any(|bucket| bucket.iter().any(|entry| *entry.node.key.preimage() == peer));
                let _ = answer.send(routes);
            }
            Command::Known(key, answer) => {
                let store = behaviour.kad.as_mut().expect("a DHT").store_mut();
                let known = !kad::store::RecordStore::providers(store, &key.into()).is_empty();
                let _ = answer.send(known);
            }
        }
    }

    async fn hear(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { connection_id, peer_id, endpoint, .. } => {
                if let (Some(kad), ConnectedPoint::Dialer { address, .. }) =
                    (self.swarm.behaviour_mut().kad.as_mut(), endpoint)
                {
                    kad.add_address(&peer_id, address);
                }
                if let Some(answer) = self.pending.dials.remove(&connection_id) {
                    let _ = answer.send(Ok(()));
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(answer) = self.pending.dials.remove(&connection_id) {
                    let _ = answer.send(Err(error.to_string()));
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. })) => {
                if let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() {
                    for address in info.listen_addrs {
                        kad.add_address(&peer_id, address);
                    }
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message { message, .. })) => {
                self.pending.heard.push(message.data);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Device(event)) => self.exchange(Protocol::Device, event),
            SwarmEvent::Behaviour(BehaviourEvent::Head(event)) => self.exchange(Protocol::Head, event),
            SwarmEvent::Behaviour(BehaviourEvent::Blob(event)) => self.exchange(Protocol::Blob, event),
            SwarmEvent::Behaviour(BehaviourEvent::Job(stream::Event::Inbound(_, stream))) => {
                // A test that does not take streams does not want them.
                let _ = self.jobs.try_send(stream);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Job(stream::Event::Outbound(id, result))) => {
                if let Some(answer) = self.pending.streams.remove(&id) {
                    let _ = answer.send(result.map_err(|error| error.to_string()));
                }
            }
            _ => {}
        }
    }

    fn exchange(&mut self, protocol: Protocol, event: request_response::Event<Vec<u8>, Answer>) {
        match event {
            request_response::Event::Message { message, .. } => match message {
                request_response::Message::Request { request, channel, .. } => {
                    let (knob, exchange) = {
                        let behaviour = self.swarm.behaviour_mut();
                        match protocol {
                            Protocol::Device => (&mut self.knobs.device, &mut behaviour.device),
                            Protocol::Head => (&mut self.knobs.head, &mut behaviour.head),
                            Protocol::Blob => (&mut self.knobs.blob, &mut behaviour.blob),
                        }
                    };
                    match knob(&request) {
                        Answer::Silence => self.pending.held.push(channel),
                        answer => drop(exchange.send_response(channel, answer)),
                    }
                }
                request_response::Message::Response { request_id, response } => {
                    if let (Some(answer), Answer::Bytes(bytes)) =
                        (self.pending.requests.remove(&(protocol, request_id)), response)
                    {
                        let _ = answer.send(Ok(bytes));
                    }
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                if let Some(answer) = self.pending.requests.remove(&(protocol, request_id)) {
                    let _ = answer.send(Err(error.to_string()));
                }
            }
            _ => {}
        }
    }
}

fn to_libp2p(peer: &PeerId) -> libp2p::PeerId {
    libp2p::PeerId::from_bytes(&peer.to_libp2p_bytes()).unwrap()
}

/// Bytes in, bytes out, no limits worth the name.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Answer;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        io.read_to_end(&mut bytes).await?;
        Ok(bytes)
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Answer> {
        let mut bytes = Vec::new();
        io.read_to_end(&mut bytes).await?;
        Ok(Answer::Bytes(bytes))
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&request).await?;
        io.close().await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Answer,
    ) -> io::Result<()> {
        match response {
            Answer::Bytes(bytes) => io.write_all(&bytes).await?,
            Answer::Endless => loop {
                io.write_all(&[0; 4096]).await?;
            },
            Answer::Trickle(bytes) => {
                for byte in bytes {
                    io.write_all(&[byte]).await?;
                    io.flush().await?;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            Answer::Silence => {}
        }
        io.close().await
    }
}
