//! `msm repl`: the REPL attached to a running node.

use std::{
    fs::File,
    io::{self, BufReader, IsTerminal},
    path::PathBuf,
};

use clap::Args;

use super::{
    door,
    screen::{Screen, Stop},
    signals::Signals,
};
use crate::{
    command::{CommandError, ErrorCode},
    home::Home,
    repl::{self, Session, plain},
};

/// Talk to a running node, line by line
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  msm repl
  msm repl -c peers -c 'search blur'
  msm repl --script steps.msm

Without a terminal on standard input its lines are carried out one by one; the first error ends it with its exit code.")]
pub struct Repl {
    /// Carry out this line and end; repeat for more
    #[arg(short, long, value_name = "CMD", conflicts_with = "script")]
    command: Vec<String>,
    /// Carry out the lines of this file and end
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Go on after an error; the exit code is the first error's
    #[arg(long)]
    keep_going: bool,
}

impl Repl {
    pub(super) async fn run(self, home: &Home, screen: &mut Screen) -> Result<(), Stop> {
        let script = self.script.map(|path| {
            File::open(&path).map_err(|error| {
                let code =
                    if error.kind() == io::ErrorKind::NotFound { ErrorCode::NotFound } else { ErrorCode::Failed };
                CommandError::new(code, format!("cannot read {}: {error}", path.display()))
            })
        });
        let script = script.transpose()?;
        let mut session = Session::new(door::running(home)?, home.clone());
        let mut signals = Signals::listen()?;
        let lines = if !self.command.is_empty() {
            plain::lines(io::Cursor::new(self.command.join("\n")))
        } else if let Some(script) = script {
            plain::lines(BufReader::new(script))
        } else if io::stdin().is_terminal() && screen.style.bars {
            return repl::terminal::run(&mut session, &mut signals, screen).await;
        } else {
            plain::lines(BufReader::new(io::stdin()))
        };
        tokio::select! {
            ended = plain::run(&mut session, lines, self.keep_going, screen) => ended,
            code = signals.next() => Err(Stop::Exit(code)),
        }
    }
}
