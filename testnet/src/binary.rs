//! Finds the `msm` binary under test.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

/// Names the binary; wins over the one built next to the tests.
pub const VARIABLE: &str = "MSM_BIN";

/// The top of this repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// The binary that `MSM_BIN` names, else the one that cargo built into the same folder as this test or example.
///
/// # Errors
/// There is none; the text says how to build it.
pub fn msm() -> Result<PathBuf> {
    if let Some(named) = env::var_os(VARIABLE) {
        let named = PathBuf::from(named);
        ensure!(named.is_file(), "{VARIABLE} names {}, and no file is there", named.display());
        return named.canonicalize().context("MSM_BIN");
    }
    // target/PROFILE/{deps,examples}/this-test
    let this = env::current_exe().context("where am I")?;
    let built = this.ancestors().nth(2).unwrap_or(Path::new(".")).join("msm");
    ensure!(
        built.is_file(),
        "the msm binary is not built: {} is missing.\n  try: cargo build -p msm-node --bin msm      (or set {VARIABLE})",
        built.display()
    );
    Ok(built)
}

/// A binary that runs where there is nothing else: the one under test if it was built so (`scripts/test` does), else the
/// release binary of `scripts/build`.
///
/// # Errors
/// It is not built yet.
pub fn static_msm() -> Result<PathBuf> {
    if cfg!(target_feature = "crt-static") {
        return msm();
    }
    let this = env::current_exe().context("where am I")?;
    let target = this.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file()).context("no target folder")?;
    let built = std::fs::read_dir(target)?
        .filter_map(|entry| Some(entry.ok()?.path().join("release/msm")))
        .find(|binary| binary.is_file());
    built.context("the static msm binary is not built.\n  try: scripts/build")
}
