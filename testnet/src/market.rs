//! A throw-away market that publishes services of this repository.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::node::Client;

/// A market in a publisher's home.
#[derive(Debug)]
pub struct Market {
    /// `msm:market:FINGERPRINT`.
    pub name: String,
    /// `FOLDER#FINGERPRINT`.
    pub folder: String,
}

impl Market {
    /// Makes a market in the home of `publisher` and publishes these service folders.
    ///
    /// # Errors
    /// What `msm market` refuses.
    pub fn publish(publisher: &Client, services: &[PathBuf]) -> Result<Self> {
        let folder = publisher.home().join("market-folder");
        publisher.json(&["market", "init", text(&folder)?, "--name", "Test Market"])?;
        for service in services {
            publisher.json(&["market", "publish", text(service)?])?;
        }
        let share = publisher.json(&["market", "share"])?;
        let name = share["market"].as_str().context("market share --json has a market")?.to_owned();
        let fingerprint = name.rsplit(':').next().unwrap_or_default();
        let folder = format!("{}#{fingerprint}", folder.display());
        Ok(Self { name, folder })
    }
}

/// Writes the folder of a service without input whose script is `source`; one task of it may run for `time` (`10s`).
pub fn write_service(folder: &Path, name: &str, source: &str, time: &str) -> Result<PathBuf> {
    let folder = folder.join(name);
    fs::create_dir_all(&folder)?;
    let manifest = format!(
        r#"schema = 1
[service]
name = "{name}"
version = "1.0.0"
summary = "Made for a test"
scope = "test"
license = "MIT OR Apache-2.0"
authors = ["testnet"]
[io]
input = ["application/octet-stream"]
output = "application/octet-stream"
[work]
split = "bytes:1KiB"
deterministic = true
[constraints]
devices = {{ default = "auto", min = 1, max = 16 }}
[limits]
time = "{time}"
[[variant]]
engine = "js"
file = "main.js"
"#
    );
    fs::write(folder.join("service.toml"), manifest)?;
    fs::write(folder.join("main.js"), source)?;
    Ok(folder)
}

/// The path as an argument.
///
/// # Errors
/// It is not UTF-8.
pub fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
