//! The list of system calls that the engines need; any other one kills the child, and names itself first.
//!
//! There are two filters, and the kernel obeys both. The first stands from birth: it allows what running needs and what
//! an engine needs to get ready. The second, the seal, takes the latter away again, before any guest code runs.

use std::{collections::BTreeMap, process};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp as Cmp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use super::{channel, seal::Seal};
use crate::wire::{self, kind};

/// Installs the handler and the filter.
pub fn put_up() -> Result<String, String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let rules = rules().map_err(|error| error.to_string())?;
    let allowed = rules.len();
    let filter = SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, arch);
    let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(|error| error.to_string())?;
    catch_traps()?;
    seccompiler::apply_filter(&program).map_err(|error| error.to_string())?;
    Ok(format!("{allowed} system calls allowed, fewer once a package is there"))
}

/// Takes away what getting ready needed.
pub fn seal(seal: Seal) -> Result<(), String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let rules = sealed(seal).map_err(|error| error.to_string())?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Trap, arch);
    let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(|error| error.to_string())?;
    let length = u16::try_from(program.len()).map_err(|error| error.to_string())?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // Not by the library: it would ask for no_new_privs again, a call that is not allowed any more.
    // SAFETY: the kernel reads the program, which lives until the call is over.
    let returned = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if returned == 0 { Ok(()) } else { Err(super::walls::last_error("seccomp")) }
}

/// What the seal forbids of that which the first filter allows.
fn sealed(seal: Seal) -> Result<Rules, seccompiler::BackendError> {
    let mut rules = Rules::new();
    let exec = SeccompCondition::new(
        2,
        SeccompCmpArgLen::Qword,
        Cmp::MaskedEq(libc::PROT_EXEC as u64),
        libc::PROT_EXEC as u64,
    )?;
    rules.insert(libc::SYS_mprotect, vec![SeccompRule::new(vec![exec])?]);
    rules.insert(libc::SYS_seccomp, vec![]);
    rules.insert(libc::SYS_sigaltstack, vec![]);
    if seal == Seal::Wasm {
        // A crash that is none of the guest's own traps: the engine gives the signal its usual meaning back and lets
        // it happen again, so that the parent learns which one it was.
        let other = |signal| SeccompCondition::new(0, SeccompCmpArgLen::Dword, Cmp::Ne, signal as u64);
        let none_of_them = FAULTS.into_iter().map(other).collect::<Result<_, _>>()?;
        rules.insert(libc::SYS_rt_sigaction, vec![SeccompRule::new(none_of_them)?]);
    } else {
        rules.insert(libc::SYS_rt_sigaction, vec![]);
        rules.insert(libc::SYS_setitimer, vec![]);
    }
    Ok(rules)
}

/// The signals of a fault in compiled code, which the wasm engine handles.
const FAULTS: [libc::c_int; 3] = [libc::SIGSEGV, libc::SIGILL, libc::SIGFPE];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn rules() -> Result<Rules, seccompiler::BackendError> {
    let is = |argument, operator, value: u64| SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value);
    let only = |condition| SeccompRule::new(vec![condition]);
    let channel = || Ok(vec![only(SeccompCondition::new(0, SeccompCmpArgLen::Dword, Cmp::Eq, channel::FD as u64)?)?]);
    let no_exec = |argument| is(argument, Cmp::MaskedEq(libc::PROT_EXEC as u64), 0);

    let mut rules = Rules::new();
    // The channel, and nothing but it.
    for call in [libc::SYS_read, libc::SYS_write, libc::SYS_writev] {
        rules.insert(call, channel()?);
    }
    // Memory: never a file's, and executable only by a later word on it, which the seal forbids.
    let anonymous = is(3, Cmp::MaskedEq(libc::MAP_ANONYMOUS as u64), libc::MAP_ANONYMOUS as u64)?;
    rules.insert(libc::SYS_mmap, vec![SeccompRule::new(vec![no_exec(2)?, anonymous])?]);
    rules.insert(libc::SYS_mprotect, vec![]);
    for call in [libc::SYS_brk, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise] {
        rules.insert(call, vec![]);
    }
    // Time for the deadline, where the kernel's page for it is missing.
    for call in [libc::SYS_clock_gettime, libc::SYS_gettimeofday] {
        rules.insert(call, vec![]);
    }
    // Waiting for an answer or a timer; there is nothing but the channel to wait for.
    rules.insert(libc::SYS_ppoll, vec![]);
    // Getting ready: the engine's signals, its stack for them, the alarm of the deadline, and the seal itself.
    let signal = |signal| only(SeccompCondition::new(0, SeccompCmpArgLen::Dword, Cmp::Eq, signal as u64)?);
    let signals = FAULTS.into_iter().chain([libc::SIGALRM]).map(signal).collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_rt_sigaction, signals);
    let filter = u64::from(libc::SECCOMP_SET_MODE_FILTER);
    let filter = SeccompCondition::new(0, SeccompCmpArgLen::Dword, Cmp::Eq, filter)?;
    rules.insert(libc::SYS_seccomp, vec![only(filter)?]);
    for call in [libc::SYS_sigaltstack, libc::SYS_setitimer] {
        rules.insert(call, vec![]);
    }
    // Code for another processor than the one that wrote it must be seen by all of them.
    #[cfg(target_arch = "aarch64")]
    rules.insert(libc::SYS_membarrier, vec![]);
    // Leaving: by itself, or by abort(), which signals its own process and no other.
    let own = u64::from(process::id());
    let aborts = vec![is(0, Cmp::Eq, own)?, is(2, Cmp::Eq, libc::SIGABRT as u64)?];
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(aborts)?]);
    for call in [
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_futex,
    ] {
        rules.insert(call, vec![]);
    }
    Ok(rules)
}

/// Has the kernel call [`trapped`] for a forbidden system call. The filter forbids `rt_sigaction`, so a guest that has
/// taken over the process cannot take the handler away; if it blocks the signal the kernel kills it at once.
fn catch_traps() -> Result<(), String> {
    // SAFETY: an all-zero sigaction is valid; the handler is async-signal-safe.
    let installed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = trapped as extern "C" fn(_, _, _) as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut())
    };
    if installed == 0 { Ok(()) } else { Err(super::walls::last_error("sigaction")) }
}

/// Tells the parent which call it was, then makes a forbidden one: with its signal blocked now, the kernel kills.
extern "C" fn trapped(_: libc::c_int, info: *const libc::siginfo_t, _: *mut libc::c_void) {
    /// `si_syscall` on 64-bit Linux: after signo, errno, code, padding and the calling address.
    const SI_SYSCALL: usize = 24;
    // SAFETY: the kernel fills a siginfo of at least 128 bytes for SIGSYS; write, syscall and _exit are
    // async-signal-safe.
    unsafe {
        let number = info.cast::<u8>().add(SI_SYSCALL).cast::<i32>().read_unaligned();
        let mut message = [0; wire::HEADER_BYTES + 8];
        message[..wire::HEADER_BYTES].copy_from_slice(&wire::header(kind::TRAPPED, 8));
        message[wire::HEADER_BYTES..].copy_from_slice(&i64::from(number).to_le_bytes());
        libc::write(channel::FD, message.as_ptr().cast(), message.len());
        libc::syscall(libc::SYS_getppid);
        libc::_exit(1);
    }
}

/// A system call's name, for those that an attacker would try first.
pub fn name_of(number: i64) -> Option<&'static str> {
    let names = [
        (libc::SYS_openat, "openat"),
        (libc::SYS_socket, "socket"),
        (libc::SYS_connect, "connect"),
        (libc::SYS_execve, "execve"),
        (libc::SYS_execveat, "execveat"),
        (libc::SYS_ptrace, "ptrace"),
        (libc::SYS_clone, "clone"),
        (libc::SYS_clone3, "clone3"),
        (libc::SYS_kill, "kill"),
        (libc::SYS_tgkill, "tgkill"),
        (libc::SYS_mmap, "mmap"),
        (libc::SYS_mprotect, "mprotect"),
        (libc::SYS_memfd_create, "memfd_create"),
        (libc::SYS_io_uring_setup, "io_uring_setup"),
        (libc::SYS_bpf, "bpf"),
        (libc::SYS_userfaultfd, "userfaultfd"),
        (libc::SYS_perf_event_open, "perf_event_open"),
        (libc::SYS_process_vm_readv, "process_vm_readv"),
        (libc::SYS_process_vm_writev, "process_vm_writev"),
        (libc::SYS_prctl, "prctl"),
        (libc::SYS_prlimit64, "prlimit64"),
        (libc::SYS_setuid, "setuid"),
        (libc::SYS_mount, "mount"),
        (libc::SYS_unshare, "unshare"),
        (libc::SYS_getrandom, "getrandom"),
        (libc::SYS_ioctl, "ioctl"),
        (libc::SYS_rt_sigaction, "rt_sigaction"),
        (libc::SYS_sigaltstack, "sigaltstack"),
        (libc::SYS_setitimer, "setitimer"),
        (libc::SYS_seccomp, "seccomp"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_open, "open"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_fork, "fork"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_vfork, "vfork"),
    ];
    names.into_iter().find(|(known, _)| *known == number).map(|(_, name)| name)
}
