//! Each rule of a manifest with what breaks it.

use super::*;

fn param(name: &str, r#type: ParamType) -> Param {
    Param {
        choices: Vec::new(),
        name: name.into(),
        r#type,
        default: None,
        maximum: None,
        minimum: None,
        description: "For tests".into(),
    }
}

fn manifest() -> Manifest {
    Manifest {
        v: 1,
        name: "image-blur".into(),
        work: Work { split: Split::None, remote: false, private: false, deterministic: true },
        assets: vec![],
        input: vec!["image/png".into()],
        scope: "media/image".into(),
        limits: Limits { input: 1, memory: 1, output: 1, time_ms: 1 },
        output: "image/png".into(),
        params: vec![Param {
            default: Some(Value::Integer(3)),
            maximum: Some(50.0),
            minimum: Some(0.0),
            ..param("radius", ParamType::Integer)
        }],
        authors: Vec::new(),
        license: "MIT".into(),
        summary: "For tests".into(),
        version: "1.0.0".into(),
        variants: vec![Variant {
            abi: "msm-js-1".into(),
            hash: ContentHash::of(b""),
            size: 1,
            files: vec![],
            engine: Engine::Js,
        }],
        constraints: Constraints {
            eqs: Range { max: 300, min: 0, default: Some(0) },
            gps: false,
            battery: Range { max: 100, min: 10, default: Some(20) },
            devices: Range { max: 64, min: 1, default: None },
            network: None,
        },
        permissions: Permissions::default(),
    }
}

fn with(change: impl FnOnce(&mut Manifest)) -> Manifest {
    let mut manifest = manifest();
    change(&mut manifest);
    manifest
}

/// Path of the first bad field, or nothing.
fn fault(manifest: &Manifest) -> String {
    match manifest.check() {
        Ok(()) => String::new(),
        Err(ManifestError::Field { field, .. }) => field,
        Err(other) => other.to_string(),
    }
}

#[test]
fn each_field_has_its_rule() {
    type Change = fn(&mut Manifest);
    let bad: &[(&str, Change)] = &[
        ("schema", |m| m.v = 2),
        ("service.name", |m| m.name = "Blur".into()),
        ("service.version", |m| m.version = "1.0".into()),
        ("service.version", |m| m.version = format!("1.0.0-{}", "a".repeat(60))),
        ("service.scope", |m| m.scope = "media//image".into()),
        ("service.scope", |m| m.scope = "aa/bb/cc/dd/ee".into()),
        ("service.summary", |m| m.summary = "x".repeat(121)),
        ("service.summary", |m| m.summary = "two\nlines".into()),
        ("service.license", |m| m.license = "x".repeat(65)),
        ("io.output", |m| m.output = "\u{202e}gnp/egami".into()),
        ("io.input", |m| m.input = Vec::new()),
        ("io.input", |m| m.input = vec!["image/png".into(); 17]),
        ("io.input", |m| m.input = vec!["image/png\u{1b}[2J".into()]),
        ("service.authors", |m| m.authors = vec!["Ada".into(); 17]),
        ("service.authors", |m| m.authors = vec!["x".repeat(121)]),
        ("work.split", |m| m.work.split = Split::Bytes(0)),
        ("work.split", |m| m.work.split = Split::Bytes(TASK_BYTES as u64 + 1)),
        ("work.split", |m| m.work.split = Split::Lines(0)),
        ("work.halo", |m| m.work.split = Split::ImageRows(Halo::Param("sigma".into()))),
        ("work.halo", |m| {
            m.work.split = Split::ImageRows(Halo::Param("radius".into()));
            m.params[0].minimum = Some(-1.0);
        }),
        ("permissions.gps", |m| m.permissions.gps = Some("exact".into())),
        ("permissions.net", |m| m.permissions.net = vec!["a.example".into(); NET_HOSTS + 1]),
        ("permissions.net", |m| m.permissions.net = vec!["https://*".into()]),
        ("io.max-input", |m| m.limits.input = JOB_INPUT_BYTES + 1),
        ("limits.memory", |m| m.limits.memory = GUEST_MEMORY_MAX + 1),
        ("limits.output", |m| m.limits.output = 0),
        ("limits.time", |m| m.limits.time_ms = 60_001),
        ("constraints.battery", |m| m.constraints.battery = Range { max: 101, min: 0, default: None }),
        ("constraints.eqs", |m| m.constraints.eqs = Range { max: 10, min: 11, default: None }),
        ("constraints.devices", |m| m.constraints.devices = Range { max: 4, min: 2, default: Some(5) }),
        ("params", |m| {
            m.params = (0..=PARAMS).map(|n| param(&format!("p{n:02}"), ParamType::Boolean)).collect();
        }),
        ("params", |m| m.params.push(param("radius", ParamType::Integer))),
        ("params", |m| m.params.push(param("quality", ParamType::Integer))),
        ("params.X", |m| m.params[0].name = "X".into()),
        ("params.radius", |m| m.params[0].default = Some(Value::Integer(51))),
        ("params.radius", |m| m.params[0].default = Some(Value::Number(3.0))),
        ("params.radius", |m| m.params[0].choices = vec![Value::Integer(1), Value::Integer(2)]),
        ("variant", |m| m.variants.clear()),
        ("variant", |m| m.variants = vec![m.variants[0].clone(); VARIANTS + 1]),
        ("variant.file", |m| m.variants[0].size = JS_BYTES as u64 + 1),
        ("variant.file", |m| {
            m.variants[0].engine = Engine::Wasm;
            m.variants[0].size = WASM_BYTES as u64 + 1;
        }),
    ];
    assert_eq!(fault(&manifest()), "");
    for (n, (field, change)) in bad.iter().enumerate() {
        assert_eq!(fault(&with(change)), *field, "case {n}");
    }
}

#[test]
fn bytes_that_are_no_manifest_are_refused() {
    let bytes = cbor::to_vec(&manifest()).unwrap();
    assert_eq!(Manifest::from_slice(&bytes), Ok(manifest()));
    assert!(matches!(Manifest::from_slice(&bytes[1..]), Err(ManifestError::Cbor(_))));
    let long = vec![0; MANIFEST_BYTES + 1];
    let limit = CborError::TooLong { size: MANIFEST_BYTES + 1, limit: MANIFEST_BYTES };
    assert_eq!(Manifest::from_slice(&long), Err(ManifestError::Cbor(limit)));
}

/// B35: a name never leaves its folder, ends a string, fills a table, names a device or reads backwards.
#[test]
fn b35_names_are_plain() {
    let long = "a".repeat(300);
    let bad = [
        "../../x",
        "a\0b",
        &long,
        "CON",
        "con",
        "nul",
        "com1",
        "lpt9",
        "\u{202e}gnp",
        "",
        "a",
        "-a",
        "1a",
        "a-",
        "a b",
        "a/b",
        "a.b",
        "a_b",
        "é",
        "a\n",
        &"a".repeat(NAME_BYTES + 1),
    ];
    for name in bad {
        assert!(!is_name(name), "{name:?}");
        assert_eq!(fault(&with(|m| m.name = name.into())), "service.name", "{name:?}");
    }
    for name in ["ab", "image-blur", "a1", "console", "com10", "comx", "com", &"a".repeat(NAME_BYTES)] {
        assert!(is_name(name), "{name:?}");
    }
    for scope in ["net", "media/image", "aa/bb/cc/dd"] {
        assert!(is_scope(scope), "{scope}");
    }
    for scope in ["", "/", "net/", "/net", "../..", "net/con"] {
        assert!(!is_scope(scope), "{scope}");
    }
}

#[test]
fn hosts_are_any_or_named() {
    for host in
        ["*", "example.org", "https://example.org", "http://a-b.example.org", "*.example.org", "https://*.example.org"]
    {
        assert!(is_host_pattern(host), "{host}");
    }
    let long = format!("{}.org", "a".repeat(64));
    for host in [
        "",
        "org",
        "*.org",
        "https://*",
        "Example.org",
        "a..b",
        "-a.org",
        "a-.org",
        "ftp://a.org",
        "a.org:80",
        "a.org/x",
        &long,
    ] {
        assert!(!is_host_pattern(host), "{host}");
    }
}

#[test]
fn rating_falls_with_what_is_asked() {
    let ask = |gps: Option<&str>, net: &[&str]| Permissions {
        gps: gps.map(str::to_owned),
        net: net.iter().map(|host| (*host).to_owned()).collect(),
        image: true,
        ..Permissions::default()
    };
    let cases = [
        (ask(None, &[]), 6),
        (ask(None, &["a.example"]), 5),
        (ask(Some("coarse"), &[]), 4),
        (ask(None, &["a.example", "*"]), 3),
        (ask(Some("precise"), &[]), 2),
        (ask(Some("coarse"), &["*"]), 1),
        (ask(Some("precise"), &["*"]), 1),
    ];
    for (permissions, rating) in cases {
        assert_eq!(permissions.rating(), rating, "{permissions:?}");
    }
}

#[test]
fn parameters_are_filled_in_or_refused() {
    let mut text = param("title", ParamType::String);
    (text.minimum, text.maximum) = (Some(1.0), Some(3.0));
    let mut scale = param("zoom", ParamType::Number);
    scale.choices = vec![Value::Number(1.0), Value::Number(2.0)];
    scale.default = Some(Value::Number(1.0));
    let manifest = with(|m| m.params.extend([text, scale]));
    assert_eq!(fault(&manifest), "");
    let good = [
        (r#"{"title":"abc"}"#, r#"{"radius":3,"title":"abc","zoom":1.0}"#),
        (r#"{"zoom":2,"title":"é","radius":50}"#, r#"{"radius":50,"title":"é","zoom":2.0}"#),
    ];
    for (given, resolved) in good {
        assert_eq!(manifest.check_params_text(given).as_deref(), Ok(resolved));
        assert_eq!(manifest.check_params_text(resolved).as_deref(), Ok(resolved), "resolving twice changes nothing");
    }
    let bad = [
        ("[]", "params"),
        ("{", "params"),
        ("{}", "params.title"),
        (r#"{"title":""}"#, "params.title"),
        (r#"{"title":"abcd"}"#, "params.title"),
        (r#"{"title":1}"#, "params.title"),
        (r#"{"title":"a","radius":51}"#, "params.radius"),
        (r#"{"title":"a","radius":3.0}"#, "params.radius"),
        (r#"{"title":"a","radius":null}"#, "params.radius"),
        (r#"{"title":"a","zoom":3}"#, "params.zoom"),
        (r#"{"title":"a","colour":1}"#, "params.colour"),
    ];
    for (given, expected) in bad {
        match manifest.check_params_text(given) {
            Err(ManifestError::Field { field, .. }) => assert_eq!(field, expected, "{given}"),
            other => panic!("{given}: {other:?}"),
        }
    }
    let long = format!(r#"{{"title":"{}"}}"#, "a".repeat(PARAMS_BYTES));
    assert!(manifest.check_params_text(&long).is_err());
}

#[test]
fn a_halo_is_a_number_or_a_parameter() {
    let rows = with(|m| m.work.split = Split::ImageRows(Halo::Rows(7)));
    let by_param = with(|m| m.work.split = Split::ImageRows(Halo::Param("radius".into())));
    for (manifest, params, expected) in [
        (&manifest(), r#"{"radius":3}"#, 0),
        (&rows, "{}", 7),
        (&by_param, r#"{"radius":3}"#, 3),
        (&by_param, r#"{"radius":-3}"#, 0),
        (&by_param, r#"{"radius":4294967296}"#, 0),
        (&by_param, "not json", 0),
    ] {
        assert_eq!(manifest.halo_rows(params), expected, "{params}");
    }
}

#[test]
fn an_offer_may_ask_more_but_never_less_than_the_manifest() {
    let manifest = with(|m| {
        m.constraints.eqs = Range { max: 100, min: 20, default: None };
        m.constraints.gps = true;
        m.constraints.network = Some(Network::Low);
    });
    let least = manifest.requirements();
    assert_eq!(least, Requirements { eqs: 20.0, gps: true, battery: 20, network: Some(Network::Low) });
    for (need, allowed) in [
        (least.clone(), true),
        (Requirements { eqs: 100.0, ..least.clone() }, true),
        (Requirements { network: Some(Network::High), ..least.clone() }, true),
        (Requirements { eqs: 19.9, ..least.clone() }, false),
        (Requirements { eqs: 100.5, ..least.clone() }, false),
        (Requirements { eqs: f64::NAN, ..least.clone() }, false),
        (Requirements { battery: 9, ..least.clone() }, false),
        (Requirements { battery: 255, ..least.clone() }, false),
        (Requirements { gps: false, ..least.clone() }, false),
        (Requirements { network: None, ..least.clone() }, false),
        (Requirements { network: Some(Network::Off), ..least.clone() }, false),
    ] {
        assert_eq!(manifest.allows(&need), allowed, "{need:?}");
    }
}
