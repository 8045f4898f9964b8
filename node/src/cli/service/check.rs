//! `msm service check`.

use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::{Folder, Screen, Stop, failed, shown};
use crate::{
    cli::render::text::{bytes, count},
    command::ErrorCode,
    workshop::{
        bench::Bench,
        check::{self, Checked, Finding, Level},
        score,
    },
};

/// Check service.toml, the code, the tests and the README
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  msm service check ./my-service --score\n\nNothing is built or written. Exits with 1 \
                        when something is wrong, with 0 when something could only be better."
)]
pub(super) struct Check {
    #[command(flatten)]
    folder: Folder,
    /// What would raise its score
    #[arg(long)]
    score: bool,
}

/// `msm.check/1`.
#[derive(Serialize)]
struct CheckRow {
    schema: &'static str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    tests: usize,
    findings: Vec<FindingRow>,
    score: u8,
    advice: Vec<Advice>,
}

#[derive(Serialize)]
struct FindingRow {
    level: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
}

#[derive(Serialize)]
struct Advice {
    points: u8,
    text: String,
}

impl From<&Finding> for FindingRow {
    fn from(finding: &Finding) -> Self {
        let at = finding.place.as_ref().map(|place| place.line_and_column());
        Self {
            level: if finding.level == Level::Error { "error" } else { "warning" },
            message: finding.what.clone(),
            file: finding.place.as_ref().map(|place| place.file.clone()),
            line: at.map(|it| it.0),
            column: at.map(|it| it.1),
            help: finding.help.clone(),
        }
    }
}

impl Check {
    pub(super) async fn run(self, screen: &mut Screen) -> Result<(), Stop> {
        let folder = self.folder.folder;
        let checked = async { check::check(&Bench::open()?, &folder).await }.await;
        let checked = checked.map_err(|error| failed(error, &folder, screen.style))?;
        if screen.style.json {
            screen.result_json(&row(&checked))?;
        } else {
            screen.result_line(text(&checked, &folder, self.score, screen.style.color && screen.style.out_terminal))?;
        }
        if checked.ok() { Ok(()) } else { Err(Stop::Exit(ErrorCode::Failed.exit())) }
    }
}

fn row(checked: &Checked) -> CheckRow {
    let (points, advice) = score::score(checked);
    let manifest = checked.project.as_ref().map(|project| &project.package.manifest);
    CheckRow {
        schema: "msm.check/1",
        ok: checked.ok(),
        name: manifest.map(|manifest| manifest.name.clone()),
        version: manifest.map(|manifest| manifest.version.clone()),
        tests: checked.cases.len(),
        findings: checked.findings.iter().map(FindingRow::from).collect(),
        score: points,
        advice: advice.into_iter().map(|(points, text)| Advice { points, text }).collect(),
    }
}

fn text(checked: &Checked, folder: &Path, with_advice: bool, color: bool) -> String {
    let mut text: String = checked.findings.iter().map(|finding| shown(finding, folder, color) + "\n").collect();
    let (points, advice) = score::score(checked);
    if let Some(project) = &checked.project {
        let (package, manifest) = (&project.package, &project.package.manifest);
        let engines: Vec<String> = manifest
            .variants
            .iter()
            .map(|variant| format!("{} {}", variant.engine.as_str(), bytes(variant.size)))
            .collect();
        text.push_str(&format!("{} {}  {}", manifest.name, manifest.version, engines.join(", ")));
        text.push_str(&format!("  {}", count(checked.cases.len() as u64, "test")));
        text.push_str(&format!("  rating {}/6  {}\n", package.manifest.permissions.rating(), package.hash));
    }
    let of = |level| checked.findings.iter().filter(|finding| finding.level == level).count() as u64;
    let (errors, warnings) = (count(of(Level::Error), "error"), count(of(Level::Warning), "warning"));
    let verdict = if checked.ok() { "check ok" } else { "check failed" };
    text.push_str(&format!("{verdict}: {errors}, {warnings} | score {points}/100"));
    match advice.first() {
        Some((more, what)) if !with_advice => text.push_str(&format!(" ({what}: +{more})")),
        _ => {}
    }
    text.push('\n');
    if with_advice {
        text.extend(advice.iter().map(|(more, what)| format!("  +{more:<3} {what}\n")));
    }
    text
}
