//! A service's author: from an empty folder to a neighbour that runs the service, and what is said on the way.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    program::{Home, stderr, stdout},
    terminal::Terminal,
};

fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", stdout(output), stderr(output));
    stdout(output)
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap_or_else(|_| panic!("{}{}", stdout(output), stderr(output)))
}

fn replace(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{from} in {text}");
    fs::write(file, text.replace(from, to)).unwrap();
}

/// True when a program of this name can be started.
fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// New, a changed line, test, pack, publish to a fresh market, invoke from a second node: in less than a minute.
fn from_nothing_to_a_neighbour(lang: &str, main: &str, from: &str, to: &str) {
    let began = Instant::now();
    let (author, friend) = (Home::new(), Home::new());
    ok(&author.msm(&["service", "new", "hello", "--lang", lang]));
    ok(&author.msm(&["service", "test", "hello"]));

    // A changed line is noticed by the test, and right with the expectation changed too.
    replace(&author.path(&format!("hello/{main}")), from, to);
    let output = author.msm(&["service", "test", "hello"]);
    assert_eq!(output.status.code(), Some(6), "{}{}", stdout(&output), stderr(&output));
    assert!(
        stdout(&output).contains("at byte 0 (line 1): expected 48, got 4d") || stdout(&output).contains("expected")
    );
    replace(&author.path("hello/tests/names.out.txt"), "!", "?");
    ok(&author.msm(&["service", "test", "hello"]));

    ok(&author.msm(&["service", "pack", "hello", "-o", "one.sep"]));
    ok(&author.msm(&["service", "pack", "hello", "-o", "two.sep"]));
    assert_eq!(fs::read(author.path("one.sep")).unwrap(), fs::read(author.path("two.sep")).unwrap());

    ok(&author.msm(&["market", "init", "market", "--name", "Home Market"]));
    let node = author.node();
    ok(&author.msm(&["market", "publish", "one.sep"]));
    let address = node.status["addresses"][0].as_str().unwrap().to_owned();
    let fingerprint = json(&author.msm(&["market", "share", "--json"]))["market"].as_str().unwrap().to_owned();

    let neighbour = friend.node_with(&["--peer", &address]);
    ok(&friend.msm(&["market", "add", &fingerprint, "--yes"]));
    fs::write(friend.path("names.txt"), "Ada\nGrace\n").unwrap();
    let output = friend.msm(&["invoke", "hello", "names.txt", "-p", "greeting=Good day"]);
    assert_eq!(ok(&output), "Good day, Ada?\nGood day, Grace?\n");
    assert_eq!((node.terminate().0, neighbour.terminate().0), (Some(0), Some(0)));
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[test]
fn from_an_empty_folder_to_a_neighbour_in_javascript() {
    from_nothing_to_a_neighbour("js", "src/main.js", "${name}!", "${name}?");
}

#[test]
fn from_an_empty_folder_to_a_neighbour_in_c() {
    assert!(is_there("clang"), "scripts/setup test installs clang, lld and wasi-libc");
    from_nothing_to_a_neighbour("c", "src/main.c", "puts(\"!\")", "puts(\"?\")");
}

#[test]
fn from_an_empty_folder_to_a_neighbour_in_rust() {
    let sysroots = ["rustc", "/usr/bin/rustc"].map(|rustc| {
        let output = Command::new(rustc).args(["--print", "sysroot"]).output();
        output.map_or(String::new(), |output| stdout(&output).trim().to_owned())
    });
    let is_target = |root: &String| {
        ["wasm32-wasip1", "wasm32-wasi"].iter().any(|it| Path::new(root).join("lib/rustlib").join(it).is_dir())
    };
    if sysroots.iter().any(is_target) {
        return from_nothing_to_a_neighbour("rust", "src/main.rs", "b\"!\\n\"", "b\"?\\n\"");
    }
    eprintln!("SKIPPED: a service in Rust is not built: no rustc here has wasm32-wasip1 or wasm32-wasi");
    // Without a toolchain the author is told which one.
    let home = Home::new();
    ok(&home.msm(&["service", "new", "hello", "--lang", "rust"]));
    let output = home.msm(&["service", "test", "hello"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("rustup target add wasm32-wasip1"), "{}", stderr(&output));
}

/// What a folder from anywhere may hold: a log, a build line, a test's name and its words that drive a terminal.
#[test]
fn a_folders_words_cannot_drive_the_terminal() {
    let home = Home::new();
    ok(&home.msm(&["service", "new", "hello"]));
    let owned = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}\u{9b}2J";
    let says = |output: &Output, what: &str| {
        let said = stdout(output) + &stderr(output);
        assert!(said.contains(what), "{said}");
        assert!(!said.contains(['\u{1b}', '\u{7}', '\u{202e}', '\u{9b}']), "{said:?}");
    };
    let main = home.path("hello/src/main.js");
    // The same as JavaScript spells it.
    let spelt = r"\x1b]0;owned\x07\x1b[2J\u202e\x9b2J";
    replace(&main, "// What follows", &format!("console.log('{spelt}\\nsecond line');\n  // What follows"));
    let output = home.msm(&["service", "run", "hello", "-i", "hello/tests/names.txt"]);
    assert!(output.status.success(), "{}", stderr(&output));
    says(&output, "?]0;owned??[2J??2J\nsecond line\n");

    // A test of that name, which fails.
    let (test, odd) = (home.path("hello/tests/names.toml"), home.path(&format!("hello/tests/a{owned}.toml")));
    fs::rename(test, odd).unwrap();
    for command in ["test", "bench"] {
        let output = home.msm(&["service", command, "hello"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        says(&output, "a?]0;owned??[2J??2J");
    }
    fs::write(home.path("hello/tests/names.out.txt"), "other").unwrap();
    says(&home.msm(&["service", "test", "hello"]), "a?]0;owned??[2J??2J FAILED on js");
    fs::write(&main, format!("export function run() {{ throw new Error('{spelt}') }}\n")).unwrap();
    says(&home.msm(&["service", "test", "hello"]), "?]0;owned??[2J??2J");

    // A build line is shown before it runs, however quiet the rest, and as it is.
    let line =
        "\nbuild = \"mkdir -p build; cp src/main.js build/main.js # \\u001b[2J\\u202e\"\nfile = \"build/main.js\"";
    replace(&home.path("hello/service.toml"), "\nfile = \"src/main.js\"", line);
    let output = home.msm(&["--quiet", "service", "pack", "hello"]);
    assert!(output.status.success(), "{}", stderr(&output));
    says(&output, "building build/main.js: mkdir -p build; cp src/main.js build/main.js # ?[2J?\n");
    assert!(!stderr(&output).contains("built "), "{}", stderr(&output));
}

#[test]
fn every_template_passes_its_own_check_and_test() {
    let home = Home::new();
    for (lang, template) in [("js", "text"), ("js", "image"), ("c", "text"), ("c", "image")] {
        let name = format!("{lang}-{template}");
        ok(&home.msm(&["service", "new", &name, "--lang", lang, "--template", template]));
        let tested = json(&home.msm(&["service", "test", &name, "--json"]));
        assert_eq!((&tested["schema"], &tested["ok"]), (&"msm.service-test/1".into(), &true.into()), "{tested}");
        let runs = tested["tests"][0]["variants"][0]["runs"].as_u64().unwrap();
        assert_eq!(runs, 10, "whole twice, and 4 numbers of parts twice: {tested}");
        let checked = json(&home.msm(&["service", "check", &name, "--json"]));
        assert_eq!((&checked["ok"], &checked["findings"]), (&true.into(), &Value::Array(vec![])), "{checked}");
        assert!(checked["score"].as_u64().unwrap() >= 90, "{checked}");
    }
    let output = home.msm(&["service", "new", "js-text"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("is there already"), "{}", stderr(&output));
}

#[test]
fn every_shipped_service_passes_its_own_tests() {
    let home = Home::new();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../services");
    let mut tested = Vec::new();
    for entry in std::fs::read_dir(shipped).unwrap() {
        let folder = entry.unwrap().path();
        if folder.join("service.toml").is_file() {
            let ran = json(&home.msm(&["service", "test", folder.to_str().unwrap(), "--json"]));
            assert_eq!(ran["ok"], true, "{}: {ran}", folder.display());
            assert!(ran["tests"].as_array().is_some_and(|tests| tests.len() >= 3), "{}: {ran}", folder.display());
            tested.push(folder.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    for name in ["gps-sharing", "gzip", "image-blur", "internet-sharing"] {
        assert!(tested.iter().any(|it| it == name), "{name}: {tested:?}");
    }
}

#[test]
fn mistakes_are_shown_with_line_and_caret() {
    let home = Home::new();
    ok(&home.msm(&["service", "new", "hello"]));
    let (toml, main) = (home.path("hello/service.toml"), home.path("hello/src/main.js"));

    replace(&toml, "deterministic = true", "determinstic = true");
    replace(&toml, "time = \"10s\"", "time = \"10\"");
    let output = home.msm(&["service", "check", "hello"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    for expected in [
        "--> hello/service.toml:20:1",
        "^^^^^^^^^^^^",
        "did you mean \"deterministic\"?",
        "limits.time: \"10\" is not a time",
        "check failed: 2 errors",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let row = json(&home.msm(&["service", "check", "hello", "--json"]));
    assert_eq!((&row["ok"], &row["score"]), (&false.into(), &0.into()), "{row}");
    assert_eq!(
        (&row["findings"][0]["line"], &row["findings"][0]["file"]),
        (&20.into(), &"service.toml".into()),
        "{row}"
    );
    // The others refuse with the same carets, and say what looks at all of it.
    for verb in ["test", "pack", "run", "bench"] {
        let output = home.msm(&["service", verb, "hello"]);
        assert_eq!(output.status.code(), Some(1), "{verb}: {}", stderr(&output));
        assert!(stderr(&output).contains("^^^^") && stderr(&output).contains("try: msm service check hello"), "{verb}");
    }
    replace(&toml, "determinstic = true", "deterministic = true");
    replace(&toml, "time = \"10\"", "time = \"10s\"");

    let good = fs::read_to_string(&main).unwrap();
    fs::write(&main, "export function run(input) {\n  return input +;\n}\n").unwrap();
    let output = home.msm(&["service", "check", "hello"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("--> hello/src/main.js:2:"), "{}", stdout(&output));
    fs::write(&main, "export function walk(input) {}\n").unwrap();
    let output = home.msm(&["service", "check", "hello"]);
    assert!(stdout(&output).contains("src/main.js exports no function run"), "{}", stdout(&output));

    // An error at run time names its place too.
    fs::write(&main, "export function run(input) {\n  return inptu;\n}\n").unwrap();
    let output = home.msm(&["service", "run", "hello", "-i", "hello/tests/names.txt"]);
    assert_eq!(output.status.code(), Some(6));
    let text = stderr(&output);
    assert!(text.contains("inptu is not defined") && text.contains("--> hello/src/main.js:2:"), "{text}");

    fs::write(&main, good).unwrap();
    replace(&home.path("hello/tests/names.toml"), "compare = \"bytes\"", "compare = \"byte\" ");
    let output = home.msm(&["service", "test", "hello"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("names.toml:4:11") && text.contains("\"byte\" is not one of"), "{text}");
}

#[test]
fn a_run_gets_what_is_asked_for_and_nothing_else() {
    let home = Home::new();
    ok(&home.msm(&["service", "new", "hello"]));
    let main = "export async function run(input, ctx) {\n  const { lat } = await ctx.gps.position({});\n  const page = await \
                fetch('https://example.org/');\n  return `${lat} ${await page.text()}`;\n}\n";
    fs::write(home.path("hello/src/main.js"), main).unwrap();
    replace(
        &home.path("hello/service.toml"),
        "[permissions] ",
        "[permissions]\ngps = \"coarse\"\nnet = [\"https://example.org\"]\n#",
    );
    fs::create_dir_all(home.path("site/example.org")).unwrap();
    fs::write(home.path("site/example.org/index.html"), "hello").unwrap();
    fs::write(home.path("walk.json"), "[{\"lat\":52.5,\"lon\":13.4}]").unwrap();
    let run = |more: &[&str]| {
        let args = ["service", "run", "hello", "--gps", "walk.json", "--site", "site"];
        home.msm(&[&args[..], more].concat())
    };
    assert_eq!(ok(&run(&[])), "52.5 hello");
    for (right, line) in [("gps", "gps = "), ("net", "net = ")] {
        let output = run(&["--deny", right]);
        assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
        let text = stderr(&output);
        assert!(text.contains("PermissionError") && text.contains(line) && text.contains("[permissions]"), "{text}");
    }
    let output = home.msm(&["service", "run", "hello", "-p", "nothing=1"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

/// Variants that do not agree, outputs that change from run to run, and a wrong picture.
#[test]
fn tests_notice_what_only_many_runs_show() {
    let home = Home::new();
    ok(&home.msm(&["service", "new", "hello"]));
    let (toml, folder) = (home.path("hello/service.toml"), home.path("hello"));
    let good = fs::read_to_string(folder.join("src/main.js")).unwrap();
    // A second variant that is wrong for one name only, which no expectation covers.
    fs::create_dir(folder.join("other")).unwrap();
    fs::write(folder.join("other/main.js"), good.replace("${name}!", "${name === 'Zoe' ? 'zoe' : name}!")).unwrap();
    let text = fs::read_to_string(&toml).unwrap();
    fs::write(&toml, text + "\n[[variant]]\nengine = \"js\"\nfile = \"other/main.js\"\n").unwrap();
    fs::write(folder.join("tests/zoe.toml"), "input = \"zoe.txt\"\ncompare = \"regex:^Hello\"\nchunks = [2]\n")
        .unwrap();
    fs::write(folder.join("tests/zoe.txt"), "Ada\nZoe\n").unwrap();
    let output = home.msm(&["service", "test", "hello"]);
    assert_eq!(output.status.code(), Some(6));
    assert!(stdout(&output).contains("zoe: variants do not agree: js-2 and js differ at byte"), "{}", stdout(&output));
    ok(&home.msm(&["service", "test", "hello", "--variant", "js-2"]));
    ok(&home.msm(&["service", "test", "hello", "--case", "names"]));
    assert_eq!(home.msm(&["service", "test", "hello", "--case", "nobody"]).status.code(), Some(9));

    // Declared deterministic, and another answer each time.
    ok(&home.msm(&["service", "new", "dice"]));
    replace(&home.path("dice/service.toml"), "[permissions] ", "[permissions]\nrandom = true\n#");
    fs::write(home.path("dice/src/main.js"), "export const run = () => `Hello ${Math.random()}`;\n").unwrap();
    fs::write(home.path("dice/tests/names.toml"), "compare = \"regex:^Hello\"\n").unwrap();
    let output = home.msm(&["service", "test", "dice"]);
    assert_eq!(output.status.code(), Some(6));
    assert!(
        stdout(&output).contains("(whole, second run): is declared deterministic, and differs"),
        "{}",
        stdout(&output)
    );
    replace(&home.path("dice/service.toml"), "deterministic = true", "deterministic = false");
    ok(&home.msm(&["service", "test", "dice"]));

    // Right whole, wrong in parts: it looks at what the others have.
    let counting =
        good.replace("return lines", "if (ctx.chunk?.count === 3) lines.reverse().push('?');\n  return lines");
    fs::write(folder.join("src/main.js"), &counting).unwrap();
    let output = home.msm(&["service", "test", "hello", "--variant", "js", "--case", "names"]);
    assert_eq!(output.status.code(), Some(6));
    assert!(stdout(&output).contains("names FAILED on js (in 3 parts)"), "{}", stdout(&output));
    assert!(folder.join(".msm/names.js.out").is_file());

    // A picture that is wrong in one pixel: which one, and a picture of it.
    ok(&home.msm(&["service", "new", "pic", "--template", "image"]));
    replace(&home.path("pic/src/main.js"), "return out", "if (ctx.tile.height === 16) out[4 * 17] ^= 8;\n  return out");
    replace(&home.path("pic/src/main.js"), "run(rows)", "run(rows, ctx)");
    let output = home.msm(&["service", "test", "pic"]);
    assert_eq!(output.status.code(), Some(6));
    assert!(stdout(&output).contains("at pixel 1,1: expected"), "{}", stdout(&output));
    assert!(fs::read(home.path("pic/.msm/square.js.diff.png")).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn a_packages_difference_to_another_is_told() {
    let home = Home::new();
    ok(&home.msm(&["service", "new", "hello"]));
    ok(&home.msm(&["service", "pack", "hello", "-o", "old.sep"]));
    let toml = home.path("hello/service.toml");
    replace(&toml, "0.1.0", "0.2.0");
    replace(&toml, "[permissions] ", "[permissions]\ngps = \"precise\"\n#");
    replace(&home.path("hello/src/main.js"), "name}!", "name}?");
    ok(&home.msm(&["service", "pack", "hello", "-o", "new.sep"]));
    let text = ok(&home.msm(&["service", "inspect", "new.sep", "--diff", "old.sep"]));
    for expected in [
        "since hello 0.1.0:",
        "~ permissions: nothing -> gps (precise)",
        "~ rating: 6 -> 2",
        "~ service.version: 0.1.0 -> 0.2.0",
        "~ variant[1] js: ..",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let row = json(&home.msm(&["service", "inspect", "new.sep", "--diff", "new.sep", "--json"]));
    assert_eq!(row["changes"], Value::Array(vec![]), "{row}");
    // A bundle that was touched on the way is none.
    let mut bytes = fs::read(home.path("new.sep")).unwrap();
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    fs::write(home.path("bad.sep"), bytes).unwrap();
    assert_eq!(home.msm(&["service", "inspect", "bad.sep"]).status.code(), Some(8));
}

/// The author's loop on a terminal: a change is answered at once, a mistake is shown, and Ctrl-C ends it.
#[test]
fn dev_answers_every_change() {
    let home = Home::new();
    ok(&home.msm(&["service", "new", "hello"]));
    let main = home.path("hello/src/main.js");
    let mut terminal = Terminal::run(home.command(&["service", "dev", "hello"]));
    terminal.expect("watching");
    terminal.expect("check ok");
    terminal.expect("tests 1/1 ok");
    terminal.expect("whole == in 1,2,3,7 parts");

    let good = fs::read_to_string(&main).unwrap();
    let began = Instant::now();
    fs::write(&main, good.replace("name}!", "name}?")).unwrap();
    terminal.expect("names FAILED on js (whole): at byte 10");
    terminal.expect("src/main.js changed -> check ok");
    terminal.expect("tests 0/1 FAILED");
    // Well under a second on an idle machine; a busy one gets more before this is called a failure.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    fs::write(&main, "export function run( {\n").unwrap();
    terminal.expect("hello/src/main.js:1:");
    terminal.expect("check FAILED");
    fs::write(&main, &good).unwrap();
    terminal.expect("tests 1/1 ok");
    let toml = home.path("hello/service.toml");
    replace(&toml, "split = ", "splt = ");
    terminal.expect("did you mean \"split\"?");
    terminal.expect("service.toml changed -> check FAILED");
    replace(&toml, "splt = ", "split = ");
    terminal.expect("tests 1/1 ok");
    // What decides no test runs no test.
    fs::write(home.path("hello/README.md"), "# hello\n\nGreets.\n").unwrap();
    terminal.expect("README.md changed -> check ok");
    terminal.expect("tests as before: ok");
    terminal.interrupt();
    assert_eq!(terminal.exit_code(), Some(130));
}

/// A C source is built again, and only then.
#[test]
fn dev_builds_again_what_has_changed() {
    let home = Home::new();
    ok(&home.msm(&["service", "new", "hello", "--lang", "c"]));
    let main = home.path("hello/src/main.c");
    let mut terminal = Terminal::run(home.command(&["service", "dev", "hello"]));
    terminal.expect("building build/main.wasm: mkdir -p build && clang");
    terminal.expect("tests 1/1 ok");
    let good = fs::read_to_string(&main).unwrap();
    fs::write(&main, good.replace("puts(\"!\")", "puts(\"!\"")).unwrap();
    let before = terminal.expect("building build/main.wasm");
    assert!(!before.contains("changed"), "what a build writes is no change: {before}");
    terminal.expect("main.c:11:");
    terminal.expect("build FAILED");
    fs::write(&main, &good).unwrap();
    terminal.expect("building build/main.wasm");
    terminal.expect("src/main.c changed -> check ok");
    terminal.expect("tests 1/1 ok");
    // A test's file needs no build.
    fs::write(home.path("hello/tests/names.txt"), "Ada\nGrace\nBob\n").unwrap();
    let before = terminal.expect("names.txt changed -> check ok");
    assert!(!before.contains("building"), "{before}");
    terminal.expect("tests 0/1 FAILED");
}

/// Build lines are the author's own programs: only commands that say so run them, and never for what was packed.
#[test]
fn build_lines_run_only_where_their_author_asks_for_it() {
    let home = Home::new();
    ok(&home.msm(&["service", "new", "hello"]));
    let toml = home.path("hello/service.toml");
    let text = fs::read_to_string(&toml).unwrap();
    let line = "build = \"touch ran; cp src/main.js built.js\"\nwatch = [\"src/*.js\"]\n";
    fs::write(&toml, text.replace("src/main.js\"", "built.js\"") + line).unwrap();
    let ran = home.path("hello/ran");
    ok(&home.msm(&["market", "init", "market", "--name", "Home Market"]));
    for args in [&["service", "check", "hello"][..], &["service", "inspect", "hello"], &["market", "publish", "hello"]]
    {
        let output = home.msm(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}{}", stdout(&output), stderr(&output));
        let told = stdout(&output) + &stderr(&output);
        assert!(told.contains("is missing; build it: touch ran") && !ran.exists(), "{args:?}: {told}");
    }
    let output = home.msm(&["service", "pack", "hello", "-o", "hello.sep"]);
    ok(&output);
    // Shown before it ran.
    assert!(stderr(&output).contains("building built.js: touch ran; cp src/main.js built.js") && ran.exists());
    fs::remove_file(&ran).unwrap();
    ok(&home.msm(&["service", "test", "hello"]));
    assert!(!ran.exists(), "nothing has changed");
    fs::remove_file(home.path("hello/built.js")).unwrap();
    ok(&home.msm(&["service", "inspect", "hello.sep"]));
    ok(&home.msm(&["market", "publish", "hello.sep"]));
    assert!(!ran.exists(), "a packed service has no build line");
    ok(&home.msm(&["service", "test", "hello"]));
    assert!(ran.exists());
}

#[test]
fn the_score_says_what_would_raise_it() {
    let home = Home::new();
    ok(&home.msm(&["service", "new", "hello"]));
    let score = || json(&home.msm(&["service", "check", "hello", "--json"]))["score"].as_u64().unwrap();
    let begin = score();
    fs::remove_file(home.path("hello/README.md")).unwrap();
    let output = home.msm(&["service", "check", "hello", "--score"]);
    let text = ok(&output);
    assert!(text.contains("warning: there is no README.md"), "{text}");
    assert!(text.contains("+8   say in README.md what it does") && text.contains("+8   add an example"), "{text}");
    assert_eq!(score(), begin - 16);
    fs::remove_dir_all(home.path("hello/tests")).unwrap();
    assert_eq!(score(), begin - 16 - 20 - 8);
    replace(&home.path("hello/service.toml"), "[permissions] ", "[permissions]\ngps = \"precise\"\n#");
    let text = ok(&home.msm(&["service", "check", "hello"]));
    assert!(text.contains("asks for gps and does not use it"), "{text}");
    assert_eq!(score(), begin - 16 - 20 - 8 - 9);
    // No tests is no success.
    assert_eq!(home.msm(&["service", "test", "hello"]).status.code(), Some(9));
}

/// With the author's word a run reaches this device's own web and state, and no further than its owner allows.
#[test]
fn local_resources_are_this_devices_own_within_its_ceiling() {
    let home = Home::new();
    ok(&home.msm(&["service", "new", "hello"]));
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let place = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // The request is read to its empty line: closing before would reset the answer.
            let lines = std::io::BufRead::lines(std::io::BufReader::new(stream.try_clone().unwrap()));
            let _ = lines.map_while(Result::ok).find(String::is_empty);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
            std::io::Write::write_all(&mut stream, answer).unwrap();
        }
    });
    let main = format!(
        "export async function run(input, ctx) {{\n  const page = await fetch('http://{place}/');\n  \
         return `${{await page.text()}} from ${{(await ctx.device.status()).name}}`;\n}}\n"
    );
    fs::write(home.path("hello/src/main.js"), main).unwrap();
    replace(&home.path("hello/service.toml"), "[permissions] ", "[permissions]\nnet = [\"*\"]\ndevice = true\n#");
    fs::create_dir_all(home.folder()).unwrap();
    let settings = |net: &str| format!("name = \"attic\"\n[resources]\nnet = {net:?}\nnet-private = [\"{place}\"]\n");
    let config = home.folder().join("config.toml");
    let run = || home.msm(&["service", "run", "hello", "--local-resources"]);

    fs::write(&config, settings("on")).unwrap();
    assert_eq!(ok(&run()), "hello from attic");
    fs::write(&config, settings("off")).unwrap();
    let output = run();
    assert_eq!(output.status.code(), Some(4), "{}{}", stdout(&output), stderr(&output));
    assert!(stderr(&output).contains("net = \"off\""), "{}", stderr(&output));
    // Nothing of this stays: no grant, no line in the ledger.
    let left: Vec<_> = fs::read_dir(home.folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name == "grants.toml" || name == "audit.jsonl"), "{left:?}");
}
