//! Reads `service.toml` table by table, and goes on after a mistake: its author hears of all of them at once.

use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeTable, DeValue, ValueDeserializer},
};

use super::{
    dialect::ServiceToml,
    fault::{Fault, Faults},
    locate::Places,
};
use crate::resolve::closest;

/// Mistakes told of one table: more are seldom read, and each costs a reading of the table. *Judgement.*
const FAULTS_PER_TABLE: usize = 16;

/// Reads the text of a `service.toml`. Unknown keys are errors: a misspelt limit must not become no limit.
pub fn parse(text: &str) -> Result<(ServiceToml, Places), Vec<Fault>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let places = Places::of(text, table.get_ref());
    let mut reader = Reader { places: &places, faults: Faults::default() };
    for error in errors.iter().take(FAULTS_PER_TABLE) {
        let span = error.span();
        let key = span.as_ref().and_then(|span| places.path_at(span.start)).unwrap_or_else(|| "syntax".to_owned());
        let help = "TOML has one  key = value  a line, and [section] above".to_owned();
        reader.faults.add_at(&places, span, key, format!("is not TOML: {}", error.message()), Some(help));
    }
    // What is left of a text that is no TOML would be full of false alarms.
    let parsed = if errors.is_empty() { reader.all(table.into_inner()) } else { None };
    let faults = reader.faults.sorted();
    match parsed {
        Some(parsed) if faults.is_empty() => Ok((parsed, places)),
        _ => Err(faults),
    }
}

struct Reader<'p> {
    places: &'p Places,
    faults: Faults,
}

/// The sections of the file.
const SECTIONS: [&str; 9] =
    ["schema", "service", "io", "params", "work", "constraints", "permissions", "limits", "variant"];

impl Reader<'_> {
    fn all(&mut self, mut table: DeTable<'_>) -> Option<ServiceToml> {
        let unknown: Vec<String> =
            table.keys().map(|key| key.get_ref().to_string()).filter(|key| !SECTIONS.contains(&&**key)).collect();
        for key in unknown.iter().take(FAULTS_PER_TABLE) {
            self.unknown(key, key, &SECTIONS);
        }
        let mut take = |name: &str| table.remove(name);
        // Every section is read before any is found wanting.
        let (service, io) = (take("service"), take("io"));
        let (service, io) = (self.required("service", service), self.required("io", io));
        let schema = self.optional("schema", take("schema"));
        let work = self.optional("work", take("work"));
        let constraints = self.optional("constraints", take("constraints"));
        let permissions = self.optional("permissions", take("permissions"));
        let limits = self.optional("limits", take("limits"));
        let params = match take("params").map(Spanned::into_inner) {
            None => Some(Vec::new()),
            Some(DeValue::Table(params)) => {
                let named = params.into_iter().map(|(name, value)| {
                    let name = name.into_inner().into_owned();
                    let param = self.table(&format!("params.{name}"), value);
                    param.map(|param| (name, param))
                });
                // To the end, whatever is found on the way.
                named.collect::<Vec<_>>().into_iter().collect()
            }
            Some(other) => self.not("params", "a table of parameters", &other),
        };
        let variants = match take("variant").map(Spanned::into_inner) {
            None => {
                self.faults.add(self.places, "variant", "is missing: a service has at least one [[variant]]");
                None
            }
            Some(DeValue::Array(items)) => {
                let read =
                    items.into_iter().enumerate().map(|(n, item)| self.table(&format!("variant[{}]", n + 1), item));
                read.collect::<Vec<_>>().into_iter().collect()
            }
            Some(other) => self.not("variant", "a list: write [[variant]] with two brackets", &other),
        };
        let (service, io, params, variant) = (service?, io?, params?, variants?);
        Some(ServiceToml {
            schema: schema?.unwrap_or(1),
            service,
            io,
            params,
            work: work?.unwrap_or_default(),
            constraints: constraints?.unwrap_or_default(),
            permissions: permissions?.unwrap_or_default(),
            limits: limits?.unwrap_or_default(),
            variant,
        })
    }

    fn required<T: DeserializeOwned>(&mut self, path: &str, value: Option<Spanned<DeValue<'_>>>) -> Option<T> {
        if value.is_none() {
            self.faults.add(self.places, path, format!("is missing: every service.toml has a section [{path}]"));
        }
        self.table(path, value?)
    }

    /// Nothing for a section with mistakes, `Some(None)` for one that is not there.
    fn optional<T: DeserializeOwned>(&mut self, path: &str, value: Option<Spanned<DeValue<'_>>>) -> Option<Option<T>> {
        match value {
            None => Some(None),
            Some(value) => self.table(path, value).map(Some),
        }
    }

    /// Reads a value. A key of it that cannot be read is noted and left out, and the rest is read again.
    fn table<T: DeserializeOwned>(&mut self, path: &str, mut value: Spanned<DeValue<'_>>) -> Option<T> {
        let mut left_out: Vec<String> = Vec::new();
        for _ in 0..FAULTS_PER_TABLE {
            let error = match T::deserialize(ValueDeserializer::from(value.clone())) {
                Ok(read) => return left_out.is_empty().then_some(read),
                Err(error) => error,
            };
            if let Some(missing) = error.message().strip_prefix("missing field `") {
                let missing = missing.trim_end_matches('`');
                if !left_out.iter().any(|key| key == missing) {
                    let key = format!("{path}.{missing}");
                    self.faults.add_at(self.places, self.places.key_of(path), key, "is missing", None);
                }
                return None;
            }
            let span = error.span().unwrap_or_else(|| value.span());
            let key = self.places.path_at(span.start).filter(|key| key.starts_with(path));
            self.explain(key.unwrap_or_else(|| path.to_owned()), span.clone(), error.message());
            let DeValue::Table(table) = value.get_mut() else { return None };
            let holds = |key: &Spanned<std::borrow::Cow<'_, str>>, value: &Spanned<DeValue<'_>>| {
                key.span().contains(&span.start) || value.span().contains(&span.start)
            };
            let guilty = table.iter().find(|(key, value)| holds(key, value)).map(|(key, _)| key.get_ref().to_string());
            let guilty = guilty?;
            table.remove(guilty.as_str());
            left_out.push(guilty);
        }
        None
    }

    /// Says in our words what the reader of TOML said in its own.
    fn explain(&mut self, key: String, span: std::ops::Range<usize>, message: &str) {
        let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        match quoted.as_slice() {
            [unknown, known @ ..] if message.starts_with("unknown field") => self.unknown(&key, unknown, known),
            [unknown, known @ ..] if message.starts_with("unknown variant") => {
                let reason = format!("{unknown:?} is not one of {}", known.join(", "));
                let help = nearest(known, unknown).map(|near| format!("did you mean {near:?}?"));
                self.faults.add_at(self.places, Some(span), key, reason, help);
            }
            _ => self.faults.add_at(self.places, Some(span), key, plain(message), None),
        }
    }

    fn unknown(&mut self, path: &str, name: &str, known: &[&str]) {
        let help = match nearest(known, name) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("known here: {}", known.join(", ")),
        };
        let name: String = name.chars().take(40).collect();
        let span = self.places.key_of(path);
        self.faults.add_at(self.places, span, path, format!("there is no key {name:?} here"), Some(help));
    }

    fn not<T>(&mut self, path: &str, expected: &str, value: &DeValue<'_>) -> Option<T> {
        self.faults.add(self.places, path, format!("is a TOML {}, expected {expected}", value.type_str()));
        None
    }
}

/// A message about types without Rust's names for them.
fn plain(message: &str) -> String {
    const WORDS: [(&str, &str); 5] = [
        ("expected u8", "expected a small whole number"),
        ("expected f64", "expected a number"),
        ("expected a sequence", "expected a list in [ ]"),
        ("expected struct ParamToml", "expected a table in { }"),
        ("wanted string or table", "must be a text in quotes"),
    ];
    let mut message = message.replace('`', "");
    for (theirs, ours) in WORDS {
        message = message.replace(theirs, ours);
    }
    // serde: "expected struct ServiceSection" and the like.
    match message.split_once("expected struct ") {
        Some((before, _)) => format!("{before}expected a [section]"),
        None => message,
    }
}

/// The known word that was most likely meant.
fn nearest(known: &[&str], word: &str) -> Option<String> {
    let same = known.iter().find(|known| known.eq_ignore_ascii_case(word) || known.replace('-', "_") == word);
    same.map(|known| (*known).to_owned()).or_else(|| closest(known.iter().copied(), word))
}
