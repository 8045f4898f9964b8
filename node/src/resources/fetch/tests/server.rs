//! A small HTTP server on loopback that answers as a test tells it, honestly or not.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Serves one request a connection, each in its own thread, until it is dropped.
pub struct Server {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
}

impl Server {
    /// `answer` gets the request's head and writes whatever it wants; then the connection closes.
    pub fn start(answer: impl Fn(&str, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::with(move |mut stream| {
            let head = head(&mut stream)?;
            answer(&head, &mut stream)
        })
    }

    /// `serve` gets the connection as it is.
    pub fn with(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, over, serve) = (requests.clone(), ended.clone(), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { return };
                count.fetch_add(1, Ordering::SeqCst);
                // A client that says nothing must not keep a thread for ever.
                let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
                let serve = serve.clone();
                // An error is the client closing early, which is what most of these tests want.
                std::thread::spawn(move || drop(serve(stream)));
            }
        });
        Self { address, requests, ended }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Connections so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(self.address);
    }
}

/// The request up to its empty line; a body is read too, so that closing resets nothing.
fn head(stream: &mut impl Read) -> io::Result<String> {
    let (mut bytes, mut step) = (Vec::new(), [0; 4_096]);
    loop {
        let count = stream.read(&mut step)?;
        bytes.extend_from_slice(&step[..count]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Ok(format!("{head}\r\n"));
            }
        }
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The port that a request's `host` header says.
pub fn port_in(request: &str) -> String {
    let host = request.lines().find_map(|line| line.to_lowercase().strip_prefix("host: ").map(str::to_owned));
    host.and_then(|host| host.rsplit_once(':').map(|(_, port)| port.to_owned())).unwrap_or_default()
}

/// A plain page.
pub fn plain(out: &mut impl Write, text: &str) -> io::Result<()> {
    write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())
}
