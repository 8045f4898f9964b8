//! Processes that die or stand still at bad moments: results stay right, workers do not work for the dead.

use std::time::{Duration, Instant};

use msm_node::command::Event;
use msm_protocol::PeerId;
use rustix::process::Signal;

use crate::rig::*;

/// Parts of a job that is long enough to be hit in the middle.
const PARTS: usize = 16;
const LINES: usize = 2 * PARTS;
/// About 30 ms of work a line.
const ROUNDS: usize = 400_000;

/// How often a kind of event has come.
#[derive(Default)]
struct Seen {
    started: u32,
    done: u32,
}

type Moment = (&'static str, fn(&Event, PeerId, &mut Seen) -> bool);

fn phase(event: &Event, wanted: &str) -> bool {
    matches!(event, Event::Phase { name, .. } if name == wanted)
}

fn started(event: &Event, victim: PeerId, seen: &mut Seen, nth: u32) -> bool {
    let hit = matches!(event, Event::TaskStarted { peer_id, .. } if *peer_id == victim);
    seen.started += u32::from(hit);
    hit && seen.started == nth
}

fn done(event: &Event, victim: PeerId, seen: &mut Seen, nth: u32) -> bool {
    let hit = matches!(event, Event::TaskDone { peer_id, .. } if *peer_id == victim);
    seen.done += u32::from(hit);
    hit && seen.done == nth
}

/// This many of all tasks are done.
fn so_far(event: &Event, share: fn(u32) -> u32) -> bool {
    matches!(event, Event::TaskDone { done, tasks, .. } if *done == share(*tasks))
}

const MOMENTS: [Moment; 10] = [
    ("it is being asked", |event, _, _| phase(event, "discover")),
    ("the input is cut", |event, _, _| phase(event, "split")),
    ("it is being hired", |event, _, _| matches!(event, Event::JobStarted { .. })),
    ("it has joined", |event, victim, _| matches!(event, Event::DeviceJoined { peer_id, .. } if *peer_id == victim)),
    ("its first task starts", |event, victim, seen| started(event, victim, seen, 1)),
    ("its second task starts", |event, victim, seen| started(event, victim, seen, 2)),
    ("its first task is done", |event, victim, seen| done(event, victim, seen, 1)),
    ("a quarter is done", |event, _, _| so_far(event, |tasks| tasks / 4)),
    ("half is done", |event, _, _| so_far(event, |tasks| tasks / 2)),
    ("two tasks are left", |event, _, _| so_far(event, |tasks| tasks - 2)),
];

#[tokio::test]
async fn b81_a_worker_killed_at_ten_moments_changes_nothing() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let mut crew = Crew::gather(&lab, &market, 3).await;
    let text = lines(LINES);
    let expected = grind(&text, ROUNDS);
    crew.warm(&grind_on(4, 1_000), text.clone()).await;
    for (name, moment) in MOMENTS {
        let Crew { requester, workers } = &mut crew;
        let mut victim = workers.pop().unwrap();
        let (mut seen, mut killed) = (Seen::default(), false);
        let (report, output) = requester
            .job(grind_on(4, ROUNDS as u64), text.clone(), |event| {
                if !killed && moment(event, victim.peer, &mut seen) {
                    victim.kill();
                    killed = true;
                }
            })
            .await;
        assert!(killed, "{name}: the moment came");
        // Into how many is the plan's matter, which goes by how long the jobs before took.
        assert!((4..=LINES).contains(&(report.tasks as usize)), "{name}: {} tasks", report.tasks);
        assert!(output == expected, "{name}: another result");
        assert_counted_once(&report);
        // It comes back, as the same device.
        let back = Node::start(&victim.home, &["--peer", &requester.address]).await;
        requester.sees(&[&back]).await;
        workers.insert(0, back);
    }
}

/// Starts a job without end on both workers, kills the requester, and waits until nobody works for it any more.
async fn killed_requester(listen: &str) {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let Crew { mut requester, workers } = Crew::gather_on(listen, &lab, &market, 2).await;
    let idle: Vec<usize> = workers.iter().map(|worker| worker.children().len()).collect();
    let door = requester.door();
    let call = tokio::spawn(async move {
        use msm_node::command::{Command, Door, Request};
        let (events, _) = tokio::sync::mpsc::channel(1);
        let command = Command::Invoke(Box::new(grind_on(3, 1_000_000_000)));
        door.execute(Request { command, input: lines(12).into() }, events).await
    });
    for worker in &workers {
        until("it works", SOON, async || (worker.status().await.running_tasks > 0).then_some(())).await;
    }
    requester.kill();
    let since = Instant::now();
    assert!(call.await.unwrap().is_err(), "its caller hears of it");
    for (worker, idle) in workers.iter().zip(idle) {
        let left = Duration::from_secs(10).saturating_sub(since.elapsed());
        until("it has stopped", left, async || (worker.status().await.running_tasks == 0).then_some(())).await;
        until("its guests are gone", SOON, async || (worker.children().len() <= idle.max(1)).then_some(())).await;
        assert!(worker.children().iter().all(|(_, state)| *state != 'Z'));
    }
}

#[tokio::test]
async fn b92_a_killed_requester_is_not_worked_for() {
    killed_requester(TCP).await;
}

#[tokio::test]
async fn b92_a_killed_requester_is_not_worked_for_over_quic() {
    killed_requester(QUIC).await;
}

/// A worker that stands still looks like a pulled cable: nothing is closed, nothing answers.
#[tokio::test]
async fn b91_a_stopped_worker_is_noticed_and_comes_back() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let crew = Crew::gather(&lab, &market, 2).await;
    let text = lines(LINES);
    crew.warm(&grind_on(3, 1_000), text.clone()).await;
    let Crew { requester, workers } = crew;
    let mut watch = requester.watch().await;
    let victim = &workers[1];
    let mut stopped = None;
    let (report, output) = requester
        .job(grind_on(3, ROUNDS as u64), text.clone(), |event| {
            if stopped.is_none() && matches!(event, Event::TaskStarted { peer_id, .. } if *peer_id == victim.peer) {
                victim.signal(Signal::STOP);
                stopped = Some(Instant::now());
            }
        })
        .await;
    let stopped = stopped.expect("it was given a task");
    assert!(output == grind(&text, ROUNDS));
    assert_counted_once(&report);
    watch.left(victim.peer, Duration::from_secs(12)).await;
    let noticed = stopped.elapsed();
    assert!(noticed < Duration::from_millis(8_500), "noticed after {noticed:?}");
    victim.signal(Signal::CONT);
    requester.sees(&[victim]).await;
}
