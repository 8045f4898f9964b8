//! `msm service inspect`: what a package holds, asks for, and how it differs from another.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::Args;
use msm_market_index::Package;
use msm_protocol::{
    Manifest,
    manifest::{Param, Permissions},
};
use serde::Serialize;

use super::{Screen, Stop, read};
use crate::cli::render::text::{bytes, clean, clean_lines};

/// What a packed file or a folder holds and asks for
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  msm service inspect my-service-1.0.0.sep\n  \
                        msm service inspect my-service-1.1.0.sep --diff my-service-1.0.0.sep")]
pub(super) struct Inspect {
    /// A packed file or a folder
    #[arg(value_name = "FILE.sep|FOLDER", default_value = ".")]
    package: PathBuf,
    /// Say what has changed since this one
    #[arg(long, value_name = "OLD.sep|FOLDER")]
    diff: Option<PathBuf>,
}

/// `msm.package/1`.
#[derive(Serialize)]
struct PackageRow<'a> {
    schema: &'static str,
    name: &'a str,
    version: &'a str,
    manifest: String,
    size: u64,
    rating: u8,
    summary: &'a str,
    scope: &'a str,
    variants: Vec<VariantRow>,
    assets: Vec<FileRow<'a>>,
    permissions: &'a Permissions,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<Change>>,
}

#[derive(Serialize)]
struct VariantRow {
    engine: &'static str,
    hash: String,
    size: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    modules: Vec<String>,
}

#[derive(Serialize)]
struct FileRow<'a> {
    path: &'a str,
    hash: String,
    size: u64,
}

/// One thing that two packages do not have in common.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Change {
    what: String,
    /// Nothing where it is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<String>,
    /// Nothing where it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<String>,
}

impl Inspect {
    pub(super) fn run(self, screen: &mut Screen) -> Result<(), Stop> {
        let package = read(&self.package, screen.style)?;
        let old = self.diff.map(|old| read(&old, screen.style)).transpose()?;
        show(&package, None, old.as_ref(), screen)
    }
}

/// Shows a package, and what is new in it since `old`.
pub(super) fn show(
    package: &Package,
    file: Option<&Path>,
    old: Option<&Package>,
    screen: &mut Screen,
) -> Result<(), Stop> {
    let manifest = &package.manifest;
    let size = package.manifest_bytes.len() as u64 + package.blobs.iter().map(|(_, it)| it.len() as u64).sum::<u64>();
    let rating = manifest.permissions.rating();
    let changes = old.map(|old| changes(&facts(&old.manifest), &facts(manifest)));
    if screen.style.json {
        let variants = manifest.variants.iter().map(|variant| VariantRow {
            engine: variant.engine.as_str(),
            hash: variant.hash.to_string(),
            size: variant.size,
            modules: variant.files.iter().map(|file| file.path.clone()).collect(),
        });
        let assets = manifest.assets.iter();
        let assets = assets.map(|it| FileRow { path: &it.path, hash: it.hash.to_string(), size: it.size });
        return screen.result_json(&PackageRow {
            schema: "msm.package/1",
            name: &manifest.name,
            version: &manifest.version,
            manifest: package.hash.to_string(),
            size,
            rating,
            summary: &manifest.summary,
            scope: &manifest.scope,
            variants: variants.collect(),
            assets: assets.collect(),
            permissions: &manifest.permissions,
            file,
            changes,
        });
    }
    let mut text = format!(
        "{} {}  {}  {}  rating {rating}/6\nmanifest  {}\n",
        manifest.name,
        manifest.version,
        clean(&manifest.summary, 128),
        bytes(size),
        package.hash
    );
    for variant in &manifest.variants {
        text.push_str(&format!("{:8}  {}  {}\n", variant.engine.as_str(), variant.hash, bytes(variant.size)));
        for file in &variant.files {
            text.push_str(&format!("  module  {}  {}  {}\n", file.hash, bytes(file.size), file.path));
        }
    }
    for file in &manifest.assets {
        text.push_str(&format!("asset     {}  {}  {}\n", file.hash, bytes(file.size), file.path));
    }
    text.push_str(&format!("may use   {}\n", asks(&manifest.permissions)));
    if let Some(file) = file {
        text.push_str(&format!("file      {}\n", file.display()));
    }
    if let (Some(old), Some(changes)) = (old, changes) {
        text.push_str(&format!("\nsince {} {}:\n", old.manifest.name, old.manifest.version));
        if changes.is_empty() {
            text.push_str("  nothing has changed\n");
        }
        for change in changes {
            let line = match (change.old, change.new) {
                (None, Some(new)) => format!("  + {}: {new}\n", change.what),
                (Some(old), None) => format!("  - {}: {old}\n", change.what),
                (old, new) => {
                    format!("  ~ {}: {} -> {}\n", change.what, old.unwrap_or_default(), new.unwrap_or_default())
                }
            };
            text.push_str(&clean(line.trim_end(), 400));
            text.push('\n');
        }
    }
    // All of it is a stranger's, names and paths too.
    screen.result_line(clean_lines(&text))
}

fn asks(permissions: &Permissions) -> String {
    let Permissions { gps, net, clock, image, device, random } = permissions;
    let mut words: Vec<String> = gps.iter().map(|gps| format!("gps ({gps})")).collect();
    if !net.is_empty() {
        words.push(format!("net ({})", net.join(", ")));
    }
    let flags = [("device", *device), ("clock", *clock), ("random", *random), ("image", *image)];
    words.extend(flags.iter().filter(|(_, asked)| *asked).map(|(name, _)| (*name).to_owned()));
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

/// Everything that a manifest says, a line each.
fn facts(manifest: &Manifest) -> BTreeMap<String, String> {
    let Manifest {
        v: _,
        name,
        work,
        input,
        scope,
        assets,
        limits,
        output,
        params,
        authors,
        license,
        summary,
        version,
        variants,
        constraints,
        permissions,
    } = manifest;
    let mut facts: BTreeMap<String, String> = [
        ("service.name", name.clone()),
        ("service.version", version.clone()),
        ("service.summary", summary.clone()),
        ("service.scope", scope.clone()),
        ("service.license", license.clone()),
        ("service.authors", authors.join(", ")),
        ("io.input", input.join(", ")),
        ("io.output", output.clone()),
        ("work", json(work)),
        ("limits", json(limits)),
        ("constraints", json(constraints)),
        ("permissions", asks(permissions)),
        ("rating", permissions.rating().to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    facts.extend(params.iter().map(|param: &Param| (format!("params.{}", param.name), json(param))));
    for (n, variant) in variants.iter().enumerate() {
        let key = format!("variant[{}] {}", n + 1, variant.engine.as_str());
        for file in &variant.files {
            facts.insert(format!("{key} {}", file.path), short(&file.hash.to_string(), file.size));
        }
        facts.insert(key, short(&variant.hash.to_string(), variant.size));
    }
    facts.extend(assets.iter().map(|it| (format!("assets/{}", it.path), short(&it.hash.to_string(), it.size))));
    facts
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn short(hash: &str, size: u64) -> String {
    let tail = hash.get(hash.len().saturating_sub(8)..).unwrap_or(hash);
    format!("..{tail} {}", bytes(size))
}

fn changes(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<Change> {
    let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let differs = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
    differs.map(|key| Change { what: key.clone(), old: old.get(key).cloned(), new: new.get(key).cloned() }).collect()
}
