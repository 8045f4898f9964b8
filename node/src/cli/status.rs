//! `msm status`.

use clap::Args;

use super::call::Call;
use crate::command::Command;

/// What this node is, lends and sees
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  msm status\n  msm status --json")]
pub struct Status {}

impl Status {
    pub(super) fn meaning(self) -> Call {
        Call::of_running_node(Command::Status)
    }
}
