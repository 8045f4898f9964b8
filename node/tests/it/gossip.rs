//! News of markets and of neighbours travel from node to node, without anybody being asked.

use std::time::{Duration, Instant};

use msm_node::command::{Command, Event};

use crate::{
    evil::{Evil, Knobs},
    rig::*,
};

/// Much less than the minute after which nodes compare their indexes anyway.
const SECONDS: Duration = Duration::from_secs(8);

#[tokio::test]
async fn a_new_index_reaches_all_points_of_a_star() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let home = lab.home("hub");
    market.trusted_by(&home);
    let hub = Node::start(&home, &[]).await;
    let mut points = Vec::new();
    for n in 0..4 {
        let home = lab.home(&format!("point{n}"));
        if n == 0 {
            market.served_by(&home)
        } else {
            market.trusted_by(&home)
        }
        points.push(Node::start(&home, &["--peer", &hub.address]).await);
    }
    hub.sees(&points.iter().collect::<Vec<_>>()).await;
    for node in points.iter().chain([&hub]) {
        node.has_index(&market, 2).await;
    }
    // Published at the end of one ray; the publisher's own node tells it on.
    market.publish(&lab.service("other", "1.0.0", "", "export const run = input => input;"));
    let since = Instant::now();
    points[0].ask(Command::MarketRefresh).await.unwrap();
    for node in points.iter().chain([&hub]) {
        until(&format!("{} has the new index", node.name), SECONDS, async || {
            (node.version_of(&market).await == 3).then_some(())
        })
        .await;
        let found = msm(&node.home, &["search", "other", "--json"]).await.json();
        assert_eq!(found["services"].as_array().unwrap().len(), 1);
    }
    assert!(since.elapsed() < SECONDS, "{:?}", since.elapsed());
}

/// Two that know a third get to know each other.
#[tokio::test]
async fn neighbours_of_a_neighbour_meet() {
    let lab = Lab::new();
    let hub = Node::start(&lab.home("hub"), &[]).await;
    let a = Node::start_near(&lab.home("a"), &hub).await;
    let b = Node::start_near(&lab.home("b"), &hub).await;
    a.sees(&[&b]).await;
    b.sees(&[&a]).await;
}

#[tokio::test]
async fn a_node_that_is_told_to_leave_says_so() {
    let lab = Lab::new();
    for listen in [TCP, QUIC] {
        let node = format!("listen = [{listen:?}]");
        let kind = if listen == TCP { "tcp" } else { "quic" };
        let hub = Node::start(&lab.home_with(&format!("hub-{kind}"), &node, ""), &[]).await;
        let mut leaver = Node::start_near(&lab.home_with(&format!("leaver-{kind}"), &node, ""), &hub).await;
        let mut watch = hub.watch().await;
        let since = Instant::now();
        assert!(leaver.leave().await.success(), "{}", leaver.log());
        // Not after a ping went unanswered: that takes seconds.
        watch.left(leaver.peer, Duration::from_secs(2)).await;
        assert!(since.elapsed() < Duration::from_secs(2), "{kind}: {:?}", since.elapsed());
        assert!(!leaver.home.control_socket().exists(), "its socket is gone too");
        let back = Node::start(&leaver.home, &["--peer", &hub.address]).await;
        let joined = watch.next("it comes back", SOON, |event| match event {
            Event::PeerJoined { peer_id, .. } => Some(peer_id),
            _ => None,
        });
        assert_eq!(joined.await, back.peer);
    }
}

/// Who begins or ends to lend says that it is there, and who hears that asks it what it is like.
#[tokio::test]
async fn neighbours_learn_soon_that_a_device_is_lent_or_not() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let home = lab.home("worker");
    market.served_by(&home);
    let worker = Node::start(&home, &[]).await;
    let phone = Node::start_near(&lab.requester("phone"), &worker).await;
    let flips = async {
        for lends in [false, true].into_iter().cycle().take(8) {
            let command = if lends { Command::Resume } else { Command::Pause { for_s: None } };
            worker.ask(command).await.unwrap();
            until("the other knows", SOON, async || {
                let peers = phone.peers().await;
                peers.iter().any(|row| row.peer_id == worker.peer && row.availability == Some(lends)).then_some(())
            })
            .await;
        }
    };
    // Without it each would take the 10 s after which everybody is asked anyway.
    tokio::time::timeout(SOON, flips).await.expect("eight in the time of three");
}

/// Gossip that means nothing is not passed on and hurts nobody.
#[tokio::test]
async fn garbage_gossip_is_not_passed_on() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let home = lab.home("hub");
    market.served_by(&home);
    let hub = Node::start(&home, &[]).await;
    let listener = Evil::start(Knobs { gossip: true, ..Knobs::default() }).await;
    let talker = Evil::start(Knobs { gossip: true, ..Knobs::default() }).await;
    listener.dial(&hub.address).await;
    talker.dial(&hub.address).await;
    let topics =
        [msm_protocol::message::name::PRESENCE.to_owned(), msm_protocol::message::name::market_topic(&market.id)];
    for topic in &topics {
        listener.subscribe(topic).await;
        talker.subscribe(topic).await;
    }
    until("all are in the mesh", SOON, async || {
        (talker.gossips_with(hub.peer).await && listener.gossips_with(hub.peer).await).then_some(())
    })
    .await;
    let old_head = std::fs::read(market.folder.join("head.cbor")).unwrap();
    for topic in &topics {
        for garbage in [vec![0x9f; 1000], vec![], vec![0xff; 4096], vec![0x81; 2000]] {
            talker.publish(topic, garbage).await;
        }
    }
    // What is known already is no news either; a new index is.
    talker.publish(&topics[1], old_head).await;
    market.publish(&lab.service("other", "1.0.0", "", "export const run = input => input;"));
    let new_head = std::fs::read(market.folder.join("head.cbor")).unwrap();
    hub.ask(Command::MarketRefresh).await.unwrap();
    let heard = until("the news comes through", SOON, async || {
        let heard = listener.heard().await;
        heard.contains(&new_head).then_some(heard)
    })
    .await;
    let nonsense = heard.iter().filter(|data| **data != new_head && !is_presence(data)).count();
    assert_eq!(nonsense, 0, "{} messages were passed on", heard.len());
    assert!(hub.status().await.uptime_s < 60);
}

fn is_presence(data: &[u8]) -> bool {
    msm_protocol::Envelope::from_slice::<msm_protocol::message::Presence>(data).is_ok()
}
