//! The client against gpsds of all kinds, on real sockets.

use std::net::TcpListener;

use super::*;

const VERSION: &str = "{\"class\":\"VERSION\",\"release\":\"3.22\",\"rev\":\"3.22\",\"proto_major\":3}\r\n";
const NO_FIX: &str = "{\"class\":\"TPV\",\"device\":\"/dev/pts/1\",\"mode\":1}\r\n";
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A fix of this receiver, measured at this second of its clock.
fn fix_of(device: &str, second: u8) -> String {
    format!(
        "{{\"class\":\"TPV\",\"device\":\"{device}\",\"mode\":3,\"time\":\"2007-01-01T00:00:{second:02}.000Z\",\
         \"lat\":46.5,\"lon\":7.5,\"altHAE\":592.3,\"eph\":12.5}}\r\n"
    )
}

fn fix(second: u8) -> String {
    fix_of("/dev/pts/1", second)
}

/// A listener, and a client that follows it and looks at its state often.
fn followed(times: Times) -> (TcpListener, Gps) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let gps = Gps::start_with(("127.0.0.1".into(), port), Times { look: Duration::from_millis(10), ..times });
    (listener, gps)
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    hears(&mut stream, WATCH);
    stream
}

/// The next thing that the client says.
fn hears(stream: &mut TcpStream, expected: &[u8]) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut heard = vec![0; expected.len()];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(heard, expected);
}

fn say(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
}

/// True when the client ends the connection; a reset is an end with bytes unread.
fn hangs_up(mut stream: TcpStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match stream.read(&mut [0; 64]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

async fn becomes(gps: &mut Gps, expected: Signal) -> Receiver {
    let waited = tokio::time::timeout(PATIENCE, gps.known.wait_for(|known| known.signal == expected)).await;
    let seen = waited.map(|seen| *seen.unwrap());
    seen.unwrap_or_else(|_| panic!("never {expected:?}: {:?}", *gps.known.borrow()))
}

#[tokio::test]
async fn a_fix_comes_goes_and_comes_back_after_a_restart_of_gpsd() {
    let (listener, mut gps) = followed(TIMES);
    assert_eq!(gps.known.borrow().signal, Signal::Unreachable);
    let mut gpsd = accept(&listener);
    // In pieces: a report may arrive in several packets.
    let report = fix(1);
    let (start, rest) = report.split_at(20);
    say(&mut gpsd, &format!("{VERSION}{start}"));
    assert_eq!(becomes(&mut gps, Signal::NoFix).await.fix, None);
    say(&mut gpsd, rest);
    let first = becomes(&mut gps, Signal::Fixed).await.fix.unwrap();
    assert_eq!((first.lat, first.lon, first.alt, first.accuracy), (46.5, 7.5, Some(592.3), 12.5));
    say(&mut gpsd, NO_FIX);
    // What was known stays known, with its age.
    assert_eq!(becomes(&mut gps, Signal::NoFix).await.fix, Some(first));
    say(&mut gpsd, &fix(2));
    let second = becomes(&mut gps, Signal::Fixed).await.fix.unwrap();
    assert!(second.at > first.at);
    drop(gpsd);
    assert_eq!(becomes(&mut gps, Signal::Unreachable).await.fix, Some(second));
    let mut gpsd = accept(&listener);
    say(&mut gpsd, &format!("{VERSION}{}", fix(2)));
    becomes(&mut gps, Signal::Fixed).await;
}

#[tokio::test]
async fn a_receiver_that_falls_silent_or_repeats_itself_has_no_position() {
    let times = Times { fix: Duration::from_millis(200), ..TIMES };
    let (listener, mut gps) = followed(times);
    let mut gpsd = accept(&listener);
    say(&mut gpsd, &format!("{VERSION}{}", fix(1)));
    becomes(&mut gps, Signal::Fixed).await;
    becomes(&mut gps, Signal::NoFix).await;
    // Its clock stands still, and it talks all the time.
    say(&mut gpsd, &fix(2));
    let then = becomes(&mut gps, Signal::Fixed).await.fix.unwrap();
    let mut talking = gpsd.try_clone().unwrap();
    let talk = std::thread::spawn(move || {
        while talking.write_all(fix(2).as_bytes()).is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let now = becomes(&mut gps, Signal::NoFix).await.fix.unwrap();
    assert_eq!(now.at, then.at, "it is as old as it was when it was new");
    drop(gps);
    drop(gpsd);
    talk.join().unwrap();
}

/// A line that never ends, byte by byte, must not keep an old fix alive.
#[tokio::test]
async fn a_gpsd_that_trickles_has_no_position_and_is_left() {
    let (listener, mut gps) =
        followed(Times { fix: Duration::from_millis(200), silence: Duration::from_secs(1), ..TIMES });
    let mut gpsd = accept(&listener);
    say(&mut gpsd, &format!("{VERSION}{}", fix(1)));
    becomes(&mut gps, Signal::Fixed).await;
    let trickle = std::thread::spawn(move || {
        while gpsd.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    becomes(&mut gps, Signal::NoFix).await;
    becomes(&mut gps, Signal::Silent).await;
    trickle.join().unwrap();
}

#[tokio::test]
async fn of_two_receivers_the_one_that_sees_the_sky_counts() {
    let (listener, mut gps) = followed(Times { silence: Duration::from_secs(1), ..TIMES });
    let mut gpsd = accept(&listener);
    say(&mut gpsd, &format!("{VERSION}{}{NO_FIX}", fix_of("/dev/gps0", 1)));
    // It asks when it has read all that.
    hears(&mut gpsd, PING);
    assert_eq!(gps.known.borrow_and_update().signal, Signal::Fixed);
    say(&mut gpsd, &NO_FIX.replace("/dev/pts/1", "/dev/gps0"));
    becomes(&mut gps, Signal::NoFix).await;
}

#[tokio::test]
async fn what_is_no_gpsd_is_left() {
    let long = format!("{VERSION}{}", "x".repeat(LINE_BYTES + 1));
    let speeches = [
        "HTTP/1.1 400 Bad Request\r\n".to_owned(),
        fix(1),
        "\n".to_owned(),
        long,
        format!("{VERSION}{{\"class\":1}}\n"),
        format!("{VERSION}{{\"class\":\"TPV\",\"mode\":3,\"lat\":NaN,\"lon\":7.5}}\n"),
    ];
    for speech in speeches {
        let (listener, mut gps) = followed(TIMES);
        let mut stream = accept(&listener);
        let _ = stream.write_all(speech.as_bytes());
        assert!(hangs_up(stream), "{speech:?}");
        assert_eq!(becomes(&mut gps, Signal::NotGpsd).await.fix, None);
    }
}

#[tokio::test]
async fn a_gpsd_that_hangs_is_left() {
    // From the beginning.
    let (listener, mut gps) = followed(Times { hello: Duration::from_millis(50), ..TIMES });
    let gpsd = accept(&listener);
    becomes(&mut gps, Signal::Silent).await;
    assert!(hangs_up(gpsd));
    // Later: it is asked first, and one that answers is kept.
    let (listener, mut gps) = followed(Times { silence: Duration::from_millis(1_000), ..TIMES });
    let mut gpsd = accept(&listener);
    say(&mut gpsd, VERSION);
    for _ in 0..3 {
        hears(&mut gpsd, PING);
        say(&mut gpsd, VERSION);
    }
    assert_eq!(becomes(&mut gps, Signal::NoFix).await.fix, None);
    hears(&mut gpsd, PING);
    assert!(hangs_up(gpsd));
    becomes(&mut gps, Signal::Silent).await;
}

/// What three seconds may bring takes two, however fast it is sent: a flood costs no processor.
#[tokio::test]
async fn a_flood_is_read_slowly() {
    let (listener, mut gps) = followed(TIMES);
    let mut gpsd = accept(&listener);
    let start = Instant::now();
    let line = format!("{{\"class\":\"SKY\",\"pad\":\"{}\"}}\n", "x".repeat(8 * 1024));
    let flood = line.repeat(3 * BYTES_PER_SECOND / line.len());
    let sender = std::thread::spawn(move || {
        say(&mut gpsd, &format!("{VERSION}{flood}{}", fix(1)));
        gpsd
    });
    becomes(&mut gps, Signal::Fixed).await;
    assert!(start.elapsed() > Duration::from_millis(1_000), "{:?}", start.elapsed());
    drop(sender.join().unwrap());
}

#[test]
fn a_second_has_its_bytes() {
    let start = Instant::now();
    let mut talk = Conversation::new(start);
    let soon = |ms| start + Duration::from_millis(ms);
    assert_eq!(talk.flood(BYTES_PER_SECOND, soon(100)), None);
    assert_eq!(talk.flood(1, soon(200)), Some(Duration::from_millis(800)));
    assert_eq!(talk.flood(1, soon(1_001)), None, "a new second");
    assert_eq!(talk.flood(BYTES_PER_SECOND, soon(1_501)), Some(Duration::from_millis(500)));
}

#[test]
fn the_client_ends_when_it_is_dropped() {
    let (listener, gps) = followed(TIMES);
    let mut gpsd = accept(&listener);
    say(&mut gpsd, VERSION);
    drop(gps);
    assert!(hangs_up(gpsd));
}
