//! The ledger with full queues, full disks, links in its place, and history in two files.

use std::os::unix::fs::MetadataExt;

use super::*;

fn entry(op: &str) -> Entry {
    Entry {
        time: 1_800_000_000,
        service: "home/all-of-it@1.0.0".into(),
        caller: "12D3KooW".into(),
        own: false,
        op: op.into(),
        outcome: Outcome::Cut,
        why: String::new(),
        bytes: 0,
        times: 1,
        detail: String::new(),
    }
}

#[tokio::test]
async fn a_line_is_in_the_file_before_its_answer_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let ledger = Ledger::open(&path).unwrap();
    for n in 0..3 {
        let mut page = ledger.page(Entry { time: 100 + n, ..entry("net.fetch") }).await.unwrap();
        page.entry().outcome = Outcome::Allowed;
        page.entry().detail = format!("https://h{n}\u{1b}[2J.example");
        page.close().await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().filter(|line| !line.is_empty()).count(), 1 + n as usize);
    }
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let read_back = read(&path, 101, HISTORY).unwrap();
    assert_eq!(read_back.iter().map(|entry| entry.time).collect::<Vec<_>>(), [102, 101], "newest first");
    assert_eq!(read_back[0].detail, "https://h2[2J.example", "no control character reaches the file");
    assert_eq!(read(&path, 0, 2).unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_cut_off_is_taken_down_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let ledger = Ledger::open(&path).unwrap();
    drop(ledger.page(entry("net.fetch")).await.unwrap());
    // The next line is written after it.
    ledger.page(entry("gps.position")).await.unwrap().close().await.unwrap();
    let ops: Vec<_> = read(&path, 0, HISTORY).unwrap().into_iter().map(|it| (it.op, it.outcome)).collect();
    assert_eq!(ops, [("gps.position".into(), Outcome::Cut), ("net.fetch".into(), Outcome::Cut)]);
}

#[tokio::test]
async fn a_full_queue_gives_no_page() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("audit.jsonl")).unwrap();
    let mut pages = Vec::new();
    for _ in 0..QUEUE {
        pages.push(ledger.page(entry("net.fetch")).await.unwrap());
    }
    assert_eq!(ledger.page(entry("net.fetch")).await.err(), Some(Unlogged::Full));
    pages.pop().unwrap().close().await.unwrap();
    assert!(ledger.page(entry("net.fetch")).await.is_ok());
}

/// B52: a full disk. In a process with a small file system of its own.
#[test]
fn b52_a_full_disk_gives_no_page_and_forgets_nothing() {
    let name = "resources::ledger::tests::b52_a_full_disk_gives_no_page_and_forgets_nothing";
    if !crate::own_mounts::inside(name, "mount -t tmpfs -o size=64k none /mnt") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let path = Path::new("/mnt/audit.jsonl");
        let ledger = Ledger::open(path).unwrap();
        let before = ledger.page(entry("before")).await.unwrap();
        fs::write("/mnt/filler", vec![0; 1 << 20]).unwrap_err();
        let mut written = 0;
        // The rest of the file's last block still takes some lines.
        let stuck = loop {
            let page = ledger.page(entry("more")).await.unwrap();
            match page.close().await {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
            assert!(written < 1_000);
        };
        assert!(matches!(stuck, Unlogged::Disk(_)), "{stuck}");
        assert!(matches!(ledger.page(entry("refused")).await.err(), Some(Unlogged::Disk(_))));
        // It was given before: it waits, and is not lost.
        assert!(matches!(before.close().await, Err(Unlogged::Disk(_))));
        fs::remove_file("/mnt/filler").unwrap();
        ledger.page(entry("after")).await.unwrap().close().await.unwrap();
        let ops: Vec<_> = read(path, 0, HISTORY).unwrap().into_iter().rev().map(|it| it.op).collect();
        let mut expected = vec!["more".to_owned(); written + 1];
        expected.extend(["before".into(), "after".into()]);
        assert_eq!(ops, expected);
    });
}

#[test]
fn the_file_is_bounded_and_the_older_half_is_still_history() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let mut book = Book::open(&path, 10_000).unwrap();
    for n in 0..500 {
        book.stuck.push_back(line(Entry { time: n, ..entry("net.fetch") }));
        book.write_stuck().unwrap();
    }
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    assert!(size(&path) <= 10_000 && size(&older(&path)) <= 10_000);
    let times: Vec<_> = read(&path, 0, HISTORY).unwrap().into_iter().map(|entry| entry.time).collect();
    assert!(times.len() > 50 && times.len() < 500, "{}", times.len());
    assert!(times.iter().copied().eq((500 - times.len() as u64..500).rev()), "newest first and none left out");
}

#[test]
fn a_torn_line_costs_itself_only_and_a_link_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let whole = line(entry("whole"));
    fs::write(&path, format!("{whole}{}", &whole[..20])).unwrap();
    let mut book = Book::open(&path, FILE_BYTES).unwrap();
    book.stuck.push_back(line(entry("next")));
    book.write_stuck().unwrap();
    let ops: Vec<_> = read(&path, 0, HISTORY).unwrap().into_iter().map(|entry| entry.op).collect();
    assert_eq!(ops, ["next", "whole"]);
    let link = dir.path().join("link.jsonl");
    std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
    assert!(matches!(Ledger::open(&link), Err(FileError::Symlink { .. })));
}
