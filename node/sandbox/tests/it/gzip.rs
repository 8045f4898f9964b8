//! The shipped gzip service: a C program that knows nothing of msm, judged by the system's `gunzip`.

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::Arc,
};

use bytes::Bytes;
use msm_protocol::RefusalCode;
use msm_sandbox::{Op, Package, Work};

use crate::rig::{Rig, in_parts, shipped, wasm_package};

/// As `service.toml` says.
const MEMBER: u64 = 1 << 20;

fn gzip() -> Arc<Package> {
    wasm_package(shipped("gzip/build/gzip.wasm"), Work::Bytes { size: MEMBER }, false)
}

fn gunzip(packed: &[u8]) -> Vec<u8> {
    let mut child = Command::new("gunzip").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(packed).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{}", output.status);
    output.stdout
}

/// Text of so many bytes that compresses as text does, with a stretch of noise in its middle.
fn text(bytes: usize) -> Bytes {
    let words = ["ferry ", "lantern ", "of the ", "north ", "wind ", "and ", "salt ", "harbour\n"];
    let mut seed = 1u32;
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed >> 16
    };
    let mut out = Vec::with_capacity(bytes + 16);
    while out.len() < bytes {
        match out.len() * 8 / bytes {
            4 => out.push(next() as u8),
            _ => out.extend_from_slice(words[next() as usize % words.len()].as_bytes()),
        }
    }
    out.truncate(bytes);
    out.into()
}

#[tokio::test]
async fn it_gives_what_the_same_program_gives_natively() {
    let rig = Rig::new();
    let input = Bytes::from(shipped("gzip/tests/words.txt"));
    for level in [1, 6, 9] {
        let packed = rig.run(&gzip(), Op::Whole, &format!("{{\"level\":{level}}}"), input.clone()).await.unwrap();
        assert!(packed.bytes == shipped(&format!("gzip/tests/words.{level}.gz")), "level {level}");
    }
}

#[tokio::test]
async fn a_split_file_is_the_whole_one_and_gunzip_opens_it() {
    let rig = Rig::new();
    let edge = MEMBER as usize;
    for size in [0, 1, edge - 1, edge, edge + 1, 7 * edge / 2] {
        let input = text(size);
        let whole = rig.run(&gzip(), Op::Whole, "{\"level\":6}", input.clone()).await.unwrap().bytes;
        assert!(gunzip(&whole) == input, "{size} bytes");
        for want in [1, 2, 3, 16] {
            let (merged, count) = in_parts(&rig, &gzip(), want, "{\"level\":6}", input.clone()).await.unwrap();
            assert_eq!(count, (want as usize).min(size.div_ceil(edge)).max(1));
            assert!(merged == whole, "{size} bytes in {count} parts");
        }
    }
}

#[tokio::test]
async fn a_level_that_there_is_not_is_its_own_refusal() {
    let rig = Rig::new();
    for level in ["0", "10", "\"best\""] {
        let refusal = rig.run(&gzip(), Op::Whole, &format!("{{\"level\":{level}}}"), "x").await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::ServiceFailed, "{refusal}");
        assert!(refusal.reason.contains("gzip: needs a level from 1 to 9"), "{refusal}");
    }
}
