//! The folder of one job and the files in it; every call waits for the disk.
//!
//! `log` (see [`super::record`]), `input` or `parts` (what the tasks get), `outputs` (what they gave, in the order in
//! which it came) and, where that is not put together from `outputs` as it is, `result`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use msm_protocol::{ContentHash, hash::Hasher};
use tokio::sync::OwnedSemaphorePermit;

use super::record::{self, Accepted, Record, Replay, Stored};
use crate::{
    blob::Blob,
    body::Kept,
    control::spool::{full, room},
    home::files,
};

const LOG: &str = "log";
pub(super) const INPUT: &str = "input";
pub(super) const PARTS: &str = "parts";
pub(super) const OUTPUTS: &str = "outputs";
pub(super) const RESULT: &str = "result";
/// Bytes copied at a time.
const COPIED: u64 = 1024 * 1024;

/// A job's folder. One that is thrown away is removed when nobody uses it any more.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    discarded: AtomicBool,
    /// Whoever waited has the result: nothing is left to go on with.
    taken: AtomicBool,
    /// The node is ending: what is unfinished stays, to be gone on with.
    ending: Arc<AtomicBool>,
    /// Memory of outputs that are held besides.
    held: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Folder {
    pub(super) fn new(path: PathBuf, ending: Arc<AtomicBool>) -> Self {
        let [discarded, taken] = [false; 2].map(AtomicBool::new);
        Self { path, discarded, taken, ending, held: Mutex::default() }
    }

    /// Outputs of so much memory go with the folder's last user.
    pub(super) fn hold(&self, memory: OwnedSemaphorePermit) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *held {
            Some(held) => held.merge(memory),
            none => *none = Some(memory),
        }
    }

    /// Whether the folder goes with its last user.
    pub fn discard(&self, discarded: bool) {
        self.discarded.store(discarded, Ordering::SeqCst);
    }
}

impl Folder {
    /// Whether the result has arrived where it was waited for: nothing more needs to be written.
    pub(super) fn is_taken(&self) -> bool {
        self.discarded.load(Ordering::SeqCst) && self.taken.load(Ordering::SeqCst)
    }

    /// Whether the folder goes with its last user: then nothing in it has to survive a power cut in a hurry.
    pub(super) fn is_discarded(&self) -> bool {
        let is = |flag: &AtomicBool| flag.load(Ordering::SeqCst);
        is(&self.discarded) && (is(&self.taken) || !is(&self.ending))
    }
}

impl Kept for Folder {
    fn taken(&self) {
        self.taken.store(true, Ordering::SeqCst);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_discarded() {
            remove(&self.path);
        }
    }
}

/// Removes a job's folder. What cannot be removed is found and judged again at the next start.
pub(super) fn remove(folder: &Path) {
    // Without its log it is nothing, whatever is left of it.
    let _ = fs::remove_file(folder.join(LOG));
    if let Err(error) = fs::remove_dir_all(folder)
        && folder.exists()
    {
        tracing::warn!(folder = %folder.display(), %error, "a job's folder stays");
    }
}

/// The files of a job that is being written.
#[derive(Debug)]
pub(super) struct Files {
    folder: Arc<Folder>,
    log: Arc<File>,
    outputs: Option<Arc<File>>,
    /// Where the next output goes.
    end: u64,
    /// Others that the disk may not have yet.
    others: Vec<Arc<File>>,
    /// Where each task's output is.
    placed: BTreeMap<u32, (u64, u64)>,
    /// Something was written that the disk may not have yet.
    pub(super) dirty: bool,
}

impl Files {
    /// Begins a journal in a folder that is not there yet.
    pub(super) fn begin(folder: Arc<Folder>) -> io::Result<Self> {
        files::private_folder(&folder.path).map_err(io_of)?;
        let log = open_log(&folder)?;
        Ok(Self { folder, log, outputs: None, end: 0, others: Vec::new(), placed: BTreeMap::new(), dirty: false })
    }

    /// Goes on with a journal where its last good record ends.
    pub(super) fn resume(folder: Arc<Folder>, replay: &Replay) -> io::Result<Self> {
        let log = open_log(&folder)?;
        log.set_len(replay.good as u64)?;
        let mut files =
            Self { folder, log, outputs: None, end: 0, others: Vec::new(), placed: BTreeMap::new(), dirty: true };
        files.end = files.outputs()?.metadata()?.len();
        let place = |accepted: &Accepted| (accepted.task, (accepted.at, accepted.stored.bytes));
        files.placed = replay.accepted.values().map(place).collect();
        Ok(files)
    }

    /// Adds a record, in one write.
    pub(super) fn record(&mut self, record: &Record) -> io::Result<()> {
        let line = record::encode(record).ok_or_else(|| io::Error::other("a record that is too long"))?;
        if let Record::Withdrawn { task } = record {
            self.placed.remove(task);
        }
        self.dirty = true;
        let mut log = &*self.log;
        if let Some(half) = super::fail::half(line.len()) {
            log.write_all(&line[..half])?;
            super::fail::now();
        }
        log.write_all(&line).map_err(|error| full(error, line.len() as u64))?;
        super::fail::after();
        Ok(())
    }

    /// Keeps the input, copied once; one that arrived in a file of `spool` is only moved.
    pub(super) fn input(&mut self, input: &Blob, spool: &Path) -> io::Result<(Stored, Blob)> {
        let path = self.folder.path.join(INPUT);
        if let Some(from) = spooled(input, spool)
            && fs::rename(from, &path).is_ok()
        {
            self.others.extend(input.file());
            let hash = hash_of(input)?;
            return Ok((Stored { bytes: input.len(), hash }, input.clone()));
        }
        self.copy(INPUT, std::slice::from_ref(input))
    }

    /// Writes pieces, one after the other, into a new file of this name.
    pub(super) fn copy(&mut self, name: &str, pieces: &[Blob]) -> io::Result<(Stored, Blob)> {
        let bytes = pieces.iter().map(Blob::len).sum();
        room(&self.folder.path, bytes)?;
        let path = self.folder.path.join(name);
        // Left by a run that was killed before it was recorded.
        let _ = fs::remove_file(&path);
        let (file, mut at, mut hasher) = (open(&path)?, 0, Hasher::default());
        for piece in pieces {
            for from in (0..piece.len()).step_by(COPIED as usize) {
                let read = piece.slice(from, COPIED).read_here()?;
                hasher.update(&read);
                put(&file, &read, at)?;
                at += read.len() as u64;
            }
        }
        self.dirty = true;
        self.others.push(file.clone());
        Ok((Stored { bytes, hash: hasher.finish() }, Blob::File { file, offset: 0, len: bytes }))
    }

    /// Keeps a task's output: first its bytes, then the record that says so.
    pub(super) fn output(&mut self, mut accepted: Accepted, bytes: &Blob) -> io::Result<Blob> {
        room(&self.folder.path, bytes.len())?;
        let (file, at) = (self.outputs()?, self.end);
        put(&file, &bytes.read_here()?, at)?;
        self.end += bytes.len();
        accepted.at = at;
        self.record(&Record::Accepted(accepted))?;
        self.placed.insert(accepted.task, (at, bytes.len()));
        Ok(Blob::File { file, offset: at, len: bytes.len() })
    }

    /// Where the outputs are, in the order of the tasks.
    pub(super) fn pieces(&self) -> Vec<(u64, u64)> {
        self.placed.values().copied().collect()
    }

    fn outputs(&mut self) -> io::Result<Arc<File>> {
        if let Some(file) = &self.outputs {
            return Ok(file.clone());
        }
        let file = open(&self.folder.path.join(OUTPUTS))?;
        Ok(self.outputs.insert(file).clone())
    }

    /// Brings everything to the disk, now.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        sync(&self.take_unsynced(), &self.folder)?;
        self.dirty = false;
        Ok(())
    }

    /// What has to be brought to the disk, bytes before the records that name them.
    pub(super) fn take_unsynced(&mut self) -> Vec<Arc<File>> {
        let mut all = std::mem::take(&mut self.others);
        all.extend(self.outputs.iter().chain([&self.log]).cloned());
        all
    }
}

/// Brings files to the disk, and the folder's entries with them.
pub(super) fn sync(files: &[Arc<File>], folder: &Folder) -> io::Result<()> {
    files.iter().try_for_each(|file| file.sync_data())?;
    File::open(&folder.path)?.sync_all()
}

/// Opens a file of ours to read and to write at its end or anywhere; makes it when it is missing.
fn open(path: &Path) -> io::Result<Arc<File>> {
    files::open_or_create(path).map(Arc::new).map_err(io_of)
}

/// Opens the log to add to its end.
fn open_log(folder: &Folder) -> io::Result<Arc<File>> {
    files::append(&folder.path.join(LOG)).map(|(file, _)| Arc::new(file)).map_err(io_of)
}

/// A full disk stays known as one.
fn io_of(error: files::FileError) -> io::Error {
    match error.is_disk_full() {
        true => io::Error::new(io::ErrorKind::StorageFull, format!("disk-full: {error}")),
        false => io::Error::other(error),
    }
}

fn put(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    if let Some(half) = super::fail::half(bytes.len()) {
        file.write_all_at(&bytes[..half], at)?;
        super::fail::now();
    }
    file.write_all_at(bytes, at).map_err(|error| full(error, bytes.len() as u64))?;
    super::fail::after();
    Ok(())
}

/// The name of the file of `spool` that is all of `blob`.
fn spooled(blob: &Blob, spool: &Path) -> Option<PathBuf> {
    use std::os::fd::AsRawFd;
    let Blob::File { file, offset: 0, len } = blob else { return None };
    let whole = file.metadata().is_ok_and(|meta| meta.len() == *len);
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    (whole && path.parent() == Some(spool)).then_some(path)
}

pub(super) fn hash_of(blob: &Blob) -> io::Result<ContentHash> {
    let mut hasher = Hasher::default();
    for from in (0..blob.len()).step_by(COPIED as usize) {
        hasher.update(&blob.slice(from, COPIED).read_here()?);
    }
    Ok(hasher.finish())
}

/// Reads a log of at most [`record::LOG_BYTES`].
pub(super) fn read_log(folder: &Path) -> Result<Vec<u8>, files::FileError> {
    let log = files::read(&folder.join(LOG), record::LOG_BYTES, files::Secrecy::Plain)?;
    Ok(log.unwrap_or_default())
}

/// A kept file, opened; an error when it has not the bytes that it should have.
pub(super) fn stored(folder: &Path, name: &str, bytes: u64) -> io::Result<Blob> {
    let path = folder.join(name);
    let blob = Blob::of_file(files::open_existing(&path).map_err(io_of)?)?;
    if blob.len() < bytes {
        let text = format!("{} has {} bytes of {bytes}", path.display(), blob.len());
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
    }
    Ok(blob.slice(0, bytes))
}
