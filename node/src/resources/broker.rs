//! Answers the questions of one call of a guest: past the gate, through the ledger, to the resource and back.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use msm_sandbox::{Answer, Answering, Ask, AskError, AskErrorKind, Resources};

use super::{
    denial::PermissionError,
    device, fetch,
    gate::{DeviceState, Gate, Gps, Net, Permit, Service},
    ledger::{Entry, Outcome, Page, Unlogged},
    location,
    steward::Steward,
    tally::{NO_OPERATION, Tally},
    words::{Caller, Right},
};

/// One call's way to the resources. The guest behind it may be hostile, and so may be its whole process.
pub struct Broker {
    here: Arc<Here>,
}

/// What the answers of one call share.
struct Here {
    steward: Arc<Steward>,
    service: Arc<Service>,
    caller: Caller,
    /// What this call has done before.
    tally: Mutex<Tally>,
}

/// A permit for one of the resources.
enum Pass {
    Gps(Permit<Gps>),
    Net(Permit<Net>),
    Device(Permit<DeviceState>),
}

impl Resources for Broker {
    fn answer(&self, ask: Ask) -> Answering {
        let here = self.here.clone();
        Box::pin(async move { here.answer(ask).await })
    }
}

impl Broker {
    pub(super) fn new(steward: Arc<Steward>, service: Arc<Service>, caller: Caller) -> Self {
        Self { here: Arc::new(Here { steward, service, caller, tally: Mutex::default() }) }
    }
}

impl Here {
    async fn answer(&self, ask: Ask) -> Result<Answer, AskError> {
        let Some(right) = Right::of_op(&ask.op) else {
            let message = "there is no such operation: gps.position, net.fetch and device.status are all";
            self.refused("unknown", NO_OPERATION, &ask.op).await;
            return Err(AskError::new(AskErrorKind::Usage, message));
        };
        let pass = match self.pass(right) {
            Ok(pass) => pass,
            Err(error) => return Err(self.denied(&ask.op, error).await),
        };
        let detail = pass.detail(&ask.body);
        self.under_consent(&ask.op, &pass, detail, self.use_resource(&pass, &ask.body)).await
    }

    /// Waits for a resource's answer, which is given only when it was taken down and the owner still consents (B77).
    async fn under_consent(
        &self,
        op: &str,
        used: &Pass,
        detail: String,
        answering: impl Future<Output = Result<Answer, AskError>>,
    ) -> Result<Answer, AskError> {
        let right = used.right();
        let entry = Entry { detail, ..self.steward.entry(&self.service, &self.caller, op) };
        let mut page = match self.steward.ledger.page(entry).await {
            Ok(page) => page,
            Err(why) => return Err(self.unlogged(right, &why)),
        };
        let answer = tokio::select! {
            answer = answering => Some(answer),
            _ = self.withdrawn(used) => None,
        };
        // Consent counts when the answer is given, and the page must say what was done.
        let answer = match (answer, self.holds(used)) {
            (Some(Ok(answer)), true) => {
                page.entry().outcome = Outcome::Allowed;
                page.entry().bytes = (answer.bytes.len() + answer.json.len()) as u64;
                Ok(answer)
            }
            (Some(Err(error)), true) => {
                page.entry().outcome = Outcome::Failed;
                page.entry().why = kind_of(&error).to_owned();
                Err(error)
            }
            (None, _) | (_, false) => {
                let error = PermissionError::Withdrawn(self.service.subject(right));
                page.entry().outcome = Outcome::Denied;
                page.entry().why = error.code().to_owned();
                Err(self.denial(op, &error))
            }
        };
        self.take_down(page).await.map_err(|why| self.unlogged(right, &why))?;
        answer
    }

    fn pass(&self, right: Right) -> Result<Pass, PermissionError> {
        let (service, caller) = (&*self.service, &self.caller);
        self.steward.at_gate(|gate: Gate<'_>| match right {
            Right::Gps => gate.gps(service, caller).map(Pass::Gps),
            Right::Net => gate.net(service, caller, &self.steward.quota).map(Pass::Net),
            Right::Device => gate.device(service, caller).map(Pass::Device),
        })
    }

    async fn use_resource(&self, pass: &Pass, body: &[u8]) -> Result<Answer, AskError> {
        let steward = &*self.steward;
        match pass {
            Pass::Gps(permit) => {
                location::position(permit, &steward.locator, &steward.monitor, body, SystemTime::now()).await
            }
            Pass::Net(permit) => fetch::fetch(permit, &steward.web, body).await,
            Pass::Device(permit) => {
                no_arguments(body)?;
                Ok(device::status(permit, &steward.monitor.sample(), steward.name()))
            }
        }
    }

    /// Whether the owner still consents to all that `used` permits: a grant that was narrowed is less than before.
    fn holds(&self, used: &Pass) -> bool {
        self.pass(used.right()).is_ok_and(|now| now.covers(used))
    }

    /// Waits until the owner's consent to `used` is withdrawn or narrowed; for ever when it is not.
    async fn withdrawn(&self, used: &Pass) {
        let mut grants = self.steward.subscribe();
        // Looked at before the first change too: there may have been one since the pass was made.
        while self.holds(used) {
            if grants.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    async fn denied(&self, op: &str, error: PermissionError) -> AskError {
        self.steward.note(&self.service, &self.caller, &error);
        self.refused(op, error.code(), "").await;
        self.denial(op, &error)
    }

    fn denial(&self, op: &str, error: &PermissionError) -> AskError {
        AskError::new(AskErrorKind::Denied, format!("{op}: {}", error.text_for(self.caller.kin)))
    }

    fn unlogged(&self, right: Right, why: &dyn std::fmt::Display) -> AskError {
        let error = PermissionError::Unlogged { subject: self.service.subject(right), why: why.to_string() };
        tracing::warn!(service = self.service.name, %error, "denied");
        AskError::new(AskErrorKind::Denied, error.text_for(self.caller.kin))
    }

    /// Takes a refusal down. A refusal needs no room in the ledger to be one.
    async fn refused(&self, op: &str, why: &str, detail: &str) {
        if let Ok(page) = self.steward.ledger.page(self.refusal(op, why, detail)).await {
            let _ = self.take_down(page).await;
        }
    }

    /// Writes a page, or counts it where this call has the same already.
    async fn take_down(&self, page: Page) -> Result<(), Unlogged> {
        let first = self.tally.lock().unwrap_or_else(PoisonError::into_inner).count(page);
        match first {
            Some(page) => page.close().await,
            None => Ok(()),
        }
    }

    fn refusal(&self, op: &str, why: &str, detail: &str) -> Entry {
        Entry {
            outcome: Outcome::Denied,
            why: why.to_owned(),
            detail: detail.to_owned(),
            ..self.steward.entry(&self.service, &self.caller, op)
        }
    }
}

/// An empty object, the arguments of an operation that has none.
fn no_arguments(body: &[u8]) -> Result<(), AskError> {
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body) {
        Ok(arguments) if arguments.is_empty() => Ok(()),
        _ => Err(AskError::new(AskErrorKind::Usage, "device.status takes an empty object, {}")),
    }
}

impl Pass {
    fn right(&self) -> Right {
        match self {
            Self::Gps(_) => Right::Gps,
            Self::Net(_) => Right::Net,
            Self::Device(_) => Right::Device,
        }
    }

    /// True when this permits all that `other` does.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Gps(now), Self::Gps(used)) => now.precision() >= used.precision(),
            (Self::Net(now), Self::Net(used)) => {
                now.host_lists().into_iter().zip(used.host_lists()).all(|(now, used)| fetch::pattern::cover(now, used))
            }
            (Self::Device(_), Self::Device(_)) => true,
            _ => false,
        }
    }

    /// What the ledger keeps of a question: how exact a position is, and of a fetch the host without path and query, for
    /// those may hold what is nobody's business.
    fn detail(&self, body: &[u8]) -> String {
        match self {
            Self::Gps(permit) => permit.precision().to_string(),
            Self::Net(_) => origin(body).unwrap_or_else(|| "no address".to_owned()),
            Self::Device(_) => String::new(),
        }
    }
}

/// Scheme, host and port of the address that a fetch names.
fn origin(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Fetch {
        url: String,
    }
    let fetch: Fetch = serde_json::from_slice(body).ok()?;
    let url = url::Url::parse(&fetch.url).ok()?;
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    Some(format!("{}://{}{port}", url.scheme(), url.host_str()?))
}

fn kind_of(error: &AskError) -> &'static str {
    match error.kind {
        AskErrorKind::Denied => "blocked",
        AskErrorKind::Failed => "failed",
        AskErrorKind::Limit => "limit",
        AskErrorKind::Usage => "usage",
    }
}

#[cfg(test)]
mod tests;
