//! One layer of settings as it was typed: every key optional, unknown keys refused.

use serde::Deserialize;

use super::value::{
    ByteSize, DayQuota, DeviceName, DialAddress, EngineName, GpsCeiling, GpsSource, HostPattern, InterfacePattern,
    ListenAddress, OfferHours, OnOff, OpenedHost, PeerName, Percent, Share, Slots, WebPort, When, Who,
};

/// A layer: the file, one environment variable, or the flags.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RawConfig {
    /// How this device is called in lists. Default: the host's name.
    pub name: Option<DeviceName>,
    /// The network.
    #[serde(default)]
    pub node: RawNode,
    /// What is lent.
    #[serde(default)]
    pub offer: RawOffer,
    /// Where sensor values come from.
    #[serde(default)]
    pub sensors: RawSensors,
    /// What services may use of this device at most, whatever was granted.
    #[serde(default)]
    pub resources: RawResources,
}

/// `[node]`: the network.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RawNode {
    /// Multiaddresses to listen at: TCP or QUIC, port 0 for any.
    pub listen: Option<Vec<ListenAddress>>,
    /// Multiaddresses of peers to dial at the start.
    pub peers: Option<Vec<DialAddress>>,
    /// Ids of the owner's other devices: private services may run there.
    pub own: Option<Vec<PeerName>>,
    /// Look for neighbours by multicast.
    pub mdns: Option<bool>,
    /// Interfaces to look for neighbours on; `*` stands for anything, `!` excludes.
    pub interfaces: Option<Vec<InterfacePattern>>,
}

/// `[offer]`: what is lent to others.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RawOffer {
    /// Lend anything at all.
    pub enabled: Option<bool>,
    /// Share of the CPU that others may use, such as `"50%"`.
    pub cpu: Option<Share>,
    /// Memory that all guests of others together may use, such as `"1GiB"`.
    pub memory: Option<ByteSize>,
    /// Guests at a time, or `"auto"`.
    pub slots: Option<Slots>,
    /// Percent of battery charge below which nothing is lent, unless charging.
    pub battery_min: Option<Percent>,
    /// A part of every day, such as `"22:00-07:00"`, or `"always"`.
    pub hours: Option<OfferHours>,
    /// `"always"`, or `"idle"`: only while nobody uses the device.
    pub when: Option<When>,
    /// `"anyone"`, or `"known"`: only peers named in `node.peers`.
    pub who: Option<Who>,
    /// Engines that tasks of others may run in: `"js"`, `"wasm"`.
    pub engines: Option<Vec<EngineName>>,
}

/// `[sensors]`: where sensor values come from.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RawSensors {
    /// `"gpsd://HOST:PORT"`, or `"off"`.
    pub gps: Option<GpsSource>,
}

/// `[resources]`: what services may use of this device at most, whatever was granted.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RawResources {
    /// How exactly the position may be told: `"off"`, `"coarse"` or `"precise"`.
    pub gps: Option<GpsCeiling>,
    /// Whether services may fetch from the web: `"off"` or `"on"`.
    pub net: Option<OnOff>,
    /// Hosts that they may fetch from; `"*"` is any.
    pub net_hosts: Option<Vec<HostPattern>>,
    /// Bytes that jobs of others may fetch in a day, `"0"` for none, or `"unlimited"`.
    pub net_quota: Option<DayQuota>,
    /// Ports that they may fetch from besides 80 and 443.
    pub net_ports: Option<Vec<WebPort>>,
    /// Hosts with a port that they may fetch from although these are not public. Dangerous.
    pub net_private: Option<Vec<OpenedHost>>,
    /// Whether services may know the coarse state of this device.
    pub device: Option<bool>,
}
