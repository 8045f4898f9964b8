//! Workers that compute, sign and lie: found out by comparison, struck with evidence, their parts done again.

use std::{
    collections::HashSet,
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::AsyncWriteExt;
use libp2p::Stream;
use msm_node::{
    command::{Command, Devices, Door, ErrorCode, Event, GrantWish, Invoke, JobReport, Redundancy, Reply, Request},
    resources::words::{Audience, Right},
};
use msm_protocol::{
    ContentHash, PeerId, SecretKey,
    evidence::Evidence,
    job::{Claim, Receipt, ToRequester},
};

use crate::{
    evil::{Evil, Knobs},
    evil_worker::{Given, accept, next_task},
    rig::*,
    wire::{self, result},
};

/// Rounds of `grind`: some milliseconds a line in the guest, so that every worker gets a share.
const ROUNDS: u64 = 40_000;
/// A liar gets at most so many parts after its first lie when K of N devices have to agree.
const PARTS_AFTER_A_LIE: usize = 30;

/// What a liar makes of the right output of a task; nothing for the right one.
type Lie = Box<dyn FnMut(u32) -> bool + Send>;

/// How a liar works.
#[derive(Clone, Copy, Default)]
struct Way {
    /// Time for each task.
    delay: Duration,
    /// It closes the stream after so many results and signs for none.
    flees_after: Option<usize>,
}

/// A worker that is honest but for some tasks. It ends when it is dropped.
struct Liar {
    peer: PeerId,
    /// Tasks that it answered, and whether with a lie.
    answers: Arc<Mutex<Vec<bool>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Liar {
    async fn start(crew: &Crew, market: &Market, lies: impl FnMut(u32) -> bool + Send + 'static) -> Self {
        Self::start_slow(crew, market, Duration::ZERO, lies).await
    }

    /// One that takes `delay` for each task.
    async fn start_slow(
        crew: &Crew,
        market: &Market,
        delay: Duration,
        lies: impl FnMut(u32) -> bool + Send + 'static,
    ) -> Self {
        let evil = Evil::start(Knobs::default().lending(market)).await;
        Self::join(evil, crew, Way { delay, ..Way::default() }, lies).await
    }

    async fn join(mut evil: Evil, crew: &Crew, way: Way, lies: impl FnMut(u32) -> bool + Send + 'static) -> Self {
        evil.dial(&crew.requester.address).await;
        until("the requester sees the liar", SOON, async || {
            let peers = crew.requester.peers().await;
            peers.iter().any(|row| row.peer_id == evil.peer && row.eqs.is_some()).then_some(())
        })
        .await;
        let (peer, seed) = (evil.peer, evil.key.seed());
        let answers = Arc::new(Mutex::new(Vec::new()));
        let lies: Arc<Mutex<Lie>> = Arc::new(Mutex::new(Box::new(lies)));
        let told = answers.clone();
        let task = tokio::spawn(async move {
            let mut streams = tokio::task::JoinSet::new();
            while let Some(stream) = evil.jobs.recv().await {
                let key = SecretKey::from_seed(&seed);
                streams.spawn(serve(stream, key, lies.clone(), told.clone(), way));
            }
        });
        Self { peer, answers, task }
    }

    /// Answers after its first lie, that one included.
    fn after_first_lie(&self) -> usize {
        let answers = self.answers.lock().unwrap();
        answers.iter().skip_while(|lied| !**lied).count()
    }

    fn lied(&self) -> bool {
        self.answers.lock().unwrap().contains(&true)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: Stream, key: SecretKey, lies: Arc<Mutex<Lie>>, answers: Arc<Mutex<Vec<bool>>>, way: Way) {
    let Some(mut lane) = accept(&mut stream).await else { return };
    let mut given_up = 0;
    while let Some(given) = next_task(&mut stream, &mut lane).await {
        let params: serde_json::Value = serde_json::from_str(&given.job.params).unwrap();
        let rounds = params["rounds"].as_u64().unwrap() as usize;
        tokio::time::sleep(way.delay).await;
        let mut output = grind(&given.input, rounds).into_bytes();
        let lie = (lies.lock().unwrap())(given.task.task);
        if lie {
            output[0] ^= 1;
        }
        answers.lock().unwrap().push(lie);
        let Some(last) = way.flees_after else {
            if !answer(&mut stream, &key, &given, &output).await {
                return;
            }
            continue;
        };
        given_up += 1;
        let told = wire::send(&mut stream, &ToRequester::Result(Box::new(result(given.task.id, &output)))).await;
        if !told || given_up == last {
            let _ = stream.close().await;
            return;
        }
    }
}

/// The output, and the worker's word for it.
async fn answer(stream: &mut Stream, key: &SecretKey, given: &Given, output: &[u8]) -> bool {
    let (job, task) = (given.job.job, given.task.task);
    let claim = Claim { job, task, input: given.task.hash, output: ContentHash::of(output) };
    let receipt = Receipt { v: 1, peer: PeerId::of(&key.public()), claims: vec![claim], package: given.offer.manifest };
    wire::send(stream, &ToRequester::Result(Box::new(result(given.task.id, output)))).await
        && wire::send(stream, &wire::receipt(key, &receipt)).await
}

fn checked_by(redundancy: Redundancy, devices: u32) -> Invoke {
    Invoke { redundancy: Some(redundancy), ..grind_on(devices, ROUNDS) }
}

/// The reason for which a peer would not be used now; `None` when it would.
async fn why_not(node: &Node, peer: PeerId, devices: u32) -> Option<String> {
    let plan = Invoke { plan: true, devices: Devices::Auto, ..grind_on(devices, ROUNDS) };
    let (events, _) = tokio::sync::mpsc::channel(1);
    let request = Request { command: Command::Invoke(Box::new(plan)), input: lines(40).into() };
    let response = node.door().execute(request, events).await.unwrap();
    let Reply::Plan(plan) = response.reply else { panic!("a plan was asked for") };
    let row = plan.rows.into_iter().find(|row| row.peer_id == peer).expect("it is there");
    (!row.used).then_some(row.why)
}

fn struck(report: &JobReport) -> HashSet<PeerId> {
    report.checks.struck.iter().map(|row| row.peer_id).collect()
}

#[tokio::test]
async fn a_liar_is_found_by_a_spot_check_and_its_parts_are_done_again() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let mut crew = Crew::gather(&lab, &market, 1).await;
    crew.warm(&grind_on(2, 10), lines(12)).await;
    let liar = Liar::start(&crew, &market, |_| true).await;
    let text = lines(40);
    let mut told = Vec::new();
    let (report, output) = crew
        .requester
        .job(grind_on(3, ROUNDS), text.clone(), |event| {
            if let Event::Struck { peer_id, evidence, .. } = event {
                told.push((*peer_id, evidence.clone()));
            }
        })
        .await;
    assert!(output == grind(&text, ROUNDS as usize), "the bytes of a local run");
    assert_counted_once(&report);
    assert!(liar.lied(), "{report:?}");
    assert_eq!(struck(&report), HashSet::from([liar.peer]), "{report:?}");
    assert!(report.checks.redundancy == "spot" && report.checks.compared > report.checks.right, "{report:?}");
    assert!(report.checks.rows.iter().any(|row| row.peer_id == liar.peer && !row.agrees), "{report:?}");
    let theirs = report.devices.iter().find(|device| device.peer_id == liar.peer);
    assert!(theirs.is_none_or(|device| device.tasks == 0), "nothing of it counts: {report:?}");

    // Evidence that anybody with the input can check.
    let row = &report.checks.struck[0];
    let file = row.evidence.clone().expect("evidence");
    assert_eq!(told, [(liar.peer, Some(file.clone()))]);
    let evidence = Evidence::from_slice(&fs::read(crew.requester.home.evidence_dir().join(file)).unwrap()).unwrap();
    let claim = evidence.claim().unwrap();
    assert_eq!((claim.job, claim.output, evidence.right), (report.job_id, row.claimed, row.right));
    let tasks = report.tasks as usize;
    let whole: Vec<_> = text.lines().collect();
    let part = |n: usize| {
        let each = whole.len().div_ceil(tasks);
        whole.chunks(each).nth(n).map(|lines| lines.join("\n") + "\n")
    };
    // The split is the service's own business where parts are uneven; where they are not, input and output are known.
    if whole.len() % tasks == 0 {
        let input = part(row.task as usize).unwrap();
        assert_eq!(claim.input, ContentHash::of(input.as_bytes()));
        assert_eq!(row.right, ContentHash::of(grind(&input, ROUNDS as usize).as_bytes()));
    }

    // People and scripts are told, and nobody uses it again: not after a restart either.
    let shown = msm(&crew.requester.home, &["jobs", "show", &report.job_id.to_string()]).await;
    eprintln!("{}", shown.text());
    for part in ["checks", "spot: ", "wrong", "struck", "claimed ", "msm peers forgive"] {
        assert!(shown.text().contains(part), "{part}: {}", shown.text());
    }
    let why = why_not(&crew.requester, liar.peer, 3).await.expect("it is not used");
    assert!(
        why.starts_with("struck out: task ") && why.ends_with(&format!("msm peers forgive {}", liar.peer)),
        "{why}"
    );
    crew.requester.leave().await;
    let crew =
        Crew { requester: Node::start(&crew.requester.home, &[]).await, workers: std::mem::take(&mut crew.workers) };
    let listed = msm(&crew.requester.home, &["peers", "--json"]).await.json();
    assert_eq!(listed["struck"][0]["peer_id"], liar.peer.to_string(), "{listed}");
    assert_eq!(listed["struck"][0]["task"], row.task, "{listed}");

    // The owner may change his mind.
    let forgiven = msm(&crew.requester.home, &["peers", "forgive", &liar.peer.to_string(), "--json"]).await;
    assert_eq!(forgiven.json()["schema"], "msm.forgiven/1");
    let listed = msm(&crew.requester.home, &["peers", "--json"]).await.json();
    assert_eq!(listed["struck"], serde_json::json!([]));
    let again = msm(&crew.requester.home, &["peers", "forgive", &liar.peer.to_string(), "--json"]).await;
    assert_eq!((again.code, again.error()["code"].as_str()), (9, Some("not-found")));
}

/// One of the workers flips a byte in a tenth of its parts. Where two of three must agree no wrong byte gets through,
/// and it does not last 30 parts from its first lie on.
#[tokio::test]
async fn b71_a_tenth_of_its_parts_is_wrong() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let crew = Crew::gather(&lab, &market, 2).await;
    crew.warm(&grind_on(3, 10), lines(12)).await;
    for seed in 1..=4u64 {
        let mut n = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let liar = Liar::start(&crew, &market, move |_| {
            n ^= n << 13;
            n ^= n >> 7;
            n ^= n << 17;
            n % 10 == 0
        })
        .await;
        for round in 0..3 {
            let text = lines(60);
            let invoke = checked_by(Redundancy::Agree { agree: 2, of: 3 }, 4);
            let (report, output) = crew.requester.job(invoke, text.clone(), |_| {}).await;
            assert!(output == grind(&text, ROUNDS as usize), "liar {seed}, job {round}: {report:?}");
            assert_counted_once(&report);
            assert!(struck(&report).iter().all(|peer| *peer == liar.peer), "an honest one was struck: {report:?}");
            if why_not(&crew.requester, liar.peer, 4).await.is_some_and(|why| why.starts_with("struck out")) {
                break;
            }
        }
        assert!(liar.after_first_lie() <= PARTS_AFTER_A_LIE, "{} parts", liar.after_first_lie());
    }
}

/// A crew whose requester's owner has not granted what the service asks for, so that others alone can do the work.
async fn others_only(lab: &Lab, workers: usize) -> (Crew, Market) {
    let market = lab.market("shop", &[lab.grind_asking("[permissions]\ndevice = true")]);
    let crew = Crew::gather(lab, &market, workers).await;
    for worker in &crew.workers {
        worker.has_index(&market, 2).await;
        let wish = GrantWish {
            service: "grind".into(),
            right: Right::Device,
            to: Audience::Anyone,
            for_s: None,
            accuracy: None,
        };
        worker.ask(Command::Grant(Box::new(wish))).await.unwrap();
    }
    crew.warm(&grind_on(workers as u32, 10), lines(12)).await;
    (crew, market)
}

/// What a job of this crew comes to with a liar in it: right, and nobody honest is struck.
async fn frames_nobody(crew: &Crew, liar: &Liar, redundancy: Redundancy, devices: u32) -> JobReport {
    let text = lines(30);
    let (report, output) = crew.requester.job(checked_by(redundancy, devices), text.clone(), |_| {}).await;
    assert!(output == grind(&text, ROUNDS as usize), "{redundancy}: {report:?}");
    assert!(struck(&report).iter().all(|peer| *peer == liar.peer), "{report:?}");
    report
}

/// A liar that is asked to check an honest worker cannot have it struck: this device decides.
#[tokio::test]
async fn an_honest_worker_is_not_struck_on_a_liars_word() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let crew = Crew::gather(&lab, &market, 2).await;
    crew.warm(&grind_on(3, 10), lines(12)).await;
    let liar = Liar::start(&crew, &market, |_| true).await;
    for redundancy in [Redundancy::Agree { agree: 2, of: 3 }, Redundancy::Spot] {
        frames_nobody(&crew, &liar, redundancy, 4).await;
    }
    assert!(liar.lied());
    let why = why_not(&crew.requester, liar.peer, 4).await;
    assert!(why.as_ref().is_some_and(|why| why.starts_with("struck out")), "{why:?}");
}

/// Nor where this device takes no part: then a third one decides.
#[tokio::test]
async fn between_two_strangers_a_third_decides() {
    let lab = Lab::new();
    let (crew, market) = others_only(&lab, 2).await;
    let liar = Liar::start(&crew, &market, |_| true).await;
    let report = frames_nobody(&crew, &liar, Redundancy::Spot, 3).await;
    assert!(report.devices.iter().all(|device| !device.local), "{report:?}");
    assert!(liar.lied());
    assert!(has_left_out(&report, liar.peer), "{report:?}");
    let theirs = report.devices.iter().find(|device| device.peer_id == liar.peer);
    assert!(theirs.is_none_or(|device| device.tasks == 0), "nothing of it counts: {report:?}");
    assert!(struck(&report).is_empty(), "this device has computed nothing: {report:?}");
}

/// Whether others outvoted this worker.
fn has_left_out(report: &JobReport, peer: PeerId) -> bool {
    report.checks.rows.iter().any(|row| row.peer_id == peer && !row.agrees)
        && report.notes.iter().any(|note| note.contains("left out of this job"))
}

/// Two liars outvote an honest worker where this device takes no part. That is one job's loss: names cost nothing, and
/// they must not rob this node of its honest workers for good.
#[tokio::test]
async fn two_liars_cannot_have_an_honest_worker_struck_for_good() {
    let lab = Lab::new();
    let (crew, market) = others_only(&lab, 1).await;
    let honest = crew.workers[0].peer;
    let _liars = [Liar::start(&crew, &market, |_| true).await, Liar::start(&crew, &market, |_| true).await];
    // Who answers first is chance: the two have won when the honest one differed in any part.
    until("the honest worker is outvoted", SOON, async || {
        let invoke = checked_by(Redundancy::Agree { agree: 2, of: 3 }, 3);
        let (report, _) = crew.requester.job(invoke, lines(30), |_| {}).await;
        assert!(struck(&report).is_empty(), "{report:?}");
        has_left_out(&report, honest).then_some(())
    })
    .await;
    let listed = msm(&crew.requester.home, &["peers", "--json"]).await.json();
    assert_eq!(listed["struck"], serde_json::json!([]), "{listed}");
    assert!(!crew.requester.home.evidence_dir().exists(), "nothing is kept against it");
    assert_eq!(why_not(&crew.requester, honest, 3).await, None, "the next job uses it again");
}

/// One word against another, and nobody to decide: no strike, and no output that may be wrong.
#[tokio::test]
async fn one_word_against_another_strikes_nobody() {
    let lab = Lab::new();
    let (crew, market) = others_only(&lab, 1).await;
    let liar = Liar::start(&crew, &market, |_| true).await;
    let invoke = checked_by(Redundancy::Agree { agree: 2, of: 2 }, 2);
    let error = crew.requester.invoke(invoke, lines(20), |_| {}).await.unwrap_err();
    assert!(error.code == ErrorCode::Verification && error.message.contains("verification: "), "{error:?}");
    let listed = msm(&crew.requester.home, &["peers", "--json"]).await.json();
    assert_eq!(listed["struck"], serde_json::json!([]), "{listed}");
    assert!(liar.lied());
}

/// Two liars that agree: where three must agree they convince nobody.
#[tokio::test]
async fn two_liars_that_agree_do_not_make_three() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let crew = Crew::gather(&lab, &market, 2).await;
    crew.warm(&grind_on(3, 10), lines(12)).await;
    let liars = [
        Liar::start(&crew, &market, |task| task % 2 == 0).await,
        Liar::start(&crew, &market, |task| task % 2 == 0).await,
    ];
    let text = lines(30);
    let invoke = checked_by(Redundancy::Agree { agree: 3, of: 5 }, 5);
    let (report, output) = crew.requester.job(invoke, text.clone(), |_| {}).await;
    assert!(output == grind(&text, ROUNDS as usize), "{report:?}");
    assert_counted_once(&report);
    let honest: HashSet<PeerId> = crew.workers.iter().map(|worker| worker.peer).collect();
    assert!(struck(&report).is_disjoint(&honest), "{report:?}");
    assert!(liars.iter().any(Liar::lied));
}

/// It says that it is three times as fast as the reference, and is fifty times as slow: it holds two parts at most
/// before its own speed is known, and the job does not wait for it.
#[tokio::test]
async fn b72_a_score_that_is_a_lie_gets_two_parts() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let crew = Crew::gather(&lab, &market, 1).await;
    crew.warm(&grind_on(2, 10), lines(12)).await;
    let slow = Liar::start_slow(&crew, &market, Duration::from_secs(3), |_| false).await;
    let given = Arc::new(Mutex::new((0u32, false)));
    let seen = given.clone();
    let text = lines(60);
    let (report, output) = crew
        .requester
        .job(grind_on(3, ROUNDS), text.clone(), move |event| {
            let mut seen = seen.lock().unwrap();
            match event {
                Event::TaskStarted { peer_id, .. } if *peer_id == slow.peer && !seen.1 => seen.0 += 1,
                Event::TaskDone { peer_id, .. } if *peer_id == slow.peer => seen.1 = true,
                _ => {}
            }
        })
        .await;
    assert!(output == grind(&text, ROUNDS as usize));
    assert_counted_once(&report);
    let (parts, _) = *given.lock().unwrap();
    assert!((1..=2).contains(&parts), "{parts} parts before its first answer");
}

/// Runs a job with a worker that was right for long, gives two more results, wrong or right, and is gone before anybody
/// has its word for them.
async fn with_one_that_flees(lies: bool) -> (Lab, Crew, Liar, JobReport) {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let mut crew = Crew::gather(&lab, &market, 1).await;
    crew.warm(&grind_on(2, 10), lines(12)).await;
    let evil = Evil::start(Knobs::default().lending(&market)).await;
    // Only one in fifty of its results would be looked at.
    crew.requester.leave().await;
    let trusted = format!("[[worker]]\npeer = \"{}\"\nin-a-row = 1000\n", evil.peer);
    fs::write(crew.requester.home.trust_file(), trusted).unwrap();
    crew.requester = Node::start(&crew.requester.home, &["--peer", &crew.workers[0].address]).await;
    crew.requester.sees(&[&crew.workers[0]]).await;
    let liar = Liar::join(evil, &crew, Way { flees_after: Some(2), ..Way::default() }, move |_| lies).await;
    let text = lines(40);
    let (report, output) = crew.requester.job(grind_on(3, ROUNDS), text.clone(), |_| {}).await;
    assert!(output == grind(&text, ROUNDS as usize), "the bytes of a local run: {report:?}");
    assert_counted_once(&report);
    assert!(liar.answers.lock().unwrap().len() >= 2, "it was given tasks: {report:?}");
    assert!(report.notes.iter().any(|note| note.contains("left before it signed for 2 of its results")), "{report:?}");
    assert!(report.checks.rows.iter().filter(|row| row.peer_id == liar.peer).count() >= 1, "{report:?}");
    (lab, crew, liar, report)
}

#[tokio::test]
async fn a_liar_that_is_gone_before_it_signs_gains_nothing() {
    let (_lab, crew, liar, report) = with_one_that_flees(true).await;
    assert_eq!(struck(&report), HashSet::from([liar.peer]), "{report:?}");
    let row = &report.checks.struck[0];
    assert!(row.why.ends_with("it lied, and left before signing") && row.evidence.is_none(), "{row:?}");
    let why = why_not(&crew.requester, liar.peer, 3).await.expect("it is not used");
    assert!(why.starts_with("struck out: ") && why.contains("left before signing"), "{why}");
}

/// A phone that loses its network is no liar: its results are confirmed and count, and that it left is remembered.
#[tokio::test]
async fn one_that_is_gone_before_it_signs_and_was_right_is_only_checked_more() {
    let (_lab, crew, liar, report) = with_one_that_flees(false).await;
    assert!(struck(&report).is_empty() && report.checks.right == report.checks.compared, "{report:?}");
    assert_eq!(why_not(&crew.requester, liar.peer, 3).await, None);
    until("that it left is on disk", SOON, async || {
        let kept = fs::read_to_string(crew.requester.home.trust_file()).unwrap();
        kept.contains("left-unsigned = 1").then_some(())
    })
    .await;
}

/// What cannot be compared is not checked, and whoever asks for it is told.
#[tokio::test]
async fn only_what_is_deterministic_can_be_compared() {
    let lab = Lab::new();
    let dice = lab.service("dice", "1.0.0", "", "export const run = input => input;");
    let market = lab.market("shop", &[lab.grind(), dice]);
    let home = lab.home("alone");
    market.served_by(&home);
    let node = Node::start(&home, &[]).await;
    fs::write(home.folder().join("in.txt"), lines(4)).unwrap();
    let refused = msm(&home, &["invoke", "dice", "in.txt", "--redundancy", "2/3", "--json"]).await;
    assert_eq!((refused.code, refused.error()["code"].as_str()), (2, Some("usage")), "{}", refused.err);
    assert!(refused.err.contains("dice is not deterministic"), "{}", refused.err);
    let ran = msm(&home, &["invoke", "dice", "in.txt", "-o", "out.txt", "--json"]).await;
    assert_eq!(ran.json()["checks"]["redundancy"], "none", "{}", ran.text());
    // Too few devices: said before it starts; with --strict it does not start.
    let few = ["invoke", "grind", "in.txt", "-p", "rounds=10", "--redundancy", "2/3", "--json"];
    let ran = msm(&home, &[&few[..], &["-o", "out.txt"]].concat()).await;
    let notes = ran.json()["notes"].to_string();
    assert!(notes.contains("redundancy 2/3: 2 devices must agree on each part, 1 take"), "{notes}");
    let refused = msm(&home, &[&few[..], &["--strict"]].concat()).await;
    assert_eq!((refused.code, refused.error()["code"].as_str()), (5, Some("no-device")), "{}", refused.err);
    for bad in ["1/3", "4/3", "2/9", "x"] {
        assert_eq!(msm(&home, &["invoke", "grind", "in.txt", "--redundancy", bad]).await.code, 2, "{bad}");
    }
    drop(node);
}
