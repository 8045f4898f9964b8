//! A cap on connections from one IP address, which libp2p does not have (B42, B44). Of established ones loopback does
//! not count; handshakes count for every address, so that one that begins many leaves room for the others.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::IpAddr,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, ToSwarm, dummy},
};

/// The address is at its cap.
#[derive(Debug, thiserror::Error)]
#[error("{ip} has {limit} connections already")]
pub struct TooMany {
    ip: IpAddr,
    limit: usize,
}

/// Connections in one state, by remote address.
#[derive(Debug)]
struct Counted {
    limit: usize,
    by_connection: HashMap<ConnectionId, IpAddr>,
    by_ip: HashMap<IpAddr, usize>,
}

impl Counted {
    fn new(limit: usize) -> Self {
        Self { limit, by_connection: HashMap::new(), by_ip: HashMap::new() }
    }

    fn add(&mut self, connection: ConnectionId, ip: IpAddr) -> Result<(), ConnectionDenied> {
        let held = self.by_ip.entry(ip).or_default();
        if *held >= self.limit {
            return Err(ConnectionDenied::new(TooMany { ip, limit: self.limit }));
        }
        *held += 1;
        self.by_connection.insert(connection, ip);
        Ok(())
    }

    fn remove(&mut self, connection: ConnectionId) {
        if let Some(ip) = self.by_connection.remove(&connection)
            && let Some(held) = self.by_ip.get_mut(&ip)
        {
            *held -= 1;
            if *held == 0 {
                self.by_ip.remove(&ip);
            }
        }
    }
}

/// Counts inbound connections by remote address.
#[derive(Debug)]
pub struct Behaviour {
    established: Counted,
    pending: Counted,
}

impl Behaviour {
    /// At most `limit` inbound connections from one address, and `pending` handshakes.
    pub fn new(limit: usize, pending: usize) -> Self {
        Self { established: Counted::new(limit), pending: Counted::new(pending) }
    }
}

/// The IP address at the front of a multiaddress.
pub fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.to_canonical()),
        _ => None,
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        ip_of(remote).map_or(Ok(()), |ip| self.pending.add(connection, ip))
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending.remove(connection);
        if let Some(ip) = ip_of(remote).filter(|ip| !ip.is_loopback()) {
            self.established.add(connection, ip)?;
        }
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

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        // A handshake that fails, and a connection that another behaviour denies, end as a ListenFailure.
        let connection = match event {
            FromSwarm::ConnectionClosed(closed) => closed.connection_id,
            FromSwarm::ListenFailure(failure) => failure.connection_id,
            _ => return,
        };
        self.established.remove(connection);
        self.pending.remove(connection);
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Infallible>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbound(behaviour: &mut Behaviour, id: usize, remote: &str) -> bool {
        let address: Multiaddr = remote.parse().unwrap();
        let connection = ConnectionId::new_unchecked(id);
        behaviour.handle_established_inbound_connection(connection, PeerId::random(), &address, &address).is_ok()
    }

    #[test]
    fn b42_one_address_holds_at_most_its_limit() {
        let mut behaviour = Behaviour::new(CAP, 100);
        const CAP: usize = 8;
        let held = (0..200).filter(|id| inbound(&mut behaviour, *id, "/ip4/10.1.1.1/tcp/1")).count();
        assert_eq!(held, CAP);
        assert!(inbound(&mut behaviour, 300, "/ip4/10.1.1.2/tcp/1"));
        assert!(!inbound(&mut behaviour, 301, "/ip6/::ffff:10.1.1.1/tcp/1"), "a mapped address is the same host");
        assert_eq!((400..450).filter(|id| inbound(&mut behaviour, *id, "/ip4/127.0.0.1/tcp/1")).count(), 50);
    }

    #[test]
    fn b44_one_address_leaves_room_for_other_handshakes() {
        let mut behaviour = Behaviour::new(8, 2);
        let mut begins = |id: usize, remote: &str| {
            let address: Multiaddr = remote.parse().unwrap();
            behaviour.handle_pending_inbound_connection(ConnectionId::new_unchecked(id), &address, &address).is_ok()
        };
        assert!(begins(1, "/ip4/127.0.0.1/tcp/1") && begins(2, "/ip4/127.0.0.1/tcp/2"));
        assert!(!begins(3, "/ip4/127.0.0.1/tcp/3"), "loopback counts here");
        assert!(begins(4, "/ip4/10.1.1.1/udp/1/quic-v1"));
        assert!(inbound(&mut behaviour, 1, "/ip4/127.0.0.1/tcp/1"), "its handshake is over");
        let address: Multiaddr = "/ip4/127.0.0.1/tcp/3".parse().unwrap();
        let third = ConnectionId::new_unchecked(5);
        assert!(behaviour.handle_pending_inbound_connection(third, &address, &address).is_ok(), "and leaves its place");
    }
}
