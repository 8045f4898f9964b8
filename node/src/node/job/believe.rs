//! Whom the driver of a job believes: trust for the scheduler, what was compared, and strikes with their evidence.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use msm_protocol::{
    ContentHash, PeerId,
    evidence::{EVIDENCE_OTHERS, Evidence},
    limits::TASKS_PER_JOB,
};
use msm_scheduler::{Input, OutputId, Redundancy, Trust, Worker};
use serde_bytes::ByteBuf;

use super::{Invocation, drive::Driver};
use crate::{
    command::{self, CheckRow, CommandError, ErrorCode, StruckRow, VOTES_MAX},
    node::trust::Strike,
    resources::steward::unix_now,
};

/// Receipts kept while a job runs: of every task each time that it may be tried. They are small, and those of one batch
/// share their bytes.
const RECEIPTS: usize = 8 * TASKS_PER_JOB;
/// Comparisons listed in a report: the wrong ones, and the first of the others. *Judgement*: more than anybody reads.
const LISTED: usize = 64;

/// What is said of a worker whom others outvoted, where this device computed nothing itself.
const OUTVOTED: &str = "left out of this job, on the word of other devices";

/// What a driver remembers to know whom to believe.
#[derive(Default)]
pub(super) struct Beliefs {
    /// Envelopes of receipts, by worker, task and output.
    receipts: HashMap<(PeerId, u32, ContentHash), Bytes>,
    /// Workers that left before they had signed for all.
    left: HashSet<PeerId>,
    /// Liars whose evidence is to be written.
    found: Vec<Liar>,
}

/// A worker with a wrong output.
struct Liar {
    peer: PeerId,
    task: u32,
    claimed: ContentHash,
    right: ContentHash,
    by: PeerId,
    /// This device has computed what is right: nobody else's word, nor that of many, strikes anybody out for good.
    own_word: bool,
}

impl Invocation {
    /// How outputs of this service are checked, as the caller wishes and as far as they can be compared.
    pub(super) fn redundancy(&self, manifest: &msm_protocol::Manifest) -> Result<command::Redundancy, CommandError> {
        use command::Redundancy::{Agree, None as Unchecked};
        let usage = |message: String| CommandError::new(ErrorCode::Usage, message);
        match (self.invoke.redundancy, manifest.work.deterministic) {
            (Some(Agree { agree, of }), _) if agree < 2 || agree > of || of > VOTES_MAX => Err(usage(format!(
                "bad-input: redundancy {agree}/{of}: at least 2 of at most {VOTES_MAX} devices, such as 2/3"
            ))),
            (wish, true) => Ok(wish.unwrap_or_default()),
            (None | Some(Unchecked), false) => Ok(Unchecked),
            (Some(wish), false) => {
                let message = format!(
                    "bad-input: redundancy {wish}: {} is not deterministic, so its outputs cannot be compared",
                    manifest.name
                );
                Err(usage(message).or_try(format!("msm show {}", self.invoke.service)))
            }
        }
    }

    /// Says before anything starts when `of` devices, or even `agree`, are not there; refuses what could never be.
    pub(super) fn enough_votes(
        &mut self,
        wish: command::Redundancy,
        selection: &msm_scheduler::Selection,
    ) -> Result<(), CommandError> {
        let command::Redundancy::Agree { agree, of } = wish else { return Ok(()) };
        let here = selection.rows.iter().any(|row| row.used && row.peer.is_none());
        let count = selection.count;
        let few = || format!("redundancy {agree}/{of}: {agree} devices must agree on each part, {count} take part");
        if count < agree && (self.invoke.strict || !here) {
            return Err(CommandError::new(ErrorCode::NoDevice, few()).or_try("msm peers"));
        }
        if count < agree {
            self.record.report.notes.push(format!("{}; this device's own word decides", few()));
        } else if count < of {
            let note = format!("redundancy {agree}/{of}: {count} devices take part, so at most {count} are asked");
            self.record.report.notes.push(note);
        }
        Ok(())
    }
}

/// The scheduler's word for it.
pub(super) fn of_wish(wish: command::Redundancy) -> Redundancy {
    match wish {
        command::Redundancy::None => Redundancy::None,
        command::Redundancy::Spot => Redundancy::Spot,
        command::Redundancy::Agree { agree, of } => Redundancy::Agree { agree, of },
    }
}

impl Driver<'_> {
    /// How much `worker` is believed at the start.
    pub(super) fn trust_of(&self, worker: Worker) -> Trust {
        match worker {
            Worker::Local => Trust::default(),
            Worker::Remote(peer) => self.ctx.trust.of(&peer),
        }
    }

    /// A worker has signed for these outputs.
    pub(super) fn signed(&mut self, peer: PeerId, claims: Vec<(u32, ContentHash)>, envelope: Bytes) {
        for (task, output) in claims {
            if self.beliefs.receipts.len() < RECEIPTS {
                self.beliefs.receipts.insert((peer, task, output), envelope.clone());
            }
        }
    }

    /// A worker has left, and nobody stands for so many of its results.
    pub(super) fn unsigned(&mut self, peer: PeerId, results: usize) {
        self.beliefs.left.insert(peer);
        let name = self.name(peer);
        self.note(format!("{name} left before it signed for {results} of its results"));
    }

    /// Two answers were compared.
    pub(super) fn checked(&mut self, task: u32, worker: Worker, by: Worker, agrees: bool) {
        let (peer_id, by) = (self.peer_of(worker), self.peer_of(by));
        if agrees && let Worker::Remote(peer) = worker {
            self.ctx.trust.right(peer);
        }
        let checks = &mut self.record.report.checks;
        checks.compared += 1;
        checks.right += u32::from(agrees);
        let row = CheckRow { task, peer_id, by, agrees };
        match checks.rows.len() {
            0..LISTED => checks.rows.push(row),
            // A wrong one is never left out for a right one.
            _ if !agrees => {
                if let Some(place) = checks.rows.iter().rposition(|row| row.agrees) {
                    checks.rows.remove(place);
                    checks.rows.push(row);
                }
            }
            _ => {}
        }
    }

    /// A worker is found out: it gets nothing more of this job. Its evidence is written by [`Self::settle`].
    pub(super) fn found_out(&mut self, worker: Worker, task: u32, claimed: OutputId, right: OutputId, by: Worker) {
        let Worker::Remote(peer) = worker else { return };
        let own_word = by == Worker::Local;
        let liar = Liar { peer, task, claimed: claimed.hash, right: right.hash, by: self.peer_of(by), own_word };
        let (name, reason) = (self.name(peer), self.strike_of(&liar).reason());
        let what = if own_word { "struck out" } else { OUTVOTED };
        self.note(format!("{name} was {what}: {reason}"));
        self.leave(peer, format!("{what}: {reason}"));
        self.beliefs.found.push(liar);
    }

    fn strike_of(&self, liar: &Liar) -> Strike {
        Strike {
            job: self.record.report.job_id,
            task: liar.task,
            service: self.record.report.service.clone(),
            claimed: liar.claimed,
            right: liar.right,
            by: liar.by,
            time: unix_now(),
            unsigned: self.beliefs.left.contains(&liar.peer)
                && !self.beliefs.receipts.contains_key(&(liar.peer, liar.task, liar.claimed)),
            evidence: None,
        }
    }

    /// Writes down who was found out since the last call: nobody hires it any more when this returns. Whom only others
    /// contradict has to begin anew with the next job, no more: several names may be one person.
    pub(super) async fn settle(&mut self) {
        for liar in std::mem::take(&mut self.beliefs.found) {
            if !liar.own_word {
                self.ctx.trust.doubt(&liar.peer);
                continue;
            }
            let (strike, evidence) = (self.strike_of(&liar), self.evidence(&liar));
            let strike = self.ctx.trust.strike(liar.peer, strike, Some(evidence)).await;
            self.tell_struck(liar.peer, liar.task, &strike.lie(), strike.evidence.clone());
            let struck = &mut self.record.report.checks.struck;
            if struck.len() < LISTED {
                struck.push(StruckRow::of(liar.peer, strike));
            }
        }
    }

    /// What proves it. The receipt comes with or soon after the output; until then it is empty.
    fn evidence(&self, liar: &Liar) -> Evidence {
        let receipts = &self.beliefs.receipts;
        let receipt = receipts.get(&(liar.peer, liar.task, liar.claimed));
        let others = receipts
            .iter()
            .filter(|((peer, task, output), _)| *peer != liar.peer && *task == liar.task && *output == liar.right)
            .take(EVIDENCE_OTHERS)
            .map(|(_, envelope)| ByteBuf::from(&envelope[..]));
        Evidence {
            v: 1,
            by: liar.by,
            job: self.record.report.job_id,
            task: liar.task,
            time: unix_now(),
            count: self.count,
            right: liar.right,
            others: others.collect(),
            params: self.resolved.params.to_string(),
            receipt: receipt.map(|envelope| ByteBuf::from(&envelope[..])).unwrap_or_default(),
        }
    }

    /// Somebody was struck out, here or in another job: whoever it is gets nothing more here either.
    pub(super) fn heed_strikes(&mut self) {
        let struck: Vec<PeerId> = self.remotes.keys().copied().filter(|peer| self.ctx.trust.is_struck(peer)).collect();
        for peer in struck {
            let reason = self.ctx.trust.why_struck(&peer).unwrap_or_else(|| "struck out".to_owned());
            self.note(format!("{} gets no more: {reason}", self.name(peer)));
            self.leave(peer, reason.clone());
            self.handle(Input::Struck { worker: Worker::Remote(peer), reason });
        }
    }
}
