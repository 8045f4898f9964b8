//! The tree of releases: the same set gives the same pages, and reading finds exactly what was put in.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use msm_market_index::{
    Scope, TreeWalk,
    catalogue::all_releases,
    tree::{Tree, build},
};
use msm_protocol::{
    ContentHash, cbor,
    document::{Entry as _, Index, Page, Release, ReleaseKey},
    limits::{PAGE_BYTES, PAGE_ENTRIES, TREE_LEVELS},
};
use proptest::prelude::*;

use crate::fixture::{Forge, lookup, release};

fn index_of(tree: &Tree, releases: u64) -> Index {
    Index { names: tree.root, releases, ..Forge::new().index(1, None) }
}

fn store(tree: &Tree) -> HashMap<ContentHash, Vec<u8>> {
    tree.pages.iter().cloned().collect()
}

fn many(count: usize) -> Vec<Release> {
    (0..count).map(|n| release(&format!("service-{:04}", n / 3), &format!("{}.0.0", n % 3))).collect()
}

/// Releases with few different names and versions, so that sets overlap; as a map, which is what the tree must equal.
fn releases() -> impl Strategy<Value = BTreeMap<ReleaseKey, Release>> {
    let one = ("[a-d][a-d]{1,3}", 0..4u8, 0..3u8)
        .prop_map(|(name, major, minor)| release(&name, &format!("{major}.{minor}.0")));
    prop::collection::vec(one, 0..300).prop_map(|all| all.into_iter().map(|one| (one.key(), one)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_leaves_no_trace(map in releases(), seed in any::<u64>()) {
        let sorted: Vec<Release> = map.values().cloned().collect();
        let mut shuffled = sorted.clone();
        let mut state = seed | 1;
        for n in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            shuffled.swap(n, (state >> 33) as usize % (n + 1));
        }
        prop_assert_eq!(build(&sorted).unwrap(), build(&shuffled).unwrap());
    }

    #[test]
    fn reading_equals_a_map(map in releases(), others in releases()) {
        let all: Vec<Release> = map.values().cloned().collect();
        let tree = build(&all).unwrap();
        let pages = store(&tree);
        for key in map.keys().step_by(17).chain(others.keys().step_by(23)) {
            let found = lookup(tree.root.as_ref(), key, |page| pages.get(page)).unwrap();
            prop_assert_eq!(found.as_ref(), map.get(key));
        }
        let index = index_of(&tree, all.len() as u64);
        let mut walk = all_releases(&index);
        prop_assert_eq!(walk.advance(|page| pages.get(page)).unwrap(), vec![]);
        prop_assert_eq!(walk.entries().unwrap(), all);
        for name in map.keys().step_by(31).chain(others.keys().step_by(41)).map(|key| &key.name).collect::<BTreeSet<_>>() {
            let mut walk = TreeWalk::new(index.names.as_ref(), Scope::name(name));
            prop_assert_eq!(walk.advance(|page| pages.get(page)).unwrap(), vec![]);
            let expected: Vec<Release> = map.values().filter(|release| release.name == *name).cloned().collect();
            prop_assert_eq!(walk.entries().unwrap(), expected);
        }
    }

    /// Whatever pages arrive, in whatever order, a walk asks for each once and ends after a few rounds.
    #[test]
    fn pages_may_arrive_in_any_order(map in releases(), keep in prop::collection::vec(any::<bool>(), 64)) {
        let all: Vec<Release> = map.values().cloned().collect();
        let tree = build(&all).unwrap();
        let whole = store(&tree);
        let mut here: HashMap<_, _> =
            tree.pages.iter().zip(keep).filter(|(_, keep)| *keep).map(|(page, _)| page.clone()).collect();
        let mut walk = all_releases(&index_of(&tree, all.len() as u64));
        let mut rounds = 0;
        loop {
            let missing = walk.advance(|page| here.get(page)).unwrap();
            if missing.is_empty() {
                break;
            }
            prop_assert!(missing.iter().collect::<BTreeSet<_>>().len() == missing.len());
            for page in missing {
                prop_assert!(here.insert(page, whole[&page].clone()).is_none());
            }
            rounds += 1;
            prop_assert!(rounds <= TREE_LEVELS);
        }
        prop_assert_eq!(walk.entries().unwrap(), all);
    }
}

#[test]
fn an_empty_market_has_no_tree() {
    let tree = build::<Release>(&[]).unwrap();
    assert_eq!(tree, Tree::default());
    let key = release("any", "1.0.0").key();
    assert_eq!(lookup(None, &key, |_| None::<Vec<u8>>), Ok(None));
    let mut walk = all_releases(&index_of(&tree, 0));
    assert_eq!(walk.advance(|_| None::<Vec<u8>>), Ok(vec![]));
    assert_eq!(walk.entries(), Ok(vec![]));
}

#[test]
fn pages_stay_inside_their_caps_and_the_tree_stays_flat() {
    let tree = build(&many(5_000)).unwrap();
    let mut levels = 0;
    let pages = store(&tree);
    let mut page = tree.root;
    while let Some(hash) = page {
        levels += 1;
        page = match cbor::from_slice::<Page<Release>>(&pages[&hash], PAGE_BYTES).unwrap() {
            Page::Inner(children) => Some(children[0].page),
            Page::Leaf(_) => None,
        };
    }
    assert!((2..=3).contains(&levels), "{levels}");
    for bytes in pages.values() {
        assert!(bytes.len() <= PAGE_BYTES);
        let entries = match cbor::from_slice::<Page<Release>>(bytes, PAGE_BYTES).unwrap() {
            Page::Leaf(releases) => releases.len(),
            Page::Inner(children) => children.len(),
        };
        assert!((1..=PAGE_ENTRIES).contains(&entries), "{entries}");
    }
}

#[test]
fn the_longest_entries_still_fit_their_pages() {
    let all: Vec<Release> = (0..300)
        .map(|n| {
            let mut one = release(&format!("a{n:039}"), &format!("1.0.0-{}", "x".repeat(58)));
            one.summary = "\u{1f600}".repeat(120);
            one.scope = ["a".repeat(40), "b".repeat(40), "c".repeat(40), "d".repeat(40)].join("/");
            one.engines = vec!["e".repeat(40); 8];
            one
        })
        .collect();
    let tree = build(&all).unwrap();
    assert!(tree.pages.iter().all(|(_, bytes)| bytes.len() <= PAGE_BYTES));
    let pages = store(&tree);
    let mut walk = all_releases(&index_of(&tree, 300));
    assert_eq!(walk.advance(|page| pages.get(page)), Ok(vec![]));
    assert_eq!(walk.entries().unwrap().len(), 300);
}

#[test]
fn an_edit_changes_few_pages() {
    let all = many(5_000);
    let before: BTreeSet<ContentHash> = build(&all).unwrap().pages.into_iter().map(|(hash, _)| hash).collect();
    let mut worst = 0;
    for n in (0..5_000).step_by(500) {
        let mut edited = all.clone();
        edited.insert(n, release(&all[n].name, "0.0.1"));
        let pages = build(&edited).unwrap().pages;
        worst = worst.max(pages.iter().filter(|(hash, _)| !before.contains(hash)).count());
    }
    assert!(worst * 5 < before.len(), "{worst} of {} pages changed", before.len());
}

/// Version texts chosen so that each of them ends a page do not make a tree that nobody can read.
#[test]
fn chosen_versions_do_not_make_a_deep_tree() {
    let ends_a_page = |version: &str| {
        let key = ReleaseKey { name: "evil".into(), version: version.into() };
        let digest = *ContentHash::of(&cbor::to_vec(&key).unwrap()).as_bytes();
        digest[31].trailing_zeros() >= 5
    };
    let chosen: Vec<Release> = (0..200_000)
        .map(|n| format!("1.0.{n}"))
        .filter(|version| ends_a_page(version))
        .map(|version| release("evil", &version))
        .collect();
    assert!(chosen.len() > 4_000);
    let tree = build(&chosen).unwrap();
    assert!(tree.pages.len() < chosen.len() / 10, "{} pages", tree.pages.len());
}

#[test]
fn what_may_not_stand_in_an_index_is_not_built() {
    let twice = build(&[release("one", "1.0.0"), release("one", "1.0.0")]).unwrap_err().to_string();
    assert!(twice.contains("is there twice"), "{twice}");
    assert!(build(&[release("../../x", "1.0.0")]).unwrap_err().to_string().contains("name"));
}
