//! Stories in virtual time: what callers of all kinds can learn of a position.

use std::collections::BTreeSet;

use msm_protocol::SecretKey;
use proptest::prelude::*;

use super::*;

/// Some Sunday in 2026.
const UNIX: u64 = 1_781_000_000;
/// Where the stories take place: degrees, in the middle of a cell.
const HOME: (f64, f64) = (46.51, 7.51);

/// A device, its receiver and its clocks.
struct Stage {
    policy: Policy,
    start: Instant,
    /// Seconds since then.
    now: u64,
    receiver: Receiver,
}

impl Stage {
    fn new() -> Self {
        let mut stage =
            Self { policy: Policy::default(), start: Instant::now(), now: 0, receiver: Receiver::default() };
        stage.moves_to(HOME);
        stage
    }

    /// The receiver sees this place now.
    fn moves_to(&mut self, (lat, lon): (f64, f64)) {
        let at = self.moment().at;
        let fix = Fix { lat, lon, alt: Some(592.3), accuracy: 4.2, at };
        self.receiver = Receiver { signal: Signal::Fixed, fix: Some(fix) };
    }

    fn moment(&self) -> Moment {
        Moment { at: self.start + Duration::from_secs(self.now), unix: UNIX + self.now }
    }

    fn ask(&mut self, caller: Caller, precision: Precision, query: &str) -> Result<Position, LocationError> {
        let now = self.moment();
        self.policy.tell(caller, precision, &Query::read(query.as_bytes())?, &self.receiver, now)
    }

    fn coarse(&mut self, caller: Caller, query: &str) -> Result<Position, LocationError> {
        self.ask(caller, Precision::Coarse, query)
    }
}

fn stranger(seed: u16) -> Caller {
    let mut bytes = [7; 32];
    bytes[..2].copy_from_slice(&seed.to_le_bytes());
    Caller { peer: PeerId::of(&SecretKey::from_seed(&bytes).public()), kin: Kin::Stranger }
}

/// Centres of cells are the odd hundredths of a degree.
fn is_centre(degrees: f64) -> bool {
    let hundredths = (degrees * 100.0).round();
    hundredths / 100.0 == degrees && hundredths.rem_euclid(2.0) == 1.0
}

/// A reproducible number from 0 to 1.
fn noise(state: &mut u64) -> f64 {
    // xorshift64
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state as f64 / u64::MAX as f64
}

#[test]
fn b76_a_day_of_questions_tells_no_more_than_one_cell() {
    // In the middle of a cell, at its border, and at a corner of four; in the tropics and in the north.
    for (place, home) in
        [HOME, (46.5, 7.51), (46.5, 7.5), (0.02, 100.0), (60.0, 24.94), (-77.84, 166.66)].into_iter().enumerate()
    {
        let (mut stage, mut state) = (Stage::new(), 0x9e37_79b9_7f4a_7c15 + place as u64);
        let (mut answers, mut cells) = (BTreeSet::new(), BTreeSet::new());
        for n in 0..1_000_u64 {
            stage.now = n * 86_400 / 1_000;
            // 500 m to each side.
            let [north, east] = [(); 2].map(|()| (noise(&mut state) - 0.5) * 1_000.0 / 111_320.0);
            stage.moves_to((home.0 + north, home.1 + east / home.0.to_radians().cos()));
            let told = stage.coarse(stranger(1), "{}").unwrap();
            assert!(is_centre(told.lat) && is_centre(told.lon) && told.alt.is_none(), "{told:?}");
            assert!(told.age < 610 && told.time % 10 == 0 && told.time + told.age == UNIX + stage.now, "{told:?}");
            cells.insert((told.lat.to_bits(), told.lon.to_bits()));
            answers.insert((told.lat.to_bits(), told.lon.to_bits(), told.accuracy.to_bits(), told.time));
        }
        assert!(answers.len() <= 144, "{} answers at {home:?}", answers.len());
        assert!(answers.len() >= 100, "the position is told, though: {} answers", answers.len());
        assert!(cells.len() <= 2, "{} cells at {home:?}", cells.len());
    }
}

#[test]
fn within_the_interval_the_answer_is_the_same_and_grows_older() {
    let mut stage = Stage::new();
    let first = stage.coarse(stranger(1), "{}").unwrap();
    assert_eq!((first.lat, first.lon, first.alt, first.age), (46.51, 7.51, None, 0));
    // Three cells further a new caller is told so, and the first one is not.
    stage.now = 599;
    stage.moves_to((46.57, 7.51));
    assert_eq!(stage.coarse(stranger(1), "{}"), Ok(Position { age: 599, ..first }));
    assert_eq!(stage.coarse(stranger(2), "{}").unwrap().lat, 46.57);
    stage.now = 600;
    stage.moves_to((46.57, 7.51));
    let next = stage.coarse(stranger(1), "{}").unwrap();
    assert_eq!((next.lat, next.age), (46.57, 0));
    // The clock on the wall may be set while an answer is held: its age is told by the steady one.
    let mut moved = stage.moment();
    (moved.at, moved.unix) = (moved.at + Duration::from_secs(60), 5);
    let told = stage.policy.tell(stranger(1), Precision::Coarse, &Query::default(), &stage.receiver, moved);
    assert_eq!(told, Ok(Position { age: 60, ..next }));
}

/// Made-up names do not tell a border from its other side.
#[test]
fn many_callers_see_one_cell() {
    let mut stage = Stage::new();
    let cells: BTreeSet<_> = (0..100)
        .map(|n| {
            stage.now = u64::from(n);
            // 200 m to and fro over the border.
            stage.moves_to((46.52 + if n % 2 == 0 { -0.002 } else { 0.002 }, 7.51));
            stage.coarse(stranger(n), "{}").unwrap().lat.to_bits()
        })
        .collect();
    assert_eq!(cells.len(), 1);
}

#[test]
fn a_full_table_refuses_strangers_and_never_the_owner() {
    let mut stage = Stage::new();
    for n in 0..CALLERS as u16 {
        stage.coarse(stranger(n), "{}").unwrap();
    }
    stage.now = 599;
    let late = stranger(CALLERS as u16);
    assert_eq!(stage.coarse(late, "{}"), Err(LocationError::Crowded));
    assert!(stage.coarse(Caller { kin: Kin::Own, ..stranger(60_000) }, "{}").is_ok());
    assert!(stage.coarse(stranger(3), "{}").is_ok(), "who is in it is answered as before");
    assert_eq!(stage.policy.told.len(), CALLERS + 1);
    stage.now = 600;
    assert!(stage.coarse(late, "{}").is_ok());
    assert_eq!(stage.policy.told.len(), 2, "the owner, who asked a second ago, and the new one");
}

#[test]
fn what_is_asked_for_is_kept_or_refused_with_the_number() {
    let mut stage = Stage::new();
    let says = |told: Result<Position, LocationError>| told.unwrap_err().to_string();
    // Of a coarse one: the radius of a cell, then its age.
    let refused = stage.coarse(stranger(1), "{\"accuracy\":100}").unwrap_err();
    assert_eq!(refused, LocationError::Coarse { radius: 3_000.0, wanted: 100.0 });
    assert_eq!(AskError::from(refused).kind, AskErrorKind::Denied);
    assert!(stage.policy.told.is_empty(), "a refusal tells nothing");
    assert!(stage.coarse(stranger(1), "{\"accuracy\":3000,\"maxAge\":0}").is_ok());
    stage.now = 250;
    stage.moves_to(HOME);
    let refused = stage.coarse(stranger(1), "{\"maxAge\":60}").unwrap_err();
    assert_eq!(refused, LocationError::TooSoon { age: 250, wanted: 60.0, wait: 350 });
    assert_eq!(AskError::from(refused).kind, AskErrorKind::Limit);
    assert_eq!(stage.coarse(stranger(1), "{\"maxAge\":250}").unwrap().age, 250);
    assert!(matches!(stage.coarse(stranger(1), "{\"accuracy\":2999}"), Err(LocationError::Coarse { .. })));

    // Of a precise one: what the receiver knows.
    stage.now = 280;
    stage.receiver.signal = Signal::NoFix;
    let mut precise = |query: &str| stage.ask(stranger(1), Precision::Precise, query);
    let expected =
        Position { lat: 46.51, lon: 7.51, alt: Some(592.3), accuracy: 4.2, time: UNIX + 250, age: 30, source: SOURCE };
    assert_eq!(precise("{\"maxAge\":30,\"accuracy\":4.2}"), Ok(expected));
    assert_eq!(
        says(precise("{\"maxAge\":29.9}")),
        "gps.position: the position is 30 s old, at most 29.9 s were asked for (the receiver has no fix)"
    );
    assert_eq!(
        says(precise("{\"accuracy\":4}")),
        "gps.position: the receiver knows the position to 4 m, 4 m were asked for"
    );
    // Without a word it may be a quarter of an hour old, in either way.
    stage.now = 250 + 900;
    assert!(stage.ask(stranger(1), Precision::Precise, "").is_ok());
    assert!(stage.coarse(stranger(2), "").is_ok());
    stage.now += 11;
    assert!(matches!(stage.ask(stranger(1), Precision::Precise, ""), Err(LocationError::Old { age: 911, .. })));
    assert!(matches!(stage.coarse(stranger(3), ""), Err(LocationError::Old { .. })));

    stage.receiver = Receiver::default();
    for precision in [Precision::Coarse, Precision::Precise] {
        let refused = says(stage.ask(stranger(9), precision, "{}"));
        assert_eq!(
            refused,
            "gps.position: this device does not know where it is: no receiver is configured (sensors.gps)"
        );
    }
}

#[test]
fn questions_that_make_no_sense_are_usage_errors() {
    for good in ["", " ", "null", "{}", "{\"maxAge\":0}", "{\"accuracy\":1e9,\"maxAge\":86400}", "{\"maxAge\":null}"] {
        assert!(Query::read(good.as_bytes()).is_ok(), "{good}");
    }
    let long = format!("{{\"{}\":1}}", "x".repeat(60_000));
    for bad in [
        "{\"maxAge\":-1}",
        "{\"accuracy\":0}",
        "{\"accuracy\":-5}",
        "{\"maxAge\":\"60\"}",
        "{\"maxAge\":1e999}",
        "{\"maxAge\":NaN}",
        "{\"maxage\":60}",
        "{\"precise\":true}",
        "{\"maxAge\":1,\"maxAge\":2}",
        "[]",
        "60",
        "{",
        "\u{0}",
        long.as_str(),
    ] {
        let error = AskError::from(Query::read(bad.as_bytes()).unwrap_err());
        assert_eq!(error.kind, AskErrorKind::Usage, "{bad:.40}");
        assert!(error.message.starts_with("gps.position: ") && error.message.len() < 200, "{}", error.message);
    }
}

proptest! {
    /// Whoever asks for whatever, wherever the device goes: in coarse mode nothing leaves but centres of cells in round
    /// numbers, and no caller sees two answers within ten minutes.
    #[test]
    fn nothing_but_centres_of_cells_leaves(
        steps in prop::collection::vec(
            (0..400_u64, -90.0..=90.0_f64, -180.0..=180.0_f64, 0.1..5_000.0_f64, 0..4_u16, 0..4_usize), 1..60,
        ),
    ) {
        const QUERIES: [&str; 4] = ["{}", "{\"maxAge\":300}", "{\"accuracy\":5000}", "{\"accuracy\":0.001,\"maxAge\":0}"];
        let mut stage = Stage::new();
        let mut seen: HashMap<u16, (u64, Position)> = HashMap::new();
        for (wait, lat, lon, accuracy, caller, query) in steps {
            stage.now += wait;
            stage.moves_to((lat, lon));
            stage.receiver.fix = stage.receiver.fix.map(|fix| Fix { accuracy, ..fix });
            let Ok(told) = stage.coarse(stranger(caller), QUERIES[query]) else { continue };
            prop_assert!(is_centre(told.lat) && is_centre(told.lon), "{:?}", told);
            prop_assert!(told.alt.is_none() && told.time % TIME_STEP == 0 && told.accuracy % ERROR_STEP == 0.0);
            prop_assert_eq!(told.time + told.age, UNIX + stage.now);
            let (since, last) = *seen.entry(caller).or_insert((stage.now, told));
            let same = Position { age: told.age, ..last } == told;
            prop_assert!(same || stage.now - since >= INTERVAL.as_secs());
            if !same {
                seen.insert(caller, (stage.now, told));
            }
        }
    }
}
