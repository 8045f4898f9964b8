//! WASI preview 1 for one guest: arguments, environment, streams, clocks, chance and read-only assets.
//!
//! Our own and not wasmtime-wasi: that one is built on tokio with threads, real files, sockets and a component world, and
//! most of it would be there to be forbidden again. What a guest of ours may reach is little, and fits on a few pages
//! that can be read.

use std::{rc::Rc, time::Instant};

use wasmtime::{Caller, Extern, FuncType, Linker, ResourceLimiter, Val, ValType};

use super::{
    Failure,
    chance::Chance,
    out::Out,
    wasi_abi::{Errno, IMPORTS, Import, MSM, Memory, SYMLINK, WASI},
    wasi_calls,
    wasi_clock::{Clock, Random},
    wasi_files::{Files, Open, Tree},
    wasm::TABLE_ELEMENTS,
    wasm_resources::Desk,
};
use crate::{
    call::Asks,
    wire::{self, Fault},
    work::Sink,
};

/// What all runs in one child share.
#[derive(Default)]
pub struct Own {
    pub tree: Rc<Tree>,
    pub chance: Rc<Chance>,
}

/// A run of a program, as its host calls see it.
pub struct Guest {
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    input: Vec<u8>,
    read: usize,
    pub stdout: Stdout,
    log: Vec<u8>,
    log_is_cut: bool,
    pub files: Files,
    pub clock: Clock,
    pub random: Random,
    pub desk: Desk,
    pub limiter: Limiter,
    /// Set once there is an instance.
    pub memory: Option<wasmtime::Memory>,
    pub deadline: Option<Instant>,
}

/// Where the program's output goes.
pub enum Stdout {
    /// To the parent as it comes; the number is what was written so far.
    Stream(Out, u64),
    /// Kept for the host to look at, up to the cap.
    Keep { bytes: Vec<u8>, cap: u64 },
}

/// How a program ends but by returning.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    #[error("exit {0}")]
    Exit(u32),
    #[error("{}", .0.text)]
    Failed(Failure),
}

/// Why a host call gives no answer: an error number for the guest, or the end of it.
pub enum Trouble {
    Errno(Errno),
    Stop(Stop),
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Stop(Stop::Failed(failure))
    }
}

/// How a host call without an answer of its own ends.
pub type Done = Result<(), Trouble>;

/// Holds a guest to its memory, and knows afterwards whether it wanted more.
#[derive(Default)]
pub struct Limiter {
    pub memory: usize,
    pub refused: bool,
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let fits = desired <= self.memory;
        self.refused |= !fits;
        Ok(fits)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.refused = true;
        Ok(())
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        1
    }

    fn memories(&self) -> usize {
        1
    }
}

impl Guest {
    pub fn new(own: &Own, asks: Asks, memory: u64, input: Vec<u8>, stdout: Stdout) -> Self {
        let Own { tree, chance } = own;
        Self {
            args: Vec::new(),
            env: Vec::new(),
            input,
            read: 0,
            stdout,
            log: Vec::new(),
            log_is_cut: false,
            files: Files::new(tree.clone()),
            clock: Clock::new(asks.clock),
            random: Random::new(asks.random, chance),
            desk: Desk::new(asks, memory),
            limiter: Limiter::default(),
            memory: None,
            deadline: None,
        }
    }

    /// Whether the run's time is over.
    pub fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Bytes of the input that were not read yet.
    pub const fn unread(&self) -> usize {
        self.input.len() - self.read
    }

    /// What was written to stderr.
    pub fn log(&mut self) -> String {
        const CUT: &str = "… log cut\n";
        let room = wire::LOG_BYTES - CUT.len();
        // A byte that is no text becomes three.
        let mut text = String::from_utf8_lossy(&std::mem::take(&mut self.log)).into_owned();
        if self.log_is_cut || text.len() > room {
            text.truncate(text.floor_char_boundary(room));
            text.push_str(CUT);
        }
        text
    }

    /// The last line of the log, for the text of an error.
    pub fn last_words(&self) -> String {
        let line = self.log.rsplit(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty());
        line.map_or_else(String::new, |line| format!(": {}", super::wasm::plain(&String::from_utf8_lossy(line))))
    }

    /// Writes for `fd_write`.
    pub fn write(&mut self, to: Open, bytes: &[u8]) -> Done {
        match to {
            Open::Stdout => match &mut self.stdout {
                Stdout::Stream(out, written) => {
                    out.put(&[bytes])?;
                    *written += bytes.len() as u64;
                }
                Stdout::Keep { bytes: kept, cap } => {
                    if (kept.len() as u64).saturating_add(bytes.len() as u64) > *cap {
                        let text = format!("the output is larger than its limit of {cap} bytes");
                        return Err(Failure::new(Fault::OutputTooLarge, text).into());
                    }
                    kept.try_reserve(bytes.len()).map_err(|_| Failure::memory(*cap))?;
                    kept.extend_from_slice(bytes);
                }
            },
            Open::Stderr => {
                let fits = bytes.len().min(wire::LOG_BYTES - self.log.len());
                self.log_is_cut |= fits < bytes.len();
                self.log.extend_from_slice(&bytes[..fits]);
            }
            Open::Stdin => return Err(Errno::BADF.into()),
            Open::Folder { .. } => return Err(Errno::ISDIR.into()),
            Open::File { .. } => return Err(Errno::ROFS.into()),
        }
        Ok(())
    }

    /// Bytes for `fd_read`: what comes next.
    pub fn next(&self, fd: u32) -> Result<&[u8], Errno> {
        match self.files.of(fd)? {
            Open::Stdin => Ok(&self.input[self.read..]),
            Open::Stdout | Open::Stderr => Err(Errno::BADF),
            Open::File { .. } | Open::Folder { .. } => {
                let (bytes, at) = self.files.file(fd)?;
                Ok(bytes.get(usize::try_from(at).unwrap_or(usize::MAX)..).unwrap_or_default())
            }
        }
    }

    /// Notes that so many of them were taken.
    pub fn took(&mut self, fd: u32, count: usize) {
        match self.files.of(fd) {
            Ok(Open::Stdin) => self.read += count,
            Ok(Open::File { at, .. }) => self.files.move_to(fd, at + count as u64),
            _ => {}
        }
    }
}

/// Defines every function of [`IMPORTS`].
pub fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    macro_rules! define {
        ($($name:ident($($arg:ident: $kind:ty),*);)*) => {$(
            linker.func_wrap(WASI, stringify!($name), |mut caller: Caller<'_, Guest>, $($arg: $kind),*| {
                answer(reach(&mut caller).and_then(|(mut memory, guest)| wasi_calls::$name(&mut memory, guest, $($arg),*)))
            })?;
        )*};
    }
    define! {
        args_get(list: u32, text: u32);
        args_sizes_get(count: u32, bytes: u32);
        environ_get(list: u32, text: u32);
        environ_sizes_get(count: u32, bytes: u32);
        clock_res_get(clock: u32, at: u32);
        clock_time_get(clock: u32, precision: u64, at: u32);
        fd_close(fd: u32);
        fd_fdstat_get(fd: u32, at: u32);
        fd_filestat_get(fd: u32, at: u32);
        fd_pread(fd: u32, pieces: u32, count: u32, offset: u64, at: u32);
        fd_prestat_dir_name(fd: u32, path: u32, length: u32);
        fd_prestat_get(fd: u32, at: u32);
        fd_read(fd: u32, pieces: u32, count: u32, at: u32);
        fd_readdir(fd: u32, buffer: u32, length: u32, cookie: u64, at: u32);
        fd_renumber(from: u32, to: u32);
        fd_seek(fd: u32, offset: i64, whence: u32, at: u32);
        fd_tell(fd: u32, at: u32);
        fd_write(fd: u32, pieces: u32, count: u32, at: u32);
        path_filestat_get(fd: u32, flags: u32, path: u32, length: u32, at: u32);
        path_open(
            fd: u32, look: u32, path: u32, length: u32, flags: u32, rights: u64, inherited: u64, mode: u32, at: u32
        );
        poll_oneoff(waits: u32, events: u32, count: u32, at: u32);
        random_get(at: u32, length: u32);
        sched_yield();
    }
    linker.func_wrap(WASI, "proc_exit", |code: u32| -> wasmtime::Result<()> {
        Err(wasmtime::Error::new(Stop::Exit(code)))
    })?;
    linker.func_wrap(
        MSM,
        "call",
        |mut caller: Caller<'_, Guest>, op: u32, op_len: u32, body: u32, body_len: u32| {
            let called = reach(&mut caller).and_then(|(memory, guest)| {
                let op = memory.read(op, op_len)?;
                let deadline = guest.deadline;
                guest.desk.call(op, memory.read(body, body_len)?, deadline)
            });
            number(called)
        },
    )?;
    linker.func_wrap(MSM, "take", |mut caller: Caller<'_, Guest>, to: u32, room: u32| {
        number(reach(&mut caller).and_then(|(mut memory, guest)| {
            let count = guest.desk.waiting().min(room as usize) as u32;
            guest.desk.take(memory.room(to, count)?);
            Ok(count)
        }))
    })?;
    IMPORTS.iter().chain([&SYMLINK]).try_for_each(|import| refuse(linker, import))
}

/// Defines a function whose answer is always the same, but for descriptors that do not exist.
fn refuse(linker: &mut Linker<Guest>, import: &Import) -> wasmtime::Result<()> {
    let Some(errno) = import.fixed else { return Ok(()) };
    let params = import.params.chars().map(|letter| if letter == 'I' { ValType::I64 } else { ValType::I32 });
    let kind = FuncType::new(linker.engine(), params, [ValType::I32]);
    let at = match import.name {
        "proc_raise" => None,
        "path_symlink" => Some(2),
        _ => Some(0),
    };
    linker.func_new(import.module, import.name, kind, move |caller, params, results| {
        let fd = at.and_then(|at| params.get(at)?.i32());
        let open = fd.is_none_or(|fd| caller.data().files.of(fd.cast_unsigned()).is_ok());
        let errno = if open { errno } else { Errno::BADF };
        results.fill(Val::I32(errno.0.into()));
        Ok(())
    })?;
    Ok(())
}

/// The caller's memory and its run.
fn reach<'a>(caller: &'a mut Caller<'_, Guest>) -> Result<(Memory<'a>, &'a mut Guest), Trouble> {
    let memory = match caller.data().memory {
        Some(memory) => memory,
        // While a module's start function runs there is no instance to have asked.
        None => caller.get_export("memory").and_then(Extern::into_memory).ok_or(Errno::INVAL)?,
    };
    let (bytes, guest) = memory.data_and_store_mut(caller);
    Ok((Memory(bytes), guest))
}

fn answer(done: Done) -> wasmtime::Result<u32> {
    match done {
        Ok(()) => Ok(0),
        Err(Trouble::Errno(errno)) => Ok(errno.0.into()),
        Err(Trouble::Stop(stop)) => Err(wasmtime::Error::new(stop)),
    }
}

/// The answer of `msm_v1`: a count, or an error number below 0.
fn number(done: Result<u32, Trouble>) -> wasmtime::Result<i32> {
    match done {
        Ok(count) => Ok(i32::try_from(count).unwrap_or(i32::MAX)),
        Err(Trouble::Errno(errno)) => Ok(-i32::from(errno.0)),
        Err(Trouble::Stop(stop)) => Err(wasmtime::Error::new(stop)),
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, Store};

    use super::*;

    #[test]
    fn what_is_defined_is_what_the_check_lets_through() {
        let engine = Engine::default();
        let mut linker = Linker::new(&engine);
        link(&mut linker).unwrap();
        let out = Stdout::Keep { bytes: vec![], cap: 0 };
        let mut store = Store::new(&engine, Guest::new(&Own::default(), Asks::default(), 0, vec![], out));
        let mut defined: Vec<String> =
            linker.iter(&mut store).map(|(module, name, _)| format!("{module}.{name}")).collect();
        let mut known: Vec<String> = Vec::new();
        for import in IMPORTS.iter().chain([&SYMLINK]) {
            let function = linker.get(&mut store, import.module, import.name).unwrap().into_func().unwrap();
            let kind = function.ty(&store);
            let letter = |kind: ValType| if kind.is_i64() { 'I' } else { 'i' };
            assert_eq!(kind.params().map(letter).collect::<String>(), import.params, "{}", import.name);
            assert_eq!(kind.results().count(), usize::from(import.gives), "{}", import.name);
            known.push(format!("{}.{}", import.module, import.name));
        }
        defined.sort();
        known.sort();
        assert_eq!(defined, known);
    }
}
