//! The sample market: two services, their packages, pages, roots, indexes and heads.

use msm_protocol::{
    ContentHash, Manifest, MarketId, cbor,
    device::Network,
    document::{
        Child, Delegation, Head, Index, Mention, Page, Policy, Release, ReleaseKey, Review, Revocation, Role, Roles,
        Root, Status, Target, publication_digest,
    },
    limits::{MANIFEST_BYTES, PAGE_BYTES},
    manifest::{
        Constraints, Engine, FileRef, Halo, Limits, Param, ParamType, Permissions, Range, Split, Value, Variant, Work,
    },
    review::{Report, ReportCheck},
};
use serde_bytes::ByteBuf;

use crate::{
    sample::{Bundle, SEP_BYTES, Samples, key},
    samples::NOW,
};

const DAY: u64 = 86_400;
pub const JS: &[u8] = b"export function run(input) {\n  return new TextDecoder().decode(input).toUpperCase();\n}\n";
/// The smallest core module.
const WASM: &[u8] = b"\0asm\x01\0\0\0";

fn variant(engine: Engine, bytes: &[u8]) -> Variant {
    let abi = if engine == Engine::Js { "msm-js-1" } else { "wasi-p1" };
    Variant { abi: abi.into(), hash: ContentHash::of(bytes), size: bytes.len() as u64, files: vec![], engine }
}

fn file(path: &str, bytes: &[u8]) -> FileRef {
    FileRef { hash: ContentHash::of(bytes), path: path.into(), size: bytes.len() as u64 }
}

/// The service of the worked session, with what `service.toml` leaves out filled in as `pack` does.
fn upper_case() -> Manifest {
    Manifest {
        v: 1,
        name: "upper-case".into(),
        work: Work { split: Split::Lines(1), remote: false, private: false, deterministic: true },
        assets: vec![],
        input: vec!["text/plain".into()],
        scope: "text".into(),
        limits: Limits { input: 64 << 20, memory: 64 << 20, output: 8 << 20, time_ms: 10_000 },
        output: "text/plain".into(),
        params: Vec::new(),
        authors: Vec::new(),
        license: "MIT".into(),
        summary: "Text in capital letters".into(),
        version: "1.0.0".into(),
        variants: vec![variant(Engine::Js, JS)],
        constraints: Constraints {
            eqs: Range { max: 300, min: 0, default: Some(0) },
            gps: false,
            battery: Range { max: 100, min: 0, default: Some(0) },
            devices: Range { max: 64, min: 1, default: None },
            network: None,
        },
        permissions: Permissions::default(),
    }
}

/// A manifest with every optional field.
fn image_blur() -> Manifest {
    let param = |name: &str, r#type, description: &str| Param {
        choices: Vec::new(),
        name: name.into(),
        r#type,
        default: None,
        maximum: None,
        minimum: None,
        description: description.into(),
    };
    Manifest {
        v: 1,
        name: "image-blur".into(),
        work: Work {
            split: Split::ImageRows(Halo::Param("radius".into())),
            remote: false,
            private: false,
            deterministic: true,
        },
        assets: vec![file("weights/gauss.bin", b"\x01\x02\x01"), file("weights/note.txt", b"")],
        input: vec!["image/png".into(), "image/jpeg".into()],
        scope: "media/image".into(),
        limits: Limits { input: 32 << 20, memory: 64 << 20, output: 64 << 20, time_ms: 60_000 },
        output: "image/png".into(),
        params: vec![
            Param { default: Some(Value::Bool(false)), ..param("grey", ParamType::Boolean, "Without colours") },
            Param {
                choices: vec![Value::Text("box".into()), Value::Text("gauss".into())],
                default: Some(Value::Text("box".into())),
                maximum: Some(5.0),
                minimum: Some(3.0),
                ..param("kernel", ParamType::String, "Shape of the blur")
            },
            Param {
                default: Some(Value::Integer(3)),
                maximum: Some(50.0),
                minimum: Some(1.0),
                ..param("radius", ParamType::Integer, "Blur radius in pixels")
            },
            Param {
                choices: vec![Value::Number(0.5), Value::Number(1.0)],
                ..param("scale", ParamType::Number, "Scale of the result")
            },
        ],
        authors: vec!["Ada <ada@example.org>".into()],
        license: "MIT OR Apache-2.0".into(),
        summary: "Blur an image, split over devices".into(),
        version: "1.2.0".into(),
        variants: vec![
            variant(Engine::Wasm, WASM),
            Variant { files: vec![file("lib/rows.mjs", b"export const rows = 4;\n")], ..variant(Engine::Js, JS) },
        ],
        constraints: Constraints {
            eqs: Range { max: 100, min: 0, default: Some(10) },
            gps: true,
            battery: Range { max: 100, min: 10, default: Some(20) },
            devices: Range { max: 16, min: 1, default: None },
            network: Some(Network::Low),
        },
        permissions: Permissions {
            gps: Some("coarse".into()),
            net: vec!["https://*.example.org".into()],
            clock: true,
            image: true,
            device: true,
            random: true,
        },
    }
}

fn release(manifest: &Manifest, bytes: &[u8], status: Status) -> Release {
    Release {
        name: manifest.name.clone(),
        size: bytes.len() as u64,
        scope: manifest.scope.clone(),
        rating: manifest.permissions.rating(),
        status,
        engines: manifest.variants.iter().map(|variant| variant.engine.as_str().to_owned()).collect(),
        summary: manifest.summary.clone(),
        version: manifest.version.clone(),
        manifest: ContentHash::of(bytes),
        publisher: key(6).public(),
        reviews: vec![],
        signature: None,
    }
}

/// What other samples need of the market.
pub struct Market {
    pub id: MarketId,
    /// The blob of `manifest/small`.
    pub manifest: Vec<u8>,
    /// The envelope of `index/1`.
    pub first_index: Vec<u8>,
    /// The envelope of `head/2`.
    pub head: Vec<u8>,
    /// The envelopes of the roots.
    pub roots: Vec<Vec<u8>>,
}

fn role(seeds: &[u8], threshold: u16) -> Role {
    Role { keys: seeds.iter().map(|seed| key(*seed).public()).collect(), threshold }
}

pub fn market(samples: &mut Samples) -> Market {
    samples.raw("blob/js", "source of the js variant of both services: a blob is its bytes", JS);
    samples.raw("blob/wasm", "the smallest wasm variant", WASM);
    let small = upper_case();
    let manifest = samples.message::<_, MANIFEST_BYTES>("manifest/small", "manifest blob of upper-case 1.0.0", &small);
    let full = image_blur();
    let full_bytes =
        samples.message::<_, MANIFEST_BYTES>("manifest/full", "manifest blob of image-blur 1.2.0: every field", &full);
    let diary = Manifest { work: Work { private: true, ..small.work.clone() }, name: "diary".into(), ..small.clone() };
    samples.message::<_, MANIFEST_BYTES>("manifest/private", "manifest blob of a service for own devices only", &diary);
    let bundle = Bundle { v: 1, blobs: [&manifest[..], JS].map(ByteBuf::from).to_vec() };
    samples.message::<_, SEP_BYTES>("sep", "the package of upper-case 1.0.0 as one file", &bundle);

    let old = Manifest { version: "1.1.0".into(), ..full.clone() };
    let report = Report {
        v: 1,
        name: small.name.clone(),
        note: "read line by line".into(),
        checks: vec![ReportCheck { what: "js: test shouts".into(), fault: None }],
        issued: NOW,
        passed: true,
        rating: 6,
        version: small.version.clone(),
        manifest: ContentHash::of(&manifest),
        longest_ms: 3,
        variants_agree: None,
    };
    let report = samples.signed("review", "a review of upper-case 1.0.0", &report, &[8]);
    let digest = publication_digest(&small.name, &small.version, &ContentHash::of(&manifest));
    samples.raw("publication/digest", "what the publisher of upper-case 1.0.0 signs", &digest);
    let withdrawn = release(&old, &cbor::to_vec(&old).unwrap(), Status::Revoked);
    let revocations = [Target::Package(withdrawn.manifest), Target::Publisher(key(9).public())]
        .map(|target| Revocation { since: NOW + 60, reason: "leaks the input".into(), target });
    let page = Page::Leaf(vec![
        withdrawn,
        release(&full, &full_bytes, Status::Yanked),
        Release {
            reviews: vec![Review { report: ContentHash::of(&report), reviewer: key(8).public() }],
            signature: Some(key(6).sign(&digest)),
            ..release(&small, &manifest, Status::Active)
        },
    ]);
    let page =
        samples.message::<_, PAGE_BYTES>("page/leaf", "the only page of the market's tree: three releases", &page);
    let child = |page: &[u8], name: &str| Child {
        page: ContentHash::of(page),
        first: ReleaseKey { name: name.into(), version: "1.0.0".into() },
    };
    let inner = Page::<Release>::Inner(vec![child(b"first page", "aa"), child(b"second page", "image-blur")]);
    samples.message::<_, PAGE_BYTES>("page/inner", "a page of another, larger tree", &inner);

    let word = |word: &str| Mention { word: word.into(), service: small.name.clone() };
    let words = ["capital", "case", "in", "letters", "text", "upper", "upper-case"].map(word);
    let words = Page::Leaf(words.to_vec());
    let words = samples.message::<_, PAGE_BYTES>("page/words", "the words that find upper-case", &words);
    let revocations = Page::Leaf(revocations.to_vec());
    let revoked = samples.message::<_, PAGE_BYTES>("page/revoked", "what the market has revoked", &revocations);

    let roles = Roles { head: role(&[3], 1), root: role(&[1], 1), index: role(&[2], 1) };
    let name = "Sample Market".to_owned();
    let first = Root { v: 1, name, roles, market: None, expires: NOW + 365 * DAY, version: 1 };
    let root_1 = samples.signed("root/1", "first root; the SHA-256 of its payload is the market's id", &first, &[1]);
    let id = MarketId::of_first_root(&cbor::to_vec(&first).unwrap());
    let second = Root {
        market: Some(id),
        version: 2,
        roles: Roles { root: role(&[1, 7], 2), ..first.roles.clone() },
        expires: NOW + 400 * DAY,
        ..first
    };
    let root_2 = samples.signed("root/2", "second root: two keys of two sign roots from now on", &second, &[1, 7]);

    let empty = Index {
        v: 1,
        prev: None,
        names: None,
        words: None,
        issued: NOW,
        market: id,
        policy: Policy::default(),
        expires: NOW + 30 * DAY,
        revoked: None,
        version: 1,
        releases: 0,
        delegations: vec![],
    };
    let head_of = |index: &Index, bytes: &[u8], root| Head {
        v: 1,
        hash: ContentHash::of(bytes),
        root,
        size: bytes.len() as u64,
        issued: index.issued,
        market: id,
        expires: index.expires,
        version: index.version,
    };
    let index_1 = samples.signed("index/1", "an index without releases", &empty, &[2]);
    samples.signed("head/1", "points to index/1", &head_of(&empty, &index_1, 1), &[3]);
    let next = Index {
        prev: Some(ContentHash::of(&index_1)),
        names: Some(ContentHash::of(&page)),
        words: Some(ContentHash::of(&words)),
        revoked: Some(ContentHash::of(&revoked)),
        policy: Policy { reviews: 1, reviewers: vec![key(8).public()] },
        delegations: vec![Delegation { keys: vec![key(6).public()], prefix: "upper-".into() }],
        issued: NOW + 60,
        expires: NOW + 60 + 30 * DAY,
        version: 2,
        releases: 3,
        ..empty
    };
    let index_2 = samples.signed("index/2", "follows index/1 and holds page/leaf", &next, &[2]);
    let head = samples.signed("head/2", "points to index/2, signed after root/2", &head_of(&next, &index_2, 2), &[3]);
    Market { id, manifest, first_index: index_1, head, roots: vec![root_1, root_2] }
}
