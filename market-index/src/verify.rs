//! Inspecting a published market from end to end: every signature, page, manifest and variant.

use std::path::Path;

use msm_protocol::{
    ContentHash, MarketId,
    document::{Index, Release, Status},
    limits::{INDEX_BYTES, MANIFEST_BYTES, PACKAGE_BYTES, PAGE_BYTES, REPORT_BYTES},
    review::Report as ReviewReport,
};
use serde::Serialize;

use crate::{
    Floor, Freshness, HeadOutcome, PublishedFolder, TrustedMarket,
    catalogue::{Catalogue, all_releases, all_revocations, all_words, targets_of},
    entry,
    folder::{FolderError, ROOTS},
    tree::{Leaf, TreeWalk},
    words,
};

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked, such as `index 14` or `image-blur 1.2.0: js variant`.
    pub what: String,
    /// Why it failed; absent when it passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// The result of an inspection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The market that was asked about.
    pub market: MarketId,
    /// Its own name, once its root is believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Version of the newest root, 0 for none.
    pub root: u64,
    /// Version of the index, 0 for none.
    pub index: u64,
    /// When it goes stale, Unix seconds; 0 without an index.
    pub expires: u64,
    /// Releases in the index that are not revoked.
    pub releases: usize,
    /// Every check in the order in which it was made.
    pub checks: Vec<Check>,
}

impl Report {
    /// True when nothing failed.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.fault.is_none())
    }

    /// The checks that failed.
    pub fn faults(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.fault.is_some())
    }

    /// Notes a check; true when it passed.
    fn note<T, E: ToString>(&mut self, what: impl Into<String>, result: Result<T, E>) -> Option<T> {
        let (value, fault) = match result {
            Ok(value) => (Some(value), None),
            Err(e) => (None, Some(e.to_string())),
        };
        self.checks.push(Check { what: what.into(), fault });
        value
    }
}

/// Inspects the market in `folder` as a device that sees it for the first time.
pub fn verify_folder(folder: &Path, market: MarketId, now: u64) -> Report {
    verify_folder_above(folder, market, Floor::default(), now)
}

/// Inspects the market in `folder` as a device that has believed `floor` before.
pub fn verify_folder_above(folder: &Path, market: MarketId, floor: Floor, now: u64) -> Report {
    let folder = PublishedFolder::at(folder);
    let mut report = Report { market, name: None, root: 0, index: 0, expires: 0, releases: 0, checks: Vec::new() };
    let mut trusted = TrustedMarket::from_floor(market, floor);
    if documents(&folder, &mut trusted, &mut report, now).is_some() {
        packages(&folder, &trusted, &mut report);
    }
    report
}

/// Root chain, head and index. `None` when the rest cannot be looked at.
fn documents(folder: &PublishedFolder, trusted: &mut TrustedMarket, report: &mut Report, now: u64) -> Option<()> {
    for version in 1..=ROOTS {
        let what = format!("root {version}");
        match folder.root(version) {
            Ok(Some(bytes)) => report.note(what, trusted.update_root(&bytes, now))?,
            Ok(None) if version == 1 => return report.note(what, Err::<(), _>("is missing")),
            Ok(None) => break,
            Err(e) => return report.note(what, Err::<(), _>(e)),
        };
    }
    if let Some(root) = trusted.root() {
        report.name = Some(root.name.clone());
        report.root = root.version;
    }
    let head = report.note("head", present(folder.head()))?;
    let outcome = report.note("head: signature, version, expiry", trusted.update_head(&head, now))?;
    let HeadOutcome::Fetch { hash, version, .. } = outcome else {
        return report.note("head: names an index", Err::<(), _>("names none"));
    };
    let index = report.note(format!("index {version}"), present(folder.blob(&hash, INDEX_BYTES)))?;
    report.note(format!("index {version}: signature, version, expiry"), trusted.update_index(&index, now))?;
    report.index = version;
    let fresh = match trusted.freshness(now) {
        Freshness::Stale { since } => Err(format!("refused: expired: stale since {since} (Unix seconds)")),
        _ => Ok(()),
    };
    report.note("freshness", fresh);
    report.expires = trusted.fresh_until().unwrap_or(0);
    Some(())
}

/// Every page, manifest, variant and review below the index.
fn packages(folder: &PublishedFolder, trusted: &TrustedMarket, report: &mut Report) {
    let Some(index) = trusted.index() else { return };
    let releases = tree(folder, report, "releases", all_releases(index));
    let revocations = tree(folder, report, "revocations", all_revocations(index));
    let mentions = tree(folder, report, "words", all_words(index));
    let (Some(releases), Some(revocations), Some(mentions)) = (releases, revocations, mentions) else { return };
    let found = if mentions == words::mentions(&releases) { Ok(()) } else { Err("are not those of the releases") };
    report.note("words: every service is found by its own words, and by no others", found);
    for revocation in &revocations {
        let running = releases
            .iter()
            .find(|release| release.status != Status::Revoked && targets_of(release).contains(&revocation.target));
        let result = running.map_or(Ok(()), |release| Err(format!("{} is not marked as revoked", release.label())));
        report.note(revocation.label(), result);
    }
    let catalogue = Catalogue { releases, revocations, ..Catalogue::default() };
    for release in &catalogue.releases {
        if release.status == Status::Revoked {
            revoked(folder, release, report);
        } else {
            report.releases += 1;
            package(folder, release, report);
            vouchers(folder, index, release, report);
        }
    }
}

/// All entries of one tree; `None` when it cannot be read.
fn tree<E: Leaf>(folder: &PublishedFolder, report: &mut Report, what: &str, mut walk: TreeWalk<E>) -> Option<Vec<E>> {
    let mut faults = Vec::new();
    let mut pages = 0;
    let read = walk.advance(|page| {
        pages += 1;
        present(folder.blob(page, PAGE_BYTES)).map_err(|e| faults.push((*page, e))).ok()
    });
    for (page, fault) in faults {
        report.note(format!("page {page}"), Err::<(), _>(fault));
    }
    let missing = report.note(format!("tree of {what}: {pages} pages"), read)?;
    if !missing.is_empty() {
        return None;
    }
    report.note(format!("tree of {what}: complete"), walk.entries())
}

/// What stands beside the market's own word for a release: its publisher's signature and its reviews.
fn vouchers(folder: &PublishedFolder, index: &Index, release: &Release, report: &mut Report) {
    let what = format!("{} {}", release.name, release.version);
    if entry::delegation_of(&index.delegations, &release.name).is_some() {
        let result = entry::undelegated(&index.delegations, release).map_or(Ok(()), Err);
        report.note(format!("{what}: signed by whom its name is delegated to"), result);
    }
    for review in &release.reviews {
        let read = present(folder.blob(&review.report, REPORT_BYTES)).and_then(|bytes| {
            ReviewReport::open(&bytes, &review.reviewer, &release.manifest).map_err(|e| e.to_string())
        });
        report.note(format!("{what}: review by {}", review.reviewer), read);
    }
}

fn package(folder: &PublishedFolder, release: &Release, report: &mut Report) {
    let what = format!("{} {}", release.name, release.version);
    let opened = present(folder.blob(&release.manifest, MANIFEST_BYTES))
        .and_then(|bytes| entry::open_manifest(release, &bytes).map_err(|e| e.to_string()));
    let Some(manifest) = report.note(format!("{what}: manifest"), opened) else { return };
    let mut check = |name: String, hash: &ContentHash, named: u64| {
        let found = present(folder.blob(hash, PACKAGE_BYTES)).and_then(|bytes| {
            let found = bytes.len() as u64;
            if found == named { Ok(()) } else { Err(format!("has {found} bytes, the manifest says {named}")) }
        });
        report.note(format!("{what}: {name}"), found);
    };
    for variant in &manifest.variants {
        check(format!("{} variant", variant.engine.as_str()), &variant.hash, variant.size);
        variant.files.iter().for_each(|file| check(format!("module {}", file.path), &file.hash, file.size));
    }
    manifest.assets.iter().for_each(|file| check(format!("asset {}", file.path), &file.hash, file.size));
}

/// A revoked package must not be handed out any more.
fn revoked(folder: &PublishedFolder, release: &Release, report: &mut Report) {
    let served = match folder.blob(&release.manifest, MANIFEST_BYTES) {
        Ok(None) => Ok(()),
        _ => Err(format!("{} is still served", release.manifest)),
    };
    report.note(format!("{} {}: revoked, not served", release.name, release.version), served);
}

fn present(read: Result<Option<Vec<u8>>, FolderError>) -> Result<Vec<u8>, String> {
    match read {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err("is missing".into()),
        Err(e) => Err(e.to_string()),
    }
}
