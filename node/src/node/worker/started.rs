//! The tasks of a lane that were started: quick ones in groups that a guest takes one after the other. Pure.

use std::{collections::HashMap, time::Duration};

use futures::future::AbortHandle;
use msm_sandbox::Stint;

/// A group is to hold its slot for about so long: others who wait for the slot do not notice. *Judgement.*
pub const GROUP_TIME: Duration = Duration::from_millis(1);
/// What a group may take at most: one whose tasks are not as quick as those before gives its slot back then, and what it
/// has not done is done again, each task by itself. The outputs that it holds are bounded by one of the largest and this.
/// *Judgement: much longer than a machine that is busy lets a quick task wait.*
pub const GROUP_STINT: Stint = Stint { time: Duration::from_millis(50), output: 1 << 20 };
/// Tasks of a group at most: a sixteenth of what it costs to wake each other is little beside a task. *Judgement.*
const GROUP_MOST: usize = 16;
/// A longer input is worth a turn of its own.
pub const GROUP_INPUT: usize = 4 * 1024;

/// What was started and has not ended.
#[derive(Default)]
pub struct Started {
    tasks: HashMap<u64, Task>,
    groups: HashMap<u64, Group>,
    next: u64,
    /// Smoothed time of one task; none has ended yet when there is none.
    pace: Option<Duration>,
}

struct Task {
    slot: u32,
    group: u64,
}

struct Group {
    stop: AbortHandle,
    /// Tasks whose result is still wanted.
    left: usize,
}

impl Started {
    /// Groups that have a slot or wait for one.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Tasks in them.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Their ids.
    pub fn ids(&self) -> impl Iterator<Item = u64> {
        self.tasks.keys().copied()
    }

    /// How many of so many `waiting` tasks are started together, on a device of so many slots: one until it is known that
    /// they are quick, and no slot is left idle for it.
    pub fn together(&self, waiting: usize, slots: usize) -> usize {
        let Some(pace) = self.pace else { return 1 };
        let quick = GROUP_TIME.as_nanos() / pace.as_nanos().max(1);
        let quick = usize::try_from(quick).unwrap_or(GROUP_MOST).min(GROUP_MOST);
        quick.min(waiting.div_ceil(slots.max(1))).max(1)
    }

    /// A group was started: the id and slot of each of its tasks.
    pub fn start(&mut self, stop: AbortHandle, tasks: impl Iterator<Item = (u64, u32)>) {
        self.next += 1;
        let group = self.next;
        let before = self.tasks.len();
        self.tasks.extend(tasks.map(|(id, slot)| (id, Task { slot, group })));
        self.groups.insert(group, Group { stop, left: self.tasks.len() - before });
    }

    /// A task has ended after `took`; whether anybody wants its result.
    pub fn ended(&mut self, id: u64, took: Duration) -> bool {
        self.pace = Some(self.pace.map_or(took, |pace| (pace * 7 + took) / 8));
        let Some(task) = self.tasks.remove(&id) else { return false };
        if let Some(group) = self.groups.get_mut(&task.group) {
            group.left = group.left.saturating_sub(1);
            if group.left == 0 {
                self.groups.remove(&task.group);
            }
        }
        true
    }

    /// Nobody wants these any more (by id and slot). A group of which nothing is wanted is stopped; others go on to the end
    /// of their stint.
    pub fn forget(&mut self, unwanted: impl Fn(u64, u32) -> bool) {
        let groups = &mut self.groups;
        self.tasks.retain(|id, task| {
            let keep = !unwanted(*id, task.slot);
            if let Some(group) = groups.get_mut(&task.group).filter(|_| !keep) {
                group.left = group.left.saturating_sub(1);
                if group.left == 0 {
                    group.stop.abort();
                    groups.remove(&task.group);
                }
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_micros(50);

    fn stop() -> AbortHandle {
        AbortHandle::new_pair().0
    }

    #[test]
    fn only_quick_tasks_go_together_and_leave_no_slot_idle() {
        let mut started = Started::default();
        assert_eq!(started.together(100, 1), 1, "nothing is known");
        started.ended(0, QUICK);
        assert_eq!(
            (started.together(100, 1), started.together(100, 4), started.together(6, 4)),
            (GROUP_MOST, GROUP_MOST, 2)
        );
        assert_eq!((started.together(1, 1), started.together(0, 1)), (1, 1));
        for _ in 0..100 {
            started.ended(0, GROUP_TIME);
        }
        assert_eq!(started.together(100, 1), 1);
    }

    #[test]
    fn a_group_is_stopped_when_nothing_of_it_is_wanted() {
        let (mut started, first, second) = (Started::default(), stop(), stop());
        started.start(first.clone(), [(1, 0), (2, 1)].into_iter());
        started.start(second.clone(), [(3, 1)].into_iter());
        started.forget(|_, slot| slot == 1);
        assert!(!first.is_aborted() && second.is_aborted());
        assert_eq!((started.groups(), started.tasks()), (1, 1));
        assert!(started.ended(1, QUICK) && !started.ended(2, QUICK), "the second is nobody's");
        assert_eq!((started.groups(), started.tasks()), (0, 0));
        started.start(first.clone(), [(4, 0), (5, 0)].into_iter());
        assert!(started.ended(4, QUICK));
        started.forget(|id, _| id == 5);
        assert!(first.is_aborted() && started.groups() == 0);
    }
}
