//! `msm service test`.

use std::time::Instant;

use clap::Args;
use serde::Serialize;

use super::{Folder, Screen, Stop, caret, failed, open};
use crate::{
    cli::render::text::{clean, clean_lines, count, milliseconds},
    command::{CommandError, ErrorCode},
    workshop::{
        WorkshopError,
        bench::Bench,
        case::read_cases,
        project::Project,
        sources::Sources,
        trial::{CaseResult, Trial},
    },
};

/// Run every test on every variant, whole and in parts, twice
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  msm service test ./my-service\n  msm service test --variant wasm --case cat\n\n\
                        Exits with 6 when a test failed. What came out instead is written to .msm/.")]
pub(super) struct Test {
    #[command(flatten)]
    folder: Folder,
    /// Only this variant: js, wasm, or js-2 for the second of its kind
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,
    /// Only this test: the name of its file without .toml
    #[arg(long, value_name = "NAME")]
    case: Option<String>,
}

/// `msm.service-test/1`.
#[derive(Serialize)]
struct TestRow<'a> {
    schema: &'static str,
    name: &'a str,
    version: &'a str,
    ok: bool,
    passed: usize,
    failed: usize,
    wall_ms: f64,
    tests: Vec<CaseRow<'a>>,
}

#[derive(Serialize)]
struct CaseRow<'a> {
    name: &'a str,
    ok: bool,
    /// Whether all variants gave the same bytes; absent when there is one, or it is not declared deterministic.
    #[serde(skip_serializing_if = "Option::is_none")]
    agree: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disagreement: Option<&'a str>,
    variants: Vec<VariantRow<'a>>,
}

#[derive(Serialize)]
struct VariantRow<'a> {
    variant: &'a str,
    ok: bool,
    runs: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    written: &'a [String],
}

impl Test {
    pub(super) async fn run(self, screen: &mut Screen) -> Result<(), Stop> {
        let folder = self.folder.folder;
        let project = open(&folder, self.variant.as_deref(), screen).await?;
        let began = Instant::now();
        let trial = trial(project, self.variant.as_deref(), self.case.as_deref());
        let trial = trial.map_err(|error| failed(error, &folder, screen.style))?;
        if trial.cases.is_empty() {
            let message = format!("{} has no tests: add tests/NAME.toml with input and expect", folder.display());
            return Err(CommandError::new(ErrorCode::NotFound, message).into());
        }
        let results = async { trial.run(&Bench::open()?).await }.await;
        let results = results.map_err(|error| failed(error, &folder, screen.style))?;
        let wall_ms = began.elapsed().as_secs_f64() * 1_000.0;
        let failures = results.iter().filter(|result| !result.passed()).count();
        if screen.style.json {
            screen.result_json(&row(&trial, &results, wall_ms))?;
        } else {
            let mut text = table(&trial, &results);
            let passed = count((results.len() - failures) as u64, "test");
            let done = format!("{passed} ok, {failures} failed  {}\n", milliseconds(wall_ms));
            text.push_str(&done);
            screen.result_line(text)?;
        }
        if failures == 0 { Ok(()) } else { Err(Stop::Exit(ErrorCode::ServiceFailed.exit())) }
    }
}

/// The tests of a service that is built.
pub(super) fn trial(project: Project, variant: Option<&str>, case: Option<&str>) -> Result<Trial, WorkshopError> {
    let variants = project.variants(variant)?;
    let cases = read_cases(&project.folder, &project.package.manifest, case)?;
    Ok(Trial { project: project.into(), variants, cases })
}

/// A row for each test, a column for each variant, and below it what went wrong.
pub(super) fn table(trial: &Trial, results: &[CaseResult]) -> String {
    let several = trial.variants.len() > 1;
    let deterministic = trial.project.package.manifest.work.deterministic;
    let mut rows: Vec<Vec<String>> = vec![
        std::iter::once("test".to_owned())
            .chain(trial.variants.iter().map(|variant| variant.name.clone()))
            .chain((several && deterministic).then(|| "agree".to_owned()))
            .collect(),
    ];
    let mut wrong = String::new();
    for result in results {
        let test = clean(&result.name, usize::MAX);
        let mut row = vec![test.clone()];
        for verdict in &result.verdicts {
            row.push(match (&verdict.failure, verdict.took) {
                (Some(_), _) => "FAILED".to_owned(),
                (None, took) => {
                    format!("ok {}", took.map(|it| milliseconds(it.as_secs_f64() * 1_000.0)).unwrap_or_default())
                }
            });
            if let Some(failure) = &verdict.failure {
                let variant = trial.variants.iter().find(|variant| variant.name == verdict.variant);
                let sources = variant.map(Sources::of_variant).unwrap_or_default();
                let (what, place) = sources.explain(&failure.what);
                let (variant, run) = (&verdict.variant, &failure.run);
                wrong.push_str(&clean_lines(&format!("{test} FAILED on {variant} ({run}): {what}")));
                wrong.push('\n');
                wrong.push_str(&place.map(|place| caret(&place, &trial.project.folder)).unwrap_or_default());
                if !failure.written.is_empty() {
                    wrong.push_str(&format!("  see {}\n", clean(&failure.written.join(", "), usize::MAX)));
                }
            }
        }
        if several && deterministic {
            row.push(match &result.disagreement {
                Some(_) => "NO".to_owned(),
                None if result.passed() => "identical bytes".to_owned(),
                None => "-".to_owned(),
            });
        }
        if let Some(disagreement) = &result.disagreement {
            wrong.push_str(&format!("{test}: variants do not agree: {}\n", clean(disagreement, usize::MAX)));
        }
        rows.push(row);
    }
    aligned(&rows) + &wrong
}

fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(n, cell)| format!("{cell:<width$}  ", width = width(n)));
        cells.collect::<String>().trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn row<'a>(trial: &'a Trial, results: &'a [CaseResult], wall_ms: f64) -> TestRow<'a> {
    let manifest = &trial.project.package.manifest;
    let comparable = trial.variants.len() > 1 && manifest.work.deterministic;
    let tests: Vec<CaseRow<'a>> = results
        .iter()
        .map(|result| CaseRow {
            name: &result.name,
            ok: result.passed(),
            agree: comparable.then_some(result.disagreement.is_none()),
            disagreement: result.disagreement.as_deref(),
            variants: result
                .verdicts
                .iter()
                .map(|verdict| VariantRow {
                    variant: &verdict.variant,
                    ok: verdict.failure.is_none(),
                    runs: verdict.runs,
                    first_ms: verdict.took.map(|it| it.as_secs_f64() * 1_000.0),
                    run: verdict.failure.as_ref().map(|it| &*it.run),
                    error: verdict.failure.as_ref().map(|it| &*it.what),
                    written: verdict.failure.as_ref().map_or(&[], |it| &it.written),
                })
                .collect(),
        })
        .collect();
    let passed = tests.iter().filter(|test| test.ok).count();
    TestRow {
        schema: "msm.service-test/1",
        name: &manifest.name,
        version: &manifest.version,
        ok: passed == tests.len(),
        passed,
        failed: tests.len() - passed,
        wall_ms,
        tests,
    }
}
