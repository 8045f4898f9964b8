//! What an honest WebAssembly program can count on, and what it is told when it errs.

use std::sync::Arc;

use bytes::Bytes;
use msm_protocol::{ContentHash, Refusal};
use msm_sandbox::{Asks, Engine, Files, Op, Output, Package, Work};

use crate::rig::Rig;

/// A package of a module in text form or of bytes that are taken as they are.
pub fn module(source: impl AsRef<[u8]>, work: Work) -> Package {
    let source = source.as_ref();
    let is_text = source.starts_with(b"(") || source.starts_with(b";;");
    let source = if is_text { wat::parse_bytes(source).unwrap().into_owned() } else { source.to_vec() };
    Package {
        hash: ContentHash::of(&[&source[..], format!("{work:?}").as_bytes()].concat()),
        engine: Engine::Wasm,
        source: source.into(),
        files: Files::default(),
        asks: Asks::default(),
        work,
        label: "test@1.0.0".into(),
    }
}

pub async fn run(rig: &Rig, package: Package, params: &str, input: impl Into<Bytes>) -> Result<Output, Refusal> {
    rig.run(&Arc::new(package), Op::Whole, params, input).await
}

/// Copies its input to its output, a byte array of 64 KiB at a time.
pub const ECHO: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (func (export "_start")
        (loop $more
            (i32.store (i32.const 0) (i32.const 65536))
            (i32.store (i32.const 4) (i32.const 65536))
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (i32.store (i32.const 4) (i32.load (i32.const 8)))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
            (br_if $more (i32.load (i32.const 8))))))"#;

#[tokio::test]
async fn bytes_go_in_and_out() {
    let rig = Rig::new();
    assert!(run(&rig, module(ECHO, Work::Whole), "{}", "x").await.unwrap().bytes == "x");
    let echo = Arc::new(module(ECHO, Work::Whole));
    for length in [0, 1, 65_535, 65_536, 65_537, 5_000_000] {
        let input: Bytes = (0..length).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let output = rig.run(&echo, Op::Whole, "{}", input.clone()).await.unwrap();
        assert!(output.bytes == input, "{length} bytes");
    }
}
