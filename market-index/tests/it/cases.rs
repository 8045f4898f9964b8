//! Attacks on a device's trust as folders of data: `tests/attacks/NAME/` holds the documents that are offered, in order,
//! and `case.toml` says what must become of each, what the attack is, and which cases of the TUF conformance suite or
//! which known faults of TUF clients it mirrors. Other implementations can run them too.
//!
//! The documents are made by `cases/forge.rs` from fixed keys; `MSM_WRITE_ATTACKS=1` writes them again.

mod forge;

use std::{collections::BTreeMap, fs, path::PathBuf};

use msm_market_index::{HeadOutcome, RootOutcome, TrustedMarket, trust::IndexOutcome};
use msm_protocol::MarketId;
use serde::{Deserialize, Serialize};

/// `case.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What is tried.
    about: String,
    /// What it mirrors.
    mirrors: Vec<String>,
    /// The pinned market.
    market: String,
    /// The device's clock where a step does not say, Unix seconds.
    now: u64,
    step: Vec<Step>,
}

/// One thing that happens to the device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// `root`, `head` or `index`: the document in `file` is offered as that. `restart`: everything but the floor is lost.
    kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    file: String,
    /// The device's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    now: Option<u64>,
    /// `accepted`, `known`, or the beginning of the refusal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    expect: String,
}

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/attacks").join(name)
}

/// What is offered, and what became of it.
fn offer(device: &mut TrustedMarket, kind: &str, bytes: &[u8], now: u64) -> String {
    let said = match kind {
        "root" => device.update_root(bytes, now).map(|it| if it == RootOutcome::Known { "known" } else { "accepted" }),
        "head" => device.update_head(bytes, now).map(|it| if it == HeadOutcome::Known { "known" } else { "accepted" }),
        "index" => {
            device.update_index(bytes, now).map(|it| if it == IndexOutcome::Known { "known" } else { "accepted" })
        }
        other => panic!("{other:?} is no document"),
    };
    said.map_or_else(|refusal| refusal.to_string(), str::to_owned)
}

fn run(name: &str) {
    let folder = folder(name);
    let case: Case = toml::from_str(&fs::read_to_string(folder.join("case.toml")).unwrap()).unwrap();
    let market: MarketId = case.market.parse().unwrap();
    let mut device = TrustedMarket::pin(market);
    for (n, step) in case.step.iter().enumerate() {
        if step.kind == "restart" {
            device = TrustedMarket::from_floor(market, device.floor());
            continue;
        }
        let bytes = fs::read(folder.join(&step.file)).unwrap();
        let before = device.clone();
        let said = offer(&mut device, &step.kind, &bytes, step.now.unwrap_or(case.now));
        assert!(
            said.starts_with(&step.expect),
            "step {}: {} gave {said:?}, expected {:?}",
            n + 1,
            step.file,
            step.expect
        );
        if said.starts_with("refused") {
            assert_eq!(device, before, "step {}: a refused document changed what is believed", n + 1);
        }
    }
}

macro_rules! cases {
    ($($name:ident)*) => {
        $(#[test] fn $name() { run(stringify!($name)); })*
        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

cases! {
    a_chain_of_three_roots
    bomb_of_arrays
    broken_chain_of_indexes
    clock_ahead_makes_everything_expired
    clock_behind_takes_nothing_new
    delegations_out_of_order
    duplicate_keys_in_a_role
    duplicate_signatures
    expired_head
    expired_head_here_is_no_obstacle
    expired_index
    expired_root
    expired_root_here_is_no_obstacle
    fast_forward
    fast_forward_ends_with_new_keys
    floors_outlive_the_store
    freeze_by_an_old_clock
    head_of_a_root_to_come
    head_of_another_market
    head_of_another_type
    head_too_long
    head_unsigned
    index_below_its_threshold
    index_hash_is_another
    index_of_another_market
    index_of_another_type
    index_size_is_another
    index_unannounced
    index_unsigned
    more_reviews_than_reviewers
    name_that_drives_a_terminal
    old_chain_after_a_restart
    old_keys_after_a_rotation
    one_bad_signature_beside_a_good_one
    releases_without_a_tree
    rollback_of_a_head
    rollback_of_an_index
    root_by_new_keys_only
    root_by_old_keys_only
    root_gap
    root_of_another_market
    root_of_another_type
    root_that_skips_its_number
    root_unsigned
    root_without_its_own_signature
    roles_are_not_exchanged
    stranger_signs
    state_is_kept_only_when_all_is_checked
    threshold_that_no_keys_reach
    too_many_signatures
    two_heads_of_one_index
    two_roots_of_one_number
}

/// The folders are those of the list, and hold what the code that made them gives.
#[test]
fn folders_are_what_the_code_gives() {
    let made: BTreeMap<&str, forge::Made> = forge::all().into_iter().map(|made| (made.name, made)).collect();
    let mut names: Vec<&str> = NAMES.to_vec();
    names.sort_unstable();
    assert_eq!(made.keys().copied().collect::<Vec<_>>(), names, "each case is made and run once");
    let writing = std::env::var_os("MSM_WRITE_ATTACKS").is_some();
    for (name, made) in &made {
        let folder = folder(name);
        let files = made.files();
        if writing {
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            files.iter().for_each(|(file, bytes)| fs::write(folder.join(file), bytes).unwrap());
        }
        let mut there: Vec<String> = fs::read_dir(&folder)
            .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        there.sort();
        assert_eq!(there, files.keys().cloned().collect::<Vec<_>>(), "{name}");
        for (file, bytes) in &files {
            assert!(fs::read(folder.join(file)).unwrap() == *bytes, "{name}/{file} is not what the code gives");
        }
    }
    let count = fs::read_dir(self::folder("")).unwrap().count();
    assert_eq!(count, NAMES.len(), "a folder that no test runs");
}
