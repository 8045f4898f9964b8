//! What an honest guest can count on, and what it is told when it errs.

use bytes::Bytes;
use msm_protocol::RefusalCode;
use msm_sandbox::{Op, Work};

use crate::rig::{Rig, package};

#[tokio::test]
async fn every_kind_of_value_becomes_bytes() {
    let rig = Rig::new();
    let table = [
        ("return input;", "input"),
        ("return new Uint8Array(0);", ""),
        ("return new Uint8Array([104, 105]);", "hi"),
        ("return new Uint8ClampedArray([104, 105]);", "hi"),
        ("return new Uint8Array([1, 104, 105, 2]).subarray(1, 3);", "hi"),
        ("return new Uint8Array([104, 105]).buffer;", "hi"),
        ("return 'grün 🌲';", "grün 🌲"),
        ("return 'lone \\ud800 half';", "lone \u{fffd} half"),
        ("return {a: [1, null, 'x']};", r#"{"a":[1,null,"x"]}"#),
        ("return 1.5;", "1.5"),
        ("return null;", "null"),
        ("await null; return await Promise.resolve('later');", "later"),
        ("input.reverse(); return input;", "tupni"),
    ];
    for (body, expected) in table {
        assert_eq!(rig.body(body).await.as_deref(), Ok(expected), "{body}");
    }
    assert_eq!(rig.text("export const run = () => 'arrow'").await.as_deref(), Ok("arrow"));
    assert_eq!(rig.text("await null; const x = 4; export function run() { return x; }").await.as_deref(), Ok("4"));
}

#[tokio::test]
async fn ctx_says_what_is_to_be_done() {
    let rig = Rig::new();
    let source =
        "export function run(input, ctx) { return [ctx.params, ctx.chunk, Object.isFrozen(ctx.params.list)]; }";
    let package = package(source, Work::Bytes { size: 1 }, false);
    let params = r#"{"radius":3,"list":[1]}"#;
    let output = rig.run(&package, Op::Part { index: 2, count: 5 }, params, "x").await.unwrap();
    assert_eq!(&output.bytes[..], br#"[{"radius":3,"list":[1]},{"index":2,"count":5},true]"#);
    assert!(rig.body("ctx.params.x = 1;").await.unwrap_err().reason.starts_with("TypeError"));
}

#[tokio::test]
async fn nothing_tells_two_runs_apart() {
    let rig = Rig::new();
    let body = "const d = new Date(); globalThis.seen = (globalThis.seen ?? 0) + 1;
        return [Date.now(), +d, Date(), d.toLocaleString(), d.getTimezoneOffset(), d instanceof Date, Date.name,
            d.constructor === Date, +new Date(5), Date.UTC(1970, 0, 2), Math.random(), Math.random(), seen,
            typeof performance, typeof WeakRef, typeof FinalizationRegistry, new (class extends Date {})().getTime()];";
    let first = rig.body(body).await.unwrap();
    let values: Vec<serde_json::Value> = serde_json::from_str(&first).unwrap();
    let expected = serde_json::json!([0, 0]);
    assert_eq!(values[..2], expected.as_array().unwrap()[..]);
    assert!(values[2].as_str().unwrap().contains("1970"), "{first}");
    assert_eq!(values[4..10], serde_json::json!([0, true, "Date", true, 5, 86_400_000]).as_array().unwrap()[..]);
    let random = |at: usize| values[at].as_f64().unwrap();
    assert!(random(10) != random(11) && (0.0..1.0).contains(&random(10)));
    assert_eq!(values[12..], serde_json::json!([1, "undefined", "undefined", "undefined", 0]).as_array().unwrap()[..]);
    // The same child, the same package: globals of the first run are gone.
    assert_eq!(rig.body(body).await.unwrap(), first);
}

#[tokio::test]
async fn text_goes_both_ways() {
    let rig = Rig::new();
    let table = [
        ("return new TextDecoder().decode(input);", "input"),
        ("return new TextEncoder().encode('grün\\ud800');", "grün\u{fffd}"),
        ("return new TextDecoder().decode(new Uint8Array([0xef, 0xbb, 0xbf, 97]));", "a"),
        (
            "return new TextDecoder('utf8', {ignoreBOM: true}).decode(new Uint8Array([0xef, 0xbb, 0xbf, 97]));",
            "\u{feff}a",
        ),
        ("return new TextDecoder().decode(new Uint8Array([97, 0xff]));", "a\u{fffd}"),
        (
            "try { new TextDecoder('utf-8', {fatal: true}).decode(new Uint8Array([0xff])); } catch (e) { return e.name; }",
            "TypeError",
        ),
        ("try { new TextDecoder('latin1'); } catch (e) { return e.name; }", "RangeError"),
        ("return atob(btoa('abc'));", "abc"),
    ];
    for (body, expected) in table {
        assert_eq!(rig.body(body).await.as_deref(), Ok(expected), "{body}");
    }
}

#[tokio::test]
async fn the_log_comes_back_with_the_output() {
    let rig = Rig::new();
    let source = "export function run(input, ctx) {
        console.log('a', 1, {b: [2]}, undefined, null, Symbol('s'), () => 1);
        ctx.log.warn('careful', new Uint8Array([1, 2]), new ArrayBuffer(20)); ctx.log.error(new TypeError('bad')); ctx.progress(0.5); return ''; }";
    let output = rig.run(&package(source, Work::Whole, false), Op::Whole, "{}", "").await.unwrap();
    let lines: Vec<&str> = output.log.lines().collect();
    assert!(lines[0].starts_with(r#"a 1 {"b":[2]} undefined null"#), "{}", output.log);
    assert_eq!(lines[1], "warn: careful 2 bytes [1, 2] 20 bytes [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] …");
    assert_eq!(lines[2], "error: TypeError: bad");
    assert!(lines[3].contains("test@1.0.0:3"), "{}", output.log);
}

#[tokio::test]
async fn a_failing_service_is_told_where() {
    let rig = Rig::new();
    let table = [
        ("export function run() {\n  nothing();\n}", &["ReferenceError", "nothing", "test@1.0.0:2"][..]),
        ("export function run() { throw new Error('why not'); }", &["Error: why not", "test@1.0.0:1"]),
        ("export async function run() { await null; null.x; }", &["TypeError", "test@1.0.0:1"]),
        ("export function run() { throw 'words'; }", &["threw", "words"]),
        ("export function run() {", &["SyntaxError", "test@1.0.0:1"]),
        ("export function ran() {}", &["does not export `run`"]),
        ("export const run = 5", &["does not export `run`"]),
        ("throw new Error('at load')", &["at load"]),
        ("export function run() {}", &["gave nothing"]),
        ("export function run() { return new Int16Array(2); }", &["larger numbers"]),
        ("export function run() { return () => 1; }", &["gave nothing"]),
        ("export function run() { return new Promise(() => {}); }", &["nothing will settle"]),
        ("import {x} from 'left-pad'; export function run() {}", &["left-pad", "the main module", "bundle it first"]),
        ("export async function run() { await import('fs'); }", &["fs", "bundle it first"]),
        (
            "export function run(i, ctx) { ctx.image.decode(i); }",
            &["PermissionError", "`image = true` under [permissions]"],
        ),
    ];
    for (source, parts) in table {
        let refusal = rig.text(source).await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::ServiceFailed, "{source}: {refusal}");
        assert!(parts.iter().all(|part| refusal.reason.contains(part)), "{source}: {refusal}");
    }
    rig.works().await;
}

#[tokio::test]
async fn b39_compiled_code_is_no_package() {
    let rig = Rig::new();
    let mut compiled = vec![0x18, 0x02, 0x0a];
    compiled.extend(b"export function run() { return 1; }");
    for source in [&compiled[..], b"", b"\0", b"caf\xe9", b"\x7fELF", b"\0asm", b"export const run = 1;\0"] {
        let refusal = rig.run(&package(source, Work::Whole, false), Op::Whole, "{}", "").await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::BadPackage, "{source:?}: {refusal}");
    }
    let refusal = rig.text(&format!("//{}", "x".repeat(1 << 20))).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::BadPackage, "{refusal}");
    rig.works().await;
}

#[tokio::test]
async fn pictures_go_through_ctx_image() {
    let rig = Rig::new();
    let source = "export function run(input, ctx) {
        const data = new Uint8Array(2 * 3 * 4).map((_, i) => i);
        const png = ctx.image.encode({width: 2, height: 3, data}, {type: 'image/png'});
        const back = ctx.image.decode(png);
        return [back.width, back.height, [...back.data].every((v, i) => v === i), png[1]]; }";
    let image = |source: &str| package(source, Work::Whole, true);
    let output = rig.run(&image(source), Op::Whole, "{}", "").await.unwrap();
    assert_eq!(&output.bytes[..], b"[2,3,true,80]");

    let table = [
        ("ctx.image.decode(input)", "not a readable PNG or JPEG"),
        ("ctx.image.decode('text')", "expected a Uint8Array"),
        ("ctx.image.encode({width: 2, height: 2, data: input})", "4 bytes each"),
        ("ctx.image.encode({width: 0, height: 2, data: input})", "0x2 pixels"),
        ("ctx.image.encode({width: NaN, height: 2, data: input})", "NaNx2 pixels"),
        ("ctx.image.encode({width: 65536, height: 65536, data: input})", "4 bytes each"),
        ("ctx.image.encode({width: 1, height: 1, data: input}, {type: 'image/gif'})", "not image/gif"),
        (
            "const b = new ArrayBuffer(4); const d = new Uint8Array(b); b.transfer(); ctx.image.decode(d)",
            "expected a Uint8Array",
        ),
        (
            "for (;;) try { ctx.image.decode(input) } catch (e) { if (e instanceof RangeError) throw e }",
            "more than 1000 calls",
        ),
    ];
    for (code, part) in table {
        let package = image(&format!("export function run(input, ctx) {{ {code} }}"));
        let refusal = rig.run(&package, Op::Whole, "{}", "xyz").await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::ServiceFailed, "{code}: {refusal}");
        assert!(refusal.reason.contains(part), "{code}: {refusal}");
    }
}

#[tokio::test]
async fn pictures_are_held_to_the_memory_limit_until_they_are_dropped() {
    let mut rig = Rig::new();
    rig.budget.memory = 8 << 20;
    // 1 MiB each: eight fit, a hundred do when each is dropped.
    let source = |keep: bool| {
        format!(
            "export function run(input, ctx) {{
                const png = ctx.image.encode({{width: 512, height: 512, data: input}});
                const kept = []; for (let i = 0; i < 100; i++) {{ const p = ctx.image.decode(png); if ({keep}) kept.push(p); }}
                return 'done'; }}"
        )
    };
    let pixels = Bytes::from(vec![9; 512 * 512 * 4]);
    let run = |keep| {
        let package = package(source(keep), Work::Whole, true);
        let (rig, pixels) = (&rig, pixels.clone());
        async move { rig.run(&package, Op::Whole, "{}", pixels).await }
    };
    assert_eq!(&run(false).await.unwrap().bytes[..], b"done");
    assert_eq!(run(true).await.unwrap_err().code, RefusalCode::OutOfMemory);
}

#[tokio::test]
async fn inputs_of_48_mib_go_in_and_out() {
    let rig = Rig::new();
    let input = Bytes::from((0..48usize << 20).map(|i| (i >> 7) as u8).collect::<Vec<_>>());
    let echo = package("export function run(input) { return input; }", Work::Whole, false);
    let output = rig.run(&echo, Op::Whole, "{}", input.clone()).await.unwrap();
    assert!(output.bytes == input, "48 MiB come back as they went");
    assert!(output.wall >= output.cpu / 2, "times are real: {:?} of {:?}", output.cpu, output.wall);
}
