//! Questions that guests ask their device, timers, and what a run leaves behind.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use msm_protocol::{ContentHash, Refusal, RefusalCode};
use msm_sandbox::{Answer, Answering, Ask, AskError, AskErrorKind, Asks, Op, Package, Resources, SandboxConfig, Work};

use crate::rig::{Rig, children_of, config, package, until};

/// Answers questions by their operation and address, and remembers them.
#[derive(Default)]
pub struct Device {
    asked: Mutex<Vec<Ask>>,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

/// Counts a question as open while it lives.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Resources for Device {
    fn answer(&self, ask: Ask) -> Answering {
        self.asked.lock().unwrap().push(ask.clone());
        let open = Open(self.open.clone());
        self.most.fetch_max(self.open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        Box::pin(async move {
            let _open = open;
            let body: serde_json::Value = serde_json::from_slice(&ask.body).unwrap();
            let url = body["url"].as_str().unwrap_or_default().to_owned();
            let error = |kind| Err(AskError::new(kind, format!("the device says no to {}", ask.op)));
            match (&*ask.op, url.rsplit('/').next().unwrap_or_default()) {
                ("gps.position", _) => Ok(Answer {
                    json: r#"{"lat":48.1,"lon":11.5,"accuracy":2000,"time":1700000000,"age":1}"#.into(),
                    bytes: Bytes::new(),
                }),
                ("device.status", _) => Ok(Answer {
                    json: r#"{"battery":"high","network":"low","name":"attic"}"#.into(),
                    bytes: Bytes::new(),
                }),
                (_, "denied") => error(AskErrorKind::Denied),
                (_, "failed") => error(AskErrorKind::Failed),
                (_, "limit") => error(AskErrorKind::Limit),
                (_, "usage") => error(AskErrorKind::Usage),
                (_, "never") => std::future::pending().await,
                (_, "broken-json") => Ok(Answer { json: "{".into(), bytes: Bytes::new() }),
                (_, path) => {
                    // Longer ones take longer, so that answers come in another order than questions.
                    tokio::time::sleep(Duration::from_millis(path.len() as u64)).await;
                    let headers = serde_json::json!([["Content-Type", "text/plain"], ["X-A", "1"], ["x-a", "2"]]);
                    let status = if path == "missing" { 404 } else { 200 };
                    let size = path.strip_prefix("big").and_then(|size| size.parse().ok());
                    let bytes =
                        size.map_or_else(|| Bytes::from(format!("body of {path}")), |size| vec![7; size].into());
                    let json = serde_json::json!({"status": status, "url": url, "headers": headers}).to_string();
                    Ok(Answer { json, bytes })
                }
            }
        })
    }
}

const ALL: Asks = Asks { image: true, clock: true, random: true, gps: true, net: true, device: true };

fn asking(source: &str, asks: Asks) -> Arc<Package> {
    let bare = Arc::into_inner(package(source, Work::Whole, false)).unwrap();
    let hash = ContentHash::of(format!("{source}{asks:?}").as_bytes());
    Arc::new(Package { hash, asks, ..bare })
}

async fn ask(rig: &Rig, device: &Arc<Device>, body: &str) -> Result<String, Refusal> {
    let package = asking(&format!("export async function run(input, ctx) {{ {body} }}"), ALL);
    let mut call = rig.call(&package, Op::Whole, "{}", "");
    call.resources = Some(device.clone());
    rig.sandbox.call(call).await.map(|output| String::from_utf8(output.bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn answers_reach_the_guest_as_it_expects_them() {
    let (rig, device) = (Rig::new(), Arc::new(Device::default()));
    let table = [
        (
            "const p = await ctx.gps.position({maxAge: 5, accuracy: 100, x: 1}); return [p.lat, p.age, Object.isFrozen(p)];",
            "[48.1,1,true]",
        ),
        ("return ctx.device.status();", r#"{"battery":"high","network":"low","name":"attic"}"#),
        (
            "const r = await fetch('http://example.org/page'); return [r.status, r.ok, r.url, await r.text()];",
            r#"[200,true,"http://example.org/page","body of page"]"#,
        ),
        (
            "const r = await ctx.net.fetch(new URL('/missing', 'http://example.org')); return [r.status, r.ok];",
            "[404,false]",
        ),
        (
            "const {headers: h} = await fetch('http://example.org/x');
             return [h.get('content-TYPE'), h.get('x-A'), h.get('none'), h.has('X-a'), [...h].length, [...h.entries()][0]];",
            r#"["text/plain","1, 2",null,true,3,["content-type","text/plain"]]"#,
        ),
        (
            "const r = await fetch('http://example.org/big3000000'); const b = await r.bytes();
             return [b instanceof Uint8Array, b.length, b[2999999], (await r.arrayBuffer()).byteLength];",
            "[true,3000000,7,3000000]",
        ),
        ("return (await fetch('http://e.org/x')).json().catch((e) => e.name);", "SyntaxError"),
        // Each is answered by its own answer, in whatever order they come.
        (
            "const names = ['aaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbb', 'c', 'dd', 'eee', 'ffff', 'g', 'h', 'i', 'jj', 'k'];
             const texts = await Promise.all(names.map(async (n) => (await fetch('http://e.org/' + n)).text()));
             return texts.every((text, i) => text === 'body of ' + names[i]);",
            "true",
        ),
        (
            "const order = []; await Promise.all(['aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'b']
               .map((n) => fetch('http://e.org/' + n).then(() => order.push(n[0])))); return order;",
            r#"["b","a"]"#,
        ),
    ];
    for (body, expected) in table {
        assert_eq!(ask(&rig, &device, body).await.as_deref(), Ok(expected), "{body}");
    }
    let asked = device.asked.lock().unwrap();
    assert_eq!((&*asked[0].op, &asked[0].body[..]), ("gps.position", &br#"{"maxAge":5,"accuracy":100}"#[..]));
    assert!(device.most.load(Ordering::SeqCst) == 8, "eight at a time: {:?}", device.most);
}

#[tokio::test]
async fn a_fetch_says_what_the_guest_said() {
    let (rig, device) = (Rig::new(), Arc::new(Device::default()));
    let table = [
        ("'http://E.org/a b'", r#"{"url":"http://e.org/a%20b","method":"GET","headers":{}}"#),
        ("'http://e.org', {method: 'head'}", r#"{"url":"http://e.org/","method":"HEAD","headers":{}}"#),
        (
            "'http://e.org', {method: 'POST', body: 'grün', headers: [['A', 1], ['a', '2']]}",
            r#"{"url":"http://e.org/","method":"POST","headers":{"a":"1, 2"},"body":"Z3LDvG4="}"#,
        ),
        (
            "'http://e.org', {method: 'POST', body: new Uint8Array([0, 255]).subarray(1), headers: {B: 'x'}}",
            r#"{"url":"http://e.org/","method":"POST","headers":{"b":"x"},"body":"/w=="}"#,
        ),
        (
            "'http://e.org', {method: 'POST', body: new URLSearchParams({q: 'a b'}), headers: new Map([['C', 'd']])}",
            r#"{"url":"http://e.org/","method":"POST","headers":{"c":"d","content-type":"application/x-www-form-urlencoded;charset=UTF-8"},"body":"cT1hK2I="}"#,
        ),
    ];
    for (args, expected) in table {
        ask(&rig, &device, &format!("await fetch({args}); return ''")).await.unwrap_or_else(|e| panic!("{args}: {e}"));
        let asked = device.asked.lock().unwrap().pop().unwrap();
        assert_eq!((&*asked.op, std::str::from_utf8(&asked.body).unwrap()), ("net.fetch", expected), "{args}");
    }
    let wrong = [
        ("'/relative'", "TypeError"),
        ("'http://e.org', {method: 'PUT'}", "TypeError"),
        ("'http://e.org', {body: 'x'}", "TypeError"),
        ("'http://e.org', {method: 'POST', body: new Uint8Array(60000)}", "RangeError"),
        ("'http://e.org', {signal: AbortSignal.abort()}", "AbortError"),
        ("'http://e.org/never', {signal: AbortSignal.timeout(5)}", "TimeoutError"),
    ];
    for (args, name) in wrong {
        let body = format!("return fetch({args}).then(() => 'fetched', (e) => e.name)");
        assert_eq!(ask(&rig, &device, &body).await.as_deref(), Ok(name), "{args}");
    }
}

#[tokio::test]
async fn refused_questions_are_errors_of_the_right_class() {
    let (rig, device) = (Rig::new(), Arc::new(Device::default()));
    let table = [
        ("denied", "PermissionError"),
        ("failed", "Error"),
        ("limit", "RangeError"),
        ("usage", "TypeError"),
        ("broken-json", "SyntaxError"),
    ];
    for (what, name) in table {
        let body = format!(
            "try {{ await fetch('http://e.org/{what}') }} catch (e) {{ return [e.name, e instanceof {name}] }}"
        );
        assert_eq!(ask(&rig, &device, &body).await, Ok(format!(r#"["{name}",true]"#)), "{what}");
    }
    let refusal = ask(&rig, &device, "\nawait fetch('http://e.org/denied')").await.unwrap_err();
    let expected = "PermissionError: the device says no to net.fetch at run (test@1.0.0:2:7)";
    assert!(refusal.reason.starts_with(expected), "{refusal}");
    // Nobody answers: the caller of the sandbox has given no resources.
    let alone = asking("export const run = (i, ctx) => ctx.gps.position()", ALL);
    let refusal = rig.run(&alone, Op::Whole, "{}", "").await.unwrap_err();
    assert!(refusal.reason.starts_with("PermissionError: gps.position is not available here"), "{refusal}");
}

#[tokio::test]
async fn what_the_manifest_does_not_ask_for_names_the_line_to_add() {
    let rig = Rig::new();
    let device: Arc<Device> = Arc::default();
    let table = [
        ("ctx.gps.position()", "`gps = \"coarse\"`"),
        ("ctx.net.fetch('http://e.org')", "`net = [\"example.org\"]`"),
        ("fetch('http://e.org')", "`net = [\"example.org\"]`"),
        ("ctx.device.status()", "`device = true`"),
        ("(async () => ctx.image.decode(input))()", "`image = true`"),
        ("(async () => ctx.image.encode({}))()", "`image = true`"),
        ("(async () => crypto.randomUUID())()", "`random = true`"),
        ("(async () => crypto.getRandomValues(input))()", "`random = true`"),
    ];
    for (code, line) in table {
        let body = format!("return {code}.catch((e) => [e instanceof PermissionError, e.name, e.message].join())");
        let source = format!("export async function run(input, ctx) {{ {body} }}");
        let mut call = rig.call(&asking(&source, Asks::default()), Op::Whole, "{}", "");
        call.resources = Some(device.clone());
        let bytes = rig.sandbox.call(call).await.unwrap().bytes;
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("true,PermissionError,"), "{code}: {text}");
        assert!(text.ends_with(&format!("add {line} under [permissions] in service.toml")), "{code}: {text}");
    }
    assert!(device.asked.lock().unwrap().is_empty(), "nothing left the child");
}

#[tokio::test]
async fn a_thousand_questions_are_answered_and_no_more() {
    let (rig, device) = (Rig::new(), Arc::new(Device::default()));
    let body = "let good = 0, limited = 0;
        await Promise.all(Array.from({length: 1005}, () => ctx.device.status()
            .then(() => good++, (e) => { if (e instanceof RangeError) limited++; })));
        return [good, limited];";
    assert_eq!(ask(&rig, &device, body).await.as_deref(), Ok("[1000,5]"));
    assert_eq!(device.asked.lock().unwrap().len(), 1000);
    // The count begins anew with each run.
    assert_eq!(ask(&rig, &device, body).await.as_deref(), Ok("[1000,5]"));
}

#[tokio::test]
async fn b28_answers_are_held_to_the_memory_limit_until_they_are_dropped() {
    let (mut rig, device) = (Rig::new(), Arc::new(Device::default()));
    rig.budget.memory = 16 << 20;
    let fetching = |keep: bool| {
        format!(
            "const kept = []; for (let i = 0; i < 12; i++) {{
                 const page = await (await fetch('http://e.org/big4000000')).bytes(); if ({keep}) kept.push(page); }} return 'done';"
        )
    };
    assert_eq!(ask(&rig, &device, &fetching(false)).await.as_deref(), Ok("done"));
    assert_eq!(ask(&rig, &device, &fetching(true)).await.unwrap_err().code, RefusalCode::OutOfMemory);
}

#[tokio::test]
async fn questions_and_timers_left_open_touch_no_later_run() {
    let (rig, device) = (Rig::new(), Arc::new(Device::default()));
    let source = "
        const busy = () => { for (let i = 0; i < 5e6; i++); };
        const ways = {
            async honest() { return (await fetch('http://e.org/honest')).text(); },
            never() { for (let i = 0; i < 20; i++) fetch('http://e.org/never').then(() => console.log('late')); },
            // Answered while the guest looks away: the answer waits for the next run.
            unread() { fetch('http://e.org/x').then(() => console.log('late')); busy(); },
            async one() { fetch('http://e.org/aaaaaaaaaaaaaaaaaaaa'); await fetch('http://e.org/x'); },
            timer() { setTimeout(() => console.log('late'), 1); setInterval(() => console.log('later'), 1); },
            throws() { fetch('http://e.org/never'); throw new Error('left it'); },
            // So large that only a part of it is on its way.
            half() { fetch('http://e.org/big9000000').then(() => console.log('late')); busy(); },
            halfThrows() { ways.half(); throw new Error('left it'); },
        };
        export async function run(input) { return (await ways[new TextDecoder().decode(input)]()) ?? 'left'; }";
    let package = asking(source, ALL);
    let run = |input: &'static str| {
        let mut call = rig.call(&package, Op::Whole, "{}", input);
        call.resources = Some(device.clone());
        rig.sandbox.call(call)
    };
    for input in ["never", "unread", "one", "timer", "throws", "half", "halfThrows"].repeat(3) {
        let outcome = run(input).await;
        assert_eq!(outcome.is_ok(), !input.to_lowercase().contains("throws"), "{input}: {outcome:?}");
        let honest = run("honest").await.unwrap_or_else(|refusal| panic!("after {input}: {refusal}"));
        assert_eq!((&honest.bytes[..], &*honest.log), (&b"body of honest"[..], ""), "after {input}");
    }
    until("every question given up", || device.open.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn timers_run_in_their_order_and_end_with_the_run() {
    let rig = Rig::new();
    let table = [
        (
            "const order = []; setTimeout(() => order.push(3), 20); setTimeout((...a) => order.push(...a), 0, 1, 2);
             const gone = setTimeout(() => order.push('gone'), 5); clearTimeout(gone); clearTimeout('x'); clearTimeout();
             queueMicrotask(() => order.push(0)); await new Promise((done) => setTimeout(done, 40)); return order;",
            "[0,1,2,3]",
        ),
        (
            "let n = 0; await new Promise((done) => { const i = setInterval(() => { if (++n === 5) { clearInterval(i); done(); } }); });
             await new Promise((done) => setTimeout(done, 10)); return n;",
            "5",
        ),
        ("try { setTimeout('code') } catch (e) { return e.name }", "TypeError"),
        ("try { for (;;) setTimeout(() => {}, 1e9) } catch (e) { return e.message }", "more than 4096 timers at a time"),
        ("setTimeout(() => {}, Infinity); setTimeout(() => {}, NaN); setTimeout(() => {}, -1); return 'fine'", "fine"),
    ];
    for (body, expected) in table {
        assert_eq!(rig.body(body).await.as_deref(), Ok(expected), "{body}");
    }
    // A wait is a wait, and costs no processor time.
    let source = "export const run = () => new Promise((done) => setTimeout(() => done('waited'), 300));";
    let output = rig.run(&package(source, Work::Whole, false), Op::Whole, "{}", "").await.unwrap();
    assert!(output.wall >= Duration::from_millis(300), "{:?}", output.wall);
    assert!(output.cpu < Duration::from_millis(100), "{:?}", output.cpu);
}

#[tokio::test]
async fn the_signal_aborts_shortly_before_the_deadline() {
    let mut rig = Rig::new();
    rig.budget.time = Duration::from_millis(400);
    let body = "const {signal} = ctx; if (signal !== ctx.signal || signal.aborted) return 'wrong';
        let heard; signal.addEventListener('abort', (event) => heard = event.type);
        await new Promise((done) => { signal.onabort = done; });
        return [signal.aborted, signal.reason.name, heard];";
    assert_eq!(rig.body(body).await.as_deref(), Ok(r#"[true,"TimeoutError","abort"]"#));
    // Who does not listen runs into the deadline all the same.
    let refusal =
        rig.body("ctx.signal.aborted; await new Promise((done) => setTimeout(done, 5000));").await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Deadline);
}

#[tokio::test]
async fn a_rejection_that_nobody_waits_for_is_logged() {
    let rig = Rig::new();
    let source = "export async function run() {
        const late = Promise.reject(new RangeError('looked at')); Promise.reject(new TypeError('forgotten'));
        (async () => { null.x; })(); await null; await late.catch(() => {}); return 'fine'; }";
    let output = rig.run(&package(source, Work::Whole, false), Op::Whole, "{}", "").await.unwrap();
    let told = "warn: a promise was rejected, and nothing waits for it: ";
    let lines: Vec<&str> = output.log.lines().filter_map(|line| line.strip_prefix(told)).collect();
    assert_eq!(lines, ["TypeError: forgotten", "TypeError: cannot read property 'x' of null"], "{}", output.log);
    // Thousands are no flood.
    let source =
        "export async function run() { for (let i = 0; i < 1e4; i++) Promise.reject(i); await null; return ''; }";
    let output = rig.run(&package(source, Work::Whole, false), Op::Whole, "{}", "").await.unwrap();
    assert_eq!(output.log.lines().count(), 8, "{}", output.log);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn b28_what_guests_leave_behind_makes_no_child_grow() {
    let (rig, device) = (Rig::with(SandboxConfig { warm: 0, ..config() }), Arc::new(Device::default()));
    let source = "export async function run(input, ctx) {
        setInterval(() => {}, 1e5); setTimeout(() => globalThis, 0); Promise.reject({ ctx });
        const copy = structuredClone({ m: new Map([[1, new Uint8Array(1000)]]), me: ctx.params });
        const url = new URL('http://e.org/?a=1'); url.searchParams.append('b', 'c');
        ctx.signal.addEventListener('abort', () => ctx);
        const [place] = await Promise.all([ctx.gps.position(), ctx.device.status(), new Promise((done) => setTimeout(done, 0))]);
        if (input[0] % 2) throw new Error('odd');
        return `${url}${place.lat}${copy.m.size}`; }";
    let package = asking(source, ALL);
    let resident = || {
        let (pid, _) = children_of(std::process::id())[0];
        let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
        text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    let mut after_warm_up = 0;
    for round in 0..1_500_u32 {
        let mut call = rig.call(&package, Op::Whole, "{}", round.to_le_bytes().to_vec());
        call.resources = Some(device.clone());
        assert_eq!(rig.sandbox.call(call).await.is_ok(), round % 2 == 0);
        if round == 300 {
            after_warm_up = resident();
        }
    }
    let grown = resident().saturating_sub(after_warm_up);
    assert!(grown < 1 << 20, "1,200 runs left {grown} bytes");
}

#[tokio::test]
async fn jobs_that_a_run_leaves_undone_do_not_go_on_in_the_next() {
    let rig = Rig::new();
    let source = "let n = 0; const more = () => { console.log('still here', n++); Promise.resolve().then(more); };
        export async function run(input) { if (input.length) { more(); return 'left'; } for (let i = 0; i < 50; i++) await null; return 'fine'; }";
    let package = package(source, Work::Whole, false);
    for _ in 0..3 {
        assert_eq!(&rig.run(&package, Op::Whole, "{}", "x").await.unwrap().bytes[..], b"left");
        let next = rig.run(&package, Op::Whole, "{}", "").await.unwrap();
        assert_eq!((&next.bytes[..], &*next.log), (&b"fine"[..], ""));
    }
}

/// Each run finds the engine as it was built, whatever the last one did to it: also the functions of the host, whose
/// halves outside the engine's memory must not be freed with a guest's last word for them.
#[tokio::test]
async fn a_guest_that_takes_all_apart_harms_only_itself() {
    let rig = Rig::with(SandboxConfig { warm: 0, ..config() });
    let source = "globalThis.before ??= 0; const found = ++globalThis.before;
        export function run(input, ctx) {
            if (input[0] === 1) {
                globalThis.kept = input; input.me = input;
                const seen = new Set([globalThis]), todo = [globalThis, ctx, Object.prototype, Function.prototype];
                for (let at; (at = todo.pop()); ) {
                    for (const key of Reflect.ownKeys(at)) {
                        const { value, get } = Reflect.getOwnPropertyDescriptor(at, key) ?? {};
                        for (const it of [value, get])
                            if ((typeof it === 'object' || typeof it === 'function') && it && !seen.has(it)) { seen.add(it); todo.push(it); }
                        if (at !== ctx) try { delete at[key]; } catch {}
                    }
                }
                for (let i = 0; i < 2e4; i++) { const a = {}; a.a = a; }
                return 'wrecked';
            }
            console.log('here'); setTimeout(() => {}, 1);
            return [found, typeof kept, Math.random() < 1, new TextDecoder().decode(new TextEncoder().encode('ä')),
                    [3, 1].sort().join(), new URL('http://e.org/a').pathname, [...new Map([[1, 2]])][0][1], ctx.params.x];
        }";
    let package = package(source, Work::Whole, false);
    let mut first = None;
    for round in 0..30 {
        // Nothing is left of what it would give back, either.
        drop(rig.run(&package, Op::Whole, "{}", vec![1; 1 << 20]).await);
        let next = rig.run(&package, Op::Whole, r#"{"x": 5}"#, "").await.unwrap();
        let said = (String::from_utf8_lossy(&next.bytes).into_owned(), next.log);
        assert_eq!(said.0, r#"[1,"undefined",true,"ä","1,3","/a",2,5]"#, "round {round}");
        assert_eq!(first.get_or_insert_with(|| said.clone()), &said, "round {round}");
    }
}
