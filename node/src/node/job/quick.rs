//! Small calls: a job that is one task, for a worker with whom a lane is open or who was named. One round trip.
//!
//! Nobody is asked who is around, nothing is cut or put together, no child is started here. The same [`JobState`] decides
//! as in every job; whatever does not go as it should (a loss, a refusal, a failure) is left to the general way, which
//! begins anew, and so is a result that is to be checked.

use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use msm_protocol::{
    ContentHash, PeerId,
    job::{AttemptRef, TaskOp},
    limits::{CREDIT, TASK_BYTES},
    manifest::Split,
};
use msm_scheduler::{Input, JobConfig, JobState, Output, OutputId, Redundancy, Trust, Worker};
use tokio::sync::oneshot;

use super::{Invocation, ask::Resolved, random_share};
use crate::{
    blob::Blob,
    command::{self, Event, JobDevice, Redundancy as Wish},
    node::{
        context::Ask,
        lanes::{Desk, JobTerms, LaneKey, Lanes, Report},
    },
};

/// What a small call may take besides the time of its service: a lane is offered, the package fetched, other calls go
/// first. Then the general way, which has others to ask. *Judgement: twice what an offer may take.*
const AROUND: Duration = Duration::from_secs(30);

impl Invocation {
    /// Does the job as a small call, if it is one and all goes well.
    pub(super) async fn quick(&mut self, resolved: &Resolved) -> Option<Blob> {
        let input = self.input.in_memory().filter(|_| self.is_small(resolved)).cloned()?;
        let offer = self.offer(resolved, TaskOp::Run);
        let key = LaneKey::of(&offer);
        let peer = self.one_worker(key)?;
        if self.must_check(resolved, &peer) {
            return None;
        }
        let terms = JobTerms {
            job: self.record.report.job_id,
            tasks: 1,
            params: resolved.params.clone(),
            output_limit: resolved.installed.budget().output,
        };
        let (desk, answer) = oneshot::channel();
        let seat = Lanes::attach(&self.ctx, peer, key, &offer, terms, Desk::Call(Some(desk))).ok()?;
        let mut job = OneTask::new(peer);
        let hash = ContentHash::of(&input);
        if !seat.start(job.start()?, input.into(), hash) {
            return None;
        }
        match within(answer, resolved.installed.budget().time.saturating_add(AROUND)).await {
            Some(Report::Result(attempt, output, bytes, _)) if job.ends_with(attempt, output) => {
                self.was_quick(peer, resolved, output);
                Some(bytes.into())
            }
            other => {
                tracing::debug!(peer = peer.short(), ?other, "a small call goes the general way");
                self.ctx.tell(Ask::Doubted(peer)).await;
                None
            }
        }
    }

    /// Whether there is nothing to choose, to cut or to put together.
    fn is_small(&self, resolved: &Resolved) -> bool {
        let (invoke, size) = (&self.invoke, self.input.len());
        let whole = match resolved.installed.manifest.work.split {
            Split::None => true,
            Split::Bytes(piece) => (1..=piece).contains(&size),
            _ => false,
        };
        let work = &resolved.installed.manifest.work;
        let of_one = whole && size <= TASK_BYTES as u64 && resolved.wish.min <= 1;
        // Who may see the input of a private service is looked at where devices are chosen.
        of_one && invoke.remote_only && self.restored.is_none() && !invoke.plan && !work.remote && !work.private
    }

    /// The worker with the fewest jobs on its lane, or one that was named and is connected.
    fn one_worker(&self, key: LaneKey) -> Option<PeerId> {
        let wanted = &self.invoke.peers;
        let allowed = |peer: &PeerId| {
            (wanted.is_empty() || wanted.contains(peer)) && !self.ctx.is_banned(peer) && !self.ctx.trust.is_struck(peer)
        };
        if let Some(peer) = self.ctx.lanes.least_busy(key, allowed) {
            return Some(peer);
        }
        let connected = self.ctx.connected.borrow();
        wanted.iter().find(|peer| allowed(peer) && connected.contains(peer)).copied()
    }

    /// Whether this worker's result is to be computed again: drawn as the scheduler draws it. Where nobody else may be
    /// asked a spot check has nothing to compare with; devices that are to agree are missed by the general way.
    fn must_check(&self, resolved: &Resolved, peer: &PeerId) -> bool {
        let alone = match self.invoke.peers.len() {
            0 => self.ctx.connected.borrow().as_slice() == [*peer],
            named => named == 1,
        };
        is_drawn(resolved.redundancy, alone, self.ctx.trust.of(peer).check_share(), random_share())
    }

    /// Writes the report of a small call.
    fn was_quick(&mut self, peer_id: PeerId, resolved: &Resolved, output: OutputId) {
        let report = &mut self.record.report;
        (report.tasks, report.tasks_done, report.state) = (1, 1, command::JobState::Done);
        let engine = Some(resolved.installed.engine);
        let name = peer_id.short();
        report.devices.push(JobDevice { peer_id, name, tasks: 1, local: false, engine, lost: None });
        report.checks.redundancy = resolved.redundancy.to_string();
        report.output_bytes = output.size;
        report.output_sha256 = HEXLOWER.encode(output.hash.as_bytes());
        let (job_id, service) = (report.job_id, report.service.clone());
        self.ctx.emit(Event::JobStarted { job_id, service, tasks: 1 });
    }
}

/// Whether a result is to be checked: of a worker whose results are checked in this `share`, where the lot fell on `lot`.
fn is_drawn(redundancy: Wish, alone: bool, share: f64, lot: f64) -> bool {
    match redundancy {
        Wish::None => false,
        Wish::Spot => !alone && lot < share,
        Wish::Agree { .. } => true,
    }
}

/// The one answer, unless its worker says for longer than `limit` that it is at it.
async fn within(answer: oneshot::Receiver<Report>, limit: Duration) -> Option<Report> {
    tokio::time::timeout(limit, answer).await.ok()?.ok()
}

/// The state of a job of one task on one worker.
struct OneTask {
    state: JobState,
    started: Instant,
    worker: Worker,
}

impl OneTask {
    fn new(peer: PeerId) -> Self {
        // What is to be checked does not come here.
        let config = JobConfig { tasks: 1, redundancy: Redundancy::None, ..JobConfig::default() };
        let state = JobState::new(config, Duration::ZERO);
        Self { state, started: Instant::now(), worker: Worker::Remote(peer) }
    }

    /// The attempt that the worker is given.
    fn start(&mut self) -> Option<AttemptRef> {
        let ready = Input::WorkerReady { worker: self.worker, credit: CREDIT, trust: Trust::default() };
        self.state.handle(ready, self.started.elapsed());
        match self.state.poll_output() {
            Some(Output::Start { attempt, .. }) => Some(attempt),
            _ => None,
        }
    }

    /// Whether this result is the job's, and the job is over with it.
    fn ends_with(&mut self, attempt: AttemptRef, output: OutputId) -> bool {
        self.state.handle(Input::Result { worker: self.worker, attempt, output }, self.started.elapsed());
        let accepted = matches!(self.state.poll_output(), Some(Output::Accepted { attempt: of, .. }) if of == attempt);
        accepted && matches!(self.state.poll_output(), Some(Output::Done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> PeerId {
        PeerId::of(&msm_protocol::SecretKey::from_seed(&[1; 32]).public())
    }

    /// The short way asks the machine that decides about every job, and takes from it what that gives.
    #[test]
    fn one_task_is_accepted_once_and_ends_the_job() {
        let output = OutputId { hash: ContentHash::of(b"x"), size: 1 };
        let mut job = OneTask::new(peer());
        let attempt = job.start().unwrap();
        assert_eq!(attempt.task, 0, "{attempt:?}");
        assert!(job.ends_with(attempt, output));
        assert!(!job.ends_with(attempt, output), "a second answer is none");

        let mut job = OneTask::new(peer());
        let attempt = job.start().unwrap();
        let other = AttemptRef { attempt: attempt.attempt + 1, ..attempt };
        assert!(!job.ends_with(other, output), "an answer to what was not asked");
    }

    /// One that was named is one that agrees with nobody: not to be told as two of three.
    #[test]
    fn an_answer_on_which_devices_are_to_agree_is_no_small_call() {
        for (alone, lot) in [(true, 0.0), (true, 0.99), (false, 0.0), (false, 0.99)] {
            assert!(is_drawn(Wish::Agree { agree: 2, of: 3 }, alone, 0.1, lot), "{alone} {lot}");
            assert!(!is_drawn(Wish::None, alone, 1.0, lot), "{alone} {lot}");
            assert_eq!(is_drawn(Wish::Spot, alone, 0.1, lot), !alone && lot < 0.1, "{alone} {lot}");
        }
    }

    /// A worker that says for ever that it works does not hold a call for ever.
    #[tokio::test]
    async fn a_call_that_is_not_answered_goes_the_general_way() {
        let (worker, answer) = oneshot::channel();
        let none = tokio::time::timeout(AROUND, within(answer, Duration::from_millis(1))).await;
        assert!(matches!(none, Ok(None)), "{none:?}");
        assert!(worker.is_closed(), "its seat is given up");
        let (worker, answer) = oneshot::channel();
        worker.send(Report::Lost("gone".into())).unwrap();
        assert!(matches!(within(answer, AROUND).await, Some(Report::Lost(_))));
    }
}
