//! Services that loop, hoard, babble or throw: the job fails with the guest's own words, the devices are fine.

use std::fs;

use crate::rig::*;

/// Name, `service.toml` lines, source, exit code, code of the error, what its message says.
const BAD: [(&str, &str, &str, i32, &str, &str); 6] = [
    (
        "looper",
        "[limits]\ntime = \"300ms\"",
        "export function run() { for (;;) try { for (;;); } catch {} }",
        7,
        "deadline",
        "300 ms",
    ),
    (
        "hoarder",
        "[limits]\nmemory = \"16MiB\"\ntime = \"20s\"",
        "export function run() { const all = []; for (;;) all.push({ x: [1, 2, 3] }); }",
        6,
        "service-failed",
        "out-of-memory",
    ),
    (
        "babbler",
        "[limits]\noutput = \"64KiB\"",
        "export function run() { return new Uint8Array(1 << 20); }",
        6,
        "service-failed",
        "output-too-large",
    ),
    (
        "thrower",
        "",
        "export function run(input) { throw new RangeError('no line has ' + input.length + ' bytes'); }",
        6,
        "service-failed",
        "RangeError: no line has 9 bytes",
    ),
    ("promiser", "", "export async function run() { await null; throw 'later'; }", 6, "service-failed", "later"),
    ("broken", "", "export function run( {", 6, "service-failed", "SyntaxError"),
];

#[tokio::test]
async fn b21_b28_b31_a_bad_service_fails_alone() {
    let lab = Lab::new();
    let mut services = vec![lab.grind()];
    services.extend(BAD.iter().map(|(name, more, source, ..)| {
        lab.service(name, "1.0.0", &format!("{more}\n[work]\nsplit = \"lines:1\"\ndeterministic = true"), source)
    }));
    let market = lab.market("shop", &services);
    let market_version = 1 + services.len() as u64;
    let crew = Crew::gather(&lab, &market, 1).await;
    crew.requester.has_index(&market, market_version).await;
    let home = &crew.requester.home;
    fs::write(home.folder().join("in.txt"), "one line\ntwo line\n").unwrap();
    let good = async || {
        let args = ["invoke", "grind", "in.txt", "-p", "rounds=5", "--devices", "2"];
        let ran = msm(home, &args).await;
        assert_eq!(ran.text(), grind("one line\ntwo line\n", 5), "{}", ran.err);
    };
    good().await;
    for (name, _, _, exit, code, says) in BAD {
        for args in [
            &["invoke", name, "in.txt", "--json", "--devices", "2"][..],
            &["invoke", name, "in.txt", "--json", "--local"],
        ] {
            let t = std::time::Instant::now();
            let ran = msm(home, args).await;
            eprintln!("XX {name} {args:?} {:?}", t.elapsed());
            let error = ran.error();
            assert_eq!((ran.code, error["code"].as_str()), (exit, Some(code)), "{name}: {}", ran.err);
            assert!(error["message"].as_str().unwrap().contains(says), "{name}: {}", ran.err);
        }
        good().await;
    }
    for node in [&crew.requester, &crew.workers[0]] {
        assert_eq!(node.status().await.running_tasks, 0);
        until("no guest is left behind", SOON, async || {
            node.children().iter().all(|(_, state)| *state != 'Z' && *state != 'R').then_some(())
        })
        .await;
    }
}
