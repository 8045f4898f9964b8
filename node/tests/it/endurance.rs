//! Many jobs in a row: what a node holds does not grow.

use std::time::Duration;

use crate::rig::*;

#[derive(Debug, Clone, Copy)]
struct Held {
    descriptors: usize,
    children: usize,
    threads: u64,
    rss_kib: u64,
}

fn held(node: &Node) -> Held {
    let children = node.children();
    assert!(children.iter().all(|(_, state)| *state != 'Z'), "{}: zombies in {children:?}", node.name);
    Held {
        descriptors: node.descriptors(),
        children: children.len(),
        threads: node.figure("Threads"),
        rss_kib: node.figure("VmRSS"),
    }
}

#[tokio::test]
async fn twenty_jobs_leave_nothing_behind() {
    let lab = Lab::new();
    let market = lab.market("shop", &[lab.grind()]);
    let crew = Crew::gather(&lab, &market, 2).await;
    let text = lines(24);
    let expected = grind(&text, 1_000);
    let job = async || {
        let (report, output) = crew.requester.job(grind_on(3, 1_000), text.clone(), |_| {}).await;
        assert!(output == expected);
        assert_counted_once(&report);
    };
    // Buffers, pools and caches fill up first.
    crew.warm(&grind_on(3, 1_000), text.clone()).await;
    for _ in 0..5 {
        job().await;
    }
    let nodes: Vec<&Node> = crew.workers.iter().chain([&crew.requester]).collect();
    let before: Vec<Held> = nodes.iter().map(|node| held(node)).collect();
    for _ in 0..20 {
        job().await;
    }
    for (node, before) in nodes.iter().zip(before) {
        let after = until("nothing of the jobs is left", Duration::from_secs(10), async || {
            let after = held(node);
            let calm = after.descriptors <= before.descriptors + 4 && after.children <= before.children + 1;
            (calm && node.status().await.running_tasks == 0).then_some(after)
        })
        .await;
        eprintln!("{}: before {before:?}, after 20 jobs {after:?}", node.name);
        assert!(after.threads <= before.threads + 4, "{}: {before:?} {after:?}", node.name);
        let grown = after.rss_kib.saturating_sub(before.rss_kib);
        assert!(grown < 8 * 1024, "{}: {grown} KiB more: {before:?} {after:?}", node.name);
    }
    let jobs = msm(&crew.requester.home, &["jobs", "--json"]).await.json();
    let states: Vec<&str> = jobs["jobs"].as_array().unwrap().iter().map(|job| job["state"].as_str().unwrap()).collect();
    assert!(states.len() >= 25 && states.iter().all(|state| *state == "done"), "{states:?}");
}
