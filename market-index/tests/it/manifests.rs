//! Every way in which a `service.toml` can be wrong, and what its author is told: place, key, reason, what to write.

use std::path::Path;

use msm_market_index::{Fault, PackError, pack_folder};
use msm_protocol::limits::{JS_BYTES, WASM_BYTES};
use tempfile::TempDir;

use crate::fixture::write;

/// A good one, with every section; the cases below change one thing each.
const GOOD: &str = r#"schema = 1
[service]
name = "good"
version = "1.0.0"
summary = "For tests"
scope = "test"
license = "MIT"
authors = ["Ada"]
[io]
input = "none"
output = "text/plain"
max-input = "1MiB"
[params]
size = { type = "integer", default = 3, minimum = 1, maximum = 9, description = "how big" }
[work]
split = "none"
deterministic = true
[constraints]
gps = "NREQ"
battery = 20
eqs = { default = 0, min = 0, max = 100 }
network = "N.A."
devices = "auto"
[permissions]
image = false
net = []
[limits]
memory = "64MiB"
time = "10s"
output = "8MiB"
[[variant]]
engine = "js"
file = "main.js"
"#;

fn folder(text: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "service.toml", text);
    write(folder.path(), "main.js", "export function run() {}");
    folder
}

fn faults(folder: &Path) -> Vec<Fault> {
    match pack_folder(folder) {
        Err(PackError::Manifest { faults, .. }) => faults,
        other => panic!("no faults of the manifest: {other:?}"),
    }
}

fn told(folder: &Path) -> String {
    let error = pack_folder(folder).unwrap_err().to_string();
    error.replace(&format!("{}/", folder.display()), "")
}

/// From, to, and the whole of what is said.
type Case = (&'static str, &'static str, &'static str);

const CASES: &[Case] = &[
    ("schema = 1", "schema = 2", "service.toml:1:10: schema: version 2 is not 1; write, for example: schema = 1"),
    (
        "schema = 1",
        "schema = \"1\"",
        "service.toml:1:10: schema: invalid type: string \"1\", expected a small whole number; write, for example: schema = 1",
    ),
    (
        "schema = 1",
        "schema = 300",
        "service.toml:1:10: schema: invalid value: integer 300, expected a small whole number; write, for example: schema = 1",
    ),
    ("schema = 1", "shema = 1", "service.toml:1:1: shema: there is no key \"shema\" here; did you mean \"schema\"?"),
    (
        "name = \"good\"",
        "name = \"Good\"",
        "service.toml:3:8: service.name: must be [a-z][a-z0-9-]{1,39} and not end with '-'; write, for example: name = \"image-blur\"",
    ),
    (
        "name = \"good\"",
        "name = \"../../x\"",
        "service.toml:3:8: service.name: must be [a-z][a-z0-9-]{1,39} and not end with '-'; write, for example: name = \"image-blur\"",
    ),
    (
        "name = \"good\"",
        "name = \"a\\u0000b\"",
        "service.toml:3:8: service.name: must be [a-z][a-z0-9-]{1,39} and not end with '-'; write, for example: name = \"image-blur\"",
    ),
    (
        "name = \"good\"",
        "name = \"con\"",
        "service.toml:3:8: service.name: must be [a-z][a-z0-9-]{1,39} and not end with '-'; write, for example: name = \"image-blur\"",
    ),
    (
        "name = \"good\"",
        "name = \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
        "service.toml:3:8: service.name: must be [a-z][a-z0-9-]{1,39} and not end with '-'; write, for example: name = \"image-blur\"",
    ),
    (
        "name = \"good\"",
        "name = \"a\\u202eb\"",
        "service.toml:3:8: service.name: must be [a-z][a-z0-9-]{1,39} and not end with '-'; write, for example: name = \"image-blur\"",
    ),
    (
        "name = \"good\"",
        "name = 3",
        "service.toml:3:8: service.name: invalid type: integer 3, expected a string; write, for example: name = \"image-blur\"",
    ),
    ("name = \"good\"", "", "service.toml:2:2: service.name: is missing; write, for example: name = \"image-blur\""),
    (
        "name = \"good\"",
        "name = \"good\"\nnmae = \"x\"",
        "service.toml:4:1: service.nmae: there is no key \"nmae\" here; did you mean \"name\"?",
    ),
    (
        "name = \"good\"",
        "name = \"good\"\nname = \"x\"",
        "service.toml:4:1: syntax: is not TOML: duplicate key; TOML has one  key = value  a line, and [section] above",
    ),
    (
        "[service]",
        "[servce]",
        "service.toml:2:2: servce: there is no key \"servce\" here; did you mean \"service\"?\nservice.toml: service: is missing: every service.toml has a section [service]; write, for example: [service]",
    ),
    (
        "\"1.0.0\"",
        "\"1.0\"",
        "service.toml:4:11: service.version: must be a semantic version such as 1.2.0; write, for example: version = \"1.2.0\"",
    ),
    (
        "\"1.0.0\"",
        "1.0",
        "service.toml:4:11: service.version: invalid type: floating point 1.0, expected a string; write, for example: version = \"1.2.0\"",
    ),
    (
        "\"1.0.0\"",
        "\"1.0.0-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"",
        "service.toml:4:11: service.version: must be a semantic version such as 1.2.0; write, for example: version = \"1.2.0\"",
    ),
    (
        "\"For tests\"",
        "\"a\\nb\"",
        "service.toml:5:11: service.summary: must be one line of at most 120 characters; write, for example: summary = \"Blur an image\"",
    ),
    (
        "\"For tests\"",
        "\"\\u202egpj\"",
        "service.toml:5:11: service.summary: must be one line of at most 120 characters; write, for example: summary = \"Blur an image\"",
    ),
    (
        "\"For tests\"",
        "\"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\"",
        "service.toml:5:11: service.summary: must be one line of at most 120 characters; write, for example: summary = \"Blur an image\"",
    ),
    (
        "\"For tests\"",
        "[\"a\"]",
        "service.toml:5:11: service.summary: invalid type: sequence, expected a string; write, for example: summary = \"Blur an image\"",
    ),
    (
        "scope = \"test\"",
        "scope = \"/etc\"",
        "service.toml:6:9: service.scope: must be a path of names such as media/image; write, for example: scope = \"media/image\"",
    ),
    (
        "scope = \"test\"",
        "scope = \"a/b/c/d/e\"",
        "service.toml:6:9: service.scope: must be a path of names such as media/image; write, for example: scope = \"media/image\"",
    ),
    (
        "scope = \"test\"",
        "scope = true",
        "service.toml:6:9: service.scope: invalid type: boolean true, expected a string; write, for example: scope = \"media/image\"",
    ),
    (
        "scope = \"test\"",
        "",
        "service.toml:2:2: service.scope: is missing; write, for example: scope = \"media/image\"",
    ),
    (
        "license = \"MIT\"",
        "license = \"MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM\"",
        "service.toml:7:11: service.license: must be one line of at most 64 characters; write, for example: license = \"MIT\"",
    ),
    (
        "license = \"MIT\"",
        "licence = \"MIT\"",
        "service.toml:2:2: service.license: is missing; write, for example: license = \"MIT\"\nservice.toml:7:1: service.licence: there is no key \"licence\" here; did you mean \"license\"?",
    ),
    (
        "authors = [\"Ada\"]",
        "authors = \"Ada\"",
        "service.toml:8:11: service.authors: invalid type: string \"Ada\", expected a list in [ ]; write, for example: authors = [\"Ada <ada@example.org>\"]",
    ),
    (
        "authors = [\"Ada\"]",
        "authors = [1]",
        "service.toml:8:12: service.authors[1]: invalid type: integer 1, expected a string; write, for example: authors = [\"Ada <ada@example.org>\"]",
    ),
    (
        "authors = [\"Ada\"]",
        "authors = [\"a\", \"a\", \"a\", \"a\", \"a\", \"a\", \"a\", \"a\", \"a\", \"a\", \"a\", \"a\", \"a\", \"a\", \"a\", \"a\", \"a\"]",
        "service.toml:8:11: service.authors: must be at most 16 lines of at most 120 characters; write, for example: authors = [\"Ada <ada@example.org>\"]",
    ),
    (
        "[io]",
        "[ios]",
        "service.toml:9:2: ios: there is no key \"ios\" here; did you mean \"io\"?\nservice.toml: io: is missing: every service.toml has a section [io]; write, for example: [io]",
    ),
    (
        "input = \"none\"",
        "input = []",
        "service.toml:10:9: io.input: must list 1 to 16 media types (or \"none\"); write, for example: input = [\"image/png\"], or input = \"none\"",
    ),
    (
        "input = \"none\"",
        "input = 7",
        "service.toml:10:9: io.input: invalid type: integer 7, expected a media type or a list of them; write, for example: input = [\"image/png\"], or input = \"none\"",
    ),
    (
        "input = \"none\"",
        "",
        "service.toml:9:2: io.input: is missing; write, for example: input = [\"image/png\"], or input = \"none\"",
    ),
    (
        "input = \"none\"",
        "input = [\"a\", 2]",
        "service.toml:10:15: io.input[2]: invalid type: integer 2, expected a string; write, for example: input = [\"image/png\"], or input = \"none\"",
    ),
    (
        "output = \"text/plain\"",
        "output = ",
        "service.toml:11:10: syntax: is not TOML: string values must be quoted, expected literal string; TOML has one  key = value  a line, and [section] above",
    ),
    (
        "output = \"text/plain\"",
        "output = \"ooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo\"",
        "service.toml:11:10: io.output: must be one line of at most 64 characters; write, for example: output = \"image/png\"",
    ),
    (
        "output = \"text/plain\"",
        "output = []",
        "service.toml:11:10: io.output: invalid type: sequence, expected a string; write, for example: output = \"image/png\"",
    ),
    (
        "\"1MiB\"",
        "\"1MB\"",
        "service.toml:12:13: io.max-input: \"1MB\" is not a size such as \"64MiB\" (B, KiB, MiB, GiB); write, for example: max-input = \"32MiB\"",
    ),
    (
        "\"1MiB\"",
        "\"1GiB\"",
        "service.toml:12:13: io.max-input: 1073741824 must be 1 to 67108864; write, for example: max-input = \"32MiB\"",
    ),
    (
        "\"1MiB\"",
        "\"0B\"",
        "service.toml:12:13: io.max-input: 0 must be 1 to 67108864; write, for example: max-input = \"32MiB\"",
    ),
    (
        "\"1MiB\"",
        "1048576",
        "service.toml:12:13: io.max-input: invalid type: integer 1048576, expected a string; write, for example: max-input = \"32MiB\"",
    ),
    (
        "[params]",
        "[[params]]",
        "service.toml:13:3: params: is a TOML array, expected a table of parameters; write, for example: [params]",
    ),
    (
        "size = {",
        "\"a b\" = {",
        "service.toml:14:9: params.a b: a name must be [a-z][a-z0-9_-]{1,39}; write, for example: radius = { type = \"integer\", default = 3, minimum = 1, maximum = 50 }",
    ),
    (
        "size = {",
        "s = {",
        "service.toml:14:5: params.s: a name must be [a-z][a-z0-9_-]{1,39}; write, for example: radius = { type = \"integer\", default = 3, minimum = 1, maximum = 50 }",
    ),
    (
        "\"integer\"",
        "\"int\"",
        "service.toml:14:17: params.size.type: \"int\" is not one of boolean, integer, number, string; write, for example: type = \"integer\", \"number\", \"string\" or \"boolean\"",
    ),
    (
        "type = \"integer\", ",
        "",
        "service.toml:14:1: params.size.type: is missing; write, for example: type = \"integer\", \"number\", \"string\" or \"boolean\"",
    ),
    (
        "default = 3",
        "default = 10",
        "service.toml:14:8: params.size: 10 is outside 1..9; write, for example: radius = { type = \"integer\", default = 3, minimum = 1, maximum = 50 }",
    ),
    (
        "default = 3",
        "default = \"3\"",
        "service.toml:14:8: params.size: must be an integer; write, for example: radius = { type = \"integer\", default = 3, minimum = 1, maximum = 50 }",
    ),
    (
        "default = 3",
        "default = []",
        "service.toml:14:38: params.size.default: is a TOML array, expected a number, a text, true or false; write, for example: default = 3",
    ),
    (
        "minimum = 1",
        "minimum = 10",
        "service.toml:14:51: params.size.minimum: 10 is above the maximum 9; write, for example: minimum = 1",
    ),
    (
        "minimum = 1",
        "minimum = nan",
        "service.toml:14:51: params.size.minimum: must be a finite number; write, for example: minimum = 1",
    ),
    (
        "minimum = 1",
        "minimum = \"1\"",
        "service.toml:14:51: params.size.minimum: invalid type: string \"1\", expected a number; write, for example: minimum = 1",
    ),
    (
        "minimum = 1",
        "min = 1",
        "service.toml:14:41: params.size.min: there is no key \"min\" here; known here: type, default, minimum, maximum, enum, description",
    ),
    (
        "default = 3",
        "enum = [[1]]",
        "service.toml:14:35: params.size.enum: is a TOML array, expected a number, a text, true or false; write, for example: enum = [\"fast\", \"fine\"]",
    ),
    (
        "default = 3",
        "enum = [100]",
        "service.toml:14:8: params.size: 100 is outside 1..9; write, for example: radius = { type = \"integer\", default = 3, minimum = 1, maximum = 50 }",
    ),
    (
        "description = \"how big\"",
        "description = 7",
        "service.toml:14:81: params.size.description: invalid type: integer 7, expected a string; write, for example: description = \"blur radius in pixels\"",
    ),
    (
        "size = { type",
        "size = 3 #",
        "service.toml:14:8: params.size: invalid type: integer 3, expected a table in { }; write, for example: radius = { type = \"integer\", default = 3, minimum = 1, maximum = 50 }",
    ),
    (
        "split = \"none\"",
        "split = \"rows\"",
        "service.toml:16:9: work.split: \"rows\" is not one of none, bytes:SIZE, lines:N, json-array, image-rows or service; write, for example: split = \"none\", \"bytes:64KiB\", \"lines:100\", \"json-array\", \"image-rows\" or \"service\"",
    ),
    (
        "split = \"none\"",
        "split = \"lines:0\"",
        "service.toml:16:9: work.split: lines:0 must be at least 1; write, for example: split = \"none\", \"bytes:64KiB\", \"lines:100\", \"json-array\", \"image-rows\" or \"service\"",
    ),
    (
        "split = \"none\"",
        "split = \"lines:-1\"",
        "service.toml:16:9: work.split: \"-1\" is not a number of lines; write, for example: split = \"none\", \"bytes:64KiB\", \"lines:100\", \"json-array\", \"image-rows\" or \"service\"",
    ),
    (
        "split = \"none\"",
        "split = \"bytes:0B\"",
        "service.toml:16:9: work.split: bytes:0 must be 1 to 8388608; write, for example: split = \"none\", \"bytes:64KiB\", \"lines:100\", \"json-array\", \"image-rows\" or \"service\"",
    ),
    (
        "split = \"none\"",
        "split = \"bytes:9MiB\"",
        "service.toml:16:9: work.split: bytes:9437184 must be 1 to 8388608; write, for example: split = \"none\", \"bytes:64KiB\", \"lines:100\", \"json-array\", \"image-rows\" or \"service\"",
    ),
    (
        "split = \"none\"",
        "split = \"bytes:9\"",
        "service.toml:16:9: work.split: \"9\" is not a size such as \"64MiB\" (B, KiB, MiB, GiB); write, for example: split = \"none\", \"bytes:64KiB\", \"lines:100\", \"json-array\", \"image-rows\" or \"service\"",
    ),
    (
        "split = \"none\"",
        "split = 3",
        "service.toml:16:9: work.split: invalid type: integer 3, expected a string; write, for example: split = \"none\", \"bytes:64KiB\", \"lines:100\", \"json-array\", \"image-rows\" or \"service\"",
    ),
    (
        "split = \"none\"",
        "halo = 3",
        "service.toml:16:8: work.halo: has a meaning only with split = \"image-rows\", not \"none\"; write, for example: halo = 3, or halo = \"radius\" for the parameter of that name",
    ),
    (
        "split = \"none\"",
        "split = \"image-rows\"\nhalo = \"radius\"",
        "service.toml:17:8: work.halo: \"radius\" must be an integer parameter with minimum >= 0; write, for example: halo = 3, or halo = \"radius\" for the parameter of that name",
    ),
    (
        "split = \"none\"",
        "split = \"image-rows\"\nhalo = -1",
        "service.toml:17:8: work.halo: -1 must be 0 to 4294967295; write, for example: halo = 3, or halo = \"radius\" for the parameter of that name",
    ),
    (
        "split = \"none\"",
        "split = \"image-rows\"\nhalo = 1.5",
        "service.toml:17:8: work.halo: invalid type: floating point 1.5, expected a number of rows or the name of a parameter; write, for example: halo = 3, or halo = \"radius\" for the parameter of that name",
    ),
    (
        "split = \"none\"",
        "split-on = \"worker\"",
        "service.toml:16:12: work.split-on: \"worker\" needs split = \"service\"; write, for example: split-on = \"worker\" below split = \"service\"",
    ),
    (
        "split = \"none\"",
        "split-on = \"me\"",
        "service.toml:16:12: work.split-on: \"me\" is not one of requester, worker; write, for example: split-on = \"worker\" below split = \"service\"",
    ),
    (
        "deterministic = true",
        "private = \"yes\"",
        "service.toml:17:11: work.private: invalid type: string \"yes\", expected a boolean; write, for example: private = true",
    ),
    (
        "deterministic = true",
        "deterministic = \"yes\"",
        "service.toml:17:17: work.deterministic: invalid type: string \"yes\", expected a boolean; write, for example: deterministic = true",
    ),
    (
        "deterministic = true",
        "deterministc = true",
        "service.toml:17:1: work.deterministc: there is no key \"deterministc\" here; did you mean \"deterministic\"?",
    ),
    (
        "gps = \"NREQ\"",
        "gps = \"YES\"",
        "service.toml:19:7: constraints.gps: \"YES\" is not one of REQ, NREQ; write, for example: gps = \"REQ\" or gps = \"NREQ\"",
    ),
    (
        "gps = \"NREQ\"",
        "gps = true",
        "service.toml:19:7: constraints.gps: must be a text in quotes; write, for example: gps = \"REQ\" or gps = \"NREQ\"",
    ),
    (
        "network = \"N.A.\"",
        "network = \"high\"",
        "service.toml:22:11: constraints.network: \"high\" is not one of HIGH, LOW, N.A.; did you mean \"HIGH\"?",
    ),
    (
        "network = \"N.A.\"",
        "network = 1",
        "service.toml:22:11: constraints.network: must be a text in quotes; write, for example: network = \"HIGH\", \"LOW\" or \"N.A.\"",
    ),
    (
        "battery = 20",
        "battery = 101",
        "service.toml:20:11: constraints.battery: must be min <= default <= max <= 100; write, for example: battery = 20, or battery = { default = 20, min = 10, max = 100 }",
    ),
    (
        "battery = 20",
        "battery = -1",
        "service.toml:20:11: constraints.battery: -1 must be 0 to 4294967295; write, for example: battery = 20, or battery = { default = 20, min = 10, max = 100 }",
    ),
    (
        "battery = 20",
        "battery = \"auto\"",
        "service.toml:20:11: constraints.battery: has no \"auto\": write a number; write, for example: battery = 20, or battery = { default = 20, min = 10, max = 100 }",
    ),
    (
        "battery = 20",
        "battery = 99999999999",
        "service.toml:20:11: constraints.battery: 99999999999 must be 0 to 4294967295; write, for example: battery = 20, or battery = { default = 20, min = 10, max = 100 }",
    ),
    (
        "battery = 20",
        "battery = true",
        "service.toml:20:11: constraints.battery: invalid type: boolean true, expected a number, or a table of default, min, max; write, for example: battery = 20, or battery = { default = 20, min = 10, max = 100 }",
    ),
    (
        "eqs = { default = 0, min = 0",
        "eqs = { default = 0, min = 101",
        "service.toml:21:7: constraints.eqs: must be min <= default <= max <= 300; write, for example: eqs = 0, or eqs = { default = 0, min = 0, max = 300 }",
    ),
    (
        "min = 0, max = 100",
        "min = 0, max = 301",
        "service.toml:21:7: constraints.eqs: must be min <= default <= max <= 300; write, for example: eqs = 0, or eqs = { default = 0, min = 0, max = 300 }",
    ),
    (
        "eqs = { default = 0, ",
        "eqs = { default = 0, least = 9, ",
        "service.toml:21:22: constraints.eqs.least: there is no key \"least\" here; known here: default, min, max",
    ),
    (
        "eqs = { default = 0",
        "eqs = { default = \"auto\"",
        "service.toml:21:7: constraints.eqs: has no \"auto\": write a number; write, for example: eqs = 0, or eqs = { default = 0, min = 0, max = 300 }",
    ),
    (
        "devices = \"auto\"",
        "devices = -4",
        "service.toml:23:11: constraints.devices: -4 must be 0 to 4294967295; write, for example: devices = { default = \"auto\", min = 1, max = 16 }",
    ),
    (
        "devices = \"auto\"",
        "devices = 65",
        "service.toml:23:11: constraints.devices: must be min <= default <= max <= 64; write, for example: devices = { default = \"auto\", min = 1, max = 16 }",
    ),
    (
        "devices = \"auto\"",
        "devices = \"all\"",
        "service.toml:23:11: constraints.devices: \"all\" is not a number or \"auto\"; write, for example: devices = { default = \"auto\", min = 1, max = 16 }",
    ),
    (
        "devices = \"auto\"",
        "devices = { default = \"all\" }",
        "service.toml:23:23: constraints.devices.default: \"all\" is not a number or \"auto\"; write, for example: devices = { default = \"auto\", min = 1, max = 16 }",
    ),
    (
        "gps = \"NREQ\"",
        "battry = 3",
        "service.toml:19:1: constraints.battry: there is no key \"battry\" here; did you mean \"battery\"?",
    ),
    (
        "image = false",
        "files = true",
        "service.toml:25:1: permissions.files: there is no key \"files\" here; known here: image, net, gps, clock, random, device",
    ),
    (
        "image = false",
        "image = 1",
        "service.toml:25:9: permissions.image: invalid type: integer 1, expected a boolean; write, for example: true, or leave the line out",
    ),
    (
        "image = false",
        "gps = \"exact\"",
        "service.toml:25:7: permissions.gps: \"exact\" is not one of coarse, precise; write, for example: gps = \"coarse\" or gps = \"precise\"",
    ),
    (
        "image = false",
        "gps = true",
        "service.toml:25:7: permissions.gps: must be a text in quotes; write, for example: gps = \"coarse\" or gps = \"precise\"",
    ),
    (
        "net = []",
        "net = [\"https://*\"]",
        "service.toml:26:7: permissions.net: \"https://*\" must be \"*\", or a host such as https://example.org or *.example.org; write, for example: net = [\"https://example.org\"]",
    ),
    (
        "net = []",
        "net = \"*\"",
        "service.toml:26:7: permissions.net: invalid type: string \"*\", expected a list in [ ]; write, for example: net = [\"https://example.org\"]",
    ),
    (
        "net = []",
        "net = [\"h0.example.org\", \"h1.example.org\", \"h2.example.org\", \"h3.example.org\", \"h4.example.org\", \"h5.example.org\", \"h6.example.org\", \"h7.example.org\", \"h8.example.org\", \"h9.example.org\", \"h10.example.org\", \"h11.example.org\", \"h12.example.org\", \"h13.example.org\", \"h14.example.org\", \"h15.example.org\", \"h16.example.org\"]",
        "service.toml:26:7: permissions.net: 17 hosts, at most 16 (or \"*\" for any); write, for example: net = [\"https://example.org\"]",
    ),
    (
        "image = false",
        "clock = \"yes\"",
        "service.toml:25:9: permissions.clock: invalid type: string \"yes\", expected a boolean; write, for example: true, or leave the line out",
    ),
    (
        "\"64MiB\"",
        "\"0B\"",
        "service.toml:28:10: limits.memory: 0 must be 1 to 268435456; write, for example: memory = \"64MiB\"",
    ),
    (
        "\"64MiB\"",
        "\"1GiB\"",
        "service.toml:28:10: limits.memory: 1073741824 must be 1 to 268435456; write, for example: memory = \"64MiB\"",
    ),
    (
        "\"64MiB\"",
        "\"64MB\"",
        "service.toml:28:10: limits.memory: \"64MB\" is not a size such as \"64MiB\" (B, KiB, MiB, GiB); write, for example: memory = \"64MiB\"",
    ),
    (
        "\"64MiB\"",
        "64",
        "service.toml:28:10: limits.memory: invalid type: integer 64, expected a string; write, for example: memory = \"64MiB\"",
    ),
    (
        "\"10s\"",
        "\"1h\"",
        "service.toml:29:8: limits.time: \"1h\" is not a time such as \"10s\" (ms, s, m); write, for example: time = \"10s\"",
    ),
    (
        "\"10s\"",
        "\"2m\"",
        "service.toml:29:8: limits.time: 120000 must be 1 to 60000; write, for example: time = \"10s\"",
    ),
    ("\"10s\"", "\"0s\"", "service.toml:29:8: limits.time: 0 must be 1 to 60000; write, for example: time = \"10s\""),
    (
        "\"10s\"",
        "10",
        "service.toml:29:8: limits.time: invalid type: integer 10, expected a string; write, for example: time = \"10s\"",
    ),
    (
        "\"8MiB\"",
        "\"65MiB\"",
        "service.toml:30:10: limits.output: 68157440 must be 1 to 67108864; write, for example: output = \"8MiB\"",
    ),
    (
        "memory = ",
        "memroy = ",
        "service.toml:28:1: limits.memroy: there is no key \"memroy\" here; did you mean \"memory\"?",
    ),
    (
        "[[variant]]",
        "[variant]",
        "service.toml:31:2: variant: is a TOML table, expected a list: write [[variant]] with two brackets; write, for example: [[variant]] with engine = \"js\" and file = \"src/main.js\"",
    ),
    (
        "[[variant]]\nengine = \"js\"\nfile = \"main.js\"\n",
        "",
        "service.toml: variant: is missing: a service has at least one [[variant]]; write, for example: [[variant]] with engine = \"js\" and file = \"src/main.js\"",
    ),
    (
        "engine = \"js\"",
        "engine = \"python\"",
        "service.toml:32:10: variant[1].engine: \"python\" is not one of js, wasm; write, for example: engine = \"js\" or engine = \"wasm\"",
    ),
    (
        "engine = \"js\"",
        "engine = \"WASM\"",
        "service.toml:32:10: variant[1].engine: \"WASM\" is not one of js, wasm; did you mean \"wasm\"?",
    ),
    (
        "engine = \"js\"\n",
        "",
        "service.toml:31:1: variant[1].engine: is missing; write, for example: engine = \"js\" or engine = \"wasm\"",
    ),
    (
        "engine = \"js\"",
        "engine = \"js\"\nabi = \"wasi-p1\"",
        "service.toml:33:7: variant[1].abi: \"wasi-p1\"; js has \"msm-js-1\"; write, for example: abi = \"msm-js-1\" for js, \"wasi-p1\" for wasm, or leave the line out",
    ),
    (
        "\"main.js\"",
        "\"gone.js\"",
        "service.toml:33:8: variant[1].file: \"gone.js\" is missing; write, for example: file = \"src/main.js\"",
    ),
    (
        "\"main.js\"",
        "\"gone.wasm\"\nbuild = \"make\"",
        "service.toml:33:8: variant[1].file: \"gone.wasm\" is missing; build it: make; write, for example: file = \"src/main.js\"",
    ),
    (
        "\"main.js\"",
        "\"../secret.js\"",
        "service.toml:33:8: variant[1].file: bad-package: \"../secret.js\" must be a path inside the folder, such as src/main.js; write, for example: file = \"src/main.js\"",
    ),
    (
        "\"main.js\"",
        "\"/etc/passwd\"",
        "service.toml:33:8: variant[1].file: bad-package: \"/etc/passwd\" must be a path inside the folder, such as src/main.js; write, for example: file = \"src/main.js\"",
    ),
    (
        "\"main.js\"",
        "\"\"",
        "service.toml:33:8: variant[1].file: bad-package: \"\" must be a path inside the folder, such as src/main.js; write, for example: file = \"src/main.js\"",
    ),
    (
        "\"main.js\"",
        "\"a\\\\b.js\"",
        "service.toml:33:8: variant[1].file: bad-package: \"a\\\\b.js\" must be a path inside the folder, such as src/main.js; write, for example: file = \"src/main.js\"",
    ),
    (
        "\"main.js\"",
        "3",
        "service.toml:33:8: variant[1].file: invalid type: integer 3, expected a string; write, for example: file = \"src/main.js\"",
    ),
    (
        "file = \"main.js\"",
        "path = \"main.js\"",
        "service.toml:31:1: variant[1].file: is missing; write, for example: file = \"src/main.js\"\nservice.toml:33:1: variant[1].path: there is no key \"path\" here; did you mean \"watch\"?",
    ),
    (
        "\"main.js\"",
        "\"main.js\"\nwatch = \"src\"",
        "service.toml:34:9: variant[1].watch: invalid type: string \"src\", expected a list in [ ]; write, for example: watch = [\"src/*.c\"]",
    ),
    (
        "\"main.js\"",
        "\"main.js\"\n[[variant]]\nengine = \"js\"\nfile = \"main.js\"",
        "service.toml:36:8: variant[2].file: \"main.js\" has the same bytes as another variant; write, for example: file = \"src/main.js\"",
    ),
];

#[test]
fn every_wrong_field_is_named_by_place_with_a_reason_and_a_way_out() {
    assert!(pack_folder(folder(GOOD).path()).is_ok());
    assert!(CASES.len() >= 60, "{}", CASES.len());
    let mut wrong = String::new();
    for (from, to, expected) in CASES {
        assert!(GOOD.contains(from), "{from}");
        let folder = folder(&GOOD.replacen(from, to, 1));
        let told = told(folder.path());
        if told != *expected {
            wrong += &format!("    ({from:?}, {to:?},\n      {told:?}),\n");
        }
        for fault in faults(folder.path()) {
            if fault.help.is_none() && !fault.reason.contains("must be") {
                wrong += &format!("    {to:?}: no way out: {fault:?}\n");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn several_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let text = GOOD
        .replace("\"1.0.0\"", "1")
        .replace("\"text/plain\"", "7")
        .replace("deterministic = true", "determinstic = true\nhalo = 1.5")
        .replace("battery = 20", "battery = \"low\"")
        .replace("\"10s\"", "\"10\"")
        .replace("engine = \"js\"", "engine = \"lua\"");
    let folder = folder(&text);
    let keys: Vec<(String, Option<usize>)> =
        faults(folder.path()).into_iter().map(|fault| (fault.key, fault.line)).collect();
    let expected = [
        ("service.version", 4),
        ("io.output", 11),
        ("work.determinstic", 17),
        ("work.halo", 18),
        ("constraints.battery", 21),
        ("limits.time", 30),
        ("variant[1].engine", 33),
    ];
    assert_eq!(keys, expected.map(|(key, line)| (key.to_owned(), Some(line))));

    // Values that are of the right type and mean nothing are collected too, and so are files.
    let text = GOOD
        .replace("split = \"none\"", "split = \"rows\"")
        .replace("battery = 20", "battery = \"auto\"")
        .replace("default = 3", "default = []")
        .replace("\"main.js\"", "\"gone.js\"\n[[variant]]\nengine = \"wasm\"\nfile = \"gone.wasm\"");
    let keys: Vec<String> = faults(self::folder(&text).path()).into_iter().map(|fault| fault.key).collect();
    let expected = ["params.size.default", "work.split", "constraints.battery", "variant[1].file", "variant[2].file"];
    assert_eq!(keys, expected);
}

/// A text made to be read for long is read for a moment.
#[test]
fn a_text_full_of_mistakes_ends() {
    let unknown: String = (0..4_000).map(|n| format!("k{n} = 1\n")).collect();
    let text = GOOD.replace("[service]\n", &format!("[service]\n{unknown}"));
    let folder = folder(&text);
    let faults = faults(folder.path());
    assert!((1..100).contains(&faults.len()), "{}", faults.len());
}

/// Files of variants: missing, swapped, cut off, empty, too large, no file, links out of the folder, bytecode (B39).
#[test]
fn b39_files_that_are_not_what_their_variant_says() {
    let wasm = |sections: &[u8]| [b"\0asm\x01\0\0\0", sections].concat();
    let whole = wasm(&[1, 4, 1, 0x60, 0, 0]);
    let js = b"export function run() {}".to_vec();
    let large = |limit: usize| vec![b'a'; limit + 1];
    let cases: &[(&str, Vec<u8>, &str)] = &[
        (
            "js",
            whole.clone(),
            "holds the control character '\\0': only JavaScript source is accepted; it is WebAssembly",
        ),
        ("wasm", js, "is not a WebAssembly core module of version 1; it looks like JavaScript: write engine = \"js\""),
        ("wasm", whole[..whole.len() - 1].to_vec(), "is cut off: 13 bytes end inside a section"),
        ("wasm", whole[..9].to_vec(), "is cut off: 9 bytes end inside a section"),
        ("wasm", whole[..7].to_vec(), "is not a WebAssembly core module"),
        ("wasm", wasm(&[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), "is cut off"),
        ("wasm", b"\0asm\x0d\0\x01\0".to_vec(), "is not a WebAssembly core module"),
        ("wasm", Vec::new(), "is not a WebAssembly core module"),
        ("js", b"\x43\x04\x02run\x00\xff\xfe".to_vec(), "is not UTF-8 text (byte 7): only JavaScript source"),
        ("js", b"\x05\x01\x02run".to_vec(), "holds the control character '\\u{5}'"),
        ("js", Vec::new(), "is empty"),
        ("js", large(JS_BYTES), "is larger than 1048576 bytes"),
        ("wasm", large(WASM_BYTES), "is larger than 4194304 bytes"),
    ];
    for (engine, bytes, expected) in cases {
        let folder = folder(&GOOD.replace("\"js\"", &format!("{engine:?}")));
        write(folder.path(), "main.js", bytes);
        let told = told(folder.path());
        let begin = "service.toml:33:8: variant[1].file: bad-package: \"main.js\" ";
        assert!(told.starts_with(begin) && told.contains(expected), "{expected}\n{told}");
    }
    let folder = folder(&GOOD.replace("\"js\"", "\"wasm\""));
    write(folder.path(), "main.js", &whole);
    assert!(pack_folder(folder.path()).is_ok(), "{}", told(folder.path()));
}

/// B35: names that would be something else on a disk or a screen.
#[test]
fn b35_hostile_names_never_become_a_package() {
    for name in
        ["../../x", "a\\u0000b", "con", "nul", "com1", "a\\u202egpj", "-a", "a-", "a b", "A", "\\u00e4\\u00f6", "x"]
    {
        let folder = folder(&GOOD.replace("name = \"good\"", &format!("name = \"{name}\"")));
        let told = told(folder.path());
        assert!(told.contains("service.toml:3:8: service.name: must be"), "{name}: {told}");
    }
    let folder = folder(&GOOD.replace("\"good\"", &format!("{:?}", "n".repeat(300))));
    assert!(told(folder.path()).contains("service.name: must be"));
}
