//! A package that its market withdraws while it runs: it ends, on workers and at home (B07).

use std::time::{Duration, Instant};

use msm_market_index::MarketFolder;
use msm_node::command::{Command, ErrorCode, Event, Invoke};
use msm_protocol::document::Status;

use rustix::process::Signal;

use crate::rig::*;

/// Long enough that no task of it ends by itself during the test.
const ENDLESS: u64 = 1_000_000_000;

/// Sooner than a silent requester is taken for lost, whose tasks end for that (8 s).
const BEFORE_SILENCE: Duration = Duration::from_secs(4);

/// Revokes grind, and has the node that serves the market read it again.
async fn revoke(market: &Market, publisher: &Node) {
    let folder = MarketFolder::open(&market.folder).unwrap();
    folder.set_status("grind", "1.0.0", Status::Revoked, "it is bad", &market.signers(), now()).unwrap();
    publisher.ask(Command::MarketRefresh).await.unwrap();
}

/// Runs an endless job, revokes its service once `ready`, and returns how long the job lived on.
async fn runs_until_revoked(crew: &Crew, market: &Market, job: Invoke, ready: impl Fn(&Event) -> bool) -> Duration {
    let (started, mut heard) = tokio::sync::mpsc::channel(64);
    let job = crew.requester.invoke(job, lines(2), |event| {
        if ready(event) {
            let _ = started.try_send(());
        }
    });
    let withdraw = async {
        heard.recv().await.expect("a task starts");
        revoke(market, &crew.workers[0]).await;
        Instant::now()
    };
    let (outcome, since) = tokio::join!(job, withdraw);
    let error = outcome.expect_err("a revoked service gives no result");
    assert_eq!(error.code, ErrorCode::Verification, "{error}");
    assert!(error.message.contains("revoked"), "{error}");
    since.elapsed()
}

#[tokio::test]
async fn b07_what_runs_on_a_worker_and_at_home_ends() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let crew = Crew::gather(&lab, &market, 2).await;
    crew.warm(&grind_on(3, 1), lines(12)).await;
    let far = crew.workers[1].peer;
    let ready = move |event: &Event| matches!(event, Event::TaskStarted { peer_id, .. } if *peer_id == far);
    let lived = runs_until_revoked(&crew, &market, grind_on(3, ENDLESS), ready).await;
    assert!(lived < SOON, "{lived:?}");
    let worker = &crew.workers[1];
    until("the worker's task has ended", SOON, async || (worker.status().await.running_tasks == 0).then_some(())).await;
}

#[tokio::test]
async fn b07_what_runs_at_home_alone_ends() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let crew = Crew::gather(&lab, &market, 1).await;
    let job = locally(&grind_on(1, ENDLESS));
    let lived = runs_until_revoked(&crew, &market, job, |event| matches!(event, Event::TaskStarted { .. })).await;
    assert!(lived < SOON, "{lived:?}");
}

/// The worker sees to it by itself: a requester who has not heard of it, or does not want to, changes nothing.
#[tokio::test]
async fn b07_a_worker_waits_for_no_requester() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let crew = Crew::gather(&lab, &market, 1).await;
    crew.warm(&grind_on(2, 1), lines(8)).await;
    let mut watch = crew.requester.watch().await;
    let worker = crew.workers[0].peer;
    let job = crew.requester.invoke(grind_on(2, ENDLESS), lines(2), |_| {});
    let withdraw = async {
        let started = |event| matches!(event, Event::TaskStarted { peer_id, .. } if peer_id == worker).then_some(());
        watch.next("a task at the worker", SOON, started).await;
        let runs = async || (crew.workers[0].status().await.running_tasks > 0).then_some(());
        until("the task runs", SOON, runs).await;
        // Nobody tells the requester: it is stopped, as a suspended laptop is.
        crew.requester.signal(Signal::STOP);
        let worker = &crew.workers[0];
        let ended = async || (worker.status().await.running_tasks == 0).then_some(());
        // Beside the refresh, which waits for the silent requester too.
        tokio::join!(revoke(&market, worker), until("the task has ended", BEFORE_SILENCE, ended));
        crew.requester.signal(Signal::CONT);
    };
    let (outcome, ()) = tokio::join!(job, withdraw);
    assert!(outcome.is_err());
}
