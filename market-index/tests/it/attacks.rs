//! Attacks on a device's trust, one test per fault: the refusal has its name, and nothing that was believed changes.

use msm_market_index::{Floor, Freshness, HeadOutcome, TrustedMarket, trust::IndexOutcome};
use msm_protocol::{
    ContentHash, SecretKey, cbor,
    document::{Roles, Root},
    limits::{HEAD_BYTES, INDEX_BYTES, ROOT_BYTES, VERSION_STEP},
};

use crate::fixture::{DAY, Forge, NOW, key, role, sign};

/// Something that gives a device bytes.
type Offer<'a> = &'a dyn Fn(&mut TrustedMarket) -> Result<(), String>;

fn root(bytes: &[u8]) -> impl Fn(&mut TrustedMarket) -> Result<(), String> {
    move |device| device.update_root(bytes, NOW).map(|_| ()).map_err(|e| e.to_string())
}

fn head(bytes: &[u8]) -> impl Fn(&mut TrustedMarket) -> Result<(), String> {
    move |device| device.update_head(bytes, NOW).map(|_| ()).map_err(|e| e.to_string())
}

fn index(bytes: &[u8]) -> impl Fn(&mut TrustedMarket) -> Result<(), String> {
    move |device| device.update_index(bytes, NOW).map(|_| ()).map_err(|e| e.to_string())
}

/// The offer is refused with `text`, and the device is exactly what it was.
#[track_caller]
fn refused(device: &mut TrustedMarket, offer: Offer<'_>, text: &str) {
    let before = device.clone();
    let error = offer(device).expect_err(text);
    assert!(error.starts_with(&format!("refused: {text}")), "expected {text}, got {error}");
    assert_eq!(*device, before, "state changed by a refused document: {text}");
}

#[test]
fn b02_documents_signed_by_strangers() {
    let forge = Forge::new();
    let (mut device, v8) = forge.device_at(8);
    let floor = device.floor();
    let foreign_index = sign(&forge.index(9, Some(&v8)), &[7]);
    refused(&mut device, &index(&foreign_index), "untrusted-market");
    refused(&mut device, &head(&sign(&forge.head(9, &foreign_index), &[7])), "untrusted-market");
    // Real keys of this market in another role are strangers too.
    refused(&mut device, &head(&sign(&forge.head(9, &foreign_index), &[1, 2])), "untrusted-market");
    refused(&mut device, &index(&sign(&forge.index(9, Some(&v8)), &[1, 3])), "untrusted-market");
    refused(&mut device, &root(&sign(&forge.next_root(|_| {}), &[2, 3, 7])), "untrusted-market");
    // A head that the head key announces does not make a stranger's index good.
    device.update_head(&sign(&forge.head(9, &foreign_index), &[3]), NOW).unwrap();
    refused(&mut device, &index(&foreign_index), "untrusted-market");
    assert_eq!(Floor { time: floor.time, ..device.floor() }, floor);
}

#[test]
fn b02_a_first_root_that_is_not_the_pinned_one() {
    let (ours, theirs) =
        (Forge::new(), Forge::with(Roles { head: role(&[5], 1), root: role(&[4], 1), index: role(&[6], 1) }));
    let mut device = TrustedMarket::pin(ours.market);
    refused(&mut device, &root(&sign(&theirs.root, &[4])), "market-mismatch");
    refused(&mut device, &root(&sign(&theirs.root, &[1, 4])), "market-mismatch");
    // The right bytes, without the signature of their own keys.
    refused(&mut device, &root(&sign(&ours.root, &[7])), "untrusted-market");
    device.update_root(&ours.root_bytes(), NOW).unwrap();
}

#[test]
fn b03_a_signed_document_of_another_market() {
    let forge = Forge::new();
    // The same operator and the same keys, another market.
    let mut other = Forge::new();
    other.root.name = "Second Market".into();
    let other = Forge { market: crate::fixture::market_of(&other.root), ..other };
    let (mut device, v8) = forge.device_at(8);
    let (their_index, their_head) = other.pair(9, Some(&v8));
    refused(&mut device, &head(&their_head), "market-mismatch");
    refused(&mut device, &index(&their_index), "market-mismatch");
    refused(&mut device, &root(&sign(&other.next_root(|_| {}), &[1])), "market-mismatch");
    // Our head over their index.
    device.update_head(&sign(&forge.head(9, &their_index), &[3]), NOW).unwrap();
    refused(&mut device, &index(&their_index), "market-mismatch");
}

#[test]
fn b04_an_older_index() {
    let forge = Forge::new();
    let (mut device, v8) = forge.device_at(8);
    let (v7, h7) = forge.pair(7, None);
    refused(&mut device, &head(&h7), "rollback 7<8");
    refused(&mut device, &index(&v7), "rollback 7<8");

    // After a restart with nothing but the floor (the store is gone), read back from its own bytes.
    let floor: Floor = cbor::from_slice(&cbor::to_vec(&device.floor()).unwrap(), 256).unwrap();
    assert_eq!(floor, device.floor());
    let mut restarted = TrustedMarket::from_floor(forge.market, floor);
    refused(&mut restarted, &head(&h7), "root-version");
    restarted.update_root(&forge.root_bytes(), NOW).unwrap();
    refused(&mut restarted, &head(&h7), "rollback 7<8");
    refused(&mut restarted, &index(&v7), "rollback 7<8");
    assert_eq!(restarted.freshness(NOW), Freshness::Unknown);
    restarted.update_head(&sign(&forge.head(8, &v8), &[3]), NOW).unwrap();
    assert_eq!(restarted.update_index(&v8, NOW), Ok(IndexOutcome::Accepted { version: 8 }));
}

#[test]
fn b06_one_key_is_one_signature() {
    let two = Roles { head: role(&[3, 13], 2), root: role(&[1], 1), index: role(&[2, 12], 2) };
    let forge = Forge::with(two);
    let mut device = TrustedMarket::pin(forge.market);
    device.update_root(&forge.root_bytes(), NOW).unwrap();
    let good = sign(&forge.index(1, None), &[2, 12]);
    refused(&mut device, &head(&sign(&forge.head(1, &good), &[3, 3])), "threshold 1/2");
    refused(&mut device, &head(&sign(&forge.head(1, &good), &[3, 2, 1])), "threshold 1/2");
    refused(&mut device, &index(&sign(&forge.index(1, None), &[2, 2])), "threshold 1/2");
    device.update_head(&sign(&forge.head(1, &good), &[13, 3]), NOW).unwrap();
    device.update_index(&good, NOW).unwrap();

    // The same key listed twice in a role would count twice.
    for roles in [
        Roles { index: role(&[2, 2], 2), ..Forge::new().root.roles },
        Roles { head: role(&[3, 3], 2), ..Forge::new().root.roles },
        Roles { root: role(&[1, 1], 2), ..Forge::new().root.roles },
    ] {
        let forge = Forge::with(roles);
        refused(&mut TrustedMarket::pin(forge.market), &root(&sign(&forge.root, &[1, 1])), "bad-message");
    }
}

#[test]
fn roots_without_a_usable_threshold_are_refused() {
    let many: Vec<u8> = (1..=17).collect();
    let base = Forge::new().root.roles;
    for roles in [
        Roles { index: role(&[2], 0), ..base.clone() },
        Roles { index: role(&[2], 2), ..base.clone() },
        Roles { head: role(&[], 0), ..base.clone() },
        Roles { head: role(&[], 1), ..base.clone() },
        Roles { head: role(&many, 1), ..base.clone() },
    ] {
        let forge = Forge::with(roles);
        refused(&mut TrustedMarket::pin(forge.market), &root(&forge.root_bytes()), "bad-message");
    }
}

#[test]
fn b09_key_changes_need_the_old_keys_and_the_new_ones() {
    let forge = Forge::new();
    let (mut device, _) = forge.device_at(8);
    let new_keys = |root: &mut Root| root.roles.root = role(&[21], 1);
    let v2 = forge.next_root(new_keys);
    refused(&mut device, &root(&sign(&v2, &[21])), "untrusted-market");
    refused(&mut device, &root(&sign(&v2, &[1])), "untrusted-market");
    let v3 = forge.next_root(|root| root.version = 3);
    refused(&mut device, &root(&sign(&v3, &[1])), "root-version");
    let v1 = forge.next_root(|root| root.version = 0);
    refused(&mut device, &root(&sign(&v1, &[1])), "root-version");
    device.update_root(&sign(&v2, &[1, 21]), NOW).unwrap();
    assert_eq!(device.root().map(|root| root.version), Some(2));
    // Another root 2, signed by everybody.
    let other = forge.next_root(|root| {
        new_keys(root);
        root.name = "Two Truths".into();
    });
    refused(&mut device, &root(&sign(&other, &[1, 21])), "equivocation");

    // A root that has to be followed by two more: a device that was away walks the chain.
    let mut away = forge.device_at(8).0;
    let v3 = Root { version: 3, ..v2.clone() };
    refused(&mut away, &root(&sign(&v3, &[1, 21])), "root-version");
    away.update_root(&sign(&v2, &[1, 21]), NOW).unwrap();
    away.update_root(&sign(&v3, &[21]), NOW).unwrap();
}

#[test]
fn b09_an_old_chain_of_roots_after_a_restart() {
    let forge = Forge::new();
    let (mut device, v8) = forge.device_at(8);
    let v2 = forge.next_root(|root| root.roles.head = role(&[33], 1));
    device.update_root(&sign(&v2, &[1]), NOW).unwrap();

    let mut restarted = TrustedMarket::from_floor(forge.market, device.floor());
    restarted.update_root(&forge.root_bytes(), NOW).unwrap();
    // The head key that root 2 took away still signs; only the floor knows that it must not.
    refused(&mut restarted, &head(&sign(&forge.head(9, &v8), &[3])), "root-version");
    let other = forge.next_root(|root| root.roles.head = role(&[34], 1));
    refused(&mut restarted, &root(&sign(&other, &[1])), "equivocation");
    restarted.update_root(&sign(&v2, &[1]), NOW).unwrap();
    refused(&mut restarted, &head(&sign(&forge.head(9, &v8), &[3])), "untrusted-market");
}

#[test]
fn a_head_of_a_later_root_asks_for_that_root() {
    let forge = Forge::new();
    let (mut device, v8) = forge.device_at(8);
    let (v9, _) = forge.pair(9, Some(&v8));
    let mut later = forge.head(9, &v9);
    later.root = 2;
    refused(&mut device, &head(&sign(&later, &[3])), "root-version: root 2 is needed, got root 1");
    assert_eq!(device.next_root(), 2);
    device.update_root(&sign(&forge.next_root(|_| {}), &[1]), NOW).unwrap();
    device.update_head(&sign(&later, &[3]), NOW).unwrap();
}

#[test]
fn b10_a_version_that_leaves_no_room() {
    let forge = Forge::new();
    let (mut device, v8) = forge.device_at(8);
    let (last, last_head) = forge.pair(u64::MAX, None);
    refused(&mut device, &head(&last_head), "fast-forward 8->18446744073709551615");
    refused(&mut device, &index(&last), "fast-forward 8->18446744073709551615");
    refused(&mut device, &head(&forge.pair(8 + VERSION_STEP + 1, None).1), "fast-forward");
    // On first contact too.
    let mut fresh = TrustedMarket::pin(forge.market);
    fresh.update_root(&forge.root_bytes(), NOW).unwrap();
    refused(&mut fresh, &head(&last_head), "fast-forward 0->");
    // The legitimate next one is still welcome.
    let (v12, h12) = forge.pair(12, Some(&v8));
    device.update_head(&h12, NOW).unwrap();
    device.update_index(&v12, NOW).unwrap();
}

/// As far as a thief of keys can jump, new keys bring the market back.
#[test]
fn b10_after_new_keys_the_market_goes_on() {
    let forge = Forge::new();
    let (mut device, v8) = forge.device_at(8);
    let (stolen, stolen_head) = forge.pair(8 + VERSION_STEP, Some(&v8));
    device.update_head(&stolen_head, NOW).unwrap();
    device.update_index(&stolen, NOW).unwrap();
    let (_, h12) = forge.pair(12, Some(&v8));
    refused(&mut device, &head(&h12), "rollback 12<");

    // A root that changes nothing about the stolen keys lifts nothing.
    let same = forge.next_root(|_| {});
    let mut unchanged = device.clone();
    unchanged.update_root(&sign(&same, &[1]), NOW).unwrap();
    refused(&mut unchanged, &head(&h12), "rollback 12<");
    assert!(unchanged.index().is_some());
    // Nor does one that adds a key beside the stolen one: its old index would still count.
    let beside = forge.next_root(|root| root.roles.index = role(&[2, 22], 1));
    let mut beside_device = device.clone();
    beside_device.update_root(&sign(&beside, &[1]), NOW).unwrap();
    refused(&mut beside_device, &head(&h12), "rollback 12<");

    let v2 = forge.next_root(|root| {
        root.roles.index = role(&[22], 1);
        root.roles.head = role(&[23], 1);
    });
    device.update_root(&sign(&v2, &[1]), NOW).unwrap();
    assert_eq!(device.freshness(NOW), Freshness::Unknown, "what stolen keys have signed is not believed any more");
    refused(&mut device, &head(&stolen_head), "untrusted-market");
    let legit = sign(&forge.index(12, None), &[22]);
    device.update_head(&sign(&forge.head(12, &legit), &[23]), NOW).unwrap();
    device.update_index(&legit, NOW).unwrap();
    assert_eq!(device.index().map(|index| index.version), Some(12));

    // Walking the same chain again after a restart does not lift the new floor.
    let mut restarted = TrustedMarket::from_floor(forge.market, device.floor());
    restarted.update_root(&forge.root_bytes(), NOW).unwrap();
    restarted.update_root(&sign(&v2, &[1]), NOW).unwrap();
    assert_eq!(restarted.floor(), device.floor());
    let v11 = sign(&forge.index(11, None), &[22]);
    refused(&mut restarted, &head(&sign(&forge.head(11, &v11), &[23])), "rollback 11<12");
}

/// B16: lists without end in a signed document's place fall at a cap before they are read.
#[test]
fn b16_bombs_instead_of_documents() {
    let (mut device, _) = Forge::new().device_at(8);
    let list = |count: u32| {
        let mut bytes = vec![0x9a];
        bytes.extend(count.to_be_bytes());
        bytes.resize(bytes.len() + count as usize, 0x60);
        bytes
    };
    let bombs = [
        list(1 << 20),
        list(60_000),
        list(900),
        vec![0x81; 900],
        vec![0x9f; 900],
        Vec::new(),
        vec![0xa0],
        b"<html>".to_vec(),
    ];
    for bytes in &bombs {
        refused(&mut device, &root(bytes), "bad-message");
        refused(&mut device, &head(bytes), "bad-message");
        refused(&mut device, &index(bytes), "bad-message");
    }
    refused(&mut device, &root(&vec![0x40; ROOT_BYTES + 1]), "bad-message");
    refused(&mut device, &head(&[0x40; HEAD_BYTES + 1]), "bad-message: head: bad-message: message of 1025 bytes");
    refused(&mut device, &index(&vec![0x40; INDEX_BYTES + 1]), "bad-message");
}

#[test]
fn a_document_in_the_place_of_another() {
    let forge = Forge::with(Roles { head: role(&[1], 1), root: role(&[1], 1), index: role(&[1], 1) });
    let mut device = TrustedMarket::pin(forge.market);
    device.update_root(&forge.root_bytes(), NOW).unwrap();
    let an_index = sign(&forge.index(1, None), &[1]);
    let a_head = sign(&forge.head(1, &an_index), &[1]);
    refused(&mut device, &head(&an_index), "wrong-type");
    refused(&mut device, &index(&a_head), "wrong-type");
    refused(&mut device, &root(&a_head), "wrong-type");
    refused(&mut device, &head(&forge.root_bytes()), "wrong-type");
}

#[test]
fn two_truths_under_one_version() {
    let forge = Forge::new();
    let (mut device, v8) = forge.device_at(8);
    let mut changed = forge.index(8, None);
    changed.policy.reviewers = vec![key(8).public()];
    let other = sign(&changed, &[2]);
    refused(&mut device, &head(&sign(&forge.head(8, &other), &[3])), "equivocation");
    refused(&mut device, &index(&other), "equivocation");
    // Two heads that have not led to an index yet.
    let (_, h9) = forge.pair(9, Some(&v8));
    device.update_head(&h9, NOW).unwrap();
    let mut nine = forge.index(9, Some(&v8));
    nine.policy.reviewers = vec![key(8).public()];
    let nine = sign(&nine, &[2]);
    refused(&mut device, &head(&sign(&forge.head(9, &nine), &[3])), "equivocation");
    refused(&mut device, &index(&nine), "equivocation");
    // An index 9 that continues another index 8 than ours, and one that continues none.
    for prev in [Some(other.as_slice()), None] {
        let mut device = forge.device_at(8).0;
        let (fork, fork_head) = forge.pair(9, prev);
        device.update_head(&fork_head, NOW).unwrap();
        refused(&mut device, &index(&fork), "equivocation");
    }
}

#[test]
fn freezing_a_device_on_an_old_truth() {
    let forge = Forge::new();
    let (mut device, v8) = forge.device_at(8);
    let (v9, h9) = forge.pair(9, Some(&v8));
    let late = NOW + 30 * DAY;
    for offer in [&h9, &v9] {
        let before = device.clone();
        let error = if offer == &h9 {
            device.update_head(offer, late).unwrap_err().to_string()
        } else {
            device.update_index(offer, late).unwrap_err().to_string()
        };
        assert!(error.starts_with("refused: expired"), "{error}");
        assert_eq!(device, before);
    }
    // Nothing under a root whose time is over, however fresh it looks.
    let mut head = forge.head(9, &v9);
    (head.issued, head.expires) = (NOW + 400 * DAY, NOW + 430 * DAY);
    let error = device.update_head(&sign(&head, &[3]), NOW + 401 * DAY).unwrap_err().to_string();
    assert!(error.starts_with("refused: expired: this root"), "{error}");
    // The next root ends that.
    let v2 = forge.next_root(|root| root.expires = NOW + 700 * DAY);
    device.update_root(&sign(&v2, &[1]), NOW + 401 * DAY).unwrap();
    device.update_head(&sign(&head, &[3]), NOW + 401 * DAY).unwrap();
}

/// A clock that was set back does not make expired documents good again, and one that cannot be helped does not make
/// a device unusable.
#[test]
fn a_clock_far_back_does_not_bring_expired_documents_back() {
    let forge = Forge::new();
    let (mut device, v8) = forge.device_at(8);
    let known = device.floor().time;
    let (v10, _) = forge.pair(10, None);
    let mut old = forge.head(10, &v10);
    (old.issued, old.expires) = (known - 40 * DAY, known - 10 * DAY);
    let old = sign(&old, &[3]);
    for now in [0, 1, known - 30 * DAY, known] {
        let error = device.update_head(&old, now).unwrap_err().to_string();
        assert!(error.starts_with("refused: expired"), "{now}: {error}");
    }
    assert_eq!(device.freshness(0), Freshness::Fresh);
    // A device that wakes up in 1970 can still follow.
    let (v9, h9) = forge.pair(9, Some(&v8));
    device.update_head(&h9, 0).unwrap();
    device.update_index(&v9, 0).unwrap();
    // The floor carries the time over a restart.
    let mut restarted = TrustedMarket::from_floor(forge.market, device.floor());
    restarted.update_root(&forge.root_bytes(), 0).unwrap();
    assert!(restarted.update_head(&old, 0).unwrap_err().to_string().starts_with("refused: expired"));
}

#[test]
fn an_index_that_no_head_announces() {
    let forge = Forge::new();
    let (mut device, v8) = forge.device_at(8);
    let (v9, h9) = forge.pair(9, Some(&v8));
    refused(&mut device, &index(&v9), "unannounced");
    let mut wrong_size = forge.head(9, &v9);
    wrong_size.size += 1;
    let mut lied = device.clone();
    lied.update_head(&sign(&wrong_size, &[3]), NOW).unwrap();
    refused(&mut lied, &index(&v9), "equivocation");
    device.update_head(&h9, NOW).unwrap();
    device.update_index(&v9, NOW).unwrap();
}

/// A thief of the head key alone can announce what does not exist; that must not stop what does.
#[test]
fn a_head_without_an_index_can_be_abandoned() {
    let forge = Forge::new();
    let (mut device, v8) = forge.device_at(8);
    let nothing = forge.head(9 + 1_000, b"no such index");
    device.update_head(&sign(&nothing, &[3]), NOW).unwrap();
    let (v9, h9) = forge.pair(9, Some(&v8));
    refused(&mut device, &head(&h9), "rollback 9<1009");
    assert_eq!(device.index().map(|index| index.version), Some(8), "the old index stays in use");
    device.abandon_head();
    assert_eq!(device.wanted_index(), None);
    assert!(matches!(device.update_head(&h9, NOW), Ok(HeadOutcome::Fetch { version: 9, .. })));
    device.update_index(&v9, NOW).unwrap();
}

/// Documents that contradict themselves, all of them signed by the right keys.
#[test]
fn signed_nonsense() {
    let forge = Forge::new();
    let (mut device, v8) = forge.device_at(8);
    let mut fresh = TrustedMarket::pin(forge.market);
    fresh.update_root(&forge.root_bytes(), NOW).unwrap();
    refused(&mut fresh, &head(&sign(&forge.head(0, &v8), &[3])), "bad-message");
    type Change<T> = fn(&mut T);
    let heads: &[Change<msm_protocol::document::Head>] =
        &[|head| head.v = 2, |head| head.issued = head.expires, |head| head.size = 0];
    for change in heads {
        let mut one = forge.head(9, &v8);
        change(&mut one);
        refused(&mut device, &head(&sign(&one, &[3])), "bad-message");
    }
    let indexes: &[Change<msm_protocol::document::Index>] = &[
        |index| index.v = 0,
        |index| index.issued = index.expires + 1,
        |index| index.releases = 1,
        |index| index.names = Some(ContentHash::of(b"page")),
    ];
    for change in indexes {
        let mut one = forge.index(9, Some(&v8));
        change(&mut one);
        refused(&mut device, &index(&sign(&one, &[2])), "bad-message");
    }
    let roots: &[Change<Root>] = &[
        |root| root.v = 2,
        |root| root.name = "\u{1b}[2J".into(),
        |root| root.name = "x".repeat(65),
        |root| root.market = None,
        |root| root.roles.head.threshold = 0,
    ];
    for change in roots {
        refused(&mut device, &root(&sign(&forge.next_root(change), &[1])), "bad-message");
    }
    for change in [(|root| root.version = 2) as Change<Root>, |root| root.version = 0] {
        let mut first = Forge::new();
        change(&mut first.root);
        let market = crate::fixture::market_of(&first.root);
        refused(&mut TrustedMarket::pin(market), &root(&first.root_bytes()), "root-version");
    }
}

/// No byte of an accepted document can be changed.
#[test]
fn changed_bytes() {
    let forge = Forge::new();
    let (base, v8) = forge.device_at(8);
    let (v9, h9) = forge.pair(9, Some(&v8));
    let v2 = sign(&forge.next_root(|root| root.roles.index = role(&[22], 1)), &[1]);
    let mut announced = base.clone();
    announced.update_head(&h9, NOW).unwrap();
    type Update = fn(&mut TrustedMarket, &[u8]) -> bool;
    let cases: [(&TrustedMarket, &[u8], Update); 3] = [
        (&base, &v2, |device, bytes| device.update_root(bytes, NOW).is_ok()),
        (&base, &h9, |device, bytes| device.update_head(bytes, NOW).is_ok()),
        (&announced, &v9, |device, bytes| device.update_index(bytes, NOW).is_ok()),
    ];
    for (device, bytes, update) in cases {
        assert!(update(&mut device.clone(), bytes));
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1 << (at % 8);
            for offered in [changed.as_slice(), &bytes[..at]] {
                let mut after = device.clone();
                assert!(!update(&mut after, offered), "byte {at}");
                assert_eq!(after, *device);
            }
        }
    }
}

/// A signature from an unusable key is an uncounted signature, not an unreadable document.
#[test]
fn keys_that_are_no_keys_do_not_count() {
    let forge = Forge::new();
    let (mut device, v8) = forge.device_at(8);
    let (_, h9) = forge.pair(9, Some(&v8));
    let public = *key(3).public().as_bytes();
    let at = h9.windows(32).position(|window| window == public).unwrap();
    for wrong in [[0u8; 32], [0xff; 32], *SecretKey::from_seed(&[9; 32]).public().as_bytes()] {
        let mut bytes = h9.clone();
        bytes[at..at + 32].copy_from_slice(&wrong);
        refused(&mut device, &head(&bytes), "untrusted-market");
    }
}
