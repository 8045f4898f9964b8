//! The task of one lane: opens its stream, reads what its worker says, and ends it.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use libp2p::Stream;
use msm_protocol::{
    PeerId, Refusal,
    job::{ChunkHead, Done, Outcome, TaskResult, ToRequester},
    limits::{CHUNK_BYTES, CREDIT_MAX, LEASE_MIN},
};
use msm_scheduler::{
    OutputId,
    rates::{TRANSFER_MIN, Way},
};
use tokio::{sync::Semaphore, time::MissedTickBehavior};

use super::{
    LaneKey, WARM_TIME,
    state::{Delivery, Live, Report, Signed, State},
};
use crate::{
    net::NetHandle,
    node::{
        context::Context,
        fetch::BAN,
        frames::{self, Assembly, Frame, FrameError, Outbox, Passage, StreamReader},
        markets,
    },
};

/// A worker may fetch the package first; after this it is as good as absent.
const ACCEPT_TIME: Duration = Duration::from_secs(15);
/// A worker signs for its results within a second; one that has not after this will not. *Judgement.*
const RECEIPT_WAIT: Duration = Duration::from_secs(10);
/// A worker says every second that it works.
const SILENCE: Duration = LEASE_MIN;
/// Time is looked at this often: nothing here is due to the millisecond.
const TICK: Duration = Duration::from_secs(1);
/// Outputs that were received and not taken by their jobs, KiB; then the lane is not read. *Judgement: a few whole ones.*
const DELIVERY_KIB: u32 = 32 * 1024;
/// A job that takes no output for so long is stuck, and must not hold the lane for others.
const DELIVERY_TIME: Duration = Duration::from_secs(60);

/// How a lane ends.
#[derive(Debug)]
enum Ended {
    /// Nobody needs it.
    Idle,
    /// The worker does not take the service.
    Refused(Refusal),
    /// The worker is gone, or left.
    Lost(String),
    /// The worker says nothing any more.
    Silent,
    /// The jobs of this device took none of its outputs.
    Untaken,
    /// The worker did what no honest worker does.
    Lied(String),
}

/// Runs one lane to its end.
pub async fn serve(ctx: Weak<Context>, net: NetHandle, peer: PeerId, key: LaneKey, outbox: Arc<Outbox<State>>) {
    let opened = net.open_job(peer).await;
    drop(net);
    let learn = |way, bytes, took| {
        if let Some(ctx) = ctx.upgrade() {
            ctx.measured.transfer(&peer, way, bytes, took, markets::now());
        }
    };
    let ended = match opened {
        Ok(stream) => read(&ctx, peer, stream, &outbox, &learn).await,
        Err(error) => Ended::Lost(error.to_string()),
    };
    tracing::debug!(peer = peer.short(), ?ended, "lane ended");
    let ctx = ctx.upgrade();
    if let (Some(ctx), Ended::Lied(what)) = (&ctx, &ended) {
        ctx.ban(peer, BAN, what).await;
    }
    // Whether or not the jobs that got them are still there. What this device did itself is no fault of its peer: it took
    // no outputs, or it lost all others at once.
    let owes = outbox.lock().owes_since().is_some() && !matches!(ended, Ended::Untaken);
    if let Some(ctx) = ctx.as_ref().filter(|ctx| owes && !ctx.connected.borrow().is_empty()) {
        ctx.trust.left_unsigned(&peer);
    }
    // Out of the table first: who hears of the end and tries again must not find it.
    if let Some(ctx) = &ctx {
        ctx.lanes.remove(peer, key, &outbox);
    }
    outbox.change(|state| {
        state.end(|| match &ended {
            Ended::Idle => Report::Lost("the lane was closed".into()),
            Ended::Refused(refusal) => Report::Refused(refusal.clone()),
            Ended::Lost(reason) => Report::Lost(reason.clone()),
            Ended::Untaken => Report::Lost("its outputs were not taken in time".into()),
            Ended::Silent => Report::Silent(format!("silent for {} s", SILENCE.as_secs())),
            Ended::Lied(what) => Report::Lied(what.clone()),
        });
    });
}

/// Where the bytes and the time of transfers go.
type Learn<'a> = dyn Fn(Way, u64, Duration) + Send + Sync + 'a;

async fn read(
    ctx: &Weak<Context>,
    peer: PeerId,
    stream: Stream,
    outbox: &Arc<Outbox<State>>,
    learn: &Learn<'_>,
) -> Ended {
    let (mut frames, mut writer) = frames::open(stream, outbox.clone());
    let delivery = Arc::new(Semaphore::new(DELIVERY_KIB as usize));
    let now = Instant::now();
    let mut reader = Reader::new(ctx, peer, outbox, delivery, learn, now);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ended = loop {
        let step = tokio::select! {
            frame = frames.next() => match frame {
                Ok(None) if outbox.lock().is_open() => Err(Ended::Lost("connection closed".into())),
                Ok(None) => Err(Ended::Idle),
                other => reader.all(other, &mut frames).await,
            },
            written = &mut writer => match written {
                // All is said; the worker closes its half.
                Ok(Ok(())) => return reader.rest(&mut frames).await,
                Ok(Err(error)) => Err(Ended::Lost(error.to_string())),
                Err(error) => Err(Ended::Lost(error.to_string())),
            },
            _ = tick.tick() => reader.tick(Instant::now()),
        };
        if let Err(ended) = step {
            break ended;
        }
    };
    if !matches!(ended, Ended::Idle) {
        // What waits to be written is for nobody.
        writer.abort();
    }
    ended
}

/// An output whose bytes are arriving.
struct Arriving {
    live: Live,
    output: OutputId,
    assembly: Assembly,
    delivery: Delivery,
    passage: Passage,
}

/// Transfers one way, as many as make a sample: parts are short.
#[derive(Debug, Default, PartialEq, Eq)]
struct Moved {
    bytes: u64,
    took: Duration,
}

impl Moved {
    /// Adds one; the sum when it is enough.
    fn add(&mut self, bytes: u64, took: Duration) -> Option<Self> {
        self.bytes = self.bytes.saturating_add(bytes);
        self.took = self.took.saturating_add(took);
        (self.bytes >= TRANSFER_MIN).then(|| std::mem::take(self))
    }
}

struct Reader<'a> {
    ctx: &'a Weak<Context>,
    peer: PeerId,
    outbox: &'a Arc<Outbox<State>>,
    arriving: HashMap<u64, Arriving>,
    delivery: Arc<Semaphore>,
    learn: &'a Learn<'a>,
    up: Moved,
    down: Moved,
    opened: Instant,
    heard: Instant,
    /// When time was last looked at.
    looked: Instant,
}

fn lied(what: impl Into<String>) -> Ended {
    Ended::Lied(what.into())
}

impl<'a> Reader<'a> {
    fn new(
        ctx: &'a Weak<Context>,
        peer: PeerId,
        outbox: &'a Arc<Outbox<State>>,
        delivery: Arc<Semaphore>,
        learn: &'a Learn<'a>,
        now: Instant,
    ) -> Self {
        let (up, down) = Default::default();
        let (opened, heard, looked) = (now, now, now);
        Self { ctx, peer, outbox, arriving: HashMap::new(), delivery, learn, up, down, opened, heard, looked }
    }

    /// Handles a frame and all that were read with it.
    async fn all(
        &mut self,
        first: Result<Option<Frame<ToRequester>>, FrameError>,
        frames: &mut StreamReader,
    ) -> Result<(), Ended> {
        self.heard = Instant::now();
        let mut next = first;
        loop {
            match next {
                Ok(Some(Frame::Message(message))) => self.message(message)?,
                Ok(Some(Frame::Chunk(head))) => {
                    if let Some(buffer) = self.chunk(&head).await? {
                        frames.read_into(buffer);
                    }
                }
                Ok(Some(Frame::Body(head, buffer))) => self.body(&head, buffer)?,
                Ok(None) => return Ok(()),
                Err(FrameError::Io(error)) => return Err(Ended::Lost(error.to_string())),
                Err(error) => return Err(lied(error.to_string())),
            }
            next = frames.ready();
        }
    }

    fn message(&mut self, message: ToRequester) -> Result<(), Ended> {
        let signed = match &message {
            ToRequester::Receipt(bytes) => Some(Signed::by(&self.peer, bytes.to_vec()).map_err(Ended::Lied)?),
            _ => None,
        };
        let mut state = self.outbox.lock();
        match message {
            ToRequester::Accept(accept) => {
                if !state.accepted(&accept) {
                    return Err(lied("it accepted twice"));
                }
                tracing::debug!(peer = self.peer.short(), credit = accept.credit, "lane open");
            }
            ToRequester::Refuse(refusal) if state.is_accepted() => {
                return Err(Ended::Lost(refusal.sanitised().to_string()));
            }
            ToRequester::Refuse(refusal) => return Err(Ended::Refused(refusal.sanitised())),
            _ if !state.is_accepted() => return Err(lied("it answered no offer")),
            ToRequester::JobRefused(refused) => state.refused(refused.slot, refused.refusal.sanitised(), self.heard),
            ToRequester::Heartbeat(heartbeat) if heartbeat.ids.len() > CREDIT_MAX as usize => {
                return Err(lied("it works on more than it was given"));
            }
            // Nothing to be written comes of it.
            ToRequester::Heartbeat(heartbeat) => {
                state.heartbeat(&heartbeat.ids);
                return Ok(());
            }
            ToRequester::Receipt(_) => {
                let Some(signed) = signed else { return Ok(()) };
                let (late, envelope) = state.receipt(signed).map_err(Ended::Lied)?;
                drop(state);
                if let Some(ctx) = self.ctx.upgrade() {
                    ctx.trust.signed_late(self.peer, &late, &envelope);
                }
                return Ok(());
            }
            ToRequester::Chunk(_) => return Err(lied("an empty chunk")),
            ToRequester::Result(result) => {
                drop(state);
                return self.result(*result);
            }
        }
        drop(state);
        // There may be room for tasks now.
        self.outbox.change(|_| ());
        Ok(())
    }

    fn result(&mut self, result: TaskResult) -> Result<(), Ended> {
        let TaskResult { id, outcome } = result;
        let output = match &outcome {
            Outcome::Done(done) => Some(done.hash),
            Outcome::Failed(_) => None,
        };
        let answered = self.outbox.change(|state| state.answered(id, output, self.heard));
        let live = answered.ok_or_else(|| lied("a result that was not asked for"))?;
        let Done { hash, size, bytes, input_us, .. } = match outcome {
            Outcome::Failed(refusal) => {
                self.tell(&live, Report::Failed(live.attempt, refusal.sanitised()));
                return Ok(());
            }
            Outcome::Done(done) => done,
        };
        // Only who has them knows when bytes arrived: buffers on the way hide more than a task's input. Who says that he
        // is better connected than he is waits for it himself.
        if let (Some(us), rest @ 1..) = (input_us, live.input_bytes.saturating_sub(CHUNK_BYTES as u64))
            && let Some(Moved { bytes, took }) = self.up.add(rest, Duration::from_micros(us))
        {
            (self.learn)(Way::Up, bytes, took);
        }
        let wrong = |error: frames::AssemblyError| lied(error.to_string());
        let mut assembly = Assembly::new(hash, size, live.output_limit).map_err(wrong)?;
        let output = OutputId { hash, size };
        match assembly.at_once(bytes.map(|bytes| bytes.into_vec())).map_err(wrong)? {
            Some(bytes) => self.tell(&live, Report::Result(live.attempt, output, bytes, None)),
            None => {
                let (delivery, passage) = Default::default();
                self.arriving.insert(id, Arriving { live, output, assembly, delivery, passage });
            }
        }
        Ok(())
    }

    /// Where the bytes of a chunk go.
    async fn chunk(&mut self, head: &ChunkHead) -> Result<Option<Vec<u8>>, Ended> {
        let Some(arriving) = self.arriving.get_mut(&head.id) else {
            return Err(lied("a chunk that belongs to no result"));
        };
        if arriving.delivery.is_none() {
            let kib = u32::try_from(arriving.assembly.size().div_ceil(1024)).unwrap_or(u32::MAX).min(DELIVERY_KIB);
            if self.delivery.available_permits() < kib as usize {
                arriving.passage.pause();
            }
            let permit = self.delivery.clone().acquire_many_owned(kib);
            match tokio::time::timeout(DELIVERY_TIME, permit).await {
                Ok(Ok(permit)) => arriving.delivery = Some(permit),
                _ => return Err(Ended::Untaken),
            }
        }
        arriving.assembly.buffer(head).map(Some).map_err(|error| lied(error.to_string()))
    }

    fn body(&mut self, head: &ChunkHead, buffer: Vec<u8>) -> Result<(), Ended> {
        let Some(arriving) = self.arriving.get_mut(&head.id) else { return Ok(()) };
        arriving.passage.chunk(head.len, Instant::now());
        match arriving.assembly.filled(head, buffer).map_err(|error| lied(error.to_string()))? {
            None => {
                let live = arriving.live;
                // A slow link is not a dead worker.
                self.tell(&live, Report::Heartbeat(vec![live.attempt]));
            }
            Some(bytes) => self.finished(head.id, bytes),
        }
        Ok(())
    }

    fn finished(&mut self, id: u64, bytes: Bytes) {
        if let Some(Arriving { live, output, delivery, passage, .. }) = self.arriving.remove(&id) {
            if let Some((bytes, took)) = passage.shown()
                && let Some(Moved { bytes, took }) = self.down.add(bytes, took)
            {
                (self.learn)(Way::Down, bytes, took);
            }
            self.tell(&live, Report::Result(live.attempt, output, bytes, delivery));
        }
    }

    fn tell(&self, live: &Live, report: Report) {
        if !live.is_cancelled {
            self.outbox.lock().tell(live.slot, report);
        }
    }

    fn tick(&mut self, now: Instant) -> Result<(), Ended> {
        let over = |since: Instant, limit: Duration| now.saturating_duration_since(since) >= limit;
        let mut state = self.outbox.lock();
        // While outputs waited for their jobs, or this device slept, nothing was read: a worker is not late by that.
        let unread = now.saturating_duration_since(self.looked).saturating_sub(2 * TICK);
        self.looked = now;
        state.not_read_for(unread);
        // Who has nothing to do has nothing to say.
        self.heard = if state.is_working() { (self.heard + unread).min(now) } else { now };
        if !state.is_accepted() && over(self.opened, ACCEPT_TIME) {
            return Err(Ended::Lost(format!("no answer in {} s", ACCEPT_TIME.as_secs())));
        }
        if state.owes_since().is_some_and(|since| over(since, RECEIPT_WAIT)) {
            return Err(lied(format!("it signed for no result in {} s", RECEIPT_WAIT.as_secs())));
        }
        if state.is_accepted() && state.is_working() && over(self.heard, SILENCE) {
            return Err(Ended::Silent);
        }
        let (has_words, is_open) = (state.has_words(), state.is_open());
        if is_open && state.idle_since().is_some_and(|since| over(since, WARM_TIME)) {
            drop(state);
            self.outbox.change(State::close);
        } else if has_words {
            drop(state);
            self.outbox.change(|_| ());
        }
        Ok(())
    }

    /// Hears what a worker has to say after the good-bye: its last word for its results.
    async fn rest(&mut self, frames: &mut StreamReader) -> Ended {
        let all = async {
            loop {
                match frames.next().await {
                    Ok(None) => return Ended::Idle,
                    other => {
                        if let Err(ended) = self.all(other, frames).await {
                            return ended;
                        }
                    }
                }
            }
        };
        tokio::time::timeout(RECEIPT_WAIT, all).await.unwrap_or(Ended::Idle)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::state::stories, *};

    static NOBODY: Weak<Context> = Weak::new();

    fn reader(outbox: &Arc<Outbox<State>>, now: Instant) -> Reader<'_> {
        Reader::new(&NOBODY, stories::peer(), outbox, Arc::new(Semaphore::new(1)), &|_, _, _| (), now)
    }

    /// Looks at the time every second from `from` on, `seconds` times.
    fn pass(reader: &mut Reader<'_>, from: Instant, seconds: u32) -> (Instant, Result<(), Ended>) {
        let mut now = from;
        for _ in 0..seconds {
            now += TICK;
            if let Err(ended) = reader.tick(now) {
                return (now, Err(ended));
            }
        }
        (now, Ok(()))
    }

    /// A transfer of several chunks says how fast the link is: an output by this clock, an input by its reader's.
    #[tokio::test]
    async fn long_inputs_and_outputs_are_measured() {
        let mut lane = stories::open(4);
        let (slot, _reports) = stories::job(&mut lane, 1);
        let bytes = vec![7; 3 * CHUNK_BYTES];
        for (task, size) in [(0, bytes.len()), (1, CHUNK_BYTES), (2, bytes.len())] {
            stories::start(&mut lane, slot, task, size);
        }
        stories::said(&mut lane);
        let (outbox, learned) = (Outbox::new(lane), std::sync::Mutex::new(Vec::new()));
        let learn = |way, bytes, took: Duration| learned.lock().unwrap().push((way, bytes, took));
        let delivery = Arc::new(Semaphore::new(bytes.len() / 1024));
        let mut reader = Reader::new(&NOBODY, stories::peer(), &outbox, delivery.clone(), &learn, Instant::now());
        let hash = msm_protocol::ContentHash::of(&bytes);
        // The second input came in one chunk, the third was not read as it came.
        for (id, input_us) in [(0, Some(1_500)), (1, Some(7)), (2, None)] {
            let size = if id == 0 { bytes.len() as u64 } else { 0 };
            let hash = if id == 0 { hash } else { msm_protocol::ContentHash::of(b"") };
            let done = Done { hash, size, bytes: None, cpu_us: 1, input_us };
            reader.result(TaskResult { id, outcome: Outcome::Done(done) }).unwrap();
        }
        let rest = 2 * CHUNK_BYTES as u64;
        assert_eq!(std::mem::take(&mut *learned.lock().unwrap()), [(Way::Up, rest, Duration::from_micros(1_500))]);
        for at in 0..3 {
            let head = ChunkHead { at: (at * CHUNK_BYTES) as u64, id: 0, len: CHUNK_BYTES };
            let mut buffer = reader.chunk(&head).await.unwrap().unwrap();
            buffer.extend_from_slice(&bytes[..CHUNK_BYTES]);
            reader.body(&head, buffer).unwrap();
        }
        let learned = learned.into_inner().unwrap();
        assert!(matches!(learned[..], [(Way::Down, bytes, _)] if bytes == rest), "{learned:?}");
    }

    #[test]
    fn short_transfers_are_gathered() {
        let mut moved = Moved::default();
        let took = Duration::from_millis(10);
        assert_eq!(moved.add(TRANSFER_MIN - 5, took), None);
        assert_eq!(moved.add(5, took), Some(Moved { bytes: TRANSFER_MIN, took: 2 * took }));
        assert_eq!(moved.add(TRANSFER_MIN, took), Some(Moved { bytes: TRANSFER_MIN, took }), "each counts once");
    }

    /// A warm lane that rests is no worker that is silent; one that was given a task must be heard of.
    #[test]
    fn silence_counts_from_when_there_is_work() {
        let mut lane = stories::open(2);
        let (slot, _reports) = stories::job(&mut lane, 1);
        let outbox = Outbox::new(lane);
        let start = Instant::now();
        let mut reader = reader(&outbox, start);
        let (now, rested) = pass(&mut reader, start, 30);
        assert!(rested.is_ok());
        stories::start(&mut outbox.lock(), slot, 0, 10);
        stories::said(&mut outbox.lock());
        let (now, worked) = pass(&mut reader, now, 4);
        assert!(worked.is_ok(), "{worked:?}");
        let (_, silent) = pass(&mut reader, now, 2);
        assert!(matches!(silent, Err(Ended::Silent)), "{silent:?}");
    }

    /// Time in which this side did not read (an output waited for its job) makes no worker silent and no liar.
    #[test]
    fn time_in_which_nothing_was_read_is_not_the_workers() {
        let mut lane = stories::open(2);
        let (slot, _reports) = stories::job(&mut lane, 1);
        (0..2).for_each(|task| stories::start(&mut lane, slot, task, 10));
        stories::said(&mut lane);
        let start = Instant::now();
        lane.answered(0, Some(msm_protocol::ContentHash::of(b"output")), start).unwrap();
        let outbox = Outbox::new(lane);
        let mut reader = reader(&outbox, start);
        let later = start + DELIVERY_TIME;
        assert!(reader.tick(later).is_ok());
        reader.heard = later;
        for second in 1..RECEIPT_WAIT.as_secs() as u32 - 2 {
            reader.heard = later + second * TICK;
            assert!(reader.tick(reader.heard).is_ok(), "second {second}");
        }
        let (_, ended) = pass(&mut reader, later + RECEIPT_WAIT, 2);
        assert!(matches!(ended, Err(Ended::Lied(_))), "{ended:?}");
    }
}
