//! [`Replay`]: answers from files to what a service asks of its device, the same on every run of a test.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use msm_protocol::{limits::JOB_INPUT_BYTES, manifest::Permissions};
use msm_sandbox::{Answer, Answering, Ask, AskError, AskErrorKind, Resources};
use serde_json::{Value, json};

use super::case::read;

/// Bytes of one replayed page; what a real fetch gives at most.
const PAGE_BYTES: u64 = 10 << 20;

/// What a test lets its service see.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    /// Positions, one after the other; the last one stays.
    gps: Option<Arc<[Value]>>,
    /// A folder of sites: `HOST/PATH`.
    site: Option<PathBuf>,
    device: Option<Value>,
    asked: Permissions,
}

/// One run's answers: every run begins at the first position.
struct Player {
    replay: Replay,
    positions: AtomicUsize,
}

impl Replay {
    /// Reads the files that somebody has chosen. Paths that stand in a test must have been held to its folder before.
    pub fn read(
        gps: Option<&Path>,
        site: Option<&Path>,
        device: Option<&Path>,
        asked: &Permissions,
    ) -> Result<Self, String> {
        let json = |path: &Path| {
            let bytes = read(path, JOB_INPUT_BYTES).map_err(|error| error.to_string())?;
            serde_json::from_slice::<Value>(&bytes).map_err(|error| format!("{} is no JSON: {error}", path.display()))
        };
        let positions = |path: &Path| {
            let name = path.display();
            let positions = match json(path)? {
                Value::Array(positions) if !positions.is_empty() => positions,
                one @ Value::Object(_) => vec![one],
                _ => {
                    return Err(format!(
                        "{name} must be a position such as {{\"lat\":52.5,\"lon\":13.4}} or a list of them"
                    ));
                }
            };
            let number = |position: &Value, key: &str| position.get(key).is_some_and(Value::is_number);
            match positions.iter().position(|it| !number(it, "lat") || !number(it, "lon")) {
                Some(n) => Err(format!("{name}: position {} has no lat or lon", n + 1)),
                None => Ok(positions.into()),
            }
        };
        let site = match site {
            // Its real path, which pages are held against.
            Some(path) if path.is_dir() => {
                Some(path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?)
            }
            Some(path) => return Err(format!("{} is no folder", path.display())),
            None => None,
        };
        let (gps, device) = (gps.map(positions).transpose()?, device.map(json).transpose()?);
        Ok(Self { gps, site, device, asked: asked.clone() })
    }

    /// What the answers depend on, to tell whether they have changed: a site by its newest file.
    pub fn stamp(&self) -> String {
        let changed = |path: PathBuf| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let files = self.site.iter().flat_map(|site| super::glob::files(site));
        let (count, newest) =
            files.fold((0, None), |(count, newest), (_, path)| (count + 1, newest.max(changed(path))));
        format!("{:?} {:?} {count} {newest:?}", self.gps, self.device)
    }

    /// The answers for one run.
    pub fn play(&self) -> Arc<dyn Resources> {
        Arc::new(Player { replay: self.clone(), positions: AtomicUsize::new(0) })
    }
}

fn failed(message: impl Into<String>) -> AskError {
    AskError::new(AskErrorKind::Failed, message)
}

fn answer(value: &Value) -> Answer {
    Answer { json: value.to_string(), bytes: Bytes::new() }
}

impl Resources for Player {
    fn answer(&self, ask: Ask) -> Answering {
        let answered = match ask.op.as_str() {
            "gps.position" => self.position(),
            "net.fetch" => self.page(&ask.body),
            "device.status" => Ok(answer(
                self.replay.device.as_ref().unwrap_or(&json!({"battery": "mains", "network": "high", "name": "test"})),
            )),
            other => Err(AskError::new(AskErrorKind::Usage, format!("there is no {other}"))),
        };
        Box::pin(std::future::ready(answered))
    }
}

impl Player {
    fn position(&self) -> Result<Answer, AskError> {
        let Some(positions) = &self.replay.gps else {
            return Err(failed("this test replays no position: add  replay = { gps = \"walk.json\" }  to it"));
        };
        let next = self.positions.fetch_add(1, Ordering::Relaxed).min(positions.len() - 1);
        let mut position = json!({"accuracy": 5.0, "time": 0, "age": 0.0});
        if let (Some(all), Some(given)) = (position.as_object_mut(), positions[next].as_object()) {
            all.extend(given.clone());
        }
        Ok(answer(&position))
    }

    fn page(&self, body: &[u8]) -> Result<Answer, AskError> {
        let Some(site) = &self.replay.site else {
            return Err(failed("this test replays no web: add  replay = { fetch = \"site\" }  to it"));
        };
        let usage = |message: String| AskError::new(AskErrorKind::Usage, message);
        let asked: Value = serde_json::from_slice(body).map_err(|error| usage(error.to_string()))?;
        let text = asked.get("url").and_then(Value::as_str).unwrap_or_default();
        let url = url::Url::parse(text).map_err(|error| usage(format!("{text:?} is no address: {error}")))?;
        let host = url.host_str().unwrap_or_default();
        if !self.replay.asked.net.iter().any(|pattern| is_asked(pattern, url.scheme(), host)) {
            let line = format!("{}://{host}", url.scheme());
            let message = format!("net.fetch of {host} is not asked for: add  net = [{line:?}]  under [permissions]");
            return Err(AskError::new(AskErrorKind::Denied, message));
        }
        // The parser has resolved every `..` of the path, spelt out or encoded; not those of links, nor a host's.
        let inside = url.path_segments().into_iter().flatten().filter(|part| !part.is_empty());
        let mut path = inside.fold(site.join(host), |path, part| path.join(part));
        if path.is_dir() {
            path.push("index.html");
        }
        let real = path.canonicalize().ok().filter(|real| real.starts_with(site) && real.is_file());
        let (status, bytes) = match real.map(|real| read(&real, PAGE_BYTES)) {
            Some(Ok(bytes)) => (200, Bytes::from(bytes)),
            _ => (404, Bytes::from_static(b"not in this test's site\n")),
        };
        let kind = if status == 200 { media_type(&path) } else { "text/plain" };
        let head = json!({"status": status, "url": url.as_str(), "headers": [["content-type", kind]]});
        Ok(Answer { json: head.to_string(), bytes })
    }
}

/// A convenience for the author, not a wall: nothing here leaves the folder of tests.
fn is_asked(pattern: &str, scheme: &str, host: &str) -> bool {
    let (only, name) = pattern.split_once("://").map_or((None, pattern), |(only, name)| (Some(only), name));
    only.is_none_or(|only| only == scheme)
        && match name.strip_prefix("*.") {
            Some(domain) => host.strip_suffix(domain).is_some_and(|sub| sub.ends_with('.')),
            None => name == "*" || name == host,
        }
}

fn media_type(path: &Path) -> &'static str {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("html" | "htm") => "text/html; charset=utf-8",
        Some("css") => "text/css",
        Some("js" | "mjs") => "text/javascript",
        Some("json") => "application/json",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        Some("svg") => "image/svg+xml",
        Some("woff2") => "font/woff2",
        Some("txt" | "md") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(player: &Arc<dyn Resources>, op: &str, body: &str) -> Result<Answer, AskError> {
        let ask = Ask { op: op.into(), body: Bytes::copy_from_slice(body.as_bytes()) };
        futures::executor::block_on(player.answer(ask))
    }

    #[test]
    fn positions_follow_one_another_and_every_run_begins_anew() {
        let tests = tempfile::tempdir().unwrap();
        std::fs::write(tests.path().join("walk.json"), r#"[{"lat":1,"lon":2},{"lat":3,"lon":4,"age":7}]"#).unwrap();
        let replay = Replay::read(Some(&tests.path().join("walk.json")), None, None, &Permissions::default()).unwrap();
        for _ in 0..2 {
            let player = replay.play();
            let position = || serde_json::from_str::<Value>(&ask(&player, "gps.position", "{}").unwrap().json).unwrap();
            assert_eq!(position(), json!({"lat": 1, "lon": 2, "accuracy": 5.0, "time": 0, "age": 0.0}));
            assert_eq!(position(), json!({"lat": 3, "lon": 4, "accuracy": 5.0, "time": 0, "age": 7}));
            assert_eq!(position()["lat"], 3);
        }
        let nothing = Replay::default().play();
        assert!(ask(&nothing, "gps.position", "{}").unwrap_err().message.contains("walk.json"));
        std::fs::write(tests.path().join("bad.json"), r#"[{"lat":1}]"#).unwrap();
        for bad in ["bad.json", "gone.json"] {
            assert!(Replay::read(Some(&tests.path().join(bad)), None, None, &Permissions::default()).is_err());
        }
    }

    #[test]
    fn pages_come_from_the_site_and_never_from_beside_it() {
        let tests = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tests.path().join("site/example.org/a")).unwrap();
        std::fs::write(tests.path().join("secret"), "secret").unwrap();
        std::fs::write(tests.path().join("site/example.org/index.html"), "<p>hello").unwrap();
        std::fs::write(tests.path().join("site/example.org/a/b.css"), "p{}").unwrap();
        for (link, to) in [("example.org/link", "../../secret"), ("example.org/etc", "/etc"), ("linked.org", "..")] {
            std::os::unix::fs::symlink(to, tests.path().join("site").join(link)).unwrap();
        }
        std::os::unix::fs::symlink("index.html", tests.path().join("site/example.org/home")).unwrap();
        let net = ["https://example.org", "https://linked.org"].map(str::to_owned).into();
        let asked = Permissions { net, ..Permissions::default() };
        let player = Replay::read(None, Some(&tests.path().join("site")), None, &asked).unwrap().play();
        let fetch = |url: &str| ask(&player, "net.fetch", &json!({"url": url}).to_string());
        let status = |answer: &Answer| serde_json::from_str::<Value>(&answer.json).unwrap()["status"].clone();
        assert_eq!(fetch("https://example.org/").unwrap().bytes, "<p>hello");
        assert_eq!(fetch("https://example.org/a/b.css?v=1").unwrap().bytes, "p{}");
        assert_eq!(fetch("https://example.org/home").unwrap().bytes, "<p>hello", "a link within the site");
        for outside in [
            "https://example.org/../../secret",
            "https://example.org/%2e%2e/%2e%2e/secret",
            "https://example.org/no",
            "https://example.org/link",
            "https://example.org/etc/hostname",
            "https://linked.org/secret",
        ] {
            assert_eq!(status(&fetch(outside).unwrap()), 404, "{outside}");
        }
        for other in ["http://example.org/", "https://evil.org/", "https://sub.example.org/"] {
            assert_eq!(fetch(other).unwrap_err().kind, AskErrorKind::Denied, "{other}");
        }
        assert_eq!(fetch("no address").unwrap_err().kind, AskErrorKind::Usage);
    }
}
