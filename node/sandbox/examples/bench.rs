//! Measures the sandbox: cold and warm calls, bytes in and out, and the blur against the same work without a sandbox.
//!
//! Prints a table, or with `--json` one flat object: a figure's key is its median, `KEY_n` how often it was measured,
//! `KEY_p99` and `KEY_spread` (from the first to the third quartile) how it varied.

mod blur;

use std::{
    error::Error,
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use msm_protocol::{ContentHash, PeerId, SecretKey};
use msm_sandbox::{Budget, Call, Engine, Op, Output, Package, Phases, Sandbox, SandboxConfig, Work};
use rquickjs::{Context, Function, Module, Object, Runtime, TypedArray};
use serde_json::{Map, Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A service of the usual size: 1.3 kB, as the paper's packages are.
const SMALL: &str = include_str!("bench/words.js");
/// A service that gives back what it gets.
const ECHO: &str = "export function run(input) { return input; }";
const COLD_RUNS: usize = 100;
const WARM_RUNS: usize = 2_000;
const PIPE_RUNS: usize = 20;
const PIPE_BYTES: usize = 48 << 20;
/// Pairs of a run in the sandbox and one without.
const BLUR_RUNS: usize = 9;
const RADIUS: usize = 8;
/// 12 megapixels, for the engines that do them in a moment.
const PICTURE: (usize, usize) = (4000, 3000);
/// A sixteenth of it for JavaScript: the whole takes seconds a run, and the ratio is the same.
const SMALL_PICTURE: (usize, usize) = (1000, 750);

fn main() -> Result<()> {
    msm_sandbox::run_if_child();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let figures = runtime.block_on(bench())?;
    let mut out = std::io::stdout().lock();
    if std::env::args().any(|arg| arg == "--json") {
        let mut report = Map::new();
        report.insert("schema".into(), json!("msm.bench-sandbox/1"));
        report.insert("cores".into(), json!(std::thread::available_parallelism()?.get()));
        report.insert("optimised".into(), json!(!cfg!(debug_assertions)));
        figures.iter().for_each(|figure| figure.put(&mut report));
        writeln!(out, "{}", Value::Object(report))?;
    } else {
        writeln!(out, "{:<18} {:>5} {:>10} {:>10} {:>10}  goal", "figure", "n", "median", "p99", "spread")?;
        for figure in &figures {
            figure.line(&mut out)?;
        }
        if cfg!(debug_assertions) {
            writeln!(out, "this program is not optimised: scripts/bench sandbox builds one that is")?;
        }
    }
    Ok(())
}

async fn bench() -> Result<Vec<Figure>> {
    let bench = Bench { sandbox: Sandbox::new(SandboxConfig::default())? };
    let mut figures = bench.cold_js().await?;
    figures.extend(bench.cold_wasm().await?);
    figures.push(bench.warm().await?);
    figures.push(bench.pipe().await?);
    figures.push(bench.js_vs_plain().await?);
    figures.push(bench.wasm_vs_native().await?);
    Ok(figures)
}

struct Bench {
    sandbox: Sandbox,
}

impl Bench {
    fn call(&self, package: &Arc<Package>, op: Op, params: &str, input: Bytes) -> Call {
        Call {
            package: package.clone(),
            client: PeerId::of(&SecretKey::from_seed(&[7; 32]).public()),
            op,
            params: params.into(),
            budget: Budget { memory: 256 << 20, time: Duration::from_secs(60), output: 64 << 20 },
            input,
            resources: None,
        }
    }

    /// From no process at all to the first result, and where that time goes.
    async fn cold_js(&self) -> Result<Vec<Figure>> {
        let package = package(Engine::Js, SMALL.as_bytes(), Work::Whole);
        let input = Bytes::from_static(b"to be or not to be\nthat is the question\n");
        let mut totals = Vec::new();
        let mut phases = Vec::new();
        for _ in 0..COLD_RUNS {
            let call = self.call(&package, Op::Whole, "{\"top\":3}", input.clone());
            let started = Instant::now();
            let (output, of_this) = self.sandbox.call_cold(call).await?;
            totals.push(ms(started.elapsed()));
            phases.push(of_this);
            assert_eq!(&output.bytes[..], br#"{"lines":2,"words":10,"top":[["be",2],["to",2],["is",1]]}"#);
        }
        let of = |key, phase: fn(&Phases) -> Duration| {
            Figure::new(key, "", phases.iter().map(|phases| ms(phase(phases))).collect())
        };
        Ok(vec![
            Figure::new("cold_js_ms", "<= 5", totals),
            of("cold_js_spawn_ms", |phases| phases.spawn),
            of("cold_js_walls_ms", |phases| phases.walls),
            of("cold_js_load_ms", |phases| phases.load),
        ])
    }

    /// From no process at all to the first result of a module that was compiled before: the shipped blur on one pixel.
    async fn cold_wasm(&self) -> Result<Vec<Figure>> {
        let (key, goal) = ("cold_wasm_ms", "<= 8");
        let file = service("build/image-blur.wasm");
        let Ok(module) = fs::read(&file) else {
            return Ok(vec![Figure::skipped(key, goal, format!("no {}", file.display()))]);
        };
        let package = package(Engine::Wasm, &module, Work::ImageRows { halo: RADIUS as u32 });
        let compiling = Instant::now();
        self.sandbox.prepare(&package).await?;
        let compiling = ms(compiling.elapsed());
        let params = json!({ "radius": RADIUS, "kind": "box" }).to_string();
        let pixel = Bytes::from([[1u32, 1, 0, 0].map(u32::to_le_bytes).as_flattened(), &[9, 8, 7, 6]].concat());
        let mut totals = Vec::new();
        let mut loads = Vec::new();
        for _ in 0..COLD_RUNS {
            let call = self.call(&package, Op::Part { index: 0, count: 1 }, &params, pixel.clone());
            let started = Instant::now();
            let (output, phases) = self.sandbox.call_cold(call).await?;
            totals.push(ms(started.elapsed()));
            loads.push(ms(phases.load));
            assert_eq!(output.bytes[8..], [9, 8, 7, 6]);
        }
        Ok(vec![
            Figure::new(key, goal, totals),
            Figure::new("cold_wasm_load_ms", "", loads),
            Figure::new("wasm_compile_ms", "", vec![compiling]),
        ])
    }

    /// A call whose child has its package already.
    async fn warm(&self) -> Result<Figure> {
        let package = package(Engine::Js, ECHO.as_bytes(), Work::Whole);
        let mut times = Vec::new();
        for _ in 0..WARM_RUNS {
            let call = self.call(&package, Op::Whole, "{}", Bytes::new());
            let started = Instant::now();
            self.sandbox.call(call).await?;
            times.push(ms(started.elapsed()));
        }
        Ok(Figure::new("warm_ms", "<= 0.2", times))
    }

    /// Bytes into a child and out of it again, both counted.
    async fn pipe(&self) -> Result<Figure> {
        let package = package(Engine::Js, ECHO.as_bytes(), Work::Whole);
        let input = Bytes::from(vec![0x5a; PIPE_BYTES]);
        let mut rates = Vec::new();
        for _ in 0..PIPE_RUNS {
            let call = self.call(&package, Op::Whole, "{}", input.clone());
            let started = Instant::now();
            let output = self.sandbox.call(call).await?;
            rates.push(2.0 * PIPE_BYTES as f64 / 1e6 / started.elapsed().as_secs_f64());
            assert_eq!(output.bytes.len(), input.len(), "the echo is whole");
        }
        Ok(Figure::new("pipe_mb_per_s", ">= 500", rates))
    }

    /// The shipped blur in a child against the same source in an engine of this process.
    async fn js_vs_plain(&self) -> Result<Figure> {
        let source = fs::read(service("src/main.js"))?;
        let package = package(Engine::Js, &source, Work::ImageRows { halo: RADIUS as u32 });
        let (width, height) = SMALL_PICTURE;
        let rows = picture(width, height);
        let mut ratios = Vec::new();
        for _ in 0..BLUR_RUNS {
            let (ours, output) = self.blur(&package, width, height, &rows).await?;
            let started = Instant::now();
            let plain = plain_blur(&source, width, height, &rows)?;
            ratios.push(ours.as_secs_f64() / started.elapsed().as_secs_f64());
            assert!(output.bytes[8..] == plain[..], "the same picture");
        }
        Ok(Figure::new("js_vs_plain", "<= 1.1", ratios))
    }

    /// The shipped blur as WebAssembly, the way in and out included, against the same algorithm in Rust.
    async fn wasm_vs_native(&self) -> Result<Figure> {
        let (key, goal) = ("wasm_vs_native", "<= 2.0");
        let file = service("build/image-blur.wasm");
        let Ok(module) = fs::read(&file) else {
            return Ok(Figure::skipped(key, goal, format!("no {}", file.display())));
        };
        let package = package(Engine::Wasm, &module, Work::ImageRows { halo: RADIUS as u32 });
        let (width, height) = PICTURE;
        let rows = picture(width, height);
        // Compiled before it is measured: that happens once per module and machine.
        self.blur(&package, width, height, &rows).await?;
        let mut ratios = Vec::new();
        for _ in 0..BLUR_RUNS {
            let (ours, output) = self.blur(&package, width, height, &rows).await?;
            let started = Instant::now();
            let native = blur::box_blur(&rows, width, height, RADIUS);
            ratios.push(ours.as_secs_f64() / started.elapsed().as_secs_f64());
            assert!(output.bytes[8..] == native[..], "the same picture");
        }
        Ok(Figure::new(key, goal, ratios))
    }

    /// One task that is a whole picture, in a child that has its package.
    async fn blur(
        &self,
        package: &Arc<Package>,
        width: usize,
        height: usize,
        rows: &[u8],
    ) -> Result<(Duration, Output)> {
        let header = [width as u32, height as u32, 0, 0].map(u32::to_le_bytes);
        let input = Bytes::from([header.as_flattened(), rows].concat());
        let params = json!({ "radius": RADIUS, "kind": "box" }).to_string();
        let call = self.call(package, Op::Part { index: 0, count: 1 }, &params, input);
        let started = Instant::now();
        let output = self.sandbox.call(call).await?;
        Ok((started.elapsed(), output))
    }
}

/// The blur's source in an engine without a sandbox, timed as a task is: evaluated, called, its bytes copied in and out.
fn plain_blur(source: &[u8], width: usize, height: usize, rows: &[u8]) -> Result<Vec<u8>> {
    let runtime = Runtime::new()?;
    let context = Context::full(&runtime)?;
    context.with(|ctx| {
        let (module, promise) = Module::declare(ctx.clone(), "main.js", source)?.eval()?;
        promise.finish::<()>()?;
        let run: Function<'_> = module.get("run")?;
        let object = |fields: &[(&str, usize)]| {
            let object = Object::new(ctx.clone())?;
            fields.iter().try_for_each(|(name, number)| object.set(*name, *number))?;
            rquickjs::Result::Ok(object)
        };
        let about = Object::new(ctx.clone())?;
        about.set("tile", object(&[("width", width), ("height", height), ("top", 0), ("bottom", 0)])?)?;
        let params = object(&[("radius", RADIUS)])?;
        params.set("kind", "box")?;
        about.set("params", params)?;
        let blurred: TypedArray<'_, u8> = run.call((TypedArray::<u8>::new_copy(ctx.clone(), rows)?, about))?;
        // SAFETY: no JavaScript runs while the bytes are copied.
        Ok(unsafe { blurred.as_bytes() }.ok_or("the blur gave no bytes")?.to_vec())
    })
}

fn service(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../services/image-blur").join(file)
}

fn package(engine: Engine, source: &[u8], work: Work) -> Arc<Package> {
    Arc::new(Package {
        hash: ContentHash::of(source),
        engine,
        source: Bytes::copy_from_slice(source),
        work,
        files: Default::default(),
        asks: Default::default(),
        label: "bench@1.0.0".into(),
    })
}

/// Pixels that no engine can guess.
fn picture(width: usize, height: usize) -> Vec<u8> {
    (0..width * height * 4).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

struct Figure {
    key: &'static str,
    goal: &'static str,
    /// In order; none: it was not measured.
    values: Vec<f64>,
    skipped: String,
}

impl Figure {
    fn new(key: &'static str, goal: &'static str, mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self { key, goal, values, skipped: String::new() }
    }

    fn skipped(key: &'static str, goal: &'static str, skipped: String) -> Self {
        Self { key, goal, values: vec![], skipped }
    }

    /// The value that this part of all are below.
    fn at(&self, part: f64) -> f64 {
        let place = (self.values.len().saturating_sub(1) as f64 * part).round() as usize;
        self.values.get(place).map_or(f64::NAN, |value| (value * 1e4).round() / 1e4)
    }

    fn spread(&self) -> f64 {
        ((self.at(0.75) - self.at(0.25)) * 1e4).round() / 1e4
    }

    fn put(&self, report: &mut Map<String, Value>) {
        if !self.skipped.is_empty() {
            report.insert(format!("{}_skipped", self.key), json!(self.skipped));
            return;
        }
        report.insert(self.key.into(), json!(self.at(0.5)));
        report.insert(format!("{}_n", self.key), json!(self.values.len()));
        report.insert(format!("{}_p99", self.key), json!(self.at(0.99)));
        report.insert(format!("{}_spread", self.key), json!(self.spread()));
    }

    fn line(&self, out: &mut impl Write) -> std::io::Result<()> {
        if !self.skipped.is_empty() {
            return writeln!(out, "{:<18} skipped: {}", self.key, self.skipped);
        }
        let Self { key, goal, values, .. } = self;
        let (median, p99, spread) = (self.at(0.5), self.at(0.99), self.spread());
        writeln!(out, "{key:<18} {:>5} {median:>10.3} {p99:>10.3} {spread:>10.3}  {goal}", values.len())
    }
}
