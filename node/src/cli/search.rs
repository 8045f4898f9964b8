//! `msm search`.

use clap::Args;

use super::{call::Call, values::EngineWish};
use crate::command::{self, Command};

/// Find services in the trusted markets
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  msm search\n  msm search blur --scope media/image --engine js")]
pub struct Search {
    /// Each begins a word of the name, scope or summary; none lists everything
    words: Vec<String>,
    /// Only this scope and those below it
    #[arg(long, value_name = "PATH")]
    scope: Option<String>,
    /// Only services that have a variant for this engine
    #[arg(long, value_enum)]
    engine: Option<EngineWish>,
    /// Only this market (alias or id)
    #[arg(long)]
    market: Option<String>,
    /// Also services that fewer have reviewed than their market asks for
    #[arg(long)]
    unreviewed: bool,
}

impl Search {
    pub(super) fn meaning(self) -> Call {
        Call::of_any_node(Command::Search(command::Search {
            words: self.words,
            scope: self.scope,
            engine: self.engine.map(|engine| engine.as_str().to_owned()),
            market: self.market,
            unreviewed: self.unreviewed,
        }))
    }
}
