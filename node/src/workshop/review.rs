//! What the machine can say about a service before a market lists it: the checks of a review.

use std::path::Path;

use msm_market_index::Package;
use msm_protocol::{
    Manifest,
    limits::{REPORT_CHECKS, REVOCATION_REASON_CHARS},
    manifest::Permissions,
    review::{Report, ReportCheck},
};

use super::{
    WorkshopError,
    bench::Bench,
    check::{Level, check},
    trial::{CaseResult, Trial},
};
use crate::resources::words::Right;

/// Reviews the service in `folder`: everything of `msm service check` and `msm service test`, and what has changed since
/// `last`, the newest version that the market lists. Gives the report, unsigned, and the package that it is about.
///
/// An error is returned only where there is nothing to report about: the folder is no package.
pub async fn review(
    folder: &Path,
    last: Option<&Manifest>,
    note: &str,
    now: u64,
) -> Result<(Report, Package), WorkshopError> {
    let bench = Bench::open()?;
    let checked = check(&bench, folder).await?;
    let mut checks = Vec::new();
    for finding in &checked.findings {
        let what = match finding.level {
            Level::Error => "manifest and code",
            Level::Warning => "hint",
        };
        match finding.level {
            Level::Error => push(&mut checks, what.to_owned(), Some(finding.what.clone())),
            Level::Warning => push(&mut checks, format!("{what}: {}", finding.what), None),
        }
    }
    let Some(project) = checked.project else {
        let faults: Vec<String> = checks.into_iter().filter_map(|check| check.fault).collect();
        return Err(WorkshopError::Usage(format!("{}: no package: {}", folder.display(), faults.join("; "))));
    };
    if checked.findings.iter().all(|finding| finding.level != Level::Error) {
        push(&mut checks, "manifest and code".to_owned(), None);
    }
    let manifest = project.package.manifest.clone();
    push(&mut checks, format!("asks for: {}", asks(&manifest.permissions)), None);
    for what in changes(last, &project.package) {
        push(&mut checks, what, None);
    }
    let package = project.package.clone();
    let variants = project.variants(None)?;
    let several = variants.len() > 1;
    let trial = Trial { project: project.into(), variants, cases: checked.cases };
    let results = trial.run(&bench).await?;
    let mut longest_ms = 0;
    for result in &results {
        for verdict in &result.verdicts {
            longest_ms = longest_ms.max(verdict.took.map_or(0, |took| took.as_millis() as u64));
            let fault = verdict.failure.as_ref().map(|failure| format!("{}: {}", failure.run, failure.what));
            push(&mut checks, format!("{}: test {}", verdict.variant, result.name), fault);
        }
    }
    let compared = several && manifest.work.deterministic && !results.is_empty();
    let agree = compared.then(|| results.iter().all(|result| result.disagreement.is_none()));
    if agree.is_some() {
        let fault = results.iter().find_map(|result| result.disagreement.clone());
        push(&mut checks, "all variants give the same bytes".to_owned(), fault);
    }
    let passed = checks.iter().all(|check| check.fault.is_none()) && results.iter().all(CaseResult::passed);
    if checks.len() > REPORT_CHECKS {
        // What failed is said before what passed.
        checks.sort_by_key(|check| check.fault.is_none());
        let more = checks.len() + 1 - REPORT_CHECKS;
        checks.truncate(REPORT_CHECKS - 1);
        push(&mut checks, format!("and {more} more"), None);
    }
    let report = Report {
        v: 1,
        name: manifest.name.clone(),
        note: line(note),
        checks,
        issued: now,
        passed,
        rating: manifest.permissions.rating(),
        version: manifest.version.clone(),
        manifest: package.hash,
        longest_ms,
        variants_agree: agree,
    };
    Ok((report, package))
}

fn push(checks: &mut Vec<ReportCheck>, what: String, fault: Option<String>) {
    checks.push(ReportCheck { what: line(&what), fault: fault.map(|fault| line(&fault)) });
}

/// One line that fits a report.
fn line(text: &str) -> String {
    let flat: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    crate::cli::render::text::clean(&flat, REVOCATION_REASON_CHARS)
}

fn asks(permissions: &Permissions) -> String {
    let rights: Vec<String> = Right::asked(permissions).map(|right| right.to_string()).collect();
    let rights = if rights.is_empty() { "nothing of its device".to_owned() } else { rights.join(", ") };
    format!("{rights} (rating {} of 6)", permissions.rating())
}

/// What is different from the last version: what it asks for, and its size.
fn changes(last: Option<&Manifest>, package: &Package) -> Vec<String> {
    let Some(last) = last else { return vec!["first version in this market".to_owned()] };
    let bytes = |manifest: &Manifest| manifest.blobs().map(|(_, size)| size).sum::<u64>();
    let (before, after) = (bytes(last), bytes(&package.manifest));
    let mut all = vec![format!("since {}: {before} to {after} bytes", last.version)];
    if last.permissions != package.manifest.permissions {
        let (before, after) = (asks(&last.permissions), asks(&package.manifest.permissions));
        all.push(format!("since {}: asks for {after} instead of {before}", last.version));
    }
    all
}
