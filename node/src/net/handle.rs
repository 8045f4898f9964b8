//! What the swarm task can be asked and what it reports: the network as the rest of the node sees it.

use std::time::Duration;

use libp2p::{Multiaddr, Stream, gossipsub, request_response::ResponseChannel};
use msm_protocol::{
    ContentHash, MarketId, PeerId, SecretKey,
    cbor::CborError,
    device::DeviceInfo,
    message::{BlobRequest, BlobResponse, Discovery, HeadRequest, HeadResponse},
};
use tokio::sync::{mpsc, oneshot};

use super::stream::OpenError;

/// How the swarm is started.
#[derive(Debug)]
pub struct NetConfig {
    /// The node's key; its public half is the peer id.
    pub key: SecretKey,
    /// Multiaddresses to listen on.
    pub listen: Vec<Multiaddr>,
    /// Announce and discover by mDNS.
    pub mdns: bool,
}

/// Why a request to the network failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// The swarm could not be started.
    #[error("network: {0}")]
    Start(String),
    /// The swarm task has ended.
    #[error("the network is shut down")]
    Closed,
    /// The peer did not answer in time, closed, or does not speak the protocol.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// The answer is not the message it should be.
    #[error("bad-message: {0}")]
    BadMessage(#[from] CborError),
    /// The address could not be dialled.
    #[error("cannot reach it: {0}")]
    Dial(String),
    /// No job stream could be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// How a peer became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FoundBy {
    /// Multicast DNS.
    Mdns,
    /// A presence message.
    Gossip,
    /// Kademlia.
    Kad,
    /// The owner gave its address.
    Dialled,
    /// It came to us.
    Inbound,
}

impl FoundBy {
    /// As shown by `msm peers`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mdns => "mdns",
            Self::Gossip => "gossip",
            Self::Kad => "kad",
            Self::Dialled => "dialled",
            Self::Inbound => "inbound",
        }
    }
}

/// A gossip message that waits for a verdict before it is passed on.
#[derive(Debug)]
pub struct Gossip {
    /// Who passed it to us.
    pub from: PeerId,
    /// The content.
    pub data: Vec<u8>,
    pub(super) id: gossipsub::MessageId,
}

/// What is to become of a gossip message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Pass it on.
    Accept,
    /// Do not pass it on, nobody is to blame (old news).
    Ignore,
    /// Do not pass it on, and lower the sender's score.
    Reject,
}

/// A place for the answer to a request.
pub struct Reply<T> {
    pub(super) channel: ResponseChannel<Vec<u8>>,
    pub(super) kind: std::marker::PhantomData<fn(T)>,
}

impl<T> std::fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reply")
    }
}

/// What the coordinator hears.
#[derive(Debug)]
pub enum NetEvent {
    /// The node listens on this address.
    Listening(Multiaddr),
    /// The node does not listen there any more.
    NotListening(Multiaddr),
    /// The first connection to a peer is up.
    Connected { peer: PeerId, address: Multiaddr, inbound: bool },
    /// The last connection to a peer is down.
    Disconnected { peer: PeerId, reason: String },
    /// A dial that nobody waits for failed.
    DialFailed { peer: Option<PeerId> },
    /// A ping came back.
    Rtt { peer: PeerId, rtt: Duration },
    /// Identify: where the peer listens. `speaks_kad` tells an MSM node.
    Identified { peer: PeerId, addresses: Vec<Multiaddr>, speaks_kad: bool },
    /// Addresses that may or may not lead to a peer.
    Discovered { peer: PeerId, address: Multiaddr, by: FoundBy },
    /// A discovery message.
    DeviceAsked { peer: PeerId, message: Discovery, reply: Reply<DeviceInfo> },
    /// A question for a market's newest head.
    HeadAsked { peer: PeerId, message: HeadRequest, reply: Reply<HeadResponse> },
    /// A question for a piece of a blob.
    BlobAsked { peer: PeerId, message: BlobRequest, reply: Reply<BlobResponse> },
    /// A peer has opened a job stream.
    JobStream { peer: PeerId, stream: Stream },
    /// Presence gossip.
    PresenceGossip(Gossip),
    /// Market gossip.
    MarketGossip { market: MarketId, gossip: Gossip },
    /// Somebody wants a head record stored here.
    RecordOffered { from: PeerId, market: MarketId, head: Vec<u8>, record: Box<libp2p::kad::Record> },
    /// Somebody says that it provides a blob.
    ProviderOffered { from: PeerId, record: Box<libp2p::kad::ProviderRecord> },
    /// A peer sent something that no honest peer sends.
    Misbehaved { peer: PeerId, what: String },
}

pub(super) type Answer<T> = oneshot::Sender<Result<T, NetError>>;

/// To the swarm task.
pub(super) enum NetCommand {
    Dial { peer: Option<PeerId>, addresses: Vec<Multiaddr>, answer: Option<Answer<PeerId>> },
    Disconnect(PeerId),
    Block(PeerId),
    Unblock(PeerId),
    AskDevice(PeerId, Vec<u8>, Answer<Vec<u8>>),
    AskHead(PeerId, Vec<u8>, Answer<Vec<u8>>),
    AskBlob(PeerId, Vec<u8>, Answer<Vec<u8>>),
    AnswerDevice(ResponseChannel<Vec<u8>>, Vec<u8>),
    AnswerHead(ResponseChannel<Vec<u8>>, Vec<u8>),
    AnswerBlob(ResponseChannel<Vec<u8>>, Vec<u8>),
    OpenJob(PeerId, Answer<Stream>),
    Route { peer: PeerId, address: Multiaddr },
    Unroute(PeerId),
    Provide(ContentHash),
    ProvideAgain,
    FindProviders(ContentHash, mpsc::Sender<PeerId>),
    PutHead(MarketId, Vec<u8>),
    FindHeads(MarketId, mpsc::Sender<Vec<u8>>),
    StoreRecord(Box<libp2p::kad::Record>),
    StoreProvider(Box<libp2p::kad::ProviderRecord>),
    Subscribe(MarketId),
    Unsubscribe(MarketId),
    PublishPresence(Vec<u8>),
    PublishHead(MarketId, Vec<u8>),
    Judge(Gossip, Verdict),
    Shutdown(oneshot::Sender<()>),
}

/// The way into the swarm task. Cheap to clone.
#[derive(Clone)]
pub struct NetHandle {
    pub(super) commands: mpsc::Sender<NetCommand>,
    pub(super) local: PeerId,
}

impl NetHandle {
    /// This node.
    pub fn local(&self) -> PeerId {
        self.local
    }

    /// Dials and waits for the connection.
    pub async fn dial(&self, peer: Option<PeerId>, addresses: Vec<Multiaddr>) -> Result<PeerId, NetError> {
        self.ask(|answer| NetCommand::Dial { peer, addresses, answer: Some(answer) }).await
    }

    /// Starts a dial that nobody waits for; it succeeds as [`NetEvent::Connected`].
    pub async fn start_dial(&self, peer: PeerId, addresses: Vec<Multiaddr>) {
        self.tell(NetCommand::Dial { peer: Some(peer), addresses, answer: None }).await;
    }

    /// Closes every connection to `peer`.
    pub async fn disconnect(&self, peer: PeerId) {
        self.tell(NetCommand::Disconnect(peer)).await;
    }

    /// Refuses connections to and from `peer` until [`NetHandle::unblock`].
    pub async fn block(&self, peer: PeerId) {
        self.tell(NetCommand::Block(peer)).await;
    }

    /// Lifts a block.
    pub async fn unblock(&self, peer: PeerId) {
        self.tell(NetCommand::Unblock(peer)).await;
    }

    /// Sends a discovery message.
    pub async fn device(&self, peer: PeerId, message: &Discovery) -> Result<DeviceInfo, NetError> {
        let request = msm_protocol::cbor::to_vec(message)?;
        let response = self.ask(|answer| NetCommand::AskDevice(peer, request, answer)).await?;
        let info: DeviceInfo = msm_protocol::cbor::from_slice(&response, msm_protocol::limits::CONTROL_BYTES)?;
        Ok(info.clamped())
    }

    /// Asks for a market's newest head.
    pub async fn head(&self, peer: PeerId, message: &HeadRequest) -> Result<HeadResponse, NetError> {
        let request = msm_protocol::cbor::to_vec(message)?;
        let response = self.ask(|answer| NetCommand::AskHead(peer, request, answer)).await?;
        Ok(msm_protocol::cbor::from_slice(&response, msm_protocol::limits::HEAD_RESPONSE_BYTES)?)
    }

    /// Asks for a piece of a blob.
    pub async fn blob(&self, peer: PeerId, message: &BlobRequest) -> Result<BlobResponse, NetError> {
        let request = msm_protocol::cbor::to_vec(message)?;
        let response = self.ask(|answer| NetCommand::AskBlob(peer, request, answer)).await?;
        Ok(msm_protocol::cbor::from_slice(&response, msm_protocol::limits::FRAME_BYTES)?)
    }

    /// Answers a discovery message.
    pub async fn answer_device(&self, reply: Reply<DeviceInfo>, info: &DeviceInfo) {
        if let Ok(bytes) = msm_protocol::cbor::to_vec(info) {
            self.tell(NetCommand::AnswerDevice(reply.channel, bytes)).await;
        }
    }

    /// Answers a question for a head.
    pub async fn answer_head(&self, reply: Reply<HeadResponse>, response: &HeadResponse) {
        if let Ok(bytes) = msm_protocol::cbor::to_vec(response) {
            self.tell(NetCommand::AnswerHead(reply.channel, bytes)).await;
        }
    }

    /// Answers a question for a piece of a blob.
    pub async fn answer_blob(&self, reply: Reply<BlobResponse>, response: &BlobResponse) {
        if let Ok(bytes) = msm_protocol::cbor::to_vec(response) {
            self.tell(NetCommand::AnswerBlob(reply.channel, bytes)).await;
        }
    }

    /// Opens a job stream to a connected peer.
    pub async fn open_job(&self, peer: PeerId) -> Result<Stream, NetError> {
        self.ask(|answer| NetCommand::OpenJob(peer, answer)).await
    }

    /// Puts a peer into the routing table.
    pub async fn route(&self, peer: PeerId, address: Multiaddr) {
        self.tell(NetCommand::Route { peer, address }).await;
    }

    /// Takes a peer out of the routing table.
    pub async fn unroute(&self, peer: PeerId) {
        self.tell(NetCommand::Unroute(peer)).await;
    }

    /// Announces that this node has a blob.
    pub async fn provide(&self, hash: ContentHash) {
        self.tell(NetCommand::Provide(hash)).await;
    }

    /// Announces everything again: a node that was alone when it announced told nobody.
    pub async fn provide_again(&self) {
        self.tell(NetCommand::ProvideAgain).await;
    }

    /// Providers of a blob, as they are found; the channel closes at the end of the search. They are dialled while the
    /// search knows their addresses.
    pub async fn find_providers(&self, hash: ContentHash) -> mpsc::Receiver<PeerId> {
        let (found, receiver) = mpsc::channel(super::limits::PROVIDERS_WANTED);
        self.tell(NetCommand::FindProviders(hash, found)).await;
        receiver
    }

    /// Puts a market's head record into the DHT.
    pub async fn put_head(&self, market: MarketId, head: Vec<u8>) {
        self.tell(NetCommand::PutHead(market, head)).await;
    }

    /// Head records of a market found in the DHT, unverified.
    pub async fn find_heads(&self, market: MarketId) -> mpsc::Receiver<Vec<u8>> {
        let (found, receiver) = mpsc::channel(super::limits::PROVIDERS_WANTED);
        self.tell(NetCommand::FindHeads(market, found)).await;
        receiver
    }

    /// Stores a head record for others, after it was verified.
    pub async fn store_record(&self, record: Box<libp2p::kad::Record>) {
        self.tell(NetCommand::StoreRecord(record)).await;
    }

    /// Stores a provider record for others.
    pub async fn store_provider(&self, record: Box<libp2p::kad::ProviderRecord>) {
        self.tell(NetCommand::StoreProvider(record)).await;
    }

    /// Listens to a market's gossip.
    pub async fn subscribe(&self, market: MarketId) {
        self.tell(NetCommand::Subscribe(market)).await;
    }

    /// Stops listening to a market's gossip.
    pub async fn unsubscribe(&self, market: MarketId) {
        self.tell(NetCommand::Unsubscribe(market)).await;
    }

    /// Gossips a signed presence.
    pub async fn publish_presence(&self, envelope: Vec<u8>) {
        self.tell(NetCommand::PublishPresence(envelope)).await;
    }

    /// Gossips a market's newest head.
    pub async fn publish_head(&self, market: MarketId, envelope: Vec<u8>) {
        self.tell(NetCommand::PublishHead(market, envelope)).await;
    }

    /// Decides about a gossip message.
    pub async fn judge(&self, gossip: Gossip, verdict: Verdict) {
        self.tell(NetCommand::Judge(gossip, verdict)).await;
    }

    /// Closes every connection and ends the swarm task.
    pub async fn shutdown(&self) {
        let (done, ended) = oneshot::channel();
        self.tell(NetCommand::Shutdown(done)).await;
        let _ = ended.await;
    }

    /// Sends a command whose outcome nobody waits for. A closed task is the end of the node: nothing is left to tell.
    async fn tell(&self, command: NetCommand) {
        let _ = self.commands.send(command).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> NetCommand) -> Result<T, NetError> {
        let (answer, receiver) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_| NetError::Closed)?;
        receiver.await.map_err(|_| NetError::Closed)?
    }
}
