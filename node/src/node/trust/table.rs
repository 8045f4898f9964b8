//! Who has been right how often, and who was caught with a wrong output. Pure.

use std::collections::HashMap;

use msm_protocol::{ContentHash, JobId, PeerId};
use msm_scheduler::{Trust, trust::LEFT_REMEMBERED};
use serde::{Deserialize, Serialize};

/// Workers remembered. Whoever was used longest ago makes room, the honest before the struck: a liar must not be washed
/// out by names that cost nothing. *Judgement.*
pub const PEERS: usize = 1_024;
/// Struck workers remembered, of all: as many can never take all the room. The one struck first makes room. *Judgement.*
pub const STRUCK: usize = PEERS / 2;

/// A wrong output, and who says what the right one is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Strike {
    /// The job.
    pub job: JobId,
    /// Index of the task.
    pub task: u32,
    /// `market/name@version`.
    pub service: String,
    /// SHA-256 of the output that the worker signed.
    pub claimed: ContentHash,
    /// SHA-256 of the right output.
    pub right: ContentHash,
    /// Whose output that is: this device, or another worker.
    pub by: PeerId,
    /// When, Unix seconds.
    pub time: u64,
    /// It left before it had signed for that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsigned: bool,
    /// Name of the file in the folder of evidence, if it could be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
}

impl Strike {
    /// For people: what, and the numbers.
    pub fn reason(&self) -> String {
        format!("task {} of job {}: {}", self.task, self.job.short(), self.lie())
    }

    /// The two hashes alone.
    pub fn lie(&self) -> String {
        let left = if self.unsigned { "; it lied, and left before signing" } else { "" };
        format!("claimed {}, right is {}{left}", abbreviated(&self.claimed), abbreviated(&self.right))
    }
}

/// The beginning of a hash, as `sha256sum` prints it.
pub fn abbreviated(hash: &ContentHash) -> String {
    let hex = data_encoding::HEXLOWER.encode(&hash.as_bytes()[..4]);
    format!("{hex}…")
}

/// What is remembered of one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    in_a_row: u32,
    left: u32,
    strike: Option<Strike>,
    /// When it was used last, in the table's own order.
    used: u64,
}

impl Known {
    fn trust(&self) -> Trust {
        Trust { in_a_row: self.in_a_row, left: self.left, struck: self.strike.is_some() }
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// One worker as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Row {
    /// Who.
    pub peer: PeerId,
    /// Right answers since the last wrong one.
    pub in_a_row: u32,
    /// Times that it left before it had signed for its results, as far as they count still.
    #[serde(default, rename = "left-unsigned", skip_serializing_if = "is_zero")]
    pub left: u32,
    /// Why it gets nothing more, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strike: Option<Strike>,
}

/// The table.
#[derive(Debug, Clone, Default)]
pub struct Table {
    peers: HashMap<PeerId, Known>,
    /// Counts uses.
    clock: u64,
}

impl Table {
    /// The table that [`Self::rows`] gave; what is too much of it is forgotten.
    pub fn of_rows(rows: Vec<Row>) -> Self {
        let mut table = Self::default();
        for Row { peer, in_a_row, left, strike } in rows {
            let struck = strike.is_some();
            let known = table.touch(peer);
            (known.in_a_row, known.left, known.strike) = (in_a_row, left.min(LEFT_REMEMBERED), strike);
            if struck {
                table.bound_struck();
            }
        }
        table
    }

    /// Everything, used longest ago first.
    pub fn rows(&self) -> Vec<Row> {
        let mut known: Vec<_> = self.peers.iter().collect();
        known.sort_by_key(|(_, known)| known.used);
        let row = |(peer, known): (&PeerId, &Known)| Row {
            peer: *peer,
            in_a_row: known.in_a_row,
            left: known.left,
            strike: known.strike.clone(),
        };
        known.into_iter().map(row).collect()
    }

    /// How much the scheduler may believe `peer`; somebody new, when it is not known.
    pub fn of(&self, peer: &PeerId) -> Trust {
        self.peers.get(peer).map_or_else(Trust::default, Known::trust)
    }

    /// Why `peer` gets nothing more, if so.
    pub fn strike_of(&self, peer: &PeerId) -> Option<&Strike> {
        self.peers.get(peer)?.strike.as_ref()
    }

    /// Those that are struck, the newest first.
    pub fn struck(&self) -> Vec<(PeerId, Strike)> {
        let mut struck: Vec<_> =
            self.peers.iter().filter_map(|(peer, it)| Some((*peer, it.strike.clone()?, it.used))).collect();
        struck.sort_by_key(|(peer, strike, used)| (std::cmp::Reverse((strike.time, *used)), *peer));
        struck.into_iter().map(|(peer, strike, _)| (peer, strike)).collect()
    }

    /// An output of `peer` was compared and is right.
    pub fn right(&mut self, peer: PeerId) {
        let known = self.touch(peer);
        let mut trust = known.trust();
        trust.right();
        (known.in_a_row, known.left) = (trust.in_a_row, trust.left);
    }

    /// `peer` left before it had signed for its results. Returns how often, as far as it counts. Nothing is remembered
    /// of a stranger: all of its results are checked anyway, and its name may have cost nothing.
    pub fn left_unsigned(&mut self, peer: &PeerId) -> Option<u32> {
        let known = self.peers.get_mut(peer)?;
        let mut trust = known.trust();
        trust.left_unsigned();
        known.left = trust.left;
        Some(known.left)
    }

    /// Others say that an output of `peer` is wrong, which may be a lie: what it was right in before counts no more.
    pub fn doubt(&mut self, peer: &PeerId) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.in_a_row = 0;
        }
    }

    /// An output of `peer` was compared and is wrong. A later strike replaces an earlier one.
    pub fn strike(&mut self, peer: PeerId, strike: Strike) {
        let known = self.touch(peer);
        (known.in_a_row, known.strike) = (0, Some(strike));
        self.bound_struck();
    }

    /// The evidence for a strike was written as this file.
    pub fn proven(&mut self, peer: &PeerId, job: JobId, task: u32, file: String) {
        let strike = self.peers.get_mut(peer).and_then(|known| known.strike.as_mut());
        if let Some(strike) = strike.filter(|strike| (strike.job, strike.task) == (job, task)) {
            (strike.unsigned, strike.evidence) = (false, Some(file));
        }
    }

    /// Takes a strike back: the worker begins anew. `None` when there is none.
    pub fn forgive(&mut self, peer: &PeerId) -> Option<Strike> {
        let known = self.peers.get_mut(peer)?;
        let strike = known.strike.take()?;
        (known.in_a_row, known.left) = (0, 0);
        Some(strike)
    }

    fn touch(&mut self, peer: PeerId) -> &mut Known {
        self.clock += 1;
        if self.peers.len() >= PEERS && !self.peers.contains_key(&peer) {
            let last = self.peers.iter().min_by_key(|(_, known)| (known.strike.is_some(), known.used));
            if let Some(last) = last.map(|(peer, _)| *peer) {
                self.peers.remove(&last);
            }
        }
        let known = self.peers.entry(peer).or_insert(Known { in_a_row: 0, left: 0, strike: None, used: 0 });
        known.used = self.clock;
        known
    }

    fn bound_struck(&mut self) {
        let struck = self.peers.iter().filter(|(_, known)| known.strike.is_some());
        if struck.clone().count() <= STRUCK {
            return;
        }
        if let Some(first) = struck.min_by_key(|(_, known)| known.used).map(|(peer, _)| *peer) {
            self.peers.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use msm_protocol::SecretKey;

    use super::*;

    fn peer(n: u32) -> PeerId {
        let seed = ContentHash::of(&n.to_le_bytes());
        PeerId::of(&SecretKey::from_seed(seed.as_bytes()).public())
    }

    fn strike(task: u32) -> Strike {
        Strike {
            job: JobId::from_bytes([0x3f; 16]),
            task,
            service: "home/blur@1.0.0".into(),
            claimed: ContentHash::of(b"wrong"),
            right: ContentHash::of(b"right"),
            by: peer(1_000_000),
            time: 1_800_000_000,
            unsigned: false,
            evidence: None,
        }
    }

    #[test]
    fn trust_grows_with_each_right_answer_and_ends_with_a_wrong_one() {
        let (mut table, worker) = (Table::default(), peer(1));
        assert_eq!(table.of(&worker), Trust::default());
        assert_eq!(table.of(&worker).check_share(), 1.0, "somebody new is always checked");
        let mut share = 1.0;
        for _ in 0..60 {
            table.right(worker);
            let now = table.of(&worker).check_share();
            assert!(now <= share, "{now} after {share}");
            share = now;
        }
        assert!((0.02..0.05).contains(&share), "{share}");
        table.strike(worker, strike(7));
        assert!(table.of(&worker).struck && table.of(&worker).in_a_row == 0);
        assert_eq!(table.struck(), [(worker, strike(7))]);
        assert_eq!(table.forgive(&worker), Some(strike(7)));
        assert_eq!(table.of(&worker), Trust::default(), "it begins anew");
        assert_eq!((table.forgive(&worker), table.forgive(&peer(2))), (None, None));
    }

    #[test]
    fn a_doubted_worker_begins_anew_and_is_not_struck() {
        let (mut table, worker) = (Table::default(), peer(1));
        table.right(worker);
        table.doubt(&worker);
        table.doubt(&peer(2));
        assert_eq!((table.of(&worker), table.rows().len()), (Trust::default(), 1));
        table.strike(worker, strike(7));
        table.doubt(&worker);
        assert!(table.of(&worker).struck, "what this device saw itself stands");
    }

    #[test]
    fn who_leaves_unsigned_is_checked_always_and_never_struck_for_it() {
        let (mut table, worker) = (Table::default(), peer(1));
        assert_eq!((table.left_unsigned(&worker), table.rows().len()), (None, 0), "of a stranger nothing is kept");
        (0..9).for_each(|_| table.right(worker));
        assert_eq!((1..=3).map(|_| table.left_unsigned(&worker)).collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);
        let trust = table.of(&worker);
        assert!(trust.check_share() >= 1.0 && !trust.struck && trust.in_a_row == 9, "{trust:?}");
        assert_eq!(Table::of_rows(table.rows()).of(&worker), trust, "it outlives a restart");
        table.right(worker);
        assert!(table.of(&worker).check_share() < 1.0, "ten in a row make good for one");
        table.strike(worker, Strike { unsigned: true, ..strike(7) });
        let why = table.strike_of(&worker).unwrap().reason();
        assert!(why.ends_with("it lied, and left before signing"), "{why}");
        table.forgive(&worker);
        assert_eq!(table.of(&worker), Trust::default());
    }

    #[test]
    fn right_answers_of_a_struck_worker_do_not_clear_it() {
        let (mut table, worker) = (Table::default(), peer(1));
        table.strike(worker, strike(7));
        for _ in 0..100 {
            table.right(worker);
        }
        assert!(table.of(&worker).struck);
    }

    #[test]
    fn the_table_is_bounded_and_strikes_outlive_names_that_cost_nothing() {
        let mut table = Table::default();
        table.strike(peer(0), strike(0));
        table.right(peer(1));
        for n in 2..2 * PEERS as u32 {
            table.right(peer(n));
        }
        assert_eq!(table.peers.len(), PEERS);
        assert!(table.of(&peer(0)).struck, "a strike is not washed out");
        assert_eq!(table.of(&peer(1)).in_a_row, 0, "the one used longest ago is forgotten");
        assert_eq!(table.of(&peer(2 * PEERS as u32 - 1)).in_a_row, 1);
        // Nor do strikes push everybody else out.
        for n in 0..2 * PEERS as u32 {
            table.strike(peer(100_000 + n), strike(n));
        }
        assert_eq!(table.struck().len(), STRUCK);
        assert!(table.peers.len() > STRUCK && table.peers.len() <= PEERS, "{}", table.peers.len());
    }

    #[test]
    fn rows_read_back_in_the_order_of_use() {
        let mut table = Table::default();
        for n in [5, 3, 9, 3] {
            table.right(peer(n));
        }
        table.strike(peer(7), strike(1));
        let rows = table.rows();
        assert_eq!(rows.iter().map(|row| row.in_a_row).collect::<Vec<_>>(), [1, 1, 2, 0]);
        assert_eq!(Table::of_rows(rows.clone()).rows(), rows);
        // More than there may be: the newest stay.
        let many: Vec<Row> =
            (0..PEERS as u32 + 5).map(|n| Row { peer: peer(n), in_a_row: n, left: 0, strike: None }).collect();
        assert_eq!(Table::of_rows(many.clone()).rows(), many[5..]);
    }

    #[test]
    fn the_reason_has_the_numbers() {
        let text = strike(7).reason();
        assert!(text.starts_with("task 7 of job 3f3f: claimed "), "{text}");
        assert!(text.contains(", right is ") && text.ends_with('…'), "{text}");
    }
}
