//! Calls of a service with nothing to cut: over a lane that is open already, in one round trip, or the general way.

use futures::StreamExt;
use msm_node::command::{Invoke, JobReport, Redundancy};
use msm_protocol::PeerId;

use crate::rig::*;

const LINE: &str = "a few bytes\n";

/// A service of one task.
fn shout(lab: &Lab) -> std::path::PathBuf {
    let source = "export function run(input) {
      const text = new TextDecoder().decode(input);
      if (text.startsWith('fail')) throw new Error('as asked');
      return text.toUpperCase();
    }";
    lab.service("shout", "1.0.0", "[work]\nsplit = \"none\"\ndeterministic = true", source)
}

fn call(peers: &[&Node]) -> Invoke {
    let peers = peers.iter().map(|node| node.peer).collect();
    Invoke { service: "shout".into(), remote_only: true, peers, ..Invoke::default() }
}

fn was_quick(report: &JobReport) -> bool {
    report.phases_ms.iter().any(|(name, _)| name == "call")
}

fn by(report: &JobReport) -> Vec<PeerId> {
    assert!(report.devices.iter().all(|device| !device.local), "{report:?}");
    report.devices.iter().filter(|device| device.tasks > 0).map(|device| device.peer_id).collect()
}

/// A worker that was named is asked at once; the lane stays, so that nobody need be named the next time.
#[tokio::test]
async fn a_small_call_is_one_round_trip() {
    let lab = Lab::new();
    let market = lab.market("shop", &[shout(&lab)]);
    let Crew { requester, workers } = Crew::gather(&lab, &market, 2).await;
    for _ in 0..3 {
        let (report, output) = requester.job(call(&[&workers[1]]), LINE, |_| {}).await;
        assert_eq!(output, LINE.to_uppercase());
        assert!(was_quick(&report) && by(&report) == [workers[1].peer], "{report:?}");
        assert_counted_once(&report);
    }
    let offers = |node: &Node| node.log().matches("offer accepted").count();
    assert_eq!((offers(&workers[0]), offers(&workers[1])), (0, 1), "one lane for all");
    // No one is named, and nothing is to be checked: whoever is warm.
    let anybody = Invoke { redundancy: Some(Redundancy::None), ..call(&[]) };
    let (report, output) = requester.job(anybody, LINE, |_| {}).await;
    assert_eq!(output, LINE.to_uppercase());
    assert!(was_quick(&report) && by(&report) == [workers[1].peer], "{report:?}");
}

/// The first results of a worker whom somebody else could check are all checked: the short way is not for them.
#[tokio::test]
async fn what_is_to_be_checked_goes_the_general_way() {
    let lab = Lab::new();
    let market = lab.market("shop", &[shout(&lab)]);
    let Crew { requester, workers } = Crew::gather(&lab, &market, 2).await;
    let both = call(&[&workers[0], &workers[1]]);
    let (report, output) = requester.job(both, LINE, |_| {}).await;
    assert_eq!(output, LINE.to_uppercase());
    assert!(!was_quick(&report), "{report:?}");
}

/// What fails, and who is gone, is a matter for the general way, which asks others.
#[tokio::test]
async fn what_goes_wrong_is_tried_elsewhere() {
    let lab = Lab::new();
    let market = lab.market("shop", &[shout(&lab)]);
    let Crew { requester, mut workers } = Crew::gather(&lab, &market, 2).await;
    let unchecked = |peers: &[&Node]| Invoke { redundancy: Some(Redundancy::None), ..call(peers) };
    let (report, _) = requester.job(unchecked(&[&workers[0]]), LINE, |_| {}).await;
    assert!(was_quick(&report));
    let error = requester.invoke(unchecked(&[&workers[0]]), "fail\n", |_| {}).await.unwrap_err();
    assert!(error.message.contains("as asked"), "{error:?}");
    workers[0].kill();
    let (report, output) = requester.job(unchecked(&[]), LINE, |_| {}).await;
    assert_eq!(output, LINE.to_uppercase());
    assert_eq!(by(&report), [workers[1].peer]);
}

/// Calls that are made together share one lane, and each gets its own answer.
#[tokio::test]
async fn many_calls_at_a_time_share_a_lane() {
    let lab = Lab::new();
    let market = lab.market("shop", &[shout(&lab)]);
    let Crew { requester, workers } = Crew::gather(&lab, &market, 1).await;
    requester.job(call(&[&workers[0]]), LINE, |_| {}).await;
    // Fewer at a time than a door lets in.
    let calls = futures::stream::iter(0..100).map(|n| {
        let (requester, call) = (&requester, call(&[&workers[0]]));
        async move {
            let (report, output) = requester.job(call, format!("call {n}\n"), |_| {}).await;
            assert_eq!(output, format!("CALL {n}\n"));
            assert!(was_quick(&report), "{report:?}");
        }
    });
    calls.buffer_unordered(24).collect::<()>().await;
    assert_eq!(workers[0].log().matches("offer accepted").count(), 1);
}
