//! What a URL means and whether it may be fetched: one parse, by which it is judged and by which it is connected to.

use std::net::IpAddr;

use url::{Host, Url};

use super::{
    FetchError,
    address::{Links, forbidden},
    pattern::HostPattern,
};

/// Characters of a URL; longer ones are refused by many servers too. *Judgement.*
pub const URL_BYTES: usize = 8 * 1024;
/// Ports of the web. Other services must not be spoken to in HTTP by strangers' code.
pub const WEB_PORTS: [u16; 2] = [80, 443];

/// Ends of names that are given away inside of houses, and mean nothing, or something else, outside.
const INNER_ENDS: [&str; 5] = ["local", "lan", "internal", "home.arpa", "localhost"];

/// True for a name that only a network of its own could know: one label, or an end of [`INNER_ENDS`].
fn is_inner(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let ends = |end: &&str| name.strip_suffix(*end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    !name.contains('.') || INNER_ENDS.iter().any(ends)
}

/// What the owner of this device allows beyond the rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Ports besides [`WEB_PORTS`].
    pub ports: Vec<u16>,
    /// Hosts that may be reached although they are not public, each with its port.
    pub private: Vec<PrivateHost>,
}

/// A host and port that the owner opened to guests by name, private address or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateHost {
    host: Host,
    port: u16,
}

impl PrivateHost {
    /// Reads `host:port`, such as `127.0.0.1:8080`, `[::1]:80` or `nas.local:80`.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.bytes().all(|b| b.is_ascii_digit()).then(|| port.parse().ok().filter(|port| *port != 0))??;
        // A star would be taken for "any host", which this never means.
        let host = Host::parse(host).ok().filter(|_| !host.contains('*'))?;
        Some(Self { host, port })
    }
}

/// The lists of which each must have a URL's host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostLists {
    /// The manifest's.
    pub asked: Vec<HostPattern>,
    /// Those that were granted to this service for this caller.
    pub granted: Vec<HostPattern>,
    /// Those that the owner allows to any service.
    pub owner: Vec<HostPattern>,
}

impl HostLists {
    /// Reads the three lists. What is no pattern means no host.
    pub fn of([asked, granted, owner]: [&[String]; 3]) -> Self {
        let read = |list: &[String]| list.iter().filter_map(|text| HostPattern::parse(text)).collect();
        Self { asked: read(asked), granted: read(granted), owner: read(owner) }
    }
}

/// A URL that may be fetched if its addresses may be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The URL, without a fragment.
    pub url: Url,
    /// Its host.
    pub host: Host,
    /// Its port, said or not.
    pub port: u16,
    /// The owner opened this host and port whatever their addresses are.
    pub private: bool,
}

/// Judges a URL as a guest (or a redirect) gave it; `base` is what a redirect's is relative to.
pub fn judge(text: &str, base: Option<&Url>, lists: &HostLists, rules: &Rules) -> Result<Target, FetchError> {
    if text.len() > URL_BYTES {
        return Err(FetchError::BadUrl(format!("{} bytes, at most {URL_BYTES}", text.len())));
    }
    let parsed = match base {
        Some(base) => base.join(text),
        None => Url::parse(text),
    };
    let mut url = parsed.map_err(|error| FetchError::BadUrl(format!("{}: {error}", shown(text))))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(FetchError::BlockedScheme { scheme: url.scheme().chars().take(32).collect() });
    }
    if !url.username().is_empty() || url.password().is_some() {
        let why = "a user name before the host (`…@`) is refused: readers disagree about where the host begins";
        return Err(FetchError::BadUrl(why.into()));
    }
    url.set_fragment(None);
    let no_host = || FetchError::BadUrl(format!("{}: no host", shown(text)));
    let host = url.host().ok_or_else(no_host)?.to_owned();
    let port = url.port_or_known_default().ok_or_else(no_host)?;
    let named = || host.to_string();
    let listed = |patterns: &[HostPattern]| patterns.iter().any(|pattern| pattern.means(&url));
    let refused = |why: &str| Err(FetchError::BlockedHost { host: named(), why: why.into() });
    if !listed(&lists.asked) {
        return refused("is not in the service's manifest: its author adds it to net under [permissions]");
    }
    if !listed(&lists.granted) {
        return refused("is not among the hosts that this device's owner granted to this service: msm grants");
    }
    if !listed(&lists.owner) {
        return refused("is not among the hosts that this device's owner allows: net-hosts below [resources]");
    }
    let private = rules.private.iter().any(|opened| opened.host == host && opened.port == port);
    if !private && !WEB_PORTS.contains(&port) && !rules.ports.contains(&port) {
        return Err(FetchError::BlockedPort { host: named(), port });
    }
    // Before anything is looked up: even the time that takes would say something of the owner's network.
    if !private && matches!(&host, Host::Domain(name) if is_inner(name)) {
        return refused("is a name of somebody's own network; only public names are fetched from");
    }
    Ok(Target { url, host, port, private })
}

impl Target {
    /// Judges the addresses that the host's name was resolved to, all of them: a name with a public and a private
    /// address is a trick, not an accident.
    pub fn judge_addresses(&self, addresses: &[IpAddr], links: &Links) -> Result<(), FetchError> {
        if self.private {
            return Ok(());
        }
        let named = self.literal().is_none();
        let blocked = |what: String| FetchError::BlockedAddress { host: self.host.to_string(), what, named };
        for address in addresses {
            if let Some(what) = forbidden(*address) {
                return Err(blocked(what.into()));
            }
            if links.hold(*address) {
                return Err(blocked("this device's own or on its own link".into()));
            }
        }
        Ok(())
    }

    /// The address that an IP host is; a name has to be resolved.
    pub fn literal(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Ipv4(address) => Some(IpAddr::V4(*address)),
            Host::Ipv6(address) => Some(IpAddr::V6(*address)),
            Host::Domain(_) => None,
        }
    }
}

/// A guest's text in an error: enough to know it again.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: Links = Links::none();

    fn lists(asked: &[&str], granted: &[&str], owner: &[&str]) -> HostLists {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        HostLists::of([&owned(asked), &owned(granted), &owned(owner)])
    }

    fn any() -> HostLists {
        lists(&["*"], &["*"], &["*"])
    }

    /// Judges as a fetch of anything would, literal addresses included.
    fn judged(text: &str, base: Option<&str>, rules: &Rules) -> Result<Target, FetchError> {
        let base = base.map(|base| Url::parse(base).unwrap());
        let target = judge(text, base.as_ref(), &any(), rules)?;
        if let Some(address) = target.literal() {
            target.judge_addresses(&[address], &MIXED)?;
        }
        Ok(target)
    }

    fn code(text: &str) -> String {
        judged(text, None, &Rules::default()).err().map_or("allowed".into(), |error| error.code())
    }

    #[test]
    fn b61_disguised_loopback_is_blocked() {
        for text in [
            "http://0x7f.1/",
            "http://2130706433/",
            "http://127.1/",
            "http://0177.0.0.1/",
            "http://\u{ff11}\u{ff12}\u{ff17}.0.0.1/",
            "http:\\\\127.0.0.1\\",
            "http:127.0.0.1",
            "HTTP://127.0.0.1./",
            "\thttp://12\n7.0.0.1/ ",
            "http://0x7f000001/",
            "http://017700000001/",
            "https://127.0.0.1/",
            "http://127。0。0。1/",
        ] {
            assert_eq!(code(text), "blocked-address", "{text:?}");
        }
    }

    #[test]
    fn b62_addresses_of_no_public_host_are_blocked() {
        for host in [
            "[::1]",
            "[::ffff:7f00:1]",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "[::7f00:1]",
            "[fe80::1]",
            "[fc00::1]",
            "0.0.0.0",
            "169.254.169.254.",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.0.192",
            "[fd00:ec2::254]",
        ] {
            assert_eq!(code(&format!("http://{host}/")), "blocked-address", "{host}");
        }
        assert_eq!(code("http://93.184.216.34/"), "allowed");
        assert_eq!(code("http://[2606:4700::1111]/"), "allowed");
        // A zone names an interface of this device.
        assert_eq!(code("http://[fe80::1%25eth0]/"), "bad-url");
    }

    #[test]
    fn names_of_somebodys_own_network_are_blocked_before_they_are_looked_up() {
        for host in [
            "vm",
            "vm.",
            "router.lan",
            "nas.LOCAL",
            "nas.local.",
            "a.b.internal",
            "x.home.arpa",
            "home.arpa",
            "localhost",
            "a.localhost",
        ] {
            let judged = judge(&format!("http://{host}/"), None, &any(), &Rules::default());
            assert_eq!(judged.unwrap_err().code(), "blocked-host", "{host}");
        }
        for host in ["thelocal.example", "local.example", "notlan.org", "wlan.de", "lan.org"] {
            assert_eq!(code(&format!("http://{host}/")), "allowed", "{host}");
        }
    }

    #[test]
    fn b63_one_private_address_among_public_ones_is_enough() {
        let target = judge("http://two.example/", None, &any(), &Rules::default()).unwrap();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let public = [address("93.184.216.34"), address("2606:4700::1111")];
        assert_eq!(target.judge_addresses(&public, &MIXED), Ok(()));
        for bad in ["127.0.0.1", "10.0.0.1", "::1", "fd00::1"] {
            for at in 0..=public.len() {
                let mut addresses = public.to_vec();
                addresses.insert(at, address(bad));
                let error = target.judge_addresses(&addresses, &MIXED).unwrap_err();
                assert_eq!(error.code(), "blocked-address");
                // The guest does not learn what the owner's resolver knows.
                assert!(!error.to_string().contains(&format!("address that is {bad}")), "{error}");
            }
        }
        let neighbour = Links::new([(address("93.184.216.1"), 24)]);
        assert_eq!(target.judge_addresses(&public, &neighbour).unwrap_err().code(), "blocked-address");
    }

    #[test]
    fn b65_redirects_are_judged_like_urls() {
        let base = Some("https://example.org/a/b");
        for (location, expected) in [
            ("http://127.0.0.1/", "blocked-address"),
            ("//127.0.0.1/", "blocked-address"),
            ("\\\\127.0.0.1\\", "blocked-address"),
            ("file:///etc/passwd", "blocked-scheme"),
            ("gopher://example.org/", "blocked-scheme"),
            ("ftp://example.org/", "blocked-scheme"),
            ("data:text/plain,x", "blocked-scheme"),
            ("http://example.org:22/", "blocked-port"),
            ("http://example.org:0/", "blocked-port"),
            ("https://u@example.org/", "bad-url"),
            ("http://", "bad-url"),
        ] {
            let error = judged(location, base, &Rules::default()).unwrap_err();
            assert_eq!(error.code(), expected, "{location}");
        }
        assert_eq!(judged("../c?d#e", base, &Rules::default()).unwrap().url.as_str(), "https://example.org/c?d");
    }

    #[test]
    fn b68_the_parsed_host_is_the_judged_host() {
        let lists = lists(&["example.org"], &["*"], &["*"]);
        for (text, expected) in [
            ("http://a@127.0.0.1@evil.net/", "bad-url"),
            ("http://example.org@evil.net/", "bad-url"),
            ("http://example.org:80@evil.net/", "bad-url"),
            ("http://@evil.net/", "blocked-host"),
            ("http://evil.net#@example.org/", "blocked-host"),
            ("http://evil.net?@example.org/", "blocked-host"),
            ("http://evil.net\\@example.org/", "blocked-host"),
            ("http://evil.net%2f@example.org/", "bad-url"),
            ("http://evil.net%2f.example.org/", "bad-url"),
            ("http://evil.net%00.example.org/", "bad-url"),
            ("http://example.org.evil.net/", "blocked-host"),
            ("http://example.org%23@evil.net/", "bad-url"),
        ] {
            let judged = judge(text, None, &lists, &Rules::default());
            assert_eq!(judged.unwrap_err().code(), expected, "{text}");
        }
        let good = judge("http://example.org#@evil.net/", None, &lists, &Rules::default());
        assert_eq!(good.unwrap().url.as_str(), "http://example.org/");
    }

    #[test]
    fn each_list_must_have_the_host() {
        let error = |asked, granted, owner| {
            let lists = lists(asked, granted, owner);
            judge("http://example.net/", None, &lists, &Rules::default()).err().map(|error| error.to_string())
        };
        let (any, org) = (&["*"][..], &["*.example.org", "no pattern"][..]);
        assert!(error(org, any, any).unwrap().contains("manifest"));
        assert!(error(any, org, any).unwrap().contains("granted to"));
        assert!(error(any, any, org).unwrap().contains("owner"));
        assert!(error(any, any, &[]).unwrap().starts_with("blocked-host: example.net is not among"));
        assert_eq!(error(any, any, any), None);
    }

    #[test]
    fn the_owner_may_open_ports_and_private_hosts() {
        let rules = Rules {
            ports: vec![8080],
            private: ["127.0.0.1:8081", "[::1]:80", "nas.local:5000"]
                .map(|text| PrivateHost::parse(text).unwrap())
                .to_vec(),
        };
        for (text, expected) in [
            ("http://example.org:8080/", "allowed"),
            ("http://example.org:8081/", "blocked-port"),
            ("http://127.0.0.1:8081/", "allowed"),
            ("http://127.1:8081/", "allowed"),
            ("http://127.0.0.1/", "blocked-address"),
            ("http://127.0.0.2:8081/", "blocked-port"),
            ("http://127.0.0.1:8080/", "blocked-address"),
            ("http://[::1]/", "allowed"),
            ("https://[::1]/", "blocked-address"),
            ("http://nas.local:5000/", "allowed"),
            ("http://nas.local:5001/", "blocked-port"),
        ] {
            let code = judged(text, None, &rules).err().map_or("allowed".into(), |error| error.code());
            assert_eq!(code, expected, "{text}");
        }
        // Opened by its name, it may lead where it wants; opened by its address, only the address itself is open.
        let private = [IpAddr::from([127, 0, 0, 1])];
        let target = judged("http://nas.local:5000/", None, &rules).unwrap();
        assert_eq!(target.judge_addresses(&private, &MIXED), Ok(()));
        let rules = Rules { ports: vec![8081], ..rules };
        let target = judged("http://rebound.example:8081/", None, &rules).unwrap();
        assert_eq!(target.judge_addresses(&private, &MIXED).unwrap_err().code(), "blocked-address");
        for bad in
            ["", "*:80", "127.0.0.1", ":80", "127.0.0.1:0", "127.0.0.1:+80", "a b:80", "http://x:80", "127.0.0.1:65536"]
        {
            assert_eq!(PrivateHost::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn long_urls_are_refused() {
        let long = format!("http://example.org/{}", "x".repeat(URL_BYTES));
        assert_eq!(code(&long), "bad-url");
    }
}
