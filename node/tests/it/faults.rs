//! Damaged stores, exposed keys, full disks, two nodes on one home, connections that come to nothing.

use std::{
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use tokio::net::TcpSocket;

use crate::{
    evil::{Evil, Knobs},
    rig::*,
};

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { found.extend(files(&entry)) } else { found.push(entry) }
    }
    found.sort();
    found
}

#[tokio::test]
async fn b53_a_store_that_was_damaged_while_the_node_was_down() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let home = lab.home("publisher");
    market.served_by(&home);
    let publisher = Node::start(&home, &[]).await;
    let home = lab.home("worker");
    market.trusted_by(&home);
    let mut node = Node::start_near(&home, &publisher).await;
    node.has_index(&market, 2).await;
    // xorshift with a fixed seed.
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below.max(1)
    };
    type Damage<'a> = &'a mut dyn FnMut(&Path);
    let flips: Damage<'_> = &mut |file| {
        let mut bytes = fs::read(file).unwrap();
        for _ in 0..100.min(bytes.len()) {
            let at = next(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << (at % 8);
        }
        fs::write(file, bytes).unwrap();
    };
    let zeros: Damage<'_> = &mut |file| fs::write(file, vec![0; fs::metadata(file).unwrap().len() as usize]).unwrap();
    let cuts: Damage<'_> = &mut |file| {
        let half = fs::metadata(file).unwrap().len() / 2;
        fs::File::options().write(true).open(file).unwrap().set_len(half).unwrap();
    };
    let blobs_only: Damage<'_> = &mut |file| {
        // The service's code, changed so that it would still run.
        let text = fs::read(file).unwrap();
        if let Ok(text) = String::from_utf8(text)
            && text.contains("toUpperCase")
        {
            fs::write(file, text.replace("toUpperCase", "toLowerCase")).unwrap();
        }
    };
    for (name, damage) in [("flips", flips), ("zeros", zeros), ("cuts", cuts), ("other code", blobs_only)] {
        let (_, output) = node.job(locally(&grind_on(1, 5)), lines(2), |_| {}).await;
        assert_eq!(output, grind(&lines(2), 5), "before {name}");
        node.kill();
        let stored = files(&home.store_dir());
        assert!(stored.len() > 3, "{stored:?}");
        stored.iter().for_each(|file| damage(file));
        node = Node::start_near(&home, &publisher).await;
        let (_, output) = node.job(locally(&grind_on(1, 5)), lines(2), |_| {}).await;
        assert_eq!(output, grind(&lines(2), 5), "after {name}");
    }
    let log = node.log();
    assert!(log.contains("damaged blob deleted"), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn b55_an_exposed_key_and_a_second_node() {
    let lab = Lab::new();
    let home = lab.home("phone");
    let node = Node::start(&home, &[]).await;
    let second = msm(&home, &["node", "--json"]).await;
    assert_ne!(second.code, 0);
    let error = second.error();
    assert!(error["message"].as_str().unwrap().starts_with("already-running: "), "{}", second.err);
    assert!(error["message"].as_str().unwrap().contains(&node.pid().to_string()), "{}", second.err);
    assert!(error["try"].as_array().is_some_and(|lines| !lines.is_empty()));
    assert_eq!(node.status().await.peer_id, node.peer, "the first one goes on");
    drop(node);

    fs::set_permissions(home.identity_key(), fs::Permissions::from_mode(0o644)).unwrap();
    let refused = msm(&home, &["node", "--json"]).await;
    assert_eq!((refused.code, refused.error()["code"].as_str()), (4, Some("not-allowed")), "{}", refused.err);
    let hint = refused.error()["try"][0].as_str().unwrap().to_owned();
    assert!(hint.starts_with("chmod 600 "), "{hint}");
    // What it says to do helps.
    let mut shell = Command::new("sh");
    shell.args(["-c", &hint]);
    assert_eq!(run(shell, "").await.code, 0);
    drop(Node::start(&home, &[]).await);
}

/// A script around a home on a small disk of its own, in namespaces of its own: all of it ends with the script.
fn on_a_small_disk(script: &str, home: &Path, size: &str) -> Command {
    let mut command = Command::new("unshare");
    let begin = format!("set -e; mount -t tmpfs -o size={size} none \"$1\"; cp -a \"$2\"/. \"$1\"; cd \"$1\"");
    let template = home.with_extension("template");
    command
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            &format!("{begin}\n{script}"),
            "sh",
        ])
        .arg(home)
        .arg(template)
        .env("MSM", MSM)
        .env("MSM_HOME", home);
    command
}

#[tokio::test]
async fn b52_a_full_disk_is_no_end() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: a full disk needs a mount, and that needs root");
        return;
    }
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let home = lab.home("publisher");
    market.served_by(&home);
    let publisher = Node::start(&home, &[]).await;

    let home = lab.home_with("full", &format!("listen = [{TCP:?}]\npeers = [{:?}]", publisher.address), "slots = 1");
    market.trusted_by(&home);
    fs::write(home.folder().join("in.txt"), lines(2)).unwrap();
    fs::rename(home.folder(), home.folder().with_extension("template")).unwrap();
    fs::create_dir(home.folder()).unwrap();
    // 16 MiB is less than what must stay free: nothing is stored, all goes on in memory. Then not a byte is left, and
    // it starts again like that.
    let script = "
        up() {
            \"$MSM\" node 2>>node.log & pid=$!
            for _ in $(seq 300); do \"$MSM\" status >/dev/null 2>&1 && return; sleep 0.1; done
            cat node.log >&2; exit 90
        }
        down() { kill $pid; wait $pid; }
        grind() { \"$MSM\" invoke grind in.txt -o - --local -p rounds=4 -q; }
        up; grind; down
        dd if=/dev/zero of=filler bs=4k 2>/dev/null || true
        up; \"$MSM\" status --json | grep -q peer_id; grind
        rm filler
        grind; down
        cat node.log >&2";
    let ran = run(on_a_small_disk(script, home.folder(), "16m"), "").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.text(), grind(&lines(2), 4).repeat(3), "{}", ran.err);
    assert!(ran.err.contains("disk-full"), "{}", ran.err);
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
}

/// Connects from another address of this machine, so that it is told apart from the honest.
async fn half_open(to: std::net::SocketAddr) -> Option<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    tokio::time::timeout(Duration::from_secs(2), socket.connect(to)).await.ok()?.ok()
}

#[tokio::test]
async fn b44_connections_that_say_nothing_do_not_keep_others_out() {
    let lab = Lab::new();
    let node = Node::start(&lab.home("node"), &[]).await;
    let port: u16 = node.address.split('/').nth(4).unwrap().parse().unwrap();
    let to = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let before = node.descriptors();
    let since = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.extend(half_open(to).await);
    }
    assert!(silent.len() > 16, "{} connected", silent.len());
    let honest = Evil::start(Knobs::default()).await;
    let dialled = Instant::now();
    until("an honest peer gets in", Duration::from_secs(5), async || {
        let _ = honest.try_dial(&node.address).await;
        honest.is_connected(node.peer).await.then_some(())
    })
    .await;
    let waited = dialled.elapsed();
    assert!(since.elapsed() < Duration::from_secs(5), "while the silent ones were still there: {:?}", since.elapsed());
    assert!(waited < Duration::from_secs(2), "an honest peer waited {waited:?}");
    let held = node.descriptors().saturating_sub(before);
    assert!(held <= 16 + 4, "{held} descriptors are held");
    // Five seconds for a handshake, and they are gone.
    for stream in &mut silent {
        let closed = tokio::time::timeout(Duration::from_secs(8), async {
            loop {
                stream.readable().await.unwrap();
                match stream.try_read(&mut [0; 64]) {
                    Ok(0) => return,
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
            }
        });
        assert!(closed.await.is_ok(), "a silent connection is still open");
    }
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
    until("descriptors are back", SOON, async || (node.descriptors() <= before + 2).then_some(())).await;
    assert!(node.peers().await.iter().any(|row| row.peer_id == honest.peer));
}

/// What is on the other end of a node's port may be no libp2p at all.
#[tokio::test]
async fn strangers_with_other_protocols_are_hung_up_on() {
    let lab = Lab::new();
    let node = Node::start(&lab.home("node"), &[]).await;
    let port: u16 = node.address.split('/').nth(4).unwrap().parse().unwrap();
    let words = [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], b"\x13/multistream/1.0.0\n\x07/plain\n", b""];
    let talks = words.map(|words| {
        std::thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
            std::io::Write::write_all(&mut stream, words).unwrap();
            match stream.read_to_end(&mut Vec::new()) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{words:?}"),
            }
        })
    });
    for talk in talks {
        tokio::task::spawn_blocking(|| talk.join()).await.unwrap().unwrap();
    }
    assert_eq!(node.status().await.peer_id, node.peer);
}
