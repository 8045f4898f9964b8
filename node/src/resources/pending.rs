//! What was asked for here and refused for want of a grant: a short list for the owner, pure.

use std::collections::VecDeque;

use msm_protocol::{MarketId, PeerId, manifest::Permissions};

use super::{
    denial::PermissionError,
    gate::Service,
    words::{Caller, Kin, Right},
};
use crate::cli::hints;

/// Questions remembered; the oldest is forgotten for the newest. *Judgement.*
const QUESTIONS: usize = 64;
/// Callers remembered for one service and right: a crowd of new names must not push out all other questions.
const CALLERS: usize = 8;

/// One question that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Who vouches for the service.
    pub market: MarketId,
    /// `market/name`, as a command takes it.
    pub reference: String,
    /// Its version.
    pub version: String,
    /// What its manifest asks for.
    pub asked: Permissions,
    /// What it may not use.
    pub right: Right,
    /// Who asked.
    pub peer: PeerId,
    /// What he is to the owner.
    pub kin: Kin,
    /// Why it was refused, in one word.
    pub why: &'static str,
    /// How often.
    pub times: u32,
    /// When last, Unix seconds.
    pub last: u64,
}

impl Question {
    /// The command that says yes.
    pub fn answer(&self) -> String {
        let to = if self.kin == Kin::Own { "own".to_owned() } else { self.peer.to_string() };
        hints::grant(&self.reference, self.right.as_str(), &to)
    }
}

/// Open questions, newest first.
#[derive(Debug, Default)]
pub struct Pending {
    questions: VecDeque<Question>,
}

impl Pending {
    /// Takes down what a grant would have allowed; other refusals are not the owner's to answer here.
    pub fn note(&mut self, service: &Service, caller: &Caller, error: &PermissionError, now: u64) {
        if error.r#try().is_none() {
            return;
        }
        let right = error.subject().right;
        let same = |question: &Question| {
            question.market == service.market
                && question.reference == error.subject().reference
                && question.right == right
        };
        let earlier = self.questions.iter().position(|it| same(it) && it.peer == caller.peer);
        let times = earlier.and_then(|at| self.questions.remove(at)).map_or(0, |it| it.times);
        if self.questions.iter().filter(|it| same(it)).count() >= CALLERS
            && let Some(oldest) = self.questions.iter().rposition(same)
        {
            self.questions.remove(oldest);
        }
        self.questions.truncate(QUESTIONS - 1);
        self.questions.push_front(Question {
            market: service.market,
            reference: error.subject().reference.clone(),
            version: service.version.clone(),
            asked: service.asked.clone(),
            right,
            peer: caller.peer,
            kin: caller.kin,
            why: error.code(),
            times: times.saturating_add(1),
            last: now,
        });
    }

    /// Newest first, without those that `is_answered` says are answered by now.
    pub fn open(&mut self, mut is_answered: impl FnMut(&Question) -> bool) -> Vec<Question> {
        self.questions.retain(|question| !is_answered(question));
        self.questions.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use msm_protocol::SecretKey;

    use super::*;

    fn caller(seed: u8) -> Caller {
        Caller { peer: PeerId::of(&SecretKey::from_seed(&[seed; 32]).public()), kin: Kin::Stranger }
    }

    fn service(name: &str) -> Service {
        let asked = Permissions { gps: Some("coarse".into()), ..Permissions::default() };
        Service {
            market: MarketId::of_first_root(b"home"),
            alias: "home".into(),
            name: name.into(),
            version: "1.0.0".into(),
            asked,
        }
    }

    fn refused(service: &Service) -> PermissionError {
        PermissionError::NotGranted(service.subject(Right::Gps))
    }

    #[test]
    fn the_newest_stand_first_and_repeats_are_counted() {
        let mut pending = Pending::default();
        let (one, two) = (service("one"), service("two"));
        pending.note(&one, &caller(1), &refused(&one), 10);
        pending.note(&two, &caller(1), &refused(&two), 20);
        pending.note(&one, &caller(1), &refused(&one), 30);
        let open = pending.open(|_| false);
        let seen: Vec<_> = open.iter().map(|it| (it.reference.as_str(), it.times, it.last)).collect();
        assert_eq!(seen, [("home/one", 2, 30), ("home/two", 1, 20)]);
        let answer = open[0].answer();
        assert!(answer.ends_with(&format!(" home/one gps --to {}", caller(1).peer)), "{answer}");
        assert_eq!(pending.open(|it| it.reference == "home/one").len(), 1);
        assert_eq!(pending.open(|_| false).len(), 1, "an answered one is gone");
        // What no grant would change is not asked of the owner.
        let closed = PermissionError::Ceiling { subject: one.subject(Right::Gps), setting: "gps = \"off\"".into() };
        pending.note(&one, &caller(1), &closed, 40);
        assert_eq!(pending.open(|_| false).len(), 1);
    }

    #[test]
    fn a_crowd_does_not_push_out_the_others() {
        let mut pending = Pending::default();
        let (wanted, spam) = (service("wanted"), service("spam"));
        pending.note(&wanted, &caller(1), &refused(&wanted), 1);
        for seed in 0..=255 {
            pending.note(&spam, &caller(seed), &refused(&spam), 2);
        }
        let open = pending.open(|_| false);
        assert_eq!(open.len(), 1 + CALLERS);
        assert_eq!(open.last().map(|it| it.reference.as_str()), Some("home/wanted"));
        for n in 0..200 {
            let other = service(&format!("s{n}"));
            pending.note(&other, &caller(1), &refused(&other), 3);
        }
        assert_eq!(pending.open(|_| false).len(), QUESTIONS);
    }
}
