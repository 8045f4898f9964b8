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
    if let (Ok(folder), Ok(real)) = (folder.canonicalize(), tests.canonicalize())
        && !real.starts_with(&folder)
    {
        let reason = format!("is a link out of {}", folder.display());
        return Err(WorkshopError::Case { path: tests, text: String::new(), span: None, reason });
    }
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
    let own = path.file_name().unwrap_or_default().to_string_lossy();
    let text = inside(tests, &own).map_err(|reason| WorkshopError::Case {
        path: path.clone(),
        text: String::new(),
        span: None,
        reason,
    })?;
    let text = read(&text, CASE_BYTES)?;
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
    let named = |key: &str, name: &str| inside(tests, name).map_err(|reason| wrong(key, reason));
    let file = |key: &str, name: &str| {
        read(&named(key, name)?, JOB_INPUT_BYTES).map(Bytes::from).map_err(|error| wrong(key, error.to_string()))
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
    let replayed = |name: &Option<String>| name.as_deref().map(|name| named("replay", name)).transpose();
    let (gps, site, device) = (replayed(gps)?, replayed(fetch)?, replayed(device)?);
    let replay = Replay::read(gps.as_deref(), site.as_deref(), device.as_deref(), &manifest.permissions)
        .map_err(|reason| wrong("replay", reason))?;
    Ok(Case { name, input, params: params.into(), expect, compare: case.compare, chunks, replay, path: path.clone() })
}

/// The real path of what a test names. A service's folder may come from a stranger: what its tests name, and what links
/// there lead to, must lie in the folder of tests, or they would hand a guest any file of the author's.
fn inside(tests: &Path, name: &str) -> Result<PathBuf, String> {
    let refused = || format!("{name:?} must be a file or folder in {}, and no link out of it", tests.display());
    let plain = Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !plain || name.is_empty() {
        return Err(refused());
    }
    let real = |path: PathBuf| path.canonicalize().map_err(|error| format!("{}: {error}", path.display()));
    let (folder, path) = (real(tests.to_owned())?, real(tests.join(name))?);
    // Anything else, a pipe or a device, could keep its reader waiting for ever.
    if path.starts_with(&folder) && (path.is_file() || path.is_dir()) { Ok(path) } else { Err(refused()) }
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

#[cfg(test)]
mod tests {
    use msm_market_index::pack_folder;

    use super::*;
    use crate::workshop::scaffold::{Language, Template, create};

    fn hello() -> (tempfile::TempDir, PathBuf, Manifest) {
        let parent = tempfile::tempdir().unwrap();
        create(parent.path(), "hello", Language::Js, Template::Text).unwrap();
        let folder = parent.path().join("hello");
        let manifest = pack_folder(&folder).unwrap().manifest;
        (parent, folder, manifest)
    }

    #[test]
    fn a_test_is_read_with_its_files_and_defaults() {
        let (_parent, folder, manifest) = hello();
        let cases = read_cases(&folder, &manifest, None).unwrap();
        let [case] = cases.as_slice() else { panic!("{cases:?}") };
        assert_eq!((case.name.as_str(), &*case.params), ("names", "{\"greeting\":\"Hello\"}"));
        assert_eq!((&case.input[..], case.chunks.as_slice()), (&b"Ada\nGrace\nAnn\n"[..], &[1, 2, 3, 7][..]));
        assert!(read_cases(&folder, &manifest, Some("nobody")).is_err());
        fs::write(folder.join("tests/names.toml"), "compare = \"regex:^$\"\n").unwrap();
        let case = &read_cases(&folder, &manifest, None).unwrap()[0];
        assert!(case.input.is_empty() && case.expect.is_none() && case.chunks == DEFAULT_CHUNKS);
        fs::remove_dir_all(folder.join("tests")).unwrap();
        assert!(read_cases(&folder, &manifest, None).unwrap().is_empty());
    }

    /// The line that a fault is shown at, and what is said.
    #[test]
    fn a_wrong_test_is_named_by_its_line() {
        let (parent, folder, manifest) = hello();
        fs::write(parent.path().join("secret"), "secret").unwrap();
        fs::write(folder.join("tests/large"), vec![b'a'; 100]).unwrap();
        std::os::unix::fs::symlink("../../secret", folder.join("tests/linked")).unwrap();
        std::os::unix::fs::symlink("/", folder.join("tests/root")).unwrap();
        let pipe = std::ffi::CString::new(folder.join("tests/pipe").into_os_string().into_encoded_bytes()).unwrap();
        // SAFETY: the path ends with a zero and is only read.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        let table = [
            ("inptu = \"names.txt\"", 1, "unknown field inptu"),
            ("input = 3", 1, "expected a string"),
            ("input = \"gone\"", 1, "No such file"),
            ("\ninput = \"../../secret\"", 2, "must be a file or folder in"),
            ("input = \"/etc/passwd\"", 1, "must be a file or folder in"),
            ("expect = \"../hello/service.toml\"", 1, "must be a file or folder in"),
            ("input = \"names.txt\"\ncompare = \"bytes\"", 2, "expect is missing"),
            ("expect = \"names.txt\"\nparams = { greting = 1 }", 2, "params.greting: unknown"),
            ("expect = \"names.txt\"\nparams = { greeting = 1 }", 2, "params.greeting: must be a string"),
            ("expect = \"names.txt\"\nchunks = [0]", 2, "0 parts: must be 1 to 16384"),
            ("expect = \"names.txt\"\nchunks = [99999]", 2, "99999 parts"),
            ("expect = \"names.txt\"\nchunks = [-1]", 2, "invalid value"),
            ("expect = \"names.txt\"\n\nreplay = { gps = \"gone.json\" }", 3, "No such file"),
            ("expect = \"names.txt\"\nreplay = { fetch = \"names.txt\" }", 2, "is no folder"),
            ("expect = \"names.txt\"\nreplay = { gpx = \"x\" }", 2, "unknown field gpx"),
            ("expect = \"names.txt\"\nreplay = { fetch = \"/\" }", 2, "must be a file or folder in"),
            ("expect = \"names.txt\"\nreplay = { fetch = \"..\" }", 2, "must be a file or folder in"),
            ("expect = \"names.txt\"\nreplay = { fetch = \"root\" }", 2, "no link out of it"),
            ("expect = \"names.txt\"\nreplay = { gps = \"/proc/self/stat\" }", 2, "must be a file or folder in"),
            ("expect = \"names.txt\"\nreplay = { device = \"../../secret\" }", 2, "must be a file or folder in"),
            ("expect = \"names.txt\"\nreplay = { device = \"linked\" }", 2, "no link out of it"),
            ("expect = \"names.txt\"\nreplay = { gps = \"root/etc/hostname\" }", 2, "no link out of it"),
            ("input = \"linked\"", 1, "no link out of it"),
            ("input = \"pipe\"", 1, "must be a file or folder in"),
            ("expect = \"root/etc/hostname\"", 1, "no link out of it"),
            ("compare = \"regex:(\"", 1, "unclosed group"),
            ("input = ", 1, "string values must be quoted"),
        ];
        for (text, line, expected) in table {
            fs::write(folder.join("tests/names.toml"), text).unwrap();
            let error = read_cases(&folder, &manifest, None).unwrap_err();
            let WorkshopError::Case { text, span: Some(span), reason, .. } = &error else { panic!("{text}: {error}") };
            assert!(reason.contains(expected), "{text}: {reason}");
            assert_eq!(text[..span.start].matches('\n').count() + 1, line, "{text}: {reason}");
        }
        let small =
            Manifest { limits: msm_protocol::manifest::Limits { input: 99, ..manifest.limits.clone() }, ..manifest };
        fs::write(folder.join("tests/names.toml"), "input = \"large\"\nexpect = \"large\"").unwrap();
        let error = read_cases(&folder, &small, None).unwrap_err().to_string();
        assert!(error.contains("100 bytes, service.toml allows 99"), "{error}");
    }

    #[test]
    fn tests_are_no_links_out_of_the_folder() {
        let (parent, folder, manifest) = hello();
        fs::write(parent.path().join("other.toml"), "compare = \"regex:^$\"\n").unwrap();
        std::os::unix::fs::symlink("../../other.toml", folder.join("tests/other.toml")).unwrap();
        let error = read_cases(&folder, &manifest, Some("other")).unwrap_err().to_string();
        assert!(error.contains("no link out of it"), "{error}");
        // A link that stays is as good as a file.
        std::os::unix::fs::symlink("names.txt", folder.join("tests/again.txt")).unwrap();
        fs::write(folder.join("tests/names.toml"), "input = \"again.txt\"\nexpect = \"names.txt\"").unwrap();
        assert_eq!(&read_cases(&folder, &manifest, Some("names")).unwrap()[0].input[..], b"Ada\nGrace\nAnn\n");
        fs::rename(folder.join("tests"), parent.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("../elsewhere", folder.join("tests")).unwrap();
        let error = read_cases(&folder, &manifest, None).unwrap_err().to_string();
        assert!(error.contains("is a link out of"), "{error}");
    }

    #[test]
    fn tests_are_counted() {
        let (_parent, folder, manifest) = hello();
        for n in 0..CASES {
            fs::write(folder.join(format!("tests/t{n}.toml")), "compare = \"regex:\"").unwrap();
        }
        let error = read_cases(&folder, &manifest, None).unwrap_err().to_string();
        assert!(error.contains("257 tests, at most 256"), "{error}");
    }
}
