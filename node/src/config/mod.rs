//! The owner's settings: default < file < `MSM_*` variable < flag, every value checked before a node starts.
//!
//! [`RawConfig`] is one layer as typed; [`Config`] is what all layers together mean. `config.example.toml` beside this
//! crate's manifest lists every key with its default.

mod layers;
mod raw;
mod value;

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use libp2p::{Multiaddr, multiaddr::Protocol};
use msm_protocol::{ContentHash, PeerId, limits::VARIANTS, manifest::Engine};

pub use self::{
    raw::{RawConfig, RawNode, RawOffer, RawResources, RawSensors},
    value::{
        BadValue, ByteSize, DayQuota, DeviceName, DialAddress, EngineName, GpsCeiling, GpsSource, HostPattern, Hours,
        InterfacePattern, ListenAddress, OfferHours, OnOff, OpenedHost, Percent, Share, Slots, WebPort, When, Who,
    },
};
use crate::{
    command::{CommandError, ErrorCode},
    home::Home,
    resources::{fetch::target::PrivateHost, words::Precision},
};

/// Bytes of a config file: the example with all its comments is a thirtieth of it.
const CONFIG_BYTES: u64 = 128 * 1024;
/// Addresses to listen at. *Judgement.*
const LISTEN: usize = 8;
/// Peers to dial at the start. *Judgement*: others are found through them.
const PEERS: usize = 64;
/// Interface patterns. *Judgement.*
const INTERFACES: usize = 32;
/// Hosts that services may fetch from. *Judgement.*
const HOSTS: usize = 64;
/// Ports and private hosts that are opened to services. *Judgement.*
const PORTS: usize = 16;
/// Slots are not made of more cores than this, unless the owner says so: guests share memory bandwidth.
const AUTOMATIC_SLOTS: usize = 4;

/// Where a wrong setting was found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A file, with the line (from 1) when it is known.
    File(PathBuf, Option<usize>),
    /// An environment variable.
    Variable(String),
    /// A flag.
    Flags,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Self::File(path, None) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flags => f.write_str("command line"),
        }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A key or value is wrong.
    #[error("{origin}: {}{why}", if .key.is_empty() { String::new() } else { format!("{}: ", .key) })]
    Wrong {
        /// Where.
        origin: Origin,
        /// Which key, as `offer.cpu`; empty when the file is no TOML.
        key: String,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// The file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        let code = match error {
            ConfigError::Wrong { .. } => ErrorCode::Usage,
            ConfigError::Unreadable { .. } => ErrorCode::Failed,
        };
        Self::new(code, error.to_string())
    }
}

/// What the owner wants, complete and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// How this device is called in lists; no control characters, at most 64 characters.
    pub name: String,
    /// The network.
    pub node: NodeConfig,
    /// What is lent.
    pub offer: OfferConfig,
    /// Where sensor values come from.
    pub sensors: SensorsConfig,
    /// What services may use at most.
    pub resources: ResourcesConfig,
    /// Settings that were ignored, for the log: `MSM_NODE_…` variables that mean nothing.
    pub warnings: Vec<String>,
}

/// The network settings.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeConfig {
    /// Where to listen; TCP or QUIC.
    pub listen: Vec<Multiaddr>,
    /// Whom to dial at the start.
    pub peers: Vec<Multiaddr>,
    /// The owner's other devices.
    pub own: Vec<PeerId>,
    /// Look for neighbours by multicast.
    pub mdns: bool,
    /// Which interfaces neighbours are looked for on.
    pub interfaces: Interfaces,
}

/// What is lent to others.
#[derive(Debug, Clone, PartialEq)]
pub struct OfferConfig {
    /// Lend anything at all.
    pub enabled: bool,
    /// Share of the CPU that others may use, above 0 and up to 1.
    pub cpu: f64,
    /// Bytes of memory that all guests of others together may use.
    pub memory: u64,
    /// Guests at a time, when the owner fixed it.
    pub slots: Option<u16>,
    /// Percent of battery charge below which nothing is lent, unless charging.
    pub battery_min: u8,
    /// The part of every day in which it is lent; all of it without.
    pub hours: Option<Hours>,
    /// Whether the owner's own use matters.
    pub when: When,
    /// To whom.
    pub who: Who,
    /// Engines that tasks of others may run in.
    pub engines: Vec<Engine>,
}

impl OfferConfig {
    /// The owner's limits in words, one each.
    pub fn limits(&self, cores: usize) -> Vec<String> {
        let slots = self.slot_count(cores);
        let mut limits = vec![
            format!("{:.0} % of {cores} core{}", self.cpu * 100.0, if cores == 1 { "" } else { "s" }),
            format!("{} MiB of memory", self.memory >> 20),
            format!("{slots} task{} at a time", if slots == 1 { "" } else { "s" }),
            format!("from {} % of battery", self.battery_min),
        ];
        limits.extend(self.hours.map(|hours| hours.to_string()));
        limits.extend((self.when == When::Idle).then(|| "while nobody uses it".to_owned()));
        limits.push(if self.who == Who::Known { "to known peers" } else { "to anyone" }.to_owned());
        limits
    }

    /// Guests at a time on a device with `cores` cores: as the owner fixed it, else one for each lent core, 1 to 4.
    pub fn slot_count(&self, cores: usize) -> usize {
        let automatic = ((cores as f64 * self.cpu) as usize).clamp(1, AUTOMATIC_SLOTS);
        self.slots.map_or(automatic, usize::from)
    }
}

/// Where sensor values come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SensorsConfig {
    /// The gpsd to ask, as `(host, port)`.
    pub gps: Option<(String, u16)>,
}

/// The device's ceilings: what services may use at most, whatever was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourcesConfig {
    /// How exactly the position may be told; `None` for not at all.
    pub gps: Option<Precision>,
    /// Services may fetch from the web.
    pub net: bool,
    /// Patterns of hosts that they may fetch from.
    pub net_hosts: Vec<String>,
    /// Bytes that jobs of others may fetch in a day; `None` for no bound.
    pub net_quota: Option<u64>,
    /// Ports that they may fetch from besides 80 and 443.
    pub net_ports: Vec<u16>,
    /// Hosts, each with its port, that they may fetch from although they are not public.
    pub net_private: Vec<PrivateHost>,
    /// Services may know the coarse state of this device.
    pub device: bool,
}

impl Default for ResourcesConfig {
    fn default() -> Self {
        Self {
            gps: Some(Precision::Coarse),
            net: true,
            net_hosts: vec!["*".to_owned()],
            net_quota: Some(100 << 20),
            net_ports: Vec::new(),
            net_private: Vec::new(),
            device: true,
        }
    }
}

/// Which network interfaces are used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interfaces(Vec<InterfacePattern>);

impl Interfaces {
    /// True for a name that no `!pattern` matches and, when there are patterns without `!`, one of those does.
    pub fn allows(&self, name: &str) -> bool {
        let named = |excludes| self.0.iter().filter(move |pattern| pattern.excludes() == excludes);
        !named(true).any(|pattern| pattern.matches(name))
            && (named(false).next().is_none() || named(false).any(|pattern| pattern.matches(name)))
    }
}

impl Config {
    /// Reads the file of `home` (which need not exist), the environment and `flags`.
    pub fn load(home: &Home, flags: RawConfig) -> Result<Self, ConfigError> {
        let path = home.config_file();
        let text = match read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !home.config_is_named() => None,
            other => Some(other.map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?),
        };
        // Values that are not UTF-8 can be no setting of ours.
        let variables = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        let host = sysinfo::System::host_name().unwrap_or_default();
        Self::of_layers(text.as_deref().map(|text| (path, text)), variables, flags, &host)
    }

    /// What the layers mean together: a file's path and text, environment variables, flags. `host` is the name to use
    /// when none is given. Touches nothing outside.
    pub fn of_layers(
        file: Option<(&Path, &str)>,
        variables: impl IntoIterator<Item = (String, String)>,
        flags: RawConfig,
        host: &str,
    ) -> Result<Self, ConfigError> {
        let mut config = Self { name: DeviceName::of_host(host).0, ..Self::default() };
        if let Some((path, text)) = file {
            config.apply(layers::parse_file(path, text)?, &Origin::File(path.to_owned(), None))?;
        }
        let variables = layers::parse_variables(variables)?;
        for (name, layer) in variables.layers {
            config.apply(layer, &Origin::Variable(name))?;
        }
        config.warnings = variables.warnings;
        config.apply(flags, &Origin::Flags)?;
        Ok(config)
    }

    /// Lays `layer` over what is there.
    fn apply(&mut self, layer: RawConfig, origin: &Origin) -> Result<(), ConfigError> {
        fn set<T, V: Into<T>>(place: &mut T, value: Option<V>) {
            if let Some(value) = value {
                *place = value.into();
            }
        }
        fn fill<T, V: Into<T>>(
            place: &mut Vec<T>,
            values: Option<Vec<V>>,
            (origin, key, most): (&Origin, &str, usize),
        ) -> Result<(), ConfigError> {
            let Some(values) = values else { return Ok(()) };
            if values.len() > most {
                let why = format!("{} entries; at most {most} are used", values.len());
                return Err(ConfigError::Wrong { origin: origin.clone(), key: key.into(), why });
            }
            *place = values.into_iter().map(Into::into).collect();
            Ok(())
        }
        let RawConfig { name, node, offer, sensors, resources } = layer;
        set(&mut self.name, name);
        fill(&mut self.node.listen, node.listen, (origin, "node.listen", LISTEN))?;
        fill(&mut self.node.peers, node.peers, (origin, "node.peers", PEERS))?;
        fill(&mut self.node.own, node.own, (origin, "node.own", PEERS))?;
        fill(&mut self.node.interfaces.0, node.interfaces, (origin, "node.interfaces", INTERFACES))?;
        set(&mut self.node.mdns, node.mdns);
        set(&mut self.offer.enabled, offer.enabled);
        set(&mut self.offer.cpu, offer.cpu);
        set(&mut self.offer.memory, offer.memory);
        set(&mut self.offer.slots, offer.slots);
        set(&mut self.offer.battery_min, offer.battery_min);
        set(&mut self.offer.hours, offer.hours);
        set(&mut self.offer.when, offer.when);
        set(&mut self.offer.who, offer.who);
        fill(&mut self.offer.engines, offer.engines, (origin, "offer.engines", VARIANTS))?;
        set(&mut self.sensors.gps, sensors.gps);
        set(&mut self.resources.gps, resources.gps);
        set(&mut self.resources.net, resources.net);
        fill(&mut self.resources.net_hosts, resources.net_hosts, (origin, "resources.net-hosts", HOSTS))?;
        set(&mut self.resources.net_quota, resources.net_quota);
        fill(&mut self.resources.net_ports, resources.net_ports, (origin, "resources.net-ports", PORTS))?;
        fill(&mut self.resources.net_private, resources.net_private, (origin, "resources.net-private", PORTS))?;
        set(&mut self.resources.device, resources.device);
        Ok(())
    }
}

impl Default for Config {
    /// What a device does whose owner has set nothing; `config.example.toml` says the same.
    fn default() -> Self {
        let patterns = ["!docker*", "!br-*", "!veth*", "!virbr*", "!tun*"];
        Self {
            name: DeviceName::of_host("").0,
            node: NodeConfig {
                listen: [Protocol::Udp(0), Protocol::Tcp(0)]
                    .map(|port| {
                        let quic = matches!(port, Protocol::Udp(_)).then_some(Protocol::QuicV1);
                        Multiaddr::from(Ipv4Addr::UNSPECIFIED).with(port).into_iter().chain(quic).collect()
                    })
                    .to_vec(),
                peers: Vec::new(),
                own: Vec::new(),
                mdns: true,
                interfaces: Interfaces(patterns.iter().filter_map(|text| text.parse().ok()).collect()),
            },
            offer: OfferConfig {
                enabled: true,
                cpu: 0.5,
                memory: 1 << 30,
                slots: None,
                battery_min: 20,
                hours: None,
                when: When::Always,
                who: Who::Anyone,
                engines: vec![Engine::Js, Engine::Wasm],
            },
            sensors: SensorsConfig::default(),
            resources: ResourcesConfig::default(),
            warnings: Vec::new(),
        }
    }
}

/// The config file as it was at some moment, to see later whether it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings(Option<ContentHash>);

impl Settings {
    /// The file of `home` now; one that cannot be read is like one that is not there.
    pub fn of(home: &Home) -> Self {
        Self(read(home.config_file()).ok().map(|text| ContentHash::of(text.as_bytes())))
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(CONFIG_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../config.example.toml");

    fn of(file: &str, variables: &[(&str, &str)], flags: RawConfig) -> Result<Config, ConfigError> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::of_layers(Some((Path::new("config.toml"), file)), variables, flags, "attic")
    }

    fn named(name: &str) -> RawConfig {
        RawConfig { name: Some(name.parse().unwrap()), ..RawConfig::default() }
    }

    #[test]
    fn the_example_file_says_the_defaults_and_every_key() {
        let default = Config { name: "attic".into(), ..Config::default() };
        assert_eq!(of(EXAMPLE, &[], RawConfig::default()).unwrap(), default);
        assert_eq!(of("", &[], RawConfig::default()).unwrap(), default);
        // With its one commented key taken in, no key of the schema is missing.
        let complete: toml::Table = EXAMPLE.replace("# name =", "name =").parse().unwrap();
        let mut keys = Vec::new();
        for (key, value) in &complete {
            match value.as_table() {
                Some(table) => keys.extend(table.keys().map(|inner| format!("{key}.{inner}"))),
                None => keys.push(key.clone()),
            }
        }
        keys.sort_unstable();
        let mut known = layers::known_keys();
        known.sort_unstable();
        assert_eq!(keys, known);
    }

    #[test]
    fn flag_beats_variable_beats_file_beats_default() {
        let file = "name = \"file\"";
        let variables = [("MSM_NAME", "variable")];
        assert_eq!(of("", &[], RawConfig::default()).unwrap().name, "attic");
        assert_eq!(of(file, &[], RawConfig::default()).unwrap().name, "file");
        assert_eq!(of(file, &variables, RawConfig::default()).unwrap().name, "variable");
        assert_eq!(of(file, &variables, named("flag")).unwrap().name, "flag");
        // A layer changes what it names and nothing else.
        let config = of("[offer]\ncpu = \"25%\"\n", &[("MSM_OFFER_SLOTS", "2")], named("flag")).unwrap();
        assert_eq!((config.offer.cpu, config.offer.slots, config.offer.battery_min), (0.25, Some(2), 20));
        // A list is replaced, not extended; "auto" and "off" undo what a lower layer set.
        let file = "[node]\npeers = [\"/ip4/10.0.0.1/tcp/1\"]\n[offer]\nslots = 2\n[sensors]\ngps = \"gpsd://pi\"";
        let undone = [("MSM_NODE_PEERS", ""), ("MSM_OFFER_SLOTS", "auto"), ("MSM_SENSORS_GPS", "off")];
        let config = of(file, &undone, RawConfig::default()).unwrap();
        assert_eq!((config.node.peers, config.offer.slots, config.sensors.gps), (vec![], None, None));
    }

    #[test]
    fn lists_are_bounded() {
        let text = format!("[node]\nlisten = [{}]", "\"/ip4/127.0.0.1/tcp/0\",".repeat(LISTEN + 1));
        let error = of(&text, &[], RawConfig::default()).unwrap_err();
        assert_eq!(error.to_string(), "config.toml: node.listen: 9 entries; at most 8 are used");
    }

    #[test]
    fn interfaces_are_named_or_excluded() {
        let allowed = |patterns: &[&str], name: &str| {
            Interfaces(patterns.iter().map(|text| text.parse().unwrap()).collect()).allows(name)
        };
        for (patterns, name, expected) in [
            (&[][..], "wlan0", true),
            (&["!docker*"], "wlan0", true),
            (&["!docker*"], "docker0", false),
            (&["wlan*"], "eth0", false),
            (&["wlan*"], "wlan0", true),
            (&["wlan*", "!wlan1"], "wlan1", false),
        ] {
            assert_eq!(allowed(patterns, name), expected, "{patterns:?} {name}");
        }
    }

    #[test]
    fn slots_follow_the_lent_cores() {
        let offer = |cpu, slots| OfferConfig { cpu, slots, ..Config::default().offer };
        for (offer, cores, expected) in
            [(offer(0.5, None), 1, 1), (offer(0.5, None), 4, 2), (offer(1.0, None), 64, 4), (offer(0.5, Some(9)), 1, 9)]
        {
            assert_eq!(offer.slot_count(cores), expected);
        }
    }

    #[test]
    fn a_missing_file_is_fine_unless_it_was_named() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        assert!(Config::load(&home, RawConfig::default()).is_ok());
        std::fs::write(home.config_file(), "surprise = 1").unwrap();
        let error = CommandError::from(Config::load(&home, RawConfig::default()).unwrap_err());
        assert_eq!(error.code, ErrorCode::Usage);
        assert!(error.message.contains("config.toml:1: surprise: unknown key"), "{}", error.message);
    }
}
