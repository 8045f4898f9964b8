//! `net.fetch`: the web for guests, without a way into anybody's own network.
//!
//! A server that fetches what strangers name is a ladder over its owner's wall: the router's page, the printer, a
//! cloud's metadata. So, in this order and again at each redirect:
//! 1. [`request`], [`headers`]: the question is read strictly.
//! 2. [`target`], [`pattern`]: the URL is parsed once; scheme, host and port must be allowed.
//! 3. [`rate`]: nobody's server is asked more than twice a second, by its name and by each of its addresses, and no client
//!    has more than a few names looked up.
//! 4. [`names`], [`address`]: the host is resolved once and *all* its addresses must be public.
//! 5. [`hop`], [`tls`], [`meter`], [`body`]: one connection to one of those addresses, within caps of size, growth and
//!    time; whatever moves is paid for.

pub mod address;
pub mod body;
mod error;
pub mod headers;
pub mod hop;
pub mod meter;
pub mod names;
pub mod pattern;
pub mod rate;
pub mod request;
pub mod target;
#[cfg(test)]
mod tests;
pub mod tls;

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};

use msm_sandbox::{Answer, AskError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

pub use self::error::FetchError;
use self::{
    address::Links,
    hop::{Incoming, Outgoing},
    meter::Meter,
    names::{Names, SystemNames},
    rate::HostRate,
    request::{FetchRequest, Fetched, Head, Method},
    target::{HostLists, Rules, Target},
    tls::Authorities,
};

use super::{Net, Permit, steward::unix_now};
use crate::config::ResourcesConfig;

/// Redirects that are followed. Pages need one or two (scheme, host); more is a loop or a maze.
pub const REDIRECTS: usize = 5;
/// Fetches of one client at a time.
pub const FETCHES_PER_CLIENT: usize = 4;
/// Fetches of all clients at a time; each holds a thread. *Judgement.*
pub const FETCHES: usize = 16;

/// The caps of one fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of an answer on the wire: of its body, and of all of it with the heads of every redirect before it.
    pub body: u64,
    /// Bytes of body after unpacking.
    pub inflated: u64,
    /// How many times larger unpacking may make it.
    pub ratio: u64,
    /// Bytes of the answer's head.
    pub headers: usize,
    /// To resolve the name, and again to connect.
    pub connect: Duration,
    /// From one request to a host to the next.
    pub per_host: Duration,
    /// From one lookup of a name for a client to the next.
    pub per_lookup: Duration,
    /// For all of it: queue of the host, redirects, body.
    pub total: Duration,
}

impl Bounds {
    /// What is shipped.
    pub const SHIPPED: Self = Self {
        body: 10 << 20,
        inflated: 20 << 20,
        ratio: 100,
        headers: 64 * 1024,
        connect: Duration::from_secs(5),
        per_host: rate::HOST_INTERVAL,
        per_lookup: rate::LOOKUP_INTERVAL,
        total: Duration::from_secs(20),
    };
}

/// Pays for bytes as they move, none to ask whether anything is left, or says why they cannot be paid for.
pub type Paying = Arc<dyn Fn(u64) -> Result<(), String> + Send + Sync>;

/// Fetches what `body`, the guest's JSON, asks for.
pub async fn fetch(permit: &Permit<Net>, web: &Web, body: &[u8]) -> Result<Answer, AskError> {
    let request = FetchRequest::read(body)?;
    let quota = permit.quota().clone();
    let paying: Paying = Arc::new(move |bytes| quota.take(bytes, unix_now()).map_err(|error| error.to_string()));
    let lists = HostLists::of(permit.host_lists());
    let fetched = web.get(&Allowance { lists, client: permit.peer().to_string(), paying }, request).await;
    // The guest is not told all of it.
    let fetched = fetched.inspect_err(|error| tracing::debug!(service = permit.service(), %error, "not fetched"))?;
    Ok(Answer { json: fetched.head.json(), bytes: fetched.body.into() })
}

/// On whose behalf and within which lists a fetch happens.
struct Allowance {
    /// Each must have the host.
    lists: HostLists,
    /// Whose fetches are counted together.
    client: String,
    /// Pays for the bytes.
    paying: Paying,
}

/// What all fetches of this node share.
pub struct Web {
    rules: Rules,
    bounds: Bounds,
    names: Arc<dyn Names>,
    authorities: Arc<OnceLock<Authorities>>,
    rate: Mutex<HostRate>,
    /// The same for clients whose names are looked up.
    lookups: Mutex<HostRate>,
    clients: Mutex<HashMap<String, Weak<Semaphore>>>,
    all: Arc<Semaphore>,
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Web").field("rules", &self.rules).field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

impl Web {
    /// As the owner allows it.
    pub fn new(ceiling: &ResourcesConfig) -> Self {
        let rules = Rules { ports: ceiling.net_ports.clone(), private: ceiling.net_private.clone() };
        Self {
            rules,
            bounds: Bounds::SHIPPED,
            names: Arc::new(SystemNames),
            authorities: Arc::default(),
            rate: Mutex::default(),
            lookups: Mutex::default(),
            clients: Mutex::default(),
            all: Arc::new(Semaphore::new(FETCHES)),
        }
    }

    /// Fetches. Dropping the future closes its connection.
    async fn get(&self, allowance: &Allowance, request: FetchRequest) -> Result<Fetched, FetchError> {
        let client = self.client(&allowance.client);
        let closed = |_| FetchError::Internal("this device is shutting down".into());
        let _turn = client.acquire().await.map_err(closed)?;
        let thread = Arc::new(self.all.clone().acquire_owned().await.map_err(closed)?);
        let deadline = Instant::now() + self.bounds.total;
        let meter = Meter::new(allowance.paying.clone(), self.bounds.body);
        let FetchRequest { url, mut method, mut headers, mut body } = request;
        let mut target = target::judge(&url, None, &allowance.lists, &self.rules)?;
        for followed in 0.. {
            // A spent quota looks nothing up and makes no connection.
            (allowance.paying)(0).map_err(FetchError::Quota)?;
            self.wait_to_look_up(&target, &allowance.client, deadline).await?;
            let addresses = self.addresses(&target, deadline, &thread).await?;
            self.wait_turn(&target, &addresses, deadline).await?;
            (allowance.paying)(0).map_err(FetchError::Quota)?;
            let sent =
                Outgoing { target: target.clone(), addresses, method, headers: headers.clone(), body: body.clone() };
            let came = self.hop(sent, deadline, &thread, &meter).await?;
            let Some(location) = &came.location else {
                let head = Head { status: came.status, url: target.url.into(), headers: came.headers };
                return Ok(Fetched { head, body: came.body, wire_bytes: came.wire_bytes });
            };
            if followed == REDIRECTS {
                return Err(FetchError::TooManyRedirects(REDIRECTS));
            }
            let next = target::judge(location, Some(&target.url), &allowance.lists, &self.rules)?;
            if !same_origin(&next.url, &target.url) {
                headers.retain(|(name, _)| !headers::is_secret(name));
            }
            // What browsers do: only 307 and 308 send the body again.
            if method == Method::Post && !matches!(came.status, 307 | 308) {
                method = Method::Get;
                body.clear();
                headers.retain(|(name, _)| name != "content-type");
            }
            target = next;
        }
        // The loop above ends by itself.
        Err(FetchError::TooManyRedirects(REDIRECTS))
    }

    /// The turns of one client.
    fn client(&self, client: &str) -> Arc<Semaphore> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turns) = clients.get(client).and_then(Weak::upgrade) {
            return turns;
        }
        // As many entries as fetches are under way or wait: those that are over leave with the next new client.
        clients.retain(|_, turns| turns.strong_count() > 0);
        let turns = Arc::new(Semaphore::new(FETCHES_PER_CLIENT));
        clients.insert(client.to_owned(), Arc::downgrade(&turns));
        turns
    }

    /// Resolves the host, once, and judges what it leads to.
    async fn addresses(
        &self,
        target: &Target,
        deadline: Instant,
        thread: &Arc<OwnedSemaphorePermit>,
    ) -> Result<Vec<IpAddr>, FetchError> {
        let host = target.host.to_string();
        let mut addresses = match target.literal() {
            Some(address) => vec![address],
            None => {
                let (names, name, thread) = (self.names.clone(), host.clone(), thread.clone());
                let asking = tokio::task::spawn_blocking(move || {
                    // A resolver that hangs keeps its place among the fetches until it returns.
                    let _thread = thread;
                    names.resolve(&name)
                });
                let limit = self.bounds.connect.min(deadline.saturating_duration_since(Instant::now()));
                let unknown = |why: String| FetchError::UnknownHost { host: host.clone(), why };
                match tokio::time::timeout(limit, asking).await {
                    Ok(Ok(Ok(addresses))) => addresses,
                    Ok(Ok(Err(error))) => return Err(unknown(error.to_string())),
                    Ok(Err(error)) => return Err(FetchError::Internal(error.to_string())),
                    Err(_) => return Err(unknown(format!("no answer within {} ms", limit.as_millis()))),
                }
            }
        };
        if addresses.is_empty() {
            return Err(FetchError::UnknownHost { host, why: "the answer was empty".into() });
        }
        // All are judged, also those that would never be connected to.
        target.judge_addresses(&addresses, &Links::of_this_device())?;
        addresses.truncate(names::ADDRESSES);
        Ok(addresses)
    }

    /// Waits until the host's name may be looked up: for this client, and by anybody. An address needs no lookup.
    async fn wait_to_look_up(&self, target: &Target, client: &str, deadline: Instant) -> Result<(), FetchError> {
        if target.literal().is_some() {
            return Ok(());
        }
        let host = target.host.to_string();
        self.book(&self.lookups, &[client], self.bounds.per_lookup, &host, deadline).await?;
        self.book(&self.rate, &[&host], self.bounds.per_host, &host, deadline).await
    }

    /// Waits until each of the host's addresses may be asked: when one takes no connection the next is tried.
    async fn wait_turn(&self, target: &Target, addresses: &[IpAddr], deadline: Instant) -> Result<(), FetchError> {
        let keys: Vec<String> = addresses.iter().map(|address| address.to_canonical().to_string()).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        self.book(&self.rate, &keys, self.bounds.per_host, &target.host.to_string(), deadline).await
    }

    /// Books a turn for all of `keys` and waits for it.
    async fn book(
        &self,
        rate: &Mutex<HostRate>,
        keys: &[&str],
        every: Duration,
        host: &str,
        deadline: Instant,
    ) -> Result<(), FetchError> {
        let booked = rate.lock().unwrap_or_else(PoisonError::into_inner).book(keys, every, Instant::now(), deadline);
        let Some(at) = booked else {
            return Err(FetchError::Busy { host: host.into(), limit_ms: self.bounds.total.as_millis() as u64 });
        };
        tokio::time::sleep_until(at.into()).await;
        Ok(())
    }

    /// One request and its answer.
    async fn hop(
        &self,
        outgoing: Outgoing,
        deadline: Instant,
        thread: &Arc<OwnedSemaphorePermit>,
        meter: &Arc<Meter>,
    ) -> Result<Incoming, FetchError> {
        let (bounds, cell, thread) = (self.bounds, self.authorities.clone(), thread.clone());
        let authorities = match outgoing.target.url.scheme() {
            "https" => Some(
                tokio::task::spawn_blocking(move || cell.get_or_init(Authorities::of_system).clone())
                    .await
                    .map_err(|error| FetchError::Internal(error.to_string()))?,
            ),
            _ => None,
        };
        if authorities.as_ref().is_some_and(|authorities| authorities.count() == 0) {
            let why = "this device knows no certificate authority: install ca-certificates, or set SSL_CERT_FILE";
            return Err(FetchError::Tls { host: outgoing.target.host.to_string(), why: why.into() });
        }
        let agent = hop::agent(&outgoing, authorities.as_ref(), &bounds, deadline, meter)?;
        let host = outgoing.target.host.to_string();
        let stop = StopOnDrop(Some(agent.clone()));
        let running = tokio::task::spawn_blocking(move || {
            let _thread = thread;
            hop::run(&agent, outgoing, &bounds)
        });
        let ended = running.await.map_err(|error| FetchError::Internal(error.to_string()))?;
        drop(stop);
        // The library knows only that the connection broke.
        meter.refusal(&host).map_or(ended, Err)
    }
}

/// Closes a hop's connection when nobody waits for it any more.
struct StopOnDrop(Option<ureq::Agent>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(agent) = self.0.take() {
            agent.shutdown();
        }
    }
}

fn same_origin(a: &Url, b: &Url) -> bool {
    a.origin() == b.origin()
}
