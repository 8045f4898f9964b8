//! What scripts rely on: exit codes, JSON, streams, signals.

use std::{
    io::Write,
    process::{Output, Stdio},
};

use serde_json::Value;

use crate::program::{Home, signal, stderr, stdout, write_echo};

/// The error object on stderr: nothing else may be there.
fn error(output: &Output) -> Value {
    serde_json::from_str(&stderr(output)).unwrap_or_else(|_| panic!("not one JSON object: {}", stderr(output)))
}

#[test]
fn exit_codes_and_error_objects() {
    let home = Home::new();
    let cases: [(&[&str], i32, &str); 8] = [
        (&["pers"], 2, "usage"),
        (&["peers", "--jsno"], 2, "usage"),
        (&["status"], 3, "no-node"),
        (&["repl"], 3, "no-node"),
        (&["market", "add", "msm:market:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"], 4, "not-allowed"),
        (&["invoke", "image-blur", "no-such-cat.png", "-o", "out.png"], 9, "not-found"),
        (&["key", "show", "nobody"], 9, "not-found"),
        (&["repl", "--script", "no-such-script"], 9, "not-found"),
    ];
    for (args, code, name) in cases {
        let output = home.msm(&[&["--json"], args].concat());
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        let error = error(&output);
        assert_eq!((&error["schema"], &error["code"]), (&"msm.error/1".into(), &name.into()), "{args:?}");
        assert!(error["message"].is_string() && error["try"].is_array() && stdout(&output).is_empty());
    }
    assert!(home.msm(&["help", "exit-codes"]).status.success());
    assert!(home.msm(&["--version"]).status.success());
    assert_eq!(home.msm(&["--help"]).status.code(), Some(0));
}

/// A reader that has gone is no error, and least of all a panic.
#[test]
fn a_closed_pipe_ends_quietly() {
    let home = Home::new();
    for args in [["help", "start"], ["completion", "bash"], ["key", "new"]] {
        let mut args = args.to_vec();
        if args == ["key", "new"] {
            args.push("root");
        }
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = home.command(&args).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn a_market_is_made_served_and_used() {
    let home = Home::new();
    write_echo(&home.path("echo"));
    assert!(home.msm(&["market", "init", "market", "--name", "Home Market"]).status.success());
    let shared: Value = serde_json::from_str(&stdout(&home.msm(&["market", "share", "--json"]))).unwrap();
    assert!(shared["market"].as_str().unwrap().starts_with("msm:market:"));

    let node = home.node();
    assert_eq!(node.status["schema"], "msm.status/1");
    // Published while the node runs: it is told.
    let published = home.msm(&["market", "publish", "echo", "--json"]);
    assert!(published.status.success(), "{}", stderr(&published));
    let found: Value = serde_json::from_str(&stdout(&home.msm(&["search", "echo", "--json"]))).unwrap();
    assert_eq!(found["services"][0]["name"], "echo", "{found}");

    std::fs::write(home.path("in.txt"), "hello\n").unwrap();
    let output = home.msm(&["invoke", "echo", "in.txt", "-o", "out.txt", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let job: Value = serde_json::from_str(&stdout(&output)).unwrap();
    for field in ["job_id", "service", "tasks", "tasks_rerun", "devices", "wall_ms", "output_sha256"] {
        assert!(job.get(field).is_some(), "{field}: {job}");
    }
    assert_eq!(std::fs::read_to_string(home.path("out.txt")).unwrap(), "hello\n");
    // Down a pipe: the output and nothing else.
    let output = home.msm(&["invoke", "echo", "in.txt"]);
    assert_eq!(stdout(&output), "hello\n");

    let mut repl = home.command(&["repl"]);
    let mut repl = repl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let script = "status\nsearch echo\ninvoke echo in.txt -o again.txt\njobs\nquit\nnonsense\n";
    repl.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = repl.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for expected in ["lending", "Gives back what it gets", "again.txt", "done"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains('\u{1b}') && !stderr(&output).contains('\u{1b}'));

    let output = home.msm(&["repl", "-c", "jobs show 00000000000000000000000000000000", "-c", "status"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(9), ""), "{}", stderr(&output));

    let (code, messages) = node.terminate();
    assert_eq!(code, Some(0), "{messages}");
    assert!(!home.folder().join("control.sock").exists(), "the socket goes with the node");
    assert!(!messages.contains("panicked"), "{messages}");
}

/// B55: one process owns a home.
#[test]
fn b55_a_second_node_on_the_same_home_is_refused() {
    let home = Home::new();
    let node = home.node();
    let second = home.msm(&["node", "--json", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    assert!(!second.status.success());
    assert!(stderr(&second).contains("already-running"), "{}", stderr(&second));
    assert!(home.msm(&["status"]).status.success(), "the first one goes on");
    assert_eq!(node.terminate().0, Some(0));
}

#[test]
fn an_interrupt_ends_a_waiting_repl_with_130() {
    let home = Home::new();
    let node = home.node();
    let mut repl = home.command(&["repl"]);
    let mut repl = repl.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // Once it has answered it listens for signals and waits for the next line. Its input stays open: the end of that
    // would end it too.
    let mut input = repl.stdin.take().unwrap();
    input.write_all(b"status --json\n").unwrap();
    let mut answer = [0; 1];
    std::io::Read::read_exact(repl.stdout.as_mut().unwrap(), &mut answer).unwrap();
    signal(&repl, libc::SIGINT);
    assert_eq!(repl.wait().unwrap().code(), Some(130));
    drop((input, node));
}
