//! Broken schedulers: a real one whose words are twisted in one way, to see that the checker notices.

use std::time::Duration;

use msm_protocol::{Refusal, RefusalCode, job::AttemptRef};
use msm_scheduler::{Input, Output, OutputId, Why, Worker};

use crate::checker::{Promise, View};

/// One way to be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Twist {
    /// Says twice that an output was accepted.
    CountsTwice,
    /// Is done one task too early.
    EndsEarly,
    /// Never says that it is done.
    NeverEnds,
    /// Fails for no reason.
    GivesUp,
    /// Believes that a worker has 20 places where it has two.
    IgnoresCredit,
    /// Takes a silent worker's word for given.
    NeverExpires,
    /// Takes an answer for an attempt that somebody else holds.
    TakesAnything,
    /// Does not hear that this device is there.
    Starves,
    /// Gives a lost task back to the worker that lost it.
    Insists,
    /// Starts the same task again and again.
    Multiplies,
    /// Gives work to a liar that was found out.
    Forgives,
    /// Keeps what the liar did before.
    KeepsLies,
    /// Believes that every check agrees.
    ChecksNothing,
    /// Takes the word of one that left for that of one that stands for it.
    Trusts,
    /// Strikes whom it has nothing against.
    Slanders,
    /// Starts again what the journal says is done.
    Repeats,
    /// Reports one task more than it has.
    Miscounts,
    /// Wants to be called at once, for ever.
    Spins,
}

impl Twist {
    /// Each with the promise that it breaks.
    pub const ALL: [(Self, Promise); 18] = [
        (Self::CountsTwice, Promise::CountedOnce),
        (Self::EndsEarly, Promise::NothingLost),
        (Self::NeverEnds, Promise::EndsInTime),
        (Self::GivesUp, Promise::RightEnd),
        (Self::IgnoresCredit, Promise::WithinCredit),
        (Self::NeverExpires, Promise::LeasesEnd),
        (Self::TakesAnything, Promise::HoldersOnly),
        (Self::Starves, Promise::NoStarvation),
        (Self::Insists, Promise::Rotates),
        (Self::Multiplies, Promise::Bounded),
        (Self::Forgives, Promise::StruckIsOut),
        (Self::KeepsLies, Promise::StruckIsOut),
        (Self::ChecksNothing, Promise::ChecksCount),
        (Self::Trusts, Promise::NobodysWord),
        (Self::Slanders, Promise::OnlyLiarsStruck),
        (Self::Repeats, Promise::CountedOnce),
        (Self::Miscounts, Promise::Counts),
        (Self::Spins, Promise::Counts),
    ];
}

pub struct Sabotage {
    twist: Twist,
    /// What runs, as far as the outputs say.
    running: Vec<(Worker, AttemptRef)>,
    answers: Vec<(Worker, u32, OutputId)>,
    liar: Option<Worker>,
    accepted: u32,
    /// Tasks that only the world counts as done.
    hidden: u32,
    done: bool,
}

impl Sabotage {
    pub fn new(twist: Twist) -> Self {
        Self { twist, running: vec![], answers: vec![], liar: None, accepted: 0, hidden: 0, done: false }
    }

    /// What reaches the scheduler of what happened.
    pub fn hears(&mut self, input: Input) -> Vec<Input> {
        match (self.twist, input) {
            (Twist::IgnoresCredit, Input::WorkerReady { worker: Worker::Remote(peer), trust, .. }) => {
                vec![Input::WorkerReady { worker: Worker::Remote(peer), credit: 20, trust }]
            }
            (Twist::NeverExpires, Input::Tick) => {
                let beat = |(worker, attempt): &(Worker, AttemptRef)| Input::Heartbeat {
                    worker: *worker,
                    attempts: vec![*attempt],
                };
                self.running.iter().map(beat).chain([Input::Tick]).collect()
            }
            (Twist::TakesAnything, Input::Result { worker, attempt, output })
                if !self.running.contains(&(worker, attempt)) =>
            {
                let held = self.running.iter().find(|(holder, _)| *holder != worker);
                let (worker, attempt) = held.copied().unwrap_or((worker, attempt));
                vec![Input::Result { worker, attempt, output }]
            }
            (Twist::Starves, Input::WorkerReady { worker: Worker::Local, .. }) => vec![],
            (Twist::ChecksNothing, Input::Result { worker, attempt, output }) => {
                let before = self.answers.iter().find(|(by, task, _)| *task == attempt.task && *by != worker);
                let output = before.map_or(output, |(_, _, before)| *before);
                self.answers.push((worker, attempt.task, output));
                vec![Input::Result { worker, attempt, output }]
            }
            (Twist::Slanders, Input::Result { worker, attempt, output }) => {
                self.answers.push((worker, attempt.task, output));
                vec![Input::Result { worker, attempt, output }]
            }
            (Twist::Trusts, Input::Unsigned { .. }) => vec![],
            (Twist::Repeats, Input::Restored { .. }) => {
                self.hidden += 1;
                vec![]
            }
            (_, input) => vec![input],
        }
    }

    /// What the world hears of what the scheduler says.
    pub fn says(&mut self, outputs: &mut Vec<Output>, tasks: u32) {
        self.follow(outputs);
        match self.twist {
            Twist::CountsTwice => {
                if let Some(at) = outputs.iter().position(|output| matches!(output, Output::Accepted { .. })) {
                    outputs.insert(at, outputs[at].clone());
                }
            }
            Twist::EndsEarly if self.accepted + 1 == tasks && !self.done => {
                self.done = true;
                outputs.push(Output::Done);
            }
            Twist::NeverEnds => outputs.retain(|output| !matches!(output, Output::Done)),
            Twist::GivesUp if self.accepted > 0 && !self.done => {
                self.done = true;
                outputs.push(Output::Failed { refusal: Refusal::new(RefusalCode::Other, "bored") });
            }
            Twist::Insists => {
                for output in outputs {
                    if let Output::Start { worker, why: Why::Lost { from }, .. } = output {
                        *worker = *from;
                    }
                }
            }
            Twist::Multiplies => {
                let first = outputs.iter().find_map(|output| match output {
                    Output::Start { worker, attempt, why } => Some((*worker, *attempt, *why)),
                    _ => None,
                });
                if let Some((worker, attempt, why)) = first {
                    let attempt = AttemptRef { attempt: attempt.attempt + 1, ..attempt };
                    outputs.push(Output::Start { worker, attempt, why });
                }
            }
            Twist::Forgives => {
                if let Some(worker) = self.liar.take() {
                    let attempt = AttemptRef { task: 0, attempt: 0 };
                    outputs.push(Output::Start { worker, attempt, why: Why::Fresh });
                }
            }
            Twist::KeepsLies => {
                // All but what is replaced at once.
                let accepted = |output: &Output| match output {
                    Output::Accepted { attempt, .. } => Some(attempt.task),
                    _ => None,
                };
                let again: Vec<u32> = outputs.iter().filter_map(accepted).collect();
                let before = outputs.len();
                outputs.retain(|output| !matches!(output, Output::Withdrawn { task, .. } if !again.contains(task)));
                self.hidden += (before - outputs.len()) as u32;
            }
            Twist::Slanders => {
                let (accepted, answers) = (self.accepted, &self.answers);
                let honest = answers.iter().find(|(worker, ..)| *worker != Worker::Local);
                if let Some((worker, task, output)) = honest.filter(|_| accepted > 2 && !self.done) {
                    self.done = true;
                    let (claimed, right) = (*output, OutputId { size: u64::MAX, ..*output });
                    let by = Worker::Local;
                    outputs.push(Output::Struck { worker: *worker, task: *task, claimed, right, by });
                }
            }
            _ => {}
        }
    }

    /// What the world sees of the scheduler.
    pub fn twist(&self, view: &mut View<'_>, now: Duration) {
        match self.twist {
            Twist::Repeats | Twist::KeepsLies => view.progress.done += self.hidden,
            Twist::Miscounts if self.accepted > 0 => view.progress.done += 1,
            Twist::NeverEnds if view.progress.over => {
                view.progress.over = false;
                view.next = Some(now + Duration::from_secs(1));
            }
            Twist::Spins if self.accepted > 0 => view.next = Some(now),
            _ => {}
        }
    }

    fn follow(&mut self, outputs: &[Output]) {
        for output in outputs {
            match output {
                Output::Start { worker, attempt, .. } => self.running.push((*worker, *attempt)),
                Output::Cancel { attempt, .. } | Output::Kept { attempt, .. } | Output::Dropped { attempt, .. } => {
                    self.running.retain(|(_, running)| running != attempt);
                }
                Output::Accepted { attempt, .. } => {
                    self.running.retain(|(_, running)| running != attempt);
                    self.accepted += 1;
                }
                Output::Withdrawn { .. } => self.accepted -= 1,
                Output::Struck { worker, .. } => self.liar = Some(*worker),
                _ => {}
            }
        }
    }
}
