//! From a market's entry to a manifest: only the bytes that the entry names, saying what the entry says.

use msm_market_index::{
    entry::{ManifestMismatch, open_manifest, release_of},
    read_sep, write_sep,
};
use msm_protocol::{ContentHash, cbor};

use crate::fixture::{key, package};

#[test]
fn only_the_named_bytes_are_opened() {
    let package = package("one", "1.0.0", "1");
    let release = release_of(&package, key(9).public());
    assert_eq!(open_manifest(&release, &package.manifest_bytes).as_ref(), Ok(&package.manifest));

    // A manifest that agrees with the entry in every field that the entry has, and asks for more.
    let mut greedy = package.manifest.clone();
    greedy.limits.memory += 1;
    let greedy = cbor::to_vec(&greedy).unwrap();
    let found = ContentHash::of(&greedy);
    assert_eq!(open_manifest(&release, &greedy), Err(ManifestMismatch::Hash { expected: package.hash, found }));
    for end in 0..package.manifest_bytes.len() {
        assert!(open_manifest(&release, &package.manifest_bytes[..end]).is_err());
    }
    // The right hash over something that is no manifest.
    let mut lying = release;
    lying.manifest = ContentHash::of(b"no manifest");
    assert!(matches!(open_manifest(&lying, b"no manifest"), Err(ManifestMismatch::Manifest(_))));
}

#[test]
fn a_bundle_makes_the_same_entry_as_its_folder() {
    let packed = package("one", "1.0.0", "1");
    let carried = read_sep(&write_sep(&packed).unwrap()).unwrap();
    assert_eq!(release_of(&carried, key(9).public()), release_of(&packed, key(9).public()));
}
