//! Calls with one child: requests out, replies in, under the parent's own clock and caps.

use std::{
    collections::VecDeque,
    io,
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, BufMut, Bytes, BytesMut, buf::Chain};
use msm_protocol::{Refusal, RefusalCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    task::JoinSet,
};

use crate::{
    call::{Budget, Call},
    process::Process,
    resources::{ANSWER_BYTES, ASKS, ASKS_AT_ONCE, Answer, Ask, AskError, AskErrorKind, Resources},
    walls::Walls,
    wire::{self, Fault, HEADER_BYTES, kind},
};

/// Bytes read from the channel at a time while messages are small.
const READ_BYTES: usize = 16 * 1024;

/// A good reply.
pub struct Reply {
    pub bytes: Bytes,
    pub log: String,
    pub load: Duration,
    /// Nothing of this call is still on its way to the child: the next call can be sent.
    pub clean: bool,
}

/// A bad one.
#[derive(Debug)]
pub enum Trouble {
    /// The child says that the call failed, and whether nothing of it is still on its way to the child.
    Fault { fault: Fault, text: String, clean: bool },
    /// The child is dying and says why.
    Last(Last),
    /// The channel broke: the child is dead, or breaks the rules and must die.
    Broken(io::Error),
}

/// A dying child's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Last {
    /// It made a forbidden system call.
    Trapped(i64),
    /// The host's own code in it panicked.
    Panicked(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

fn broken(text: &'static str) -> Trouble {
    Trouble::Broken(io::Error::new(io::ErrorKind::InvalidData, text))
}

/// Reads the child's report of its walls.
pub async fn hello(process: &mut Process) -> Result<Walls, Trouble> {
    let stream = process.channel()?;
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).await?;
    let (kind, length) = wire::read_header(header);
    if length > wire::SMALL_BYTES {
        return Err(broken("a child's first message is too long"));
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    walls_of(kind, &payload)
}

/// Reads the payload of a child's first message.
pub fn walls_of(kind: u8, payload: &[u8]) -> Result<Walls, Trouble> {
    if kind != kind::HELLO {
        return Err(broken("a child's first message is not about its walls"));
    }
    serde_json::from_slice(payload).map_err(|_| broken("a child's walls are unreadable"))
}

/// What goes back and forth with one child: calls of one package, each with its reply.
pub struct Exchange {
    /// What was read and belongs to the next message, or the next reply.
    read: BytesMut,
}

impl Exchange {
    /// With a child that owes no reply.
    pub fn new() -> Self {
        Self { read: BytesMut::with_capacity(READ_BYTES) }
    }

    /// Sends calls, which may all use this much, with their package and the code of it if the child has none yet. More
    /// than one must fit into the channel: the child may have to be read before it reads the next.
    pub async fn send(
        &mut self,
        process: &mut Process,
        calls: &[Call],
        budget: &Budget,
        load: Option<&Bytes>,
    ) -> io::Result<()> {
        let stream = process.channel()?;
        let (mut head, mut then) = (Vec::new(), Vec::new());
        let Some((last, before)) = calls.split_last() else { return Ok(()) };
        if let Some(code) = load {
            wire::put_load(&mut head, &last.package, code.len());
        }
        for call in before {
            wire::put_call(&mut then, call.op, budget, call.input.len(), &call.params);
            then.extend_from_slice(&call.input);
        }
        wire::put_call(&mut then, last.op, budget, last.input.len(), &last.params);
        let code = load.cloned().unwrap_or_default();
        let mut request = Bytes::from(head).chain(code).chain(Bytes::from(then)).chain(last.input.clone());
        // The child reads all of a call before it answers, whatever it thinks of it.
        stream.write_all_buf(&mut request).await
    }

    /// Nothing was said that nobody asked for.
    pub fn is_empty(&self) -> bool {
        self.read.is_empty()
    }

    /// Reads the reply to the first call that has none yet.
    pub async fn reply(&mut self, process: &mut Process, call: &Call) -> Result<Reply, Trouble> {
        let questions = Questions::new(call.resources.clone());
        let mut replies = Replies { stream: process.channel()?, read: &mut self.read, questions };
        replies.all(call.budget.output).await
    }
}

/// Has a child compile a module; without one it tells the compiler's fingerprint.
pub async fn compile(process: &mut Process, source: &Bytes) -> Result<Bytes, Trouble> {
    let stream = process.channel()?;
    let head = wire::header(wire::kind::COMPILE, source.len());
    stream.write_all_buf(&mut Buf::chain(&head[..], source.clone())).await?;
    let mut read = BytesMut::with_capacity(READ_BYTES);
    let mut replies = Replies { stream, read: &mut read, questions: Questions::new(None) };
    replies.all(wire::CODE_BYTES as u64).await.map(|reply| reply.bytes)
}

struct Replies<'a> {
    stream: &'a mut UnixStream,
    read: &'a mut BytesMut,
    questions: Questions,
}

impl Replies<'_> {
    async fn all(&mut self, cap: u64) -> Result<Reply, Trouble> {
        let mut output = Vec::new();
        let mut log = Vec::new();
        loop {
            self.next_header().await?;
            let mut header = [0; HEADER_BYTES];
            self.read.copy_to_slice(&mut header);
            let (kind, length) = wire::read_header(header);
            if kind == kind::OUTPUT {
                self.output(&mut output, length, cap).await?;
                continue;
            }
            if length > wire::SMALL_BYTES {
                return Err(broken("a child's message is too long"));
            }
            self.fill(length).await?;
            let payload = self.read.split_to(length);
            match kind {
                kind::ASK => {
                    let ask = wire::read_ask(&payload.freeze());
                    let (id, ask) = ask.ok_or_else(|| broken("a child's question is unreadable"))?;
                    self.questions.put(id, ask)?;
                }
                kind::LOG => {
                    if log.len() + length > wire::LOG_BYTES {
                        return Err(broken("a child's log is too long"));
                    }
                    log.extend_from_slice(&payload);
                }
                kind::PROGRESS => {
                    let part = payload.as_ref().try_into().map(f32::from_le_bytes);
                    tracing::trace!(part = part.unwrap_or(0.0), "progress of a guest");
                }
                kind::DONE => {
                    let load = payload.as_ref().try_into().map(u64::from_le_bytes).unwrap_or(0);
                    let log = String::from_utf8_lossy(&log).into_owned();
                    let clean = self.questions.are_answered();
                    return Ok(Reply { bytes: output.into(), log, load: Duration::from_micros(load), clean });
                }
                kind::FAIL => {
                    let log = String::from_utf8_lossy(&log);
                    if !log.is_empty() {
                        tracing::debug!(%log, "log of a failed guest");
                    }
                    let (fault, text) = payload.split_first().ok_or_else(|| broken("a child's failure is empty"))?;
                    let fault = Fault::from_wire(*fault).ok_or_else(|| broken("a child's failure is unknown"))?;
                    let (text, clean) = (String::from_utf8_lossy(text).into_owned(), self.questions.are_answered());
                    return Err(Trouble::Fault { fault, text, clean });
                }
                kind::TRAPPED => {
                    let number = payload.as_ref().try_into().map(i64::from_le_bytes).unwrap_or(-1);
                    return Err(Trouble::Last(Last::Trapped(number)));
                }
                kind::PANICKED => {
                    return Err(Trouble::Last(Last::Panicked(String::from_utf8_lossy(&payload).into_owned())));
                }
                _ => return Err(broken("a child's message is of no known kind")),
            }
        }
    }

    /// Reads until a message's header waits in `self.read`; meanwhile questions are answered. Reading never waits for
    /// writing: a child that reads none of its answers harms itself only.
    async fn next_header(&mut self) -> io::Result<()> {
        while self.read.len() < HEADER_BYTES {
            let (mut from, mut to) = self.stream.split();
            self.read.reserve(READ_BYTES);
            let Questions { open, unsent, .. } = &mut self.questions;
            tokio::select! {
                got = from.read_buf(self.read) => if got? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                },
                // An answerer that panicked has no id to say: its question stays open until the deadline.
                Some(Ok(answer)) = open.join_next(), if !open.is_empty() => self.questions.send(answer),
                sent = to.write_buf(unsent), if unsent.has_remaining() => {
                    sent?;
                    self.questions.more();
                }
            }
        }
        Ok(())
    }

    /// Reads until so many bytes wait in `self.read`.
    async fn fill(&mut self, count: usize) -> io::Result<()> {
        while self.read.len() < count {
            self.read.reserve(READ_BYTES.max(count - self.read.len()));
            if self.stream.read_buf(self.read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// Reads the next so many bytes of the output, straight to where they stay.
    async fn output(&mut self, output: &mut Vec<u8>, length: usize, cap: u64) -> Result<(), Trouble> {
        // Checked before a byte is read or reserved: the parent never holds more than the cap.
        if (output.len() as u64).saturating_add(length as u64) > cap {
            let text = format!("the output is over its limit of {cap} bytes");
            return Err(Trouble::Fault { fault: Fault::OutputTooLarge, text, clean: false });
        }
        // A first piece is mostly the only one; more pieces come with many more.
        let room = if output.is_empty() { output.try_reserve_exact(length) } else { output.try_reserve(length) };
        if room.is_err() {
            return Err(Trouble::Broken(io::ErrorKind::OutOfMemory.into()));
        }
        let waiting = self.read.split_to(length.min(self.read.len()));
        output.extend_from_slice(&waiting);
        let mut missing = length - waiting.len();
        while missing > 0 {
            let got = self.stream.read_buf(&mut (&mut *output).limit(missing)).await?;
            if got == 0 {
                return Err(Trouble::Broken(io::ErrorKind::UnexpectedEof.into()));
            }
            missing -= got;
        }
        Ok(())
    }
}

/// The guest's questions of one call, and the answers that wait to be sent.
struct Questions {
    resources: Option<Arc<dyn Resources>>,
    open: JoinSet<(u32, Result<Answer, AskError>)>,
    asked: u32,
    /// What is being sent: the head of an answer and its bytes.
    unsent: Chain<Bytes, Bytes>,
    /// At most [`ASKS_AT_ONCE`], as the open ones are.
    waiting: VecDeque<Chain<Bytes, Bytes>>,
}

impl Questions {
    fn new(resources: Option<Arc<dyn Resources>>) -> Self {
        let nothing = Bytes::new().chain(Bytes::new());
        Self { resources, open: JoinSet::new(), asked: 0, unsent: nothing, waiting: VecDeque::new() }
    }

    fn are_answered(&self) -> bool {
        self.open.is_empty() && self.waiting.is_empty() && !self.unsent.has_remaining()
    }

    /// Has a question answered. The child keeps to the number at a time by itself; one that does not is broken.
    fn put(&mut self, id: u32, ask: Ask) -> Result<(), Trouble> {
        if self.open.len() + self.waiting.len() >= ASKS_AT_ONCE {
            return Err(broken("a child asks too much at a time"));
        }
        self.asked += 1;
        let too_many =
            || AskError::new(AskErrorKind::Limit, format!("more than {ASKS} calls of resources in one task"));
        let nobody = || AskError::new(AskErrorKind::Denied, format!("{} is not available here", ask.op));
        match &self.resources {
            _ if self.asked > ASKS => self.send((id, Err(too_many()))),
            None => self.send((id, Err(nobody()))),
            Some(resources) => {
                let answering = resources.answer(ask);
                self.open.spawn(async move { (id, answering.await) });
            }
        }
        Ok(())
    }

    fn send(&mut self, (id, answer): (u32, Result<Answer, AskError>)) {
        let too_large = |bytes: &Answer| bytes.bytes.len() + bytes.json.len() > ANSWER_BYTES;
        let answer = match answer {
            Ok(answer) if too_large(&answer) => {
                Err(AskError::new(AskErrorKind::Limit, format!("the answer is over {ANSWER_BYTES} bytes")))
            }
            other => other,
        };
        let head = Bytes::from(wire::answer_head(id, &answer));
        self.waiting.push_back(head.chain(answer.map(|answer| answer.bytes).unwrap_or_default()));
        self.more();
    }

    /// Goes on with the next answer when one is sent.
    fn more(&mut self) {
        if !self.unsent.has_remaining()
            && let Some(next) = self.waiting.pop_front()
        {
            self.unsent = next;
        }
    }
}

/// Waits a moment for a child that has announced its death, so that its own end is on record and not our kill.
pub async fn last_breath(process: &mut Process) {
    const MOMENT: Duration = Duration::from_millis(50);
    if let Ok(stream) = process.channel() {
        let end = async { while matches!(stream.read(&mut [0; 512]).await, Ok(1..)) {} };
        // A child that lives on all the same is killed.
        let _ = tokio::time::timeout(MOMENT, end).await;
    }
}

/// What a child's death means for its call.
pub fn refusal_of_death(last: Option<Last>, status: Option<ExitStatus>, cause: &io::Error) -> Refusal {
    let crashed = |text: String| Refusal::new(RefusalCode::TaskCrashed, text);
    match last {
        Some(Last::Trapped(number)) => {
            let name = name_of(number);
            tracing::warn!(syscall = number, name, "seccomp killed a guest's process");
            let how = status.map_or_else(String::new, |status| format!(", {status}"));
            return crashed(format!("killed by the seccomp wall{how}: system call {number} ({name}) is not allowed"));
        }
        Some(Last::Panicked(text)) => return crashed(format!("the sandbox child panicked: {text}")),
        None => {}
    }
    match status.and_then(|status| status.signal()) {
        Some(libc::SIGSYS) => {
            tracing::warn!("seccomp killed a guest's process, system call unknown");
            crashed("killed by the seccomp wall".into())
        }
        Some(libc::SIGXCPU) => Refusal::new(RefusalCode::Deadline, "the service used up its CPU time and was killed"),
        Some(libc::SIGSEGV) => crashed("the service's process crashed (SIGSEGV)".into()),
        Some(libc::SIGABRT) => crashed("the service's process aborted (SIGABRT)".into()),
        // Our own kill comes after a broken rule; nobody else's business kills but the system short of memory.
        Some(libc::SIGKILL) if cause.kind() == io::ErrorKind::UnexpectedEof => {
            crashed("the service's process was killed by the system (SIGKILL), perhaps for want of memory".into())
        }
        Some(libc::SIGKILL) => crashed(format!("the service's process was killed: {cause}")),
        Some(signal) => crashed(format!("the service's process died of signal {signal}")),
        None => crashed(format!("the service's process ended: {cause}")),
    }
}

#[cfg(target_os = "linux")]
fn name_of(number: i64) -> &'static str {
    crate::guest::syscall_name(number).unwrap_or("unnamed")
}

#[cfg(not(target_os = "linux"))]
fn name_of(_: i64) -> &'static str {
    "unnamed"
}

/// When a call must be over, by the parent's clock.
pub fn kill_time(started: Instant, time: Duration) -> Instant {
    /// A child that keeps its own deadline has long answered by then.
    const GRACE: Duration = Duration::from_millis(200);
    started.checked_add(time.saturating_add(GRACE)).unwrap_or(started)
}
