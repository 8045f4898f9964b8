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

/// Bytes of a part of [`WORK`]: as many parts as wanted cost little to carry.
pub const PART_BYTES: usize = 64;
/// The service that [`write_work`] writes.
pub const WORK: &str = "work";
/// It works as long as it is told, on each byte: `rounds` turns of a loop. Parts and the whole give the same.
const WORK_SOURCE: &str = "
export function run(input, ctx) {
  const { rounds } = ctx.params;
  const output = new Uint8Array(input.length);
  for (let at = 0; at < input.length; at++) {
    let hash = input[at] + 1;
    for (let turn = 0; turn < rounds; turn++) hash = Math.imul(hash ^ turn, 16777619);
    output[at] = hash ^ (hash >>> 13);
  }
  return output;
}
export function* split(input) {
  for (let at = 0; at < input.length; at += 64) yield input.subarray(at, at + 64);
}
export function merge(parts) {
  const all = Array.from(parts);
  const output = new Uint8Array(all.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of all) { output.set(part, at); at += part.length; }
  return output;
}
";

const ROUNDS: &str = "[params]\nrounds = { type = \"integer\", default = 1000, minimum = 0, maximum = 1000000000 }\n";

/// Writes the folder of [`WORK`]: each [`PART_BYTES`] of its input are a part, and each byte takes `rounds` turns.
pub fn write_work(folder: &Path) -> Result<PathBuf> {
    write(folder, WORK, WORK_SOURCE, "60s", "service", ROUNDS)
}

/// The same work on any run of pieces of [`PART_BYTES`]: who plans the job chooses how many parts it has.
pub const HEAVY: &str = "heavy";

/// Writes the folder of [`HEAVY`].
pub fn write_heavy(folder: &Path) -> Result<PathBuf> {
    write(folder, HEAVY, WORK_SOURCE, "60s", &format!("bytes:{PART_BYTES}B"), ROUNDS)
}

/// Writes the folder of a service without parameters whose script is `source`; its input is cut into pieces of 1 KiB, and
/// one task of it may run for `time` (`10s`).
pub fn write_service(folder: &Path, name: &str, source: &str, time: &str) -> Result<PathBuf> {
    write(folder, name, source, time, "bytes:1KiB", "")
}

fn write(folder: &Path, name: &str, source: &str, time: &str, split: &str, params: &str) -> Result<PathBuf> {
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
{params}[work]
split = "{split}"
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
