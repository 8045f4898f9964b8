//! Cutting a job's input into the inputs of its tasks: here, or on a worker that has what it takes.

use std::io;

use bytes::Bytes;
use msm_protocol::{
    device::DeviceInfo,
    job::TaskOp,
    limits::{TASK_BYTES, TASKS_PER_JOB},
};
use msm_sandbox::{Aim, Op, Work};
use msm_scheduler::DeviceWish;

use super::{Invocation, Resolved, Round, choose::Cut, discover, hiring::Hiring};
use crate::{
    blob::Blob,
    command::{CommandError, ErrorCode},
};

/// Devices that may take the one task of a remote split: the best, and two in case it cannot. *Judgement.*
const SPLITTERS: u32 = 3;
/// Bytes of an input looked at in one go.
const SCANNED: usize = 1024 * 1024;

impl Invocation {
    /// Cuts the input: where parts are pieces of it, here and without copying; otherwise in a sandbox of this device,
    /// since a hostile picture must not meet the node's own process.
    pub(super) async fn split_here(&self, resolved: &Resolved, aim: Aim) -> Result<Vec<Blob>, CommandError> {
        let work = resolved.installed.package(&resolved.params).work;
        if let Some(lengths) = lengths(&self.input, work, aim).await.map_err(unread)? {
            return pieces(&self.input, &lengths);
        }
        let input = self.input.whole().await.map_err(unread)?;
        Ok(blobs(inputs_of(&self.call_here(resolved, Op::Split(aim), input).await?)?))
    }

    /// Has the best device that fits cut the input, as a job of one task: the service needs what this device may lack.
    pub(super) async fn split_elsewhere(
        &mut self,
        resolved: &Resolved,
        own: &DeviceInfo,
        found: &[discover::Found],
        want: u32,
    ) -> Result<Vec<Blob>, CommandError> {
        if self.input.len() > TASK_BYTES as u64 {
            let message = format!("bad-input: {} bytes, one worker takes at most {TASK_BYTES}", self.input.len());
            return Err(CommandError::new(ErrorCode::Usage, message));
        }
        let wish = DeviceWish { min: 1, max: SPLITTERS, auto: false };
        let input = std::slice::from_ref(&self.input);
        let choice = self.choice(resolved, own, wish, Cut::Parts(input));
        let selection = choice.select(found);
        self.enough_devices(resolved, &selection, found)?;
        let mut hiring = Hiring::new(&self.ctx, choice, &selection, found, vec![self.input.len()], None);
        let round = Round { op: TaskOp::Split, inputs: vec![self.input.clone()], count: want };
        let outputs = self.drive(resolved, &mut hiring, round).await?;
        let report = &mut self.record.report;
        if let Some(splitter) = report.devices.iter().find(|device| device.tasks > 0) {
            report.notes.push(format!("{} cut the input into parts", splitter.name));
        }
        let frames = outputs.first().ok_or_else(|| CommandError::new(ErrorCode::Failed, "nobody cut the input"))?;
        Ok(blobs(inputs_of(&frames.whole().await.map_err(unread)?)?))
    }
}

fn blobs(parts: Vec<Bytes>) -> Vec<Blob> {
    parts.into_iter().map(Blob::from).collect()
}

/// A job's bytes are not where they were.
pub(super) fn unread(error: io::Error) -> CommandError {
    CommandError::new(ErrorCode::Failed, format!("the job's bytes cannot be read: {error}"))
}

/// The consecutive pieces of `input` that have these lengths.
pub(super) fn pieces(input: &Blob, lengths: &[u64]) -> Result<Vec<Blob>, CommandError> {
    if let Some(big) = lengths.iter().find(|length| **length > TASK_BYTES as u64) {
        let message = format!("bad-input: a task of {big} bytes is over {TASK_BYTES}; what stays together is too long");
        return Err(CommandError::new(ErrorCode::Usage, message));
    }
    let mut at = 0;
    let piece = |length: &u64| {
        let piece = input.slice(at, *length);
        at += length;
        piece
    };
    Ok(lengths.iter().map(piece).collect())
}

/// The lengths of the parts where they are pieces of the input, cut as `msm_sandbox::work` says; `None` for other works.
async fn lengths(input: &Blob, work: Work, aim: Aim) -> io::Result<Option<Vec<u64>>> {
    let bytes = input.len();
    match work {
        Work::Whole => Ok(Some(vec![bytes])),
        Work::Bytes { size } => {
            let size = size.max(1);
            let at = |unit: u64| unit.saturating_mul(size).min(bytes);
            let runs = aim.runs(bytes.div_ceil(size), bytes);
            Ok(Some(runs.iter().map(|run| at(run.end) - at(run.start)).collect()))
        }
        Work::Lines { n } => {
            let n = n.max(1);
            let (mut newlines, mut last) = (0, b'\n');
            scan(input, |piece, _| {
                newlines += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
                last = piece.last().copied().unwrap_or(last);
            })
            .await?;
            let units = (newlines + u64::from(last != b'\n')).div_ceil(n);
            let runs = aim.runs(units, bytes);
            // Each part but the last ends with the last line of its last unit.
            let mut ends = runs.iter().filter(|run| run.end < units).map(|run| run.end.saturating_mul(n));
            let (mut lengths, mut start, mut line, mut end) = (Vec::new(), 0, 0, ends.next());
            scan(input, |piece, at| {
                for (offset, _) in piece.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
                    line += 1;
                    if end == Some(line) {
                        let cut = at + offset as u64 + 1;
                        lengths.push(cut - start);
                        (start, end) = (cut, ends.next());
                    }
                }
            })
            .await?;
            lengths.push(bytes - start);
            Ok(Some(lengths))
        }
        _ => Ok(None),
    }
}

/// Shows all of `input`, piece by piece with the place of each.
async fn scan(input: &Blob, mut see: impl FnMut(&[u8], u64)) -> io::Result<()> {
    let mut at = 0;
    while at < input.len() {
        let piece = input.read(at, SCANNED).await?;
        see(&piece, at);
        at += piece.len() as u64;
        // Counting a large input takes a while: others have their turn.
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// The inputs in a split's output, held to the bounds of a job.
pub(crate) fn inputs_of(frames: &Bytes) -> Result<Vec<Bytes>, CommandError> {
    let failed = |message: String| Err(CommandError::new(ErrorCode::Failed, message));
    let Some(inputs) = unframe(frames) else { return failed("the split is malformed".into()) };
    if inputs.is_empty() {
        return failed("the split gave no parts".into());
    }
    if inputs.len() > TASKS_PER_JOB {
        return failed(format!("{} tasks, at most {TASKS_PER_JOB} are allowed in one job", inputs.len()));
    }
    if let Some(big) = inputs.iter().find(|input| input.len() > TASK_BYTES) {
        return failed(format!("a task of {} bytes is over {TASK_BYTES}", big.len()));
    }
    Ok(inputs)
}

/// Frames as splits and merges carry them: u32 LE length and bytes, repeated.
pub(crate) fn frame(parts: &[Bytes]) -> Bytes {
    let mut framed = Vec::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
    for part in parts {
        framed.extend_from_slice(&(part.len() as u32).to_le_bytes());
        framed.extend_from_slice(part);
    }
    framed.into()
}

fn unframe(framed: &Bytes) -> Option<Vec<Bytes>> {
    let (mut parts, mut at) = (Vec::new(), 0);
    while at < framed.len() && parts.len() <= TASKS_PER_JOB {
        let length = u32::from_le_bytes(framed.get(at..at + 4)?.try_into().ok()?) as usize;
        let end = (at + 4).checked_add(length).filter(|end| *end <= framed.len())?;
        parts.push(framed.slice(at + 4..end));
        at = end;
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_back_and_broken_ones_do_not() {
        let parts = vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"c")];
        let framed = frame(&parts);
        assert_eq!(unframe(&framed), Some(parts));
        assert_eq!(unframe(&Bytes::new()), Some(vec![]));
        for end in 1..framed.len() {
            let cut = framed.slice(..end);
            assert!(unframe(&cut).is_none_or(|parts| parts.len() < 3), "{end}");
        }
        assert_eq!(unframe(&Bytes::from_static(&[255, 255, 255, 255, 0])), None);
    }

    #[tokio::test]
    async fn parts_that_are_pieces_of_the_input_are_cut_as_the_format_says() {
        type Case = (Work, u32, &'static str, &'static [&'static str]);
        let table: [Case; 12] = [
            (Work::Whole, 4, "abc", &["abc"]),
            (Work::Bytes { size: 2 }, 9, "abcde", &["ab", "cd", "e"]),
            (Work::Bytes { size: 2 }, 2, "abcde", &["ab", "cde"]),
            (Work::Bytes { size: 2 }, 3, "", &[""]),
            (Work::Lines { n: 1 }, 3, "", &[""]),
            (Work::Lines { n: 1 }, 3, "a", &["a"]),
            (Work::Lines { n: 1 }, 3, "\n", &["\n"]),
            (Work::Lines { n: 1 }, 9, "a\nb\nc", &["a\n", "b\n", "c"]),
            (Work::Lines { n: 2 }, 9, "a\nb\nc\nd\ne\n", &["a\nb\n", "c\nd\n", "e\n"]),
            (Work::Lines { n: 2 }, 2, "a\nb\nc\nd\ne\n", &["a\nb\n", "c\nd\ne\n"]),
            (Work::Lines { n: 3 }, 2, "\n\n\n\n", &["\n\n\n", "\n"]),
            (Work::Lines { n: u64::MAX }, 9, "a\nb\n", &["a\nb\n"]),
        ];
        for (work, want, input, expected) in table {
            let input = Blob::from(input);
            let cut = pieces(&input, &lengths(&input, work, Aim::even(want, 1 << 20)).await.unwrap().unwrap()).unwrap();
            let cut: Vec<_> = cut.iter().map(|piece| piece.in_memory().unwrap().clone()).collect();
            assert_eq!(cut, expected, "{work:?} {want}");
        }
        assert_eq!(lengths(&Blob::from("[]"), Work::JsonArray, Aim::even(3, 1)).await.unwrap(), None);
        let error = pieces(&Blob::default(), &[TASK_BYTES as u64 + 1]).unwrap_err();
        assert!(error.message.starts_with("bad-input: a task of 8388609 bytes"), "{error}");
    }

    /// Lines that lie across the pieces in which an input is looked at.
    #[tokio::test]
    async fn a_large_input_is_cut_where_its_lines_end() {
        let text: String = (0..200_000).map(|n| format!("{n} {}\n", "x".repeat(n % 17))).collect();
        let input = Blob::from(text.clone());
        assert!(input.len() > 2 * SCANNED as u64);
        for slots in [1, u32::MAX] {
            let aim = Aim { want: 50, target_bytes: 1 << 20, slots };
            let lengths = lengths(&input, Work::Lines { n: 7 }, aim).await.unwrap().unwrap();
            assert_eq!((lengths.len(), lengths.iter().sum::<u64>()), (50, input.len()));
            assert_eq!(lengths[0] > 5 * lengths[49], slots == 1, "{lengths:?}");
            for (index, piece) in pieces(&input, &lengths).unwrap().iter().enumerate() {
                let bytes = piece.whole().await.unwrap();
                let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
                assert!(bytes.ends_with(b"\n") && (index == 49 || lines.is_multiple_of(7)), "{index}");
            }
        }
    }

    #[test]
    fn a_split_that_is_out_of_bounds_is_refused() {
        let many = vec![Bytes::new(); TASKS_PER_JOB + 1];
        let big = vec![Bytes::from(vec![0; TASK_BYTES + 1])];
        for (parts, why) in [(vec![], "no parts"), (many, "16385 tasks"), (big, "8388609 bytes")] {
            let error = inputs_of(&frame(&parts)).unwrap_err();
            assert!(error.message.contains(why), "{error}");
        }
        assert!(inputs_of(&Bytes::from_static(b"xyz")).is_err());
        assert_eq!(inputs_of(&frame(&[Bytes::from_static(b"a")])).unwrap(), [Bytes::from_static(b"a")]);
    }
}
