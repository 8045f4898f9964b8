//! Repeats in the ledger: the first of a kind is a line at once, those that follow are one line with their number. A
//! guest or a stranger who asks again and again must not push everything else out of the ledger.

use std::collections::BTreeMap;

use super::ledger::{Entry, Outcome, Page};

/// Kinds of lines that are counted apart; all others share one more count. Each holds a place in the ledger's queue for
/// its line, so this times the calls at a time must stay well below the queue. *Judgement.*
const KINDS: usize = 8;

/// Why a question is refused whose operation does not exist.
pub const NO_OPERATION: &str = "no-operation";

/// What makes two lines the same but for their number and their caller.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    service: String,
    own: bool,
    op: String,
    outcome: &'static str,
    why: String,
    detail: String,
}

impl Kind {
    fn of(entry: &Entry) -> Self {
        let Entry { service, own, op, why, mut detail, .. } = entry.clone();
        if why == NO_OPERATION {
            // It is the guest's own text, and could be another each time.
            detail.clear();
        }
        let outcome = match entry.outcome {
            Outcome::Allowed => "allowed",
            Outcome::Denied => "denied",
            Outcome::Failed => "failed",
            Outcome::Cut => "cut",
        };
        Self { service, own, op, outcome, why, detail }
    }
}

/// Counts lines by their kind. Dropping it writes what was counted: a page writes itself.
#[derive(Default)]
pub struct Tally {
    kinds: BTreeMap<Kind, Option<Page>>,
    others: Option<Page>,
}

impl Tally {
    /// Counts what is on `page`, or gives it back to be written now: it is the first of its kind.
    pub fn count(&mut self, mut page: Page) -> Option<Page> {
        let kind = Kind::of(page.entry());
        let full = self.kinds.len() >= KINDS;
        let counted = match self.kinds.get_mut(&kind) {
            Some(counted) => counted,
            None if full => {
                if self.others.is_none() {
                    page.entry().detail = "and others".to_owned();
                }
                &mut self.others
            }
            None => {
                self.kinds.insert(kind, None);
                return Some(page);
            }
        };
        match counted {
            None => *counted = Some(page),
            Some(sum) => add(sum, page),
        }
        None
    }
}

/// Adds what is on `page` to `sum`; the page is given back unwritten.
fn add(sum: &mut Page, page: Page) {
    let Entry { time, caller, times, bytes, .. } = page.withdraw();
    let sum = sum.entry();
    sum.time = time;
    sum.times = sum.times.saturating_add(times);
    sum.bytes = sum.bytes.saturating_add(bytes);
    if sum.caller != caller {
        // Several.
        sum.caller.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::ledger::{self, HISTORY, Ledger};

    fn entry(op: &str, caller: &str, detail: &str) -> Entry {
        Entry {
            time: 1_800_000_000,
            service: "home/all-of-it@1.0.0".into(),
            caller: caller.into(),
            own: false,
            op: op.into(),
            outcome: Outcome::Allowed,
            why: String::new(),
            bytes: 10,
            times: 1,
            detail: detail.into(),
        }
    }

    #[tokio::test]
    async fn the_first_is_a_line_and_the_rest_are_one_with_their_number() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let ledger = Ledger::open(&path).unwrap();
        let mut tally = Tally::default();
        let mut note = async |entry: Entry| {
            if let Some(page) = tally.count(ledger.page(entry).await.unwrap()) {
                page.close().await.unwrap();
            }
        };
        for n in 0..500 {
            note(entry("net.fetch", if n < 400 { "a" } else { "b" }, "https://a.example")).await;
        }
        note(entry("device.status", "a", "")).await;
        for n in 0..100 {
            note(entry("net.fetch", "a", &format!("https://h{n}.example"))).await;
        }
        let first = ledger::read(&path, 0, HISTORY).unwrap();
        assert_eq!(first.len(), KINDS, "the first of each kind stands there before its answer is given");
        drop(tally);
        ledger.page(entry("end", "a", "")).await.unwrap().close().await.unwrap();
        let all = ledger::read(&path, 0, HISTORY).unwrap();
        assert_eq!(all.iter().map(|it| it.times).sum::<u32>(), 602, "none is forgotten");
        assert_eq!(all.iter().map(|it| it.bytes).sum::<u64>(), 6_020);
        let counted: Vec<_> =
            all.iter().filter(|it| it.times > 1).map(|it| (&*it.detail, &*it.caller, it.times)).collect();
        assert_eq!(counted, [("and others", "a", 94), ("https://a.example", "", 499)]);
    }
}
