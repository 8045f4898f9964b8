//! Patterns of hosts, as a manifest's `net` and the owner's `net-hosts` have them.

use msm_protocol::manifest::is_host_pattern;
use url::{Host, Url};

/// `*`, or `[https://|http://][*.]name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    scheme: Option<String>,
    /// Lower-case, without `*.`; empty for any host.
    name: String,
    /// Hosts below the name, and not the name itself.
    below: bool,
}

impl HostPattern {
    /// Reads a pattern; `None` for what is none.
    pub fn parse(text: &str) -> Option<Self> {
        if !is_host_pattern(text) {
            return None;
        }
        let (scheme, name) = match text.split_once("://") {
            Some((scheme, name)) => (Some(scheme.to_owned()), name),
            None => (None, text),
        };
        if name == "*" {
            return Some(Self { scheme, name: String::new(), below: true });
        }
        let (below, name) = name.strip_prefix("*.").map_or((false, name), |name| (true, name));
        Some(Self { scheme, name: name.to_owned(), below })
    }

    /// True for a URL whose host (and scheme, where one is said) it means. The host is the parsed one, and is compared
    /// by whole labels: `example.org` is neither `notexample.org` nor `example.org.evil.net`.
    pub fn means(&self, url: &Url) -> bool {
        if self.scheme.as_deref().is_some_and(|scheme| scheme != url.scheme()) {
            return false;
        }
        if self.name.is_empty() {
            return true;
        }
        match url.host() {
            Some(Host::Domain(host)) => {
                // A name with its final dot is the same name.
                let host = host.strip_suffix('.').unwrap_or(host);
                match self.below {
                    true => host.strip_suffix(self.name.as_str()).is_some_and(|rest| rest.ends_with('.')),
                    false => host == self.name,
                }
            }
            // "*.0.0.1" is no family of addresses.
            Some(Host::Ipv4(address)) => !self.below && address.to_string() == self.name,
            Some(Host::Ipv6(_)) | None => false,
        }
    }
}

/// True when every host that one of `less` means is meant by one of `more`, each a list of patterns; what is none means
/// no host.
pub fn cover(more: &[String], less: &[String]) -> bool {
    let more: Vec<HostPattern> = more.iter().filter_map(|text| HostPattern::parse(text)).collect();
    less.iter().filter_map(|text| HostPattern::parse(text)).all(|part| more.iter().any(|all| all.covers(&part)))
}

impl HostPattern {
    fn covers(&self, other: &Self) -> bool {
        if self.scheme.is_some() && self.scheme != other.scheme {
            return false;
        }
        let below = |name: &str| name.strip_suffix(self.name.as_str()).is_some_and(|rest| rest.ends_with('.'));
        // An address has no family, so that no "*.0.0.1" means it.
        let address = other.name.parse::<std::net::Ipv4Addr>().is_ok();
        match (self.name.is_empty(), self.below) {
            (true, _) => true,
            (_, true) => (other.below && other.name == self.name) || (!address && below(&other.name)),
            (_, false) => !other.below && other.name == self.name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_cover_lists() {
        let cover = |more: &[&str], less: &[&str]| {
            let [more, less] = [more, less].map(|list| list.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
            super::cover(&more, &less)
        };
        for (more, less) in [
            ("*", "*"),
            ("*", "https://*.example.org"),
            ("*.example.org", "a.example.org"),
            ("*.example.org", "*.a.example.org"),
            ("*.example.org", "*.example.org"),
            ("example.org", "https://example.org"),
        ] {
            assert!(cover(&[more], &[less]), "{more} {less}");
        }
        for (more, less) in [
            ("example.org", "*"),
            ("*.example.org", "*"),
            ("*.example.org", "example.org"),
            ("*.example.org", "notexample.org"),
            ("example.org", "*.example.org"),
            ("https://example.org", "example.org"),
            ("https://*", "*"),
            ("*.0.0.1", "127.0.0.1"),
        ] {
            assert!(!cover(&[more], &[less]), "{more} {less}");
        }
        assert!(cover(&["a.example", "b.example"], &["b.example", "a.example"]));
        assert!(!cover(&["a.example"], &["b.example", "a.example"]) && !cover(&[], &["a.example"]));
        assert!(cover(&["a.example"], &[]));
    }

    #[test]
    fn patterns_mean_whole_labels_of_the_parsed_host() {
        for (pattern, url, expected) in [
            ("*", "http://anything.example/", true),
            ("*", "http://[2a00::1]/", true),
            ("example.org", "http://example.org/x", true),
            ("example.org", "https://EXAMPLE.org./", true),
            ("example.org", "https://example.org:8443/", true),
            ("example.org", "http://www.example.org/", false),
            ("example.org", "http://notexample.org/", false),
            ("example.org", "http://example.org.evil.net/", false),
            ("example.org", "http://example.org@evil.net/", false),
            ("example.org", "http://evil.net/#@example.org", false),
            ("example.org", "http://evil.net\\example.org/", false),
            ("*.example.org", "http://www.example.org/", true),
            ("*.example.org", "http://a.b.example.org/", true),
            ("*.example.org", "http://example.org/", false),
            ("*.example.org", "http://notexample.org/", false),
            ("https://example.org", "https://example.org/", true),
            ("https://example.org", "http://example.org/", false),
            ("http://*.example.org", "http://www.example.org/", true),
            ("93.184.216.34", "http://93.184.216.34/", true),
            ("93.184.216.34", "http://0x5db8d822/", true),
            ("*.184.216.34", "http://93.184.216.34/", false),
            ("xn--bcher-kva.example", "http://bücher.example/", true),
        ] {
            let parsed = HostPattern::parse(pattern).unwrap_or_else(|| panic!("{pattern} is a pattern"));
            assert_eq!(parsed.means(&Url::parse(url).unwrap()), expected, "{pattern} {url}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", "**", "https://*", "*.org", "localhost", "Example.org", "a.b/c", "a.b:80", "ftp://a.b"] {
            assert_eq!(HostPattern::parse(text), None, "{text:?}");
        }
    }
}
