//! Jobs for which nobody waits at their door: detached ones, and those that an earlier run of the node left behind.

use std::sync::Arc;

use msm_protocol::JobId;
use tokio::sync::Semaphore;

use super::{
    Invocation, bounded,
    keep::{self, Restored},
};
use crate::{
    body::Body,
    command::{CommandError, ErrorCode, Event, Invoke, JobReport, JobState, Reply, Request, Reruns, Response},
    node::{
        context::Context,
        journal::{
            self, Journal, Journals, Result as Kept,
            record::{Ended, Replay},
            table::{Place, Table},
        },
    },
};

/// Jobs that go on at a time after a start; the others wait for them. *Judgement.*
const RESUMED_AT_ONCE: usize = 4;

/// A report of a job of which nothing has happened yet.
pub(super) fn report(job_id: JobId, service: &str) -> JobReport {
    JobReport {
        job_id,
        service: service.to_owned(),
        state: JobState::Running,
        tasks: 0,
        tasks_done: 0,
        tasks_rerun: 0,
        reruns: Reruns::default(),
        devices: Vec::new(),
        wall_ms: 0.0,
        output_bytes: 0,
        output_sha256: String::new(),
        phases_ms: Vec::new(),
        error: None,
        notes: Vec::new(),
        checks: Default::default(),
        predicted_ms: None,
        predicted_from: None,
    }
}

/// Takes a job over: when its id is told, it is safe on the disk.
pub(super) async fn detach(
    ctx: Arc<Context>,
    place: Place,
    job_id: JobId,
    request: Request,
    invoke: Invoke,
) -> Result<Response, CommandError> {
    // A name that means nothing is found out now, not when somebody asks for the result.
    ctx.markets.find(&ctx, &invoke.service).await?;
    let asked = keep::asked(job_id, &invoke, true);
    let begun = ctx.journals.begin(asked, Some(request.input)).await;
    let (journal, input) = begun.map_err(|error| keep::unkept(&error))?;
    let mut job = Invocation::new(ctx.clone(), job_id, invoke, input.unwrap_or_default(), place.fate.clone());
    job.be_detached(journal.clone());
    job.record.tell();
    let report = job.record.report.clone();
    tokio::spawn(to_its_end(ctx, job, journal, place));
    Ok(Reply::Job(Box::new(report)).into())
}

/// Runs a detached job; its end is written before anybody who waits for it goes on.
async fn to_its_end(ctx: Arc<Context>, job: Invocation, journal: Journal, place: Place) {
    let job_id = job.record.report.job_id;
    let ended = bounded(job, &place.fate).await;
    let Err(error) = ended else { return };
    ctx.emit(Event::JobFailed { job_id, error: error.message.clone() });
    if ctx.journals.is_ending() || keep::may_go_on(&error) {
        return;
    }
    if place.fate.why().is_some_and(|(state, _)| *state == JobState::Cancelled) {
        return journal.folder().discard(true);
    }
    let Some(report) = ctx.reports.all().into_iter().find(|report| report.job_id == job_id) else { return };
    let ended = Ended { at: journal::now(), report, error: Some(error), pieces: None, result: None };
    if let Err(error) = journal.end(ended, Kept::None).await {
        tracing::warn!(job = job_id.short(), %error, "the end of a job could not be kept");
    }
}

/// Puts the jobs of earlier runs into the list; those that did not end are returned, oldest first.
pub async fn remember(ctx: &Arc<Context>) -> Vec<Replay> {
    let mut unfinished = Vec::new();
    for found in ctx.journals.found().await {
        let report = match found.replay {
            Ok(Replay { ended: Some(ended), .. }) => ended.report,
            Ok(replay) => {
                let report = interrupted(&replay);
                unfinished.push(replay);
                report
            }
            Err(why) => {
                tracing::warn!(job = found.job.short(), why, "a job is lost: its journal cannot be used");
                let error = Some(format!("lost: its journal cannot be used: {why}"));
                JobReport { state: JobState::Failed, error, ..report(found.job, "?") }
            }
        };
        ctx.reports.tell(report);
    }
    unfinished
}

fn interrupted(replay: &Replay) -> JobReport {
    let planned = replay.planned.as_ref();
    let service = planned.map_or(&replay.asked.invoke.service, |planned| &planned.service);
    JobReport {
        state: JobState::Interrupted,
        tasks: planned.map_or(0, |planned| planned.parts.len() as u32),
        tasks_done: replay.accepted.len() as u32,
        error: Some("interrupted: the node that ran it ended".into()),
        ..report(replay.asked.job, service)
    }
}

/// Goes on with jobs of an earlier run, a few at a time.
pub fn resume_all(ctx: &Arc<Context>, unfinished: Vec<Replay>) {
    let ctx = ctx.clone();
    tokio::spawn(async move {
        let slots = Arc::new(Semaphore::new(RESUMED_AT_ONCE));
        for replay in unfinished {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let ctx = ctx.clone();
            tokio::spawn(async move {
                let _slot = slot;
                if let Some((replay, place)) = enter_again(&ctx.jobs, &ctx.journals, replay.asked.job).await {
                    go_on(ctx, replay, place).await;
                }
            });
        }
    });
}

/// Enters a job that did not end, with its journal as it is now: until it is entered, others may go on with it, take or
/// cancel it. `None` when it runs, has ended or is not kept any more.
async fn enter_again(jobs: &Arc<Table>, journals: &Journals, job: JobId) -> Option<(Replay, Place)> {
    let place = jobs.enter(job, true)?;
    let replay = journals.load(job).await?;
    replay.ended.is_none().then_some((replay, place))
}

/// Goes on with a job where its journal ends, until it has ended.
async fn go_on(ctx: Arc<Context>, replay: Replay, place: Place) {
    let job_id = replay.asked.job;
    tracing::info!(job = job_id.short(), done = replay.accepted.len(), "a job of an earlier run goes on");
    match take_up(&ctx, replay.clone(), &place).await {
        Ok((job, journal)) => to_its_end(ctx, job, journal, place).await,
        Err(error) => {
            tracing::warn!(job = job_id.short(), %error, "a job of an earlier run does not go on");
            let report = not_taken_up(&ctx.journals, &replay, &error).await;
            ctx.reports.tell(report);
        }
    }
}

/// What becomes of a job that cannot be gone on with. A full disk can be helped; a job whose files are not what they
/// were has ended, and is not tried at every start again.
async fn not_taken_up(journals: &Journals, replay: &Replay, error: &std::io::Error) -> JobReport {
    let interrupted = interrupted(replay);
    if error.kind() == std::io::ErrorKind::StorageFull {
        return JobReport { error: Some(format!("interrupted: {error}")), ..interrupted };
    }
    let why = format!("lost: what it needs is not what was written: {error}");
    let report = JobReport { state: JobState::Failed, error: Some(why.clone()), ..interrupted };
    let error = Some(CommandError::new(ErrorCode::Failed, why));
    let ended = Ended { at: journal::now(), report: report.clone(), error, pieces: None, result: None };
    journals.lose(replay, ended).await;
    report
}

async fn take_up(ctx: &Arc<Context>, replay: Replay, place: &Place) -> std::io::Result<(Invocation, Journal)> {
    let (parts, mut outputs) = (ctx.journals.parts(&replay).await?, ctx.journals.outputs(&replay).await);
    // Whoever was found to lie since is believed nothing.
    outputs.retain(|(accepted, _)| !accepted.worker.is_some_and(|peer| ctx.trust.is_struck(&peer)));
    let input = match parts {
        // A part may be any piece of a large input: it is not read as a whole again.
        Some(_) => None,
        None => ctx.journals.input(&replay).await?,
    };
    // What cannot be read back is done again, and its record must not count twice.
    let mut replay = replay;
    let good: std::collections::BTreeSet<u32> = outputs.iter().map(|(accepted, _)| accepted.task).collect();
    let lost: Vec<u32> = replay.accepted.keys().filter(|task| !good.contains(task)).copied().collect();
    replay.accepted.retain(|task, _| good.contains(task));
    let journal = ctx.journals.resume(&replay).await?;
    for task in lost {
        journal.record(journal::record::Record::Withdrawn { task }).await;
    }
    let mut invoke = replay.asked.invoke.clone();
    if let Some(planned) = &replay.planned {
        // The same bytes as before, whatever the market has now.
        invoke.service = planned.manifest.to_string();
    }
    if let Some(limit) = invoke.deadline_ms {
        let gone = journal::now().saturating_sub(replay.asked.at).saturating_mul(1_000);
        invoke.deadline_ms = Some(limit.saturating_sub(gone));
    }
    let job_id = replay.asked.job;
    let mut job = Invocation::new(ctx.clone(), job_id, invoke, input.unwrap_or_default(), place.fate.clone());
    job.be_detached(journal.clone());
    job.record.report = JobReport { state: JobState::Resumed, error: None, ..interrupted(&replay) };
    job.restored = Some(Restored { parts, outputs });
    job.record.tell();
    Ok((job, journal))
}

/// Goes on with a job that was interrupted, unless it runs already, and waits for it.
pub async fn resume(ctx: &Arc<Context>, job: JobId) -> Result<Response, CommandError> {
    if let Some((replay, place)) = enter_again(&ctx.jobs, &ctx.journals, job).await {
        // Not in this future: a caller who goes away does not end it.
        tokio::spawn(go_on(ctx.clone(), replay, place));
    }
    wait(ctx, job, true).await
}

/// Waits for the end of a job; with its output where that is wanted, or its own error.
pub async fn wait(ctx: &Arc<Context>, job: JobId, output: bool) -> Result<Response, CommandError> {
    ctx.jobs.until_over(job).await;
    if let Some(Replay { ended: Some(ended), .. }) = ctx.journals.load(job).await {
        if let Some(error) = ended.error {
            return Err(error);
        }
        return answer(ctx, job, output).await;
    }
    let Some(report) = ctx.reports.all().into_iter().find(|report| report.job_id == job) else {
        return Err(gone(job, "it is not known any more"));
    };
    let why = report.error.clone().unwrap_or_default();
    match report.state {
        JobState::Done | JobState::Partial if !output => Ok(Reply::Job(Box::new(report)).into()),
        JobState::Done | JobState::Partial => {
            Err(gone(job, "its result was taken, or went to whoever had asked for it"))
        }
        JobState::Interrupted => {
            let line = format!("msm jobs resume {}", job.short());
            Err(CommandError::new(ErrorCode::NoDevice, why).or_try(line))
        }
        JobState::Cancelled | JobState::Failed => Err(CommandError::new(ErrorCode::Failed, why)),
        JobState::Running | JobState::Resumed => Err(CommandError::new(ErrorCode::Failed, "the job has not ended")),
    }
}

async fn answer(ctx: &Arc<Context>, job: JobId, output: bool) -> Result<Response, CommandError> {
    let Some(replay) = ctx.journals.load(job).await else { return Err(gone(job, "its result was taken")) };
    let pieces = match output {
        true => ctx.journals.result(&replay).await.map_err(super::unread)?,
        false => Vec::new(),
    };
    let Some(ended) = replay.ended else { return Err(gone(job, "it has not ended")) };
    Ok(Response { reply: Reply::Job(Box::new(ended.report)), output: Body::of_pieces(pieces) })
}

fn gone(job: JobId, why: &str) -> CommandError {
    CommandError::new(ErrorCode::NotFound, format!("not-found: no result of job {}: {why}", job.short()))
        .or_try("msm jobs")
}

/// Whoever waited has the result: it is kept no longer.
pub async fn taken(ctx: &Arc<Context>, job: JobId) -> Result<(), CommandError> {
    match ctx.journals.load(job).await {
        Some(replay) if replay.ended.is_some() => {
            ctx.journals.remove(job).await;
            Ok(())
        }
        Some(_) => Err(CommandError::new(ErrorCode::Usage, format!("job {} has not ended", job.short()))),
        None => Ok(()),
    }
}

/// Ends a job everywhere; one that does not run and is kept is kept no longer.
pub async fn cancel(ctx: &Arc<Context>, report: JobReport) -> Result<Response, CommandError> {
    let job = report.job_id;
    let cancelled = |report| JobReport { state: JobState::Cancelled, error: Some(CANCELLED.into()), ..report };
    // Entered, nobody goes on with it in between.
    let place = ctx.jobs.enter(job, true);
    if place.is_none() && ctx.jobs.cancel(job, CANCELLED) {
        ctx.jobs.until_over(job).await;
        return Ok(Reply::Job(Box::new(cancelled(report))).into());
    }
    // The report may be older than its end.
    let ended = ctx.journals.load(job).await.is_some_and(|replay| replay.ended.is_some());
    if place.is_some() && !ended && report.state == JobState::Interrupted {
        ctx.journals.remove(job).await;
        let report = cancelled(report);
        ctx.reports.tell(report.clone());
        return Ok(Reply::Job(Box::new(report)).into());
    }
    Err(CommandError::new(ErrorCode::NotFound, format!("not-found: job {} has ended", job.short())).or_try("msm jobs"))
}

const CANCELLED: &str = "cancelled";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        blob::Blob,
        node::journal::record::{Planned, Record},
    };

    const JOB: JobId = JobId::from_bytes([1; 16]);

    /// A job of an earlier run: cut, and nothing done.
    async fn left(journals: &Journals, input: &'static str) -> Replay {
        let asked = keep::asked(JOB, &Invoke::default(), true);
        let (journal, _) = journals.begin(asked, Some(Blob::from(input))).await.unwrap();
        let planned = Planned {
            service: "home/x@1.0.0".into(),
            market: crate::cli::samples::market().market,
            manifest: msm_protocol::ContentHash::of(b"manifest"),
            params: "{}".into(),
            parts: vec![input.len() as u64],
            kept: None,
        };
        journal.plan(planned, None).await;
        journal.record(Record::Checked { task: 0, worker: None, by: None, agrees: true }).await;
        closed(journal).await;
        journals.load(JOB).await.unwrap()
    }

    async fn closed(journal: Journal) {
        let folder = journal.folder();
        drop(journal);
        while Arc::strong_count(&folder) > 1 {
            tokio::task::yield_now().await;
        }
    }

    fn ended(replay: &Replay) -> Ended {
        Ended { at: 0, report: interrupted(replay), error: None, pieces: None, result: None }
    }

    /// Whoever goes on with what it read before it entered the job would cut off what others wrote since.
    #[tokio::test]
    async fn a_job_is_gone_on_with_as_it_is_when_it_is_entered() {
        let home = tempfile::tempdir().unwrap();
        let (journals, jobs) = (Journals::open(home.path()).unwrap(), Arc::new(Table::default()));
        let stale = left(&journals, "abc").await;
        let (first, place) = enter_again(&jobs, &journals, JOB).await.unwrap();
        assert_eq!(first, stale);
        assert!(enter_again(&jobs, &journals, JOB).await.is_none(), "it runs");
        // It goes on and is interrupted again.
        closed(journals.resume(&first).await.unwrap()).await;
        drop(place);
        let (again, place) = enter_again(&jobs, &journals, JOB).await.unwrap();
        assert!(again.good > stale.good && again.resumed == 1, "{again:?}");
        let journal = journals.resume(&again).await.unwrap();
        journal.end(ended(&again), Kept::None).await.unwrap();
        closed(journal).await;
        drop(place);
        assert!(enter_again(&jobs, &journals, JOB).await.is_none(), "it has ended");
        assert!(journals.load(JOB).await.unwrap().ended.is_some());
        journals.remove(JOB).await;
        assert!(enter_again(&jobs, &journals, JOB).await.is_none(), "its result was taken");
        assert_eq!(jobs.is_attached(JOB), None, "nobody waits for what does not run");
    }

    /// B53: a job that cannot be gone on with has ended; the next start does not try it again.
    #[tokio::test]
    async fn a_job_whose_files_changed_ends_once() {
        let home = tempfile::tempdir().unwrap();
        let journals = Journals::open(home.path()).unwrap();
        let replay = left(&journals, "abc").await;
        let folder = home.path().join(JOB.to_string());
        std::fs::write(folder.join("input"), "abd").unwrap();
        let error = journals.parts(&replay).await.unwrap_err();
        let report = not_taken_up(&journals, &replay, &error).await;
        assert_eq!(report.state, JobState::Failed);
        let why = report.error.as_deref().unwrap();
        assert!(why.starts_with("lost: ") && why.ends_with("input is not what was written"), "{why}");
        let ended = journals.load(JOB).await.unwrap().ended.unwrap();
        assert_eq!((ended.error.unwrap().message.as_str(), &ended.report), (why, &report));

        // Where not even that can be written, nothing of it stays.
        journals.remove(JOB).await;
        let job = left(&journals, "xyz").await;
        std::fs::create_dir(folder.join("outputs")).unwrap();
        not_taken_up(&journals, &job, &error).await;
        assert!(!folder.exists());
    }

    #[tokio::test]
    async fn a_job_waits_for_room_on_a_full_disk() {
        let home = tempfile::tempdir().unwrap();
        let journals = Journals::open(home.path()).unwrap();
        let replay = left(&journals, "abc").await;
        let full = std::io::Error::new(std::io::ErrorKind::StorageFull, "disk-full: no room");
        let report = not_taken_up(&journals, &replay, &full).await;
        assert_eq!(
            (report.state, report.error.as_deref()),
            (JobState::Interrupted, Some("interrupted: disk-full: no room"))
        );
        assert!(journals.load(JOB).await.unwrap().ended.is_none());
    }
}
