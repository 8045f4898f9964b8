//! Looks at a module before it is compiled: what the compiler could be overwhelmed with, and what could not run anyway,
//! is refused with the number that decides.

use msm_protocol::limits::{GUEST_MEMORY_MAX, WASM_BYTES};
use wasmparser::{
    CompositeInnerType, DataKind, Encoding, ExternalKind, FunctionBody, MemoryType, Parser, Payload, SubType, TypeRef,
    ValType, Validator, WasmFeatures,
};

use super::{
    wasi_abi::{IMPORTS, Import, SYMLINK},
    wasm::TABLE_ELEMENTS,
};

/// Changes when a rule here does: what was compiled under other rules is compiled again.
pub const VERSION: u32 = 1;

/// Locals of one function, parameters included. *Measured: 3,000 live ones take the compiler 2.1 s, 12,000 take 56 s.*
const LOCALS: u64 = 2_000;
/// Functions of a module.
const FUNCTIONS: usize = 10_000;
/// Code of one function in bytes.
const BODY_BYTES: usize = 256 * 1024;
/// Blocks inside one another: a compiler walks them. *Judgement*: people write a few dozen, machines some hundreds.
const DEPTH: usize = 2_000;
/// Pieces of data: each is copied by itself at every start. *Judgement*: linkers write three.
const SEGMENTS: u32 = 4_096;
/// Entries of any other section. *Judgement.*
const ENTRIES: u32 = 10_000;
/// Tables: one for a program's functions, and what a language keeps beside it. *Judgement.*
const TABLES: u32 = 4;

/// Why a module is not compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// Not a module, or not one of the WebAssembly that is taken.
    #[error("not a module that runs here: {0}")]
    Invalid(String),
    /// A component, not a module.
    #[error("it is a component: what is needed is a core module, a WASI preview 1 command")]
    Component,
    /// Too much of something.
    #[error("{what}: {count}, the limit is {limit}")]
    TooMuch {
        /// Of what.
        what: String,
        /// How much there is.
        count: u64,
        /// How much there may be.
        limit: u64,
    },
    /// It wants something that no host gives.
    #[error("it imports {module}.{name}, which {why}")]
    Import {
        /// The module's name for the host.
        module: String,
        /// The function's.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It cannot be run.
    #[error("it does not export {0}: it must be a WASI preview 1 command")]
    Export(&'static str),
}

fn at_most(what: impl Into<String>, count: impl TryInto<u64>, limit: impl TryInto<u64>) -> Result<(), CheckError> {
    let (count, limit) = (count.try_into().unwrap_or(u64::MAX), limit.try_into().unwrap_or(0));
    if count > limit { Err(CheckError::TooMuch { what: what.into(), count, limit }) } else { Ok(()) }
}

fn invalid(error: impl std::fmt::Display) -> CheckError {
    CheckError::Invalid(super::wasm::plain(&error.to_string()))
}

/// The features of `wasm::features`, in this parser's words.
fn features() -> WasmFeatures {
    WasmFeatures::WASM2
        | WasmFeatures::RELAXED_SIMD
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
}

/// Checks a module whole: its bounds section by section as they are read, then that it is valid.
pub fn check(source: &[u8]) -> Result<(), CheckError> {
    at_most("bytes", source.len(), WASM_BYTES)?;
    let mut seen = Seen::default();
    for payload in Parser::new(0).parse_all(source) {
        seen.payload(payload.map_err(invalid)?)?;
    }
    seen.end()?;
    Validator::new_with_features(features()).validate_all(source).map_err(invalid)?;
    Ok(())
}

/// What was read so far.
#[derive(Default)]
struct Seen {
    types: Vec<Option<Signature>>,
    /// The type of each of the module's own functions.
    functions: Vec<u32>,
    imported: u32,
    bodies: usize,
    memories: u32,
    tables: u32,
    elements: u64,
    start: Option<u32>,
    has_memory: bool,
}

/// Parameters and results as `wasi_abi` writes them.
type Signature = (String, Vec<ValType>);

impl Seen {
    fn payload(&mut self, payload: Payload<'_>) -> Result<(), CheckError> {
        match payload {
            Payload::Version { encoding: Encoding::Component, .. } => return Err(CheckError::Component),
            Payload::TypeSection(types) => {
                at_most("types", types.count(), ENTRIES)?;
                for group in types {
                    let group = group.map_err(invalid)?;
                    // Groups of more than one type belong to a proposal that is off; the validator says so.
                    self.types.extend(group.into_types().map(|kind| signature(&kind)));
                    at_most("types", self.types.len(), ENTRIES)?;
                }
            }
            Payload::ImportSection(imports) => {
                at_most("imports", imports.count(), ENTRIES)?;
                for import in imports.into_imports() {
                    let import = import.map_err(invalid)?;
                    self.import(import.module, import.name, import.ty)?;
                }
            }
            Payload::FunctionSection(functions) => {
                at_most("functions", functions.count(), FUNCTIONS)?;
                self.functions = functions.into_iter().collect::<Result<_, _>>().map_err(invalid)?;
            }
            Payload::TableSection(tables) => {
                for table in tables {
                    self.tables += 1;
                    at_most("tables", self.tables, TABLES)?;
                    self.elements = self.elements.saturating_add(table.map_err(invalid)?.ty.initial);
                    at_most("elements of its tables", self.elements, TABLE_ELEMENTS)?;
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    self.memory(memory.map_err(invalid)?)?;
                }
            }
            Payload::GlobalSection(globals) => at_most("globals", globals.count(), ENTRIES)?,
            Payload::ExportSection(exports) => {
                at_most("exports", exports.count(), ENTRIES)?;
                for export in exports {
                    let export = export.map_err(invalid)?;
                    match (export.name, export.kind) {
                        ("_start", ExternalKind::Func) => self.start = Some(export.index),
                        ("memory", ExternalKind::Memory) => self.has_memory = true,
                        _ => {}
                    }
                }
            }
            Payload::ElementSection(segments) => at_most("element segments", segments.count(), SEGMENTS)?,
            Payload::DataCountSection { count, .. } => at_most("data segments", count, SEGMENTS)?,
            Payload::DataSection(segments) => {
                at_most("data segments", segments.count(), SEGMENTS)?;
                let mut total = 0;
                for segment in segments {
                    let segment = segment.map_err(invalid)?;
                    if matches!(segment.kind, DataKind::Active { .. }) {
                        total += segment.data.len();
                    }
                }
                at_most("bytes of data", total, WASM_BYTES)?;
            }
            Payload::CodeSectionEntry(body) => self.body(&body)?,
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, module: &str, name: &str, kind: TypeRef) -> Result<(), CheckError> {
        let wrong =
            |why| CheckError::Import { module: super::wasm::plain(module), name: super::wasm::plain(name), why };
        let TypeRef::Func(index) = kind else { return Err(wrong("is no function")) };
        self.imported += 1;
        let known = IMPORTS.iter().chain([&SYMLINK]).find(|import| import.module == module && import.name == name);
        let Import { params, gives, .. } = known.ok_or_else(|| wrong("does not exist here"))?;
        let given = self.types.get(index as usize).and_then(Option::as_ref);
        let results: &[ValType] = if *gives { &[ValType::I32] } else { &[] };
        match given {
            Some((given, gives)) if given == params && gives == results => Ok(()),
            _ => Err(wrong("has another type here")),
        }
    }

    fn memory(&mut self, memory: MemoryType) -> Result<(), CheckError> {
        self.memories += 1;
        at_most("memories", self.memories, 1u8)?;
        let first = memory.initial.saturating_mul(64 << 10);
        at_most("bytes of memory at its start", first, GUEST_MEMORY_MAX)
    }

    fn body(&mut self, body: &FunctionBody<'_>) -> Result<(), CheckError> {
        let index = self.bodies;
        self.bodies += 1;
        at_most(format!("bytes of code in function {index}"), body.range().len(), BODY_BYTES)?;
        let kind = self.functions.get(index).and_then(|kind| self.types.get(*kind as usize)?.as_ref());
        let mut locals = kind.map_or(0, |(params, _)| params.len() as u64);
        for group in body.get_locals_reader().map_err(invalid)? {
            locals = locals.saturating_add(u64::from(group.map_err(invalid)?.0));
            at_most(format!("locals in function {index}"), locals, LOCALS)?;
        }
        let mut depth = 0usize;
        for operator in body.get_operators_reader().map_err(invalid)? {
            use wasmparser::Operator::{Block, End, If, Loop};
            match operator.map_err(invalid)? {
                Block { .. } | Loop { .. } | If { .. } => {
                    depth += 1;
                    at_most(format!("nested blocks in function {index}"), depth, DEPTH)?;
                }
                End => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        Ok(())
    }

    fn end(&self) -> Result<(), CheckError> {
        if !self.has_memory {
            return Err(CheckError::Export("its memory as `memory`"));
        }
        let start = self.start.and_then(|index| index.checked_sub(self.imported));
        let start = start.and_then(|own| self.types.get(*self.functions.get(own as usize)? as usize)?.as_ref());
        match start {
            Some((params, results)) if params.is_empty() && results.is_empty() => Ok(()),
            _ => Err(CheckError::Export("a function `_start` without parameters and results")),
        }
    }
}

/// The signature of a function's type; none for other types.
fn signature(kind: &SubType) -> Option<Signature> {
    let CompositeInnerType::Func(function) = &kind.composite_type.inner else { return None };
    let letter = |value: &ValType| match value {
        ValType::I32 => 'i',
        ValType::I64 => 'I',
        _ => '?',
    };
    Some((function.params().iter().map(letter).collect(), function.results().to_vec()))
}
