//! The TOML dialect of `service.toml`: what authors write, and the [`Manifest`] it means.

use std::fmt;

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

/// A key whose value means nothing: its path and why.
pub type Wrong = (String, String);

/// One `[[variant]]` as the packer needs it.
pub struct VariantSource<'a> {
    pub engine: Engine,
    pub abi: Option<&'a str>,
    pub file: &'a str,
    pub build: Option<&'a str>,
    pub watch: &'a [String],
}

/// The contract between host and guest that an engine has.
pub fn abi(engine: Engine) -> &'static str {
    match engine {
        Engine::Js => "msm-js-1",
        _ => "wasi-p1",
    }
}

/// A `service.toml` whose every key is known and of the right type.
pub struct ServiceToml {
    pub schema: u8,
    pub service: ServiceSection,
    pub io: IoSection,
    pub params: Vec<(String, ParamToml)>,
    pub work: WorkSection,
    pub constraints: ConstraintsSection,
    pub permissions: PermissionsSection,
    pub limits: LimitsSection,
    pub variant: Vec<VariantSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSection {
    pub name: String,
    version: String,
    summary: String,
    scope: String,
    license: String,
    #[serde(default)]
    authors: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct IoSection {
    input: OneOrMore,
    output: String,
    max_input: Option<Size>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParamToml {
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
pub struct WorkSection {
    split: Option<String>,
    halo: Option<HaloToml>,
    /// Who makes the split.
    #[serde(default)]
    split_on: SplitOn,
    #[serde(default)]
    private: bool,
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
pub struct ConstraintsSection {
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
pub struct PermissionsSection {
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
pub struct LimitsSection {
    memory: Option<Size>,
    time: Option<Time>,
    output: Option<Size>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariantSection {
    engine: Engine,
    abi: Option<String>,
    file: String,
    /// Run by tools on the author's machine only; not packed.
    build: Option<String>,
    /// Files that such tools watch; not packed.
    #[serde(default)]
    watch: Vec<String>,
}

impl ServiceToml {
    /// The variants in order of preference.
    pub fn variants(&self) -> impl Iterator<Item = VariantSource<'_>> {
        self.variant.iter().map(|v| VariantSource {
            engine: v.engine,
            abi: v.abi.as_deref(),
            file: &v.file,
            build: v.build.as_deref(),
            watch: &v.watch,
        })
    }

    /// The manifest that this text means, with the variants and assets that were read from disk. Not yet checked as a
    /// whole.
    pub fn into_manifest(self, variants: Vec<Variant>, assets: Vec<FileRef>) -> Result<Manifest, Vec<Wrong>> {
        let mut wrong = Vec::new();
        let mut params: Vec<Param> =
            self.params.into_iter().filter_map(|(name, param)| note(&mut wrong, param.meaning(name))).collect();
        params.sort_by(|a, b| a.name.cmp(&b.name));
        let constraints = &self.constraints;
        let work = note(&mut wrong, self.work.meaning());
        let eqs = note(&mut wrong, range("constraints.eqs", &constraints.eqs, 0, 300, Some(0)));
        let battery = note(&mut wrong, range("constraints.battery", &constraints.battery, 0, 100, Some(0)));
        let devices = note(&mut wrong, range("constraints.devices", &constraints.devices, 1, 64, None));
        let (Some(work), Some(eqs), Some(battery), Some(devices), true) =
            (work, eqs, battery, devices, wrong.is_empty())
        else {
            return Err(wrong);
        };
        Ok(Manifest {
            v: self.schema,
            name: self.service.name,
            work,
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
            params,
            authors: self.service.authors,
            license: self.service.license,
            summary: self.service.summary,
            version: self.service.version,
            variants,
            constraints: Constraints {
                eqs,
                gps: matches!(constraints.gps, Sensor::Required),
                battery,
                devices,
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

/// The value, or nothing and a note of what is wrong.
fn note<T>(wrong: &mut Vec<Wrong>, read: Result<T, Wrong>) -> Option<T> {
    read.map_err(|error| wrong.push(error)).ok()
}

/// A constraint that is not written is free between `min` and `max`. Where `default` is none, `auto` is the default.
fn range(key: &str, written: &Option<Bounded>, min: u32, max: u32, default: Option<u32>) -> Result<Range, Wrong> {
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

fn no_auto(key: &str) -> Wrong {
    (key.into(), "has no \"auto\": write a number".into())
}

impl WorkSection {
    fn meaning(self) -> Result<Work, Wrong> {
        let fault = |key: &str, reason: String| (key.to_owned(), reason);
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
        let remote = self.split_on == SplitOn::Worker;
        Ok(Work { split, remote, private: self.private, deterministic: self.deterministic })
    }
}

impl ParamToml {
    fn meaning(self, name: String) -> Result<Param, Wrong> {
        let number = self.r#type == ParamType::Number;
        let value = |key: &str, value: toml::Value| match value {
            toml::Value::Boolean(b) => Ok(Value::Bool(b)),
            // `default = 1` of a number is 1.0, so that it compares equal to the listed 1.0.
            toml::Value::Integer(n) if number => Ok(Value::Number(n as f64)),
            toml::Value::Integer(n) => Ok(Value::Integer(n)),
            toml::Value::Float(n) => Ok(Value::Number(n)),
            toml::Value::String(text) => Ok(Value::Text(text)),
            other => {
                let expected = "expected a number, a text, true or false";
                Err((format!("params.{name}.{key}"), format!("is a TOML {}, {expected}", other.type_str())))
            }
        };
        for (key, bound) in [("minimum", self.minimum), ("maximum", self.maximum)] {
            if bound.is_some_and(|bound| !bound.is_finite()) {
                return Err((format!("params.{name}.{key}"), "must be a finite number".into()));
            }
        }
        if let (Some(min), Some(max)) = (self.minimum, self.maximum)
            && min > max
        {
            return Err((format!("params.{name}.minimum"), format!("{min} is above the maximum {max}")));
        }
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
