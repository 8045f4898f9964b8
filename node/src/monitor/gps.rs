//! Where this device is, as far as gpsd knows: a small client of its JSON protocol, on a thread of its own.
//!
//! gpsd may stand on another machine and is as hostile as any neighbour: it can hang, flood, babble and lie. None of that
//! costs more than this thread and a line's memory, and the worst outcome is no position. What its lines mean is judged
//! in [`report`].

mod report;

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    sync::mpsc::{self, RecvTimeoutError, TryRecvError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use self::report::{Place, Report};

/// Time for one connection attempt, and for one write.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Addresses of a host name that are tried.
const ADDRESSES: usize = 4;
/// Waits between connection attempts: doubled from the first to the last.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// gpsd's longest answer is 10,240 bytes.
const LINE_BYTES: usize = 16 * 1024;
/// A receiver says about 2 KiB a second, a fast one 20; more than this is read slowly. *Judgement.*
const BYTES_PER_SECOND: usize = 1 << 20;
/// Asks for reports as JSON.
const WATCH: &[u8] = b"?WATCH={\"enable\":true,\"json\":true};\n";
/// A question that every gpsd answers: tells one without receivers from one that hangs.
const PING: &[u8] = b"?VERSION;\n";

/// A position, and how well it is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fix {
    /// Degrees, -90..=90.
    pub lat: f64,
    /// Degrees, -180..=180.
    pub lon: f64,
    /// Metres above the ellipsoid, or above the sea where the receiver knows no better.
    pub alt: Option<f64>,
    /// The receiver's own estimate of its horizontal error in metres, or 100 m when it has none.
    pub accuracy: f64,
    /// When it arrived here. The receiver's clock is not asked: it may be decades off.
    pub at: Instant,
}

impl Fix {
    /// How old it is.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
    }
}

/// How it stands with the receiver; what is shown says why there is no position.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Signal {
    /// None is configured.
    #[default]
    #[error("no receiver is configured (sensors.gps)")]
    Off,
    /// gpsd cannot be reached, or has gone away.
    #[error("gpsd is not reached")]
    Unreachable,
    /// Something takes the connection and does not speak.
    #[error("gpsd does not answer")]
    Silent,
    /// Something answers that is no gpsd, or a broken one.
    #[error("what answers in place of gpsd is none")]
    NotGpsd,
    /// gpsd is there, its receiver sees too little of the sky.
    #[error("the receiver has no fix")]
    NoFix,
    /// The position is known.
    #[error("the receiver has a fix")]
    Fixed,
}

/// What is known of this device's position.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Receiver {
    /// How it stands with the receiver now.
    pub signal: Signal,
    /// The newest position, however old.
    pub fix: Option<Fix>,
}

/// How long what may last.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// A fix without news for this long is none: receivers report every second.
    fix: Duration,
    /// How often the client looks whether it should stop or a fix has grown old.
    look: Duration,
    /// gpsd greets within milliseconds.
    hello: Duration,
    /// After half of it gpsd is asked to say something, after all of it it is left: a machine that was switched off does
    /// not close its connections.
    silence: Duration,
}

const TIMES: Times = Times {
    fix: Duration::from_secs(10),
    look: Duration::from_secs(1),
    hello: Duration::from_secs(5),
    silence: Duration::from_secs(60),
};

/// Follows one gpsd until it is dropped.
#[derive(Debug)]
pub(super) struct Gps {
    known: watch::Receiver<Receiver>,
    /// Dropping it ends the client.
    _stop: mpsc::SyncSender<()>,
}

impl Gps {
    /// Starts to follow the gpsd at `(host, port)`. Returns at once; a gpsd that is not there yet is tried again.
    pub(super) fn start(place: (String, u16)) -> Self {
        Self::start_with(place, TIMES)
    }

    fn start_with(place: (String, u16), times: Times) -> Self {
        let (sender, known) = watch::channel(Receiver { signal: Signal::Unreachable, fix: None });
        let (stop, stopped) = mpsc::sync_channel(0);
        let client = Client { place, known: sender, stopped, times };
        if let Err(error) = std::thread::Builder::new().name("msm-gps".into()).spawn(move || client.run()) {
            tracing::error!(%error, "gpsd is not followed");
        }
        Self { known, _stop: stop }
    }

    /// A position is known.
    pub(super) fn has_fix(&self) -> bool {
        self.known.borrow().signal == Signal::Fixed
    }

    /// What is known, now and from now on.
    pub(super) fn subscribe(&self) -> watch::Receiver<Receiver> {
        self.known.clone()
    }
}

struct Client {
    place: (String, u16),
    known: watch::Sender<Receiver>,
    stopped: mpsc::Receiver<()>,
    times: Times,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it says nothing")]
    Silent,
    #[error("it is no gpsd: {0}")]
    NotGpsd(&'static str),
}

impl Fault {
    fn signal(&self) -> Signal {
        match self {
            Self::Io(_) => Signal::Unreachable,
            Self::Silent => Signal::Silent,
            Self::NotGpsd(_) => Signal::NotGpsd,
        }
    }
}

/// One connection: what was heard on it so far.
struct Conversation {
    /// The beginning of a line.
    line: Vec<u8>,
    /// It has greeted as gpsd does.
    spoke: bool,
    /// When the last line ended.
    heard: Instant,
    /// It was asked to say something since then.
    asked: bool,
    /// The receiver that has the fix, and when that one measured it.
    source: Option<Place>,
    /// Bytes of the second that began then.
    flow: (Instant, usize),
}

impl Client {
    fn run(self) {
        let mut wait = RETRY.0;
        loop {
            let mut talk = Conversation::new(Instant::now());
            let Err(fault) = self.follow(&mut talk) else { return };
            self.set(fault.signal(), None);
            if talk.spoke {
                wait = RETRY.0;
            }
            tracing::debug!(host = self.place.0, port = self.place.1, %fault, ?wait, "no gpsd; trying again");
            if self.stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            wait = (wait * 2).min(RETRY.1);
        }
    }

    /// One connection, from its start until the client is stopped.
    fn follow(&self, talk: &mut Conversation) -> Result<(), Fault> {
        let mut stream = self.connect()?;
        stream.write_all(WATCH)?;
        talk.heard = Instant::now();
        let mut buffer = [0; 4096];
        while self.stopped.try_recv() == Err(TryRecvError::Empty) {
            let now = Instant::now();
            self.forget_old(now);
            if talk.is_silent(now, &self.times, &mut stream)? {
                return Err(Fault::Silent);
            }
            let read = match stream.read(&mut buffer) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(read) => read,
                Err(error) if is_no_news(&error) => continue,
                Err(error) => return Err(error.into()),
            };
            self.hear(talk, buffer.get(..read).unwrap_or_default())?;
            if let Some(rest) = talk.flood(read, Instant::now())
                && self.stopped.recv_timeout(rest) != Err(RecvTimeoutError::Timeout)
            {
                break;
            }
        }
        Ok(())
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let (host, port) = &self.place;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in (host.as_str(), *port).to_socket_addrs()?.take(ADDRESSES) {
            match TcpStream::connect_timeout(&address, CONNECT_TIME) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(self.times.look))?;
                    stream.set_write_timeout(Some(CONNECT_TIME))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Takes in what has arrived, line by line.
    fn hear(&self, talk: &mut Conversation, bytes: &[u8]) -> Result<(), Fault> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if talk.line.len() + piece.len() > LINE_BYTES {
                return Err(Fault::NotGpsd("a line is too long"));
            }
            talk.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut talk.line);
                self.line(talk, &line)?;
            }
        }
        Ok(())
    }

    fn line(&self, talk: &mut Conversation, line: &[u8]) -> Result<(), Fault> {
        let now = Instant::now();
        let report = report::read(line).map_err(|_| Fault::NotGpsd("a line is no report"))?;
        (talk.heard, talk.asked) = (now, false);
        match report {
            Report::Version if !talk.spoke => {
                talk.spoke = true;
                self.set(Signal::NoFix, None);
            }
            _ if !talk.spoke => return Err(Fault::NotGpsd("it did not begin with its version")),
            Report::Fix(place) => {
                // One whose time stands still repeats what it said before: it gets no younger by that.
                let stuck = talk.source.as_ref().is_some_and(|last| last.time.is_some() && last.time == place.time);
                if !stuck {
                    let Place { lat, lon, alt, accuracy, .. } = place;
                    self.set(Signal::Fixed, Some(Fix { lat, lon, alt, accuracy, at: now }));
                    talk.source = Some(place);
                }
            }
            // Another receiver of the same gpsd may still see nothing.
            Report::NoFix(device) if talk.source.as_ref().is_none_or(|source| source.device == device) => {
                talk.source = None;
                self.set(Signal::NoFix, None);
            }
            Report::NoFix(_) | Report::Version | Report::Other => {}
        }
        Ok(())
    }

    /// Tells what is new; without a fix the old one stays known, with its age.
    fn set(&self, signal: Signal, fix: Option<Fix>) {
        self.known.send_if_modified(|known| {
            let new = Receiver { signal, fix: fix.or(known.fix) };
            std::mem::replace(known, new) != new
        });
    }

    fn forget_old(&self, now: Instant) {
        let Receiver { signal, fix } = *self.known.borrow();
        if signal == Signal::Fixed && fix.is_none_or(|fix| fix.age(now) > self.times.fix) {
            self.set(Signal::NoFix, None);
        }
    }
}

impl Conversation {
    fn new(now: Instant) -> Self {
        Self { line: Vec::new(), spoke: false, heard: now, asked: false, source: None, flow: (now, 0) }
    }

    /// True when nothing was said for too long. Asks before it gives up. Bytes without an end of line are nothing.
    fn is_silent(&mut self, now: Instant, times: &Times, stream: &mut impl Write) -> io::Result<bool> {
        let quiet = now.saturating_duration_since(self.heard);
        if !self.spoke {
            return Ok(quiet > times.hello);
        }
        if !self.asked && quiet > times.silence / 2 {
            self.asked = true;
            stream.write_all(PING)?;
        }
        Ok(quiet > times.silence)
    }

    /// How long to read nothing more, after so many bytes.
    fn flood(&mut self, bytes: usize, now: Instant) -> Option<Duration> {
        let (began, sum) = self.flow;
        let spent = now.saturating_duration_since(began);
        let rest = Duration::from_secs(1).checked_sub(spent).filter(|rest| !rest.is_zero());
        self.flow = if rest.is_some() { (began, sum + bytes) } else { (now, bytes) };
        rest.filter(|_| self.flow.1 > BYTES_PER_SECOND)
    }
}

/// Errors of a read that only mean that nothing has arrived.
fn is_no_news(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests;
