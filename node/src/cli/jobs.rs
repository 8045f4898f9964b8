//! `msm jobs`.

use clap::{Args, Subcommand};

use super::call::Call;
use crate::command::Command;

/// Jobs of the running node
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  msm jobs\n  msm jobs show 7f3a")]
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
}

impl Jobs {
    pub(super) fn meaning(self) -> Call {
        Call::of_running_node(match self.what {
            None | Some(What::List) => Command::Jobs,
            Some(What::Show { id }) => Command::Job { id },
        })
    }
}
