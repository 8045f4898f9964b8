//! The files of a package beside its variants' main files: modules of JavaScript variants, and assets.

use std::{collections::HashMap, fs, io, path::Path};

use msm_protocol::{
    ContentHash,
    limits::{FILES, JS_BYTES, PACKAGE_BYTES},
    manifest::{FileRef, is_file_path},
};

use super::{ASSETS, PackError, file_error, read_inside};

/// Folders in folders: deeper trees than this are somebody's mistake. *Judgement.*
const DEPTH: usize = 8;

/// Every `.js` and `.mjs` file beside or below the main module, but for the main module itself.
pub fn modules(home: &Path, main: &str) -> Result<Vec<(String, Vec<u8>)>, PackError> {
    let (folder, name) = main.rsplit_once('/').map_or(("", main), |(folder, name)| (folder, name));
    // Beside a main module at the top lie tests, notes and other variants: there, imports need a folder of their own.
    if folder.is_empty() {
        return Ok(Vec::new());
    }
    let is_module = |path: &str| path != name && (path.ends_with(".js") || path.ends_with(".mjs"));
    collect(home, folder, JS_BYTES, &is_module)
}

/// Every file in `assets/`.
pub fn assets(home: &Path) -> Result<Vec<(String, Vec<u8>)>, PackError> {
    match fs::symlink_metadata(home.join(ASSETS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        _ => collect(home, ASSETS, PACKAGE_BYTES, &|_| true),
    }
}

/// References to `files`, whose bytes go to `blobs`.
pub fn refs(files: Vec<(String, Vec<u8>)>, blobs: &mut HashMap<ContentHash, Vec<u8>>) -> Vec<FileRef> {
    let keep = |(path, bytes): (String, Vec<u8>)| {
        let (hash, size) = (ContentHash::of(&bytes), bytes.len() as u64);
        blobs.insert(hash, bytes);
        FileRef { hash, path, size }
    };
    files.into_iter().map(keep).collect()
}

/// The files below `home/folder` that are `wanted`, by their path inside it, in the order of these paths. Hidden files
/// are left out; what is no plain file inside the service's folder is an error.
fn collect(
    home: &Path,
    folder: &str,
    cap: usize,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<(String, Vec<u8>)>, PackError> {
    let mut paths = Vec::new();
    walk(&home.join(folder), "", 0, wanted, &mut paths)?;
    paths.sort();
    let read = |path: String| {
        let whole = format!("{folder}/{path}");
        if !is_file_path(&path) {
            let form = "use letters, digits, '.', '_' and '-' only, or a name that begins with a dot to leave it out";
            return Err(file_error(&home.join(whole), format!("cannot be packed under this name: {form}")));
        }
        Ok((path, read_inside(home, &whole, cap)?))
    };
    paths.into_iter().map(read).collect()
}

fn walk(
    folder: &Path,
    inside: &str,
    depth: usize,
    wanted: &dyn Fn(&str) -> bool,
    paths: &mut Vec<String>,
) -> Result<(), PackError> {
    let io = |source| PackError::Io { path: folder.to_owned(), source };
    if depth > DEPTH {
        return Err(file_error(folder, format!("more than {DEPTH} folders deep")));
    }
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            return Err(file_error(&entry.path(), "its name is no text"));
        };
        if name.starts_with('.') {
            continue;
        }
        let path = if inside.is_empty() { name.to_owned() } else { format!("{inside}/{name}") };
        // A link to a folder is not followed: it is read as a file, and refused as none.
        if entry.file_type().map_err(io)?.is_dir() {
            walk(&entry.path(), &path, depth + 1, wanted, paths)?;
        } else if wanted(&path) {
            if paths.len() == FILES {
                return Err(file_error(folder, format!("holds more than {FILES} files to pack")));
            }
            paths.push(path);
        }
    }
    Ok(())
}
