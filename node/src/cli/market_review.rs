//! `msm market review`: looks a service over before a market lists it, and signs what was found.

use std::path::PathBuf;

use clap::Args;
use msm_market_index::{MarketFolder, entry::open_manifest};
use msm_protocol::{Envelope, Manifest, limits::MANIFEST_BYTES, review::Report};
use semver::Version;
use serde::Serialize;

use super::{
    hints,
    market_folder::{now, open_own, own_market},
    render::text::{clean, count, milliseconds},
    screen::{Screen, Stop},
};
use crate::{
    command::{CommandError, ErrorCode},
    home::Home,
    keys::Keys,
    workshop::review::review,
};

/// A service to be looked over.
#[derive(Debug, Args)]
pub struct Review {
    /// The service's folder, with its tests
    folder: PathBuf,
    /// Sign the report with this key of `msm key list`
    #[arg(long, value_name = "NAME", requires = "output")]
    key: Option<String>,
    /// A word of your own in the report: one line
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    /// Where the signed report goes: `msm market put-review` takes it
    #[arg(short, long, value_name = "FILE", requires = "key")]
    output: Option<PathBuf>,
    /// The market whose last version it is compared with; its folder or alias
    #[arg(long, value_name = "FOLDER|ALIAS")]
    market: Option<String>,
}

/// `msm.market-review/1`.
#[derive(Serialize)]
struct ReviewRow<'a> {
    schema: &'static str,
    #[serde(flatten)]
    report: &'a Report,
}

impl Review {
    pub(super) async fn run(self, home: &Home, screen: &mut Screen) -> Result<(), Stop> {
        let last = self.last(home)?;
        let reviewed = review(&self.folder, last.as_ref(), &self.note, now()).await;
        let (report, _) = reviewed.map_err(|error| super::service::failed(error, &self.folder, screen.style))?;
        if let (Some(key), Some(output)) = (&self.key, &self.output) {
            let open = || Keys::open(&home.keys_dir())?.secret(key);
            let key = open().map_err(CommandError::from)?;
            let signed = Envelope::sign(&report, &[&key]).and_then(|envelope| envelope.to_vec());
            let bytes = signed.map_err(|error| CommandError::new(ErrorCode::Failed, error.to_string()))?;
            std::fs::write(output, bytes)
                .map_err(|error| CommandError::new(ErrorCode::Failed, format!("{}: {error}", output.display())))?;
        }
        if screen.style.json {
            screen.result_json(&ReviewRow { schema: "msm.market-review/1", report: &report })?;
        } else {
            screen.result_line(self.text(&report))?;
        }
        if report.passed { Ok(()) } else { Err(Stop::Exit(ErrorCode::ServiceFailed.exit())) }
    }

    /// The newest version of the service in the market that it may go into; none when there is no such market yet.
    fn last(&self, home: &Home) -> Result<Option<Manifest>, CommandError> {
        let entry = match own_market(home, self.market.as_deref()) {
            Ok(entry) => entry,
            Err(error) if self.market.is_some() => return Err(error),
            Err(_) => return Ok(None),
        };
        let Ok(package) = msm_market_index::pack_folder(&self.folder) else { return Ok(None) };
        Ok(newest(&open_own(&entry)?, &package.manifest.name))
    }

    fn text(&self, report: &Report) -> String {
        let mut text = format!("{} {}\n", report.name, report.version);
        for check in &report.checks {
            let (mark, fault) = match &check.fault {
                Some(fault) => ("FAILED", format!(": {}", clean(fault, 200))),
                None => ("ok", String::new()),
            };
            text.push_str(&format!("  {mark:<6}  {}{fault}\n", clean(&check.what, 200)));
        }
        let faults = report.checks.iter().filter(|check| check.fault.is_some()).count();
        let longest = milliseconds(report.longest_ms as f64);
        text.push_str(&match report.passed {
            true => {
                format!("passed: {}, the longest test took {longest}\n", count(report.checks.len() as u64, "check"))
            }
            false => format!("not passed: {} failed\n", count(faults as u64, "check")),
        });
        if let (Some(key), Some(output)) = (&self.key, &self.output) {
            text.push_str(&format!(
                "signed by {key}\ntry: {}\n",
                hints::market_put_review(&output.to_string_lossy(), key)
            ));
        }
        text
    }
}

fn newest(market: &MarketFolder, name: &str) -> Option<Manifest> {
    let state = market.state().ok()?;
    let own = state.catalogue.releases.iter().filter(|release| release.name == name);
    let newest = own.max_by_key(|release| Version::parse(&release.version).ok())?;
    let bytes = market.folder().blob(&newest.manifest, MANIFEST_BYTES).ok()??;
    open_manifest(newest, &bytes).ok()
}
