//! Packing: modules and assets travel with the package, and nothing else of the folder does.

use std::path::Path;

use msm_market_index::{Package, pack_folder, read_sep, verify_folder, write_sep};
use msm_protocol::{
    ContentHash,
    document::Status,
    limits::{FILES, JS_BYTES},
};
use tempfile::TempDir;

use crate::fixture::{NOW, Operator, service_toml, write};

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "service.toml", service_toml("parts", "1.0.0").replace("\"main.js\"", "\"src/main.js\""));
    write(folder.path(), "src/main.js", "import { b } from './lib/b.mjs';\nexport const run = () => b;\n");
    write(folder.path(), "src/lib/b.mjs", "export const b = 'b';\n");
    write(folder.path(), "src/a.js", "export const a = 1;\n");
    write(folder.path(), "assets/words/de.txt", "eins\n");
    write(folder.path(), "assets/zero.bin", [0u8, 255]);
    folder
}

fn paths(package: &Package) -> (Vec<&str>, Vec<&str>) {
    let modules = package.manifest.variants[0].files.iter().map(|file| file.path.as_str());
    (modules.collect(), package.manifest.assets.iter().map(|file| file.path.as_str()).collect())
}

#[test]
fn modules_and_assets_are_packed_and_nothing_else_is() {
    let folder = folder();
    let package = pack_folder(folder.path()).unwrap();
    assert_eq!(paths(&package), (vec!["a.js", "lib/b.mjs"], vec!["words/de.txt", "zero.bin"]));
    let asset = &package.manifest.assets[1];
    assert_eq!((asset.hash, asset.size), (ContentHash::of(&[0, 255]), 2));
    assert_eq!(package.blobs.len(), 5);
    for unpacked in
        ["src/notes.txt", "src/.hidden.js", "assets/.DS_Store", "src/.git/x.js", "tests/case.js", "other.js"]
    {
        write(folder.path(), unpacked, "x");
    }
    assert_eq!(pack_folder(folder.path()).unwrap(), package);
    write(folder.path(), "src/lib/b.mjs", "export const b = 'c';\n");
    assert_ne!(pack_folder(folder.path()).unwrap().hash, package.hash, "a module is part of the package");
}

#[test]
fn a_bundle_carries_every_file_and_equal_ones_once() {
    let folder = folder();
    write(folder.path(), "assets/same.txt", "eins\n");
    write(folder.path(), "assets/source.js", std::fs::read(folder.path().join("src/main.js")).unwrap());
    let package = pack_folder(folder.path()).unwrap();
    assert_eq!(package.manifest.assets.len(), 4);
    assert_eq!(package.blobs.len(), 5, "the asset with the main module's bytes is that blob");
    assert_eq!(read_sep(&write_sep(&package).unwrap()).unwrap(), package);
    let bytes = |package: &Package| package.blobs.iter().map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>();
    let mut swapped = bytes(&package);
    swapped.swap(1, 2);
    let error = Package::from_parts(package.manifest_bytes.clone(), swapped).unwrap_err();
    assert!(error.to_string().contains("blob 2: hash mismatch"), "{error}");
    let mut short = bytes(&package);
    short.pop();
    let error = Package::from_parts(package.manifest_bytes.clone(), short).unwrap_err();
    assert!(error.to_string().contains("4 blobs for a manifest of 5"), "{error}");
}

#[test]
fn files_that_cannot_travel_are_named() {
    let long = format!("assets/{}.txt", "x".repeat(130));
    let cases: &[(&str, Vec<u8>, &str)] = &[
        ("assets/a b.txt", b"x".to_vec(), "cannot be packed under this name"),
        ("assets/ärger.txt", b"x".to_vec(), "cannot be packed under this name"),
        ("assets/con.txt", b"x".to_vec(), "cannot be packed under this name"),
        (&long, b"x".to_vec(), "cannot be packed under this name"),
        ("src/big.js", vec![b' '; JS_BYTES + 1], "is larger than 1048576 bytes"),
        ("src/code.js", b"\x05\x01run\xff".to_vec(), "only JavaScript source is accepted"),
        ("src/null.js", b"let a = 1;\0".to_vec(), "only JavaScript source is accepted"),
    ];
    for (path, bytes, expected) in cases {
        let folder = folder();
        write(folder.path(), path, bytes);
        let error = pack_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{path}: {error}");
    }
    let many = folder();
    (0..=FILES).for_each(|n| write(many.path(), &format!("assets/{n}.txt"), n.to_string()));
    assert!(pack_folder(many.path()).unwrap_err().to_string().contains("more than 64 files"));
    let deep = folder();
    write(deep.path(), &format!("assets/{}x.txt", "d/".repeat(9)), "x");
    assert!(pack_folder(deep.path()).unwrap_err().to_string().contains("folders deep"));
}

/// B56: a link must not carry off what lies elsewhere on the author's machine.
#[cfg(unix)]
#[test]
fn links_out_of_the_folder_are_refused() {
    for (link, target) in [("assets/passwd", "/etc/passwd"), ("src/x.js", "/etc/hostname"), ("assets/etc", "/etc")] {
        let folder = folder();
        std::os::unix::fs::symlink(target, folder.path().join(link)).unwrap();
        let error = pack_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("symbolic link out of the folder"), "{link}: {error}");
    }
}

#[test]
fn a_published_market_is_checked_to_the_last_file_and_a_revoked_one_loses_them() {
    let service = folder();
    let package = pack_folder(service.path()).unwrap();
    let operator = Operator::new();
    operator.publish(&package);
    let inspect = || verify_folder(operator.path(), operator.market.share(), NOW);
    let report = inspect();
    assert!(report.checks.iter().all(|check| check.fault.is_none()), "{report:?}");
    for what in ["module lib/b.mjs", "asset words/de.txt"] {
        assert!(report.checks.iter().any(|check| check.what.ends_with(what)), "{what}: {report:?}");
    }
    let asset = blob(operator.path(), &package.manifest.assets[0].hash);
    std::fs::write(&asset, "zwei\n").unwrap();
    let report = inspect();
    assert!(report.checks.iter().any(|check| check.what.ends_with("asset words/de.txt") && check.fault.is_some()));
    std::fs::write(&asset, "eins\n").unwrap();

    operator.market.set_status("parts", "1.0.0", Status::Revoked, "bad", &operator.signers(), NOW).unwrap();
    for (hash, _) in &package.blobs {
        assert!(!blob(operator.path(), hash).exists(), "{hash} is still there");
    }
}

fn blob(market: &Path, hash: &ContentHash) -> std::path::PathBuf {
    market.join("blobs").join(hash.to_string())
}
