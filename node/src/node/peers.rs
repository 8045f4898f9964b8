//! The table of peers: pure. Who is known, who is connected, who may be dialled now.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, multiaddr::Protocol};
use msm_protocol::{PeerId, device::DeviceInfo};

use crate::net::{FoundBy, limits::ADDRESSES_PER_PEER};

/// Peers remembered, connected ones included (B49).
pub const PEERS: usize = 256;
/// Dials to peers that nobody asked for, at a time.
pub const DIALS: usize = 8;
/// Such dials in a minute.
pub const DIALS_PER_MINUTE: usize = 60;
/// A dial that nothing was heard of for this long is over.
const DIAL_TIME: Duration = Duration::from_secs(15);
/// A peer that could not be reached is left alone for this long; it doubles up to [`BACKOFF_MAX`].
const BACKOFF: Duration = Duration::from_secs(1);
/// The longest back-off.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Weight of the newest round trip in the smoothed one.
const RTT_WEIGHT: f64 = 0.3;

/// What is known of one peer.
#[derive(Debug, Clone)]
pub struct PeerSnapshot {
    /// Who.
    pub peer: PeerId,
    /// Its newest word about itself.
    pub info: Option<DeviceInfo>,
    /// When it said so; `None` when it has shown since that it does not hold.
    pub told: Option<Instant>,
    /// Smoothed round trip of pings.
    pub rtt: Option<Duration>,
    /// Where it can be dialled.
    pub addresses: Vec<Multiaddr>,
    /// How it became known.
    pub found_by: FoundBy,
}

#[derive(Debug)]
struct Entry {
    snapshot: PeerSnapshot,
    connected: bool,
    /// Connected over loopback: then, and only then, its loopback addresses lead to it and not to ourselves.
    on_this_machine: bool,
    /// Since when a dial is under way.
    dialling: Option<Instant>,
    failures: u32,
    not_before: Option<Instant>,
    seen: Instant,
}

/// The table.
#[derive(Debug, Default)]
pub struct PeerTable {
    entries: HashMap<PeerId, Entry>,
    recent_dials: VecDeque<Instant>,
    /// Networks of interfaces that the owner excluded (containers' bridges, tunnels): nobody there is dialled.
    excluded: Vec<Network>,
}

/// An IPv4 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Any address in it.
    pub address: Ipv4Addr,
    /// Its mask.
    pub mask: Ipv4Addr,
}

impl Network {
    fn contains(self, ip: Ipv4Addr) -> bool {
        (u32::from(ip) ^ u32::from(self.address)) & u32::from(self.mask) == 0
    }
}

impl PeerTable {
    fn entry(&mut self, peer: PeerId, found_by: FoundBy, now: Instant) -> Option<&mut Entry> {
        if !self.entries.contains_key(&peer) && self.entries.len() >= PEERS {
            // Forget the one heard of longest ago; connected peers stay.
            let (oldest, _) = self.entries.iter().filter(|(_, e)| !e.connected).min_by_key(|(_, e)| e.seen)?;
            let oldest = *oldest;
            self.entries.remove(&oldest);
        }
        let entry = self.entries.entry(peer).or_insert_with(|| Entry {
            snapshot: PeerSnapshot { peer, info: None, told: None, rtt: None, addresses: Vec::new(), found_by },
            connected: false,
            on_this_machine: false,
            dialling: None,
            failures: 0,
            not_before: None,
            seen: now,
        });
        entry.seen = now;
        Some(entry)
    }

    /// Sets the networks in which nobody is dialled.
    pub fn exclude(&mut self, networks: Vec<Network>) {
        self.excluded = networks;
    }

    fn is_excluded(&self, address: &Multiaddr) -> bool {
        match crate::net::per_ip::ip_of(address) {
            Some(IpAddr::V4(ip)) => self.excluded.iter().any(|network| network.contains(ip)),
            _ => false,
        }
    }

    /// Notes that `peer` may be at `address`. True when it should be dialled now.
    pub fn discovered(&mut self, peer: PeerId, address: &Multiaddr, by: FoundBy, now: Instant) -> bool {
        // Only the owner and our own machine know what listens on loopback; a stranger would have us probe it.
        let Some(address) = usable(address).filter(|address| by == FoundBy::Dialled || !is_loopback(address)) else {
            return false;
        };
        if by != FoundBy::Dialled && self.is_excluded(&address) {
            return false;
        }
        let Some(entry) = self.entry(peer, by, now) else { return false };
        remember(&mut entry.snapshot.addresses, address);
        self.may_dial(&peer, now)
    }

    /// Peers that are known, not connected and not backed off: for a periodic second try.
    pub fn due(&mut self, now: Instant) -> Vec<PeerId> {
        let known: Vec<PeerId> =
            self.entries.iter().filter(|(_, e)| !e.snapshot.addresses.is_empty()).map(|(peer, _)| *peer).collect();
        known.into_iter().filter(|peer| self.may_dial(peer, now)).take(DIALS).collect()
    }

    fn may_dial(&mut self, peer: &PeerId, now: Instant) -> bool {
        while self.recent_dials.front().is_some_and(|at| now.duration_since(*at) > Duration::from_secs(60)) {
            self.recent_dials.pop_front();
        }
        let under_way = |entry: &Entry| entry.dialling.is_some_and(|since| now.duration_since(since) < DIAL_TIME);
        let dialling = self.entries.values().filter(|entry| under_way(entry)).count();
        let Some(entry) = self.entries.get(peer) else { return false };
        !entry.connected
            && !under_way(entry)
            && entry.not_before.is_none_or(|at| at <= now)
            && dialling < DIALS
            && self.recent_dials.len() < DIALS_PER_MINUTE
    }

    /// Notes a dial that starts now; returns where to.
    pub fn dialling(&mut self, peer: &PeerId, now: Instant) -> Vec<Multiaddr> {
        let Some(entry) = self.entries.get_mut(peer) else { return Vec::new() };
        entry.dialling = Some(now);
        self.recent_dials.push_back(now);
        entry.snapshot.addresses.clone()
    }

    /// A dial failed: the next waits longer.
    pub fn dial_failed(&mut self, peer: &PeerId, now: Instant) {
        if let Some(entry) = self.entries.get_mut(peer) {
            entry.dialling = None;
            entry.failures = entry.failures.saturating_add(1);
            let wait = BACKOFF.saturating_mul(1 << entry.failures.min(6)).min(BACKOFF_MAX);
            entry.not_before = Some(now + wait);
        }
    }

    /// The first connection to `peer` is up.
    pub fn connected(&mut self, peer: PeerId, address: &Multiaddr, inbound: bool, now: Instant) {
        let by = if inbound { FoundBy::Inbound } else { FoundBy::Dialled };
        if let Some(entry) = self.entry(peer, by, now) {
            entry.connected = true;
            entry.on_this_machine = is_loopback(address);
            entry.dialling = None;
            entry.failures = 0;
            entry.not_before = None;
            if !inbound && let Some(address) = usable(address) {
                remember(&mut entry.snapshot.addresses, address);
            }
        }
    }

    /// The last connection to `peer` is down. A quick re-dial is bounded by the back-off.
    pub fn disconnected(&mut self, peer: &PeerId, now: Instant) {
        if let Some(entry) = self.entries.get_mut(peer) {
            entry.connected = false;
            entry.dialling = None;
            (entry.snapshot.info, entry.snapshot.told) = (None, None);
            entry.snapshot.rtt = None;
            entry.not_before = Some(now + BACKOFF);
        }
    }

    /// Identify told where it listens.
    pub fn identified(&mut self, peer: &PeerId, addresses: &[Multiaddr]) {
        if let Some(entry) = self.entries.get_mut(peer) {
            let here = entry.on_this_machine;
            for address in addresses.iter().filter_map(usable).filter(|address| here || !is_loopback(address)) {
                remember(&mut entry.snapshot.addresses, address);
            }
        }
    }

    /// A ping came back.
    pub fn rtt(&mut self, peer: &PeerId, rtt: Duration) {
        if let Some(entry) = self.entries.get_mut(peer) {
            let smoothed =
                entry.snapshot.rtt.map_or(rtt, |old| old.mul_f64(1.0 - RTT_WEIGHT) + rtt.mul_f64(RTT_WEIGHT));
            entry.snapshot.rtt = Some(smoothed);
        }
    }

    /// It told about itself.
    pub fn told(&mut self, peer: &PeerId, info: DeviceInfo) {
        if let Some(entry) = self.entries.get_mut(peer) {
            (entry.snapshot.info, entry.snapshot.told) = (Some(info), Some(Instant::now()));
        }
    }

    /// What it told does not hold any more.
    pub fn doubted(&mut self, peer: &PeerId) {
        if let Some(entry) = self.entries.get_mut(peer) {
            entry.snapshot.told = None;
        }
    }

    /// Its name, or the end of its id.
    pub fn name(&self, peer: &PeerId) -> String {
        let name = self.entries.get(peer).and_then(|e| e.snapshot.info.as_ref()).map(|info| info.ext.name.clone());
        name.filter(|name| !name.is_empty()).unwrap_or_else(|| peer.short())
    }

    /// Everybody connected, in order of peer id.
    pub fn snapshots(&self) -> Vec<PeerSnapshot> {
        let mut all: Vec<_> = self.entries.values().filter(|e| e.connected).map(|e| e.snapshot.clone()).collect();
        all.sort_by_key(|snapshot| snapshot.peer);
        all
    }

    /// Ids of everybody connected.
    pub fn connected_ids(&self) -> Vec<PeerId> {
        let mut all: Vec<_> = self.entries.iter().filter(|(_, e)| e.connected).map(|(peer, _)| *peer).collect();
        all.sort();
        all
    }
}

/// The address without its `/p2p/…` end, if a neighbour could be there. Containers' bridges and link-local IPv4 are
/// the same on every host and lead to ourselves.
fn usable(address: &Multiaddr) -> Option<Multiaddr> {
    let mut address = address.clone();
    if let Some(Protocol::P2p(_)) = address.iter().last() {
        address.pop();
    }
    match address.iter().next()? {
        Protocol::Ip4(ip) if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() || ip.is_link_local() => {
            None
        }
        Protocol::Ip6(ip) if ip.is_unspecified() || ip.is_multicast() => None,
        Protocol::Ip4(_) | Protocol::Ip6(_) => Some(address),
        _ => None,
    }
}

fn is_loopback(address: &Multiaddr) -> bool {
    crate::net::per_ip::ip_of(address).is_some_and(|ip| ip.is_loopback())
}

/// Newest first, each once, a few of them.
fn remember(addresses: &mut Vec<Multiaddr>, address: Multiaddr) {
    addresses.retain(|known| *known != address);
    addresses.insert(0, address);
    addresses.truncate(ADDRESSES_PER_PEER);
}

#[cfg(test)]
mod tests {
    use super::*;
    use msm_protocol::SecretKey;

    fn peer(n: u16) -> PeerId {
        let mut seed = [7; 32];
        seed[..2].copy_from_slice(&n.to_le_bytes());
        PeerId::of(&SecretKey::from_seed(&seed).public())
    }

    fn address(n: u16) -> Multiaddr {
        format!("/ip4/10.0.{}.{}/tcp/1", n >> 8, n & 255).parse().unwrap()
    }

    #[test]
    fn a_flood_of_discoveries_is_bounded_and_spares_the_connected() {
        let now = Instant::now();
        let mut table = PeerTable::default();
        table.connected(peer(9_999), &address(1), false, now);
        let mut dials = 0;
        for n in 0..2_000 {
            if table.discovered(peer(n), &address(n), FoundBy::Mdns, now) {
                table.dialling(&peer(n), now);
                dials += 1;
            }
        }
        assert_eq!(table.entries.len(), PEERS);
        assert_eq!(table.connected_ids(), [peer(9_999)]);
        assert!(dials <= DIALS_PER_MINUTE, "{dials} dials");
    }

    #[test]
    fn failures_back_off_and_success_resets() {
        let start = Instant::now();
        let mut table = PeerTable::default();
        assert!(table.discovered(peer(1), &address(1), FoundBy::Mdns, start));
        table.dialling(&peer(1), start);
        assert!(!table.discovered(peer(1), &address(1), FoundBy::Mdns, start), "one dial at a time");
        table.dial_failed(&peer(1), start);
        assert!(!table.discovered(peer(1), &address(1), FoundBy::Mdns, start + BACKOFF));
        assert!(table.discovered(peer(1), &address(1), FoundBy::Mdns, start + BACKOFF * 3));
        table.connected(peer(1), &address(1), false, start);
        assert!(!table.discovered(peer(1), &address(1), FoundBy::Mdns, start), "connected already");
    }

    #[test]
    fn nobody_is_dialled_on_an_excluded_network() {
        let mut table = PeerTable::default();
        table.exclude(vec![Network { address: [10, 0, 0, 1].into(), mask: [255, 255, 255, 0].into() }]);
        assert!(!table.discovered(peer(1), &address(7), FoundBy::Mdns, Instant::now()));
        assert!(table.discovered(peer(1), &address(0x107), FoundBy::Mdns, Instant::now()));
    }

    #[test]
    fn useless_addresses_are_not_dialled() {
        let mut table = PeerTable::default();
        for text in
            ["/ip4/0.0.0.0/tcp/1", "/ip4/169.254.1.1/tcp/1", "/ip4/224.0.0.1/udp/1", "/ip6/::/tcp/1", "/dns/x/tcp/1"]
        {
            assert!(!table.discovered(peer(1), &text.parse().unwrap(), FoundBy::Mdns, Instant::now()), "{text}");
        }
    }
}
