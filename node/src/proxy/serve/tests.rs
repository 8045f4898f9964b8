//! Browsers, honest and not, against a proxy whose node is told what to answer.

use std::{
    future::pending,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
};

use super::*;
use crate::command::{ErrorCode, Event, JobReport, JobState, Reply, Request as Asked, Response as Done};

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(20);

/// What the node of a test does with a job for an address.
#[derive(Default)]
struct Node {
    running: AtomicUsize,
    most: AtomicUsize,
    jobs: AtomicUsize,
    /// Jobs for `http://slow.example/` go on when it says so.
    go: Notify,
    gone: Notify,
}

/// Counts a job that runs, until its future is dropped.
struct Running<'a>(&'a Node);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        self.0.gone.notify_one();
    }
}

impl Door for Arc<Node> {
    async fn execute(&self, request: Asked, _: mpsc::Sender<Event>) -> Result<Done, CommandError> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        let _running = Running(self);
        self.most.fetch_max(running, Ordering::SeqCst);
        self.jobs.fetch_add(1, Ordering::SeqCst);
        let Command::Invoke(invoke) = request.command else { panic!("{:?}", request.command) };
        assert_eq!((invoke.service.as_str(), invoke.input_type.as_deref()), (SERVICE, Some("text/uri-list")));
        let url = String::from_utf8(request.input.whole().await.unwrap().to_vec()).unwrap();
        let output = match (url.as_str(), invoke.params["mode"].as_str()) {
            (_, Some("page")) => format!("<p>all of {url}"),
            ("http://slow.example/", _) => {
                self.go.notified().await;
                format!("HTTP/1.1 200 \r\ncontent-location: {url}\r\n\r\nslow")
            }
            ("http://never.example/", _) => pending().await,
            ("http://moved.example/", _) => {
                "HTTP/1.1 200 \r\ncontent-location: https://moved.example/new\r\n\r\nnew".into()
            }
            ("http://garbage.example/", _) => "garbage".into(),
            ("http://busy.example/", _) if self.jobs.load(Ordering::SeqCst) < 3 => {
                return Err(CommandError::new(ErrorCode::NoDevice, "0 of 1 slots are free"));
            }
            ("http://nobody.example/", _) => return Err(CommandError::new(ErrorCode::NoDevice, "no neighbour")),
            ("http://fails.example/", _) => {
                let error = CommandError::new(ErrorCode::ServiceFailed, "refused: <b>blocked-address</b>");
                return Err(error.or_try("msm peers"));
            }
            (url, _) => format!(
                "HTTP/1.1 203 \r\ncontent-type: text/x\r\nx-far: yes\r\ntransfer-encoding: chunked\r\n\
                 content-location: {url}\r\ncontent-length: 5\r\n\r\nhello"
            ),
        };
        let report = JobReport {
            job_id: msm_protocol::JobId::from_bytes([0; 16]),
            service: SERVICE.into(),
            state: JobState::Done,
            tasks: 1,
            tasks_done: 1,
            tasks_rerun: 0,
            reruns: Default::default(),
            devices: vec![],
            wall_ms: 1.0,
            output_bytes: output.len() as u64,
            output_sha256: String::new(),
            phases_ms: vec![],
            error: None,
            notes: vec![],
            checks: Default::default(),
            predicted_ms: None,
            predicted_from: None,
        };
        Ok(Done { reply: Reply::Job(Box::new(report)), output: bytes::Bytes::from(output).into() })
    }
}

/// A proxy on a port of its own, which ends with the test's runtime.
async fn proxy() -> (Arc<Node>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let node = Arc::new(Node::default());
    tokio::spawn(Proxy::serve(listener, node.clone()));
    (node, address)
}

/// Sends these bytes and reads until the proxy closes.
async fn say(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8(answer).unwrap()
}

async fn get(address: SocketAddr, target: &str) -> String {
    say(address, &format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn a_browser_gets_what_the_far_server_said() {
    let (node, address) = proxy().await;
    let answer = get(address, "http://a.example/x?y").await;
    assert!(answer.starts_with("HTTP/1.1 203 "), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "hello");
    for line in ["content-type: text/x", "x-far: yes", "content-length: 5", "cache-control: no-store", "via: 1.1 msm"] {
        assert!(head.contains(line), "{line}: {head}");
    }
    assert!(!head.contains("chunked"), "{head}");
    // HEAD says as much, without the body.
    let request = format!("HEAD http://a.example/ HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let answer = say(address, &request).await;
    assert!(answer.contains("content-length: 5") && answer.ends_with("\r\n\r\n"), "{answer}");
    // Led to https, a browser without tunnels is led to the gateway.
    let answer = get(address, "http://moved.example/").await;
    assert!(answer.starts_with("HTTP/1.1 302 "), "{answer}");
    assert!(answer.contains(&format!("location: http://{address}/https://moved.example/new\r\n")), "{answer}");
    assert_eq!(node.jobs.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn the_gateway_serves_pages_that_have_no_origin() {
    let (_, address) = proxy().await;
    let answer = get(address, "/https://a.example/").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("<p>all of https://a.example/"), "{answer}");
    assert!(answer.contains("content-security-policy: sandbox allow-scripts"), "{answer}");
    assert!(get(address, "/").await.contains("HTTP proxy"));
}

#[tokio::test]
async fn what_is_not_done_is_refused_with_a_page_and_without_a_job() {
    let (node, address) = proxy().await;
    for (request, status, words) in [
        ("CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n", 501, "/https://example.org/"),
        ("POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n", 405, "GET and HEAD"),
        ("GET /http://a.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421, "own names"),
        ("GET /favicon.ico HTTP/1.1\r\nHost: SELF\r\n\r\n", 404, "The way in"),
        ("GET /http://a.example/ HTTP/1.1\r\nHost: SELF\r\nSec-Fetch-Site: cross-site\r\n\r\n", 403, "Another site"),
        ("GET http://SELF/ HTTP/1.1\r\nHost: SELF\r\n\r\n", 404, "The way in"),
    ] {
        let request = request.replace("SELF", &address.to_string());
        let request = request.replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1);
        let answer = say(address, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}{answer}");
        assert!(answer.contains(words), "{request}{answer}");
    }
    assert_eq!(node.jobs.load(Ordering::SeqCst), 0);
    // And what fails says why.
    let answer = get(address, "http://fails.example/").await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("&lt;b&gt;blocked-address"), "{answer}");
    assert!(answer.contains("<code>msm peers</code>"), "{answer}");
    assert!(get(address, "http://garbage.example/").await.starts_with("HTTP/1.1 502 "));
}

#[tokio::test]
async fn jobs_are_few_at_a_time_and_so_are_those_that_wait() {
    let (node, address) = proxy().await;
    // More connections than there are places: those wait at the door. All but PAGES jobs wait for theirs.
    let asking: Vec<_> = (0..http::CONNECTIONS).map(|_| tokio::spawn(get(address, "http://slow.example/"))).collect();
    let full = async {
        while node.running.load(Ordering::SeqCst) < PAGES {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, full).await.unwrap();
    let release = async {
        loop {
            node.go.notify_one();
            tokio::task::yield_now().await;
        }
    };
    let all = async {
        for one in asking {
            assert!(one.await.unwrap().ends_with("slow"));
        }
    };
    tokio::select! {
        _ = release => {}
        ended = tokio::time::timeout(SOON, all) => ended.unwrap(),
    }
    assert_eq!(node.most.load(Ordering::SeqCst), PAGES);
}

#[tokio::test]
async fn busy_neighbours_are_waited_for_but_not_for_ever() {
    let (node, address) = proxy().await;
    assert!(get(address, "http://busy.example/").await.ends_with("hello"));
    assert_eq!(node.jobs.load(Ordering::SeqCst), 3);
    let answer = get(address, "http://nobody.example/").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("no neighbour"), "{answer}");
    assert_eq!(node.jobs.load(Ordering::SeqCst), 3 + TRIES_ALONE as usize);
}

#[tokio::test]
async fn who_hangs_up_ends_the_job() {
    let (node, address) = proxy().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET http://never.example/ HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let started = async {
        while node.running.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, started).await.unwrap();
    drop(stream);
    tokio::time::timeout(SOON, node.gone.notified()).await.unwrap();
    assert_eq!(node.running.load(Ordering::SeqCst), 0);
}
