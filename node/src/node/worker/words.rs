//! What a worker has to say on one lane: heartbeats, results in their order, and its signed word for them. Pure.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use msm_protocol::{
    ContentHash, PeerId, Refusal,
    job::{Accept, ChunkHead, Claim, Done, Heartbeat, JobRefused, Outcome, Receipt, TaskResult, ToRequester},
    limits::{CHUNK_BYTES, CLAIMS, INLINE_BYTES},
};
use serde_bytes::ByteBuf;
use tokio::sync::Notify;

use crate::{
    blob::Blob,
    node::frames::{Next, Outgoing, put_frame},
};

/// Words that are no results (jobs refused): more wait only for one who reads none of them.
const WORDS: usize = 256;

/// A finished task.
#[derive(Debug)]
pub struct Finished {
    /// Its number on the lane.
    pub id: u64,
    /// The slot of its job.
    pub slot: u32,
    /// How it ended; of a success the claim, which will be signed, and what is sent.
    pub outcome: Result<Success, Refusal>,
}

/// A good end.
#[derive(Debug)]
pub struct Success {
    /// What the worker will sign for.
    pub claim: Claim,
    /// The output.
    pub bytes: Bytes,
    /// CPU time of the guest, microseconds.
    pub cpu_us: u64,
    /// How long the input took to arrive after its first chunk, microseconds.
    pub input_us: Option<u64>,
}

/// Makes the envelope of a receipt.
pub type Sign = Box<dyn Fn(&Receipt) -> Option<Vec<u8>> + Send>;

/// Everything that waits to be written on one lane.
pub struct Words {
    peer: PeerId,
    make_envelope: Sign,
    package: Option<ContentHash>,
    accept: Option<Accept>,
    refused: VecDeque<JobRefused>,
    heartbeat: Option<Vec<u64>>,
    results: VecDeque<Finished>,
    /// Bytes of output in `results` and `sending`.
    unsent: usize,
    sending: Option<(u64, Blob, u64)>,
    claims: VecDeque<Claim>,
    /// What was answered is to be signed for as soon as nothing else is to be said.
    sign: bool,
    closing: Option<Option<Refusal>>,
    /// Told when a long output was written.
    pub drained: Arc<Notify>,
}

impl Words {
    /// Of a lane that was not offered yet.
    pub fn new(peer: PeerId, make_envelope: Sign) -> Self {
        Self {
            peer,
            make_envelope,
            package: None,
            accept: None,
            refused: VecDeque::new(),
            heartbeat: None,
            results: VecDeque::new(),
            unsent: 0,
            sending: None,
            claims: VecDeque::new(),
            sign: false,
            closing: None,
            drained: Arc::default(),
        }
    }

    /// The offer is taken; this is what runs.
    pub fn accept(&mut self, accept: Accept, package: ContentHash) {
        (self.accept, self.package) = (Some(accept), Some(package));
    }

    /// One job is not taken. False when nobody reads that.
    pub fn refuse_job(&mut self, refused: JobRefused) -> bool {
        self.refused.push_back(refused);
        self.refused.len() <= WORDS
    }

    /// These tasks are being worked on; an older word of that kind is forgotten.
    pub fn heartbeat(&mut self, ids: Vec<u64>) {
        self.heartbeat = Some(ids);
    }

    /// A task has ended.
    pub fn answer(&mut self, finished: Finished) {
        self.unsent += finished.bytes();
        self.results.push_back(finished);
    }

    /// Results that nobody wants any more are not written, so their credit is free.
    pub fn forget(&mut self, unwanted: impl Fn(&Finished) -> bool) {
        self.results.retain(|finished| !unwanted(finished));
        let sending = self.sending.as_ref().map_or(0, |(_, blob, _)| blob.len() as usize);
        self.unsent = sending + self.results.iter().map(Finished::bytes).sum::<usize>();
    }

    /// Results that were not announced yet.
    pub fn unanswered(&self) -> usize {
        self.results.len()
    }

    /// Bytes of output that were not written yet.
    pub fn unsent(&self) -> usize {
        self.unsent
    }

    /// Signs for what was answered when nothing else is to be said.
    pub fn sign(&mut self) {
        self.sign = true;
    }

    /// The last word: all results are written and signed for, then the refusal if there is one, then the end.
    pub fn close(&mut self, last: Option<Refusal>) {
        self.closing = Some(last);
    }

    fn put_result(&mut self, batch: &mut Vec<u8>, finished: Finished) {
        let Finished { id, outcome, .. } = finished;
        let outcome = match outcome {
            Ok(Success { claim, bytes, cpu_us, input_us }) => {
                self.claims.push_back(claim);
                let size = bytes.len() as u64;
                let inline = (1..=INLINE_BYTES).contains(&bytes.len());
                if inline || bytes.is_empty() {
                    self.unsent -= bytes.len();
                } else {
                    self.sending = Some((id, Blob::from(bytes.clone()), 0));
                }
                let bytes = inline.then(|| ByteBuf::from(bytes.to_vec()));
                Outcome::Done(Done { hash: claim.output, size, bytes, cpu_us, input_us })
            }
            Err(refusal) => Outcome::Failed(refusal),
        };
        put_frame(batch, &ToRequester::Result(Box::new(TaskResult { id, outcome })));
    }

    /// The next result that may be written: a long one waits while another is being written, short ones pass it.
    fn next_result(&mut self) -> Option<Finished> {
        match self.sending {
            None => self.results.pop_front(),
            Some(_) => {
                let short = self.results.iter().position(|finished| finished.bytes() <= INLINE_BYTES)?;
                self.results.remove(short)
            }
        }
    }

    fn put_receipt(&mut self, batch: &mut Vec<u8>) {
        let claims: Vec<Claim> = self.claims.drain(..self.claims.len().min(CLAIMS)).collect();
        let Some(package) = self.package else { return };
        let receipt = Receipt { v: 1, peer: self.peer, claims, package };
        if let Some(envelope) = (self.make_envelope)(&receipt) {
            put_frame(batch, &ToRequester::Receipt(ByteBuf::from(envelope)));
        }
    }
}

impl Finished {
    fn bytes(&self) -> usize {
        self.outcome.as_ref().map_or(0, |success| success.bytes.len())
    }
}

impl Outgoing for Words {
    fn fill(&mut self, batch: &mut Vec<u8>, room: usize) -> Next {
        if let Some(accept) = self.accept.take() {
            put_frame(batch, &ToRequester::Accept(accept));
        }
        if let Some(ids) = self.heartbeat.take() {
            put_frame(batch, &ToRequester::Heartbeat(Heartbeat { ids }));
        }
        while let Some(refused) = self.refused.pop_front() {
            put_frame(batch, &ToRequester::JobRefused(refused));
            if batch.len() >= room {
                return Next::More;
            }
        }
        while let Some(finished) = self.next_result() {
            self.put_result(batch, finished);
            if self.claims.len() >= CLAIMS {
                self.put_receipt(batch);
            }
            if batch.len() >= room {
                return Next::More;
            }
        }
        let is_bulk_next = self.sending.is_some();
        if (self.sign || is_bulk_next || self.closing.is_some()) && !self.claims.is_empty() {
            // Bulk can take minutes on a slow link, and whoever owes a receipt for seconds counts as a liar: nothing
            // long is written before all that was announced is signed for.
            self.put_receipt(batch);
            return Next::More;
        }
        if let Some((id, blob, at)) = &mut self.sending {
            let piece = blob.slice(*at, CHUNK_BYTES as u64);
            let head = ChunkHead { at: *at, id: *id, len: piece.len() as usize };
            *at += piece.len();
            if *at == blob.len() {
                self.unsent -= blob.len() as usize;
                self.sending = None;
                self.drained.notify_one();
            }
            return Next::Chunk(head, piece);
        }
        self.sign = false;
        match self.closing.take() {
            None => Next::Idle,
            Some(last) => {
                if let Some(refusal) = last {
                    put_frame(batch, &ToRequester::Refuse(refusal));
                }
                Next::End
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use msm_protocol::{JobId, RefusalCode, cbor};

    use super::*;

    const ROOM: usize = 64 * 1024;

    /// Words whose envelopes name the tasks that they vouch for, as text.
    fn words() -> Words {
        let hash = ContentHash::of(b"");
        let peer = PeerId::of(&msm_protocol::SecretKey::from_seed(&[1; 32]).public());
        let sign = |receipt: &Receipt| {
            let tasks: Vec<String> = receipt.claims.iter().map(|claim| claim.task.to_string()).collect();
            Some(tasks.join(" ").into_bytes())
        };
        let mut words = Words::new(peer, Box::new(sign));
        words.accept(Accept { credit: 64, engine: "js".into() }, hash);
        words
    }

    fn done(id: u64, size: usize) -> Finished {
        let hash = ContentHash::of(b"");
        let claim = Claim { job: JobId::from_bytes([0; 16]), task: id as u32, input: hash, output: hash };
        let success = Success { claim, bytes: Bytes::from(vec![0; size]), cpu_us: 1, input_us: None };
        Finished { id, slot: (id % 2) as u32, outcome: Ok(success) }
    }

    /// Everything that would be written until nothing is left, one word for each frame.
    fn said(words: &mut Words) -> Vec<String> {
        let mut said = Vec::new();
        loop {
            let mut batch = Vec::new();
            let next = words.fill(&mut batch, ROOM);
            let mut rest = &batch[..];
            while let Some((length, tail)) = rest.split_first_chunk::<4>() {
                let (frame, tail) = tail.split_at(u32::from_le_bytes(*length) as usize);
                rest = tail;
                said.push(match cbor::from_slice(frame, frame.len()).unwrap() {
                    ToRequester::Accept(_) => "accept".into(),
                    ToRequester::Refuse(refusal) => format!("refuse {}", refusal.code),
                    ToRequester::Heartbeat(heartbeat) => format!("at {:?}", heartbeat.ids),
                    ToRequester::Result(result) => format!("result {}", result.id),
                    ToRequester::Receipt(bytes) => format!("signed {}", String::from_utf8(bytes.into_vec()).unwrap()),
                    other => format!("{other:?}"),
                });
            }
            match next {
                Next::More => {}
                Next::Chunk(head, piece) => {
                    assert_eq!(head.len as u64, piece.len());
                    said.push(format!("chunk {} {}", head.id, head.at));
                }
                Next::Idle => return said,
                Next::End => {
                    said.push("end".into());
                    return said;
                }
            }
        }
    }

    #[test]
    fn results_are_signed_for_together_when_it_is_time() {
        let mut words = words();
        (0..3).for_each(|id| words.answer(done(id, 10)));
        assert_eq!(said(&mut words), ["accept", "result 0", "result 1", "result 2"]);
        words.answer(Finished { id: 3, slot: 0, outcome: Err(Refusal::new(RefusalCode::ServiceFailed, "")) });
        words.sign();
        assert_eq!(said(&mut words), ["result 3", "signed 0 1 2"], "nobody signs for a failure");
        words.sign();
        assert_eq!(said(&mut words), Vec::<String>::new(), "once");
    }

    #[test]
    fn a_full_receipt_does_not_wait_and_the_end_brings_the_last_one() {
        let mut words = words();
        (0..CLAIMS as u64 + 2).for_each(|id| words.answer(done(id, 10)));
        let all = said(&mut words);
        let full = all.iter().position(|word| word.starts_with("signed 0 1 2")).unwrap();
        assert_eq!(all[full - 1], format!("result {}", CLAIMS - 1));
        words.close(Some(Refusal::new(RefusalCode::NotLending, "")));
        let last = format!("signed {} {}", CLAIMS, CLAIMS + 1);
        assert_eq!(said(&mut words), [&last, "refuse not-lending", "end"]);
    }

    /// A heartbeat and short results wait for one chunk of a long one at most; a second long one waits for all of it.
    #[test]
    fn short_words_pass_between_the_chunks_of_a_long_output() {
        let mut words = words();
        words.answer(done(0, 2 * CHUNK_BYTES));
        words.answer(done(1, INLINE_BYTES + 1));
        let mut batch = Vec::new();
        assert!(matches!(words.fill(&mut batch, ROOM), Next::More), "the receipt");
        assert!(matches!(words.fill(&mut batch, ROOM), Next::Chunk(head, _) if (head.id, head.at) == (0, 0)));
        words.answer(done(2, 5));
        words.heartbeat(vec![9]);
        let rest = said(&mut words);
        let chunk = format!("chunk 0 {CHUNK_BYTES}");
        assert_eq!(rest, ["at [9]", "result 2", "signed 2", &chunk, "result 1", "signed 1", "chunk 1 0"]);
        assert_eq!(words.unsent(), 0);
    }

    /// However long the queue of outputs, no receipt waits behind the bytes of one.
    #[test]
    fn receipts_do_not_wait_behind_bulk() {
        let mut words = words();
        (0..3).for_each(|id| words.answer(done(id, 3 * CHUNK_BYTES)));
        let mut announced = Vec::new();
        for word in said(&mut words) {
            match word.split_once(' ') {
                Some(("result", id)) => announced.push(id.to_owned()),
                Some(("signed", _)) => announced.clear(),
                Some(("chunk", _)) => assert!(announced.is_empty(), "{word} before {announced:?} were signed for"),
                _ => {}
            }
        }
    }

    #[test]
    fn what_nobody_wants_is_neither_written_nor_signed_for() {
        let mut words = words();
        (0..4).for_each(|id| words.answer(done(id, 100)));
        words.forget(|finished| finished.slot == 1);
        assert_eq!((words.unanswered(), words.unsent()), (2, 200));
        words.close(None);
        assert_eq!(said(&mut words), ["accept", "result 0", "result 2", "signed 0 2", "end"]);
    }

    /// Somebody who sends bad jobs and reads no answer is noticed.
    #[test]
    fn refused_jobs_that_nobody_reads_are_too_many_at_some_point() {
        let mut words = words();
        let refused = |slot| JobRefused { slot, refusal: Refusal::new(RefusalCode::BadInput, "") };
        assert!((0..WORDS as u32).all(|slot| words.refuse_job(refused(slot))));
        assert!(!words.refuse_job(refused(0)));
    }
}
