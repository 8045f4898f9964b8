//! The kinds of values that settings have: each is read from text, and says what it expected.

use std::{fmt, str::FromStr};

use libp2p::{Multiaddr, multiaddr::Protocol};
use msm_protocol::{PeerId, manifest::Engine};
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

/// What a value should have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadValue(String);

fn bad(text: &str, expected: &str) -> BadValue {
    BadValue(format!("{text:?} is not {expected}"))
}

/// Deserialises `$type` from a string by its `FromStr`; `$expected` is what anything else is answered with.
macro_rules! read_from_text {
    ($type:ty, $expected:literal) => {
        impl $type {
            /// What a value of this kind looks like.
            pub const EXPECTED: &'static str = $expected;
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<$type, E> {
                        number.to_string().parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Text)
            }
        }
    };
}

mod ceiling;
mod times;

pub use self::{
    ceiling::{DayQuota, GpsCeiling, HostPattern, OnOff, OpenedHost, WebPort},
    times::{Hours, OfferHours, When},
};

/// A device's name: 1 to 64 characters, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceName(pub(super) String);

/// Characters of a device's name; the wire clamps it there too.
const NAME_CHARS: usize = 64;

impl DeviceName {
    /// The name of a host, made into a device's name.
    pub(super) fn of_host(host: &str) -> Self {
        let name: String = host.chars().filter(|c| !c.is_control()).take(NAME_CHARS).collect();
        Self(if name.trim().is_empty() { "msm".into() } else { name })
    }
}

impl FromStr for DeviceName {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let fine = !text.trim().is_empty() && text.chars().count() <= NAME_CHARS && !text.chars().any(char::is_control);
        if fine { Ok(Self(text.to_owned())) } else { Err(bad(text, Self::EXPECTED)) }
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> Self {
        name.0
    }
}

read_from_text!(DeviceName, "a name of 1 to 64 characters");

/// A share above 0 and up to 1, written as a percentage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(f64);

impl FromStr for Share {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let percent = text.strip_suffix('%').and_then(|number| number.trim_end().parse::<u8>().ok());
        match percent {
            Some(percent @ 1..=100) => Ok(Self(f64::from(percent) / 100.0)),
            _ => Err(bad(text, Self::EXPECTED)),
        }
    }
}

impl From<Share> for f64 {
    fn from(share: Share) -> Self {
        share.0
    }
}

read_from_text!(Share, "a share from \"1%\" to \"100%\"");

/// Percent of a battery, 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percent(u8);

impl FromStr for Percent {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text.strip_suffix('%').unwrap_or(text).parse::<u8>() {
            Ok(percent @ 0..=100) => Ok(Self(percent)),
            _ => Err(bad(text, Self::EXPECTED)),
        }
    }
}

impl From<Percent> for u8 {
    fn from(percent: Percent) -> Self {
        percent.0
    }
}

read_from_text!(Percent, "a percentage from 0 to 100");

/// A number of bytes, written with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(u64);

impl FromStr for ByteSize {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
        let read = UNITS.iter().find_map(|(unit, shift)| {
            let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
            number.checked_mul(1 << shift)
        });
        read.map(Self).ok_or_else(|| bad(text, Self::EXPECTED))
    }
}

impl From<ByteSize> for u64 {
    fn from(size: ByteSize) -> Self {
        size.0
    }
}

read_from_text!(ByteSize, "a size such as \"64KiB\", \"512MiB\" or \"1GiB\"");

/// How many guests run at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots(Option<u16>);

/// More guests than this on one device is a slip of the finger. *Judgement.*
const SLOTS: u16 = 64;

impl FromStr for Slots {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text.parse::<u16>() {
            Ok(slots @ 1..=SLOTS) => Ok(Self(Some(slots))),
            _ if text == "auto" => Ok(Self(None)),
            _ => Err(bad(text, Self::EXPECTED)),
        }
    }
}

impl From<Slots> for Option<u16> {
    fn from(slots: Slots) -> Self {
        slots.0
    }
}

read_from_text!(Slots, "\"auto\" or a number from 1 to 64");

/// To whom a device lends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Who {
    /// Every peer: what runs is decided by the markets that the owner trusts.
    #[default]
    Anyone,
    /// Only peers whose id is in an address of `node.peers`.
    Known,
}

impl FromStr for Who {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text {
            "anyone" => Ok(Self::Anyone),
            "known" => Ok(Self::Known),
            _ => Err(bad(text, Self::EXPECTED)),
        }
    }
}

read_from_text!(Who, "\"anyone\" or \"known\"");

/// An engine that guests run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineName(Engine);

impl FromStr for EngineName {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let known = [Engine::Js, Engine::Wasm].into_iter().find(|engine| engine.as_str() == text);
        known.map(Self).ok_or_else(|| bad(text, Self::EXPECTED))
    }
}

impl From<EngineName> for Engine {
    fn from(name: EngineName) -> Self {
        name.0
    }
}

read_from_text!(EngineName, "\"js\" or \"wasm\"");

/// An address to listen at: `/ip4/…` or `/ip6/…`, then `/tcp/PORT` or `/udp/PORT/quic-v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress(Multiaddr);

impl FromStr for ListenAddress {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let alone = text.strip_prefix("/p2p/").unwrap_or(text);
        if let Ok(peer) = alone.parse::<libp2p::PeerId>() {
            return Ok(Self(Multiaddr::empty().with(Protocol::P2p(peer))));
        }
        let address: Multiaddr = text.parse().map_err(|_| bad(text, Self::EXPECTED))?;
        let mut parts = address.iter();
        let host = matches!(parts.next(), Some(Protocol::Ip4(_) | Protocol::Ip6(_)));
        let port = match (parts.next(), parts.next()) {
            (Some(Protocol::Tcp(_)), None) => true,
            (Some(Protocol::Udp(_)), Some(Protocol::QuicV1)) => parts.next().is_none(),
            _ => false,
        };
        if host && port { Ok(Self(address)) } else { Err(bad(text, Self::EXPECTED)) }
    }
}

impl From<ListenAddress> for Multiaddr {
    fn from(address: ListenAddress) -> Self {
        address.0
    }
}

read_from_text!(
    ListenAddress,
    "an address to listen at, such as \"/ip4/0.0.0.0/tcp/0\" or \"/ip4/0.0.0.0/udp/0/quic-v1\""
);

/// An address to dial: an IP address or a DNS name, a TCP or QUIC port, and if possible `/p2p/PEER`; or a peer id alone,
/// of a peer that is known and finds its own way here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialAddress(Multiaddr);

impl FromStr for DialAddress {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let address: Multiaddr = text.parse().map_err(|_| bad(text, Self::EXPECTED))?;
        let mut parts = address.iter();
        let host = matches!(
            parts.next(),
            Some(Protocol::Ip4(_) | Protocol::Ip6(_) | Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_))
        );
        let port = matches!(parts.next(), Some(Protocol::Tcp(1..) | Protocol::Udp(1..)));
        if host && port { Ok(Self(address)) } else { Err(bad(text, Self::EXPECTED)) }
    }
}

impl From<DialAddress> for Multiaddr {
    fn from(address: DialAddress) -> Self {
        address.0
    }
}

read_from_text!(
    DialAddress,
    "an address to dial, such as \"/ip4/10.0.0.7/tcp/4001/p2p/12D3Koo…\", or a known peer's id"
);

/// The id of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerName(PeerId);

impl FromStr for PeerName {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        text.parse().map(Self).map_err(|_| bad(text, Self::EXPECTED))
    }
}

impl From<PeerName> for PeerId {
    fn from(name: PeerName) -> Self {
        name.0
    }
}

read_from_text!(PeerName, "a peer id, such as 12D3Koo… (msm status says a device's own)");

/// A pattern of interface names: `*` stands for any characters, a leading `!` excludes what matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfacePattern {
    excludes: bool,
    glob: String,
}

impl InterfacePattern {
    /// Starts with `!`.
    pub const fn excludes(&self) -> bool {
        self.excludes
    }

    /// True when the pattern without its `!` matches `name`.
    pub fn matches(&self, name: &str) -> bool {
        let mut pieces = self.glob.split('*');
        let Some(mut rest) = pieces.next().and_then(|first| name.strip_prefix(first)) else { return false };
        let pieces: Vec<&str> = pieces.collect();
        let Some((last, middle)) = pieces.split_last() else { return rest.is_empty() };
        for piece in middle {
            let Some(at) = rest.find(piece) else { return false };
            rest = &rest[at + piece.len()..];
        }
        rest.ends_with(last)
    }
}

impl FromStr for InterfacePattern {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        /// Linux allows 15 characters in an interface's name.
        const LONGEST: usize = 32;
        let glob = text.strip_prefix('!').unwrap_or(text);
        let allowed = |c: char| c.is_ascii_graphic() && c != '!' && c != '/';
        if glob.is_empty() || glob.len() > LONGEST || !glob.chars().all(allowed) {
            return Err(bad(text, Self::EXPECTED));
        }
        Ok(Self { excludes: text.starts_with('!'), glob: glob.to_owned() })
    }
}

read_from_text!(InterfacePattern, "an interface name or pattern, such as \"wlan0\", \"en*\" or \"!docker*\"");

/// Where positions come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GpsSource(Option<(String, u16)>);

/// gpsd's registered port.
const GPSD_PORT: u16 = 2947;

impl FromStr for GpsSource {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        if text == "off" {
            return Ok(Self(None));
        }
        let wrong = || bad(text, Self::EXPECTED);
        let place = text.strip_prefix("gpsd://").ok_or_else(wrong)?;
        let place = place.strip_suffix('/').unwrap_or(place);
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port),
            None => place.split_at(place.find(':').unwrap_or(place.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?,
            None if port.is_empty() => GPSD_PORT,
            None => return Err(wrong()),
        };
        let letter = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
        if host.is_empty() || host.len() > 253 || !host.chars().all(letter) {
            return Err(wrong());
        }
        Ok(Self(Some((host.to_owned(), port))))
    }
}

impl From<GpsSource> for Option<(String, u16)> {
    fn from(source: GpsSource) -> Self {
        source.0
    }
}

read_from_text!(GpsSource, "\"off\" or an address such as \"gpsd://127.0.0.1:2947\"");

#[cfg(test)]
mod tests {
    use super::*;

    /// Asserts which texts a kind takes, and that it shows what it expected for all others.
    fn takes<T: FromStr<Err = BadValue>>(expected: &str, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(text.parse::<T>().is_ok(), "{text:?} is {expected}");
        }
        for text in bad {
            let error = text.parse::<T>().err().unwrap_or_else(|| panic!("{text:?} is not {expected}"));
            assert_eq!(error.to_string(), format!("{text:?} is not {expected}"));
        }
    }

    #[test]
    fn each_kind_takes_what_it_says() {
        let long = "x".repeat(65);
        takes::<DeviceName>(DeviceName::EXPECTED, &["attic-laptop", "Küche 2"], &["", " ", "a\nb", "a\u{7f}", &long]);
        takes::<Share>(Share::EXPECTED, &["1%", "50 %", "100%"], &["0%", "101%", "0.5", "50", "-1%", "%", "1.5%"]);
        takes::<Percent>(Percent::EXPECTED, &["0", "100", "20%"], &["101", "-1", "x", "", "1e1"]);
        takes::<ByteSize>(
            ByteSize::EXPECTED,
            &["64KiB", "512MiB", "1 GiB", "2TiB"],
            &["1GB", "1", "-1MiB", "99999999999TiB", "MiB", "1.5GiB"],
        );
        takes::<Slots>(Slots::EXPECTED, &["auto", "1", "64"], &["0", "65", "many", "-1"]);
        takes::<Who>(Who::EXPECTED, &["anyone", "known"], &["Anyone", "", "nobody"]);
        takes::<ListenAddress>(
            ListenAddress::EXPECTED,
            &["/ip4/0.0.0.0/tcp/0", "/ip6/::/udp/4001/quic-v1"],
            &[
                "/ip4/0.0.0.0",
                "/ip4/0.0.0.0/udp/1",
                "/dns/x/tcp/1",
                "/ip4/1.2.3.4/tcp/1/ws",
                "0.0.0.0:1",
                "/ip4/1/tcp/1",
            ],
        );
        takes::<DialAddress>(
            DialAddress::EXPECTED,
            &["/ip4/10.0.0.7/tcp/1", "/dns4/kitchen-pi.local/udp/1/quic-v1"],
            &["/tcp/1", "/ip4/10.0.0.7", "/ip4/10.0.0.7/tcp/0", "kitchen-pi:1"],
        );
        takes::<InterfacePattern>(
            InterfacePattern::EXPECTED,
            &["wlan0", "!docker*", "*", "en*0"],
            &["", "!", "!!x", "a b", "a/b"],
        );
        takes::<GpsSource>(
            GpsSource::EXPECTED,
            &["off", "gpsd://127.0.0.1", "gpsd://[::1]:2947", "gpsd://pi.local:1/"],
            &[
                "",
                "on",
                "gpsd://",
                "gpsd://h:0",
                "gpsd://h:x",
                "http://h",
                "gpsd://h:1:2",
                "gpsd://a b",
                "gpsd://[::1]x",
            ],
        );
    }

    #[test]
    fn values_are_what_was_written() {
        assert_eq!(f64::from("50%".parse::<Share>().unwrap()), 0.5);
        assert_eq!(u64::from("1GiB".parse::<ByteSize>().unwrap()), 1 << 30);
        assert_eq!(Option::from("auto".parse::<Slots>().unwrap()), None::<u16>);
        let gps = |text: &str| Option::<(String, u16)>::from(text.parse::<GpsSource>().unwrap());
        assert_eq!(gps("gpsd://[::1]"), Some(("::1".into(), 2947)));
        assert_eq!(gps("gpsd://pi:7"), Some(("pi".into(), 7)));
        assert_eq!(gps("off"), None);
    }

    #[test]
    fn globs_match_whole_names() {
        for (pattern, name, expected) in [
            ("wlan0", "wlan0", true),
            ("wlan0", "wlan01", false),
            ("wlan", "wlan0", false),
            ("docker*", "docker0", true),
            ("docker*", "docker", true),
            ("*0", "eth0", true),
            ("*0", "eth1", false),
            ("e*h*0", "eth0", true),
            ("e*h*h", "eth", false),
            ("*", "x", true),
            ("a**b", "ab", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(pattern.parse::<InterfacePattern>().unwrap().matches(name), expected, "{pattern} {name}");
        }
    }
}
