//! The `msm` command line: what was typed, what it means, and how it is shown.
//!
//! Read in this order:
//! 1. [`Msm`] and [`Verb`]: the grammar, one file a verb. The REPL has the same without the first word.
//! 2. [`call`]: most verbs mean a [`Command`](crate::command::Command) for a node; this carries it out and shows it.
//! 3. [`door`]: which node: the running one of this home, or one started for the call.
//! 4. [`screen`] and [`render`]: stdout has results only, stderr everything else.
//! 5. [`hints`]: every `try:` line there is.

pub mod call;
pub mod completion;
pub mod demo;
pub mod doctor;
pub mod door;
pub mod events;
pub mod grant;
pub mod help;
pub mod hints;
pub mod history;
pub mod invoke;
pub mod jobs;
pub mod key;
pub mod logging;
pub mod market;
pub mod market_change;
pub mod market_folder;
mod market_mirror;
mod market_proof;
pub mod market_review;
pub mod market_serve;
pub mod node;
pub mod pause;
pub mod peers;
pub mod pending;
pub mod proxy;
pub mod render;
pub mod repl;
#[cfg(test)]
pub(crate) mod samples;
pub mod screen;
pub mod search;
pub mod service;
pub mod show;
pub mod signals;
pub mod status;
pub mod usage;
pub mod values;
pub mod words;

use std::{ffi::OsString, io::IsTerminal, path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use self::{
    call::Call,
    screen::{ColorWish, Screen, Stop},
};
use crate::{command::CommandError, home::Home};

/// Run vetted micro-services on nearby devices.
#[derive(Debug, Parser)]
#[command(name = "msm", version, disable_help_subcommand = true, subcommand_required = true)]
pub struct Msm {
    /// Flags of every verb.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Flags that stand anywhere.
#[derive(Debug, Clone, Default, Args)]
pub struct Globals {
    /// Print results and errors as JSON, one object a line
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// No progress and no log but errors
    #[arg(short, long, global = true, help_heading = "Global options", conflicts_with = "verbose")]
    pub quiet: bool,
    /// Log more; repeat for more still
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
    /// Colours in messages
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Global options"
    )]
    pub color: ColorWish,
    /// Folder for everything of this node [env: MSM_HOME]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub home: Option<PathBuf>,
    /// Never ask; fail where an answer would be needed
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_input: bool,
    /// Answer every question with yes
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub yes: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Watch several local nodes blur a picture together while one of them is killed
    Demo(demo::Demo),
    /// Run a node until it is told to stop
    Node(node::Node),
    /// Talk to a running node, line by line
    #[command(visible_alias = "attach")]
    Repl(repl::Repl),
    /// Run a service on this device and those nearby
    Invoke(invoke::Invoke),
    /// Serve pages to a browser that neighbours fetch
    Proxy(proxy::Proxy),
    /// The devices nearby
    Peers(peers::Peers),
    /// What this node is, lends and sees
    Status(status::Status),
    /// Jobs of the running node
    Jobs(jobs::Jobs),
    /// What happens, a line each
    Events(events::Events),
    /// Lend nothing for a while
    Pause(pause::Pause),
    /// Lend again
    Resume(pause::Resume),
    /// Let a service use a part of this device
    Grant(grant::Grant),
    /// Take a grant back
    RevokeGrant(grant::RevokeGrant),
    /// What services may use of this device
    Grants(grant::Grants),
    /// What services asked for and were refused
    Pending(pending::Pending),
    /// What services did with this device
    History(history::History),
    /// Find services in the trusted markets
    Search(search::Search),
    /// One service in detail
    Show(show::Show),
    /// Trust markets, or run one
    Market(market::Market),
    /// Build services
    Service(service::Service),
    /// Keys of this home
    Key(key::Key),
    /// Check this machine, this home and its network
    Doctor(doctor::Doctor),
    /// Print completions for a shell
    Completion(completion::Completion),
    /// Explain a command or a topic
    Help(help::Help),
}

/// What a line means.
pub enum Meaning {
    /// A command for a node.
    Call(Box<Call>),
    /// Carried out here, without a node.
    Local(Local),
}

/// What is carried out without a node, or with several.
pub enum Local {
    Demo(demo::Demo),
    Node(node::Node),
    Repl(repl::Repl),
    Proxy(proxy::Proxy),
    Market(market_folder::Action),
    Service(service::Service),
    Key(key::Key),
    Doctor(doctor::Doctor),
    Completion(completion::Completion),
    Help(help::Help),
}

impl Verb {
    /// From what was typed to what it means. Reads input files; nothing has started yet.
    pub fn meaning(self, stdin: call::Stdin) -> Result<Meaning, CommandError> {
        let call = match self {
            Self::Invoke(it) => it.meaning(stdin)?,
            Self::Peers(it) => it.meaning(),
            Self::Status(it) => it.meaning(),
            Self::Jobs(it) => it.meaning()?,
            Self::Events(it) => it.meaning(),
            Self::Pause(it) => it.meaning(),
            Self::Resume(it) => it.meaning(),
            Self::Grant(it) => it.meaning(),
            Self::RevokeGrant(it) => it.meaning(),
            Self::Grants(it) => it.meaning(),
            Self::Pending(it) => it.meaning(),
            Self::History(it) => it.meaning(),
            Self::Search(it) => it.meaning(),
            Self::Show(it) => it.meaning(),
            Self::Market(it) => match it.meaning()? {
                market::Meaning::Call(call) => *call,
                market::Meaning::Folder(action) => return Ok(Meaning::Local(Local::Market(action))),
            },
            Self::Demo(it) => return Ok(Meaning::Local(Local::Demo(it))),
            Self::Node(it) => return Ok(Meaning::Local(Local::Node(it))),
            Self::Repl(it) => return Ok(Meaning::Local(Local::Repl(it))),
            Self::Proxy(it) => return Ok(Meaning::Local(Local::Proxy(it))),
            Self::Service(it) => return Ok(Meaning::Local(Local::Service(it))),
            Self::Key(it) => return Ok(Meaning::Local(Local::Key(it))),
            Self::Doctor(it) => return Ok(Meaning::Local(Local::Doctor(it))),
            Self::Completion(it) => return Ok(Meaning::Local(Local::Completion(it))),
            Self::Help(it) => return Ok(Meaning::Local(Local::Help(it))),
        };
        Ok(Meaning::Call(Box::new(call)))
    }
}

/// The grammar with the grouped help page.
pub fn command() -> clap::Command {
    help::grouped(Msm::command())
}

/// Reads words (without `msm`) by the grammar.
pub fn parse<W: Into<OsString>>(words: impl IntoIterator<Item = W>) -> Result<Msm, clap::Error> {
    let words = std::iter::once("msm".into()).chain(words.into_iter().map(Into::into));
    let matches = command().try_get_matches_from(words)?;
    Msm::from_arg_matches(&matches)
}

/// Runs the process's command line.
pub fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let json = words.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    let msm = match parse(&words) {
        Ok(msm) => msm,
        Err(error) => {
            let mut screen = Screen::standard(json, false, ColorWish::Auto, true);
            let stop = usage::stop(&error, &words, &mut screen);
            return screen.stop(stop).into();
        }
    };
    let mut screen = Screen::standard(msm.globals.json, msm.globals.quiet, msm.globals.color, msm.globals.no_input);
    match run(msm, &mut screen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => screen.stop(stop).into(),
    }
}

fn run(msm: Msm, screen: &mut Screen) -> Result<(), Stop> {
    let globals = msm.globals;
    // On a terminal the REPL shows what happens.
    let daemon = matches!(msm.verb, Verb::Node(_)) && !std::io::stdin().is_terminal();
    logging::start(globals.verbose, globals.quiet, daemon, screen.style.color)?;
    let meaning = msm.verb.meaning(call::Stdin::Free)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        CommandError::new(crate::command::ErrorCode::Failed, format!("cannot start threads: {error}"))
    })?;
    let ended = runtime.block_on(carry_out(meaning, &globals, screen));
    // A thread that waits for a key press must not hold up the end.
    runtime.shutdown_background();
    ended
}

async fn carry_out(meaning: Meaning, globals: &Globals, screen: &mut Screen) -> Result<(), Stop> {
    // Opened only by those who need it: it makes the folders of a new home.
    let home = || Home::open(globals.home.as_deref()).map_err(CommandError::from);
    let local = match meaning {
        Meaning::Call(call) => {
            call.ask_consent(globals.yes, screen)?;
            return door::ask(*call, &home()?, screen).await;
        }
        Meaning::Local(local) => local,
    };
    match local {
        Local::Demo(it) => it.run(screen).await,
        Local::Node(it) => it.run(&home()?, screen).await,
        Local::Repl(it) => it.run(&home()?, screen).await,
        Local::Proxy(it) => it.run(&home()?, globals.yes, screen).await,
        Local::Market(it) => it.run(&home()?, globals.yes, screen).await,
        Local::Service(it) => {
            let mut signals = signals::Signals::listen()?;
            // Dropping its work kills its builds and its children.
            tokio::select! {
                ended = it.run(home, call::Stdin::Free, screen) => ended,
                code = signals.next() => Err(Stop::Exit(code)),
            }
        }
        Local::Key(it) => it.run(&home()?, call::Stdin::Free, screen),
        Local::Doctor(it) => it.run(&home()?, screen).await,
        Local::Completion(it) => it.run(screen),
        Local::Help(it) => it.run(screen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        command().debug_assert();
    }

    fn each(command: &clap::Command, path: &str, check: &mut impl FnMut(&str, &clap::Command)) {
        for sub in command.get_subcommands() {
            let path = format!("{path} {}", sub.get_name());
            check(&path, sub);
            each(sub, &path, check);
        }
    }

    #[test]
    fn every_command_has_an_example_that_parses() {
        let mut commands = 0;
        each(&command(), "msm", &mut |path, sub| {
            commands += 1;
            let help = sub.clone().render_long_help().to_string();
            let (_, examples) = help.split_once("Example").unwrap_or_else(|| panic!("{path} has no example"));
            let mut found = 0;
            for line in examples.lines().filter(|line| line.trim_start().starts_with("msm ")) {
                // What follows two blanks and a hash is a comment; a redirection is the shell's.
                let line = line.split("  #").next().unwrap_or_default().split(['<', '>']).next().unwrap_or_default();
                let words = words::split(line).unwrap();
                parse(&words[1..]).unwrap_or_else(|error| panic!("{path}: {line}: {error}"));
                found += 1;
            }
            assert!(found > 0, "{path}: {help}");
        });
        assert!(commands >= 30, "{commands}");
    }

    #[test]
    fn global_flags_stand_anywhere() {
        for line in ["--json peers", "peers --json", "-v peers -v", "peers --home /x", "--no-input --yes peers"] {
            parse(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        assert!(parse(["peers", "-q", "-v"]).is_err());
    }
}
