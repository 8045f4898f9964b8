//! The WebAssembly engine: one compiled module per child, a fresh instance of it for each call.

use std::{
    rc::Rc,
    sync::OnceLock,
    time::{Duration, Instant},
};

use wasmtime::{Config, Engine, InstancePre, Linker, Module, OptLevel, Store, Trap, WasmBacktrace, WasmFeatures};

use super::{
    Failure,
    wasi::{self, Guest, Own, Stop},
    wasi_files::Tree,
    wasm_alarm::Alarm,
};
use crate::{
    process::limits,
    wire::{Fault, Loaded},
};

/// Calls of a guest inside one another, in bytes of the child's own stack, which has 8 MiB. A program keeps its arrays
/// in its memory, not here. *Judgement.*
const STACK_BYTES: usize = 1 << 20;
/// Elements of a table, at its start and later. *Judgement*, as in `wasm_check`.
pub const TABLE_ELEMENTS: usize = 10_000;
/// A name that a stranger chose, in an error text.
const NAME_CHARS: usize = 80;

/// The engine as it is everywhere: compiled code fits only an engine of equal settings.
pub fn config(compiles: bool) -> Config {
    let mut config = Config::new();
    config.enable_compiler(compiles);
    if compiles {
        // The same bits on every device, whatever its processor makes of "not a number".
        config.cranelift_nan_canonicalization(true).cranelift_opt_level(OptLevel::Speed);
    }
    for (feature, enabled) in features() {
        config.wasm_features(feature, enabled);
    }
    config
        .relaxed_simd_deterministic(true)
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES)
        // Every address that a guest can name lies in the reservation or in the pages behind it: no check is needed.
        .memory_reservation(limits::WASM_RESERVATION)
        .memory_guard_size(limits::WASM_GUARD)
        .guard_before_linear_memory(true)
        // An image of the memory would be a file.
        .memory_init_cow(false)
        // Only for debuggers and foreign unwinders.
        .native_unwind_info(false);
    config
}

/// What of WebAssembly is taken. The rest is off: each is one more way into the compiler, and programs do not need it.
pub fn features() -> [(WasmFeatures, bool); 15] {
    [
        (WasmFeatures::BULK_MEMORY, true),
        (WasmFeatures::MULTI_VALUE, true),
        (WasmFeatures::REFERENCE_TYPES, true),
        (WasmFeatures::SIMD, true),
        (WasmFeatures::RELAXED_SIMD, true),
        (WasmFeatures::EXTENDED_CONST, true),
        (WasmFeatures::THREADS, false),
        (WasmFeatures::TAIL_CALL, false),
        (WasmFeatures::MULTI_MEMORY, false),
        (WasmFeatures::MEMORY64, false),
        (WasmFeatures::EXCEPTIONS, false),
        (WasmFeatures::FUNCTION_REFERENCES, false),
        (WasmFeatures::GC, false),
        (WasmFeatures::CUSTOM_PAGE_SIZES, false),
        (WasmFeatures::WIDE_ARITHMETIC, false),
    ]
}

/// The engine of this process. Made when the first wasm package comes: a child that runs JavaScript does without, and
/// keeps its signals as they were.
static ENGINE: OnceLock<Engine> = OnceLock::new();

/// The engine, if there is one; for the alarm, which must not wait.
pub fn running_engine() -> Option<&'static Engine> {
    ENGINE.get()
}

fn engine() -> Result<&'static Engine, Failure> {
    if let Some(engine) = ENGINE.get() {
        return Ok(engine);
    }
    let engine = Engine::new(&config(false)).map_err(|error| broken(&error))?;
    // What the engine would otherwise do at the first call, when it may not any more.
    Engine::tls_eager_initialize();
    Alarm::install().map_err(|error| Failure::new(Fault::ServiceFailed, format!("no alarm: {error}")))?;
    Ok(ENGINE.get_or_init(|| engine))
}

fn broken(error: &wasmtime::Error) -> Failure {
    Failure::new(Fault::StaleCode, format!("the compiled code does not load: {error}"))
}

/// A package that is ready to run.
pub struct Wasm {
    start: InstancePre<Guest>,
    /// What its memory has from the beginning.
    first_memory: u64,
    own: Own,
}

/// One run of the program.
pub struct Run {
    pub guest: Guest,
    pub memory: u64,
    pub time: Duration,
}

impl Wasm {
    /// Takes compiled code, and the assets out of its package.
    pub fn load(code: &[u8], package: &mut Loaded) -> Result<Self, Failure> {
        let engine = engine()?;
        // SAFETY: the parent got these bytes from a child that compiled the same module, and has hashed them again
        // since. Should that child have been taken over, this one is sealed before any of them is run.
        let module = unsafe { Module::deserialize(engine, code) }.map_err(|error| broken(&error))?;
        let mut linker = Linker::new(engine);
        wasi::link(&mut linker).map_err(|error| broken(&error))?;
        let start = linker.instantiate_pre(&module).map_err(|error| broken(&error))?;
        let memories = module.exports().filter_map(|export| export.ty().memory().map(wasmtime::MemoryType::minimum));
        let first_memory = memories.sum::<u64>().saturating_mul(64 << 10);
        let tree = Rc::new(Tree::new(std::mem::take(&mut package.assets)));
        Ok(Self { start, first_memory, own: Own { tree, ..Own::default() } })
    }

    /// What its runs share.
    pub const fn own(&self) -> &Own {
        &self.own
    }

    /// Runs the program from its beginning to its end, and gives back what it was given with what it did.
    pub fn run(&self, run: Run, probe: impl FnOnce()) -> (Guest, Result<(), Failure>) {
        let Run { mut guest, memory, time } = run;
        if self.first_memory > memory {
            let text = format!("its memory begins with {} bytes, the limit is {memory}", self.first_memory);
            return (guest, Err(Failure::new(Fault::BadPackage, text)));
        }
        let started = Instant::now();
        guest.limiter.memory = usize::try_from(memory).unwrap_or(usize::MAX);
        guest.deadline = started.checked_add(time);
        let mut store = Store::new(self.start.module().engine(), guest);
        store.limiter(|guest| &mut guest.limiter);
        // One ring of the alarm and the next loop or call ends the run.
        store.set_epoch_deadline(1);
        let alarm = Alarm::set(time);
        let result = self.start.instantiate(&mut store).and_then(|instance| {
            store.data_mut().memory = instance.get_memory(&mut store, "memory");
            probe();
            instance.get_typed_func::<(), ()>(&mut store, "_start")?.call(&mut store, ())
        });
        drop(alarm);
        let guest = store.into_data();
        let result = match outcome(result, &guest, memory, time) {
            Err(failure) if failure.fault == Fault::Deadline => Err(failure),
            // A result that comes late is no result: every device must judge alike.
            _ if guest.is_late() => Err(Failure::deadline(time)),
            result => result,
        };
        (guest, result)
    }
}

/// What the end of a program means for its call.
fn outcome(result: wasmtime::Result<()>, guest: &Guest, memory: u64, time: Duration) -> Result<(), Failure> {
    let Err(error) = result else { return Ok(()) };
    let stop = error.downcast_ref::<Stop>();
    if matches!(stop, Some(Stop::Exit(0))) {
        return Ok(());
    }
    // Whatever a program does when it gets no more memory, that was why.
    if guest.limiter.refused {
        return Err(Failure::memory(memory));
    }
    let at = error.downcast_ref::<WasmBacktrace>().and_then(|trace| trace.frames().first()?.func_name());
    let at = at.map_or_else(String::new, |name| format!(" in {}", plain(name)));
    Err(match (stop, error.downcast_ref::<Trap>()) {
        (Some(Stop::Exit(code)), _) => {
            Failure::service(format!("the service exited with code {code}{}", guest.last_words()))
        }
        (Some(Stop::Failed(failure)), _) => failure.clone(),
        (_, Some(Trap::Interrupt)) => Failure::deadline(time),
        (_, Some(trap)) => Failure::service(format!("the service {}{at}{}", deed(*trap), guest.last_words())),
        (None, None) => Failure::service(format!("the service could not be started: {}", plain(&error.to_string()))),
    })
}

/// What the guest did, in plain words.
fn deed(trap: Trap) -> String {
    let text = match trap {
        Trap::StackOverflow => "called itself too deep: its stack is full",
        Trap::MemoryOutOfBounds => "reached outside its memory",
        Trap::TableOutOfBounds => "reached outside a table",
        Trap::IndirectCallToNull => "called a function that is not there",
        Trap::BadSignature => "called a function of another type",
        Trap::IntegerOverflow => "made a number that does not fit",
        Trap::IntegerDivisionByZero => "divided by zero",
        Trap::BadConversionToInteger => "made an integer of a number that is none",
        Trap::UnreachableCodeReached => "gave up (an abort, a panic or a failed assertion)",
        other => return format!("trapped: {other}"),
    };
    text.to_owned()
}

/// Text of a guest's as it may stand in an error: short, on one line, without control characters.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(NAME_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_strangers_are_cut_and_cleaned() {
        assert_eq!(plain("a\x1b[2Jb\nc"), "a [2Jb c");
        assert_eq!(plain(&"é".repeat(200)).chars().count(), NAME_CHARS);
    }
}
