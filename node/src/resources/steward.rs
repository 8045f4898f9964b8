//! The steward of a node: keeps the owner's grants, the ledger and the open questions, and has guests' questions answered.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use msm_protocol::PeerId;
use tokio::sync::watch;

use super::{
    broker::Broker,
    denial::PermissionError,
    fetch::Web,
    gate::{Gate, Service},
    grants::{Grant, GrantTable, RefusedGrant},
    ledger::{self, Entry, Ledger, Outcome, Page},
    location::Locator,
    pending::{Pending, Question},
    quota::{DAY, Keeper, Quota},
    tally::Tally,
    words::{Audience, Caller, Kin, Right},
};
use crate::{
    config::ResourcesConfig,
    home::{FileError, Home, HomeError},
    monitor::Monitor,
};

/// Why the grants could not be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// The grant itself.
    #[error(transparent)]
    Refused(#[from] RefusedGrant),
    /// Its file.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The node is ending.
    #[error("the node is ending")]
    Interrupted,
}

/// One for each node; shared by all of its guests' brokers.
pub struct Steward {
    home: Home,
    local: PeerId,
    known: Vec<PeerId>,
    name: String,
    pub(super) ceiling: ResourcesConfig,
    /// Replaced as a whole; whoever waits on it hears of every change.
    grants: watch::Sender<Arc<GrantTable>>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    pub(super) ledger: Ledger,
    pending: Mutex<Pending>,
    /// Offers that were refused: anybody can make them, as many as he likes.
    refused: Mutex<Refused>,
    pub(super) quota: Quota,
    /// Writes the count of the quota down, the last time when the steward goes.
    _keeper: Keeper,
    pub(super) monitor: Arc<Monitor>,
    pub(super) web: Web,
    pub(super) locator: Locator,
}

/// Refused offers are counted together for this long. *Judgement*: a line a minute for each service and reason.
const COUNTED: Duration = Duration::from_secs(60);

/// Counts refused offers, and begins anew every [`COUNTED`].
#[derive(Default)]
struct Refused {
    since: Option<Instant>,
    tally: Tally,
}

impl Refused {
    /// See [`Tally::count`].
    fn count(&mut self, page: Page, now: Instant) -> Option<Page> {
        if self.since.is_none_or(|since| now.duration_since(since) >= COUNTED) {
            *self = Self { since: Some(now), tally: Tally::default() };
        }
        self.tally.count(page)
    }
}

/// Unix seconds.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

/// Who this device is and whom its owner knows.
pub struct Household {
    /// This device.
    pub local: PeerId,
    /// Peers that the owner named.
    pub known: Vec<PeerId>,
    /// The owner's name for the device.
    pub name: String,
}

impl Steward {
    /// Reads the grants and opens the ledger of `home`.
    pub fn start(
        home: Home,
        household: Household,
        ceiling: ResourcesConfig,
        monitor: Arc<Monitor>,
    ) -> Result<Self, HomeError> {
        let now = unix_now();
        let grants = home.grants()?;
        let ledger = Ledger::open(&home.audit_file())?;
        // Not from the ledger: that forgets, and says nothing of what failed.
        let quota = Quota::new(ceiling.net_quota, home.spent(now / DAY)?, now);
        let keeper = {
            let home = home.clone();
            quota.kept_by(move |spent| {
                let kept = home.keep_spent(spent);
                kept.inspect_err(|error| tracing::error!(%error, "what others fetch cannot be kept count of")).is_ok()
            })
        };
        let path = home.quota_file();
        let keeper = keeper.map_err(|source| FileError::Io { what: "start a thread for", path, source })?;
        let Household { local, known, name } = household;
        Ok(Self {
            local,
            known,
            name,
            quota,
            _keeper: keeper,
            web: Web::new(&ceiling),
            locator: Locator::default(),
            ceiling,
            grants: watch::Sender::new(Arc::new(grants)),
            changing: tokio::sync::Mutex::default(),
            ledger,
            pending: Mutex::default(),
            refused: Mutex::default(),
            monitor,
            home,
        })
    }

    /// What `peer` is to the owner.
    pub fn caller(&self, peer: PeerId) -> Caller {
        let kin = match peer {
            _ if peer == self.local => Kin::Own,
            _ if self.known.contains(&peer) => Kin::Known,
            _ => Kin::Stranger,
        };
        Caller { peer, kin }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Hears of every change of the grants.
    pub fn subscribe(&self) -> watch::Receiver<Arc<GrantTable>> {
        self.grants.subscribe()
    }

    /// Passes the owner's rules, as they are now, to `look`.
    pub fn at_gate<T>(&self, look: impl FnOnce(Gate<'_>) -> T) -> T {
        let grants = self.grants.borrow().clone();
        look(Gate { ceiling: &self.ceiling, grants: &grants, now: unix_now() })
    }

    /// Whether a job of this service may run here for `caller`; a refusal is written down and put before the owner.
    pub async fn admit(&self, service: &Service, caller: &Caller) -> Result<(), PermissionError> {
        let Err(error) = self.at_gate(|gate| gate.check_all(service, caller)) else { return Ok(()) };
        self.note(service, caller, &error);
        let entry =
            Entry { why: error.code().into(), outcome: Outcome::Denied, ..self.entry(service, caller, "offer") };
        let entry = Entry { detail: error.subject().right.to_string(), ..entry };
        // Refused it is, whether that can be written or not.
        if let Ok(page) = self.ledger.page(entry).await {
            let first = self.refused().count(page, Instant::now());
            if let Some(first) = first {
                let _ = first.close().await;
            }
        }
        Err(error)
    }

    fn refused(&self) -> MutexGuard<'_, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a refusal before the owner.
    pub(super) fn note(&self, service: &Service, caller: &Caller, error: &PermissionError) {
        self.pending().note(service, caller, error, unix_now());
    }

    /// A line of the ledger about a question that is being answered.
    pub(super) fn entry(&self, service: &Service, caller: &Caller, op: &str) -> Entry {
        Entry {
            time: unix_now(),
            service: format!("{}/{}", service.alias, service.label()),
            caller: caller.peer.to_string(),
            own: caller.kin == Kin::Own,
            op: op.to_owned(),
            outcome: Outcome::Cut,
            why: String::new(),
            bytes: 0,
            times: 1,
            detail: String::new(),
        }
    }

    /// Answers the questions of one call of a guest.
    pub fn broker(self: &Arc<Self>, service: Arc<Service>, peer: PeerId) -> Arc<Broker> {
        Arc::new(Broker::new(self.clone(), service, self.caller(peer)))
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Questions that the owner has not answered, newest first.
    pub fn questions(&self) -> Vec<Question> {
        let (grants, now) = (self.grants.borrow().clone(), unix_now());
        self.pending().open(|it| {
            let name = it.reference.split_once('/').map_or("", |(_, name)| name);
            grants.find(&it.market, name, it.right, &Caller { peer: it.peer, kin: it.kin }, now).is_ok()
        })
    }

    /// The grants as they are.
    pub fn grants(&self) -> Arc<GrantTable> {
        self.grants.borrow().clone()
    }

    /// Gives a grant.
    pub async fn grant(&self, grant: Grant) -> Result<(), GrantError> {
        self.change(|grants| Ok(grants.put(grant)?)).await
    }

    /// Takes grants back; what runs under them hears of it. Returns them.
    pub async fn take_back(
        &self,
        market: Option<msm_protocol::MarketId>,
        service: &str,
        right: Right,
        to: Option<Audience>,
    ) -> Result<Vec<Grant>, GrantError> {
        self.change(|grants| Ok(grants.take_back(market, service, right, to))).await
    }

    async fn change<T>(&self, change: impl FnOnce(&mut GrantTable) -> Result<T, GrantError>) -> Result<T, GrantError> {
        let _one = self.changing.lock().await;
        let mut grants = GrantTable::clone(&self.grants.borrow());
        grants.sweep(unix_now());
        let answer = change(&mut grants)?;
        let (home, kept) = (self.home.clone(), grants.clone());
        // Durable before it is used: a grant that is taken back must not come again after a power cut.
        let written = tokio::task::spawn_blocking(move || home.keep_grants(&kept)).await;
        written.map_err(|_| GrantError::Interrupted)??;
        self.grants.send_replace(Arc::new(grants));
        Ok(answer)
    }

    /// The newest lines of the ledger at or after `since`, Unix seconds.
    pub async fn history(&self, since: u64) -> Result<Vec<Entry>, FileError> {
        // What was counted so far belongs to it.
        *self.refused() = Refused::default();
        let path = self.home.audit_file();
        let read = tokio::task::spawn_blocking(move || ledger::read(&path, since, ledger::HISTORY)).await;
        read.unwrap_or_else(|_| Ok(Vec::new()))
    }
}
