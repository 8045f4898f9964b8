//! The network between the requester and each worker: two ordered streams each way, and all that can happen to them.
//!
//! A connection loses nothing and keeps its order, as TCP and QUIC do; what a bad network costs is time. A lost packet
//! comes again later and holds up what stands behind it in its stream; what is sent into a cut cable waits until the
//! cable is back. Control messages and bulk are streams of their own, so they overtake each other.

use std::{collections::VecDeque, time::Duration};

use msm_protocol::{ContentHash, Refusal, job::AttemptRef};
use msm_scheduler::OutputId;

use crate::rng::Rng;

/// Time after which a packet that nobody acknowledged is sent again; it doubles.
const AGAIN: Duration = Duration::from_millis(200);
/// Packets lost in a row at most.
const LOST_IN_A_ROW: u32 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From a worker to the requester.
    Up,
    Down,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    Control,
    Bulk,
}

/// One of the four streams of a connection.
pub type Stream = (Way, Lane);

#[derive(Debug, Clone)]
pub enum Message {
    Ready {
        credit: u32,
    },
    Start(AttemptRef),
    Cancel(AttemptRef),
    Beat(Vec<AttemptRef>),
    Result(AttemptRef, OutputId),
    Failed(AttemptRef, Refusal),
    /// A device stands for so many of its results, the oldest.
    Receipt(usize),
}

impl Message {
    fn lane(&self) -> Lane {
        match self {
            // A receipt never overtakes its results.
            Self::Start(_) | Self::Result(..) | Self::Receipt(_) => Lane::Bulk,
            _ => Lane::Control,
        }
    }
}

/// What a send did, for the caller's calendar and its count of faults.
pub struct Sent {
    /// When to look at the stream; `None` if it is being looked at already.
    pub look: Option<(Stream, Duration)>,
    pub lost_packets: bool,
}

#[derive(Debug, Clone, Default)]
struct Queue {
    waiting: VecDeque<(Duration, Message)>,
    /// When the wire has carried what was put on it.
    wire_free: Duration,
}

/// The way to one worker.
#[derive(Debug, Clone)]
pub struct Link {
    pub latency: Duration,
    /// Added by lot to each message.
    pub jitter: Duration,
    /// Percent of messages whose packet must be sent again.
    pub loss: u64,
    pub bytes_per_s: u64,
    /// Until when nothing passes, up and down.
    cut_until: [Duration; 2],
    queues: [Queue; 4],
    /// Connections are numbered; what belongs to an earlier one is void.
    pub epoch: u32,
    pub open: bool,
    /// Results that have arrived and that nobody has signed for.
    pub owed: VecDeque<(u32, ContentHash)>,
}

fn place((way, lane): Stream) -> usize {
    2 * usize::from(way == Way::Down) + usize::from(lane == Lane::Bulk)
}

impl Link {
    pub fn new(latency: Duration) -> Self {
        Self {
            latency,
            jitter: Duration::ZERO,
            loss: 0,
            bytes_per_s: 100_000_000,
            cut_until: [Duration::ZERO; 2],
            queues: Default::default(),
            epoch: 0,
            open: false,
            owed: VecDeque::new(),
        }
    }

    /// A new connection. What was under way on the one before is gone.
    pub fn connect(&mut self) {
        self.close();
        self.open = true;
    }

    pub fn close(&mut self) {
        self.open = false;
        self.epoch += 1;
        self.queues = Default::default();
        self.owed.clear();
    }

    pub fn cut(&mut self, way: Way, until: Duration) {
        let known = &mut self.cut_until[usize::from(way == Way::Down)];
        *known = until.max(*known);
    }

    pub fn is_cut(&self, way: Way, now: Duration) -> bool {
        self.cut_until[usize::from(way == Way::Down)] > now
    }

    /// When both directions work again.
    pub fn whole_at(&self) -> Duration {
        self.cut_until[0].max(self.cut_until[1])
    }

    pub fn send(&mut self, way: Way, message: Message, bytes: u64, now: Duration, rng: &mut Rng) -> Sent {
        let stream = (way, message.lane());
        let (mut delay, mut again, mut lost) = (self.latency, AGAIN, 0);
        if self.jitter > Duration::ZERO {
            delay += Duration::from_micros(rng.range(0..self.jitter.as_micros() as u64));
        }
        while lost < LOST_IN_A_ROW && self.loss > 0 && rng.chance(self.loss) {
            delay += again;
            again *= 2;
            lost += 1;
        }
        let queue = &mut self.queues[place(stream)];
        // One wire for both streams of a direction would be truer; a control message is too small to matter.
        queue.wire_free = queue.wire_free.max(now) + Duration::from_nanos(bytes * 1_000_000_000 / self.bytes_per_s);
        let at = queue.wire_free + delay;
        queue.waiting.push_back((at, message));
        let look = (queue.waiting.len() == 1).then_some((stream, at));
        Sent { look, lost_packets: lost > 0 }
    }

    /// The next message of a stream if its time has come, and when to look again.
    pub fn receive(&mut self, stream: Stream, now: Duration) -> (Option<Message>, Option<Duration>) {
        let cut_until = self.cut_until[usize::from(stream.0 == Way::Down)];
        let queue = &mut self.queues[place(stream)];
        let Some((at, _)) = queue.waiting.front() else { return (None, None) };
        if cut_until > now {
            return (None, Some(cut_until + AGAIN));
        }
        if *at > now {
            return (None, Some(*at));
        }
        let message = queue.waiting.pop_front().map(|(_, message)| message);
        (message, queue.waiting.front().map(|(at, _)| (*at).max(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn start(task: u32) -> Message {
        Message::Start(AttemptRef { task, attempt: 0 })
    }

    /// Tasks in the order of their arrival, with their times.
    fn drain(link: &mut Link, stream: Stream, mut now: Duration) -> Vec<(u32, Duration)> {
        let mut seen = vec![];
        loop {
            match link.receive(stream, now) {
                (Some(Message::Start(attempt)), _) => seen.push((attempt.task, now)),
                (Some(_), _) => {}
                (None, Some(next)) => now = next,
                (None, None) => return seen,
            }
        }
    }

    #[test]
    fn a_stream_keeps_its_order_whatever_is_lost() {
        let (mut link, mut rng) = (Link::new(10 * MS), Rng(3));
        (link.loss, link.jitter) = (50, 300 * MS);
        let mut lost = 0;
        for task in 0..50 {
            lost += u32::from(link.send(Way::Down, start(task), 0, MS * task, &mut rng).lost_packets);
        }
        let seen = drain(&mut link, (Way::Down, Lane::Bulk), Duration::ZERO);
        assert_eq!(seen.iter().map(|(task, _)| *task).collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
        assert!(lost > 10 && seen[0].1 >= 10 * MS, "{lost} lost");
    }

    #[test]
    fn control_overtakes_bulk_on_a_slow_link_and_a_cut_one_way_holds_that_way_only() {
        let (mut link, mut rng) = (Link::new(MS), Rng(3));
        link.bytes_per_s = 1_000;
        let bulk = link.send(Way::Down, start(1), 5_000, Duration::ZERO, &mut rng).look;
        let control = link.send(Way::Down, Message::Cancel(AttemptRef { task: 0, attempt: 0 }), 0, MS, &mut rng).look;
        assert_eq!(bulk.map(|(_, at)| at), Some(5_001 * MS));
        assert_eq!(control.map(|(_, at)| at), Some(2 * MS));
        link.cut(Way::Down, 9_000 * MS);
        assert_eq!(drain(&mut link, (Way::Down, Lane::Bulk), Duration::ZERO), [(1, 9_200 * MS)]);
        link.send(Way::Up, start(7), 0, 6_000 * MS, &mut rng);
        assert_eq!(drain(&mut link, (Way::Up, Lane::Bulk), Duration::ZERO), [(7, 6_001 * MS)]);
    }

    #[test]
    fn what_was_under_way_is_gone_with_its_connection() {
        let (mut link, mut rng) = (Link::new(MS), Rng(3));
        link.connect();
        link.send(Way::Down, start(1), 0, Duration::ZERO, &mut rng);
        link.connect();
        assert!(drain(&mut link, (Way::Down, Lane::Bulk), Duration::ZERO).is_empty());
    }
}
