//! mDNS with bounds: libp2p's own list of discovered nodes has none, and its entries live as long as their sender says.
//!
//! Two measures keep a flood (B49) from costing memory or time. Discoveries are taken at [`MDNS_RATE`] a second; while
//! the allowance is used up the inner behaviour is not polled, so that surplus packets stay in the kernel's bounded
//! buffer. When the inner list passes [`MDNS_ENTRIES`] the inner behaviour is replaced by a fresh one, which forgets it.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId,
    core::{
        Endpoint,
        transport::{ListenerId, PortUse},
    },
    mdns,
    swarm::{ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NewListenAddr, THandler, ToSwarm, dummy},
};
use tokio::time::{Instant, Sleep};

use super::limits::{MDNS_ENTRIES, MDNS_QUERY, MDNS_RATE, MDNS_TTL};

/// Addresses that neighbours announced: hints, nothing more. A peer is there when a dial succeeds.
#[derive(Debug)]
pub struct Discovered(pub Vec<(PeerId, Multiaddr)>);

/// The bounded behaviour.
pub struct Behaviour {
    inner: mdns::tokio::Behaviour,
    local: PeerId,
    /// Replayed into a fresh inner behaviour.
    listening: Vec<(ListenerId, Multiaddr)>,
    /// Found, and not passed on yet for want of allowance.
    waiting: VecDeque<(PeerId, Multiaddr)>,
    allowance: u32,
    refill: Pin<Box<Sleep>>,
}

const REFILL: Duration = Duration::from_secs(1);

fn config() -> mdns::Config {
    mdns::Config { ttl: MDNS_TTL, query_interval: MDNS_QUERY, enable_ipv6: false }
}

impl Behaviour {
    /// Starts to listen on every interface.
    pub fn new(local: PeerId) -> io::Result<Self> {
        Ok(Self {
            inner: mdns::tokio::Behaviour::new(config(), local)?,
            local,
            listening: Vec::new(),
            waiting: VecDeque::new(),
            allowance: MDNS_RATE,
            refill: Box::pin(tokio::time::sleep(REFILL)),
        })
    }

    /// Forgets all entries when there are too many.
    fn shed(&mut self) {
        let entries = self.inner.discovered_nodes().len();
        if entries <= MDNS_ENTRIES {
            return;
        }
        tracing::warn!(entries, "mDNS flood: forgetting every address");
        match mdns::tokio::Behaviour::new(config(), self.local) {
            Ok(fresh) => self.inner = fresh,
            Err(error) => tracing::error!(%error, "mDNS could not be restarted"),
        }
        for (listener_id, addr) in &self.listening {
            self.inner.on_swarm_event(FromSwarm::NewListenAddr(NewListenAddr { listener_id: *listener_id, addr }));
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Discovered;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match &event {
            FromSwarm::NewListenAddr(new) => self.listening.push((new.listener_id, new.addr.clone())),
            FromSwarm::ExpiredListenAddr(old) => self.listening.retain(|(_, address)| address != old.addr),
            _ => {}
        }
        self.inner.on_swarm_event(event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Discovered, Infallible>> {
        if self.allowance == 0 {
            match self.refill.as_mut().poll(cx) {
                Poll::Ready(()) => {
                    self.refill.as_mut().reset(Instant::now() + REFILL);
                    self.allowance = MDNS_RATE;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        loop {
            if !self.waiting.is_empty() {
                let count = self.waiting.len().min(self.allowance as usize);
                self.allowance -= count as u32;
                let found = self.waiting.drain(..count).collect();
                if self.allowance == 0 {
                    // Polled again when there is allowance again.
                    cx.waker().wake_by_ref();
                }
                return Poll::Ready(ToSwarm::GenerateEvent(Discovered(found)));
            }
            match self.inner.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(mdns::Event::Discovered(found))) => {
                    // The inner behaviour reports each only once: what exceeds the allowance waits.
                    self.waiting.extend(found);
                    self.waiting.truncate(MDNS_ENTRIES);
                    self.shed();
                }
                // An expired entry is no proof that a peer is gone, and its addresses are not handed to other
                // behaviours unchecked: the coordinator decides what to dial.
                Poll::Ready(_) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
