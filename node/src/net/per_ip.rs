//! A cap on connections from one IP address, which libp2p does not have (B42). Loopback does not count.

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

/// Counts established inbound connections by remote address.
#[derive(Debug)]
pub struct Behaviour {
    limit: usize,
    by_connection: HashMap<ConnectionId, IpAddr>,
    by_ip: HashMap<IpAddr, usize>,
}

impl Behaviour {
    /// At most `limit` inbound connections from one address.
    pub fn new(limit: usize) -> Self {
        Self { limit, by_connection: HashMap::new(), by_ip: HashMap::new() }
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

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if let Some(ip) = ip_of(remote).filter(|ip| !ip.is_loopback()) {
            let held = self.by_ip.entry(ip).or_default();
            if *held >= self.limit {
                return Err(ConnectionDenied::new(TooMany { ip, limit: self.limit }));
            }
            *held += 1;
            self.by_connection.insert(connection, ip);
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
        // A connection that another behaviour denies after this one let it in ends as a ListenFailure.
        let connection = match event {
            FromSwarm::ConnectionClosed(closed) => closed.connection_id,
            FromSwarm::ListenFailure(failure) => failure.connection_id,
            _ => return,
        };
        if let Some(ip) = self.by_connection.remove(&connection)
            && let Some(held) = self.by_ip.get_mut(&ip)
        {
            *held -= 1;
            if *held == 0 {
                self.by_ip.remove(&ip);
            }
        }
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
        let mut behaviour = Behaviour::new(CAP);
        const CAP: usize = 8;
        let held = (0..200).filter(|id| inbound(&mut behaviour, *id, "/ip4/10.1.1.1/tcp/1")).count();
        assert_eq!(held, CAP);
        assert!(inbound(&mut behaviour, 300, "/ip4/10.1.1.2/tcp/1"));
        assert!(!inbound(&mut behaviour, 301, "/ip6/::ffff:10.1.1.1/tcp/1"), "a mapped address is the same host");
        assert_eq!((400..450).filter(|id| inbound(&mut behaviour, *id, "/ip4/127.0.0.1/tcp/1")).count(), 50);
    }
}
