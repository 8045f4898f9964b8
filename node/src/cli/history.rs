//! `msm history`.

use clap::Args;

use super::call::Call;
use crate::command::Command;

/// What services did with this device, and what they were denied, newest first
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  msm history --today\n  msm history --json")]
pub struct History {
    /// Only since midnight (UTC)
    #[arg(long)]
    today: bool,
}

impl History {
    pub(super) fn meaning(self) -> Call {
        Call::of_any_node(Command::History { today: self.today })
    }
}
