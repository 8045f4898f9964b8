//! Pages made by an enemy: each is refused by name, and none of them makes a reader loop, grow or panic.

use std::collections::HashMap;

use msm_market_index::{TreeError, catalogue::all_releases, tree::build};
use msm_protocol::{
    ContentHash, cbor,
    document::{Child, Entry as _, Index, Page, Release, ReleaseKey, Status},
    limits::{PAGE_BYTES, PAGE_ENTRIES, PAGES_PER_TREE, TREE_LEVELS},
};

use crate::fixture::{Forge, lookup, release};

#[derive(Default)]
struct Pages(HashMap<ContentHash, Vec<u8>>);

impl Pages {
    fn add_bytes(&mut self, bytes: Vec<u8>) -> ContentHash {
        let hash = ContentHash::of(&bytes);
        self.0.insert(hash, bytes);
        hash
    }

    fn leaf(&mut self, releases: &[Release]) -> ContentHash {
        self.add_bytes(cbor::to_vec(&Page::Leaf(releases.to_vec())).unwrap())
    }

    fn inner(&mut self, children: &[(&Release, ContentHash)]) -> ContentHash {
        let children = children.iter().map(|(first, page)| Child { page: *page, first: first.key() }).collect();
        self.add_bytes(cbor::to_vec(&Page::<Release>::Inner(children)).unwrap())
    }

    fn walk(&self, root: ContentHash, releases: u64) -> Result<Vec<Release>, TreeError> {
        let index = Index { names: Some(root), releases, ..Forge::new().index(1, None) };
        let mut walk = all_releases(&index);
        assert_eq!(walk.advance(|page| self.0.get(page))?, vec![]);
        walk.entries()
    }
}

fn abc() -> [Release; 3] {
    ["aa", "bb", "cc"].map(|name| release(name, "1.0.0"))
}

#[test]
fn a_good_tree_of_two_levels_is_read() {
    let [a, b, c] = abc();
    let mut pages = Pages::default();
    let left = pages.leaf(&[a.clone(), b.clone()]);
    let right = pages.leaf(std::slice::from_ref(&c));
    let root = pages.inner(&[(&a, left), (&c, right)]);
    assert_eq!(pages.walk(root, 3), Ok(vec![a, b, c]));
}

#[test]
fn disorder_is_refused() {
    let [a, b, c] = abc();
    let mut pages = Pages::default();
    for entries in [vec![b.clone(), a.clone()], vec![a.clone(), a.clone()]] {
        let page = pages.leaf(&entries);
        assert_eq!(pages.walk(page, 2), Err(TreeError::Unsorted { page, entry: 2 }));
    }
    let (left, right) = (pages.leaf(&[a.clone(), b.clone()]), pages.leaf(std::slice::from_ref(&c)));
    for children in [[(&c, right), (&a, left)], [(&a, left), (&a, left)]] {
        let page = pages.inner(&children);
        assert_eq!(pages.walk(page, 3), Err(TreeError::Unsorted { page, entry: 2 }));
    }
}

#[test]
fn keys_outside_their_range_are_refused() {
    let [a, b, c] = abc();
    let mut pages = Pages::default();
    let (ac, left, right) = (
        pages.leaf(&[a.clone(), c.clone()]),
        pages.leaf(&[a.clone(), b.clone()]),
        pages.leaf(std::slice::from_ref(&c)),
    );
    // The left page reaches into the right one's range; then a first key that is not the page's own.
    for (children, page) in
        [([(&a, ac), (&b, right)], ac), ([(&a, left), (&b, right)], left), ([(&a, right), (&c, right)], right)]
    {
        let root = pages.inner(&children);
        assert_eq!(pages.walk(root, 3), Err(TreeError::Range { page }));
    }
}

/// A key that a reader could find on one way and not on another would let two devices disagree.
#[test]
fn a_lookup_checks_the_pages_on_its_way() {
    let [a, b, c] = abc();
    let mut pages = Pages::default();
    let (left, right) = (pages.leaf(&[a.clone(), c.clone()]), pages.leaf(std::slice::from_ref(&c)));
    let root = pages.inner(&[(&a, left), (&b, right)]);
    for (key, page) in [(a.key(), left), (c.key(), right)] {
        assert_eq!(lookup(Some(&root), &key, |page| pages.0.get(page)), Err(TreeError::Range { page }));
    }
}

#[test]
fn empty_and_oversized_pages_are_refused() {
    let mut pages = Pages::default();
    let empty = pages.leaf(&[]);
    assert_eq!(pages.walk(empty, 0), Err(TreeError::Empty { page: empty }));
    let hollow = pages.inner(&[]);
    assert_eq!(pages.walk(hollow, 0), Err(TreeError::Empty { page: hollow }));

    let many: Vec<Release> = (0..=PAGE_ENTRIES).map(|n| release(&format!("a{n:03}"), "1.0.0")).collect();
    let page = pages.leaf(&many);
    assert_eq!(pages.walk(page, many.len() as u64), Err(TreeError::Oversized { page, entries: PAGE_ENTRIES + 1 }));

    let long = pages.add_bytes(vec![0x40; PAGE_BYTES + 1]);
    assert!(matches!(pages.walk(long, 1), Err(TreeError::Cbor { page, .. }) if page == long));
    let garbage = pages.add_bytes(b"<html>404 not found</html>".to_vec());
    assert!(matches!(pages.walk(garbage, 1), Err(TreeError::Cbor { page, .. }) if page == garbage));
}

/// B16: a page of a mebibyte of empty strings falls at the item cap, and so does one that fits the size.
#[test]
fn b16_a_page_of_empty_strings_is_refused() {
    let mut pages = Pages::default();
    for count in [1 << 20, 60_000u32] {
        let mut bytes = vec![0xa1, 0x64];
        bytes.extend(b"leaf");
        bytes.push(0x9a);
        bytes.extend(count.to_be_bytes());
        bytes.resize(bytes.len() + count as usize, 0x60);
        let page = pages.add_bytes(bytes);
        let error = pages.walk(page, 1).unwrap_err();
        assert!(matches!(error, TreeError::Cbor { .. }), "{error}");
    }
}

#[test]
fn bytes_of_another_page_are_refused() {
    let [a, b, _] = abc();
    let mut pages = Pages::default();
    let (one, two) = (pages.leaf(&[a]), pages.leaf(&[b]));
    let bytes = pages.0[&two].clone();
    pages.0.insert(one, bytes);
    assert_eq!(pages.walk(one, 1), Err(TreeError::Hash { page: one }));
}

#[test]
fn a_tree_that_is_too_deep_is_refused() {
    let [a, ..] = abc();
    let mut pages = Pages::default();
    let mut page = pages.leaf(std::slice::from_ref(&a));
    let bottom = page;
    for _ in 1..TREE_LEVELS {
        page = pages.inner(&[(&a, page)]);
    }
    assert_eq!(pages.walk(page, 1), Ok(vec![a.clone()]));
    let root = pages.inner(&[(&a, page)]);
    assert_eq!(pages.walk(root, 1), Err(TreeError::Depth { page: bottom }));
    assert_eq!(lookup(Some(&root), &a.key(), |page| pages.0.get(page)), Err(TreeError::Depth { page: bottom }));
}

#[test]
fn leaves_on_different_levels_are_refused() {
    let [a, b, c] = abc();
    let mut pages = Pages::default();
    let (left, right) = (pages.leaf(&[a.clone(), b]), pages.leaf(std::slice::from_ref(&c)));
    let lower = pages.inner(&[(&c, right)]);
    let root = pages.inner(&[(&a, left), (&c, lower)]);
    assert_eq!(pages.walk(root, 3), Err(TreeError::Uneven { page: right, expected: 2, found: 3 }));
}

/// A cycle cannot be made (a page would have to hold its own hash); one page in two places can, and is refused.
#[test]
fn one_page_in_two_places_is_refused() {
    let [a, b, _] = abc();
    let mut pages = Pages::default();
    let leaf = pages.leaf(std::slice::from_ref(&a));
    let root = pages.inner(&[(&a, leaf), (&b, leaf)]);
    assert_eq!(pages.walk(root, 2), Err(TreeError::Range { page: leaf }));
}

#[test]
fn a_tree_with_more_pages_than_anybody_reads_is_refused() {
    let mut pages = Pages::default();
    let all: Vec<Release> = (0..PAGES_PER_TREE).map(|n| release(&format!("a{n:06}"), "1.0.0")).collect();
    let mut level: Vec<(&Release, ContentHash)> =
        all.iter().map(|one| (one, pages.leaf(std::slice::from_ref(one)))).collect();
    while level.len() > 1 {
        level = level.chunks(PAGE_ENTRIES).map(|children| (children[0].0, pages.inner(children))).collect();
    }
    let root = level[0].1;
    let refused = TreeError::TooManyPages { limit: PAGES_PER_TREE };
    assert_eq!(pages.walk(root, all.len() as u64), Err(refused.clone()));

    // The same while pages are still to come: what a walk asks for is bounded too.
    let index = Index { names: Some(root), releases: all.len() as u64, ..Forge::new().index(1, None) };
    let inner = |page: &ContentHash| {
        let bytes = pages.0.get(page)?;
        matches!(cbor::from_slice(bytes, PAGE_BYTES), Ok(Page::<Release>::Inner(_))).then_some(bytes)
    };
    assert_eq!(all_releases(&index).advance(inner), Err(refused));
}

#[test]
fn another_number_of_releases_than_the_index_says_is_refused() {
    let mut pages = Pages::default();
    let page = pages.leaf(&abc());
    for expected in [0, 2, 4, u64::MAX] {
        assert_eq!(pages.walk(page, expected), Err(TreeError::Count { expected, found: 3 }));
    }
}

#[test]
fn a_refused_walk_stays_refused() {
    let [a, b, _] = abc();
    let mut pages = Pages::default();
    let page = pages.leaf(&[b, a]);
    let index = Index { names: Some(page), releases: 2, ..Forge::new().index(1, None) };
    let mut walk = all_releases(&index);
    assert!(matches!(walk.advance(|page| pages.0.get(page)), Err(TreeError::Unsorted { .. })));
    assert_eq!(walk.advance(|page| pages.0.get(page)), Err(TreeError::Incomplete));
    assert_eq!(walk.entries(), Err(TreeError::Incomplete));
    let mut begun = all_releases(&index);
    assert_eq!(begun.advance(|_| None::<Vec<u8>>), Ok(vec![page]));
    assert_eq!(begun.entries(), Err(TreeError::Incomplete));
}

/// B35: names that are paths, devices, too long or not what they look like end at the page that holds them.
#[test]
fn b35_names_that_could_reach_a_file_or_a_terminal_are_refused() {
    let long = "a".repeat(300);
    let names = [
        "../../x",
        "a\0b",
        &long,
        "con",
        "CON",
        "nul",
        "a\u{202e}b",
        "a/b",
        "a\\b",
        ".",
        "..",
        "-rf",
        "a b",
        "A",
        "1a",
        "",
        "\u{430}\u{431}",
        "a\nb",
        "a\u{1b}[2J",
    ];
    for name in names {
        let mut pages = Pages::default();
        let page = pages.leaf(&[release(name, "1.0.0")]);
        assert_eq!(pages.walk(page, 1), Err(TreeError::Entry { page, entry: 1, field: "name" }), "{name:?}");
        let key = ReleaseKey { name: name.into(), version: "1.0.0".into() };
        assert!(lookup(Some(&page), &key, |page| pages.0.get(page)).is_err(), "{name:?}");
    }
}

#[test]
fn every_other_field_of_an_entry_has_its_rules() {
    type Change = fn(&mut Release);
    let cases: &[(&str, Change)] = &[
        ("version", |r| r.version = "1".into()),
        ("version", |r| r.version = "../1.0.0".into()),
        ("version", |r| r.version = format!("1.0.0-{}", "x".repeat(60))),
        ("scope", |r| r.scope = "../etc".into()),
        ("scope", |r| r.scope = "aa/bb/cc/dd/ee".into()),
        ("summary", |r| r.summary = "x".repeat(121)),
        ("summary", |r| r.summary = "\u{1b}[31mred".into()),
        ("summary", |r| r.summary = "\u{202e}gpj.exe".into()),
        ("rating", |r| r.rating = 0),
        ("rating", |r| r.rating = 7),
        ("size", |r| r.size = 0),
        ("size", |r| r.size = 64 * 1024 + 1),
        ("engines", |r| r.engines = vec![]),
        ("engines", |r| r.engines = vec!["js".into(); 9]),
        ("engines", |r| r.engines = vec!["\u{1b}".into()]),
    ];
    for (field, change) in cases {
        let mut one = release("good", "1.0.0");
        change(&mut one);
        let mut pages = Pages::default();
        let page = pages.leaf(std::slice::from_ref(&one));
        assert_eq!(pages.walk(page, 1), Err(TreeError::Entry { page, entry: 1, field }));
        assert!(build(&[one]).is_err());
    }
    let mut unknown = cbor::to_vec(&Page::Leaf(vec![release("good", "1.0.0")])).unwrap();
    let at = unknown.windows(6).position(|w| w == b"active").unwrap();
    unknown[at..at + 6].copy_from_slice(b"secret");
    let mut pages = Pages::default();
    let page = pages.add_bytes(unknown);
    assert!(matches!(pages.walk(page, 1), Err(TreeError::Cbor { .. })));
    let mut revoked = release("good", "1.0.0");
    revoked.status = Status::Revoked;
    let page = pages.leaf(std::slice::from_ref(&revoked));
    assert_eq!(lookup(Some(&page), &revoked.key(), |page| pages.0.get(page)), Ok(Some(revoked)));
}

proptest::proptest! {
    /// Any change of any byte is noticed, and none panics.
    #[test]
    fn no_bytes_make_a_reader_panic(at in 0usize..10_000, bit in 0u8..8, cut in 0usize..10_000) {
        let tree = build(&(0..60).map(|n| release(&format!("a{n:02}"), "1.0.0")).collect::<Vec<_>>()).unwrap();
        for (hash, bytes) in &tree.pages {
            for mut changed in [bytes.clone(), bytes[..cut % bytes.len()].to_vec()] {
                if changed.len() == bytes.len() {
                    changed[at % bytes.len()] ^= 1 << bit;
                }
                // Under its own hash the page is read for what it says; under the old one it is not read at all.
                let mut pages = Pages::default();
                let page = pages.add_bytes(changed.clone());
                let _ = lookup(Some(&page), &release("a30", "1.0.0").key(), |page| pages.0.get(page));
                pages.0.insert(*hash, changed);
                proptest::prop_assert!(pages.walk(*hash, 60).is_err());
            }
        }
    }
}
