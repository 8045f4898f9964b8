//! Stories of one lane, told without a stream.

use msm_protocol::{
    MarketId, RefusalCode, SecretKey, cbor,
    device::Requirements,
    job::TaskOp,
    limits::{CLAIMS, JOBS_PER_LANE},
};

use super::*;
use crate::node::frames::Outbox;

const ROOM: usize = 64 * 1024;

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

pub fn peer() -> PeerId {
    PeerId::of(&key(5).public())
}

pub fn offer() -> Offer {
    Offer {
        v: 1,
        op: TaskOp::Run,
        name: "service".into(),
        need: Requirements { eqs: 0.0, gps: false, battery: 0, network: None },
        engine: None,
        market: MarketId::from_bytes([1; 32]),
        version: 1,
        manifest: ContentHash::of(b"manifest"),
    }
}

/// A lane whose offer was taken, with this credit.
pub fn open(credit: u32) -> State {
    let mut lane = State::new(peer(), offer(), Instant::now());
    said(&mut lane);
    assert!(lane.accepted(&Accept { credit, engine: "js".into() }));
    lane
}

/// A job of this number on the lane.
pub fn job(lane: &mut State, n: u8) -> (u32, mpsc::Receiver<Report>) {
    let (desk, reports) = mpsc::channel(DESK);
    let terms = JobTerms { job: JobId::from_bytes([n; 16]), tasks: 9, params: "{}".into(), output_limit: 1 << 20 };
    (lane.attach(terms, Desk::Job(desk), JOBS_PER_LANE).unwrap(), reports)
}

fn attempt(task: u32) -> AttemptRef {
    AttemptRef { task, attempt: 0 }
}

pub fn start(lane: &mut State, slot: u32, task: u32, size: usize) {
    let input = Bytes::from(vec![task as u8; size]);
    let hash = ContentHash::of(&input);
    assert!(lane.start(slot, attempt(task), input.into(), hash));
}

/// Everything that would be written until nothing is left, one word for each frame.
pub fn said(lane: &mut State) -> Vec<String> {
    let mut said = Vec::new();
    loop {
        let mut batch = Vec::new();
        let next = lane.fill(&mut batch, ROOM);
        let mut rest = &batch[..];
        while let Some((length, tail)) = rest.split_first_chunk::<4>() {
            let (frame, tail) = tail.split_at(u32::from_le_bytes(*length) as usize);
            rest = tail;
            said.push(match cbor::from_slice(frame, frame.len()).unwrap() {
                ToWorker::Offer(_) => "offer".into(),
                ToWorker::Job(job) => format!("job {}", job.slot),
                ToWorker::Task(task) => format!("task {} of {} as {}", task.task, task.slot, task.id),
                ToWorker::Cancel(id) => format!("cancel {id}"),
                ToWorker::Over(slot) => format!("over {slot}"),
                ToWorker::Done => "done".into(),
                ToWorker::Chunk(_) => unreachable!("written by hand"),
            });
        }
        match next {
            Next::More => {}
            Next::Chunk(head, piece) => {
                assert_eq!(head.len as u64, piece.len());
                said.push(format!("chunk {} {}", head.id, head.at));
            }
            Next::Idle => return said,
            Next::End => {
                said.push("end".into());
                return said;
            }
        }
    }
}

fn heard(reports: &mut mpsc::Receiver<Report>) -> Vec<String> {
    let mut heard = Vec::new();
    while let Ok(report) = reports.try_recv() {
        heard.push(match report {
            Report::Ready { credit, .. } => format!("ready {credit}"),
            Report::Heartbeat(attempts) => format!("at {:?}", attempts.iter().map(|it| it.task).collect::<Vec<_>>()),
            Report::Receipt(claims, _) => format!("signed {:?}", claims.iter().map(|it| it.task).collect::<Vec<_>>()),
            Report::Unsigned(claims) => {
                format!("unsigned {:?}", claims.iter().map(|it| it.task).collect::<Vec<_>>())
            }
            other => format!("{other:?}"),
        });
    }
    heard
}

/// The worker's signed word, as it would honestly be.
fn receipt(signer: u8, claims: &[Claim], package: &[u8]) -> Vec<u8> {
    let receipt = Receipt { v: 1, peer: peer(), claims: claims.to_vec(), package: ContentHash::of(package) };
    Envelope::sign(&receipt, &[&key(signer)]).unwrap().to_vec().unwrap()
}

fn take(lane: &mut State, envelope: Vec<u8>) -> Result<(), String> {
    lane.receipt(Signed::by(&peer(), envelope)?).map(drop)
}

#[test]
fn the_first_tasks_do_not_wait_for_the_answer_to_the_offer() {
    let mut lane = State::new(peer(), offer(), Instant::now());
    let (slot, mut reports) = job(&mut lane, 1);
    (0..4).for_each(|task| start(&mut lane, slot, task, 10));
    assert_eq!(said(&mut lane), ["offer", "job 0", "task 0 of 0 as 0", "task 1 of 0 as 1"], "as many as CREDIT");
    assert!(heard(&mut reports).is_empty());
    assert!(lane.accepted(&Accept { credit: 3, engine: "js".into() }));
    assert!(!lane.accepted(&Accept { credit: 3, engine: "js".into() }), "once");
    assert_eq!(heard(&mut reports), ["ready 3"]);
    assert_eq!(said(&mut lane), ["task 2 of 0 as 2"], "as many as its credit");
    lane.answered(1, None, Instant::now()).unwrap();
    assert_eq!(said(&mut lane), ["task 3 of 0 as 3"]);
}

#[test]
fn inputs_sent_before_the_answer_are_bounded() {
    let mut lane = State::new(peer(), offer(), Instant::now());
    let (slot, _reports) = job(&mut lane, 1);
    start(&mut lane, slot, 0, EARLY_BYTES - 5);
    start(&mut lane, slot, 1, 10);
    let all = said(&mut lane);
    assert!(all.iter().any(|word| word == "task 0 of 0 as 0") && !all.iter().any(|word| word.contains("task 1")));
    lane.accepted(&Accept { credit: 2, engine: "js".into() });
    assert_eq!(said(&mut lane), ["task 1 of 0 as 1"]);
}

/// Short inputs pass between the chunks of a long one, a second long one waits, and ids grow as they are written.
#[test]
fn ids_grow_on_the_stream_whatever_overtakes_what() {
    let mut lane = open(64);
    let (slot, _reports) = job(&mut lane, 1);
    start(&mut lane, slot, 0, 2 * CHUNK_BYTES);
    let mut batch = Vec::new();
    assert!(matches!(lane.fill(&mut batch, ROOM), Next::Chunk(head, _) if (head.id, head.at) == (0, 0)));
    start(&mut lane, slot, 1, INLINE_BYTES + 1);
    assert_eq!(said_one(&mut lane), format!("chunk 0 {CHUNK_BYTES}"), "the second long one waits");
    let (other, _others) = job(&mut lane, 2);
    start(&mut lane, slot, 2, INLINE_BYTES + 1);
    start(&mut lane, other, 3, 5);
    let all = said(&mut lane);
    let wanted = ["task 1 of 0 as 1", "job 1", "task 3 of 1 as 2", "chunk 1 0", "task 2 of 0 as 3", "chunk 3 0"];
    assert_eq!(all, wanted);
}

fn said_one(lane: &mut State) -> String {
    let mut batch = Vec::new();
    match lane.fill(&mut batch, ROOM) {
        Next::Chunk(head, _) if batch.is_empty() => format!("chunk {} {}", head.id, head.at),
        other => panic!("{other:?} behind {} bytes", batch.len()),
    }
}

/// An attempt that is taken back before it was written is never announced: its worker would run it.
#[test]
fn a_cancelled_input_is_not_sent() {
    let mut lane = open(64);
    let (slot, _reports) = job(&mut lane, 1);
    (0..3).for_each(|task| start(&mut lane, slot, task, 10));
    lane.cancel(slot, attempt(1));
    assert_eq!(said(&mut lane), ["job 0", "task 0 of 0 as 0", "task 2 of 0 as 1"]);
    start(&mut lane, slot, 3, 3 * CHUNK_BYTES);
    let mut batch = Vec::new();
    assert!(matches!(lane.fill(&mut batch, ROOM), Next::Chunk(..)));
    lane.cancel(slot, attempt(3));
    assert_eq!(said(&mut lane), ["cancel 2"], "the rest of its chunks is not sent either");
}

/// A result that crosses its cancel is no lie and frees nothing twice; the worker may sign for it.
#[test]
fn a_result_may_cross_its_cancel() {
    let mut lane = open(2);
    let (slot, mut reports) = job(&mut lane, 1);
    (0..3).for_each(|task| start(&mut lane, slot, task, 10));
    said(&mut lane);
    heard(&mut reports);
    lane.cancel(slot, attempt(0));
    assert_eq!(said(&mut lane), ["cancel 0", "task 2 of 0 as 2"], "its credit is free at once");
    let output = ContentHash::of(b"output");
    assert!(lane.answered(0, Some(output), Instant::now()).unwrap().is_cancelled);
    assert!(lane.answered(0, Some(output), Instant::now()).is_none(), "once");
    start(&mut lane, slot, 3, 10);
    assert!(said(&mut lane).is_empty(), "both places are taken");
    let claims: Vec<Claim> = lane.owed.iter().map(|(_, claim)| *claim).collect();
    assert_eq!(take(&mut lane, receipt(5, &claims, b"manifest")), Ok(()));
}

#[test]
fn jobs_take_turns() {
    let mut lane = open(4);
    let (a, _a) = job(&mut lane, 1);
    let (b, _b) = job(&mut lane, 2);
    (0..3).for_each(|task| start(&mut lane, a, task, 10));
    (0..3).for_each(|task| start(&mut lane, b, task, 10));
    let tasks: Vec<String> = said(&mut lane).into_iter().filter(|word| word.starts_with("task")).collect();
    assert_eq!(tasks, ["task 0 of 0 as 0", "task 0 of 1 as 1", "task 1 of 0 as 2", "task 1 of 1 as 3"]);
}

/// A job that came first and sends its first task last is told to the worker last: slots grow on the stream too.
#[test]
fn slots_grow_on_the_stream_whoever_came_first() {
    let mut lane = open(64);
    let (a, mut first) = job(&mut lane, 1);
    let (b, mut second) = job(&mut lane, 2);
    start(&mut lane, b, 0, 10);
    assert_eq!(said(&mut lane), ["job 0", "task 0 of 0 as 0"]);
    start(&mut lane, a, 0, 10);
    assert_eq!(said(&mut lane), ["job 1", "task 0 of 1 as 1"]);
    heard(&mut first);
    heard(&mut second);
    lane.refused(1, Refusal::new(RefusalCode::BadInput, ""), Instant::now());
    assert!(heard(&mut first)[0].starts_with("Refused") && heard(&mut second).is_empty());
    lane.leave(b, Instant::now());
    assert_eq!(said(&mut lane), ["over 1", "over 0"]);
}

#[test]
fn a_job_that_leaves_takes_its_tasks_with_it() {
    let mut lane = open(2);
    let (a, _a) = job(&mut lane, 1);
    let (b, _b) = job(&mut lane, 2);
    (0..3).for_each(|task| start(&mut lane, a, task, 10));
    said(&mut lane);
    start(&mut lane, b, 0, 10);
    lane.leave(a, Instant::now());
    assert_eq!(said(&mut lane), ["over 0", "job 1", "task 0 of 1 as 2"]);
    assert!(lane.idle_since().is_none());
    // Told, and gone before the worker knew of it.
    let (c, _c) = job(&mut lane, 3);
    lane.leave(c, Instant::now());
    lane.leave(b, Instant::now());
    assert_eq!(said(&mut lane), ["over 1"]);
    assert!(lane.idle_since().is_some());
    lane.close();
    assert!(!lane.has_place(JOBS_PER_LANE));
    assert_eq!(said(&mut lane), ["done", "end"]);
}

#[test]
fn what_waits_for_its_turn_is_not_late() {
    let mut lane = open(1);
    let (slot, mut reports) = job(&mut lane, 1);
    (0..3).for_each(|task| start(&mut lane, slot, task, 10));
    said(&mut lane);
    heard(&mut reports);
    lane.heartbeat(&[0, 77]);
    assert_eq!(heard(&mut reports), ["at [0, 1, 2]"]);
    // However many heartbeats wait, there is room for what must not be lost.
    (0..2 * DESK).for_each(|_| lane.heartbeat(&[0]));
    assert!(lane.tell(slot, Report::Failed(attempt(0), Refusal::new(RefusalCode::Busy, ""))));
    assert!(heard(&mut reports).iter().any(|word| word.starts_with("Failed")));
}

/// A receipt counts when it claims what was answered, in that order, and nothing else.
#[test]
fn receipts_are_for_what_was_answered() {
    let answered = || {
        let mut lane = open(64);
        let (a, a_reports) = job(&mut lane, 1);
        let (b, b_reports) = job(&mut lane, 2);
        (0..2).for_each(|task| start(&mut lane, a, task, 10));
        start(&mut lane, b, 7, 10);
        said(&mut lane);
        let now = Instant::now();
        assert!((0..3).all(|id| lane.answered(id, Some(ContentHash::of(&[id as u8])), now).is_some()));
        let claims: Vec<Claim> = lane.owed.iter().map(|(_, claim)| *claim).collect();
        (lane, claims, a_reports, b_reports)
    };
    let (mut lane, claims, mut a, mut b) = answered();
    assert_eq!(claims.len(), 3);
    heard(&mut a);
    heard(&mut b);
    assert_eq!(take(&mut lane, receipt(5, &claims[..2], b"manifest")), Ok(()));
    assert!(lane.owes_since().is_some(), "one is left");
    assert_eq!(take(&mut lane, receipt(5, &claims[2..], b"manifest")), Ok(()));
    assert!(lane.owes_since().is_none());
    assert_eq!(heard(&mut a), ["signed [0]", "signed [1]"]);
    assert_eq!(heard(&mut b), ["signed [7]"]);

    let changed = |change: &dyn Fn(&mut Vec<Claim>)| {
        let (_, mut claims, ..) = answered();
        change(&mut claims);
        receipt(5, &claims, b"manifest")
    };
    let other = ContentHash::of(b"another");
    let wrong: Vec<(&str, Vec<u8>)> = vec![
        ("somebody else's", receipt(6, &claims, b"manifest")),
        ("for another package", receipt(5, &claims, b"another")),
        ("for another input", changed(&|claims| claims[1].input = other)),
        ("for another output", changed(&|claims| claims[1].output = other)),
        ("for another task", changed(&|claims| claims[1].task = 5)),
        ("for another job", changed(&|claims| claims[1].job = JobId::from_bytes([9; 16]))),
        ("for a result twice", changed(&|claims| claims[1] = claims[0])),
        ("for more than was answered", changed(&|claims| claims.push(claims[0]))),
        ("for nothing", receipt(5, &[], b"manifest")),
        ("no envelope", b"x".to_vec()),
    ];
    for (what, bytes) in wrong {
        let (mut lane, ..) = answered();
        assert!(take(&mut lane, bytes).is_err(), "{what}");
        assert!(lane.owes_since().is_some(), "{what}");
    }
    let (mut lane, claims, ..) = answered();
    let bytes = receipt(5, &claims, b"manifest");
    assert_eq!(take(&mut lane, bytes.clone()), Ok(()));
    assert!(take(&mut lane, bytes).is_err(), "b50: the same again");
    assert!(claims.len() < CLAIMS);
}

#[test]
fn a_receipt_for_a_job_that_has_gone_is_not_thrown_away() {
    let mut lane = open(64);
    let [(a, _of_a), (gone, _)] = [1, 2].map(|n| job(&mut lane, n));
    for (slot, task) in [(a, 0), (gone, 8)] {
        start(&mut lane, slot, task, 10);
        said(&mut lane);
    }
    assert!((0..2).all(|id| lane.answered(id, Some(ContentHash::of(b"output")), Instant::now()).is_some()));
    lane.leave(gone, Instant::now());
    let claims: Vec<Claim> = lane.owed.iter().map(|(_, claim)| *claim).collect();
    let envelope = receipt(5, &claims, b"manifest");
    let (late, word) = lane.receipt(Signed::by(&peer(), envelope.clone()).unwrap()).unwrap();
    assert_eq!((late, &word[..]), (vec![claims[1]], &envelope[..]));
}

#[test]
fn the_end_is_told_to_every_job_and_nobody_comes_after() {
    let mut lane = open(2);
    let (_, mut a) = job(&mut lane, 1);
    let (call, answer) = oneshot::channel();
    let terms = JobTerms { job: JobId::from_bytes([2; 16]), tasks: 1, params: "{}".into(), output_limit: 1 };
    lane.attach(terms.clone(), Desk::Call(Some(call)), JOBS_PER_LANE).unwrap();
    heard(&mut a);
    lane.end(|| Report::Lost("gone".into()));
    assert_eq!(heard(&mut a), ["Lost(\"gone\")"]);
    assert!(matches!(answer.blocking_recv(), Ok(Report::Lost(_))));
    let (desk, _reports) = mpsc::channel(DESK);
    assert!(lane.attach(terms, Desk::Job(desk), JOBS_PER_LANE).is_none());
}

/// Each job hears of its own before the last report; what was signed for, or failed, is not among it.
#[test]
fn what_nobody_signed_for_is_told_at_the_end() {
    let mut lane = open(64);
    let [(a, mut of_a), (b, mut of_b), (gone, _)] = [1, 2, 3].map(|n| job(&mut lane, n));
    for (slot, task) in [(a, 0), (a, 1), (a, 2), (b, 7), (gone, 8)] {
        start(&mut lane, slot, task, 10);
        said(&mut lane);
    }
    let now = Instant::now();
    for (id, fails) in [(0, false), (1, true), (2, false), (3, false), (4, false)] {
        lane.answered(id, (!fails).then(|| ContentHash::of(b"output")), now).unwrap();
    }
    let first = lane.owed[0].1;
    assert_eq!(take(&mut lane, receipt(5, &[first], b"manifest")), Ok(()));
    lane.leave(gone, now);
    heard(&mut of_a);
    heard(&mut of_b);
    lane.end(|| Report::Lost("gone".into()));
    assert_eq!(heard(&mut of_a), ["unsigned [2]", "Lost(\"gone\")"]);
    assert_eq!(heard(&mut of_b), ["unsigned [7]", "Lost(\"gone\")"]);
    assert_eq!(lane.owed.len(), 3, "that of the job that has left is owed too");
}

/// Cancelled tasks that are never answered do not pile up.
#[test]
fn memory_of_cancelled_tasks_is_bounded() {
    let mut lane = open(64);
    let (slot, _reports) = job(&mut lane, 1);
    for task in 0..2 * CANCELLED as u32 {
        start(&mut lane, slot, task, 1);
        said(&mut lane);
        lane.cancel(slot, attempt(task));
    }
    assert!(lane.live.len() <= CANCELLED && lane.cancelled.len() <= CANCELLED);
    assert!(!lane.is_working());
}

/// Inputs in files are read as their worker reads them, and not ahead of it.
#[tokio::test]
async fn a_worker_that_does_not_read_stops_the_reading_of_files() {
    use std::io::Write;
    use tokio::io::AsyncReadExt;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![7; 8 << 20]).unwrap();
    let input = Blob::of_file(file).unwrap();
    let mut lane = open(64);
    let (slot, _reports) = job(&mut lane, 1);
    assert!(lane.start(slot, attempt(0), input, ContentHash::of(b"")));
    let lane = Outbox::new(lane);
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let writer = tokio::spawn(crate::node::frames::write_all(near, lane.clone()));
    let mut first = vec![0; 10 * 1024];
    far.read_exact(&mut first).await.unwrap();
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
        let taken = lane.lock().sending.as_ref().unwrap().at;
        assert!(taken <= 2 * CHUNK_BYTES as u64, "{taken} bytes were taken, 10 KiB were read");
    }
    lane.change(State::close);
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).await.unwrap();
    writer.await.unwrap().unwrap();
    assert!(first.len() + rest.len() > 8 << 20, "who reads again gets all of it");
}
