//! Calls that are handed over together: each as if it were alone, whatever the others do.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use msm_protocol::RefusalCode;
use msm_sandbox::{Call, Op, Output, Stint, Work};

use crate::{
    rig::{Rig, package},
    wasm::{ECHO, module},
};

/// Does what its input says, and notices what another call has left.
const OBEDIENT: &str = "export function run(input) {
      const word = new TextDecoder().decode(input);
      if (globalThis.before) throw new Error('something is left of ' + globalThis.before);
      globalThis.before = word;
      Object.prototype.spoiled = word;
      if (word === 'loop') for (;;) {}
      if (word === 'fill') { const all = []; for (;;) all.push(new Array(1e5).fill(word)); }
      if (word === 'throw') throw new Error('as I was told');
      if (word === 'long') return new Uint8Array(300000).fill(7);
      return word + ' done';
    }";

fn calls(rig: &Rig, words: &[&str]) -> Vec<Call> {
    let package = package(OBEDIENT, Work::Whole, false);
    words.iter().map(|word| rig.call(&package, Op::Whole, "{}", word.to_string())).collect()
}

fn text(output: &Output) -> &str {
    std::str::from_utf8(&output.bytes).unwrap()
}

#[tokio::test]
async fn each_call_is_as_if_it_were_alone() {
    let mut rig = Rig::new();
    rig.budget.time = Duration::from_millis(1_500);
    let words = ["a", "b", "throw", "long", "c", "loop", "d", "fill", "e", "f"];
    let results = rig.sandbox.calls_under(&calls(&rig, &words), None, None).await;
    assert_eq!(results.len(), words.len());
    for (word, result) in words.iter().zip(results) {
        let code = result.as_ref().err().map(|refusal| refusal.code);
        match *word {
            "throw" => assert_eq!(code, Some(RefusalCode::ServiceFailed), "{result:?}"),
            "loop" => assert_eq!(code, Some(RefusalCode::Deadline), "{result:?}"),
            "fill" => assert_eq!(code, Some(RefusalCode::OutOfMemory), "{result:?}"),
            "long" => assert_eq!(result.unwrap().bytes, vec![7; 300_000]),
            _ => assert_eq!(text(&result.unwrap()), format!("{word} done")),
        }
    }
}

/// The deadline is each call's own, not that of all together.
#[tokio::test]
async fn every_call_has_the_whole_of_its_time() {
    let mut rig = Rig::new();
    rig.budget.time = Duration::from_millis(500);
    let wait = "export function run() { let n = 0; for (let i = 0; i < 1.5e6; i++) n += i; return String(n); }";
    let package = package(wait, Work::Whole, false);
    let calls: Vec<Call> = (0..16).map(|n| rig.call(&package, Op::Whole, "{}", n.to_string())).collect();
    let started = Instant::now();
    let results = rig.sandbox.calls_under(&calls, None, None).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    eprintln!("16 calls took {:?} with {:?} for each", started.elapsed(), rig.budget.time);
}

/// The answers of all must not wait for inputs that the child cannot take yet.
#[tokio::test]
async fn long_inputs_and_outputs_do_not_block_each_other() {
    let rig = Rig::new();
    let package = package("export function run(input) { return input; }", Work::Whole, false);
    let input = |n: u8| Bytes::from(vec![n; if n.is_multiple_of(3) { 2_000_000 } else { 9_000 }]);
    let calls: Vec<Call> = (0..12).map(|n| rig.call(&package, Op::Whole, "{}", input(n))).collect();
    for (n, result) in (0..).zip(rig.sandbox.calls_under(&calls, None, None).await) {
        assert!(result.unwrap().bytes == input(n), "{n}");
    }
}

/// One that hangs, or says too much, holds nobody up who waits for the same slot.
#[tokio::test]
async fn a_stint_ends_in_time_and_with_its_bytes() {
    let rig = Rig::new();
    let stint = |time, output| Some(Stint { time, output });
    let results = rig
        .sandbox
        .calls_under(&calls(&rig, &["a", "b", "loop", "c"]), None, stint(Duration::from_secs(1), 1000))
        .await;
    let texts: Vec<&str> = results.iter().map(|result| text(result.as_ref().unwrap())).collect();
    assert_eq!(texts, ["a done", "b done"], "the others were not come to");
    let results =
        rig.sandbox.calls_under(&calls(&rig, &["a", "long", "b", "c"]), None, stint(rig.budget.time, 1000)).await;
    assert_eq!(results.len(), 2, "{results:?}");
    let none =
        rig.sandbox.calls_under(&calls(&rig, &["loop", "a"]), None, stint(Duration::from_millis(50), 1000)).await;
    assert!(none.is_empty(), "{none:?}");
    rig.works().await;
}

#[tokio::test]
async fn webassembly_goes_together_too() {
    let rig = Rig::new();
    let package = Arc::new(module(ECHO, Work::Whole));
    let calls: Vec<Call> = (0..8).map(|n| rig.call(&package, Op::Whole, "{}", format!("number {n}"))).collect();
    for (n, result) in (0..).zip(rig.sandbox.calls_under(&calls, None, None).await) {
        assert_eq!(text(&result.unwrap()), format!("number {n}"));
    }
}
