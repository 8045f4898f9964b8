//! The REPL on a pipe, with a door that gives sample replies.

use std::{io::Cursor, path::Path};

use super::{Flow, Session, plain};
use crate::{
    cli::{
        samples::SampleDoor,
        screen::{
            Screen, Stop, Style,
            tests::{Captured, captured},
        },
    },
    command::{Command, ErrorCode},
    home::Home,
};

struct Rig {
    folder: tempfile::TempDir,
    door: SampleDoor,
    session: Session<SampleDoor>,
    screen: Screen,
    out: Captured,
    err: Captured,
}

impl Rig {
    fn new(style: Style) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(&folder.path().join("home"))).unwrap();
        let door = SampleDoor { output: b"\x89PNG".as_slice().into(), ..SampleDoor::default() };
        let (screen, out, err) = captured(style);
        Self { folder, session: Session::new(door.clone(), home), door, screen, out, err }
    }

    async fn run(&mut self, script: &str, keep_going: bool) -> Result<(), Stop> {
        let lines = plain::lines(Cursor::new(script.to_owned()));
        plain::run(&mut self.session, lines, keep_going, &mut self.screen).await
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

#[tokio::test]
async fn a_script_runs_line_by_line_without_echo_or_colour() {
    let mut rig = Rig::new(Style::default());
    std::fs::write(rig.folder.path().join("photo.png"), b"\x89PNG\r\n\x1a\n").unwrap();
    let (photo, blurred) = (rig.path("photo.png"), rig.path("out.png"));
    let script = format!(
        "# a comment\n\npeers\nmsm search blur\ninvoke image-blur {photo} -o {blurred} -p radius=8\nquit\nstatus\n"
    );
    assert!(rig.run(&script, false).await.is_ok());
    let out = rig.out.text();
    for expected in ["garage", "3.2 ms", "image-blur", "job 7f7f", "sha256 9c9c"] {
        assert!(out.contains(expected), "{expected}: {out}");
    }
    assert!(!out.lines().any(|line| line == "peers") && !out.contains("msm> ") && !out.contains('\u{1b}'), "{out}");
    assert_eq!(std::fs::read(blurred).unwrap(), b"\x89PNG");
    let asked = rig.door.asked();
    assert_eq!(asked.len(), 3, "nothing after quit: {asked:?}");
    let Command::Invoke(invoke) = &asked[2] else { panic!("{asked:?}") };
    assert_eq!((invoke.input_type.as_deref(), &invoke.params["radius"]), (Some("image/png"), &8.into()));
}

#[tokio::test]
async fn the_first_error_ends_it_with_its_code() {
    let mut rig = Rig::new(Style::default());
    let stop = rig.run("peers\njobs show 77\nstatus\n", false).await.unwrap_err();
    assert!(matches!(stop, Stop::Exit(9)), "{stop:?}");
    assert_eq!(rig.err.text(), "error[not-found]: no job begins with \"77\"\n  try: msm jobs\n");
    assert_eq!(rig.door.asked().len(), 2);
}

#[tokio::test]
async fn with_keep_going_the_first_code_is_given_at_the_end() {
    let mut rig = Rig::new(Style::default());
    let stop = rig.run("jobs show 77\nnonsense\nstatus\n", true).await.unwrap_err();
    assert!(matches!(stop, Stop::Exit(9)), "{stop:?}");
    assert!(rig.out.text().contains("attic"), "{}", rig.out.text());
    assert!(rig.err.text().contains("error[usage]: there is no command \"nonsense\""), "{}", rig.err.text());
}

#[tokio::test]
async fn flags_hold_for_their_line() {
    let mut rig = Rig::new(Style::default());
    assert!(rig.run("peers --json\npeers\n", false).await.is_ok());
    let out = rig.out.text();
    let (first, rest) = out.split_once('\n').unwrap();
    let stop = rig.run("jobs show 77 --json\n", false).await.unwrap_err();
    assert!(matches!(stop, Stop::Exit(9)) && rig.err.text().starts_with(r#"{"schema":"msm.error/1""#), "{stop:?}");
    assert!(first.starts_with(r#"{"schema":"msm.peers/1""#) && rest.starts_with("PEER"), "{out}");
}

#[tokio::test]
async fn mistakes_and_what_belongs_elsewhere() {
    let cases = [
        ("pers", ErrorCode::Usage, "msm peers --help"),
        ("demo", ErrorCode::Usage, "msm demo"),
        ("node", ErrorCode::Usage, "msm node"),
        ("repl", ErrorCode::Usage, "msm help"),
        ("peers 'open", ErrorCode::Usage, ""),
        ("invoke x -", ErrorCode::Usage, ""),
        ("key import a -", ErrorCode::Usage, ""),
        ("invoke x no-such-file.png", ErrorCode::NotFound, ""),
        (
            "market add msm:market:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            ErrorCode::NotAllowed,
            "msm market add msm:market:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa --yes",
        ),
    ];
    for (line, code, hint) in cases {
        let mut rig = Rig::new(Style::default());
        let Err(Stop::Exit(exit)) = rig.session.line(line, &mut rig.screen).await else { panic!("{line}") };
        assert_eq!(exit, code.exit(), "{line}: {}", rig.err.text());
        let shown = rig.err.text();
        assert_eq!(shown.split_once("try: ").map_or("", |(_, hint)| hint.trim_end()), hint, "{line}");
        assert!(rig.door.asked().is_empty(), "{line}: nothing was asked");
    }
}

#[tokio::test]
async fn consent_can_be_given_beforehand() {
    let mut rig = Rig::new(Style::default());
    let line = format!("market add {} --yes --alias home", crate::cli::samples::market().market);
    assert_eq!(rig.session.line(&line, &mut rig.screen).await.unwrap(), Flow::Next);
    assert!(matches!(&rig.door.asked()[..], [Command::MarketAdd { alias: Some(alias), .. }] if alias == "home"));
}

#[tokio::test]
async fn help_is_a_result_and_no_error() {
    let mut rig = Rig::new(Style::default());
    for (line, expected) in
        [("help", "quit"), ("help exit-codes", "verification"), ("peers --help", "Usage: msm peers")]
    {
        assert_eq!(rig.session.line(line, &mut rig.screen).await.unwrap(), Flow::Next, "{line}");
        assert!(rig.out.text().contains(expected), "{line}: {}", rig.out.text());
    }
    assert!(rig.err.text().is_empty());
}

#[tokio::test]
async fn work_on_this_machine_is_done_here() {
    let mut rig = Rig::new(Style::default());
    rig.run("key new root\nkey list\n", false).await.unwrap();
    assert!(rig.out.text().contains("root  ed25519:"), "{}", rig.out.text());
    assert!(Path::new(&rig.path("home/keys/root.key")).exists());
    assert!(rig.door.asked().is_empty());
}
