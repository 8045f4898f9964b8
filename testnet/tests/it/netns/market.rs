//! A market lives on its users' devices: it works with its publisher gone, and what it revokes stops everywhere.

use std::{
    fs,
    time::{Duration, Instant},
};

use image::ImageFormat;
use msm_testnet::{
    binary::repository,
    market::{Market, text, write_service},
    net::Net,
    node::{Node, Running},
    photo, wait,
};

use super::{FOUND, JOB};

/// From the moment at which one device is shown a revocation to the end of what runs elsewhere.
const REVOKED: Duration = Duration::from_secs(5);

/// Bytes that the host's own network card has sent and received.
fn bytes_of(net: &Net, host: &str) -> String {
    let said = net.command(host, "cat").unwrap().arg("/proc/net/dev").output().unwrap();
    String::from_utf8_lossy(&said.stdout).lines().filter(|line| !line.contains("lo:")).collect()
}

#[test]
fn a_market_outlives_its_publisher_and_its_revocations_reach_everybody() {
    let net = Net::new(&["p", "a", "b", "c"]).unwrap();
    let picture = net.file("photo.png");
    photo::write(&picture, 200, 150, ImageFormat::Png).unwrap();
    let input = net.file("input");
    fs::write(&input, [0; 4 * 1024]).unwrap();
    let endless = write_service(net.folder(), "endless", "export function run() { for (;;); }\n", "60s").unwrap();
    let services = [repository().join("services/image-blur"), endless];
    let market = Market::publish(&net.client("p").unwrap(), &services).unwrap();

    // A installs from the publisher, who then leaves for good. The operator's keys and folder are on a stick.
    let publisher = Node::start(net.client("p").unwrap(), &[]).unwrap();
    let a = Node::start(net.client("a").unwrap(), &[]).unwrap();
    a.sees(&[&publisher], FOUND).unwrap();
    a.client.json(&["market", "add", &market.name, "--yes"]).unwrap();
    let blur = |node: &Node, name: &str| {
        let out = net.file(name);
        let line = ["invoke", "image-blur", text(&picture).unwrap(), "-o", text(&out).unwrap(), "--local"];
        node.client.json(&line).unwrap();
        fs::read(out).unwrap()
    };
    let expected = blur(&a, "a.png");
    let forever = |node: &Node| {
        let line = ["invoke", "endless", text(&input).unwrap(), "-o", "/dev/null", "--local"];
        let mut running = Running::start(&node.client, &line).unwrap();
        let begun = wait::until(FOUND, "it runs", || {
            let jobs = node.client.json(&["jobs"])?;
            let active = jobs["jobs"].as_array().is_some_and(|jobs| jobs.iter().any(|job| job["state"] == "running"));
            Ok(active.then_some(()))
        });
        begun.unwrap_or_else(|error| panic!("{error}\n{}", running.said()));
        running
    };
    let mut on_a = forever(&a);
    drop(publisher);
    net.cable("p", false).unwrap();
    let stick = net.file("stick");
    fs::rename(net.file("p"), &stick).unwrap();
    let before = bytes_of(&net, "p");

    // B and C never saw it. What they get is A's, and is checked against the publisher's signature.
    let others: Vec<_> = ["b", "c"].map(|host| Node::launch(net.client(host).unwrap(), &[]).unwrap()).into();
    let others: Vec<Node> = others.into_iter().map(|node| node.ready().unwrap()).collect();
    for node in &others {
        node.sees(&[&a], FOUND).unwrap();
        node.client.json(&["market", "add", &market.name, "--yes"]).unwrap();
        let found = node.client.json(&["search", "blur"]).unwrap();
        assert_eq!(found["services"].as_array().unwrap().len(), 1, "{found}");
        assert!(blur(node, &format!("{}.png", node.client.home().file_name().unwrap().display())) == expected);
    }
    assert_eq!(bytes_of(&net, "p"), before, "the publisher's card was silent");

    // Far away the operator revokes; the stick reaches B.
    let (b, c) = (&others[0], &others[1]);
    let mut on_c = forever(c);
    let operator = net.client("p").unwrap();
    fs::rename(&stick, operator.home()).unwrap();
    let reason = ["market", "revoke", "endless@1.0.0", "--reason", "it never ends", "--yes", "--market", "test-market"];
    operator.json(&reason).unwrap();
    let shown = Instant::now();
    b.client.json(&["market", "add", &market.folder, "--yes"]).unwrap();
    for (host, running) in [("a", &mut on_a), ("c", &mut on_c)] {
        let at = running.says("revoked", REVOKED).unwrap_or_else(|error| panic!("{host}: {error}"));
        eprintln!(
            "market: {host} has stopped {:?} after B was shown the revocation",
            at.saturating_duration_since(shown)
        );
    }
    for running in [on_a, on_c] {
        assert!(running.end(JOB).is_err(), "a revoked service gives no result");
    }
    let again = c.client.output(&["invoke", "endless", text(&input).unwrap(), "-o", "/dev/null", "--json"]).unwrap();
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("revoked"));
}
