//! What happens to the frames of one direction of a link: decided from the time, a seed and the faults, without any IO.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    time::{Duration, Instant},
};

/// Frames that wait in one direction at most; more are lost, as in any router. At 1,500 bytes it is 24 MiB: more than
/// 100 Mbit/s put into a second of delay. *Judgement.*
const QUEUE: usize = 16_384;
/// How long a frame may wait for a slow link before it is lost: what is usually given to `tbf` as its latency.
const QUEUE_TIME: Duration = Duration::from_secs(2);

/// A direction, seen from the host that the link belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    FromHost,
    ToHost,
}

/// A link that comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flap {
    /// It works for so long, at first.
    pub on: Duration,
    /// Then nothing passes for so long, and so on.
    pub off: Duration,
}

/// How a link treats frames, in each direction. The default is a perfect one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faults {
    /// One way.
    pub delay: Duration,
    /// Added or taken away, drawn for each frame.
    pub jitter: Duration,
    /// Share of frames (0..1) that jitter may bring before earlier ones; the others stay in order.
    pub reorder: f64,
    /// Share of frames that are lost.
    pub loss: f64,
    /// Share of frames that come twice.
    pub duplicate: f64,
    /// Bits per second; what would wait for more than 2 s is lost.
    pub rate: Option<u64>,
    /// Nothing passes this way.
    pub silent: Option<Way>,
    /// Comes and goes.
    pub flap: Option<Flap>,
}

impl Faults {
    /// A perfect link of this one-way delay.
    pub fn delay(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// Whether nothing passes `way` at this time after they began.
    fn closed(&self, way: Way, elapsed: Duration) -> bool {
        let flapped = self.flap.is_some_and(|Flap { on, off }| {
            let round = (on + off).as_nanos().max(1);
            elapsed.as_nanos() % round >= on.as_nanos()
        });
        flapped || self.silent == Some(way)
    }
}

/// What happened to frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sent on, copies included.
    pub passed: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Sent twice.
    pub doubled: u64,
    /// Sent before one that had come earlier.
    pub overtook: u64,
    /// Lost because the link was closed that way.
    pub closed: u64,
    /// Lost because too much was waiting.
    pub overflowed: u64,
}

/// Random numbers that a seed repeats (SplitMix64).
#[derive(Debug, Clone)]
pub struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In 0..1.
    pub fn share(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True in this share of cases.
    pub fn chance(&mut self, share: f64) -> bool {
        self.share() < share
    }

    /// In `0..end`; zero when `end` is.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end.max(1)
    }

    /// One of them.
    ///
    /// # Panics
    /// There are none.
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// A frame on its way.
#[derive(Debug)]
struct Waiting {
    due: Instant,
    number: u64,
    frame: Vec<u8>,
}

impl Waiting {
    fn key(&self) -> (Instant, u64) {
        (self.due, self.number)
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// One direction.
#[derive(Debug)]
pub struct Line {
    way: Way,
    waiting: BinaryHeap<Reverse<Waiting>>,
    number: u64,
    /// When a slow link is done with what it has.
    free: Option<Instant>,
    /// When the last of the frames that stay in order is due.
    last: Option<Instant>,
}

impl Line {
    pub fn new(way: Way) -> Self {
        Self { way, waiting: BinaryHeap::new(), number: 0, free: None, last: None }
    }

    /// A frame has come; `elapsed` is how long these faults have been told.
    pub fn push(
        &mut self,
        now: Instant,
        elapsed: Duration,
        frame: &[u8],
        faults: &Faults,
        draw: &mut Draw,
        counts: &mut Counts,
    ) {
        if faults.closed(self.way, elapsed) {
            counts.closed += 1;
            return;
        }
        if draw.chance(faults.loss) {
            counts.lost += 1;
            return;
        }
        let twice = draw.chance(faults.duplicate);
        for _ in 0..if twice { 2 } else { 1 } {
            let Some(sent) = self.sent(now, frame.len(), faults.rate) else {
                counts.overflowed += 1;
                continue;
            };
            let jitter = faults.jitter.mul_f64(2.0 * draw.share());
            let mut due = (sent + faults.delay + jitter).checked_sub(faults.jitter).unwrap_or(sent).max(sent);
            let before = self.last.is_some_and(|last| due < last);
            if before && draw.chance(faults.reorder) {
                counts.overtook += 1;
            } else {
                due = self.last.map_or(due, |last| due.max(last));
                self.last = Some(due);
            }
            self.number += 1;
            self.waiting.push(Reverse(Waiting { due, number: self.number, frame: frame.to_vec() }));
            counts.passed += 1;
        }
        counts.doubled += u64::from(twice);
    }

    /// When the last bit of a frame has left, or nothing when it finds no room.
    fn sent(&mut self, now: Instant, length: usize, rate: Option<u64>) -> Option<Instant> {
        if self.waiting.len() >= QUEUE {
            return None;
        }
        let Some(rate) = rate else { return Some(now) };
        let start = self.free.map_or(now, |free| free.max(now));
        if start.saturating_duration_since(now) > QUEUE_TIME {
            return None;
        }
        let sent = start + Duration::from_secs_f64(length as f64 * 8.0 / rate.max(1) as f64);
        self.free = Some(sent);
        Some(sent)
    }

    /// When the next frame is due.
    pub fn next(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse(first)| first.due)
    }

    /// The next frame, when it is due.
    pub fn due(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.next().filter(|due| *due <= now)?;
        self.waiting.pop().map(|Reverse(first)| first.frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Sends `count` frames of `size` bytes, one each millisecond; when each copy came out, with the frame's number.
    fn run(faults: &Faults, count: u32, size: usize) -> (Vec<(u32, Duration)>, Counts) {
        let start = Instant::now();
        let (mut line, mut draw, mut counts) = (Line::new(Way::ToHost), Draw::new(7), Counts::default());
        let mut out = Vec::new();
        for step in 0..count + 100_000 {
            let elapsed = MS * step;
            let now = start + elapsed;
            while let Some(frame) = line.due(now) {
                out.push((u32::from_le_bytes(frame[..4].try_into().unwrap()), elapsed));
            }
            if step < count {
                let mut frame = vec![0; size];
                frame[..4].copy_from_slice(&step.to_le_bytes());
                line.push(now, elapsed, &frame, faults, &mut draw, &mut counts);
            } else if line.next().is_none() {
                break;
            }
        }
        (out, counts)
    }

    #[test]
    fn a_perfect_link_changes_nothing_and_a_slow_one_only_the_time() {
        let (out, counts) = run(&Faults::default(), 100, 64);
        assert!(out.iter().enumerate().all(|(at, (number, _))| at as u32 == *number) && out.len() == 100);
        assert_eq!(counts, Counts { passed: 100, ..Counts::default() });
        let (out, _) = run(&Faults::delay(50 * MS), 100, 64);
        assert!(out.iter().all(|(number, at)| *at == MS * (number + 50)), "{out:?}");
    }

    #[test]
    fn jitter_keeps_the_order_unless_it_may_not() {
        let jittery = Faults { delay: 30 * MS, jitter: 20 * MS, ..Faults::default() };
        let (out, counts) = run(&jittery, 2_000, 64);
        assert!(out.is_sorted_by_key(|(number, _)| *number) && counts.overtook == 0);
        // One that stays in order may be held up by the one before it, never for longer than the longest delay.
        assert!(out.iter().all(|(number, at)| (10 * MS..=51 * MS).contains(&(*at - MS * *number))));
        let (out, counts) = run(&Faults { reorder: 0.5, ..jittery }, 2_000, 64);
        assert!(!out.is_sorted_by_key(|(number, _)| *number) && counts.overtook > 200, "{counts:?}");
    }

    #[test]
    fn loss_and_copies_come_in_the_shares_that_were_told() {
        let (out, counts) = run(&Faults { loss: 0.2, duplicate: 0.05, ..Faults::default() }, 10_000, 64);
        assert!((1_800..2_200).contains(&counts.lost), "{counts:?}");
        assert!((300..500).contains(&counts.doubled), "{counts:?}");
        assert_eq!(out.len() as u64, 10_000 - counts.lost + counts.doubled);
    }

    #[test]
    fn a_slow_link_has_its_rate_and_loses_what_would_wait_too_long() {
        // 1,000 bytes each millisecond are 8 Mbit/s; at 1 Mbit/s each takes 8 ms.
        let (out, counts) = run(&Faults { rate: Some(1_000_000), ..Faults::default() }, 10_000, 1_000);
        let (first, last) = (out[0].1, out.last().unwrap().1);
        let rate = (out.len() - 1) as f64 * 8_000.0 / (last - first).as_secs_f64();
        assert!((rate / 1e6 - 1.0).abs() < 0.01, "{rate}");
        assert!(out.iter().all(|(number, at)| *at - MS * *number <= QUEUE_TIME + 20 * MS));
        assert_eq!(counts.passed + counts.overflowed, 10_000);
        assert!(counts.overflowed > 8_000, "{counts:?}");
    }

    #[test]
    fn what_waits_is_bounded() {
        let (start, mut counts) = (Instant::now(), Counts::default());
        let (mut line, mut draw) = (Line::new(Way::ToHost), Draw::new(1));
        for _ in 0..QUEUE + 10 {
            line.push(start, Duration::ZERO, &[0; 64], &Faults::delay(MS), &mut draw, &mut counts);
        }
        assert_eq!((counts.passed, counts.overflowed), (QUEUE as u64, 10));
    }

    #[test]
    fn a_closed_way_lets_nothing_through_and_flapping_opens_it_again() {
        let (out, counts) = run(&Faults { silent: Some(Way::ToHost), ..Faults::default() }, 10, 64);
        assert!(out.is_empty() && counts.closed == 10);
        let (out, _) = run(&Faults { silent: Some(Way::FromHost), ..Faults::default() }, 10, 64);
        assert_eq!(out.len(), 10);
        let flap = Some(Flap { on: 100 * MS, off: 50 * MS });
        let (out, counts) = run(&Faults { flap, ..Faults::default() }, 300, 64);
        assert_eq!((out.len(), counts.closed), (200, 100));
        assert!(out.iter().all(|(number, _)| number % 150 < 100));
    }

    #[test]
    fn a_seed_repeats_everything() {
        let faults = Faults { jitter: 20 * MS, reorder: 0.5, loss: 0.1, duplicate: 0.1, ..Faults::default() };
        assert_eq!(run(&faults, 500, 64), run(&faults, 500, 64));
    }
}
