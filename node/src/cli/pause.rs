//! `msm pause` and `msm resume`.

use clap::Args;

use super::{call::Call, values};
use crate::command::Command;

/// Lend nothing for a while; tasks of others are handed back at once
#[derive(Debug, Args)]
#[command(
    after_help = "What runs for you goes on. The pause outlives a restart, and ends by itself or by msm resume.\n\n\
                        Example:\n  msm pause\n  msm pause 1h"
)]
pub struct Pause {
    /// For how long, such as 30m, 8h or 7d [default: until msm resume]
    #[arg(value_name = "TIME", value_parser = values::life_s)]
    time: Option<u64>,
}

impl Pause {
    pub(super) fn meaning(self) -> Call {
        Call::of_running_node(Command::Pause { for_s: self.time })
    }
}

/// Lend again
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  msm resume")]
pub struct Resume {}

impl Resume {
    pub(super) fn meaning(self) -> Call {
        Call::of_running_node(Command::Resume)
    }
}
