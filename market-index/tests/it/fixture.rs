//! Keys, documents and folders that the tests are made of. Every key is a fixed seed.

use std::{fs, path::Path};

use msm_market_index::{
    MarketFolder, Package, Publisher, Scope, Signers, TreeError, TreeWalk, TrustedMarket, pack_folder,
};
use msm_protocol::{
    ContentHash, Envelope, MarketId, SecretKey, Signed,
    document::{Head, Index, Policy, Release, ReleaseKey, Role, Roles, Root, Status},
};
use tempfile::TempDir;

/// The present, Unix seconds.
pub const NOW: u64 = 1_800_000_000;
pub const DAY: u64 = 86_400;

pub fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

pub fn role(keys: &[u8], threshold: u16) -> Role {
    Role { keys: keys.iter().map(|n| key(*n).public()).collect(), threshold }
}

pub fn sign<T: Signed>(document: &T, keys: &[u8]) -> Vec<u8> {
    let keys: Vec<SecretKey> = keys.iter().map(|n| key(*n)).collect();
    let keys: Vec<&SecretKey> = keys.iter().collect();
    Envelope::sign(document, &keys).unwrap().to_vec().unwrap()
}

/// Makes documents of one market, good ones and bad ones. Root key 1, index key 2, head key 3, unless changed.
pub struct Forge {
    pub root: Root,
    pub market: MarketId,
}

impl Forge {
    pub fn new() -> Self {
        Self::with(Roles { head: role(&[3], 1), root: role(&[1], 1), index: role(&[2], 1) })
    }

    pub fn with(roles: Roles) -> Self {
        let root = Root { v: 1, name: "Test Market".into(), roles, market: None, expires: NOW + 365 * DAY, version: 1 };
        let market = market_of(&root);
        Self { root, market }
    }

    pub fn root_bytes(&self) -> Vec<u8> {
        sign(&self.root, &[1])
    }

    /// The root that comes after version 1.
    pub fn next_root(&self, change: impl FnOnce(&mut Root)) -> Root {
        let mut root = Root { market: Some(self.market), version: 2, ..self.root.clone() };
        change(&mut root);
        root
    }

    pub fn index(&self, version: u64, prev: Option<&[u8]>) -> Index {
        Index {
            v: 1,
            prev: prev.map(ContentHash::of),
            names: None,
            words: None,
            issued: NOW - DAY,
            market: self.market,
            policy: Policy::default(),
            expires: NOW + 29 * DAY,
            revoked: None,
            version,
            releases: 0,
            delegations: vec![],
        }
    }

    pub fn head(&self, version: u64, index: &[u8]) -> Head {
        Head {
            v: 1,
            hash: ContentHash::of(index),
            root: 1,
            size: index.len() as u64,
            issued: NOW - DAY,
            market: self.market,
            expires: NOW + 29 * DAY,
            version,
        }
    }

    /// A signed index of this version and its signed head.
    pub fn pair(&self, version: u64, prev: Option<&[u8]>) -> (Vec<u8>, Vec<u8>) {
        let index = sign(&self.index(version, prev), &[2]);
        let head = sign(&self.head(version, &index), &[3]);
        (index, head)
    }

    /// A device that has accepted root 1 and index `version`. Also returns the index.
    pub fn device_at(&self, version: u64) -> (TrustedMarket, Vec<u8>) {
        let mut device = TrustedMarket::pin(self.market);
        device.update_root(&self.root_bytes(), NOW).unwrap();
        let (index, head) = self.pair(version, None);
        device.update_head(&head, NOW).unwrap();
        device.update_index(&index, NOW).unwrap();
        (device, index)
    }
}

pub fn market_of(root: &Root) -> MarketId {
    MarketId::of_first_root(Envelope::sign(root, &[]).unwrap().payload())
}

/// The text of a small service.
pub fn service_toml(name: &str, version: &str) -> String {
    format!(
        "[service]\nname = \"{name}\"\nversion = \"{version}\"\nsummary = \"For tests\"\nscope = \"test\"\n\
         license = \"MIT\"\n[io]\ninput = \"none\"\noutput = \"text/plain\"\n\
         [[variant]]\nengine = \"js\"\nfile = \"main.js\"\n"
    )
}

pub fn write(folder: &Path, file: &str, bytes: impl AsRef<[u8]>) {
    let path = folder.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A package whose only variant is `code`.
pub fn package(name: &str, version: &str, code: &str) -> Package {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "service.toml", service_toml(name, version));
    write(folder.path(), "main.js", code);
    pack_folder(folder.path()).unwrap()
}

/// An operator with a market in a folder of its own.
pub struct Operator {
    pub folder: TempDir,
    pub market: MarketFolder,
    keys: [SecretKey; 3],
}

impl Operator {
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let keys = [key(1), key(2), key(3)];
        let market = MarketFolder::init(folder.path(), "Test Market", &signers(&keys), NOW).unwrap();
        Self { folder, market, keys }
    }

    pub fn signers(&self) -> Signers<'_> {
        signers(&self.keys)
    }

    pub fn publish(&self, package: &Package) {
        assert!(
            self.market.publish(package, &Publisher::named(key(9).public()), &self.signers(), NOW).unwrap().changed
        );
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn signers(keys: &[SecretKey; 3]) -> Signers<'_> {
    Signers { root: vec![&keys[0]], index: vec![&keys[1]], head: vec![&keys[2]] }
}

/// A release with nothing special about it.
pub fn release(name: &str, version: &str) -> Release {
    Release {
        name: name.into(),
        size: 100,
        scope: "test".into(),
        rating: 6,
        status: Status::Active,
        engines: vec!["js".into()],
        reviews: vec![],
        summary: "For tests".into(),
        version: version.into(),
        manifest: ContentHash::of(format!("{name} {version}").as_bytes()),
        publisher: key(9).public(),
        signature: None,
    }
}

/// Finds one release below `root`, reading one page a level.
pub fn lookup<B: AsRef<[u8]>>(
    root: Option<&ContentHash>,
    key: &ReleaseKey,
    get: impl FnMut(&ContentHash) -> Option<B>,
) -> Result<Option<Release>, TreeError> {
    let mut walk = TreeWalk::new(root, Scope::key(key.clone()));
    // With pages missing it is incomplete.
    walk.advance(get)?;
    Ok(walk.entries()?.into_iter().next())
}

/// Copies a folder's files, in another order and with other times than the original's.
pub fn copy(from: &Path, to: &Path) {
    let mut entries: Vec<_> = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries.into_iter().rev() {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy(&path, &target);
        } else {
            fs::write(&target, fs::read(&path).unwrap()).unwrap();
            let then = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(NOW / 2);
            fs::File::options().append(true).open(&target).unwrap().set_modified(then).unwrap();
        }
    }
}
