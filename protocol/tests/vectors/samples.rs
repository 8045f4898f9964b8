//! One fixed sample of every message and document: a small market, and a job that runs one of its services.
//!
//! Keys are made of seeds of one repeated byte: 1 root, 2 index, 3 head, 4 the requester, 5 the worker, 6 the publisher,
//! 7 a second root key.

use msm_protocol::{
    ContentHash, Envelope, JobId, Manifest, MarketId, PeerId, PublicKey, Refusal, RefusalCode, SecretKey, Signed,
    cbor::{self, CborError},
    device::{DeviceExt, DeviceInfo, Network, Requirements},
    document::{Child, Head, Index, Page, PageKey, Policy, Release, Role, Roles, Root, Status},
    envelope,
    job::{
        Accept, AttemptRef, ChunkBuf, Done, Heartbeat, Offer, Outcome, Receipt, TaskHeader, TaskResult, ToRequester,
        ToWorker,
    },
    limits::{CONTROL_BYTES, FRAME_BYTES, HEAD_RESPONSE_BYTES, MANIFEST_BYTES, PACKAGE_BYTES, PAGE_BYTES},
    manifest::{Constraints, Engine, Halo, Limits, Param, ParamType, Permissions, Range, Split, Value, Variant, Work},
    message::{BlobRange, BlobRequest, BlobResponse, Discovery, HeadRequest, HeadResponse, Presence, name},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_bytes::ByteBuf;

/// The present of the samples, Unix seconds.
pub const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

/// Reads bytes as one kind of message and writes them again.
pub type Again = fn(&[u8]) -> Result<Vec<u8>, String>;

/// Whether these bytes are believed when all of these keys must have signed.
pub type Verifies = fn(&[u8], &[PublicKey]) -> bool;

/// What a sample is.
pub enum Form {
    /// Bytes that are no message of their own.
    Raw,
    /// Bytes and the text that people see for them.
    Text(String),
    /// CBOR of this Rust type.
    Message(&'static str, Again),
    /// An envelope and how it was made.
    Signed {
        document: &'static str,
        seeds: Vec<u8>,
        payload: Vec<u8>,
        digest: [u8; 32],
        again: Again,
        verifies: Verifies,
    },
    /// Bytes that no receiver of this type takes, and the kind of error.
    Refused(&'static str, String),
}

/// One vector.
pub struct Sample {
    pub name: String,
    pub note: &'static str,
    pub bytes: Vec<u8>,
    pub form: Form,
}

/// The `.sep` bundle: `market-index` reads and writes it, its bytes are part of the protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    pub v: u8,
    pub blobs: Vec<ByteBuf>,
}

pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// Decodes, encodes, decodes again: the two values must be the same.
pub fn again<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug, const LIMIT: usize>(
    bytes: &[u8],
) -> Result<Vec<u8>, String> {
    let value: T = cbor::from_slice(bytes, LIMIT).map_err(|e| e.to_string())?;
    let encoded = cbor::to_vec(&value).map_err(|e| e.to_string())?;
    assert_eq!(cbor::from_slice::<T>(&encoded, LIMIT).as_ref(), Ok(&value));
    Ok(encoded)
}

fn manifest_again(bytes: &[u8]) -> Result<Vec<u8>, String> {
    Manifest::from_slice(bytes).map_err(|e| e.to_string())?;
    again::<Manifest, MANIFEST_BYTES>(bytes)
}

/// Reads an envelope and its payload without believing either.
fn envelope_again<T: Signed + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let envelope = Envelope::from_slice::<T>(bytes).map_err(|e| e.to_string())?;
    let document: T = cbor::from_slice(envelope.payload(), T::LIMIT).map_err(|e| e.to_string())?;
    let encoded = cbor::to_vec(&document).map_err(|e| e.to_string())?;
    assert_eq!(cbor::from_slice::<T>(&encoded, T::LIMIT).as_ref(), Ok(&document));
    let _ = envelope.claimed_key();
    let encoded = envelope.to_vec().map_err(|e| e.to_string())?;
    assert_eq!(Envelope::from_slice::<T>(&encoded).as_ref(), Ok(&envelope));
    Ok(encoded)
}

fn verifies<T: Signed>(bytes: &[u8], trusted: &[PublicKey]) -> bool {
    Envelope::from_slice::<T>(bytes).is_ok_and(|envelope| envelope.verify::<T>(trusted, trusted.len()).is_ok())
}

/// Every decoder, for bytes of unknown kind.
pub const DECODERS: &[Again] = &[
    again::<Discovery, CONTROL_BYTES>,
    again::<DeviceInfo, CONTROL_BYTES>,
    again::<HeadRequest, CONTROL_BYTES>,
    again::<HeadResponse, HEAD_RESPONSE_BYTES>,
    again::<BlobRequest, CONTROL_BYTES>,
    again::<BlobResponse, FRAME_BYTES>,
    again::<ToWorker, FRAME_BYTES>,
    again::<ToRequester, FRAME_BYTES>,
    again::<Page, PAGE_BYTES>,
    again::<Manifest, MANIFEST_BYTES>,
    manifest_again,
    again::<Bundle, { PACKAGE_BYTES + 128 }>,
    envelope_again::<Root>,
    envelope_again::<Index>,
    envelope_again::<Head>,
    envelope_again::<Presence>,
    envelope_again::<Receipt>,
];

#[derive(Default)]
struct Samples(Vec<Sample>);

impl Samples {
    fn push(&mut self, name: impl Into<String>, note: &'static str, bytes: &[u8], form: Form) {
        self.0.push(Sample { name: name.into(), note, bytes: bytes.to_vec(), form });
    }

    fn text(&mut self, name: &str, note: &'static str, bytes: &[u8], text: impl ToString) {
        self.push(name, note, bytes, Form::Text(text.to_string()));
    }

    fn raw(&mut self, name: &str, note: &'static str, bytes: &[u8]) {
        self.push(name, note, bytes, Form::Raw);
    }

    fn message<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug, const LIMIT: usize>(
        &mut self,
        name: &str,
        note: &'static str,
        value: &T,
    ) -> Vec<u8> {
        let bytes = cbor::to_vec(value).unwrap();
        self.push(name, note, &bytes, Form::Message(short_name::<T>(), again::<T, LIMIT>));
        bytes
    }

    fn signed<T: Signed + PartialEq + std::fmt::Debug>(
        &mut self,
        name: &str,
        note: &'static str,
        document: &T,
        seeds: &[u8],
    ) -> Vec<u8> {
        let keys: Vec<SecretKey> = seeds.iter().map(|seed| key(*seed)).collect();
        let signed = Envelope::sign(document, &keys.iter().collect::<Vec<_>>()).unwrap();
        let trusted: Vec<PublicKey> = keys.iter().map(SecretKey::public).collect();
        assert_eq!(*signed.verify::<T>(&trusted, seeds.len()).unwrap(), *document);
        let (payload, bytes) = (signed.payload().to_vec(), signed.to_vec().unwrap());
        let digest = envelope::digest(T::TYPE, &payload);
        let (again, verifies) = (envelope_again::<T>, verifies::<T>);
        let form = Form::Signed { document: T::TYPE, seeds: seeds.to_vec(), payload, digest, again, verifies };
        self.push(name, note, &bytes, form);
        bytes
    }

    fn refused(&mut self, name: &str, note: &'static str, bytes: &[u8], reader: &'static str, error: impl ToString) {
        self.push(format!("refuse/{name}"), note, bytes, Form::Refused(reader, error.to_string()));
    }
}

fn short_name<T>() -> &'static str {
    std::any::type_name::<T>().rsplit("::").next().unwrap_or_default()
}

fn role(seeds: &[u8], threshold: u16) -> Role {
    Role { keys: seeds.iter().map(|seed| key(*seed).public()).collect(), threshold }
}

const JS: &[u8] = b"export function run(input) {\n  return new TextDecoder().decode(input).toUpperCase();\n}\n";
/// The smallest core module.
const WASM: &[u8] = b"\0asm\x01\0\0\0";

fn variant(engine: Engine, bytes: &[u8]) -> Variant {
    let abi = if engine == Engine::Js { "msm-js-1" } else { "wasi-p1" };
    Variant { abi: abi.into(), hash: ContentHash::of(bytes), size: bytes.len() as u64, engine }
}

/// The service of the worked session, with what `service.toml` leaves out filled in as `pack` does.
fn upper_case() -> Manifest {
    Manifest {
        v: 1,
        name: "upper-case".into(),
        work: Work { split: Split::Lines(1), deterministic: true },
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
        work: Work { split: Split::ImageRows(Halo::Param("radius".into())), deterministic: true },
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
        variants: vec![variant(Engine::Wasm, WASM), variant(Engine::Js, JS)],
        constraints: Constraints {
            eqs: Range { max: 100, min: 0, default: Some(10) },
            gps: true,
            battery: Range { max: 100, min: 10, default: Some(20) },
            devices: Range { max: 16, min: 1, default: None },
            network: Some(Network::Low),
        },
        permissions: Permissions { gps: Some("coarse".into()), net: vec!["https://*.example.org".into()], image: true },
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
    }
}

/// A frame of a job stream as it lies on the wire.
fn framed(cbor: &[u8]) -> Vec<u8> {
    [&(cbor.len() as u32).to_le_bytes()[..], cbor].concat()
}

/// All samples in the order of `PROTOCOL.md`.
pub fn all() -> Vec<Sample> {
    let mut samples = Samples::default();
    let market = market(&mut samples);
    session(&mut samples, &market);
    others(&mut samples, &market);
    refused(&mut samples, &market);
    samples.0
}

struct Market {
    id: MarketId,
    manifest: Vec<u8>,
    head: Vec<u8>,
    roots: Vec<Vec<u8>>,
}

fn market(samples: &mut Samples) -> Market {
    samples.raw("blob/js", "source of the js variant of both services: a blob is its bytes", JS);
    samples.raw("blob/wasm", "the smallest wasm variant", WASM);
    let small = upper_case();
    let manifest = samples.message::<_, MANIFEST_BYTES>("manifest/small", "manifest blob of upper-case 1.0.0", &small);
    let full = image_blur();
    let full_bytes =
        samples.message::<_, MANIFEST_BYTES>("manifest/full", "manifest blob of image-blur 1.2.0: every field", &full);
    let bundle = Bundle { v: 1, blobs: [&manifest[..], JS].map(ByteBuf::from).to_vec() };
    samples.message::<_, { PACKAGE_BYTES + 128 }>("sep", "the package of upper-case 1.0.0 as one file", &bundle);

    let old = Manifest { version: "1.1.0".into(), ..full.clone() };
    let page = Page::Leaf(vec![
        release(&old, &cbor::to_vec(&old).unwrap(), Status::Revoked),
        release(&full, &full_bytes, Status::Yanked),
        release(&small, &manifest, Status::Active),
    ]);
    let page =
        samples.message::<_, PAGE_BYTES>("page/leaf", "the only page of the market's tree: three releases", &page);
    let child = |page: &[u8], name: &str| Child {
        page: ContentHash::of(page),
        first: PageKey { name: name.into(), version: "1.0.0".into() },
    };
    let inner = Page::Inner(vec![child(b"first page", "aa"), child(b"second page", "image-blur")]);
    samples.message::<_, PAGE_BYTES>("page/inner", "a page of another, larger tree", &inner);

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
        issued: NOW,
        market: id,
        policy: Policy { reviews: 0 },
        expires: NOW + 30 * DAY,
        version: 1,
        releases: 0,
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
        issued: NOW + 60,
        expires: NOW + 60 + 30 * DAY,
        version: 2,
        releases: 3,
        ..empty
    };
    let index_2 = samples.signed("index/2", "follows index/1 and holds page/leaf", &next, &[2]);
    let head = samples.signed("head/2", "points to index/2, signed after root/2", &head_of(&next, &index_2, 2), &[3]);
    Market { id, manifest, head, roots: vec![root_1, root_2] }
}

fn job_id() -> JobId {
    JobId::from_bytes(*b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f")
}

/// The second of two tasks, and its first attempt.
const TASK: AttemptRef = AttemptRef { task: 1, attempt: 0 };
const INPUT: &[u8] = b"two\nthree\n";
const OUTPUT: &[u8] = b"TWO\nTHREE\n";

fn need() -> Requirements {
    Requirements { eqs: 0.0, gps: false, battery: 0, network: None }
}

fn chunk(bytes: &[u8]) -> ChunkBuf {
    ChunkBuf { task: TASK.task, bytes: ByteBuf::from(bytes), offset: 0, attempt: TASK.attempt }
}

/// What travels in the order in which it travels.
fn session(samples: &mut Samples, market: &Market) {
    let discovery = Discovery { v: 1, need: Some(need()) };
    samples.message::<_, CONTROL_BYTES>("session/discovery", "requester to worker, /msm/device/1 request", &discovery);
    let device = DeviceInfo {
        v: 1,
        eqs: 90.0,
        ext: DeviceExt {
            cpu: 0.75,
            mem: 0.5,
            name: "attic".into(),
            cores: 4,
            slots: 2,
            speed: 1.2,
            battery: 1.0,
            engines: vec!["js".into()],
            markets: vec![market.id],
        },
        gps: false,
        network: Network::High,
        availability: true,
    };
    samples.message::<_, CONTROL_BYTES>("session/device-info", "its response", &device);

    let manifest = ContentHash::of(&market.manifest);
    let offer = ToWorker::Offer(Box::new(Offer {
        v: 1,
        job: job_id(),
        need: need(),
        tasks: 2,
        market: market.id,
        params: "{}".into(),
        version: 2,
        manifest,
    }));
    let mut to_worker = Vec::new();
    let mut to_requester = Vec::new();
    to_worker.push(samples.message::<_, FRAME_BYTES>(
        "session/offer",
        "requester to worker, first frame of /msm/job/1",
        &offer,
    ));

    let ask = HeadRequest { v: 1, root: 1, market: market.id };
    samples.message::<_, CONTROL_BYTES>(
        "session/head-request",
        "worker to requester, /msm/head/1 request: the worker knows root 1 and does not find the manifest",
        &ask,
    );
    let answer =
        HeadResponse { head: Some(ByteBuf::from(&market.head[..])), roots: vec![ByteBuf::from(&market.roots[1][..])] };
    samples.message::<_, HEAD_RESPONSE_BYTES>("session/head-response", "its response: head/2 and root/2", &answer);
    let ask = BlobRequest { v: 1, len: 262_144, hash: manifest, offset: 0 };
    samples.message::<_, CONTROL_BYTES>(
        "session/blob-request",
        "worker to requester, /msm/blob/1 request for manifest/small",
        &ask,
    );
    let range = BlobRange { size: market.manifest.len() as u64, bytes: ByteBuf::from(&market.manifest[..]) };
    samples.message::<_, FRAME_BYTES>("session/blob-have", "its response: the whole blob", &BlobResponse::Have(range));

    let accept = ToRequester::Accept(Accept { credit: 2, engine: "js".into() });
    to_requester.push(samples.message::<_, FRAME_BYTES>("session/accept", "worker to requester, first frame", &accept));
    let header = TaskHeader {
        hash: ContentHash::of(INPUT),
        size: INPUT.len() as u64,
        task: TASK.task,
        count: 2,
        attempt: TASK.attempt,
    };
    to_worker.push(samples.message::<_, FRAME_BYTES>(
        "session/task",
        "requester to worker: announces 10 bytes",
        &ToWorker::Task(header),
    ));
    let input = ToWorker::Chunk(chunk(INPUT));
    to_worker.push(samples.message::<_, FRAME_BYTES>(
        "session/chunk-input",
        "requester to worker: these bytes",
        &input,
    ));
    let heartbeat = ToRequester::Heartbeat(Heartbeat { attempts: vec![TASK] });
    to_requester.push(samples.message::<_, FRAME_BYTES>(
        "session/heartbeat",
        "worker to requester: still at it",
        &heartbeat,
    ));
    let receipt = Receipt {
        v: 1,
        job: job_id(),
        peer: PeerId::of(&key(5).public()),
        task: TASK.task,
        input: ContentHash::of(INPUT),
        output: ContentHash::of(OUTPUT),
        package: manifest,
    };
    let receipt =
        samples.signed("session/receipt", "inside the next frame, signed by the worker's own key", &receipt, &[5]);
    let done = Done { size: OUTPUT.len() as u64, cpu_us: 1_234, receipt: ByteBuf::from(receipt) };
    let result = TaskResult { task: TASK.task, attempt: TASK.attempt, outcome: Outcome::Done(done) };
    let result = ToRequester::Result(Box::new(result));
    to_requester.push(samples.message::<_, FRAME_BYTES>(
        "session/result",
        "worker to requester: announces 10 bytes",
        &result,
    ));
    let output = ToRequester::Chunk(chunk(OUTPUT));
    to_requester.push(samples.message::<_, FRAME_BYTES>(
        "session/chunk-output",
        "worker to requester: these bytes",
        &output,
    ));
    to_worker.push(samples.message::<_, FRAME_BYTES>(
        "session/done",
        "requester to worker, last frame",
        &ToWorker::Done,
    ));

    let wire = |frames: &[Vec<u8>]| frames.iter().map(|frame| framed(frame)).collect::<Vec<_>>().concat();
    samples.raw("session/stream-to-worker", "all that the requester writes to the job stream", &wire(&to_worker));
    samples.raw("session/stream-to-requester", "all that the worker writes to the job stream", &wire(&to_requester));
}

/// What the session does not need.
fn others(samples: &mut Samples, market: &Market) {
    let peer = PeerId::of(&key(5).public());
    let hello = ContentHash::of(b"hello");
    samples.text("id/content-hash", "SHA-256 of the 5 bytes `hello`, and its CID", hello.as_bytes(), hello);
    samples.raw("id/content-hash/kad-key", "the Kademlia key of the same blob", &hello.multihash());
    samples.text("id/public-key", "the key of seed 5 (the worker's)", key(5).public().as_bytes(), key(5).public());
    samples.text("id/peer", "the peer of the same key", key(5).public().as_bytes(), peer);
    samples.raw("id/peer/libp2p", "the same peer id in libp2p's binary form", &peer.to_libp2p_bytes());
    samples.text("id/market", "SHA-256 of the payload of root/1", market.id.as_bytes(), market.id);
    samples.text(
        "id/market/fingerprint",
        "the same as people compare it",
        market.id.as_bytes(),
        market.id.fingerprint(),
    );
    let topic = name::market_topic(&market.id);
    samples.text("id/market/topic", "the gossip topic of the same market", topic.as_bytes(), &topic);
    samples.raw("id/market/kad-key", "the Kademlia key of the same market's head record", &name::head_key(&market.id));
    let job: [u8; 16] = std::array::from_fn(|n| n as u8);
    samples.text("id/job", "the job of the session", &job, job_id());

    let presence = Presence {
        v: 1,
        time: NOW,
        addresses: vec!["/ip4/192.0.2.7/udp/4001/quic-v1".into(), "/ip4/192.0.2.7/tcp/4001".into()],
    };
    samples.signed("presence", "data of a gossip message, signed by the worker's own key", &presence, &[5]);
    let plain = Discovery { v: 1, need: None };
    samples.message::<_, CONTROL_BYTES>("discovery/plain", "a discovery message that asks for nothing special", &plain);
    let need = Requirements { eqs: 40.5, gps: true, battery: 20, network: Some(Network::High) };
    let strict = Discovery { v: 1, need: Some(need) };
    samples.message::<_, CONTROL_BYTES>("discovery/strict", "one that asks for much", &strict);
    samples.message::<_, HEAD_RESPONSE_BYTES>(
        "head-response/empty",
        "the market is not known here",
        &HeadResponse::default(),
    );
    let ask = BlobRequest { v: 1, len: 0, hash: ContentHash::of(&market.manifest), offset: 0 };
    samples.message::<_, CONTROL_BYTES>("blob-request/have", "only whether manifest/small is there", &ask);
    let there = BlobRange { size: market.manifest.len() as u64, bytes: ByteBuf::new() };
    samples.message::<_, FRAME_BYTES>("blob-response/have", "it is there", &BlobResponse::Have(there));
    samples.message::<_, FRAME_BYTES>("blob-response/missing", "it is not", &BlobResponse::Missing);
    let busy = Refusal::new(RefusalCode::RateLimited, "too many blob requests");
    samples.message::<_, FRAME_BYTES>("blob-response/refused", "no room", &BlobResponse::Refused(busy));
    let refusal = Refusal::new(RefusalCode::Constraint, "battery 41 % < 50 %");
    samples.message::<_, FRAME_BYTES>(
        "job/refuse",
        "worker to requester: offer not taken, or the job is left",
        &ToRequester::Refuse(refusal),
    );
    samples.message::<_, FRAME_BYTES>(
        "job/cancel",
        "requester to worker: this attempt is not wanted any more",
        &ToWorker::Cancel(TASK),
    );
    let failed = Refusal::new(RefusalCode::ServiceFailed, "TypeError: not a function");
    let result = TaskResult { task: TASK.task, attempt: 1, outcome: Outcome::Failed(failed) };
    samples.message::<_, FRAME_BYTES>(
        "job/result-failed",
        "worker to requester: no bytes follow",
        &ToRequester::Result(Box::new(result)),
    );
}

/// What must not be taken.
fn refused(samples: &mut Samples, market: &Market) {
    let deep: Vec<u8> = [[0x81; 16].as_slice(), &[0x80]].concat();
    let cbor_cases: &[(&str, &'static str, &[u8])] = &[
        ("truncated", "array of two with one element", &[0x82, 0x00]),
        ("trailing", "two items", &[0x00, 0x00]),
        ("long-number", "23 in two bytes", &[0x18, 0x17]),
        ("long-length", "length 1 in two bytes", &[0x58, 0x01, 0x00]),
        ("indefinite", "array of indefinite length", &[0x9f, 0xff]),
        ("tag", "tag 0", &[0xc0, 0x60]),
        ("half-float", "1.0 in 16 bits", &[0xf9, 0x3c, 0x00]),
        ("single-float", "1.0 in 32 bits", &[0xfa, 0x3f, 0x80, 0x00, 0x00]),
        ("nan", "not a number", &[0xfb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0]),
        ("infinity", "infinity", &[0xfb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0]),
        ("undefined", "undefined", &[0xf7]),
        ("simple", "simple value 16", &[0xf0]),
        ("key-order", "keys b, a", b"\xa2\x61b\x00\x61a\x00"),
        ("key-length-order", "keys aa, b: the longer first", b"\xa2\x62aa\x00\x61b\x00"),
        ("key-twice", "keys a, a", b"\xa2\x61a\x00\x61a\x00"),
        ("key-bytes", "a byte string as key", b"\xa1\x41a\x00"),
        ("utf8", "a text that is not UTF-8", &[0x61, 0xff]),
        ("depth", "17 nested arrays; 16 are allowed", &deep),
    ];
    for (name, note, bytes) in cbor_cases {
        samples.refused(name, note, bytes, "any", class(&cbor::check(bytes).unwrap_err()));
    }
    let missing = |bytes: &[u8]| class(&cbor::from_slice::<BlobResponse>(bytes, FRAME_BYTES).unwrap_err());
    let plain = |bytes: &[u8]| class(&cbor::from_slice::<Requirements>(bytes, CONTROL_BYTES).unwrap_err());
    let blob = |bytes: &[u8]| class(&cbor::from_slice::<BlobRequest>(bytes, CONTROL_BYTES).unwrap_err());
    let cases: &[(&str, &'static str, &[u8], &'static str, &dyn Fn(&[u8]) -> &'static str)] = &[
        ("variant-with-value", "a plain variant as a map", b"\xa1\x67missing\xf6", "BlobResponse", &missing),
        ("variant-without-value", "a variant that has a value as text", b"\x64have", "BlobResponse", &missing),
        ("variant-unknown", "a variant of nobody", b"\x65maybe", "BlobResponse", &missing),
        (
            "integer-for-double",
            "eqs 1 where eqs 1.0 is meant",
            b"\xa3\x63eqs\x01\x63gps\xf4\x67battery\x00",
            "Requirements",
            &plain,
        ),
        ("field-missing", "no gps", b"\xa2\x63eqs\xfb\0\0\0\0\0\0\0\0\x67battery\x00", "Requirements", &plain),
        (
            "number-too-large",
            "battery 256",
            b"\xa3\x63eqs\xfb\0\0\0\0\0\0\0\0\x63gps\xf4\x67battery\x19\x01\x00",
            "Requirements",
            &plain,
        ),
        (
            "key-number",
            "a number as key of a message",
            b"\xa4\x00\x00\x63eqs\xfb\0\0\0\0\0\0\0\0\x63gps\xf4\x67battery\x00",
            "Requirements",
            &plain,
        ),
        (
            "hash-short",
            "a hash of 3 bytes",
            b"\xa4\x61v\x01\x63len\x00\x64hash\x43abc\x66offset\x00",
            "BlobRequest",
            &blob,
        ),
    ];
    for (name, note, bytes, reader, read) in cases {
        assert_eq!(cbor::check(bytes), Ok(()), "{name}");
        samples.refused(name, note, bytes, reader, read(bytes));
    }

    // Envelopes that read well and prove nothing.
    let root: Root =
        cbor::from_slice(Envelope::from_slice::<Root>(&market.roots[1]).unwrap().payload(), 65_536).unwrap();
    let twice = Envelope::sign(&root, &[&key(1), &key(1)]).unwrap();
    let error = twice.verify::<Root>(&root.roles.root.keys, 2).unwrap_err();
    samples.refused(
        "same-key-twice",
        "root/2 signed twice by key 1: one of two",
        &twice.to_vec().unwrap(),
        "Root",
        error,
    );
    let mut changed = market.head.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    let error = Envelope::from_slice::<Head>(&changed).unwrap().verify::<Head>(&[key(3).public()], 1).unwrap_err();
    samples.refused("payload-changed", "head/2 with version 3 instead of 2", &changed, "Head", error);
    let wrong = Envelope::from_slice::<Root>(&market.head).unwrap();
    let error = wrong.verify::<Root>(&[key(3).public()], 1).unwrap_err();
    samples.refused("wrong-type", "head/2 where a root is expected", &market.head, "Root", error);
    let moved: Vec<u8> = replace(&market.head, b"\x64type\x64head", b"\x64type\x64root");
    let error = Envelope::from_slice::<Root>(&moved).unwrap().verify::<Root>(&[key(3).public()], 1).unwrap_err();
    samples.refused("type-moved", "head/2 with the type changed to root", &moved, "Root", error);
}

/// The kind of an error, without the words of a library.
fn class(error: &CborError) -> &'static str {
    match error {
        CborError::Truncated => "truncated",
        CborError::Trailing(_) => "trailing",
        CborError::Depth => "depth",
        CborError::Utf8 => "utf8",
        CborError::Form(_) => "form",
        CborError::Shape(_) => "shape",
        other => panic!("no vector has {other}"),
    }
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}
