//! How a market's cost to a device grows with its size: bytes and time to find one service, to follow an update that
//! changes one, and to verify an index. `scripts/bench market [--json]`.
//!
//! Bytes are those of the documents and pages that are fetched; a package's own bytes, which do not depend on the
//! market, are left out. Times are those of this crate: hashing, decoding, signatures, without a network.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    time::Instant,
};

use msm_market_index::{
    Catalogue, HeadOutcome, Scope, TreeWalk, TrustedMarket,
    catalogue::{Trees, targets_of},
    tree::Leaf,
};
use msm_protocol::{
    ContentHash, Envelope, MarketId, SecretKey, Signed,
    document::{DOCUMENT_VERSION, Head, Index, Mention, Policy, Release, Revocation, Role, Roles, Root, Status},
};

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;
/// Versions in the market.
const SIZES: [usize; 4] = [100, 1_000, 10_000, 100_000];
/// Services looked up for one figure.
const LOOKUPS: usize = 200;

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let json = std::env::args().any(|arg| arg == "--json");
    let mut figures = serde_json::Map::new();
    figures.insert("schema".into(), "msm.bench-market/1".into());
    for size in SIZES {
        let name = format!("1e{}", size.ilog10());
        for (key, figure) in measure(size) {
            figures.insert(format!("{key}_{name}"), serde_json::json!((figure * 1_000.0).round() / 1_000.0));
        }
    }
    if json {
        return writeln!(out, "{}", serde_json::Value::Object(figures));
    }
    for (key, value) in figures {
        writeln!(out, "{key:<24} {value:>12}")?;
    }
    Ok(())
}

/// One version of a service; three versions a service.
fn release(n: usize) -> Release {
    let (name, version) = (format!("service-{:06}", n / 3), format!("1.{}.0", n % 3));
    Release {
        size: 1_200,
        scope: ["media/image", "text", "net/fetch", "location"][n / 3 % 4].into(),
        rating: 6,
        status: Status::Active,
        engines: vec!["wasm".into(), "js".into()],
        reviews: Vec::new(),
        summary: format!("Does the {}th useful thing for those who need it", n / 3),
        manifest: ContentHash::of(format!("{name} {version}").as_bytes()),
        publisher: key(9).public(),
        signature: None,
        name,
        version,
    }
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

/// A signed index and what lies below it.
struct Published {
    root: Vec<u8>,
    head: Vec<u8>,
    index: Vec<u8>,
    trees: Trees,
    pages: BTreeMap<ContentHash, Vec<u8>>,
    market: MarketId,
}

impl Published {
    fn new(catalogue: &Catalogue, version: u64, prev: Option<&[u8]>) -> Self {
        let role = |n| Role { keys: vec![key(n).public()], threshold: 1 };
        let roles = Roles { head: role(3), root: role(1), index: role(2) };
        let root = Root { v: 1, name: "Bench".into(), roles, market: None, expires: NOW + 365 * DAY, version: 1 };
        let market = MarketId::of_first_root(Envelope::sign(&root, &[]).unwrap().payload());
        let trees = catalogue.trees().unwrap();
        let index = Index {
            v: DOCUMENT_VERSION,
            prev: prev.map(ContentHash::of),
            names: trees.names,
            words: trees.words,
            issued: NOW,
            market,
            policy: Policy::default(),
            expires: NOW + 30 * DAY,
            revoked: trees.revoked,
            version,
            releases: catalogue.releases.len() as u64,
            delegations: Vec::new(),
        };
        let index = sign(&index, 2);
        let head = Head {
            v: DOCUMENT_VERSION,
            hash: ContentHash::of(&index),
            root: 1,
            size: index.len() as u64,
            issued: NOW,
            market,
            expires: NOW + 30 * DAY,
            version,
        };
        let pages = trees.pages.iter().cloned().collect();
        Self { root: sign(&root, 1), head: sign(&head, 3), index, trees, pages, market }
    }

    /// Pages that a walk reads.
    fn walk<E: Leaf>(&self, mut walk: TreeWalk<E>) -> (Vec<E>, BTreeSet<ContentHash>) {
        let mut read = BTreeSet::new();
        let missing = walk.advance(|page| {
            read.insert(*page);
            self.pages.get(page)
        });
        assert_eq!(missing.unwrap(), vec![]);
        (walk.entries().unwrap(), read)
    }

    /// All that a device reads of the trees to use one service.
    fn service(&self, name: &str) -> BTreeSet<ContentHash> {
        let (releases, mut pages) = self.walk(TreeWalk::new(self.trees.names.as_ref(), Scope::name(name)));
        assert_eq!(releases.len(), 3, "{name}");
        let targets = releases.iter().flat_map(targets_of).collect();
        pages.extend(self.walk(TreeWalk::<Revocation>::new(self.trees.revoked.as_ref(), Scope::keys(targets))).1);
        pages
    }

    fn search(&self, word: &str) -> BTreeSet<ContentHash> {
        self.walk(TreeWalk::<Mention>::new(self.trees.words.as_ref(), Scope::words(word))).1
    }

    fn bytes(&self, pages: &BTreeSet<ContentHash>) -> usize {
        pages.iter().map(|page| self.pages[page].len()).sum()
    }

    fn verify(&self) -> TrustedMarket {
        let mut device = TrustedMarket::pin(self.market);
        device.update_root(&self.root, NOW).unwrap();
        assert!(matches!(device.update_head(&self.head, NOW), Ok(HeadOutcome::Fetch { .. })));
        device.update_index(&self.index, NOW).unwrap();
        device
    }
}

fn sign<T: Signed>(document: &T, by: u8) -> Vec<u8> {
    Envelope::sign(document, &[&key(by)]).unwrap().to_vec().unwrap()
}

fn measure(size: usize) -> BTreeMap<&'static str, f64> {
    let size = size.next_multiple_of(3);
    let mut catalogue = Catalogue { releases: (0..size).map(release).collect(), ..Catalogue::default() };
    // One release in a hundred was withdrawn.
    for n in (0..size).step_by(100) {
        let target = targets_of(&catalogue.releases[n])[0].clone();
        catalogue.revocations.push(Revocation { since: NOW, reason: "It leaks".into(), target });
        catalogue.releases[n].status = Status::Revoked;
    }
    catalogue.revocations.sort_by(|a, b| a.target.cmp(&b.target));
    let begun = Instant::now();
    let before = Published::new(&catalogue, 1, None);
    let publish_ms = begun.elapsed().as_secs_f64() * 1e3;

    let names: Vec<String> = (0..LOOKUPS).map(|n| format!("service-{:06}", n * (size / 3) / LOOKUPS)).collect();
    let documents = before.root.len() + before.head.len() + before.index.len();
    let installs: Vec<f64> =
        names.iter().map(|name| (documents + before.bytes(&before.service(name))) as f64).collect();
    let begun = Instant::now();
    for name in &names {
        before.verify();
        std::hint::black_box(before.service(name));
    }
    let install_ms = begun.elapsed().as_secs_f64() * 1e3 / LOOKUPS as f64;
    let searches: Vec<f64> = names.iter().map(|name| before.bytes(&before.search(name)) as f64).collect();

    // A new version of one service; the device uses another one, or that one.
    let changed = size / 6 * 3;
    let mut new = release(changed);
    (new.version, new.manifest) = ("2.0.0".into(), ContentHash::of(b"new"));
    catalogue.releases.insert(changed + 3, new);
    catalogue.releases.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    let after = Published::new(&catalogue, 2, Some(&before.index));
    let documents = after.head.len() + after.index.len();
    let updates = names.iter().filter(|name| **name != release(changed).name).map(|name| {
        let fresh: BTreeSet<_> = after.service(name).difference(&before.service(name)).copied().collect();
        (documents + after.bytes(&fresh)) as f64
    });
    let updates: Vec<f64> = updates.collect();
    let everything: f64 = after
        .pages
        .iter()
        .filter(|(hash, _)| !before.pages.contains_key(*hash))
        .map(|(_, bytes)| bytes.len() as f64)
        .sum();

    let begun = Instant::now();
    for _ in 0..LOOKUPS {
        std::hint::black_box(before.verify());
    }
    let verify_ms = begun.elapsed().as_secs_f64() * 1e3 / LOOKUPS as f64;
    let all: usize = before.pages.values().map(Vec::len).sum();
    BTreeMap::from([
        ("install_bytes", median(installs)),
        ("install_ms", install_ms),
        ("search_bytes", median(searches)),
        ("update_bytes", median(updates)),
        ("update_bytes_mirror", everything),
        ("verify_ms", verify_ms),
        ("publish_ms", publish_ms),
        ("market_bytes", all as f64),
        ("pages", before.pages.len() as f64),
    ])
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
