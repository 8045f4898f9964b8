//! How an input becomes tasks and task outputs become one output: the formats that cross the network.
//!
//! # Frames
//! Task inputs (what a split gives) and task outputs (what a merge reads) are sequences of frames: length (u32 LE),
//! then that many bytes; nothing before, between or after. A sequence has at least one frame.
//!
//! # How many
//! Every built-in split cuts its input into *units* that stay together (below) and gives each task a run of
//! neighbouring units: `n = max(want, ceil(bytes / target_bytes))`, at most the number of units, at most
//! [`TASKS_PER_JOB`](msm_protocol::limits::TASKS_PER_JOB), at least 1; task `i` gets the units from `i * units / n` up
//! to, not including, `(i + 1) * units / n`. So a service must give the same bytes for any run of whole units as for
//! the units one by one.
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

/// The number of tasks for an input of so many units and bytes; see the module's text.
pub fn task_count(units: u64, bytes: u64, want: u32, target_bytes: u64) -> u64 {
    let by_size = bytes.div_ceil(target_bytes.max(1));
    let most = units.min(msm_protocol::limits::TASKS_PER_JOB as u64).max(1);
    u64::from(want).max(by_size).clamp(1, most)
}

/// The units of task `index` of `count`.
pub fn units_of(index: u64, count: u64, units: u64) -> std::ops::Range<u64> {
    // units <= 2^40 and count <= 2^14: far from overflow; u128 spares the proof.
    let cut = |i: u64| (u128::from(i) * u128::from(units) / u128::from(count.max(1))) as u64;
    cut(index)..cut(index + 1)
}

#[cfg(test)]
mod tests {
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
        for (units, bytes, want, target, tasks) in table {
            let count = task_count(units, bytes, want, target);
            assert_eq!(count, tasks, "{units} units of {bytes} bytes, {want} wanted of {target}");
            let runs: Vec<_> = (0..count).map(|i| units_of(i, count, units)).collect();
            assert_eq!((runs[0].start, runs[runs.len() - 1].end), (0, units));
            assert!(runs.windows(2).all(|two| two[0].end == two[1].start && two[0].start < two[0].end));
        }
    }
}
