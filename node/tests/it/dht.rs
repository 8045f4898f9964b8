//! What only the DHT knows: packages whose publisher is gone, providers and markets that no neighbour has.

use std::sync::{Arc, Mutex};

use msm_protocol::{
    ContentHash, Manifest, cbor,
    limits::CHUNK_BYTES,
    message::{BlobRequest, BlobResponse, HeadResponse},
};
use serde_bytes::ByteBuf;

use crate::{
    evil::{Answer, Evil, Knobs, Protocol, plain},
    rig::*,
};

/// A publishes, B has run it once, A leaves: C, who knows only B, gets it from B.
#[tokio::test]
async fn a_package_outlives_its_publisher() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let home = lab.home("a");
    market.served_by(&home);
    let mut a = Node::start(&home, &[]).await;
    let home = lab.home("b");
    market.trusted_by(&home);
    let b = Node::start_near(&home, &a).await;
    b.has_index(&market, 2).await;
    let (_, expected) = b.job(locally(&grind_on(1, 5)), lines(3), |_| {}).await;
    a.kill();
    drop(a);
    std::fs::remove_dir_all(&market.folder).unwrap();

    let home = lab.requester("c");
    market.trusted_by(&home);
    let c = Node::start_near(&home, &b).await;
    let (report, output) = c.job(locally(&grind_on(1, 5)), lines(3), |_| {}).await;
    assert_eq!(output, expected);
    assert_eq!(report.devices.len(), 1);
}

/// Hashes of the first release's manifest and variant.
fn package(market: &Market, manifest: ContentHash) -> [ContentHash; 2] {
    let bytes = std::fs::read(market.folder.join("blobs").join(manifest.to_string())).unwrap();
    [manifest, Manifest::from_slice(&bytes).unwrap().variants[0].hash]
}

/// The neighbour has the index and not the package; who has the package is known to the DHT alone.
#[tokio::test]
async fn a_provider_is_found_by_the_dht_alone() {
    let lab = Lab::new();
    let market = lab.market("shop", &[]);
    let manifest = market.publish(&lab.grind());
    let blobs = package(&market, manifest);

    // A neighbour that gives head, index and pages, and keeps the DHT, and has none of the package.
    let mut knobs = Knobs { kad: true, ..Knobs::default() }.with_head_of(&market);
    knobs = knobs.with_blobs_of(&market, move |request, response| {
        if blobs.contains(&request.hash) { plain(&BlobResponse::Missing) } else { plain(&response) }
    });
    let neighbour = Evil::start(knobs).await;
    // One that has the package, and never comes near the requester by itself.
    let knobs = Knobs { kad: true, ..Knobs::default() }.with_blobs_of(&market, |_, response| plain(&response));
    let provider = Evil::start(knobs).await;
    provider.dial(&neighbour.address.to_string()).await;
    until("the provider knows the neighbour", SOON, async || provider.routes(neighbour.peer).await.then_some(())).await;
    for blob in blobs {
        provider.provide(blob).await;
        let key = blob.multihash().to_vec();
        until("the neighbour was told", SOON, async || neighbour.knows_provider(key.clone()).await.then_some(())).await;
    }

    let home = lab.requester("phone");
    market.trusted_by(&home);
    let phone = Node::start(&home, &[]).await;
    neighbour.dial(&phone.address).await;
    phone.has_index(&market, 2).await;
    let (_, output) = phone.job(locally(&grind_on(1, 5)), lines(3), |_| {}).await;
    assert_eq!(output, grind(&lines(3), 5));
    assert!(provider.is_connected(phone.peer).await, "it was found and dialled");
}

/// The only neighbour does not say what it speaks, which a neighbour far away has not said yet either when the first job
/// begins: it was dialled, so it is asked.
#[tokio::test]
async fn a_fresh_device_asks_the_dht_before_identify() {
    let lab = Lab::new();
    let market = lab.market("shop", &[]);
    let manifest = market.publish(&lab.grind());
    let blobs = package(&market, manifest);
    let knobs = Knobs { kad: true, identify: false, ..Knobs::default() }.with_head_of(&market);
    let neighbour = Evil::start(knobs.with_blobs_of(&market, move |request, response| {
        if blobs.contains(&request.hash) { plain(&BlobResponse::Missing) } else { plain(&response) }
    }))
    .await;
    let knobs = Knobs { kad: true, ..Knobs::default() }.with_blobs_of(&market, |_, response| plain(&response));
    let provider = Evil::start(knobs).await;
    provider.dial(&neighbour.address.to_string()).await;
    provider.provide(manifest).await;
    let key = manifest.multihash().to_vec();
    until("the neighbour was told", SOON, async || neighbour.knows_provider(key.clone()).await.then_some(())).await;

    let home = lab.requester("phone");
    market.trusted_by(&home);
    let phone = Node::start(&home, &["--peer", &neighbour.address.to_string()]).await;
    phone.has_index(&market, 2).await;
    let (_, output) = phone.job(locally(&grind_on(1, 5)), lines(3), |_| {}).await;
    assert_eq!(output, grind(&lines(3), 5));
    assert!(provider.is_connected(phone.peer).await, "it was found and dialled");
}

/// Manifest and variant come in one answer; what else comes is not kept.
#[tokio::test]
async fn a_small_package_is_one_request() {
    let lab = Lab::new();
    let market = lab.market("shop", &[]);
    let manifest = market.publish(&lab.grind());
    let [_, variant] = package(&market, manifest);
    let source = std::fs::read(market.folder.join("blobs").join(variant.to_string())).unwrap();
    let stray = b"nobody has named this".to_vec();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (heard, sent) = (asked.clone(), [stray.clone(), source.clone()]);
    let knobs = Knobs::default().with_head_of(&market).with_blobs_of(&market, move |request, response| {
        if ![manifest, variant].contains(&request.hash) {
            return plain(&response);
        }
        heard.lock().unwrap().push(request.hash);
        let BlobResponse::Have(mut range) = response else { return plain(&response) };
        assert!(request.more as usize >= sent.iter().map(Vec::len).sum::<usize>(), "{request:?}");
        range.more = sent.clone().map(ByteBuf::from).to_vec();
        plain(&BlobResponse::Have(range))
    });
    let provider = Evil::start(knobs).await;
    let home = lab.requester("phone");
    market.trusted_by(&home);
    let phone = Node::start(&home, &["--peer", &provider.address.to_string()]).await;
    phone.has_index(&market, 2).await;
    let (_, output) = phone.job(locally(&grind_on(1, 5)), lines(3), |_| {}).await;
    assert_eq!(output, grind(&lines(3), 5));
    assert_eq!(*asked.lock().unwrap(), [manifest]);

    // The phone gives it on in the same way, as far as there is room.
    let ask = async |hash, more| {
        let request = BlobRequest { v: 1, len: CHUNK_BYTES as u32, hash, more, offset: 0 };
        let answer = provider.ask(Protocol::Blob, phone.peer, cbor::to_vec(&request).unwrap()).await.unwrap();
        cbor::from_slice::<BlobResponse>(&answer, answer.len()).unwrap()
    };
    for (room, expected) in [(0, vec![]), (source.len() - 1, vec![]), (32_768, vec![ByteBuf::from(source)])] {
        let BlobResponse::Have(range) = ask(manifest, room as u32).await else { panic!("the phone has the manifest") };
        assert_eq!(range.more, expected, "room for {room} bytes");
    }
    assert_eq!(ask(ContentHash::of(&stray), 0).await, BlobResponse::Missing);
}

/// `market add` with neither a neighbour nor gossip that knows the market: the DHT knows who has it.
#[tokio::test]
async fn a_market_is_found_by_the_dht_alone() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    // It keeps the DHT and knows nothing else; it passes on no gossip.
    let mut knobs = Knobs { kad: true, ..Knobs::default() };
    knobs.head = Box::new(|_| Answer::Bytes(cbor::to_vec(&HeadResponse::default()).unwrap()));
    let hub = Evil::start(knobs).await;
    let home = lab.home("publisher");
    market.served_by(&home);
    let publisher = Node::start(&home, &["--peer", &hub.address.to_string()]).await;
    let place = ContentHash::from_bytes(*market.id.as_bytes()).multihash().to_vec();
    until("the DHT was told", SOON, async || hub.knows_provider(place.clone()).await.then_some(())).await;

    let home = lab.requester("phone");
    let phone = Node::start(&home, &["--peer", &hub.address.to_string()]).await;
    until("the phone is in the DHT", SOON, async || hub.routes(phone.peer).await.then_some(())).await;
    assert_eq!(phone.peers().await.len(), 1, "it knows the hub only");
    let added = msm(&home, &["market", "add", &market.id.to_string(), "--yes", "--json"]).await.json();
    assert_eq!(added["version"], 2, "{added}");
    phone.sees(&[&publisher]).await;
    let (_, output) = phone.job(locally(&grind_on(1, 5)), lines(3), |_| {}).await;
    assert_eq!(output, grind(&lines(3), 5));
}
