//! Fetches from real servers on loopback, most of them hostile.

mod secure;
mod server;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};

use self::server::{Server, plain};
use super::{names::Names, target::PrivateHost, *};

/// A resolver that knows these names and counts what it is asked.
#[derive(Default)]
struct Book {
    names: BTreeMap<&'static str, Vec<&'static str>>,
    asked: AtomicUsize,
}

impl Book {
    fn of<const N: usize>(names: [(&'static str, &[&'static str]); N]) -> Arc<Self> {
        let names = names.into_iter().map(|(name, addresses)| (name, addresses.to_vec())).collect();
        Arc::new(Self { names, asked: AtomicUsize::new(0) })
    }
}

impl Names for Book {
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let addresses = self.names.get(host).ok_or(io::Error::other("no such name"))?;
        Ok(addresses.iter().map(|text| text.parse().unwrap()).collect())
    }
}

/// Small caps, so that a test ends soon; and no pause between requests.
const SMALL: Bounds = Bounds {
    body: 1 << 20,
    inflated: 4 << 20,
    connect: Duration::from_secs(2),
    per_host: Duration::ZERO,
    per_lookup: Duration::ZERO,
    total: Duration::from_secs(5),
    ..Bounds::SHIPPED
};

/// A web in which only these hosts and ports are open although they are not public.
fn web(private: &[&str], names: Arc<dyn Names>, bounds: Bounds) -> Web {
    let net_private = private.iter().map(|text| PrivateHost::parse(text).unwrap()).collect();
    Web { names, bounds, ..Web::new(&ResourcesConfig { net_private, ..ResourcesConfig::default() }) }
}

fn allowance(client: &str) -> Allowance {
    let any = ["*".to_owned()];
    Allowance { lists: HostLists::of([&any, &any, &any]), client: client.into(), paying: Arc::new(|_| Ok(())) }
}

fn get(url: impl Into<String>) -> FetchRequest {
    FetchRequest { url: url.into(), method: Method::Get, headers: vec![], body: vec![] }
}

async fn fetched(web: &Web, url: impl Into<String>) -> Result<Fetched, FetchError> {
    web.get(&allowance("a"), get(url)).await
}

async fn code(web: &Web, url: impl Into<String>) -> String {
    match fetched(web, url).await {
        Ok(fetched) => format!("status {}", fetched.head.status),
        Err(error) => error.code(),
    }
}

#[tokio::test]
async fn an_honest_page_comes_with_its_head() {
    let server = Server::start(|request, out| {
        assert!(request.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{request}");
        let lower = request.to_lowercase();
        assert!(lower.contains("\r\naccept-encoding: gzip\r\n") && lower.contains("\r\nx-mine: yes\r\n"), "{request}");
        assert!(!lower.contains("cookie") && !lower.contains("proxy"), "{request}");
        let head = "HTTP/1.1 203 Fine\r\nContent-Type: text/plain\r\nSet-Cookie: a=b\r\nX-Two: 1\r\nX-Two: 2\r\n";
        write!(out, "{head}Content-Length: 5\r\n\r\nhello")
    });
    let web = web(&[&server.host()], Book::of([]), SMALL);
    let request = FetchRequest { headers: vec![("x-mine".into(), "yes".into())], ..get(server.url("/a?b=c#d")) };
    let page = web.get(&allowance("a"), request).await.unwrap();
    assert_eq!((page.head.status, page.body.as_slice(), page.wire_bytes), (203, &b"hello"[..], 5));
    assert_eq!(page.head.url, server.url("/a?b=c"));
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expected = [header("content-type", "text/plain"), header("x-two", "1"), header("x-two", "2")];
    assert_eq!(page.head.headers, expected);
}

#[tokio::test]
async fn b63_answers_that_mix_public_and_private_addresses_are_blocked() {
    let server = Server::start(|_, out| plain(out, "secret"));
    let book = Book::of([
        ("mixed.example", &["93.184.216.34", "127.0.0.1"]),
        ("mixed6.example", &["2606:4700::1111", "::1"]),
        ("inside.example", &["10.0.0.1"]),
        ("nothing.example", &[]),
    ]);
    let web = web(&[&server.host()], book.clone(), SMALL);
    for name in ["mixed", "mixed6", "inside"] {
        assert_eq!(code(&web, format!("http://{name}.example/")).await, "blocked-address", "{name}");
    }
    assert_eq!(code(&web, "http://nothing.example/").await, "unknown-host");
    assert_eq!(code(&web, "http://missing.example/").await, "unknown-host");
    // The open port of the open address is open to that host only, and not to a name that leads there.
    assert_eq!(code(&web, format!("http://inside.example:{}/", server.port())).await, "blocked-port");
    assert_eq!(server.requests(), 0);
}

/// A guest that may fetch from anywhere tries names to learn which the owner's network has, and where they lead.
#[tokio::test]
async fn names_tell_a_guest_nothing_of_the_owners_network() {
    let book = Book::of([
        ("inside.example", &["10.0.0.1"]),
        ("router.example", &["192.168.1.1", "93.184.216.34"]),
        ("self.example", &["127.0.0.1"]),
        ("empty.example", &[]),
        ("vm", &["10.0.0.2"]),
        ("nas.local", &["10.0.0.3"]),
    ]);
    let web = web(&[], book.clone(), SMALL);
    let mut seen = std::collections::BTreeSet::new();
    for name in ["inside", "router", "self", "empty", "nosuch"] {
        let error = AskError::from(fetched(&web, format!("http://{name}.example/")).await.unwrap_err());
        seen.insert(format!("{:?} {}", error.kind, error.message.replace(name, "NAME")));
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(book.asked.load(Ordering::SeqCst), 5);
    // The rest is not even looked up; what a guest wrote out itself it may read about.
    for name in ["vm", "nosuch", "nas.local", "nosuch.lan"] {
        assert_eq!(code(&web, format!("http://{name}/")).await, "blocked-host", "{name}");
    }
    assert_eq!(book.asked.load(Ordering::SeqCst), 5);
    let error = AskError::from(fetched(&web, "http://10.0.0.1/").await.unwrap_err());
    assert!(error.message.starts_with("net.fetch: blocked-address: 10.0.0.1"), "{}", error.message);
}

#[tokio::test]
async fn lookups_are_rationed_for_each_client_and_each_name() {
    let per = Duration::from_millis(200);
    let total = Duration::from_millis(900);
    let book = Book::of([]);
    let web = web(&[], book.clone(), Bounds { per_lookup: per, total, ..SMALL });
    let one = allowance("one");
    let all = (0..50).map(|n| web.get(&one, get(format!("http://h{n}.example/"))));
    let begun = Instant::now();
    let codes: Vec<_> = futures::future::join_all(all).await.into_iter().map(|it| it.unwrap_err().code()).collect();
    let asked = book.asked.load(Ordering::SeqCst);
    // One at once, and one more for each interval that has passed.
    let most = 1 + begun.elapsed().as_millis() / per.as_millis();
    assert!(asked as u128 <= most, "{asked} of {most}");
    assert_eq!(codes.iter().filter(|code| *code == "unknown-host").count(), asked, "{codes:?}");
    // One name is looked up no more often than it may be asked, whoever wants it.
    let book = Book::of([]);
    let web = super::tests::web(&[], book.clone(), Bounds { per_host: rate::HOST_INTERVAL, total, ..SMALL });
    let clients: Vec<_> = (0..10).map(|n| allowance(&n.to_string())).collect();
    futures::future::join_all(clients.iter().map(|client| web.get(client, get("http://one.example/")))).await;
    assert_eq!(book.asked.load(Ordering::SeqCst), 2, "at once, and half a second later");
}

/// Every name leads first to an address of its own where nobody answers, and then to the same server.
#[tokio::test]
async fn b69_addresses_that_are_tried_second_are_rationed_too() {
    let times = Arc::new(Mutex::new(Vec::new()));
    let keep = times.clone();
    let server = Server::start(move |_, out| {
        keep.lock().unwrap().push(Instant::now());
        plain(out, "x")
    });
    let book = Book::of([
        ("a.example", &["127.0.0.2", "127.0.0.1"]),
        ("b.example", &["127.0.0.3", "127.0.0.1"]),
        ("c.example", &["127.0.0.4", "127.0.0.1"]),
    ]);
    let urls = ["a", "b", "c"].map(|name| format!("{name}.example:{}", server.port()));
    let open: Vec<&str> = urls.iter().map(String::as_str).collect();
    let web = web(&open, book, Bounds { per_host: rate::HOST_INTERVAL, ..SMALL });
    let asking = urls.iter().map(|host| fetched(&web, format!("http://{host}/")));
    let ended = futures::future::join_all(asking).await;
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    let times = times.lock().unwrap();
    // A busy machine notes a request a little late, so the next one seems a little early.
    assert!(times.len() == 3 && times[2] - times[0] > Duration::from_millis(800), "{times:?}");
}

#[tokio::test]
async fn heads_and_redirects_are_paid_for_and_count_against_the_cap() {
    const HEAD: usize = 40_000;
    let server = Server::start(|request, out| {
        let left: u32 = request.split(' ').nth(1).unwrap_or_default()[1..].parse().unwrap();
        let big = "x".repeat(HEAD);
        match left {
            0 => write!(out, "HTTP/1.1 200 OK\r\nX-Big: {big}\r\nContent-Length: 1\r\n\r\nx"),
            _ => write!(out, "HTTP/1.1 302 Go\r\nX-Big: {big}\r\nLocation: /{}\r\nContent-Length: 0\r\n\r\n", left - 1),
        }
    });
    let paid = Arc::new(AtomicU64::new(0));
    let sum = paid.clone();
    let paying: Paying = Arc::new(move |bytes| {
        sum.fetch_add(bytes, Ordering::SeqCst);
        Ok(())
    });
    let paying = Allowance { paying, ..allowance("a") };
    let loose = web(&[&server.host()], Book::of([]), SMALL);
    assert_eq!(loose.get(&paying, get(server.url("/5"))).await.unwrap().body, b"x");
    assert!(paid.load(Ordering::SeqCst) > 6 * HEAD as u64, "{paid:?}");
    // What fails half-way is paid for as far as it came: two heads in full, the third began.
    paid.store(0, Ordering::SeqCst);
    let tight = web(&[&server.host()], Book::of([]), Bounds { body: 100_000, ..SMALL });
    let error = tight.get(&paying, get(server.url("/5"))).await.unwrap_err();
    assert_eq!(error.code(), "too-large", "{error}");
    let paid = paid.load(Ordering::SeqCst);
    assert!((100_000..200_000).contains(&paid), "{paid}");
    assert!(tight.get(&paying, get(server.url("/1"))).await.is_ok());
}

#[tokio::test]
async fn a_name_is_resolved_once_and_connected_to_where_it_was_checked() {
    let server = Server::start(|request, out| {
        assert!(request.contains(&format!("host.example:{}", server::port_in(request))), "{request}");
        plain(out, "here")
    });
    let book = Book::of([("host.example", &["127.0.0.1"])]);
    let web = web(&[&format!("host.example:{}", server.port())], book.clone(), SMALL);
    assert_eq!(fetched(&web, format!("http://host.example:{}/", server.port())).await.unwrap().body, b"here");
    assert_eq!(book.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn b65_redirects_are_followed_by_the_rules() {
    let server = Server::start(|request, out| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        let to = match path {
            "/file" => "file:///etc/passwd".to_owned(),
            "/gopher" => "gopher://127.0.0.1/".to_owned(),
            "/ftp" => "ftp://127.0.0.1/".to_owned(),
            "/ssh" => "http://127.0.0.1:22/".to_owned(),
            "/loopback" => "http://127.0.0.1/".to_owned(),
            "/disguised" => "//0x7f.1/".to_owned(),
            "/inside" => "http://inside.example/".to_owned(),
            "/metadata" => "http://169.254.169.254/latest/meta-data/".to_owned(),
            "/user" => "http://u:p@127.0.0.1/".to_owned(),
            "/relative" => "end".to_owned(),
            "/end" => return plain(out, "end"),
            other => match other.strip_prefix("/chain/").and_then(|left| left.parse::<u32>().ok()) {
                Some(0) | None => return plain(out, "end"),
                Some(left) => format!("/chain/{}", left - 1),
            },
        };
        write!(out, "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
    });
    let web = web(&[&server.host()], Book::of([("inside.example", &["192.168.1.1"])]), SMALL);
    for (path, expected) in [
        ("/file", "blocked-scheme"),
        ("/gopher", "blocked-scheme"),
        ("/ftp", "blocked-scheme"),
        ("/ssh", "blocked-port"),
        ("/loopback", "blocked-address"),
        ("/disguised", "blocked-address"),
        ("/inside", "blocked-address"),
        ("/metadata", "blocked-address"),
        ("/user", "bad-url"),
        ("/relative", "status 200"),
        ("/chain/5", "status 200"),
        ("/chain/6", "too-many-redirects"),
    ] {
        assert_eq!(code(&web, server.url(path)).await, expected, "{path}");
    }
    let end = fetched(&web, server.url("/chain/5")).await.unwrap();
    assert_eq!(end.head.url, server.url("/chain/0"));
}

#[tokio::test]
async fn a_redirect_takes_no_secret_to_another_origin_and_no_body_where_browsers_take_none() {
    let seen = Arc::new(Mutex::new(Vec::<String>::new()));
    let keep = seen.clone();
    let other = Server::start(move |request, out| {
        keep.lock().unwrap().push(request.to_lowercase());
        plain(out, "end")
    });
    let there = other.url("/");
    let server = Server::start(move |request, out| {
        let status = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
        write!(out, "HTTP/1.1 {status} Go\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n")
    });
    let web = web(&[&server.host(), &other.host()], Book::of([]), SMALL);
    let headers = ["authorization", "x-api-key", "content-type", "x-mine"].map(|name| (name.into(), "v".into()));
    for status in [302, 307] {
        let url = server.url(&format!("/{status}"));
        let body = b"secret=1".to_vec();
        let request = FetchRequest { url, method: Method::Post, headers: headers.to_vec(), body };
        web.get(&allowance("a"), request).await.unwrap();
    }
    let seen = seen.lock().unwrap();
    assert!(seen[0].starts_with("get / ") && !seen[0].contains("content-type"), "{}", seen[0]);
    assert!(seen[1].starts_with("post / ") && seen[1].contains("content-type"), "{}", seen[1]);
    for request in seen.iter() {
        assert!(!request.contains("authorization") && !request.contains("x-api-key"), "{request}");
        assert!(request.contains("x-mine: v"), "{request}");
    }
}

#[tokio::test]
async fn b67_hostile_answers_are_cut_at_the_caps() {
    let server = Server::start(|request, out| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        match path {
            "/bomb" => {
                // Zeros without end, packed: about a thousand bytes for each one on the wire.
                write!(out, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")?;
                let mut bomb = GzEncoder::new(out, Compression::best());
                (0..200_000).try_for_each(|_| bomb.write_all(&[0; 65_536]))
            }
            "/chunks" => {
                write!(out, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                let chunk = [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat();
                (0..100_000).try_for_each(|_| out.write_all(&chunk))
            }
            "/header" => {
                write!(out, "HTTP/1.1 200 OK\r\nX-Big: ")?;
                (0..1_024).try_for_each(|_| out.write_all(&[b'x'; 1_024]))?;
                write!(out, "\r\nContent-Length: 0\r\n\r\n")
            }
            "/headers" => {
                write!(out, "HTTP/1.1 200 OK\r\n")?;
                (0..100_000).try_for_each(|index| write!(out, "X-{index}: y\r\n"))
            }
            "/said" => write!(out, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nx"),
            "/brotli" => write!(out, "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx"),
            "/nested" => write!(out, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip, gzip\r\nContent-Length: 1\r\n\r\nx"),
            "/short" => write!(out, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx"),
            "/garbage" => out.write_all(&[0xff; 4_096]),
            _ => Ok(()),
        }
    });
    let web = web(&[&server.host()], Book::of([]), SMALL);
    for (path, expected) in [
        ("/bomb", "too-large"),
        ("/chunks", "too-large"),
        ("/header", "too-large"),
        ("/said", "too-large"),
        ("/brotli", "bad-encoding"),
        ("/nested", "bad-encoding"),
    ] {
        assert_eq!(code(&web, server.url(path)).await, expected, "{path}");
    }
    for path in ["/headers", "/short", "/garbage", "/nothing"] {
        let error = fetched(&web, server.url(path)).await.unwrap_err().code();
        assert!(["too-large", "bad-answer", "unreachable"].contains(&error.as_str()), "{path}: {error}");
    }
}

#[tokio::test]
async fn b67_a_byte_a_second_ends_with_the_time() {
    let server = Server::start(|request, out| {
        // One slow in its head, one in its body.
        match request.contains("/body") {
            true => write!(out, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")?,
            false => write!(out, "HTTP/1.1 200 OK\r\nX-Slow: ")?,
        }
        for _ in 0..100 {
            out.write_all(b"H")?;
            out.flush()?;
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    });
    let bounds = Bounds { total: Duration::from_millis(600), ..SMALL };
    let web = web(&[&server.host()], Book::of([]), bounds);
    for path in ["/head", "/body"] {
        let start = Instant::now();
        let error = fetched(&web, server.url(path)).await.unwrap_err();
        assert_eq!(error.code(), "timeout", "{error}");
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(3), "{path}: {took:?}");
    }
}

#[tokio::test]
async fn b69_one_host_is_asked_twice_a_second_by_all_clients_together() {
    let times = Arc::new(Mutex::new(Vec::new()));
    let keep = times.clone();
    let server = Server::start(move |_, out| {
        keep.lock().unwrap().push(Instant::now());
        plain(out, "x")
    });
    let bounds = Bounds { per_host: rate::HOST_INTERVAL, total: Duration::from_millis(1_600), ..SMALL };
    let web = Arc::new(web(&[&server.host()], Book::of([]), bounds));
    let asking = (0..10).map(|client| {
        let (web, url) = (web.clone(), server.url("/"));
        tokio::spawn(async move {
            let allowance = allowance(&client.to_string());
            let mut codes = Vec::new();
            for _ in 0..3 {
                codes.push(web.get(&allowance, get(&*url)).await.map_or_else(|error| error.code(), |_| "ok".into()));
            }
            codes
        })
    });
    let ended = futures::future::join_all(asking).await;
    let codes: Vec<String> = ended.into_iter().flat_map(Result::unwrap).collect();
    let times = times.lock().unwrap().clone();
    assert!(times.len() >= 4, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| *code == "ok").count(), times.len(), "{codes:?}");
    assert!(codes.iter().any(|code| code == "busy"), "{codes:?}");
    for window in times.windows(3) {
        // A busy machine notes a request a little late, so the next one seems a little early.
        assert!(window[2] - window[0] > Duration::from_millis(800), "{:?}", window[2] - window[0]);
    }
}

#[tokio::test]
async fn one_client_has_four_fetches_at_a_time() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (at, peak) = (now.clone(), most.clone());
    let server = Server::start(move |_, out| {
        let running = at.fetch_add(1, Ordering::SeqCst) + 1;
        peak.fetch_max(running, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(100));
        at.fetch_sub(1, Ordering::SeqCst);
        plain(out, "x")
    });
    let web = web(&[&server.host()], Book::of([]), SMALL);
    let one = allowance("one");
    let all = (0..10).map(|_| web.get(&one, get(server.url("/"))));
    assert!(futures::future::join_all(all).await.iter().all(Result::is_ok));
    assert_eq!(most.load(Ordering::SeqCst), FETCHES_PER_CLIENT);
    // Clients that are gone leave nothing behind.
    web.client("other");
    assert_eq!(web.clients.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn whoever_gives_up_closes_the_connection() {
    let (heard, hears) = std::sync::mpsc::channel();
    let heard = Mutex::new(heard);
    let server = Server::start(move |_, out| {
        write!(out, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")?;
        heard.lock().unwrap().send("asked").unwrap();
        // Reading ends when the other side closes.
        let mut rest = [0; 1];
        let end = io::Read::read(out, &mut rest);
        heard.lock().unwrap().send("closed").unwrap();
        end.map(drop)
    });
    let web = Arc::new(web(&[&server.host()], Book::of([]), Bounds { total: Duration::from_secs(60), ..SMALL }));
    let (asker, url) = (web.clone(), server.url("/"));
    let asking = tokio::spawn(async move { fetched(&asker, url).await });
    let hears = tokio::task::spawn_blocking(move || {
        assert_eq!(hears.recv_timeout(Duration::from_secs(5)), Ok("asked"));
        hears
    });
    let hears = hears.await.unwrap();
    asking.abort();
    let closed = tokio::task::spawn_blocking(move || hears.recv_timeout(Duration::from_secs(5)));
    assert_eq!(closed.await.unwrap(), Ok("closed"));
}

#[tokio::test]
async fn what_is_fetched_is_paid_for() {
    let moved = Arc::new(AtomicU64::new(0));
    let sum = moved.clone();
    let server = Server::start(move |request, out| {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000));
        // The request's head comes here without its last line break.
        sum.fetch_add((request.len() + 2 + answer.len()) as u64, Ordering::SeqCst);
        out.write_all(answer.as_bytes())
    });
    let web = web(&[&server.host()], Book::of([]), SMALL);
    let purse = Arc::new(AtomicU64::new(150_000));
    let left = purse.clone();
    let paying: Paying = Arc::new(move |bytes| {
        let paid =
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(bytes).filter(|_| left > 0));
        paid.map(drop).map_err(|left| format!("{left} bytes left"))
    });
    let paying = Allowance { paying, ..allowance("a") };
    let request = || get(server.url("/"));
    assert!(web.get(&paying, request()).await.is_ok());
    assert_eq!(purse.load(Ordering::SeqCst), 150_000 - moved.load(Ordering::SeqCst), "to the byte");
    assert_eq!(web.get(&paying, request()).await.unwrap_err().code(), "quota");
    // With nothing left no request is made at all.
    purse.store(0, Ordering::SeqCst);
    let before = server.requests();
    assert_eq!(web.get(&paying, request()).await.unwrap_err().code(), "quota");
    assert_eq!(server.requests(), before);
}
