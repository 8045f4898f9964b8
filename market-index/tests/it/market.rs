//! The operator's side: a market is made, filled, changed and handed on, and refuses what devices would refuse.

use std::{fs, path::Path};

use msm_market_index::{
    Freshness, HeadOutcome, MarketError, MarketFolder, PublishedFolder, Publisher, Signers, TrustError, TrustedMarket,
    folder::FolderError, market::ROOT_LIFE, resolve, verify_folder,
};
use msm_protocol::{
    SecretKey,
    document::{Roles, Status},
    limits::{INDEX_BYTES, MANIFEST_BYTES},
};
use tempfile::TempDir;

use crate::fixture::{DAY, NOW, Operator, copy, key, package, role};

/// What a device believes after reading a folder.
fn follow(device: &mut TrustedMarket, folder: &Path, now: u64) -> Result<u64, TrustError> {
    let folder = PublishedFolder::at(folder);
    while let Some(root) = folder.root(device.next_root()).unwrap() {
        device.update_root(&root, now)?;
    }
    if let HeadOutcome::Fetch { hash, .. } = device.update_head(&folder.head().unwrap().unwrap(), now)? {
        device.update_index(&folder.blob(&hash, INDEX_BYTES).unwrap().unwrap(), now)?;
    }
    Ok(device.index().map_or(0, |index| index.version))
}

#[test]
fn a_new_market_is_empty_and_whole() {
    let operator = Operator::new();
    let id = operator.market.share();
    let report = verify_folder(operator.path(), id, NOW);
    assert!(report.passed(), "{:#?}", report.checks);
    assert_eq!((report.root, report.index, report.releases), (1, 1, 0));
    assert_eq!(report.name.as_deref(), Some("Test Market"));
    assert_eq!(MarketFolder::open(operator.path()).unwrap().share(), id);
    let again = MarketFolder::init(operator.path(), "Other", &operator.signers(), NOW);
    assert!(matches!(again, Err(MarketError::AlreadyAMarket { .. })), "{again:?}");
    assert!(verify_folder(operator.path(), id, NOW).passed());
}

#[test]
fn a_published_package_is_found_and_its_bytes_are_there() {
    let operator = Operator::new();
    let (one, two) = (package("one", "1.0.0", "1"), package("two", "2.0.0", "2"));
    operator.publish(&one);
    operator.publish(&two);
    let state = operator.market.state().unwrap();
    assert_eq!((state.index_version(), state.catalogue.releases.len()), (3, 2));
    let found = resolve(&state.catalogue.releases, "two@2").unwrap();
    assert_eq!((found.manifest, found.publisher), (two.hash, key(9).public()));
    let folder = PublishedFolder::at(operator.path());
    assert_eq!(folder.blob(&two.hash, MANIFEST_BYTES).unwrap(), Some(two.manifest_bytes.clone()));
    assert_eq!(folder.blob(&two.blobs[0].0, 100).unwrap(), Some(two.blobs[0].1.clone()));
    assert!(verify_folder(operator.path(), operator.market.share(), NOW).passed());
}

#[test]
fn a_version_means_the_same_bytes_for_ever() {
    let operator = Operator::new();
    let first = package("one", "1.0.0", "1");
    operator.publish(&first);
    let head = fs::read(operator.path().join("head.cbor")).unwrap();

    let again =
        operator.market.publish(&first, &Publisher::named(key(8).public()), &operator.signers(), NOW + 5).unwrap();
    assert_eq!((again.changed, again.index), (false, 2));
    let changed = package("one", "1.0.0", "2");
    let error =
        operator.market.publish(&changed, &Publisher::named(key(9).public()), &operator.signers(), NOW).unwrap_err();
    assert!(matches!(&error, MarketError::VersionTaken { published, .. } if *published == first.hash), "{error}");
    assert_eq!(fs::read(operator.path().join("head.cbor")).unwrap(), head, "nothing was signed");

    // Not even after it was withdrawn.
    for status in [Status::Yanked, Status::Revoked] {
        operator.market.set_status("one", "1.0.0", status, "bad", &operator.signers(), NOW).unwrap();
        let error = operator
            .market
            .publish(&changed, &Publisher::named(key(9).public()), &operator.signers(), NOW)
            .unwrap_err();
        assert!(matches!(error, MarketError::VersionTaken { .. }), "{error}");
        let same =
            operator.market.publish(&first, &Publisher::named(key(9).public()), &operator.signers(), NOW).unwrap();
        let there = operator.market.state().unwrap().catalogue.releases[0].status;
        assert_eq!((same.changed, there), (false, status), "publishing again does not bring it back");
    }
    assert!(verify_folder(operator.path(), operator.market.share(), NOW).passed());
}

/// A package that was put together by hand is checked like any other before a byte of it is written.
#[test]
fn a_package_that_does_not_hold_together_is_not_published() {
    let operator = Operator::new();
    let (one, two) = (package("one", "1.0.0", "1"), package("two", "1.0.0", "2"));
    let mixed = msm_market_index::Package { blobs: two.blobs, ..one };
    let error =
        operator.market.publish(&mixed, &Publisher::named(key(9).public()), &operator.signers(), NOW).unwrap_err();
    assert!(matches!(error, MarketError::Pack(_)), "{error}");
    assert_eq!(operator.market.state().unwrap().index_version(), 1);
}

#[test]
fn publishing_again_mends_a_lost_blob() {
    let operator = Operator::new();
    let one = package("one", "1.0.0", "1");
    operator.publish(&one);
    let blob = operator.path().join("blobs").join(one.blobs[0].0.to_string());
    for damage in [None, Some("tampered")] {
        damage.map_or_else(|| fs::remove_file(&blob), |bytes| fs::write(&blob, bytes)).unwrap();
        assert!(!verify_folder(operator.path(), operator.market.share(), NOW).passed());
        assert!(
            !operator
                .market
                .publish(&one, &Publisher::named(key(9).public()), &operator.signers(), NOW)
                .unwrap()
                .changed
        );
        assert!(verify_folder(operator.path(), operator.market.share(), NOW).passed());
    }
}

#[test]
fn yank_and_revoke() {
    let operator = Operator::new();
    let shared = "shared code";
    let (old, new) = (package("one", "1.0.0", shared), package("one", "2.0.0", "own code"));
    operator.publish(&old);
    operator.publish(&new);
    operator.publish(&package("two", "1.0.0", shared));
    let set = |version, status| operator.market.set_status("one", version, status, "bad", &operator.signers(), NOW);
    let picked = || {
        let releases = operator.market.state().unwrap().catalogue.releases;
        resolve(&releases, "one").map(|found| found.version.clone())
    };
    assert_eq!(set("2.0.0", Status::Yanked).unwrap().index, 5);
    assert_eq!(set("2.0.0", Status::Yanked).unwrap().index, 5, "no new index for what is so already");
    assert_eq!(picked().as_deref(), Ok("1.0.0"));
    set("2.0.0", Status::Active).unwrap();
    assert_eq!(picked().as_deref(), Ok("2.0.0"));

    let has = |hash: &msm_protocol::ContentHash| operator.path().join("blobs").join(hash.to_string()).exists();
    set("2.0.0", Status::Revoked).unwrap();
    set("1.0.0", Status::Revoked).unwrap();
    assert!(!has(&new.hash) && !has(&new.blobs[0].0) && !has(&old.hash));
    assert!(has(&old.blobs[0].0), "another service uses it");
    for status in [Status::Active, Status::Yanked] {
        assert!(matches!(set("1.0.0", status), Err(MarketError::Revoked { .. })));
    }
    assert!(matches!(set("9.0.0", Status::Yanked), Err(MarketError::NotFound { .. })));
    let report = verify_folder(operator.path(), operator.market.share(), NOW);
    assert!(report.passed(), "{:#?}", report.checks);
    assert_eq!(report.releases, 1);
}

#[test]
fn keys_of_other_roles_sign_nothing() {
    let operator = Operator::new();
    let (root, index, head, other) = (key(1), key(2), key(3), key(7));
    let one = package("one", "1.0.0", "1");
    let before = fs::read(operator.path().join("head.cbor")).unwrap();
    let cases: [(Signers<'_>, &str); 3] = [
        (Signers { index: vec![&other], head: vec![&head], root: vec![] }, "wrong key"),
        (Signers { index: vec![&index], head: vec![&other], root: vec![] }, "wrong key"),
        (Signers { index: vec![&root], head: vec![&root], root: vec![&root] }, "wrong key"),
    ];
    for (signers, expected) in cases {
        let error =
            operator.market.publish(&one, &Publisher::named(other.public()), &signers, NOW).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    assert_eq!(fs::read(operator.path().join("head.cbor")).unwrap(), before);
    assert!(verify_folder(operator.path(), operator.market.share(), NOW).passed());
}

#[test]
fn thresholds_above_one_take_several_keys() {
    let folder = TempDir::new().unwrap();
    let (r, i, j, h) = (key(1), key(2), key(12), key(3));
    let roles = Roles { root: role(&[1], 1), index: role(&[2, 12], 2), head: role(&[3], 1) };
    let one = Signers { root: vec![&r], index: vec![&i], head: vec![&h] };
    let error = MarketFolder::init_with(folder.path(), "Two Keys", roles.clone(), &one, NOW).unwrap_err();
    assert!(matches!(error, MarketError::Trust(TrustError::Threshold { valid: 1, threshold: 2, .. })), "{error}");
    assert!(matches!(MarketFolder::open(folder.path()), Err(MarketError::NotAMarket { .. })), "nothing was written");
    let both = Signers { index: vec![&i, &j], ..one.clone() };
    let market = MarketFolder::init_with(folder.path(), "Two Keys", roles, &both, NOW).unwrap();
    let package = package("one", "1.0.0", "1");
    let waiting = market.publish(&package, &Publisher::named(r.public()), &one, NOW).unwrap();
    let texts: Vec<String> = waiting.wanting.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["index: 1 of 2 signatures", "head: 0 of 1 signatures"]);
    assert_eq!(waiting.wanting[0].missing, [key(12).public()]);
    assert_eq!(market.state().unwrap().index_version(), 1, "nobody sees it");
    market.discard().unwrap();
    assert!(market.publish(&package, &Publisher::named(r.public()), &both, NOW).unwrap().changed);
}

#[test]
fn refreshing_keeps_a_market_fresh() {
    let operator = Operator::new();
    operator.publish(&package("one", "1.0.0", "1"));
    let mut device = TrustedMarket::pin(operator.market.share());
    assert_eq!(follow(&mut device, operator.path(), NOW), Ok(2));
    let soon = NOW + 20 * DAY;
    operator.market.refresh(&operator.signers(), soon).unwrap();
    let until = || operator.market.state().unwrap().stale_from();
    assert_eq!(until(), soon + 30 * DAY);
    assert_eq!(follow(&mut device, operator.path(), soon), Ok(3));
    assert_eq!(device.freshness(soon + 29 * DAY), Freshness::Fresh);

    // The head key alone makes the head newer, but not the index.
    let head = key(3);
    let online = Signers { head: vec![&head], ..Signers::default() };
    operator.market.refresh(&online, soon + DAY).unwrap();
    assert_eq!(until(), soon + 30 * DAY);
    assert_eq!(follow(&mut device, operator.path(), soon + DAY), Ok(3));
    assert_eq!(device.head().map(|head| head.issued), Some(soon + DAY));
    let late = operator.market.refresh(&online, soon + 31 * DAY).unwrap_err().to_string();
    assert!(late.starts_with("refused: expired"), "{late}");

    // An operator who comes back late can go on; a stale market is no dead one.
    let late = soon + 200 * DAY;
    operator.market.refresh(&operator.signers(), late).unwrap();
    assert_eq!(follow(&mut device, operator.path(), late), Ok(4));
    assert_eq!(device.freshness(late), Freshness::Fresh);
    // Until the root itself is over.
    let over = operator.market.refresh(&operator.signers(), NOW + ROOT_LIFE).unwrap_err().to_string();
    assert!(over.starts_with("refused: expired: this root"), "{over}");
}

/// An operator's clock that stands or jumps back does not make devices refuse or ignore what is signed.
#[test]
fn an_operators_clock_may_go_wrong() {
    let operator = Operator::new();
    let mut device = TrustedMarket::pin(operator.market.share());
    follow(&mut device, operator.path(), NOW).unwrap();
    for (n, now) in [NOW, NOW, NOW - 100 * DAY, 0].into_iter().enumerate() {
        let one = package("one", &format!("1.0.{n}"), &n.to_string());
        operator.market.publish(&one, &Publisher::named(key(9).public()), &operator.signers(), now).unwrap();
        assert_eq!(follow(&mut device, operator.path(), NOW), Ok(n as u64 + 2));
        assert_eq!(device.freshness(NOW), Freshness::Fresh);
    }
    let head = key(3);
    let online = Signers { head: vec![&head], ..Signers::default() };
    let issued = device.head().map(|head| head.issued);
    operator.market.refresh(&online, NOW).unwrap();
    follow(&mut device, operator.path(), NOW).unwrap();
    assert!(device.head().map(|head| head.issued) > issued);
}

#[test]
fn new_keys_for_a_market() {
    let operator = Operator::new();
    operator.publish(&package("one", "1.0.0", "1"));
    let mut device = TrustedMarket::pin(operator.market.share());
    follow(&mut device, operator.path(), NOW).unwrap();
    let keys: Vec<SecretKey> = [1, 2, 3, 21, 22, 23].map(key).into();
    let roles = Roles { root: role(&[21], 1), index: role(&[22], 1), head: role(&[23], 1) };
    let without_old = Signers { root: vec![&keys[3]], index: vec![&keys[4]], head: vec![&keys[5]] };
    let waiting = operator.market.rotate(roles.clone(), &without_old, NOW).unwrap();
    assert_eq!(waiting.wanting[0].to_string(), "root: 0 of 1 signatures");
    assert_eq!(follow(&mut device, operator.path(), NOW), Ok(2), "nobody sees it");
    operator.market.discard().unwrap();

    // The index and head keys were stolen: only the root key is needed besides the new ones.
    let stolen = Signers { root: vec![&keys[0], &keys[3]], index: vec![&keys[4]], head: vec![&keys[5]] };
    assert!(operator.market.rotate(roles, &stolen, NOW).unwrap().wanting.is_empty());
    assert_eq!(operator.market.state().unwrap().trusted.root().unwrap().version, 2);
    assert_eq!(follow(&mut device, operator.path(), NOW), Ok(3));
    assert_eq!(operator.market.state().unwrap().catalogue.releases.len(), 1);
    let old = operator.market.refresh(&operator.signers(), NOW).unwrap_err();
    assert!(matches!(old, MarketError::WrongKey { .. }), "{old}");
    operator.market.refresh(&without_old, NOW).unwrap();
    assert_eq!(follow(&mut device, operator.path(), NOW), Ok(4));
    let mut newcomer = TrustedMarket::pin(operator.market.share());
    assert_eq!(follow(&mut newcomer, operator.path(), NOW), Ok(4));
    let report = verify_folder(operator.path(), operator.market.share(), NOW);
    assert!(report.passed(), "{:#?}", report.checks);

    // A year later the same keys go on under a new root.
    let later = NOW + 400 * DAY;
    let same = Roles { root: role(&[21], 1), index: role(&[22], 1), head: role(&[23], 1) };
    assert!(operator.market.rotate(same, &without_old, later).unwrap().wanting.is_empty());
    assert_eq!(follow(&mut device, operator.path(), later), Ok(5));
    assert_eq!(device.freshness(later), Freshness::Fresh);
}

#[test]
fn two_operators_at_once_do_not_sign_two_truths() {
    let operator = Operator::new();
    let lock = fs::File::options().write(true).open(operator.path().join(".lock")).unwrap();
    lock.lock().unwrap();
    let busy = operator.market.publish(
        &package("one", "1.0.0", "1"),
        &Publisher::named(key(9).public()),
        &operator.signers(),
        NOW,
    );
    assert!(matches!(busy, Err(MarketError::Folder(FolderError::Busy { .. }))), "{busy:?}");
    drop(lock);

    // Eight threads; each tries until it is its turn. Every version has been signed once.
    std::thread::scope(|scope| {
        for n in 0..8 {
            let operator = &operator;
            scope.spawn(move || {
                let package = package(&format!("service-{n}"), "1.0.0", &n.to_string());
                loop {
                    match operator.market.publish(
                        &package,
                        &Publisher::named(key(9).public()),
                        &operator.signers(),
                        NOW,
                    ) {
                        Err(MarketError::Folder(FolderError::Busy { .. })) => std::thread::yield_now(),
                        done => break assert!(done.unwrap().changed),
                    }
                }
            });
        }
    });
    let state = operator.market.state().unwrap();
    assert_eq!((state.index_version(), state.catalogue.releases.len()), (9, 8));
    assert!(verify_folder(operator.path(), operator.market.share(), NOW).passed());
}

/// A reader that comes at any moment while the market is written believes the old state or the new one.
#[test]
fn readers_and_a_writer_at_the_same_time() {
    let operator = Operator::new();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut device = TrustedMarket::pin(operator.market.share());
                let mut last = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let version = follow(&mut device, operator.path(), NOW).unwrap();
                    assert!(version >= last);
                    last = version;
                    let report = verify_folder(operator.path(), operator.market.share(), NOW);
                    assert!(report.passed(), "{:#?}", report.checks);
                }
            });
        }
        for n in 0..20 {
            operator.publish(&package("one", &format!("1.0.{n}"), &n.to_string()));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_damaged_market_is_not_changed() {
    let operator = Operator::new();
    operator.publish(&package("one", "1.0.0", "1"));
    let package = package("two", "1.0.0", "2");
    let good = TempDir::new().unwrap();
    copy(operator.path(), good.path());
    let page = operator.market.state().unwrap().trusted.index().unwrap().names.unwrap();
    let index = operator.market.state().unwrap().trusted.head().unwrap().hash;
    for file in ["root/1.cbor", "head.cbor", &format!("blobs/{page}"), &format!("blobs/{index}")] {
        for damage in [None, Some(b"damaged")] {
            copy(good.path(), operator.path());
            let path = operator.path().join(file);
            damage.map_or_else(|| fs::remove_file(&path), |bytes| fs::write(&path, bytes)).unwrap();
            let error = operator
                .market
                .publish(&package, &Publisher::named(key(9).public()), &operator.signers(), NOW)
                .unwrap_err();
            assert!(!error.to_string().is_empty());
            assert!(MarketFolder::open(operator.path()).is_err(), "{file}");
        }
    }
}

#[cfg(unix)]
#[test]
fn links_and_pipes_in_a_market_are_not_followed() {
    use std::os::unix::fs::symlink;
    let operator = Operator::new();
    let path = operator.path().join("head.cbor");
    let folder = PublishedFolder::at(operator.path());
    for target in ["/dev/zero", "/etc/passwd", "/"] {
        fs::remove_file(&path).unwrap();
        symlink(target, &path).unwrap();
        assert!(matches!(folder.head(), Err(FolderError::NotAFile { .. })));
        assert!(!verify_folder(operator.path(), operator.market.share(), NOW).passed());
    }
    for outside in ["../x", "/etc/passwd", "blobs/../../x"] {
        assert!(matches!(folder.file(outside, 100_000), Err(FolderError::NotAFile { .. })), "{outside}");
    }
    assert!(folder.file("root/1.cbor", 100_000).unwrap().is_some());
    fs::remove_file(&path).unwrap();
    let mut pipe = std::process::Command::new("mkfifo");
    assert!(pipe.arg(&path).status().unwrap().success());
    assert!(matches!(folder.head(), Err(FolderError::NotAFile { .. })), "a pipe is not waited for");
    fs::remove_file(&path).unwrap();
    fs::write(&path, vec![0; 2_000]).unwrap();
    assert!(matches!(folder.head(), Err(FolderError::TooLong { .. })));
}
