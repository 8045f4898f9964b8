//! What a request to the proxy means: a page through a neighbour, one of our own pages, or something we do not do.

use std::net::{IpAddr, SocketAddr};

use hyper::{
    HeaderMap, Method, Uri,
    header::{HOST, HeaderName},
};
use url::{Host, Url};

/// Set by browsers: whether the page that asks is from another site, and whether somebody goes there.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The answer of this address as it is, for a browser that uses us as its proxy.
    Raw(Url),
    /// This page as one file, by the gateway's address.
    Page(Url),
    /// What this is.
    Help,
    /// A tunnel to this host.
    Tunnel(String),
    /// Something else.
    Refused(Refused),
}

/// Why a request is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Neither GET nor HEAD.
    Method,
    /// The `host` header is none of ours: a name that an attacker made lead here.
    Host,
    /// Another site's page would have our neighbours work for it.
    Site,
    /// No address that can be fetched.
    Address,
}

/// Judges a request that came in at `local`.
pub fn judge(method: &Method, uri: &Uri, headers: &HeaderMap, local: SocketAddr) -> Asked {
    if method == Method::CONNECT {
        return Asked::Tunnel(uri.authority().map(|it| it.host().to_owned()).unwrap_or_default());
    }
    if method != Method::GET && method != Method::HEAD {
        return Asked::Refused(Refused::Method);
    }
    if uri.scheme().is_some() {
        return match web_address(&uri.to_string()) {
            // A request for ourselves by way of ourselves would go round in circles.
            Some(url) if is_ours(&authority(&url), local) => Asked::Refused(Refused::Address),
            // https is never asked of a proxy like this; by mistake it would be fetched twice as often as wanted.
            Some(url) if url.scheme() == "http" => Asked::Raw(url),
            _ => Asked::Refused(Refused::Address),
        };
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_ours(host, local) {
        return Asked::Refused(Refused::Host);
    }
    let said = |name| headers.get(name).and_then(|value: &hyper::header::HeaderValue| value.to_str().ok());
    let elsewhere = matches!(said(SITE), Some(site) if site != "none" && site != "same-origin");
    if elsewhere && said(MODE) != Some("navigate") {
        return Asked::Refused(Refused::Site);
    }
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    match path.strip_prefix('/') {
        None | Some("") => Asked::Help,
        Some(rest) => match web_address(&unfolded(rest)) {
            Some(url) => Asked::Page(url),
            None => Asked::Refused(Refused::Address),
        },
    }
}

/// Browsers and tools make one slash of two: `http:/example.org` means what it seems to.
fn unfolded(path: &str) -> String {
    for scheme in ["http:/", "https:/"] {
        if let Some(rest) = path.strip_prefix(scheme)
            && !rest.starts_with('/')
        {
            return format!("{scheme}/{rest}");
        }
    }
    path.to_owned()
}

fn web_address(text: &str) -> Option<Url> {
    if !text.starts_with("http://") && !text.starts_with("https://") {
        return None;
    }
    let mut url = Url::parse(text).ok()?;
    url.set_fragment(None);
    (url.has_host() && url.username().is_empty() && url.password().is_none()).then_some(url)
}

fn authority(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

/// True for `host:port` of this proxy: this machine's own name for itself, or the address that it listens at. A page
/// whose name was made to lead here (DNS rebinding) says its own name.
fn is_ours(host: &str, local: SocketAddr) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port.parse().ok()),
        _ => (host, Some(80)),
    };
    if port != Some(local.port()) {
        return false;
    }
    match Host::parse(name) {
        Ok(Host::Domain(name)) => name == "localhost",
        Ok(Host::Ipv4(address)) => address.is_loopback() || IpAddr::V4(address) == local.ip(),
        Ok(Host::Ipv6(address)) => address.is_loopback() || IpAddr::V6(address) == local.ip(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(method: &str, uri: &str, headers: &[(&str, &str)]) -> Asked {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let local = "127.0.0.1:7481".parse().unwrap();
        judge(&method.parse().unwrap(), &uri.parse().unwrap(), &map, local)
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    const OURS: (&str, &str) = ("host", "127.0.0.1:7481");

    #[test]
    fn requests_mean_what_they_should() {
        for (method, uri, expected) in [
            ("GET", "http://example.org/a?b", Asked::Raw(url("http://example.org/a?b"))),
            ("HEAD", "http://example.org/", Asked::Raw(url("http://example.org/"))),
            ("GET", "https://example.org/", Asked::Refused(Refused::Address)),
            ("GET", "ftp://example.org/", Asked::Refused(Refused::Address)),
            ("POST", "http://example.org/", Asked::Refused(Refused::Method)),
            ("CONNECT", "example.org:443", Asked::Tunnel("example.org".into())),
            ("GET", "/", Asked::Help),
            ("GET", "/https://example.org/a?b", Asked::Page(url("https://example.org/a?b"))),
            ("GET", "/http:/example.org/a", Asked::Page(url("http://example.org/a"))),
            ("GET", "/favicon.ico", Asked::Refused(Refused::Address)),
            ("GET", "/http://u@example.org/", Asked::Refused(Refused::Address)),
            ("GET", "/file:///etc/passwd", Asked::Refused(Refused::Address)),
            ("POST", "/http://example.org/", Asked::Refused(Refused::Method)),
            // Ourselves.
            ("GET", "http://127.0.0.1:7481/http://a.example/", Asked::Refused(Refused::Address)),
            ("GET", "http://localhost:7481/", Asked::Refused(Refused::Address)),
            ("GET", "http://127.1:7481/", Asked::Refused(Refused::Address)),
        ] {
            assert_eq!(judged(method, uri, &[OURS]), expected, "{method} {uri}");
        }
    }

    #[test]
    fn only_names_of_this_machine_open_the_gateway() {
        for (host, expected) in [
            ("127.0.0.1:7481", true),
            ("localhost:7481", true),
            ("[::1]:7481", true),
            ("127.0.0.1", false),
            ("127.0.0.1:80", false),
            ("evil.example:7481", false),
            ("localhost.evil.example:7481", false),
            ("10.0.0.1:7481", false),
            ("", false),
        ] {
            let asked = judged("GET", "/http://a.example/", &[("host", host)]);
            assert_eq!(asked != Asked::Refused(Refused::Host), expected, "{host}: {asked:?}");
        }
        assert_eq!(judged("GET", "/", &[]), Asked::Refused(Refused::Host));
    }

    #[test]
    fn other_sites_pages_get_nothing_fetched() {
        for (headers, expected) in [
            (&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")][..], false),
            (&[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], true),
            (&[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")], true),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[], true),
        ] {
            let asked = judged("GET", "/http://a.example/", &[headers, &[OURS]].concat());
            assert_eq!(asked != Asked::Refused(Refused::Site), expected, "{headers:?}");
        }
    }
}
