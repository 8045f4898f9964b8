//! `msm completion`.

use clap::Args;
use clap_complete::Shell;

use super::screen::{Screen, Stop};

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  msm completion bash > ~/.local/share/bash-completion/completions/msm")]
pub struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    pub(crate) fn run(self, screen: &mut Screen) -> Result<(), Stop> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "msm", &mut script);
        screen.result(&script)
    }
}
