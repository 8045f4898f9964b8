//! An accepted offer: the jobs on its lane, inputs that arrive, tasks that wait and tasks that run.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures::{
    StreamExt,
    future::{AbortHandle, Abortable, Aborted},
    stream::FuturesUnordered,
};
use msm_protocol::{
    ContentHash, JobId, PeerId, Refusal, RefusalCode,
    job::{ChunkHead, Claim, Job, JobRefused, Offer, TaskHeader, ToWorker},
    limits::{CREDIT_MAX, HEARTBEAT, JOBS_PER_LANE, RECEIPT_TIME, TASK_BYTES, TASKS_PER_JOB},
    manifest::ManifestError,
};
use msm_sandbox::{Call, Output, Package};
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};

use super::{
    bad,
    started::{GROUP_INPUT, GROUP_STINT, GROUP_TIME, Started},
    words::{Finished, Success, Words},
};
use crate::{
    node::{
        context::Context,
        frames::{Assembly, AssemblyError, Frame, FrameError, Outbox, Passage, StreamReader},
        inputs::{Held, Share},
        packages::{self, Installed},
        standing::Standing,
    },
    resources::gate::Service,
};

/// An input must be whole within this, or its memory is taken back: 8 MiB over 64 kbit/s take longer, 1 MiB does not.
const INPUT_TIME: Duration = Duration::from_secs(150);
/// A lane on which nothing runs and nothing is said is closed after this.
const IDLE_TIME: Duration = Duration::from_secs(60);
/// An input waits so long for memory that inputs of others hold; meanwhile the lane is not read. For what its own
/// sender's tasks hold it waits as long as it may take to arrive. *Judgement.*
const MEMORY_TIME: Duration = Duration::from_secs(5);
/// Parameters checked in a second; with more the lane is not read until it is over. A check takes some ten microseconds,
/// so a lane costs a fiftieth of a core. *Judgement.*
const CHECKS_PER_SECOND: u32 = 2_000;
/// A look at the device, the owner's terms and the market counts this long: what changes them is watched besides.
const STANDING_TIME: Duration = Duration::from_millis(50);
/// Outputs that were not read; with more no further group is started. *Judgement: two of the largest.*
const UNSENT_BYTES: usize = 16 << 20;
/// From this size on an output is hashed beside the lane and not in it. *Judgement: a tenth of a millisecond.*
const HASH_BESIDE: usize = 128 * 1024;
/// Results are signed for this often, the first of a burst at once: a fortieth of what the protocol gives, so that the
/// word is there when a lie is found. Forty signatures a second are nothing. *Judgement.*
const SIGN_INTERVAL: Duration = Duration::from_millis(RECEIPT_TIME.as_millis() as u64 / 40);

/// Tasks that this device takes at a time on one lane: what lies in frames is short, and long inputs are bounded by the
/// memory for them, which is taken as they arrive.
pub fn credit() -> u32 {
    CREDIT_MAX
}

/// A lane at work.
pub struct Serving {
    ctx: Arc<Context>,
    peer: PeerId,
    inputs: Share,
    offer: Offer,
    installed: Arc<Installed>,
    pub service: Arc<Service>,
    pub standing: Standing,
    looked: Option<Instant>,
    jobs: HashMap<u32, Open>,
    /// Parameters checked, and since when.
    checks: (u32, Instant),
    next_slot: u64,
    next_id: u64,
    /// By id, so that what came first is told first.
    arriving: BTreeMap<u64, Arriving>,
    waiting: VecDeque<Ready>,
    started: Started,
    groups: FuturesUnordered<Abortable<Group>>,
    stalled: Option<Stalled>,
}

/// Tasks that run one after the other.
type Group = Pin<Box<dyn Future<Output = Ran> + Send>>;

/// What became of a group.
struct Ran {
    /// How tasks ended, and how long each took.
    finished: Vec<(Finished, Duration)>,
    /// Those that their stint had no time for.
    rest: Vec<Ready>,
}

/// A job on the lane.
#[derive(Clone)]
struct Open {
    job: JobId,
    tasks: u32,
    given: String,
    params: Arc<str>,
    package: Arc<Package>,
}

/// A task whose input is still arriving.
struct Arriving {
    header: TaskHeader,
    assembly: Assembly,
    /// Memory for as much as has arrived.
    memory: Option<Held>,
    passage: Passage,
    /// A sender that dawdles must not hold that memory.
    until: Instant,
}

/// A task that can run.
struct Ready {
    header: TaskHeader,
    input: Bytes,
    memory: Option<Held>,
    passage: Passage,
}

impl Ready {
    /// What is said of it, and how long its guest took.
    async fn finished(self, job: JobId, outcome: Result<Output, Refusal>) -> (Finished, Duration) {
        let Self { header: TaskHeader { id, hash, slot, task, .. }, passage, .. } = self;
        // What fails is no quick task.
        let took = outcome.as_ref().map_or(GROUP_TIME, |output| output.wall);
        let input_us = passage.shown().map(|(_, took)| took.as_micros() as u64);
        let outcome = match outcome {
            Ok(Output { bytes, cpu, .. }) => hashed(bytes).await.map(|(bytes, output)| {
                let claim = Claim { job, task, input: hash, output };
                Success { claim, bytes, cpu_us: cpu.as_micros() as u64, input_us }
            }),
            Err(refusal) => Err(refusal),
        };
        (Finished { id, slot, outcome }, took)
    }
}

/// Something that waits for memory. The lane is not read meanwhile.
struct Stalled {
    what: Wants,
    memory: Pin<Box<dyn Future<Output = Option<Held>> + Send>>,
}

enum Wants {
    /// Nothing but time.
    Breath,
    Task(TaskHeader, Bytes),
    Chunk(ChunkHead),
}

impl From<AssemblyError> for Refusal {
    fn from(error: AssemblyError) -> Self {
        bad(error.to_string())
    }
}

/// The end of a lane: with a refusal, or without a word.
type Ended = Option<Refusal>;

impl Serving {
    pub fn new(
        ctx: Arc<Context>,
        peer: PeerId,
        offer: Offer,
        installed: Arc<Installed>,
        service: Arc<Service>,
        standing: Standing,
    ) -> Self {
        Self {
            inputs: ctx.inputs.share_of(peer),
            ctx,
            peer,
            offer,
            installed,
            service,
            standing,
            looked: None,
            jobs: HashMap::new(),
            checks: (0, Instant::now()),
            next_slot: 0,
            next_id: 0,
            arriving: BTreeMap::new(),
            waiting: VecDeque::new(),
            started: Started::default(),
            groups: FuturesUnordered::new(),
            stalled: None,
        }
    }

    /// The engine that runs here.
    pub fn engine(&self) -> &'static str {
        self.installed.engine.as_str()
    }

    /// The manifest that is run.
    pub fn package(&self) -> ContentHash {
        self.offer.manifest
    }

    /// For logs.
    pub fn name(&self) -> &str {
        &self.service.name
    }

    /// Memory of one guest, MiB. Manifests are bounded, so this fits.
    pub fn guest_mib(&self) -> u32 {
        self.installed.budget().memory.div_ceil(1 << 20) as u32
    }

    /// Serves until either side ends it. Dropping the lane drops every task in it, and with it its child.
    pub async fn run(
        &mut self,
        frames: &mut StreamReader,
        words: &Arc<Outbox<Words>>,
        writer: &mut JoinHandle<std::io::Result<()>>,
    ) -> Ended {
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sign = tokio::time::interval(SIGN_INTERVAL);
        sign.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let drained = words.lock().drained.clone();
        let mut busy_at = Instant::now();
        let mut owes = false;
        let ended = loop {
            self.start_tasks(words);
            let step = tokio::select! {
                frame = frames.next(), if self.stalled.is_none() => {
                    busy_at = Instant::now();
                    self.frames(frame, frames, words)
                }
                memory = until_memory(&mut self.stalled), if self.stalled.is_some() => {
                    self.resume(memory, frames, words)
                }
                Some(ran) = self.groups.next(), if !self.groups.is_empty() => {
                    busy_at = Instant::now();
                    self.ran(ran, words);
                    owes = true;
                    Ok(())
                }
                _ = heartbeat.tick() => self.heartbeat(words, busy_at),
                _ = sign.tick(), if owes => {
                    words.change(Words::sign);
                    owes = false;
                    Ok(())
                }
                // A long output was read: there may be room for the next.
                () = drained.notified() => Ok(()),
                // The requester gives the tasks to others at once; ending drops them here.
                refusal = self.standing.lost() => Err(Some(refusal)),
                // The stream broke, or the other side reads nothing.
                _ = &mut *writer => break None,
            };
            if let Err(ended) = step {
                break ended;
            }
        };
        if let Some(refusal) = &ended {
            tracing::info!(peer = self.peer.short(), service = self.name(), %refusal, "leaving the lane");
        }
        ended
    }

    /// Handles a frame and all that were read with it, until one must wait.
    fn frames(
        &mut self,
        first: Result<Option<Frame<ToWorker>>, FrameError>,
        frames: &mut StreamReader,
        words: &Outbox<Words>,
    ) -> Result<(), Ended> {
        if matches!(first, Ok(None)) {
            return Err(None);
        }
        let mut next = first;
        loop {
            match next {
                Ok(Some(Frame::Message(ToWorker::Done))) | Err(FrameError::Io(_)) => return Err(None),
                Ok(Some(Frame::Message(message))) => self.message(message, words)?,
                Ok(Some(Frame::Chunk(head))) => self.chunk(head, frames)?,
                Ok(Some(Frame::Body(head, buffer))) => self.body(&head, buffer)?,
                Ok(None) => return Ok(()),
                Err(error) => return Err(Some(bad(error.to_string()))),
            }
            if self.stalled.is_some() {
                return Ok(());
            }
            next = frames.ready();
        }
    }

    fn message(&mut self, message: ToWorker, words: &Outbox<Words>) -> Result<(), Refusal> {
        match message {
            ToWorker::Job(job) => self.open(*job, words),
            ToWorker::Task(header) => self.task(header, words),
            ToWorker::Cancel(id) => {
                self.drop_tasks(words, |task, _| task == id);
                Ok(())
            }
            ToWorker::Over(slot) => {
                self.jobs.remove(&slot);
                self.drop_tasks(words, |_, of| of == slot);
                Ok(())
            }
            ToWorker::Chunk(_) => Err(bad("an empty chunk".into())),
            ToWorker::Offer(_) => Err(bad("a second offer on one stream".into())),
            ToWorker::Done => Ok(()),
        }
    }

    // ---- Jobs ---------------------------------------------------------------------------------------------------------

    fn open(&mut self, job: Job, words: &Outbox<Words>) -> Result<(), Refusal> {
        let Job { job, slot, tasks, params: given } = job;
        if u64::from(slot) < self.next_slot {
            return Err(bad(format!("slot {slot} was used before")));
        }
        self.next_slot = u64::from(slot) + 1;
        if tasks as usize > TASKS_PER_JOB {
            return Err(bad(format!("{tasks} tasks, at most {TASKS_PER_JOB} are allowed in one job")));
        }
        if self.jobs.len() >= JOBS_PER_LANE {
            return Err(bad(format!("more than {JOBS_PER_LANE} jobs on one lane")));
        }
        // Calls of one service mostly say the same.
        let same = self.jobs.values().find(|open| open.given == given).cloned();
        let open = match same {
            Some(same) => Open { job, tasks, ..same },
            None => match self.checked(&given) {
                Ok(params) => {
                    let params: Arc<str> = params.into();
                    let package = Arc::new(self.installed.package(&params));
                    Open { job, tasks, given, params, package }
                }
                Err(error) => {
                    let refusal = Refusal::new(RefusalCode::BadInput, error.to_string());
                    tracing::info!(peer = self.peer.short(), job = job.short(), %refusal, "job refused");
                    let read = words.change(|words| words.refuse_job(JobRefused { slot, refusal }));
                    return if read { Ok(()) } else { Err(bad("too many bad jobs".into())) };
                }
            },
        };
        self.jobs.insert(slot, open);
        Ok(())
    }

    /// Checks parameters; those who send many new ones are read no faster than that is done.
    fn checked(&mut self, given: &str) -> Result<String, ManifestError> {
        let second = Duration::from_secs(1);
        let (count, since) = &mut self.checks;
        if since.elapsed() >= second {
            (*count, *since) = (0, Instant::now());
        }
        *count += 1;
        if *count >= CHECKS_PER_SECOND {
            let (until, inputs) = (*since + second, self.inputs.clone());
            let memory = Box::pin(async move {
                tokio::time::sleep_until(until).await;
                inputs.try_take(0, 0)
            });
            self.stalled = Some(Stalled { what: Wants::Breath, memory });
        }
        self.installed.manifest.check_params_text(given)
    }

    /// Forgets tasks, wherever they are; those that run are stopped, in a group when nothing of it is wanted.
    fn drop_tasks(&mut self, words: &Outbox<Words>, unwanted: impl Fn(u64, u32) -> bool) {
        self.arriving.retain(|id, task| !unwanted(*id, task.header.slot));
        self.waiting.retain(|task| !unwanted(task.header.id, task.header.slot));
        self.started.forget(&unwanted);
        let mut words = words.lock();
        if words.unanswered() > 0 {
            words.forget(|finished| unwanted(finished.id, finished.slot));
        }
    }

    // ---- Tasks --------------------------------------------------------------------------------------------------------

    /// Checks what must hold at every task.
    fn may_run(&mut self) -> Result<(), Refusal> {
        if self.looked.is_some_and(|at| at.elapsed() < STANDING_TIME) {
            return Ok(());
        }
        self.ctx.markets.vouches(&self.offer.market, &self.offer.manifest)?;
        self.ctx.lends_to(&self.peer)?;
        self.standing.fits_device()?;
        self.looked = Some(Instant::now());
        Ok(())
    }

    fn task(&mut self, header: TaskHeader, words: &Outbox<Words>) -> Result<(), Refusal> {
        if header.id < self.next_id {
            return Err(Refusal::new(RefusalCode::Duplicate, format!("task {} was sent before", header.id)));
        }
        self.next_id = header.id.saturating_add(1);
        if !self.jobs.contains_key(&header.slot) {
            // Refused, or over: its tasks were on the way.
            let known = u64::from(header.slot) < self.next_slot;
            return if known { Ok(()) } else { Err(bad(format!("a task for slot {}, which never was", header.slot))) };
        }
        self.may_run()?;
        let held = self.arriving.len() + self.waiting.len() + self.started.tasks() + words.lock().unanswered();
        if held >= credit() as usize {
            return Err(bad(format!("more than {} tasks at a time", credit())));
        }
        // Memory is asked for what is here, never for what is only said to be.
        let mut assembly = Assembly::new(header.hash, header.size, TASK_BYTES as u64)?;
        let mut header = header;
        match assembly.at_once(header.bytes.take().map(|bytes| bytes.into_vec()))? {
            Some(input) if input.is_empty() => self.wait(header, input, None, Passage::default()),
            Some(input) => {
                let size = input.len() as u64;
                return self.with_memory(size, size, Wants::Task(header, input), None);
            }
            None => {
                let until = Instant::now() + INPUT_TIME;
                let passage = Passage::default();
                self.arriving.insert(header.id, Arriving { header, assembly, memory: None, passage, until });
            }
        }
        Ok(())
    }

    fn chunk(&mut self, head: ChunkHead, frames: &mut StreamReader) -> Result<(), Refusal> {
        // The rest of a cancelled input is still on its way.
        let Some(task) = self.arriving.get(&head.id) else { return Ok(()) };
        let whole = if task.memory.is_none() { task.header.size } else { 0 };
        self.with_memory(head.len as u64, whole, Wants::Chunk(head), Some(frames))
    }

    /// Takes memory for bytes that are here, of an input of `whole` bytes if they are its first, or waits for it.
    fn with_memory(
        &mut self,
        here: u64,
        whole: u64,
        what: Wants,
        frames: Option<&mut StreamReader>,
    ) -> Result<(), Refusal> {
        match self.inputs.try_take(here, whole) {
            Some(memory) => self.got_memory(what, memory, frames),
            None => {
                if let Wants::Chunk(head) = &what
                    && let Some(task) = self.arriving.get_mut(&head.id)
                {
                    task.passage.pause();
                }
                let memory = Box::pin(self.inputs.clone().take(here, whole, INPUT_TIME, MEMORY_TIME));
                self.stalled = Some(Stalled { what, memory });
                Ok(())
            }
        }
    }

    fn got_memory(&mut self, what: Wants, memory: Held, frames: Option<&mut StreamReader>) -> Result<(), Refusal> {
        match what {
            Wants::Breath => {}
            Wants::Task(header, input) => self.wait(header, input, Some(memory), Passage::default()),
            Wants::Chunk(head) => {
                let (Some(task), Some(frames)) = (self.arriving.get_mut(&head.id), frames) else { return Ok(()) };
                match &mut task.memory {
                    Some(held) => held.merge(memory),
                    None => task.memory = Some(memory),
                }
                frames.read_into(task.assembly.buffer(&head)?);
            }
        }
        Ok(())
    }

    /// Goes on with what waited for memory, and with what was read behind it.
    fn resume(&mut self, memory: Option<Held>, frames: &mut StreamReader, words: &Outbox<Words>) -> Result<(), Ended> {
        let Some(stalled) = self.stalled.take() else { return Ok(()) };
        let Some(memory) = memory else {
            let reason = "no memory for an input came free in time; send smaller inputs, or fewer at a time";
            return Err(Some(Refusal::new(RefusalCode::Busy, reason)));
        };
        self.got_memory(stalled.what, memory, Some(frames))?;
        match frames.ready() {
            Ok(None) => Ok(()),
            next => self.frames(next, frames, words),
        }
    }

    fn body(&mut self, head: &ChunkHead, buffer: Vec<u8>) -> Result<(), Refusal> {
        let Some(task) = self.arriving.get_mut(&head.id) else { return Ok(()) };
        task.passage.chunk(head.len, Instant::now().into_std());
        if let Some(input) = task.assembly.filled(head, buffer)?
            && let Some(Arriving { header, memory, passage, .. }) = self.arriving.remove(&head.id)
        {
            self.wait(header, input, memory, passage);
        }
        Ok(())
    }

    fn wait(&mut self, header: TaskHeader, input: Bytes, memory: Option<Held>, passage: Passage) {
        self.waiting.push_back(Ready { header, input, memory, passage });
    }

    /// Starts as many as there are slots, and what waits for the next to come free.
    fn start_tasks(&mut self, words: &Outbox<Words>) {
        while self.started.groups() <= self.ctx.slot_count
            && !self.waiting.is_empty()
            && words.lock().unsent() < UNSENT_BYTES
        {
            let group = self.next_group();
            if group.is_empty() {
                continue;
            }
            let (stop, registration) = AbortHandle::new_pair();
            self.started.start(stop, group.iter().map(|(_, ready)| (ready.header.id, ready.header.slot)));
            self.groups.push(Abortable::new(Box::pin(self.execute(group)), registration));
        }
    }

    /// The next task that waits, and short ones behind it if they are quick.
    fn next_group(&mut self) -> Vec<(Open, Ready)> {
        let most = self.started.together(self.waiting.len(), self.ctx.slot_count);
        let mut group: Vec<(Open, Ready)> = Vec::with_capacity(most);
        while group.len() < most {
            let is_long = |ready: &Ready| ready.input.len() > GROUP_INPUT;
            let Some(ready) = self.waiting.pop_front_if(|next| group.is_empty() || !is_long(next)) else { break };
            // Of a job that is over nothing is left here.
            if let Some(open) = self.jobs.get(&ready.header.slot) {
                let alone = is_long(&ready);
                group.push((open.clone(), ready));
                if alone {
                    break;
                }
            }
        }
        group
    }

    /// Runs tasks when a slot is free.
    fn execute(&self, mut group: Vec<(Open, Ready)>) -> impl Future<Output = Ran> + Send + use<> {
        let (ctx, client, guest_mib) = (self.ctx.clone(), self.peer, self.guest_mib());
        let budget = self.installed.budget();
        let call = |(open, ready): &(Open, Ready)| Call {
            package: open.package.clone(),
            client,
            op: packages::operation(self.offer.op, ready.header.task, open.tasks),
            params: open.params.clone(),
            input: ready.input.clone(),
            budget,
            resources: Some(ctx.steward.broker(self.service.clone(), self.peer)),
        };
        let calls: Vec<Call> = group.iter().map(call).collect();
        async move {
            let outcomes = match ctx.slots.acquire(client, guest_mib).await {
                Err(refusal) => vec![Err(refusal); calls.len()],
                Ok(_slot) => {
                    let _counted = Counted::new(&ctx, calls.len());
                    let held = group.iter_mut().filter_map(|(_, ready)| ready.memory.take());
                    let _memory: Vec<_> = held.map(Held::runs).collect();
                    ctx.sandbox.calls_under(&calls, ctx.ceiling.as_ref(), Some(GROUP_STINT)).await
                }
            };
            let mut ran = Ran { finished: Vec::with_capacity(outcomes.len()), rest: Vec::new() };
            let mut outcomes = outcomes.into_iter();
            for (open, ready) in group {
                match outcomes.next() {
                    Some(outcome) => ran.finished.push(ready.finished(open.job, outcome).await),
                    None => ran.rest.push(ready),
                }
            }
            ran
        }
    }

    fn ran(&mut self, ran: Result<Ran, Aborted>, words: &Outbox<Words>) {
        // What was stopped is waited for by nobody.
        let Ok(Ran { mut finished, rest }) = ran else { return };
        finished.retain(|(task, took)| self.started.ended(task.id, *took));
        // As if it had not been started: the first of it was not quick, so each has a turn of its own.
        for ready in rest.into_iter().rev() {
            if self.started.ended(ready.header.id, GROUP_STINT.time) {
                self.waiting.push_front(ready);
            }
        }
        words.change(|words| finished.into_iter().for_each(|(task, _)| words.answer(task)));
    }

    fn heartbeat(&mut self, words: &Outbox<Words>, busy_at: Instant) -> Result<(), Ended> {
        let now = Instant::now();
        if self.arriving.values().any(|task| task.until <= now) {
            return Err(Some(Refusal::new(RefusalCode::Deadline, "an input took too long to arrive")));
        }
        // An input on a slow link is work too.
        let waiting = self.waiting.iter().map(|task| task.header.id);
        let mut ids: Vec<u64> = self.started.ids().chain(self.arriving.keys().copied()).chain(waiting).collect();
        if let Some(Stalled { what: Wants::Task(header, _), .. }) = &self.stalled {
            ids.push(header.id);
        }
        if ids.is_empty() {
            let idle = now.saturating_duration_since(busy_at) >= IDLE_TIME;
            return if idle { Err(None) } else { Ok(()) };
        }
        words.change(|words| words.heartbeat(ids));
        Ok(())
    }
}

/// Waits for the memory that is wanted; `None` when it took too long.
async fn until_memory(stalled: &mut Option<Stalled>) -> Option<Held> {
    match stalled {
        Some(Stalled { memory, .. }) => memory.await,
        None => std::future::pending().await,
    }
}

/// The output with its hash.
async fn hashed(bytes: Bytes) -> Result<(Bytes, ContentHash), Refusal> {
    if bytes.len() < HASH_BESIDE {
        let hash = ContentHash::of(&bytes);
        return Ok((bytes, hash));
    }
    let hash = move || {
        let hash = ContentHash::of(&bytes);
        (bytes, hash)
    };
    tokio::task::spawn_blocking(hash).await.map_err(|e| Refusal::new(RefusalCode::Other, e.to_string()))
}

/// Counts tasks as running until they end in whatever way.
struct Counted<'a>(&'a Context, u32);

impl<'a> Counted<'a> {
    fn new(ctx: &'a Context, tasks: usize) -> Self {
        let tasks = tasks as u32;
        ctx.running_tasks.fetch_add(tasks, Ordering::Relaxed);
        Self(ctx, tasks)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.running_tasks.fetch_sub(self.1, Ordering::Relaxed);
    }
}
