//! One task of a job and the record of every attempt at it.

use std::time::Duration;

use super::{ATTEMPTS_PER_TASK, LOCAL_ATTEMPTS, OutputId, Worker};

/// What became of an attempt. It leaves `Running` once and never returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Running,
    /// It gave an output that counts, or that is compared with others.
    Answered,
    /// Another attempt's output was accepted first.
    Overtaken,
    /// It failed, its lease ended, its worker was lost or struck.
    Ended,
    /// The job ended before it did.
    Stopped,
}

#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) worker: Worker,
    pub(super) state: State,
    pub(super) started: Duration,
    /// When it counts as lost; `None` for the local worker, which its own deadline ends.
    pub(super) lease_ends: Option<Duration>,
    /// Its worker has named it in a heartbeat, so it has arrived there.
    pub(super) named: bool,
    /// How long it should take by its worker's measured speed, the attempts before it included.
    pub(super) promised: Option<Duration>,
    /// How much of that is its own work.
    pub(super) alone: Duration,
    /// It was started because another one took too long.
    pub(super) hedge: bool,
}

/// An output that somebody gave for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) worker: Worker,
    /// Number of the attempt.
    pub(super) attempt: u32,
    pub(super) output: OutputId,
    /// False when its worker has left and signed for nothing: it is no vote.
    pub(super) signed: bool,
}

/// The output of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) worker: Worker,
    /// `None`: restored from a journal.
    pub(super) attempt: Option<u32>,
    pub(super) output: OutputId,
}

/// Whether an accepted output is compared with another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Check {
    #[default]
    None,
    /// The job waits for it.
    Open,
    /// Somebody else, or this device, said the same.
    Confirmed,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Task {
    /// Relative size, at least 1.
    pub(super) weight: u64,
    /// By attempt number; at most `ATTEMPTS_PER_TASK`.
    pub(super) attempts: Vec<Attempt>,
    pub(super) accepted: Option<Accepted>,
    pub(super) check: Check,
    /// What is compared, the accepted answer included; at most `VOTES_MAX` and this device's, one for each worker.
    pub(super) answers: Vec<Answer>,
    /// Its output was this liar's and was withdrawn.
    pub(super) void_of: Option<Worker>,
    /// Workers that said that the guest itself fails on it; at most as many as attempts.
    pub(super) claims: Vec<Worker>,
}

impl Task {
    pub(super) fn running(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| attempt.state == State::Running)
    }

    /// Attempts that brought nothing, or have not yet.
    pub(super) fn tries_by(&self, worker: Worker) -> u32 {
        self.count(|attempt| attempt.worker == worker)
    }

    /// Those of this device. That a liar was first is no failure of its own, as long as the bound on all attempts leaves
    /// room for more.
    pub(super) fn local_tries(&self) -> u32 {
        let forgives = self.attempts.len() < (ATTEMPTS_PER_TASK - LOCAL_ATTEMPTS) as usize;
        let counts = |attempt: &Attempt| !(forgives && attempt.state == State::Overtaken);
        self.count(|attempt| attempt.worker == Worker::Local && counts(attempt))
    }

    pub(super) fn remote_tries(&self) -> u32 {
        self.count(|attempt| attempt.worker != Worker::Local)
    }

    /// Who made the newest attempt.
    pub(super) fn last_worker(&self) -> Option<Worker> {
        self.attempts.last().map(|attempt| attempt.worker)
    }

    /// Works on it, or has answered.
    pub(super) fn involves(&self, worker: Worker) -> bool {
        self.running().any(|attempt| attempt.worker == worker) || self.answers.iter().any(|a| a.worker == worker)
    }

    /// Two answers differ.
    pub(super) fn disputed(&self) -> bool {
        self.answers.windows(2).any(|two| two[0].output != two[1].output)
    }

    /// Answers that somebody stands for.
    pub(super) fn votes(&self) -> impl DoubleEndedIterator<Item = &Answer> {
        self.answers.iter().filter(|answer| answer.signed)
    }

    /// Who gave an answer that nobody stands for.
    pub(super) fn unsigned(&self) -> Option<Worker> {
        self.answers.iter().find(|answer| !answer.signed).map(|answer| answer.worker)
    }

    /// The answer that most workers gave (of several, the oldest), and how many did.
    pub(super) fn favourite(&self) -> Option<(OutputId, u32)> {
        let votes = |answer: &Answer| self.votes().filter(|other| other.output == answer.output).count() as u32;
        // `max_by_key` takes the last of equals.
        self.votes().rev().map(|answer| (answer.output, votes(answer))).max_by_key(|(_, votes)| *votes)
    }

    fn count(&self, which: impl Fn(&Attempt) -> bool) -> u32 {
        self.attempts.iter().filter(|attempt| attempt.state != State::Answered && which(attempt)).count() as u32
    }
}
