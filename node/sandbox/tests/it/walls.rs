//! Each wall, from behind it: it stops what it should, and with it left out the same attempt gets through.

use std::{
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use msm_protocol::{ContentHash, Refusal, RefusalCode};
use msm_sandbox::{Op, Package, Sandbox, SandboxConfig, SandboxError, WallName, WallPolicy, Work};

use crate::{
    rig::{Rig, children_of, config, until},
    wasm::module,
};

#[tokio::test]
async fn b37_forbidden_system_calls_kill_and_are_named() {
    let rig = Rig::new();
    let table = [
        ("openat", "openat"),
        ("socket", "socket"),
        ("execve", "execve"),
        ("ptrace", "ptrace"),
        ("clone", "clone"),
        ("io_uring_setup", "io_uring_setup"),
        ("memfd_create", "memfd_create"),
        ("prlimit64", "prlimit64"),
        ("rt_sigaction", "rt_sigaction"),
        ("tgkill-other", "tgkill"),
        ("mmap-exec", "mmap"),
        ("mprotect-exec", "mprotect"),
        ("read-other", "unnamed"),
        ("write-stderr", "unnamed"),
        ("sleep", "unnamed"),
    ];
    for (probe, name) in table {
        let refusal = rig.text(&format!("//probe {probe}")).await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::TaskCrashed, "{probe}: {refusal}");
        assert!(refusal.reason.contains("seccomp") && refusal.reason.contains("SIGSYS"), "{probe}: {refusal}");
        assert!(refusal.reason.contains(&format!("({name})")), "{probe}: {refusal}");
        rig.works().await;
    }
}

/// A probe that native code makes inside a child with compiled code, after the seal and with an instance in place.
async fn in_wasm(rig: &Rig, probe: &str) -> Result<String, Refusal> {
    let label = format!("//probe {probe}");
    let package = module("(module (memory (export \"memory\") 1) (func (export \"_start\")))", Work::Whole);
    let package = Package { hash: ContentHash::of(label.as_bytes()), label, ..package };
    let output = rig.run(&Arc::new(package), Op::Whole, "{}", "").await?;
    Ok(String::from_utf8(output.bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn b37_the_process_of_compiled_code_may_do_no_more() {
    let rig = Rig::new();
    let table = [
        ("openat", "openat"),
        ("socket", "socket"),
        ("execve", "execve"),
        ("ptrace", "ptrace"),
        ("clone", "clone"),
        ("io_uring_setup", "io_uring_setup"),
        ("memfd_create", "memfd_create"),
        ("prlimit64", "prlimit64"),
        ("rt_sigaction", "rt_sigaction"),
        ("sigaction-alarm", "rt_sigaction"),
        ("sigaltstack", "sigaltstack"),
        ("seccomp", "seccomp"),
        ("tgkill-other", "tgkill"),
        ("mmap-exec", "mmap"),
        ("mprotect-exec", "mprotect"),
        ("new-code", "mprotect"),
        ("read-other", "unnamed"),
        ("write-stderr", "unnamed"),
        ("sleep", "unnamed"),
    ];
    for (probe, name) in table {
        let refusal = in_wasm(&rig, probe).await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::TaskCrashed, "{probe}: {refusal}");
        assert!(refusal.reason.contains("SIGSYS"), "{probe}: {refusal}");
        assert!(refusal.reason.contains(&format!("({name})")), "{probe}: {refusal}");
    }
    assert_eq!(in_wasm(&rig, "pid").await.unwrap()[..3], *"ok ");
    // Its alarm is its own: stopping it leaves the parent's SIGKILL.
    in_wasm(&rig, "setitimer").await.unwrap();
    let refusal = rig.text("//probe setitimer").await.unwrap_err();
    assert!(refusal.reason.contains("(setitimer)"), "{refusal}");
    for probe in ["sigaltstack", "seccomp", "new-code", "sigaction-alarm"] {
        assert!(rig.text(&format!("//probe {probe}")).await.unwrap_err().reason.contains("SIGSYS"), "{probe}");
    }
    // A crash of its own is told as what it was, though the engine has the signal.
    let refusal = in_wasm(&rig, "segfault").await.unwrap_err();
    assert!(refusal.reason.contains("SIGSEGV"), "{refusal}");
    rig.works().await;
}

#[tokio::test]
async fn without_the_walls_of_system_calls_new_code_runs() {
    // The probe above is able to fail.
    let rig = Rig::without(&[WallName::Seccomp]);
    assert_eq!(in_wasm(&rig, "new-code").await.as_deref(), Ok("ok 42"));
    assert_eq!(rig.text("//probe new-code").await.as_deref(), Ok("ok 42"));
}

#[tokio::test]
async fn b37_a_log_line_names_the_system_call() {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _default = tracing::subscriber::set_default(subscriber);
    Rig::new().text("//probe socket").await.unwrap_err();
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("WARN") && text.contains("socket"), "{text}");
}

#[tokio::test]
async fn every_wall_bites_and_only_that_wall() {
    use WallName::{Fds, Landlock, NoNewPrivs, Parent, Rlimits, Seccomp};
    const EACCES: &str = "errno 13";
    const ENOMEM: &str = "errno 12";
    const EMFILE: &str = "errno 24";
    // Seccomp is the outermost: it is left out to see those behind it.
    let table: &[(&'static [WallName], &str, &str)] = &[
        (&[Seccomp], "openat", EACCES),
        (&[Seccomp, Landlock], "openat", "ok 1"),
        (&[Seccomp], "connect", EACCES),
        (&[Seccomp, Landlock], "connect", "ok 0"),
        (&[Seccomp], "execve", EACCES),
        (&[Seccomp], "open-files", "ok 0"),
        (&[Seccomp, Fds], "open-files", EMFILE),
        (&[Seccomp], "dup-many", EMFILE),
        (&[Seccomp, Rlimits], "dup-many", "ok 1"),
        (&[Seccomp], "allocate", ENOMEM),
        (&[Seccomp], "dumpable", "ok 0"),
        (&[Seccomp, Parent], "dumpable", "ok 1"),
        (&[Seccomp], "death-signal", "ok 0"),
        (&[Seccomp, Parent], "death-signal", "errno 3"),
        // Landlock asks for it too.
        (&[Seccomp], "no-new-privs", "ok 1"),
        (&[Seccomp, Landlock, NoNewPrivs], "no-new-privs", "ok 0"),
        // TZ, which the child sets itself.
        (&[Seccomp], "environment", "ok 1"),
    ];
    for (without, probe, expected) in table {
        let rig = Rig::without(without);
        let walls = rig.sandbox.walls();
        assert!(walls.iter().all(|(name, wall)| wall.is_up() != without.contains(&name)), "{walls:?}");
        let outcome = rig.text(&format!("//probe {probe}")).await.unwrap();
        assert!(outcome.starts_with(expected), "{probe} without {without:?}: {outcome}, expected {expected}");
    }
}

#[tokio::test]
async fn an_attempt_to_open_a_network_device_or_process_is_stopped_twice() {
    // What seccomp kills is refused by another wall when seccomp is missing, so one mistake is not a hole.
    let behind_landlock = Rig::without(&[WallName::Seccomp]);
    let behind_seccomp = Rig::without(&[WallName::Landlock]);
    for probe in ["openat", "connect", "execve"] {
        let outcome = behind_landlock.text(&format!("//probe {probe}")).await;
        assert_eq!(outcome.as_deref(), Ok("errno 13"), "{probe}");
        let refusal = behind_seccomp.text(&format!("//probe {probe}")).await.unwrap_err();
        assert!(refusal.reason.contains("SIGSYS"), "{probe}: {refusal}");
    }
}

#[tokio::test]
async fn a_required_wall_that_is_missing_stops_everything() {
    let require = |without| {
        Sandbox::new(SandboxConfig { walls: WallPolicy::Require, without, ..config() }).map(|sandbox| sandbox.walls())
    };
    assert!(require(&[]).unwrap().missing().is_none());
    require(&[WallName::Seccomp]).unwrap();
    for without in [&[WallName::Rlimits][..], &[WallName::Seccomp, WallName::Landlock]] {
        match require(without) {
            Err(SandboxError::Walls { missing }) => assert!(missing.contains("left out for a test"), "{missing}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_guest_dies_with_a_parent_that_is_killed() {
    let mut parent = Command::new(config().program).arg("parent").stderr(Stdio::null()).spawn().unwrap();
    let mut guests = Vec::new();
    until("the parent has a guest", || {
        guests = children_of(parent.id());
        !guests.is_empty()
    })
    .await;
    parent.kill().unwrap();
    parent.wait().unwrap();
    for (pid, _) in guests {
        until("the guest is gone", || !std::path::Path::new(&format!("/proc/{pid}")).exists()).await;
    }
}
