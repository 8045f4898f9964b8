//! One call of a wasm package: which words, environment and bytes its program gets, and what becomes of its output.

use msm_protocol::limits;

use super::{
    Failure, Probe, built_in,
    out::Out,
    wasi::{Guest, Stdout},
    wasm::{Run, Wasm},
};
use crate::{
    Aim,
    call::{Op, Work},
    wire::{Fault, Loaded, Request},
    work::{Sink, codec, frames, image_rows::Tile, json_array},
};

/// Runs a call.
pub fn run(
    wasm: &Wasm,
    package: &Loaded,
    request: &Request,
    mut input: Vec<u8>,
    out: &mut Out,
    log: &mut String,
    probe: Option<Probe>,
) -> Result<(), Failure> {
    let budget = request.budget;
    let probe = probe.filter(|_| package.label.starts_with("//probe"));
    let mut program = Program { wasm, package, request, log, probe, report: None };
    match (request.op, package.work) {
        (Op::Split(Aim { want, .. }), Work::Service) => {
            let parts = program.kept("split", vec![format!("MSM_WANT={want}")], input, budget.output)?;
            out.put(&[checked(&parts)?])
        }
        (Op::Merge, Work::Service) => program.streamed("merge", vec![], input, out).map(drop),

        (Op::Whole, Work::ImageRows { .. }) => {
            let picture = codec::decode(&input, budget.memory)?;
            drop(input);
            let tile = Tile::whole(&picture);
            let rows = program.kept("run", about(Op::Whole, Some(&tile)), picture.data, tile.core_bytes());
            let rows = rows.map_err(|failure| match failure.fault {
                Fault::OutputTooLarge => wrong_rows(&tile, "more bytes than there are"),
                _ => failure,
            })?;
            fits(&tile, rows.len() as u64)?;
            out.put(&[&codec::encode(tile.width, tile.core_rows(), &rows)?])
        }
        (op @ Op::Part { .. }, Work::ImageRows { .. }) => {
            let (tile, at) = Tile::read(&input)?;
            input.drain(..at);
            out.put(&[&tile.core_header()])?;
            fits(&tile, program.streamed("run", about(op, Some(&tile)), input, out)?)
        }
        (Op::Whole, Work::JsonArray) => {
            let array = program.kept("run", about(Op::Whole, None), input, budget.output)?;
            json_array::normal(&array, out)
                .map_err(|error| Failure::service(format!("the service must write a JSON array: {}", error.text)))
        }
        (op @ (Op::Whole | Op::Part { .. }), _) => {
            program.streamed("run", about(op, None), input, out)?;
            match program.report {
                Some(report) => out.put(&[report.as_bytes()]),
                None => Ok(()),
            }
        }
        (op, work) => built_in::run(op, work, input, &budget, out),
    }
}

struct Program<'a> {
    wasm: &'a Wasm,
    package: &'a Loaded,
    request: &'a Request,
    log: &'a mut String,
    probe: Option<Probe>,
    /// What the probe of a test said.
    report: Option<String>,
}

impl Program<'_> {
    /// Runs the program with its output going to the parent; gives the number of bytes.
    fn streamed(&mut self, word: &str, env: Vec<String>, input: Vec<u8>, out: &mut Out) -> Result<u64, Failure> {
        let (stdout, result) = self.run(word, env, input, Stdout::Stream(out.hand_over(), 0));
        let written = match stdout {
            Stdout::Stream(own, written) => {
                *out = own;
                written
            }
            Stdout::Keep { .. } => 0,
        };
        result.map(|()| written)
    }

    /// Runs the program and keeps its output, at most `cap` bytes.
    fn kept(&mut self, word: &str, env: Vec<String>, input: Vec<u8>, cap: u64) -> Result<Vec<u8>, Failure> {
        let (stdout, result) = self.run(word, env, input, Stdout::Keep { bytes: Vec::new(), cap });
        match stdout {
            Stdout::Keep { bytes, .. } => result.map(|()| bytes),
            Stdout::Stream(..) => result.map(|()| Vec::new()),
        }
    }

    fn run(&mut self, word: &str, env: Vec<String>, input: Vec<u8>, stdout: Stdout) -> (Stdout, Result<(), Failure>) {
        let budget = self.request.budget;
        let mut guest = Guest::new(self.wasm.own(), self.package.asks, budget.memory, input, stdout);
        guest.args = vec![self.package.label.clone(), word.to_owned()];
        guest.env = parameters(&self.request.params);
        guest.env.extend(env);
        let run = Run { guest, memory: budget.memory, time: budget.time };
        let (probe, label, report) = (self.probe, &self.package.label, &mut self.report);
        let (mut guest, result) = self.wasm.run(run, || *report = probe.map(|probe| probe(label)));
        *self.log = guest.log();
        (guest.stdout, result)
    }
}

/// `MSM_PARAMS`, and each parameter by itself.
fn parameters(params: &str) -> Vec<String> {
    let mut env = vec![format!("MSM_PARAMS={params}")];
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(params).unwrap_or_default();
    for (name, value) in object {
        let text = match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        let name = name.to_uppercase().replace(['-', '.'], "_");
        // What an environment cannot hold stands in MSM_PARAMS only.
        if !name.contains(['=', '\0']) && !text.contains('\0') {
            env.push(format!("MSM_PARAM_{name}={text}"));
        }
    }
    env
}

/// Which task it is, and the shape of its rows.
fn about(op: Op, tile: Option<&Tile>) -> Vec<String> {
    let (index, count) = match op {
        Op::Part { index, count } => (index, count),
        _ => (0, 1),
    };
    let mut env = vec![format!("MSM_CHUNK_INDEX={index}"), format!("MSM_CHUNK_COUNT={count}")];
    if let Some(Tile { width, rows, top, bottom }) = tile {
        let sides = [("WIDTH", width), ("HEIGHT", rows), ("TOP", top), ("BOTTOM", bottom)];
        env.extend(sides.map(|(name, number)| format!("MSM_TILE_{name}={number}")));
    }
    env
}

/// The frames of a split, if that is what they are.
fn checked(parts: &[u8]) -> Result<&[u8], Failure> {
    let mut count = 0;
    for frame in frames::read(parts) {
        frame.map_err(|error| Failure::service(format!("split must write frames: {error}")))?;
        count += 1;
        if count > limits::TASKS_PER_JOB {
            return Err(Failure::service(format!("split gave more than {} parts", limits::TASKS_PER_JOB)));
        }
    }
    if count == 0 { Err(Failure::service("split gave no parts")) } else { Ok(parts) }
}

fn fits(tile: &Tile, bytes: u64) -> Result<(), Failure> {
    if bytes == tile.core_bytes() { Ok(()) } else { Err(wrong_rows(tile, &format!("{bytes} bytes"))) }
}

fn wrong_rows(tile: &Tile, given: &str) -> Failure {
    Failure::service(format!(
        "run gave {given} for {} rows of {} pixels: write RGBA, without the rows of the halo",
        tile.core_rows(),
        tile.width
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_become_environment() {
        let env = parameters(r#"{"radius":3,"kind":"box","a-b.c":true,"x":"a\u0000b","e":"\"q\"=1","n":null}"#);
        assert!(env[0].starts_with("MSM_PARAMS={\"radius\""));
        let mut rest = env[1..].to_vec();
        rest.sort();
        let expected = [
            "MSM_PARAM_A_B_C=true",
            "MSM_PARAM_E=\"q\"=1",
            "MSM_PARAM_KIND=box",
            "MSM_PARAM_N=null",
            "MSM_PARAM_RADIUS=3",
        ];
        assert_eq!(rest, expected);
        assert_eq!(parameters("{}").len(), 1);
    }

    #[test]
    fn only_frames_are_parts() {
        assert!(checked(b"\x01\0\0\0a\0\0\0\0").is_ok());
        for wrong in [&b""[..], b"\x02\0\0\0a", b"abc", &[0; 4 * 16_385]] {
            assert!(checked(wrong).is_err(), "{}", wrong.len());
        }
    }
}
