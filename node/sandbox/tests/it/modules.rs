//! Packages of several modules: what an import finds, and where errors say they are.

use std::sync::Arc;

use bytes::Bytes;
use msm_protocol::{ContentHash, RefusalCode};
use msm_sandbox::{Asks, Engine, Files, Op, Package, Work};

use crate::rig::Rig;

/// A main module, the others by their paths, and what is expected of them.
type Case<Expected> = (&'static str, &'static [(&'static str, &'static str)], Expected);

/// A package of a main module and others.
pub fn package_of(main: &str, modules: &[(&str, &str)]) -> Arc<Package> {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let modules: Vec<_> = modules.iter().map(|(path, text)| ((*path).to_owned(), bytes(text))).collect();
    Arc::new(Package {
        hash: ContentHash::of(format!("{main}{modules:?}").as_bytes()),
        engine: Engine::Js,
        source: bytes(main),
        files: Files { modules, assets: vec![] },
        asks: Asks::default(),
        work: Work::Whole,
        label: "test@1.0.0".into(),
    })
}

async fn text(rig: &Rig, package: &Arc<Package>) -> Result<String, msm_protocol::Refusal> {
    let output = rig.run(package, Op::Whole, "{}", "").await?;
    Ok(String::from_utf8(output.bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn modules_of_the_package_are_imported() {
    let rig = Rig::new();
    let table: [Case<&str>; 5] = [
        (
            "import {two} from './lib/a.js'; export const run = () => `${two}`;",
            &[
                ("lib/a.js", "import one from './b/one.mjs'; export const two = one + 1;"),
                ("lib/b/one.mjs", "export default 1;"),
            ],
            "2",
        ),
        (
            "export async function run() { const {x} = await import('./x.js'); return x; }",
            &[("x.js", "await null; export const x = 'late';")],
            "late",
        ),
        // Both import each other; a third is evaluated once for all.
        (
            "import {a} from './a.js'; import {b} from './b.js'; import {count} from './count.js';
             export const run = () => [a(), b(), count.n];",
            &[
                (
                    "a.js",
                    "import {b} from './b.js'; import {count} from './count.js'; count.n++; export const a = () => 'a' + b();",
                ),
                (
                    "b.js",
                    "import {a} from './a.js'; import {count} from './count.js'; count.n++; export const b = () => typeof a;",
                ),
                ("count.js", "export const count = {n: 0};"),
            ],
            r#"["afunction","function",2]"#,
        ),
        (
            "export * from './all.js'; export function run() { return 'own'; }",
            &[("all.js", "export const run = () => 'other'; export const split = 1;")],
            "own",
        ),
        (
            "export {run} from './all.js';",
            &[("all.js", "export const run = async (input, ctx) => Object.keys(await import('./all.js')).join();")],
            "run",
        ),
    ];
    for (main, modules, expected) in table {
        let package = package_of(main, modules);
        // Three times: compiled, then from the compiled code.
        for round in 0..3 {
            assert_eq!(text(&rig, &package).await.as_deref(), Ok(expected), "{main}, round {round}");
        }
    }
}

#[tokio::test]
async fn imports_of_anything_else_are_refused_with_a_hint() {
    let rig = Rig::new();
    let table: [Case<&[&str]>; 9] = [
        (
            "import './no.js'; export const run = 1;",
            &[],
            &["'./no.js' for the main module", "no.js is not in the package"],
        ),
        ("import './a'; export const run = 1;", &[("a.js", "")], &["but a.js is"]),
        ("import '../a.js'; export const run = 1;", &[("a.js", "")], &["outside the main module's folder"]),
        (
            "import './lib/a.js'; export const run = 1;",
            &[("lib/a.js", "import '../../x.js'")],
            &["for lib/a.js", "outside"],
        ),
        ("import '/etc/passwd'; export const run = 1;", &[], &["begins with ./"]),
        ("import 'node:fs'; export const run = 1;", &[], &["own package"]),
        ("import 'msm'; export const run = 1;", &[], &["bundle it first"]),
        ("import x from './a.js' with {type: 'json'}; export const run = 1;", &[("a.js", "1")], &["attributes"]),
        ("export async function run() { await import('./' + 'no.js'); }", &[], &["ReferenceError", "no.js is not in"]),
    ];
    for (main, modules, parts) in table {
        let refusal = text(&rig, &package_of(main, modules)).await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::ServiceFailed, "{main}: {refusal}");
        assert!(parts.iter().all(|part| refusal.reason.contains(part)), "{main}: {refusal}");
    }
    // Whoever catches it goes on.
    let package = package_of("export const run = () => import('./no.js').catch((e) => e.name);", &[]);
    assert_eq!(text(&rig, &package).await.as_deref(), Ok("ReferenceError"));
}

#[tokio::test]
async fn errors_name_the_module_the_line_and_its_text() {
    let rig = Rig::new();
    let table: [Case<&str>; 6] = [
        (
            "import {f} from './lib/a.js';\nexport const run = () => f();",
            &[("lib/a.js", "// first\nexport function f() {\n  return nothing();\n}")],
            "ReferenceError: nothing is not defined at f (lib/a.js:3:10): return nothing();",
        ),
        (
            "import './lib/a.js';\nexport const run = () => f();",
            &[("lib/a.js", "let x = 1;\nlet y = {;\n")],
            " at lib/a.js:2:10: let y = {;",
        ),
        (
            "export async function run() {\n  await null;\n  throw new TypeError('so');\n}",
            &[],
            "TypeError: so at run (test@1.0.0:3:13): throw new TypeError('so');",
        ),
        (
            "export function run(input, ctx) {\n  return ctx.image.decode(input);\n}",
            &[],
            "under [permissions] in service.toml at run (test@1.0.0:2:27): return ctx.image.decode(input);",
        ),
        (
            "export async function run(input, ctx) {\n\n  const page = await fetch('http://example.org/');\n}",
            &[],
            "net.fetch is not permitted: add `net = [\"example.org\"]` under [permissions] in service.toml at run \
             (test@1.0.0:3:22): const page = await fetch('http://example.org/');",
        ),
        (
            "export async function run(input, ctx) { await new Promise(() => setTimeout(() => {\nnull.x }, 1)); }",
            &[],
            "(test@1.0.0:2:1): null.x }, 1)); }",
        ),
    ];
    for (main, modules, part) in table {
        let package = package_of(main, modules);
        for _ in 0..2 {
            let refusal = text(&rig, &package).await.unwrap_err();
            assert_eq!(refusal.code, RefusalCode::ServiceFailed, "{main}: {refusal}");
            assert!(refusal.reason.contains(part), "{main}: {refusal}");
        }
    }
}

#[tokio::test]
async fn a_package_may_have_as_many_modules_as_its_manifest_lists() {
    let rig = Rig::new();
    let last = msm_protocol::limits::FILES - 1;
    // Each imports the next: the deepest chain there is.
    let modules: Vec<(String, String)> = (0..=last)
        .map(|n| {
            let next = if n == last { String::new() } else { format!("import {{n as next}} from './m{}.js';", n + 1) };
            let value = if n == last { "1".to_owned() } else { "next + 1".to_owned() };
            (format!("m{n}.js"), format!("{next} export const n = {value};"))
        })
        .collect();
    let modules: Vec<(&str, &str)> = modules.iter().map(|(path, text)| (&**path, &**text)).collect();
    let package = package_of("import {n} from './m0.js'; export const run = () => n;", &modules);
    for _ in 0..2 {
        assert_eq!(text(&rig, &package).await, Ok(format!("{}", last + 1)));
    }
}
