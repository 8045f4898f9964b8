//! [`Trial`]: every test on every variant, whole and in parts, twice; and whether the variants agree.

use std::{fs, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    WorkshopError,
    bench::{Bench, Ran, Run},
    case::Case,
    compare::{self, Difference},
    project::{Project, Variant},
};

/// What came of one test on one variant.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The variant's name.
    pub variant: String,
    /// Wall time of the first whole run; nothing when it failed.
    pub took: Option<Duration>,
    /// How often it was run, parts not counted.
    pub runs: u32,
    /// The first thing that was wrong.
    pub failure: Option<Failure>,
    /// What came out of the first run.
    output: Option<Bytes>,
}

/// Why a test failed on a variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which run: `whole`, `whole, second run`, `in 3 parts`.
    pub run: String,
    /// What was wrong with it, with the first place.
    pub what: String,
    /// Files that were written to look at.
    pub written: Vec<String>,
}

/// What came of one test.
#[derive(Debug, Clone)]
pub struct CaseResult {
    /// The test's name.
    pub name: String,
    /// In the order of the variants.
    pub verdicts: Vec<Verdict>,
    /// Where variants give different bytes; nothing when they agree or there is one.
    pub disagreement: Option<String>,
}

impl CaseResult {
    /// True when nothing was wrong.
    pub fn passed(&self) -> bool {
        self.disagreement.is_none() && self.verdicts.iter().all(|verdict| verdict.failure.is_none())
    }
}

/// What is tried.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The service.
    pub project: Arc<Project>,
    /// Its variants.
    pub variants: Vec<Variant>,
    /// Its tests.
    pub cases: Vec<Case>,
}

impl Trial {
    /// Runs everything, as much at a time as there are cores, and gives the results in the order of the tests.
    pub async fn run(&self, bench: &Bench) -> Result<Vec<CaseResult>, WorkshopError> {
        let slots = Arc::new(Semaphore::new(Bench::width()));
        let mut running = JoinSet::new();
        for (c, case) in self.cases.iter().enumerate() {
            for (v, variant) in self.variants.iter().enumerate() {
                let (bench, slots, project) = (bench.clone(), slots.clone(), self.project.clone());
                let (case, variant) = (case.clone(), variant.clone());
                running.spawn(async move {
                    let _slot = slots.acquire_owned().await;
                    (c, v, try_one(&bench, &project, &case, &variant).await)
                });
            }
        }
        let mut verdicts = Vec::new();
        while let Some(joined) = running.join_next().await {
            let (c, v, verdict) =
                joined.map_err(|error| WorkshopError::Usage(format!("a test's task ended: {error}")))?;
            verdicts.push((c, v, verdict?));
        }
        verdicts.sort_by_key(|(c, v, _)| (*c, *v));
        let deterministic = self.project.package.manifest.work.deterministic;
        let result = |(c, case): (usize, &Case)| {
            let own = verdicts.iter().filter(|(of, ..)| *of == c);
            let verdicts: Vec<Verdict> = own.map(|(_, _, verdict)| verdict.clone()).collect();
            let disagreement = if deterministic { disagreement(&verdicts) } else { None };
            CaseResult { name: case.name.clone(), verdicts, disagreement }
        };
        Ok(self.cases.iter().enumerate().map(result).collect())
    }
}

/// The first variant whose bytes are not those of the first.
fn disagreement(verdicts: &[Verdict]) -> Option<String> {
    let mut outputs = verdicts.iter().filter_map(|verdict| Some((&verdict.variant, verdict.output.as_ref()?)));
    let (first, expected) = outputs.next()?;
    outputs.find_map(|(other, got)| {
        let where_ = compare::bytes(expected, got)?;
        Some(format!("{other} and {first} differ {where_}"))
    })
}

async fn try_one(bench: &Bench, project: &Project, case: &Case, variant: &Variant) -> Result<Verdict, WorkshopError> {
    let mut verdict = Verdict { variant: variant.name.clone(), took: None, runs: 0, failure: None, output: None };
    let run = || Run {
        service: &variant.service,
        params: case.params.clone(),
        input: case.input.clone(),
        resources: Some(case.replay.play()),
    };
    let deterministic = project.package.manifest.work.deterministic;
    // Whole, then again, then in parts: a service that says it is deterministic must give the same bytes each time;
    // of another one every output is held against the expected one by itself.
    let plan = std::iter::once(("whole".to_owned(), None))
        .chain(std::iter::once(("whole, second run".to_owned(), None)))
        .chain(
            case.chunks
                .iter()
                .flat_map(|n| [(format!("in {n} parts"), Some(*n)), (format!("in {n} parts, second run"), Some(*n))]),
        );
    for (name, parts) in plan {
        verdict.runs += 1;
        let ran = match parts {
            None => bench.whole(&run()).await,
            Some(want) => bench.parts(&run(), want).await,
        };
        let ran: Ran = match ran {
            Ok(ran) => ran,
            Err(refusal) => {
                verdict.failure = Some(Failure { run: name, what: refusal.to_string(), written: Vec::new() });
                return Ok(verdict);
            }
        };
        let difference = match &verdict.output {
            Some(first) if deterministic => compare::bytes(first, &ran.output).map(|what| {
                Difference::from(format!("is declared deterministic, and differs from the first run {what}"))
            }),
            _ => case.compare.difference(bench, case.expect.as_ref(), &ran.output).await,
        };
        if let Some(difference) = difference {
            let written = write_down(bench, project, case, variant, &ran.output, &difference).await?;
            verdict.failure = Some(Failure { run: name, what: difference.what, written });
            verdict.output.get_or_insert(ran.output);
            return Ok(verdict);
        }
        verdict.took.get_or_insert(ran.wall);
        verdict.output.get_or_insert(ran.output);
    }
    Ok(verdict)
}

/// Writes what came out, and a picture of the difference where there is one, beside the service.
async fn write_down(
    bench: &Bench,
    project: &Project,
    case: &Case,
    variant: &Variant,
    output: &Bytes,
    difference: &Difference,
) -> Result<Vec<String>, WorkshopError> {
    let mut written = Vec::new();
    let mut put = |name: String, bytes: &[u8]| {
        let path = project.scratch(&name)?;
        fs::write(&path, bytes).map_err(WorkshopError::io(&path))?;
        written.push(path.display().to_string());
        Ok::<_, WorkshopError>(())
    };
    put(format!("{}.{}.out", case.name, variant.name), output)?;
    if let Some(picture) = &difference.picture
        && let Ok(png) = bench.png(picture).await
    {
        put(format!("{}.{}.diff.png", case.name, variant.name), &png)?;
    }
    Ok(written)
}
