//! Proofs that a market has signed two histories: they hold for anybody, and nothing else does.

use msm_market_index::{
    Proof,
    proof::{Past, ProofError},
    trust::Mark,
};
use msm_protocol::{ContentHash, limits::INDEXES_KEPT};
use serde_bytes::ByteBuf;

use crate::fixture::{Forge, market_of, role, sign};

fn proof(forge: &Forge, a: &[u8], b: &[u8], roots: &[Vec<u8>]) -> Proof {
    let roots = roots.iter().map(|root| ByteBuf::from(&root[..])).collect();
    Proof { a: ByteBuf::from(a), b: ByteBuf::from(b), v: 1, roots, market: forge.market }
}

/// Two indexes 9, both signed.
fn two_indexes(forge: &Forge) -> [Vec<u8>; 2] {
    [0, 1].map(|more| {
        let mut index = forge.index(9, Some(b"eight"));
        index.issued += more;
        sign(&index, &[2])
    })
}

#[test]
fn two_indexes_of_one_number_prove_it_to_anybody() {
    let forge = Forge::new();
    let [a, b] = two_indexes(&forge);
    let roots = [forge.root_bytes()];
    let kept = proof(&forge, &a, &b, &roots).to_vec().unwrap();
    let histories = Proof::from_slice(&kept).unwrap().check().unwrap();
    assert_eq!((histories.market, histories.root, histories.version), (forge.market, 1, 9));
    assert_eq!(histories.hashes, (ContentHash::of(&a), Some(ContentHash::of(&b))));
}

#[test]
fn an_index_that_follows_another_one_proves_it() {
    let forge = Forge::new();
    let (eight, _) = forge.pair(8, None);
    let roots = [forge.root_bytes()];
    let fork = sign(&forge.index(9, Some(b"another eight")), &[2]);
    let histories = proof(&forge, &eight, &fork, &roots).check().unwrap();
    assert_eq!((histories.version, histories.hashes.1), (8, Some(ContentHash::of(b"another eight"))));
    let none = sign(&forge.index(9, None), &[2]);
    assert_eq!(proof(&forge, &eight, &none, &roots).check().unwrap().hashes.1, None);
    // An honest one, and one that is further away and says nothing of index 8.
    for honest in [sign(&forge.index(9, Some(&eight)), &[2]), sign(&forge.index(10, Some(b"nine")), &[2])] {
        assert_eq!(proof(&forge, &eight, &honest, &roots).check(), Err(ProofError::NoContradiction));
    }
}

/// Nobody but those who sign indexes can make one; not even a thief of the head key.
#[test]
fn nothing_else_is_a_proof() {
    let forge = Forge::new();
    let [a, b] = two_indexes(&forge);
    let roots = [forge.root_bytes()];
    assert_eq!(proof(&forge, &a, &a, &roots).check(), Err(ProofError::NoContradiction));
    let again = sign(&forge.index(9, Some(b"eight")), &[2, 2]);
    assert_ne!(again, a);
    assert_eq!(proof(&forge, &a, &again, &roots).check(), Err(ProofError::NoContradiction), "the same words");
    for head in [b"one".as_slice(), b"other"].map(|index| sign(&forge.head(9, index), &[3])) {
        assert!(matches!(proof(&forge, &a, &head, &roots).check(), Err(ProofError::Document(_))));
        assert!(matches!(proof(&forge, &head, &b, &roots).check(), Err(ProofError::Document(_))));
    }
    for forged in [&[7][..], &[1, 3]] {
        let mut index = forge.index(9, Some(b"other"));
        index.issued += 1;
        let forged = sign(&index, forged);
        assert!(matches!(proof(&forge, &a, &forged, &roots).check(), Err(ProofError::Document(_))));
        assert!(matches!(proof(&forge, &forged, &a, &roots).check(), Err(ProofError::Document(_))));
    }
    assert!(matches!(proof(&forge, &a, &b, &[]).check(), Err(ProofError::Roots(_))));
    // Another market of the same operator, with the same keys.
    let mut other = Forge::new();
    other.root.name = "Second Market".into();
    let other = Forge { market: market_of(&other.root), ..other };
    let theirs = sign(&other.index(9, None), &[2]);
    assert_eq!(proof(&forge, &a, &theirs, &roots).check(), Err(ProofError::AnotherMarket(other.market)));
    assert!(matches!(proof(&other, &a, &b, &roots).check(), Err(ProofError::Roots(_))), "roots of another market");
    for cut in 0..40 {
        let bytes = proof(&forge, &a, &b, &roots).to_vec().unwrap();
        assert!(Proof::from_slice(&bytes[..bytes.len() * cut / 40]).is_err());
    }
}

/// Keys that were taken away prove nothing about those that came after them.
#[test]
fn keys_that_were_replaced_prove_nothing() {
    let forge = Forge::new();
    let [a, b] = two_indexes(&forge);
    let root = forge.next_root(|root| root.roles.index = role(&[22], 1));
    let roots = [forge.root_bytes(), sign(&root, &[1])];
    assert!(proof(&forge, &a, &b, &roots[..1]).check().is_ok(), "under root 1");
    assert!(matches!(proof(&forge, &a, &b, &roots).check(), Err(ProofError::Document(_))), "under root 2");
}

#[test]
fn the_past_is_kept_for_a_while() {
    let mut past = Past::default();
    for version in 1..=100u64 {
        past.add(Mark { hash: ContentHash::of(&version.to_le_bytes()), version }, &version.to_le_bytes());
    }
    assert_eq!(past.index(100).map(|index| index.to_vec()), Some(100u64.to_le_bytes().to_vec()));
    assert!(past.index(100 - INDEXES_KEPT as u64 + 1).is_some() && past.index(100 - INDEXES_KEPT as u64).is_none());
    // Another line of numbers after new keys.
    past.add(Mark { hash: ContentHash::of(b"x"), version: 60 }, b"x");
    assert!(past.index(60).is_some() && past.index(61).is_none());
}

/// It is part of what a device writes down.
#[test]
fn the_past_is_written_and_read_back() {
    let mut past = Past::default();
    past.add(Mark { hash: ContentHash::of(b"1"), version: 1 }, b"head");
    let bytes = msm_protocol::cbor::to_vec(&past).unwrap();
    assert_eq!(msm_protocol::cbor::from_slice::<Past>(&bytes, 1_000), Ok(past));
}
