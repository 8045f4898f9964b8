//! Globals that guests know from the web, and the package's own files.

use std::sync::Arc;

use bytes::Bytes;
use msm_protocol::ContentHash;
use msm_sandbox::{Asks, Files, Op, Package, Work};

use crate::rig::{Rig, package};

async fn all(rig: &Rig, table: &[(&str, &str)]) {
    for (body, expected) in table {
        assert_eq!(rig.body(body).await.as_deref(), Ok(*expected), "{body}");
    }
}

#[tokio::test]
async fn addresses_are_taken_apart_and_put_together() {
    let rig = Rig::new();
    let table = [
        (
            "const u = new URL('HTTP://u:p@Example.org:8080/a/../b%20c?q=1&r=ä#h');
             return [u.href, u.origin, u.protocol, u.username, u.password, u.host, u.hostname, u.port, u.pathname, u.search, u.hash];",
            r##"["http://u:p@example.org:8080/b%20c?q=1&r=%C3%A4#h","http://example.org:8080","http:","u","p","example.org:8080","example.org","8080","/b%20c","?q=1&r=%C3%A4","#h"]"##,
        ),
        ("return `${new URL('../x?y', 'http://e.org/a/b/c')}`", "http://e.org/a/x?y"),
        ("return JSON.stringify({u: new URL('http://0x7f.1/')})", r#"{"u":"http://127.0.0.1/"}"#),
        (
            "const u = new URL('http://e.org/'); u.pathname = 'a b'; u.search = 'x=1'; u.hash = 'h'; u.port = '81'; u.protocol = 'https';
             u.host = 'f.org:82'; u.username = 'me'; u.port = 'nonsense'; return u.href;",
            "https://me@f.org:82/a%20b?x=1#h",
        ),
        (
            "const u = new URL('http://e.org/?a=1'); u.searchParams.append('b', 'x y'); u.searchParams.delete('a');
             const s = u.href; u.search = '?c=3'; return [s, u.searchParams.get('c'), u.searchParams === u.searchParams];",
            r#"["http://e.org/?b=x+y","3",true]"#,
        ),
        ("return [URL.canParse('x'), URL.canParse('x', 'http://e.org'), URL.parse('::')]", "[false,true,null]"),
        ("const u = new URL('http://e.org'); try { u.href = '::' } catch (e) { return [e.name, u.href] }", r#"["TypeError","http://e.org/"]"#),
        ("'use strict'; try { new URL('http://e.org').origin = 'x' } catch (e) { return e.name }", "TypeError"),
        ("try { new URL('nothing') } catch (e) { return e.name }", "TypeError"),
        ("try { new URL('http://e.org/' + 'a'.repeat(2 ** 20)) } catch (e) { return e.name }", "RangeError"),
        (
            "const p = new URLSearchParams('?a=1&b=2&a=%20+'); p.set('b', 'ü&'); p.append('c', ''); p.sort();
             return [p.toString(), p.getAll('a'), p.get('z'), p.has('a', '1'), p.size, [...p.keys()].join('')];",
            r#"["a=1&a=++&b=%C3%BC%26&c=",["1","  "],null,true,4,"aabc"]"#,
        ),
        (
            "return [new URLSearchParams({a: 1}), new URLSearchParams([['b', 2]]), new URLSearchParams(new Map([['c', 3]]))].join('|')",
            "a=1|b=2|c=3",
        ),
        ("const seen = []; new URLSearchParams('a=1').forEach((v, k) => seen.push(k, v)); return seen", r#"["a","1"]"#),
    ];
    all(&rig, &table).await;
}

#[tokio::test]
async fn copies_are_deep_and_what_cannot_be_copied_says_so() {
    let rig = Rig::new();
    let table = [
        (
            "const a = {d: new Date(5), r: /x/gi, m: new Map([[{k: 1}, [1]]]), s: new Set(['x']), n: null, u: undefined, b: 3n, f: -0};
             a.self = a; a.m.set('me', a); const c = structuredClone(a);
             return [c !== a, c.self === c, c.m.get('me') === c, +c.d, c.r.source + c.r.flags, [...c.m.keys()][0].k, c.s.has('x'),
                c.n, 'u' in c, typeof c.b, Object.is(c.f, -0)];",
            r#"[true,true,true,5,"xgi",1,true,null,true,"bigint",true]"#,
        ),
        (
            "const b = new ArrayBuffer(8); const c = structuredClone({x: new Uint8Array(b, 2, 3), y: new Float64Array(b), z: new DataView(b, 1), b});
             c.x[0] = 9; return [c.x.length, c.x.byteOffset, c.y.length, c.z.getUint8(1), new Uint8Array(b)[2], c.x.buffer === c.b, c.x.constructor === Uint8Array];",
            "[3,2,1,9,0,true,true]",
        ),
        (
            "const sparse = [1, , 3]; sparse.x = 1; const c = structuredClone(sparse); return [c.length, 1 in c, c.x, Array.isArray(c)]",
            "[3,false,1,true]",
        ),
        (
            "const e = new RangeError('no', {cause: {x: [1]}}); const c = structuredClone(e);
             return [c instanceof RangeError, c.message, c.cause.x[0], c.stack === e.stack];",
            r#"[true,"no",1,true]"#,
        ),
        ("const c = structuredClone(new (class A { x = 1; get y() { return 2 } })()); return [c, c.constructor === Object]", r#"[{"x":1},true]"#),
        ("const c = structuredClone([Object(1), Object('s'), Object(true)]); return c.map((x) => typeof x + x)", r#"["object1","objects","objecttrue"]"#),
        ("const b = new ArrayBuffer(4); const c = structuredClone({v: new Uint8Array(b)}, {transfer: [b]}); return [b.byteLength, c.v.length]", "[0,4]"),
        ("const c = structuredClone(JSON.parse('{\"__proto__\": {\"x\": 1}}')); return [Object.keys(c), c.x === undefined]", r#"[["__proto__"],true]"#),
    ];
    all(&rig, &table).await;
    for value in [
        "() => 1",
        "Symbol('x')",
        "{a: [() => 1]}",
        "Promise.resolve()",
        "new WeakMap()",
        "new SharedArrayBuffer(1)",
        "[ctx.log.info]",
    ] {
        let body =
            format!("try {{ structuredClone({value}) }} catch (e) {{ return [e.name, e instanceof DOMException] }}");
        assert_eq!(rig.body(&body).await.as_deref(), Ok(r#"["DataCloneError",true]"#), "{value}");
    }
}

#[tokio::test]
async fn aborting_reaches_who_listens() {
    let rig = Rig::new();
    let table = [
        (
            "const c = new AbortController(), seen = []; c.signal.addEventListener('abort', (e) => seen.push(e.type, e.target === c.signal));
             c.signal.onabort = () => seen.push('on'); c.abort('why'); c.abort('again');
             return [seen, c.signal.aborted, c.signal.reason];",
            r#"[["on","abort",true],true,"why"]"#,
        ),
        ("const c = new AbortController(); c.abort(); try { c.signal.throwIfAborted() } catch (e) { return [e.name, e instanceof DOMException] }", r#"["AbortError",true]"#),
        (
            "const a = new AbortController(), b = new AbortController(), any = AbortSignal.any([a.signal, b.signal]);
             b.abort(7); return [any.aborted, any.reason, AbortSignal.any([b.signal]).aborted, a.signal.aborted];",
            "[true,7,true,false]",
        ),
        ("const s = AbortSignal.timeout(5); await new Promise((done) => s.onabort = done); return s.reason.name", "TimeoutError"),
        (
            "const c = new AbortController(), seen = []; const f = () => seen.push(1); c.signal.addEventListener('abort', f);
             c.signal.addEventListener('abort', f); c.signal.addEventListener('abort', () => { throw new Error('x') });
             c.signal.addEventListener('abort', {handleEvent() { seen.push(2) }}, {once: true}); c.abort(); return seen;",
            "[1,2]",
        ),
        ("const c = new AbortController(); const f = () => 1 / 0; c.signal.addEventListener('abort', f); c.signal.removeEventListener('abort', f); c.abort(); return 'ok'", "ok"),
        ("try { new AbortSignal() } catch (e) { return e.name }", "TypeError"),
    ];
    all(&rig, &table).await;
}

#[tokio::test]
async fn the_small_globals_do_what_they_do_elsewhere() {
    let rig = Rig::new();
    let table = [
        ("return [btoa('\\xff\\x00'), atob('/wA=').charCodeAt(0)]", r#"["/wA=",255]"#),
        ("try { btoa('ü€') } catch (e) { return e.name }", "InvalidCharacterError"),
        ("try { atob('***') } catch (e) { return e.name }", "InvalidCharacterError"),
        ("return await new Promise((done) => queueMicrotask(() => done('micro')))", "micro"),
        ("globalThis.URL = 5; return URL", "5"),
        ("const was = structuredClone; structuredClone = 1; return [typeof was, structuredClone]", r#"["function",1]"#),
    ];
    all(&rig, &table).await;
    let source =
        "export function run() { console.assert(true, 'no'); console.assert(1 > 2, 'one', 2); console.debug('d');
        console.table([{a: 1, b: 'x'}, {a: 22}]); console.table({k: 5}); console.table('plain'); return ''; }";
    let output = rig.run(&package(source, Work::Whole, false), Op::Whole, "{}", "").await.unwrap();
    let expected = "error: assertion failed one 2\nd\n   a   b\n0  1   x\n1  22\n   value\nk  5\nplain\n";
    assert_eq!(output.log, expected);
}

fn with(source: &str, asks: Asks, assets: &[(&str, &[u8])]) -> Arc<Package> {
    let bare = Arc::into_inner(package(source, Work::Whole, false)).unwrap();
    let assets = assets.iter().map(|(path, bytes)| ((*path).to_owned(), Bytes::copy_from_slice(bytes))).collect();
    let hash = ContentHash::of(format!("{source}{asks:?}{assets:?}").as_bytes());
    Arc::new(Package { hash, asks, files: Files { modules: vec![], assets }, ..bare })
}

#[tokio::test]
async fn a_permitted_clock_goes_and_permitted_chance_is_real() {
    let rig = Rig::new();
    let source = "export async function run(input, ctx) {
        const bytes = crypto.getRandomValues(new Uint32Array(4)); const uuid = crypto.randomUUID();
        const started = Date.now(); await new Promise((done) => setTimeout(done, 30));
        return [Date.now() - started, new Date().getTime(), Math.random(), [...bytes], uuid, Date()]; }";
    let package = with(source, Asks { clock: true, random: true, ..Asks::default() }, &[]);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let output = rig.run(&package, Op::Whole, "{}", "").await.unwrap();
        seen.push(serde_json::from_slice::<Vec<serde_json::Value>>(&output.bytes).unwrap());
    }
    assert!(seen[0][0].as_f64().unwrap() >= 29.0, "{seen:?}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as f64;
    assert!((seen[1][1].as_f64().unwrap() - now).abs() < 60_000.0, "{seen:?}");
    assert!((2..5).all(|at| seen[0][at] != seen[1][at]), "{seen:?}");
    let uuid = seen[0][4].as_str().unwrap();
    assert!(uuid.len() == 36 && &uuid[14..15] == "4" && "89ab".contains(&uuid[19..20]), "{uuid}");
    assert!(!seen[0][5].as_str().unwrap().contains("1970"), "{seen:?}");
}

#[tokio::test]
async fn assets_are_read_and_stay_as_they_are() {
    let rig = Rig::new();
    let source = "export function run(input, ctx) {
        const words = ctx.assets.read('lists/words.txt'); const first = words[0]; words.fill(0);
        let missing; try { ctx.assets.read('no.txt') } catch (e) { missing = e.message }
        return [ctx.assets.list(), first, words.constructor === Uint8Array, missing]; }";
    let package = with(source, Asks::default(), &[("empty", b""), ("lists/words.txt", b"abc")]);
    for _ in 0..2 {
        let output = rig.run(&package, Op::Whole, "{}", "").await.unwrap();
        let expected = r#"[["empty","lists/words.txt"],97,true,"no file no.txt in the package's assets/: it has empty, lists/words.txt"]"#;
        assert_eq!(std::str::from_utf8(&output.bytes).unwrap(), expected);
    }
}

#[tokio::test]
async fn the_globals_cost_a_guest_next_to_nothing_whether_or_not_its_child_has_compiled_them() {
    let mut rig = Rig::with(msm_sandbox::SandboxConfig { warm: 0, ..crate::rig::config() });
    rig.budget.memory = 64 << 10;
    for _ in 0..2 {
        assert_eq!(rig.body("return new URL('http://e.org').href").await.as_deref(), Ok("http://e.org/"));
    }
}
