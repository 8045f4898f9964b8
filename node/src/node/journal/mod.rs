//! Journals: what a node keeps of its jobs on disk, so that one that is killed goes on where it was.
//!
//! Read in this order:
//! 1. [`record`]: the lines of a log and what they add up to; pure.
//! 2. [`files`]: the folder of one job. [`writer`]: the task that writes it.
//! 3. [`Journals`]: all folders of a home, and their bounds. [`table`]: the jobs that run now.
//!
//! A job is kept that has more than one part, a large input, or nobody who waits for it; a small call is not. One that
//! somebody waits for and whose input is in memory is written when it has taken half a second.

mod fail;
mod files;
pub mod record;
pub mod table;
mod writer;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use msm_protocol::{ContentHash, JobId};
use tokio::sync::{Semaphore, watch};

use self::{
    files::Files,
    record::{Asked, Record, Replay},
    writer::{Alive, Make},
};
pub use self::{
    files::Folder,
    writer::{Journal, Result},
};
use crate::{blob::Blob, home::FileError};

/// Jobs that are kept at a time. *Judgement.*
pub const KEPT: usize = 64;
/// Bytes that they may hold together before the oldest that have ended go: the inputs and outputs of the largest job.
pub const KEPT_BYTES: u64 = 2 * msm_protocol::limits::JOB_DISK_BYTES;
/// A result that nobody takes is kept for a day.
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// Outputs of more than 16 KiB that all jobs together hold in memory although they are kept, so that nobody waits for the
/// disk; others are read back from it. *Judgement*: as much as one input.
const HELD_BYTES: u64 = msm_protocol::limits::JOB_INPUT_BYTES;

/// The journals of a home.
#[derive(Debug)]
pub struct Journals {
    dir: PathBuf,
    ending: Arc<AtomicBool>,
    /// [`HELD_BYTES`], a permit for each KiB.
    memory: Arc<Semaphore>,
    /// Writers of jobs that somebody waits for.
    writers: watch::Sender<usize>,
}

/// A folder that was found.
pub struct Found {
    /// The job, as the folder's name says.
    pub job: JobId,
    /// What its log adds up to, or why it cannot be used.
    pub replay: std::result::Result<Replay, String>,
}

/// Unix seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

impl Journals {
    /// The journals in `dir`, which is made when missing.
    pub fn open(dir: &Path) -> std::result::Result<Self, FileError> {
        crate::home::files::private_folder(dir)?;
        let memory = Arc::new(Semaphore::new((HELD_BYTES / 1024) as usize));
        Ok(Self { dir: dir.to_owned(), ending: Arc::default(), memory, writers: watch::Sender::new(0) })
    }

    /// From now on what is unfinished stays, to be gone on with by the next run of the node.
    pub fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
    }

    /// Waits until all is written, or removed, of jobs for which somebody waited and that have ended.
    pub async fn settled(&self) {
        // The count lives as long as this does.
        let _ = self.writers.subscribe().wait_for(|writers| *writers == 0).await;
    }

    /// Whether [`Self::end`] was said.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    fn path(&self, job: JobId) -> PathBuf {
        self.dir.join(job.to_string())
    }

    fn folder(&self, job: JobId) -> Arc<Folder> {
        Arc::new(Folder::new(self.path(job), self.ending.clone()))
    }

    fn spool(&self) -> PathBuf {
        self.dir.join("spool")
    }

    /// Begins the journal of a job, with its input where that is kept. What nobody waits for, or what is in a file, is
    /// written before this comes back, with the input as it lies in the journal. All else is written when the job has taken
    /// a while, and goes when whoever waits for it has the result.
    pub async fn begin(&self, asked: Asked, input: Option<Blob>) -> io::Result<(Journal, Option<Blob>)> {
        let (job, detached) = (asked.job, asked.detached);
        let (dir, path, folder) = (self.dir.clone(), self.path(job), self.folder(job));
        folder.discard(true);
        let made = folder.clone();
        let make: Make = Box::new(move || {
            make_room(&dir, &path)?;
            Files::begin(made)
        });
        if detached || input.as_ref().is_some_and(|input| input.in_memory().is_none()) {
            let files = tokio::task::spawn_blocking(make).await.map_err(io::Error::other)??;
            let alive = (!detached).then(|| Alive::new(&self.writers));
            let journal = Journal::start(files, folder.clone(), alive);
            let kept = journal.begin(asked, input, self.spool()).await?;
            folder.discard(!detached);
            return Ok((journal, kept));
        }
        let journal = Journal::start_patient(make, folder, self.memory.clone(), Alive::new(&self.writers));
        journal.begin_soon(asked, input.clone(), self.spool()).await;
        Ok((journal, input))
    }

    /// Goes on with the journal of a job that did not end.
    pub async fn resume(&self, replay: &Replay) -> io::Result<Journal> {
        let folder = self.folder(replay.asked.job);
        let (made, replay) = (folder.clone(), replay.clone());
        let files = tokio::task::spawn_blocking(move || {
            let mut files = Files::resume(made, &replay)?;
            files.record(&Record::Resumed { at: now() })?;
            io::Result::Ok(files)
        });
        Ok(Journal::start(files.await.map_err(io::Error::other)??, folder, None))
    }

    /// Everything that is kept, oldest first, after what is too old or nothing at all was removed.
    /// For the start: later a folder that says nothing may be one of a job whose input is being copied.
    pub async fn found(&self) -> Vec<Found> {
        let dir = self.dir.clone();
        let found = tokio::task::spawn_blocking(move || {
            let all = found(&dir);
            for kept in all.iter().filter(|kept| kept.is_blank()) {
                files::remove(&kept.path);
            }
            all
        });
        found.await.unwrap_or_default().into_iter().filter_map(Kept::told).collect()
    }

    /// What the log of one job adds up to; `None` when it is not kept.
    pub async fn load(&self, job: JobId) -> Option<Replay> {
        let path = self.path(job);
        tokio::task::spawn_blocking(move || read(&path)).await.ok()?.ok()?
    }

    /// The parts of a job, as they were cut, where they were.
    pub async fn parts(&self, replay: &Replay) -> io::Result<Option<Vec<Blob>>> {
        let Some(planned) = replay.planned.clone() else { return Ok(None) };
        let (name, stored) = match (planned.kept, replay.asked.input) {
            (Some(kept), _) => (files::PARTS, kept),
            (None, Some(input)) => (files::INPUT, input),
            (None, None) => return Ok(None),
        };
        let whole = self.checked(replay.asked.job, name, stored).await?;
        let mut at = 0;
        let parts = planned.parts.iter().map(|length| {
            let part = whole.slice(at, *length);
            at += length;
            part
        });
        let parts = parts.collect();
        match at == stored.bytes {
            true => Ok(Some(parts)),
            false => Err(io::Error::other("the parts do not add up to what was kept")),
        }
    }

    /// The input of a job; `None` where its parts were kept instead.
    pub async fn input(&self, replay: &Replay) -> io::Result<Option<Blob>> {
        match replay.asked.input {
            Some(stored) => self.checked(replay.asked.job, files::INPUT, stored).await.map(Some),
            None => Ok(None),
        }
    }

    /// A kept file whose bytes were hashed again.
    async fn checked(&self, job: JobId, name: &'static str, stored: record::Stored) -> io::Result<Blob> {
        let path = self.path(job);
        let check = move || {
            let blob = files::stored(&path, name, stored.bytes)?;
            match files::hash_of(&blob)? == stored.hash {
                true => Ok(blob),
                false => Err(io::Error::other(format!("{name} is not what was written"))),
            }
        };
        tokio::task::spawn_blocking(check).await.map_err(io::Error::other)?
    }

    /// The outputs of a job whose bytes are what their records say; those that are not are done again.
    pub async fn outputs(&self, replay: &Replay) -> Vec<(record::Accepted, Blob)> {
        let (path, accepted) = (self.path(replay.asked.job), replay.accepted.clone());
        let check = move || {
            let all = files::stored(&path, files::OUTPUTS, 0).map(|_| ()).and_then(|()| {
                let file = crate::home::files::open_existing(&path.join(files::OUTPUTS)).map_err(io::Error::other)?;
                Blob::of_file(file)
            });
            let Ok(all) = all else { return Vec::new() };
            let right = |accepted: record::Accepted| {
                let bytes = all.slice(accepted.at, accepted.stored.bytes);
                let hash = files::hash_of(&bytes).ok()?;
                let right = bytes.len() == accepted.stored.bytes && hash == accepted.stored.hash;
                right.then_some((accepted, bytes))
            };
            accepted.into_values().filter_map(right).collect()
        };
        tokio::task::spawn_blocking(check).await.unwrap_or_default()
    }

    /// Ends the journal of a job that cannot be gone on with, so that nobody tries it again. Where not even that can be
    /// written, nothing of it stays.
    pub async fn lose(&self, replay: &Replay, ended: record::Ended) {
        let job = replay.asked.job;
        let written = match self.resume(replay).await {
            Ok(journal) => journal.end(ended, Result::None).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::warn!(job = job.short(), %error, "the end of a lost job cannot be kept, and so nothing of it is");
            self.remove(job).await;
        }
    }

    /// The result of a job that has ended, in pieces whose bytes were hashed again.
    pub async fn result(&self, replay: &Replay) -> io::Result<Vec<Blob>> {
        let Some(ended) = replay.ended.clone() else { return Err(io::Error::other("it has not ended")) };
        if let Some(stored) = ended.result {
            return Ok(vec![self.checked(replay.asked.job, files::RESULT, stored).await?]);
        }
        let (path, accepted) = (self.path(replay.asked.job), replay.accepted.clone());
        let pieces = ended.pieces.unwrap_or_default();
        tokio::task::spawn_blocking(move || pieces_of(&path, &accepted, &pieces)).await.map_err(io::Error::other)?
    }

    /// Throws away what is kept of a job that does not run.
    pub async fn remove(&self, job: JobId) {
        let path = self.path(job);
        let _ = tokio::task::spawn_blocking(move || files::remove(&path)).await;
    }
}

struct Kept {
    job: JobId,
    /// What its log adds up to; nothing where that has no record (yet).
    replay: std::result::Result<Option<Replay>, String>,
    path: PathBuf,
    bytes: u64,
    /// When it was last written.
    at: SystemTime,
}

impl Kept {
    /// Nobody goes on with it: it has ended, or cannot be used.
    fn ended(&self) -> bool {
        match &self.replay {
            Ok(Some(replay)) => replay.ended.is_some(),
            Ok(None) => false,
            Err(_) => true,
        }
    }

    fn is_blank(&self) -> bool {
        matches!(self.replay, Ok(None))
    }

    fn told(self) -> Option<Found> {
        self.replay.transpose().map(|replay| Found { job: self.job, replay })
    }
}

/// A result that is pieces of the file `outputs`: each is the output of a task and has the bytes of that.
fn pieces_of(
    folder: &Path,
    accepted: &BTreeMap<u32, record::Accepted>,
    pieces: &[(u64, u64)],
) -> io::Result<Vec<Blob>> {
    let hashes: BTreeMap<(u64, u64), ContentHash> =
        accepted.values().map(|it| ((it.at, it.stored.bytes), it.stored.hash)).collect();
    let end = pieces.iter().map(|(at, length)| at.saturating_add(*length)).max().unwrap_or(0);
    if end == 0 {
        return Ok(Vec::new());
    }
    let all = files::stored(folder, files::OUTPUTS, end)?;
    let piece = |(at, length): &(u64, u64)| {
        let piece = all.slice(*at, *length);
        match hashes.get(&(*at, *length)) {
            Some(hash) if files::hash_of(&piece)? == *hash => Ok(piece),
            _ => Err(io::Error::other(format!("the {length} bytes at {at} of {} changed", files::OUTPUTS))),
        }
    };
    pieces.iter().map(piece).collect()
}

/// What a folder's log adds up to. `None` for a folder that says nothing: nobody was ever told that its job is kept.
fn read(folder: &Path) -> std::result::Result<Option<Replay>, String> {
    let log = files::read_log(folder).map_err(|error| error.to_string())?;
    let replay = record::replay(&log).map_err(|error| error.to_string())?;
    Ok(replay.filter(|replay| !replay.is_blank()))
}

fn found(dir: &Path) -> Vec<Kept> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Some(job) = entry.file_name().to_str().and_then(|name| name.parse::<JobId>().ok()) else { continue };
        let path = entry.path();
        let at = fs::metadata(path.join("log")).and_then(|meta| meta.modified());
        let replay = match read(&path) {
            Ok(Some(replay)) if replay.asked.job != job => Err("it is another job's".to_owned()),
            other => other,
        };
        let bytes = bytes_in(&path);
        all.push(Kept { job, replay, path, bytes, at: at.unwrap_or(UNIX_EPOCH) });
    }
    all.sort_by_key(|kept| kept.at);
    all.retain(|kept| {
        let old = kept.at.elapsed().is_ok_and(|age| age > KEPT_FOR);
        if old && kept.ended() {
            files::remove(&kept.path);
        }
        !(old && kept.ended())
    });
    all
}

/// Bytes of the files in a folder.
fn bytes_in(folder: &Path) -> u64 {
    let sizes = fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|file| file.metadata().ok());
    sizes.map(|meta| meta.len()).fold(0, u64::saturating_add)
}

/// Makes room for one more: the oldest that have ended go.
fn make_room(dir: &Path, new: &Path) -> io::Result<()> {
    // Looking into every log for each job would cost more than the job: only when there is reason to.
    let folders: Vec<PathBuf> = fs::read_dir(dir)?.flatten().map(|entry| entry.path()).collect();
    if folders.len() < KEPT / 2 {
        let bytes = folders.iter().map(|folder| bytes_in(folder)).fold(0, u64::saturating_add);
        if bytes <= KEPT_BYTES {
            return Ok(());
        }
    }
    let mut all = found(dir);
    all.retain(|kept| kept.path != new);
    let (mut count, mut bytes) = (all.len(), all.iter().map(|kept| kept.bytes).sum::<u64>());
    for kept in all.iter().filter(|kept| kept.ended()) {
        if count < KEPT && bytes <= KEPT_BYTES {
            break;
        }
        files::remove(&kept.path);
        (count, bytes) = (count - 1, bytes - kept.bytes);
    }
    if count >= KEPT {
        return Err(io::Error::other(format!("busy: {count} unfinished jobs are kept, at most {KEPT}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use msm_scheduler::OutputId;

    use super::{
        record::{Ended, Planned, VERSION},
        *,
    };
    use crate::{cli::samples, command::Invoke};

    fn asked(job: JobId, detached: bool) -> Asked {
        Asked { v: VERSION, job, at: now(), invoke: Invoke::default(), detached, input: None }
    }

    fn planned(parts: Vec<u64>) -> Planned {
        let hash = ContentHash::of(b"manifest");
        let market = samples::market().market;
        Planned { service: "home/x@1.0.0".into(), market, manifest: hash, params: "{}".into(), parts, kept: None }
    }

    fn ended() -> Ended {
        Ended { at: now(), report: samples::job(), error: None, pieces: None, result: None }
    }

    fn output(n: u8, bytes: usize) -> (OutputId, Blob) {
        let bytes = vec![n; bytes];
        (OutputId { hash: ContentHash::of(&bytes), size: bytes.len() as u64 }, bytes.into())
    }

    async fn read(pieces: Vec<Blob>) -> Vec<u8> {
        crate::body::Body::of_pieces(pieces).whole(u64::MAX).await.unwrap().to_vec()
    }

    fn folders(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().filter(|entry| entry.as_ref().unwrap().file_name() != "spool").count()
    }

    /// Waits for what follows when a journal is let go: its writer ends by itself. For 10 s at most.
    async fn until(what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..1_000 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not {what}");
    }

    /// Waits until the writers that were let go have gone too.
    async fn until_left(dir: &Path, count: usize) {
        until(&format!("{count} folders"), || folders(dir) == count).await;
    }

    #[tokio::test]
    async fn a_job_is_written_gone_on_with_and_read_back() {
        let home = tempfile::tempdir().unwrap();
        let journals = Journals::open(home.path()).unwrap();
        let job = JobId::from_bytes([1; 16]);
        let input: Blob = vec![7_u8; 3_000].into();
        let (journal, kept) = journals.begin(asked(job, true), Some(input.clone())).await.unwrap();
        assert_eq!(kept.unwrap().whole().await.unwrap(), input.whole().await.unwrap());
        journal.plan(planned(vec![1_000; 3]), None).await;
        // A large one comes back from the file, a small one as it is; they come out of order.
        let (large, small) = (output(2, 100_000), output(0, 10));
        let back = journal.output(2, None, large.0, large.1.clone()).await.unwrap();
        assert!(back.in_memory().is_none() && back.whole().await.unwrap() == large.1.whole().await.unwrap());
        assert!(journal.output(0, None, small.0, small.1.clone()).await.unwrap().in_memory().is_some());
        journal.record(Record::Checked { task: 0, worker: None, by: None, agrees: true }).await;
        // The node ends; the last record is torn.
        let over = journal.folder();
        drop(journal);
        until("let go", || Arc::strong_count(&over) == 1).await;
        let log = home.path().join(job.to_string()).join("log");
        let bytes = fs::read(&log).unwrap();
        fs::write(&log, &bytes[..bytes.len() - 9]).unwrap();

        let [found] = journals.found().await.try_into().unwrap_or_else(|_| panic!("one job"));
        let replay = found.replay.unwrap();
        let parts = journals.parts(&replay).await.unwrap().unwrap();
        assert_eq!(parts.iter().map(Blob::len).collect::<Vec<_>>(), [1_000; 3]);
        let outputs = journals.outputs(&replay).await;
        assert_eq!(outputs.iter().map(|(accepted, _)| accepted.task).collect::<Vec<_>>(), [0, 2]);
        let journal = journals.resume(&replay).await.unwrap();
        let middle = output(1, 20_000);
        journal.output(1, Some(samples::peer()), middle.0, middle.1).await.unwrap();
        journal.end(ended(), Result::Outputs).await.unwrap();
        let replay = journals.load(job).await.unwrap();
        assert_eq!((replay.resumed, replay.accepted.len()), (1, 3));
        let expected = [vec![0; 10], vec![1; 20_000], vec![2; 100_000]].concat();
        assert_eq!(read(journals.result(&replay).await.unwrap()).await, expected);
        journals.remove(job).await;
        assert_eq!(folders(home.path()), 0);
    }

    /// What is not what was written is not used: an output is done again, an input makes the job a lost one.
    #[tokio::test]
    async fn b53_bytes_that_changed_on_the_disk_are_not_used() {
        let home = tempfile::tempdir().unwrap();
        let journals = Journals::open(home.path()).unwrap();
        let job = JobId::from_bytes([1; 16]);
        let (journal, _) = journals.begin(asked(job, true), Some(vec![7_u8; 100].into())).await.unwrap();
        journal.plan(planned(vec![50; 2]), None).await;
        for task in [0, 1] {
            let (id, bytes) = output(task as u8, 20_000);
            journal.output(task, None, id, bytes).await.unwrap();
        }
        let pieces = Ended { pieces: Some(vec![(0, 20_000), (20_000, 20_000)]), ..ended() };
        let flip = |name: &str, at: usize| {
            let path = home.path().join(job.to_string()).join(name);
            let mut bytes = fs::read(&path).unwrap();
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
        };
        let replay = Replay { ended: Some(pieces.clone()), ..journals.load(job).await.unwrap() };
        let whole = read(journals.result(&replay).await.unwrap()).await;
        assert_eq!(whole, [[0; 20_000], [1; 20_000]].concat());
        flip("outputs", 30_000);
        assert!(journals.result(&replay).await.is_err(), "a result is read days later");
        let outputs = journals.outputs(&replay).await;
        assert_eq!(outputs.iter().map(|(accepted, _)| accepted.task).collect::<Vec<_>>(), [0]);
        flip("input", 0);
        assert!(journals.parts(&replay).await.is_err());
        assert!(journals.input(&replay).await.is_err());

        let whole = Result::Bytes(vec!["the result".into()]);
        journal.end(ended(), whole).await.unwrap();
        let replay = journals.load(job).await.unwrap();
        assert_eq!(read(journals.result(&replay).await.unwrap()).await, b"the result");
        flip("result", 0);
        assert!(journals.result(&replay).await.is_err());
    }

    /// A large input is copied before the first record is written: such a folder is no rest of a crash.
    #[tokio::test]
    async fn room_is_not_made_at_the_cost_of_a_job_that_begins() {
        let home = tempfile::tempdir().unwrap();
        let journals = Journals::open(home.path()).unwrap();
        let job = |n: usize| JobId::from_bytes([n as u8; 16]);
        let begins = Files::begin(journals.folder(job(200))).unwrap();
        for n in 0..KEPT - 2 {
            let (journal, _) = journals.begin(asked(job(n), true), None).await.unwrap();
            journal.end(ended(), Result::None).await.unwrap();
        }
        assert_eq!(folders(home.path()), KEPT - 1);
        for n in 100..103 {
            journals.begin(asked(job(n), true), None).await.unwrap();
        }
        assert_eq!(folders(home.path()), KEPT, "those that have ended made room");
        assert!(home.path().join(job(200).to_string()).join("log").exists());
        drop(begins);
        assert_eq!(journals.found().await.len(), KEPT - 1);
        assert_eq!(folders(home.path()), KEPT - 1, "a start removes what says nothing");
    }

    #[tokio::test]
    async fn few_jobs_are_bounded_in_bytes_too() {
        let home = tempfile::tempdir().unwrap();
        let journals = Journals::open(home.path()).unwrap();
        let job = |n: usize| JobId::from_bytes([n as u8; 16]);
        for n in 0..3 {
            let (journal, _) = journals.begin(asked(job(n), true), None).await.unwrap();
            journal.end(ended(), Result::None).await.unwrap();
            let folder = home.path().join(job(n).to_string());
            // Holes take no room on the disk of this test.
            fs::File::create(folder.join("outputs")).unwrap().set_len(KEPT_BYTES / 2).unwrap();
            let log = fs::File::options().append(true).open(folder.join("log")).unwrap();
            log.set_modified(SystemTime::now() - Duration::from_secs((10 - n as u64) * 60)).unwrap();
        }
        journals.begin(asked(job(3), true), None).await.unwrap();
        let left: Vec<JobId> = journals.found().await.into_iter().map(|found| found.job).collect();
        assert_eq!(left, [job(2), job(3)], "the logs count, too: the oldest two made room");
    }

    #[tokio::test]
    async fn a_job_that_somebody_waits_for_goes_with_its_result_unless_the_node_ends() {
        let home = tempfile::tempdir().unwrap();
        let journals = Journals::open(home.path()).unwrap();
        let begin = async |n| {
            let (journal, _) = journals.begin(asked(JobId::from_bytes([n; 16]), false), None).await.unwrap();
            journal.plan(planned(vec![1]), Some(vec![vec![1_u8].into()])).await;
            journal
        };
        let journal = begin(1).await;
        assert_eq!(folders(home.path()), 0, "it may be over soon");
        until_left(home.path(), 1).await;
        let body = crate::body::Body::of_pieces([Blob::from("x")]).keeping(journal.folder());
        drop(journal);
        assert_eq!(folders(home.path()), 1);
        drop(body);
        until_left(home.path(), 0).await;
        let (journal, had) = (begin(2).await, begin(3).await);
        until_left(home.path(), 2).await;
        let mut body = crate::body::Body::of_pieces([Blob::from("x")]).keeping(had.folder());
        assert!(
            body.next().await.unwrap().is_some(),
            "what was read to its end is over, also when the node ends before"
        );
        journals.end();
        drop((journal, had, body));
        journals.settled().await;
        assert_eq!(folders(home.path()), 1, "it goes on when the node is started again");
    }

    /// What a job leaves that has ended before it was written: nothing, but all of it when the node ends before the job.
    #[tokio::test]
    async fn a_short_job_is_written_only_when_the_node_ends_before_it() {
        let home = tempfile::tempdir().unwrap();
        let journals = Journals::open(home.path()).unwrap();
        let (over, unfinished) = (JobId::from_bytes([1; 16]), JobId::from_bytes([2; 16]));
        let begin = async |job| {
            let (journal, _) = journals.begin(asked(job, false), Some(vec![7_u8; 100].into())).await.unwrap();
            journal.plan(planned(vec![50; 2]), None).await;
            let (id, bytes) = output(0, 20_000);
            let held = journal.output(0, None, id, bytes).await.unwrap();
            assert!(held.in_memory().is_some(), "nobody waits for the disk");
            journal
        };
        let free = journals.memory.available_permits();
        let gone = begin(over).await;
        assert_eq!(free - journals.memory.available_permits(), 20, "KiB");
        drop(gone);
        journals.settled().await;
        assert_eq!((folders(home.path()), journals.memory.available_permits()), (0, free));
        let goes_on = begin(unfinished).await;
        journals.end();
        drop(goes_on);
        journals.settled().await;
        assert_eq!(journals.memory.available_permits(), free);
        let replay = journals.load(unfinished).await.unwrap();
        assert_eq!((replay.accepted.len(), journals.outputs(&replay).await.len()), (1, 1));
        assert!(journals.parts(&replay).await.unwrap().is_some());
    }

    /// Parts that are no pieces of the input are written after the first record: without them it is nothing to go on with.
    #[tokio::test]
    async fn a_job_that_was_killed_while_its_parts_were_written_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let journals = Journals::open(home.path()).unwrap();
        let [attached, detached, planned_too] = [1, 2, 3].map(|n| JobId::from_bytes([n; 16]));
        for (job, is_detached) in [(attached, false), (detached, true), (planned_too, false)] {
            let mut files = Files::begin(journals.folder(job)).unwrap();
            files.record(&Record::Asked(asked(job, is_detached).into())).unwrap();
            if job == planned_too {
                files.record(&Record::Planned(planned(vec![1]).into())).unwrap();
            }
            fs::write(home.path().join(job.to_string()).join("parts"), "half of th").unwrap();
            journals.end();
        }
        let found: Vec<JobId> = journals.found().await.iter().map(|found| found.job).collect();
        assert!(found.len() == 2 && !found.contains(&attached), "{found:?}");
        assert!(!home.path().join(attached.to_string()).exists());
        assert!(journals.load(attached).await.is_none());
    }

    /// Where memory is short the outputs of a job are written at once and read back from the disk.
    #[tokio::test]
    async fn outputs_for_which_there_is_no_memory_wait_for_the_disk() {
        let home = tempfile::tempdir().unwrap();
        let journals = Journals::open(home.path()).unwrap();
        let (journal, _) = journals.begin(asked(JobId::from_bytes([1; 16]), false), None).await.unwrap();
        journals.memory.forget_permits(journals.memory.available_permits() - 20);
        for (task, is_held) in [(0, true), (1, false)] {
            let (id, bytes) = output(task, 20_000);
            let back = journal.output(task.into(), None, id, bytes).await.unwrap();
            assert_eq!(back.in_memory().is_some(), is_held, "{task}");
        }
        assert_eq!(folders(home.path()), 1);
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_in_number_and_age() {
        let home = tempfile::tempdir().unwrap();
        let journals = Journals::open(home.path()).unwrap();
        let job = |n: usize| JobId::from_bytes([n as u8; 16]);
        for n in 0..KEPT {
            let (journal, _) = journals.begin(asked(job(n), true), None).await.unwrap();
            // Every other one has ended.
            if n % 2 == 1 {
                journal.end(ended(), Result::None).await.unwrap();
            }
            let log = fs::File::options().append(true).open(home.path().join(job(n).to_string()).join("log")).unwrap();
            log.set_modified(SystemTime::now() - Duration::from_secs((KEPT - n) as u64 * 60)).unwrap();
        }
        assert_eq!(folders(home.path()), KEPT);
        journals.begin(asked(job(100), true), None).await.unwrap();
        assert_eq!(folders(home.path()), KEPT);
        assert!(journals.load(job(0)).await.is_some(), "it has not ended");
        assert!(journals.load(job(1)).await.is_none(), "the oldest that has ended made room");
        for n in 101..101 + KEPT / 2 - 1 {
            journals.begin(asked(job(n), true), None).await.unwrap();
        }
        let error = journals.begin(asked(job(200), true), None).await.unwrap_err().to_string();
        assert!(error.starts_with("busy: 64 unfinished jobs are kept"), "{error}");
        // A day later the results are gone, and what may still go on is not.
        let (journal, done) = (journals.resume(&journals.load(job(0)).await.unwrap()).await.unwrap(), job(0));
        journal.end(ended(), Result::None).await.unwrap();
        let log = fs::File::options().append(true).open(home.path().join(done.to_string()).join("log")).unwrap();
        log.set_modified(SystemTime::now() - KEPT_FOR - Duration::from_secs(60)).unwrap();
        assert_eq!(journals.found().await.len(), KEPT - 1);
        assert!(journals.load(done).await.is_none());
    }

    /// A folder without a first record was never promised to anybody.
    #[tokio::test]
    async fn what_says_nothing_is_removed_and_what_is_damaged_is_told() {
        let home = tempfile::tempdir().unwrap();
        let journals = Journals::open(home.path()).unwrap();
        let (empty, bad) = (JobId::from_bytes([1; 16]), JobId::from_bytes([2; 16]));
        fs::create_dir(home.path().join(empty.to_string())).unwrap();
        drop(journals.begin(asked(bad, true), None).await.unwrap());
        let log = home.path().join(bad.to_string()).join("log");
        let line = fs::read(&log).unwrap();
        fs::write(&log, [b"garbage\n".as_slice(), &line].concat()).unwrap();
        fs::write(home.path().join("no-job"), "").unwrap();
        let [found] = journals.found().await.try_into().unwrap_or_else(|_| panic!("one"));
        assert_eq!(
            (found.job, found.replay.unwrap_err()),
            (bad, "damaged at byte 0, and whole again behind it".into())
        );
        assert!(!home.path().join(empty.to_string()).exists());
    }

    #[tokio::test]
    async fn b52_a_full_disk_is_told_and_nothing_half_is_kept() {
        let name = "node::journal::tests::b52_a_full_disk_is_told_and_nothing_half_is_kept";
        // The reserve and some room.
        if !crate::own_mounts::inside(name, "mount -t tmpfs -o size=68m,mode=700 none /mnt") {
            return;
        }
        let dir = Path::new("/mnt/journal");
        let journals = Journals::open(dir).unwrap();
        let job = JobId::from_bytes([1; 16]);
        let (journal, _) = journals.begin(asked(job, false), None).await.unwrap();
        journals.memory.forget_permits(usize::MAX);
        journal.plan(planned(vec![1; 100]), Some(vec![vec![0_u8; 100].into()])).await;
        let mut kept = 0;
        let refused = loop {
            let (id, bytes) = output(kept as u8, 500_000);
            match journal.output(kept, None, id, bytes).await {
                Ok(_) => kept += 1,
                Err(error) => break error.to_string(),
            }
            assert!(kept < 20, "it has to end");
        };
        assert!(kept >= 4 && refused.starts_with("disk-full: 500000 bytes are needed"), "{kept}: {refused}");
        assert_eq!(journal.broken(), Some(refused.as_str()));
        let (id, bytes) = output(0, 1);
        assert!(journal.output(99, None, id, bytes).await.is_err(), "no later success");
        drop(journal);
        until_left(dir, 0).await;
        let large: Blob = vec![0_u8; 10 << 20].into();
        let error = journals.begin(asked(job, true), Some(large)).await.unwrap_err().to_string();
        assert!(error.starts_with("disk-full"), "{error}");
        until_left(dir, 0).await;
    }
}
