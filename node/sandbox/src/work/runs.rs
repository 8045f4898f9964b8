//! `bytes:SIZE` and `lines:N`: cuts between runs of bytes or lines.

use super::{Aim, Sink, frames};

/// Frames of runs of `size` bytes.
pub fn split_bytes<S: Sink>(input: &[u8], size: u64, aim: Aim, out: &mut S) -> Result<(), S::Error> {
    let size = size.max(1);
    let bytes = input.len() as u64;
    for run in aim.runs(bytes.div_ceil(size), bytes).iter() {
        let at = |unit: u64| unit.saturating_mul(size).min(bytes) as usize;
        put(&input[at(run.start)..at(run.end)], out)?;
    }
    Ok(())
}

/// Frames of runs of `n` lines.
pub fn split_lines<S: Sink>(input: &[u8], n: u64, aim: Aim, out: &mut S) -> Result<(), S::Error> {
    let n = n.max(1);
    let newlines = input.iter().filter(|byte| **byte == b'\n').count() as u64;
    let tail = u64::from(input.last().is_some_and(|last| *last != b'\n'));
    let units = (newlines + tail).div_ceil(n);
    let mut rest = input;
    for run in aim.runs(units, input.len() as u64).iter() {
        let lines = (run.end - run.start).saturating_mul(n);
        let end = if run.end == units { rest.len() } else { end_of_line(rest, lines) };
        let (head, tail) = rest.split_at(end);
        put(head, out)?;
        rest = tail;
    }
    Ok(())
}

/// Where the `lines`-th line of `bytes` ends, its newline included.
fn end_of_line(bytes: &[u8], lines: u64) -> usize {
    let Some(skip) = usize::try_from(lines).ok().and_then(|lines| lines.checked_sub(1)) else { return 0 };
    let newlines = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    newlines.map(|(at, _)| at + 1).nth(skip).unwrap_or(bytes.len())
}

fn put<S: Sink>(run: &[u8], out: &mut S) -> Result<(), S::Error> {
    out.put(&[&frames::prefix(run.len())?, run])
}

/// One output of all parts: nothing between them.
pub fn merge<S: Sink>(input: &[u8], out: &mut S) -> Result<(), S::Error> {
    for frame in frames::read(input) {
        out.put(&[frame?])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::frames::tests::*, *};

    fn lines(input: &[u8], n: u64, want: u32) -> Vec<u8> {
        let mut out = Keep::default();
        split_lines(input, n, Aim::even(want, u64::MAX), &mut out).unwrap();
        out.0
    }

    #[test]
    fn lines_are_cut_after_every_nth_newline() {
        type Case = (&'static [u8], u64, u32, &'static [&'static [u8]]);
        let table: &[Case] = &[
            (b"", 1, 3, &[b""]),
            (b"a", 1, 3, &[b"a"]),
            (b"\n", 1, 3, &[b"\n"]),
            (b"a\nb\nc\n", 1, 3, &[b"a\n", b"b\n", b"c\n"]),
            (b"a\nb\nc", 1, 9, &[b"a\n", b"b\n", b"c"]),
            (b"a\nb\nc\nd\ne\n", 2, 9, &[b"a\nb\n", b"c\nd\n", b"e\n"]),
            (b"a\nb\nc\nd\ne\n", 2, 2, &[b"a\nb\n", b"c\nd\ne\n"]),
            (b"a\nb\nc\n", u64::MAX, 9, &[b"a\nb\nc\n"]),
        ];
        for (input, n, want, expected) in table {
            assert_eq!(all(&lines(input, *n, *want)), *expected, "{input:?} by {n}, {want} wanted");
        }
    }

    proptest! {
        #[test]
        fn runs_put_together_are_the_input(
            input in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..2000),
            unit in 1u64..50,
            want in 0u32..40,
            target_bytes in 1u64..500,
            slots in 1u32..20,
        ) {
            let (mut by_bytes, mut by_lines) = (Keep::default(), Keep::default());
            let aim = Aim { want, target_bytes, slots };
            split_bytes(&input, unit, aim, &mut by_bytes)?;
            split_lines(&input, unit, aim, &mut by_lines)?;
            let newlines = |run: &[u8]| run.iter().filter(|byte| **byte == b'\n').count();
            let is_run_of_bytes: &dyn Fn(&[u8]) -> bool = &|run| (run.len() as u64).is_multiple_of(unit);
            let is_run_of_lines: &dyn Fn(&[u8]) -> bool = &|run| (newlines(run) as u64).is_multiple_of(unit);
            for (frames, is_cut) in [(all(&by_bytes.0), is_run_of_bytes), (all(&by_lines.0), is_run_of_lines)] {
                prop_assert_eq!(frames.concat(), input.clone());
                prop_assert!(!frames.is_empty());
                let (_, all_but_last) = frames.split_last().unwrap();
                prop_assert!(all_but_last.iter().all(|run| !run.is_empty() && is_cut(run)));
            }
            let mut merged = Keep::default();
            merge(&by_lines.0, &mut merged)?;
            prop_assert_eq!(merged.0, input);
        }
    }
}
