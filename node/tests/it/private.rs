//! Private services: not a byte of their input leaves for a device that is not the owner's.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use msm_node::command::{Devices, Invoke};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::*;

/// A wire between two nodes that counts what goes to the one that it leads to.
struct Wire {
    port: u16,
    bytes: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Wire {
    /// A wire to a port of this machine.
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let bytes = Arc::new(AtomicU64::new(0));
        let count = bytes.clone();
        let task = tokio::spawn(async move {
            let mut pairs = tokio::task::JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let count = count.clone();
                pairs.spawn(async move {
                    let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                    tokio::select! {
                        () = carry(from_near, to_far, Some(count)) => {}
                        () = carry(from_far, to_near, None) => {}
                    }
                });
            }
        });
        Self { port: own, bytes, task }
    }

    fn carried(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    count: Option<Arc<AtomicU64>>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut piece = vec![0; 64 * 1024];
    loop {
        match from.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(n) => {
                if let Some(count) = &count {
                    count.fetch_add(n as u64, Ordering::Relaxed);
                }
                if to.write_all(&piece[..n]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The service in question, private or not: lines in upper case, slowly enough that a worker pays.
fn upper(lab: &Lab, name: &str, private: bool) -> std::path::PathBuf {
    let more =
        format!("[work]\nsplit = \"lines:1\"\nprivate = {private}\ndeterministic = true\n[limits]\ntime = \"60s\"");
    let source = "export function run(input) {
          let spin = 0;
          for (let i = 0; i < 3000000; i++) spin = Math.imul(spin ^ i, 16777619);
          return new TextDecoder().decode(input).toUpperCase() + (spin === 1 ? '!' : '');
        }";
    lab.service(name, "1.0.0", &more, source)
}

#[tokio::test]
async fn b75_not_a_byte_of_a_private_jobs_input_leaves() {
    let lab = Lab::new();
    let market = lab.market("shop", &[upper(&lab, "open", false), upper(&lab, "diary", true)]);
    let home = lab.home("stranger");
    market.served_by(&home);
    let stranger = Node::start(&home, &[]).await;
    let port = stranger.address.split('/').nth(4).unwrap().parse().unwrap();
    let wire = Wire::to(port).await;

    let through = format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", wire.port, stranger.peer);
    let start = async |name: &str, own: &str| {
        let node = format!("listen = [{TCP:?}]\npeers = [{through:?}]\nown = [{own}]");
        let home = lab.home_with(name, &node, "enabled = false\nslots = 1\ncpu = \"1%\"");
        market.trusted_by(&home);
        let phone = Node::start(&home, &[]).await;
        phone.sees(&[&stranger]).await;
        phone.has_index(&market, 3).await;
        phone
    };
    // 64 KiB of text in 16 lines, of which nothing is found twice.
    let noise = |seed: u32| {
        let mut n = seed;
        let mut next = move || {
            n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b'a' + (n >> 24) as u8 % 26)
        };
        (0..16).map(|_| (0..4096).map(|_| next()).collect::<String>() + "\n").collect::<String>()
    };
    let both = |service: &str| Invoke {
        service: service.into(),
        devices: Devices::Range { min: 2, max: 2 },
        ..Invoke::default()
    };

    let phone = start("phone", "").await;
    // What is not private goes there: the wire counts.
    let input = noise(1);
    let before = wire.carried();
    let (report, output) = phone.job(both("open"), input.clone(), |_| {}).await;
    assert!(output == input.to_uppercase());
    let theirs: u32 = report.devices.iter().filter(|device| !device.local).map(|device| device.tasks).sum();
    assert!(theirs > 0, "{report:?}");
    assert!(wire.carried() - before > u64::from(theirs) * 4096, "{} bytes", wire.carried() - before);

    let input = noise(2);
    let mut joined = Vec::new();
    let before = wire.carried();
    let (report, output) = phone
        .job(both("diary"), input.clone(), |event| {
            if let msm_node::command::Event::DeviceJoined { peer_id, .. } = event {
                joined.push(*peer_id);
            }
        })
        .await;
    assert!(output == input.to_uppercase());
    assert_eq!(joined, [phone.peer], "{report:?}");
    // Discovery, presence and pings; a single line of the input is more.
    let left = wire.carried() - before;
    assert!(left < 4096, "{left} bytes went to the stranger");

    let strict = Invoke { strict: true, ..both("diary") };
    let error = phone.invoke(strict, input.clone(), |_| {}).await.unwrap_err();
    assert_eq!(error.code.exit(), 5, "{error}");
    assert!(error.message.contains("the service is private: only your own devices"), "{error}");
    let shown = msm(&phone.home, &["show", "diary"]).await;
    assert!(shown.text().contains("private: runs on this device and those in node.own"), "{}", shown.text());

    // The owner's own device may see it.
    drop(phone);
    let phone = start("tablet", &format!("{:?}", stranger.peer.to_string())).await;
    let (report, output) = phone.job(both("diary"), input.clone(), |_| {}).await;
    assert!(output == input.to_uppercase());
    assert!(report.devices.iter().any(|device| device.peer_id == stranger.peer && device.tasks > 0), "{report:?}");
}
