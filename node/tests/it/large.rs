//! Inputs and outputs that are larger than what the processes on their way may hold.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::rig::*;

const MIB: usize = 1024 * 1024;
/// Size of the input, in parts of 1 MiB.
const PARTS: usize = 300;
/// What no process on the way may have held at any time: about a debug build's own size and some parts of the job.
const PEAK_KIB: u64 = 160 * 1024;
/// A debug build on a busy machine.
const LONG: Duration = Duration::from_secs(150);

/// Bytes of part `n`: no two are the same.
fn part(n: usize) -> Vec<u8> {
    let mut state = n as u32 + 1;
    (0..MIB / 4)
        .flat_map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_le_bytes()
        })
        .collect()
}

/// A service that gives back what it gets, with the first byte of each part turned over.
fn mirror(lab: &Lab) -> std::path::PathBuf {
    let source = "export function run(input) {
          const out = new Uint8Array(input.length);
          out.set(input);
          out[0] ^= 255;
          return out;
        }";
    lab.service("mirror", "1.0.0", "[work]\nsplit = \"bytes:4KiB\"\ndeterministic = true", source)
}

/// Waits for `child` and says how much memory it and `node` had at most, in KiB.
fn watched(mut child: Child, node: Option<&Node>) -> (u64, u64) {
    let peak = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let (mut call, end) = (0, Instant::now() + LONG);
    loop {
        call = call.max(peak(child.id()));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return (call, node.map_or(0, |node| peak(node.pid())));
        }
        if Instant::now() > end {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("not within {LONG:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn assert_mirrored(path: &Path) {
    let mut file = File::open(path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), (PARTS * MIB) as u64);
    let mut got = vec![0; MIB];
    for n in 0..PARTS {
        file.read_exact(&mut got).unwrap();
        let mut expected = part(n);
        expected[0] ^= 255;
        assert!(got == expected, "part {n}");
    }
}

async fn mirrored(with_node: bool) {
    let lab = Lab::new();
    let market = lab.market("shop", &[mirror(&lab)]);
    let home = lab.home("phone");
    market.served_by(&home);
    let node = if with_node { Some(Node::start(&home, &[]).await) } else { None };
    let mut file = File::create(home.folder().join("in.txt")).unwrap();
    (0..PARTS).for_each(|n| file.write_all(&part(n)).unwrap());
    drop(file);
    let mut call = Command::new(MSM);
    call.args(["invoke", "mirror", "in.txt", "-o", "out.bin", "--local", "-q", "--home"]).arg(home.folder());
    let child = call.current_dir(home.folder()).stdout(Stdio::null()).spawn().unwrap();
    let (call, served) = tokio::task::block_in_place(|| watched(child, node.as_ref()));
    eprintln!("{PARTS} MiB: the call held {} MiB at most, the node {} MiB", call >> 10, served >> 10);
    assert!(call > 0 && call < PEAK_KIB && served < PEAK_KIB, "{call} KiB, {served} KiB");
    assert_mirrored(&home.folder().join("out.bin"));
    let left = fs::read_dir(home.journal_dir()).unwrap().filter(|it| it.as_ref().unwrap().file_name() != "spool");
    assert_eq!(left.count(), 0, "nothing of it stays");
    if with_node {
        assert_eq!(fs::read_dir(home.spool_dir()).unwrap().count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_larger_than_memory_passes_through_a_node() {
    mirrored(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_larger_than_memory_needs_no_running_node() {
    mirrored(false).await;
}

/// What must be held to be cut keeps its limit, and says the number.
#[tokio::test]
async fn what_cannot_be_cut_by_place_is_refused_by_its_size() {
    let lab = Lab::new();
    let list = lab.service("list", "1.0.0", "[work]\nsplit = \"json-array\"\n", "export function run(x) { return x; }");
    let market = lab.market("shop", &[list, mirror(&lab)]);
    let home = lab.home("phone");
    market.served_by(&home);
    for (service, size, limit) in [("list", 64 * MIB as u64 + 1, 67_108_864_u64), ("mirror", (8 << 30) + 1, 8 << 30)] {
        File::create(home.folder().join("in.txt")).unwrap().set_len(size).unwrap();
        let refused = msm(&home, &["invoke", service, "in.txt", "-o", "out.txt", "--json"]).await;
        let message = refused.error()["message"].as_str().unwrap().to_owned();
        assert_eq!(refused.code, 2, "{message}");
        assert!(message.contains(&limit.to_string()), "{service}: {message}");
    }
    assert!(!home.folder().join("out.txt").exists());
}
