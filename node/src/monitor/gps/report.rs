//! What a line of gpsd says, judged: a report that is well-formed may still lie about its position.

use serde::Deserialize;
use serde_json::Value;

/// Error that is taken when a receiver estimates none, in metres: a bad one in a street between houses. *Judgement.*
pub(super) const UNKNOWN_ERROR: f64 = 100.0;
/// A position that is known no better than this, in metres, is none.
const ERROR_MAX: f64 = 100_000.0;
/// Heights that a receiver may report, in metres: from below the Dead Sea to above every aeroplane.
const HEIGHTS: std::ops::RangeInclusive<f64> = -1_000.0..=100_000.0;

/// One line.
#[derive(Debug, PartialEq)]
pub(super) enum Report {
    /// Begins every conversation.
    Version,
    /// A receiver tells where it is.
    Fix(Place),
    /// A receiver (its path, when it has one) does not know where it is.
    NoFix(Option<String>),
    /// Something else: satellites, devices, ships.
    Other,
}

/// Where a receiver is.
#[derive(Debug, PartialEq)]
pub(super) struct Place {
    /// The receiver's path.
    pub(super) device: Option<String>,
    /// Degrees, -90..=90.
    pub(super) lat: f64,
    /// Degrees, -180..=180.
    pub(super) lon: f64,
    /// Metres above the ellipsoid, or above the sea where gpsd knows no better.
    pub(super) alt: Option<f64>,
    /// Estimated horizontal error in metres, above 0.
    pub(super) accuracy: f64,
    /// When the receiver measured it, in its own words. Clocks of receivers are wrong by weeks and decades: this tells
    /// two measurements apart, and nothing else.
    pub(super) time: Option<Value>,
}

/// Why a line is none of gpsd's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoReport;

/// The kind of a line. gpsd's kinds give the same names to fields of other types, so it is read first.
#[derive(Deserialize)]
struct Kind {
    class: String,
}

/// A TPV report; gpsd's have many more fields.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tpv {
    device: Option<String>,
    /// 0 unknown, 1 no fix, 2 latitude and longitude, 3 altitude too.
    #[serde(default)]
    mode: i64,
    time: Option<Value>,
    lat: Option<f64>,
    lon: Option<f64>,
    #[serde(rename = "altHAE")]
    alt_hae: Option<f64>,
    alt: Option<f64>,
    /// Horizontal error, metres.
    eph: Option<f64>,
    /// Error to the east and to the north, metres.
    epx: Option<f64>,
    epy: Option<f64>,
}

/// Reads one line, its end included or not.
pub(super) fn read(line: &[u8]) -> Result<Report, NoReport> {
    let Kind { class } = serde_json::from_slice(line).map_err(|_| NoReport)?;
    Ok(match class.as_str() {
        "VERSION" => Report::Version,
        "TPV" => judge(serde_json::from_slice(line).map_err(|_| NoReport)?),
        _ => Report::Other,
    })
}

/// A mode is only believed with a place on Earth to it.
fn judge(tpv: Tpv) -> Report {
    let accuracy = tpv.error();
    let (true, Some(lat), Some(lon)) = (matches!(tpv.mode, 2 | 3), tpv.lat, tpv.lon) else {
        return Report::NoFix(tpv.device);
    };
    // 0, 0 lies in the sea off Ghana; receivers that know nothing report it.
    let nowhere = lat == 0.0 && lon == 0.0;
    if nowhere || !(-90.0..=90.0).contains(&lat) || !(-180.0..=180.0).contains(&lon) || accuracy > ERROR_MAX {
        return Report::NoFix(tpv.device);
    }
    let alt = tpv.alt_hae.or(tpv.alt).filter(|alt| tpv.mode == 3 && HEIGHTS.contains(alt));
    Report::Fix(Place { device: tpv.device, lat, lon, alt, accuracy, time: tpv.time })
}

impl Tpv {
    /// The receiver's estimate; an estimate of nothing or less is none.
    fn error(&self) -> f64 {
        let east_north = self.epx.zip(self.epy).map(|(east, north)| east.hypot(north));
        self.eph.or(east_north).filter(|error| *error > 0.0).unwrap_or(UNKNOWN_ERROR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TPV report with these fields.
    fn tpv(fields: &str) -> Result<Report, NoReport> {
        read(format!("{{\"class\":\"TPV\",\"device\":\"/dev/ttyACM0\",{fields}}}\r\n").as_bytes())
    }

    fn place(fields: &str) -> Place {
        match tpv(fields) {
            Ok(Report::Fix(place)) => place,
            other => panic!("{fields}: {other:?}"),
        }
    }

    #[test]
    fn a_whole_report_is_read() {
        let fields = "\"mode\":3,\"time\":\"2026-06-15T12:00:05.000Z\",\"ept\":0.005,\"lat\":46.50005,\"lon\":-7.5,\
                      \"altHAE\":592.3,\"altMSL\":545.4,\"alt\":545.4,\"epx\":3.0,\"epy\":4.0,\"eph\":24.7,\"sep\":47.5";
        let expected = Place {
            device: Some("/dev/ttyACM0".into()),
            lat: 46.50005,
            lon: -7.5,
            alt: Some(592.3),
            accuracy: 24.7,
            time: Some("2026-06-15T12:00:05.000Z".into()),
        };
        assert_eq!(place(fields), expected);
    }

    #[test]
    fn altitude_and_error_are_what_is_known_of_them() {
        let cases = [
            ("\"mode\":2", None, UNKNOWN_ERROR),
            ("\"mode\":2,\"altHAE\":10.0", None, UNKNOWN_ERROR),
            ("\"mode\":3,\"alt\":10.0", Some(10.0), UNKNOWN_ERROR),
            ("\"mode\":3,\"altHAE\":1e6,\"eph\":-1.0", None, UNKNOWN_ERROR),
            ("\"mode\":3,\"eph\":0", None, UNKNOWN_ERROR),
            ("\"mode\":3,\"epx\":3.0,\"epy\":4.0", None, 5.0),
            ("\"mode\":3,\"epx\":3.0", None, UNKNOWN_ERROR),
        ];
        for (fields, alt, accuracy) in cases {
            let place = place(&format!("{fields},\"lat\":46.5,\"lon\":7.5"));
            assert_eq!((place.alt, place.accuracy), (alt, accuracy), "{fields}");
        }
    }

    #[test]
    fn a_mode_that_lies_is_no_fix() {
        for fields in [
            "\"mode\":3",
            "\"mode\":3,\"lat\":46.5",
            "\"mode\":3,\"lon\":7.5",
            "\"mode\":1,\"lat\":46.5,\"lon\":7.5",
            "\"mode\":0,\"lat\":46.5,\"lon\":7.5",
            "\"mode\":4,\"lat\":46.5,\"lon\":7.5",
            "\"mode\":-3,\"lat\":46.5,\"lon\":7.5",
            "\"lat\":46.5,\"lon\":7.5",
            "\"mode\":3,\"lat\":400,\"lon\":7.5",
            "\"mode\":3,\"lat\":-90.1,\"lon\":7.5",
            "\"mode\":3,\"lat\":46.5,\"lon\":180.1",
            "\"mode\":3,\"lat\":1e308,\"lon\":-1e308",
            "\"mode\":2,\"lat\":0.0,\"lon\":-0.0",
            "\"mode\":3,\"lat\":null,\"lon\":7.5",
            "\"mode\":3,\"lat\":46.5,\"lon\":7.5,\"eph\":1e7",
            "\"mode\":3,\"lat\":46.5,\"lon\":7.5,\"epx\":1e308,\"epy\":1e308",
        ] {
            assert_eq!(tpv(fields), Ok(Report::NoFix(Some("/dev/ttyACM0".into()))), "{fields}");
        }
    }

    #[test]
    fn what_is_no_report_is_told() {
        let deep = format!("{{\"class\":{}", "[".repeat(10_000));
        for line in [
            "",
            "\n",
            "HTTP/1.1 400 Bad Request\r\n",
            "\u{1}\u{2}",
            "[]",
            "{}",
            "{\"class\":1}",
            "{\"class\":\"TPV\",\"mode\":3,\"lat\":NaN,\"lon\":7.5}",
            "{\"class\":\"TPV\",\"mode\":3,\"lat\":nan,\"lon\":7.5}",
            "{\"class\":\"TPV\",\"mode\":3,\"lat\":1e400,\"lon\":7.5}",
            "{\"class\":\"TPV\",\"mode\":3,\"lat\":\"46.5\",\"lon\":7.5}",
            "{\"class\":\"TPV\",\"mode\":99999999999999999999}",
            "{\"class\":\"TPV\",\"mode\":3,\"lat\":46.5,\"lat\":47.5,\"lon\":7.5}",
            "{\"class\":\"TPV\"",
            deep.as_str(),
        ] {
            assert_eq!(read(line.as_bytes()), Err(NoReport), "{line:.60}");
        }
        assert_eq!(read(b"\xff\xfe{"), Err(NoReport));
    }

    /// Reports about ships have a `lat` too, in units of their own.
    #[test]
    fn other_kinds_are_left_alone() {
        for line in [
            "{\"class\":\"SKY\",\"time\":1,\"mode\":\"x\"}",
            "{\"class\":\"AIS\",\"lat\":\"46\",\"lon\":[1],\"mode\":true}",
            "{\"class\":\"ERROR\",\"message\":\"Unrecognized request\"}",
        ] {
            assert_eq!(read(line.as_bytes()), Ok(Report::Other), "{line}");
        }
        assert_eq!(read(b"{\"class\":\"VERSION\",\"release\":\"3.22\",\"proto_major\":3}\r\n"), Ok(Report::Version));
    }
}
