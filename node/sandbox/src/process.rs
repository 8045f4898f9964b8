//! One child process from birth to grave: started and reaped by two threads of their own, killed when it is dropped.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream, unix::process::CommandExt},
    path::PathBuf,
    process::{Child, Command, ExitStatus},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{WallName, guest, wire::HEADER_BYTES};

/// The kernel limits of a child.
pub mod limits {
    use crate::call::{Call, Engine, Work};

    /// Address space of a child with no call. It counts the program's own text and libraries too.
    pub const ADDRESS_SPACE: u64 = 512 << 20;
    /// Writable private memory of a child with no call.
    pub const DATA: u64 = 256 << 20;
    /// What no call can raise the address space to: a JavaScript guest's, or a wasm guest's with its reservation.
    pub const ADDRESS_SPACE_CEILING: u64 = 8 << 30;
    /// Address space of one wasm memory, all that a 32-bit address can name. It costs nothing until it is used, and what
    /// is used counts as data.
    pub const WASM_RESERVATION: u64 = 4 << 30;
    /// Pages that belong to nobody before and behind it: an address with any offset that code may have ends there.
    pub const WASM_GUARD: u64 = 32 << 20;
    /// What a compiler may take: the largest module needs about a third. *Measured, with room.*
    pub const COMPILER: (u64, u64) = (ADDRESS_SPACE_CEILING, 768 << 20);
    /// What no call can raise the writable memory to: the largest guest, its pictures, input and output, twice over.
    pub const DATA_CEILING: u64 = 3 << 29;
    /// Memory of a child before it has a package: program, engine, stacks, with room to spare. *Measured: 6 MiB.*
    const BASE: u64 = 48 << 20;

    /// `(address space, data)` for one call: the guest's heap and its pictures, the input, the output twice, since an
    /// encoder holds what it reads and what it writes, and compiled code as it came and in its place.
    pub fn memory(call: &Call, code: u64) -> (u64, u64) {
        let (budget, input) = (&call.budget, call.input.len() as u64);
        // The rows that a wasm guest gives back are held beside the ones that it got.
        let rows = match (call.package.engine, call.package.work) {
            (Engine::Wasm, Work::ImageRows { .. }) => budget.memory,
            _ => 0,
        };
        let data = [budget.memory, budget.memory, rows, input, budget.output, budget.output, code, code];
        let data = data.into_iter().fold(BASE, u64::saturating_add).min(DATA_CEILING);
        // The default stands where it is enough: `malloc` reserves more than it uses.
        let space = data.saturating_add(256 << 20).max(ADDRESS_SPACE);
        let reserved = match call.package.engine {
            Engine::Js => 0,
            Engine::Wasm => WASM_RESERVATION + 2 * WASM_GUARD,
        };
        (space.saturating_add(reserved).min(ADDRESS_SPACE_CEILING), data)
    }
}

/// Bytes that the kernel holds for each direction of a channel, where it allows as much: fewer, longer turns for
/// large inputs.
const SOCKET_BUFFER: libc::c_int = 1 << 20;

/// Starts and buries children. Cheap to clone.
#[derive(Clone)]
pub struct Keeper {
    births: mpsc::SyncSender<Birth>,
}

/// Starts a child, on the thread that may.
pub type Bear<'a> = &'a dyn Fn() -> io::Result<Process>;
type Errand = Box<dyn FnOnce(Bear<'_>) + Send>;

enum Birth {
    Child(oneshot::Sender<io::Result<Process>>),
    /// Run on the starting thread, with a way to start children.
    Errand(Errand),
}

struct Death {
    child: Child,
    permit: Option<OwnedSemaphorePermit>,
    status: Option<oneshot::Sender<Option<ExitStatus>>>,
}

impl Keeper {
    /// Starts the two threads. `most` is the number of children that can live at once.
    ///
    /// Children ask the kernel to be killed when the *thread* that started them ends, so that thread must live as
    /// long as they do; no thread of an async runtime promises that.
    pub fn start(program: PathBuf, without: &'static [WallName], most: usize) -> io::Result<Self> {
        // Each child has at most one birth and one death under way, so these never fill.
        let (births, to_bear) = mpsc::sync_channel::<Birth>(2 * most + 8);
        let (deaths, to_bury) = mpsc::sync_channel::<Death>(2 * most + 8);
        let keeper = Self { births };
        thread::Builder::new().name("msm-sandbox".into()).spawn(move || {
            let bear = || Process::start(&program, without, deaths.clone());
            for birth in to_bear {
                match birth {
                    Birth::Child(reply) => {
                        // A caller that has gone away drops the reply, and with it the child.
                        let _ = reply.send(bear());
                    }
                    Birth::Errand(errand) => errand(&bear),
                }
            }
        })?;
        thread::Builder::new().name("msm-sandbox-reap".into()).spawn(move || {
            for Death { mut child, permit, status } in to_bury {
                // Killed before it was sent here: this waits for the kernel only.
                let exit = child.wait().ok();
                drop(permit);
                if let Some(status) = status {
                    let _ = status.send(exit);
                }
            }
        })?;
        Ok(keeper)
    }

    /// Starts a child.
    pub async fn child(&self) -> io::Result<Process> {
        let (reply, child) = oneshot::channel();
        self.births.try_send(Birth::Child(reply)).map_err(|_| io::Error::other("the sandbox is shutting down"))?;
        child.await.map_err(|_| io::Error::other("the sandbox is shutting down"))?
    }

    /// Runs something on the thread that starts children, later; false when there is no room for it.
    pub fn errand(&self, errand: impl FnOnce(Bear<'_>) + Send + 'static) -> bool {
        self.births.try_send(Birth::Errand(Box::new(errand))).is_ok()
    }

    /// Starts a child and waits for it, blocking: milliseconds.
    pub fn child_blocking(&self) -> io::Result<Process> {
        let (reply, child) = mpsc::sync_channel(1);
        self.errand(move |bear| drop(reply.send(bear())));
        child.recv().map_err(|_| io::Error::other("no thread starts children"))?
    }
}

/// A living child and the parent's end of its channel. Dropping it kills it.
pub struct Process {
    child: Option<Child>,
    channel: Option<Channel>,
    deaths: mpsc::SyncSender<Death>,
    /// How long starting it took.
    pub spawn: Duration,
    /// Whether the child has reported its walls.
    pub is_walled: bool,
    /// What it had used when that was last asked.
    cpu: Duration,
    set: Set,
}

enum Channel {
    Std(UnixStream),
    Tokio(tokio::net::UnixStream),
}

/// Limits as they were last set, to set them only when they change.
#[derive(Default, PartialEq, Eq, Clone, Copy)]
struct Set {
    memory: (u64, u64),
    cpu: u64,
}

impl Process {
    fn start(program: &PathBuf, without: &'static [WallName], deaths: mpsc::SyncSender<Death>) -> io::Result<Self> {
        let started = Instant::now();
        let (ours, theirs) = UnixStream::pair()?;
        for end in [&ours, &theirs] {
            widen(end);
        }
        ours.set_nonblocking(true)?;
        let mut command = Command::new(program);
        command
            .arg0("msm-sandbox")
            .arg(guest::CHILD_ARG)
            .arg(std::process::id().to_string())
            .args(without.iter().map(|wall| wall.as_str()))
            .env_clear()
            // All three are the channel, until the child closes the other two: there may be no /dev/null to open.
            .stdout(OwnedFd::from(theirs.try_clone()?))
            .stderr(OwnedFd::from(theirs.try_clone()?))
            .stdin(OwnedFd::from(theirs));
        let child = command.spawn()?;
        Ok(Self {
            child: Some(child),
            channel: Some(Channel::Std(ours)),
            deaths,
            spawn: started.elapsed(),
            is_walled: false,
            cpu: Duration::ZERO,
            set: Set::default(),
        })
    }

    /// The channel, for use in the async runtime of the caller.
    pub fn channel(&mut self) -> io::Result<&mut tokio::net::UnixStream> {
        let channel = match self.channel.take() {
            Some(Channel::Std(stream)) => tokio::net::UnixStream::from_std(stream)?,
            Some(Channel::Tokio(stream)) => stream,
            None => return Err(io::ErrorKind::NotConnected.into()),
        };
        match self.channel.insert(Channel::Tokio(channel)) {
            Channel::Tokio(stream) => Ok(stream),
            Channel::Std(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Reads the first message, blocking at most `timeout`: for the child that a sandbox starts with.
    pub fn first_message(&mut self, most: usize, timeout: Duration) -> io::Result<(u8, Vec<u8>)> {
        use std::io::Read;
        let Some(Channel::Std(stream)) = &mut self.channel else { return Err(io::ErrorKind::NotConnected.into()) };
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(timeout))?;
        let mut header = [0; HEADER_BYTES];
        stream.read_exact(&mut header)?;
        let (kind, length) = crate::wire::read_header(header);
        if length > most {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload)?;
        stream.set_read_timeout(None)?;
        stream.set_nonblocking(true)?;
        Ok((kind, payload))
    }

    /// Whether the child still lives.
    pub fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Its id, while it is not reaped.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The CPU time that the child has used since this was asked last, by the kernel's account.
    pub fn spent(&mut self) -> Duration {
        let Some(pid) = self.pid() else { return Duration::ZERO };
        let now = cpu_of(pid);
        now.saturating_sub(std::mem::replace(&mut self.cpu, now))
    }

    /// Sets the kernel's limits for a call: memory, and CPU seconds from now on.
    pub fn allow(&mut self, memory: (u64, u64), cpu: Duration) {
        // Two more seconds, so that this is the last resort and never the first.
        self.limit(memory, cpu + Duration::from_secs(2));
    }

    /// Sets the kernel's limits: memory, and CPU time beyond what was [`Self::spent`], in whole seconds; the kernel knows
    /// no less.
    pub fn limit(&mut self, memory: (u64, u64), cpu: Duration) {
        let Some(pid) = self.pid() else { return };
        let cpu = self.cpu.saturating_add(cpu).as_secs();
        let set = Set { memory, cpu };
        if self.set != set {
            set_limits(pid, &set, &self.set);
            self.set = set;
        }
    }

    /// Kills the child now; it is reaped soon. `permit` is held until then.
    pub fn retire(mut self, permit: Option<OwnedSemaphorePermit>) {
        self.kill(permit, None);
    }

    /// Kills the child and waits for how it ended: if it was dead already, that is how.
    pub async fn bury(mut self, permit: Option<OwnedSemaphorePermit>) -> Option<ExitStatus> {
        let (status, exit) = oneshot::channel();
        self.kill(permit, Some(status));
        exit.await.ok().flatten()
    }

    fn kill(&mut self, permit: Option<OwnedSemaphorePermit>, status: Option<oneshot::Sender<Option<ExitStatus>>>) {
        let Some(mut child) = self.child.take() else { return };
        // Not yet reaped, so the pid is still this child's, dead or alive.
        let _ = child.kill();
        self.channel = None;
        if let Err(mpsc::TrySendError::Full(death) | mpsc::TrySendError::Disconnected(death)) =
            self.deaths.try_send(Death { child, permit, status })
        {
            // Never full (see `Keeper::start`); without the thread, wait here: milliseconds.
            let Death { mut child, .. } = death;
            let _ = child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill(None, None);
    }
}

/// Asks for long socket buffers; the kernel cuts this to what it allows.
fn widen(end: &UnixStream) {
    use std::os::fd::AsRawFd;
    let size = SOCKET_BUFFER;
    for option in [libc::SO_SNDBUF, libc::SO_RCVBUF] {
        // SAFETY: a valid descriptor, and a pointer to an int with its size.
        unsafe {
            let length = size_of_val(&size) as libc::socklen_t;
            libc::setsockopt(end.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const size).cast(), length);
        }
    }
}

/// The CPU time that a child which was not reaped has used.
#[cfg(target_os = "linux")]
pub(crate) fn cpu_of(pid: u32) -> Duration {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both calls get valid pointers to this stack.
    unsafe {
        if libc::clock_getcpuclockid(pid.cast_signed(), &raw mut clock) != 0
            || libc::clock_gettime(clock, &raw mut time) != 0
        {
            return Duration::ZERO;
        }
    }
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn cpu_of(_: u32) -> Duration {
    Duration::ZERO
}

#[cfg(target_os = "linux")]
fn set_limits(pid: u32, new: &Set, old: &Set) {
    let set = |resource, value: u64| {
        let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: valid pointers to this stack. Only soft limits are moved, below the hard ones that the child set
        // itself; the child cannot move them, seccomp forbids it.
        unsafe {
            if libc::prlimit(pid.cast_signed(), resource, std::ptr::null(), &raw mut now) == 0 {
                now.rlim_cur = now.rlim_max.min(value);
                libc::prlimit(pid.cast_signed(), resource, &raw const now, std::ptr::null_mut());
            }
        }
    };
    if new.memory != old.memory {
        set(libc::RLIMIT_AS, new.memory.0);
        set(libc::RLIMIT_DATA, new.memory.1);
    }
    if new.cpu != old.cpu {
        set(libc::RLIMIT_CPU, new.cpu);
    }
}

#[cfg(not(target_os = "linux"))]
fn set_limits(_: u32, _: &Set, _: &Set) {}
