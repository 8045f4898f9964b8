//! Services whose input is cut by a worker, because the requester lacks what the cut needs (here a position source).

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    time::Duration,
};

use msm_node::command::{ErrorCode, Invoke};

use crate::rig::*;

/// A position source on a port of its own: says that it has a fix, again and again, until its listener hangs up.
fn receiver() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        listener.incoming().flatten().for_each(|stream| drop(std::thread::spawn(|| report(stream))))
    });
    port
}

fn report(mut stream: TcpStream) {
    let version = "{\"class\":\"VERSION\",\"release\":\"3.22\",\"proto_major\":3,\"proto_minor\":14}\n";
    assert!(stream.write_all(version.as_bytes()).is_ok());
    let mut line = String::new();
    let heard = BufReader::new(stream.try_clone().unwrap()).read_line(&mut line);
    assert!(heard.is_ok() && line.starts_with("?WATCH="), "{line}");
    let fix = "{\"class\":\"TPV\",\"mode\":3,\"lat\":52.5,\"lon\":13.4,\"eph\":5.0}\n";
    while stream.write_all(fix.as_bytes()).is_ok() {
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Cuts a text into its words, and says who saw what.
fn words(lab: &Lab, on: &str) -> PathBuf {
    let more = format!(
        "[work]\nsplit = \"service\"\nsplit-on = \"{on}\"\n[constraints]\ngps = \"REQ\"\ndevices = {{ default = 8 }}"
    );
    let source = "
        const text = (bytes) => new TextDecoder().decode(bytes);
        export function* split(input, ctx) { for (const word of text(input).split(' ')) yield `${word}/${ctx.want > 0}`; }
        export const run = (input, ctx) => `${text(input)}/${ctx.chunk.index + 1} of ${ctx.chunk.count}`;
        export const merge = (parts) => parts.map(text).join('\\n');";
    lab.service("words", "1.0.0", &more, source)
}

/// Workers with a receiver each, and a requester without one.
async fn gather(lab: &Lab, market: &Market, workers: usize) -> Crew {
    let home = lab.requester("phone");
    market.trusted_by(&home);
    let requester = Node::start(&home, &[]).await;
    let mut crew = Crew { requester, workers: Vec::new() };
    for n in 0..workers {
        let offer = format!("slots = 1\n[sensors]\ngps = \"gpsd://127.0.0.1:{}\"", receiver());
        let home = lab.home_with(&format!("worker{n}"), &format!("listen = [{TCP:?}]"), &offer);
        if n == 0 {
            market.served_by(&home)
        } else {
            market.trusted_by(&home)
        }
        crew.workers.push(Node::start(&home, &["--peer", &crew.requester.address]).await);
    }
    crew.requester.sees(&crew.workers.iter().collect::<Vec<_>>()).await;
    crew.requester.has_index(market, 2).await;
    until("the workers have a fix", SOON, async || {
        let peers = crew.requester.peers().await;
        (peers.iter().filter(|peer| peer.gps == Some(true)).count() == workers).then_some(())
    })
    .await;
    crew
}

#[tokio::test]
async fn a_worker_cuts_what_the_requester_cannot() {
    let lab = Lab::new();
    let market = lab.market("shop", &[words(&lab, "worker")]);
    let crew = gather(&lab, &market, 2).await;
    let invoke = || Invoke { service: "words".into(), ..Invoke::default() };
    let (report, output) = crew.requester.job(invoke(), "one two three", |_| {}).await;
    assert_eq!(output, "one/true/1 of 3\ntwo/true/2 of 3\nthree/true/3 of 3");
    assert_counted_once(&report);
    assert_eq!(report.tasks, 3);
    assert!(!report.notes.iter().any(|note| note.contains("asked for")), "a preference is no demand: {report:?}");
    assert!(report.devices.iter().all(|device| !device.local), "{report:?}");
    assert!(report.notes.iter().any(|note| note.contains("cut the input into parts")), "{report:?}");
    // A plan does not do half of the job.
    let words = crew.requester.home.folder().join("words.txt");
    std::fs::write(&words, "one two three").unwrap();
    let plan =
        msm(&crew.requester.home, &["invoke", "words", words.to_str().unwrap(), "--plan", "--json"]).await.json();
    assert_eq!(plan["rows"].as_array().unwrap().iter().filter(|row| row["used"] == true).count(), 2, "{plan}");
}

#[tokio::test]
async fn without_a_worker_that_can_the_reason_is_told() {
    let lab = Lab::new();
    let market = lab.market("shop", &[words(&lab, "worker")]);
    let crew = gather(&lab, &market, 1).await;
    let local = Invoke { service: "words".into(), local: true, ..Invoke::default() };
    let error = crew.requester.invoke(local, "one two", |_| {}).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NoDevice, "{error}");
    assert!(error.message.contains("gps"), "{error}");
}
