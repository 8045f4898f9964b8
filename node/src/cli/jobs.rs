//! `msm jobs`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::call::{self, Call, Output};
use crate::command::{Command, CommandError};

const EXAMPLES: &str = "\
Examples:
  msm jobs
  msm jobs show 7f3a
  msm jobs wait 7f3a -o out.png

A job that is detached, or whose node was killed, goes on by itself while msm node runs. Its result is kept until it is
taken, for a day at most.";

/// Jobs of the running node
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Jobs {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List them, newest first (also without this word)
    #[command(after_help = "Example:\n  msm jobs list --json")]
    List,
    /// One job: who did what, and how long it took
    #[command(after_help = "Example:\n  msm jobs show 7f3a")]
    Show {
        /// Its id, or an unambiguous beginning
        id: String,
    },
    /// Watch one job to its end; its result stays where it is
    #[command(after_help = "Example:\n  msm jobs follow 7f3a")]
    Follow {
        /// Its id, or an unambiguous beginning
        id: String,
    },
    /// Wait for a job, take its result, and end with its exit code
    #[command(after_help = "Example:\n  msm jobs wait 7f3a -o out.png")]
    Wait(Taking),
    /// End a job on all devices; nothing is kept of it
    #[command(after_help = "Example:\n  msm jobs cancel 7f3a")]
    Cancel {
        /// Its id, or an unambiguous beginning
        id: String,
    },
    /// Go on with a job that was interrupted, and take its result; works without a running node too
    #[command(after_help = "Example:\n  msm jobs resume 7f3a -o out.png")]
    Resume(Taking),
}

#[derive(Debug, Args)]
struct Taking {
    /// Its id, or an unambiguous beginning
    id: String,
    /// Output file; - is standard output
    #[arg(short, long, value_name = "OUT|-")]
    output: Option<PathBuf>,
}

impl Taking {
    fn meaning(self, command: impl FnOnce(String) -> Command) -> Result<Call, CommandError> {
        let output = match self.output {
            Some(path) if path == Path::new("-") => Output::Stdout,
            Some(path) => {
                call::check_output(&path)?;
                Output::File(path)
            }
            None => Output::Unsaid,
        };
        Ok(Call { output, ..Call::of_any_node(command(self.id)) })
    }
}

impl Jobs {
    pub(super) fn meaning(self) -> Result<Call, CommandError> {
        Ok(match self.what {
            None | Some(What::List) => Call::of_running_node(Command::Jobs),
            Some(What::Show { id }) => Call::of_running_node(Command::Job { id }),
            Some(What::Follow { id }) => Call::of_running_node(Command::JobWait { id, output: false }),
            Some(What::Wait(taking)) => return taking.meaning(|id| Command::JobWait { id, output: true }),
            Some(What::Cancel { id }) => Call::of_running_node(Command::JobCancel { id }),
            Some(What::Resume(taking)) => return taking.meaning(|id| Command::JobResume { id }),
        })
    }
}
