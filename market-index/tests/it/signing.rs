//! Several hands: changes that wait for signatures, delegated names, reviews, publishers that are thrown out.

use std::fs;

use msm_market_index::{Change, MarketError, MarketFolder, Publisher, Signers, market::Wanting, verify_folder};
use msm_protocol::{
    Envelope,
    document::{Delegation, Policy, Roles, Status},
    review::{Report, ReportCheck},
};
use tempfile::TempDir;

use crate::fixture::{NOW, Operator, copy, key, package, role};

/// A market whose index takes two of three keys, and a copy of its folder for another signer.
fn two_of_three() -> (TempDir, MarketFolder) {
    let folder = TempDir::new().unwrap();
    let keys = [1, 2, 12, 3].map(key);
    let signers = Signers { root: vec![&keys[0]], index: vec![&keys[1], &keys[2]], head: vec![&keys[3]] };
    let roles = Roles { root: role(&[1], 1), index: role(&[2, 12, 22], 2), head: role(&[3], 1) };
    let market = MarketFolder::init_with(folder.path(), "Three Hands", roles, &signers, NOW).unwrap();
    (folder, market)
}

fn only(seed: u8) -> msm_protocol::SecretKey {
    key(seed)
}

fn passes(market: &MarketFolder) {
    let report = verify_folder(market.folder().path(), market.share(), NOW);
    assert!(report.passed(), "{:#?}", report.faults().collect::<Vec<_>>());
}

#[test]
fn signatures_from_several_copies_are_merged() {
    let (folder, market) = two_of_three();
    let (two, twelve, head) = (only(2), only(12), only(3));
    let one = package("one", "1.0.0", "1");
    let outcome = market.publish(
        &one,
        &Publisher::named(two.public()),
        &Signers { index: vec![&two], ..Signers::default() },
        NOW,
    );
    let outcome = outcome.unwrap();
    assert_eq!((outcome.index, outcome.wanting.len()), (2, 2));
    assert_eq!(market.draft().unwrap(), Some(2));
    passes(&market);

    // Another change has to wait, and a reader sees nothing of it.
    let busy = market.publish(&package("two", "1.0.0", "2"), &Publisher::named(two.public()), &Signers::default(), NOW);
    assert!(matches!(busy, Err(MarketError::Draft { index: 2 })), "{busy:?}");

    // Elsewhere, without a network: the second key signs a copy.
    let stick = TempDir::new().unwrap();
    copy(folder.path(), stick.path());
    let there = MarketFolder::open(stick.path()).unwrap();
    let outcome = there.cosign(&Signers { index: vec![&twelve], ..Signers::default() }, NOW).unwrap();
    let head_wanting = Wanting { document: "head", signed: 0, threshold: 1, missing: vec![head.public()] };
    assert_eq!(outcome.wanting, [head_wanting]);

    // At home, with the head key at hand.
    let online = Signers { head: vec![&head], ..Signers::default() };
    let outcome = market.sign(&[stick.path().to_owned()], &online, NOW).unwrap();
    assert!(outcome.wanting.is_empty());
    assert_eq!((market.state().unwrap().index_version(), market.draft().unwrap()), (2, None));
    assert!(!folder.path().join("draft/index.cbor").exists());
    passes(&market);
}

#[test]
fn a_draft_takes_no_foreign_keys_and_no_other_draft() {
    let (folder, market) = two_of_three();
    let (two, stranger) = (only(2), only(77));
    let by_two = Signers { index: vec![&two], ..Signers::default() };
    market.publish(&package("one", "1.0.0", "1"), &Publisher::named(two.public()), &by_two, NOW).unwrap();
    let strangers = Signers { index: vec![&stranger], head: vec![&stranger], root: vec![&stranger] };
    let outcome = market.sign(&[], &strangers, NOW).unwrap();
    assert_eq!(outcome.wanting[0].to_string(), "index: 1 of 2 signatures");
    // The same key again is the same signature.
    assert_eq!(market.sign(&[], &by_two, NOW).unwrap().wanting[0].signed, 1);

    let stick = TempDir::new().unwrap();
    copy(folder.path(), stick.path());
    let there = MarketFolder::open(stick.path()).unwrap();
    there.discard().unwrap();
    there.publish(&package("two", "1.0.0", "2"), &Publisher::named(two.public()), &by_two, NOW).unwrap();
    let other = market.sign(&[stick.path().to_owned()], &by_two, NOW).unwrap_err().to_string();
    assert!(other.ends_with("what waits for signatures there is another change"), "{other}");
    // A draft that was changed by hand is refused where its signatures are counted.
    let path = folder.path().join("draft/index.cbor");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let (twelve, head) = (only(12), only(3));
    let all = Signers { index: vec![&two, &twelve], head: vec![&head], ..Signers::default() };
    assert!(market.sign(&[], &all, NOW).is_err());
    assert_eq!(market.state().unwrap().index_version(), 1);
    market.discard().unwrap();
    passes(&market);
}

/// Root keys that are kept apart: a rotation is signed in two places.
#[test]
fn new_keys_are_signed_for_in_two_places() {
    let operator = Operator::new();
    operator.publish(&package("one", "1.0.0", "1"));
    let (old, ann, bob, index, head) = (key(1), key(31), key(32), key(2), key(3));
    let roles = Roles { root: role(&[31, 32], 2), index: role(&[2], 1), head: role(&[3], 1) };
    let here = Signers { root: vec![&old, &ann], index: vec![&index], head: vec![&head] };
    let outcome = operator.market.rotate(roles, &here, NOW).unwrap();
    assert_eq!(outcome.wanting[0].to_string(), "root: 1 of 2 signatures");
    assert_eq!(outcome.wanting[0].missing, [bob.public()]);
    let bobs = Signers { root: vec![&bob], index: vec![&index], head: vec![&head] };
    assert!(operator.market.sign(&[], &bobs, NOW).unwrap().wanting.is_empty());
    let state = operator.market.state().unwrap();
    assert_eq!(state.trusted.root().map(|root| (root.version, root.roles.root.threshold)), Some((2, 2)));
    passes(&operator.market);
}

#[test]
fn delegated_names_are_their_publishers_alone() {
    let operator = Operator::new();
    let acme = key(6);
    let delegation = Delegation { keys: vec![acme.public()], prefix: "acme-".into() };
    let change = |change| operator.market.change(vec![change], &operator.signers(), NOW);
    change(Change::Delegate(delegation)).unwrap();
    let tool = package("acme-tool", "1.0.0", "1");
    let named = Publisher::named(key(9).public());
    let refused = operator.market.publish(&tool, &named, &operator.signers(), NOW).unwrap_err();
    assert!(matches!(refused, MarketError::Rules(_)), "{refused}");
    let by_acme = Publisher::signing(&acme, &tool);
    assert!(operator.market.publish(&tool, &by_acme, &operator.signers(), NOW).unwrap().changed);
    // What was there before is signed for later, and then the name may be given away.
    let old = package("late-tool", "1.0.0", "1");
    operator.publish(&old);
    let late = Delegation { keys: vec![acme.public()], prefix: "late-".into() };
    assert!(change(Change::Delegate(late.clone())).is_err());
    assert!(operator.market.publish(&old, &Publisher::signing(&acme, &old), &operator.signers(), NOW).unwrap().changed);
    change(Change::Delegate(late)).unwrap();
    // A signature of one package is not one of the next.
    let next = package("acme-tool", "1.0.1", "2");
    assert!(operator.market.publish(&next, &by_acme, &operator.signers(), NOW).is_err());
    passes(&operator.market);
    // Names cannot be taken over from those who have published them without.
    let over = Delegation { keys: vec![key(8).public()], prefix: "acme-".into() };
    assert!(change(Change::Delegate(over)).is_err());
    change(Change::Delegate(Delegation { keys: vec![], prefix: "acme-".into() })).unwrap();
    passes(&operator.market);
}

#[test]
fn a_revoked_publisher_brings_nothing_in_any_more() {
    let operator = Operator::new();
    let (one, two) = (package("one", "1.0.0", "1"), package("two", "1.0.0", "2"));
    let (bad, good) = (Publisher::named(key(7).public()), Publisher::named(key(8).public()));
    operator.market.publish(&one, &bad, &operator.signers(), NOW).unwrap();
    operator.market.publish(&two, &good, &operator.signers(), NOW).unwrap();
    let revoke = || {
        let change = Change::RevokePublisher { publisher: bad.key, reason: "its key was stolen" };
        operator.market.change(vec![change], &operator.signers(), NOW).unwrap()
    };
    assert!(revoke().changed && !revoke().changed);
    let state = operator.market.state().unwrap();
    let status: Vec<Status> = state.catalogue.releases.iter().map(|release| release.status).collect();
    assert_eq!(status, [Status::Revoked, Status::Active]);
    assert_eq!(state.catalogue.revocations.len(), 1);
    assert!(!operator.path().join("blobs").join(one.hash.to_string()).exists());
    let again = operator.market.publish(&package("three", "1.0.0", "3"), &bad, &operator.signers(), NOW).unwrap_err();
    assert!(again.to_string().ends_with("is revoked in this market (its key was stolen)"), "{again}");
    passes(&operator.market);
}

fn report_of(package: &msm_market_index::Package, passed: bool) -> Report {
    let fault = (!passed).then(|| "prints the position".to_owned());
    Report {
        v: 1,
        name: package.manifest.name.clone(),
        note: String::new(),
        checks: vec![ReportCheck { what: "js: test one".into(), fault }],
        issued: NOW,
        passed,
        rating: 6,
        version: package.manifest.version.clone(),
        manifest: package.hash,
        longest_ms: 1,
        variants_agree: None,
    }
}

#[test]
fn reviews_are_of_one_package_by_one_key() {
    let operator = Operator::new();
    let (one, two) = (package("one", "1.0.0", "1"), package("one", "1.1.0", "2"));
    operator.publish(&one);
    let (ann, bob) = (key(41), key(42));
    let sign = |report: &Report, by: &msm_protocol::SecretKey| Envelope::sign(report, &[by]).unwrap().to_vec().unwrap();
    let add = |report: &[u8], reviewer| {
        operator.market.change(vec![Change::Review { report, reviewer }], &operator.signers(), NOW)
    };
    let good = sign(&report_of(&one, true), &ann);
    assert!(add(&good, ann.public()).unwrap().changed);
    assert!(!add(&good, ann.public()).unwrap().changed, "the same again changes nothing");
    assert!(matches!(add(&good, bob.public()), Err(MarketError::Review(_))), "not his");
    assert!(matches!(add(&sign(&report_of(&two, true), &bob), bob.public()), Err(MarketError::NotFound { .. })));
    let renamed = Report { name: "other".into(), ..report_of(&one, true) };
    assert!(matches!(add(&sign(&renamed, &bob), bob.public()), Err(MarketError::Review(_))));
    passes(&operator.market);
    let release = operator.market.state().unwrap().catalogue.releases[0].clone();
    assert_eq!(release.reviews.len(), 1);
    assert!(Report::open(&good, &ann.public(), &one.hash).is_ok());
    assert!(matches!(add(&sign(&report_of(&one, false), &ann), ann.public()), Err(MarketError::Review(_))));
    let failed = Report::open(&sign(&report_of(&one, false), &ann), &ann.public(), &one.hash).unwrap_err();
    assert_eq!(failed.to_string(), "its reviewer does not let it pass: prints the position");

    // A market cannot ask for more reviews than it has reviewers.
    let policy = |reviews, seeds: &[u8]| {
        let reviewers = seeds.iter().map(|n| key(*n).public()).collect();
        operator.market.change(vec![Change::Policy(Policy { reviews, reviewers })], &operator.signers(), NOW)
    };
    assert!(matches!(policy(2, &[41]), Err(MarketError::Rules(_))));
    policy(1, &[41, 42]).unwrap();
    passes(&operator.market);
    // A review that was changed on its way is found by an inspection.
    let blob = operator.path().join("blobs").join(release.reviews[0].report.to_string());
    fs::write(&blob, sign(&report_of(&one, false), &ann)).unwrap();
    assert!(!verify_folder(operator.path(), operator.market.share(), NOW).passed());
}
