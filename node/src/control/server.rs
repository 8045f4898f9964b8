//! Serves a [`Door`] on a Unix socket: one connection, one command; a client that goes away cancels its command.

use std::{path::Path, pin::pin, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
};
use tracing::{debug, warn};

use super::{
    ControlError,
    socket::{self, Bound},
    spool::{Spool, Spooled},
    wire::{self, ANSWER_BYTES, ASK_BYTES, Answer, Ask, INPUT_BYTES, MEMORY_BYTES, WireError},
};
use crate::{
    blob::Blob,
    body::Body,
    command::{CommandError, Door, EVENT_QUEUE, ErrorCode, Event, Request, Response},
};

/// Connections at a time: people, scripts and watchers of one user. *Judgement.*
pub const CLIENTS: usize = 32;
/// Input bytes held in memory for all clients together: half of them may send the most that is held. *Judgement.*
pub const INPUT_BUDGET: u64 = CLIENTS as u64 / 2 * MEMORY_BYTES;
/// A client that has connected says what it wants within this.
pub const FIRST_FRAME: Duration = Duration::from_secs(10);
/// Pause after a failed accept (no file descriptors left), so that it is not repeated at full speed (B93).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A bound control socket. Its file is removed when the server ends.
pub struct ControlServer {
    bound: Bound,
    spool: Spool,
}

impl ControlServer {
    /// Binds `path`, mode 0600; its folder is made with mode 0700 when it is not there. The socket of a dead process is
    /// replaced. Large inputs go to files in `spool`, which is emptied. Must be called inside a tokio runtime.
    pub fn bind(path: &Path, spool: &Path) -> Result<Self, ControlError> {
        Ok(Self { bound: socket::bind(path)?, spool: Spool::open(spool)? })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        self.bound.path()
    }

    /// Serves until `stop` is done; then commands that still run are cancelled.
    pub async fn serve<D: Door + 'static>(self, door: D, stop: impl Future<Output = ()>) {
        let door = Arc::new(door);
        let budget = Arc::new(Semaphore::new(INPUT_BUDGET as usize));
        let spool = Arc::new(self.spool);
        let mut clients = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut stop => return,
                Some(_) = clients.join_next() => continue,
                accepted = self.bound.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) if !is_own(&stream) => warn!("another user's connection was closed"),
                Ok((stream, _)) if clients.len() >= CLIENTS => refuse(&stream),
                Ok((stream, _)) => {
                    let (door, budget, spool) = (door.clone(), budget.clone(), spool.clone());
                    clients.spawn(async move {
                        if let Err(error) = serve_client(stream, &*door, &budget, &spool).await {
                            debug!(%error, "a control client ended early");
                        }
                    });
                }
                Err(error) => {
                    warn!(%error, "cannot accept on the control socket");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// True for this user's processes and root's: the file mode says so too, but only once it is set.
fn is_own(stream: &UnixStream) -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    let me = unsafe { libc::geteuid() };
    stream.peer_cred().is_ok_and(|peer| peer.uid() == me || peer.uid() == 0)
}

/// Tells one client too many so. Its socket buffer is empty, so the short frame fits without waiting.
fn refuse(stream: &UnixStream) {
    let error = CommandError::new(ErrorCode::Failed, format!("busy: {CLIENTS} clients use this node already"));
    if let Ok(payload) = serde_json::to_vec(&Answer::Error(error)) {
        let mut frame = (payload.len() as u32).to_le_bytes().to_vec();
        frame.push(b'J');
        frame.extend_from_slice(&payload);
        let _ = stream.try_write(&frame);
    }
}

async fn serve_client<D: Door>(
    stream: UnixStream,
    door: &D,
    budget: &Semaphore,
    spool: &Spool,
) -> Result<(), WireError> {
    let (mut reader, mut writer) = stream.into_split();
    let ask = tokio::time::timeout(FIRST_FRAME, wire::read_json::<Ask, _>(&mut reader, ASK_BYTES));
    let ask = match ask.await.unwrap_or(Err(WireError::Stalled)) {
        Ok(ask) => ask,
        Err(WireError::Closed) => return Ok(()), // Somebody looked whether a node answers.
        Err(error) => return reject(&mut writer, ErrorCode::Usage, &error).await,
    };
    if ask.v != wire::VERSION {
        let text = format!("the running node speaks version {} of its control socket, not {}", wire::VERSION, ask.v);
        return reject(&mut writer, ErrorCode::NoNode, &text).await;
    }
    if ask.input_bytes > INPUT_BYTES {
        let text = format!("input-too-large: {} bytes, at most {INPUT_BYTES}", ask.input_bytes);
        return reject(&mut writer, ErrorCode::Usage, &text).await;
    }
    // Both are held until the command ends: the job keeps its input for tasks that must be run again.
    let held = if ask.input_bytes > MEMORY_BYTES { 0 } else { ask.input_bytes as u32 };
    let Ok(_held) = budget.try_acquire_many(held) else {
        let text = format!("busy: other commands hold most of the {INPUT_BUDGET} bytes of input a node keeps");
        return reject(&mut writer, ErrorCode::Failed, &text).await;
    };
    let (input, _spooled) = match read_input(&mut reader, ask.input_bytes, spool).await {
        Ok(input) => input,
        Err(error @ WireError::Io(_)) => return reject(&mut writer, ErrorCode::Failed, &error).await,
        Err(error) => return reject(&mut writer, ErrorCode::Usage, &error).await,
    };
    let request = Request { command: ask.command, input };
    tokio::select! {
        biased;
        () = gone(&mut reader) => Ok(()),
        done = execute(request, door, &mut writer) => done,
    }
}

/// Takes the input into memory, or into a file that lives as long as what is returned with it.
async fn read_input(
    reader: &mut OwnedReadHalf,
    bytes: u64,
    spool: &Spool,
) -> Result<(Blob, Option<Spooled>), WireError> {
    if bytes <= MEMORY_BYTES {
        return Ok((wire::read_bulk(reader, bytes, MEMORY_BYTES).await?.into(), None));
    }
    let spooled = spool.receive(reader, bytes).await?;
    Ok((spooled.blob(), Some(spooled)))
}

/// Runs the command and sends what happens and how it ended.
async fn execute<D: Door>(request: Request, door: &D, writer: &mut OwnedWriteHalf) -> Result<(), WireError> {
    let (events, queue) = mpsc::channel(EVENT_QUEUE);
    let (ended, end) = oneshot::channel();
    let run = async {
        let outcome = door.execute(request, events).await;
        let _ = ended.send(());
        Ok::<_, WireError>(outcome)
    };
    // Side by side: a client that reads slowly loses events, it does not hold up the command.
    let (outcome, ()) = tokio::try_join!(run, send_events(queue, end, writer))?;
    send_outcome(outcome, writer).await
}

/// Sends events until the command has `end`ed and the queue is empty.
async fn send_events(
    mut queue: mpsc::Receiver<Event>,
    mut end: oneshot::Receiver<()>,
    writer: &mut OwnedWriteHalf,
) -> Result<(), WireError> {
    loop {
        let event = tokio::select! {
            biased;
            event = queue.recv() => event,
            _ = &mut end => break,
        };
        match event {
            Some(event) => wire::write_json(writer, &Answer::Event(event), ANSWER_BYTES).await?,
            None => return Ok(()),
        }
    }
    // Others in the node may keep a sender: what is in the queue now still goes out, nothing is waited for.
    queue.close();
    while let Some(event) = queue.recv().await {
        wire::write_json(writer, &Answer::Event(event), ANSWER_BYTES).await?;
    }
    Ok(())
}

async fn send_outcome(outcome: Result<Response, CommandError>, writer: &mut OwnedWriteHalf) -> Result<(), WireError> {
    let (answer, mut output): (Answer, Body) = wire::finished(outcome);
    match wire::write_json(writer, &answer, ANSWER_BYTES).await {
        Ok(()) => {}
        Err(error @ (WireError::TooLong { .. } | WireError::Json(_))) => {
            return reject(writer, ErrorCode::Failed, &format!("the answer cannot be sent: {error}")).await;
        }
        Err(error) => return Err(error),
    }
    wire::write_body(writer, &mut output).await?;
    Ok(writer.shutdown().await?)
}

async fn reject(
    writer: &mut OwnedWriteHalf,
    code: ErrorCode,
    reason: &(impl std::fmt::Display + ?Sized),
) -> Result<(), WireError> {
    let answer = Answer::Error(CommandError::new(code, reason.to_string()));
    wire::write_json(writer, &answer, ANSWER_BYTES).await?;
    Ok(writer.shutdown().await?)
}

/// Done when the client has closed its side, or says something though nothing is left to say.
async fn gone(reader: &mut OwnedReadHalf) {
    let _ = reader.read(&mut [0; 1]).await;
}
