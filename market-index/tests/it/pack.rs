//! Packing: the same folder is the same package everywhere, and a bundle carries it whole.

use std::path::Path;

use msm_market_index::{Package, pack_folder, read_sep, write_sep};
use msm_protocol::{
    ContentHash, cbor,
    limits::{PACKAGE_BYTES, WASM_BYTES},
    manifest::{Engine, Halo, Range, Split, Value, Variant},
};
use tempfile::TempDir;

use crate::fixture::{copy, package, service_toml, write};

fn sample() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/upper-case"))
}

/// Changes when the manifest's encoding does: every published hash would change with it.
const SAMPLE_HASH: &str = "bafkreibg7r24mwgek53i2yhrs4s4thbjk7p5ywtfc3uyz7bngza4wxotqq";

#[test]
fn a_copy_of_a_folder_has_the_same_hash() {
    let original = pack_folder(sample()).unwrap();
    let elsewhere = TempDir::new().unwrap();
    copy(sample(), elsewhere.path());
    write(elsewhere.path(), "README.md", "not packed");
    write(elsewhere.path(), ".msm/cache", "not packed");
    assert_eq!(pack_folder(elsewhere.path()).unwrap(), original);
    assert_eq!(original.hash.to_string(), SAMPLE_HASH);
    assert_eq!(write_sep(&original).unwrap(), write_sep(&pack_folder(elsewhere.path()).unwrap()).unwrap());
}

#[test]
fn what_is_not_the_service_leaves_no_trace_and_what_is_does() {
    let folder = TempDir::new().unwrap();
    copy(sample(), folder.path());
    let original = pack_folder(folder.path()).unwrap().hash;
    let text = std::fs::read_to_string(sample().join("service.toml")).unwrap();
    write(folder.path(), "service.toml", format!("# a comment\n{}", text.replace(" = ", "=")));
    assert_eq!(pack_folder(folder.path()).unwrap().hash, original);
    write(folder.path(), "service.toml", text.replace("2s", "3s"));
    assert_ne!(pack_folder(folder.path()).unwrap().hash, original);
    write(folder.path(), "service.toml", text);
    write(folder.path(), "src/main.js", "export function run(input) { return input }");
    assert_ne!(pack_folder(folder.path()).unwrap().hash, original);
}

#[test]
fn the_manifest_says_what_the_author_wrote() {
    let Package { manifest, manifest_bytes, hash, blobs } = pack_folder(sample()).unwrap();
    assert_eq!(hash, ContentHash::of(&manifest_bytes));
    assert_eq!((manifest.name.as_str(), manifest.version.as_str()), ("upper-case", "0.1.0"));
    assert_eq!(manifest.work.split, Split::Lines(100));
    assert!(manifest.work.deterministic);
    let names: Vec<_> = manifest.params.iter().map(|param| param.name.as_str()).collect();
    assert_eq!(names, ["mark", "times"]);
    assert_eq!(manifest.params[0].choices, [Value::Text("none".into()), Value::Text("star".into())]);
    assert_eq!(manifest.constraints.eqs, Range { max: 0, min: 0, default: Some(0) });
    assert_eq!(manifest.constraints.devices, Range { max: 16, min: 1, default: None });
    assert_eq!((manifest.limits.memory, manifest.limits.time_ms, manifest.limits.input), (16 << 20, 2_000, 1 << 20));
    let [variant] = manifest.variants.as_slice() else { panic!("{:?}", manifest.variants) };
    assert_eq!((variant.engine, variant.abi.as_str()), (Engine::Js, "msm-js-1"));
    assert_eq!(blobs.len(), 1);
    assert_eq!((blobs[0].0, blobs[0].1.len() as u64), (variant.hash, variant.size));
}

#[test]
fn every_split_and_constraint_form_is_understood() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "main.js", "export function run() {}");
    let radius = "[params]\nradius = { type = \"integer\", default = 3, minimum = 0 }\n";
    for (text, split) in [
        ("split = \"none\"", Split::None),
        ("split = \"bytes:64KiB\"", Split::Bytes(65_536)),
        ("split = \"lines:7\"", Split::Lines(7)),
        ("split = \"json-array\"", Split::JsonArray),
        ("split = \"image-rows\"", Split::ImageRows(Halo::Rows(0))),
        ("split = \"image-rows\"\nhalo = 4", Split::ImageRows(Halo::Rows(4))),
        ("split = \"image-rows\"\nhalo = \"radius\"", Split::ImageRows(Halo::Param("radius".into()))),
        ("split = \"service\"", Split::Service),
    ] {
        write(folder.path(), "service.toml", format!("{}{radius}[work]\n{text}\n", service_toml("a-b", "1.0.0")));
        assert_eq!(pack_folder(folder.path()).unwrap().manifest.work.split, split, "{text}");
    }
    for (text, range) in [
        ("", Range { max: 64, min: 1, default: None }),
        ("devices = 4", Range { max: 4, min: 4, default: Some(4) }),
        ("devices = \"auto\"", Range { max: 64, min: 1, default: None }),
        ("devices = { max = 8 }", Range { max: 8, min: 1, default: None }),
        ("devices = { default = 2, min = 2 }", Range { max: 64, min: 2, default: Some(2) }),
    ] {
        write(folder.path(), "service.toml", format!("{}[constraints]\n{text}\n", service_toml("a-b", "1.0.0")));
        assert_eq!(pack_folder(folder.path()).unwrap().manifest.constraints.devices, range, "{text}");
    }
    write(
        folder.path(),
        "service.toml",
        format!("{}[constraints]\nbattery = {{ min = 30 }}", service_toml("a-b", "1.0.0")),
    );
    let battery = pack_folder(folder.path()).unwrap().manifest.constraints.battery;
    assert_eq!(battery, Range { max: 100, min: 30, default: Some(30) });
}

#[test]
fn a_bundle_reads_back_and_has_one_form() {
    let package = pack_folder(sample()).unwrap();
    let bundle = write_sep(&package).unwrap();
    assert_eq!(read_sep(&bundle).unwrap(), package);
    for end in 0..bundle.len() {
        assert!(read_sep(&bundle[..end]).is_err(), "{end}");
    }
    assert!(read_sep(&[bundle.as_slice(), &[0]].concat()).is_err());
}

#[test]
fn a_bundle_with_any_bit_changed_is_refused() {
    let bundle = write_sep(&package("echo", "1.0.0", "export function run(input) { return input }")).unwrap();
    let whole = read_sep(&bundle).unwrap();
    for at in 0..bundle.len() {
        let mut changed = bundle.clone();
        changed[at] ^= 1;
        // A change inside the manifest can only give another package, under another hash.
        if let Ok(read) = read_sep(&changed) {
            assert_ne!(read.hash, whole.hash, "{at}");
        }
    }
}

#[test]
fn packages_whose_parts_do_not_belong_together_are_not_bundled() {
    let (a, b) = (package("one", "1.0.0", "1"), package("two", "1.0.0", "2"));
    for wrong in [
        Package { blobs: b.blobs.clone(), ..a.clone() },
        Package { blobs: Vec::new(), ..a.clone() },
        Package { blobs: [a.blobs.clone(), b.blobs.clone()].concat(), ..a.clone() },
        Package { hash: b.hash, ..a.clone() },
        Package { manifest: b.manifest.clone(), ..a.clone() },
    ] {
        let error = write_sep(&wrong).unwrap_err().to_string();
        assert!(error.starts_with("bad-package: "), "{error}");
    }
    let huge = read_sep(&vec![0x40; PACKAGE_BYTES + 64 * 1024]).unwrap_err().to_string();
    assert!(huge.contains("over its limit"), "{huge}");
}

/// The manifest of `package` with these variants instead of its own.
fn with_variants(package: &Package, engine: Engine, variants: &[Vec<u8>]) -> Vec<u8> {
    let mut manifest = package.manifest.clone();
    manifest.variants = variants
        .iter()
        .map(|bytes| Variant {
            engine,
            hash: ContentHash::of(bytes),
            size: bytes.len() as u64,
            files: vec![],
            ..manifest.variants[0].clone()
        })
        .collect();
    cbor::to_vec(&manifest).unwrap()
}

/// B39: a bundle that was not made by `pack` is held to the same rules.
#[test]
fn b39_bytecode_in_a_bundle_is_a_bad_package() {
    let package = package("echo", "1.0.0", "export function run(input) { return input }");
    for bytes in [&b"\x43\x04\x02run\x00\xff\xfe"[..], b"\x05\x01run", b"\0asm\x01\0\0\0"] {
        let variants = vec![bytes.to_vec()];
        let error = Package::from_parts(with_variants(&package, Engine::Js, &variants), variants).unwrap_err();
        assert!(error.to_string().starts_with("bad-package: variant 1: "), "{error}");
    }
}

#[test]
fn a_package_that_is_too_large_as_a_whole_is_refused() {
    let package = package("echo", "1.0.0", "export function run(input) { return input }");
    let wasm = |n: u8| {
        let mut bytes = b"\0asm\x01\0\0\0".to_vec();
        bytes.resize(WASM_BYTES, n);
        bytes
    };
    let pack = |count| {
        let variants: Vec<Vec<u8>> = (0..count).map(wasm).collect();
        Package::from_parts(with_variants(&package, Engine::Wasm, &variants), variants).map_err(|e| e.to_string())
    };
    assert!(pack(1).is_ok());
    assert!(pack(2).unwrap_err().contains(&format!("at most {PACKAGE_BYTES} are allowed")));
}

/// The service that ships with MSM, once it is there.
#[test]
fn the_shipped_services_pack() {
    let services = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../services"));
    let mut packed = 0;
    for folder in std::fs::read_dir(services).unwrap().map(|entry| entry.unwrap().path()) {
        if folder.join("service.toml").exists() {
            let package = pack_folder(&folder).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(read_sep(&write_sep(&package).unwrap()).unwrap(), package);
            assert_eq!(folder.file_name().and_then(|name| name.to_str()), Some(package.manifest.name.as_str()));
            packed += 1;
        }
    }
    assert!(packed > 0, "no service in {}", services.display());
}
