//! `msm service dev`: builds, checks and tests again after every change.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use clap::Args;
use msm_market_index::read_recipe;

use super::{Screen, Stop, build_due, failed, shown, test::table};
use crate::{
    cli::render::text::{clean, count, milliseconds},
    workshop::{
        bench::Bench,
        build,
        check::{self, Checked},
        glob, score,
        trial::Trial,
        watch::Watch,
    },
};

/// Build, check and test again after every change
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  msm service dev ./my-service\n\nWatches service.toml, sources, tests and README until \
                        Ctrl-C."
)]
pub(super) struct Dev {
    /// The folder with service.toml
    #[arg(value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
}

impl Dev {
    pub(super) async fn run(self, screen: &mut Screen) -> Result<(), Stop> {
        let folder = self.folder;
        // Asked for by itself: a wrong folder ends here, a wrong service.toml is there to be corrected.
        if !folder.join(msm_market_index::SERVICE_TOML).is_file() {
            let message = format!("{} has no service.toml", folder.display());
            let error = crate::command::CommandError::new(crate::command::ErrorCode::NotFound, message);
            return Err(error.or_try("msm service new hello").into());
        }
        let wrong = |error, screen: &Screen| failed(error, &folder, screen.style);
        let bench = Bench::open().map_err(|error| wrong(error, screen))?;
        // Before the first round: what changes meanwhile is not lost.
        let mut watch = Watch::start(&folder).map_err(|error| wrong(error, screen))?;
        screen.message("watching. Ctrl-C ends it.");
        let mut last = Round::default();
        last.run(&folder, &bench, None, screen).await?;
        while let Some(names) = watch.next().await {
            last.run(&folder, &bench, Some(&names), screen).await?;
        }
        Ok(())
    }
}

/// What the last round has tested.
#[derive(Default)]
struct Round {
    /// Package and tests, as far as they decide a test's outcome.
    tested: Option<BTreeSet<String>>,
    passed: bool,
}

impl Round {
    /// Builds, checks and tests what `changed` (or everything) makes necessary, and says how it went in a line.
    async fn run(
        &mut self,
        folder: &Path,
        bench: &Bench,
        changed: Option<&[String]>,
        screen: &mut Screen,
    ) -> Result<(), Stop> {
        let because = match changed {
            None => String::new(),
            Some(names) if is_output(folder, names) => return Ok(()),
            Some([one]) => format!("{} changed -> ", clean(one, usize::MAX)),
            Some(names) => format!("{} changed -> ", count(names.len() as u64, "file")),
        };
        let built = match read_recipe(folder) {
            Ok(_) => build_due(folder, None, screen).await,
            // The check says what is wrong with service.toml, and all of it.
            Err(_) => Ok(()),
        };
        match built {
            Ok(()) => {}
            Err(Stop::Failed(error)) => {
                screen.error(&error);
                self.tested = None;
                return screen.result_line(format!("{because}build FAILED"));
            }
            Err(stop) => return Err(stop),
        }
        let began = Instant::now();
        let checked = check::check(bench, folder).await.map_err(|error| failed(error, folder, screen.style))?;
        let check_ms = milliseconds(began.elapsed().as_secs_f64() * 1_000.0);
        let color = screen.style.color && screen.style.out_terminal;
        if !checked.ok() {
            let text: String = checked.findings.iter().map(|finding| shown(finding, folder, color) + "\n").collect();
            self.tested = None;
            return screen.result_line(format!("{text}{because}check FAILED {check_ms}"));
        }
        let key = key_of(&checked);
        let (points, advice) = score::score(&checked);
        let hint = advice.first().map(|(more, what)| format!(" ({what}: +{more})")).unwrap_or_default();
        let score = format!("score {points}/100{hint}");
        if self.tested.as_ref() == Some(&key) {
            let tests = if self.passed { "tests as before: ok" } else { "tests as before: FAILED" };
            return screen.result_line(format!("{because}check ok {check_ms} | {tests} | {score}"));
        }
        let Checked { project: Some(project), cases, .. } = checked else { return Ok(()) };
        let variants = project.variants(None).map_err(|error| failed(error, folder, screen.style))?;
        let trial = Trial { project: Arc::new(project), variants, cases };
        let began = Instant::now();
        let results = trial.run(bench).await.map_err(|error| failed(error, folder, screen.style))?;
        let test_ms = milliseconds(began.elapsed().as_secs_f64() * 1_000.0);
        let passed = results.iter().filter(|result| result.passed()).count();
        self.passed = passed == results.len();
        self.tested = Some(key);
        let verdict = if self.passed { "ok" } else { "FAILED" };
        let table = if self.passed { String::new() } else { table(&trial, &results) };
        let mut parts: Vec<u32> = trial.cases.iter().flat_map(|case| case.chunks.clone()).collect();
        parts.sort_unstable();
        parts.dedup();
        let parts: Vec<String> = parts.iter().map(u32::to_string).collect();
        let split = match (self.passed, parts.is_empty()) {
            (true, false) => format!(" | whole == in {} parts", parts.join(",")),
            _ => String::new(),
        };
        let tests = format!("tests {passed}/{} {verdict} {test_ms}", results.len());
        screen.result_line(format!("{table}{because}check ok {check_ms} | {tests}{split} | {score}"))
    }
}

/// True when all that changed is what a build of ours has written.
fn is_output(folder: &Path, names: &[String]) -> bool {
    let Ok(recipe) = read_recipe(folder) else { return false };
    let made = |name: &String| {
        recipe.variants.iter().any(|variant| {
            let is_source = build::sources(variant).iter().any(|pattern| glob::fits(pattern, name));
            // The file itself, the folder it lies in, or what its compiler writes beside it.
            let beside = variant.file.rsplit_once('/').map(|(folder, _)| folder);
            let in_output = *name == variant.file
                || beside.is_some_and(|beside| {
                    name == beside || name.strip_prefix(beside).is_some_and(|it| it.starts_with('/'))
                });
            variant.build.is_some() && in_output && !is_source
        })
    };
    names.iter().all(made)
}

/// Everything that decides how the tests end: the package, and each test with its files.
fn key_of(checked: &Checked) -> BTreeSet<String> {
    let package = checked.project.as_ref().map(|project| project.package.hash.to_string());
    let cases = checked.cases.iter().map(|case| {
        let hash = |bytes: &[u8]| msm_protocol::ContentHash::of(bytes).to_string();
        let expect = case.expect.as_deref().map(hash);
        format!(
            "{} {} {expect:?} {} {:?} {:?} {}",
            case.name,
            hash(&case.input),
            case.params,
            case.compare,
            case.chunks,
            case.replay.stamp()
        )
    });
    package.into_iter().chain(cases).collect()
}
