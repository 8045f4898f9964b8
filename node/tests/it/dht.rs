//! What only the DHT knows: packages whose publisher is gone, providers and markets that no neighbour has.

use msm_protocol::{
    ContentHash, Manifest, cbor,
    message::{BlobResponse, HeadResponse},
};

use crate::{
    evil::{Answer, Evil, Knobs, plain},
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
