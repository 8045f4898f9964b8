//! `msm show`.

use clap::Args;

use super::call::Call;
use crate::command::Command;

/// One service in detail
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  msm show image-blur\n  msm show home/image-blur@1.2")]
pub struct Show {
    /// NAME or MARKET/NAME, either with @RANGE
    service: String,
}

impl Show {
    pub(super) fn meaning(self) -> Call {
        Call::of_any_node(Command::Show { service: self.service })
    }
}
