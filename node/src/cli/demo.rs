//! `msm demo`.

use std::path::PathBuf;

use clap::Args;

use super::screen::{Screen, Stop};

/// Watch several local nodes blur a picture together while one of them is killed
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  msm demo\n  msm demo photo.jpg --devices 6 --out blurred.png --json")]
pub struct Demo {
    /// A PNG or JPEG; without it a picture is drawn
    #[arg(value_name = "PHOTO")]
    pub photo: Option<PathBuf>,
    /// Worker nodes to start
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..=16))]
    pub devices: u32,
    /// Leave the nodes' folders where they are
    #[arg(long)]
    pub keep: bool,
    /// The blurred picture
    #[arg(long, value_name = "FILE", default_value = "demo-out.png")]
    pub out: PathBuf,
}

impl Demo {
    pub(super) async fn run(self, screen: &mut Screen) -> Result<(), Stop> {
        crate::demo::run(self, screen).await
    }
}
