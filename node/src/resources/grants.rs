//! What the owner has granted, to which service, for whom and until when: pure, with the time passed in.

use msm_protocol::{MarketId, manifest::is_name};
use serde::{Deserialize, Serialize};

use super::words::{Audience, Caller, Precision, Right};

/// Grants of one home: more than anybody keeps in mind. *Judgement.*
pub const GRANTS: usize = 256;
/// Hosts in one grant: as many as a manifest may ask for.
const HOSTS: usize = 16;
/// Life of a grant of the position when the owner does not say: consent to be located is not for ever.
pub const LOCATION_LIFE: u64 = 24 * 3_600;
/// A clock this far before the grant was given is only a little off, seconds. *Judgement.*
const CLOCK_SKEW: u64 = 300;

/// One grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Grant {
    /// The market that vouches for the service: the same name in another market is another service.
    pub market: MarketId,
    /// The service's name there, in any version.
    pub service: String,
    /// What it may use.
    pub right: Right,
    /// In whose jobs.
    pub to: Audience,
    /// For `gps`: how exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// For `net`: the hosts that the manifest asked for when the grant was given. A later version that asks for more
    /// has to be granted anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// When it was given, Unix seconds.
    pub since: u64,
    /// When it ends, Unix seconds; absent for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

impl Grant {
    fn is_for(&self, market: &MarketId, service: &str, right: Right) -> bool {
        self.market == *market && self.service == service && self.right == right
    }

    /// Whether it holds at `now`, Unix seconds. Without a clock that is right a grant that ends cannot be believed.
    pub fn standing(&self, now: u64) -> Standing {
        if now.saturating_add(CLOCK_SKEW) < self.since {
            return Standing::Ahead(self.since - now);
        }
        match self.until {
            Some(until) if until <= now => Standing::Ended(now - until),
            _ => Standing::Holds,
        }
    }
}

/// Whether a grant holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Holds,
    /// It ended so many seconds ago.
    Ended(u64),
    /// It begins in so many seconds, by a clock that must be wrong.
    Ahead(u64),
}

/// Why no grant covers a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// There is none for this caller.
    Never,
    /// The last one ended so many seconds ago.
    Ended(u64),
    /// The clock says a time so many seconds before it was given.
    Ahead(u64),
}

/// What the grants of one call allow together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The most exact of them.
    pub precision: Precision,
    /// All of their hosts.
    pub hosts: Vec<String>,
}

/// Why a grant cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefusedGrant {
    /// Too many.
    #[error("there are {GRANTS} grants already, and that is the most")]
    TooMany,
    /// A row that msm does not write.
    #[error("the grant of {right} to {service:?} is damaged: {why}")]
    Damaged {
        /// Of what.
        right: Right,
        /// To which service.
        service: String,
        /// What is wrong.
        why: &'static str,
    },
}

/// All grants of a home, in the order they were given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantTable {
    #[serde(default, rename = "grant")]
    entries: Vec<Grant>,
}

impl GrantTable {
    /// In the order they were given.
    pub fn entries(&self) -> &[Grant] {
        &self.entries
    }

    /// Adds a grant; one of the same right to the same service for the same audience is replaced.
    pub fn put(&mut self, grant: Grant) -> Result<(), RefusedGrant> {
        let damaged = |why| Err(RefusedGrant::Damaged { right: grant.right, service: grant.service.clone(), why });
        if !is_name(&grant.service) {
            return damaged("that is no service's name");
        }
        if grant.hosts.len() > HOSTS {
            return damaged("too many hosts");
        }
        if grant.precision.is_some() != (grant.right == Right::Gps) {
            return damaged("a precision belongs to gps, and to nothing else");
        }
        if grant.hosts.is_empty() == (grant.right == Right::Net) {
            return damaged("hosts belong to net, and to nothing else");
        }
        self.entries.retain(|there| there.to != grant.to || !there.is_for(&grant.market, &grant.service, grant.right));
        if self.entries.len() >= GRANTS {
            return Err(RefusedGrant::TooMany);
        }
        self.entries.push(grant);
        Ok(())
    }

    /// Takes back the grants of `right` to `service`, in `market` or in any, for `to` or for all. Returns them.
    pub fn take_back(
        &mut self,
        market: Option<MarketId>,
        service: &str,
        right: Right,
        to: Option<Audience>,
    ) -> Vec<Grant> {
        let hit = |grant: &Grant| {
            grant.service == service
                && grant.right == right
                && market.is_none_or(|market| market == grant.market)
                && to.is_none_or(|to| to == grant.to)
        };
        self.entries.extract_if(.., |grant| hit(grant)).collect()
    }

    /// Forgets what ended longer than a grant's usual life before `now`: until then the owner can see that it ended.
    pub fn sweep(&mut self, now: u64) {
        self.entries.retain(|grant| !matches!(grant.standing(now), Standing::Ended(ago) if ago > LOCATION_LIFE));
    }

    /// What `caller` is allowed at `now`, Unix seconds: all grants that cover him and hold, together.
    pub fn find(
        &self,
        market: &MarketId,
        service: &str,
        right: Right,
        caller: &Caller,
        now: u64,
    ) -> Result<Granted, Lack> {
        let mut found: Option<Granted> = None;
        let mut lack = Lack::Never;
        let covering =
            self.entries.iter().filter(|grant| grant.is_for(market, service, right) && grant.to.covers(caller));
        for grant in covering {
            match grant.standing(now) {
                Standing::Holds => {
                    let all = found.get_or_insert(Granted { precision: Precision::Coarse, hosts: Vec::new() });
                    all.precision = all.precision.max(grant.precision.unwrap_or(Precision::Coarse));
                    all.hosts.extend(grant.hosts.iter().cloned());
                }
                Standing::Ended(ago) => lack = Lack::Ended(ago),
                Standing::Ahead(ahead) => lack = Lack::Ahead(ahead),
            }
        }
        found.ok_or(lack)
    }
}
