//! Requests that come one byte a second, a hundred at once: each is given up soon, and nobody else waits for them.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::Stream;
use msm_protocol::{cbor, device::DeviceInfo, message::Discovery};

use crate::{
    evil::{Evil, Knobs, Protocol},
    rig::*,
};

const PEERS: usize = 25;
/// As many as a peer may have open.
const STREAMS_EACH: usize = 4;

/// Sends the beginning of a frame, and then a byte each second, until the other side has ended the stream.
async fn trickle(stream: Stream) -> Duration {
    let (mut reader, mut writer) = stream.split();
    let since = tokio::time::Instant::now();
    let writing = async {
        let mut bytes: &[u8] = &[200, 0, 0, 0, 0xa1];
        while writer.write_all(bytes).await.is_ok() && writer.flush().await.is_ok() {
            bytes = &[0x61];
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        std::future::pending().await
    };
    let mut answer = Vec::new();
    tokio::select! {
        // An end in order and a reset are both an end.
        _ = reader.read_to_end(&mut answer) => {}
        () = writing => {}
    }
    since.elapsed()
}

#[tokio::test]
async fn b45_a_hundred_requests_of_a_byte_a_second_block_nobody() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let Crew { requester, workers } = Crew::gather(&lab, &market, 1).await;
    let (honest, worker) = (Evil::start(Knobs::default()).await, &workers[0]);
    honest.dial(&worker.address).await;
    let mut slow = tokio::task::JoinSet::new();
    let mut peers = Vec::new();
    for _ in 0..PEERS {
        let evil = Evil::start(Knobs::default()).await;
        evil.dial(&worker.address).await;
        for _ in 0..STREAMS_EACH {
            slow.spawn(trickle(evil.open_job(worker.peer).await.unwrap()));
        }
        peers.push(evil);
    }
    // While they last: a small request, and a whole job.
    let discovery = cbor::to_vec(&Discovery { v: 1, need: None }).unwrap();
    let answer = honest.ask(Protocol::Device, worker.peer, discovery).await.unwrap();
    let _: DeviceInfo = cbor::from_slice(&answer, answer.len()).unwrap();
    let text = lines(8);
    let (report, output) = requester.job(grind_on(2, 1_000), text.clone(), |_| {}).await;
    assert!(output == grind(&text, 1_000));
    assert_counted_once(&report);
    let mut longest = Duration::ZERO;
    while let Some(ended) = tokio::time::timeout(SOON, slow.join_next()).await.expect("each of them ends") {
        longest = longest.max(ended.unwrap());
    }
    eprintln!("b45: the longest of {} slow requests lasted {longest:?}", PEERS * STREAMS_EACH);
    // 5 s by FAULTS.md, and 3 for a busy machine.
    assert!(longest < Duration::from_secs(8), "{longest:?}");
    // The worker is as ready as before.
    let (report, _) = requester.job(grind_on(2, 1_000), text, |_| {}).await;
    assert_counted_once(&report);
    assert_eq!(worker.status().await.running_tasks, 0);
}
