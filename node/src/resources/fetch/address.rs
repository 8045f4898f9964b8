//! Which addresses a guest may be connected to: public ones, and none that leads back into somebody's own network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A block of addresses: the first one, how many bits of it count, and what the block is.
type Block<A> = (A, u32, &'static str);

/// IANA's special-purpose registry for IPv4, and what multicast and the reserved end hold.
const SPECIAL_V4: [Block<Ipv4Addr>; 19] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this network (0.0.0.0/8)"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private (10.0.0.0/8)"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared by a provider's customers (100.64.0.0/10)"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback (127.0.0.0/8)"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local (169.254.0.0/16)"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private (172.16.0.0/12)"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "reserved for protocols (192.0.0.0/24)"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "for documentation (192.0.2.0/24)"),
    (Ipv4Addr::new(192, 31, 196, 0), 24, "a sink for private names (192.31.196.0/24)"),
    (Ipv4Addr::new(192, 52, 193, 0), 24, "a multicast relay (192.52.193.0/24)"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "a 6to4 relay (192.88.99.0/24)"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private (192.168.0.0/16)"),
    (Ipv4Addr::new(192, 175, 48, 0), 24, "a sink for private names (192.175.48.0/24)"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "for benchmarks (198.18.0.0/15)"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "for documentation (198.51.100.0/24)"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "for documentation (203.0.113.0/24)"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast (224.0.0.0/4)"),
    (Ipv4Addr::new(255, 255, 255, 255), 32, "broadcast (255.255.255.255)"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved (240.0.0.0/4)"),
];

/// Where IPv6 is not the public internet: inside and outside of 2000::/3, the one block that is public at all.
/// Translated forms are refused whatever they hold, but for NAT64's well-known prefix: see [`forbidden`].
const SPECIAL_V6: [Block<Ipv6Addr>; 16] = [
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 128, "the unspecified address (::)"),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 1), 128, "loopback (::1)"),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, "IPv4 in disguise (::ffff:0:0/96)"),
    (Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96, "IPv4 in disguise (::ffff:0:0:0/96)"),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 96, "IPv4 in disguise (::/96)"),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, "a local translation (64:ff9b:1::/48)"),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, "a sink (100::/64)"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, "Teredo (2001::/32)"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "reserved for protocols (2001::/23)"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "for documentation (2001:db8::/32)"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "6to4 (2002::/16)"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "for documentation (3fff::/20)"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "private (fc00::/7)"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local (fe80::/10)"),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "site-local (fec0::/10)"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast (ff00::/8)"),
];

/// NAT64's well-known prefix: on a network without IPv4, every public IPv4 host looks like this.
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
/// All public IPv6 addresses there are.
const PUBLIC_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

fn within_v4(address: Ipv4Addr, first: Ipv4Addr, bits: u32) -> bool {
    (address.to_bits() ^ first.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
}

fn within_v6(address: Ipv6Addr, first: Ipv6Addr, bits: u32) -> bool {
    (address.to_bits() ^ first.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
}

/// What makes `address` one that no guest may reach, or `None` for a public one.
pub fn forbidden(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => {
            SPECIAL_V4.iter().find(|(first, bits, _)| within_v4(address, *first, *bits)).map(|(_, _, what)| *what)
        }
        // The translator would connect to the address inside: that one is judged.
        IpAddr::V6(address) if within_v6(address, NAT64.0, NAT64.1) => {
            forbidden(IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() as u32)))
        }
        IpAddr::V6(address) => {
            let special = SPECIAL_V6.iter().find(|(first, bits, _)| within_v6(address, *first, *bits));
            let outside =
                || (!within_v6(address, PUBLIC_V6.0, PUBLIC_V6.1)).then_some("no public address (not in 2000::/3)");
            special.map(|(_, _, what)| *what).or_else(outside)
        }
    }
}

/// The links this device is on. Under IPv6 a neighbour's printer has a public address too, and so has this device.
#[derive(Debug, Clone, Default)]
pub struct Links(Vec<(IpAddr, u32)>);

/// A link wider than this is a route to the world (a tunnel's), and no neighbourhood.
const WIDEST_V4: u32 = 16;
/// The same for IPv6.
const WIDEST_V6: u32 = 48;

impl Links {
    /// No link at all.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// The links of these addresses of this device, each with the bits of its prefix.
    pub fn new(addresses: impl IntoIterator<Item = (IpAddr, u32)>) -> Self {
        let narrow = |(address, bits): (IpAddr, u32)| match address {
            IpAddr::V4(_) if bits < WIDEST_V4 => (address, 32),
            IpAddr::V6(_) if bits < WIDEST_V6 => (address, 128),
            _ => (address, bits),
        };
        Self(addresses.into_iter().map(narrow).collect())
    }

    /// The links as they are now.
    pub fn of_this_device() -> Self {
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        Self::new(interfaces.into_iter().map(|interface| match interface.addr {
            if_addrs::IfAddr::V4(v4) => (IpAddr::V4(v4.ip), u32::from(v4.prefixlen)),
            if_addrs::IfAddr::V6(v6) => (IpAddr::V6(v6.ip), u32::from(v6.prefixlen)),
        }))
    }

    /// True for an address of this device or of somebody on one of its links.
    pub fn hold(&self, address: IpAddr) -> bool {
        self.0.iter().any(|(own, bits)| match (address, *own) {
            (IpAddr::V4(address), IpAddr::V4(own)) => within_v4(address, own, *bits),
            (IpAddr::V6(address), IpAddr::V6(own)) => within_v6(address, own, *bits),
            _ => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b62_special_addresses_are_known() {
        let cases = [
            ("0.0.0.0", "this network"),
            ("0.255.255.255", "this network"),
            ("10.0.0.1", "private"),
            ("100.64.0.1", "shared"),
            ("100.127.255.255", "shared"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.254", "loopback"),
            ("169.254.169.254", "link-local"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.0.0.192", "reserved for protocols"),
            ("192.0.2.1", "documentation"),
            ("192.31.196.1", "sink"),
            ("192.52.193.1", "multicast relay"),
            ("192.88.99.1", "6to4 relay"),
            ("192.168.255.255", "private"),
            ("192.175.48.1", "sink"),
            ("198.18.0.1", "benchmarks"),
            ("198.19.255.255", "benchmarks"),
            ("198.51.100.1", "documentation"),
            ("203.0.113.1", "documentation"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "broadcast"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::ffff:7f00:1", "IPv4 in disguise"),
            ("::ffff:93.184.216.34", "IPv4 in disguise"),
            ("::ffff:0:7f00:1", "IPv4 in disguise"),
            ("::7f00:1", "IPv4 in disguise"),
            ("64:ff9b::7f00:1", "loopback"),
            ("64:ff9b::a00:1", "private"),
            ("64:ff9b:1::808:808", "local translation"),
            ("100::1", "sink"),
            ("2001::1", "Teredo"),
            ("2001:10::1", "reserved for protocols"),
            ("2001:2::1", "reserved for protocols"),
            ("2001:db8::1", "documentation"),
            ("2002:7f00:1::", "6to4"),
            ("2002:808:808::", "6to4"),
            ("3fff::1", "documentation"),
            ("5f00::1", "no public address"),
            ("1::1", "no public address"),
            ("fc00::1", "private"),
            ("fd00:ec2::254", "private"),
            ("fe80::1", "link-local"),
            ("febf::1", "link-local"),
            ("fec0::1", "site-local"),
            ("ff02::1", "multicast"),
        ];
        for (text, expected) in cases {
            let what = forbidden(text.parse().unwrap()).unwrap_or_else(|| panic!("{text} is thought public"));
            assert!(what.contains(expected), "{text}: {what}");
        }
    }

    #[test]
    fn public_addresses_pass() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.1",
            "93.184.216.34",
            "100.63.255.255",
            "100.128.0.1",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.0.1",
            "198.17.255.255",
            "198.20.0.1",
            "223.255.255.255",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a00::1",
            "3ffe::1",
            "64:ff9b::808:808",
        ] {
            assert_eq!(forbidden(text.parse().unwrap()), None, "{text}");
        }
    }

    #[test]
    fn this_device_and_its_neighbours_are_no_public_hosts() {
        let links = Links::new([
            ("2a01:db:1:2::5".parse().unwrap(), 64),
            ("93.184.216.34".parse().unwrap(), 24),
            ("2a02::1".parse().unwrap(), 3),
            ("5.0.0.1".parse().unwrap(), 0),
        ]);
        for (text, expected) in [
            ("2a01:db:1:2::5", true),
            ("2a01:db:1:2:ffff::9", true),
            ("2a01:db:1:3::5", false),
            ("93.184.216.1", true),
            ("93.184.217.1", false),
            // A tunnel that carries everything is this device's own address and nothing more.
            ("2a02::1", true),
            ("2a02::2", false),
            ("5.0.0.1", true),
            ("8.8.8.8", false),
        ] {
            assert_eq!(links.hold(text.parse().unwrap()), expected, "{text}");
        }
    }
}
