//! A ceiling of processor time over real children: what they use, what that does to deadlines, and that none is left
//! standing.

use std::time::{Duration, Instant};

use msm_protocol::RefusalCode;
use msm_sandbox::{Ceiling, Op, Output, Stint, Work};

use crate::rig::{Rig, children_of, package, until};

/// Computes for as many rounds as its input says.
const BUSY: &str = "export function run(input) {
      let hash = 2166136261;
      for (let n = Number(new TextDecoder().decode(input)); n > 0; n--) hash = Math.imul(hash ^ n, 16777619);
      return String(hash);
    }";
const LOOP: &str = "export function run() { for (;;) {} }";
/// What a guest computes here, enough for many turns of standing and going on.
const WORK: Duration = Duration::from_millis(300);

async fn busy(rig: &Rig, rounds: u64, ceiling: Option<&Ceiling>) -> Output {
    let call = rig.call(&package(BUSY, Work::Whole, false), Op::Whole, "{}", rounds.to_string());
    rig.sandbox.calls_under(&[call], ceiling, None).await.remove(0).unwrap()
}

/// Rounds that take [`WORK`] on this machine, and how they go without a ceiling.
async fn calibrated(rig: &Rig) -> (u64, Output) {
    const TRIAL: u64 = 300_000;
    busy(rig, 1, None).await;
    let trial = busy(rig, TRIAL, None).await.cpu.as_secs_f64();
    let rounds = (WORK.as_secs_f64() / trial * TRIAL as f64) as u64;
    (rounds, busy(rig, rounds, None).await)
}

fn share(cpu: Duration, wall: Duration) -> f64 {
    cpu.as_secs_f64() / wall.as_secs_f64()
}

#[tokio::test]
async fn guests_together_get_what_is_allowed_and_no_more() {
    let rig = Rig::new();
    let (rounds, free) = calibrated(&rig).await;
    let free = share(free.cpu, free.wall);
    for guests in [1, 2] {
        let ceiling = Ceiling::new(0.25, guests).unwrap().expect("a guest could take a whole core");
        let started = Instant::now();
        let cpu = match guests {
            1 => busy(&rig, rounds, Some(&ceiling)).await.cpu,
            _ => {
                let half = rounds / 2;
                let both = tokio::join!(busy(&rig, half, Some(&ceiling)), busy(&rig, half, Some(&ceiling)));
                both.0.cpu + both.1.cpu
            }
        };
        let got = share(cpu, started.elapsed());
        eprintln!("{guests} under a quarter of a core: {got:.3} of one; alone and free: {free:.3}");
        // Wide: other work on the machine takes from both.
        assert!(got < 0.35, "{guests}: {got}");
        assert!(got > 0.4 * free.min(0.25), "{guests}: {got}, {free} without a ceiling");
    }
}

#[tokio::test]
async fn what_a_guest_stands_does_not_count_against_its_deadline() {
    let mut rig = Rig::new();
    let (rounds, free) = calibrated(&rig).await;
    let ceiling = Ceiling::new(0.05, 1).unwrap();
    // Enough for the guest, and a fifth of what it takes to stand for so long, on a machine that has nothing else to do.
    rig.budget.time = (4 * free.wall).max(Duration::from_secs(1));
    let slow = busy(&rig, rounds, ceiling.as_ref()).await;
    eprintln!("{:?} of work took {:?} with {:?} to do it in", slow.cpu, slow.wall, rig.budget.time);

    rig.budget.time = Duration::from_millis(300);
    let call = rig.call(&package(LOOP, Work::Whole, false), Op::Whole, "{}", "");
    let refused = rig.sandbox.calls_under(&[call], ceiling.as_ref(), None).await.remove(0).unwrap_err();
    assert_eq!(refused.code, RefusalCode::Deadline, "{refused}");
}

/// Nor against the stint of calls together: theirs is a third of what they stand.
#[tokio::test]
async fn what_guests_stand_does_not_count_against_their_stint() {
    let rig = Rig::new();
    let (rounds, _) = calibrated(&rig).await;
    let ceiling = Ceiling::new(0.05, 1).unwrap();
    let source = package(BUSY, Work::Whole, false);
    let call = || rig.call(&source, Op::Whole, "{}", (rounds / 5).to_string());
    let stint = Stint { time: 2 * WORK, output: 1_000 };
    let since = Instant::now();
    let results = rig.sandbox.calls_under(&[call(), call(), call()], ceiling.as_ref(), Some(stint)).await;
    assert!(since.elapsed() > stint.time, "they did not stand: {:?}", since.elapsed());
    assert_eq!(results.len(), 3, "{results:?}");
}

#[tokio::test]
async fn nobody_is_left_standing() {
    let rig = Rig::new();
    let (rounds, _) = calibrated(&rig).await;
    let ceiling = Ceiling::new(0.05, 1).unwrap();
    let source = package(BUSY, Work::Whole, false);
    let call = || rig.call(&source, Op::Whole, "{}", (10 * rounds).to_string());
    let standing = || {
        let state = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let pids = children_of(std::process::id()).into_iter().map(|(pid, _)| pid);
        pids.filter(|pid| state(*pid).rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))).count()
    };
    // A call that is dropped while its child stands.
    let endless = call();
    tokio::select! {
        ended = rig.sandbox.calls_under(std::slice::from_ref(&endless), ceiling.as_ref(), None) => panic!("{ended:?}"),
        () = until("the child stands", || standing() == 1) => {}
    }
    until("it is gone", || standing() == 0).await;
    // One that ends with its ceiling: the child serves the next call freely.
    let wall = busy(&rig, rounds, ceiling.as_ref()).await.wall;
    drop(ceiling);
    let free = busy(&rig, rounds, None).await.wall;
    eprintln!("{wall:?} under the ceiling, {free:?} after it");
    assert_eq!(standing(), 0);
}

#[test]
fn guests_that_cannot_take_too_much_need_no_ceiling() {
    assert!(Ceiling::new(2.0, 2).unwrap().is_none());
    assert!(Ceiling::new(1.9, 2).unwrap().is_some());
}
