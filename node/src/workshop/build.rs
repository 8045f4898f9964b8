//! Runs the `build` lines of a `service.toml`: the author's own, on the author's machine, shown before they run.
//!
//! Nothing that came over a network gets here: packages carry no build lines, and only commands of `msm service` that
//! are given a folder call this.

use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant, SystemTime},
};

use msm_market_index::VariantRecipe;
use tokio::{io::AsyncReadExt, process::Command};

use super::{WorkshopError, glob};

/// The longest a build may take: a first build in Rust with its crates takes minutes. *Judgement.*
const BUILD_TIME: Duration = Duration::from_secs(15 * 60);
/// Bytes of a build's output that are kept for its error: the last screen or two.
const OUTPUT_BYTES: usize = 8 * 1024;
/// What a file is made from when its variant does not say.
const DEFAULT_WATCH: &str = "src/**";

/// A build that was run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// What it made.
    pub file: String,
    /// Bytes of that.
    pub size: u64,
    /// How long it took.
    pub took: Duration,
}

/// The patterns of the files that a variant is made from.
pub fn sources(variant: &VariantRecipe) -> Vec<&str> {
    match variant.watch.as_slice() {
        [] => vec![DEFAULT_WATCH],
        watch => watch.iter().map(String::as_str).collect(),
    }
}

/// True when a variant has a build line and its file is missing or older than one of its sources.
pub fn is_due(folder: &Path, variant: &VariantRecipe) -> bool {
    if variant.build.is_none() {
        return false;
    }
    let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let Some(made) = changed(&folder.join(&variant.file)) else { return true };
    let patterns = sources(variant);
    let is_source = |name: &str| name != variant.file && patterns.iter().any(|pattern| glob::fits(pattern, name));
    let newest: Option<SystemTime> =
        glob::files(folder).iter().filter(|(name, _)| is_source(name)).filter_map(|(_, path)| changed(path)).max();
    newest.is_some_and(|newest| newest > made)
}

/// Runs the variant's build line in `folder` and makes sure that its file is there afterwards.
pub async fn run(folder: &Path, variant: &VariantRecipe) -> Result<Built, WorkshopError> {
    run_within(folder, variant, BUILD_TIME).await
}

async fn run_within(folder: &Path, variant: &VariantRecipe, limit: Duration) -> Result<Built, WorkshopError> {
    let line = variant.build.clone().unwrap_or_default();
    let began = Instant::now();
    let failed = |reason: String, output: String| WorkshopError::Build {
        file: variant.file.clone(),
        reason,
        line: line.clone(),
        output: output.trim_end().to_owned(),
    };
    let mut command = Command::new("sh");
    // Both streams into one pipe, in the order in which they were written.
    command.args(["-c", &format!("exec 2>&1\n{line}")]).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| failed(format!("cannot start sh: {error}"), String::new()))?;
    let mut kept = Vec::new();
    let work = async {
        if let Some(mut out) = child.stdout.take() {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut bytes).await {
                kept.extend_from_slice(&bytes[..count]);
                kept.drain(..kept.len().saturating_sub(OUTPUT_BYTES));
            }
        }
        child.wait().await
    };
    let ended = tokio::time::timeout(limit, work).await;
    let output = String::from_utf8_lossy(&kept).into_owned();
    let status = match ended {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => return Err(failed(error.to_string(), output)),
        Err(_) => return Err(failed(format!("it did not end within {} s", limit.as_secs_f64()), output)),
    };
    if !status.success() {
        return Err(failed(format!("{status}{}", what_to_install(&line, status.code())), output));
    }
    let file = folder.join(&variant.file);
    let Ok(metadata) = fs::metadata(&file) else {
        return Err(failed(format!("it ended well, and {} is not there", variant.file), output));
    };
    // A build that found nothing to do leaves its file as it is; without this it would be due for ever.
    let _ = fs::File::options().append(true).open(&file).and_then(|file| file.set_modified(SystemTime::now()));
    Ok(Built { file: variant.file.clone(), size: metadata.len(), took: began.elapsed() })
}

/// Where a line's tools come from, when the shell did not find one (127).
fn what_to_install(line: &str, code: Option<i32>) -> &'static str {
    match code {
        Some(127) if line.contains("clang") => {
            " (not found: on Debian, apt-get install clang lld wasi-libc libclang-rt-14-dev-wasm32)"
        }
        Some(127) if line.contains("rustc") || line.contains("cargo") => {
            " (not found: rustup target add wasm32-wasip1, or on Debian, apt-get install rustc libstd-rust-dev-wasm32 lld wasi-libc)"
        }
        Some(127) => " (a program of this line is not installed)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variant(build: &str) -> VariantRecipe {
        VariantRecipe {
            engine: msm_protocol::manifest::Engine::Wasm,
            file: "out.wasm".into(),
            build: Some(build.into()),
            watch: vec!["src/*.c".into()],
        }
    }

    #[tokio::test]
    async fn a_file_is_made_once_and_again_when_its_source_changes() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("src/main.c");
        fs::create_dir(folder.path().join("src")).unwrap();
        fs::write(&source, "one").unwrap();
        let variant = variant("cp src/main.c out.wasm");
        assert!(is_due(folder.path(), &variant));
        let built = run(folder.path(), &variant).await.unwrap();
        assert_eq!((built.file.as_str(), built.size), ("out.wasm", 3));
        assert!(!is_due(folder.path(), &variant));
        // Newer by more than any clock's step.
        let later = SystemTime::now() + Duration::from_secs(5);
        fs::File::options().append(true).open(&source).unwrap().set_modified(later).unwrap();
        assert!(is_due(folder.path(), &variant));
        assert!(!is_due(folder.path(), &VariantRecipe { build: None, ..variant }));
    }

    #[tokio::test]
    async fn a_failed_build_says_its_line_its_end_and_what_it_printed() {
        let folder = tempfile::tempdir().unwrap();
        for (line, expected) in [
            (
                "echo to out; echo to err >&2; exit 3",
                "exit status: 3\n$ echo to out; echo to err >&2; exit 3\nto out\nto err",
            ),
            ("no-such-clang-here", "apt-get install clang"),
            ("true", "it ended well, and out.wasm is not there"),
            ("kill -9 $$", "signal: 9"),
        ] {
            let error = run(folder.path(), &variant(line)).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
        let began = Instant::now();
        let short = Duration::from_millis(300);
        let error = run_within(folder.path(), &variant("exec sleep 60"), short).await.unwrap_err().to_string();
        assert!(error.contains("did not end within 0.3 s") && began.elapsed() < Duration::from_secs(30), "{error}");
        // Only its end is kept.
        let endless = "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done; exit 1";
        let error = run(folder.path(), &variant(endless)).await.unwrap_err().to_string();
        assert!(error.contains("line 4999") && !error.contains("line 10\n") && error.len() < 2 * OUTPUT_BYTES);
    }
}
