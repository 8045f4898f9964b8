//! Which Rust the scripts build with: the user's own, whatever else is installed for tests.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::program::stderr;

fn program(path: &Path, body: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs a script of this repository where a rustc that is too old comes first on PATH, as Debian's may.
fn script(folder: &Path, name: &str, arguments: &[&str]) -> Output {
    let old = folder.join("old");
    let mut command = Command::new(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scripts").join(name));
    command.args(arguments).env_clear();
    command.env("HOME", folder).env("CARGO_HOME", folder.join("own")).env("CARGO_TARGET_DIR", folder.join("target"));
    command.env("PATH", format!("{}:/usr/bin:/bin", old.display())).output().unwrap()
}

#[test]
fn scripts_use_rustups_toolchain_and_not_that_of_the_system() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let asked = folder.join("asked");
    program(&folder.join("old/rustc"), "echo 'rustc 1.63.0'");
    // What must not be called here changes nothing where it is.
    for name in ["cargo", "rustup", "curl", "apt-get", "sudo"] {
        program(&folder.join("old").join(name), "echo \"$0 was called\" >&2; exit 1");
    }
    program(&folder.join("own/bin/rustc"), "echo 'rustc 1.999.0'; echo 'host: here-linux-gnu'");
    // Builds nothing: says which compiler it would find.
    program(&folder.join("own/bin/cargo"), &format!("command -v rustc >>'{}'", asked.display()));
    // Compiles nothing, so the program that the bench starts in the end is not there: 127 or 126.
    for (name, arguments, works) in [("setup", &[][..], true), ("build", &[], true), ("bench", &["sandbox"], false)] {
        let _ = fs::remove_file(&asked);
        let output = script(folder, name, arguments);
        assert_eq!(output.status.success(), works, "{name}: {}", stderr(&output));
        assert!(!stderr(&output).contains("too old") && !stderr(&output).contains("was called"), "{}", stderr(&output));
        let found = fs::read_to_string(&asked).unwrap_or_default();
        let own = folder.join("own/bin/rustc").display().to_string();
        assert_eq!(
            found.lines().collect::<Vec<_>>(),
            if name == "setup" { vec![] } else { vec![own.as_str()] },
            "{name}"
        );
    }
    // Where there is no toolchain of rustup's, PATH is as it was: the old one is found, and said to be too old.
    fs::remove_dir_all(folder.join("own")).unwrap();
    let output = script(folder, "setup", &[]);
    assert!(!output.status.success() && stderr(&output).contains("1.63.0 is too old"), "{}", stderr(&output));
}
