//! Why a task is done again, and who had it before: for people who ask why a job took longer.

use std::collections::HashMap;

use msm_protocol::PeerId;
use msm_scheduler::{Why as Decided, Worker};

use crate::command::{Reruns, Why};

/// What became of attempts, in words; at most one reason for each task and each device of a job.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    failed: HashMap<u32, (PeerId, String)>,
    lost: HashMap<PeerId, String>,
    /// Counts of attempts beyond the first.
    pub(super) reruns: Reruns,
}

/// Who had a task, and what became of that.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Before {
    pub(super) peer: PeerId,
    pub(super) reason: String,
}

impl Attempts {
    /// A task is started as the scheduler `decided`; why, and who had it before.
    pub(super) fn started(&mut self, task: u32, decided: Decided, local: PeerId) -> (Why, Option<Before>) {
        let peer = |worker| if let Worker::Remote(peer) = worker { peer } else { local };
        let before = |peer, reason: &str| Some(Before { peer, reason: reason.to_owned() });
        match decided {
            Decided::Fresh => (Why::Fresh, None),
            Decided::Lost { from } => {
                let from = peer(from);
                match (self.failed.remove(&task), self.lost.get(&from)) {
                    (Some((by, reason)), _) if by == from => {
                        self.reruns.failed += 1;
                        (Why::Failed, before(from, &reason))
                    }
                    (_, reason) => {
                        self.reruns.lost += 1;
                        (Why::Lost, before(from, reason.map_or("it was silent for too long", String::as_str)))
                    }
                }
            }
            Decided::Straggler { slow } => {
                self.reruns.straggler += 1;
                (Why::Straggler, before(peer(slow), "it takes long"))
            }
            Decided::Withdrawn { from } => {
                self.reruns.check += 1;
                (Why::Withdrawn, before(peer(from), "it lied"))
            }
            // Nobody has done wrong, as far as anybody knows.
            Decided::Check { .. } => {
                self.reruns.check += 1;
                (Why::Check, None)
            }
            Decided::Vote => {
                self.reruns.check += 1;
                (Why::Vote, None)
            }
        }
    }

    /// A device has left with all that it had.
    pub(super) fn lost(&mut self, peer: PeerId, reason: &str) {
        self.lost.insert(peer, reason.to_owned());
    }

    /// A device could not do a task.
    pub(super) fn failed(&mut self, task: u32, peer: PeerId, reason: String) {
        self.failed.insert(task, (peer, reason));
    }
}

#[cfg(test)]
mod tests {
    use msm_protocol::SecretKey;

    use super::*;

    #[test]
    fn each_attempt_has_its_reason() {
        let [here, one, two] = [1, 2, 3].map(|n| PeerId::of(&SecretKey::from_seed(&[n; 32]).public()));
        let before = |peer, reason: &str| Some(Before { peer, reason: reason.to_owned() });
        let from = Worker::Remote(one);
        let mut attempts = Attempts::default();
        let started = |attempts: &mut Attempts, task, decided| attempts.started(task, decided, here);
        assert_eq!(started(&mut attempts, 0, Decided::Fresh), (Why::Fresh, None));
        attempts.failed(0, one, "task-crashed: killed".into());
        let failed = (Why::Failed, before(one, "task-crashed: killed"));
        assert_eq!(started(&mut attempts, 0, Decided::Lost { from }), failed);
        // The same task a second time: what was said of the first attempt is no reason for the third.
        attempts.lost(two, "paused by its owner");
        let lost = (Why::Lost, before(two, "paused by its owner"));
        assert_eq!(started(&mut attempts, 0, Decided::Lost { from: Worker::Remote(two) }), lost);
        let silent = (Why::Lost, before(one, "it was silent for too long"));
        assert_eq!(started(&mut attempts, 1, Decided::Lost { from }), silent);
        let slow = Worker::Local;
        assert_eq!(
            started(&mut attempts, 2, Decided::Straggler { slow }),
            (Why::Straggler, before(here, "it takes long"))
        );
        assert_eq!(started(&mut attempts, 2, Decided::Check { of: from }), (Why::Check, None));
        assert_eq!(started(&mut attempts, 2, Decided::Withdrawn { from }).0, Why::Withdrawn);
        assert_eq!(started(&mut attempts, 2, Decided::Vote), (Why::Vote, None));
        assert_eq!(attempts.reruns, Reruns { lost: 2, failed: 1, straggler: 1, check: 3 });
    }
}
