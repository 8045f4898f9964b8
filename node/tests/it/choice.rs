//! Which devices a job takes when nobody says how many: none for a short one, all for a long one, and the plan says why.

use std::{fs, path::PathBuf};

use msm_node::command::{Event, Invoke, JobReport};
use serde_json::{Value, json};

use crate::rig::*;

/// Parts that wait and do not compute: there are fewer cores than devices here.
fn waiter(lab: &Lab) -> PathBuf {
    let more = "[params]\nms = { type = \"integer\", default = 1, minimum = 0, maximum = 10000, description = \"for each part\" }\n\
        [work]\nsplit = \"service\"\ndeterministic = true";
    let source = "const text = (bytes) => new TextDecoder().decode(bytes);
        export function* split(input) { for (const line of text(input).trim().split('\\n')) yield line; }
        export async function run(input, ctx) {
          await new Promise((done) => setTimeout(done, ctx.params.ms));
          return text(input).toUpperCase() + '\\n';
        }
        export const merge = (parts) => parts.map(text).join('');";
    lab.service("waiter", "1.0.0", more, source)
}

fn wait(ms: u32) -> Invoke {
    let params = json!({ "ms": ms }).as_object().unwrap().clone();
    Invoke { service: "waiter".into(), params, ..Invoke::default() }
}

/// Input of so many parts.
fn parts(count: usize) -> String {
    (0..count).map(|n| format!("part {n:02}\n")).collect()
}

/// Parts that others than the requester did.
fn elsewhere(report: &JobReport) -> u32 {
    report.devices.iter().filter(|device| !device.local).map(|device| device.tasks).sum()
}

/// What is planned for parts of so many milliseconds.
async fn plan(node: &Node, ms: u32) -> Value {
    let param = format!("ms={ms}");
    msm(&node.home, &["invoke", "waiter", "in.txt", "-p", &param, "--plan", "--json"]).await.json()
}

#[tokio::test]
async fn a_short_job_stays_here_and_a_long_one_hires_everybody() {
    let lab = Lab::new();
    let market = lab.market("shop", &[waiter(&lab)]);
    let crew = Crew::gather(&lab, &market, 2).await;
    let requester = &crew.requester;
    let notes = |report: &JobReport| report.notes.join("; ");

    // Nothing is known of it: it begins here and is over before anybody else could begin.
    let (report, output) = requester.job(wait(1), parts(4), |_| {}).await;
    assert_eq!((String::from_utf8(output.to_vec()).unwrap(), elsewhere(&report)), (parts(4).to_uppercase(), 0));
    assert_eq!(report.predicted_from.as_deref(), Some("guessed"), "{report:?}");
    assert!(notes(&report).contains("stays here: it was nearly done"), "{report:?}");
    // Then it is known, with the numbers.
    let (report, _) = requester.job(wait(1), parts(4), |_| {}).await;
    assert_eq!((elsewhere(&report), report.predicted_from.as_deref()), (0, Some("measured")), "{report:?}");
    assert!(notes(&report).contains("stays here: 1 device ") && notes(&report).contains(", 2 devices "), "{report:?}");
    assert!(report.predicted_ms.is_some_and(|ms| ms > 0.0), "{report:?}");

    // Parts of another length are another call: nothing is known again, and the first parts show that it takes long.
    let (report, output) = requester.job(wait(400), parts(24), |_| {}).await;
    assert_eq!(String::from_utf8(output.to_vec()).unwrap(), parts(24).to_uppercase());
    assert_counted_once(&report);
    assert_eq!(report.predicted_from.as_deref(), Some("guessed"), "{report:?}");
    assert!(elsewhere(&report) > 0 && !notes(&report).contains("stays here"), "{report:?}");

    // The next plan rests on what was measured, and after a restart too.
    fs::write(requester.home.folder().join("in.txt"), parts(24)).unwrap();
    let known = plan(requester, 400).await;
    let times: Vec<f64> = known["predicted_ms"].as_array().unwrap().iter().map(|ms| ms.as_f64().unwrap()).collect();
    assert_eq!((&known["predicted_from"], times.len()), (&json!("measured"), 3), "{known}");
    assert!(times.is_sorted_by(|more, less| more > less) && known["chosen"].as_u64() > Some(1), "{known}");
    let text = msm(&requester.home, &["invoke", "waiter", "in.txt", "-p", "ms=400", "--plan"]).await.text();
    assert!(text.contains("time: 1 device ") && text.contains(" <- chosen") && text.contains("(measured)"), "{text}");
    let asked = ["invoke", "waiter", "in.txt", "--devices", "9", "--eqs", "paper", "--plan"];
    let asked = msm(&requester.home, &asked).await.text();
    assert!(asked.contains("you asked for 9, only 3 fit"), "{asked}");

    let Crew { mut requester, .. } = crew;
    assert!(requester.leave().await.success());
    let again = Node::start(&requester.home, &[]).await;
    let known = plan(&again, 400).await;
    assert_eq!(known["predicted_from"], "measured", "{known}");
}

/// A node that is started for one call begins before it has met anybody, and those that it meets join in.
#[tokio::test]
async fn neighbours_that_appear_join_a_job_that_runs() {
    let lab = Lab::new();
    let market = lab.market("shop", &[waiter(&lab)]);
    let home = lab.requester("phone");
    market.served_by(&home);
    let requester = Node::start(&home, &[]).await;
    // The package is here.
    requester.job(wait(1), parts(1), |_| {}).await;
    let home = lab.home_with("late", &format!("listen = [{TCP:?}]"), "slots = 1");
    market.trusted_by(&home);
    // It knows the market from before.
    let mut late = Node::start(&home, &["--peer", &requester.address]).await;
    late.has_index(&market, 2).await;
    assert!(late.leave().await.success());
    until("it has left", SOON, async || requester.peers().await.is_empty().then_some(())).await;
    let (began, mut begins) = tokio::sync::mpsc::channel(1);
    let job = requester.job(wait(1_000), parts(16), |event| {
        if matches!(event, Event::TaskStarted { .. }) {
            let _ = began.try_send(());
        }
    });
    let late = async {
        begins.recv().await.expect("a task is started");
        Node::start(&home, &["--peer", &requester.address]).await
    };
    let ((report, output), _late) = tokio::join!(job, late);
    assert_eq!(String::from_utf8(output.to_vec()).unwrap(), parts(16).to_uppercase());
    assert_counted_once(&report);
    assert!(elsewhere(&report) > 0, "{report:?}");
}
