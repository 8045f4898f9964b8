//! Packing: every mistake is an error that names the file, the line and the key.

use msm_market_index::{PackError, pack_folder};
use msm_protocol::limits::JS_BYTES;
use tempfile::TempDir;

use crate::fixture::{service_toml, write};

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "service.toml", service_toml("good", "1.0.0"));
    write(folder.path(), "main.js", "export function run() {}");
    pack_folder(folder.path()).unwrap();
    folder
}

/// Lines of `service_toml`: 1 [service], 2 name, 3 version, 4 summary, 5 scope, 6 license, 7 [io], 8 input, 9 output,
/// 10 [[variant]], 11 engine, 12 file, then what a case adds.
#[test]
fn mistakes_in_service_toml_are_named_by_line_and_key() {
    let cases: &[(&str, &str, &str)] = &[
        ("name = \"good\"", "name = \"Good\"", "service.toml:2: service.name: must be"),
        ("name = \"good\"", "name = \"../../x\"", "service.toml:2: service.name: must be"),
        ("name = \"good\"", "name = 3", "service.toml:2: service.name: invalid type"),
        ("name = \"good\"", "", "service.toml:1: service: missing field `name`"),
        ("name = \"good\"", "name = \"good\"\nnmae = \"x\"", "service.toml:3: service.nmae: unknown field `nmae`"),
        ("\"1.0.0\"", "\"1.0\"", "service.toml:3: service.version: must be a semantic version"),
        ("\"For tests\"", "\"a\\nb\"", "service.toml:4: service.summary: must be one line"),
        ("\"For tests\"", "\"\\u202egpj\"", "service.toml:4: service.summary: must be one line"),
        ("scope = \"test\"", "scope = \"/etc\"", "service.toml:5: service.scope: must be a path"),
        ("[io]", "[ios]", "service.toml:7: ios: unknown field `ios`"),
        ("input = \"none\"", "input = []", "service.toml:8: io.input: must list"),
        ("input = \"none\"", "input = 7", "service.toml:8: io.input: invalid type"),
        ("output = \"text/plain\"", "output = ", "service.toml:9: syntax"),
        (
            "output = \"text/plain\"",
            "output = \"a\"\nmax-input = \"1MB\"",
            "service.toml:10: io.max-input: \"1MB\" is not a size",
        ),
        (
            "output = \"text/plain\"",
            "output = \"a\"\nmax-input = \"1GiB\"",
            "service.toml:10: io.max-input: 1073741824 must be",
        ),
        ("engine = \"js\"", "engine = \"python\"", "service.toml:11: variant[1].engine: unknown variant `python`"),
        (
            "engine = \"js\"",
            "engine = \"js\"\nabi = \"wasi-p1\"",
            "service.toml:12: variant[1].abi: \"wasi-p1\"; js has",
        ),
        ("\"main.js\"", "\"gone.js\"", "service.toml:12: variant[1].file: \"gone.js\" is missing"),
        (
            "\"main.js\"",
            "\"gone.js\"\nbuild = \"make\"",
            "service.toml:12: variant[1].file: \"gone.js\" is missing; build it: make",
        ),
        ("[[variant]]", "[limits]\ntime = \"1h\"\n[[variant]]", "service.toml:11: limits.time: \"1h\" is not a time"),
        ("[[variant]]", "[limits]\ntime = \"2m\"\n[[variant]]", "service.toml:11: limits.time: 120000 must be"),
        ("[[variant]]", "[limits]\nmemory = \"0B\"\n[[variant]]", "service.toml:11: limits.memory: 0 must be"),
        ("[[variant]]", "[work]\nsplit = \"rows\"\n[[variant]]", "service.toml:11: work.split: \"rows\" is not one of"),
        ("[[variant]]", "[work]\nsplit = \"lines:0\"\n[[variant]]", "service.toml:11: work.split: lines:0"),
        ("[[variant]]", "[work]\nsplit = \"lines:-1\"\n[[variant]]", "service.toml:11: work.split: \"-1\" is not"),
        ("[[variant]]", "[work]\nhalo = 3\n[[variant]]", "service.toml:11: work.halo: has a meaning only"),
        (
            "[[variant]]",
            "[work]\nsplit = \"image-rows\"\nhalo = \"radius\"\n[[variant]]",
            "service.toml:12: work.halo: \"radius\" must be",
        ),
        (
            "[[variant]]",
            "[work]\nsplit = \"image-rows\"\nhalo = -1\n[[variant]]",
            "service.toml:12: work.halo: -1 must be",
        ),
        (
            "[[variant]]",
            "[constraints]\ngps = \"YES\"\n[[variant]]",
            "service.toml:11: constraints.gps: unknown variant `YES`",
        ),
        (
            "[[variant]]",
            "[constraints]\nnetwork = \"high\"\n[[variant]]",
            "service.toml:11: constraints.network: unknown variant",
        ),
        (
            "[[variant]]",
            "[constraints]\nbattery = 101\n[[variant]]",
            "service.toml:11: constraints.battery: must be min",
        ),
        (
            "[[variant]]",
            "[constraints]\nbattery = \"auto\"\n[[variant]]",
            "service.toml:11: constraints.battery: has no \"auto\"",
        ),
        (
            "[[variant]]",
            "[constraints]\neqs = { min = 9, max = 3 }\n[[variant]]",
            "service.toml:11: constraints.eqs: must be min",
        ),
        (
            "[[variant]]",
            "[constraints]\neqs = { least = 9 }\n[[variant]]",
            "service.toml:11: constraints.eqs.least: unknown field",
        ),
        ("[[variant]]", "[constraints]\ndevices = -4\n[[variant]]", "service.toml:11: constraints.devices: -4 must be"),
        (
            "[[variant]]",
            "[constraints]\ndevices = { default = \"all\" }\n[[variant]]",
            "service.toml:11: constraints.devices.default: \"all\" is not",
        ),
        (
            "[[variant]]",
            "[permissions]\nfiles = true\n[[variant]]",
            "service.toml:11: permissions.files: unknown field",
        ),
        (
            "[[variant]]",
            "[permissions]\ngps = \"exact\"\n[[variant]]",
            "service.toml:11: permissions.gps: unknown variant",
        ),
        (
            "[[variant]]",
            "[permissions]\nnet = [\"https://*\"]\n[[variant]]",
            "service.toml:11: permissions.net: \"https://*\" must be",
        ),
        (
            "[[variant]]",
            "[params]\nn = { type = \"int\" }\n[[variant]]",
            "service.toml:11: params.n.type: unknown variant `int`",
        ),
        (
            "[[variant]]",
            "[params]\nnn = { type = \"integer\", default = 7, maximum = 5 }\n[[variant]]",
            "service.toml:11: params.nn: 7 is outside",
        ),
        (
            "[[variant]]",
            "[params]\nnn = { type = \"integer\", default = [] }\n[[variant]]",
            "service.toml:11: params.nn.default: is a TOML array",
        ),
        (
            "[[variant]]",
            "[params]\n\"a b\" = { type = \"integer\" }\n[[variant]]",
            "service.toml:11: params.a b: a name must be",
        ),
        ("[service]", "schema = 2\n[service]", "service.toml:1: schema: version 2 is not 1"),
    ];
    for (from, to, expected) in cases {
        let folder = folder();
        let text = service_toml("good", "1.0.0");
        assert!(text.contains(from), "{from}");
        write(folder.path(), "service.toml", text.replacen(from, to, 1));
        let error = pack_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{to}\n  expected {expected}\n  got      {error}");
    }
}

#[test]
fn a_number_written_without_a_point_is_a_number() {
    let folder = folder();
    let param = "[params]\nscale = { type = \"number\", default = 1, enum = [1, 2.5], minimum = 0 }\n";
    write(folder.path(), "service.toml", format!("{}{param}", service_toml("good", "1.0.0")));
    pack_folder(folder.path()).unwrap();
}

/// B39: what is not source text does not become a package.
#[test]
fn b39_bytecode_and_other_binaries_are_bad_packages() {
    let cases: &[(&[u8], &str)] = &[
        (b"\x43\x04\x02run\x00\xff\xfe", "is not UTF-8 text"),
        (b"\x05\x01\x02run", "control character"),
        (b"\0asm\x01\0\0\0", "control character"),
        (b"export function run() {}\0", "control character"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (&[b'a'; JS_BYTES + 1], "is larger than"),
    ];
    for (bytes, expected) in cases {
        let folder = folder();
        write(folder.path(), "main.js", bytes);
        let error = pack_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("bad-package") && error.contains("main.js") && error.contains(expected), "{error}");
    }
    for (bytes, good) in
        [(&b"\0asm\x01\0\0\0"[..], true), (b"\0asm\x0d\0\x01\0", false), (b"\x7fELF", false), (b"(module)", false)]
    {
        let folder = folder();
        write(folder.path(), "main.js", bytes);
        write(folder.path(), "service.toml", service_toml("good", "1.0.0").replace("\"js\"", "\"wasm\""));
        assert_eq!(pack_folder(folder.path()).is_ok(), good, "{bytes:?}");
    }
}

#[test]
fn files_outside_the_folder_are_not_packed() {
    let outside = TempDir::new().unwrap();
    write(outside.path(), "secret.js", "export const secret = 1");
    let secret = outside.path().join("secret.js");
    for path in
        ["../secret.js", "/etc/passwd", "src/../../secret.js", "./../x", "", "a\\\\b", "C:x", secret.to_str().unwrap()]
    {
        let folder = folder();
        write(folder.path(), "service.toml", service_toml("good", "1.0.0").replace("main.js", path));
        let error = pack_folder(folder.path()).unwrap_err();
        assert!(
            matches!(&error, PackError::File { reason, .. } if reason.contains("inside the folder")),
            "{path}: {error}"
        );
    }
}

#[cfg(unix)]
#[test]
fn links_out_of_the_folder_are_refused_and_links_inside_are_followed() {
    use std::os::unix::fs::symlink;
    let outside = TempDir::new().unwrap();
    write(outside.path(), "secret.js", "export const secret = 1");
    let replace = |target: &std::path::Path| {
        let folder = folder();
        std::fs::remove_file(folder.path().join("main.js")).unwrap();
        write(folder.path(), "src/real.js", "export function run() {}");
        symlink(target, folder.path().join("main.js")).unwrap();
        pack_folder(folder.path()).map_err(|e| e.to_string())
    };
    assert!(replace(&outside.path().join("secret.js")).unwrap_err().contains("out of the folder"));
    assert!(replace(outside.path()).unwrap_err().contains("out of the folder"));
    assert!(replace("/dev/zero".as_ref()).unwrap_err().contains("out of the folder"));
    assert!(replace("src".as_ref()).unwrap_err().contains("not a regular file"));
    assert!(replace("src/real.js".as_ref()).is_ok());

    let folder = folder();
    let elsewhere = outside.path().join("service.toml");
    write(outside.path(), "service.toml", service_toml("good", "1.0.0"));
    std::fs::remove_file(folder.path().join("service.toml")).unwrap();
    symlink(elsewhere, folder.path().join("service.toml")).unwrap();
    assert!(pack_folder(folder.path()).unwrap_err().to_string().contains("out of the folder"));
}

#[test]
fn a_folder_without_a_service_is_not_found() {
    let empty = TempDir::new().unwrap();
    for path in [empty.path().to_owned(), empty.path().join("gone")] {
        let error = pack_folder(&path).unwrap_err();
        assert!(matches!(error, PackError::Io { .. }), "{error}");
    }
    write(empty.path(), "service.toml", [0xff, 0xfe]);
    assert!(pack_folder(empty.path()).unwrap_err().to_string().contains("is not UTF-8 text"));
    write(empty.path(), "service.toml", vec![b'#'; 100_000]);
    assert!(pack_folder(empty.path()).unwrap_err().to_string().contains("is larger than"));
}

#[test]
fn two_variants_of_the_same_bytes_are_a_mistake() {
    let folder = folder();
    let twice = "[[variant]]\nengine = \"js\"\nfile = \"main.js\"\n";
    write(folder.path(), "service.toml", format!("{}{twice}", service_toml("good", "1.0.0")));
    let error = pack_folder(folder.path()).unwrap_err().to_string();
    assert!(error.contains("service.toml:15: variant[2].file"), "{error}");
}
