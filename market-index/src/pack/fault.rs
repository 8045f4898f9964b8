//! What is wrong with a `service.toml`: which key, where it stands, why, and what to write instead.

use std::{fmt, ops::Range};

use super::locate::Places;

/// A key that is missing, unknown, or says something it must not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Path of the key, such as `constraints.eqs` or `variant[1].file`; `syntax` where the text is no TOML.
    pub key: String,
    /// What is wrong, with the number.
    pub reason: String,
    /// What to write instead, where that is known.
    pub help: Option<String>,
    /// Bytes of the text that it is about; absent for what is missing as a whole.
    pub span: Option<Range<usize>>,
    /// Line of `span`, counted from 1.
    pub line: Option<usize>,
    /// Column of `span` in characters, counted from 1.
    pub column: Option<usize>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

/// Faults on their way to the author: sorted by their place in the file, one of a kind.
#[derive(Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Adds a fault of the value (or else the key, or else the nearest key around it) with this path.
    pub fn add(&mut self, places: &Places, key: impl Into<String>, reason: impl Into<String>) {
        let key = key.into();
        self.add_at(places, places.value_of(&key), key, reason, None);
    }

    /// Adds a fault at these bytes of the text.
    pub fn add_at(
        &mut self,
        places: &Places,
        span: Option<Range<usize>>,
        key: impl Into<String>,
        reason: impl Into<String>,
        help: Option<String>,
    ) {
        let key = key.into();
        let help = help.or_else(|| example(&key).map(|example| format!("write, for example: {example}")));
        let at = span.as_ref().map(|span| places.line_and_column(span.start));
        let (line, column) = (at.map(|it| it.0), at.map(|it| it.1));
        let fault = Fault { key, reason: reason.into(), help, span, line, column };
        if !self.0.iter().any(|other| other.key == fault.key && other.span == fault.span) {
            self.0.push(fault);
        }
    }

    /// True when nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The faults in the order of the file; those without a place come last.
    pub fn sorted(mut self) -> Vec<Fault> {
        self.0.sort_by_key(|fault| fault.span.as_ref().map_or(usize::MAX, |span| span.start));
        self.0
    }
}

/// A good line for a key: the shortest way to say what is expected.
fn example(key: &str) -> Option<&'static str> {
    const EXAMPLES: [(&str, &str); 42] = [
        ("schema", "schema = 1"),
        ("service", "[service]"),
        ("service.name", "name = \"image-blur\""),
        ("service.version", "version = \"1.2.0\""),
        ("service.summary", "summary = \"Blur an image\""),
        ("service.scope", "scope = \"media/image\""),
        ("service.license", "license = \"MIT\""),
        ("service.authors", "authors = [\"Ada <ada@example.org>\"]"),
        ("io", "[io]"),
        ("io.input", "input = [\"image/png\"], or input = \"none\""),
        ("io.output", "output = \"image/png\""),
        ("io.max-input", "max-input = \"32MiB\""),
        ("params", "[params]"),
        ("params.*", "radius = { type = \"integer\", default = 3, minimum = 1, maximum = 50 }"),
        ("params.*.type", "type = \"integer\", \"number\", \"string\" or \"boolean\""),
        ("params.*.default", "default = 3"),
        ("params.*.minimum", "minimum = 1"),
        ("params.*.maximum", "maximum = 50"),
        ("params.*.enum", "enum = [\"fast\", \"fine\"]"),
        ("params.*.description", "description = \"blur radius in pixels\""),
        ("work", "[work]"),
        (
            "work.split",
            "split = \"none\", \"bytes:64KiB\", \"lines:100\", \"json-array\", \"image-rows\" or \"service\"",
        ),
        ("work.split-on", "split-on = \"worker\" below split = \"service\""),
        ("work.halo", "halo = 3, or halo = \"radius\" for the parameter of that name"),
        ("work.private", "private = true"),
        ("work.deterministic", "deterministic = true"),
        ("constraints", "[constraints]"),
        ("constraints.gps", "gps = \"REQ\" or gps = \"NREQ\""),
        ("constraints.battery", "battery = 20, or battery = { default = 20, min = 10, max = 100 }"),
        ("constraints.eqs", "eqs = 0, or eqs = { default = 0, min = 0, max = 300 }"),
        ("constraints.network", "network = \"HIGH\", \"LOW\" or \"N.A.\""),
        ("constraints.devices", "devices = { default = \"auto\", min = 1, max = 16 }"),
        ("permissions.net", "net = [\"https://example.org\"]"),
        ("permissions.gps", "gps = \"coarse\" or gps = \"precise\""),
        ("limits.memory", "memory = \"64MiB\""),
        ("limits.time", "time = \"10s\""),
        ("limits.output", "output = \"8MiB\""),
        ("variant", "[[variant]] with engine = \"js\" and file = \"src/main.js\""),
        ("variant[*].engine", "engine = \"js\" or engine = \"wasm\""),
        ("variant[*].abi", "abi = \"msm-js-1\" for js, \"wasi-p1\" for wasm, or leave the line out"),
        ("variant[*].watch", "watch = [\"src/*.c\"]"),
        ("variant[*].file", "file = \"src/main.js\""),
    ];
    const FLAGS: [&str; 4] = ["image", "clock", "random", "device"];
    if key.split_once('.').is_some_and(|(section, flag)| section == "permissions" && FLAGS.contains(&flag)) {
        return Some("true, or leave the line out");
    }
    let exact = EXAMPLES.iter().find(|(pattern, _)| matches(pattern, key)).map(|(_, example)| *example);
    // Of a part of a value: the whole value's.
    let around = || key.rfind(['.', '[']).map(|at| &key[..at]).filter(|around| around.contains('.'));
    exact.or_else(|| example(around()?))
}

/// True when `key` is of this form; `*` stands for one name or one number.
fn matches(pattern: &str, key: &str) -> bool {
    let parts = |text: &'_ str| text.split(['.', '[']).map(|part| part.trim_end_matches(']').to_owned()).collect();
    let (pattern, key): (Vec<String>, Vec<String>) = (parts(pattern), parts(key));
    pattern.len() == key.len() && pattern.iter().zip(&key).all(|(pattern, part)| pattern == "*" || pattern == part)
}
