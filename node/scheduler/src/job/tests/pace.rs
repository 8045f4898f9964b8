//! Devices of known speed, each behind its link: who waits for what, who gets the last tasks, what a straggler costs.

use std::collections::BTreeMap;

use super::*;

/// A device that works on one attempt at a time, in order.
struct Device {
    worker: Worker,
    /// Weight per second.
    speed: f64,
    rtt: Duration,
    /// From this moment on it runs at this part of its speed.
    slower: Option<(Duration, f64)>,
    queue: Vec<AttemptRef>,
    running: Option<(AttemptRef, u64)>,
    busy: Duration,
    /// Weight of what was accepted from it.
    done: u64,
    /// Most attempts that it was given at a time.
    most: usize,
}

fn device(worker: Worker, speed: f64, rtt: Duration) -> Device {
    Device { worker, speed, rtt, slower: None, queue: vec![], running: None, busy: Duration::ZERO, done: 0, most: 0 }
}

enum Event {
    Arrives(usize, AttemptRef),
    Recalled(usize, AttemptRef),
    Finishes(usize, u64),
    Result(usize, AttemptRef),
    Beat,
}

/// What a run came to.
struct Run {
    took: Duration,
    devices: Vec<Device>,
    progress: Progress,
    starts: Vec<(Duration, Worker, AttemptRef, Why)>,
}

impl Run {
    fn ideal(&self, weights: &[u64]) -> f64 {
        weights.iter().sum::<u64>() as f64 / self.devices.iter().map(|device| device.speed).sum::<f64>()
    }
}

struct Bench {
    story: Story,
    weights: Vec<u64>,
    devices: Vec<Device>,
    events: BTreeMap<(Duration, u64), Event>,
    count: u64,
    starts: Vec<(Duration, Worker, AttemptRef, Why)>,
}

/// Runs a job of these tasks on these devices; `told`: the driver says what it knows of the links.
fn run(weights: Vec<u64>, devices: Vec<Device>, told: bool) -> Run {
    let config = JobConfig { tasks: weights.len() as u32, weights: weights.clone(), ..plain(1) };
    let story = Story { job: JobState::new(config, Duration::ZERO), now: Duration::ZERO, last: vec![], whys: vec![] };
    let mut bench = Bench { story, weights, devices, events: BTreeMap::new(), count: 0, starts: vec![] };
    for index in 0..bench.devices.len() {
        let (worker, rtt) = (bench.devices[index].worker, bench.devices[index].rtt);
        let credit = if worker == LOCAL { 1 } else { CREDIT_MAX };
        bench.step(Input::WorkerReady { worker, credit, trust: Trust::default() });
        if told {
            bench.step(Input::Link { worker, rtt, slots: 1 });
        }
    }
    bench.after(S, Event::Beat);
    while !bench.story.job.progress().over {
        let tick = bench.story.job.next_timeout();
        let next = bench.events.keys().next().map(|(at, _)| *at);
        match (next, tick) {
            (Some(at), tick) if tick.is_none_or(|tick| at <= tick) => {
                let ((at, _), event) = bench.events.pop_first().unwrap();
                bench.story.now = at;
                bench.happen(event);
            }
            (_, Some(tick)) => {
                bench.story.now = tick;
                bench.step(Input::Tick);
            }
            _ => panic!("nothing happens any more"),
        }
        assert!(bench.story.now < 10_000 * S, "{:?}", bench.story.job.progress());
    }
    let (took, progress) = (bench.story.now, bench.story.job.progress());
    Run { took, devices: bench.devices, progress, starts: bench.starts }
}

impl Bench {
    fn after(&mut self, time: Duration, event: Event) {
        self.count += 1;
        self.events.insert((self.story.now + time, self.count), event);
    }

    fn step(&mut self, input: Input) {
        self.story.whys.clear();
        self.story.step(input);
        let mut whys = std::mem::take(&mut self.story.whys).into_iter();
        for output in std::mem::take(&mut self.story.last) {
            let index = |worker: Worker| self.devices.iter().position(|device| device.worker == worker).unwrap();
            match output {
                Output::Start { worker, attempt, .. } => {
                    self.starts.push((self.story.now, worker, attempt, whys.next().unwrap()));
                    let index = index(worker);
                    self.devices[index].most = self.devices[index].most.max(self.story.held(worker).len());
                    self.after(self.devices[index].rtt / 2, Event::Arrives(index, attempt));
                }
                Output::Cancel { worker, attempt } => {
                    let index = index(worker);
                    self.after(self.devices[index].rtt / 2, Event::Recalled(index, attempt));
                }
                Output::Accepted { worker, attempt, .. } => {
                    let index = index(worker);
                    self.devices[index].done += self.weights[attempt.task as usize];
                }
                _ => {}
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrives(index, attempt) => {
                self.devices[index].queue.push(attempt);
                self.work(index);
            }
            Event::Recalled(index, attempt) => {
                let device = &mut self.devices[index];
                device.queue.retain(|queued| *queued != attempt);
                if device.running.is_some_and(|(running, _)| running == attempt) {
                    device.running = None;
                    self.work(index);
                }
            }
            Event::Finishes(index, mark) => {
                let device = &mut self.devices[index];
                if let Some((attempt, _)) = device.running.take_if(|(_, running)| *running == mark) {
                    let back = device.rtt / 2;
                    self.after(back, Event::Result(index, attempt));
                    self.work(index);
                }
            }
            Event::Result(index, attempt) => {
                let worker = self.devices[index].worker;
                self.step(Input::Result { worker, attempt, output: output(attempt.task) });
            }
            Event::Beat => {
                for index in 0..self.devices.len() {
                    let device = &self.devices[index];
                    let running = device.running.map(|(attempt, _)| attempt);
                    let attempts = device.queue.iter().copied().chain(running).collect();
                    self.step(Input::Heartbeat { worker: device.worker, attempts });
                }
                self.after(S, Event::Beat);
            }
        }
    }

    fn work(&mut self, index: usize) {
        let now = self.story.now;
        let device = &mut self.devices[index];
        if device.running.is_some() || device.queue.is_empty() {
            return;
        }
        let attempt = device.queue.remove(0);
        let weight = self.weights[attempt.task as usize] as f64;
        let full = weight / device.speed;
        let time = match device.slower {
            Some((from, part)) => {
                let before = from.saturating_sub(now).as_secs_f64().min(full);
                before + (full - before) / part
            }
            None => full,
        };
        let time = Duration::from_secs_f64(time);
        device.busy += time;
        let mark = self.count + 1;
        device.running = Some((attempt, mark));
        self.after(time, Event::Finishes(index, mark));
    }
}

/// Sizes as the built-in splits give them: the last a fifth of the mean.
fn tapered(total: u64, tasks: u64) -> Vec<u64> {
    let cut = |i: u64| total * i * (16 * tasks - 7 * i) / (9 * tasks * tasks);
    (0..tasks).map(|i| cut(i + 1) - cut(i)).collect()
}

fn remotes(speeds: &[f64], rtt: Duration) -> Vec<Device> {
    (1..).zip(speeds).map(|(n, speed)| device(remote(n), *speed, rtt)).collect()
}

#[test]
fn a_worker_holds_what_keeps_it_busy_and_no_more() {
    // Milliseconds of a task, of the round trip; attempts that it should hold at most, by the formula.
    for (task, rtt, expected) in [(500, 0, 2), (500, 100, 2), (10, 0, 3), (10, 80, 11), (2, 40, 31), (1, 200, 64)] {
        let run = run(vec![task; 1_000], remotes(&[1_000.0], rtt * MS), true);
        assert_eq!(run.starts[..2].iter().filter(|(at, ..)| at.is_zero()).count(), 2, "before anything is known");
        assert!(run.starts[2].0 > Duration::ZERO);
        let most = run.devices[0].most;
        assert!(most.abs_diff(expected) <= 1, "{most} at a time, not {expected}: tasks of {task} ms, {rtt} ms away");
    }
}

#[test]
fn no_device_waits_for_the_network() {
    // 1,000 tasks of 5 ms, 100 ms away: with a credit of 2 it would work 9 % of the time.
    for told in [true, false] {
        let run = run(vec![5; 1_000], remotes(&[1_000.0], 100 * MS), told);
        let lost = run.took.saturating_sub(run.devices[0].busy);
        assert!(lost < if told { 300 * MS } else { 1_500 * MS }, "told {told}: {lost:?} of {:?} idle", run.took);
        assert_eq!((run.progress.hedges, run.progress.reruns), (0, 0));
    }
}

#[test]
fn uneven_devices_share_by_their_speed_and_end_together() {
    let weights = tapered(64_000, 128);
    for weights in [weights, vec![400; 160], vec![1_000; 64]] {
        let run = run(weights.clone(), remotes(&[2_000.0, 1_000.0, 500.0, 500.0], 2 * MS), true);
        let (ideal, most) = (run.ideal(&weights), *weights.iter().max().unwrap() as f64);
        let over = run.took.as_secs_f64() / ideal;
        eprintln!("{} tasks of up to {most}: {over:.3} of the ideal, {} hedges", weights.len(), run.progress.hedges);
        assert!(over < 1.1, "{:?} instead of {ideal} s with tasks of up to {most}", run.took);
        for device in &run.devices {
            let (share, due) = (device.done as f64, 16.0 * device.speed);
            assert!((share - due).abs() < due * 0.1 + most, "{share} instead of {due}");
        }
        assert_eq!(run.progress.reruns, 0);
    }
}

#[test]
fn the_last_tasks_are_left_to_who_will_have_done_them_first() {
    // One device is 10 times slower: a last task on it would take as long as ten on the other.
    let weights = vec![100; 25];
    let run = run(weights, remotes(&[1_000.0, 100.0], MS), true);
    let slow: Vec<_> = run.starts.iter().filter(|(_, worker, ..)| *worker == remote(2)).collect();
    assert!(slow.iter().all(|(at, ..)| *at < 1_600 * MS), "{slow:?}");
    assert!(run.took < 2_500 * MS, "{:?}", run.took);
}

#[test]
fn equal_devices_need_no_second_attempts_whatever_the_tasks_weigh() {
    let mixed: Vec<u64> = (0..200).map(|n| if n % 20 == 0 { 2_000 } else { 40 + n % 7 }).collect();
    for weights in [vec![100; 200], mixed, tapered(20_000, 128)] {
        let ideal = weights.iter().sum::<u64>() as f64 / 4_000.0;
        let most = *weights.iter().max().unwrap() as f64 / 1_000.0;
        let run = run(weights, remotes(&[1_000.0; 4], 5 * MS), true);
        assert_eq!((run.progress.hedges, run.progress.reruns), (0, 0), "{:?}", run.progress);
        assert!(run.took.as_secs_f64() < ideal + most + 0.1, "{:?} instead of {ideal}", run.took);
    }
}

#[test]
fn a_device_that_slows_down_in_the_middle_costs_little() {
    for (seed, weights) in [vec![150; 160], vec![600; 40], tapered(24_000, 128)].into_iter().enumerate() {
        for at in 1..10 {
            let mut devices = remotes(&[1_000.0; 4], 5 * MS);
            let ideal = weights.iter().sum::<u64>() as f64 / 4_000.0;
            let slow_from = Duration::from_secs_f64(ideal * f64::from(at) / 10.0);
            devices[seed].slower = Some((slow_from, 0.05));
            let run = run(weights.clone(), devices, true);
            let left = ideal - slow_from.as_secs_f64();
            let ideal = slow_from.as_secs_f64() + left * 4.0 / 3.05;
            let over = run.took.as_secs_f64() / ideal;
            let most = *weights.iter().max().unwrap() as f64 / 1_000.0;
            let allowed = ideal * 1.1 + most * 2.0;
            if run.took.as_secs_f64() >= allowed {
                for (at, worker, attempt, why) in run.starts.iter().rev().take(30).rev() {
                    eprintln!("{at:?} {worker} {}.{} {why:?}", attempt.task, attempt.attempt);
                }
                eprintln!("{:?}", run.progress);
            }
            assert!(run.took.as_secs_f64() < allowed, "slow from {slow_from:?}: {over:.2} of the ideal {ideal} s");
            assert!((1..=8).contains(&run.progress.hedges), "{:?}", run.progress);
            assert_eq!(run.progress.reruns, 0, "nothing was lost");
            let stragglers = run
                .starts
                .iter()
                .filter(|(.., why)| matches!(why, Why::Straggler { slow } if *slow == remote(seed as u8 + 1)));
            assert!(stragglers.count() >= 1);
        }
    }
}

#[test]
fn this_device_among_others_is_one_of_them() {
    let mut devices = remotes(&[1_000.0; 3], 20 * MS);
    devices.push(device(LOCAL, 1_000.0, Duration::ZERO));
    let run = run(vec![100; 200], devices, true);
    assert!(run.took < 5_500 * MS, "{:?}", run.took);
    assert!(run.devices.iter().all(|device| (4_000..6_100).contains(&device.done)));
}

/// The cost of one event does not grow with the number of tasks.
#[test]
fn ten_thousand_tiny_tasks_are_one_job() {
    let steps = |tasks: usize| {
        let run = run(vec![1; tasks], remotes(&[5_000.0; 4], MS), true);
        assert_eq!(run.progress.done as usize, tasks);
        (run.took, run.starts.len())
    };
    let (took, starts) = steps(10_000);
    assert!(took < 700 * MS, "four devices that do 5,000 a second each: {took:?}");
    assert!(starts < 10_200, "{starts}");
}
