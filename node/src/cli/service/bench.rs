//! `msm service bench`.

use clap::Args;
use serde::Serialize;

use super::{Folder, Screen, Stop, failed, open, run_failed, test::trial};
use crate::{
    cli::render::{
        table::{Align::Left, Align::Right, columns},
        text::{clean, milliseconds},
    },
    command::{CommandError, ErrorCode},
    workshop::bench,
};

/// Measure how quick each variant is
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  msm service bench ./my-service -n 50\n\nOne run at a time, whole, in a child that is \
                        warm; the first run of each is not counted."
)]
pub(super) struct Bench {
    #[command(flatten)]
    folder: Folder,
    /// Runs of each test on each variant
    #[arg(short, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    n: u32,
    /// Only this variant
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,
    /// Only this test
    #[arg(long, value_name = "NAME")]
    case: Option<String>,
}

/// `msm.service-bench/1`.
#[derive(Serialize)]
struct BenchRow<'a> {
    schema: &'static str,
    name: &'a str,
    version: &'a str,
    rows: Vec<Row>,
}

/// Milliseconds of wall time.
#[derive(Serialize)]
struct Row {
    test: String,
    variant: String,
    n: u32,
    first_ms: f64,
    min_ms: f64,
    median_ms: f64,
    p99_ms: f64,
    cpu_ms: f64,
    input_bytes: usize,
}

impl Bench {
    pub(super) async fn run(self, screen: &mut Screen) -> Result<(), Stop> {
        let folder = self.folder.folder;
        let project = open(&folder, self.variant.as_deref(), screen).await?;
        let style = screen.style;
        let trial = trial(project, self.variant.as_deref(), self.case.as_deref());
        let trial = trial.map_err(|error| failed(error, &folder, style))?;
        if trial.cases.is_empty() {
            let message = format!("{} has no tests to measure: add tests/NAME.toml", folder.display());
            return Err(CommandError::new(ErrorCode::NotFound, message).into());
        }
        let bench = bench::Bench::open().map_err(|error| failed(error, &folder, style))?;
        let mut rows = Vec::new();
        for case in &trial.cases {
            for variant in &trial.variants {
                let run = || bench::Run {
                    service: &variant.service,
                    params: case.params.clone(),
                    input: case.input.clone(),
                    resources: Some(case.replay.play()),
                };
                let first =
                    bench.whole(&run()).await.map_err(|refusal| run_failed(&refusal, variant, &folder, style))?;
                let (mut walls, mut cpu) = (Vec::new(), 0.0);
                for _ in 0..self.n {
                    let ran =
                        bench.whole(&run()).await.map_err(|refusal| run_failed(&refusal, variant, &folder, style))?;
                    walls.push(ran.wall.as_secs_f64() * 1_000.0);
                    cpu += ran.cpu.as_secs_f64() * 1_000.0;
                }
                walls.sort_by(f64::total_cmp);
                let at = |share: f64| walls[((walls.len() as f64 * share).ceil() as usize).clamp(1, walls.len()) - 1];
                rows.push(Row {
                    test: case.name.clone(),
                    variant: variant.name.clone(),
                    n: self.n,
                    first_ms: first.wall.as_secs_f64() * 1_000.0,
                    min_ms: at(0.0),
                    median_ms: at(0.5),
                    p99_ms: at(0.99),
                    cpu_ms: cpu / f64::from(self.n),
                    input_bytes: case.input.len(),
                });
            }
        }
        let manifest = &trial.project.package.manifest;
        if style.json {
            let (name, version) = (manifest.name.as_str(), manifest.version.as_str());
            return screen.result_json(&BenchRow { schema: "msm.service-bench/1", name, version, rows });
        }
        let headers = [
            ("TEST", Left),
            ("VARIANT", Left),
            ("N", Right),
            ("FIRST", Right),
            ("MIN", Right),
            ("MEDIAN", Right),
            ("P99", Right),
        ];
        let text = rows.iter().map(|row| {
            let ms = milliseconds;
            [
                clean(&row.test, usize::MAX),
                row.variant.clone(),
                row.n.to_string(),
                ms(row.first_ms),
                ms(row.min_ms),
                ms(row.median_ms),
                ms(row.p99_ms),
            ]
        });
        screen.result_line(columns(headers, text))
    }
}
