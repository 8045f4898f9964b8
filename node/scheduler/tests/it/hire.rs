//! Hiring while a job runs, on the real `JobState` in virtual time: never worse than local, and everybody where it pays.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use msm_protocol::{
    ContentHash, PeerId,
    device::{DeviceExt, DeviceInfo, Network, Requirements},
    job::AttemptRef,
};
use msm_scheduler::{
    Candidate, DeviceWish, Hiring, Input, JobConfig, JobShape, JobState, Known, Output, OutputId, Redundancy,
    Selection, Trust, Why, Worker,
    hire::Shown,
    makespan::{Load, Server, makespan},
    select,
};

use crate::{peer, rng::Rng};

const MS: Duration = Duration::from_millis(1);

/// A device as it is, whatever it says.
#[derive(Debug, Clone, Copy)]
struct Truth {
    /// What all its slots do, where 1 is one slot of the requester's device.
    power: f64,
    slots: u32,
    startup: Duration,
    rtt: Duration,
    /// The EQS that it claims, where the requester's is 100.
    claims: f64,
}

impl Truth {
    /// Of two cores like the requester's, on the same LAN.
    fn like_us() -> Self {
        Self { power: 2.0, slots: 2, startup: 30 * MS, rtt: MS, claims: 100.0 }
    }
}

/// What happens next in the virtual world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Look,
    Beat,
    Ready(u16),
    Ends(Option<u16>, u32, u32),
    Arrives(u16, u32, u32),
}

struct World<'a> {
    work: f64,
    truths: &'a [Truth],
    shares: Vec<f64>,
    job: JobState,
    hiring: Hiring,
    queue: BinaryHeap<Reverse<(Duration, Next)>>,
    /// When each slot of each device is free.
    slots: Vec<Vec<Duration>>,
    now: Duration,
    over: bool,
}

/// What a run gave.
struct Run {
    wall: Duration,
    hired: usize,
    shown: Shown,
    parts: Vec<(Worker, u32)>,
}

fn device(eqs: f64, slots: u16) -> DeviceInfo {
    let ext = DeviceExt {
        cpu: 1.0,
        mem: 1.0,
        name: String::new(),
        cores: slots,
        slots,
        speed: 1.0,
        battery: 1.0,
        engines: vec![],
        markets: vec![],
    };
    DeviceInfo { v: 1, eqs, ext, gps: false, network: Network::High, availability: true }
}

fn selection(truths: &[Truth], wish: DeviceWish, shape: JobShape) -> Selection {
    let candidate = |(n, truth): (u16, &Truth)| Candidate {
        peer: peer(n),
        info: device(truth.claims, truth.slots as u16),
        rtt: Some(truth.rtt),
        struck: false,
    };
    let candidates: Vec<_> = (1..).zip(truths).map(candidate).collect();
    let need = Requirements { eqs: 0.0, gps: false, battery: 0, network: None };
    select(&device(100.0, 2), &candidates, &need, wish, shape)
}

/// Runs a job of `work` (seconds on one slot) in tasks of these sizes.
fn run(work: f64, sizes: &[u64], truths: &[Truth], wish: DeviceWish, shape: &JobShape) -> Run {
    let shape = JobShape { tasks: sizes.len() as u32, cut: true, bytes: sizes.iter().sum(), slots: 2, ..shape.clone() };
    let config = JobConfig {
        tasks: sizes.len() as u32,
        weights: sizes.iter().map(|size| size + 1).collect(),
        redundancy: shape.redundancy,
        ..JobConfig::default()
    };
    let selection = selection(truths, wish, shape);
    let all: f64 = sizes.iter().map(|size| *size as f64 + 1.0).sum();
    let mut world = World {
        work,
        truths,
        shares: sizes.iter().map(|size| (*size as f64 + 1.0) / all).collect(),
        job: JobState::new(config, Duration::ZERO),
        hiring: Hiring::new(&selection, wish, sizes.to_vec()),
        queue: BinaryHeap::new(),
        slots: truths.iter().map(|truth| vec![Duration::ZERO; truth.slots as usize]).collect(),
        now: Duration::ZERO,
        over: false,
    };
    world.handle(Input::WorkerReady { worker: Worker::Local, credit: 2, trust: Trust::default() });
    world.look();
    world.at(1_000 * MS, Next::Beat);
    while !world.over {
        let Some(Reverse((at, next))) = world.queue.pop() else {
            panic!("nothing happens any more at {:?}", world.now)
        };
        assert!(at < Duration::from_secs(3_600), "the job does not end");
        world.now = at;
        world.step(next);
        world.look();
    }
    let parts = world.job.progress().workers.iter().map(|worker| (worker.worker, worker.done)).collect();
    Run { wall: world.now, hired: world.hiring.hired().count(), shown: world.hiring.shown(world.now), parts }
}

impl World<'_> {
    fn at(&mut self, at: Duration, next: Next) {
        self.queue.push(Reverse((at, next)));
    }

    fn index(id: PeerId) -> u16 {
        (1..100).find(|n| peer(*n) == id).unwrap()
    }

    fn handle(&mut self, input: Input) {
        self.hiring.heard(&input, self.now);
        self.job.handle(input, self.now);
        while let Some(output) = self.job.poll_output() {
            self.hiring.told(&output, self.now);
            match output {
                Output::Start { worker, attempt, .. } => self.start(worker, attempt),
                Output::Done => self.over = true,
                Output::Failed { refusal } => panic!("{refusal}"),
                _ => {}
            }
        }
    }

    fn look(&mut self) {
        for hired in self.hiring.whom(self.now) {
            let n = Self::index(hired);
            let truth = self.truths[usize::from(n) - 1];
            self.at(self.now + truth.startup, Next::Ready(n));
        }
        let next = [self.hiring.next_look(), self.job.next_timeout()].into_iter().flatten().min();
        if let Some(next) = next {
            self.at(next.max(self.now), Next::Look);
        }
    }

    fn start(&mut self, worker: Worker, attempt: AttemptRef) {
        let AttemptRef { task, attempt } = attempt;
        let work = self.work * self.shares[task as usize];
        match worker {
            // The job never gives this device more than its slots.
            Worker::Local => self.at(self.now + Duration::from_secs_f64(work), Next::Ends(None, task, attempt)),
            Worker::Remote(id) => {
                let n = Self::index(id);
                let truth = self.truths[usize::from(n) - 1];
                let slots = &mut self.slots[usize::from(n) - 1];
                let free = slots.iter_mut().min().unwrap();
                let takes = Duration::from_secs_f64(work * f64::from(truth.slots) / truth.power);
                *free = (*free).max(self.now + truth.rtt / 2) + takes;
                let ends = *free;
                self.at(ends + truth.rtt / 2, Next::Arrives(n, task, attempt));
            }
        }
    }

    fn step(&mut self, next: Next) {
        let result = |worker, task, attempt| Input::Result {
            worker,
            attempt: AttemptRef { task, attempt },
            output: OutputId { hash: ContentHash::of(&task.to_le_bytes()), size: 4 },
        };
        match next {
            Next::Look => self.handle(Input::Tick),
            // Whoever works says so.
            Next::Beat => {
                let tasks = 0..self.shares.len() as u32;
                let attempts = tasks.flat_map(|task| (0..8).map(move |attempt| AttemptRef { task, attempt }));
                let attempts: Vec<_> = attempts.collect();
                for (n, _) in (1..).zip(self.truths) {
                    self.handle(Input::Heartbeat { worker: Worker::Remote(peer(n)), attempts: attempts.clone() });
                }
                self.at(self.now + 1_000 * MS, Next::Beat);
            }
            Next::Ready(n) => {
                let worker = Worker::Remote(peer(n));
                let Truth { rtt, slots, .. } = self.truths[usize::from(n) - 1];
                self.handle(Input::WorkerReady { worker, credit: 64, trust: Trust::default() });
                self.handle(Input::Link { worker, rtt, slots });
            }
            Next::Ends(_, task, attempt) => self.handle(result(Worker::Local, task, attempt)),
            Next::Arrives(n, task, attempt) => self.handle(result(Worker::Remote(peer(n)), task, attempt)),
        }
    }
}

/// Equal tasks without bytes.
fn even(tasks: usize) -> Vec<u64> {
    vec![0; tasks]
}

/// Tasks whose sizes fall as those of built-in splits do: from 16/9 of the mean to 2/9.
fn falling(tasks: usize) -> Vec<u64> {
    let place = |index: usize| (index as f64 + 0.5) / tasks as f64;
    (0..tasks).map(|index| (1e6 * (16.0 - 14.0 * place(index)) / 9.0) as u64).collect()
}

fn known(work: f64) -> JobShape {
    JobShape { work: Some(Duration::from_secs_f64(work)), ..JobShape::default() }
}

/// The same job with nobody else.
fn alone(work: f64, sizes: &[u64]) -> Duration {
    run(work, sizes, &[], DeviceWish::auto(), &known(work)).wall
}

/// Twenty lengths of jobs on one device, from 1 ms to 20 s.
fn lengths() -> impl Iterator<Item = f64> {
    (0..20).map(|n| 2.0 * 1e-3 * 20_000_f64.powf(f64::from(n) / 19.0))
}

#[test]
fn never_worse_than_local_and_everybody_where_it_pays() {
    let good = Truth::like_us();
    let scenes: [(&str, Vec<Truth>); 5] = [
        ("like this one", vec![good; 3]),
        ("far away", vec![Truth { rtt: 100 * MS, startup: 400 * MS, ..good }; 3]),
        ("slow to start", vec![Truth { startup: 1_500 * MS, ..good }; 3]),
        ("liars, 50 times slower than they say", vec![Truth { claims: 300.0, power: 0.12, ..good }; 3]),
        ("mixed", vec![good, Truth { power: 1.0, slots: 1, ..good }, Truth { startup: 300 * MS, ..good }]),
    ];
    for (scene, truths) in &scenes {
        for work in lengths() {
            let checked = |shape| JobShape { redundancy: Redundancy::Spot, ..shape };
            let shapes = [
                ("new", JobShape::default(), 32),
                ("known", known(work), 16),
                ("new, checked", checked(JobShape::default()), 32),
                ("known, checked", checked(known(work)), 16),
            ];
            for (what, shape, tasks) in shapes {
                let sizes = even(tasks);
                let (run, alone) = (run(work, &sizes, truths, DeviceWish::auto(), &shape), alone(work, &sizes));
                // What a liar was given on its word is done again, which begins no sooner than `HEDGE_MIN`.
                let lies = if scene.starts_with("liars") { msm_scheduler::job::HEDGE_MIN } else { Duration::ZERO };
                // Who is new may be promised more than its checks leave: a part of the job's end at most.
                let grain = if what == "known, checked" { work / tasks as f64 } else { 0.0 };
                let bound = alone.mul_f64(1.05) + 5 * MS + lies + Duration::from_secs_f64(grain);
                assert!(
                    run.wall <= bound,
                    "{scene}, {what}, {work} s of work: {:?} against {alone:?} alone, {:?}",
                    run.wall,
                    (run.hired, &run.parts)
                );
                let ideal = work / (2.0 + truths.iter().map(|truth| truth.power).sum::<f64>());
                // Who is new has its first results computed again, and is not always worth that.
                if work > 30.0 && !scene.starts_with("liars") && !what.ends_with("checked") {
                    assert_eq!(run.hired, truths.len(), "{scene}, {what}");
                    // The grain of the tasks is all that is lost, and the start-up.
                    let most = ideal + truths[0].startup.as_secs_f64() + 2.0 * work / tasks as f64;
                    assert!(run.wall.as_secs_f64() <= most, "{scene}, {what}: {:?} > {most}", run.wall);
                }
            }
        }
    }
}

#[test]
fn a_short_job_stays_and_hires_nobody() {
    let truths = [Truth::like_us(); 3];
    for shape in [JobShape::default(), known(0.01)] {
        let run = run(0.01, &even(16), &truths, DeviceWish::auto(), &shape);
        assert_eq!((run.hired, run.wall), (0, 5 * MS));
    }
    // Who asks for three devices gets them.
    assert_eq!(run(0.01, &even(16), &truths, DeviceWish::exactly(3), &known(0.01)).hired, 2);
}

/// A job of which nothing is known, and whose first part takes long: nobody waits for its end to hire others.
#[test]
fn a_long_first_part_is_noticed_while_it_runs() {
    let truths = [Truth::like_us(); 3];
    let run = run(80.0, &even(8), &truths, DeviceWish::auto(), &JobShape::default());
    // Two parts of 10 s here at once, and the other six within 200 ms.
    assert!(run.wall < 10_200 * MS && run.hired == 3, "{:?} {:?}", run.wall, run.parts);
}

/// B72: who claims an EQS of 300 and is 50 times slower gets the two parts of its first credit and no third before one
/// of them has shown what it is; then others are hired, and the next job knows.
#[test]
fn b72_an_inflated_score_gets_two_parts_before_measured_speed_rules() {
    let liar = Truth { claims: 300.0, power: 0.12, ..Truth::like_us() };
    let truths = [liar, Truth::like_us(), Truth::like_us()];
    let job = |shape: &JobShape| run(40.0, &even(40), &truths, DeviceWish::auto(), shape);
    let done =
        |run: &Run, n| run.parts.iter().find(|(worker, _)| *worker == Worker::Remote(peer(n))).map_or(0, |w| w.1);
    let first = job(&known(40.0));
    assert!(done(&first, 1) <= 2, "{:?}", first.parts);
    assert!(done(&first, 2) > 4 && done(&first, 3) > 4, "it kept nobody out: {:?}", first.parts);
    // Its speed is known from its parts, or from those that it did not bring back.
    let (_, parts) = first.shown.peers.iter().find(|(id, _)| *id == peer(1)).unwrap();
    let power = parts.power.unwrap();
    assert!(power < 1.0, "{parts:?}");
    let taught =
        JobShape { known: [(peer(1), Known { power: Some(power), ..Known::default() })].into(), ..known(40.0) };
    let order: Vec<_> = selection(&truths, DeviceWish::auto(), taught).servers.iter().map(|(id, _)| *id).collect();
    assert_eq!(order, [None, Some(peer(2)), Some(peer(3)), Some(peer(1))].map(|id| id));
}

/// What a job shows of others is what they are.
#[test]
fn the_speed_that_is_learned_is_the_speed_that_is() {
    let mut rng = Rng(72);
    for _ in 0..40 {
        let truths: Vec<Truth> = (0..3)
            .map(|_| Truth {
                power: rng.range(50..400) as f64 / 100.0,
                slots: rng.range(1..3) as u32,
                startup: rng.range(1..300) as u32 * MS,
                rtt: rng.range(1..50) as u32 * MS,
                claims: 100.0,
            })
            .collect();
        let run = run(60.0, &even(64), &truths, DeviceWish::exactly(4), &JobShape::default());
        let own = run.shown.own.unwrap();
        assert!((own.seconds / (60.0 / 64.0) - 1.0).abs() < 0.01, "{own:?}");
        for (id, parts) in &run.shown.peers {
            let truth = truths[usize::from(World::index(*id)) - 1];
            let ratio = parts.power.unwrap() / truth.power;
            // Of few parts one that somebody else did in the end counts as time and not as work.
            let least = if parts.parts > 8 { 0.85 } else { 0.6 };
            assert!((least..1.2).contains(&ratio), "{ratio} {parts:?} of {truth:?}");
            // Within a part: what is not start-up there is taken for speed.
            let part = 60.0 / 64.0 * f64::from(truth.slots) / truth.power;
            let startup = parts.startup.unwrap().as_secs_f64() - truth.startup.as_secs_f64();
            assert!(startup.abs() < 0.3 * part + 0.05, "{parts:?} of {truth:?}");
        }
    }
}

/// How much longer than with all devices busy until the end a job takes on uneven devices: with sizes that fall it is
/// clearly less, and when results of newcomers are computed again much less. Not so for few tasks, which stay equal.
#[test]
fn sizes_that_fall_leave_less_to_wait_for_in_the_end() {
    const CASES: u32 = 150;
    for redundancy in [Redundancy::None, Redundancy::Spot] {
        for rounds in [8, 12] {
            let mut rng = Rng(9);
            let (mut lost, mut worst) = ([0.0; 2], [0.0_f64; 2]);
            for _ in 0..CASES {
                let truths: Vec<Truth> = (0..rng.range(1..5))
                    .map(|_| Truth {
                        power: 2.0 * 3_f64.powf(rng.range(0..100) as f64 / 100.0 - 0.5),
                        startup: MS,
                        ..Truth::like_us()
                    })
                    .collect();
                let work = rng.range(4..60) as f64;
                let ideal = work / (2.0 + truths.iter().map(|truth| truth.power).sum::<f64>());
                let devices = truths.len() + 1;
                let tasks = 2 * devices * rounds;
                let shape = JobShape { redundancy, ..known(work) };
                for (at, sizes) in [even(tasks), falling(tasks)].iter().enumerate() {
                    let run = run(work, sizes, &truths, DeviceWish::exactly(devices as u32), &shape);
                    let over = run.wall.as_secs_f64() / ideal - 1.0;
                    lost[at] += over / f64::from(CASES);
                    worst[at] = worst[at].max(over);
                }
            }
            let [even, falling] = lost;
            let percent = |it: [f64; 2]| it.map(|it| format!("{:.1} %", it * 100.0));
            eprintln!(
                "{redundancy:?}, {rounds} rounds, over the ideal, even and falling: {:?}, at most {:?}",
                percent(lost),
                percent(worst)
            );
            assert!(falling < 0.7 * even, "{redundancy:?}, {rounds} rounds: {falling} against {even}");
        }
    }
}

/// Others that appear while the job runs join in.
#[test]
fn newcomers_join() {
    let truths = [Truth::like_us(); 2];
    let shape = JobShape { tasks: 16, cut: true, slots: 2, ..known(20.0) };
    let wish = DeviceWish::auto();
    let mut hiring = Hiring::new(&selection(&[], wish, shape.clone()), wish, even(16));
    assert_eq!((hiring.whom(Duration::ZERO), hiring.next_look()), (vec![], None));
    for task in 0..2 {
        let attempt = AttemptRef { task, attempt: 0 };
        hiring.told(&Output::Start { worker: Worker::Local, attempt, why: Why::Fresh }, Duration::ZERO);
    }
    assert_eq!(hiring.next_look(), None);
    hiring.renew(&selection(&truths, wish, shape.clone()));
    let at = hiring.next_look().unwrap();
    assert_eq!(hiring.whom(at), [peer(1), peer(2)]);
    // The same news again hires nobody twice.
    hiring.renew(&selection(&truths, wish, shape));
    assert_eq!((hiring.next_look(), hiring.spare(at)), (None, None));
}

/// Where this device may not work there are no parts of its own to measure others by: whoever pays when the choice is
/// made among all that have answered is hired, and the place of one that is lost is taken.
#[test]
fn those_that_answer_later_join_a_job_for_others_only() {
    let truths = [Truth::like_us(); 4];
    let not_here = Some("only other devices were asked for".into());
    let shape = JobShape { tasks: 64, cut: true, slots: 2, not_here, ..known(80.0) };
    let wish = DeviceWish::auto();
    let mut hiring = Hiring::new(&selection(&truths[..1], wish, shape.clone()), wish, even(64));
    assert_eq!((hiring.whom(Duration::ZERO), hiring.lacks()), (vec![peer(1)], false));
    hiring.renew(&selection(&truths[..3], wish, shape.clone()));
    let at = hiring.next_look().unwrap();
    assert_eq!(hiring.whom(at), [peer(2), peer(3)]);
    (1..4).for_each(|n| hiring.refused(&peer(n)));
    assert!(hiring.lacks());
    hiring.renew(&selection(&truths, wish, shape));
    let at = hiring.next_look().unwrap();
    assert_eq!((hiring.whom(at), hiring.lacks()), (vec![peer(4)], false));
}

/// The chosen devices against the best of all subsets and all ways to share the tasks among them, found by trying:
/// the regret of taking the first `k` in the order of scores.
#[test]
fn the_regret_of_the_chosen_number_is_small() {
    const CASES: u32 = 300;
    let mut rng = Rng(5);
    let (mut sum, mut most) = (0.0, 0.0_f64);
    for case in 0..CASES {
        let tasks = rng.range(1..25);
        let work = 0.01 * 2_000_f64.powf(rng.range(0..1_000) as f64 / 1e3);
        let truths: Vec<Truth> = (0..rng.range(1..5))
            .map(|_| Truth {
                claims: rng.range(80..300) as f64,
                slots: rng.range(1..3) as u32,
                rtt: rng.ms(1..80),
                ..Truth::like_us()
            })
            .collect();
        let mut known = std::collections::BTreeMap::new();
        for n in 1..=truths.len() as u16 {
            let mut some = |value: f64| rng.chance(50).then_some(value);
            let power = some(0.2).map(|_| rng.range(20..500) as f64 / 100.0);
            let startup = rng.chance(50).then(|| rng.ms(1..1_000));
            let up = Some(rng.range(1..100) as f64 * 1e5);
            known.insert(peer(n), Known { power, startup, up, ..Known::default() });
        }
        let bytes = rng.range(0..4_000_000);
        let shape = JobShape {
            tasks: tasks as u32,
            cut: true,
            bytes,
            output: bytes,
            known,
            slots: 2,
            work: Some(Duration::from_secs_f64(work)),
            ..JobShape::default()
        };
        let chosen = selection(&truths, DeviceWish::auto(), shape);
        // How long each takes for 0, 1, 2, … of the tasks.
        let times = |server: &Server| -> Vec<f64> {
            let part = |n: u64| {
                let share = n as f64 / tasks as f64;
                let Load { bytes, output, work, .. } = chosen.load;
                let (bytes, output, work) = (bytes * share, output * share, work * share);
                if n == 0 {
                    0.0
                } else {
                    makespan(&[*server], &Load { tasks: n as u32, bytes, output, work, ..chosen.load })
                }
            };
            (0..=tasks).map(part).collect()
        };
        let mut times: Vec<_> = chosen.servers.iter().map(|(_, server)| times(server)).collect();
        // This device always works.
        times[0][0] = f64::INFINITY;
        let best = best(&times, tasks as usize);
        let regret = chosen.time().unwrap().as_secs_f64() / best - 1.0;
        assert!(regret > -1e-6, "case {case}: better than the best of all: {regret}");
        sum += regret;
        most = most.max(regret);
    }
    let mean = sum / f64::from(CASES);
    eprintln!("regret over {CASES} settings: mean {:.1} %, most {:.1} %", mean * 100.0, most * 100.0);
    assert!(mean <= 0.02 && most <= 0.40, "mean {mean}, most {most}");
}

/// The shortest time for `tasks` over all ways to share them out.
fn best(times: &[Vec<f64>], tasks: usize) -> f64 {
    match times {
        [] if tasks == 0 => 0.0,
        [] => f64::INFINITY,
        [first, others @ ..] => {
            (0..=tasks).map(|n| f64::max(first[n], best(others, tasks - n))).fold(f64::INFINITY, f64::min)
        }
    }
}
