//! The writer of one job's journal: a task that owns its files and writes in order, beside the job's own way.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use msm_protocol::PeerId;
use msm_scheduler::OutputId;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};

use super::{
    files::{Files, Folder, PARTS, RESULT, sync},
    record::{Accepted, Asked, Ended, Planned, Record, Stored},
};
use crate::blob::Blob;

/// Orders that wait for the writer; those with large bytes are waited for by the job, one at a time.
const ORDERS: usize = 32;
/// What was written is brought to the disk at most this often, and at least so soon.
const COMMIT: Duration = Duration::from_secs(1);
/// Outputs up to this size stay in memory as well, and nobody waits until they are written: 1,024 of them are 16 MiB.
/// *Judgement.*
const SMALL: u64 = 16 * 1024;

enum What {
    /// The first record, and the input where it is kept.
    Begin(Box<Asked>, Option<Blob>, PathBuf),
    /// The plan, and the parts where they are kept.
    Plan(Box<Planned>, Option<Vec<Blob>>),
    Output(Accepted, Blob),
    Record(Record),
    /// The end, and the result where it is not pieces of the outputs.
    End(Box<Ended>, Result),
}

/// Where a job's result is.
#[derive(Debug)]
pub enum Result {
    /// There is none.
    None,
    /// The outputs one after the other.
    Outputs,
    /// These bytes.
    Bytes(Vec<Blob>),
}

struct Order {
    what: What,
    back: oneshot::Sender<io::Result<Option<Blob>>>,
}

/// The way to a job's journal. Its folder is kept as long as this, and longer unless it is discarded.
#[derive(Debug, Clone)]
pub struct Journal {
    orders: mpsc::Sender<Order>,
    folder: Arc<Folder>,
    broken: Arc<OnceLock<String>>,
}

impl Journal {
    pub(super) fn start(files: Files, folder: Arc<Folder>) -> Self {
        let (orders, queue) = mpsc::channel(ORDERS);
        let broken = Arc::new(OnceLock::new());
        let writer = Writer { broken: broken.clone(), folder: folder.clone(), syncing: None, urgent: false };
        tokio::spawn(writer.run(files, queue));
        Self { orders, folder, broken }
    }

    /// The folder, for whoever reads from it when this is gone.
    pub fn folder(&self) -> Arc<Folder> {
        self.folder.clone()
    }

    /// Why nothing is written any more, if so.
    pub fn broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }

    /// What was asked. Comes back with the input as it lies on the disk, and of a detached job when it is safe there.
    pub(super) async fn begin(&self, asked: Asked, input: Option<Blob>, spool: PathBuf) -> io::Result<Option<Blob>> {
        self.wait(What::Begin(asked.into(), input, spool)).await
    }

    /// The same; nobody waits.
    pub(super) async fn begin_soon(&self, asked: Asked, input: Option<Blob>, spool: PathBuf) {
        self.soon(What::Begin(asked.into(), input, spool)).await;
    }

    /// What runs; `parts` are kept where they are no pieces of the input. Nobody waits.
    pub async fn plan(&self, planned: Planned, parts: Option<Vec<Blob>>) {
        self.soon(What::Plan(planned.into(), parts)).await;
    }

    /// A task's output. Comes back as the bytes that are to be held: those in the file, or, of a small one, these.
    pub async fn output(&self, task: u32, worker: Option<PeerId>, id: OutputId, bytes: Blob) -> io::Result<Blob> {
        let stored = Stored { bytes: id.size, hash: id.hash };
        let order = What::Output(Accepted { task, worker, at: 0, stored }, bytes.clone());
        if id.size <= SMALL {
            self.soon(order).await;
            return match self.broken() {
                Some(why) => Err(io::Error::other(why.to_owned())),
                None => Ok(bytes),
            };
        }
        Ok(self.wait(order).await?.unwrap_or(bytes))
    }

    /// Anything else that must be known after a crash. Nobody waits.
    pub async fn record(&self, record: Record) {
        self.soon(What::Record(record)).await;
    }

    /// The end. Comes back when it is safe on the disk.
    pub async fn end(&self, ended: Ended, result: Result) -> io::Result<()> {
        self.wait(What::End(ended.into(), result)).await.map(drop)
    }

    async fn soon(&self, what: What) {
        let (back, _) = oneshot::channel();
        // A writer that is gone has said why.
        let _ = self.orders.send(Order { what, back }).await;
    }

    async fn wait(&self, what: What) -> io::Result<Option<Blob>> {
        let gone = || io::Error::other(self.broken().unwrap_or("its writer has ended").to_owned());
        let (back, answer) = oneshot::channel();
        self.orders.send(Order { what, back }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

struct Writer {
    broken: Arc<OnceLock<String>>,
    folder: Arc<Folder>,
    /// Brings files to the disk beside what is written.
    syncing: Option<JoinHandle<io::Result<()>>>,
    /// What was written last must not wait.
    urgent: bool,
}

impl Writer {
    async fn run(mut self, mut files: Files, mut queue: mpsc::Receiver<Order>) {
        let mut due: Option<Instant> = None;
        loop {
            let mut batch = Vec::new();
            let alarm = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let open = tokio::select! {
                taken = queue.recv_many(&mut batch, ORDERS) => taken > 0,
                () = alarm => true,
            };
            let broken = self.broken.clone();
            let written = tokio::task::spawn_blocking(move || {
                let carry_out = |urgent, order| carry_out(&mut files, order, urgent, &broken);
                let urgent = batch.into_iter().try_fold(false, carry_out);
                (files, urgent)
            });
            let Ok((back, urgent)) = written.await else { return };
            files = back;
            match urgent {
                Ok(urgent) => self.urgent |= urgent,
                Err(()) => return,
            }
            if files.dirty && due.is_none() {
                due = Some(Instant::now() + COMMIT);
            }
            if !open && self.folder.is_discarded() {
                return;
            }
            // Somebody waits for this job at its door: within a second is soon enough, and most jobs are over by then.
            let urgent = self.urgent && !self.folder.is_discarded();
            let now = urgent || !open || due.is_some_and(|due| due <= Instant::now());
            if files.dirty && now {
                if let Err(error) = self.commit(&mut files).await {
                    return drop(self.broken.set(error.to_string()));
                }
                due = None;
            }
            if !open {
                // The last commit is waited for: who resumes this job next may be told that it is whole.
                return drop(self.synced().await);
            }
        }
    }

    /// Begins to bring everything to the disk, when the last time has ended.
    async fn commit(&mut self, files: &mut Files) -> io::Result<()> {
        self.synced().await?;
        (files.dirty, self.urgent) = (false, false);
        let (all, folder) = (files.take_unsynced(), self.folder.clone());
        self.syncing = Some(tokio::task::spawn_blocking(move || sync(&all, &folder)));
        Ok(())
    }

    async fn synced(&mut self) -> io::Result<()> {
        match self.syncing.take() {
            Some(task) => task.await.map_err(io::Error::other)?,
            None => Ok(()),
        }
    }
}

/// Carries out one order unless an earlier one has failed; whether what it wrote must not wait.
fn carry_out(
    files: &mut Files,
    order: Order,
    before: bool,
    broken: &OnceLock<String>,
) -> std::result::Result<bool, ()> {
    let done = write(files, order.what);
    let after = match &done {
        Ok((_, urgent)) => Ok(before || *urgent),
        // Said before whoever waits for this order hears of it.
        Err(error) => {
            let _ = broken.set(error.to_string());
            Err(())
        }
    };
    let _ = order.back.send(done.map(|(blob, _)| blob));
    after
}

fn write(files: &mut Files, what: What) -> io::Result<(Option<Blob>, bool)> {
    match what {
        What::Begin(mut asked, input, spool) => {
            let kept = input.map(|input| files.input(&input, &spool)).transpose()?;
            asked.input = kept.as_ref().map(|(stored, _)| *stored);
            let waits = asked.detached;
            files.record(&Record::Asked(asked))?;
            if waits {
                files.sync()?;
            }
            Ok((kept.map(|(_, blob)| blob), true))
        }
        What::Plan(mut planned, parts) => {
            planned.kept = parts.map(|parts| files.copy(PARTS, &parts)).transpose()?.map(|(stored, _)| stored);
            files.record(&Record::Planned(planned))?;
            Ok((None, true))
        }
        What::Output(accepted, bytes) => files.output(accepted, &bytes).map(|blob| (Some(blob), false)),
        What::Record(record) => {
            // A lie that is forgotten would be believed again.
            let urgent = matches!(record, Record::Withdrawn { .. } | Record::Struck { .. });
            files.record(&record)?;
            Ok((None, urgent))
        }
        What::End(mut ended, result) => {
            match result {
                Result::None => {}
                Result::Outputs => ended.pieces = Some(files.pieces()),
                Result::Bytes(pieces) => ended.result = Some(files.copy(RESULT, &pieces)?.0),
            }
            files.record(&Record::Ended(ended))?;
            files.sync()?;
            Ok((None, false))
        }
    }
}
