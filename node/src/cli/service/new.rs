//! `msm service new`.

use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::{Screen, Stop, failed};
use crate::workshop::scaffold::{self, Language, Template};

/// Make the folder of a new service
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  msm service new hello\n  msm service new pixelate --lang c --template image")]
pub(super) struct New {
    /// Its name, and the folder's: a-z, 0-9 and '-'
    name: String,
    /// In which language
    #[arg(long, value_enum, default_value = "js", value_name = "LANGUAGE")]
    lang: Language,
    /// What it does, to begin from
    #[arg(long, value_enum, default_value = "text", value_name = "KIND")]
    template: Template,
}

/// `msm.service-new/1`.
#[derive(Serialize)]
struct Created<'a> {
    schema: &'static str,
    name: &'a str,
    files: Vec<String>,
}

impl New {
    pub(super) fn run(self, screen: &mut Screen) -> Result<(), Stop> {
        let made = scaffold::create(Path::new("."), &self.name, self.lang, self.template);
        let files = made.map_err(|error| failed(error, Path::new("."), screen.style))?;
        let inside = |path: &std::path::PathBuf| {
            path.strip_prefix(Path::new(".").join(&self.name)).unwrap_or(path).display().to_string()
        };
        let files: Vec<String> = files.iter().map(inside).collect();
        if screen.style.json {
            return screen.result_json(&Created { schema: "msm.service-new/1", name: &self.name, files });
        }
        screen.result_line(format!("created {}/: {}", self.name, files.join(" ")))?;
        if !screen.style.quiet {
            screen.message(format!("next: msm service dev {}", self.name));
        }
        Ok(())
    }
}
