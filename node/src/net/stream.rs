//! Job streams: opens and accepts `/msm/job/1` substreams, bounded, and tells when one could not be had.
//!
//! libp2p's generic stream crate drops inbound streams in bursts. This one hands each to the swarm task as an event and
//! refuses to open more than [`JOB_STREAMS_OPENING`] at a time on one connection.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol,
    core::{Endpoint, transport::PortUse, upgrade::ReadyUpgrade},
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
        NotifyHandler, SubstreamProtocol, THandler, ToSwarm,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use msm_protocol::message::name;

use super::limits::JOB_STREAMS_OPENING;

/// Names one request to open a stream.
pub type OpenId = u64;

/// Why no stream could be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is no connection to the peer.
    #[error("not connected")]
    NotConnected,
    /// The connection closed, or the peer does not speak the protocol.
    #[error("stream refused: {0}")]
    Refused(String),
    /// Too many are being opened.
    #[error("{JOB_STREAMS_OPENING} job streams are being opened already")]
    TooMany,
}

/// What the swarm task hears.
#[derive(Debug)]
pub enum Event {
    /// A peer has opened a stream.
    Inbound(PeerId, Stream),
    /// A stream that was asked for, or why not.
    Outbound(OpenId, Result<Stream, OpenError>),
}

/// The behaviour.
#[derive(Default)]
pub struct Behaviour {
    connections: HashMap<PeerId, Vec<ConnectionId>>,
    opening: HashSet<(ConnectionId, OpenId)>,
    queue: VecDeque<ToSwarm<Event, OpenId>>,
}

impl Behaviour {
    /// Asks for a stream to `peer`; an [`Event::Outbound`] with `id` follows.
    pub fn open(&mut self, peer: PeerId, id: OpenId) {
        let Some(connection) = self.connections.get(&peer).and_then(|all| all.first()).copied() else {
            self.queue.push_back(ToSwarm::GenerateEvent(Event::Outbound(id, Err(OpenError::NotConnected))));
            return;
        };
        self.opening.insert((connection, id));
        let handler = NotifyHandler::One(connection);
        self.queue.push_back(ToSwarm::NotifyHandler { peer_id: peer, handler, event: id });
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(new) => {
                self.connections.entry(new.peer_id).or_default().push(new.connection_id);
            }
            FromSwarm::ConnectionClosed(closed) => {
                if let Some(all) = self.connections.get_mut(&closed.peer_id) {
                    all.retain(|connection| *connection != closed.connection_id);
                    if all.is_empty() {
                        self.connections.remove(&closed.peer_id);
                    }
                }
                // A handler that is gone answers nothing any more.
                let lost: Vec<_> = self.opening.iter().filter(|(c, _)| *c == closed.connection_id).copied().collect();
                for key in lost {
                    self.opening.remove(&key);
                    let error = OpenError::Refused("connection closed".into());
                    self.queue.push_back(ToSwarm::GenerateEvent(Event::Outbound(key.1, Err(error))));
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: FromHandler) {
        let event = match event {
            FromHandler::Inbound(stream) => Event::Inbound(peer, stream),
            FromHandler::Outbound(id, result) => {
                self.opening.remove(&(connection, id));
                Event::Outbound(id, result)
            }
        };
        self.queue.push_back(ToSwarm::GenerateEvent(event));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Event, OpenId>> {
        self.queue.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// From a connection's handler.
#[derive(Debug)]
pub enum FromHandler {
    /// The remote opened a stream.
    Inbound(Stream),
    /// A stream that was asked for, or why not.
    Outbound(OpenId, Result<Stream, OpenError>),
}

type HandlerEvent = ConnectionHandlerEvent<ReadyUpgrade<StreamProtocol>, OpenId, FromHandler>;

/// One connection's handler.
#[derive(Default)]
pub struct Handler {
    queue: VecDeque<HandlerEvent>,
    opening: usize,
}

fn protocol() -> ReadyUpgrade<StreamProtocol> {
    ReadyUpgrade::new(StreamProtocol::new(name::JOB))
}

impl ConnectionHandler for Handler {
    type FromBehaviour = OpenId;
    type ToBehaviour = FromHandler;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = OpenId;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(protocol(), ())
    }

    fn on_behaviour_event(&mut self, id: OpenId) {
        self.queue.push_back(if self.opening >= JOB_STREAMS_OPENING {
            ConnectionHandlerEvent::NotifyBehaviour(FromHandler::Outbound(id, Err(OpenError::TooMany)))
        } else {
            self.opening += 1;
            ConnectionHandlerEvent::OutboundSubstreamRequest { protocol: SubstreamProtocol::new(protocol(), id) }
        });
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), OpenId>,
    ) {
        let event = match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. }) => {
                FromHandler::Inbound(stream)
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, info }) => {
                self.opening = self.opening.saturating_sub(1);
                FromHandler::Outbound(info, Ok(stream))
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                self.opening = self.opening.saturating_sub(1);
                FromHandler::Outbound(info, Err(OpenError::Refused(error.to_string())))
            }
            _ => return,
        };
        self.queue.push_back(ConnectionHandlerEvent::NotifyBehaviour(event));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<HandlerEvent> {
        self.queue.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
