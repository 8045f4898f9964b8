//! Random messages and random damage: `decode(encode(x)) == x`, and no bytes make a decoder panic.

use msm_protocol::{
    ContentHash, Envelope, JobId, Manifest, MarketId, PeerId, PublicKey, Refusal, RefusalCode, Signature, Signed, cbor,
    device::{DeviceExt, DeviceInfo, Network, Requirements},
    document::{
        Child, Delegation, Entry, Head, Index, Mention, Page, Policy, Release, ReleaseKey, Review, Revocation, Role,
        Roles, Root, Status, Target,
    },
    job::{
        Accept, Chunk, Claim, Done, Heartbeat, Job, JobRefused, Offer, Outcome, Receipt, TaskHeader, TaskOp,
        TaskResult, ToRequester, ToWorker,
    },
    limits::FRAME_BYTES,
    manifest::{
        Constraints, Engine, FileRef, Halo, Limits, Param, ParamType, Permissions, Range, Split, Value, Variant, Work,
    },
    message::{BlobRange, BlobRequest, BlobResponse, Discovery, HeadRequest, HeadResponse, Presence},
    review::{Report, ReportCheck},
};
use proptest::{collection::vec, option, prelude::*};
use serde::{Serialize, de::DeserializeOwned};
use serde_bytes::ByteBuf;

use crate::{
    sample::{self, DECODERS},
    samples,
};

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z/-]{0,12}", ".{0,12}"]
}

fn double() -> impl Strategy<Value = f64> {
    use proptest::num::f64::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO
}

fn bytes() -> impl Strategy<Value = ByteBuf> {
    vec(any::<u8>(), 0..300).prop_map(ByteBuf::from)
}

fn hash() -> impl Strategy<Value = ContentHash> {
    any::<[u8; 32]>().prop_map(ContentHash::from_bytes)
}

fn market() -> impl Strategy<Value = MarketId> {
    any::<[u8; 32]>().prop_map(MarketId::from_bytes)
}

fn key() -> impl Strategy<Value = PublicKey> {
    any::<u8>().prop_map(|seed| sample::key(seed).public())
}

fn network() -> impl Strategy<Value = Network> {
    prop_oneof![Just(Network::Off), Just(Network::Low), Just(Network::High)]
}

fn need() -> impl Strategy<Value = Requirements> {
    (double(), any::<bool>(), any::<u8>(), option::of(network()))
        .prop_map(|(eqs, gps, battery, network)| Requirements { eqs, gps, battery, network })
}

fn refusal() -> impl Strategy<Value = Refusal> {
    (prop::sample::select(&RefusalCode::ALL[..]), text()).prop_map(|(code, reason)| Refusal::new(code, reason))
}

fn device() -> impl Strategy<Value = DeviceInfo> {
    let ext = (
        double(),
        double(),
        text(),
        any::<u16>(),
        any::<u16>(),
        double(),
        double(),
        vec(text(), 0..4),
        vec(market(), 0..4),
    );
    let ext = ext.prop_map(|(cpu, mem, name, cores, slots, speed, battery, engines, markets)| DeviceExt {
        cpu,
        mem,
        name,
        cores,
        slots,
        speed,
        battery,
        engines,
        markets,
    });
    (any::<u8>(), double(), ext, any::<bool>(), network(), any::<bool>())
        .prop_map(|(v, eqs, ext, gps, network, availability)| DeviceInfo { v, eqs, ext, gps, network, availability })
}

fn chunk() -> impl Strategy<Value = Chunk> {
    (any::<u64>(), any::<u64>(), bytes()).prop_map(|(at, id, bytes)| Chunk { at, id, bytes })
}

fn to_worker() -> impl Strategy<Value = ToWorker> {
    let op = prop_oneof![Just(TaskOp::Run), Just(TaskOp::Split)];
    let engine = option::of(prop_oneof![Just(Engine::Js), Just(Engine::Wasm)]);
    let offer = (any::<u8>(), need(), market(), any::<u64>(), hash(), op, engine, text()).prop_map(
        |(v, need, market, version, manifest, op, engine, name)| {
            ToWorker::Offer(Box::new(Offer { v, op, name, need, engine, market, version, manifest }))
        },
    );
    let job = (any::<[u8; 16]>(), any::<u32>(), any::<u32>(), text()).prop_map(|(job, slot, tasks, params)| {
        ToWorker::Job(Box::new(Job { job: JobId::from_bytes(job), slot, tasks, params }))
    });
    let task = (any::<u64>(), hash(), any::<u64>(), any::<u32>(), any::<u32>(), option::of(bytes())).prop_map(
        |(id, hash, size, slot, task, bytes)| ToWorker::Task(TaskHeader { id, hash, size, slot, task, bytes }),
    );
    prop_oneof![
        offer,
        job,
        task,
        chunk().prop_map(ToWorker::Chunk),
        any::<u64>().prop_map(ToWorker::Cancel),
        any::<u32>().prop_map(ToWorker::Over),
        Just(ToWorker::Done),
    ]
}

fn to_requester() -> impl Strategy<Value = ToRequester> {
    let done = (hash(), any::<u64>(), option::of(bytes()), any::<u64>(), option::of(any::<u64>()))
        .prop_map(|(hash, size, bytes, cpu_us, input_us)| Done { hash, size, bytes, cpu_us, input_us })
        .prop_map(Outcome::Done);
    let outcome = prop_oneof![done, refusal().prop_map(Outcome::Failed)];
    let result =
        (any::<u64>(), outcome).prop_map(|(id, outcome)| ToRequester::Result(Box::new(TaskResult { id, outcome })));
    prop_oneof![
        (any::<u32>(), text()).prop_map(|(credit, engine)| ToRequester::Accept(Accept { credit, engine })),
        refusal().prop_map(ToRequester::Refuse),
        (any::<u32>(), refusal()).prop_map(|(slot, refusal)| ToRequester::JobRefused(JobRefused { slot, refusal })),
        vec(any::<u64>(), 0..5).prop_map(|ids| ToRequester::Heartbeat(Heartbeat { ids })),
        result,
        chunk().prop_map(ToRequester::Chunk),
        bytes().prop_map(ToRequester::Receipt),
    ]
}

fn blob_response() -> impl Strategy<Value = BlobResponse> {
    prop_oneof![
        (vec(bytes(), 0..3), any::<u64>(), bytes()).prop_map(|(more, size, bytes)| BlobResponse::Have(BlobRange {
            more,
            size,
            bytes
        })),
        Just(BlobResponse::Missing),
        refusal().prop_map(BlobResponse::Refused),
    ]
}

fn signature() -> impl Strategy<Value = Signature> {
    vec(any::<u8>(), 64).prop_map(|bytes| Signature::from_bytes(bytes.try_into().unwrap()))
}

fn review() -> impl Strategy<Value = Review> {
    (hash(), key()).prop_map(|(report, reviewer)| Review { report, reviewer })
}

fn mention() -> impl Strategy<Value = Mention> {
    (text(), text()).prop_map(|(word, service)| Mention { word, service })
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![hash().prop_map(Target::Package), key().prop_map(Target::Publisher)]
}

fn revocation() -> impl Strategy<Value = Revocation> {
    (any::<u64>(), text(), target()).prop_map(|(since, reason, target)| Revocation { since, reason, target })
}

fn pages<E: Entry + std::fmt::Debug>(
    entry: impl Strategy<Value = E>,
    first: impl Strategy<Value = E::Key>,
) -> impl Strategy<Value = Page<E>> {
    let child = (hash(), first).prop_map(|(page, first)| Child { page, first });
    prop_oneof![vec(entry, 0..6).prop_map(Page::Leaf), vec(child, 0..6).prop_map(Page::Inner)]
}

fn report() -> impl Strategy<Value = Report> {
    let check = (text(), option::of(text())).prop_map(|(what, fault)| ReportCheck { what, fault });
    let texts = (text(), text(), text());
    let numbers = (any::<u8>(), any::<u64>(), any::<u64>(), any::<u8>());
    (texts, numbers, vec(check, 0..4), any::<bool>(), hash(), option::of(any::<bool>())).prop_map(
        |((name, note, version), (v, longest_ms, issued, rating), checks, passed, manifest, variants_agree)| Report {
            v,
            name,
            note,
            checks,
            issued,
            passed,
            rating,
            version,
            manifest,
            longest_ms,
            variants_agree,
        },
    )
}

fn release() -> impl Strategy<Value = Release> {
    let status = prop_oneof![Just(Status::Active), Just(Status::Yanked), Just(Status::Revoked)];
    let texts = (text(), text(), text(), text());
    let by = (key(), option::of(signature()), vec(review(), 0..3));
    (texts, any::<u64>(), any::<u8>(), status, vec(text(), 0..3), hash(), by).prop_map(
        |(
            (name, scope, summary, version),
            size,
            rating,
            status,
            engines,
            manifest,
            (publisher, signature, reviews),
        )| {
            Release {
                name,
                size,
                scope,
                rating,
                status,
                engines,
                reviews,
                summary,
                version,
                manifest,
                publisher,
                signature,
            }
        },
    )
}

fn release_key() -> impl Strategy<Value = ReleaseKey> {
    (text(), text()).prop_map(|(name, version)| ReleaseKey { name, version })
}

fn root() -> impl Strategy<Value = Root> {
    let role = || (vec(key(), 0..3), any::<u16>()).prop_map(|(keys, threshold)| Role { keys, threshold });
    let roles = (role(), role(), role()).prop_map(|(head, root, index)| Roles { head, root, index });
    (any::<u8>(), text(), roles, option::of(market()), any::<u64>(), any::<u64>())
        .prop_map(|(v, name, roles, market, expires, version)| Root { v, name, roles, market, expires, version })
}

fn index() -> impl Strategy<Value = Index> {
    let hash = || option::of(hash());
    let hashes = (hash(), hash(), hash(), hash(), market());
    let policy = (any::<u16>(), vec(key(), 0..3)).prop_map(|(reviews, reviewers)| Policy { reviews, reviewers });
    let delegation = (vec(key(), 0..3), text()).prop_map(|(keys, prefix)| Delegation { keys, prefix });
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
    (any::<u8>(), hashes, numbers, policy, vec(delegation, 0..3)).prop_map(
        |(v, (prev, names, words, revoked, market), (issued, expires, version, releases), policy, delegations)| Index {
            v,
            prev,
            names,
            words,
            issued,
            market,
            policy,
            expires,
            revoked,
            version,
            releases,
            delegations,
        },
    )
}

fn head() -> impl Strategy<Value = Head> {
    (any::<u8>(), hash(), any::<u64>(), any::<u64>(), any::<u64>(), market(), any::<u64>(), any::<u64>()).prop_map(
        |(v, hash, root, size, issued, market, expires, version)| Head {
            v,
            hash,
            root,
            size,
            issued,
            market,
            expires,
            version,
        },
    )
}

fn presence() -> impl Strategy<Value = Presence> {
    (any::<u8>(), any::<u64>(), vec(text(), 0..9)).prop_map(|(v, time, addresses)| Presence { v, time, addresses })
}

fn claim() -> impl Strategy<Value = Claim> {
    (any::<[u8; 16]>(), any::<u32>(), hash(), hash()).prop_map(|(job, task, input, output)| Claim {
        job: JobId::from_bytes(job),
        task,
        input,
        output,
    })
}

fn receipt() -> impl Strategy<Value = Receipt> {
    (any::<u8>(), key(), vec(claim(), 0..5), hash()).prop_map(|(v, key, claims, package)| Receipt {
        v,
        peer: PeerId::of(&key),
        claims,
        package,
    })
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Integer),
        double().prop_map(Value::Number),
        text().prop_map(Value::Text),
    ]
}

fn param() -> impl Strategy<Value = Param> {
    const TYPES: [ParamType; 4] = [ParamType::Boolean, ParamType::Integer, ParamType::Number, ParamType::String];
    let bounds = (option::of(double()), option::of(double()));
    (vec(value(), 0..3), text(), prop::sample::select(&TYPES[..]), option::of(value()), bounds, text()).prop_map(
        |(choices, name, r#type, default, (maximum, minimum), description)| Param {
            choices,
            name,
            r#type,
            default,
            maximum,
            minimum,
            description,
        },
    )
}

fn split() -> impl Strategy<Value = Split> {
    prop_oneof![
        Just(Split::None),
        any::<u64>().prop_map(Split::Bytes),
        any::<u64>().prop_map(Split::Lines),
        Just(Split::JsonArray),
        any::<u32>().prop_map(|rows| Split::ImageRows(Halo::Rows(rows))),
        text().prop_map(|name| Split::ImageRows(Halo::Param(name))),
        Just(Split::Service),
    ]
}

/// Any manifest that can be written down, kept or not by its own rules.
fn manifest() -> impl Strategy<Value = Manifest> {
    let range = || {
        (any::<u32>(), any::<u32>(), option::of(any::<u32>())).prop_map(|(max, min, default)| Range {
            max,
            min,
            default,
        })
    };
    let constraints = (range(), any::<bool>(), range(), range(), option::of(network()))
        .prop_map(|(eqs, gps, battery, devices, network)| Constraints { eqs, gps, battery, devices, network });
    let permissions = (option::of(text()), vec(text(), 0..3), any::<[bool; 4]>())
        .prop_map(|(gps, net, [clock, image, device, random])| Permissions { gps, net, clock, image, device, random });
    let engine = prop_oneof![Just(Engine::Js), Just(Engine::Wasm)];
    let file = || (hash(), text(), any::<u64>()).prop_map(|(hash, path, size)| FileRef { hash, path, size });
    let variant = (text(), hash(), any::<u64>(), vec(file(), 0..3), engine)
        .prop_map(|(abi, hash, size, files, engine)| Variant { abi, hash, size, files, engine });
    let limits =
        any::<[u64; 4]>().prop_map(|[input, memory, output, time_ms]| Limits { input, memory, output, time_ms });
    let texts = (text(), text(), text(), text(), text(), text());
    let lists = (vec(text(), 0..3), vec(text(), 0..3), vec(param(), 0..4), vec(variant, 0..3), vec(file(), 0..3));
    (any::<u8>(), texts, lists, (split(), any::<[bool; 3]>()), limits, constraints, permissions).prop_map(
        |(
            v,
            (name, scope, output, license, summary, version),
            (input, authors, params, variants, assets),
            (split, [remote, private, deterministic]),
            limits,
            constraints,
            permissions,
        )| Manifest {
            v,
            name,
            work: Work { split, remote, private, deterministic },
            input,
            scope,
            assets,
            limits,
            output,
            params,
            authors,
            license,
            summary,
            version,
            variants,
            constraints,
            permissions,
        },
    )
}

fn reads_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let bytes = cbor::to_vec(value).unwrap();
    assert_eq!(cbor::check(&bytes), Ok(()));
    assert_eq!(cbor::from_slice::<T>(&bytes, FRAME_BYTES).as_ref(), Ok(value));
}

fn signs_and_reads_back<T: Signed + PartialEq + std::fmt::Debug>(document: &T, seed: u8) {
    let key = sample::key(seed);
    let bytes = Envelope::sign(document, &[&key]).unwrap().to_vec().unwrap();
    let envelope = Envelope::from_slice::<T>(&bytes).unwrap();
    assert_eq!(*envelope.verify_from::<T>(&key.public()).unwrap(), *document);
    assert_eq!(envelope.to_vec().as_ref(), Ok(&bytes));
    assert!(envelope.verify_from::<T>(&sample::key(seed ^ 1).public()).is_err());
}

/// Damage that keeps most of a message: bytes overwritten, removed, doubled or swapped with another message's.
fn damage(bytes: &mut Vec<u8>, other: &[u8], hits: &[(u8, u16, u16, u8)]) {
    for (kind, at, length, byte) in hits {
        if bytes.is_empty() {
            return;
        }
        let at = usize::from(*at) % bytes.len();
        let end = (at + usize::from(*length) % 16 + 1).min(bytes.len());
        match kind % 6 {
            0 => bytes[at] = *byte,
            1 => bytes[at] ^= 1 << (byte % 8),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => {
                let from = usize::from(*length) % other.len().max(1);
                let piece = other[from..(from + usize::from(*byte)).min(other.len())].to_vec();
                bytes.splice(at..end, piece);
            }
            _ => bytes.truncate(end),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_read_back(
        discovery in (any::<u8>(), option::of(need())).prop_map(|(v, need)| Discovery { v, need }),
        device in device(),
        head_request in (any::<u8>(), any::<u64>(), market(), option::of(any::<u64>())).prop_map(|(v, root, market, version)| HeadRequest { v, root, market, version }),
        head_response in (option::of(bytes()), option::of(bytes()), vec(bytes(), 0..5)).prop_map(|(head, past, roots)| HeadResponse { head, past, roots }),
        blob_request in (any::<u8>(), any::<u32>(), hash(), any::<u32>(), any::<u64>()).prop_map(|(v, len, hash, more, offset)| BlobRequest { v, len, hash, more, offset }),
        blob_response in blob_response(),
    ) {
        reads_back(&discovery);
        reads_back(&device);
        reads_back(&device.clamped());
        reads_back(&head_request);
        reads_back(&head_response);
        reads_back(&blob_request);
        reads_back(&blob_response);
    }

    #[test]
    fn frames_read_back(to_worker in to_worker(), to_requester in to_requester()) {
        reads_back(&to_worker);
        reads_back(&to_requester);
    }

    #[test]
    fn manifests_and_pages_read_back(
        manifest in manifest(),
        releases in pages(release(), release_key()),
        words in pages(mention(), mention()),
        revoked in pages(revocation(), target()),
    ) {
        let _ = manifest.check();
        let _ = manifest.resolve_params(&serde_json::Map::new());
        reads_back(&manifest);
        reads_back(&releases);
        reads_back(&words);
        reads_back(&revoked);
    }

    #[test]
    fn documents_are_signed_and_read_back(
        root in root(), index in index(), head in head(), presence in presence(), receipt in receipt(), report in report(), seed: u8,
    ) {
        signs_and_reads_back(&root, seed);
        signs_and_reads_back(&index, seed);
        signs_and_reads_back(&head, seed);
        signs_and_reads_back(&presence, seed);
        signs_and_reads_back(&receipt, seed);
        signs_and_reads_back(&report, seed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever arrives on whatever protocol: an error or a message that is read in one way.
    #[test]
    fn damaged_vectors_never_panic(
        which in any::<prop::sample::Index>(),
        with in any::<prop::sample::Index>(),
        hits in vec(any::<(u8, u16, u16, u8)>(), 1..5),
    ) {
        static SAMPLES: std::sync::LazyLock<Vec<sample::Sample>> = std::sync::LazyLock::new(samples::all);
        let mut bytes = which.get(&SAMPLES).bytes.clone();
        damage(&mut bytes, &with.get(&SAMPLES).bytes, &hits);
        for again in DECODERS {
            let _ = again(&bytes);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        for again in DECODERS {
            let _ = again(&bytes);
        }
    }
}
