//! [`Manifest`]: what a service says about itself, signed into an index by the hash of its CBOR.
//!
//! Written by people as `service.toml`; `market-index` packs that into this form. Fields stand in CBOR key order.

use serde::{Deserialize, Serialize};

use crate::{
    ContentHash,
    cbor::{self, CborError},
    device::{Network, Requirements},
    limits::{
        FILE_PATH_BYTES, FILES, GUEST_MEMORY_MAX, JOB_INPUT_BYTES, JS_BYTES, MANIFEST_BYTES, NAME_BYTES, PACKAGE_BYTES,
        PARAMS, PARAMS_BYTES, TASK_BYTES, TASK_TIME_MAX, VARIANTS, WASM_BYTES,
    },
};

#[cfg(test)]
mod tests;

/// A service, as a market vouches for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format version, 1.
    pub v: u8,
    /// `[a-z0-9-]`, 2 to 40 characters, beginning with a letter.
    pub name: String,
    /// How it is split and whether it is deterministic.
    pub work: Work,
    /// Accepted media types, 1 to 16; `none` for services without input.
    pub input: Vec<String>,
    /// Usage scope: a path such as `media/image`.
    pub scope: String,
    /// Read-only files that every variant can read, at most [`FILES`], in the order of their paths inside `assets/`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assets: Vec<FileRef>,
    /// Budget of one task.
    pub limits: Limits,
    /// Media type of the output.
    pub output: String,
    /// Parameters in the order of their names.
    pub params: Vec<Param>,
    /// Who wrote it.
    pub authors: Vec<String>,
    /// SPDX expression.
    pub license: String,
    /// One line for people.
    pub summary: String,
    /// Semantic version.
    pub version: String,
    /// Implementations in order of preference.
    pub variants: Vec<Variant>,
    /// The paper's five constraints.
    pub constraints: Constraints,
    /// What it may touch. Not listed is denied.
    pub permissions: Permissions,
}

/// How a job of this service is divided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The split.
    pub split: Split,
    /// A worker makes the split, not the requester: it needs what the requester may not have, such as a network. Only
    /// with [`Split::Service`].
    #[serde(default, skip_serializing_if = "is_false")]
    pub remote: bool,
    /// Its input is nobody else's business: tasks go to the requester's own devices and to no others.
    #[serde(default, skip_serializing_if = "is_false")]
    pub private: bool,
    /// The same input and parameters give the same bytes on every device.
    pub deterministic: bool,
}

/// A built-in split, or the service's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// One task.
    None,
    /// Pieces of this many bytes, 1 to [`TASK_BYTES`].
    Bytes(u64),
    /// Pieces of this many lines.
    Lines(u64),
    /// Elements of a JSON array.
    JsonArray,
    /// Rows of a decoded picture, with neighbouring rows on both sides.
    ImageRows(Halo),
    /// The service exports `split` and `merge`.
    Service,
}

/// How many neighbouring rows a tile needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Halo {
    /// Always this many.
    Rows(u32),
    /// As many as this integer parameter says.
    Param(String),
}

/// Budget of one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of input of a whole job, 1 to [`JOB_INPUT_BYTES`].
    pub input: u64,
    /// Bytes of memory of the guest, 1 to [`GUEST_MEMORY_MAX`].
    pub memory: u64,
    /// Bytes of output of one task, 1 to [`JOB_INPUT_BYTES`].
    pub output: u64,
    /// Milliseconds for one task, 1 to [`TASK_TIME_MAX`].
    pub time_ms: u64,
}

/// A parameter value: a JSON scalar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// `boolean`
    Bool(bool),
    /// `integer`
    Integer(i64),
    /// `number`
    Number(f64),
    /// `string`
    Text(String),
}

/// Type of a parameter, in JSON Schema's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParamType {
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A text.
    String,
}

/// One parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Param {
    /// Allowed values; empty means any.
    #[serde(default, rename = "enum")]
    pub choices: Vec<Value>,
    /// Its name.
    pub name: String,
    /// Its type.
    pub r#type: ParamType,
    /// Taken when the caller gives none; without it the parameter is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// Largest number, or longest text in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<f64>,
    /// Smallest number, or shortest text in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<f64>,
    /// For people.
    pub description: String,
}

/// One implementation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// Contract between host and guest: `msm-js-1` for js, `wasi-p1` for wasm.
    pub abi: String,
    /// The blob.
    pub hash: ContentHash,
    /// Bytes of the blob, at most [`JS_BYTES`] or [`WASM_BYTES`].
    pub size: u64,
    /// Modules that a `js` variant imports, at most [`FILES`], in the order of their paths from the main module's folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileRef>,
    /// What runs it.
    pub engine: Engine,
}

/// A file of a package beside its variants' main files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// The blob.
    pub hash: ContentHash,
    /// Where it stands: see [`is_file_path`].
    pub path: String,
    /// Bytes of the blob.
    pub size: u64,
}

/// An execution engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Engine {
    /// QuickJS.
    Js,
    /// WASI preview 1.
    Wasm,
}

impl Engine {
    /// Its name in manifests, tables and flags.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Js => "js",
            Self::Wasm => "wasm",
        }
    }
}

/// A number that the application may move inside a range; fixed when `min == max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Largest allowed.
    pub max: u32,
    /// Smallest allowed.
    pub min: u32,
    /// Taken when the application says nothing; absent means "auto".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<u32>,
}

/// The paper's five constraints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraints {
    /// Smallest EQS.
    pub eqs: Range,
    /// A position source is required (`REQ`).
    pub gps: bool,
    /// Smallest battery charge, percent.
    pub battery: Range,
    /// Number of devices.
    pub devices: Range,
    /// Smallest network class; absent is the paper's `N.A.`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
}

/// What a service may touch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permissions {
    /// Position: `coarse` or `precise`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gps: Option<String>,
    /// Hosts it may fetch from, at most 16; see [`is_host_pattern`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub net: Vec<String>,
    /// The time of day; without it every run begins at the same moment.
    #[serde(default, skip_serializing_if = "is_false")]
    pub clock: bool,
    /// Image codecs.
    #[serde(default)]
    pub image: bool,
    /// Coarse state of the device: battery, network class, its owner's name for it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub device: bool,
    /// Real randomness; without it every run sees the same numbers.
    #[serde(default, skip_serializing_if = "is_false")]
    pub random: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl Permissions {
    /// 6 (touches nothing) to 1 (sees much); shown wherever a service's name is shown.
    pub fn rating(&self) -> u8 {
        let gps = match self.gps.as_deref() {
            Some("coarse") => 2,
            Some(_) => 4,
            None => 0,
        };
        let net = match self.net.as_slice() {
            [] => 0,
            hosts if hosts.iter().any(|host| host == "*") => 3,
            _ => 1,
        };
        6u8.saturating_sub(gps).saturating_sub(net).saturating_sub(u8::from(self.device)).max(1)
    }
}

/// Why a manifest is not acceptable.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not readable.
    #[error("bad-message: {0}")]
    Cbor(#[from] CborError),
    /// A field holds something it must not.
    #[error("{field}: {reason}")]
    Field {
        /// Path of the field as in `service.toml`.
        field: String,
        /// What is wrong, with the number.
        reason: String,
    },
}

fn field(field: impl Into<String>, reason: impl Into<String>) -> ManifestError {
    ManifestError::Field { field: field.into(), reason: reason.into() }
}

/// True for a name that may stand in an index, a path and a shell: `[a-z][a-z0-9-]{1,39}`, and no DOS device.
pub fn is_name(text: &str) -> bool {
    (2..=NAME_BYTES).contains(&text.len())
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && !is_dos_device(text)
}

/// True for `con`, `prn`, `aux`, `nul`, `com0` to `com9` and `lpt0` to `lpt9`: no file of that name can be made there.
fn is_dos_device(text: &str) -> bool {
    let numbered =
        |port: &str| text.strip_prefix(port).is_some_and(|n| n.len() == 1 && n.bytes().all(|b| b.is_ascii_digit()));
    matches!(text, "con" | "prn" | "aux" | "nul") || numbered("com") || numbered("lpt")
}

/// True for the path of a packed file: names joined by `/` of letters, digits, `.`, `_` and `-`, each beginning with a
/// letter, a digit or `_`, at most [`FILE_PATH_BYTES`] in all. So there is no `..`, no hidden file and no other drive.
pub fn is_file_path(text: &str) -> bool {
    let name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
            && !name.ends_with('.')
            && !is_dos_device(&name.split('.').next().unwrap_or_default().to_ascii_lowercase())
    };
    text.len() <= FILE_PATH_BYTES && text.split('/').all(name)
}

/// True for a scope: one to four names joined by `/`.
pub fn is_scope(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    parts.len() <= 4 && parts.iter().all(|part| is_name(part))
}

impl Manifest {
    /// Decodes and checks the bytes of a manifest blob.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = cbor::from_slice(bytes, MANIFEST_BYTES)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Checks every field against its rules.
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.v != 1 {
            return Err(field("schema", format!("version {} is not 1", self.v)));
        }
        if !is_name(&self.name) {
            return Err(field("service.name", "must be [a-z][a-z0-9-]{1,39} and not end with '-'"));
        }
        if semver::Version::parse(&self.version).is_err() || self.version.len() > 64 {
            return Err(field("service.version", "must be a semantic version such as 1.2.0"));
        }
        if !is_scope(&self.scope) {
            return Err(field("service.scope", "must be a path of names such as media/image"));
        }
        for (name, text, limit) in [
            ("service.summary", &self.summary, 120),
            ("service.license", &self.license, 64),
            ("io.output", &self.output, 64),
        ] {
            if !is_line(text, limit) {
                return Err(field(name, format!("must be one line of at most {limit} characters")));
            }
        }
        if self.input.is_empty() || self.input.len() > 16 || self.input.iter().any(|text| !is_line(text, 64)) {
            return Err(field("io.input", "must list 1 to 16 media types (or \"none\")"));
        }
        if self.authors.len() > 16 || self.authors.iter().any(|text| !is_line(text, 120)) {
            return Err(field("service.authors", "must be at most 16 lines of at most 120 characters"));
        }
        self.check_work()?;
        self.check_permissions()?;
        self.check_limits()?;
        self.check_params()?;
        self.check_variants()
    }

    fn check_work(&self) -> Result<(), ManifestError> {
        if self.work.remote && self.work.split != Split::Service {
            return Err(field("work.split-on", "\"worker\" needs split = \"service\""));
        }
        match &self.work.split {
            Split::Bytes(size) if *size == 0 || *size > TASK_BYTES as u64 => {
                Err(field("work.split", format!("bytes:{size} must be 1 to {TASK_BYTES}")))
            }
            Split::Lines(0) => Err(field("work.split", "lines:0 must be at least 1")),
            Split::ImageRows(Halo::Param(name)) => match self.params.iter().find(|param| param.name == *name) {
                Some(param) if param.r#type == ParamType::Integer && param.minimum.is_some_and(|min| min >= 0.0) => {
                    Ok(())
                }
                _ => Err(field("work.halo", format!("{name:?} must be an integer parameter with minimum >= 0"))),
            },
            _ => Ok(()),
        }
    }

    fn check_limits(&self) -> Result<(), ManifestError> {
        let caps = [
            ("io.max-input", self.limits.input, JOB_INPUT_BYTES),
            ("limits.memory", self.limits.memory, GUEST_MEMORY_MAX),
            ("limits.output", self.limits.output, JOB_INPUT_BYTES),
            ("limits.time", self.limits.time_ms, TASK_TIME_MAX.as_millis() as u64),
        ];
        for (name, value, cap) in caps {
            if value == 0 || value > cap {
                return Err(field(name, format!("{value} must be 1 to {cap}")));
            }
        }
        let ranges = [
            ("constraints.battery", &self.constraints.battery, 100),
            ("constraints.eqs", &self.constraints.eqs, 300),
            ("constraints.devices", &self.constraints.devices, 64),
        ];
        for (name, range, cap) in ranges {
            let inside = |n: u32| range.min <= n && n <= range.max;
            if range.max > cap || range.min > range.max || !range.default.is_none_or(inside) {
                return Err(field(name, format!("must be min <= default <= max <= {cap}")));
            }
        }
        Ok(())
    }

    fn check_permissions(&self) -> Result<(), ManifestError> {
        if self.permissions.gps.as_deref().is_some_and(|gps| gps != "coarse" && gps != "precise") {
            return Err(field("permissions.gps", "must be \"coarse\" or \"precise\""));
        }
        if self.permissions.net.len() > NET_HOSTS {
            let listed = self.permissions.net.len();
            return Err(field("permissions.net", format!("{listed} hosts, at most {NET_HOSTS} (or \"*\" for any)")));
        }
        match self.permissions.net.iter().find(|host| !is_host_pattern(host)) {
            Some(host) => {
                let host: String = host.chars().take(NAME_BYTES).collect();
                let form = "must be \"*\", or a host such as https://example.org or *.example.org";
                Err(field("permissions.net", format!("{host:?} {form}")))
            }
            None => Ok(()),
        }
    }

    fn check_params(&self) -> Result<(), ManifestError> {
        if self.params.len() > PARAMS {
            return Err(field("params", format!("{} parameters, at most {PARAMS}", self.params.len())));
        }
        if !self.params.is_sorted_by(|a, b| a.name < b.name) {
            return Err(field("params", "must be in order of their names, each once"));
        }
        for param in &self.params {
            let path = format!("params.{}", param.name.chars().take(NAME_BYTES).collect::<String>());
            if !is_name(&param.name.replace('_', "-")) {
                return Err(field(path, "a name must be [a-z][a-z0-9_-]{1,39}"));
            }
            for value in param.default.iter().chain(&param.choices) {
                param.accept(value).map_err(|reason| field(&*path, reason))?;
            }
        }
        Ok(())
    }

    fn check_variants(&self) -> Result<(), ManifestError> {
        if self.variants.is_empty() || self.variants.len() > VARIANTS {
            return Err(field("variant", format!("must have 1 to {VARIANTS} of them")));
        }
        for variant in &self.variants {
            let cap = match variant.engine {
                Engine::Js => JS_BYTES,
                Engine::Wasm => WASM_BYTES,
            };
            if variant.size > cap as u64 {
                let engine = variant.engine.as_str();
                return Err(field("variant.file", format!("{engine} of {} bytes is over {cap}", variant.size)));
            }
            if variant.engine != Engine::Js && !variant.files.is_empty() {
                return Err(field("variant.file", "only js variants have modules"));
            }
            check_files("variant.file", &variant.files)?;
        }
        check_files("assets", &self.assets)?;
        let total = self.blobs().fold(0u64, |sum, (_, size)| sum.saturating_add(size));
        if total > PACKAGE_BYTES as u64 {
            return Err(field("variant.file", format!("{total} bytes in all, at most {PACKAGE_BYTES}")));
        }
        Ok(())
    }

    /// Hash and size of every blob that the manifest names, each once: per variant its main file and its modules, then
    /// the assets. This is the order of a bundle.
    pub fn blobs(&self) -> impl Iterator<Item = (ContentHash, u64)> {
        let files = |files: &[FileRef]| files.iter().map(|file| (file.hash, file.size)).collect::<Vec<_>>();
        let variants = self
            .variants
            .iter()
            .flat_map(move |variant| std::iter::once((variant.hash, variant.size)).chain(files(&variant.files)));
        let mut seen = std::collections::HashSet::new();
        variants.chain(files(&self.assets)).filter(move |(hash, _)| seen.insert(*hash))
    }

    /// Checks a caller's parameters (a JSON object) and fills in the defaults. Returns the JSON text that guests get.
    pub fn resolve_params(&self, given: &serde_json::Map<String, serde_json::Value>) -> Result<String, ManifestError> {
        if let Some(unknown) = given.keys().find(|name| !self.params.iter().any(|param| param.name == **name)) {
            let known: Vec<&str> = self.params.iter().map(|param| param.name.as_str()).collect();
            let unknown: String = unknown.chars().take(NAME_BYTES).collect();
            return Err(field(
                format!("params.{unknown}"),
                format!("unknown; {} has: {}", self.name, known.join(", ")),
            ));
        }
        let mut resolved = serde_json::Map::new();
        for param in &self.params {
            let path = || format!("params.{}", param.name);
            let value = match (given.get(&param.name), &param.default) {
                (Some(json), _) => {
                    let value =
                        serde_json::from_value(json.clone()).map_err(|_| field(path(), param.r#type.must_be()))?;
                    param.accept(&value).map_err(|reason| field(path(), reason))?
                }
                (None, Some(default)) => default.clone(),
                (None, None) => return Err(field(path(), format!("is required ({})", param.description))),
            };
            let json = serde_json::to_value(value).map_err(|e| field(path(), e.to_string()))?;
            resolved.insert(param.name.clone(), json);
        }
        let text = serde_json::Value::Object(resolved).to_string();
        if text.len() > PARAMS_BYTES {
            return Err(field("params", format!("{} bytes, at most {PARAMS_BYTES}", text.len())));
        }
        Ok(text)
    }

    /// Checks parameters that a peer sent as JSON text; a worker never believes its requester.
    pub fn check_params_text(&self, text: &str) -> Result<String, ManifestError> {
        if text.len() > PARAMS_BYTES {
            return Err(field("params", format!("{} bytes, at most {PARAMS_BYTES}", text.len())));
        }
        let given = serde_json::from_str(text).map_err(|_| field("params", "not a JSON object"))?;
        self.resolve_params(&given)
    }

    /// Rows of halo for these (resolved) parameters.
    pub fn halo_rows(&self, params: &str) -> u32 {
        match &self.work.split {
            Split::ImageRows(Halo::Rows(rows)) => *rows,
            Split::ImageRows(Halo::Param(name)) => serde_json::from_str::<serde_json::Value>(params)
                .ok()
                .and_then(|params| params.get(name)?.as_u64())
                .and_then(|rows| u32::try_from(rows).ok())
                .unwrap_or(0),
            _ => 0,
        }
    }

    /// What each device must meet when the application asks for nothing special.
    pub fn requirements(&self) -> Requirements {
        Requirements {
            gps: self.constraints.gps,
            eqs: f64::from(self.constraints.eqs.default.unwrap_or(self.constraints.eqs.min)),
            battery: self.constraints.battery.default.unwrap_or(self.constraints.battery.min).min(100) as u8,
            network: self.constraints.network,
        }
    }

    /// True when an offer's requirements are inside what the manifest lets the application change: numbers inside their
    /// ranges, position source and network class only stricter.
    pub fn allows(&self, need: &Requirements) -> bool {
        let eqs = f64::from(self.constraints.eqs.min)..=f64::from(self.constraints.eqs.max);
        let battery = self.constraints.battery.min..=self.constraints.battery.max;
        eqs.contains(&need.eqs)
            && battery.contains(&u32::from(need.battery))
            && (need.gps || !self.constraints.gps)
            && need.network >= self.constraints.network
    }
}

fn check_files(key: &str, files: &[FileRef]) -> Result<(), ManifestError> {
    if files.len() > FILES {
        return Err(field(key, format!("{} files, at most {FILES}", files.len())));
    }
    if let Some(file) = files.iter().find(|file| !is_file_path(&file.path)) {
        let path: String = file.path.chars().take(NAME_BYTES).collect();
        let form = format!("at most {FILE_PATH_BYTES} of a-z A-Z 0-9 . _ - /, no name beginning with a dot");
        return Err(field(key, format!("{path:?} is no path of a packed file ({form})")));
    }
    if !files.is_sorted_by(|a, b| a.path < b.path) {
        return Err(field(key, "files must be in order of their paths, each once"));
    }
    Ok(())
}

/// True for one line of at most `limit` characters that reads as it is written: fit for a terminal.
pub fn is_line(text: &str, limit: usize) -> bool {
    text.chars().count() <= limit && !text.chars().any(|c| c.is_control() || is_direction_override(c))
}

/// Hosts that a manifest may list: more than a person reads before consenting is "any". *Judgement.*
const NET_HOSTS: usize = 16;

/// True for `*` (any host), or `[https://|http://][*.]name` with a name of two labels or more: a pattern such as
/// `https://*` or `*.org` would be any host under a better rating.
pub fn is_host_pattern(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let host = host.strip_prefix("*.").unwrap_or(host);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.contains('.') && host.split('.').all(label)
}

/// Characters that make a text read differently from its bytes.
fn is_direction_override(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

impl ParamType {
    /// JSON Schema's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::String => "string",
        }
    }

    /// What is said of a value that is none of these.
    fn must_be(self) -> String {
        let article = if self == Self::Integer { "an" } else { "a" };
        format!("must be {article} {}", self.as_str())
    }
}

impl Param {
    /// Checks `value` against this parameter and gives it the declared type (2 becomes 2.0 for a number).
    fn accept(&self, value: &Value) -> Result<Value, String> {
        let (value, measure) = match (self.r#type, value) {
            (ParamType::Boolean, Value::Bool(_)) => (value.clone(), None),
            (ParamType::Integer, Value::Integer(n)) => (value.clone(), Some(*n as f64)),
            (ParamType::Number, Value::Integer(n)) => (Value::Number(*n as f64), Some(*n as f64)),
            (ParamType::Number, Value::Number(n)) if n.is_finite() => (value.clone(), Some(*n)),
            (ParamType::String, Value::Text(text)) => (value.clone(), Some(text.chars().count() as f64)),
            _ => return Err(self.r#type.must_be()),
        };
        if let Some(n) = measure
            && (self.minimum.is_some_and(|min| n < min) || self.maximum.is_some_and(|max| n > max))
        {
            let bound = |bound: Option<f64>| bound.map_or_else(|| "any".to_owned(), |n| n.to_string());
            return Err(format!("{n} is outside {}..{}", bound(self.minimum), bound(self.maximum)));
        }
        if !self.choices.is_empty() && !self.choices.contains(&value) {
            return Err("is not one of the listed values".to_owned());
        }
        Ok(value)
    }
}
