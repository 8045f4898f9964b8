//! The child's loop: takes a package, then call after call for it, and answers each.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use msm_protocol::limits;

use super::{
    Failure, Probe,
    channel::Channel,
    host::Host,
    js::{Guest, Js, Shape, turns::ANSWER_MESSAGE_BYTES},
};
use crate::{
    call::{Op, Work},
    wire::{self, Fault, Loaded, Request, kind},
    work::{
        Sink, WorkError, codec, frames,
        image_rows::{self, Tile},
        json_array, runs,
    },
};

/// A `LOAD` message at most: a whole package, the paths of its files, and its header.
const LOAD_BYTES: usize = limits::PACKAGE_BYTES + 64 * 1024;
/// A `CALL` message at most: the parameters and the numbers before them.
const CALL_BYTES: usize = limits::PARAMS_BYTES + 1024;

/// Serves until the parent closes the channel or kills this process.
pub fn serve(channel: Channel, probe: Option<Probe>) -> ! {
    let host = Host::new();
    let mut child =
        Child { channel, js: Js::new(&host).ok(), host, package: None, is_text: false, load: Duration::ZERO };
    loop {
        match channel.receive(LOAD_BYTES.max(CALL_BYTES).max(ANSWER_MESSAGE_BYTES)) {
            (kind::LOAD, payload) => {
                child.package = wire::read_load(payload).map(Rc::new);
                child.is_text = child.package.as_ref().is_some_and(|package| is_text(&package.source));
                child.js.iter_mut().for_each(Js::forget_package);
            }
            (kind::CALL, payload) => match wire::read_call(&payload) {
                Some(request) => child.answer(&request, probe),
                None => std::process::abort(), // the parent is this same program: its requests are well-formed
            },
            // To a question that its run has left open.
            (kind::ANSWER, _) => continue,
            _ => std::process::abort(),
        }
        if let Some(js) = &mut child.js {
            // Without room for the next context its run fails with out-of-memory.
            let _ = js.tidy();
        }
    }
}

struct Child {
    channel: Channel,
    host: Rc<Host>,
    js: Option<Js>,
    package: Option<Rc<Loaded>>,
    is_text: bool,
    load: Duration,
}

impl Child {
    fn answer(&mut self, request: &Request, probe: Option<Probe>) {
        let length = usize::try_from(request.input_len).unwrap_or(usize::MAX);
        let cap = request.budget.output;
        let mut out = Out { channel: self.channel, waiting: Vec::new(), left: cap, cap };
        let result = match self.channel.bytes(length) {
            Some(input) => self.run(request, input, &mut out, probe),
            None => {
                self.channel.skip(request.input_len);
                Err(Failure::memory(request.budget.memory))
            }
        };
        // One write for all that is left to say: a small answer wakes the parent once.
        let mut last = Vec::new();
        let log = self.host.take_log();
        if !log.is_empty() {
            wire::put(&mut last, kind::LOG, &[log.as_bytes()]);
        }
        match result {
            Ok(()) => {
                wire::put(&mut last, kind::OUTPUT, &[&out.waiting]);
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

    fn run(&mut self, request: &Request, input: Vec<u8>, out: &mut Out, probe: Option<Probe>) -> Result<(), Failure> {
        let budget = request.budget;
        let Some(package) = &self.package else { return Err(Failure::new(Fault::BadPackage, "no package is loaded")) };
        if !self.is_text {
            return Err(Failure::new(Fault::BadPackage, "the package's source is not JavaScript text"));
        }
        if let Some(probe) = probe
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
            (Op::Split { .. }, Work::Whole) => {
                let input = input();
                out.put(&[&frames::prefix(input.len())?, &input])
            }
            (Op::Split { want, target_bytes }, Work::Bytes { size }) => {
                runs::split_bytes(&input(), size, want, target_bytes, out)
            }
            (Op::Split { want, target_bytes }, Work::Lines { n }) => {
                runs::split_lines(&input(), n, want, target_bytes, out)
            }
            (Op::Split { want, target_bytes }, Work::JsonArray) => json_array::split(&input(), want, target_bytes, out),
            (Op::Split { want, target_bytes }, Work::ImageRows { halo }) => {
                let picture = codec::decode(&input(), budget.memory)?;
                image_rows::split(&picture, halo, want, target_bytes, out)
            }
            (Op::Split { want, .. }, Work::Service) => with_guest(out, &mut |guest, out| {
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

            (Op::Merge, Work::Whole) => {
                let input = input();
                let mut parts = frames::read(&input);
                match (parts.next().transpose()?, parts.next()) {
                    (Some(part), None) => out.put(&[part]),
                    _ => Err(WorkError::bad("a service that is not split has one part").into()),
                }
            }
            (Op::Merge, Work::Bytes { .. } | Work::Lines { .. }) => runs::merge(&input(), out),
            (Op::Merge, Work::JsonArray) => json_array::merge(&input(), out),
            (Op::Merge, Work::ImageRows { .. }) => out.put(&[&image_rows::merge(&mut input())?]),
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

/// The call's output on its way to the parent, held to its cap.
struct Out {
    channel: Channel,
    /// The first bytes, while they are few: they go with the end of the answer.
    waiting: Vec<u8>,
    left: u64,
    cap: u64,
}

impl Sink for Out {
    type Error = Failure;

    fn put(&mut self, parts: &[&[u8]]) -> Result<(), Failure> {
        /// An output up to this size is copied once, to save a write and the parent a turn.
        const WAITING_BYTES: u64 = 16 * 1024;
        let length: u64 = parts.iter().map(|part| part.len() as u64).sum();
        self.left = self.left.checked_sub(length).ok_or_else(|| {
            Failure::new(Fault::OutputTooLarge, format!("the output is larger than its limit of {} bytes", self.cap))
        })?;
        if self.waiting.len() as u64 + length <= WAITING_BYTES {
            parts.iter().for_each(|part| self.waiting.extend_from_slice(part));
            return Ok(());
        }
        for part in [self.waiting.as_slice()].iter().chain(parts) {
            for chunk in part.chunks(wire::OUTPUT_CHUNK) {
                self.channel.send(kind::OUTPUT, &[chunk]);
            }
        }
        self.waiting.clear();
        Ok(())
    }
}
