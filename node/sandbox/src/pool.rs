//! [`Sandbox`]: which child serves which call, how many there are, and when they go.

use std::{
    collections::VecDeque,
    io,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use msm_protocol::{ContentHash, PeerId, Refusal, RefusalCode, limits};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{timeout, timeout_at},
};

use crate::{
    call::{Budget, Call, Engine, Output, Package, Phases, Work},
    ceiling::{Ceiling, Under},
    compiled::{self, Compiled},
    config::{SandboxConfig, SandboxError, WallPolicy},
    exchange::{self, Exchange, Last, Reply, Trouble},
    process::{self, Keeper, Process},
    walls::Walls,
    wire::{self, Fault},
};

/// Calls that wait for a child: beyond it a node is busy and better says so. *Judgement.*
const QUEUE: usize = 32;
/// A child that has not put up its walls by then never will; 1,000 times what it takes.
const START: Duration = Duration::from_secs(5);
/// A deadline that no budget can exceed, whatever a caller says: it is added to clocks.
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Bytes of calls that are sent in one go, if they are more than one: they must fit into the channel of a kernel that
/// gives little, or parent and child could wait for each other. *Judgement.*
const TOGETHER_BYTES: usize = 32 * 1024;
/// What a call takes besides its input and parameters, at most.
const TOGETHER_HEAD: usize = 256;

/// CPU time of one compilation. *Measured: what passes the pre-check takes a second or two at the most.*
const COMPILE_CPU: Duration = Duration::from_secs(5);
/// Wall time of one compilation, on a machine with much else to do. *Judgement.*
const COMPILE_WALL: Duration = Duration::from_secs(30);

/// A pool of walled children that run guests. Cheap to clone; the children die with the last clone.
///
/// All calls of one pool belong into one async runtime.
#[derive(Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

struct Shared {
    config: SandboxConfig,
    keeper: Keeper,
    /// One permit for each child that runs a call, until it is reaped.
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
    idle: Mutex<Idle>,
    walls: Walls,
    compiled: Compiled,
}

#[derive(Default)]
struct Idle {
    /// Loaded children, longest unused first.
    loaded: VecDeque<Loaded>,
    /// Walled children without a package.
    spare: Vec<Process>,
    /// Spare children that are being started.
    expected: usize,
    /// Whether a look for children that were idle too long is due.
    watched: bool,
}

struct Loaded {
    key: Key,
    process: Process,
    since: Instant,
}

/// What a child is for. One manifest may be cut in several ways: a blur's halo is its radius, a parameter.
type Key = (ContentHash, Engine, Work, PeerId);

impl Sandbox {
    /// Starts the pool and its first child, and waits until that one's walls are up (a few milliseconds).
    pub fn new(config: SandboxConfig) -> Result<Self, SandboxError> {
        let config = SandboxConfig { max_children: config.max_children.max(1), ..config };
        // A call may have a second child for a moment, which compiles.
        let most = 2 * config.max_children + config.warm + QUEUE;
        let keeper = Keeper::start(config.program.clone(), config.without, most).map_err(SandboxError::Thread)?;
        let program = || config.program.clone();
        let mut first = keeper.child_blocking().map_err(|source| SandboxError::Start { program: program(), source })?;
        let walls = first
            .first_message(wire::SMALL_BYTES, START)
            .map_err(Trouble::Broken)
            .and_then(|(kind, payload)| exchange::walls_of(kind, &payload));
        let walls = walls.map_err(|trouble| SandboxError::NotAChild { program: program(), reason: words(&trouble) })?;
        if let (WallPolicy::Require, Some(missing)) = (config.walls, walls.missing()) {
            return Err(SandboxError::Walls { missing });
        }
        first.is_walled = true;
        let spare = if config.warm > 0 { vec![first] } else { vec![] };
        let running = Arc::new(Semaphore::new(config.max_children));
        let idle = Mutex::new(Idle { spare, ..Idle::default() });
        let compiled = Compiled::new(config.cache.clone());
        let shared = Shared { config, keeper, running, waiting: AtomicUsize::new(0), idle, walls, compiled };
        let sandbox = Self { shared: Arc::new(shared) };
        sandbox.shared.refill();
        Ok(sandbox)
    }

    /// The walls of this machine's children.
    pub fn walls(&self) -> Walls {
        self.shared.walls.clone()
    }

    /// Runs a call. Waits for a child when all are taken; dropping the future kills the call's child.
    ///
    /// The budget's time covers the package's load, the input's way in and the output's way out, not the wait for a
    /// child. Every fault of a guest is a [`Refusal`]; `Busy` when too many calls wait already.
    pub async fn call(&self, call: Call) -> Result<Output, Refusal> {
        self.run(&[call], false, None, None).await.and_then(|(results, _)| only(results))
    }

    /// Runs calls under a ceiling of processor time. What their child stands still because of that does not count against
    /// their deadlines.
    ///
    /// They are run one after the other, each as if it were alone. Small ones of one package that ask nothing of the
    /// parent are handed over together, so that the child goes from one to the next without waiting; those behind one that
    /// costs the child its life are run in another. Results come back in the order of the calls: of all, or of as many
    /// as a `stint` allows. What was under way when that ended is forgotten; a call by itself has no stint.
    pub async fn calls_under(
        &self,
        calls: &[Call],
        ceiling: Option<&Ceiling>,
        stint: Option<Stint>,
    ) -> Vec<Result<Output, Refusal>> {
        let (stint, since) = (stint.filter(|_| calls.len() > 1), Instant::now());
        let mut results = Vec::with_capacity(calls.len());
        while results.len() < calls.len() {
            match self.run(&calls[results.len()..], false, ceiling, stint).await {
                Ok((some, _)) if some.is_empty() => break,
                Ok((mut some, _)) => results.append(&mut some),
                Err(refusal) => results.push(Err(refusal)),
            }
            let bytes: usize = results.iter().flatten().map(|output| output.bytes.len()).sum();
            if stint.is_some_and(|stint| bytes > stint.output || since.elapsed() >= stint.time) {
                break;
            }
        }
        results
    }

    /// Checks a WebAssembly package and compiles it, so that its first call finds it compiled. What is wrong with it is
    /// a [`RefusalCode::BadPackage`] with the number that decides. Of a JavaScript package only the size is checked.
    pub async fn prepare(&self, package: &Package) -> Result<(), Refusal> {
        check_package(package)?;
        if package.engine == Engine::Wasm {
            let _permit = self.shared.permit().await?;
            self.shared.code(package).await?;
        }
        Ok(())
    }

    /// Runs a call in a child of its own, started for it, and tells where the time went.
    #[doc(hidden)]
    pub async fn call_cold(&self, call: Call) -> Result<(Output, Phases), Refusal> {
        let (results, phases) = self.run(&[call], true, None, None).await?;
        Ok((only(results)?, phases))
    }

    /// Runs the first of these calls and those behind it that can go with it: at least one result, but for a stint that
    /// ends before. An error: that of the first, which found no child.
    async fn run(
        &self,
        calls: &[Call],
        cold: bool,
        ceiling: Option<&Ceiling>,
        stint: Option<Stint>,
    ) -> Result<(Vec<Result<Output, Refusal>>, Phases), Refusal> {
        let calls = &calls[..together(calls)];
        let Some(first) = calls.first() else { return Ok(Default::default()) };
        check(first)?;
        let permit = self.shared.permit().await?;
        let key = key_of(first);
        let mut phases = Phases::default();
        let taken = if cold { None } else { self.shared.take(&key) };
        let (process, is_new) = match taken {
            Some(taken) => taken,
            None => {
                let child = self.shared.keeper.child().await;
                let child = child.map_err(|error| crashed(format!("cannot start a sandbox child: {error}")))?;
                phases.spawn = child.spawn;
                (child, true)
            }
        };
        // Before the clock starts: the first call of a module pays no more of its time than the others.
        let code = match is_new {
            true => Some(self.shared.code(&first.package).await?),
            false => None,
        };
        let mut running = Running { process: Some(process), permit: Some(permit), shared: self.shared.clone() };
        let Some(process) = running.process.as_mut() else { return Err(crashed("no child")) };

        let asked = Instant::now();
        if self.shared.greet(process).await? {
            phases.walls = asked.elapsed();
        }
        if is_new {
            // Its start is nobody's call.
            process.spent();
        }
        let code_bytes = code.as_ref().map_or(0, |code| code.len() as u64);
        let time = first.budget.time.min(TIME_MAX);
        process.allow(process::limits::memory(first, code_bytes), time.saturating_mul(calls.len() as u32));
        // The child cannot know when it stood still: its own clock is wide, and the one here is exact.
        let wide = ceiling.map_or(time, |ceiling| time.mul_f64(ceiling.stretch()).min(TIME_MAX));
        let budget = Budget { time: wide, ..first.budget };
        let under = ceiling.zip(process.pid()).map(|(ceiling, pid)| ceiling.watch(pid));

        let (mut exchange, mut results) = (Exchange::new(), Vec::with_capacity(calls.len()));
        let (begun, mut output) = (Instant::now(), 0);
        let end = loop {
            let Some(call) = calls.get(results.len()) else { break End::Clean };
            if stint.is_some_and(|stint| output > stint.output) {
                break End::Unclean;
            }
            let (started, is_first) = (Instant::now(), results.is_empty());
            let deadline = exchange::kill_time(started, time);
            let stood = under.as_ref().map_or(Duration::ZERO, Under::stood);
            let ends_before = stint.map(|stint| begun + stint.time + stood).filter(|end| *end < deadline);
            let exchanged = async {
                if is_first {
                    exchange.send(process, calls, &budget, code.as_ref()).await?;
                }
                exchange.reply(process, call).await
            };
            let exchanged = within(ends_before.unwrap_or(deadline), under.as_ref(), exchanged).await;
            let wall = started.elapsed();
            let goes_on = match exchanged {
                Ok(Ok(Reply { bytes, log, load, clean })) => {
                    if is_first {
                        (phases.first_result, phases.load) = (wall, load);
                    }
                    output += bytes.len();
                    results.push(Ok(Output { bytes, log, cpu: Duration::ZERO, wall }));
                    clean
                }
                Ok(Err(Trouble::Fault { fault, text, clean })) => {
                    if fault == Fault::StaleCode {
                        self.shared.compiled.forget(ContentHash::of(&call.package.source)).await;
                    }
                    results.push(Err(Refusal::new(fault.code(), text)));
                    clean && fault.spares_child()
                }
                Ok(Err(Trouble::Last(last))) => {
                    exchange::last_breath(process).await;
                    break End::Died(Some(last), io::ErrorKind::UnexpectedEof.into());
                }
                Ok(Err(Trouble::Broken(error))) => break End::Died(None, error),
                Err(_) if ends_before.is_some() => break End::Unclean,
                Err(_) => {
                    let text = format!("the service ran past its deadline of {} ms and was killed", time.as_millis());
                    results.push(Err(Refusal::new(RefusalCode::Deadline, text)));
                    false
                }
            };
            if !goes_on {
                break End::Unclean;
            }
        };
        // Before its child can be reaped.
        drop(under);
        // Of calls together nobody can say who took what: replies wait for a parent that is late.
        let count = u32::try_from(results.len()).unwrap_or(u32::MAX).max(1);
        let (wall, cpu) = (begun.elapsed() / count, process.spent() / count);
        for output in results.iter_mut().flatten() {
            (output.wall, output.cpu) = (if count > 1 { wall } else { output.wall }, cpu);
        }
        match end {
            End::Clean if exchange.is_empty() => running.park(key),
            End::Clean | End::Unclean => drop(running),
            End::Died(last, error) => results.push(Err(running.autopsy(last, &error).await)),
        }
        Ok((results, phases))
    }
}

/// How long calls that were handed over together may take, together.
#[derive(Debug, Clone, Copy)]
pub struct Stint {
    /// Then what is under way is stopped, and what is behind it not begun.
    pub time: Duration,
    /// Bytes of output, after which no further call is begun.
    pub output: usize,
}

/// How it ended with a child.
enum End {
    /// It owes nothing.
    Clean,
    /// It is killed: something of a call is still on its way.
    Unclean,
    /// It died at a call.
    Died(Option<Last>, io::Error),
}

fn only(mut results: Vec<Result<Output, Refusal>>) -> Result<Output, Refusal> {
    results.pop().unwrap_or_else(|| Err(crashed("a call without a result")))
}

fn key_of(call: &Call) -> Key {
    (call.package.hash, call.package.engine, call.package.work, call.client)
}

/// How many of these calls are sent in one go: the first, and small ones like it behind it.
fn together(calls: &[Call]) -> usize {
    let Some(first) = calls.first().filter(|first| !first.package.asks.reach_out()) else { return calls.len().min(1) };
    let mut bytes = 0;
    let alike = calls.iter().take_while(|call| {
        bytes += call.input.len() + call.params.len() + TOGETHER_HEAD;
        let same = key_of(call) == key_of(first) && call.budget == first.budget;
        bytes <= TOGETHER_BYTES && same && check(call).is_ok()
    });
    alike.count().max(1)
}

/// Waits for `exchange` until `end`, and for as long again as its child stood still meanwhile.
async fn within<T>(
    end: Instant,
    under: Option<&Under>,
    exchange: impl Future<Output = T>,
) -> Result<T, tokio::time::error::Elapsed> {
    let mut exchange = pin!(exchange);
    let before = under.map_or(Duration::ZERO, Under::stood);
    let mut stood = Duration::ZERO;
    loop {
        let waited = timeout_at((end + stood).into(), &mut exchange).await;
        let now = under.map_or(Duration::ZERO, Under::stood).saturating_sub(before);
        if waited.is_ok() || now <= stood {
            return waited;
        }
        stood = now;
    }
}

/// Refuses what would break the child's message limits.
fn check(call: &Call) -> Result<(), Refusal> {
    check_package(&call.package)?;
    let params = call.params.len();
    if params > limits::PARAMS_BYTES {
        let text = format!("parameters of {params} bytes, the limit is {}", limits::PARAMS_BYTES);
        return Err(Refusal::new(RefusalCode::BadInput, text));
    }
    let json = serde_json::from_str::<serde::de::IgnoredAny>(&call.params);
    if json.is_err() || !call.params.trim_start().starts_with('{') {
        return Err(Refusal::new(RefusalCode::BadInput, "the parameters are not a JSON object"));
    }
    Ok(())
}

fn check_package(package: &Package) -> Result<(), Refusal> {
    let (what, limit) = match package.engine {
        Engine::Js => ("JavaScript source", limits::JS_BYTES),
        Engine::Wasm => ("WebAssembly module", limits::WASM_BYTES),
    };
    let source = package.source.len();
    if source > limit {
        return Err(Refusal::new(RefusalCode::BadPackage, format!("a {what} of {source} bytes, the limit is {limit}")));
    }
    Ok(())
}

fn crashed(text: impl Into<String>) -> Refusal {
    Refusal::new(RefusalCode::TaskCrashed, text)
}

fn words(trouble: &Trouble) -> String {
    match trouble {
        Trouble::Fault { text, .. } | Trouble::Last(Last::Panicked(text)) => text.clone(),
        Trouble::Last(Last::Trapped(number)) => format!("it made the forbidden system call {number}"),
        Trouble::Broken(error) => error.to_string(),
    }
}

/// A child that runs a call. Dropped half-way, its child dies.
struct Running {
    process: Option<Process>,
    permit: Option<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
}

impl Running {
    /// Keeps the child for the next call of its key.
    fn park(mut self, key: Key) {
        if let Some(process) = self.process.take() {
            self.shared.park(Loaded { key, process, since: Instant::now() });
        }
    }

    /// Finds out how the child died, after making sure that it does.
    async fn autopsy(mut self, last: Option<Last>, cause: &io::Error) -> Refusal {
        let status = match self.process.take() {
            Some(process) => process.bury(self.permit.take()).await,
            None => None,
        };
        exchange::refusal_of_death(last, status, cause)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.retire(self.permit.take());
        }
        // Not before the call is over: starting a child would take a core from it.
        self.shared.refill();
    }
}

impl Shared {
    fn idle(&self) -> std::sync::MutexGuard<'_, Idle> {
        // Nothing under this lock can leave the lists half-changed.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a new child's walls are up; whether it was new.
    async fn greet(&self, process: &mut Process) -> Result<bool, Refusal> {
        if process.is_walled {
            return Ok(false);
        }
        let walls = match timeout(START, exchange::hello(process)).await {
            Ok(Ok(walls)) => walls,
            Ok(Err(trouble)) => {
                return Err(crashed(format!("a sandbox child failed at its start: {}", words(&trouble))));
            }
            Err(_) => return Err(crashed(format!("a sandbox child was not ready after {} s", START.as_secs()))),
        };
        process.is_walled = true;
        if let (WallPolicy::Require, Some(missing)) = (self.config.walls, walls.missing()) {
            let text = format!("the sandbox lacks a mandatory wall: {missing}");
            return Err(Refusal::new(RefusalCode::Denied, text));
        }
        Ok(true)
    }

    /// What a child is given of a package: the source of JavaScript, the compiled code of WebAssembly.
    async fn code(&self, package: &Package) -> Result<Bytes, Refusal> {
        let source = &package.source;
        match package.engine {
            Engine::Js => return Ok(source.clone()),
            // To the compiler child, nothing is a question.
            Engine::Wasm if source.is_empty() => {
                return Err(Refusal::new(RefusalCode::BadPackage, "a WebAssembly module of 0 bytes"));
            }
            Engine::Wasm => {}
        }
        let module = ContentHash::of(source);
        let slot = self.compiled.slot(module);
        let code = slot.get_or_try_init(async || {
            let fingerprint = self.fingerprint().await?;
            if let Some(fingerprint) = fingerprint
                && let Some(code) = self.compiled.read(module, fingerprint).await
            {
                return Ok(Ok(code));
            }
            let settled = compiled::verdict(self.in_compiler(source).await)?;
            if let (Some(fingerprint), Ok(code)) = (fingerprint, &settled) {
                self.compiled.write(module, fingerprint, code.clone()).await;
            }
            Ok::<_, Refusal>(settled)
        });
        code.await?.clone()
    }

    /// What this machine's compiled code depends on; of no interest when it is not kept.
    async fn fingerprint(&self) -> Result<Option<ContentHash>, Refusal> {
        if !self.compiled.has_folder() {
            return Ok(None);
        }
        let asked = self.compiled.fingerprint.get_or_try_init(async || {
            let bytes = self.in_compiler(&Bytes::new()).await?;
            let bytes = bytes.as_ref().try_into().map_err(|_| crashed("a compiler without a fingerprint"))?;
            Ok::<_, Refusal>(ContentHash::from_bytes(bytes))
        });
        asked.await.copied().map(Some)
    }

    /// Has a child of its own compile a module, within the compiler's own budget. The child is killed afterwards.
    async fn in_compiler(&self, source: &Bytes) -> Result<Bytes, Refusal> {
        let bad = |text: String| Refusal::new(RefusalCode::BadPackage, text);
        let child = self.keeper.child().await;
        let mut process = child.map_err(|error| crashed(format!("cannot start a sandbox child: {error}")))?;
        self.greet(&mut process).await?;
        process.limit(process::limits::COMPILER, COMPILE_CPU);
        let (last, cause) = match timeout(COMPILE_WALL, exchange::compile(&mut process, source)).await {
            Ok(Ok(bytes)) => return Ok(bytes),
            Ok(Err(Trouble::Fault { fault, text, .. })) => return Err(Refusal::new(fault.code(), text)),
            Ok(Err(Trouble::Last(last))) => {
                exchange::last_breath(&mut process).await;
                (Some(last), io::ErrorKind::UnexpectedEof.into())
            }
            Ok(Err(Trouble::Broken(cause))) => (None, cause),
            Err(_) => {
                let text = format!("compiling the service took longer than {} s", COMPILE_WALL.as_secs());
                return Err(Refusal::new(RefusalCode::Busy, text));
            }
        };
        let status = process.bury(None).await;
        let refusal = exchange::refusal_of_death(last, status, &cause);
        Err(match refusal.code {
            RefusalCode::Deadline => {
                bad(format!("compiling it takes more than {} s of CPU time", COMPILE_CPU.as_secs()))
            }
            // A panic of the compiler, or memory that it did not get (Rust's last words go to a stderr that the wall forbids):
            // it would be so again.
            _ if ["panicked", "SIGABRT", "seccomp"].iter().any(|why| refusal.reason.contains(why)) => {
                let memory = process::limits::COMPILER.1 >> 20;
                bad(format!("the compiler, which has {memory} MiB of memory, gave it up: {}", refusal.reason))
            }
            _ => refusal,
        })
    }

    /// Waits for the right to run a child.
    async fn permit(self: &Arc<Self>) -> Result<OwnedSemaphorePermit, Refusal> {
        if let Ok(permit) = self.running.clone().try_acquire_owned() {
            return Ok(permit);
        }
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= QUEUE {
            return Err(Refusal::new(RefusalCode::Busy, format!("{QUEUE} calls wait for the sandbox already")));
        }
        let permit = self.running.clone().acquire_owned().await;
        permit.map_err(|_| crashed("the sandbox is shutting down"))
    }

    /// A child for the key, and whether its package must still be loaded. None: a new one must be started.
    fn take(self: &Arc<Self>, key: &Key) -> Option<(Process, bool)> {
        let mut idle = self.idle();
        // The newest: its memory is warmest, and the older ones may age and go. One may have died since, of the system's
        // want of memory: a call should not learn that the hard way.
        while let Some(at) = idle.loaded.iter().rposition(|loaded| loaded.key == *key) {
            let taken = idle.loaded.remove(at).map(|loaded| loaded.process);
            if let Some(process) = taken.and_then(|mut it| it.is_alive().then_some(it)) {
                return Some((process, false));
            }
        }
        let spare = std::iter::from_fn(|| idle.spare.pop()).find_map(|mut it| it.is_alive().then_some((it, true)));
        let evicted = self.evict(&mut idle, false);
        drop(idle);
        drop(evicted);
        spare
    }

    fn park(self: &Arc<Self>, loaded: Loaded) {
        let mut idle = self.idle();
        idle.loaded.push_back(loaded);
        let evicted = self.evict(&mut idle, true);
        if !std::mem::replace(&mut idle.watched, true) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
        drop(idle);
        drop(evicted);
    }

    /// Takes out the longest unused children until running and idle ones are within the bound.
    fn evict(&self, idle: &mut Idle, parking: bool) -> Vec<Loaded> {
        // Every running child holds a permit; the one being parked holds its own until it is parked.
        let running = self.config.max_children.saturating_sub(self.running.available_permits());
        let most = self.config.max_children.saturating_sub(running.saturating_sub(usize::from(parking)));
        let over = idle.loaded.len().saturating_sub(most);
        idle.loaded.drain(..over).collect()
    }

    /// Has the keeper start spare children up to the number wished for.
    fn refill(self: &Arc<Self>) {
        let mut idle = self.idle();
        while idle.spare.len() + idle.expected < self.config.warm {
            let shared = Arc::downgrade(self);
            let asked = self.keeper.errand(move |bear| {
                let child = bear();
                let Some(shared) = shared.upgrade() else { return };
                let mut idle = shared.idle();
                idle.expected -= 1;
                match child {
                    Ok(child) => idle.spare.push(child),
                    Err(error) => tracing::warn!(%error, "cannot start a spare sandbox child"),
                }
            });
            if !asked {
                break;
            }
            idle.expected += 1;
        }
    }
}

/// Retires children that were idle too long, and goes when none is left.
async fn watch(shared: Weak<Shared>) {
    loop {
        let due = {
            let Some(shared) = shared.upgrade() else { return };
            let mut idle = shared.idle();
            let now = Instant::now();
            let over = idle.loaded.partition_point(|loaded| now.duration_since(loaded.since) >= shared.config.idle);
            let expired: Vec<_> = idle.loaded.drain(..over).collect();
            let oldest = idle.loaded.front().map(|loaded| loaded.since);
            idle.watched = oldest.is_some();
            drop(idle);
            drop(expired);
            oldest.map(|since| since + shared.config.idle)
        };
        match due {
            Some(due) => tokio::time::sleep_until(due.into()).await,
            None => return,
        }
    }
}
