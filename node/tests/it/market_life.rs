//! The life of a market: releases withdrawn and vetted, keys changed by several hands, copies carried away, large ones
//! read in small pieces, and two histories that do not stay unnoticed.

use std::{fs, io::BufRead as _, path::Path};

use msm_market_index::{Change, MarketFolder, Package, Publisher, pack_folder};
use msm_node::{command::Command, home::Home};
use msm_protocol::SecretKey;
use serde_json::Value;

use crate::rig::*;

/// A home that publishes a market with `grind`, and the line that others add.
async fn operator(lab: &Lab) -> (Home, String) {
    let home = lab.home("operator");
    let made = msm(&home, &["market", "init", "market", "--name", "Shop", "--alias", "shop", "--json"]).await.json();
    let service = lab.grind();
    msm(&home, &["market", "publish", service.to_str().unwrap(), "--json"]).await.json();
    (home, made["market"].as_str().unwrap().to_owned())
}

async fn changed(home: &Home, args: &[&str]) -> Value {
    let args: Vec<&str> = [&["market"], args, &["--json"]].concat();
    let row = msm(home, &args).await.json();
    assert_eq!(row["schema"], "msm.market-change/1", "{row}");
    row
}

#[tokio::test]
async fn releases_are_yanked_brought_back_and_revoked() {
    let lab = Lab::new();
    let (home, _) = operator(&lab).await;
    fs::write(home.folder().join("in.txt"), lines(2)).unwrap();
    let node = Node::start(&home, &[]).await;
    let invoke = ["invoke", "grind", "in.txt", "-p", "rounds=3", "--local", "--json"];
    assert_eq!(msm(&home, &invoke).await.code, 0);

    assert_eq!(changed(&home, &["yank", "grind@1.0.0"]).await["index"], 3);
    let yanked = msm(&home, &invoke).await;
    assert_eq!(yanked.code, 9, "{}", yanked.err);
    assert!(yanked.error()["message"].as_str().unwrap().starts_with("grind 1.0.0 is yanked"), "{}", yanked.err);
    changed(&home, &["unyank", "grind@1.0.0"]).await;
    assert_eq!(msm(&home, &invoke).await.code, 0);
    assert_eq!(changed(&home, &["unyank", "grind@1.0.0"]).await["changed"], false);

    // A revocation asks first, and says the line that answers.
    let unasked = msm(&home, &["market", "revoke", "grind@1.0.0", "--reason", "it leaks", "--json"]).await;
    assert_eq!(unasked.code, 4);
    assert_eq!(unasked.error()["try"][0], "msm market revoke grind@1.0.0 --reason 'it leaks' --yes");
    assert_eq!(changed(&home, &["revoke", "grind@1.0.0", "--reason", "it leaks", "--yes"]).await["index"], 5);
    let revoked = msm(&home, &invoke).await;
    assert!(revoked.error()["message"].as_str().unwrap().contains("revoked"), "{}", revoked.err);
    assert_ne!(revoked.code, 0);
    let back = msm(&home, &["market", "unyank", "grind@1.0.0", "--json"]).await;
    assert_eq!(back.code, 4, "a revocation is for ever: {}", back.err);
    let wrong = msm(&home, &["market", "yank", "grind@2.0.0", "--json"]).await;
    assert_eq!((wrong.code, wrong.error()["message"].as_str()), (9, Some("grind 2.0.0 is not in this market")));
    drop(node);
}

#[tokio::test]
async fn a_publisher_is_thrown_out() {
    let lab = Lab::new();
    let (home, _) = operator(&lab).await;
    let row = msm(&home, &["market", "status", "--json"]).await.json();
    assert_eq!((&row["index"], &row["releases"], &row["waiting"]), (&2.into(), &1.into(), &Value::Null));
    let key = row["roles"][1]["keys"][0].as_str().unwrap().to_owned();
    changed(&home, &["revoke", "--publisher", &key, "--reason", "its key was stolen", "--yes"]).await;
    let other = lab.service("other", "1.0.0", "", "export const run = input => input;");
    let refused = msm(&home, &["market", "publish", other.to_str().unwrap(), "--json"]).await;
    assert_eq!(refused.code, 4, "{}", refused.err);
    assert!(refused.error()["message"].as_str().unwrap().contains("is revoked in this market (its key was stolen)"));
    let report = msm(&home, &["market", "verify", "market", "--json"]).await;
    assert_eq!(report.code, 0, "{}", report.text());
}

/// What too few have looked at is neither shown nor run.
#[tokio::test]
async fn a_market_may_ask_for_reviews() {
    let lab = Lab::new();
    let (home, market) = operator(&lab).await;
    msm(&home, &["key", "new", "ann", "--json"]).await.json();
    changed(&home, &["policy", "--reviews", "1", "--reviewer", "ann"]).await;
    let publisher = Node::start(&home, &[]).await;

    let phone = lab.requester("phone");
    fs::write(phone.folder().join("in.txt"), lines(2)).unwrap();
    let node = Node::start_near(&phone, &publisher).await;
    msm(&phone, &["market", "add", &market, "--yes", "--json"]).await.json();
    let listed = async |args: &[&str]| {
        let found = msm(&phone, &[&["search", "grind", "--json"], args].concat()).await.json();
        found["services"].as_array().unwrap().len()
    };
    assert_eq!((listed(&[]).await, listed(&["--unreviewed"]).await), (0, 1));
    let invoke = ["invoke", "grind", "in.txt", "-p", "rounds=3", "--json"];
    let refused = msm(&phone, &invoke).await;
    assert_eq!(refused.code, 4, "{}", refused.err);
    assert!(refused.error()["message"].as_str().unwrap().starts_with("refused: unreviewed"), "{}", refused.err);

    // Not by its hash either, which is how somebody would get around a list.
    let found = msm(&phone, &["search", "grind", "--unreviewed", "--json"]).await.json();
    let hash = found["services"][0]["manifest"].as_str().unwrap();
    let refused = msm(&phone, &["invoke", hash, "in.txt", "-p", "rounds=3", "--local", "--json"]).await;
    assert_ne!(refused.code, 0);
    let message = refused.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("has 0 of the 1 reviews that its market asks for"), "{message}");

    let service = lab.grind();
    let review = ["market", "review", service.to_str().unwrap(), "--key", "ann", "-o", "ann.review", "--json"];
    let report = msm(&home, &review).await.json();
    assert_eq!((&report["schema"], &report["passed"]), (&"msm.market-review/1".into(), &true.into()), "{report}");
    let reviewed = changed(&home, &["put-review", "ann.review", "--by", "ann"]).await;
    let index = reviewed["index"].as_u64().unwrap();
    until("the new index is here", SOON, async || {
        let list = msm(&phone, &["market", "list", "--json"]).await.json();
        (list["markets"][0]["version"].as_u64() == Some(index)).then_some(())
    })
    .await;
    assert_eq!(listed(&[]).await, 1);
    let ran = msm(&phone, &["invoke", "grind", "in.txt", "-p", "rounds=3"]).await;
    assert_eq!(ran.text(), grind(&lines(2), 3), "{}", ran.err);
    // Not his: nobody signs for others.
    let foreign = msm(&home, &["market", "put-review", "ann.review", "--by", "shop-index", "--json"]).await;
    assert_eq!(foreign.code, 8, "{}", foreign.err);
    drop(node);
}

/// Keys of two homes sign one index; a role's keys change; a copy travels between them.
#[tokio::test]
async fn several_hands_sign_one_market() {
    let lab = Lab::new();
    let (home, _) = operator(&lab).await;
    let bob = lab.home("bob");
    let bobs = msm(&bob, &["key", "new", "bob", "--json"]).await.json();
    let bobs = bobs["public"].as_str().unwrap().to_owned();
    let rotate = ["rotate-key", "--role", "index", "--to", "shop-index", "--to", &bobs, "--threshold", "2"];
    let waiting = changed(&home, &rotate).await;
    assert_eq!(waiting["wanting"][0]["document"], "index", "{waiting}");
    assert_eq!(waiting["wanting"][0]["missing"][0], bobs);
    assert_eq!(msm(&home, &["market", "status", "--json"]).await.json()["waiting"], 3);

    // Bob has no home for this market: he signs a copy of the folder, which he verifies first.
    let copy = bob.folder().join("copy");
    copy_folder(&home.folder().join("market"), &copy);
    assert_eq!(msm(&bob, &["market", "verify", copy.to_str().unwrap()]).await.code, 0);
    let signed = changed(&bob, &["sign", "--folder", copy.to_str().unwrap()]).await;
    assert_eq!(signed["wanting"][0]["document"], "head", "{signed}");
    let done = changed(&home, &["sign", "--with", copy.to_str().unwrap()]).await;
    assert_eq!((&done["index"], &done["wanting"]), (&3.into(), &Value::Array(vec![])), "{done}");
    let status = msm(&home, &["market", "status", "--json"]).await.json();
    assert_eq!((&status["root"], &status["roles"][1]["threshold"]), (&2.into(), &2.into()), "{status}");

    // From now on nothing is published by one of them alone.
    let other = lab.service("other", "1.0.0", "", "export const run = input => input;");
    let alone = msm(&home, &["market", "publish", other.to_str().unwrap(), "--json"]).await.json();
    assert_eq!(alone["wanting"][0], "index: 1 of 2 signatures", "{alone}");
    let busy = msm(&home, &["market", "yank", "grind@1.0.0", "--json"]).await;
    assert_eq!(busy.code, 4, "{}", busy.err);
    msm(&home, &["market", "discard"]).await;
    assert_eq!(msm(&home, &["market", "verify", "market"]).await.code, 0);
}

/// A market is carried away by somebody who only met it over the network, and serves where there is none.
#[tokio::test]
async fn a_market_is_carried_away_on_a_stick() {
    let lab = Lab::new();
    let market =
        lab.market("shop", &[lab.grind(), lab.service("other", "1.0.0", "", "export const run = input => input;")]);
    let shop = lab.home("publisher");
    market.served_by(&shop);
    let publisher = Node::start(&shop, &[]).await;
    let phone = lab.requester("phone");
    market.trusted_by(&phone);
    let node = Node::start_near(&phone, &publisher).await;
    node.has_index(&market, 3).await;
    let stick = lab.path("stick");
    let stick = stick.to_str().unwrap();
    let copied = msm(&phone, &["market", "mirror", "test", "--to", stick, "--json"]).await.json();
    assert_eq!((&copied["schema"], &copied["releases"]), (&"msm.mirror/1".into(), &2.into()), "{copied}");
    drop((node, publisher));
    let target = format!("{stick}#{}", market.id.fingerprint());
    assert_eq!(msm(&phone, &["market", "verify", &target]).await.code, 0);

    let tablet = lab.requester("tablet");
    fs::write(tablet.folder().join("in.txt"), lines(2)).unwrap();
    msm(&tablet, &["market", "add", &target, "--yes", "--json"]).await.json();
    let ran = msm(&tablet, &["invoke", "grind", "in.txt", "-p", "rounds=3", "--local"]).await;
    assert_eq!(ran.text(), grind(&lines(2), 3), "{}", ran.err);
    // The same folder behind a web server.
    let mut serving = msm_command(&tablet, &["market", "serve", stick, "--listen", "127.0.0.1:0", "--json"]);
    let mut serving = serving.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    std::io::BufReader::new(serving.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let said: Value = serde_json::from_str(&said).unwrap();
    let address = said["address"].as_str().unwrap();
    let laptop = lab.requester("laptop");
    let target = format!("http://{address}#{}", market.id.fingerprint());
    let added = msm(&laptop, &["market", "add", &target, "--yes", "--json"]).await.json();
    assert_eq!((&added["version"], &added["releases"]), (&3.into(), &2.into()), "{added}");
    serving.kill().unwrap();
    serving.wait().unwrap();
    let none = msm(&tablet, &["market", "mirror", "shap", "--to", stick, "--json"]).await;
    assert_eq!(none.code, 9, "{}", none.err);
}

/// Many releases in one index.
fn large_market(lab: &Lab, market: &Market, count: usize) {
    let packages: Vec<Package> = (0..count)
        .map(|n| {
            let source = format!("export const run = () => '{n}';");
            pack_folder(&lab.service(&format!("tool-{n:05}"), "1.0.0", "", &source)).unwrap()
        })
        .collect();
    let publisher = Publisher::named(SecretKey::from_seed(&[9; 32]).public());
    let changes = packages.iter().map(|package| Change::Publish { package, publisher: &publisher }).collect();
    MarketFolder::open(&market.folder).unwrap().change(changes, &market.signers(), now()).unwrap();
}

/// Of a market with more releases than are taken whole, a device gets the pages that lead to what it uses.
#[tokio::test]
async fn a_large_market_is_read_as_far_as_it_is_needed() {
    let lab = Lab::new();
    let market = lab.market("shop", &[]);
    large_market(&lab, &market, 1_050);
    let shop = lab.home("publisher");
    market.served_by(&shop);
    let publisher = Node::start(&shop, &[]).await;
    assert_eq!(publisher.version_of(&market).await, 2);
    let phone = lab.requester("phone");
    market.trusted_by(&phone);
    fs::write(phone.folder().join("in.txt"), lines(1)).unwrap();
    let node = Node::start_near(&phone, &publisher).await;
    node.has_index(&market, 2).await;
    let found = msm(&phone, &["search", "tool-00777", "--json"]).await.json();
    assert_eq!(found["services"].as_array().unwrap().len(), 1, "{found}");
    let ran = msm(&phone, &["invoke", "tool-00777", "in.txt"]).await;
    assert_eq!(ran.text(), "777", "{}", ran.err);
    let held = blobs(&phone);
    eprintln!("{held} blobs on the device");
    assert!(held < 40, "{held} blobs of a market of more than 2,000 are on the device");
    // The publisher serves its folder as it is.
    assert!(blobs(&shop) < 40);
    // Nothing of that name: as cheap, and with the nearest one.
    let missed = msm(&phone, &["invoke", "tool-0077x", "in.txt", "--json"]).await;
    assert_eq!(missed.code, 9);
    assert!(missed.error()["message"].as_str().unwrap().contains("no service \"tool-0077x\""), "{}", missed.err);
    // Everything is a list with an end.
    let all = msm(&phone, &["search", "--json"]).await.json();
    assert!(all["services"].as_array().unwrap().len() <= 1_000);
    drop((node, publisher));
}

fn blobs(home: &Home) -> usize {
    fn files(folder: &Path) -> usize {
        let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
        entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
    }
    files(&home.store_dir().join("blobs"))
}

/// One operator, two truths, two neighbourhoods: when they meet, everybody knows.
#[tokio::test]
async fn two_histories_do_not_stay_unnoticed() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let fork = market.forked(lab.path("fork"));
    market.publish(&lab.service("one", "1.0.0", "", "export const run = input => input;"));
    fork.publish(&lab.service("two", "1.0.0", "", "export const run = input => input;"));
    let (left, right) = (lab.home("left"), lab.home("right"));
    market.served_by(&left);
    fork.served_by(&right);
    let one = Node::start(&left, &[]).await;
    let mut other = Node::start(&right, &[]).await;
    assert_eq!((one.version_of(&market).await, other.version_of(&fork).await), (3, 3));

    let seen = async |home: &Home| {
        let list = msm(home, &["market", "list", "--json"]).await.json();
        list["markets"][0]["two_histories"].as_u64()
    };
    assert_eq!((seen(&left).await, seen(&right).await), (None, None));
    one.ask(Command::Connect { address: other.address.clone() }).await.unwrap();
    for home in [&left, &right] {
        let version = until("it is noticed", SOON, async || seen(home).await).await;
        assert_eq!(version, 3);
    }
    // Anybody can check it, with nothing but the file.
    let file = left.folder().join("proof");
    let proof = msm(&left, &["market", "proof", "test", "-o", file.to_str().unwrap(), "--json"]).await.json();
    assert_eq!((&proof["schema"], &proof["version"]), (&"msm.market-proof/1".into(), &3.into()));
    let stranger = lab.home("stranger");
    let checked = msm(&stranger, &["market", "verify-proof", file.to_str().unwrap(), "--json"]).await.json();
    assert_eq!(checked["market"], market.id.to_string());
    assert_ne!(checked["hashes"][0], checked["hashes"][1]);
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();
    assert_eq!(msm(&stranger, &["market", "verify-proof", file.to_str().unwrap()]).await.code, 8);

    // What is here goes on; nothing newer is believed, also after a restart, until the operator changes the keys.
    fs::write(right.folder().join("in.txt"), lines(1)).unwrap();
    let ran = msm(&right, &["invoke", "grind", "in.txt", "-p", "rounds=2", "--local"]).await;
    assert_eq!(ran.text(), grind(&lines(1), 2), "{}", ran.err);
    fork.publish(&lab.service("three", "1.0.0", "", "export const run = input => input;"));
    other.kill();
    let other = Node::start(&right, &[]).await;
    assert_eq!((other.version_of(&fork).await, seen(&right).await), (3, Some(3)));
    assert!(other.log().contains("two histories"), "its log says why");
    fork.rotate_all();
    other.ask(Command::MarketRefresh).await.unwrap();
    assert_eq!(seen(&right).await, None);
    assert_eq!(other.version_of(&fork).await, 5);
}
