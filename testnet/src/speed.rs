//! All devices of a test are one machine: its speed is measured once, while nothing else runs, so that they agree on it.

use std::{fs, path::Path, sync::OnceLock};

use anyhow::{Context, Result, ensure};

use crate::node::{Client, Node};

/// Where a home keeps it.
const FILE: &str = "speed.toml";
/// How it says that it was measured once.
const ONCE: &str = "times = 1";

/// Tells a home the speed of this machine, if it knows none yet.
///
/// # Errors
/// The node that measures it does not start.
pub fn tell(home: &Path) -> Result<()> {
    static MEASURED: OnceLock<Result<Vec<u8>, String>> = OnceLock::new();
    if home.join(FILE).exists() {
        return Ok(());
    }
    let measured = MEASURED.get_or_init(|| measure().map_err(|error| format!("{error:#}")));
    let measured = measured.as_ref().map_err(|error| anyhow::anyhow!("the speed is not measured: {error}"))?;
    fs::create_dir_all(home)?;
    fs::write(home.join(FILE), measured).with_context(|| home.display().to_string())
}

/// What a node that starts alone measures.
fn measure() -> Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let home = folder.path().join("clock");
    let flags = ["--no-mdns", "--no-offer", "--listen", "/ip4/127.0.0.1/tcp/0"];
    Node::launch_as_it_is(Client::new(home.clone())?, &flags)?.ready()?.leave()?;
    let measured = fs::read_to_string(home.join(FILE))?;
    // Often enough: nodes that measure again would differ, and take time from what is tested.
    ensure!(measured.contains(ONCE), "{measured:?} does not say {ONCE:?}");
    Ok(measured.replace(ONCE, "times = 4").into_bytes())
}
