//! How an input becomes tasks and task outputs become one output: the formats that cross the network.
//!
//! # Frames
//! Task inputs (what a split gives) and task outputs (what a merge reads) are sequences of frames: length (u32 LE),
//! then that many bytes; nothing before, between or after. A sequence has at least one frame.
//!
//! # How many
//! Every built-in split cuts its input into *units* that stay together (below) and gives each task a run of
//! neighbouring units: `n = max(want, ceil(bytes / target_bytes))`, at most the number of units, at most
//! [`TASKS_PER_JOB`](msm_protocol::limits::TASKS_PER_JOB), at least 1. Which run is up to who cuts ([`Runs`]), so a
//! service must give the same bytes for any run of whole units as for the units one by one.
//!
//! # `none` ([`Work::Whole`])
//! One frame: the input. The output is the one task's output.
//!
//! # `bytes:SIZE` and `lines:N` ([`Work::Bytes`], [`Work::Lines`])
//! A unit is `SIZE` bytes, or what follows up to and including the `N`-th newline (0x0A); the last unit may be shorter.
//! An empty input is one empty task. The output is the task outputs in order, nothing between them.
//!
//! # `json-array` ([`Work::JsonArray`])
//! The input is one JSON array; a unit is one element. A task input is `[`, its elements' text joined by `,`, `]`;
//! text inside an element is untouched. Each task output is a JSON array; the output is one array of all their
//! elements, written likewise. An output for the whole input is rewritten likewise, so that both are equal.
//!
//! # `image-rows` ([`Work::ImageRows`])
//! The input is a PNG or JPEG. It is decoded to 8-bit RGBA, turned upright by its EXIF orientation. A unit is one row.
//! A task input (a *tile*) is a header of 16 bytes and rows:
//!
//! | at | what |
//! |---|---|
//! | 0 | width in pixels, u32 LE, at least 1 |
//! | 4 | rows that follow, halo included, u32 LE |
//! | 8 | how many of them are halo at the top, u32 LE |
//! | 12 | how many of them are halo at the bottom, u32 LE; top + bottom < rows |
//! | 16 | rows * width * 4 bytes: RGBA, row by row |
//!
//! The halo is `min(halo, rows that the picture has on that side)`. A task output is a header of 8 bytes, width and
//! rows (u32 LE each), and the RGBA of the tile's own rows (rows - top - bottom), without the halo. The guest sees
//! neither header: `run` gets the rows, `ctx.tile = {width, height, top, bottom}`, and returns the own rows. The output
//! is the rows of all tasks one after the other as a PNG (8-bit RGBA, not interlaced, no metadata). For the whole
//! input the guest gets one tile without halo.
//!
//! # `service` ([`Work::Service`])
//! `split(input, ctx)` gives an iterable of byte arrays, one per task, at most `TASKS_PER_JOB`; `merge(parts, ctx)`
//! gets the task outputs in order and gives the output.

pub(crate) mod codec;
pub(crate) mod frames;
pub(crate) mod image_rows;
pub(crate) mod json_array;
pub(crate) mod runs;

#[cfg(doc)]
use crate::call::Work;

/// Why a built-in split or merge refuses its input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkError {
    /// Not what the format above says, or not a picture or array at all.
    #[error("{0}")]
    Bad(String),
    /// Needs more memory than the call's budget.
    #[error("{what} needs {needed} bytes, the limit is {limit}")]
    Memory {
        /// Which thing is too big.
        what: &'static str,
        /// Its bytes.
        needed: u64,
        /// The bytes there are.
        limit: u64,
    },
}

impl WorkError {
    pub(crate) fn bad(text: impl Into<String>) -> Self {
        Self::Bad(text.into())
    }
}

/// Where bytes of an output go as they are made; refuses what is over the call's cap.
pub(crate) trait Sink {
    /// What it says when it takes no more.
    type Error: From<WorkError>;

    /// Takes the next bytes.
    fn put(&mut self, parts: &[&[u8]]) -> Result<(), Self::Error>;
}

/// What a split aims at: how many tasks, and of what sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aim {
    /// Tasks wished for.
    pub want: u32,
    /// Bytes per task aimed at; more tasks than `want` are made to keep to it.
    pub target_bytes: u64,
    /// Tasks that will run at a time. Where there are at least [`ROUNDS`] for each of them, sizes fall.
    pub slots: u32,
}

/// Sizes fall from so many tasks for each slot on. With fewer, a device that is not known yet takes too much with a large
/// one. *Measured* on the simulated job: on devices up to three times as fast as others, the end that some wait for is half
/// as long at 8, and about as long as with equal tasks at 4.
const ROUNDS: u64 = 8;
/// What the first task has more than the mean, and the last one less, in ninths of the mean: from 16/9 to 2/9. Steeper
/// ends no sooner. *Measured* likewise.
const STEEP: u64 = 7;

impl Aim {
    /// Into tasks of the same size, as many as are wished for where there are units enough.
    pub const fn even(want: u32, target_bytes: u64) -> Self {
        Self { want, target_bytes, slots: u32::MAX }
    }

    /// The runs of an input of so many units and bytes.
    pub fn runs(&self, units: u64, bytes: u64) -> Runs {
        let by_size = bytes.div_ceil(self.target_bytes.max(1));
        let most = units.min(msm_protocol::limits::TASKS_PER_JOB as u64).max(1);
        let count = u64::from(self.want).max(by_size).clamp(1, most);
        let falls = count >= ROUNDS * u64::from(self.slots.max(1));
        // None is larger than a task should be for that: what decides the size of large inputs is memory.
        let room = (u128::from(self.target_bytes) * u128::from(count) * 9 / u128::from(bytes.max(1))).saturating_sub(9);
        Runs { count, units, steep: if falls { u64::try_from(room).unwrap_or(STEEP).min(STEEP) } else { 0 } }
    }
}

/// The runs of units that the tasks of one input get, in their order and without gaps. None is empty unless there are no
/// units at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Runs {
    count: u64,
    units: u64,
    steep: u64,
}

impl Runs {
    /// How many.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The units of one task after the other.
    pub fn iter(&self) -> impl Iterator<Item = std::ops::Range<u64>> + use<> {
        let runs = *self;
        (0..runs.count).map(move |index| runs.start(index)..runs.start(index + 1))
    }

    /// Units before task `index`: one for each task, and of the rest what a line gives that falls from `9 + steep` ninths
    /// of the mean to `9 - steep`.
    fn start(&self, index: u64) -> u64 {
        let [at, count, steep] = [index, self.count, self.steep].map(u128::from);
        let rest = u128::from(self.units.saturating_sub(self.count));
        // At most 2^64 * 2^14 * 2^14 * 16.
        let fallen = rest * at * ((9 + steep) * count - steep * at) / (9 * count * count);
        index.min(self.units) + fallen as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tasks_are_as_many_as_asked_and_never_empty() {
        let table = [
            // units, bytes, want, target -> tasks
            (0, 0, 4, 1 << 20, 1),
            (1, 10, 4, 1 << 20, 1),
            (100, 1000, 4, 1 << 20, 4),
            (100, 8 << 20, 4, 1 << 20, 8),
            (100, 8 << 20, 0, 0, 100),
            (1 << 30, 1 << 40, 4, 1 << 20, 16_384),
        ];
        for (units, bytes, want, target_bytes, tasks) in table {
            for slots in [1, 3, u32::MAX] {
                let runs = Aim { want, target_bytes, slots }.runs(units, bytes);
                assert_eq!(runs.count(), tasks, "{units} units of {bytes} bytes, {want} wanted of {target_bytes}");
                let runs: Vec<_> = runs.iter().collect();
                assert_eq!((runs[0].start, runs[runs.len() - 1].end), (0, units));
                assert!(runs.windows(2).all(|two| two[0].end == two[1].start && two[0].start < two[0].end));
            }
        }
    }

    fn sizes(aim: Aim, units: u64, bytes: u64) -> Vec<u64> {
        aim.runs(units, bytes).iter().map(|run| run.end - run.start).collect()
    }

    #[test]
    fn sizes_fall_where_there_are_rounds_enough() {
        let aim = |want, slots| Aim { want, target_bytes: 1 << 20, slots };
        assert_eq!(sizes(aim(8, 1), 728, 1_000), [152, 135, 117, 100, 82, 65, 47, 30]);
        assert_eq!(sizes(aim(8, 1), 16, 1_000), [2, 3, 2, 2, 2, 2, 1, 2], "few units");
        assert_eq!(sizes(aim(8, 1), 8, 1_000), [1; 8], "one for each");
        assert_eq!(sizes(aim(15, 2), 1_500, 1_000), [100; 15], "not enough for each slot");
        assert_eq!(sizes(Aim::even(7, 1 << 20), 16, 1_000), [2, 2, 2, 3, 2, 2, 3]);
        // Where the size is what counts all have it; half-way some of both.
        assert_eq!(sizes(aim(8, 1), 800, 8 << 20), [100; 8]);
        let half = sizes(aim(8, 1), 1_600, 6 << 20);
        assert!(half[0] > 200 && half[0] <= 1_600 / 6 && half[0] + half[7] == 400, "{half:?}");
    }

    proptest! {
        #[test]
        fn runs_are_all_of_the_units(
            units in 0u64..1 << 50, bytes: u64, want: u32, target_bytes: u64, slots in prop_oneof![0u32..64, any::<u32>()],
        ) {
            let runs = Aim { want: want % 20_000, target_bytes, slots }.runs(units, bytes);
            let sizes: Vec<u64> = runs.iter().map(|run| run.end - run.start).collect();
            prop_assert_eq!((sizes.len() as u64, sizes.iter().sum::<u64>()), (runs.count(), units));
            prop_assert!(sizes.iter().all(|size| *size > 0) || units == 0);
            let mean = units as f64 / sizes.len() as f64;
            let most = mean * 16.0 / 9.0 + 2.0;
            // Falling, but for what is cut off to whole units.
            prop_assert!(sizes.windows(2).all(|two| two[1] <= two[0] + 1), "{sizes:?}");
            prop_assert!(sizes[0] as f64 <= most, "{} of {mean}", sizes[0]);
        }
    }
}
