//! The child's loop: takes a package, then call after call for it, and answers each.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use msm_protocol::limits;

use super::{
    Failure, Probe, built_in,
    channel::Channel,
    host::Host,
    js::{Guest, Js, Shape, turns::ANSWER_MESSAGE_BYTES},
    out::Out,
    seal::Seal,
    wasm::Wasm,
    wasm_compile::Compiler,
    wasm_task,
};
use crate::{
    Aim,
    call::{Engine, Op, Work},
    wire::{self, Fault, Loaded, Request, kind},
    work::{Sink, codec, frames, image_rows::Tile, json_array},
};

/// A `LOAD` message at most: a whole package, the paths of its files, and its header.
const LOAD_BYTES: usize = limits::PACKAGE_BYTES + wire::CODE_BYTES + 64 * 1024;
/// A `CALL` message at most: the parameters and the numbers before them.
const CALL_BYTES: usize = limits::PARAMS_BYTES + 1024;

/// Serves until the parent closes the channel or kills this process. `seals`: the wall of system calls stands, and is
/// made higher as soon as the engine is known.
pub fn serve(channel: Channel, probe: Option<Probe>, seals: bool) -> ! {
    let host = Host::new();
    let js = Js::new(&host).ok();
    let mut child = Child {
        channel,
        probe,
        seals,
        host,
        js,
        wasm: None,
        wasm_log: String::new(),
        package: None,
        is_text: false,
        load: Duration::ZERO,
    };
    loop {
        match channel.receive(LOAD_BYTES.max(CALL_BYTES).max(ANSWER_MESSAGE_BYTES)) {
            (kind::LOAD, payload) => child.load(payload),
            (kind::CALL, payload) => match wire::read_call(&payload) {
                Some(request) => child.answer(&request),
                None => std::process::abort(), // the parent is this same program: its requests are well-formed
            },
            (kind::COMPILE, payload) => child.compile(&payload),
            // To a question that its run has left open.
            (kind::ANSWER, _) => continue,
            _ => std::process::abort(),
        }
        if child.wasm.is_none()
            && let Some(js) = &mut child.js
        {
            js.tidy();
        }
    }
}

struct Child {
    channel: Channel,
    probe: Option<Probe>,
    seals: bool,
    host: Rc<Host>,
    js: Option<Js>,
    /// The engine of a wasm package, or why it has none.
    wasm: Option<Result<Wasm, Failure>>,
    /// What the last wasm guest logged.
    wasm_log: String,
    package: Option<Rc<Loaded>>,
    is_text: bool,
    load: Duration,
}

impl Child {
    /// Takes a package. From here on this process can make no memory executable: its guest never runs in one that can.
    fn load(&mut self, payload: Vec<u8>) {
        let started = Instant::now();
        let Some(mut package) = wire::read_load(payload) else { return self.package = None };
        match package.engine {
            Engine::Js => {
                self.is_text = is_text(&package.source);
                self.js.iter_mut().for_each(Js::forget_package);
                self.seal(Seal::Js);
            }
            Engine::Wasm => {
                let code = std::mem::take(&mut package.source);
                self.wasm = Some(Wasm::load(&code, &mut package));
                self.seal(Seal::Wasm);
            }
        }
        self.package = Some(Rc::new(package));
        self.load = started.elapsed();
    }

    fn seal(&self, seal: Seal) {
        if self.seals && !seal.put_up() {
            // Nothing of a guest has run yet, and nothing may.
            std::process::abort();
        }
    }

    /// Compiles a module for another child to run; an empty one asks for the compiler's fingerprint.
    fn compile(&mut self, source: &[u8]) {
        let mut out = Out::new(self.channel, wire::CODE_BYTES as u64);
        let result = Compiler::new().and_then(|compiler| {
            // A stranger's bytes are read behind the same wall as a stranger's code is run.
            self.seal(Seal::Compiler);
            out.put(&[&if source.is_empty() { compiler.fingerprint() } else { compiler.compile(source)? }])
        });
        self.say(result, &out);
    }

    fn answer(&mut self, request: &Request) {
        let length = usize::try_from(request.input_len).unwrap_or(usize::MAX);
        let mut out = Out::new(self.channel, request.budget.output);
        let result = match self.channel.bytes(length) {
            Some(input) if self.wasm.is_some() => self.run_wasm(request, input, &mut out),
            Some(input) => self.run(request, input, &mut out),
            None => {
                self.channel.skip(request.input_len);
                Err(Failure::memory(request.budget.memory))
            }
        };
        self.say(result, &out);
    }

    fn say(&mut self, result: Result<(), Failure>, out: &Out) {
        // One write for all that is left to say: a small answer wakes the parent once.
        let mut last = Vec::new();
        let log = self.host.take_log() + &std::mem::take(&mut self.wasm_log);
        if !log.is_empty() {
            wire::put(&mut last, kind::LOG, &[log.as_bytes()]);
        }
        match result {
            Ok(()) => {
                wire::put(&mut last, kind::OUTPUT, &[out.waiting()]);
                let load = u64::try_from(self.load.as_micros()).unwrap_or(u64::MAX);
                wire::put(&mut last, kind::DONE, &[&load.to_le_bytes()]);
            }
            Err(Failure { fault, text }) => {
                let text = &text[..text.floor_char_boundary(wire::REASON_BYTES)];
                wire::put(&mut last, kind::FAIL, &[&[fault as u8], text.as_bytes()]);
            }
        }
        self.channel.write(&mut [std::io::IoSlice::new(&last)]);
    }

    fn run_wasm(&mut self, request: &Request, input: Vec<u8>, out: &mut Out) -> Result<(), Failure> {
        let (Some(wasm), Some(package)) = (&self.wasm, &self.package) else {
            return Err(Failure::new(Fault::BadPackage, "no package is loaded"));
        };
        let wasm = wasm.as_ref().map_err(Clone::clone)?;
        wasm_task::run(wasm, package, request, input, out, &mut self.wasm_log, self.probe)
    }

    fn run(&mut self, request: &Request, input: Vec<u8>, out: &mut Out) -> Result<(), Failure> {
        let budget = request.budget;
        let Some(package) = &self.package else { return Err(Failure::new(Fault::BadPackage, "no package is loaded")) };
        if !self.is_text {
            return Err(Failure::new(Fault::BadPackage, "the package's source is not JavaScript text"));
        }
        if let Some(probe) = self.probe
            && let Some(source) = std::str::from_utf8(&package.source).ok().filter(|text| text.starts_with("//probe"))
        {
            return out.put(&[probe(source).as_bytes()]);
        }
        let Some(js) = &mut self.js else { return Err(Failure::memory(budget.memory)) };
        self.host.start(budget.time, budget.memory, package);

        let started = Instant::now();
        let load = &mut self.load;
        let mut with_guest = |out: &mut Out, act: &mut dyn FnMut(&Guest<'_, '_>, &mut Out) -> Result<(), Failure>| {
            js.run(package, |guest| {
                *load = started.elapsed();
                act(guest, out)
            })
        };
        let mut input = Some(input);
        let mut input = move || input.take().unwrap_or_default();
        let params = &*request.params;

        match (request.op, package.work) {
            (Op::Split(Aim { want, .. }), Work::Service) => with_guest(out, &mut |guest, out| {
                let shape = Shape { want: Some(want), ..Shape::default() };
                let parts = guest.call("split", guest.input(input())?, params, &shape)?;
                let mut count = 0;
                guest.each(&parts, |part| {
                    count += 1;
                    if count > limits::TASKS_PER_JOB {
                        let text = format!("split() gave more than {} parts", limits::TASKS_PER_JOB);
                        return Err(Failure::service(text));
                    }
                    guest.bytes(&part, "split()", |bytes| out.put(&[&frames::prefix(bytes.len())?, bytes]))
                })?;
                if count == 0 { Err(Failure::service("split() gave no parts")) } else { Ok(()) }
            }),

            (Op::Merge, Work::Service) => with_guest(out, &mut |guest, out| {
                let input = input();
                let mut ranges = Vec::new();
                let mut at = 0;
                for frame in frames::read(&input) {
                    let length = frame?.len();
                    ranges.push((at + 4, length));
                    at += 4 + length;
                }
                // The parts are windows onto one buffer: they are not copied.
                let whole = guest.input(input)?;
                let parts = guest.array(ranges.iter().map(|(start, length)| guest.view(&whole, *start, *length)))?;
                let merged = guest.call("merge", parts, params, &Shape::default())?;
                guest.bytes(&merged, "merge()", |bytes| out.put(&[bytes]))
            }),

            (op @ (Op::Whole | Op::Part { .. }), Work::ImageRows { .. }) => with_guest(out, &mut |guest, out| {
                let (tile, rows) = if op == Op::Whole {
                    let picture = codec::decode(&input(), budget.memory)?;
                    (Tile::whole(&picture), picture.data)
                } else {
                    let mut input = input();
                    let (tile, at) = Tile::read(&input)?;
                    // One move of the rows; the engine gets the buffer itself.
                    input.drain(..at);
                    (tile, input)
                };
                let shape = Shape {
                    tile: Some([tile.width, tile.rows, tile.top, tile.bottom]),
                    chunk: Some(chunk_of(op)),
                    ..Shape::default()
                };
                let rows = guest.call("run", guest.input(rows)?, params, &shape)?;
                guest.bytes(&rows, "run()", |core| {
                    if core.len() as u64 != tile.core_bytes() {
                        return Err(Failure::service(format!(
                            "run() gave {} bytes for {} rows of {} pixels: return RGBA, without the rows of the halo",
                            core.len(),
                            tile.core_rows(),
                            tile.width
                        )));
                    }
                    if op == Op::Whole {
                        out.put(&[&codec::encode(tile.width, tile.core_rows(), core)?])
                    } else {
                        out.put(&[&tile.core_header(), core])
                    }
                })
            }),
            (op @ (Op::Whole | Op::Part { .. }), work) => with_guest(out, &mut |guest, out| {
                let shape = Shape { chunk: Some(chunk_of(op)), ..Shape::default() };
                let given = guest.call("run", guest.input(input())?, params, &shape)?;
                guest.bytes(&given, "run()", |bytes| match (op, work) {
                    (Op::Whole, Work::JsonArray) => json_array::normal(bytes, out)
                        .map_err(|error| Failure::service(format!("run() must give a JSON array: {}", error.text))),
                    _ => out.put(&[bytes]),
                })
            }),
            (op, work) => built_in::run(op, work, input(), &budget, out),
        }
    }
}

const fn chunk_of(op: Op) -> [u32; 2] {
    match op {
        Op::Part { index, count } => [index, count],
        _ => [0, 1],
    }
}

/// Whether a variant's source is text: compiled code is never taken, it could be made to break the engine.
fn is_text(source: &[u8]) -> bool {
    let text = std::str::from_utf8(source).ok().filter(|text| !text.contains('\0'));
    text.and_then(|text| text.chars().next()).is_some_and(|first| !first.is_control() || first.is_whitespace())
}
