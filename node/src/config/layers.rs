//! Reads one layer of settings from a file or the environment, with errors that name the place and the key.

use std::{ops::Range, path::Path};

use serde::Deserialize;

use super::{ConfigError, Origin, RawConfig};

/// How the text of a variable becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// As it is.
    Text,
    /// `true` or `false`.
    Switch,
    /// Several texts, separated by commas.
    List,
}

/// Every key. The variable of `a.b-c` is `MSM_A_B_C`.
const KEYS: [(&str, Kind); 23] = [
    ("name", Kind::Text),
    ("node.listen", Kind::List),
    ("node.peers", Kind::List),
    ("node.own", Kind::List),
    ("node.mdns", Kind::Switch),
    ("node.interfaces", Kind::List),
    ("offer.enabled", Kind::Switch),
    ("offer.cpu", Kind::Text),
    ("offer.memory", Kind::Text),
    ("offer.slots", Kind::Text),
    ("offer.battery-min", Kind::Text),
    ("offer.hours", Kind::Text),
    ("offer.when", Kind::Text),
    ("offer.who", Kind::Text),
    ("offer.engines", Kind::List),
    ("sensors.gps", Kind::Text),
    ("resources.gps", Kind::Text),
    ("resources.net", Kind::Text),
    ("resources.net-hosts", Kind::List),
    ("resources.net-quota", Kind::Text),
    ("resources.net-ports", Kind::List),
    ("resources.net-private", Kind::List),
    ("resources.device", Kind::Switch),
];

/// All keys, dotted.
#[cfg(test)]
pub(super) fn known_keys() -> Vec<String> {
    KEYS.iter().map(|(key, _)| (*key).to_owned()).collect()
}

/// The variable that sets `key`.
fn variable_of(key: &str) -> String {
    format!("MSM_{}", key.to_ascii_uppercase().replace(['.', '-'], "_"))
}

/// Reads a config file's text.
pub(super) fn parse_file(path: &Path, text: &str) -> Result<RawConfig, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let span = error.span();
        let line = span.clone().map(|span| 1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count());
        ConfigError::Wrong {
            origin: Origin::File(path.to_owned(), line),
            key: span.map(|span| key_at(text, span)).unwrap_or_default(),
            why: in_our_words(error.message()),
        }
    })
}

/// What the environment says.
#[derive(Debug, Default)]
pub(super) struct Variables {
    /// Each variable's name and what it sets.
    pub layers: Vec<(String, RawConfig)>,
    /// Variables that look like settings and are none. Not errors: container engines invent such names.
    pub warnings: Vec<String>,
}

/// Reads the variables that are settings, in the order of [`KEYS`].
pub(super) fn parse_variables(variables: impl IntoIterator<Item = (String, String)>) -> Result<Variables, ConfigError> {
    let mut given: Vec<_> = variables.into_iter().filter(|(name, _)| name.starts_with("MSM_")).collect();
    let mut read = Variables::default();
    for (key, kind) in KEYS {
        let name = variable_of(key);
        let Some(at) = given.iter().position(|(given, _)| *given == name) else { continue };
        let (name, text) = given.swap_remove(at);
        let layer = layer_of(key, kind, &text).map_err(|why| ConfigError::Wrong {
            origin: Origin::Variable(name.clone()),
            key: key.into(),
            why,
        })?;
        read.layers.push((name, layer));
    }
    let looks_like_a_setting =
        |name: &str| ["MSM_NODE_", "MSM_OFFER_", "MSM_SENSORS_", "MSM_RESOURCES_"].iter().any(|p| name.starts_with(p));
    given.sort_unstable();
    for (name, _) in given.iter().filter(|(name, _)| looks_like_a_setting(name)) {
        read.warnings.push(format!("{name} is no setting and was ignored"));
    }
    Ok(read)
}

/// A layer in which only `key` is set.
fn layer_of(key: &str, kind: Kind, text: &str) -> Result<RawConfig, String> {
    let mut value = match kind {
        Kind::Text => toml::Value::from(text),
        Kind::Switch => toml::Value::from(text.parse::<bool>().map_err(|_| format!("{text:?} is not true or false"))?),
        Kind::List => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            toml::Value::Array(items.map(toml::Value::from).collect())
        }
    };
    for name in key.rsplit('.') {
        value = toml::Value::Table([(name.to_owned(), value)].into_iter().collect());
    }
    RawConfig::deserialize(value).map_err(|error| in_our_words(error.message()))
}

/// serde speaks of fields; a config file has keys.
fn in_our_words(message: &str) -> String {
    message.trim().replace("unknown field", "unknown key").replace(", expected one of", "; known keys:")
}

/// The dotted key whose value (or name) is at `span`: looks back over the line for `key =`, and over the file for its
/// `[table]`. Good enough for messages, which is all it is for.
fn key_at(text: &str, span: Range<usize>) -> String {
    let (before, here) = (text.get(..span.start).unwrap_or_default(), text.get(span).unwrap_or_default());
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
    let line = before.rsplit('\n').next().unwrap_or_default();
    let is_key = !here.is_empty()
        && here.chars().all(bare)
        && !here.starts_with(|c: char| c.is_ascii_digit())
        && !line.trim_end().ends_with('=');
    // A value in an array of several lines: its key is further up.
    let above = || before.lines().rev().find(|line| line.contains('=') && !line.trim_start().starts_with('#'));
    let line = if line.contains('=') || is_key { line } else { above().unwrap_or(line) };
    let mut parts: Vec<&str> = Vec::new();
    let table = before.lines().rev().map(str::trim).find(|line| line.starts_with('['));
    let table = table.map(|line| line.trim_start_matches('[').split(']').next().unwrap_or_default().trim());
    parts.extend(table);
    // `node = { listen = …`: every `key =` that is still open. Closed tables do not occur before it in one line.
    let mut keys =
        line.split('=').map(|piece| piece.rsplit(|c: char| !bare(c) && c != ' ').next().unwrap_or_default().trim());
    let names: Vec<&str> = keys.by_ref().filter(|key| !key.is_empty()).collect();
    let inline = line.contains('{');
    match (inline, names.as_slice()) {
        (true, [first, .., last]) if first != last => parts.extend([*first, *last]),
        (_, [.., last]) => parts.push(last),
        _ => {}
    }
    // An unknown key is itself what the span covers.
    if is_key {
        parts.push(here);
    }
    parts.dedup();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_error(text: &str) -> String {
        parse_file(Path::new("config.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_file_line_key_and_known_keys() {
        for (text, expected) in [
            (
                "name = \"x\"\nnode = { listn = [] }\n",
                "config.toml:2: node.listn: unknown key `listn`; known keys: `listen`, `peers`, `own`, `mdns`, `interfaces`",
            ),
            (
                "[offer]\n# half\ncpu = \"500%\"\n",
                "config.toml:3: offer.cpu: \"500%\" is not a share from \"1%\" to \"100%\"",
            ),
            (
                "[node]\n# a = b\nlisten = [\n  \"/ip4/0.0.0.0/tcp/0\",\n  # c = d\n  \"everywhere\",\n]\n",
                "config.toml:6: node.listen: \"everywhere\" is not an address to listen at, such as \
                 \"/ip4/0.0.0.0/tcp/0\" or \"/ip4/0.0.0.0/udp/0/quic-v1\"",
            ),
            (
                "offer = { enabled = true, battery-min = 300 }",
                "config.toml:1: offer.battery-min: \"300\" is not a percentage from 0 to 100",
            ),
            (
                "[offer]\nhours = \"22-7\"\n",
                "config.toml:2: offer.hours: \"22-7\" is not \"always\" or hours such as \"22:00-07:00\"",
            ),
            ("[offer]\n\nwhen = \"never\"", "config.toml:3: offer.when: \"never\" is not \"always\" or \"idle\""),
            (
                "[offer]\ncpu = 0.5",
                "config.toml:2: offer.cpu: invalid type: floating point `0.5`, expected a share from \"1%\" to \"100%\"",
            ),
            (
                "nmae = \"x\"",
                "config.toml:1: nmae: unknown key `nmae`; known keys: `name`, `node`, `offer`, `sensors`, `resources`",
            ),
            ("node.mdns = \"yes\"", "config.toml:1: node.mdns: invalid type: string \"yes\", expected a boolean"),
        ] {
            assert_eq!(file_error(text), expected);
        }
        let error = file_error("name = \"x\"\n[node\n");
        assert!(error.starts_with("config.toml:2: "), "{error}");
        assert!(file_error("name = 'a'\nname = 'b'").contains("duplicate key"));
    }

    #[test]
    fn every_key_has_a_variable_and_every_variable_sets_its_key() {
        let values = [
            ("name", "attic"),
            ("node.listen", "/ip4/127.0.0.1/tcp/0, /ip4/127.0.0.1/udp/0/quic-v1"),
            ("node.peers", "/ip4/10.0.0.7/tcp/1"),
            ("node.own", "12D3KooWGzBBjmMtjQBKZQdKGVFN5nqCrA4EqWFuiMpVtAzTGbcs"),
            ("node.mdns", "false"),
            ("node.interfaces", "wlan*,!wlan1"),
            ("offer.enabled", "false"),
            ("offer.cpu", "75%"),
            ("offer.memory", "2GiB"),
            ("offer.slots", "3"),
            ("offer.battery-min", "35"),
            ("offer.hours", "22:00-07:00"),
            ("offer.when", "idle"),
            ("offer.who", "known"),
            ("offer.engines", "js"),
            ("sensors.gps", "gpsd://pi"),
            ("resources.gps", "precise"),
            ("resources.net", "off"),
            ("resources.net-hosts", "example.org, *.example.net"),
            ("resources.net-quota", "1GiB"),
            ("resources.net-ports", "8080,8443"),
            ("resources.net-private", "127.0.0.1:8080"),
            ("resources.device", "false"),
        ];
        assert_eq!(values.map(|(key, _)| key), KEYS.map(|(key, _)| key));
        for (key, value) in values {
            let read = parse_variables([(variable_of(key), value.to_owned())]).unwrap();
            assert!(read.warnings.is_empty());
            assert_ne!(read.layers[0].1, RawConfig::default(), "{key}");
        }
        assert_eq!(variable_of("offer.battery-min"), "MSM_OFFER_BATTERY_MIN");
    }

    #[test]
    fn wrong_variables_are_named_and_strange_ones_reported() {
        let variable = |name: &str, value: &str| parse_variables([(name.to_owned(), value.to_owned())]);
        for (name, value, expected) in [
            ("MSM_NODE_MDNS", "maybe", "MSM_NODE_MDNS: node.mdns: \"maybe\" is not true or false"),
            ("MSM_OFFER_SLOTS", "0", "MSM_OFFER_SLOTS: offer.slots: \"0\" is not \"auto\" or a number from 1 to 64"),
        ] {
            assert_eq!(variable(name, value).unwrap_err().to_string(), expected);
        }
        assert_eq!(variable("MSM_NODE_LISTN", "x").unwrap().warnings, ["MSM_NODE_LISTN is no setting and was ignored"]);
        for other in ["MSM_HOME", "MSM_LOG", "MSM_CONFIG", "PATH"] {
            assert!(variable(other, "x").unwrap().warnings.is_empty());
        }
    }
}
