//! The sandbox child that this crate's tests start: behind the same walls it can also try what a guest must not.

fn main() {
    msm_sandbox::run_if_child_with_probe(probe);
    if std::env::args().nth(1).as_deref() == Some("parent") {
        parent();
    }
}

/// Runs a guest that never ends, for the test that kills this process and looks what becomes of the guest.
fn parent() {
    let config = msm_sandbox::SandboxConfig { warm: 0, ..Default::default() };
    let package = msm_sandbox::Package {
        hash: msm_protocol::ContentHash::of(b""),
        engine: msm_sandbox::Engine::Js,
        source: "export function run() { for (;;) {} }".into(),
        work: msm_sandbox::Work::Whole,
        files: Default::default(),
        asks: Default::default(),
        label: String::new(),
    };
    let call = msm_sandbox::Call {
        package: package.into(),
        client: msm_protocol::PeerId::of(&msm_protocol::SecretKey::from_seed(&[1; 32]).public()),
        op: msm_sandbox::Op::Whole,
        params: "{}".into(),
        input: Default::default(),
        budget: msm_sandbox::Budget { memory: 1 << 20, time: std::time::Duration::from_secs(600), output: 0 },
        resources: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let sandbox = msm_sandbox::Sandbox::new(config).expect("a sandbox");
    let refusal = runtime.block_on(sandbox.call(call)).expect_err("an endless guest");
    panic!("{refusal}");
}

/// Tries what the source's first line names, and says how it went: `ok` and what came back, or the error number.
fn probe(source: &str) -> String {
    let line = source.lines().next().unwrap_or_default();
    let outcome = match line.trim_start_matches("//probe").trim() {
        #[cfg(target_os = "linux")]
        name => linux::attempt(name),
        #[cfg(not(target_os = "linux"))]
        _ => None,
    };
    match outcome {
        Some(number) if number >= 0 => format!("ok {number}"),
        Some(_) => format!("errno {}", std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        None => "no such probe".to_owned(),
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ptr::{null, null_mut};

    /// What the system call returned.
    pub fn attempt(name: &str) -> Option<i64> {
        let path = c"/etc/passwd".as_ptr();
        let mut buffer = [0u8; 256];
        // SAFETY: every pointer is null or valid for its call; a call that works changes only this process.
        let returned = unsafe {
            match name {
                "openat" => libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, libc::O_RDONLY),
                "socket" => libc::syscall(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0),
                "execve" => {
                    let argv = [c"/bin/true".as_ptr(), null()];
                    libc::syscall(libc::SYS_execve, argv[0], argv.as_ptr(), null::<*const u8>())
                }
                "ptrace" => libc::syscall(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0),
                "clone" => match libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) {
                    0 => libc::_exit(0),
                    pid => pid,
                },
                "io_uring_setup" => libc::syscall(libc::SYS_io_uring_setup, 1, buffer.as_mut_ptr()),
                "memfd_create" => libc::syscall(libc::SYS_memfd_create, c"x".as_ptr(), 0),
                "prlimit64" => libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_CPU, null::<u8>(), null::<u8>()),
                "rt_sigaction" => libc::syscall(libc::SYS_rt_sigaction, libc::SIGSYS, null::<u8>(), null::<u8>(), 8),
                "sigaction-alarm" => {
                    libc::syscall(libc::SYS_rt_sigaction, libc::SIGALRM, null::<u8>(), null::<u8>(), 8)
                }
                "sigaltstack" => libc::syscall(libc::SYS_sigaltstack, null::<u8>(), null::<u8>()),
                "setitimer" => libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, null::<u8>(), null::<u8>()),
                "seccomp" => libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, null::<u8>()),
                "new-code" => new_code(),
                "kill-parent" => libc::syscall(libc::SYS_kill, libc::syscall(libc::SYS_getppid), 0),
                "tgkill-other" => libc::syscall(libc::SYS_tgkill, 1, 1, libc::SIGABRT),
                "mmap-exec" => libc::syscall(
                    libc::SYS_mmap,
                    null_mut::<u8>(),
                    4096,
                    libc::PROT_READ | libc::PROT_EXEC,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                ),
                "mprotect-exec" => libc::syscall(libc::SYS_mprotect, null_mut::<u8>(), 0, libc::PROT_EXEC),
                "read-other" => libc::syscall(libc::SYS_read, 3, buffer.as_mut_ptr(), buffer.len()),
                "write-stderr" => libc::syscall(libc::SYS_write, 2, buffer.as_ptr(), 1),
                // For each wall but seccomp: what it stops when seccomp is not there.
                "connect" => connect(),
                "open-files" => open_files(),
                "dup-many" => (0..64).map(|_| i64::from(libc::dup(0))).min().unwrap_or(0),
                "pid" => libc::syscall(libc::SYS_getpid),
                "no-new-privs" => libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0).into(),
                "dumpable" => libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0).into(),
                "death-signal" => {
                    let mut signal = 0;
                    libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal);
                    if signal == libc::SIGKILL { 0 } else { fail(libc::ESRCH) }
                }
                "allocate" => match libc::mmap(
                    null_mut(),
                    1 << 30,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                ) {
                    libc::MAP_FAILED => -1,
                    _ => 0,
                },
                "segfault" => null_mut::<i64>().read_volatile(),
                "abort" => std::process::abort(),
                "panic" => panic!("a panic of the host's code"),
                "sleep" => libc::syscall(libc::SYS_nanosleep, &raw const LONG, null_mut::<u8>()),
                "spin" => loop {
                    std::hint::spin_loop();
                },
                "flood" => flood(17, 1 << 20),
                "flood-log" => flood(18, 60_000),
                "flood-nothing" => flood(19, 4),
                "babble" => libc::syscall(libc::SYS_write, 0, [0xffu8; 64].as_ptr(), 64),
                "environment" => std::env::vars_os().count() as i64,
                _ => return None,
            }
        };
        Some(returned)
    }

    /// Writes machine code to memory, makes it executable, and runs it.
    unsafe fn new_code() -> i64 {
        #[cfg(target_arch = "x86_64")]
        const CODE: [u8; 6] = [0xb8, 42, 0, 0, 0, 0xc3]; // mov eax, 42; ret
        #[cfg(target_arch = "aarch64")]
        const CODE: [u8; 8] = [0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6]; // mov w0, 42; ret
        // SAFETY: the page is ours, and the code is a whole function.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let page = libc::mmap(null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            std::ptr::copy_nonoverlapping(CODE.as_ptr(), page.cast(), CODE.len());
            if libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_EXEC) != 0 {
                return -1;
            }
            i64::from(std::mem::transmute::<*mut libc::c_void, extern "C" fn() -> i32>(page)())
        }
    }

    static LONG: libc::timespec = libc::timespec { tv_sec: 3600, tv_nsec: 0 };

    fn fail(errno: i32) -> i64 {
        // SAFETY: errno's own address.
        unsafe { *libc::__errno_location() = errno };
        -1
    }

    /// Whether a TCP connection may be tried at all: refused by nobody listening is a yes.
    unsafe fn connect() -> i64 {
        // SAFETY: plain calls with a valid address.
        unsafe {
            let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
            let address = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: 1u16.to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
                sin_zero: [0; 8],
            };
            let returned = libc::connect(socket, (&raw const address).cast(), size_of_val(&address) as u32);
            let refused = std::io::Error::last_os_error().raw_os_error() == Some(libc::ECONNREFUSED);
            if returned == 0 || refused { 0 } else { -1 }
        }
    }

    /// Fails when any descriptor but the channel is open.
    fn open_files() -> i64 {
        // SAFETY: fcntl with F_GETFD touches nothing.
        let open = (1..64).filter(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0).count();
        if open == 0 { 0 } else { fail(libc::EMFILE) }
    }

    /// Sends messages of the kind for ever: 17 is output, 18 the log, 19 progress.
    fn flood(kind: u8, length: usize) -> i64 {
        let mut message = vec![kind, 0, 0, 0];
        message.extend((length as u32).to_le_bytes());
        message.resize(8 + length, b'x');
        loop {
            // SAFETY: a valid buffer.
            if unsafe { libc::write(0, message.as_ptr().cast(), message.len()) } < 0 {
                return -1;
            }
        }
    }
}
