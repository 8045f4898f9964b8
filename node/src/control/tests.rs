//! The control socket over real sockets, with a door that does what a test tells it to.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use msm_protocol::limits::CHUNK_BYTES;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
};

use super::{
    ControlClient, ControlServer,
    server::{CLIENTS, INPUT_BUDGET},
    wire::{self, ANSWER_BYTES, ASK_BYTES, Answer, Ask, INPUT_BYTES, MEMORY_BYTES},
};
use crate::{
    blob::Blob,
    body::Body,
    cli::samples,
    command::{Command, CommandError, Door, ErrorCode, Event, Invoke, Reply, Request, Response, Search},
};

/// Longer than anything here takes; only a failing test waits for it.
const LONG: Duration = Duration::from_secs(20);

#[derive(Clone, Default)]
struct Fake {
    /// Commands that have begun and not ended.
    running: Arc<AtomicUsize>,
    changed: Arc<Notify>,
}

struct Running(Fake);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}

impl Fake {
    async fn until_running(&self, count: usize) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.running.load(Ordering::SeqCst) == count {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(LONG, wait).await.expect("number of running commands");
    }
}

fn joined(n: usize) -> Event {
    Event::PeerJoined { peer_id: samples::peer(), name: format!("peer {n}") }
}

impl Door for Fake {
    async fn execute(&self, request: Request, events: mpsc::Sender<Event>) -> Result<Response, CommandError> {
        self.running.fetch_add(1, Ordering::SeqCst);
        let _running = Running(self.clone());
        self.changed.notify_waiters();
        match request.command {
            Command::Invoke(_) => {
                for n in 0..3 {
                    let _ = events.try_send(joined(n));
                }
                let input = request.input.whole().await.unwrap();
                let output = input.iter().rev().copied().collect::<Vec<u8>>();
                Ok(Response { reply: Reply::Job(Box::new(samples::job())), output: Bytes::from(output).into() })
            }
            // As many events as the door wants, whoever listens.
            Command::Jobs => {
                for n in 0..100_000 {
                    let _ = events.try_send(joined(n));
                }
                Ok(Reply::Jobs { jobs: vec![] }.into())
            }
            Command::Search(Search { words, .. }) => {
                let mut reply = samples::replies();
                let at = words.first().and_then(|word| word.parse::<usize>().ok()).unwrap_or(0);
                Ok(reply.swap_remove(at).into())
            }
            Command::Peers => std::future::pending().await,
            Command::Watch { .. } => {
                let mut n = 0;
                loop {
                    if events.send(joined(n)).await.is_err() {
                        return Err(CommandError::new(ErrorCode::Failed, "nobody watches"));
                    }
                    n += 1;
                }
            }
            Command::MarketRefresh => Ok(Reply::Jobs { jobs: vec![samples::job(); 20_000] }.into()),
            Command::MarketList => Ok(Response {
                reply: Reply::Markets { markets: vec![] },
                output: Body::arriving(wire::OUTPUT_BYTES + 1, futures::stream::empty().boxed()),
            }),
            other => Err(CommandError::new(ErrorCode::NotFound, format!("{other:?}")).or_try("msm peers")),
        }
    }
}

struct Rig {
    folder: tempfile::TempDir,
    fake: Fake,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Rig {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = ControlServer::bind(&folder.path().join("control.sock"), &folder.path().join("spool")).unwrap();
        let fake = Fake::default();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(server.serve(fake.clone(), async move {
            let _ = stopped.await;
        }));
        Self { folder, fake, stop, server }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    /// Files that inputs lie in.
    fn spooled(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("spool")).unwrap().count()
    }

    fn client(&self) -> ControlClient {
        ControlClient::find(&self.path()).expect("a node answers")
    }

    async fn raw(&self) -> UnixStream {
        UnixStream::connect(self.path()).await.unwrap()
    }
}

fn events() -> (mpsc::Sender<Event>, mpsc::Receiver<Event>) {
    mpsc::channel(16)
}

fn invoke(input: impl Into<Blob>) -> Request {
    Request { command: Command::Invoke(Box::default()), input: input.into() }
}

#[tokio::test]
async fn a_command_carries_input_events_and_output() {
    let rig = Rig::start();
    for length in [0, 1, CHUNK_BYTES, CHUNK_BYTES * 3 + 5, MEMORY_BYTES as usize, MEMORY_BYTES as usize + 1] {
        let input: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        let (sender, mut queue) = events();
        let response = rig.client().execute(invoke(input.clone()), sender).await.unwrap();
        assert_eq!(response.reply, Reply::Job(Box::new(samples::job())));
        let output = response.output.whole(u64::MAX).await.unwrap();
        assert!(output.iter().eq(input.iter().rev()), "{length} bytes");
        assert_eq!(rig.spooled(), 0, "nothing stays of an input of {length} bytes");
        let mut seen = Vec::new();
        while let Ok(event) = queue.try_recv() {
            seen.push(event);
        }
        assert_eq!(seen, [joined(0), joined(1), joined(2)]);
    }
}

#[tokio::test]
async fn every_reply_and_error_survives_the_wire() {
    let rig = Rig::start();
    for (at, expected) in samples::replies().into_iter().enumerate() {
        let search = Search { words: vec![at.to_string()], ..Search::default() };
        let response = rig.client().execute(Command::Search(search).into(), events().0).await.unwrap();
        assert_eq!(response.reply, expected);
    }
    let error = rig.client().execute(Command::Status.into(), events().0).await.unwrap_err();
    assert_eq!((error.code, error.r#try), (ErrorCode::NotFound, vec!["msm peers".to_owned()]));
}

#[test]
fn the_papers_na_is_not_lost_in_json() {
    for network in [None, Some(None), Some(Some(msm_protocol::device::Network::Low))] {
        let invoke = Invoke { network, ..Invoke::default() };
        let json = serde_json::to_string(&invoke).unwrap();
        assert_eq!(serde_json::from_str::<Invoke>(&json).unwrap(), invoke, "{json}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_command() {
    let rig = Rig::start();
    let client = rig.client();
    let call = tokio::spawn(async move { client.execute(Command::Peers.into(), events().0).await });
    rig.fake.until_running(1).await;
    call.abort();
    rig.fake.until_running(0).await;
}

#[tokio::test]
async fn a_watcher_gets_events_until_it_leaves() {
    let rig = Rig::start();
    let (sender, mut queue) = events();
    let client = rig.client();
    let watch = tokio::spawn(async move { client.execute(Command::Watch { job: None }.into(), sender).await });
    let first = tokio::time::timeout(LONG, queue.recv()).await.expect("events come while the command runs");
    assert_eq!(first, Some(joined(0)));
    drop(queue);
    assert!(tokio::time::timeout(LONG, watch).await.unwrap().unwrap().is_err());
    rig.fake.until_running(0).await;
}

/// Events are dropped for a slow reader; the reply never is.
#[tokio::test]
async fn a_flood_of_events_does_not_hold_up_the_reply() {
    let rig = Rig::start();
    let (sender, mut queue) = events();
    let reply = tokio::time::timeout(LONG, rig.client().execute(Command::Jobs.into(), sender)).await.unwrap();
    assert_eq!(reply.unwrap().reply, Reply::Jobs { jobs: vec![] });
    assert_eq!(queue.recv().await, Some(joined(0)));
}

#[tokio::test]
async fn what_is_too_large_to_send_is_an_error_and_not_a_silence() {
    let rig = Rig::start();
    let error = rig.client().execute(Command::MarketRefresh.into(), events().0).await.unwrap_err();
    assert!(error.message.contains("cannot be sent"), "{error}");
    let error = rig.client().execute(Command::MarketList.into(), events().0).await.unwrap_err();
    assert!(error.message.starts_with("output-too-large"), "{error}");
    let endless = tempfile::tempfile().unwrap();
    endless.set_len(INPUT_BYTES + 1).unwrap();
    let error = rig.client().execute(invoke(Blob::of_file(endless).unwrap()), events().0).await.unwrap_err();
    assert!(error.message.starts_with("input-too-large"), "{error}");
}

async fn answer(stream: &mut UnixStream) -> CommandError {
    let answer = tokio::time::timeout(LONG, wire::read_json::<Answer, _>(stream, ANSWER_BYTES)).await.unwrap();
    match answer.unwrap() {
        Answer::Error(error) => error,
        other => panic!("{other:?}"),
    }
}

/// B13, B14: whatever a client sends, the node says why, goes on, and runs nothing.
#[tokio::test]
async fn b13_b14_garbage_is_answered_and_the_node_goes_on() {
    let rig = Rig::start();
    let frame = |kind: u8, length: u32, payload: &[u8]| {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.push(kind);
        bytes.extend_from_slice(payload);
        bytes
    };
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let cases: [(&str, Vec<u8>); 6] = [
        ("http", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("huge length", frame(b'J', u32::MAX, b"")),
        ("just over the cap", frame(b'J', ASK_BYTES as u32 + 1, b"")),
        ("bulk first", frame(b'B', 3, b"abc")),
        ("not an ask", frame(b'J', 2, b"{}")),
        ("deep nesting", frame(b'J', deep.len() as u32, deep.as_bytes())),
    ];
    for (name, bytes) in cases {
        let mut stream = rig.raw().await;
        stream.write_all(&bytes).await.unwrap();
        let error = answer(&mut stream).await;
        assert_eq!(error.code, ErrorCode::Usage, "{name}: {error}");
        assert!(error.message.starts_with("bad-message"), "{name}: {error}");
    }
    let ask = |v, input_bytes| Ask { v, command: Command::Invoke(Box::default()), input_bytes };
    for (ask, expected) in [
        (ask(2, 0), "the running node speaks version 1"),
        (ask(1, INPUT_BYTES + 1), "input-too-large"),
        (ask(1, u64::MAX), "input-too-large"),
    ] {
        let mut stream = rig.raw().await;
        wire::write_json(&mut stream, &ask, ASK_BYTES).await.unwrap();
        let error = answer(&mut stream).await;
        assert!(error.message.starts_with(expected), "{error}");
    }
    // More input than was announced.
    let mut stream = rig.raw().await;
    wire::write_json(&mut stream, &ask(1, 3), ASK_BYTES).await.unwrap();
    wire::write_bulk(&mut stream, b"four").await.unwrap();
    assert!(answer(&mut stream).await.message.starts_with("bad-message"));

    rig.client().execute(invoke("still here"), events().0).await.unwrap();
    assert_eq!(rig.fake.running.load(Ordering::SeqCst), 0);
}

/// Bytes after a complete request end the connection and cancel its command.
#[tokio::test]
async fn talking_out_of_turn_cancels() {
    let rig = Rig::start();
    let mut stream = rig.raw().await;
    let ask = Ask { v: wire::VERSION, command: Command::Peers, input_bytes: 0 };
    wire::write_json(&mut stream, &ask, ASK_BYTES).await.unwrap();
    rig.fake.until_running(1).await;
    stream.write_all(b"x").await.unwrap();
    rig.fake.until_running(0).await;
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn b92_a_client_killed_in_the_middle_of_its_input_leaves_nothing() {
    let rig = Rig::start();
    let mut stream = rig.raw().await;
    let ask = Ask { v: wire::VERSION, command: Command::Invoke(Box::default()), input_bytes: 1 << 20 };
    wire::write_json(&mut stream, &ask, ASK_BYTES).await.unwrap();
    wire::write_bulk(&mut stream, &[1; 1000]).await.unwrap();
    drop(stream);
    rig.client().execute(invoke("next"), events().0).await.unwrap();
    assert_eq!(rig.fake.running.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn one_client_too_many_is_told_so() {
    let rig = Rig::start();
    let mut calls = Vec::new();
    for n in 0..CLIENTS {
        let client = ControlClient::at(rig.path());
        calls.push(tokio::spawn(async move { client.execute(Command::Peers.into(), events().0).await }));
        rig.fake.until_running(n + 1).await;
    }
    let error = ControlClient::at(rig.path()).execute(Command::Status.into(), events().0).await.unwrap_err();
    assert!(error.message.starts_with("busy: "), "{error}");
    calls.pop().unwrap().abort();
    rig.fake.until_running(CLIENTS - 1).await;
    // The place is free as soon as the server has noticed; the command above proves that it has.
    let error = loop {
        match ControlClient::at(rig.path()).execute(Command::Status.into(), events().0).await.unwrap_err() {
            busy if busy.message.starts_with("busy: ") => tokio::task::yield_now().await,
            error => break error,
        }
    };
    assert_eq!(error.code, ErrorCode::NotFound);
}

#[tokio::test]
async fn inputs_of_all_clients_have_one_budget() {
    let rig = Rig::start();
    let mut holders = Vec::new();
    for _ in 0..INPUT_BUDGET / MEMORY_BYTES {
        let mut stream = rig.raw().await;
        let ask = Ask { v: wire::VERSION, command: Command::Invoke(Box::default()), input_bytes: MEMORY_BYTES };
        wire::write_json(&mut stream, &ask, ASK_BYTES).await.unwrap();
        holders.push(stream);
    }
    let small = || async { rig.client().execute(invoke("x"), events().0).await };
    // The server reads each ask in its own time: until it has read the last, a small input still fits.
    let refused = async {
        loop {
            match small().await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => return error,
            }
        }
    };
    let error = tokio::time::timeout(LONG, refused).await.expect("the budget ends");
    assert!(error.message.starts_with("busy: "), "{error}");
    holders.pop();
    let served = async {
        while small().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, served).await.expect("room again");
}

#[tokio::test]
async fn stopping_cancels_commands_and_removes_the_socket() {
    let rig = Rig::start();
    let client = rig.client();
    let call = tokio::spawn(async move { client.execute(Command::Peers.into(), events().0).await });
    rig.fake.until_running(1).await;
    rig.stop.send(()).unwrap();
    rig.server.await.unwrap();
    let error = tokio::time::timeout(LONG, call).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::NoNode);
    assert!(!rig.folder.path().join("control.sock").exists());
}

#[tokio::test]
async fn without_a_node_there_is_a_line_to_try() {
    let nowhere = Path::new("/nonexistent/control.sock");
    assert!(ControlClient::find(nowhere).is_none());
    let error = ControlClient::at(nowhere).execute(Command::Peers.into(), events().0).await.unwrap_err();
    assert_eq!((error.code, error.r#try), (ErrorCode::NoNode, vec!["msm node".to_owned()]));
}
