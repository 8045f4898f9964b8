//! The gate before every resource: asked by the manifest AND granted by the owner AND within the device's ceiling.
//!
//! It is the only place where a [`Permit`] is made.

mod permit;

use msm_protocol::{MarketId, manifest::Permissions};

pub use self::permit::{DeviceState, Gps, Net, Permit};
use super::{
    denial::{PermissionError, Subject, gps_setting},
    grants::{GrantTable, Granted, Lack},
    quota::Quota,
    words::{Caller, Kin, Precision, Right},
};
use crate::config::ResourcesConfig;

/// A service as its market knows it, with what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Who vouches for it.
    pub market: MarketId,
    /// The owner's name for that market.
    pub alias: String,
    /// Its name there.
    pub name: String,
    /// Its version, for the ledger.
    pub version: String,
    /// What its manifest asks for.
    pub asked: Permissions,
}

impl Service {
    /// `name@version`.
    pub fn label(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// What an error is about.
    pub fn subject(&self, right: Right) -> Subject {
        Subject { service: self.name.clone(), reference: format!("{}/{}", self.alias, self.name), right }
    }
}

/// The owner's rules as they are at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Gate<'a> {
    /// What the device allows at most.
    pub ceiling: &'a ResourcesConfig,
    /// What was granted.
    pub grants: &'a GrantTable,
    /// Unix seconds.
    pub now: u64,
}

impl Gate<'_> {
    /// Whether `caller`'s job of this service may use `right`, or why not.
    pub fn check(&self, service: &Service, caller: &Caller, right: Right) -> Result<(), PermissionError> {
        self.passes(service, caller, right).map(drop)
    }

    /// The first right that the service asks for and must not use.
    pub fn check_all(&self, service: &Service, caller: &Caller) -> Result<(), PermissionError> {
        Right::asked(&service.asked).try_for_each(|right| self.check(service, caller, right))
    }

    /// Lets a call know the position.
    pub fn gps(&self, service: &Service, caller: &Caller) -> Result<Permit<Gps>, PermissionError> {
        let granted = self.passes(service, caller, Right::Gps)?;
        // Both are there, or it would not have passed; the least is the safe answer all the same.
        let asked = Precision::asked(&service.asked).unwrap_or(Precision::Coarse);
        let ceiling = self.ceiling.gps.unwrap_or(Precision::Coarse);
        let precision = asked.min(granted.precision).min(ceiling);
        Ok(Permit::new(Gps { precision }, *caller, service.label()))
    }

    /// Lets a call fetch from the web. `quota` counts what others fetch; the owner's own jobs are not counted.
    pub fn net(&self, service: &Service, caller: &Caller, quota: &Quota) -> Result<Permit<Net>, PermissionError> {
        let granted = self.passes(service, caller, Right::Net)?;
        let right = Net {
            asked: service.asked.net.clone(),
            granted: granted.hosts,
            owner: self.ceiling.net_hosts.clone(),
            quota: if caller.kin == Kin::Own { Quota::unlimited() } else { quota.clone() },
        };
        Ok(Permit::new(right, *caller, service.label()))
    }

    /// Lets a call know the state of the device.
    pub fn device(&self, service: &Service, caller: &Caller) -> Result<Permit<DeviceState>, PermissionError> {
        self.passes(service, caller, Right::Device)?;
        Ok(Permit::new(DeviceState(()), *caller, service.label()))
    }

    /// Asked, within the ceiling, granted: in the order in which they can be helped.
    fn passes(&self, service: &Service, caller: &Caller, right: Right) -> Result<Granted, PermissionError> {
        let subject = || service.subject(right);
        if !right.is_asked(&service.asked) {
            return Err(PermissionError::NotAsked(subject()));
        }
        let closed = match right {
            Right::Gps if self.ceiling.gps.is_none() => Some(gps_setting(self.ceiling.gps)),
            Right::Net if !self.ceiling.net => Some("net = \"off\"".to_owned()),
            Right::Device if !self.ceiling.device => Some("device = false".to_owned()),
            _ => None,
        };
        if let Some(setting) = closed {
            return Err(PermissionError::Ceiling { subject: subject(), setting });
        }
        self.grants.find(&service.market, &service.name, right, caller, self.now).map_err(|lack| match lack {
            Lack::Never => PermissionError::NotGranted(subject()),
            Lack::Ended(ago) => PermissionError::Expired { subject: subject(), ago },
            Lack::Ahead(ahead) => PermissionError::Clock { subject: subject(), ahead },
        })
    }
}

#[cfg(test)]
mod tests;
