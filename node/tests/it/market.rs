//! Markets from their making to their leaving, and those who offer documents that no market has signed.

use std::{fs, path::Path};

use msm_protocol::{cbor, message::HeadResponse};
use serde_bytes::ByteBuf;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    evil::{Answer, Evil, Knobs, plain},
    rig::*,
};

/// Serves the files of a folder over HTTP; returns its address.
async fn web_server(folder: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let folder = folder.to_owned();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let folder = folder.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.is_ok_and(|n| n > 0) {}
                let request = String::from_utf8_lossy(&request);
                let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
                let (status, body) = match fs::read(folder.join(path)) {
                    Ok(body) => ("200 OK", body),
                    Err(_) => ("404 Not Found", Vec::new()),
                };
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
            });
        }
    });
    format!("http://{address}")
}

/// What `msm market share --json` says: the market and its fingerprint.
async fn shared(home: &msm_node::home::Home) -> (String, String) {
    let share = msm(home, &["market", "share", "--json"]).await.json();
    assert_eq!(share["schema"], "msm.market-share/1");
    let market = share["market"].as_str().unwrap().to_owned();
    assert!(market.starts_with("msm:market:"), "{share}");
    let fingerprint = market.rsplit(':').next().unwrap().to_owned();
    (market, fingerprint)
}

#[tokio::test]
async fn a_market_from_its_making_to_its_leaving() {
    let lab = Lab::new();
    let publisher = lab.home("publisher");
    let made = msm(&publisher, &["market", "init", "market", "--name", "Corner Shop", "--json"]).await.json();
    assert_eq!(made["schema"], "msm.market-share/1");
    let service = lab.grind();
    let bundle = publisher.folder().join("grind.sep");
    let pack = ["service", "pack", service.to_str().unwrap(), "-o", bundle.to_str().unwrap(), "--json"];
    let packed = msm(&publisher, &pack).await.json();
    let published = msm(&publisher, &["market", "publish", bundle.to_str().unwrap(), "--json"]).await.json();
    assert_eq!(published["manifest"], packed["manifest"], "a bundle is the folder");
    let again = msm(&publisher, &["market", "publish", service.to_str().unwrap(), "--json"]).await.json();
    assert_eq!((&again["new"], &again["manifest"]), (&false.into(), &packed["manifest"]));
    let (market, fingerprint) = shared(&publisher).await;
    let node = Node::start(&publisher, &[]).await;

    let home = lab.requester("phone");
    fs::write(home.folder().join("in.txt"), lines(4)).unwrap();
    let phone = Node::start_near(&home, &node).await;
    // Before it trusts anybody it runs nobody's code, and says which command would change that.
    until("the neighbour has told its markets", SOON, async || {
        phone.peers().await.iter().any(|peer| peer.eqs.is_some()).then_some(())
    })
    .await;
    let refused = msm(&home, &["invoke", "grind", "in.txt", "--json"]).await;
    assert_eq!((refused.code, refused.error()["code"].as_str()), (4, Some("not-allowed")), "{}", refused.err);
    assert!(refused.error()["message"].as_str().unwrap().starts_with("refused: untrusted-market"));
    assert_eq!(refused.error()["try"][0], format!("msm market add {market}"));
    // Trust is never taken without consent.
    let unasked = msm(&home, &["market", "add", &market, "--json"]).await;
    assert_eq!(unasked.code, 4, "{}", unasked.err);
    assert!(msm(&home, &["market", "list", "--json"]).await.json()["markets"].as_array().unwrap().is_empty());

    // With it: by peers, by folder, by a web server; each finds the same index.
    let web = web_server(&publisher.folder().join("market")).await;
    let folder = publisher.folder().join("market");
    let targets = [
        market.clone(),
        fingerprint.clone(),
        format!("{}#{fingerprint}", folder.display()),
        format!("{web}#{fingerprint}"),
    ];
    for target in targets {
        let added = msm(&home, &["market", "add", &target, "--yes", "--json"]).await.json();
        assert_eq!((&added["schema"], &added["market"]), (&"msm.market/1".into(), &market.as_str().into()), "{target}");
        assert_eq!((&added["version"], &added["freshness"]), (&2.into(), &"fresh".into()), "{target}: {added}");
        assert_eq!(added["alias"], "corner-shop", "{target}");

        let found = msm(&home, &["search", "grind", "--json"]).await.json();
        assert_eq!(found["services"][0]["manifest"], packed["manifest"], "{target}: {found}");
        let shown = msm(&home, &["show", "grind", "--json"]).await.json();
        assert_eq!((&shown["version"], &shown["params"][0]["name"]), (&"1.0.0".into(), &"rounds".into()), "{shown}");
        let ran = msm(&home, &["invoke", "corner-shop/grind@1", "in.txt", "-p", "rounds=7"]).await;
        assert_eq!(ran.text(), grind(&lines(4), 7), "{target}: {}", ran.err);

        let removed = msm(&home, &["market", "remove", "corner-shop", "--json"]).await.json();
        assert_eq!(removed["market"], market);
        let gone = msm(&home, &["invoke", "grind", "in.txt", "--json"]).await;
        assert_eq!(gone.code, 4, "{target}: {}", gone.err);
    }
    // The worker that still trusts it is not asked to run it for a stranger to the market.
    assert_eq!(node.status().await.running_tasks, 0);
}

/// Adding a market works without a running node too, and is there when one starts.
#[tokio::test]
async fn a_market_is_added_from_a_folder_while_no_node_runs() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let home = lab.requester("phone");
    fs::write(home.folder().join("in.txt"), lines(2)).unwrap();
    let target = format!("{}#{}", market.folder.display(), market.id.fingerprint());
    msm(&home, &["market", "add", &target, "--yes", "--json"]).await.json();
    fs::remove_dir_all(&market.folder).unwrap();
    let node = Node::start(&home, &[]).await;
    assert_eq!(node.version_of(&market).await, 2);
    let ran = msm(&home, &["invoke", "grind", "in.txt", "-p", "rounds=2"]).await;
    assert_eq!(ran.text(), grind(&lines(2), 2), "packages came with it: {}", ran.err);
}

#[tokio::test]
async fn tampered_folders_are_refused_with_exit_8() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let manifest = market.publish(&lab.service("other", "1.0.0", "", "export const run = input => input;"));
    let other = lab.market("other", &[lab.grind()]);
    let blob = format!("blobs/{manifest}");
    let copy = |from: &Path, to: &str| {
        let to = lab.path(to);
        for name in ["", "root", "blobs"] {
            fs::create_dir_all(to.join(name)).unwrap();
            for entry in fs::read_dir(from.join(name)).unwrap().map(|entry| entry.unwrap()) {
                if entry.path().is_file() {
                    fs::copy(entry.path(), to.join(name).join(entry.file_name())).unwrap();
                }
            }
        }
        to
    };
    let flip = |file: &Path| {
        let mut bytes = fs::read(file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(file, bytes).unwrap();
    };
    let swap = |folder: &Path, file: &str| {
        fs::copy(other.folder.join(file), folder.join(file)).unwrap();
    };
    type Change<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, Change<'_>); 6] = [
        ("head", &|folder| flip(&folder.join("head.cbor"))),
        ("root", &|folder| flip(&folder.join("root/1.cbor"))),
        ("package", &|folder| flip(&folder.join(&blob))),
        ("foreign-head", &|folder| swap(folder, "head.cbor")),
        ("foreign-root", &|folder| swap(folder, "root/1.cbor")),
        ("endless-head", &|folder| fs::write(folder.join("head.cbor"), vec![0; 1 << 20]).unwrap()),
    ];
    for (name, change) in cases {
        let folder = copy(&market.folder, name);
        change(&folder);
        let home = lab.requester(&format!("phone-{name}"));
        let target = format!("{}#{}", folder.display(), market.id.fingerprint());
        let refused = msm(&home, &["market", "add", &target, "--yes", "--json"]).await;
        assert_eq!(refused.code, 8, "{name}: {}", refused.err);
        assert_eq!(
            (refused.code, refused.error()["code"].as_str()),
            (8, Some("verification")),
            "{name}: {}",
            refused.err
        );
        assert!(refused.error()["message"].as_str().unwrap().contains("refused: "), "{name}: {}", refused.err);
        let trusted = msm(&home, &["market", "list", "--json"]).await.json();
        assert_eq!(trusted["markets"], Value::Array(Vec::new()), "{name}: nothing was written down");
        let verified = msm(&home, &["market", "verify", &target, "--json"]).await;
        assert_eq!(verified.code, 8, "{name}: {}", verified.err);
    }
    // The same folder, untouched, is fine.
    let target = format!("{}#{}", copy(&market.folder, "untouched").display(), market.id.fingerprint());
    let home = lab.requester("phone");
    msm(&home, &["market", "verify", &target, "--json"]).await.json();
    msm(&home, &["market", "add", &target, "--yes", "--json"]).await.json();
}

/// Every floor file of a home.
fn floors(node: &Node) -> Vec<Vec<u8>> {
    let mut files: Vec<_> = fs::read_dir(node.home.floors_dir()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

#[tokio::test]
async fn b02_b03_documents_that_the_market_has_not_signed() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let foreign =
        lab.market("foreign", &[lab.grind(), lab.service("trap", "1.0.0", "", "export const run = () => 'trap';")]);
    let home = lab.home("worker");
    market.served_by(&home);
    let node = Node::start(&home, &[]).await;
    let before = floors(&node);
    assert!(!before.is_empty());

    let read = |market: &Market, path: &str| ByteBuf::from(fs::read(market.folder.join(path)).unwrap());
    let mut cut = read(&market, "head.cbor");
    cut.pop();
    let cases = [
        ("another market's head", read(&foreign, "head.cbor"), vec![], "untrusted-market"),
        ("another market's root", read(&foreign, "head.cbor"), vec![read(&foreign, "root/1.cbor")], ""),
        ("a cut head", cut, vec![], "bad-message"),
        ("no head at all", ByteBuf::from(vec![0x80; 64]), vec![], "bad-message"),
    ];
    for (name, head, roots, says) in cases {
        let answer = cbor::to_vec(&HeadResponse { head: Some(head), past: None, roots }).unwrap();
        let mut knobs = Knobs::default().with_blobs_of(&foreign, |_, response| plain(&response));
        knobs.head = Box::new(move |_| Answer::Bytes(answer.clone()));
        let evil = Evil::start(knobs).await;
        evil.dial(&node.address).await;
        let short = evil.peer.short();
        until(&format!("{name} is refused"), SOON, async || {
            let log = node.log();
            let refused = |line: &str| line.contains("market update refused") || line.contains("misbehaviour");
            log.lines().any(|line| refused(line) && line.contains(&short) && line.contains(says)).then_some(())
        })
        .await;
        assert_eq!(floors(&node), before, "{name}");
        assert_eq!(node.version_of(&market).await, 2, "{name}");
    }
    let found = msm(&home, &["search", "--json"]).await.json();
    assert_eq!(found["services"].as_array().unwrap().len(), 1, "{found}");
}

#[tokio::test]
async fn b04_an_older_index_is_refused_after_everything() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let older = Knobs::default().with_head_of(&market).with_blobs_of(&market, |_, response| plain(&response));
    market.publish(&lab.service("other", "1.0.0", "", "export const run = input => input;"));
    let newer = Knobs::default().with_head_of(&market).with_blobs_of(&market, |_, response| plain(&response));
    let home = lab.requester("phone");
    market.trusted_by(&home);
    let mut node = Node::start(&home, &[]).await;
    let honest = Evil::start(newer).await;
    honest.dial(&node.address).await;
    node.has_index(&market, 3).await;
    drop(honest);
    let evil = Evil::start(older).await;
    let rollback = async |node: &Node, refused: usize| {
        evil.dial(&node.address).await;
        until("the rollback is refused", SOON, async || {
            (node.log().matches("rollback 2<3").count() >= refused).then_some(())
        })
        .await;
        assert_ne!(node.version_of(&market).await, 2);
    };
    rollback(&node, 1).await;
    assert_eq!(node.version_of(&market).await, 3);

    assert!(node.leave().await.success());
    node = Node::start(&home, &[]).await;
    assert_eq!(node.version_of(&market).await, 3, "kept over a restart");
    rollback(&node, 2).await;

    node.kill();
    fs::remove_dir_all(home.store_dir()).unwrap();
    node = Node::start(&home, &[]).await;
    rollback(&node, 3).await;
    // What the store has lost comes back from who has it, at the version of the floor.
    let newer = Knobs::default().with_head_of(&market).with_blobs_of(&market, |_, response| plain(&response));
    let honest = Evil::start(newer).await;
    honest.dial(&node.address).await;
    node.has_index(&market, 3).await;
}
