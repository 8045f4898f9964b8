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
    sync::{Semaphore, mpsc, oneshot, watch},
    task::{JoinError, JoinHandle},
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
/// A job that somebody waits for is written from then on: most have ended before, and to do one of those again costs less
/// than to keep it. *Judgement.*
const PATIENCE: Duration = Duration::from_millis(500);
/// Orders that are put off meanwhile, or while the disk is busy: one for each task of the largest job, which holds those
/// outputs anyway.
const PUT_OFF: usize = msm_protocol::limits::TASKS_PER_JOB;

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

impl Order {
    fn is_waited_for(&self) -> bool {
        !self.back.is_closed()
    }
}

/// One of the writers that the end of a node waits for.
pub(super) struct Alive(watch::Sender<usize>);

impl Alive {
    pub(super) fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// What makes the files of a journal.
pub(super) type Make = Box<dyn FnOnce() -> io::Result<Files> + Send>;

/// The way to a job's journal. Its folder is kept as long as this, and longer unless it is discarded.
#[derive(Debug, Clone)]
pub struct Journal {
    orders: mpsc::Sender<Order>,
    folder: Arc<Folder>,
    broken: Arc<OnceLock<String>>,
    /// Memory for outputs that nobody waits for.
    memory: Option<Arc<Semaphore>>,
}

impl Journal {
    pub(super) fn start(files: Files, folder: Arc<Folder>, alive: Option<Alive>) -> Self {
        let (writer, queue, journal) = Self::new(folder, None, alive);
        tokio::spawn(writer.run(files, Vec::new(), queue));
        journal
    }

    /// One that is only written when the job takes its time. Its outputs stay in `memory` (permits of a KiB) besides, as
    /// far as there is room.
    pub(super) fn start_patient(make: Make, folder: Arc<Folder>, memory: Arc<Semaphore>, alive: Alive) -> Self {
        let (writer, mut queue, journal) = Self::new(folder, Some(memory), Some(alive));
        tokio::spawn(async move {
            let Some(mut orders) = put_off(&mut queue, &writer.folder).await else { return };
            let files = beside(tokio::task::spawn_blocking(make), &mut queue, &mut orders).await;
            match files.map_err(io::Error::other).flatten() {
                Ok(files) => writer.run(files, orders, queue).await,
                Err(error) => drop(writer.broken.set(error.to_string())),
            }
        });
        journal
    }

    fn new(
        folder: Arc<Folder>,
        memory: Option<Arc<Semaphore>>,
        alive: Option<Alive>,
    ) -> (Writer, mpsc::Receiver<Order>, Self) {
        let (orders, queue) = mpsc::channel(ORDERS);
        let broken = Arc::new(OnceLock::new());
        let writer =
            Writer { broken: broken.clone(), folder: folder.clone(), syncing: None, urgent: false, _alive: alive };
        (writer, queue, Self { orders, folder, broken, memory })
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

    /// A task's output. Comes back as the bytes that are to be held: those in the file, or, of a small one and where there
    /// is memory for it, these.
    pub async fn output(&self, task: u32, worker: Option<PeerId>, id: OutputId, bytes: Blob) -> io::Result<Blob> {
        let stored = Stored { bytes: id.size, hash: id.hash };
        let order = What::Output(Accepted { task, worker, at: 0, stored }, bytes.clone());
        if id.size <= SMALL || self.holds(id.size) {
            self.soon(order).await;
            return match self.broken() {
                Some(why) => Err(io::Error::other(why.to_owned())),
                None => Ok(bytes),
            };
        }
        Ok(self.wait(order).await?.unwrap_or(bytes))
    }

    /// Takes memory for so many bytes, until whoever reads the folder has gone; false where there is none.
    fn holds(&self, bytes: u64) -> bool {
        let permits = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let taken = self.memory.as_ref().and_then(|memory| memory.clone().try_acquire_many_owned(permits).ok());
        taken.map(|permits| self.folder.hold(permits)).is_some()
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

/// Collects orders until the job takes longer than [`PATIENCE`], has more of them than are put off, or waits for one.
/// `None` for one that has ended, of which nothing is to stay.
async fn put_off(queue: &mut mpsc::Receiver<Order>, folder: &Folder) -> Option<Vec<Order>> {
    let (mut orders, mut seen) = (Vec::new(), 0);
    let over = tokio::time::sleep(PATIENCE);
    tokio::pin!(over);
    loop {
        tokio::select! {
            taken = queue.recv_many(&mut orders, ORDERS) => match taken {
                0 if folder.is_discarded() => return None,
                0 => return Some(orders),
                _ => {}
            },
            () = &mut over => return Some(orders),
        }
        if orders[seen..].iter().any(Order::is_waited_for) || orders.len() >= PUT_OFF {
            return Some(orders);
        }
        seen = orders.len();
    }
}

/// Waits for what the disk does, and meanwhile collects orders, so that those who give them need not wait for it.
async fn beside<T>(
    mut work: JoinHandle<T>,
    queue: &mut mpsc::Receiver<Order>,
    orders: &mut Vec<Order>,
) -> std::result::Result<T, JoinError> {
    loop {
        tokio::select! {
            done = &mut work => return done,
            taken = queue.recv_many(orders, ORDERS), if orders.len() < PUT_OFF => {
                if taken == 0 {
                    return work.await;
                }
            }
        }
    }
}

/// Waits for orders, or until something is due; false when none will come any more.
async fn more(queue: &mut mpsc::Receiver<Order>, orders: &mut Vec<Order>, due: Option<Instant>) -> bool {
    let alarm = async {
        match due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        taken = queue.recv_many(orders, ORDERS) => taken > 0,
        () = alarm => true,
    }
}

struct Writer {
    broken: Arc<OnceLock<String>>,
    folder: Arc<Folder>,
    /// Brings files to the disk beside what is written.
    syncing: Option<JoinHandle<io::Result<()>>>,
    /// What was written last must not wait.
    urgent: bool,
    /// Where the end of the node waits for this.
    _alive: Option<Alive>,
}

impl Writer {
    /// Carries out `batch` and then what `queue` brings.
    async fn run(mut self, mut files: Files, mut batch: Vec<Order>, mut queue: mpsc::Receiver<Order>) {
        let mut due: Option<Instant> = None;
        loop {
            let open = !batch.is_empty() || more(&mut queue, &mut batch, due).await;
            let (broken, folder, orders) = (self.broken.clone(), self.folder.clone(), std::mem::take(&mut batch));
            let written = tokio::task::spawn_blocking(move || {
                let carry_out = |urgent, order| match folder.is_taken() {
                    true => Err(()),
                    false => carry_out(&mut files, order, urgent, &broken),
                };
                let urgent = orders.into_iter().try_fold(false, carry_out);
                (files, urgent)
            });
            let Ok((back, urgent)) = beside(written, &mut queue, &mut batch).await else { return };
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
