//! What a market lists, as trees: found by name, by word and by what is revoked, with as few pages as the answer needs.

use std::collections::{BTreeSet, HashMap};

use msm_market_index::{
    Catalogue, Scope, TreeWalk,
    catalogue::{Trees, targets_of},
    entry::{delegation_of, reviews_of, undelegated},
    tree::Leaf,
    words::{answers, mentions},
};
use msm_protocol::{
    ContentHash,
    document::{Delegation, Mention, Policy, Release, Review, Revocation, Status, Target, publication_digest},
};

use crate::fixture::{key, release};

/// Takes a walk to its end with pages that arrive round by round, and counts them.
fn walk<E: Leaf>(trees: &Trees, mut walk: TreeWalk<E>) -> (Vec<E>, bool, usize) {
    let pages: HashMap<ContentHash, &Vec<u8>> = trees.pages.iter().map(|(hash, bytes)| (*hash, bytes)).collect();
    let mut here: HashMap<ContentHash, &Vec<u8>> = HashMap::new();
    loop {
        let missing = walk.advance(|page| here.get(page).copied()).unwrap();
        if missing.is_empty() {
            break;
        }
        here.extend(missing.into_iter().map(|page| (page, pages[&page])));
    }
    let cut = walk.is_cut();
    (walk.entries().unwrap(), cut, here.len())
}

fn many(count: usize) -> Catalogue {
    let one = |n: usize| {
        let mut one = release(&format!("tool-{n:06}"), "1.0.0");
        one.scope = if n.is_multiple_of(10) { "media/image".into() } else { "text".into() };
        one.summary = format!("Number {n} of many");
        one
    };
    Catalogue { releases: (0..count).map(one).collect(), ..Catalogue::default() }
}

#[test]
fn a_lookup_reads_as_many_pages_as_there_are_levels() {
    for count in [100, 10_000] {
        let trees = many(count).trees().unwrap();
        let name = format!("tool-{:06}", count / 2);
        let (found, _, pages) = walk(&trees, TreeWalk::new(trees.names.as_ref(), Scope::name(&name)));
        assert_eq!(found.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), [name.as_str()]);
        // One page a level, and a neighbour where the name begins a page.
        assert!(pages <= 5, "{pages} pages of {count} releases");
        let (none, _, pages) = walk(&trees, TreeWalk::new(trees.names.as_ref(), Scope::name("tool-x")));
        assert!(none.is_empty() && pages <= 4);
    }
}

#[test]
fn several_names_are_read_in_one_walk() {
    let catalogue = many(2_000);
    let trees = catalogue.trees().unwrap();
    let names: BTreeSet<String> = (0..2_000).step_by(97).map(|n| format!("tool-{n:06}")).collect();
    let (found, ..) = walk(&trees, TreeWalk::new(trees.names.as_ref(), Scope::names(names.clone())));
    assert_eq!(found.into_iter().map(|it| it.name).collect::<BTreeSet<_>>(), names);
}

/// Versions of one name that lie on several pages are all found.
#[test]
fn all_versions_of_a_name_are_found() {
    let mut catalogue = many(500);
    let versions: Vec<Release> = (0..400).map(|n| release("tool-000250", &format!("2.{n}.0"))).collect();
    catalogue.releases.extend(versions);
    let trees = catalogue.trees().unwrap();
    let (found, ..) = walk(&trees, TreeWalk::new(trees.names.as_ref(), Scope::name("tool-000250")));
    assert_eq!(found.len(), 401);
}

#[test]
fn words_find_services_by_how_they_begin() {
    let mut catalogue = many(300);
    let mut blur = release("image-blur", "1.0.0");
    (blur.scope, blur.summary) = ("media/image".into(), "Weichzeichner für Bilder".into());
    catalogue.releases.push(blur.clone());
    // An old version's words and those of what was withdrawn find nothing.
    catalogue.releases.push(Release { version: "0.9.0".into(), summary: "Forgotten words".into(), ..blur.clone() });
    catalogue.releases.push(Release { status: Status::Yanked, summary: "Hidden".into(), ..release("gone", "1.0.0") });
    let trees = catalogue.trees().unwrap();
    let find = |word: &str| {
        let (found, ..) = walk(&trees, TreeWalk::<Mention>::new(trees.words.as_ref(), Scope::words(word)));
        found.into_iter().map(|it| it.service).collect::<BTreeSet<_>>()
    };
    for word in ["blur", "bl", "image-b", "weich", "für", "weichzeichner"] {
        assert_eq!(find(word), BTreeSet::from(["image-blur".to_owned()]), "{word}");
    }
    assert_eq!(find("media/").len(), 31);
    for word in ["lur", "forgotten", "hidden", "gone", "zzz"] {
        assert!(find(word).is_empty(), "{word}");
    }
    assert!(answers(&blur, &["blur".into(), "media".into()]) && !answers(&blur, &["blur".into(), "text".into()]));
    assert_eq!(mentions(&catalogue.releases).iter().filter(|it| it.service == "image-blur").count(), 8);
}

/// A search that is limited reads no more than it shows, and says that there is more.
#[test]
fn a_limited_walk_ends_early() {
    let trees = many(5_000).trees().unwrap();
    let all = TreeWalk::<Release>::new(trees.names.as_ref(), Scope::all()).at_most(100);
    let (found, cut, pages) = walk(&trees, all);
    assert_eq!((found.len(), cut), (100, true));
    assert_eq!(found[99].name, "tool-000099", "the first in order");
    assert!(pages < 20, "{pages}");
    let (found, cut, _) =
        walk(&trees, TreeWalk::<Mention>::new(trees.words.as_ref(), Scope::words("tool-00123")).at_most(50));
    assert_eq!((found.len(), cut), (10, false));
}

#[test]
fn an_update_changes_few_pages_of_each_tree() {
    let before = many(5_000);
    let mut after = before.clone();
    after.releases.insert(2_501, release("tool-002500", "1.0.1"));
    let (before, after) = (before.trees().unwrap(), after.trees().unwrap());
    let old: BTreeSet<ContentHash> = before.pages.iter().map(|(hash, _)| *hash).collect();
    let new: usize = after.pages.iter().filter(|(hash, _)| !old.contains(hash)).count();
    assert!(new < 60, "{new} of {} pages are new", after.pages.len());
}

#[test]
fn revocations_are_looked_up_by_what_they_hit() {
    let mut catalogue = many(50);
    let mut revocations: Vec<Revocation> = (0..1_000u32)
        .map(|n| Target::Package(ContentHash::of(&n.to_le_bytes())))
        .chain([Target::Publisher(key(9).public())])
        .map(|target| Revocation { since: 1, reason: "bad".into(), target })
        .collect();
    revocations.sort_by(|a, b| a.target.cmp(&b.target));
    catalogue.revocations = revocations;
    let trees = catalogue.trees().unwrap();
    let targets = targets_of(&catalogue.releases[0]);
    let scope = Scope::keys(targets.into());
    let (found, _, pages) = walk(&trees, TreeWalk::<Revocation>::new(trees.revoked.as_ref(), scope));
    assert_eq!(found.len(), 1, "its publisher's");
    assert!(pages <= 6, "{pages}");
    assert!(catalogue.revocation(&catalogue.releases[0]).is_some());
    catalogue.revocations.clear();
    assert_eq!(catalogue.trees().unwrap().revoked, None);
}

/// Whoever holds the market's keys cannot publish a delegated name, nor can a publisher of another prefix.
#[test]
fn a_delegated_name_takes_its_publishers_signature() {
    let one = |prefix: &str, seed: u8| Delegation { keys: vec![key(seed).public()], prefix: prefix.into() };
    let delegations = [one("acme-", 6), one("acme-secret-", 7)];
    let signed = |name: &str, by: u8| {
        let mut one = release(name, "1.0.0");
        one.publisher = key(by).public();
        one.signature = Some(key(by).sign(&publication_digest(&one.name, &one.version, &one.manifest)));
        one
    };
    assert_eq!(undelegated(&delegations, &signed("acme-blur", 6)), None);
    assert_eq!(undelegated(&delegations, &signed("acme-secret-blur", 7)), None, "the longest prefix decides");
    assert!(undelegated(&delegations, &signed("acme-secret-blur", 6)).unwrap().contains("none of those"));
    assert_eq!(undelegated(&delegations, &release("other", "1.0.0")), None);
    assert_eq!(delegation_of(&delegations, "acme"), None);

    let unsigned = Release { signature: None, ..signed("acme-blur", 6) };
    assert!(undelegated(&delegations, &unsigned).unwrap().contains("not signed"));
    for change in [
        (|it: &mut Release| it.version = "1.0.1".into()) as fn(&mut Release),
        |it| it.manifest = ContentHash::of(b"other"),
        |it| it.name = "acme-blurs".into(),
    ] {
        let mut moved = signed("acme-blur", 6);
        change(&mut moved);
        assert!(undelegated(&delegations, &moved).unwrap().contains("not of this package"));
    }
    let catalogue = Catalogue { releases: vec![unsigned], delegations: delegations.to_vec(), ..Catalogue::default() };
    assert!(catalogue.trees().unwrap_err().to_string().contains("has not signed it"), "nor can it be built");
}

#[test]
fn only_reviews_by_the_markets_reviewers_count() {
    let mut one = release("one", "1.0.0");
    one.reviews = [4, 5, 6].map(|n| Review { report: ContentHash::of(&[n]), reviewer: key(n).public() }).to_vec();
    let policy = Policy { reviews: 2, reviewers: vec![key(5).public(), key(8).public()] };
    assert_eq!(reviews_of(&policy, &one), 1);
    assert_eq!(one.fault(), None);
    one.reviews.push(one.reviews[0].clone());
    assert_eq!(one.fault(), Some("reviews"), "one reviewer is one review");
}

/// Of a word that finds much, only the part that a longer beginning names is read.
#[test]
fn a_rare_word_is_found_beside_a_common_one() {
    let trees = many(1_050).trees().unwrap();
    let (found, _, pages) = walk(&trees, TreeWalk::<Mention>::new(trees.words.as_ref(), Scope::words("tool-000777")));
    assert_eq!(found.len(), 1);
    assert!(pages <= 5, "{pages}");
}
