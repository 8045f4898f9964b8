//! Which child serves whom, how many there are, and that none is left behind.

use std::time::{Duration, Instant};

use msm_protocol::RefusalCode;
use msm_sandbox::{Op, Sandbox, SandboxConfig, SandboxError, Work};
use tokio::task::JoinSet;

use crate::rig::{Rig, config, package, peer};

const LOOP: &str = "export function run() { for (;;) {} }";

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::Arc;

    use msm_sandbox::Package;

    use super::*;
    use crate::{
        hostile::resident,
        rig::{children_of, until},
        wasm::{ECHO, module},
    };

    fn children() -> Vec<(u32, bool)> {
        children_of(std::process::id())
    }

    fn open_files() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    #[tokio::test]
    async fn a_child_serves_one_package_for_one_client() {
        let mut rig = Rig::new();
        let pid = async |rig: &Rig, note: &str| rig.text(&format!("//probe pid\n//{note}")).await.unwrap();
        let first = pid(&rig, "a").await;
        assert_eq!(pid(&rig, "a").await, first, "a warm child is used again");
        let other_package = pid(&rig, "b").await;
        assert_ne!(other_package, first);
        rig.client = peer(2);
        let other_client = pid(&rig, "a").await;
        assert!(other_client != first && other_client != other_package);
        // Two children are kept: the longest unused one, the first, made room.
        rig.client = peer(1);
        assert_eq!(pid(&rig, "b").await, other_package);
        assert_ne!(pid(&rig, "a").await, first);
        let gone = format!("/proc/{}", first.trim_start_matches("ok "));
        until("the evicted child is gone", || !std::path::Path::new(&gone).exists()).await;
    }

    #[tokio::test]
    async fn a_dropped_call_kills_its_child() {
        let rig = Rig::with(SandboxConfig { warm: 0, ..config() });
        until("no child", || children().is_empty()).await;
        let endless = package(LOOP, Work::Whole, false);
        let call = rig.run(&endless, Op::Whole, "{}", "");
        {
            let call = std::pin::pin!(call);
            tokio::select! {
                result = call => panic!("{result:?}"),
                () = until("a child runs", || !children().is_empty()) => {}
            }
        }
        until("the child is killed and reaped", || children().is_empty()).await;
        rig.works().await;
    }

    #[tokio::test]
    async fn an_idle_child_goes_after_a_while() {
        let idle = Duration::from_millis(60);
        let rig = Rig::with(SandboxConfig { warm: 0, idle, ..config() });
        rig.works().await;
        let parked = Instant::now();
        assert_eq!(children().len(), 1, "the child waits for the next call");
        until("the idle child is gone", || children().is_empty()).await;
        assert!(parked.elapsed() >= idle - Duration::from_millis(5));
        // Once more: the look-out for idle children has ended and must begin anew.
        rig.works().await;
        until("the second one too", || children().is_empty()).await;
    }

    #[tokio::test]
    async fn a_child_that_dies_while_idle_is_not_used() {
        let rig = Rig::with(SandboxConfig { warm: 0, ..config() });
        rig.works().await;
        let (pid, _) = children()[0];
        // SAFETY: a child of this process that only the sandbox reaps, and it has no reason to yet.
        assert_eq!(unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) }, 0);
        until("it is dead", || children().iter().all(|(_, zombie)| *zombie)).await;
        rig.works().await;
        until("it is reaped", || children().len() == 1).await;
    }

    #[tokio::test]
    async fn the_kernel_ends_what_the_parent_forgets() {
        // The call's future is not polled while the guest runs: nobody sends SIGKILL, its CPU limit has to end it.
        let mut rig = Rig::with(SandboxConfig { warm: 0, ..config() });
        rig.budget.time = Duration::from_millis(900);
        let spins = package("//probe spin", Work::Whole, false);
        let mut call = std::pin::pin!(rig.run(&spins, Op::Whole, "{}", ""));
        let sent =
            until("the guest runs", || children().first().is_some_and(|(pid, _)| used_cpu(*pid) > Duration::ZERO));
        tokio::select! {
            result = &mut call => panic!("{result:?}"),
            () = sent => {}
        }
        until("its CPU time is over", || children().iter().all(|(_, zombie)| *zombie)).await;
        assert_eq!(call.await.unwrap_err().code, RefusalCode::Deadline);
    }

    /// User CPU time of a process, in the kernel's ticks of 10 ms.
    fn used_cpu(pid: u32) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = text.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace().collect::<Vec<_>>());
        let ticks = fields.and_then(|fields| fields.get(11)?.parse::<u64>().ok()).unwrap_or(0);
        Duration::from_millis(10 * ticks)
    }

    #[tokio::test]
    async fn a_thousand_jobs_leave_nothing_behind() {
        let mut rig = Rig::new();
        let wasm = |body: &str| {
            let text = format!("(module (memory (export \"memory\") 1) (func $f (export \"_start\") {body}))");
            Arc::new(module(text, Work::Whole))
        };
        let (echo, traps, loops) =
            (Arc::new(module(ECHO, Work::Whole)), wasm("unreachable"), wasm("(loop $l (br $l))"));
        let grows = wasm("(loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable");
        let crashes = Arc::new(Package { label: "//probe segfault".into(), ..Arc::into_inner(wasm("nop")).unwrap() });
        let mut broken = Arc::into_inner(wasm("")).unwrap();
        broken.source = broken.source.slice(..20);
        let broken = Arc::new(broken);
        let again = async |rig: &Rig, package| rig.run(package, Op::Whole, "{}", "through").await;
        rig.works().await;
        again(&rig, &echo).await.unwrap();
        let (files, before) = (open_files(), resident());
        let generous = rig.budget.time;
        for job in 0..1000u32 {
            rig.client = peer((job % 5) as u8);
            rig.budget.time = generous;
            match job % 20 {
                0 => drop(rig.text("//probe segfault").await.unwrap_err()),
                1 => drop(rig.body("throw new Error('x')").await.unwrap_err()),
                2 | 3 => {
                    rig.budget.time = Duration::from_millis(20);
                    match job % 20 {
                        2 => drop(rig.text(LOOP).await.unwrap_err()),
                        _ => drop(again(&rig, &loops).await.unwrap_err()),
                    }
                }
                4 => drop(rig.text("//probe socket").await.unwrap_err()),
                5 => drop(again(&rig, &traps).await.unwrap_err()),
                6 => drop(again(&rig, &grows).await.unwrap_err()),
                7 => drop(again(&rig, &crashes).await.unwrap_err()),
                8 => drop(again(&rig, &broken).await.unwrap_err()),
                9..=13 => assert_eq!(again(&rig, &echo).await.unwrap().bytes, "through"),
                _ => rig.works().await,
            }
        }
        // Two loaded children and one spare may live, with one descriptor each.
        until("all dead children are reaped", || children().len() <= 3 && children().iter().all(|child| !child.1))
            .await;
        until("their channels are closed", || open_files() <= files + 3).await;
        let grown = resident().saturating_sub(before);
        assert!(grown <= 32 << 20, "this process grew by {grown} bytes");
        drop(rig);
        until("the last children go with the sandbox", || children().is_empty()).await;
    }

    #[tokio::test]
    async fn b28_a_child_does_not_grow_from_call_to_call() {
        let rig = Rig::with(SandboxConfig { warm: 0, ..config() });
        let source = "let kept = []; export function run(input) { kept.push(kept); globalThis.x = [globalThis, input];
            console.log('x'); return input; }";
        let package = package(source, Work::Whole, true);
        assert!(growth(&rig, &package).await < 1 << 20);
        // The inputs hang in cycles of the guest's; a child that kept them would hit its limits.
        let input = bytes::Bytes::from(vec![7u8; 16 << 20]);
        for _ in 0..40 {
            rig.run(&package, Op::Whole, "{}", input.clone()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn b28_a_wasm_child_does_not_grow_from_call_to_call() {
        let rig = Rig::with(SandboxConfig { warm: 0, ..config() });
        let package = Arc::new(module(ECHO, Work::Whole));
        assert!(growth(&rig, &package).await < 1 << 20);
        let input = bytes::Bytes::from(vec![7u8; 16 << 20]);
        for _ in 0..40 {
            rig.run(&package, Op::Whole, "{}", input.clone()).await.unwrap();
        }
    }

    /// Bytes that the only child grows by in 2,700 calls, after 300 to warm up.
    async fn growth(rig: &Rig, package: &Arc<Package>) -> u64 {
        let resident = || {
            let (pid, _) = children()[0];
            let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
            text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
        };
        let input = vec![7u8; 4096];
        let mut after_warm_up = 0;
        for call in 0..3_000 {
            rig.run(package, Op::Whole, "{}", input.clone()).await.unwrap();
            if call == 300 {
                after_warm_up = resident();
            }
        }
        resident().saturating_sub(after_warm_up)
    }
}

#[tokio::test]
async fn calls_wait_for_a_child_and_too_many_are_told_so() {
    let mut rig = Rig::new();
    rig.budget.time = Duration::from_millis(30);
    let package = package(LOOP, Work::Whole, false);
    let mut calls = JoinSet::new();
    for _ in 0..40 {
        let (sandbox, call) = (rig.sandbox.clone(), rig.call(&package, Op::Whole, "{}", ""));
        calls.spawn(async move { sandbox.call(call).await.unwrap_err().code });
    }
    let codes = calls.join_all().await;
    let count = |code| codes.iter().filter(|other| **other == code).count();
    // Two run, 32 wait.
    assert_eq!((count(RefusalCode::Deadline), count(RefusalCode::Busy)), (34, 6), "{codes:?}");
    rig.budget.time = Duration::from_secs(10);
    rig.works().await;
}

#[tokio::test]
async fn many_clients_at_once_all_get_their_own_answer() {
    let rig = Rig::new();
    let package = package("export function run(input, ctx) { return [ctx.params.n]; }", Work::Whole, false);
    let mut calls = JoinSet::new();
    for n in 0..30u8 {
        let mut call = rig.call(&package, Op::Whole, &format!("{{\"n\":{n}}}"), "");
        call.client = peer(n % 7);
        let sandbox = rig.sandbox.clone();
        calls.spawn(async move { (n, sandbox.call(call).await.unwrap().bytes) });
    }
    for (n, bytes) in calls.join_all().await {
        assert_eq!(bytes, format!("[{n}]"));
    }
}

#[tokio::test]
async fn programs_that_are_no_sandbox_children_are_noticed_at_once() {
    let with = |program: &str| Sandbox::new(SandboxConfig { program: program.into(), ..config() }).unwrap_err();
    let started = Instant::now();
    assert!(matches!(with("/no/such/program"), SandboxError::Start { .. }));
    assert!(matches!(with("/bin/true"), SandboxError::NotAChild { .. }));
    assert!(matches!(with("/bin/echo"), SandboxError::NotAChild { .. }));
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn what_the_child_would_not_read_is_refused_before_it_is_sent() {
    let rig = Rig::new();
    let params = format!("{{\"x\":\"{}\"}}", "y".repeat(8 << 10));
    for params in [&*params, "", "[]", "{", "1"] {
        let refusal = rig.run(&package("export const run = 1", Work::Whole, false), Op::Whole, params, "").await;
        assert_eq!(refusal.unwrap_err().code, RefusalCode::BadInput, "{params}");
    }
}
