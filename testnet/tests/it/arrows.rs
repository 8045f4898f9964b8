//! DESIGN's arrows: which crate may depend on which, asked of cargo.

use std::{collections::BTreeSet, process::Command};

use msm_testnet::binary::repository;

/// Each of our crates, and those of ours that it may use.
const ARROWS: [(&str, &[&str]); 6] = [
    ("msm-protocol", &[]),
    ("msm-market-index", &["msm-protocol"]),
    ("msm-scheduler", &["msm-protocol"]),
    ("msm-sandbox", &["msm-protocol"]),
    ("msm-node", &["msm-protocol", "msm-market-index", "msm-scheduler", "msm-sandbox"]),
    ("msm-testnet", &[]),
];

/// Pure crates decide; what acts stays out of their trees.
const PURE: [&str; 3] = ["msm-protocol", "msm-market-index", "msm-scheduler"];
const ACTING: [&str; 7] = ["libp2p", "tokio", "async-std", "rquickjs", "wasmtime", "sled", "axum"];

/// Guests' engines live in the sandbox only: nobody else names them.
const ENGINES: [&str; 2] = ["rquickjs", "wasmtime"];

/// Names in the tree of `package`, itself left out. `edges` as cargo-tree has them.
fn tree(package: &str, edges: &str, depth: Option<u32>) -> BTreeSet<String> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(repository());
    command.args(["tree", "--locked", "--prefix", "none", "--format", "{p}", "-p", package, "-e", edges]);
    if let Some(depth) = depth {
        command.args(["--depth", &depth.to_string()]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned);
    names.filter(|name| !name.is_empty() && name != package).collect()
}

#[test]
fn crates_depend_only_along_the_arrows() {
    for (package, allowed) in ARROWS {
        let found = tree(package, "no-dev", None);
        let ours: BTreeSet<_> = found.iter().filter(|name| name.starts_with("msm-")).map(String::as_str).collect();
        let allowed: BTreeSet<_> = allowed.iter().copied().collect();
        let backwards: Vec<_> = ours.difference(&allowed).collect();
        assert!(backwards.is_empty(), "{package} must not depend on {backwards:?}");
        let unused: Vec<_> = allowed.difference(&ours).collect();
        assert!(unused.is_empty(), "ARROWS says that {package} uses {unused:?}, and it does not");
    }
}

#[test]
fn tests_do_not_turn_arrows_around() {
    for (package, allowed) in ARROWS {
        let direct = tree(package, "dev", Some(1));
        let backwards: Vec<_> =
            direct.iter().filter(|name| name.starts_with("msm-") && !allowed.contains(&name.as_str())).collect();
        assert!(backwards.is_empty(), "tests of {package} must not depend on {backwards:?}");
    }
}

#[test]
fn pure_crates_do_not_act() {
    for package in PURE {
        let found = tree(package, "no-dev", None);
        let acting: Vec<_> = found
            .iter()
            .filter(|name| ACTING.iter().any(|it| name == it || name.starts_with(&format!("{it}-"))))
            .collect();
        assert!(acting.is_empty(), "{package} is pure, and its tree has {acting:?}");
    }
}

#[test]
fn only_the_sandbox_names_an_engine() {
    for (package, _) in ARROWS {
        let direct = tree(package, "all", Some(1));
        let engines: Vec<_> = direct.iter().filter(|name| ENGINES.contains(&name.as_str())).collect();
        assert!(package == "msm-sandbox" || engines.is_empty(), "{package} must leave {engines:?} to msm-sandbox");
    }
}

#[test]
fn every_crate_has_its_arrows() {
    let output = Command::new(env!("CARGO"))
        .current_dir(repository())
        .args(["metadata", "--locked", "--no-deps", "--format-version", "1"])
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let found: BTreeSet<_> =
        metadata["packages"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(found, ARROWS.iter().map(|(package, _)| *package).collect());
}

/// The floors of deny.toml, here too because cargo-deny is not on every machine.
#[test]
fn no_version_is_below_its_floor() {
    let numbers = |version: &str| -> Vec<u64> {
        let release = version.split(['-', '+']).next().unwrap_or_default();
        release.split('.').map(|number| number.parse().unwrap()).collect()
    };
    let deny = std::fs::read_to_string(repository().join("deny.toml")).unwrap();
    let lock = std::fs::read_to_string(repository().join("Cargo.lock")).unwrap();
    let floors: Vec<_> =
        deny.split('"').filter_map(|text| text.split_once(":<")).map(|(name, floor)| (name, numbers(floor))).collect();
    assert!(floors.len() >= 5, "deny.toml has floors");
    for package in lock.split("[[package]]") {
        let field = |name: &str| package.lines().find_map(|line| line.strip_prefix(name)?.split('"').nth(1));
        let (Some(name), Some(version)) = (field("name = "), field("version = ")) else { continue };
        for (_, floor) in floors.iter().filter(|(wanted, _)| *wanted == name) {
            assert!(numbers(version) >= *floor, "{name} {version} is below its floor {floor:?}");
        }
    }
}
