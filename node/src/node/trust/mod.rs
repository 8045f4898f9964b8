//! Whom to believe: the table of workers behind a short lock, its file, and the evidence against those that lied.
//!
//! [`table`] is the rule, [`file`] the disk. Strikes are this node's own: nobody else's word strikes anybody.

pub mod file;
pub mod table;

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use msm_protocol::{PeerId, evidence::Evidence, job::Claim};
use msm_scheduler::Trust;
use serde_bytes::ByteBuf;
use tokio::sync::watch;

pub use self::table::Strike;
use self::table::Table;
use crate::{
    cli::hints,
    command::{CommandError, ErrorCode, StruckRow},
    home::Home,
};

/// Pieces of evidence that wait for a receipt, which comes within a second or never. *Judgement.*
const UNPROVEN: usize = 16;

/// What is known of workers. Cheap to ask; what changes is on disk before the change is answered.
#[derive(Clone)]
pub struct TrustBook(Arc<Inner>);

struct Inner {
    table: Mutex<Table>,
    /// Counts strikes, for those that wait for one.
    strikes: watch::Sender<u64>,
    /// Evidence whose receipt has not come, oldest first.
    unproven: Mutex<VecDeque<(PeerId, Evidence)>>,
    /// One save at a time, each of the newest table.
    saving: tokio::sync::Mutex<()>,
    /// A save waits for its turn and will take in all that happens until then.
    save_waits: AtomicBool,
    file: PathBuf,
    evidence: PathBuf,
}

impl TrustBook {
    /// The book of this home; an empty one when what was kept cannot be read, which is said.
    pub fn open(home: &Home) -> Self {
        let (table, why) = file::load(&home.trust_file());
        if let Some(why) = why {
            tracing::error!(why, "trust in workers is lost");
        }
        let inner = Inner {
            table: Mutex::new(table),
            strikes: watch::Sender::new(0),
            unproven: Mutex::default(),
            saving: tokio::sync::Mutex::default(),
            save_waits: AtomicBool::new(false),
            file: home.trust_file(),
            evidence: home.evidence_dir(),
        };
        Self(Arc::new(inner))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much to believe `peer`.
    pub fn of(&self, peer: &PeerId) -> Trust {
        self.table().of(peer)
    }

    /// Changes with each strike.
    pub fn strikes(&self) -> watch::Receiver<u64> {
        self.0.strikes.subscribe()
    }

    /// True for one that gets nothing more.
    pub fn is_struck(&self, peer: &PeerId) -> bool {
        self.table().strike_of(peer).is_some()
    }

    /// Why `peer` gets nothing more and the line that changes it, if it is struck.
    pub fn why_struck(&self, peer: &PeerId) -> Option<String> {
        let table = self.table();
        let strike = table.strike_of(peer)?;
        Some(format!("struck out: {}; try: {}", strike.reason(), hints::forgive(&peer.to_string())))
    }

    /// Those that are struck, newest first.
    pub fn struck(&self) -> Vec<StruckRow> {
        self.table().struck().into_iter().map(|(peer, strike)| StruckRow::of(peer, strike)).collect()
    }

    /// An output of `peer` was compared with a right one and is the same. To be kept with [`Self::save`].
    pub fn right(&self, peer: PeerId) {
        self.table().right(peer);
    }

    /// Others contradict `peer`: its next parts are all compared again. To be kept with [`Self::save`].
    pub fn doubt(&self, peer: &PeerId) {
        self.table().doubt(peer);
    }

    /// `peer` left before it had signed for its results.
    pub fn left_unsigned(&self, peer: &PeerId) {
        let times = self.table().left_unsigned(peer);
        tracing::info!(peer = peer.short(), times, "left before it signed for its results");
        if times.is_some() {
            self.save_soon();
        }
    }

    /// Strikes `peer` out, at once; the evidence and the strike are on disk when this returns. Evidence without a receipt
    /// waits for one.
    pub async fn strike(&self, peer: PeerId, strike: Strike, evidence: Option<Evidence>) -> Strike {
        // Believed from this moment on, whatever the disk does.
        self.table().strike(peer, strike.clone());
        self.0.strikes.send_modify(|count| *count += 1);
        tracing::warn!(peer = peer.short(), why = strike.reason(), "peer struck out");
        let mut strike = strike;
        match evidence {
            Some(evidence) if evidence.receipt.is_empty() => self.await_receipt(peer, evidence),
            Some(evidence) => strike.evidence = self.keep_evidence(peer, evidence).await,
            None => {}
        }
        if strike.evidence.is_some() {
            self.table().strike(peer, strike.clone());
        }
        self.save().await;
        strike
    }

    fn unproven(&self) -> MutexGuard<'_, VecDeque<(PeerId, Evidence)>> {
        self.0.unproven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn await_receipt(&self, peer: PeerId, evidence: Evidence) {
        let mut unproven = self.unproven();
        unproven.push_back((peer, evidence));
        if unproven.len() > UNPROVEN {
            unproven.pop_front();
        }
    }

    /// A worker has signed for results of jobs that have gone: it may be what proves a lie in one of them.
    pub fn signed_late(&self, peer: PeerId, claims: &[Claim], envelope: &[u8]) {
        let mut unproven = self.unproven();
        let proven = unproven.iter().position(|(by, evidence)| {
            let lie = |claim: &Claim| (claim.job, claim.task) == (evidence.job, evidence.task);
            *by == peer && claims.iter().any(|claim| lie(claim) && claim.output != evidence.right)
        });
        let Some((_, mut evidence)) = proven.and_then(|at| unproven.remove(at)) else { return };
        drop(unproven);
        evidence.receipt = ByteBuf::from(envelope);
        let (book, job, task) = (self.clone(), evidence.job, evidence.task);
        tokio::spawn(async move {
            if let Some(file) = book.keep_evidence(peer, evidence).await {
                book.table().proven(&peer, job, task, file);
                book.save().await;
            }
        });
    }

    async fn keep_evidence(&self, peer: PeerId, evidence: Evidence) -> Option<String> {
        let folder = self.0.evidence.clone();
        let kept = tokio::task::spawn_blocking(move || file::keep_evidence(&folder, &peer, &evidence)).await;
        match kept {
            Ok(Ok(name)) => Some(name),
            Ok(Err(why)) => {
                tracing::error!(peer = peer.short(), why, "evidence is not kept");
                None
            }
            Err(_) => None,
        }
    }

    /// Takes a strike back. `peer` is a whole peer id, or its end as lists show it.
    pub async fn forgive(&self, peer: &str) -> Result<StruckRow, CommandError> {
        let struck = self.table().struck();
        let mut named = struck.into_iter().map(|(peer, _)| peer).filter(|it| it.to_string().ends_with(peer));
        let found = match (named.next(), named.next()) {
            (Some(found), None) => found,
            (Some(_), Some(_)) => {
                let message = format!("{peer:?} ends several struck peers' ids: write more of it");
                return Err(CommandError::new(ErrorCode::Usage, message).or_try("msm peers"));
            }
            (None, _) => {
                let message = format!("not-found: no peer {peer:?} is struck out here");
                return Err(CommandError::new(ErrorCode::NotFound, message).or_try("msm peers"));
            }
        };
        let strike = self.table().forgive(&found);
        let Some(strike) = strike else {
            return Err(CommandError::new(ErrorCode::NotFound, format!("not-found: {found} is not struck out")));
        };
        self.save().await;
        tracing::info!(peer = found.short(), "strike taken back");
        Ok(StruckRow::of(found, strike))
    }

    /// Writes the table when nobody waits for it: a job does not end later for the disk. What is lost by a crash is that
    /// somebody was right.
    pub fn save_soon(&self) {
        if !self.0.save_waits.swap(true, Ordering::AcqRel) {
            let book = self.clone();
            tokio::spawn(async move { book.save().await });
        }
    }

    /// Writes the table. What cannot be written is said, and tried again with the next change.
    pub async fn save(&self) {
        let _one = self.0.saving.lock().await;
        self.0.save_waits.store(false, Ordering::Release);
        let (path, table) = (self.0.file.clone(), self.table().clone());
        match tokio::task::spawn_blocking(move || file::save(&path, &table)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "trust in workers is not kept"),
            Err(error) => tracing::error!(%error, "trust in workers is not kept"),
        }
    }
}

impl StruckRow {
    /// As people and scripts see it.
    pub fn of(peer: PeerId, strike: Strike) -> Self {
        Self {
            peer_id: peer,
            why: strike.reason(),
            job_id: strike.job,
            task: strike.task,
            service: strike.service,
            claimed: strike.claimed,
            right: strike.right,
            by: strike.by,
            since: strike.time,
            evidence: strike.evidence,
        }
    }
}

#[cfg(test)]
mod tests {
    use msm_protocol::{ContentHash, JobId, SecretKey};

    use super::*;

    #[tokio::test]
    async fn a_receipt_that_comes_after_the_strike_is_kept_as_evidence() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        let peer = |n: u8| PeerId::of(&SecretKey::from_seed(&[n; 32]).public());
        let (job, right) = (JobId::from_bytes([1; 16]), ContentHash::of(b"right"));
        let strike = |task| Strike {
            job,
            task,
            service: "home/blur@1.0.0".into(),
            claimed: ContentHash::of(b"wrong"),
            right,
            by: peer(9),
            time: 7,
            unsigned: true,
            evidence: None,
        };
        let evidence = |task| Evidence {
            v: 1,
            by: peer(9),
            job,
            task,
            time: 7,
            count: 9,
            right,
            others: vec![],
            params: "{}".into(),
            receipt: ByteBuf::new(),
        };
        let book = TrustBook::open(&home);
        for n in 0..=UNPROVEN as u8 {
            assert_eq!(book.strike(peer(n), strike(n.into()), Some(evidence(n.into()))).await.evidence, None);
        }
        let claim = |task, output: &[u8]| Claim {
            job,
            task,
            input: ContentHash::of(b"input"),
            output: ContentHash::of(output),
        };
        let late = |n, claim| book.signed_late(peer(n), &[claim], b"its word");
        // The oldest waits no more; another task, another peer and what is right prove nothing.
        late(0, claim(0, b"wrong"));
        late(1, claim(2, b"wrong"));
        late(2, claim(1, b"wrong"));
        late(3, claim(3, b"right"));
        assert_eq!(book.unproven().len(), UNPROVEN);
        late(5, claim(5, b"wrong"));
        let file = loop {
            if let Some(file) = book.struck().into_iter().find_map(|row| row.evidence) {
                break file;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(book.unproven().len(), UNPROVEN - 1);
        let kept = Evidence::from_slice(&std::fs::read(home.evidence_dir().join(file)).unwrap()).unwrap();
        assert_eq!((kept.task, &kept.receipt[..]), (5, b"its word".as_slice()));
        assert!(!book.why_struck(&peer(5)).unwrap().contains("left before signing"));
    }

    #[tokio::test]
    async fn a_strike_outlives_a_restart_until_it_is_forgiven() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        let peer = |n: u8| PeerId::of(&SecretKey::from_seed(&[n; 32]).public());
        let strike = |task| Strike {
            job: JobId::from_bytes([0x3f; 16]),
            task,
            service: "home/blur@1.0.0".into(),
            claimed: ContentHash::of(b"wrong"),
            right: ContentHash::of(b"right"),
            by: peer(9),
            time: 7,
            unsigned: false,
            evidence: None,
        };
        let book = TrustBook::open(&home);
        book.right(peer(2));
        book.strike(peer(1), strike(7), None).await;
        let again = TrustBook::open(&home);
        assert!(again.is_struck(&peer(1)) && again.of(&peer(1)).struck);
        assert_eq!(again.of(&peer(2)).in_a_row, 1);
        let why = again.why_struck(&peer(1)).unwrap();
        assert!(why.starts_with("struck out: task 7 of job 3f3f: claimed "), "{why}");
        assert!(why.ends_with(&format!("; try: msm peers forgive {}", peer(1))), "{why}");
        assert_eq!(again.struck().len(), 1);

        let unknown = again.forgive(&peer(2).to_string()).await.unwrap_err();
        assert_eq!(unknown.code, ErrorCode::NotFound);
        again.strike(peer(3), strike(8), None).await;
        assert_eq!(again.forgive("").await.unwrap_err().code, ErrorCode::Usage, "several end so");
        assert_eq!(again.forgive(&peer(1).short()).await.unwrap().peer_id, peer(1));
        assert!(!TrustBook::open(&home).is_struck(&peer(1)));
        assert!(TrustBook::open(&home).is_struck(&peer(3)));
    }
}
