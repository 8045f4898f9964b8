//! The words of grants: what may be used, how exactly, for whom, and who is asking.

use std::{fmt, str::FromStr};

use msm_protocol::{PeerId, manifest::Permissions};
use serde::{Deserialize, Serialize};

/// A part of the device that needs the owner's grant. Picture codecs, the clock and randomness need none: they reveal
/// nothing of the device or its owner, and never leave the guest's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Where the device is.
    Gps,
    /// Fetching from the web through the device's network.
    Net,
    /// Coarse state of the device: battery, network, name.
    Device,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Gps, Self::Net, Self::Device];

    /// As it is typed and stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gps => "gps",
            Self::Net => "net",
            Self::Device => "device",
        }
    }

    /// The right that an operation of a guest needs; `None` for an operation that does not exist.
    pub fn of_op(op: &str) -> Option<Self> {
        match op {
            "gps.position" => Some(Self::Gps),
            "net.fetch" => Some(Self::Net),
            "device.status" => Some(Self::Device),
            _ => None,
        }
    }

    /// Whether a manifest asks for it.
    pub fn is_asked(self, permissions: &Permissions) -> bool {
        match self {
            Self::Gps => permissions.gps.is_some(),
            Self::Net => !permissions.net.is_empty(),
            Self::Device => permissions.device,
        }
    }

    /// Those that a manifest asks for.
    pub fn asked(permissions: &Permissions) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|right| right.is_asked(permissions))
    }

    /// The line that asks for it, below `[permissions]` in `service.toml`.
    pub const fn manifest_line(self) -> &'static str {
        match self {
            Self::Gps => "gps = \"coarse\"",
            Self::Net => "net = [\"*\"]",
            Self::Device => "device = true",
        }
    }
}

/// How exactly a position is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// The centre of a cell of about 2 km.
    Coarse,
    /// As the receiver says.
    Precise,
}

impl Precision {
    /// As it is typed and stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coarse => "coarse",
            Self::Precise => "precise",
        }
    }

    /// What a manifest asks for.
    pub fn asked(permissions: &Permissions) -> Option<Self> {
        permissions.gps.as_deref().map(|gps| if gps == "precise" { Self::Precise } else { Self::Coarse })
    }
}

/// What a service wants to use of a device, in words that say what it can learn; nothing for one that only computes.
pub fn needs(permissions: &Permissions) -> Vec<String> {
    let mut needs = Vec::new();
    match Precision::asked(permissions) {
        Some(Precision::Coarse) => needs.push("position (coarse)".to_owned()),
        Some(Precision::Precise) => needs.push("position (exact)".to_owned()),
        None => {}
    }
    match permissions.net.as_slice() {
        [] => {}
        hosts if hosts.iter().any(|host| host == "*") => needs.push("web: any site".to_owned()),
        hosts => needs.push(format!("web: {}", hosts.join(" "))),
    }
    if permissions.device {
        needs.push("battery, network and name of the device".to_owned());
    }
    needs
}

/// How near somebody is to the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kin {
    /// Anybody else.
    Stranger,
    /// A peer that the owner named in `node.peers`.
    Known,
    /// This device itself: the owner's own jobs.
    Own,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The requester of the job.
    pub peer: PeerId,
    /// What it is to the owner.
    pub kin: Kin,
}

/// For whom a grant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Audience {
    /// The owner's own jobs.
    Own,
    /// Those, and jobs of peers named in `node.peers`.
    Known,
    /// Everybody's jobs.
    Anyone,
    /// Jobs of this peer.
    Peer(PeerId),
}

impl Audience {
    /// Whether `caller` is among them.
    pub fn covers(&self, caller: &Caller) -> bool {
        match self {
            Self::Own => caller.kin == Kin::Own,
            Self::Known => caller.kin >= Kin::Known,
            Self::Anyone => true,
            Self::Peer(peer) => *peer == caller.peer,
        }
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("own"),
            Self::Known => f.write_str("known"),
            Self::Anyone => f.write_str("anyone"),
            Self::Peer(peer) => peer.fmt(f),
        }
    }
}

impl FromStr for Audience {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "own" => Ok(Self::Own),
            "known" => Ok(Self::Known),
            "anyone" => Ok(Self::Anyone),
            _ => text.parse().map(Self::Peer).map_err(|_| format!("{text:?} is not own, known, anyone or a peer id")),
        }
    }
}

impl Serialize for Audience {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Displays by its word; reads from it, naming the words there are.
macro_rules! word {
    ($type:ty, [$($variant:expr),*], $expected:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                let found = [$($variant),*].into_iter().find(|it| it.as_str() == text);
                found.ok_or_else(|| format!("{text:?} is not {}", $expected))
            }
        }
    };
}

word!(Right, [Right::Gps, Right::Net, Right::Device], "gps, net or device");
word!(Precision, [Precision::Coarse, Precision::Precise], "coarse or precise");

#[cfg(test)]
mod tests {
    use msm_protocol::SecretKey;

    use super::*;

    fn peer(seed: u8) -> PeerId {
        PeerId::of(&SecretKey::from_seed(&[seed; 32]).public())
    }

    #[test]
    fn audiences_cover_whom_they_name() {
        let of = |kin| Caller { peer: peer(1), kin };
        for (audience, own, known, stranger) in [
            (Audience::Own, true, false, false),
            (Audience::Known, true, true, false),
            (Audience::Anyone, true, true, true),
            (Audience::Peer(peer(1)), true, true, true),
            (Audience::Peer(peer(2)), false, false, false),
        ] {
            let covered = [Kin::Own, Kin::Known, Kin::Stranger].map(|kin| audience.covers(&of(kin)));
            assert_eq!(covered, [own, known, stranger], "{audience}");
            assert_eq!(audience.to_string().parse(), Ok(audience));
        }
        assert!("friends".parse::<Audience>().is_err());
    }

    #[test]
    fn operations_need_the_right_that_the_manifest_names() {
        let asks = |gps: bool, net: bool, device| Permissions {
            gps: gps.then(|| "coarse".into()),
            net: if net { vec!["*".into()] } else { vec![] },
            device,
            image: true,
            clock: true,
            random: true,
        };
        assert_eq!(Right::asked(&asks(false, false, false)).count(), 0, "image, clock and random need no grant");
        assert_eq!(Right::asked(&asks(true, true, true)).collect::<Vec<_>>(), Right::ALL);
        for (op, right) in [
            ("gps.position", Some(Right::Gps)),
            ("net.fetch", Some(Right::Net)),
            ("device.status", Some(Right::Device)),
            ("gps", None),
            ("", None),
            ("net.fetch ", None),
        ] {
            assert_eq!(Right::of_op(op), right, "{op}");
        }
    }
}
