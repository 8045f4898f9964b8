//! One request to one checked address, and its answer within all caps. Blocks; redirects are somebody else's decision.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use ureq::{
    Agent,
    config::Config,
    http::{Request, Response, Uri},
    unversioned::{
        resolver::{ResolvedSocketAddrs, Resolver},
        transport::{Connector, NextTimeout, RustlsConnector, TcpConnector},
    },
};

use super::{
    Bounds, FetchError,
    body::{self, Coding},
    headers,
    meter::{Meter, Metering},
    names::ADDRESSES,
    request::Method,
    target::Target,
    tls::Authorities,
};

/// What one hop sends.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where to, judged.
    pub target: Target,
    /// Its addresses, judged.
    pub addresses: Vec<IpAddr>,
    /// What to do.
    pub method: Method,
    /// The guest's headers, checked.
    pub headers: Vec<(String, String)>,
    /// The body of a POST.
    pub body: Vec<u8>,
}

/// What one hop brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The HTTP status.
    pub status: u16,
    /// `location` of a redirect.
    pub location: Option<String>,
    /// Headers that the guest may see.
    pub headers: Vec<(String, String)>,
    /// The body, its coding taken off; empty for a redirect.
    pub body: Vec<u8>,
    /// Bytes of body that crossed the network.
    pub wire_bytes: u64,
}

/// Gives the addresses that were checked, and to no other host than the one they were checked for.
#[derive(Debug)]
struct Pinned {
    host: String,
    addresses: Vec<SocketAddr>,
}

impl Resolver for Pinned {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        if uri.host() != Some(self.host.as_str()) {
            return Err(ureq::Error::HostNotFound);
        }
        let mut pinned = self.empty();
        for address in self.addresses.iter().take(ADDRESSES) {
            pinned.push(*address);
        }
        Ok(pinned)
    }
}

/// The name that this device gives itself on the web; it says nothing about its owner.
const USER_AGENT: &str = concat!("msm/", env!("CARGO_PKG_VERSION"));

/// An agent for one hop, and the way to interrupt it: nothing of it is used again, no cookie, no connection.
pub fn agent(
    outgoing: &Outgoing,
    authorities: Option<&Authorities>,
    bounds: &Bounds,
    deadline: Instant,
    meter: &Arc<Meter>,
) -> Result<Agent, FetchError> {
    let host = outgoing.target.host.to_string();
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(out_of_time(&host, bounds));
    }
    let mut config = Agent::config_builder()
        // Never the environment's proxy: it would connect to addresses that nobody here has checked.
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent(USER_AGENT)
        .accept_encoding("gzip")
        .max_response_header_size(bounds.headers)
        .max_idle_connections(0)
        .timeout_global(Some(left))
        .timeout_connect(Some(bounds.connect.min(left)));
    if let Some(authorities) = authorities {
        config = config.tls_config(authorities.settings());
    }
    let port = outgoing.target.port;
    let addresses = outgoing.addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
    let connector = ().chain(TcpConnector::default()).chain(Metering(meter.clone())).chain(RustlsConnector::default());
    Ok(Agent::with_parts(config.build(), connector, Pinned { host, addresses }))
}

/// Sends and receives. `agent` is one made for `outgoing`.
pub fn run(agent: &Agent, outgoing: Outgoing, bounds: &Bounds) -> Result<Incoming, FetchError> {
    let host = outgoing.target.host.to_string();
    let explain = |error: ureq::Error| explained(&host, error, bounds);
    let uri: Uri = outgoing.target.url.as_str().parse().map_err(|_| bad_url(&host))?;
    // The library reads the URL again: it must read the same host and port, or it is not sent.
    if uri.host() != Some(host.as_str()) || port_of(&uri) != Some(outgoing.target.port) {
        return Err(bad_url(&host));
    }
    let mut request = Request::builder().method(outgoing.method.as_str()).uri(uri);
    for (name, value) in &outgoing.headers {
        request = request.header(name, value);
    }
    let wrong = |error: ureq::http::Error| FetchError::BadRequest(error.to_string());
    let answer = match outgoing.method {
        Method::Post => agent.run(request.body(outgoing.body).map_err(wrong)?),
        Method::Get | Method::Head => agent.run(request.body(()).map_err(wrong)?),
    };
    receive(answer.map_err(explain)?, outgoing.method, &host, bounds)
}

fn receive(answer: Response<ureq::Body>, method: Method, host: &str, bounds: &Bounds) -> Result<Incoming, FetchError> {
    let (head, body) = answer.into_parts();
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let all = |name: &'static str| head.headers.get_all(name).iter().map(|value| text(value.as_bytes()));
    let status = head.status.as_u16();
    let shown = head.headers.iter().filter(|(name, _)| headers::is_shown(name.as_str()));
    let shown = shown.map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes()))).collect();
    if matches!(status, 301 | 302 | 303 | 307 | 308)
        && let Some(location) = all("location").next()
    {
        return Ok(Incoming { status, location: Some(location), headers: shown, body: Vec::new(), wire_bytes: 0 });
    }
    let codings: Vec<String> = all("content-encoding").collect();
    let coding = Coding::of(host, &codings.iter().map(String::as_str).collect::<Vec<_>>())?;
    let said = all("content-length").next().and_then(|text| text.trim().parse::<u64>().ok());
    if method != Method::Head && said.is_some_and(|said| said > bounds.body) {
        return Err(FetchError::TooLarge { host: host.into(), what: "the body", limit: bounds.body, unit: "bytes" });
    }
    let explain = |error: io::Error| explained(host, ureq::Error::from(error), bounds);
    let (body, wire_bytes) = match method {
        Method::Head => (Vec::new(), 0),
        _ => body::read(body.into_reader(), coding, host, bounds, explain)?,
    };
    Ok(Incoming { status, location: None, headers: shown, body, wire_bytes })
}

fn port_of(uri: &Uri) -> Option<u16> {
    uri.port_u16().or(match uri.scheme_str() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    })
}

fn bad_url(host: &str) -> FetchError {
    FetchError::BadUrl(format!("a URL of {host} that two readers read differently"))
}

/// The total time is over.
pub fn out_of_time(host: &str, bounds: &Bounds) -> FetchError {
    FetchError::Timeout { host: host.into(), what: "did not answer in full", limit_ms: millis(bounds.total) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn explained(host: &str, error: ureq::Error, bounds: &Bounds) -> FetchError {
    let host = host.to_owned();
    let why = error.to_string();
    match error {
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            FetchError::Timeout { host, what: "took no connection", limit_ms: millis(bounds.connect) }
        }
        ureq::Error::Timeout(_) => out_of_time(&host, bounds),
        ureq::Error::LargeResponseHeader(..) => {
            FetchError::TooLarge { host, what: "the header", limit: bounds.headers as u64, unit: "bytes" }
        }
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::TlsRequired => FetchError::Tls { host, why },
        ureq::Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(inner) => FetchError::Tls { host, why: inner.to_string() },
            None => FetchError::Unreachable { host, why: error.to_string() },
        },
        _ => FetchError::BadAnswer { host, why },
    }
}
