//! The audit ledger: one JSON line for every decision about a resource, written before its answer is given.
//!
//! A thread owns the file. Whoever wants to use a resource takes a [`Page`] first, which keeps a place in the queue, and
//! writes on it afterwards; a page that is dropped writes itself. When there is no place, or the disk takes no more,
//! there are no pages, and nothing happens: nothing unlogged does.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::home::{FileError, files};

/// Lines that may wait for the disk, those included that wait for their end. *Judgement*: a dozen guests at a time with
/// 8 questions at a time and 9 counts each are 204.
const QUEUE: usize = 512;
/// Bytes of the file before it is put aside for a new one; the one put aside before is forgotten. About 4,000 lines.
const FILE_BYTES: u64 = 1 << 20;
/// Characters of a detail: a host, or what was asked.
const DETAIL_CHARS: usize = 200;
/// Lines in one answer to the owner.
pub const HISTORY: usize = 1_000;

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was allowed and done.
    Allowed,
    /// It was not allowed.
    Denied,
    /// It was allowed and did not work.
    Failed,
    /// It was allowed, and its task ended before it was done.
    Cut,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Unix seconds.
    pub time: u64,
    /// `market/name@version`.
    pub service: String,
    /// On whose behalf, a peer id; empty when several peers are counted together.
    pub caller: String,
    /// True in the owner's own jobs.
    pub own: bool,
    /// What was asked for, such as `net.fetch`; `offer` when a job was refused because of it.
    pub op: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why not, in one word; empty when allowed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Bytes that were given to the guest.
    #[serde(default)]
    pub bytes: u64,
    /// How often: the same again is counted, and written with its number when its task ends.
    pub times: u32,
    /// More, without secrets: a host without path, the precision of a position.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// Why there is no page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unlogged {
    /// Every place is taken.
    #[error("{QUEUE} lines wait for the audit ledger")]
    Full,
    /// The file cannot be written to.
    #[error("the audit ledger cannot be written: {0}")]
    Disk(String),
    /// The node is ending.
    #[error("the audit ledger is closed")]
    Closed,
}

enum Order {
    Write(Box<Entry>, Option<oneshot::Sender<Result<(), Unlogged>>>),
    /// Write what could not be written before, and say whether that worked.
    TryAgain(oneshot::Sender<Result<(), Unlogged>>),
}

/// The way to the ledger. Clones lead to the same one.
#[derive(Debug, Clone)]
pub struct Ledger {
    orders: mpsc::Sender<Order>,
    /// False while lines wait that could not be written.
    sound: Arc<AtomicBool>,
}

/// The right to write one line. Dropped before it is closed, it says that what it was for was cut off.
pub struct Page {
    place: Option<mpsc::OwnedPermit<Order>>,
    entry: Entry,
}

impl Ledger {
    /// Opens the ledger at `path`, with the older half beside it.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let sound = Arc::new(AtomicBool::new(true));
        let book = Book::open(path, FILE_BYTES)?;
        let (orders, queue) = mpsc::channel(QUEUE);
        let run = {
            let sound = sound.clone();
            move || book.run(queue, &sound)
        };
        let started = std::thread::Builder::new().name("msm-ledger".into()).spawn(run);
        started.map_err(|source| FileError::Io { what: "start a thread for", path: path.to_owned(), source })?;
        Ok(Self { orders, sound })
    }

    /// A place for `entry`, as it will read if nothing more is known of it.
    pub async fn page(&self, entry: Entry) -> Result<Page, Unlogged> {
        if !self.sound.load(Ordering::Acquire) {
            let (answer, answered) = oneshot::channel();
            self.place()?.send(Order::TryAgain(answer));
            answered.await.map_err(|_| Unlogged::Closed)??;
        }
        Ok(Page { place: Some(self.place()?), entry })
    }

    fn place(&self) -> Result<mpsc::OwnedPermit<Order>, Unlogged> {
        self.orders.clone().try_reserve_owned().map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Unlogged::Full,
            mpsc::error::TrySendError::Closed(_) => Unlogged::Closed,
        })
    }
}

impl Page {
    /// What it says so far.
    pub fn entry(&mut self) -> &mut Entry {
        &mut self.entry
    }

    /// Writes it, and waits until it is in the file.
    pub async fn close(mut self) -> Result<(), Unlogged> {
        let (answer, answered) = oneshot::channel();
        self.send(Some(answer));
        answered.await.map_err(|_| Unlogged::Closed)?
    }

    /// Gives the place back without writing; for what is written elsewhere.
    pub(super) fn withdraw(mut self) -> Entry {
        self.place = None;
        self.entry.clone()
    }

    fn send(&mut self, answer: Option<oneshot::Sender<Result<(), Unlogged>>>) {
        if let Some(place) = self.place.take() {
            place.send(Order::Write(Box::new(self.entry.clone()), answer));
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.send(None);
    }
}

/// What the ledger's thread owns.
struct Book {
    path: PathBuf,
    limit: u64,
    file: File,
    size: u64,
    /// Lines that the disk did not take. They hold no more than the queue did: no pages are given until they are written.
    stuck: VecDeque<String>,
}

impl Book {
    fn open(path: &Path, limit: u64) -> Result<Self, FileError> {
        let (mut file, mut size) = files::append(path)?;
        // A line that was cut by a power failure must not swallow the next.
        if size > 0 {
            file.write_all(b"\n").map_err(|source| FileError::Io { what: "write", path: path.to_owned(), source })?;
            size += 1;
        }
        Ok(Self { path: path.to_owned(), limit, file, size, stuck: VecDeque::new() })
    }

    fn run(mut self, mut queue: mpsc::Receiver<Order>, sound: &AtomicBool) {
        while let Some(order) = queue.blocking_recv() {
            let answer = match order {
                Order::TryAgain(answer) => Some(answer),
                Order::Write(entry, answer) => {
                    self.stuck.push_back(line(*entry));
                    answer
                }
            };
            let written = self.write_stuck();
            sound.store(written.is_ok(), Ordering::Release);
            if let Err(error) = &written {
                tracing::error!(%error, path = %self.path.display(), "what guests do cannot be taken down: they are denied");
            }
            if let Some(answer) = answer {
                let _ = answer.send(written.map_err(|error| Unlogged::Disk(error.to_string())));
            }
        }
    }

    fn write_stuck(&mut self) -> io::Result<()> {
        while let Some(line) = self.stuck.front() {
            let length = line.len() as u64;
            if self.size > 0 && self.size + length > self.limit {
                fs::rename(&self.path, older(&self.path))?;
                (self.file, self.size) = files::append(&self.path).map_err(io::Error::other)?;
            }
            if let Err(error) = self.file.write_all(line.as_bytes()) {
                // Whatever got in is no line; the next try begins on a new one.
                let _ = self.file.set_len(self.size);
                return Err(error);
            }
            self.size += length;
            self.stuck.pop_front();
        }
        Ok(())
    }
}

fn line(mut entry: Entry) -> String {
    entry.detail = entry.detail.chars().filter(|c| !c.is_control()).take(DETAIL_CHARS).collect();
    entry.op = entry.op.chars().filter(|c| !c.is_control()).take(DETAIL_CHARS).collect();
    // Strings and numbers always serialise.
    serde_json::to_string(&entry).unwrap_or_default() + "\n"
}

/// Where the older half is.
fn older(path: &Path) -> PathBuf {
    path.with_extension("older.jsonl")
}

/// The newest entries at or after `since` (Unix seconds), newest first, at most `most`. What is no entry is passed over.
pub fn read(path: &Path, since: u64, most: usize) -> Result<Vec<Entry>, FileError> {
    let mut entries = Vec::new();
    for path in [path.to_owned(), older(path)] {
        let Some(bytes) = files::read(&path, 2 * FILE_BYTES, files::Secrecy::Plain)? else { continue };
        let lines = bytes.split(|byte| *byte == b'\n').rev();
        let of_time = lines.filter_map(|line| serde_json::from_slice::<Entry>(line).ok());
        entries.extend(of_time.filter(|entry| entry.time >= since).take(most - entries.len()));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests;
