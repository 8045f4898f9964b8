//! Hostile WebAssembly: each program ends with the verdict in its first line, in time, and the next honest ones work.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use msm_protocol::{ContentHash, Refusal, RefusalCode};
use msm_sandbox::{Asks, Op, Package, Work};

use crate::{
    asks::Device,
    hostile::{DEADLINE, Tries, matches, tell_late},
    rig::Rig,
    wasm::{ECHO, module},
};

/// A program of the zoo. Its first lines say how it must end, and what its refusal must say (`;; says: …`); what it asks
/// for (`;; asks: gps`); and which assets it has (`;; assets: a deep/b`).
struct Hostile {
    name: String,
    verdicts: String,
    says: String,
    package: Arc<Package>,
}

impl Hostile {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let note = |name: &str| {
            let lines = text.lines().take_while(|line| line.starts_with(";; "));
            let found =
                lines.filter_map(|line| line.strip_prefix(";; ")?.strip_prefix(name)?.strip_prefix(": ")).next();
            found.unwrap_or_default().to_owned()
        };
        let (verdicts, says, asks, assets) = (note("expect"), note("says"), note("asks"), note("assets"));
        assert!(!verdicts.is_empty(), "{}", path.display());
        let has = |right: &str| asks.split(' ').any(|asked| asked == right);
        let mut package = module(&text, Work::Whole);
        package.hash = ContentHash::of(text.as_bytes());
        package.asks = Asks { image: has("image"), gps: has("gps"), clock: has("clock"), ..Asks::default() };
        let assets = assets.split(' ').filter(|path| !path.is_empty());
        package.files.assets = assets.map(|path| (path.to_owned(), Bytes::from("an asset"))).collect();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        Self { name, verdicts, says, package: package.into() }
    }
}

fn zoo() -> Vec<Hostile> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/hostile");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|it| it == "wat")).collect();
    paths.sort();
    paths.iter().map(|path| Hostile::read(path)).collect()
}

/// What became of a call, in words.
fn told(result: Result<impl Sized, Refusal>) -> String {
    match result {
        Ok(_) => "output of a guest".to_owned(),
        Err(refusal) => format!("{}: {}", refusal.code, refusal.reason),
    }
}

/// Shows that the sandbox still works for honest guests of both engines.
async fn works(rig: &Rig) {
    rig.works().await;
    let output = rig.run(&Arc::new(module(ECHO, Work::Whole)), Op::Whole, "{}", "through").await.unwrap();
    assert_eq!(output.bytes, "through");
}

/// Runs a hostile package, and shows that honest ones work after it; how often it was late, or what went wrong.
async fn ends_as(rig: &mut Rig, verdicts: &str, says: &str, package: &Arc<Package>) -> Result<u32, String> {
    let generous = rig.budget;
    let mut tries = Tries::default();
    loop {
        // Compiling has a budget of its own.
        let _ = rig.sandbox.prepare(package).await;
        rig.budget.time = DEADLINE;
        rig.budget.output = 16 << 20;
        let mut call = rig.call(package, Op::Whole, "{}", "input");
        call.resources = Some(Arc::new(Device::default()));
        let started = Instant::now();
        let outcome = told(rig.sandbox.call(call).await);
        let took = started.elapsed();
        rig.budget = generous;
        works(rig).await;
        if let Some(end) = tries.judge(matches(verdicts, &outcome) && outcome.contains(says), &outcome, took) {
            return end.map_err(|why| format!("expected {verdicts} {says:?}, {why}"));
        }
    }
}

/// Runs every third program of the zoo, beginning with this one: three tests are over sooner than one.
async fn zoo_ends_as_written(first: usize) {
    let mut rig = Rig::new();
    let zoo = zoo();
    assert!(zoo.len() >= 130, "{} programs", zoo.len());
    let (mut wrong, mut guests, mut late) = (Vec::new(), 0, 0);
    for Hostile { name, verdicts, says, package } in zoo.iter().skip(first).step_by(3) {
        guests += 1;
        match ends_as(&mut rig, verdicts, says, package).await {
            Ok(times) => late += times,
            Err(why) => wrong.push(format!("{name}: {why}")),
        }
    }
    tell_late(guests, late);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn b21_to_b33_hostile_modules_end_in_time_first_third() {
    zoo_ends_as_written(0).await;
}

#[tokio::test]
async fn b21_to_b33_hostile_modules_end_in_time_second_third() {
    zoo_ends_as_written(1).await;
}

#[tokio::test]
async fn b21_to_b33_hostile_modules_end_in_time_last_third() {
    zoo_ends_as_written(2).await;
}

/// A module with these fields before its `_start`, which has this body.
fn with(fields: &str, body: &str) -> String {
    format!("(module {fields} (memory (export \"memory\") 1) (func (export \"_start\") {body}))")
}

#[tokio::test]
async fn b33_what_would_overwhelm_the_compiler_is_refused_before_it_sees_it() {
    let mut rig = Rig::new();
    let many = |count: usize, text: &str| text.repeat(count);
    let deep = |count: usize| with("", &(many(count, "(block ") + &many(count, ")")));
    let segments = |count: usize| with(&many(count, "(data (i32.const 0) \"\\00\")"), "");
    let functions = |count: usize| with(&many(count, "(func)"), "");
    let locals = |count: usize| with("", &format!("(local {})", many(count, " i64")));
    let parameters = |count: usize| with(&format!("(func (param {}))", many(count, " f32")), "");
    let body = |count: usize| with("", &many(count, "(drop (i64.const 0x123456789abcdef))"));
    let table: [(&str, String, &str); 12] = [
        ("12,000 locals", locals(12_000), "locals in function 0: 12000, the limit is 2000"),
        ("2,001 locals", locals(2_001), "locals in function 0: 2001, the limit is 2000"),
        ("1,001 parameters", parameters(1_001), "not a module that runs here"),
        ("20,000 functions", functions(20_000), "functions: 20001, the limit is 10000"),
        ("10,001 functions", functions(10_000), "functions: 10001, the limit is 10000"),
        ("1 MiB of body", body(100_000), "bytes of code in function 0: 11"),
        ("3,000 blocks", deep(3_000), "nested blocks in function 0: 2001, the limit is 2000"),
        ("60,000 blocks", deep(60_000), "nested blocks in function 0: 2001, the limit is 2000"),
        ("10,000 segments", segments(10_000), "data segments: 10000, the limit is 4096"),
        ("20,000 types", with(&many(20_000, "(type (func))"), ""), "types: 20000, the limit is 10000"),
        ("20,000 globals", with(&many(20_000, "(global i32 (i32.const 0))"), ""), "globals: 20000, the limit is 10000"),
        (
            "10,001 exports",
            with(&(0..10_001).map(|i| format!("(func (export \"{i}\"))")).collect::<String>(), ""),
            "functions: 10002",
        ),
    ];
    for (what, source, says) in table {
        let started = Instant::now();
        ends_as(&mut rig, "bad-package", says, &module(source, Work::Whole).into())
            .await
            .unwrap_or_else(|why| panic!("{what}: {why}"));
        assert!(started.elapsed() < Duration::from_secs(5), "{what} took {:?}", started.elapsed());
    }
    // What is just within the limits compiles and runs: nothing honest is kept out by accident.
    for source in [locals(2_000), functions(9_999), deep(2_000), segments(4_096), body(23_000)] {
        let package = Arc::new(module(source, Work::Whole));
        ends_as(&mut rig, "output", "", &package).await.unwrap();
    }
}

/// A function whose every local lives through every block, so that each of them is a value in each of the blocks.
fn live(locals: usize, blocks: usize) -> String {
    let block = |i: usize| {
        let (to, one, two) = (i % locals, (i * 7 + 1) % locals, (i * 13 + 5) % locals);
        format!(
            "(local.set {to} (i64.add (local.get {one}) (local.get {two}))) (br_if 0 (i32.eqz (i32.load (i32.const {i}))))"
        )
    };
    let work: String = (0..blocks).map(block).collect();
    let after: String = (0..locals).map(|i| format!("(i64.store (i32.const {}) (local.get {i}))", i * 8)).collect();
    with("", &format!("(local {}) (loop $again (block {work}) {after} (br $again))", " i64".repeat(locals)))
}

/// Within every limit, and as hard for a compiler as we know how: its CPU budget decides, not its patience.
#[tokio::test]
async fn b33_compiling_ends_within_its_budget() {
    let rig = Rig::new();
    let switch = |targets: usize| {
        let list = " 0 1".repeat(targets / 2);
        with("", &format!("(block (block (br_table{list} (i32.load (i32.const 0)))))"))
    };
    let calls = |functions: usize| {
        let each = |i: usize| format!("(func $f{i} {})", format!("(call $f{})", (i + 1) % functions).repeat(20));
        with(&(0..functions).map(each).collect::<String>(), "")
    };
    for (what, source) in [
        ("2,000 live locals", live(2_000, 8_000)),
        ("200 live locals", live(200, 3_000)),
        ("a switch of 100,000", switch(100_000)),
        ("9,000 functions of 20 calls", calls(9_000)),
    ] {
        let package = Arc::new(module(source, Work::Whole));
        let started = Instant::now();
        let outcome = told(rig.sandbox.prepare(&package).await);
        let took = started.elapsed();
        eprintln!("{what}: {} bytes, {outcome} after {took:?}", package.source.len());
        let refused = outcome.starts_with("bad-package: ");
        assert!(matches("output", &outcome) || refused, "{what}: {outcome}");
        // Five seconds of CPU, more by the clock when others run too.
        assert!(took < Duration::from_secs(31), "{what}: {took:?}");
        if refused {
            // It is not tried again for every call.
            let again = Instant::now();
            let refusal = rig.run(&package, Op::Whole, "{}", "").await.unwrap_err();
            assert_eq!(refusal.code, RefusalCode::BadPackage, "{what}");
            assert!(again.elapsed() < Duration::from_secs(1), "{what}");
        }
        works(&rig).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_compilation_that_nobody_waits_for_is_killed() {
    use crate::rig::{children_of, config, until};
    let rig = Rig::with(msm_sandbox::SandboxConfig { warm: 0, ..config() });
    let children = || children_of(std::process::id());
    until("no child", || children().is_empty()).await;
    let package = module(live(2_000, 8_000), Work::Whole);
    tokio::select! {
        result = rig.sandbox.prepare(&package) => panic!("{result:?}"),
        () = until("a child compiles", || !children().is_empty()) => {}
    }
    until("the child is killed and reaped", || children().is_empty()).await;
    works(&rig).await;
}

#[tokio::test]
async fn what_is_no_module_is_a_bad_package() {
    let mut rig = Rig::new();
    let echo = module(ECHO, Work::Whole).source;
    let mut table: Vec<(String, Vec<u8>)> = vec![
        ("nothing".into(), vec![]),
        ("a magic number".into(), b"\0asm".to_vec()),
        ("a later version".into(), b"\0asm\x02\0\0\0".to_vec()),
        ("an empty module".into(), b"\0asm\x01\0\0\0".to_vec()),
        ("a component's header".into(), b"\0asm\x0d\0\x01\0".to_vec()),
        ("JavaScript".into(), b"export function run() {}".to_vec()),
        ("a native program".into(), b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec()),
        // A section that is longer than the module, and a function with 2^32 - 1 locals in four bytes.
        ("a long section".into(), b"\0asm\x01\0\0\0\x01\xff\xff\xff\xff\x0f".to_vec()),
        (
            "locals in a few bytes".into(),
            b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a\x0a\x01\x08\x01\xff\xff\xff\xff\x0f\x7f\x0b"
                .to_vec(),
        ),
    ];
    table.extend((1..10).map(|tenth| (format!("{tenth} tenths of one"), echo[..echo.len() * tenth / 10].to_vec())));
    for (what, source) in table {
        let package = Package { source: source.into(), ..module(ECHO, Work::Bytes { size: 1 }) };
        let hash = ContentHash::of(what.as_bytes());
        let package = Arc::new(Package { hash, work: Work::Whole, ..package });
        ends_as(&mut rig, "bad-package", "", &package).await.unwrap_or_else(|why| panic!("{what}: {why}"));
    }
}

#[tokio::test]
async fn damaged_modules_do_no_more_harm_than_hostile_ones() {
    let mut rig = Rig::new();
    let echo = module(ECHO, Work::Whole).source;
    let mut state = 7u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for round in 0..60 {
        let mut source = echo.to_vec();
        for _ in 0..=next(3) {
            // The first bytes would only be another file type.
            let at = 8 + next(source.len() - 8);
            source[at] ^= 1 << next(8);
        }
        let package = Arc::new(module(source, Work::Whole));
        let any = "bad-package output service-failed soft-deadline output-too-large out-of-memory";
        ends_as(&mut rig, any, "", &package).await.unwrap_or_else(|why| panic!("round {round}: {why}"));
    }
}
