//! From what a person writes, `blur@1.2`, to a release of a market.

use std::{fmt, str::FromStr};

use msm_protocol::{
    document::{Release, Status},
    limits::NAME_BYTES,
    manifest::is_name,
};
use semver::{Version, VersionReq};

use crate::entry::VERSION_BYTES;

/// `[market/]name[@range]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRef {
    /// The market's alias, when one is named.
    pub market: Option<String>,
    /// The service.
    pub name: String,
    /// Cargo's ranges: `1.2` is any 1.x from 1.2.0 on, `=1.2.3` exactly that; absent means the newest.
    pub range: Option<VersionReq>,
}

/// Why a text leads to no release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// Not a reference.
    #[error("{text:?} is not a service: expected [market/]name[@range], such as image-blur@1.2")]
    Syntax {
        /// What was written, shortened.
        text: String,
    },
    /// Nothing of this name.
    #[error("not-found: no service {name:?}{}", .closest.as_ref().map(|name| format!("; closest name: {name}")).unwrap_or_default())]
    NotFound {
        /// The name asked for.
        name: String,
        /// The name that is nearest to it, if any is near.
        closest: Option<String>,
    },
    /// The service has no usable version in the range.
    #[error("not-found: no version of {name} matches {range}{}", usable(.newest))]
    NoVersion {
        /// The service.
        name: String,
        /// The range asked for.
        range: String,
        /// The newest version that may be picked, if any.
        newest: Option<String>,
    },
    /// Every version that matches was withdrawn.
    #[error("{name} {version} is {}{}", withdrawn(.status), usable(.newest))]
    Withdrawn {
        /// The service.
        name: String,
        /// The newest version that matches.
        version: String,
        /// Yanked or revoked.
        status: Status,
        /// The newest version that may be picked, if any.
        newest: Option<String>,
    },
}

fn usable(newest: &Option<String>) -> String {
    newest.as_ref().map_or_else(|| "; no version can be used".into(), |newest| format!("; newest usable: {newest}"))
}

fn withdrawn(status: &Status) -> &'static str {
    if *status == Status::Revoked { "revoked" } else { "yanked" }
}

impl FromStr for ServiceRef {
    type Err = ResolveError;

    fn from_str(text: &str) -> Result<Self, ResolveError> {
        let syntax = || ResolveError::Syntax { text: text.chars().take(2 * NAME_BYTES).collect() };
        if text.len() > 2 * NAME_BYTES + 2 * VERSION_BYTES {
            return Err(syntax());
        }
        let (path, range) = match text.split_once('@') {
            Some((path, range)) => (path, Some(VersionReq::parse(range).map_err(|_| syntax())?)),
            None => (text, None),
        };
        let (market, name) = match path.split_once('/') {
            Some((market, name)) => (Some(market), name),
            None => (None, path),
        };
        if !is_name(name) || market.is_some_and(|market| !is_name(market)) {
            return Err(syntax());
        }
        Ok(Self { market: market.map(str::to_owned), name: name.to_owned(), range })
    }
}

impl fmt::Display for ServiceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(market) = &self.market {
            write!(f, "{market}/")?;
        }
        f.write_str(&self.name)?;
        self.range.as_ref().map_or(Ok(()), |range| write!(f, "@{range}"))
    }
}

/// Picks the newest active version that `request` allows among the releases of one market. The name of a market in
/// `request` is not looked at: the caller has chosen the market. Pre-releases are picked only when the range names one,
/// as in cargo.
pub fn resolve<'a>(releases: &'a [Release], request: &str) -> Result<&'a Release, ResolveError> {
    let request: ServiceRef = request.parse()?;
    let mut versions: Vec<(Version, &Release)> = releases
        .iter()
        .filter(|release| release.name == request.name)
        .filter_map(|release| Some((Version::parse(&release.version).ok()?, release)))
        .collect();
    versions.sort_by(|a, b| b.0.cmp(&a.0));
    if versions.is_empty() {
        let closest = closest(releases.iter().map(|release| release.name.as_str()), &request.name);
        return Err(ResolveError::NotFound { name: request.name, closest });
    }
    let range = request.range.clone().unwrap_or(VersionReq::STAR);
    let active = |release: &Release| release.status == Status::Active;
    let mut matching = versions.iter().filter(|(version, _)| range.matches(version));
    if let Some((_, release)) = matching.clone().find(|(_, release)| active(release)) {
        return Ok(release);
    }
    let mut usable: Vec<_> = versions.iter().filter(|(_, release)| active(release)).collect();
    usable.sort_by_key(|(version, _)| !version.pre.is_empty()); // stable: the newest stays first among its kind
    let newest = usable.first().map(|(_, release)| release.version.clone());
    Err(match matching.next() {
        Some((_, release)) => ResolveError::Withdrawn {
            name: request.name,
            version: release.version.clone(),
            status: release.status,
            newest,
        },
        None => ResolveError::NoVersion { name: request.name, range: range.to_string(), newest },
    })
}

/// The name nearest to `wanted`, if less than half of it has to be changed.
pub fn closest<'a>(names: impl Iterator<Item = &'a str>, wanted: &str) -> Option<String> {
    names
        .map(|name| (edits(name, wanted), name))
        .filter(|(edits, name)| edits * 2 <= name.len().max(wanted.len()))
        .min()
        .map(|(_, name)| name.to_owned())
}

/// Letters to insert, remove or replace to make one name the other (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
