//! Whom to believe: checks, votes, and what becomes of a liar.
//!
//! What this device computed itself is right. Between other workers, as many as the job asks for have to agree; where
//! two differ, this device decides if it can, and otherwise others are asked. Only an output can be a lie, because only
//! an output is signed: who says that the guest failed is just not believed alone.

use msm_protocol::{ContentHash, Refusal, RefusalCode, job::AttemptRef};

use super::{
    JobState, OnLoss, Output, OutputId, Redundancy, VOTES_MAX, WORKERS, Why, Worker,
    member::{Member, Presence},
    task::{Accepted, Answer, Check, State, Task},
};
use crate::trust::CHECK_FIRST;

/// Somebody gave a wrong output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lie {
    pub(super) worker: Worker,
    task: u32,
    claimed: OutputId,
    right: OutputId,
    by: Worker,
}

impl JobState {
    // ---- How many answers a task needs -----------------------------------------------------------------------------

    /// How many equal answers are needed, of how many workers that are asked at most.
    fn quorum(&self, task: &Task) -> (u32, u32) {
        match self.config.redundancy {
            Redundancy::Agree { agree, of } => (agree, of),
            // Two that contradict each other are no answer, whatever became of the one that they were to check.
            _ if task.disputed() => (2, VOTES_MAX),
            // Instead of a word that nobody stands for, or beside one.
            _ if task.check == Check::Open => (if task.unsigned().is_some() { 1 } else { 2 }, VOTES_MAX),
            _ => (1, 1),
        }
    }

    /// Attempts of one task that may run beside each other because several have to answer.
    pub(super) fn votes_beside(&self) -> u32 {
        match self.config.redundancy {
            Redundancy::Agree { of, .. } => of - 1,
            _ => 0,
        }
    }

    /// Equal answers that are missing still, at least 1.
    pub(super) fn missing_answers(&self, task: &Task) -> u32 {
        let best = task.favourite().map_or(0, |(_, votes)| votes);
        self.quorum(task).0.saturating_sub(best).max(1)
    }

    /// Attempts to start beside those that run.
    fn wanted(&self, task: &Task) -> u32 {
        if task.running().any(|attempt| attempt.worker == Worker::Local) {
            return 0;
        }
        let (running, votes) = (task.running().count() as u32, task.votes().count() as u32);
        let nobody = running == 0 && task.answers.is_empty();
        if nobody || (task.accepted.is_some() && task.check != Check::Open) {
            return 0;
        }
        let room = self.quorum(task).1.saturating_sub(running + votes);
        self.missing_answers(task).saturating_sub(running).min(room)
    }

    /// This device takes part and can still compute it.
    fn local_can(&self, task: &Task) -> bool {
        self.members.get(&Worker::Local).is_some_and(Member::usable) && self.may_try(task, Worker::Local)
    }

    /// Whether this worker may give one of the answers that a task still needs: not the one that had it last if another
    /// one could.
    pub(super) fn may_judge(&self, index: u32, worker: Worker) -> bool {
        let Some(task) = self.tasks.get(index as usize) else { return false };
        let another =
            || self.members.values().any(|m| m.usable() && m.worker != worker && self.may_vote(task, m.worker));
        self.may_vote(task, worker) && (task.last_worker() != Some(worker) || !another())
    }

    fn may_vote(&self, task: &Task, worker: Worker) -> bool {
        if task.involves(worker) || !self.may_try(task, worker) {
            return false;
        }
        let disputed = task.disputed();
        match worker {
            Worker::Local => disputed || self.wanted(task) > 0,
            Worker::Remote(_) => self.wanted(task) > 0 && !(disputed && self.local_can(task)),
        }
    }

    pub(super) fn why_judged(&self, index: u32) -> Why {
        let accepted = self.tasks.get(index as usize).and_then(|task| task.accepted);
        accepted.map_or(Why::Vote, |accepted| Why::Check { of: accepted.worker })
    }

    /// Puts a task into the queue where it waits for answers, or takes it out, after anything about it changed.
    pub(super) fn requeue(&mut self, index: u32) {
        let Some(task) = self.tasks.get(index as usize) else { return };
        let disputed = task.disputed();
        let waits = self.wanted(task) > 0 || (disputed && !task.involves(Worker::Local));
        let newcomer = task.accepted.is_some_and(|accepted| {
            self.members.get(&accepted.worker).is_some_and(|member| member.trust.in_a_row < CHECK_FIRST)
        });
        let doubted = disputed || newcomer || task.unsigned().is_some();
        let voted = task.accepted.is_none();
        let place = |queue: &mut std::collections::BTreeSet<u32>, here: bool| {
            if here {
                queue.insert(index)
            } else {
                queue.remove(&index)
            };
        };
        place(&mut self.urgent, waits && doubted);
        place(&mut self.votes, waits && voted && !doubted);
        place(&mut self.checks, waits && !voted && !doubted);
    }

    // ---- Answers ---------------------------------------------------------------------------------------------------

    /// A worker has answered: accepts, keeps or drops its answer, and everything that follows from it.
    pub(super) fn answer(&mut self, worker: Worker, which: AttemptRef, output: OutputId) {
        let Some(task) = self.tasks.get_mut(which.task as usize) else { return };
        task.answers.push(Answer { worker, attempt: which.attempt, output, signed: true });
        self.judge(which.task, Some(which.attempt));
        self.punish();
    }

    /// Decides about a task if its answers do. `arrived` is the attempt whose bytes are new.
    fn judge(&mut self, index: u32, arrived: Option<u32>) {
        let Some(task) = self.tasks.get(index as usize) else { return };
        let has_own = task.answers.iter().any(|answer| answer.worker == Worker::Local);
        // A word that nobody stands for is none against one that somebody does, where this device cannot say who lies.
        if let Some(worker) = task.unsigned().filter(|_| task.disputed() && !has_own && !self.local_can(task)) {
            self.void(index, worker);
        }
        let Some(task) = self.tasks.get(index as usize) else { return };
        let own = task.answers.iter().find(|answer| answer.worker == Worker::Local).map(|answer| answer.output);
        let (agree, of) = self.quorum(task);
        let voted = task.favourite().filter(|(_, votes)| *votes >= agree).map(|(output, _)| output);
        match own.or(voted.filter(|_| !(task.disputed() && self.local_can(task)))) {
            Some(right) => self.settle(index, right, arrived),
            None => {
                let accepted = task.accepted.and_then(|accepted| accepted.attempt);
                let kept = task.answers.iter().filter(|a| Some(a.attempt) == arrived && arrived != accepted);
                let kept = kept.map(|a| (a.attempt, a.worker)).next();
                let undecided = task.answers.len() as u32 >= of && !self.local_can(task);
                if let Some((attempt, worker)) = kept {
                    self.outputs.push_back(Output::Kept { attempt: AttemptRef { task: index, attempt }, worker });
                }
                self.requeue(index);
                if undecided && self.config.on_loss != OnLoss::Partial {
                    let refusal = self.doubt(index);
                    self.fail(refusal);
                }
            }
        }
    }

    /// `right` is the task's output.
    fn settle(&mut self, index: u32, right: OutputId, arrived: Option<u32>) {
        let Some(task) = self.tasks.get(index as usize) else { return };
        let answers = task.answers.clone();
        let withdrawn = task.accepted.filter(|accepted| accepted.output != right);
        if let Some(wrong) = withdrawn {
            self.withdraw(index, wrong);
        }
        let accepted = match self.tasks.get(index as usize).and_then(|task| task.accepted) {
            Some(accepted) => accepted,
            None => {
                // The newest bytes if they are right: then the driver need not have kept any.
                let newest = answers.iter().find(|answer| Some(answer.attempt) == arrived && answer.output == right);
                let Some(best) = newest.or_else(|| answers.iter().find(|answer| answer.output == right)) else {
                    return;
                };
                self.accept(index, *best)
            }
        };
        if answers.len() == 1 && accepted.worker != Worker::Local && self.draw_check(index, accepted.worker) {
            return self.requeue(index);
        }
        self.cancel_others(index);
        self.conclude(index, &answers, right);
        let gone = [accepted.attempt, withdrawn.and_then(|wrong| wrong.attempt)];
        for answer in answers.iter().filter(|answer| !gone.contains(&Some(answer.attempt))) {
            let attempt = AttemptRef { task: index, attempt: answer.attempt };
            let why = if answer.output == right { RefusalCode::Duplicate } else { RefusalCode::StaleLease };
            self.outputs.push_back(Output::Dropped { attempt, worker: answer.worker, why });
        }
        self.requeue(index);
    }

    fn accept(&mut self, index: u32, answer: Answer) -> Accepted {
        let Answer { worker, attempt, output, .. } = answer;
        let accepted = Accepted { worker, attempt: Some(attempt), output };
        if let Some(task) = self.tasks.get_mut(index as usize) {
            task.accepted = Some(accepted);
            if let Some(attempt) = task.attempts.get(attempt as usize) {
                self.hedges_won += u32::from(attempt.hedge);
            }
        }
        if let Some(member) = self.members.get_mut(&worker) {
            member.done += 1;
        }
        self.done += 1;
        self.outputs.push_back(Output::Accepted { attempt: AttemptRef { task: index, attempt }, worker, output });
        accepted
    }

    fn cancel_others(&mut self, index: u32) {
        // Where several answers are asked for, the last to come is not the slowest.
        let raced = !matches!(self.config.redundancy, Redundancy::Agree { .. });
        for other in self.running_attempts(index) {
            if let Some(worker) = self.end_attempt(other, State::Overtaken) {
                if let Some(member) = self.members.get_mut(&worker).filter(|_| raced) {
                    member.overtaken();
                }
                self.outputs.push_back(Output::Cancel { worker, attempt: other });
            }
        }
    }

    /// Whether this worker's only answer is to be computed again, by lot. Answers that wait for a check count as right
    /// until they turn out not to be, or the first three would be all that arrive before the first check is done.
    fn draw_check(&mut self, index: u32, worker: Worker) -> bool {
        let Some(task) = self.tasks.get(index as usize) else { return false };
        if self.config.redundancy != Redundancy::Spot || task.check != Check::None {
            return false;
        }
        // Who contradicts a word that went because nobody stood for it may have lied all the same.
        let doubted = !task.claims.is_empty() || task.void_of.is_some();
        let lot = self.random();
        let Some(member) = self.members.get_mut(&worker) else { return false };
        let mut trust = member.trust;
        trust.in_a_row = trust.in_a_row.saturating_add(member.pending);
        let drawn = doubted || lot < trust.check_share();
        if drawn {
            self.open_check(index, worker);
        }
        drawn
    }

    /// The output of this worker is to be compared, if it is not already.
    fn open_check(&mut self, index: u32, worker: Worker) {
        let (Some(task), Some(member)) = (self.tasks.get_mut(index as usize), self.members.get_mut(&worker)) else {
            return;
        };
        if std::mem::replace(&mut task.check, Check::Open) != Check::Open {
            member.pending += 1;
            self.open_checks += 1;
        }
    }

    /// All answers are in: who was right has earned some trust, who was not is a liar.
    fn conclude(&mut self, index: u32, answers: &[Answer], right: OutputId) {
        self.close_check(index, Check::Confirmed);
        let Some(task) = self.tasks.get_mut(index as usize) else { return };
        task.answers.clear();
        let alone = answers.len() == 1;
        if alone {
            // Nobody else has said so: only this device needs no witness.
            let own = task.accepted.is_some_and(|accepted| accepted.worker == Worker::Local);
            task.check = if own { Check::Confirmed } else { Check::None };
            return;
        }
        let witnesses =
            || answers.iter().filter(|answer| answer.signed && answer.output == right).map(|answer| answer.worker);
        for answer in answers.iter().filter(|answer| answer.worker != Worker::Local) {
            let worker = answer.worker;
            let Some(by) = witnesses().filter(|witness| *witness != worker).min() else { continue };
            let agrees = answer.output == right;
            self.outputs.push_back(Output::Checked { task: index, worker, by, agrees });
            let Some(member) = self.members.get_mut(&worker) else { continue };
            if agrees {
                member.trust.right();
                member.checked += 1;
                self.checked += 1;
            } else {
                self.lies.push(Lie { worker, task: index, claimed: answer.output, right, by });
            }
        }
    }

    /// Ends an open check, however it ended.
    fn close_check(&mut self, index: u32, end: Check) {
        let Some(task) = self.tasks.get_mut(index as usize) else { return };
        let was = std::mem::replace(&mut task.check, end);
        if was == Check::Open {
            self.open_checks -= 1;
            let member = task.accepted.and_then(|accepted| self.members.get_mut(&accepted.worker));
            if let Some(member) = member {
                member.pending = member.pending.saturating_sub(1);
            }
        }
    }

    // ---- Liars -----------------------------------------------------------------------------------------------------

    fn punish(&mut self) {
        while let Some(Lie { worker, task, claimed, right, by }) = self.lies.pop() {
            if self.over || self.members.get(&worker).is_none_or(|member| member.trust.struck) {
                continue;
            }
            self.outputs.push_back(Output::Struck { worker, task, claimed, right, by });
            self.expel(worker);
        }
    }

    /// A worker is known from elsewhere to lie. It may be a stranger still: what it did before the requester was
    /// restarted is in the journal.
    pub(super) fn struck(&mut self, worker: Worker, reason: String) {
        let known = self.members.get(&worker);
        let there = known.is_some_and(|member| member.presence == Presence::Ready);
        let full = known.is_none() && self.members.len() >= WORKERS;
        if worker == Worker::Local || known.is_some_and(|member| member.trust.struck) || self.over || full {
            return;
        }
        self.members.entry(worker).or_insert_with(|| Member::new(worker, self.now));
        let at = self.outputs.len();
        let tasks_back = self.expel(worker);
        if there {
            self.outputs.insert(at, Output::Lost { worker, tasks_back, reason });
        }
        self.punish();
    }

    /// Takes everything from a worker that nobody else has confirmed. Returns how many tasks it held.
    fn expel(&mut self, worker: Worker) -> u32 {
        let Some(member) = self.members.get_mut(&worker) else { return 0 };
        member.trust.wrong();
        member.presence = Presence::Gone;
        let held = member.attempts();
        self.forget_overtaken();
        self.outputs.extend(held.iter().map(|attempt| Output::Cancel { worker, attempt: *attempt }));
        let back = self.fault(worker, &held);
        // Once for each liar: the only walk over all tasks.
        for index in 0..self.config.tasks {
            if self.over {
                return back;
            }
            self.disbelieve(index, worker);
        }
        back
    }

    /// Removes what a worker said about one task, and goes on with what is left.
    fn disbelieve(&mut self, index: u32, worker: Worker) {
        if !self.void(index, worker) {
            return;
        }
        let Some(task) = self.tasks.get(index as usize) else { return };
        if task.answers.is_empty() {
            self.requeue(index);
            self.give_back(vec![index]);
        } else {
            self.judge(index, None);
        }
    }

    /// Removes what a worker said about one task, unless it was confirmed; false when that is nothing.
    fn void(&mut self, index: u32, worker: Worker) -> bool {
        let Some(task) = self.tasks.get(index as usize) else { return false };
        let accepted = task.accepted.filter(|accepted| accepted.worker == worker && task.check != Check::Confirmed);
        let answer = task.answers.iter().find(|answer| answer.worker == worker).copied();
        if accepted.is_none() && answer.is_none() {
            return false;
        }
        if let Some(accepted) = accepted {
            self.withdraw(index, accepted);
        }
        if let Some(task) = self.tasks.get_mut(index as usize) {
            task.answers.retain(|answer| answer.worker != worker);
            let attempt = answer.and_then(|answer| task.attempts.get_mut(answer.attempt as usize));
            if let Some(attempt) = attempt {
                attempt.state = State::Ended;
            }
        }
        let kept = answer.filter(|answer| accepted.is_none_or(|accepted| accepted.attempt != Some(answer.attempt)));
        if let Some(Answer { attempt, .. }) = kept {
            let attempt = AttemptRef { task: index, attempt };
            self.outputs.push_back(Output::Dropped { attempt, worker, why: RefusalCode::StaleLease });
        }
        true
    }

    /// The accepted output of a task is void.
    pub(super) fn withdraw(&mut self, index: u32, accepted: Accepted) {
        self.close_check(index, Check::None);
        let Some(task) = self.tasks.get_mut(index as usize) else { return };
        task.accepted = None;
        task.check = Check::None;
        task.void_of = Some(accepted.worker);
        let attempt = accepted.attempt.and_then(|attempt| task.attempts.get_mut(attempt as usize));
        if let Some(attempt) = attempt {
            attempt.state = State::Ended;
        }
        self.done -= 1;
        self.withdrawn += 1;
        if let Some(member) = self.members.get_mut(&accepted.worker) {
            member.done = member.done.saturating_sub(1);
        }
        self.outputs.push_back(Output::Withdrawn { task: index, worker: accepted.worker });
    }

    // ---- Words that nobody stands for ------------------------------------------------------------------------------

    /// A worker has left and never signed for these of its answers.
    pub(super) fn unsigned(&mut self, worker: Worker, claims: &[(u32, ContentHash)]) {
        let Some(member) = self.members.get_mut(&worker).filter(|member| !member.trust.struck) else { return };
        if self.over || worker == Worker::Local || claims.is_empty() {
            return;
        }
        member.trust.left_unsigned();
        // Nothing new for one that is gone in a moment, least of all what it gets no vote on.
        member.leaving = true;
        for (index, claimed) in claims {
            if self.over || self.config.redundancy == Redundancy::None {
                break;
            }
            self.is_unsigned(*index, worker, *claimed);
        }
        self.punish();
    }

    /// A vote is dropped. An output that counts stays until somebody has said otherwise: most that leave are honest.
    fn is_unsigned(&mut self, index: u32, worker: Worker, claimed: ContentHash) {
        let Some(task) = self.tasks.get_mut(index as usize) else { return };
        let answered = task.answers.iter().any(|it| it.worker == worker && it.output.hash == claimed);
        match task.accepted.filter(|accepted| accepted.worker == worker && accepted.output.hash == claimed) {
            None if answered => return self.disbelieve(index, worker),
            Some(Accepted { attempt: Some(attempt), output, .. }) if task.check != Check::Confirmed => {
                task.answers.retain(|answer| answer.worker != worker);
                task.answers.push(Answer { worker, attempt, output, signed: false });
                self.open_check(index, worker);
            }
            _ => return,
        }
        self.unsigned += 1;
        self.judge(index, None);
    }

    // ---- What cannot be decided ------------------------------------------------------------------------------------

    /// Nothing runs: checks that nobody is left to make are given up, those that found no two different answers.
    pub(super) fn waive_checks(&mut self) {
        let waiting: Vec<u32> = self.checks.iter().chain(&self.urgent).copied().collect();
        for index in waiting {
            if self.tasks.get(index as usize).is_some_and(|task| task.unsigned().is_some()) {
                // This device may have failed to say who lies.
                self.judge(index, None);
            }
            let Some(task) = self.tasks.get(index as usize) else { continue };
            let someone =
                || self.members.values().any(|member| member.usable() && self.may_judge(index, member.worker));
            if task.accepted.is_none() || task.disputed() || someone() {
                continue;
            }
            self.close_check(index, Check::None);
            if let Some(task) = self.tasks.get_mut(index as usize) {
                task.answers.clear();
            }
            self.unchecked += 1;
            self.requeue(index);
        }
        self.punish();
    }

    /// A task with different answers or too few that nobody is left to decide about.
    pub(super) fn first_doubt(&self) -> Option<u32> {
        self.urgent
            .iter()
            .chain(&self.votes)
            .find(|task| self.tasks.get(**task as usize).is_some_and(|task| task.accepted.is_none() || task.disputed()))
            .copied()
    }

    /// The refusal for a task whose answers decide nothing.
    pub(super) fn doubt(&self, index: u32) -> Refusal {
        let Some(task) = self.tasks.get(index as usize) else { return Refusal::new(RefusalCode::Other, "") };
        let (answers, (agree, of)) = (task.answers.len(), self.quorum(task));
        let best = task.favourite().map_or(0, |(_, votes)| votes);
        let reason = format!(
            "{UNDECIDED}task {index} has {answers} answers of other devices, at most {best} of them equal; {agree} have \
             to agree (up to {of} are asked)"
        );
        Refusal::new(RefusalCode::Other, reason)
    }
}

/// How the reason of a refusal begins when answers contradict each other or are too few to be believed.
pub const UNDECIDED: &str = "verification: ";
