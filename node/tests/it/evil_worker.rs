//! Workers that are silent, lie or leave: the job ends with the bytes of a local run, and liars are not hired again.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::Stream;
use msm_node::command::{Command, Devices, Invoke, JobReport, Reply, Request};
use msm_protocol::{
    ContentHash, PeerId, SecretKey, cbor,
    device::{DeviceExt, DeviceInfo, Network},
    job::{
        Accept, Chunk, Claim, Heartbeat, Job, Offer, Outcome, Receipt, TaskHeader, TaskResult, ToRequester, ToWorker,
    },
};
use serde_bytes::ByteBuf;

use crate::{
    evil::{Answer, Evil, Knobs},
    rig::*,
    wire::{self, result},
};

const LINES: usize = 12;
/// About 30 ms of work a line: the evil worker is there before all is done.
const ROUNDS: usize = 400_000;

/// One task with its whole input, as an evil worker got it.
pub struct Given {
    pub offer: Offer,
    pub job: Job,
    pub task: TaskHeader,
    pub input: String,
}

impl Given {
    fn output(&self) -> Vec<u8> {
        grind(&self.input, ROUNDS).into_bytes()
    }

    /// What an honest worker signs.
    fn receipt(&self, peer: PeerId) -> Receipt {
        let output = ContentHash::of(&self.output());
        let claim = Claim { job: self.job.job, task: self.task.task, input: self.task.hash, output };
        Receipt { v: 1, peer, claims: vec![claim], package: self.offer.manifest }
    }
}

/// What has come over one lane.
#[derive(Default)]
pub struct Lane {
    offer: Option<Offer>,
    jobs: HashMap<u32, Job>,
}

/// Takes the offer.
pub async fn accept(stream: &mut Stream) -> Option<Lane> {
    let Some(ToWorker::Offer(offer)) = wire::receive(stream).await else { return None };
    wire::send(stream, &ToRequester::Accept(Accept { credit: 64, engine: "js".into() })).await;
    Some(Lane { offer: Some(*offer), ..Lane::default() })
}

/// The next task; `None` when the lane is closed.
pub async fn next_task(stream: &mut Stream, lane: &mut Lane) -> Option<Given> {
    loop {
        // A lane lies idle between jobs.
        match wire::receive_within(stream, 2 * SOON).await.ok()?? {
            ToWorker::Job(job) => drop(lane.jobs.insert(job.slot, *job)),
            ToWorker::Task(task) => {
                let (offer, job) = (lane.offer.clone()?, lane.jobs.get(&task.slot).cloned()?);
                let input = String::from_utf8(task.bytes.clone().expect("a short input").into_vec()).unwrap();
                return Some(Given { offer, job, task, input });
            }
            ToWorker::Cancel(_) | ToWorker::Over(_) => {}
            _ => return None,
        }
    }
}

/// How an evil worker answers a task. False when it has left.
type Way =
    for<'a> fn(&'a mut Stream, &'a SecretKey, Given) -> std::pin::Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// Whether the way it behaves is a lie (then it is struck out) or just bad.
#[derive(PartialEq)]
enum Verdict {
    Struck,
    Pardoned,
}

/// The right output, without a word for it.
async fn unsigned(stream: &mut Stream, given: &Given) -> bool {
    wire::send(stream, &ToRequester::Result(Box::new(result(given.task.id, &given.output())))).await
}

/// The right output, and a receipt that is wrong in some way.
async fn signed(stream: &mut Stream, key: &SecretKey, given: &Given, worse: impl Fn(&mut Receipt)) -> bool {
    let mut receipt = given.receipt(PeerId::of(&key.public()));
    worse(&mut receipt);
    unsigned(stream, given).await && wire::send(stream, &wire::receipt(key, &receipt)).await
}

/// Runs a job with an evil worker of this kind and an honest one; then looks whether the evil one would be used again.
async fn job_with(way: Way, verdict: Verdict) -> (JobReport, Duration) {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let crew = Crew::gather(&lab, &market, 1).await;
    crew.warm(&grind_on(2, 10), lines(LINES)).await;
    let mut evil = Evil::start(Knobs::default().lending(&market)).await;
    evil.dial(&crew.requester.address).await;
    until("the requester sees the evil one", SOON, async || {
        let peers = crew.requester.peers().await;
        peers.iter().any(|row| row.peer_id == evil.peer && row.eqs.is_some()).then_some(())
    })
    .await;

    let peer = evil.peer;
    let key = SecretKey::from_seed(&evil.key.seed());
    let tasks = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let given_tasks = tasks.clone();
    let work = tokio::spawn(async move {
        let mut stream = evil.next_job().await;
        if let Some(mut lane) = accept(&mut stream).await {
            while let Some(given) = next_task(&mut stream, &mut lane).await {
                given_tasks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if !way(&mut stream, &key, given).await {
                    break;
                }
            }
        }
        evil
    });
    let since = Instant::now();
    let invoke = grind_on(3, ROUNDS as u64);
    let (report, output) = crew.requester.job(invoke.clone(), lines(LINES), |_| {}).await;
    let took = since.elapsed();
    assert!(output == grind(&lines(LINES), ROUNDS), "the bytes of a local run");
    assert_counted_once(&report);
    assert!(tasks.load(std::sync::atomic::Ordering::Relaxed) > 0, "it was given a task");

    let plan = Invoke { plan: true, devices: Devices::Auto, ..invoke };
    let why = until("the plan says whether it is struck out", SOON, async || {
        let (events, _) = tokio::sync::mpsc::channel(1);
        let command = Command::Invoke(Box::new(plan.clone()));
        use msm_node::command::Door;
        let response = crew.requester.door().execute(Request { command, input: lines(LINES).into() }, events).await;
        let Reply::Plan(plan) = response.unwrap().reply else { panic!("a plan was asked for") };
        let row = plan.rows.into_iter().find(|row| row.peer_id == peer)?;
        ((verdict == Verdict::Struck) == row.why.contains("struck out")).then_some(row.why)
    })
    .await;
    assert!(verdict == Verdict::Pardoned || why.starts_with("struck out"), "{why}");
    drop(work);
    (report, took)
}

fn tasks_of_others(report: &JobReport) -> u32 {
    report.devices.iter().filter(|device| device.name != "evil").map(|device| device.tasks).sum()
}

#[tokio::test]
async fn it_accepts_and_never_answers() {
    let (report, took) = job_with(|_, _, _| Box::pin(async { true }), Verdict::Pardoned).await;
    assert_eq!(tasks_of_others(&report), report.tasks);
    assert!(report.tasks_rerun >= 1, "{report:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn it_says_for_ever_that_it_works() {
    let way: Way = |stream, _, given| {
        Box::pin(async move {
            let heartbeat = ToRequester::Heartbeat(Heartbeat { ids: vec![given.task.id] });
            while wire::send(stream, &heartbeat).await {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            false
        })
    };
    let (report, took) = job_with(way, Verdict::Pardoned).await;
    assert_eq!(tasks_of_others(&report), report.tasks);
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn it_sends_other_bytes_than_it_announced() {
    let way: Way = |stream, _, given| {
        Box::pin(async move {
            let mut result = result(given.task.id, &given.output());
            if let Outcome::Done(done) = &mut result.outcome {
                done.hash = ContentHash::of(b"something else");
            }
            wire::send(stream, &ToRequester::Result(Box::new(result))).await
        })
    };
    let (report, _) = job_with(way, Verdict::Struck).await;
    assert_eq!(tasks_of_others(&report), report.tasks);
}

/// A result counts at once; what the worker signs shows a moment later. Until then it has its first two at the most.
fn assert_struck_early(report: &JobReport) {
    assert!(tasks_of_others(report) >= report.tasks - 2, "{report:?}");
}

#[tokio::test]
async fn somebody_else_signed_its_receipt() {
    let way: Way = |stream, key, given| {
        Box::pin(async move {
            let (me, other) = (PeerId::of(&key.public()), SecretKey::from_seed(&[9; 32]));
            unsigned(stream, &given).await && wire::send(stream, &wire::receipt(&other, &given.receipt(me))).await
        })
    };
    assert_struck_early(&job_with(way, Verdict::Struck).await.0);
}

#[tokio::test]
async fn its_receipt_is_for_another_input() {
    let way: Way = |stream, key, given| {
        Box::pin(async move {
            let another = |receipt: &mut Receipt| receipt.claims[0].input = ContentHash::of(b"another input");
            signed(stream, key, &given, another).await
        })
    };
    assert_struck_early(&job_with(way, Verdict::Struck).await.0);
}

#[tokio::test]
async fn its_receipt_is_for_another_output() {
    let way: Way = |stream, key, given| {
        Box::pin(async move {
            let another = |receipt: &mut Receipt| receipt.claims[0].output = ContentHash::of(b"another output");
            signed(stream, key, &given, another).await
        })
    };
    assert_struck_early(&job_with(way, Verdict::Struck).await.0);
}

#[tokio::test]
async fn its_receipt_is_for_another_package() {
    let way: Way = |stream, key, given| {
        Box::pin(async move {
            let another = |receipt: &mut Receipt| receipt.package = ContentHash::of(b"another package");
            signed(stream, key, &given, another).await
        })
    };
    assert_struck_early(&job_with(way, Verdict::Struck).await.0);
}

/// Right answers that nobody stands for: the job may be over long before that is seen.
#[tokio::test]
async fn it_never_signs() {
    let way: Way = |stream, _, given| Box::pin(async move { unsigned(stream, &given).await });
    job_with(way, Verdict::Struck).await;
}

#[tokio::test]
async fn it_announces_more_than_a_task_may_have() {
    let way: Way = |stream, _, given| {
        Box::pin(async move {
            let mut result = result(given.task.id, b"x");
            if let Outcome::Done(done) = &mut result.outcome {
                (done.size, done.bytes) = (1 << 40, None);
            }
            wire::send(stream, &ToRequester::Result(Box::new(result))).await
        })
    };
    job_with(way, Verdict::Struck).await;
}

#[tokio::test]
async fn b50_it_answers_twice() {
    let way: Way = |stream, key, given| {
        Box::pin(async move { signed(stream, key, &given, |_| ()).await && unsigned(stream, &given).await })
    };
    let (report, _) = job_with(way, Verdict::Struck).await;
    assert!(tasks_of_others(&report) >= report.tasks - 1, "one answer counts at most: {report:?}");
}

#[tokio::test]
async fn b50_it_signs_twice_for_one_answer() {
    let way: Way = |stream, key, given| {
        Box::pin(async move {
            let again = wire::receipt(key, &given.receipt(PeerId::of(&key.public())));
            signed(stream, key, &given, |_| ()).await && wire::send(stream, &again).await
        })
    };
    job_with(way, Verdict::Struck).await;
}

#[tokio::test]
async fn it_answers_what_it_was_not_asked() {
    let way: Way = |stream, _, mut given| {
        Box::pin(async move {
            given.task.id = 7_777;
            unsigned(stream, &given).await
        })
    };
    let (report, _) = job_with(way, Verdict::Struck).await;
    assert_eq!(tasks_of_others(&report), report.tasks);
}

/// Announces an output whose bytes follow in chunks.
fn long_result(given: &Given) -> TaskResult {
    let mut result = result(given.task.id, &given.output());
    if let Outcome::Done(done) = &mut result.outcome {
        done.bytes = None;
    }
    result
}

#[tokio::test]
async fn it_sends_chunks_out_of_order() {
    let way: Way = |stream, _, given| {
        Box::pin(async move {
            wire::send(stream, &ToRequester::Result(Box::new(long_result(&given)))).await;
            let wrong = Chunk { at: 1, id: given.task.id, bytes: ByteBuf::from(&given.output()[1..]) };
            wire::send(stream, &ToRequester::Chunk(wrong)).await
        })
    };
    let (report, _) = job_with(way, Verdict::Struck).await;
    assert_eq!(tasks_of_others(&report), report.tasks);
}

#[tokio::test]
async fn it_leaves_in_the_middle_of_an_output() {
    let way: Way = |stream, _, given| {
        Box::pin(async move {
            wire::send(stream, &ToRequester::Result(Box::new(long_result(&given)))).await;
            let output = given.output();
            let half = Chunk { at: 0, id: given.task.id, bytes: ByteBuf::from(&output[..output.len() / 2]) };
            wire::send(stream, &ToRequester::Chunk(half)).await;
            false
        })
    };
    let (report, took) = job_with(way, Verdict::Pardoned).await;
    assert_eq!(tasks_of_others(&report), report.tasks);
    assert!(took < Duration::from_secs(4), "noticed at once: {took:?}");
}

#[tokio::test]
async fn it_mumbles() {
    let way: Way =
        |stream, _, _| Box::pin(async move { wire::send_bytes(stream, &[3, 0, 0, 0, 0x9f, 0x9f, 0x9f]).await });
    let (report, _) = job_with(way, Verdict::Struck).await;
    assert_eq!(tasks_of_others(&report), report.tasks);
}

/// It promises everything and accepts nothing: the job does not wait for it.
#[tokio::test]
async fn it_does_not_even_accept() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let crew = Crew::gather(&lab, &market, 1).await;
    crew.warm(&grind_on(2, 10), lines(LINES)).await;
    let evil = Evil::start(Knobs::default().lending(&market)).await;
    evil.dial(&crew.requester.address).await;
    until("both are seen", SOON, async || (crew.requester.peers().await.len() == 2).then_some(())).await;
    let since = Instant::now();
    let (report, output) = crew.requester.job(grind_on(3, ROUNDS as u64), lines(LINES), |_| {}).await;
    assert!(output == grind(&lines(LINES), ROUNDS));
    assert_counted_once(&report);
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
}

/// What a device says about itself is clamped or not believed; nothing that it says upsets a choice.
#[tokio::test]
async fn b17_scores_that_no_device_has() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let crew = Crew::gather(&lab, &market, 1).await;
    let honest = DeviceInfo {
        v: 1,
        eqs: 50.0,
        ext: DeviceExt {
            cpu: 1.0,
            mem: 1.0,
            name: "odd".into(),
            cores: 1,
            slots: 1,
            speed: 1.0,
            battery: 1.0,
            engines: vec!["js".into()],
            markets: vec![market.id],
        },
        gps: false,
        network: Network::High,
        availability: true,
    };
    let mut odd = Vec::new();
    for eqs in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e308, -1.0, -0.0] {
        let mut info = DeviceInfo { eqs: 12.5, ..honest.clone() };
        (info.ext.cpu, info.ext.mem, info.ext.speed, info.ext.battery) = (-1.0, 1e308, -0.0, 7.0);
        info.ext.name = format!("\u{1b}[2Jodd {}", "x".repeat(4_000));
        let mut answer = cbor::to_vec(&info).unwrap();
        // The encoder refuses what is not a number, so it is written over a number of the same length.
        let at = answer.windows(8).position(|window| window == 12.5_f64.to_be_bytes()).expect("a float of eight bytes");
        answer[at..at + 8].copy_from_slice(&eqs.to_be_bytes());
        let device = Box::new(move |_: &[u8]| Answer::Bytes(answer.clone()));
        let evil = Evil::start(Knobs { device, ..Knobs::default() }).await;
        evil.dial(&crew.requester.address).await;
        odd.push(evil);
    }
    until("all are seen", SOON, async || (crew.requester.peers().await.len() == 1 + odd.len()).then_some(())).await;
    crew.warm(&grind_on(8, 10), lines(LINES)).await;
    for row in crew.requester.peers().await {
        assert!(row.eqs.is_none_or(|eqs| (0.0..=300.0).contains(&eqs)), "{row:?}");
        assert!(row.name.chars().count() <= 64 && !row.name.contains('\u{1b}'), "{row:?}");
    }
    let shown = msm(&crew.requester.home, &["peers"]).await;
    assert!(shown.code == 0 && !shown.text().contains('\u{1b}'), "{}", shown.text());
}
