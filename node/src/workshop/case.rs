//! [`Case`]: one `tests/*.toml`, an input with what must come out.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use msm_protocol::{Manifest, limits::JOB_INPUT_BYTES, manifest::Split};
use serde::Deserialize;

use super::{WorkshopError, compare::Compare, replay::Replay};

/// The folder of a service's tests.
pub const TESTS: &str = "tests";
/// Bytes of one test file.
const CASE_BYTES: u64 = 64 * 1024;
/// Tests of one service. *Judgement.*
const CASES: usize = 256;
/// Numbers of parts that are tried when a test does not say: one, a few, an odd number.
const DEFAULT_CHUNKS: [u32; 4] = [1, 2, 3, 7];

/// What stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseToml {
    /// A file beside this one; nothing for services without input.
    input: Option<String>,
    #[serde(default)]
    params: BTreeMap<String, serde_json::Value>,
    /// A file beside this one.
    expect: Option<String>,
    #[serde(default)]
    compare: Compare,
    chunks: Option<Vec<u32>>,
    #[serde(default)]
    replay: ReplayToml,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct ReplayToml {
    gps: Option<String>,
    fetch: Option<String>,
    device: Option<String>,
}

/// A test, with its files read.
#[derive(Debug, Clone)]
pub struct Case {
    /// The file's name without `.toml`.
    pub name: String,
    /// The test file.
    pub path: PathBuf,
    /// The input's bytes.
    pub input: Bytes,
    /// All parameters as JSON, defaults filled in.
    pub params: std::sync::Arc<str>,
    /// The expected output, where there is one to compare with.
    pub expect: Option<Bytes>,
    /// How.
    pub compare: Compare,
    /// Numbers of parts that must give the same.
    pub chunks: Vec<u32>,
    /// What the service gets for what it asks of its device.
    pub replay: Replay,
}

/// Reads the tests of the service in `folder`; with `only`, the one of that name.
pub fn read_cases(folder: &Path, manifest: &Manifest, only: Option<&str>) -> Result<Vec<Case>, WorkshopError> {
    let tests = folder.join(TESTS);
    let mut paths = Vec::new();
    match fs::read_dir(&tests) {
        Ok(entries) => {
            for entry in entries {
                let path = entry.map_err(WorkshopError::io(&tests))?.path();
                if path.extension().is_some_and(|ending| ending == "toml") {
                    paths.push(path);
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(WorkshopError::io(&tests)(error)),
    }
    paths.sort();
    if paths.len() > CASES {
        let reason = format!("{} tests, at most {CASES}", paths.len());
        return Err(WorkshopError::Case { path: tests, text: String::new(), span: None, reason });
    }
    let name = |path: &PathBuf| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if let Some(only) = only {
        let names: Vec<String> = paths.iter().map(name).collect();
        paths.retain(|path| name(path) == only);
        if paths.is_empty() {
            return Err(WorkshopError::NotFound(format!("no test {only:?}: there are {}", names.join(", "))));
        }
    }
    paths.into_iter().map(|path| read_case(name(&path), path, &tests, manifest)).collect()
}

fn read_case(name: String, path: PathBuf, tests: &Path, manifest: &Manifest) -> Result<Case, WorkshopError> {
    let text = read(&path, CASE_BYTES)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let wrong = |key: &str, reason: String| {
        let span = key_span(&text, key);
        WorkshopError::Case { path: path.clone(), text: text.clone(), span, reason }
    };
    let case: CaseToml = toml::from_str(&text).map_err(|error| WorkshopError::Case {
        path: path.clone(),
        text: text.clone(),
        span: error.span(),
        reason: error.message().replace('`', ""),
    })?;
    let file = |key: &str, name: &str| {
        let plain = Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !plain || name.is_empty() {
            return Err(wrong(key, format!("{name:?} must be a file in {}", tests.display())));
        }
        read(&tests.join(name), JOB_INPUT_BYTES).map(Bytes::from).map_err(|error| wrong(key, error.to_string()))
    };
    let input = match &case.input {
        Some(name) => file("input", name)?,
        None => Bytes::new(),
    };
    if input.len() as u64 > manifest.limits.input {
        let reason = format!("{} bytes, service.toml allows {} (io.max-input)", input.len(), manifest.limits.input);
        return Err(wrong("input", reason));
    }
    let expect = match (&case.expect, &case.compare) {
        (Some(name), _) => Some(file("expect", name)?),
        (None, Compare::Pattern(_)) => None,
        (None, _) => {
            let reason = "expect is missing: name the file with the output that must come out, or write \
                          compare = \"regex:…\"";
            return Err(wrong("compare", reason.to_owned()));
        }
    };
    let given = case.params.into_iter().collect();
    let params = manifest.resolve_params(&given).map_err(|error| wrong("params", error.to_string()))?;
    let chunks = match (case.chunks, &manifest.work.split) {
        (_, Split::None) => Vec::new(),
        (Some(chunks), _) => chunks,
        (None, _) => DEFAULT_CHUNKS.to_vec(),
    };
    if let Some(odd) = chunks.iter().find(|n| !(1..=msm_protocol::limits::TASKS_PER_JOB as u32).contains(n)) {
        let reason = format!("{odd} parts: must be 1 to {}", msm_protocol::limits::TASKS_PER_JOB);
        return Err(wrong("chunks", reason));
    }
    let ReplayToml { gps, fetch, device } = &case.replay;
    let replay = Replay::read(tests, gps.as_deref(), fetch.as_deref(), device.as_deref(), &manifest.permissions)
        .map_err(|reason| wrong("replay", reason))?;
    Ok(Case { name, input, params: params.into(), expect, compare: case.compare, chunks, replay, path: path.clone() })
}

/// Bytes of the first line that begins with `key`.
fn key_span(text: &str, key: &str) -> Option<std::ops::Range<usize>> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_start().trim_start_matches('[').starts_with(key) {
            return Some(at..at + line.trim_end().len().max(1));
        }
        at += line.len();
    }
    None
}

/// Reads a file of at most `cap` bytes.
pub fn read(path: &Path, cap: u64) -> Result<Vec<u8>, WorkshopError> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(WorkshopError::io(path))?;
    file.take(cap + 1).read_to_end(&mut bytes).map_err(WorkshopError::io(path))?;
    if bytes.len() as u64 > cap {
        let message = format!("more than {cap} bytes");
        return Err(WorkshopError::io(path)(std::io::Error::new(std::io::ErrorKind::FileTooLarge, message)));
    }
    Ok(bytes)
}
