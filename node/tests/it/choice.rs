//! Which devices a job takes when nobody says how many: none for a short one, all for a long one, and the plan says why.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use msm_node::command::{Devices, Event, Invoke, JobReport};
use msm_protocol::{cbor, device::DeviceInfo};
use serde_json::{Value, json};

use crate::{
    evil::{Answer, Evil, Knobs},
    rig::*,
};

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

/// How fast bytes arrive is measured, each way; over a link that is known to be slow nobody is asked for help.
#[tokio::test]
async fn a_link_is_measured_and_a_slow_one_is_not_worth_it() {
    let lab = Lab::new();
    let market = lab.market("shop", &[waiter(&lab)]);
    let Crew { mut requester, workers } = Crew::gather(&lab, &market, 1).await;
    // Parts of several chunks.
    let input = format!("{}\n", "x".repeat(1 << 20)).repeat(6);
    for invoke in [Invoke { remote_only: true, ..wait(200) }, locally(&wait(200))] {
        let (_, output) = requester.job(invoke, input.clone(), |_| {}).await;
        assert!(output == input.to_uppercase());
    }
    fs::write(requester.home.folder().join("in.txt"), input).unwrap();
    let near = plan(&requester, 200).await;
    assert!(requester.leave().await.success());

    let file = requester.home.measured_file();
    let mut kept: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let link = &mut kept["links"][workers[0].peer.to_string()]["link"];
    for way in ["up", "down"] {
        let rate = &mut link[way]["value"];
        assert!(rate.as_f64() > Some(1e6), "{way}: {rate} bytes a second on one machine");
        *rate = json!(64_000.0);
    }
    fs::write(&file, kept.to_string()).unwrap();
    let again = Node::start_near(&requester.home, &workers[0]).await;
    let far = plan(&again, 200).await;
    assert_eq!((&far["predicted_from"], &far["chosen"]), (&json!("measured"), &json!(1)), "{far}");
    let rows = far["rows"].as_array().unwrap();
    let worker = rows.iter().find(|row| row["peer_id"] == workers[0].peer.to_string()).unwrap();
    assert!(worker["why"].as_str().unwrap().starts_with("not needed: "), "{far}");
    // A part there and back.
    let [near, far] = [near, far].map(|plan| plan["predicted_ms"][1].as_f64().unwrap());
    assert!(far > 30_000.0 && far > 5.0 * near, "{near} ms, {far} ms");
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

/// A neighbour that counts how often it is asked what it is like, and says whatever is wanted.
struct Talker {
    evil: Evil,
    asked: Arc<AtomicUsize>,
    lends: Arc<AtomicBool>,
}

impl Talker {
    /// One that lends itself for services of this market, or for nothing and never answers.
    async fn near(node: &Node, market: Option<&Market>, lends: bool) -> Self {
        let (asked, lends) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(lends)));
        let mut knobs = Knobs::default();
        if let Some(market) = market {
            knobs = knobs.lending(market);
        }
        let (count, says, mut answer) = (asked.clone(), lends.clone(), knobs.device);
        knobs.device = Box::new(move |request| {
            count.fetch_add(1, Ordering::Relaxed);
            let Answer::Bytes(info) = answer(request) else { return Answer::Silence };
            let info: DeviceInfo = cbor::from_slice(&info, info.len()).unwrap();
            let availability = says.load(Ordering::Relaxed);
            Answer::Bytes(cbor::to_vec(&DeviceInfo { availability, ..info }).unwrap())
        });
        let evil = Evil::start(knobs).await;
        evil.dial(&node.address).await;
        Self { evil, asked, lends }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    async fn known_to(&self, node: &Node, lends: bool) {
        until("it is known", SOON, async || {
            let peers = node.peers().await;
            peers.iter().any(|row| row.peer_id == self.evil.peer && row.availability == Some(lends)).then_some(())
        })
        .await;
    }
}

fn wait_on(devices: u32, ms: u32) -> Invoke {
    Invoke { devices: Devices::Range { min: devices, max: devices }, ..wait(ms) }
}

/// Of whom enough is known is used as it is; who is mute is asked now and then, and never waited for.
#[tokio::test]
async fn a_job_that_knows_enough_devices_asks_nobody_again() {
    const JOBS: usize = 30;
    let lab = Lab::new();
    let market = lab.market("shop", &[waiter(&lab)]);
    let other = lab.market("other", &[]);
    let crew = Crew::gather(&lab, &market, 1).await;
    let known = Talker::near(&crew.requester, Some(&other), true).await;
    let mute = Talker::near(&crew.requester, None, true).await;
    known.known_to(&crew.requester, true).await;
    until("the worker is known", SOON, async || {
        crew.requester
            .peers()
            .await
            .iter()
            .any(|row| row.peer_id == crew.workers[0].peer && row.eqs.is_some())
            .then_some(())
    })
    .await;
    let (before, start) = ([known.asked(), mute.asked()], Instant::now());
    for _ in 0..JOBS {
        let (report, _) = crew.requester.job(wait_on(2, 1), parts(2), |_| {}).await;
        assert!(report.notes.is_empty(), "two were there: {report:?}");
    }
    // Those of the coordinator's rounds count too.
    let seconds = start.elapsed().as_secs() as usize;
    let asked = [known.asked() - before[0], mute.asked() - before[1]];
    eprintln!("{JOBS} jobs in {seconds} s asked who was known and who was mute {asked:?} times");
    assert!(asked[0] <= 3 + seconds / 10, "who was known was asked {} times", asked[0]);
    assert!((1..=3 + seconds / 2).contains(&asked[1]), "who was mute was asked {} times", asked[1]);
}

/// What is known of a device is old when a job begins that needs it: it is asked again until it is there.
#[tokio::test]
async fn a_busy_device_is_asked_again_while_a_job_lacks_one() {
    let lab = Lab::new();
    let market = lab.market("shop", &[waiter(&lab)]);
    let crew = Crew::gather(&lab, &market, 1).await;
    let mut late = Talker::near(&crew.requester, Some(&market), false).await;
    late.known_to(&crew.requester, false).await;
    // It is asked for this one, and says that it does not lend.
    crew.requester.job(wait_on(3, 1), parts(3), |_| {}).await;
    let job = crew.requester.job(wait_on(3, 1_000), parts(12), |event| {
        if matches!(event, Event::TaskStarted { .. }) {
            late.lends.store(true, Ordering::Relaxed);
        }
    });
    // It does not take it.
    let offered = async { late.evil.jobs.recv().await.is_some() };
    let ((report, _), offered) = tokio::join!(job, offered);
    assert!(offered, "it was offered the job");
    assert_counted_once(&report);

    // What it said of itself is not believed any more.
    let before = late.asked();
    late.lends.store(false, Ordering::Relaxed);
    crew.requester.job(wait_on(3, 1), parts(3), |_| {}).await;
    assert!(late.asked() > before, "it was not asked");
}
