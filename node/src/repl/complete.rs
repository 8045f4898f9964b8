//! What Tab offers: verbs, flags, and the names of services, markets, peers and jobs that were last seen.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::{
    cli::{self, render::text::clean},
    command::{Command, Door, Reply, Search},
    resources::words::Right,
};

/// Names of one kind that are kept: more than anybody pages through.
const NAMES: usize = 1_000;
/// Characters of a name.
const NAME_CHARS: usize = 128;

/// Names to offer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// `name` and `market/name`.
    pub services: Vec<String>,
    /// Aliases.
    pub markets: Vec<String>,
    /// Beginnings of job ids.
    pub jobs: Vec<String>,
}

/// Names that a task refreshes while the prompt reads them.
#[derive(Debug, Clone, Default)]
pub struct SharedNames(Arc<Mutex<Names>>);

impl SharedNames {
    /// What was last seen.
    pub fn now(&self) -> Names {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the node. What it does not answer keeps its last names.
    pub async fn refresh<D: Door>(&self, door: &D) {
        for command in [Command::Search(Search::default()), Command::MarketList, Command::Jobs] {
            let (events, _) = mpsc::channel(1);
            if let Ok(response) = door.execute(command.into(), events).await {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).learn(&response.reply);
            }
        }
    }
}

impl Names {
    fn learn(&mut self, reply: &Reply) {
        // A name that would have to be changed to be shown is not offered.
        let keep = |names: &mut dyn Iterator<Item = String>| -> Vec<String> {
            names.filter(|name| clean(name, NAME_CHARS) == *name).take(NAMES).collect()
        };
        match reply {
            Reply::Services { services } => {
                let names = services.iter().flat_map(|row| [row.name.clone(), format!("{}/{}", row.market, row.name)]);
                self.services = keep(&mut names.into_iter());
                self.services.sort_unstable();
                self.services.dedup();
            }
            Reply::Markets { markets } => self.markets = keep(&mut markets.iter().map(|row| row.alias.clone())),
            Reply::Jobs { jobs } => self.jobs = keep(&mut jobs.iter().map(|job| job.job_id.to_string())),
            _ => {}
        }
    }
}

/// What can stand at the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// One of these, in place of what begins at this byte.
    Words(usize, Vec<String>),
    /// The name of a file.
    File,
}

/// Words that leave the REPL or explain it.
const OWN_VERBS: [&str; 3] = ["exit", "help", "quit"];
/// Verbs that only a shell runs.
const SHELL_VERBS: [&str; 4] = ["completion", "demo", "node", "repl"];

/// What Tab offers in `line` with the cursor at its byte `at`.
pub fn offer(line: &str, at: usize, names: &Names) -> Offer {
    let before = line.get(..at).unwrap_or(line);
    let start = before.rfind(char::is_whitespace).map_or(0, |blank| blank + 1);
    let word = &before[start..];
    let mut command = cli::command();
    command.build();
    let (mut positionals, mut flag) = (0, None);
    for earlier in before[..start].split_whitespace().skip_while(|word| *word == "msm") {
        match command.find_subcommand(earlier).cloned() {
            Some(sub) if positionals == 0 && !earlier.starts_with('-') => command = sub,
            _ if flag.is_some() => flag = None,
            _ if earlier.starts_with('-') => flag = takes_value(&command, earlier),
            _ => positionals += 1,
        }
    }
    let words = match flag {
        Some(flag) => match choices(&flag) {
            Some(choices) => choices,
            None if flag == "market" => names.markets.clone(),
            None => return Offer::File,
        },
        None if word.starts_with('-') => flags(&command),
        None if command.has_subcommands() && positionals == 0 => verbs(&command),
        None => match (command.get_name(), positionals) {
            ("invoke" | "show", 0) if command.get_arguments().any(|arg| arg.get_id() == "service") => {
                names.services.clone()
            }
            ("show", 0) => names.jobs.clone(),
            ("remove" | "share", 0) => names.markets.clone(),
            ("grant" | "revoke-grant", 0) => names.services.clone(),
            ("grant" | "revoke-grant", 1) => Right::ALL.map(|right| right.to_string()).to_vec(),
            ("search" | "status" | "peers" | "grants" | "pending" | "history", _) => Vec::new(),
            _ => return Offer::File,
        },
    };
    Offer::Words(start, words.into_iter().filter(|candidate| candidate.starts_with(word)).collect())
}

/// The name of the flag `word` when a value follows it.
fn takes_value(command: &clap::Command, word: &str) -> Option<String> {
    let flag = command.get_arguments().find(|arg| {
        let long = arg.get_long().is_some_and(|long| word.strip_prefix("--") == Some(long));
        long || arg.get_short().is_some_and(|short| word.strip_prefix('-') == Some(short.to_string().as_str()))
    })?;
    flag.get_action().takes_values().then(|| flag.get_id().to_string())
}

/// What a flag accepts, when that is a list.
fn choices(flag: &str) -> Option<Vec<String>> {
    let words: &[&str] = match flag {
        "devices" => &["auto"],
        "network" => &["high", "low", "na"],
        "require" => &["gps"],
        "engine" => &["js", "wasm"],
        "on_loss" => &["local", "partial", "remote"],
        "color" => &["always", "auto", "never"],
        "params" | "battery_min" | "eqs_min" | "deadline" | "name" | "alias" | "scope" => &[],
        _ => return None,
    };
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

fn flags(command: &clap::Command) -> Vec<String> {
    let mut flags: Vec<String> =
        command.get_arguments().filter_map(|arg| arg.get_long()).map(|long| format!("--{long}")).collect();
    flags.sort_unstable();
    flags
}

fn verbs(command: &clap::Command) -> Vec<String> {
    let top = command.get_name() == "msm";
    let mut verbs: Vec<String> = command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set())
        .filter(|sub| !top || !SHELL_VERBS.contains(&sub.get_name()))
        .map(|sub| sub.get_name().to_owned())
        .collect();
    if top {
        verbs.extend(OWN_VERBS.map(str::to_owned));
    }
    verbs.sort_unstable();
    verbs.dedup();
    verbs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tab_offers_what_fits() {
        let names = Names {
            services: vec!["home/image-blur".into(), "image-blur".into()],
            markets: vec!["home".into()],
            jobs: vec!["7f3a00".into()],
        };
        let cases: [(&str, &[&str]); 13] = [
            ("pe", &["peers", "pending"]),
            ("q", &["quit"]),
            ("market a", &["add"]),
            ("market remove ", &["home"]),
            ("search --market h", &["home"]),
            ("invoke i", &["image-blur"]),
            ("msm invoke home/", &["home/image-blur"]),
            ("show ", &["home/image-blur", "image-blur"]),
            ("jobs show 7", &["7f3a00"]),
            ("invoke x --on-", &["--on-loss"]),
            ("invoke x --network h", &["high"]),
            ("invoke x --battery-min ", &[]),
            ("de", &[]),
        ];
        for (line, expected) in cases {
            let Offer::Words(start, words) = offer(line, line.len(), &names) else { panic!("{line}: files") };
            assert_eq!(words, expected, "{line}");
            assert_eq!(start, line.rfind(' ').map_or(0, |blank| blank + 1), "{line}");
        }
        for line in ["invoke image-blur ca", "invoke image-blur cat.png -o ", "market publish ./", "service pack "] {
            assert_eq!(offer(line, line.len(), &names), Offer::File, "{line}");
        }
    }

    #[test]
    fn odd_lines_do_no_harm() {
        for line in ["", "   ", "--", "market", "ä", "peers ☃ ☃", "-o -o -o", "show show show"] {
            for at in 0..=line.len() + 1 {
                let _ = offer(line, at, &Names::default());
            }
        }
    }
}
