//! Packing: what lies outside the folder, is no file, or is there twice. Wrong manifests: `manifests`.

use msm_market_index::{PackError, pack_folder};
use tempfile::TempDir;

use crate::fixture::{service_toml, write};

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "service.toml", service_toml("good", "1.0.0"));
    write(folder.path(), "main.js", "export function run() {}");
    pack_folder(folder.path()).unwrap();
    folder
}

#[test]
fn a_number_written_without_a_point_is_a_number() {
    let folder = folder();
    let param = "[params]\nscale = { type = \"number\", default = 1, enum = [1, 2.5], minimum = 0 }\n";
    write(folder.path(), "service.toml", format!("{}{param}", service_toml("good", "1.0.0")));
    pack_folder(folder.path()).unwrap();
}

#[test]
fn files_outside_the_folder_are_not_packed() {
    let outside = TempDir::new().unwrap();
    write(outside.path(), "secret.js", "export const secret = 1");
    let secret = outside.path().join("secret.js");
    for path in
        ["../secret.js", "/etc/passwd", "src/../../secret.js", "./../x", "", "a\\\\b", "C:x", secret.to_str().unwrap()]
    {
        let folder = folder();
        write(folder.path(), "service.toml", service_toml("good", "1.0.0").replace("main.js", path));
        let error = pack_folder(folder.path()).unwrap_err();
        assert!(
            matches!(&error, PackError::Manifest { faults, .. } if faults[0].reason.contains("inside the folder")),
            "{path}: {error}"
        );
    }
}

#[cfg(unix)]
#[test]
fn links_out_of_the_folder_are_refused_and_links_inside_are_followed() {
    use std::os::unix::fs::symlink;
    let outside = TempDir::new().unwrap();
    write(outside.path(), "secret.js", "export const secret = 1");
    let replace = |target: &std::path::Path| {
        let folder = folder();
        std::fs::remove_file(folder.path().join("main.js")).unwrap();
        write(folder.path(), "src/real.js", "export function run() {}");
        symlink(target, folder.path().join("main.js")).unwrap();
        pack_folder(folder.path()).map_err(|e| e.to_string())
    };
    assert!(replace(&outside.path().join("secret.js")).unwrap_err().contains("out of the folder"));
    assert!(replace(outside.path()).unwrap_err().contains("out of the folder"));
    assert!(replace("/dev/zero".as_ref()).unwrap_err().contains("out of the folder"));
    assert!(replace("src".as_ref()).unwrap_err().contains("not a regular file"));
    assert!(replace("src/real.js".as_ref()).is_ok());

    let folder = folder();
    let elsewhere = outside.path().join("service.toml");
    write(outside.path(), "service.toml", service_toml("good", "1.0.0"));
    std::fs::remove_file(folder.path().join("service.toml")).unwrap();
    symlink(elsewhere, folder.path().join("service.toml")).unwrap();
    assert!(pack_folder(folder.path()).unwrap_err().to_string().contains("out of the folder"));
}

#[test]
fn a_folder_without_a_service_is_not_found() {
    let empty = TempDir::new().unwrap();
    for path in [empty.path().to_owned(), empty.path().join("gone")] {
        let error = pack_folder(&path).unwrap_err();
        assert!(matches!(error, PackError::Io { .. }), "{error}");
    }
    write(empty.path(), "service.toml", [0xff, 0xfe]);
    assert!(pack_folder(empty.path()).unwrap_err().to_string().contains("is not UTF-8 text"));
    write(empty.path(), "service.toml", vec![b'#'; 100_000]);
    assert!(pack_folder(empty.path()).unwrap_err().to_string().contains("is larger than"));
}

#[test]
fn two_variants_of_the_same_bytes_are_a_mistake() {
    let folder = folder();
    let twice = "[[variant]]\nengine = \"js\"\nfile = \"main.js\"\n";
    write(folder.path(), "service.toml", format!("{}{twice}", service_toml("good", "1.0.0")));
    let error = pack_folder(folder.path()).unwrap_err().to_string();
    assert!(error.contains("service.toml:15:8: variant[2].file"), "{error}");
}
