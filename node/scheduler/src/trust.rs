//! How far a worker's word is believed: the share of its results that is computed again.

/// The first results of a worker are all checked.
pub const CHECK_FIRST: u32 = 3;
/// Then this share of them.
pub const CHECK_SHARE: f64 = 0.05;
/// From so many right answers in a row on, one in as many as were right is checked, if that is less.
pub const CHECK_TRUSTED: u32 = 10;
/// No worker is ever checked less than this: who behaved for long may still have been waiting for his moment.
pub const CHECK_SHARE_MIN: f64 = 0.02;

/// From so many times on that it left before it had signed for its results, all of a worker's are checked: a liar that
/// leaves no evidence gains nothing by it. A phone that loses its network stays below, mostly. *Judgement.*
pub const LEFT_UNSIGNED: u32 = 3;
/// Such times remembered: [`CHECK_TRUSTED`] right answers in a row make good for one. *Judgement.*
pub const LEFT_REMEMBERED: u32 = 10;

/// What one worker's checks have shown. The driver keeps it between jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trust {
    /// Right answers since the last wrong one.
    pub in_a_row: u32,
    /// Times that it left before it had signed for its results, at most [`LEFT_REMEMBERED`]. Honest devices crash too.
    pub left: u32,
    /// It gave a wrong result: it gets no tasks.
    pub struck: bool,
}

impl Trust {
    /// The share of this worker's results to check, in `CHECK_SHARE_MIN..=1`.
    pub fn check_share(&self) -> f64 {
        match self.in_a_row {
            _ if self.left >= LEFT_UNSIGNED => 1.0,
            0..CHECK_FIRST => 1.0,
            CHECK_FIRST..CHECK_TRUSTED => CHECK_SHARE,
            many => (1.0 / f64::from(many)).clamp(CHECK_SHARE_MIN, CHECK_SHARE),
        }
    }

    /// A check found its answer right.
    pub fn right(&mut self) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row.is_multiple_of(CHECK_TRUSTED) {
            self.left = self.left.saturating_sub(1);
        }
    }

    /// It left before it had signed for its results.
    pub fn left_unsigned(&mut self) {
        self.left = (self.left + 1).min(LEFT_REMEMBERED);
    }

    /// A check found its answer wrong.
    pub fn wrong(&mut self) {
        *self = Self { in_a_row: 0, struck: true, ..*self };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_falls_with_every_right_answer_and_never_to_nothing() {
        let share = |in_a_row| Trust { in_a_row, ..Trust::default() }.check_share();
        let table = [(0, 1.0), (2, 1.0), (3, 0.05), (9, 0.05), (10, 0.05), (20, 0.05), (25, 0.04), (50, 0.02)];
        for (in_a_row, expected) in table {
            assert!((share(in_a_row) - expected).abs() < 1e-9, "{in_a_row}: {}", share(in_a_row));
        }
        assert!((0..1_000).all(|n| share(n) >= share(n + 1)));
        assert!((share(u32::MAX) - CHECK_SHARE_MIN).abs() < 1e-9);
    }

    #[test]
    fn one_wrong_answer_undoes_all_right_ones() {
        let mut trust = Trust { in_a_row: u32::MAX, ..Trust::default() };
        trust.right();
        assert_eq!(trust.in_a_row, u32::MAX);
        trust.wrong();
        assert_eq!(trust, Trust { struck: true, ..Trust::default() });
    }

    #[test]
    fn who_leaves_unsigned_often_is_checked_always_until_it_was_right_for_long() {
        let mut trust = Trust { in_a_row: 50, ..Trust::default() };
        (1..LEFT_UNSIGNED).for_each(|_| trust.left_unsigned());
        assert!(trust.check_share() < CHECK_SHARE, "now and then costs nothing");
        trust.left_unsigned();
        assert!(trust.check_share() >= 1.0 && !trust.struck);
        (0..CHECK_TRUSTED).for_each(|_| trust.right());
        assert!(trust.check_share() < CHECK_SHARE);
        (0..1_000).for_each(|_| trust.left_unsigned());
        (0..CHECK_TRUSTED * (LEFT_REMEMBERED - LEFT_UNSIGNED)).for_each(|_| trust.right());
        assert!(trust.check_share() >= 1.0);
        (0..CHECK_TRUSTED).for_each(|_| trust.right());
        assert!(trust.check_share() < CHECK_SHARE, "what is remembered is bounded");
    }
}
