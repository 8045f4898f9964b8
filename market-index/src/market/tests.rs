//! Power cuts: whatever was written of a change, a reader finds the old market or the new one, whole.

use std::fs;

use msm_protocol::document::Status;
use tempfile::TempDir;

use super::*;
use crate::{folder::FileWrite, verify_folder};

const NOW: u64 = 1_800_000_000;

struct Operator {
    home: TempDir,
    market: MarketFolder,
    keys: Vec<SecretKey>,
}

impl Operator {
    fn new() -> Self {
        let home = TempDir::new().unwrap();
        let keys: Vec<SecretKey> = [1, 2, 3, 21, 22, 23].map(|n| SecretKey::from_seed(&[n; 32])).into();
        let signers = Signers { root: vec![&keys[0]], index: vec![&keys[1]], head: vec![&keys[2]] };
        let market = MarketFolder::init(home.path(), "Test", &signers, NOW).unwrap();
        Self { home, market, keys }
    }

    fn signers(&self) -> Signers<'_> {
        Signers { root: vec![&self.keys[0]], index: vec![&self.keys[1]], head: vec![&self.keys[2]] }
    }

    /// The files of a change.
    fn next(&self, state: &MarketState, catalogue: &Catalogue) -> Vec<FileWrite> {
        let (mut draft, mut files) = change::draft(&state.trusted, catalogue, None, NOW).unwrap();
        files.extend(draft.sign(&state.trusted, &self.signers(), NOW).unwrap().unwrap().files);
        files
    }

    /// Writes the first `count` of `files` and half of the next one into a copy of the market; a device that knew the
    /// market before must find it whole, in one of the versions `expected`.
    fn cut_after(&self, count: usize, files: &[FileWrite], expected: &[u64]) -> u64 {
        let copy = TempDir::new().unwrap();
        for folder in ["root", "blobs"] {
            fs::create_dir(copy.path().join(folder)).unwrap();
            for file in fs::read_dir(self.home.path().join(folder)).unwrap() {
                let file = file.unwrap();
                fs::copy(file.path(), copy.path().join(folder).join(file.file_name())).unwrap();
            }
        }
        fs::copy(self.home.path().join("head.cbor"), copy.path().join("head.cbor")).unwrap();
        PublishedFolder::at(copy.path()).write(&files[..count]).unwrap();
        fs::write(copy.path().join(".new"), b"half of a fi").unwrap();

        let report = verify_folder(copy.path(), self.market.share(), NOW);
        assert!(report.passed(), "after {count} files: {:#?}", report.faults().collect::<Vec<_>>());
        assert!(expected.contains(&report.index), "index {} after {count} files", report.index);
        // The operator can go on from there, whatever was left lying about.
        MarketFolder::open(copy.path()).unwrap();
        report.index
    }
}

fn package(version: &str) -> Package {
    let folder = TempDir::new().unwrap();
    let text = format!(
        "[service]\nname = \"one\"\nversion = \"{version}\"\nsummary = \"\"\nscope = \"test\"\nlicense = \"MIT\"\n\
         [io]\ninput = \"none\"\noutput = \"text/plain\"\n[[variant]]\nengine = \"js\"\nfile = \"main.js\"\n"
    );
    fs::write(folder.path().join("service.toml"), text).unwrap();
    fs::write(folder.path().join("main.js"), format!("export const version = '{version}'")).unwrap();
    crate::pack_folder(folder.path()).unwrap()
}

#[test]
fn a_power_cut_while_publishing() {
    let operator = Operator::new();
    let publisher = Publisher::named(operator.keys[0].public());
    operator.market.publish(&package("1.0.0"), &publisher, &operator.signers(), NOW).unwrap();
    let state = operator.market.state().unwrap();
    let package = package("1.1.0");
    let mut catalogue = state.catalogue.clone();
    let publish = Change::Publish { package: &package, publisher: &publisher };
    let mut files = publish.make(&mut catalogue, NOW).unwrap();
    files.extend(operator.next(&state, &catalogue));
    assert_eq!(files.len(), 6, "variant, manifest, page of releases, page of words, index, head");
    let found: Vec<u64> = (0..=files.len()).map(|count| operator.cut_after(count, &files, &[2, 3])).collect();
    assert_eq!(found, [2, 2, 2, 2, 2, 2, 3], "only the last file makes it new");
    // The test can fail: a head before its index is noticed.
    let last = files.len() - 1;
    files.swap(last, last - 1);
    let early = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| operator.cut_after(last, &files, &[2, 3])));
    assert!(early.is_err());
}

#[test]
fn a_power_cut_while_a_market_is_made() {
    let operator = Operator::new();
    let (market, files) = change::first("Other", operator.signers().roles(), &operator.signers(), NOW).unwrap();
    for count in 0..files.len() {
        let folder = TempDir::new().unwrap();
        PublishedFolder::at(folder.path()).write(&files[..count]).unwrap();
        assert!(matches!(MarketFolder::open(folder.path()), Err(MarketError::NotAMarket { .. })), "{count}");
        let made = MarketFolder::init(folder.path(), "Other", &operator.signers(), NOW).unwrap();
        assert_eq!(made.share(), market);
        assert!(verify_folder(folder.path(), market, NOW).passed());
    }
}

#[test]
fn a_power_cut_while_keys_change() {
    let operator = Operator::new();
    operator
        .market
        .publish(&package("1.0.0"), &Publisher::named(operator.keys[0].public()), &operator.signers(), NOW)
        .unwrap();
    let keys: Vec<&SecretKey> = operator.keys.iter().collect();
    let new = Signers { root: vec![keys[3]], index: vec![keys[4]], head: vec![keys[5]] };
    let all = Signers { root: vec![keys[0], keys[3]], index: vec![keys[1], keys[4]], head: vec![keys[2], keys[5]] };
    let (index, files) = change::rotated(operator.market.state().unwrap(), new.roles(), &all, NOW).unwrap();
    assert_eq!(index, 3);
    for count in 0..=files.len() {
        operator.cut_after(count, &files, &[2, 3]);
    }
}

#[test]
fn a_power_cut_while_a_release_is_withdrawn() {
    let operator = Operator::new();
    operator
        .market
        .publish(&package("1.0.0"), &Publisher::named(operator.keys[0].public()), &operator.signers(), NOW)
        .unwrap();
    let state = operator.market.state().unwrap();
    let mut catalogue = state.catalogue.clone();
    catalogue.releases[0].status = Status::Yanked;
    let files = operator.next(&state, &catalogue);
    for count in 0..=files.len() {
        operator.cut_after(count, &files, &[2, 3]);
    }
}
