//! `msm pending`.

use clap::Args;

use super::call::Call;
use crate::command::Command;

/// What services asked for and were refused, each with the line that says yes
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  msm pending\n  msm pending --json")]
pub struct Pending {}

impl Pending {
    pub(super) fn meaning(self) -> Call {
        Call::of_running_node(Command::Pending)
    }
}
