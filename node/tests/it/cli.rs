//! Exit codes and error objects of the command line, as scripts rely on them.

use std::fs;

use crate::rig::*;

/// Arguments, exit code, code of `msm.error/1`, what the message says, what the first `try` begins with.
type Case = (&'static [&'static str], i32, &'static str, &'static str, &'static str);

const CASES: [Case; 17] = [
    (&["invoke", "grind", "in.txt", "-p", "rounds=0"], 2, "usage", "rounds", "msm show grind"),
    (&["invoke", "grind", "in.txt", "-p", "speed=1"], 2, "usage", "speed", "msm show grind"),
    (&["invoke", "grind"], 2, "usage", "empty", ""),
    (&["invoke", "image-blur", "in.txt"], 2, "usage", "text/plain is not what image-blur takes", ""),
    (&["invoke", "image-blur", "broken.png"], 2, "usage", "", ""),
    (&["invoke"], 2, "usage", "", ""),
    (&["bogus"], 2, "usage", "", ""),
    (&["market", "add", "msm:market:short", "--yes"], 2, "usage", "", ""),
    (
        &["peers", "add", "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWEsSXZ9zzMKctjcbzhc7Jb6iHqPtffiJSBPn2Wxs6qCti"],
        3,
        "no-node",
        "",
        "msm doctor",
    ),
    (
        &["market", "add", "msm:market:7lchtiuxfto4a4kh7jmwvbyywxeesod2fdycuxz6itedjctuo55q"],
        4,
        "not-allowed",
        "consent",
        "msm market add",
    ),
    (&["invoke", "grind", "in.txt", "--devices", "7", "--strict"], 5, "no-device", "7 devices wanted", "msm peers"),
    (&["invoke", "fussy", "in.txt"], 5, "no-device", "EQS", "msm peers"),
    (&["invoke", "thrower", "in.txt"], 6, "service-failed", "Error: my own words", ""),
    (&["invoke", "grind", "in.txt", "-p", "rounds=1000000000", "--deadline", "200ms"], 7, "deadline", "200 ms", ""),
    (&["invoke", "grinder", "in.txt"], 9, "not-found", "grinder", "msm show grind"),
    (&["invoke", "grind", "missing.txt"], 9, "not-found", "missing.txt", ""),
    (&["jobs", "show", "ffff"], 9, "not-found", "ffff", "msm jobs"),
];

#[tokio::test]
async fn exit_codes_and_errors() {
    let lab = Lab::new();
    let thrower = lab.service("thrower", "1.0.0", "", "export function run() { throw new Error('my own words'); }");
    let fussy = lab.service("fussy", "1.0.0", "[constraints]\neqs = 300", "export const run = input => input;");
    let market = lab.market("shop", &[lab.grind(), lab.blur(), thrower, fussy]);
    let home = lab.home("phone");
    market.served_by(&home);
    fs::write(home.folder().join("in.txt"), lines(2)).unwrap();
    fs::write(home.folder().join("broken.png"), b"\x89PNG\r\n\x1a\nbroken").unwrap();
    let _node = Node::start(&home, &[]).await;
    for (args, code, name, says, hint) in CASES {
        let ran = msm(&home, &[args, &["--json"]].concat()).await;
        let error = ran.error();
        assert_eq!((ran.code, error["code"].as_str()), (code, Some(name)), "{args:?}: {}", ran.err);
        assert!(error["message"].as_str().unwrap().contains(says), "{args:?}: {}", ran.err);
        let lines = error["try"].as_array().unwrap();
        if !hint.is_empty() {
            assert!(
                lines.first().is_some_and(|line| line.as_str().unwrap().starts_with(hint)),
                "{args:?}: {}",
                ran.err
            );
        }
        let keys: Vec<&String> = error.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["code", "message", "schema", "try"], "{args:?}");

        // For people the same in words, and nothing on stdout.
        let plain = msm(&home, args).await;
        assert_eq!(plain.code, code, "{args:?}");
        assert!(plain.out.is_empty() && plain.err.contains(&format!("error[{name}]")), "{args:?}: {}", plain.err);
    }
}

#[tokio::test]
async fn questions_about_a_node_need_one() {
    let lab = Lab::new();
    let home = lab.home("phone");
    for args in [&["status"][..], &["jobs"], &["peers", "add", "/ip4/127.0.0.1/tcp/1"]] {
        let ran = msm(&home, &[args, &["--json"]].concat()).await;
        assert_eq!((ran.code, ran.error()["code"].as_str()), (3, Some("no-node")), "{args:?}: {}", ran.err);
        assert_eq!(ran.error()["try"][0], "msm node", "{args:?}");
    }
    // Others start one for the call.
    let peers = msm(&home, &["peers", "--json"]).await.json();
    assert_eq!(peers, serde_json::json!({ "schema": "msm.peers/1", "peers": [], "struck": [] }));
}

/// With `-o -` stdout is the output, to the byte; the report is elsewhere.
#[tokio::test]
async fn stdout_has_results_only() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let home = lab.home("phone");
    market.served_by(&home);
    let _node = Node::start(&home, &[]).await;
    let text = lines(5);
    let args = ["invoke", "grind", "-", "-o", "-", "-p", "rounds=3"];
    let ran = msm_with(&home, &args, &text).await;
    assert_eq!((ran.code, ran.text()), (0, grind(&text, 3)), "{}", ran.err);
    assert!(ran.err.contains("job "), "{}", ran.err);
    let quiet = msm_with(&home, &[&args[..], &["--quiet"]].concat(), &text).await;
    assert_eq!((quiet.code, quiet.text(), quiet.err.as_str()), (0, grind(&text, 3), ""));
    let json = msm_with(&home, &["invoke", "grind", "-", "-o", "out.txt", "--json"], &text).await;
    let job = json.json();
    assert_eq!(json.err, "", "no progress beside JSON");
    assert_eq!(fs::read_to_string(home.folder().join("out.txt")).unwrap(), grind(&text, 1_000));
    for field in ["schema", "job_id", "service", "tasks", "tasks_rerun", "devices", "wall_ms", "output_sha256"] {
        assert!(!job[field].is_null(), "{field}: {job}");
    }
}
