//! Checks of the network: ports can be bound, and multicast works on each interface.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, multiaddr::Protocol};

use super::Check;
use crate::config::Config;

/// Where neighbours call each other (mDNS).
const MDNS_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// A group for this probe alone, from the range that stays inside an organisation (RFC 2365).
const PROBE_GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 77, 83);
/// A packet to this machine itself takes microseconds; after this long it was dropped.
const PROBE_TIME: Duration = Duration::from_millis(800);
/// Time for gpsd to answer.
const GPSD_TIME: Duration = Duration::from_secs(2);
/// Interfaces looked at; each that does not work costs [`PROBE_TIME`].
const INTERFACES: usize = 16;

/// The addresses of the settings can be listened at.
pub(super) fn ports(config: &Config, running: bool) -> Vec<Check> {
    let addresses = config.node.listen.iter();
    addresses
        .filter_map(|address| {
            let (name, bound) = bind(address)?;
            Some(match bound {
                Ok(()) => Check::ok(name, "can be listened at"),
                Err(error) if running && error.kind() == io::ErrorKind::AddrInUse => {
                    Check::ok(name, "in use by the running node")
                }
                Err(error) => Check::fail(name, error.to_string()).or_try("msm node --listen /ip4/0.0.0.0/tcp/0"),
            })
        })
        .collect()
}

/// Binds like a node would, and lets go again.
fn bind(address: &Multiaddr) -> Option<(String, io::Result<()>)> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some((format!("tcp {ip}:{port}"), TcpListener::bind((ip, port)).map(drop))),
        Protocol::Udp(port) => Some((format!("udp {ip}:{port}"), UdpSocket::bind((ip, port)).map(drop))),
        _ => None,
    }
}

/// Neighbours can be found on each interface that the settings allow.
pub(super) fn multicast(config: &Config) -> Vec<Check> {
    if !config.node.mdns {
        return vec![Check::ok("multicast", "not used (node.mdns = false)")];
    }
    let found = match if_addrs::get_if_addrs() {
        Ok(found) => found,
        Err(error) => return vec![Check::warn("multicast", format!("interfaces cannot be listed: {error}"))],
    };
    let mut interfaces: BTreeMap<String, Option<Ipv4Addr>> = BTreeMap::new();
    for interface in found {
        if interface.is_loopback() || !config.node.interfaces.allows(&interface.name) {
            continue;
        }
        let address = interfaces.entry(interface.name.clone()).or_default();
        if let IpAddr::V4(ip) = interface.ip() {
            address.get_or_insert(ip);
        }
    }
    if interfaces.is_empty() {
        let detail = "no network interface is up: services run on this device alone";
        return vec![Check::warn("multicast", detail)];
    }
    let probed = interfaces.into_iter().take(INTERFACES);
    probed.map(|(name, address)| judge(&name, address.map(|ip| (ip, probe(ip))))).collect()
}

fn judge(interface: &str, probed: Option<(Ipv4Addr, io::Result<()>)>) -> Check {
    let name = format!("multicast {interface}");
    // What helps in any network without multicast: one address typed by hand.
    let by_hand = "msm node --peer /ip4/ADDRESS/tcp/PORT/p2p/PEER";
    match probed {
        None => Check::warn(name, "no IPv4 address: neighbours are not found by themselves here").or_try(by_hand),
        Some((ip, Ok(()))) => Check::ok(name, format!("{ip} hears {MDNS_GROUP} and itself")),
        Some((ip, Err(error))) => Check::warn(name, format!("{ip}: {error}")).or_try(by_hand),
    }
}

/// Joins the group of mDNS, and sends a packet to a group of our own that must come back.
fn probe(interface: Ipv4Addr) -> io::Result<()> {
    let say = |what: &'static str| move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
    let receiver = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    receiver.join_multicast_v4(&MDNS_GROUP, &interface).map_err(say("cannot join the group of mDNS"))?;
    receiver.join_multicast_v4(&PROBE_GROUP, &interface).map_err(say("cannot join a multicast group"))?;
    let sender = UdpSocket::bind((interface, 0))?;
    sender.set_multicast_loop_v4(true)?;
    // Not beyond this link.
    sender.set_multicast_ttl_v4(1)?;
    let mut token = [0; 16];
    getrandom::fill(&mut token).map_err(|error| io::Error::other(error.to_string()))?;
    let target = (PROBE_GROUP, receiver.local_addr()?.port());
    sender.send_to(&token, target).map_err(say("cannot send to a multicast group"))?;
    let until = Instant::now() + PROBE_TIME;
    let mut packet = [0; 17];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let why = "multicast packets do not come back (a firewall, or a network that filters them)";
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        receiver.set_read_timeout(Some(left))?;
        match receiver.recv_from(&mut packet) {
            Ok((size, _)) if packet.get(..size) == Some(token.as_slice()) => return Ok(()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
}

/// A configured gpsd answers.
pub(super) fn gpsd(config: &Config) -> Option<Check> {
    let (host, port) = config.sensors.gps.as_ref()?;
    let answer = || -> io::Result<bool> {
        let nowhere = || io::Error::new(io::ErrorKind::NotFound, "no such host");
        let address: SocketAddr = (host.as_str(), *port).to_socket_addrs()?.next().ok_or_else(nowhere)?;
        let mut stream = TcpStream::connect_timeout(&address, GPSD_TIME)?;
        stream.set_read_timeout(Some(GPSD_TIME))?;
        let mut start = [0; 18];
        stream.read_exact(&mut start)?;
        Ok(&start == b"{\"class\":\"VERSION\"")
    };
    let name = "gps";
    Some(match answer() {
        Ok(true) => Check::ok(name, format!("gpsd answers at {host}:{port}")),
        Ok(false) => Check::warn(name, format!("what answers at {host}:{port} is no gpsd")),
        Err(error) => Check::warn(name, format!("no gpsd at {host}:{port}: {error}")).or_try("systemctl start gpsd"),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{super::CheckStatus, *};
    use crate::config::NodeConfig;

    #[test]
    fn a_port_that_is_taken_is_found() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let addresses = [format!("/ip4/127.0.0.1/tcp/{port}"), "/ip4/127.0.0.1/udp/0/quic-v1".into()];
        let listen = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let default = Config::default();
        let config = Config { node: NodeConfig { listen, ..default.node.clone() }, ..default };
        let statuses = |running| ports(&config, running).into_iter().map(|check| check.status).collect::<Vec<_>>();
        assert_eq!(statuses(false), [CheckStatus::Fail, CheckStatus::Ok]);
        assert_eq!(statuses(true), [CheckStatus::Ok, CheckStatus::Ok]);
    }

    #[test]
    fn multicast_is_judged_for_each_interface() {
        let ip = Ipv4Addr::new(10, 0, 0, 7);
        assert_eq!(judge("eth0", Some((ip, Ok(())))).status, CheckStatus::Ok);
        let lost = judge("eth0", Some((ip, Err(io::Error::other("lost")))));
        assert_eq!((lost.status, lost.detail.as_str()), (CheckStatus::Warn, "10.0.0.7: lost"));
        assert!(judge("eth0", None).try_line.is_some());
        // An address that no interface can have.
        assert!(probe(Ipv4Addr::new(240, 0, 0, 1)).is_err());
    }

    #[test]
    fn a_gpsd_is_told_from_something_else() {
        for (speech, expected) in [
            ("{\"class\":\"VERSION\",\"release\":\"3.22\"}\n", CheckStatus::Ok),
            ("HTTP/1.1 400 Bad Request\r\n\r\n", CheckStatus::Warn),
            ("", CheckStatus::Warn),
        ] {
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let mut config = Config::default();
            config.sensors.gps = Some(("127.0.0.1".into(), listener.local_addr().unwrap().port()));
            let check = std::thread::scope(|scope| {
                scope.spawn(|| listener.accept().unwrap().0.write_all(speech.as_bytes()).unwrap());
                gpsd(&config).unwrap()
            });
            assert_eq!(check.status, expected, "{speech:?}: {check:?}");
        }
        assert_eq!(gpsd(&Config::default()), None);
    }
}
