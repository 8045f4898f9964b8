//! Journals: what a node keeps of its jobs on disk, so that one that is killed goes on where it was.
//!
//! Read in this order:
//! 1. [`record`]: the lines of a log and what they add up to; pure.
//! 2. [`files`]: the folder of one job. [`writer`]: the task that writes it.
//! 3. [`Journals`]: all folders of a home, and their bounds. [`table`]: the jobs that run now.
//!
//! A job is kept that has more than one part, a large input, or nobody who waits for it; a small call is not.

mod fail;
mod files;
pub mod record;
pub mod table;
mod writer;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use msm_protocol::JobId;

use self::{
    files::Files,
    record::{Asked, Record, Replay},
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

/// The journals of a home.
#[derive(Debug)]
pub struct Journals {
    dir: PathBuf,
    ending: Arc<AtomicBool>,
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
        Ok(Self { dir: dir.to_owned(), ending: Arc::default() })
    }

    /// From now on what is unfinished stays, to be gone on with by the next run of the node.
    pub fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
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

    /// Begins the journal of a job for which somebody waits: it goes when he has the result. An input that is kept comes
    /// back as it lies in the journal when it is in a file already; what is in memory is written beside the job's way.
    pub async fn begin(&self, asked: Asked, input: Option<Blob>) -> io::Result<(Journal, Option<Blob>)> {
        let (job, detached) = (asked.job, asked.detached);
        let (dir, path, folder) = (self.dir.clone(), self.path(job), self.folder(job));
        let made = folder.clone();
        let files = tokio::task::spawn_blocking(move || {
            make_room(&dir, &path)?;
            made.discard(true);
            Files::begin(made)
        });
        let files = files.await.map_err(io::Error::other)??;
        let journal = Journal::start(files, folder.clone());
        let waits = detached || input.as_ref().is_some_and(|input| input.in_memory().is_none());
        let kept = match waits {
            true => journal.begin(asked, input, self.spool()).await?,
            false => {
                journal.begin_soon(asked, input.clone(), self.spool()).await;
                input
            }
        };
        folder.discard(!detached);
        Ok((journal, kept))
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
        Ok(Journal::start(files.await.map_err(io::Error::other)??, folder))
    }

    /// Everything that is kept, oldest first, after what is too old or nothing at all was removed.
    pub async fn found(&self) -> Vec<Found> {
        let dir = self.dir.clone();
        let found = tokio::task::spawn_blocking(move || found(&dir)).await.unwrap_or_default();
        found.into_iter().map(|it| it.found).collect()
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

    /// The result of a job that has ended, in pieces.
    pub async fn result(&self, replay: &Replay) -> io::Result<Vec<Blob>> {
        let Some(ended) = replay.ended.clone() else { return Err(io::Error::other("it has not ended")) };
        let path = self.path(replay.asked.job);
        let open = move || match (ended.result, ended.pieces) {
            (Some(stored), _) => Ok(vec![files::stored(&path, files::RESULT, stored.bytes)?]),
            (None, Some(pieces)) => {
                let end = pieces.iter().map(|(at, length)| at.saturating_add(*length)).max().unwrap_or(0);
                if end == 0 {
                    return Ok(Vec::new());
                }
                let all = files::stored(&path, files::OUTPUTS, end)?;
                Ok(pieces.iter().map(|(at, length)| all.slice(*at, *length)).collect())
            }
            (None, None) => Ok(Vec::new()),
        };
        tokio::task::spawn_blocking(open).await.map_err(io::Error::other)?
    }

    /// Throws away what is kept of a job that does not run.
    pub async fn remove(&self, job: JobId) {
        let path = self.path(job);
        let _ = tokio::task::spawn_blocking(move || files::remove(&path)).await;
    }
}

struct Kept {
    found: Found,
    path: PathBuf,
    bytes: u64,
    /// When it was last written.
    at: SystemTime,
}

impl Kept {
    fn ended(&self) -> bool {
        !self.found.replay.as_ref().is_ok_and(|replay| replay.ended.is_none())
    }
}

/// What a folder's log adds up to. `None` for a folder that says nothing: nobody was ever told that its job is kept.
fn read(folder: &Path) -> std::result::Result<Option<Replay>, String> {
    let log = files::read_log(folder).map_err(|error| error.to_string())?;
    record::replay(&log).map_err(|error| error.to_string())
}

fn found(dir: &Path) -> Vec<Kept> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Some(job) = entry.file_name().to_str().and_then(|name| name.parse::<JobId>().ok()) else { continue };
        let path = entry.path();
        let at = fs::metadata(path.join("log")).and_then(|meta| meta.modified());
        let replay = match read(&path) {
            Ok(Some(replay)) if replay.asked.job == job => Ok(replay),
            Ok(Some(_)) => Err("it is another job's".to_owned()),
            Ok(None) => {
                files::remove(&path);
                continue;
            }
            Err(why) => Err(why),
        };
        let sizes = fs::read_dir(&path).into_iter().flatten().flatten().filter_map(|file| file.metadata().ok());
        let bytes = sizes.map(|meta| meta.len()).sum();
        all.push(Kept { found: Found { job, replay }, path, bytes, at: at.unwrap_or(UNIX_EPOCH) });
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

/// Makes room for one more: the oldest that have ended go.
fn make_room(dir: &Path, new: &Path) -> io::Result<()> {
    // Looking into every log for each job would cost more than the job: only when there is reason to.
    let count = fs::read_dir(dir)?.flatten().count();
    if count < KEPT / 2 {
        return Ok(());
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
