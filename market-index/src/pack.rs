//! From a service folder to a [`Package`]: the manifest and the blobs that a market signs.

mod dialect;
mod fault;
mod files;
mod locate;
mod quantity;
mod recipe;
mod sections;
mod sep;

use std::{
    collections::HashMap,
    fs,
    io::{self, Read},
    path::{Component, Path, PathBuf},
};

use msm_protocol::{
    ContentHash, Manifest, cbor,
    limits::{MANIFEST_BYTES, PACKAGE_BYTES},
    manifest::{Engine, ManifestError, Variant},
};

use fault::Faults;

pub use fault::Fault;
pub use recipe::{Recipe, VariantRecipe, read_recipe};
pub use sep::{read_sep, write_sep};

/// The folder of a service's read-only files.
pub const ASSETS: &str = "assets";
/// The file that describes a service.
pub const SERVICE_TOML: &str = "service.toml";
/// Bytes of a `service.toml`: as much as the manifest that it becomes may have.
pub const SERVICE_TOML_BYTES: usize = MANIFEST_BYTES;
/// The first bytes of a WebAssembly core module, version 1 (a component has 0d 00 01 00 in its second half).
const WASM_MODULE: [u8; 8] = *b"\0asm\x01\0\0\0";

/// A service as it travels: its manifest and the blobs of its variants, their modules and its assets.
///
/// The hash of the manifest names the package, and the manifest names the blobs.
#[derive(Debug, Clone, PartialEq)]
pub struct Package {
    /// The manifest, checked.
    pub manifest: Manifest,
    /// The manifest's blob: its deterministic CBOR.
    pub manifest_bytes: Vec<u8>,
    /// SHA-256 of `manifest_bytes`: the identity of the package.
    pub hash: ContentHash,
    /// The other blobs, each once, in the order of [`Manifest::blobs`].
    pub blobs: Vec<(ContentHash, Vec<u8>)>,
}

/// Why a folder or a bundle is not a package.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// A file cannot be read.
    #[error("{file}: {source}", file = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// `service.toml` says something it must not, or names a file that is not what it says.
    #[error("{}", lines(.path, .faults))]
    Manifest {
        /// The `service.toml`.
        path: PathBuf,
        /// Its text.
        text: String,
        /// What is wrong with it, as far as it could be told at once: at least one, in the order of the file.
        faults: Vec<Fault>,
    },
    /// A file cannot be packed, or lies outside the folder.
    #[error("bad-package: {file}: {reason}", file = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A bundle is damaged, or not a bundle.
    #[error("bad-package: {0}")]
    Bundle(String),
}

/// `service.toml:2:8: service.name: must be …`, a line for each fault.
fn lines(path: &Path, faults: &[Fault]) -> String {
    let line = |fault: &Fault| {
        let at = match (fault.line, fault.column) {
            (Some(line), Some(column)) => format!(":{line}:{column}"),
            _ => String::new(),
        };
        format!("{}{at}: {fault}", path.display())
    };
    faults.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The text of the `service.toml` in `folder`, and the folder's real path.
fn read_text(folder: &Path) -> Result<(PathBuf, String), PackError> {
    let path = folder.join(SERVICE_TOML);
    let home = folder.canonicalize().map_err(|source| PackError::Io { path: folder.to_owned(), source })?;
    // Asked for by itself, so that a folder without one is "not found" and not "bad".
    fs::symlink_metadata(&path).map_err(|source| PackError::Io { path: path.clone(), source })?;
    let text = read_inside(&home, SERVICE_TOML, SERVICE_TOML_BYTES)?;
    let text = String::from_utf8(text).map_err(|_| file_error(&path, "is not UTF-8 text"))?;
    Ok((home, text))
}

/// Packs the service in `folder`. The same files give the same hashes on every machine: names, times, owners and the
/// order of a directory leave no trace.
pub fn pack_folder(folder: &Path) -> Result<Package, PackError> {
    let path = folder.join(SERVICE_TOML);
    let (home, text) = read_text(folder)?;
    let refuse = |faults: Vec<Fault>| PackError::Manifest { path: path.clone(), text: text.clone(), faults };
    let (parsed, places) = sections::parse(&text).map_err(refuse)?;

    let mut faults = Faults::default();
    let mut variants: Vec<Variant> = Vec::new();
    let mut blobs: HashMap<ContentHash, Vec<u8>> = HashMap::new();
    for (n, source) in parsed.variants().enumerate() {
        let key = |name: &str| format!("variant[{}].{name}", n + 1);
        let abi = source.abi.unwrap_or(dialect::abi(source.engine));
        if abi != dialect::abi(source.engine) {
            let engine = source.engine.as_str();
            faults.add(&places, key("abi"), format!("{abi:?}; {engine} has {:?}", dialect::abi(source.engine)));
        }
        let bytes = match recipe::read_code(&home, &source) {
            Ok(bytes) => bytes,
            Err(reason) => {
                faults.add(&places, key("file"), reason);
                continue;
            }
        };
        let hash = ContentHash::of(&bytes);
        if variants.iter().any(|other: &Variant| other.hash == hash) {
            faults.add(&places, key("file"), format!("{:?} has the same bytes as another variant", source.file));
            continue;
        }
        let modules = match source.engine {
            Engine::Js => files::modules(&home, source.file)?,
            _ => Vec::new(),
        };
        let size = bytes.len() as u64;
        blobs.insert(hash, bytes);
        let refs = files::refs(modules, &mut blobs);
        variants.push(Variant { abi: abi.to_owned(), hash, size, files: refs, engine: source.engine });
    }
    let assets = files::refs(files::assets(&home)?, &mut blobs);
    let manifest = match parsed.into_manifest(variants, assets) {
        Ok(manifest) => manifest,
        Err(wrong) => {
            wrong.into_iter().for_each(|(key, reason)| faults.add(&places, key, reason));
            return Err(refuse(faults.sorted()));
        }
    };
    if let Err(error) = manifest.check() {
        match error {
            // Missing for another reason, which has been said.
            ManifestError::Field { field, .. } if field == "variant" && !faults.is_empty() => {}
            ManifestError::Field { field, reason } => faults.add(&places, field, reason),
            other => return Err(file_error(&path, other.to_string())),
        }
    }
    if !faults.is_empty() {
        return Err(refuse(faults.sorted()));
    }
    let manifest_bytes = cbor::to_vec(&manifest).map_err(|error| file_error(&path, error.to_string()))?;
    // Read back: what a node will refuse must not leave the author's machine.
    let in_order = manifest.blobs().filter_map(|(hash, _)| blobs.remove(&hash)).collect();
    Package::from_parts(manifest_bytes, in_order)
}

impl Package {
    /// Puts a package together from its blobs, in the order of [`Manifest::blobs`]. Every hash and size is compared with
    /// the manifest, and nothing may be missing or left over.
    pub fn from_parts(manifest_bytes: Vec<u8>, blobs: Vec<Vec<u8>>) -> Result<Self, PackError> {
        let bad = |reason: String| PackError::Bundle(reason);
        let manifest = Manifest::from_slice(&manifest_bytes).map_err(|e| bad(format!("manifest: {e}")))?;
        let named: Vec<_> = manifest.blobs().collect();
        if blobs.len() != named.len() {
            return Err(bad(format!("{} blobs for a manifest of {}", blobs.len(), named.len())));
        }
        let total = manifest_bytes.len() + blobs.iter().map(Vec::len).sum::<usize>();
        if total > PACKAGE_BYTES {
            return Err(bad(format!("a package of {total} bytes, at most {PACKAGE_BYTES} are allowed")));
        }
        let blobs: Vec<_> = blobs.into_iter().map(|bytes| (ContentHash::of(&bytes), bytes)).collect();
        for (n, ((named, size), (hash, bytes))) in named.iter().zip(&blobs).enumerate() {
            if named != hash || *size != bytes.len() as u64 {
                let n = n + 1;
                return Err(bad(format!("blob {n}: hash mismatch: the manifest says {named}, the bytes are {hash}")));
            }
        }
        for (n, variant) in manifest.variants.iter().enumerate() {
            let code = std::iter::once(&variant.hash).chain(variant.files.iter().map(|file| &file.hash));
            for bytes in code.filter_map(|hash| blobs.iter().find(|(other, _)| other == hash)) {
                check_code(variant.engine, &bytes.1).map_err(|reason| bad(format!("variant {}: {reason}", n + 1)))?;
            }
        }
        Ok(Self { hash: ContentHash::of(&manifest_bytes), manifest, manifest_bytes, blobs })
    }

    /// Checks a package whose fields were filled in by hand.
    pub fn check(&self) -> Result<(), PackError> {
        let again = Self::from_parts(self.manifest_bytes.clone(), self.blobs.iter().map(|(_, b)| b.clone()).collect())?;
        if again == *self { Ok(()) } else { Err(PackError::Bundle("its parts do not belong together".into())) }
    }
}

/// Checks that `bytes` are what `engine` runs: source text for JavaScript, a core module for wasm (B39).
fn check_code(engine: Engine, bytes: &[u8]) -> Result<(), String> {
    match engine {
        Engine::Js => {
            let text = std::str::from_utf8(bytes).map_err(|e| {
                format!("is not UTF-8 text (byte {}): only JavaScript source is accepted", e.valid_up_to())
            })?;
            if text.trim().is_empty() {
                return Err("is empty".into());
            }
            match text.chars().find(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r')) {
                Some(c) => Err(format!("holds the control character {c:?}: only JavaScript source is accepted")),
                None => Ok(()),
            }
        }
        Engine::Wasm if bytes.starts_with(&WASM_MODULE) => Ok(()),
        Engine::Wasm => Err("is not a WebAssembly core module of version 1".into()),
        other => Err(format!("no packing rules for the engine {}", other.as_str())),
    }
}

/// Reads a file of at most `cap` bytes that lies inside `home` (a canonical path), whatever `file` and symbolic links
/// say: a packed service must not carry off files of its author's machine.
fn read_inside(home: &Path, file: &str, cap: usize) -> Result<Vec<u8>, PackError> {
    let path = home.join(file);
    let plain = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
    if file.is_empty() || !plain || file.contains(['\\', ':', '\0']) {
        return Err(file_error(Path::new(file), "must be a path inside the folder, such as src/main.js"));
    }
    let io = |source| PackError::Io { path: path.clone(), source };
    let real = path.canonicalize().map_err(io)?;
    if !real.starts_with(home) {
        return Err(file_error(&path, "is a symbolic link out of the folder"));
    }
    // Asked before opening: opening a pipe would wait for its other end.
    if !real.metadata().map_err(io)?.is_file() {
        return Err(file_error(&path, "is not a regular file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(&real).map_err(io)?.take(cap as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() > cap {
        return Err(file_error(&path, format!("is larger than {cap} bytes")));
    }
    Ok(bytes)
}

fn file_error(path: &Path, reason: impl Into<String>) -> PackError {
    PackError::File { path: path.to_owned(), reason: reason.into() }
}
