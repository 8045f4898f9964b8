//! What tools on the author's machine need of a `service.toml` and nodes do not: which file each variant is, how it is
//! built and from what.

use std::{io, path::Path};

use msm_protocol::{
    limits::{JS_BYTES, WASM_BYTES},
    manifest::Engine,
};

use super::{PackError, SERVICE_TOML, check_code, dialect::VariantSource, read_inside, read_text, sections};

/// How a service's variants are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// The service's name.
    pub name: String,
    /// In the order of the file.
    pub variants: Vec<VariantRecipe>,
}

/// How one variant is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariantRecipe {
    /// What runs it.
    pub engine: Engine,
    /// Its main file, from the service's folder.
    pub file: String,
    /// The shell line that makes `file`. It is the author's: nothing that came over a network may be run.
    pub build: Option<String>,
    /// Patterns of the files that `file` is made from, such as `src/*.c`.
    pub watch: Vec<String>,
}

/// Reads the recipe of the service in `folder`, whether or not its variants have been built.
pub fn read_recipe(folder: &Path) -> Result<Recipe, PackError> {
    let (_, text) = read_text(folder)?;
    let refuse = |faults| PackError::Manifest { path: folder.join(SERVICE_TOML), text: text.clone(), faults };
    let (parsed, _) = sections::parse(&text).map_err(refuse)?;
    let variants = parsed.variants().map(|source| VariantRecipe {
        engine: source.engine,
        file: source.file.to_owned(),
        build: source.build.map(str::to_owned),
        watch: source.watch.to_vec(),
    });
    Ok(Recipe { name: parsed.service.name.clone(), variants: variants.collect() })
}

/// The bytes of a variant's main file, or why they are none.
pub fn read_code(home: &Path, source: &VariantSource<'_>) -> Result<Vec<u8>, String> {
    let file = source.file;
    let cap = match source.engine {
        Engine::Js => JS_BYTES,
        _ => WASM_BYTES,
    };
    let bytes = read_inside(home, file, cap).map_err(|error| match error {
        PackError::Io { source: error, .. } if error.kind() == io::ErrorKind::NotFound => {
            let build = source.build.map(|build| format!("; build it: {build}")).unwrap_or_default();
            format!("{file:?} is missing{build}")
        }
        PackError::Io { source, .. } => format!("{file:?}: {source}"),
        PackError::File { reason, .. } => format!("bad-package: {file:?} {reason}"),
        other => other.to_string(),
    })?;
    let checked = check_code(source.engine, &bytes).and_then(|()| match source.engine {
        Engine::Wasm => check_whole(&bytes),
        _ => Ok(()),
    });
    checked.map_err(|reason| format!("bad-package: {file:?} {reason}{}", other_engine(source.engine, &bytes)))?;
    Ok(bytes)
}

/// What to write when one engine's code stands where the other's should.
fn other_engine(engine: Engine, bytes: &[u8]) -> &'static str {
    match engine {
        Engine::Js if bytes.starts_with(b"\0asm") => "; it is WebAssembly: write engine = \"wasm\"",
        Engine::Wasm if std::str::from_utf8(bytes).is_ok_and(|text| text.contains("export ")) => {
            "; it looks like JavaScript: write engine = \"js\""
        }
        _ => "",
    }
}

/// Checks that a module's sections end where its file ends: a cut file is found before anybody downloads it. What the
/// sections hold is checked in the sandbox.
fn check_whole(bytes: &[u8]) -> Result<(), String> {
    let mut rest = bytes.get(8..).unwrap_or_default();
    while let Some((_, after)) = rest.split_first() {
        let cut = || format!("is cut off: {} bytes end inside a section", bytes.len());
        let (size, after) = leb_u32(after).ok_or_else(cut)?;
        rest = after.get(size as usize..).ok_or_else(cut)?;
    }
    Ok(())
}

/// An unsigned number of up to 32 bits in LEB128, and what follows it.
fn leb_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0u32;
    for (n, byte) in bytes.iter().enumerate().take(5) {
        value |= u32::from(byte & 0x7f).checked_shl(7 * n as u32)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(n + 1..)?));
        }
    }
    None
}
