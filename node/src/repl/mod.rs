//! The REPL: the grammar of `msm` without its first word, carried out by one node.
//!
//! [`Session`] carries out lines. They come from a terminal ([`terminal`], with history, completion ([`complete`]) and
//! events above the prompt) or from a pipe, a script or flags ([`plain`]).

pub mod complete;
pub mod plain;
pub mod terminal;
#[cfg(test)]
mod tests;

use crate::{
    cli::{
        self, Globals, Local, Meaning,
        call::Stdin,
        hints,
        screen::{Screen, Stop},
        usage, words,
    },
    command::{CommandError, Door, ErrorCode},
    home::Home,
};

/// Bytes of one line.
pub const LINE_BYTES: usize = 64 * 1024;

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// The next line, please.
    Next,
    /// `quit`.
    Quit,
}

/// A conversation with one node.
pub struct Session<D> {
    door: D,
    home: Home,
}

const HELP: &str = "\
peers  status  jobs [show ID]          who is near, what this node is, what it did
events  pause [TIME]  resume           what happens; lend nothing for a while; lend again
search WORDS  show SERVICE             what there is
invoke SERVICE [IN] [-o OUT] [-p NAME=VALUE]
market list|add|remove|refresh|init|publish|verify|share
service pack|inspect|check  key  doctor
help COMMAND                           all of its flags
quit                                   leave (Ctrl-D too)";

impl<D: Door> Session<D> {
    /// Begins a conversation with the node behind `door`, which runs on `home`.
    pub fn new(door: D, home: Home) -> Self {
        Self { door, home }
    }

    /// Carries out one line and shows what came of it, errors too. `--json` and `--quiet` hold for this line only.
    pub async fn line(&mut self, line: &str, screen: &mut Screen) -> Result<Flow, Stop> {
        let style = screen.style;
        let ended = self.carry_out(line, screen).await;
        let ended = match ended {
            // Shown while the line's own style holds.
            Err(Stop::Failed(error)) => Err(Stop::Exit(screen.stop(Stop::Failed(error)))),
            ended => ended,
        };
        screen.style = style;
        ended
    }

    async fn carry_out(&mut self, line: &str, screen: &mut Screen) -> Result<Flow, Stop> {
        if line.trim_start().starts_with('#') {
            return Ok(Flow::Next);
        }
        let words = words::split(line).map_err(|error| CommandError::new(ErrorCode::Usage, error.to_string()))?;
        // A line copied from a `try:` or from a shell works here too.
        let words = words.strip_prefix(["msm".to_owned()].as_slice()).unwrap_or(&words);
        match words {
            [] => return Ok(Flow::Next),
            [word] if word == "quit" || word == "exit" => return Ok(Flow::Quit),
            [word] if word == "help" || word == "?" => return screen.result_line(HELP).map(|()| Flow::Next),
            _ => {}
        }
        let msm = match cli::parse(words) {
            Ok(msm) => msm,
            Err(error) => {
                return match usage::stop(&error, words, screen) {
                    Stop::Exit(0) => Ok(Flow::Next),
                    stop => Err(stop),
                };
            }
        };
        screen.style.json |= msm.globals.json;
        screen.style.quiet |= msm.globals.quiet;
        screen.style.may_ask &= !msm.globals.no_input;
        self.mean(msm.verb.meaning(Stdin::Taken)?, &msm.globals, screen).await.map(|()| Flow::Next)
    }

    async fn mean(&mut self, meaning: Meaning, globals: &Globals, screen: &mut Screen) -> Result<(), Stop> {
        let local = match meaning {
            Meaning::Call(call) => {
                call.ask_consent(globals.yes, screen)?;
                return call.carry_out(&self.door, screen).await;
            }
            Meaning::Local(local) => local,
        };
        match local {
            Local::Market(it) => it.run(&self.home, globals.yes, screen).await,
            Local::Service(it) => it.run(|| Ok(self.home.clone()), Stdin::Taken, screen).await,
            Local::Key(it) => it.run(&self.home, Stdin::Taken, screen),
            Local::Doctor(it) => it.run(&self.home, screen).await,
            Local::Completion(it) => it.run(screen),
            Local::Help(it) => it.run(screen),
            Local::Demo(_) => Err(outside("demo", hints::demo()).into()),
            Local::Node(_) => Err(outside("node", hints::node()).into()),
            Local::Repl(_) => Err(outside("repl", hints::help()).into()),
            Local::Proxy(_) => Err(outside("proxy", hints::proxy("127.0.0.1:7481")).into()),
        }
    }
}

fn outside(verb: &str, hint: String) -> CommandError {
    CommandError::new(ErrorCode::Usage, format!("{verb} is run from a shell, not from here")).or_try(hint)
}
