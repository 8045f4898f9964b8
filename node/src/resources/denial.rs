//! Why a guest may not use a resource, in words for its owner, for its author and for strangers.

use msm_protocol::{Refusal, RefusalCode};

use super::words::{Kin, Precision, Right};
use crate::cli::hints;

/// What a [`PermissionError`] is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The service's name in its market.
    pub service: String,
    /// The service as a command takes it: `market/name`.
    pub reference: String,
    /// What it may not use.
    pub right: Right,
}

/// Why a guest may not use a resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PermissionError {
    /// The manifest does not ask for it.
    #[error("{} does not ask for {}: add  {}  under [permissions]", .0.service, .0.right, .0.right.manifest_line())]
    NotAsked(Subject),
    /// The owner's settings forbid it to every service.
    #[error("{} may not use {}: this device's setting is {setting} below [resources]", .subject.service, .subject.right)]
    Ceiling {
        /// What.
        subject: Subject,
        /// The line of `config.toml`.
        setting: String,
    },
    /// The owner has not granted it to this service for this caller.
    #[error("{} may not use {}: its owner has not granted it", .0.service, .0.right)]
    NotGranted(Subject),
    /// The grant is over.
    #[error("{} may not use {}: the grant ended {ago} s ago", .subject.service, .subject.right)]
    Expired {
        /// What.
        subject: Subject,
        /// Seconds since its end.
        ago: u64,
    },
    /// The clock says a time before the grant was given.
    #[error("{} may not use {}: clock-suspect: the grant begins in {ahead} s", .subject.service, .subject.right)]
    Clock {
        /// What.
        subject: Subject,
        /// Seconds until the grant was given, by this device's clock.
        ahead: u64,
    },
    /// The grant was taken back, or ended, while the question was being answered (B77).
    #[error("{} may not use {} any more: the owner's consent was withdrawn", .0.service, .0.right)]
    Withdrawn(Subject),
    /// The ledger cannot take the decision down, and nothing happens that it does not know of.
    #[error("{} may not use {} now: {why}", .subject.service, .subject.right)]
    Unlogged {
        /// What.
        subject: Subject,
        /// What is wrong with the ledger.
        why: String,
    },
}

impl PermissionError {
    /// What it is about.
    pub fn subject(&self) -> &Subject {
        match self {
            Self::NotAsked(subject) | Self::NotGranted(subject) | Self::Withdrawn(subject) => subject,
            Self::Ceiling { subject, .. }
            | Self::Expired { subject, .. }
            | Self::Clock { subject, .. }
            | Self::Unlogged { subject, .. } => subject,
        }
    }

    /// One word for the ledger.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotAsked(_) => "not-asked",
            Self::Ceiling { .. } => "ceiling",
            Self::NotGranted(_) => "not-granted",
            Self::Expired { .. } => "expired",
            Self::Clock { .. } => "clock-suspect",
            Self::Withdrawn(_) => "withdrawn",
            Self::Unlogged { .. } => "unlogged",
        }
    }

    /// The command that would change it, where a grant would.
    pub fn r#try(&self) -> Option<String> {
        match self {
            Self::NotGranted(it) | Self::Expired { subject: it, .. } | Self::Withdrawn(it) => {
                Some(hints::grant(&it.reference, it.right.as_str(), "own"))
            }
            _ => None,
        }
    }

    /// What this caller gets to read. How the owner has set the device up is not a stranger's business; what the
    /// service's author left out is everybody's.
    pub fn text_for(&self, kin: Kin) -> String {
        let Subject { service, right, .. } = self.subject();
        match (self, kin) {
            (Self::NotAsked(_), _) => self.to_string(),
            (_, Kin::Stranger) => format!("{service} may not use {right} here"),
            (_, Kin::Known) => self.to_string(),
            (_, Kin::Own) => match self.r#try() {
                Some(line) => format!("{self}; try: {line}"),
                None => self.to_string(),
            },
        }
    }

    /// The same as a refusal of an offer.
    pub fn refusal_for(&self, kin: Kin) -> Refusal {
        Refusal::new(RefusalCode::Denied, self.text_for(kin))
    }
}

/// How a ceiling stands in `config.toml`.
pub fn gps_setting(ceiling: Option<Precision>) -> String {
    format!("gps = \"{}\"", ceiling.map_or("off", Precision::as_str))
}
