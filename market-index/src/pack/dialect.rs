//! The TOML dialect of `service.toml`: what authors write, and the [`Manifest`] it means.

use std::{collections::BTreeMap, fmt};

use msm_protocol::{
    Manifest,
    device::Network,
    limits::{GUEST_MEMORY, JOB_INPUT_BYTES, TASK_BYTES, TASK_TIME},
    manifest::{
        Constraints, Engine, FileRef, Halo, Limits, Param, ParamType, Permissions, Range, Split, Value, Variant, Work,
    },
};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::quantity::{Size, Time};

/// A key whose value does not mean anything.
#[derive(Debug)]
pub struct Fault {
    /// Path of the key.
    pub key: String,
    /// What is wrong.
    pub reason: String,
}

/// One `[[variant]]` as the packer needs it.
pub struct VariantSource<'a> {
    pub engine: Engine,
    pub abi: Option<&'a str>,
    pub file: &'a str,
    pub build: Option<&'a str>,
}

/// The contract between host and guest that an engine has.
pub fn abi(engine: Engine) -> &'static str {
    match engine {
        Engine::Js => "msm-js-1",
        _ => "wasi-p1",
    }
}

/// Reads the text of a `service.toml`. Unknown keys are errors: a misspelt limit must not become no limit.
pub fn parse(text: &str) -> Result<ServiceToml, toml::de::Error> {
    toml::from_str(text)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceToml {
    #[serde(default = "first_schema")]
    schema: u8,
    service: ServiceSection,
    io: IoSection,
    #[serde(default)]
    params: BTreeMap<String, ParamToml>,
    #[serde(default)]
    work: WorkSection,
    #[serde(default)]
    constraints: ConstraintsSection,
    #[serde(default)]
    permissions: PermissionsSection,
    #[serde(default)]
    limits: LimitsSection,
    variant: Vec<VariantSection>,
}

fn first_schema() -> u8 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceSection {
    name: String,
    version: String,
    summary: String,
    scope: String,
    license: String,
    #[serde(default)]
    authors: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct IoSection {
    input: OneOrMore,
    output: String,
    max_input: Option<Size>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ParamToml {
    r#type: ParamType,
    default: Option<toml::Value>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    #[serde(default, rename = "enum")]
    choices: Vec<toml::Value>,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WorkSection {
    split: Option<String>,
    halo: Option<HaloToml>,
    /// Who makes the split.
    #[serde(default)]
    split_on: SplitOn,
    #[serde(default)]
    deterministic: bool,
}

#[derive(Deserialize, Default, PartialEq)]
#[serde(rename_all = "lowercase")]
enum SplitOn {
    #[default]
    Requester,
    Worker,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct ConstraintsSection {
    #[serde(default)]
    gps: Sensor,
    battery: Option<Bounded>,
    eqs: Option<Bounded>,
    #[serde(default)]
    network: NetworkToml,
    devices: Option<Bounded>,
}

#[derive(Deserialize, Default)]
enum Sensor {
    #[serde(rename = "REQ")]
    Required,
    #[default]
    #[serde(rename = "NREQ")]
    NotRequired,
}

#[derive(Deserialize, Default)]
enum NetworkToml {
    #[serde(rename = "HIGH")]
    High,
    #[serde(rename = "LOW")]
    Low,
    #[default]
    #[serde(rename = "N.A.")]
    Any,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct PermissionsSection {
    #[serde(default)]
    image: bool,
    #[serde(default)]
    net: Vec<String>,
    gps: Option<GpsPermission>,
    #[serde(default)]
    clock: bool,
    #[serde(default)]
    random: bool,
    #[serde(default)]
    device: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum GpsPermission {
    Coarse,
    Precise,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct LimitsSection {
    memory: Option<Size>,
    time: Option<Time>,
    output: Option<Size>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VariantSection {
    engine: Engine,
    abi: Option<String>,
    file: String,
    /// Run by tools on the author's machine only; not packed.
    build: Option<String>,
    /// Files that such tools watch; not packed.
    #[serde(default, rename = "watch")]
    _watch: Vec<String>,
}

impl ServiceToml {
    /// The variants in order of preference.
    pub fn variants(&self) -> impl Iterator<Item = VariantSource<'_>> {
        self.variant.iter().map(|v| VariantSource {
            engine: v.engine,
            abi: v.abi.as_deref(),
            file: &v.file,
            build: v.build.as_deref(),
        })
    }

    /// The manifest that this text means, with the variants and assets that were read from disk. Not yet checked as a whole.
    pub fn into_manifest(self, variants: Vec<Variant>, assets: Vec<FileRef>) -> Result<Manifest, Fault> {
        let constraints = &self.constraints;
        Ok(Manifest {
            v: self.schema,
            name: self.service.name,
            work: self.work.meaning()?,
            input: self.io.input.0,
            scope: self.service.scope,
            assets,
            limits: Limits {
                input: self.io.max_input.map_or(JOB_INPUT_BYTES, |size| size.0),
                memory: self.limits.memory.map_or(GUEST_MEMORY, |size| size.0),
                output: self.limits.output.map_or(TASK_BYTES as u64, |size| size.0),
                time_ms: self.limits.time.map_or(TASK_TIME.as_millis() as u64, |time| time.0),
            },
            output: self.io.output,
            params: self.params.into_iter().map(|(name, param)| param.meaning(name)).collect::<Result<_, _>>()?,
            authors: self.service.authors,
            license: self.service.license,
            summary: self.service.summary,
            version: self.service.version,
            variants,
            constraints: Constraints {
                eqs: range("constraints.eqs", &constraints.eqs, 0, 300, Some(0))?,
                gps: matches!(constraints.gps, Sensor::Required),
                battery: range("constraints.battery", &constraints.battery, 0, 100, Some(0))?,
                devices: range("constraints.devices", &constraints.devices, 1, 64, None)?,
                network: match constraints.network {
                    NetworkToml::High => Some(Network::High),
                    NetworkToml::Low => Some(Network::Low),
                    NetworkToml::Any => None,
                },
            },
            permissions: Permissions {
                gps: self.permissions.gps.map(|gps| match gps {
                    GpsPermission::Coarse => "coarse".into(),
                    GpsPermission::Precise => "precise".into(),
                }),
                net: self.permissions.net,
                clock: self.permissions.clock,
                image: self.permissions.image,
                device: self.permissions.device,
                random: self.permissions.random,
            },
        })
    }
}

/// A constraint that is not written is free between `min` and `max`. Where `default` is none, `auto` is the default.
fn range(key: &str, written: &Option<Bounded>, min: u32, max: u32, default: Option<u32>) -> Result<Range, Fault> {
    let auto = default.is_none();
    let range = match written {
        None => Range { max, min, default },
        Some(Bounded::Fixed(n)) => Range { max: *n, min: *n, default: Some(*n) },
        Some(Bounded::Auto) if auto => Range { max, min, default: None },
        Some(Bounded::Range(table)) => {
            let (max, min) = (table.max.unwrap_or(max), table.min.unwrap_or(min));
            match table.default {
                Some(OrAuto::Number(n)) => Range { max, min, default: Some(n) },
                None if !auto => Range { max, min, default: Some(min) },
                Some(OrAuto::Auto) if !auto => return Err(no_auto(key)),
                _ => Range { max, min, default: None },
            }
        }
        Some(Bounded::Auto) => return Err(no_auto(key)),
    };
    Ok(range)
}

fn no_auto(key: &str) -> Fault {
    Fault { key: key.into(), reason: "has no \"auto\": write a number".into() }
}

impl WorkSection {
    fn meaning(self) -> Result<Work, Fault> {
        let fault = |key: &str, reason: String| Fault { key: key.into(), reason };
        let text = self.split.as_deref().unwrap_or("none");
        let split = match text.split_once(':') {
            None if text == "none" => Split::None,
            None if text == "json-array" => Split::JsonArray,
            None if text == "image-rows" => Split::ImageRows(Halo::Rows(0)),
            None if text == "service" => Split::Service,
            Some(("bytes", size)) => Split::Bytes(Size::parse(size).map_err(|e| fault("work.split", e))?.0),
            Some(("lines", n)) => {
                Split::Lines(n.parse().map_err(|_| fault("work.split", format!("{n:?} is not a number of lines")))?)
            }
            _ => {
                let known = "none, bytes:SIZE, lines:N, json-array, image-rows or service";
                return Err(fault("work.split", format!("{text:?} is not one of {known}")));
            }
        };
        let split = match (split, self.halo) {
            (Split::ImageRows(_), Some(HaloToml(halo))) => Split::ImageRows(halo),
            (split, None) => split,
            _ => {
                return Err(fault(
                    "work.halo",
                    format!("has a meaning only with split = \"image-rows\", not {text:?}"),
                ));
            }
        };
        Ok(Work { split, remote: self.split_on == SplitOn::Worker, deterministic: self.deterministic })
    }
}

impl ParamToml {
    fn meaning(self, name: String) -> Result<Param, Fault> {
        let number = self.r#type == ParamType::Number;
        let value = |key: &str, value: toml::Value| match value {
            toml::Value::Boolean(b) => Ok(Value::Bool(b)),
            // `default = 1` of a number is 1.0, so that it compares equal to the listed 1.0.
            toml::Value::Integer(n) if number => Ok(Value::Number(n as f64)),
            toml::Value::Integer(n) => Ok(Value::Integer(n)),
            toml::Value::Float(n) => Ok(Value::Number(n)),
            toml::Value::String(text) => Ok(Value::Text(text)),
            other => {
                Err(Fault { key: format!("params.{name}.{key}"), reason: format!("is a TOML {}", other.type_str()) })
            }
        };
        Ok(Param {
            choices: self.choices.into_iter().map(|choice| value("enum", choice)).collect::<Result<_, _>>()?,
            default: self.default.map(|default| value("default", default)).transpose()?,
            name: name.clone(),
            r#type: self.r#type,
            maximum: self.maximum,
            minimum: self.minimum,
            description: self.description,
        })
    }
}

/// `"none"` or `["image/png", …]`.
struct OneOrMore(Vec<String>);

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = OneOrMore;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a media type or a list of them")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<OneOrMore, E> {
                Ok(OneOrMore(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<OneOrMore, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = items.next_element()? {
                    texts.push(text);
                }
                Ok(OneOrMore(texts))
            }
        }
        d.deserialize_any(Texts)
    }
}

/// `3`, or the name of a parameter.
struct HaloToml(Halo);

impl<'de> Deserialize<'de> for HaloToml {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Rows;
        impl Visitor<'_> for Rows {
            type Value = HaloToml;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of rows or the name of a parameter")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<HaloToml, E> {
                Ok(HaloToml(Halo::Param(text.to_owned())))
            }
            fn visit_i64<E: Error>(self, n: i64) -> Result<HaloToml, E> {
                small(n).map(|n| HaloToml(Halo::Rows(n)))
            }
        }
        d.deserialize_any(Rows)
    }
}

/// A constraint: `4` (fixed), `"auto"`, or `{ default, min, max }`.
enum Bounded {
    Fixed(u32),
    Auto,
    Range(RangeToml),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RangeToml {
    default: Option<OrAuto>,
    min: Option<u32>,
    max: Option<u32>,
}

enum OrAuto {
    Number(u32),
    Auto,
}

impl<'de> Deserialize<'de> for Bounded {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Bounded;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a table of default, min, max")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Bounded, E> {
                auto(text).map(|()| Bounded::Auto)
            }
            fn visit_i64<E: Error>(self, n: i64) -> Result<Bounded, E> {
                small(n).map(Bounded::Fixed)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Bounded, A::Error> {
                RangeToml::deserialize(MapAccessDeserializer::new(map)).map(Bounded::Range)
            }
        }
        d.deserialize_any(Form)
    }
}

impl<'de> Deserialize<'de> for OrAuto {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = OrAuto;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or \"auto\"")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<OrAuto, E> {
                auto(text).map(|()| OrAuto::Auto)
            }
            fn visit_i64<E: Error>(self, n: i64) -> Result<OrAuto, E> {
                small(n).map(OrAuto::Number)
            }
        }
        d.deserialize_any(Form)
    }
}

fn auto<E: Error>(text: &str) -> Result<(), E> {
    if text == "auto" { Ok(()) } else { Err(E::custom(format!("{text:?} is not a number or \"auto\""))) }
}

fn small<E: Error>(n: i64) -> Result<u32, E> {
    u32::try_from(n).map_err(|_| E::custom(format!("{n} must be 0 to {}", u32::MAX)))
}
