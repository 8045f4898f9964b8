//! A device that follows a market: what it accepts, what it asks for, and how fresh it says it is.

use msm_market_index::{
    Floor, Freshness, HeadOutcome, RootOutcome, TrustedMarket,
    trust::{IndexOutcome, check_successor},
};
use msm_protocol::{ContentHash, document::Status};

use crate::fixture::{DAY, Forge, NOW, release, role, sign};

#[test]
fn from_a_pin_to_an_index() {
    let forge = Forge::new();
    let mut device = TrustedMarket::pin(forge.market);
    assert_eq!((device.market(), device.next_root(), device.floor()), (forge.market, 1, Floor::default()));
    let (index, head) = forge.pair(1, None);
    assert!(device.update_head(&head, NOW).unwrap_err().to_string().starts_with("refused: root-version"));
    assert_eq!(device.update_root(&forge.root_bytes(), NOW), Ok(RootOutcome::Accepted { version: 1, expired: false }));
    assert_eq!(device.update_root(&forge.root_bytes(), NOW), Ok(RootOutcome::Known));
    let fetch = HeadOutcome::Fetch { hash: ContentHash::of(&index), size: index.len() as u64, version: 1 };
    assert_eq!(device.update_head(&head, NOW), Ok(fetch));
    assert_eq!(device.update_head(&head, NOW), Ok(fetch), "asked for until it has come");
    assert_eq!(device.wanted_index(), Some(fetch));
    assert_eq!((device.freshness(NOW), device.index().is_some()), (Freshness::Unknown, false));
    assert_eq!(device.floor().index, None, "an announced index is not a floor");
    assert_eq!(device.update_index(&index, NOW), Ok(IndexOutcome::Accepted { version: 1 }));
    assert_eq!(device.update_index(&index, NOW), Ok(IndexOutcome::Known));
    assert_eq!(device.update_head(&head, NOW), Ok(HeadOutcome::Known));
    assert_eq!(device.wanted_index(), None);
    assert_eq!(device.freshness(NOW), Freshness::Fresh);
    assert_eq!(device.floor().index.map(|mark| (mark.version, mark.hash)), Some((1, ContentHash::of(&index))));
}

#[test]
fn a_new_head_for_the_same_index_keeps_it_fresh() {
    let forge = Forge::new();
    let (mut device, v1) = forge.device_at(1);
    let mut first = forge.head(1, &v1);
    first.issued -= 10;
    assert_eq!(device.update_head(&sign(&first, &[3]), NOW), Ok(HeadOutcome::Known), "an older head changes nothing");
    let before = device.fresh_until();
    let mut renewed = forge.head(1, &v1);
    (renewed.issued, renewed.expires) = (NOW, NOW + 20 * DAY);
    assert_eq!(device.update_head(&sign(&renewed, &[3]), NOW), Ok(HeadOutcome::Renewed));
    assert_ne!(device.fresh_until(), before);
    assert_eq!(device.fresh_until(), Some(NOW + 20 * DAY));
    assert_eq!(device.floor().time, NOW);
}

#[test]
fn the_latest_time_known_is_that_of_the_later_document() {
    let forge = Forge::new();
    let mut device = TrustedMarket::pin(forge.market);
    device.update_root(&forge.root_bytes(), NOW).unwrap();
    let mut index = forge.index(1, None);
    index.issued = NOW;
    let index = sign(&index, &[2]);
    let head = forge.head(1, &index);
    device.update_head(&sign(&head, &[3]), NOW).unwrap();
    assert_eq!(device.floor().time, head.issued);
    device.update_index(&index, NOW).unwrap();
    assert_eq!(device.floor().time, NOW);
}

/// The paper's promise: away from everybody, a device keeps what it has, knows that it is old, and takes nothing new.
#[test]
fn a_device_without_contact_goes_stale_and_keeps_working() {
    let forge = Forge::new();
    let (device, v8) = forge.device_at(8);
    let head = sign(&forge.head(8, &v8), &[3]);
    let end = NOW + 29 * DAY;
    assert_eq!(device.freshness(end - 1), Freshness::Fresh);
    assert_eq!(device.freshness(end), Freshness::Stale { since: end });

    let mut restarted = TrustedMarket::from_floor(forge.market, device.floor());
    let late = end + 400 * DAY;
    assert_eq!(
        restarted.update_root(&forge.root_bytes(), late),
        Ok(RootOutcome::Accepted { version: 1, expired: true })
    );
    restarted.update_head(&head, late).unwrap();
    restarted.update_index(&v8, late).unwrap();
    assert_eq!(restarted.freshness(late), Freshness::Stale { since: end });
    assert_eq!(restarted.floor(), device.floor());

    // On a device that never believed it, the same documents are an attack.
    let mut stranger = TrustedMarket::pin(forge.market);
    stranger.update_root(&forge.root_bytes(), late).unwrap();
    assert!(stranger.update_head(&head, late).unwrap_err().to_string().starts_with("refused: expired"));
}

#[test]
fn an_index_stays_in_use_until_the_next_has_come() {
    let forge = Forge::new();
    let (mut device, v1) = forge.device_at(1);
    let (v2, h2) = forge.pair(2, Some(&v1));
    let (_, h5) = forge.pair(5, None);
    device.update_head(&h2, NOW).unwrap();
    device.update_head(&h5, NOW).unwrap();
    assert!(matches!(device.wanted_index(), Some(HeadOutcome::Fetch { version: 5, .. })), "the newest is wanted");
    assert_eq!(device.index().map(|index| index.version), Some(1));
    // The head of the index in use is still welcome beside the announced one.
    let mut renewed = forge.head(1, &v1);
    renewed.issued = NOW;
    assert_eq!(device.update_head(&sign(&renewed, &[3]), NOW), Ok(HeadOutcome::Renewed));
    assert!(device.update_index(&v2, NOW).unwrap_err().to_string().starts_with("refused: unannounced"));
    device.abandon_head();
    device.update_head(&h2, NOW).unwrap();
    device.update_index(&v2, NOW).unwrap();
}

#[test]
fn keys_that_stay_keep_what_they_have_signed() {
    let forge = Forge::new();
    let (mut device, v1) = forge.device_at(1);
    let (_, h2) = forge.pair(2, Some(&v1));
    device.update_head(&h2, NOW).unwrap();
    let more = forge.next_root(|root| {
        root.roles.head = role(&[3, 33], 1);
        root.roles.root = role(&[31], 1);
    });
    device.update_root(&sign(&more, &[1, 31]), NOW).unwrap();
    assert_eq!(device.freshness(NOW), Freshness::Fresh);
    assert!(device.wanted_index().is_some());
    assert_eq!(device.floor().root.map(|mark| mark.version), Some(2));

    let mut without_head = device.clone();
    let v3 = msm_protocol::document::Root {
        version: 3,
        ..forge.next_root(|root| {
            root.roles.root = role(&[31], 1);
            root.roles.head = role(&[33], 1);
        })
    };
    without_head.update_root(&sign(&v3, &[31]), NOW).unwrap();
    assert_eq!(without_head.freshness(NOW), Freshness::Unknown);
    assert_eq!((without_head.index(), without_head.wanted_index()), (None, None));
}

#[test]
fn a_lie_about_the_time_ends_with_the_key_that_told_it() {
    let forge = Forge::new();
    let (mut device, v1) = forge.device_at(1);
    let mut liar = forge.head(1, &v1);
    (liar.issued, liar.expires) = (NOW + 300 * DAY, NOW + 301 * DAY);
    let liar = sign(&liar, &[3]);
    let early = device.update_head(&liar, NOW).unwrap_err().to_string();
    assert!(early.starts_with("refused: clock-suspect"), "{early}");
    // A device whose own clock was as far ahead has believed it.
    device.update_head(&liar, NOW + 300 * DAY).unwrap();
    let (_, h2) = forge.pair(2, Some(&v1));
    assert!(device.update_head(&h2, NOW).unwrap_err().to_string().starts_with("refused: expired"));
    let v2 = forge.next_root(|root| root.roles.head = role(&[33], 1));
    device.update_root(&sign(&v2, &[1]), NOW).unwrap();
    let (index, _) = forge.pair(2, Some(&v1));
    device.update_head(&sign(&forge.head(2, &index), &[33]), NOW).unwrap();
    device.update_index(&index, NOW).unwrap();
    assert_eq!(device.freshness(NOW), Freshness::Fresh);
}

#[test]
fn what_may_not_change_between_two_indexes() {
    let old = [release("one", "1.0.0"), release("two", "1.0.0")];
    let with = |change: fn(&mut Vec<msm_protocol::document::Release>)| {
        let mut new = old.to_vec();
        change(&mut new);
        check_successor(&old, &new).map_err(|e| e.to_string())
    };
    assert_eq!(with(|_| {}), Ok(()));
    assert_eq!(with(|new| new.push(release("three", "1.0.0"))), Ok(()));
    assert_eq!(with(|new| new[0].status = Status::Revoked), Ok(()));
    assert_eq!(with(|new| new[0].status = Status::Yanked), Ok(()));
    let changed = with(|new| new[1].manifest = ContentHash::of(b"other")).unwrap_err();
    assert_eq!(changed, "refused: changed: two@1.0.0");
    let mut revoked = old.to_vec();
    revoked[0].status = Status::Revoked;
    assert_eq!(check_successor(&revoked, &old).unwrap_err().to_string(), "refused: unrevoked: one@1.0.0");
    revoked[0].status = Status::Yanked;
    assert_eq!(check_successor(&revoked, &old), Ok(()));
}
