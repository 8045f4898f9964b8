//! `msm service pack`.

use std::path::PathBuf;

use clap::Args;
use msm_market_index::write_sep;

use super::{Folder, Screen, Stop, inspect, open, refused};
use crate::cli::call;

/// Pack a service's folder into one file to carry by hand
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  msm service pack ./my-service -o my-service.sep")]
pub(super) struct Pack {
    #[command(flatten)]
    folder: Folder,
    /// The file; by default NAME-VERSION.sep here
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Pack {
    pub(super) async fn run(self, screen: &mut Screen) -> Result<(), Stop> {
        let folder = self.folder.folder;
        let package = open(&folder, None, screen).await?.package;
        let manifest = &package.manifest;
        let file = self.output.unwrap_or_else(|| format!("{}-{}.sep", manifest.name, manifest.version).into());
        call::check_output(&file)?;
        let sep = write_sep(&package).map_err(|error| refused(&error, &folder, screen.style))?;
        call::write_output(&file, &sep)?;
        inspect::show(&package, Some(&file), None, screen)
    }
}
