//! Every run of a small job: the real [`JobState`] as the transition function of a model whose states are all visited.
//!
//! Up to four nodes (the requester and three workers), one of which stays alive and answers in time. In any order, and as
//! often as a small budget allows, the others are lost, fail, lie, answer late, or stay silent until their leases end.
//! Time passes only from one moment that the job asked for to the next, so every path is finite.

use std::{
    collections::hash_map::DefaultHasher,
    fmt::Write,
    hash::{Hash, Hasher},
    time::Duration,
};

use msm_protocol::{ContentHash, Refusal, RefusalCode, job::AttemptRef};
use msm_scheduler::{Input, JobConfig, JobState, OnLoss, Output, OutputId, Redundancy, Trust, Worker};
use stateright::{Checker, Model, Property};

use crate::peer;

/// No job of a few tasks takes longer: every wait of it ends with a lease, a pause or a second attempt.
const LONGEST: Duration = Duration::from_secs(300);

/// What may happen to a job, and how often.
#[derive(Debug, Clone)]
struct Small {
    name: &'static str,
    tasks: u32,
    redundancy: Redundancy,
    on_loss: OnLoss,
    /// Places of this device; `None` when it takes no part.
    local: Option<u32>,
    remotes: u16,
    places: u32,
    /// The remote worker that tells lies.
    liar: Option<u16>,
    budget: Budget,
    /// All but the liar are there from the beginning and answer in time.
    steady: bool,
    /// The scheduler is broken: it takes a late answer for a new one.
    broken: bool,
}

/// How often something may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Budget {
    losses: u8,
    failures: u8,
    /// Answers to attempts that were cancelled or lost, and repeated ones.
    late: u8,
    lies: u8,
    /// Moments that pass while the one that stays works.
    patience: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Join(Worker),
    Lose(Worker),
    Answer(Worker, AttemptRef),
    Lie(Worker, AttemptRef),
    Fail(Worker, AttemptRef),
    Late(Worker, AttemptRef),
    /// Nothing happens until the moment that the job asked for.
    Pass,
}

/// The job and what the world knows of it.
#[derive(Debug, Clone)]
struct State {
    job: JobState,
    now: Duration,
    connected: Vec<Worker>,
    /// Workers that were ever there.
    joined: usize,
    running: Vec<(Worker, AttemptRef)>,
    /// Attempts that somebody may still answer though they do not count any more.
    over: Vec<(Worker, AttemptRef)>,
    kept: Vec<(Worker, AttemptRef)>,
    accepted: Vec<Option<(Worker, OutputId)>>,
    struck: Vec<Worker>,
    budget: Budget,
    waited: u8,
    end: Option<Output>,
    seen: Seen,
    /// Of everything above.
    print: u64,
}

/// What happened on the way, for the properties.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Seen {
    twice: bool,
    foreign: bool,
    crowded: bool,
    slandered: bool,
    forgiven: bool,
    expired: bool,
    dropped: bool,
    hedged: bool,
    withdrawn: bool,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.print);
    }
}

fn right(task: u32) -> OutputId {
    OutputId { hash: ContentHash::from_bytes([task as u8; 32]), size: 1 }
}

fn wrong(task: u32) -> OutputId {
    OutputId { size: 2, ..right(task) }
}

impl Small {
    /// The one that stays alive and answers in time.
    fn rock(&self) -> Worker {
        if self.local.is_some() { Worker::Local } else { Worker::Remote(peer(0)) }
    }

    /// Speaks every second and answers in time.
    fn is_sound(&self, worker: Worker) -> bool {
        worker == self.rock() || (self.steady && self.liar.map(|n| Worker::Remote(peer(n))) != Some(worker))
    }

    fn workers(&self) -> Vec<Worker> {
        let local = self.local.map(|_| Worker::Local);
        local.into_iter().chain((0..self.remotes).map(|n| Worker::Remote(peer(n)))).collect()
    }

    fn credit(&self, worker: Worker) -> u32 {
        if worker == Worker::Local { self.local.unwrap_or(0) } else { self.places }
    }

    fn tell(&self, state: &mut State, input: Input) {
        state.job.handle(input.clone(), state.now);
        while let Some(output) = state.job.poll_output() {
            self.see(state, &input, output);
        }
        let crowded = state
            .connected
            .iter()
            .any(|worker| state.running.iter().filter(|(by, _)| by == worker).count() as u32 > self.credit(*worker));
        state.seen.crowded |= crowded;
        let kept_by_liar =
            state.accepted.iter().flatten().any(|(by, output)| state.struck.contains(by) && output.size != 1);
        state.seen.forgiven |= kept_by_liar;
    }

    fn see(&self, state: &mut State, input: &Input, output: Output) {
        match output {
            Output::Start { worker, attempt, why } => {
                state.seen.crowded |= !state.connected.contains(&worker);
                state.seen.forgiven |= state.struck.contains(&worker);
                state.seen.hedged |= matches!(why, msm_scheduler::Why::Straggler { .. });
                state.running.push((worker, attempt));
            }
            Output::Cancel { worker, attempt } => {
                state.running.retain(|running| *running != (worker, attempt));
                state.over.push((worker, attempt));
            }
            Output::Accepted { attempt, worker, output } => {
                let held = state.running.contains(&(worker, attempt)) || state.kept.contains(&(worker, attempt));
                let said = state.kept.contains(&(worker, attempt))
                    || matches!(input, Input::Result { worker: by, attempt: of, .. } if *by == worker && *of == attempt);
                state.seen.foreign |= !held || !said;
                state.running.retain(|running| *running != (worker, attempt));
                state.kept.retain(|kept| *kept != (worker, attempt));
                state.over.push((worker, attempt));
                let place = &mut state.accepted[attempt.task as usize];
                state.seen.twice |= place.is_some();
                *place = Some((worker, output));
            }
            Output::Kept { attempt, worker } => {
                state.running.retain(|running| *running != (worker, attempt));
                state.kept.push((worker, attempt));
            }
            Output::Dropped { attempt, worker, .. } => {
                state.seen.dropped = true;
                state.running.retain(|running| *running != (worker, attempt));
                state.kept.retain(|kept| *kept != (worker, attempt));
            }
            Output::Withdrawn { task, .. } => {
                state.seen.withdrawn = true;
                state.accepted[task as usize] = None;
            }
            Output::Struck { worker, .. } => {
                state.seen.slandered |= self.liar.map(|n| Worker::Remote(peer(n))) != Some(worker);
                state.struck.push(worker);
            }
            Output::Lost { worker, reason, .. } => {
                state.seen.expired |= reason.starts_with("silent");
                let (gone, stay) = state.running.iter().partition(|(by, _)| *by == worker);
                state.running = stay;
                let gone: Vec<_> = gone;
                state.over.extend(gone);
            }
            Output::Checked { .. } => {}
            end @ (Output::Done | Output::Failed { .. } | Output::Partial { .. }) => state.end = Some(end),
        }
    }

    /// Names a state by all that matters of it. What the job holds is read from its `Debug`, which shows everything.
    fn seal(&self, mut state: State) -> State {
        state.over.sort_unstable_by_key(|(worker, attempt)| (*worker, attempt.task, attempt.attempt));
        let mut all = format!("{:?}", state.job);
        let mut hasher = DefaultHasher::new();
        (state.now, state.waited, &state.connected, state.joined, &state.struck).hash(&mut hasher);
        (&state.running, &state.over, &state.kept, state.budget, state.seen).hash(&mut hasher);
        let accepted = state.accepted.iter().map(|done| done.map(|(worker, output)| (worker, output.size)));
        accepted.collect::<Vec<_>>().hash(&mut hasher);
        state.end.as_ref().map(std::mem::discriminant).hash(&mut hasher);
        let _ = write!(all, "{}", hasher.finish());
        let print = ContentHash::of(all.as_bytes());
        state.print = print.as_bytes()[..8].iter().fold(0, |print, byte| print << 8 | u64::from(*byte));
        state
    }

    fn ready(&self, state: &mut State, worker: Worker) {
        state.connected.push(worker);
        let number = self.workers().iter().position(|known| *known == worker).unwrap_or(0);
        state.joined = state.joined.max(number + 1);
        state.connected.sort_unstable();
        let credit = self.credit(worker);
        self.tell(state, Input::WorkerReady { worker, credit, trust: Trust::default() });
    }
}

impl Model for Small {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let config =
            JobConfig { tasks: self.tasks, redundancy: self.redundancy, on_loss: self.on_loss, ..JobConfig::default() };
        let mut state = State {
            job: JobState::new(config, Duration::ZERO),
            now: Duration::ZERO,
            connected: vec![],
            joined: 0,
            running: vec![],
            over: vec![],
            kept: vec![],
            accepted: vec![None; self.tasks as usize],
            struck: vec![],
            budget: self.budget,
            waited: 0,
            end: None,
            seen: Seen::default(),
            print: 0,
        };
        self.ready(&mut state, self.rock());
        vec![self.seal(state)]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.end.is_some() {
            return;
        }
        let rock = self.rock();
        let (liar, budget) = (self.liar.map(|n| Worker::Remote(peer(n))), &state.budget);
        for (number, worker) in self.workers().into_iter().enumerate() {
            if !state.connected.contains(&worker) {
                // They come in the order of their numbers, which are all that tells them apart, and return in any.
                if number <= state.joined {
                    steps.push(Step::Join(worker));
                }
            } else if worker != rock && budget.losses > 0 {
                steps.push(Step::Lose(worker));
            }
        }
        for (worker, attempt) in state.running.iter().copied() {
            if Some(worker) != liar {
                steps.push(Step::Answer(worker, attempt));
            } else {
                steps.push(if budget.lies > 0 { Step::Lie(worker, attempt) } else { Step::Answer(worker, attempt) });
            }
            if worker != rock && budget.failures > 0 {
                steps.push(Step::Fail(worker, attempt));
            }
        }
        if budget.late > 0 {
            let there = state.over.iter().filter(|(worker, _)| state.connected.contains(worker));
            steps.extend(there.map(|(worker, attempt)| Step::Late(*worker, *attempt)));
        }
        let sound_works = state.running.iter().any(|(worker, _)| self.is_sound(*worker));
        let early = self.steady && state.joined < self.workers().len();
        let patient = !early && (!sound_works || state.waited < budget.patience);
        if state.job.next_timeout().is_some() && patient {
            steps.push(Step::Pass);
        }
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        let result = |worker, attempt: AttemptRef, output| Input::Result { worker, attempt, output };
        match step {
            Step::Join(worker) => self.ready(&mut state, worker),
            Step::Lose(worker) => {
                state.budget.losses -= 1;
                state.connected.retain(|connected| *connected != worker);
                self.tell(&mut state, Input::WorkerLost { worker, reason: "closed".into() });
            }
            Step::Answer(worker, attempt) => {
                state.waited = 0;
                self.tell(&mut state, result(worker, attempt, right(attempt.task)));
            }
            Step::Lie(worker, attempt) => {
                state.budget.lies -= 1;
                self.tell(&mut state, result(worker, attempt, wrong(attempt.task)));
            }
            Step::Fail(worker, attempt) => {
                state.budget.failures -= 1;
                state.running.retain(|running| *running != (worker, attempt));
                state.over.push((worker, attempt));
                let refusal = Refusal::new(RefusalCode::TaskCrashed, "signal 11");
                self.tell(&mut state, Input::Failed { worker, attempt, refusal });
            }
            Step::Late(worker, attempt) => {
                state.budget.late -= 1;
                let newest = state.running.iter().find(|(_, running)| running.task == attempt.task);
                let (by, of) = newest.filter(|_| self.broken).copied().unwrap_or((worker, attempt));
                let input = result(by, of, right(attempt.task));
                state.job.handle(input, state.now);
                let said = result(worker, attempt, right(attempt.task));
                while let Some(output) = state.job.poll_output() {
                    self.see(&mut state, &said, output);
                }
            }
            Step::Pass => {
                state.now = state.job.next_timeout()?;
                state.waited += u8::from(!state.running.is_empty());
                for worker in state.connected.clone().into_iter().filter(|worker| self.is_sound(*worker)) {
                    let theirs = state.running.iter().filter(|(by, _)| *by == worker);
                    let attempts = theirs.map(|(_, attempt)| *attempt).collect();
                    self.tell(&mut state, Input::Heartbeat { worker, attempts });
                }
                self.tell(&mut state, Input::Tick);
            }
        }
        Some(self.seal(state))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no part is counted twice", |_, state: &State| !state.seen.twice),
            Property::always("a part is done by the receipt of who holds it", |_, state: &State| !state.seen.foreign),
            Property::always("no more leases than places", |_, state: &State| !state.seen.crowded),
            Property::always("only a liar is struck, and nothing of its lies stays", |_, state: &State| {
                !state.seen.slandered && !state.seen.forgiven
            }),
            Property::always("done is done, with what is right", |model: &Self, state: &State| {
                let right = |output: &OutputId| output.size == 1 || model.redundancy == Redundancy::None;
                let all = state.accepted.iter().all(|done| done.as_ref().is_some_and(|(_, output)| right(output)));
                state.end != Some(Output::Done) || all
            }),
            Property::always("it does not fail while one stays", |_, state: &State| {
                !matches!(state.end, Some(Output::Failed { .. } | Output::Partial { .. }))
            }),
            Property::always("time is bounded", |_, state: &State| state.now <= LONGEST),
            Property::always("there is a next step until the end", |model: &Self, state: &State| {
                let mut steps = vec![];
                model.actions(state, &mut steps);
                state.end.is_some() || !steps.is_empty()
            }),
            Property::eventually("it is done", |_, state: &State| state.end == Some(Output::Done)),
            // A model in which nothing of this happens would say nothing about it.
            Property::sometimes("a lease ends, a vote or a late answer is dropped", |model: &Self, state: &State| {
                state.seen.dropped && (state.seen.expired || model.steady)
            }),
            Property::sometimes("a second attempt is made", |_, state: &State| state.seen.hedged),
            Property::sometimes("a lie is found out", |model: &Self, state: &State| {
                model.liar.is_none() || !state.struck.is_empty()
            }),
        ]
    }
}

const BUDGET: Budget = Budget { losses: 1, failures: 1, late: 1, lies: 0, patience: 1 };

fn small(name: &'static str) -> Small {
    Small {
        name,
        tasks: 2,
        redundancy: Redundancy::None,
        on_loss: OnLoss::Remote,
        local: Some(1),
        remotes: 2,
        places: 1,
        liar: None,
        budget: BUDGET,
        steady: false,
        broken: false,
    }
}

/// Visits all states; returns the properties that do not hold, each with a way to break it.
fn broken(model: Small) -> Vec<(&'static str, Vec<Step>)> {
    let name = model.name;
    let checker = model.checker().spawn_bfs().join();
    let (all, different, depth) = (checker.state_count(), checker.unique_state_count(), checker.max_depth());
    eprintln!("{name}: {different} states, {all} steps between them, {depth} deep");
    let discoveries = checker.discoveries();
    let properties = checker.model().properties();
    let broken = properties.iter().filter(|property| {
        // Of what should happen sometimes, an example must be found.
        property.expectation.discovery_is_failure() == discoveries.contains_key(property.name)
    });
    let path = |name| discoveries.get(name).map_or_else(Vec::new, |path| path.clone().into_actions());
    broken.map(|property| (property.name, path(property.name))).collect()
}

fn holds(model: Small) {
    let name = model.name;
    let broken = broken(model);
    assert!(broken.is_empty(), "{name}: {broken:?}");
}

#[test]
fn this_device_and_two_others() {
    holds(small("this device and two"));
}

#[test]
fn one_that_stays_and_two_others_without_this_device() {
    holds(Small { local: None, remotes: 3, ..small("three without this device") });
}

#[test]
fn this_device_and_three_others() {
    let budget = Budget { failures: 0, ..BUDGET };
    holds(Small { remotes: 3, budget, ..small("this device and three") });
}

#[test]
fn three_parts() {
    let budget = Budget { losses: 0, failures: 0, ..BUDGET };
    holds(Small { tasks: 3, places: 2, budget, ..small("three parts") });
}

/// The first results of unknown workers are checked: one that lies is found out whatever else happens.
#[test]
fn a_liar_among_two_and_this_device_that_checks() {
    let budget = Budget { failures: 0, late: 0, lies: 1, ..BUDGET };
    holds(Small { redundancy: Redundancy::Spot, liar: Some(1), budget, ..small("spot checks") });
}

/// Two of three have to agree, and this device does not help.
#[test]
fn a_liar_among_three_that_vote() {
    let redundancy = Redundancy::Agree { agree: 2, of: 3 };
    let budget = Budget { losses: 0, failures: 0, late: 0, lies: 1, patience: 1 };
    holds(Small {
        local: None,
        remotes: 3,
        tasks: 1,
        redundancy,
        liar: Some(2),
        steady: true,
        budget,
        ..small("votes")
    });
}

/// The model check is worth something: a scheduler that takes late answers for new ones is found out.
#[test]
fn a_late_answer_that_counts_is_found() {
    let found = broken(Small { broken: true, ..small("broken") });
    assert!(found.iter().any(|(name, _)| name.contains("receipt")), "{found:?}");
}
