//! Receivers: Debian's gpsd fed by gpsfake with a walk, and things that pretend to be one.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// gpsfake ends its gpsd and itself within this.
const END: Duration = Duration::from_secs(10);

/// A gpsd whose receiver walks north-east from a place, a metre a second, over and over. Dropping it ends it.
pub struct Gpsd {
    fake: Child,
    port: u16,
    log: PathBuf,
}

impl Gpsd {
    /// Starts one; its files stand in `folder`.
    pub fn walking_from(folder: &Path, (lat, lon): (f64, f64)) -> Self {
        // Nobody knows a free port but the kernel; between this line and gpsd's bind it is free for others too.
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let walk = folder.join(format!("walk-{port}.nmea"));
        fs::write(&walk, nmea(lat, lon)).unwrap();
        let log = folder.join(format!("gpsd-{port}.log"));
        let log_file = File::create(&log).unwrap();
        // Debian's, for Debian's gps module: another python may come first in the path.
        let fake = Command::new("/usr/bin/gpsfake")
            .args(["--quiet", "--nowait", "--cycle", "0.05", "--port", &port.to_string()])
            .arg(&walk)
            .stdin(Stdio::null())
            .stdout(log_file.try_clone().unwrap())
            .stderr(log_file)
            .spawn()
            .unwrap_or_else(|error| panic!("no gpsfake ({error}): apt-get install gpsd gpsd-clients"));
        Self { fake, port, log }
    }

    /// Lines of a configuration that follow it.
    pub fn config(&self) -> String {
        sensors(self.port)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn children(&self) -> Vec<Pid> {
        let pid = self.fake.id();
        let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    }
}

impl Drop for Gpsd {
    fn drop(&mut self) {
        // A process that has ended and was not waited for is still there: no other has its id.
        let gpsd = self.children();
        let _ = kill_process(Pid::from_child(&self.fake), Signal::TERM);
        let end = Instant::now() + END;
        while matches!(self.fake.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        if matches!(self.fake.try_wait(), Ok(None)) {
            for pid in gpsd {
                let _ = kill_process(pid, Signal::KILL);
            }
            let _ = self.fake.kill();
            let _ = self.fake.wait();
        }
        let _ = fs::remove_file(format!("/tmp/gpsfake-{}.sock", self.fake.id()));
        if std::thread::panicking() {
            eprintln!("--- gpsd at {} ---\n{}", self.port, self.log());
        }
    }
}

fn sensors(port: u16) -> String {
    format!("slots = 2\n[sensors]\ngps = \"gpsd://127.0.0.1:{port}\"\n")
}

/// Something that takes connections in place of a gpsd and says `speech`, or nothing at all; returns lines of a
/// configuration that follow it. It lives until its connections end.
pub fn impostor(speech: &'static [u8]) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let _ = stream.write_all(speech);
                // Until the other side has had enough.
                while stream.read(&mut [0; 256]).is_ok_and(|read| read > 0) {}
            });
        }
    });
    sensors(port)
}

/// A gpsd whose receiver goes indoors and out again when the test says so.
pub struct Receiver {
    port: u16,
    sees_sky: Arc<AtomicBool>,
}

impl Receiver {
    /// Starts one outdoors. It lives until its connections end.
    pub fn outdoors() -> Self {
        const VERSION: &str = "{\"class\":\"VERSION\",\"release\":\"3.22\",\"proto_major\":3}\r\n";
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let sees_sky = Arc::new(AtomicBool::new(true));
        let sees = sees_sky.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, sees) = (stream.unwrap(), sees.clone());
                std::thread::spawn(move || {
                    let mut report = VERSION.to_owned();
                    // Ends with the connection. Ten reports a second, as a fast receiver.
                    for n in 0_u64.. {
                        if stream.write_all(report.as_bytes()).is_err() {
                            return;
                        }
                        let mode = if sees.load(Ordering::Relaxed) { 3 } else { 1 };
                        report = format!(
                            "{{\"class\":\"TPV\",\"mode\":{mode},\"time\":{n},\"lat\":46.51,\"lon\":7.51,\"eph\":9}}\r\n"
                        );
                        std::thread::sleep(Duration::from_millis(100));
                    }
                });
            }
        });
        Self { port, sees_sky }
    }

    /// Lines of a configuration that follow it.
    pub fn config(&self) -> String {
        sensors(self.port)
    }

    /// It sees the sky no more.
    pub fn goes_indoors(&self) {
        self.sees_sky.store(false, Ordering::Relaxed);
    }
}

/// A minute of a receiver's sentences, one fix a second.
fn nmea(lat: f64, lon: f64) -> String {
    let sentence = |body: String| {
        let sum = body.bytes().fold(0, |sum, byte| sum ^ byte);
        format!("${body}*{sum:02X}\r\n")
    };
    // Degrees and minutes, and the half of the Earth.
    let angle = |degrees: f64, width: usize, halves: [char; 2]| {
        let (whole, half) = (degrees.abs().floor(), halves[usize::from(degrees < 0.0)]);
        format!("{whole:0width$}{:07.4},{half}", (degrees.abs() - whole) * 60.0)
    };
    let second = |n: u32| {
        let step = f64::from(n) * 1e-5;
        let place = format!("{},{}", angle(lat + step, 2, ['N', 'S']), angle(lon + step, 3, ['E', 'W']));
        let time = format!("1200{n:02}.00");
        [
            sentence(format!("GPRMC,{time},A,{place},2.0,045.0,150626,,,A")),
            sentence(format!("GPGGA,{time},{place},1,08,0.9,545.4,M,46.9,M,,")),
            sentence("GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1".to_owned()),
        ]
        .concat()
    };
    (0..60).map(second).collect()
}
