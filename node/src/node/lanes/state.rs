//! What one lane holds: the jobs on it, their tasks, what is to be written and what its worker owes. Pure.
//!
//! Slots and ids are given when a job or a task is written, so they grow on the stream whatever overtook what before.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use msm_protocol::{
    ContentHash, Envelope, JobId, PeerId, Refusal,
    job::{Accept, AttemptRef, ChunkHead, Claim, Job, Offer, Receipt, TaskHeader, ToWorker},
    limits::{CHUNK_BYTES, CREDIT, CREDIT_MAX, EARLY_BYTES, INLINE_BYTES},
    manifest::Engine,
};
use msm_scheduler::OutputId;
use serde_bytes::ByteBuf;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::{
    blob::Blob,
    node::{
        frames::{Next, Outgoing, put_frame},
        packages,
    },
};

/// Cancelled tasks remembered, since their results may be on the way: more than a worker can answer in a round trip of
/// a second. *Judgement.*
const CANCELLED: usize = 4_096;

/// A share of the memory for outputs that were not taken off a lane's hands, held until they are.
pub type Delivery = Option<OwnedSemaphorePermit>;

/// What a job hears of its lane.
#[derive(Debug)]
pub enum Report {
    /// The worker has taken the offer.
    Ready {
        /// Tasks that it takes at a time, over all jobs of the lane.
        credit: u32,
        /// What the service runs in there, if it named an engine of ours.
        engine: Option<Engine>,
    },
    /// These attempts are being worked on, or wait for their turn on a lane that lives.
    Heartbeat(Vec<AttemptRef>),
    /// An output has arrived; its bytes have its hash. To be taken soon: the lane waits for it.
    Result(AttemptRef, OutputId, Bytes, Delivery),
    /// An attempt failed.
    Failed(AttemptRef, Refusal),
    /// The worker has signed for results of this job: its claims, and the envelope.
    Receipt(Vec<Claim>, Bytes),
    /// The lane has ended before the worker signed for these results of the job. The last report follows.
    Unsigned(Vec<Claim>),
    /// The worker does not take the service or the job. The last report.
    Refused(Refusal),
    /// The worker did what no honest worker does. The last report.
    Lied(String),
    /// The worker says nothing any more. The last report.
    Silent(String),
    /// The lane has ended. The last report.
    Lost(String),
}

/// Where a job's reports go.
pub enum Desk {
    /// To the task that serves it: wide enough for all that can be under way.
    Job(mpsc::Sender<Report>),
    /// To whoever waits for the one answer of a small call.
    Call(Option<oneshot::Sender<Report>>),
}

/// Reports that may wait for the task that serves a job: a result and a receipt for each task of its credit, and
/// heartbeats.
pub const DESK: usize = 8 * CREDIT_MAX as usize;

/// What a lane must know of a job.
#[derive(Debug, Clone)]
pub struct JobTerms {
    /// The job.
    pub job: JobId,
    /// Tasks in it, or those wished for.
    pub tasks: u32,
    /// The parameters.
    pub params: Arc<str>,
    /// Bytes of one task's output at most.
    pub output_limit: u64,
}

/// A receipt whose signature is right, with its envelope. A signature takes a tenth of a millisecond to check, so that
/// is done before anything is locked.
#[derive(Debug)]
pub struct Signed {
    receipt: Receipt,
    envelope: Bytes,
}

impl Signed {
    /// Checks who has signed.
    pub fn by(peer: &PeerId, envelope: Vec<u8>) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("a bad receipt: {error}");
        let key = peer.key().map_err(|e| e.to_string())?;
        let parsed = Envelope::from_slice::<Receipt>(&envelope).map_err(|e| wrong(&e))?;
        let receipt = parsed.verify_from::<Receipt>(&key).map_err(|e| wrong(&e))?.into_inner();
        Ok(Self { receipt, envelope: envelope.into() })
    }
}

/// A job's place on the lane.
struct Seat {
    terms: JobTerms,
    /// Its slot on the stream, once its worker was told of it.
    slot: Option<u32>,
    desk: Desk,
    waiting: VecDeque<Waiting>,
    live: HashMap<AttemptRef, u64>,
}

/// A task that was not written yet.
struct Waiting {
    attempt: AttemptRef,
    input: Blob,
    hash: ContentHash,
}

/// A task that was written and is not answered.
#[derive(Debug, Clone, Copy)]
pub struct Live {
    /// Its job.
    pub slot: u32,
    /// Which attempt of which of its tasks.
    pub attempt: AttemptRef,
    /// What the worker may claim, but for the output.
    job: JobId,
    input: ContentHash,
    /// Bytes of its input.
    pub input_bytes: u64,
    /// Bytes of output at most.
    pub output_limit: u64,
    /// It was cancelled: its result may come all the same.
    pub is_cancelled: bool,
}

/// A short frame that goes before tasks.
enum Word {
    Cancel(u64),
    Over(u32),
}

/// An input that follows its announcement in chunks.
struct Sending {
    id: u64,
    slot: u32,
    input: Blob,
    at: u64,
}

/// How far the lane is.
#[derive(Debug)]
enum Phase {
    /// The offer is not written, or not answered.
    Offered,
    /// It was taken.
    Open { credit: u32, engine: Option<Engine> },
    /// Nothing more comes.
    Ended,
}

/// One lane of the requester.
pub struct State {
    offer: Option<Offer>,
    phase: Phase,
    package: ContentHash,
    peer: PeerId,
    /// By a number of their own: what the stream calls a slot is known later.
    seats: HashMap<u32, Seat>,
    next_seat: u32,
    next_slot: u32,
    next_id: u64,
    words: VecDeque<Word>,
    /// Slots with waiting tasks, each once: jobs take turns.
    turns: VecDeque<u32>,
    live: HashMap<u64, Live>,
    /// Ids of cancelled tasks, oldest first.
    cancelled: VecDeque<u64>,
    sending: Option<Sending>,
    early_bytes: u64,
    /// Results that the worker has not signed for, in their order.
    owed: VecDeque<(Instant, Claim)>,
    closing: bool,
    idle_since: Option<Instant>,
}

impl State {
    /// A lane to `peer` that is to be offered.
    pub fn new(peer: PeerId, offer: Offer, now: Instant) -> Self {
        Self {
            package: offer.manifest,
            offer: Some(offer),
            phase: Phase::Offered,
            peer,
            seats: HashMap::new(),
            next_seat: 0,
            next_slot: 0,
            next_id: 0,
            words: VecDeque::new(),
            turns: VecDeque::new(),
            live: HashMap::new(),
            cancelled: VecDeque::new(),
            sending: None,
            early_bytes: 0,
            owed: VecDeque::new(),
            closing: false,
            idle_since: Some(now),
        }
    }

    // ---- Jobs ---------------------------------------------------------------------------------------------------------

    /// Whether one more job may be put on it.
    pub fn has_place(&self, most: usize) -> bool {
        self.is_open() && self.seats.len() < most
    }

    /// Gives a job a place. `None` when there is none.
    pub fn attach(&mut self, terms: JobTerms, desk: Desk, most: usize) -> Option<u32> {
        if !self.has_place(most) {
            return None;
        }
        let number = self.next_seat;
        self.next_seat = number.checked_add(1)?;
        let mut seat = Seat { terms, slot: None, desk, waiting: VecDeque::new(), live: HashMap::new() };
        if let Phase::Open { credit, engine } = self.phase {
            seat.tell(Report::Ready { credit, engine });
        }
        self.seats.insert(number, seat);
        self.idle_since = None;
        Some(number)
    }

    /// A job is over, or not wanted any more. True when its worker is still at it and should be told at once.
    pub fn leave(&mut self, slot: u32, now: Instant) -> bool {
        let Some(seat) = self.seats.remove(&slot) else { return false };
        let is_urgent = !seat.live.is_empty();
        self.turns.retain(|turn| *turn != slot);
        for id in seat.live.into_values() {
            self.forget(id);
        }
        if self.sending.as_ref().is_some_and(|sending| sending.slot == slot) {
            self.sending = None;
        }
        if let Some(slot) = seat.slot {
            self.words.push_back(Word::Over(slot));
        }
        if self.seats.is_empty() {
            self.idle_since = Some(now);
        }
        is_urgent
    }

    /// The number of jobs on it, once its offer was taken.
    pub fn jobs(&self) -> Option<usize> {
        (self.is_open() && self.is_accepted()).then_some(self.seats.len())
    }

    /// Whether something short waits for the next frame.
    pub fn has_words(&self) -> bool {
        !self.words.is_empty()
    }

    /// Since when no job is on it.
    pub fn idle_since(&self) -> Option<Instant> {
        self.idle_since
    }

    /// Whether jobs may still be put on it.
    pub fn is_open(&self) -> bool {
        !self.closing && !matches!(self.phase, Phase::Ended)
    }

    /// Says good-bye when all that waits is written.
    pub fn close(&mut self) {
        self.closing = true;
    }

    // ---- Tasks --------------------------------------------------------------------------------------------------------

    /// Queues an attempt; false when the job has no place here any more.
    pub fn start(&mut self, slot: u32, attempt: AttemptRef, input: Blob, hash: ContentHash) -> bool {
        let Some(seat) = self.seats.get_mut(&slot) else { return false };
        seat.waiting.push_back(Waiting { attempt, input, hash });
        if !self.turns.contains(&slot) {
            self.turns.push_back(slot);
        }
        true
    }

    /// Takes an attempt back. One that waits is never written: its worker would run it for nobody.
    pub fn cancel(&mut self, slot: u32, attempt: AttemptRef) {
        let Some(seat) = self.seats.get_mut(&slot) else { return };
        seat.waiting.retain(|waiting| waiting.attempt != attempt);
        if let Some(id) = seat.live.remove(&attempt) {
            self.forget(id);
            self.words.push_back(Word::Cancel(id));
            if self.sending.as_ref().is_some_and(|sending| sending.id == id) {
                self.sending = None;
            }
        }
    }

    /// A result of this task is not wanted any more, but may come.
    fn forget(&mut self, id: u64) {
        if let Some(live) = self.live.get_mut(&id) {
            live.is_cancelled = true;
            self.cancelled.push_back(id);
        }
        if self.cancelled.len() > CANCELLED
            && let Some(oldest) = self.cancelled.pop_front()
        {
            self.live.remove(&oldest);
        }
    }

    /// Tasks that the worker has.
    fn under_way(&self) -> usize {
        self.live.len().saturating_sub(self.cancelled.len())
    }

    /// Whether the worker may be given this input now.
    fn has_room(&self, input: &Blob) -> bool {
        let credit = match self.phase {
            Phase::Offered if self.early_bytes.saturating_add(input.len()) > EARLY_BYTES as u64 => 0,
            Phase::Offered => CREDIT,
            Phase::Open { credit, .. } => credit,
            Phase::Ended => 0,
        };
        self.under_way() < credit as usize
    }

    /// The next task in turn whose input may be written now. A long one waits while another is being written.
    fn next_task(&mut self) -> Option<(u32, Waiting)> {
        for _ in 0..self.turns.len() {
            let slot = self.turns.pop_front()?;
            let Some(first) = self.seats.get(&slot).and_then(|seat| seat.waiting.front()) else { continue };
            let fits = self.has_room(&first.input) && (self.sending.is_none() || is_inline(&first.input));
            let waiting = match (fits, self.seats.get_mut(&slot)) {
                (true, Some(seat)) => seat.waiting.pop_front(),
                _ => None,
            };
            if self.seats.get(&slot).is_some_and(|seat| !seat.waiting.is_empty()) {
                self.turns.push_back(slot);
            }
            if let Some(waiting) = waiting {
                return Some((slot, waiting));
            }
        }
        None
    }

    fn put_task(&mut self, batch: &mut Vec<u8>, slot: u32, waiting: Waiting) {
        let Waiting { attempt, input, hash } = waiting;
        let Some(seat) = self.seats.get_mut(&slot) else { return };
        let JobTerms { job, tasks, output_limit, .. } = seat.terms;
        let told = *seat.slot.get_or_insert_with(|| {
            let slot = self.next_slot;
            self.next_slot += 1;
            let params = seat.terms.params.to_string();
            put_frame(batch, &ToWorker::Job(Box::new(Job { job, slot, tasks, params })));
            slot
        });
        let id = self.next_id;
        self.next_id += 1;
        seat.live.insert(attempt, id);
        let input_bytes = input.len();
        self.live.insert(id, Live { slot, attempt, job, input: hash, input_bytes, output_limit, is_cancelled: false });
        if matches!(self.phase, Phase::Offered) {
            self.early_bytes += input.len();
        }
        let bytes = match &input {
            Blob::Memory(bytes) if is_inline(&input) && !bytes.is_empty() => Some(ByteBuf::from(bytes.to_vec())),
            _ => None,
        };
        if bytes.is_none() && !input.is_empty() {
            self.sending = Some(Sending { id, slot, input: input.clone(), at: 0 });
        }
        put_frame(
            batch,
            &ToWorker::Task(TaskHeader { id, hash, size: input.len(), slot: told, task: attempt.task, bytes }),
        );
    }

    // ---- What the worker says -------------------------------------------------------------------------------------------

    /// The offer was taken; false when it was taken before.
    pub fn accepted(&mut self, accept: &Accept) -> bool {
        if !matches!(self.phase, Phase::Offered) {
            return false;
        }
        let (credit, engine) = (accept.credit.clamp(1, CREDIT_MAX), packages::engine_named(&accept.engine));
        self.phase = Phase::Open { credit, engine };
        for seat in self.seats.values_mut() {
            seat.tell(Report::Ready { credit, engine });
        }
        true
    }

    /// Whether the offer was answered.
    pub fn is_accepted(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    /// The worker is at work.
    pub fn heartbeat(&mut self, ids: &[u64]) {
        let mut alive: HashMap<u32, Vec<AttemptRef>> = HashMap::new();
        for live in ids.iter().filter_map(|id| self.live.get(id)).filter(|live| !live.is_cancelled) {
            alive.entry(live.slot).or_default().push(live.attempt);
        }
        for (slot, seat) in &mut self.seats {
            let mut attempts = alive.remove(slot).unwrap_or_default();
            // What waits for its turn is not late.
            attempts.extend(seat.waiting.iter().map(|waiting| waiting.attempt));
            if !attempts.is_empty() {
                seat.tell(Report::Heartbeat(attempts));
            }
        }
    }

    /// A task was answered: what is known of it, and the claim that its worker owes. `None` when it was not asked for.
    pub fn answered(&mut self, id: u64, output: Option<ContentHash>, now: Instant) -> Option<Live> {
        let live = self.live.remove(&id)?;
        if live.is_cancelled {
            self.cancelled.retain(|cancelled| *cancelled != id);
        }
        if let Some(output) = output {
            let Live { job, attempt, input, .. } = live;
            self.owed.push_back((now, Claim { job, task: attempt.task, input, output }));
        }
        if let Some(seat) = self.seats.get_mut(&live.slot) {
            seat.live.remove(&live.attempt);
        }
        Some(live)
    }

    /// Tells a job. False when it has gone, or hears nothing any more.
    pub fn tell(&mut self, slot: u32, report: Report) -> bool {
        self.seats.get_mut(&slot).is_some_and(|seat| seat.tell(report))
    }

    /// The worker does not take the job that the stream calls by this slot.
    pub fn refused(&mut self, slot: u32, refusal: Refusal, now: Instant) {
        let seat = self.seats.iter().find(|(_, seat)| seat.slot == Some(slot)).map(|(number, _)| *number);
        // One that has left meanwhile does not care.
        if let Some(number) = seat {
            self.tell(number, Report::Refused(refusal));
            self.leave(number, now);
        }
    }

    /// Takes the worker's word for what it has answered, and hands it to the jobs that it is about. What is left is about
    /// jobs that have gone, with the envelope.
    pub fn receipt(&mut self, signed: Signed) -> Result<(Vec<Claim>, Bytes), String> {
        let Signed { receipt: Receipt { v, peer, claims, package }, envelope: bytes } = signed;
        let owed = self.owed.iter().take(claims.len()).map(|(_, claim)| claim);
        if (v, peer, package) != (1, self.peer, self.package) || claims.is_empty() || !owed.eq(claims.iter()) {
            return Err("a receipt for something else".into());
        }
        self.owed.drain(..claims.len());
        for seat in self.seats.values_mut().filter(|seat| matches!(seat.desk, Desk::Job(_))) {
            let of_job: Vec<Claim> = claims.iter().filter(|claim| claim.job == seat.terms.job).copied().collect();
            if !of_job.is_empty() {
                seat.tell(Report::Receipt(of_job, bytes.clone()));
            }
        }
        let mut claims = claims;
        claims.retain(|claim| !self.seats.values().any(|seat| seat.terms.job == claim.job));
        Ok((claims, bytes))
    }

    /// Nothing was read of the worker for so long: its word may be here.
    pub fn not_read_for(&mut self, time: Duration) {
        if !time.is_zero() {
            self.owed.iter_mut().for_each(|(since, _)| *since += time);
        }
    }

    /// Since when the worker owes its word for a result.
    pub fn owes_since(&self) -> Option<Instant> {
        self.owed.front().map(|(since, _)| *since)
    }

    /// Whether the worker has anything to do.
    pub fn is_working(&self) -> bool {
        self.under_way() > 0
    }

    /// Ends the lane: every job hears what nobody has signed for, and the last report.
    pub fn end(&mut self, mut last: impl FnMut() -> Report) {
        self.phase = Phase::Ended;
        self.closing = true;
        for (_, mut seat) in self.seats.drain() {
            let owed = self.owed.iter().map(|(_, claim)| *claim).filter(|claim| claim.job == seat.terms.job);
            let owed: Vec<Claim> = owed.collect();
            if !owed.is_empty() {
                seat.tell(Report::Unsigned(owed));
            }
            seat.tell(last());
        }
        self.turns.clear();
        self.sending = None;
    }
}

impl Seat {
    fn tell(&mut self, report: Report) -> bool {
        match &mut self.desk {
            // Half of it is for what must not be lost.
            Desk::Job(desk) if matches!(report, Report::Heartbeat(_)) && desk.capacity() <= DESK / 2 => true,
            Desk::Job(desk) => desk.try_send(report).is_ok(),
            // That it begins and that it lasts is nothing to one who waits for the answer.
            Desk::Call(_)
                if matches!(
                    report,
                    Report::Ready { .. } | Report::Heartbeat(_) | Report::Receipt(..) | Report::Unsigned(_)
                ) =>
            {
                true
            }
            Desk::Call(desk) => desk.take().is_some_and(|desk| desk.send(report).is_ok()),
        }
    }
}

/// Whether an input lies in the frame that announces it.
fn is_inline(input: &Blob) -> bool {
    input.len() <= INLINE_BYTES as u64 && input.in_memory().is_some()
}

impl Outgoing for State {
    fn fill(&mut self, batch: &mut Vec<u8>, room: usize) -> Next {
        if let Some(offer) = self.offer.take() {
            put_frame(batch, &ToWorker::Offer(Box::new(offer)));
        }
        while let Some(word) = self.words.pop_front() {
            match word {
                Word::Cancel(id) => put_frame(batch, &ToWorker::Cancel(id)),
                Word::Over(slot) => put_frame(batch, &ToWorker::Over(slot)),
            }
            if batch.len() >= room {
                return Next::More;
            }
        }
        while let Some((slot, waiting)) = self.next_task() {
            self.put_task(batch, slot, waiting);
            if batch.len() >= room {
                return Next::More;
            }
        }
        if let Some(sending) = &mut self.sending {
            let piece = sending.input.slice(sending.at, CHUNK_BYTES as u64);
            let head = ChunkHead { at: sending.at, id: sending.id, len: piece.len() as usize };
            sending.at += piece.len();
            if sending.at == sending.input.len() {
                self.sending = None;
            }
            return Next::Chunk(head, piece);
        }
        match self.closing {
            true => {
                if !matches!(self.phase, Phase::Ended) {
                    put_frame(batch, &ToWorker::Done);
                }
                Next::End
            }
            false => Next::Idle,
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
pub mod stories;
