//! Whether gpsd knows a position right now: a small client of its JSON protocol, on a thread of its own.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{TcpStream, ToSocketAddrs},
    sync::mpsc::{self, RecvTimeoutError, TryRecvError},
    time::{Duration, Instant},
};

use serde::Deserialize;
use tokio::sync::watch;

/// A fix without news for this long is no fix: receivers report every second.
const FIX_AGE: Duration = Duration::from_secs(10);
/// Time for one connection attempt.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How often the client looks whether it should stop or a fix has grown old.
const READ_TIME: Duration = Duration::from_secs(1);
/// Waits between connection attempts: doubled from the first to the last.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// gpsd's longest answer is 10,240 bytes.
const LINE_BYTES: usize = 16 * 1024;
/// Asks for reports as JSON.
const WATCH: &[u8] = b"?WATCH={\"enable\":true,\"json\":true};\n";

/// Follows one gpsd until it is dropped.
#[derive(Debug)]
pub(super) struct Gps {
    fix: watch::Receiver<bool>,
    /// Dropping it ends the client.
    _stop: mpsc::SyncSender<()>,
}

impl Gps {
    /// Starts to follow the gpsd at `(host, port)`. Returns at once; a gpsd that is not there yet is tried again.
    pub(super) fn start(place: (String, u16)) -> Self {
        Self::start_with(place, FIX_AGE, READ_TIME)
    }

    fn start_with(place: (String, u16), fix_age: Duration, read_time: Duration) -> Self {
        let (sender, fix) = watch::channel(false);
        let (stop, stopped) = mpsc::sync_channel(0);
        let client = Client { place, fix: sender, stopped, fix_age, read_time };
        if let Err(error) = std::thread::Builder::new().name("msm-gps".into()).spawn(move || client.run()) {
            tracing::error!(%error, "gpsd is not followed");
        }
        Self { fix, _stop: stop }
    }

    /// A position is known.
    pub(super) fn has_fix(&self) -> bool {
        *self.fix.borrow()
    }
}

/// What a report says; gpsd has many more fields.
#[derive(Debug, Deserialize)]
struct Report {
    class: String,
    /// 0 unknown, 1 no fix, 2 latitude and longitude, 3 altitude too.
    #[serde(default)]
    mode: u8,
}

struct Client {
    place: (String, u16),
    fix: watch::Sender<bool>,
    stopped: mpsc::Receiver<()>,
    fix_age: Duration,
    read_time: Duration,
}

/// Why a connection ended.
enum End {
    Stopped,
    /// The flag tells whether it was a gpsd, so that the next attempt may come soon.
    Lost {
        spoke: bool,
        error: io::Error,
    },
}

impl Client {
    fn run(self) {
        let mut wait = RETRY.0;
        loop {
            let end = self.follow();
            self.set(false);
            let End::Lost { spoke, error } = end else { return };
            if spoke {
                wait = RETRY.0;
            }
            tracing::debug!(host = self.place.0, port = self.place.1, %error, ?wait, "gpsd not reached; trying again");
            if self.stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            wait = (wait * 2).min(RETRY.1);
        }
    }

    /// One connection, from its start to its end.
    fn follow(&self) -> End {
        let mut spoke = false;
        match self.read_reports(&mut spoke) {
            Ok(()) => End::Stopped,
            Err(error) => End::Lost { spoke, error },
        }
    }

    fn read_reports(&self, spoke: &mut bool) -> io::Result<()> {
        let mut reader = BufReader::new(self.connect()?);
        reader.get_mut().write_all(WATCH)?;
        let mut line = Vec::new();
        let mut fixed_at: Option<Instant> = None;
        while self.stopped.try_recv() == Err(TryRecvError::Empty) {
            if fixed_at.is_some_and(|at| at.elapsed() > self.fix_age) {
                fixed_at = None;
                self.set(false);
            }
            if !read_line(&mut reader, &mut line)? {
                continue;
            }
            let report: Report = serde_json::from_slice(&line).map_err(|_| not_gpsd("a line is no report"))?;
            line.clear();
            match (report.class.as_str(), *spoke) {
                ("VERSION", _) => *spoke = true,
                (_, false) => return Err(not_gpsd("it did not begin with its version")),
                ("TPV", true) => {
                    fixed_at = (report.mode >= 2).then(Instant::now);
                    self.set(fixed_at.is_some());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let (host, port) = &self.place;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in (host.as_str(), *port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIME) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(self.read_time))?;
                    stream.set_write_timeout(Some(CONNECT_TIME))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn set(&self, fix: bool) {
        self.fix.send_if_modified(|known| std::mem::replace(known, fix) != fix);
    }
}

fn not_gpsd(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("this is no gpsd: {why}"))
}

/// Adds to `line` until its end (true) or until the read time is over (false).
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        let (used, ended) = match reader.fill_buf() {
            Ok([]) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                let used = end.map_or(bytes.len(), |at| at + 1);
                line.extend_from_slice(&bytes[..used]);
                (used, end.is_some())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        reader.consume(used);
        if line.len() > LINE_BYTES {
            return Err(not_gpsd("a line is too long"));
        }
        if ended {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, net::TcpListener};

    use super::*;

    const VERSION: &str = "{\"class\":\"VERSION\",\"release\":\"3.22\",\"rev\":\"3.22\",\"proto_major\":3}\r\n";
    const FIX: &str = "{\"class\":\"TPV\",\"device\":\"/dev/pts/1\",\"mode\":3,\"lat\":46.5,\"lon\":7.5}\r\n";
    const NO_FIX: &str = "{\"class\":\"TPV\",\"device\":\"/dev/pts/1\",\"mode\":1}\r\n";

    /// A listener, and a client that follows it and looks at its state often.
    fn followed(fix_age: Duration) -> (TcpListener, Gps) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let gps = Gps::start_with(("127.0.0.1".into(), port), fix_age, Duration::from_millis(10));
        (listener, gps)
    }

    fn accept(listener: &TcpListener) -> TcpStream {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = vec![0; WATCH.len()];
        stream.read_exact(&mut asked).unwrap();
        assert_eq!(asked, WATCH);
        stream
    }

    /// True when the client ends the connection; a reset is an end with bytes unread.
    fn hangs_up(mut stream: TcpStream) -> bool {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        match stream.read(&mut [0]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    async fn becomes(gps: &mut Gps, expected: bool) {
        let waited = tokio::time::timeout(Duration::from_secs(20), gps.fix.wait_for(|fix| *fix == expected)).await;
        assert!(waited.is_ok_and(|changed| changed.is_ok()), "gps never became {expected}");
    }

    #[tokio::test]
    async fn a_fix_comes_goes_and_comes_back_after_a_restart_of_gpsd() {
        let (listener, mut gps) = followed(FIX_AGE);
        assert!(!gps.has_fix());
        let mut gpsd = accept(&listener);
        // In pieces: a report may arrive in several packets.
        let (start, rest) = FIX.split_at(20);
        gpsd.write_all(format!("{VERSION}{start}").as_bytes()).unwrap();
        gpsd.write_all(rest.as_bytes()).unwrap();
        becomes(&mut gps, true).await;
        gpsd.write_all(NO_FIX.as_bytes()).unwrap();
        becomes(&mut gps, false).await;
        gpsd.write_all(FIX.as_bytes()).unwrap();
        becomes(&mut gps, true).await;
        drop(gpsd);
        becomes(&mut gps, false).await;
        let mut gpsd = accept(&listener);
        gpsd.write_all(format!("{VERSION}{FIX}").as_bytes()).unwrap();
        becomes(&mut gps, true).await;
    }

    #[tokio::test]
    async fn a_silent_receiver_has_no_position() {
        let (listener, mut gps) = followed(Duration::from_millis(50));
        let mut gpsd = accept(&listener);
        gpsd.write_all(format!("{VERSION}{FIX}").as_bytes()).unwrap();
        becomes(&mut gps, true).await;
        becomes(&mut gps, false).await;
    }

    #[test]
    fn what_is_no_gpsd_is_left() {
        let long = format!("{VERSION}{}", "x".repeat(LINE_BYTES + 1));
        for speech in ["HTTP/1.1 400 Bad Request\r\n", FIX, "\n", long.as_str(), &format!("{VERSION}{{\"class\":1}}\n")]
        {
            let (listener, gps) = followed(FIX_AGE);
            let mut stream = accept(&listener);
            let _ = stream.write_all(speech.as_bytes());
            assert!(hangs_up(stream), "{speech:?}");
            assert!(!gps.has_fix());
        }
    }

    #[test]
    fn the_client_ends_when_it_is_dropped() {
        let (listener, gps) = followed(FIX_AGE);
        let mut gpsd = accept(&listener);
        gpsd.write_all(VERSION.as_bytes()).unwrap();
        drop(gps);
        assert!(hangs_up(gpsd));
    }
}
