//! What an honest WebAssembly program can count on, and what it is told when it errs.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use msm_protocol::{ContentHash, Refusal, RefusalCode};
use msm_sandbox::{
    Aim, Answer, Answering, Ask, AskError, AskErrorKind, Asks, Engine, Files, Op, Output, Package, Resources, Sandbox,
    SandboxConfig, Work,
};

use crate::{
    rig::{Rig, config, frames, in_parts},
    splits::png,
};

/// A package of a module in text form or of bytes that are taken as they are.
pub fn module(source: impl AsRef<[u8]>, work: Work) -> Package {
    let source = source.as_ref();
    let is_text = source.starts_with(b"(") || source.starts_with(b";;");
    let source = if is_text { wat::parse_bytes(source).unwrap().into_owned() } else { source.to_vec() };
    Package {
        hash: ContentHash::of(&[&source[..], format!("{work:?}").as_bytes()].concat()),
        engine: Engine::Wasm,
        source: source.into(),
        files: Files::default(),
        asks: Asks::default(),
        work,
        label: "test@1.0.0".into(),
    }
}

pub async fn run(rig: &Rig, package: Package, params: &str, input: impl Into<Bytes>) -> Result<Output, Refusal> {
    rig.run(&Arc::new(package), Op::Whole, params, input).await
}

/// A program of `tests/guests` in C; none where there is no compiler for it (`scripts/setup test` installs one).
fn c(name: &str, work: Work) -> Option<Package> {
    let mut clang = Command::new("clang");
    clang.args(["--target=wasm32-wasi", "-O1"]);
    built(clang, &format!("{name}.c")).map(|bytes| module(bytes, work))
}

/// A program in Rust, by the compiler of the system's packages; none where that has no WASI.
fn rust(name: &str) -> Option<Package> {
    if !Path::new("/usr/lib/rustlib/wasm32-wasi").exists() {
        eprintln!("SKIPPED: {name}.rs is not tried: it needs Debian's rustc and libstd-rust-dev-wasm32");
        return None;
    }
    let mut rustc = Command::new("/usr/bin/rustc");
    rustc.args(["--target", "wasm32-wasi", "-C", "opt-level=1", "-C", "strip=symbols"]);
    built(rustc, &format!("{name}.rs")).map(|bytes| module(bytes, Work::Whole))
}

fn built(mut compiler: Command, source: &str) -> Option<Vec<u8>> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let guests = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/guests");
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let built = std::env::temp_dir().join(format!("msm-guest-{}-{number}.wasm", std::process::id()));
    let Ok(status) = compiler.arg("-o").arg(&built).arg(guests.join(source)).status() else {
        eprintln!("SKIPPED: {source} is not tried: its compiler is not installed");
        return None;
    };
    assert!(status.success(), "{source} does not compile: is its library there? try: scripts/setup test");
    let bytes = std::fs::read(&built).unwrap();
    std::fs::remove_file(&built).unwrap();
    Some(bytes)
}

fn text(output: &Output) -> &str {
    std::str::from_utf8(&output.bytes).unwrap()
}

/// Copies its input to its output, 64 KiB at a time.
pub const ECHO: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (func (export "_start")
        (loop $more
            (i32.store (i32.const 0) (i32.const 65536))
            (i32.store (i32.const 4) (i32.const 65536))
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (i32.store (i32.const 4) (i32.load (i32.const 8)))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
            (br_if $more (i32.load (i32.const 8))))))"#;

/// Writes for ever.
const FLOOD: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (i32.store (i32.const 4) (i32.const 1000))
        (loop $more (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br $more))))"#;

#[tokio::test]
async fn bytes_go_in_and_out() {
    let rig = Rig::new();
    let echo = Arc::new(module(ECHO, Work::Whole));
    for length in [0, 1, 65_535, 65_536, 65_537, 5_000_000] {
        let input: Bytes = (0..length).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let output = rig.run(&echo, Op::Whole, "{}", input.clone()).await.unwrap();
        assert!(output.bytes == input, "{length} bytes");
    }
}

#[tokio::test]
async fn a_real_c_program_finds_what_its_library_needs() {
    let rig = Rig::new();
    let Some(mut package) = c("libc", Work::Bytes { size: 5 }) else { return };
    let assets = [("words.txt", "one\ntwo\n"), ("deep/a", "1"), ("deep/er/b", "2")];
    package.files.assets = assets.map(|(path, text)| (path.to_owned(), Bytes::from(text))).into();
    let package = Arc::new(package);
    let part = Op::Part { index: 2, count: 7 };
    let output = rig.run(&package, part, r#"{"radius":3,"a-b":"x y"}"#, "input").await.unwrap();
    let expected = "2 test@1.0.0 run\n\
        {\"radius\":3,\"a-b\":\"x y\"} 3 x y\n\
        chunk 2 of 7\n\
        5 input 1\n\
        1 1e+100 0.667\n\
        > one\n> two\n4 t\n\
        stat 0 8 1\n\
        entry .\nentry ..\nentry a\nentry er\n\
        /assets/none r: No such file or directory\n\
        /assets/words.txt w: Read-only file system\n\
        /assets/words.txt r+: Read-only file system\n\
        /assets/new a: Read-only file system\n\
        /assets/../etc/passwd r: Capabilities insufficient\n\
        /etc/passwd r: Capabilities insufficient\n\
        mkdir -1 unlink -1 seek -1 tty 0\n";
    let (made, chance) = text(&output).split_once("time ").unwrap();
    assert_eq!(made, expected);
    // Nothing tells two runs apart, on this device or another.
    assert_eq!(chance, "5 slept 5\nchance bb55d765\n");
    assert_eq!(output.log, "a line for the log\n");
    assert_eq!(rig.run(&package, part, r#"{"radius":3,"a-b":"x y"}"#, "input").await.unwrap().bytes, output.bytes);
}

#[tokio::test]
async fn a_real_rust_program_finds_what_its_library_needs() {
    let rig = Rig::new();
    let Some(mut package) = rust("std") else { return };
    package.files.assets = vec![("words.txt".into(), Bytes::from("one\ntwo\n"))];
    let output = run(&rig, package, r#"{"radius":3}"#, "b a c a").await.unwrap();
    let expected = "[\"test@1.0.0\", \"run\"] 3\na 2\nb 1\nc 1\none\ntwo\n[\"words.txt\"]\n\
        true true true\nslept 5s\n";
    assert_eq!(text(&output), expected);
    assert_eq!(output.log, "a line for the log\n");
}

#[tokio::test]
async fn real_time_and_chance_are_there_for_those_who_ask() {
    let mut rig = Rig::new();
    let source = r#"(module
        (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\10\00\00\00\18\00\00\00")
        (func (export "_start")
            (drop (call $time (i32.const 0) (i64.const 0) (i32.const 16)))
            (drop (call $random (i32.const 24) (i32.const 16)))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;
    let asking = |asks: Asks| {
        let plain = module(source, Work::Whole);
        Package { hash: ContentHash::of(format!("{asks:?}").as_bytes()), asks, ..plain }
    };
    let values = async |rig: &Rig, asks| {
        let bytes = run(rig, asking(asks), "{}", "").await.unwrap().bytes;
        let (time, chance) = bytes.split_first_chunk::<8>().unwrap();
        (u64::from_le_bytes(*time), chance.to_vec())
    };
    let none = values(&rig, Asks::default()).await;
    assert_eq!(none.0, 0);
    assert_eq!(values(&rig, Asks::default()).await, none);
    let real = Asks { clock: true, random: true, ..Asks::default() };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let first = values(&rig, real).await;
    assert!(first.0.abs_diff(now) < 60_000_000_000, "{} {now}", first.0);
    assert_ne!(first.1, none.1);
    // In the same child and in another one.
    assert_ne!(values(&rig, real).await.1, first.1);
    rig.client = crate::rig::peer(9);
    assert_ne!(values(&rig, real).await.1, first.1);
}

#[tokio::test]
async fn the_parts_of_every_kind_of_work_put_together_are_the_whole() {
    let rig = Rig::new();
    let lines: String = (0..257).map(|i| format!("{}line {i}\n", "x".repeat(i % 13))).collect();
    let json: String = serde_json::to_string_pretty(&(0..101).map(|i| (i, "a,]")).collect::<Vec<_>>()).unwrap();
    let table = [
        (Work::Whole, r#"{"do":"flip"}"#, Bytes::from(lines.clone())),
        (Work::Bytes { size: 97 }, r#"{"do":"flip"}"#, Bytes::from(lines.clone())),
        (Work::Lines { n: 4 }, r#"{"do":"flip"}"#, Bytes::from(lines.clone())),
        (Work::JsonArray, r#"{"do":"same"}"#, Bytes::from(json)),
        (Work::ImageRows { halo: 2 }, r#"{"do":"sum","halo":2}"#, png(13, 37)),
        (Work::Service, r#"{"do":"flip"}"#, Bytes::from(lines)),
    ];
    for (work, params, input) in table {
        let Some(package) = c("work", work) else { return };
        let package = Arc::new(package);
        let whole = rig.run(&package, Op::Whole, params, input.clone()).await.unwrap().bytes;
        assert!(!whole.is_empty());
        for want in [1, 2, 7, 16] {
            let (merged, count) = in_parts(&rig, &package, want, params, input.clone()).await.unwrap();
            assert!(merged == whole, "{work:?} in {count} parts differs from the whole");
            assert!(count == want as usize || work == Work::Whole, "{work:?}: {count} parts, {want} wanted");
        }
    }
    // The same as JavaScript's, byte for byte: a job may mix the two.
    let sum = "export function run(rows, ctx) {
        const {width, height, top, bottom} = ctx.tile, stride = width * 4, h = ctx.params.halo;
        const out = new Uint8Array((height - top - bottom) * stride);
        for (let y = top; y < height - bottom; y++) for (let i = 0; i < stride; i++) {
            let sum = 0;
            for (let d = -h; d <= h; d++) sum += rows[Math.min(Math.max(y + d, 0), height - 1) * stride + i];
            out[(y - top) * stride + i] = sum;
        }
        return out; }";
    let work = Work::ImageRows { halo: 2 };
    let Some(wasm) = c("work", work) else { return };
    let (wasm, js) = (Arc::new(wasm), crate::rig::package(sum, work, false));
    let params = r#"{"do":"sum","halo":2}"#;
    let split = rig.run(&js, Op::Split(Aim::even(3, 1 << 30)), params, png(13, 37)).await.unwrap();
    for (index, tile) in frames(&split.bytes).into_iter().enumerate() {
        let op = Op::Part { index: index as u32, count: 3 };
        let both = [&js, &wasm].map(|package| rig.run(package, op, params, tile.clone()));
        let [js, wasm] = both;
        assert_eq!(js.await.unwrap().bytes, wasm.await.unwrap().bytes);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_guests_answer_is_told() {
    let rig = Rig::new();
    let split = Op::Split(Aim::even(2, 1 << 20));
    let rows = Work::ImageRows { halo: 0 };
    // Gives nothing, or back what it got.
    let nothing = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;
    let table = [
        (FLOOD, rows, Op::Whole, "gave more bytes than there are for 7 rows of 4 pixels"),
        (nothing, rows, Op::Whole, "gave 0 bytes for 7 rows of 4 pixels"),
        (nothing, Work::JsonArray, Op::Whole, "must write a JSON array"),
        (nothing, Work::Service, split, "split gave no parts"),
        (ECHO, Work::Service, split, "split must write frames"),
    ];
    for (source, work, op, part) in table {
        let refusal = rig.run(&Arc::new(module(source, work)), op, "{}", png(4, 7)).await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::ServiceFailed, "{work:?}: {refusal}");
        assert!(refusal.reason.contains(part), "{work:?}: {refusal}");
    }
    assert!(rig.run(&Arc::new(module(ECHO, rows)), Op::Whole, "{}", png(4, 7)).await.is_ok());
}

#[tokio::test]
async fn a_failing_program_is_told_how_and_where() {
    let mut rig = Rig::new();
    let Some(package) = c("faults", Work::Whole) else { return };
    let package = Arc::new(package);
    let table: [(&str, RefusalCode, &[&str]); 10] = [
        ("exit", RefusalCode::ServiceFailed, &["exited with code 3", "about to exit"]),
        ("abort", RefusalCode::ServiceFailed, &["gave up", "in abort", "about to abort"]),
        ("assert", RefusalCode::ServiceFailed, &["gave up", "Assertion failed: zero"]),
        ("divide", RefusalCode::ServiceFailed, &["divided by zero"]),
        ("wild", RefusalCode::ServiceFailed, &["reached outside its memory in wild"]),
        ("recurse", RefusalCode::ServiceFailed, &["in deeper"]),
        ("loop", RefusalCode::Deadline, &["past its deadline of 400 ms"]),
        ("eat", RefusalCode::OutOfMemory, &["memory limit of 16777216 bytes"]),
        ("eat-and-say", RefusalCode::OutOfMemory, &["memory limit of 16777216 bytes"]),
        ("nothing", RefusalCode::ServiceFailed, &[]),
    ];
    rig.budget.memory = 16 << 20;
    for (how, code, parts) in table {
        rig.budget.time = std::time::Duration::from_millis(if how == "loop" { 400 } else { 20_000 });
        let result = rig.run(&package, Op::Whole, &format!("{{\"how\":\"{how}\"}}"), "").await;
        if how == "nothing" {
            assert_eq!(result.unwrap().log, "about to nothing\n");
            continue;
        }
        let refusal = result.unwrap_err();
        assert_eq!(refusal.code, code, "{how}: {refusal}");
        assert!(parts.iter().all(|part| refusal.reason.contains(part)), "{how}: {refusal}");
    }
    // A program that can do without is not failed for having asked.
    let alive = rig.run(&package, Op::Whole, r#"{"how":"eat-and-live"}"#, "").await.unwrap();
    assert_eq!(text(&alive), "alive\n");
}

#[tokio::test]
async fn every_memory_limit_holds_and_what_is_promised_is_given() {
    let mut rig = Rig::new();
    // Grows by the pages that the input counts, and writes to the last one.
    let source = r#"(module
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\10\00\00\00\04\00\00\00")
        (func (export "_start") (local $pages i32)
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (local.set $pages (i32.load (i32.const 16)))
            (if (i32.eq (memory.grow (local.get $pages)) (i32.const -1)) (then (call $exit (i32.const 1))))
            (i32.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)) (i32.const 1))))"#;
    let package = Arc::new(module(source, Work::Whole));
    for memory in [1u64 << 16, 1 << 20, 16 << 20, 64 << 20, 256 << 20] {
        rig.budget.memory = memory;
        let pages = (memory >> 16) as u32 - 1;
        rig.run(&package, Op::Whole, "{}", pages.to_le_bytes().to_vec()).await.unwrap();
        let refusal = rig.run(&package, Op::Whole, "{}", (pages + 1).to_le_bytes().to_vec()).await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::OutOfMemory, "{memory}: {refusal}");
    }
    rig.budget.memory = 1000;
    let refusal = rig.run(&package, Op::Whole, "{}", "").await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::BadPackage);
    assert!(refusal.reason.contains("begins with 65536 bytes, the limit is 1000"), "{refusal}");
}

#[tokio::test]
async fn numbers_are_the_same_on_every_device() {
    let rig = Rig::new();
    // What 0/0, a product of infinity and 0, and a relaxed operation give differs between processors.
    let source = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\10\00\00\00\20\00\00\00")
        (func $nan (param f64 f64) (result f64) (f64.div (local.get 0) (local.get 1)))
        (func $product (param f32 f32) (result f32) (f32.mul (local.get 0) (local.get 1)))
        (func $relaxed (param v128 v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 1)))
        (func (export "_start")
            (f64.store (i32.const 16) (call $nan (f64.const -0) (f64.const 0)))
            (f32.store (i32.const 24) (call $product (f32.const -inf) (f32.const 0)))
            (v128.store (i32.const 32) (call $relaxed (v128.const i32x4 1 2 3 4)
                (v128.const i8x16 0 16 127 128 255 4 8 12 31 32 1 2 3 5 6 7)))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;
    let bytes = run(&rig, module(source, Work::Whole), "{}", "").await.unwrap().bytes;
    assert_eq!(bytes[..8], 0x7ff8_0000_0000_0000u64.to_le_bytes());
    assert_eq!(bytes[8..12], 0x7fc0_0000u32.to_le_bytes());
    assert_eq!(bytes[16..], [1, 0, 0, 0, 0, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// Answers `gps.position`, is slow or large or unwilling on demand.
struct Device;

impl Resources for Device {
    fn answer(&self, ask: Ask) -> Answering {
        let fails = |kind, text: &str| Err(AskError::new(kind, text));
        let answer = match (&*ask.op, &*ask.body) {
            ("gps.position", b"no") => fails(AskErrorKind::Denied, "not for you"),
            ("gps.position", b"broken") => fails(AskErrorKind::Failed, "no fix"),
            ("gps.position", body) => {
                let json = format!("{{\n\"asked\":{}}}", String::from_utf8_lossy(body));
                Ok(Answer { json, bytes: Bytes::new() })
            }
            ("net.fetch", _) => Ok(Answer { json: "{}".into(), bytes: vec![7; 100_000].into() }),
            (op, _) => fails(AskErrorKind::Usage, op),
        };
        Box::pin(async move {
            if &*ask.body == b"never" {
                std::future::pending::<()>().await;
            }
            answer
        })
    }
}

#[tokio::test]
async fn a_program_asks_its_device() {
    let mut rig = Rig::new();
    let Some(package) = c("asks", Work::Whole) else { return };
    let asks = Asks { gps: true, net: true, image: true, ..Asks::default() };
    let package = Arc::new(Package { asks, ..package });
    let ask = async |rig: &Rig, lines: &str| {
        let mut call = rig.call(&package, Op::Whole, "{}", lines.to_owned());
        call.resources = Some(Arc::new(Device));
        rig.sandbox.call(call).await
    };
    let lines = "gps.position {\"maxAge\":1}\ngps.position no\ngps.position broken\ngps.position HUGE\n\
        net.fetch {}\ndevice.status {}\nimage.encode PICTURE\nimage.decode AGAIN\nimage.encode nothing\n\
        image.decode nothing\nprogress 0.5\nprogress half\nnothing.known {}\n";
    let output = ask(&rig, lines).await.unwrap();
    let expected = [
        "gps.position 24:{ \"asked\":{\"maxAge\":1}}",
        "gps.position -2:not for you",
        "gps.position -29:no fix",
        "gps.position -1:a question of 100000 bytes, the limit is 65536",
        "net.fetch 100003:{} + 100000",
        "device.status -2:device.status is not permitted: add `device = true` under [permissions]",
    ];
    let got: Vec<&str> = text(&output).lines().collect();
    assert_eq!(got[..6], expected);
    assert!(got[6].starts_with("image.encode ") && got[6].contains(":{} + "), "{}", got[6]);
    assert_eq!(got[7], "image.decode 47:{\"width\":2,\"height\":3} + 24");
    assert_eq!(got[8], "image.encode -28:no line of JSON before the pixels");
    assert!(got[9].starts_with("image.decode -29:not a readable PNG or JPEG"), "{}", got[9]);
    assert_eq!(
        got[10..13],
        ["progress 3:{}", "progress -28:progress takes a number from 0 to 1", "nothing.known -52:"]
    );
    assert_eq!(got[13], "take before call 0");

    // A warm child goes on asking, an answer that never comes costs the call only, and the number of calls is bounded.
    assert!(text(&ask(&rig, "gps.position 1\n").await.unwrap()).starts_with("gps.position 13:"));
    let generous = rig.budget.time;
    rig.budget.time = std::time::Duration::from_millis(200);
    let refusal = ask(&rig, "gps.position never\n").await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Deadline);
    assert!(refusal.reason.contains("while it waited"), "{refusal}");
    rig.budget.time = generous;
    let output = ask(&rig, &"progress 1\n".repeat(1001)).await.unwrap();
    assert!(text(&output).contains("progress -1:more than 1000 calls"), "{}", text(&output).len());
}

#[tokio::test]
async fn a_module_is_prepared_before_its_first_call() {
    let rig = Rig::new();
    rig.sandbox.prepare(&module(ECHO, Work::Whole)).await.unwrap();
    let refusal = rig.sandbox.prepare(&module(b"\0asm\x02\0\0\0", Work::Whole)).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::BadPackage);
    rig.sandbox.prepare(&crate::rig::package("export const run = 1", Work::Whole, false)).await.unwrap();
    let huge = module(vec![0; (4 << 20) + 1], Work::Whole);
    let refusal = rig.sandbox.prepare(&huge).await.unwrap_err();
    assert!(refusal.reason.contains("of 4194305 bytes, the limit is 4194304"), "{refusal}");
}

/// A folder that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("msm-sandbox-cache-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn inode(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).unwrap().ino()
}

#[tokio::test]
async fn compiled_code_outlives_the_node_and_is_believed_only_when_it_is_whole() {
    let scratch = Scratch::new();
    let cached = || Rig::with(SandboxConfig { cache: Some(scratch.0.clone()), ..config() });
    let works = async |rig: &Rig| {
        let output = run(rig, module(ECHO, Work::Whole), "{}", "through").await.unwrap();
        assert_eq!(output.bytes, "through");
    };
    works(&cached()).await;
    let [file] = scratch.files().try_into().unwrap();
    let (written, whole) = (inode(&file), std::fs::read(&file).unwrap());
    works(&cached()).await;
    assert_eq!(inode(&file), written, "a second node reads what the first one wrote");

    for at in [0, 40, whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&file, &damaged).unwrap();
        works(&cached()).await;
        assert_eq!(std::fs::read(&file).unwrap().len(), whole.len(), "compiled again");
        assert_ne!(std::fs::read(&file).unwrap(), damaged, "byte {at}: the damaged file is gone");
    }

    // Sound code under another module's name is not taken for it: this one would give nothing.
    let silent = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;
    assert!(run(&cached(), module(silent, Work::Whole), "{}", "x").await.unwrap().bytes.is_empty());
    let other = scratch.files().into_iter().find(|path| *path != file).unwrap();
    std::fs::copy(&other, &file).unwrap();
    works(&cached()).await;

    // A folder that is a link, or no folder, is done without.
    let link = scratch.0.join("link");
    std::os::unix::fs::symlink("/tmp", &link).unwrap();
    for cache in [link, file.clone()] {
        works(&Rig::with(SandboxConfig { cache: Some(cache), ..config() })).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn one_module_is_compiled_once_for_all_who_wait() {
    use crate::rig::{children_of, until};
    // CPU time that a sandbox's children need to answer so many callers who all come at once.
    let cost = async |clients: u8| {
        let before = children_cpu();
        let rig = Rig::new();
        // Some tenths of a second to compile, and nothing to run.
        let function = format!("(func (param i64) (result i64) local.get 0 {})", "(i64.mul (local.get 0))".repeat(60));
        let fields = function.repeat(1_500);
        let source = format!("(module {fields} (memory (export \"memory\") 1) (func (export \"_start\")))");
        let package = Arc::new(module(source, Work::Whole));
        let mut calls = tokio::task::JoinSet::new();
        for client in 0..clients {
            let sandbox: Sandbox = rig.sandbox.clone();
            let mut call = rig.call(&package, Op::Whole, "{}", "");
            call.client = crate::rig::peer(client);
            calls.spawn(async move { sandbox.call(call).await });
        }
        while let Some(done) = calls.join_next().await {
            assert!(done.unwrap().unwrap().bytes.is_empty());
        }
        drop(rig);
        until("every child is reaped", || children_of(std::process::id()).is_empty()).await;
        children_cpu() - before
    };
    let (one, eight) = (cost(1).await, cost(8).await);
    assert!(eight < one * 3, "one caller costs {one:?}, eight cost {eight:?}");
}

/// CPU time of the children that this process has reaped.
#[cfg(target_os = "linux")]
fn children_cpu() -> std::time::Duration {
    // SAFETY: an all-zero rusage is valid, and the call gets a pointer to it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage), 0);
        usage
    };
    let of = |time: libc::timeval| std::time::Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    of(usage.ru_utime) + of(usage.ru_stime)
}
