//! [`Report`]: what a reviewer found about one package, signed by the reviewer.
//!
//! A report is about bytes, not about a market: the same one may stand in several. It is a blob; a market's entry names
//! it ([`crate::document::Review`]), and who counts it looks at its signature and at what it says.

use serde::{Deserialize, Serialize};

use crate::{
    ContentHash, Envelope, PublicKey, Signed, Verified, VerifyError,
    limits::{REPORT_BYTES, REPORT_CHECKS, REVOCATION_REASON_CHARS},
    manifest::is_line,
};

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportCheck {
    /// What, such as `js: test hello`.
    pub what: String,
    /// What was wrong with it; absent when it passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// What a reviewer says about one package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Format version, 1.
    pub v: u8,
    /// The service.
    pub name: String,
    /// For people: one line, may be empty.
    pub note: String,
    /// Every check in the order in which it was made, at most [`REPORT_CHECKS`].
    pub checks: Vec<ReportCheck>,
    /// When it was signed, Unix seconds.
    pub issued: u64,
    /// Whether the reviewer lets it pass.
    pub passed: bool,
    /// Permission rating, 1 to 6.
    pub rating: u8,
    /// Its version.
    pub version: String,
    /// What was reviewed: the hash of its manifest.
    pub manifest: ContentHash,
    /// The longest that one test took in any variant, milliseconds of the clock; 0 without tests.
    pub longest_ms: u64,
    /// Whether all variants gave the same bytes for every test; absent when there was nothing to compare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variants_agree: Option<bool>,
}

impl Signed for Report {
    const TYPE: &'static str = "review";
    const LIMIT: usize = REPORT_BYTES;
}

/// Why a report does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// Not signed by the reviewer that the entry names, or not readable.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// About something else.
    #[error("the review is about {0}")]
    Another(ContentHash),
    /// Fields out of their bounds.
    #[error("bad-message: review: bad {0}")]
    Field(&'static str),
    /// The reviewer found something.
    #[error("its reviewer does not let it pass{}", .0.as_ref().map(|fault| format!(": {fault}")).unwrap_or_default())]
    Failed(Option<String>),
}

impl Report {
    /// Reads a report that `reviewer` must have signed about the package `manifest`, and that must let it pass.
    pub fn open(bytes: &[u8], reviewer: &PublicKey, manifest: &ContentHash) -> Result<Verified<Self>, ReportError> {
        let report = Self::read(bytes, reviewer)?;
        if report.manifest != *manifest {
            return Err(ReportError::Another(report.manifest));
        }
        if !report.passed {
            let fault = report.checks.iter().find_map(|check| check.fault.clone());
            return Err(ReportError::Failed(fault));
        }
        Ok(report)
    }

    /// Reads a report that `reviewer` must have signed, whatever it says.
    pub fn read(bytes: &[u8], reviewer: &PublicKey) -> Result<Verified<Self>, ReportError> {
        let report = Envelope::from_slice::<Self>(bytes)?.verify::<Self>(&[*reviewer], 1)?;
        match report.fault() {
            Some(field) => Err(ReportError::Field(field)),
            None => Ok(report),
        }
    }

    fn fault(&self) -> Option<&'static str> {
        let line = |text: &str| is_line(text, REVOCATION_REASON_CHARS);
        let checks = [
            ("v", self.v == 1),
            ("note", self.note.is_empty() || line(&self.note)),
            ("rating", (1..=6).contains(&self.rating)),
            ("checks", self.checks.len() <= REPORT_CHECKS),
            (
                "checks",
                self.checks.iter().all(|check| line(&check.what) && check.fault.as_ref().is_none_or(|it| line(it))),
            ),
        ];
        checks.into_iter().find(|(_, good)| !good).map(|(field, _)| field)
    }
}
