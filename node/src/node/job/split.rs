//! Cutting a job's input into the inputs of its tasks: here, or on a worker that has what it takes.

use bytes::Bytes;
use msm_protocol::{
    device::DeviceInfo,
    job::TaskOp,
    limits::{TASK_BYTES, TASK_TARGET_BYTES, TASKS_PER_JOB},
};
use msm_sandbox::Op;
use msm_scheduler::DeviceWish;

use super::{Invocation, Resolved, Round, discover};
use crate::command::{CommandError, ErrorCode};

/// Devices that may take the one task of a remote split: the best, and two in case it cannot. *Judgement.*
const SPLITTERS: u32 = 3;

impl Invocation {
    /// Cuts the input in a sandbox of this device: a hostile picture must not meet the node's own process.
    pub(super) async fn split_here(&self, resolved: &Resolved, want: u32) -> Result<Vec<Bytes>, CommandError> {
        let op = Op::Split { want, target_bytes: TASK_TARGET_BYTES as u64 };
        inputs_of(&self.call_here(resolved, op, self.input.clone()).await?)
    }

    /// Has the best device that fits cut the input, as a job of one task: the service needs what this device may lack.
    pub(super) async fn split_elsewhere(
        &mut self,
        resolved: &Resolved,
        own: &DeviceInfo,
        found: &[discover::Found],
        want: u32,
    ) -> Result<Vec<Bytes>, CommandError> {
        if self.input.len() > TASK_BYTES {
            let message = format!("bad-input: {} bytes, one worker takes at most {TASK_BYTES}", self.input.len());
            return Err(CommandError::new(ErrorCode::Usage, message));
        }
        let wish = DeviceWish { min: 1, max: SPLITTERS, auto: false };
        let selection = self.select(resolved, own, found, wish, 1, self.input.len() as u64);
        self.enough_devices(resolved, &selection)?;
        let round = Round { op: TaskOp::Split, inputs: vec![self.input.clone()], count: want };
        let outputs = self.drive(resolved, &selection, found, round).await?;
        let report = &mut self.record.report;
        if let Some(splitter) = report.devices.iter().find(|device| device.tasks > 0) {
            report.notes.push(format!("{} cut the input into parts", splitter.name));
        }
        let frames = outputs.first().ok_or_else(|| CommandError::new(ErrorCode::Failed, "nobody cut the input"))?;
        inputs_of(frames)
    }
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

    #[test]
    fn a_split_that_is_out_of_bounds_is_refused() {
        let many = vec![Bytes::new(); TASKS_PER_JOB + 1];
        let big = vec![Bytes::from(vec![0; TASK_BYTES + 1])];
        for (parts, why) in [(vec![], "no parts"), (many, "1025 tasks"), (big, "8388609 bytes")] {
            let error = inputs_of(&frame(&parts)).unwrap_err();
            assert!(error.message.contains(why), "{error}");
        }
        assert!(inputs_of(&Bytes::from_static(b"xyz")).is_err());
        assert_eq!(inputs_of(&frame(&[Bytes::from_static(b"a")])).unwrap(), [Bytes::from_static(b"a")]);
    }
}
