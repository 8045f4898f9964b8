//! `verify_folder`: every damage in a published market is found and named.

use std::fs;

use msm_market_index::{Floor, TrustedMarket, trust::Mark, verify::verify_folder_above, verify_folder};
use msm_protocol::{
    ContentHash, MarketId,
    document::{Head, Index, Status},
};
use tempfile::TempDir;

use crate::fixture::{DAY, Forge, NOW, Operator, copy, package, sign, write};

fn market() -> Operator {
    let operator = Operator::new();
    operator.publish(&package("one", "1.0.0", "1"));
    operator.publish(&package("two", "1.0.0", "2"));
    operator
}

#[test]
fn every_file_counts() {
    let operator = market();
    let id = operator.market.share();
    let whole = verify_folder(operator.path(), id, NOW);
    assert!(whole.passed(), "{:#?}", whole.checks);
    let what: Vec<&str> = whole.checks.iter().map(|check| check.what.as_str()).collect();
    for expected in ["root 1", "head", "index 3", "one 1.0.0: manifest", "two 1.0.0: js variant", "freshness"] {
        assert!(what.contains(&expected), "{what:#?}");
    }

    let copied = TempDir::new().unwrap();
    copy(operator.path(), copied.path());
    // Blobs of older indexes are not part of the newest state; all others are.
    let state = operator.market.state().unwrap();
    let mut needed = vec!["root/1.cbor".to_owned(), "head.cbor".to_owned()];
    let mut blobs = vec![state.trusted.head().unwrap().hash, state.trusted.index().unwrap().names.unwrap()];
    for name in [("one", "1"), ("two", "2")] {
        let package = package(name.0, "1.0.0", name.1);
        blobs.extend([package.hash, package.blobs[0].0]);
    }
    needed.extend(blobs.iter().map(|hash| format!("blobs/{hash}")));
    for file in needed {
        for damage in ["removed", "flipped", "cut", "longer", "empty", "folder"] {
            copy(operator.path(), copied.path());
            let path = copied.path().join(&file);
            let mut bytes = fs::read(&path).unwrap();
            match damage {
                "flipped" => bytes[0] ^= 1,
                "cut" => bytes.truncate(bytes.len() / 2),
                "longer" => bytes.push(0),
                "empty" => bytes.clear(),
                _ => {}
            }
            match damage {
                "removed" => fs::remove_file(&path).unwrap(),
                "folder" => {
                    fs::remove_file(&path).unwrap();
                    fs::create_dir(&path).unwrap();
                }
                _ => fs::write(&path, bytes).unwrap(),
            }
            let report = verify_folder(copied.path(), id, NOW);
            assert!(!report.passed(), "{file} {damage}");
            assert_eq!(report.faults().count(), 1, "{file} {damage}: {:#?}", report.checks);
            if damage == "folder" {
                fs::remove_dir(&path).unwrap();
            }
        }
    }
}

#[test]
fn the_report_is_json() {
    let operator = market();
    let json = serde_json::to_value(verify_folder(operator.path(), operator.market.share(), NOW)).unwrap();
    assert_eq!(json["market"], operator.market.share().to_string());
    assert_eq!((json["index"].as_u64(), json["checks"][0]["what"].as_str()), (Some(3), Some("root 1")));
}

#[test]
fn another_market_an_older_one_and_a_stale_one_fail() {
    let operator = market();
    let id = operator.market.share();
    let fault =
        |report: msm_market_index::Report| report.faults().next().and_then(|check| check.fault.clone()).unwrap();
    let other = fault(verify_folder(operator.path(), MarketId::from_bytes([7; 32]), NOW));
    assert!(other.starts_with("refused: market-mismatch"), "{other}");

    let mut seen = TrustedMarket::pin(id);
    seen.update_root(&fs::read(operator.path().join("root/1.cbor")).unwrap(), NOW).unwrap();
    let floor = Floor { index: Some(Mark { hash: ContentHash::of(b"a later one"), version: 4 }), ..seen.floor() };
    let old = fault(verify_folder_above(operator.path(), id, floor, NOW));
    assert!(old.starts_with("refused: rollback 3<4"), "{old}");

    let stale = fault(verify_folder(operator.path(), id, NOW + 31 * DAY));
    assert!(stale.starts_with("refused: expired"), "{stale}");
    // A device that knew this very state is told that it is stale.
    let known = operator.market.state().unwrap().trusted.floor();
    let stale = fault(verify_folder_above(operator.path(), id, known, NOW + 31 * DAY));
    assert!(stale.starts_with("refused: expired: stale since"), "{stale}");

    let nothing = TempDir::new().unwrap();
    assert_eq!(fault(verify_folder(nothing.path(), id, NOW)), "is missing");
}

#[test]
fn a_revoked_package_that_is_still_there_fails() {
    let operator = market();
    let kept = TempDir::new().unwrap();
    copy(operator.path(), kept.path());
    operator.market.set_status("one", "1.0.0", Status::Revoked, "bad", &operator.signers(), NOW).unwrap();
    assert!(verify_folder(operator.path(), operator.market.share(), NOW).passed());
    let manifest = format!("blobs/{}", package("one", "1.0.0", "1").hash);
    fs::copy(kept.path().join(&manifest), operator.path().join(&manifest)).unwrap();
    let report = verify_folder(operator.path(), operator.market.share(), NOW);
    let fault = report.faults().next().unwrap();
    assert_eq!(fault.what, "one 1.0.0: revoked, not served");
    // Revoking again removes what was left.
    operator.market.set_status("one", "1.0.0", Status::Revoked, "bad", &operator.signers(), NOW).unwrap();
    assert!(verify_folder(operator.path(), operator.market.share(), NOW).passed());
}

/// An entry that promises something else than the manifest it names, signed by the right keys.
#[test]
fn an_entry_that_misdescribes_its_manifest_fails() {
    let operator = market();
    let state = operator.market.state().unwrap();
    let fake = TempDir::new().unwrap();
    type Change = fn(&mut msm_protocol::document::Release);
    let cases: [(&str, Change); 7] = [
        ("name", |r| r.name = "ona".into()),
        ("version", |r| r.version = "1.0.1".into()),
        ("size", |r| r.size += 1),
        ("scope", |r| r.scope = "other".into()),
        ("rating", |r| r.rating = 5),
        ("engines", |r| r.engines = vec!["wasm".into()]),
        ("summary", |r| r.summary = "harmless".into()),
    ];
    for (field, change) in cases {
        copy(operator.path(), fake.path());
        let mut catalogue = state.catalogue.clone();
        change(&mut catalogue.releases[0]);
        let trees = catalogue.trees().unwrap();
        for (hash, bytes) in &trees.pages {
            write(fake.path(), &format!("blobs/{hash}"), bytes);
        }
        let forge = Forge { market: operator.market.share(), ..Forge::new() };
        let index: Index = Index { names: trees.names, words: trees.words, releases: 2, ..forge.index(9, None) };
        let index = sign(&index, &[2]);
        let head: Head = forge.head(9, &index);
        write(fake.path(), &format!("blobs/{}", ContentHash::of(&index)), &index);
        write(fake.path(), "head.cbor", sign(&head, &[3]));
        let report = verify_folder(fake.path(), operator.market.share(), NOW);
        let faults: Vec<_> = report.faults().collect();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].fault.as_ref().unwrap().ends_with(field), "{faults:?}");
    }
}
