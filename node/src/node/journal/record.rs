//! The records of one job's journal and what they add up to: pure, so that every cut and flip can be tried.
//!
//! A log is a sequence of lines: 16 hex digits (the first 8 bytes of the SHA-256 of the rest), a space, one JSON object,
//! a newline. A line counts when its digits are right. A log that ends in lines that do not count was cut by a crash and
//! is worth what stands before them; one that has a bad line before a good one was damaged, and is worth nothing.

use std::collections::BTreeMap;

use msm_protocol::{ContentHash, JobId, MarketId, PeerId, limits::TASKS_PER_JOB};
use serde::{Deserialize, Serialize};

use crate::command::{CommandError, Invoke, JobReport};

/// Version of this format.
pub const VERSION: u32 = 1;
/// One line. The longest are a plan of 16,384 parts and a report with all its notes. *Judgement.*
pub const LINE_BYTES: usize = 4 * 1024 * 1024;
/// A whole log: a plan, a report, and some lines of 300 bytes for each of 16,384 tasks. *Judgement.*
pub const LOG_BYTES: u64 = 64 * 1024 * 1024;
/// Hex digits before each record.
const DIGITS: usize = 16;

/// Something that happened to a job and must be known after a crash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Record {
    /// What was asked; the first.
    Asked(Box<Asked>),
    /// What runs, and into which parts the job is cut; once, before any result.
    Planned(Box<Planned>),
    /// A task has its output.
    Accepted(Accepted),
    /// An answer was compared with another's.
    Checked {
        task: u32,
        /// Who was checked; absent for this device.
        worker: Option<PeerId>,
        /// Who computed it too; absent for this device.
        by: Option<PeerId>,
        agrees: bool,
    },
    /// A worker lied.
    Struck { worker: Option<PeerId>, task: u32, claimed: ContentHash, right: ContentHash },
    /// The output of this task is void.
    Withdrawn { task: u32 },
    /// A new run of the node goes on with it.
    Resumed {
        /// Unix seconds.
        at: u64,
    },
    /// The job is over; the last.
    Ended(Box<Ended>),
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// [`VERSION`].
    pub v: u32,
    pub job: JobId,
    /// Unix seconds.
    pub at: u64,
    pub invoke: Invoke,
    /// Nobody waits for it at its door.
    pub detached: bool,
    /// The file `input`; absent where the parts are kept instead.
    pub input: Option<Stored>,
}

/// A file of the job's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    pub bytes: u64,
    pub hash: ContentHash,
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// `market/name@version`.
    pub service: String,
    pub market: MarketId,
    pub manifest: ContentHash,
    /// All parameters, as the guest sees them.
    pub params: String,
    /// Bytes of each part; they lie one after the other.
    pub parts: Vec<u64>,
    /// The file `parts`, in which they lie; absent where they are pieces of the file `input`.
    pub kept: Option<Stored>,
}

/// One task's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    pub task: u32,
    /// Absent for this device.
    pub worker: Option<PeerId>,
    /// Where it begins in the file `outputs`.
    pub at: u64,
    #[serde(flatten)]
    pub stored: Stored,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Unix seconds.
    pub at: u64,
    pub report: JobReport,
    /// Why it failed.
    pub error: Option<CommandError>,
    /// The result: pieces of the file `outputs`, as place and length, one after the other; absent where it is the file
    /// `result`.
    pub pieces: Option<Vec<(u64, u64)>>,
    /// The file `result`.
    pub result: Option<Stored>,
}

/// A record as a line of the log; `None` for one that is too long to be read back.
pub fn encode(record: &Record) -> Option<Vec<u8>> {
    let json = serde_json::to_vec(record).ok()?;
    let mut line = Vec::with_capacity(DIGITS + json.len() + 2);
    line.extend_from_slice(digits(&json).as_bytes());
    line.push(b' ');
    line.extend_from_slice(&json);
    line.push(b'\n');
    (line.len() <= LINE_BYTES).then_some(line)
}

fn digits(json: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&ContentHash::of(json).as_bytes()[..DIGITS / 2])
}

fn decode(line: &[u8]) -> Option<Record> {
    let (head, json) = line.split_at_checked(DIGITS + 1)?;
    if line.len() > LINE_BYTES || head != format!("{} ", digits(json)).as_bytes() {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// Why a log is worth nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// A good line stands behind a bad one: this is no cut.
    #[error("damaged at byte {0}, and whole again behind it")]
    Middle(usize),
    /// Records that no job writes.
    #[error("{0}")]
    Order(&'static str),
    /// Written by a version of msm that is not this one's.
    #[error("written in version {0} of the format, not {VERSION}")]
    Version(u32),
}

/// What a log adds up to.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    pub asked: Asked,
    pub planned: Option<Planned>,
    /// The outputs that count, by task.
    pub accepted: BTreeMap<u32, Accepted>,
    /// How often a run of the node went on with it.
    pub resumed: u32,
    pub ended: Option<Ended>,
    /// Bytes of the log up to which it is good.
    pub good: usize,
}

impl Replay {
    /// Whether there is nothing to go on with: it was killed before its input was cut, and that is not kept.
    pub(super) fn is_blank(&self) -> bool {
        !self.asked.detached && self.asked.input.is_none() && self.planned.is_none() && self.ended.is_none()
    }
}

/// Reads a log. `None` when not even its first record is whole: then nobody was ever told that the job is kept.
pub fn replay(log: &[u8]) -> Result<Option<Replay>, Damage> {
    let (mut state, mut at): (Option<Replay>, usize) = (None, 0);
    while let Some(length) = log[at..].iter().position(|byte| *byte == b'\n') {
        let Some(record) = decode(&log[at..at + length]) else { break };
        at += length + 1;
        state = Some(match state {
            Some(state) => state.and(record)?,
            None => Replay::begin(record)?,
        });
    }
    let mut rest = log[at..].split_inclusive(|byte| *byte == b'\n').skip(1);
    if rest.any(|line| line.strip_suffix(b"\n").is_some_and(|line| decode(line).is_some())) {
        return Err(Damage::Middle(at));
    }
    Ok(state.map(|state| Replay { good: at, ..state }))
}

impl Replay {
    fn begin(record: Record) -> Result<Self, Damage> {
        match record {
            Record::Asked(asked) if asked.v != VERSION => Err(Damage::Version(asked.v)),
            Record::Asked(asked) => {
                Ok(Self { asked: *asked, planned: None, accepted: BTreeMap::new(), resumed: 0, ended: None, good: 0 })
            }
            _ => Err(Damage::Order("it does not begin with what was asked")),
        }
    }

    fn and(mut self, record: Record) -> Result<Self, Damage> {
        if self.ended.is_some() {
            return Err(Damage::Order("it goes on after its end"));
        }
        match record {
            Record::Asked(_) => return Err(Damage::Order("it begins twice")),
            Record::Planned(_) if self.planned.is_some() => return Err(Damage::Order("it is planned twice")),
            Record::Planned(planned) if planned.parts.is_empty() || planned.parts.len() > TASKS_PER_JOB => {
                return Err(Damage::Order("its number of tasks is out of bounds"));
            }
            Record::Planned(planned) => self.planned = Some(*planned),
            Record::Accepted(accepted) => {
                if !self.has_task(accepted.task) {
                    return Err(Damage::Order("a result of a task that it does not have"));
                }
                if self.accepted.insert(accepted.task, accepted).is_some() {
                    return Err(Damage::Order("a task has two results"));
                }
            }
            Record::Withdrawn { task } => {
                if self.accepted.remove(&task).is_none() {
                    return Err(Damage::Order("a result is withdrawn that is not there"));
                }
            }
            Record::Resumed { .. } => self.resumed = self.resumed.saturating_add(1),
            Record::Checked { .. } | Record::Struck { .. } => {}
            Record::Ended(ended) => self.ended = Some(*ended),
        }
        Ok(self)
    }

    fn has_task(&self, task: u32) -> bool {
        self.planned.as_ref().is_some_and(|planned| (task as usize) < planned.parts.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cli::samples;

    fn stored(bytes: u64) -> Stored {
        Stored { bytes, hash: ContentHash::of(&bytes.to_le_bytes()) }
    }

    fn accepted(task: u32, worker: Option<PeerId>) -> Record {
        Record::Accepted(Accepted { task, worker, at: u64::from(task) * 10, stored: stored(10) })
    }

    fn asked() -> Record {
        let invoke = Invoke { service: "words".into(), deadline_ms: Some(5), ..Invoke::default() };
        let asked = Asked {
            v: VERSION,
            job: JobId::from_bytes([7; 16]),
            at: 1_800_000_000,
            invoke,
            detached: true,
            input: Some(stored(40)),
        };
        Record::Asked(Box::new(asked))
    }

    fn planned(parts: usize) -> Record {
        Record::Planned(Box::new(Planned {
            service: "home/words@1.0.0".into(),
            market: samples::market().market,
            manifest: ContentHash::of(b"m"),
            params: "{}".into(),
            parts: vec![10; parts],
            kept: None,
        }))
    }

    fn ended() -> Record {
        let report = samples::job();
        Record::Ended(Box::new(Ended { at: 9, report, error: None, pieces: Some(vec![(0, 10)]), result: None }))
    }

    /// A job of four tasks in which one worker lies.
    fn story() -> Vec<Record> {
        let liar = Some(samples::peer());
        let (claimed, right) = (ContentHash::of(b"wrong"), ContentHash::of(b"right"));
        vec![
            asked(),
            planned(4),
            accepted(2, None),
            accepted(0, liar),
            Record::Checked { task: 0, worker: liar, by: None, agrees: false },
            Record::Struck { worker: liar, task: 0, claimed, right },
            Record::Withdrawn { task: 0 },
            Record::Resumed { at: 5 },
            accepted(0, None),
            accepted(1, None),
            accepted(3, None),
            ended(),
        ]
    }

    fn log(records: &[Record]) -> Vec<u8> {
        records.iter().flat_map(|record| encode(record).unwrap()).collect()
    }

    /// The replays of all beginnings of the story, by the number of bytes that they take.
    fn beginnings() -> Vec<(usize, Option<Replay>)> {
        let story = story();
        (0..=story.len())
            .map(|n| {
                let log = log(&story[..n]);
                (log.len(), replay(&log).unwrap())
            })
            .collect()
    }

    #[test]
    fn a_log_adds_up() {
        let replay = replay(&log(&story())).unwrap().unwrap();
        assert_eq!(replay.accepted.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!((replay.accepted[&0].worker, replay.resumed), (None, 1));
        assert_eq!(replay.good, log(&story()).len());
        assert!(replay.ended.is_some() && replay.asked.detached);
        let before = super::replay(&log(&story()[..7])).unwrap().unwrap();
        assert_eq!(before.accepted.keys().copied().collect::<Vec<_>>(), [2]);
    }

    /// B95: whatever a crash leaves of the log, what is read is what was written up to some record.
    #[test]
    fn b95_every_cut_reads_as_a_beginning() {
        let (whole, beginnings) = (log(&story()), beginnings());
        for end in 0..=whole.len() {
            let read = replay(&whole[..end]).unwrap();
            let (good, expected) = beginnings.iter().rev().find(|(length, _)| *length <= end).unwrap();
            assert_eq!(read, *expected, "cut at {end}");
            assert!(read.is_none_or(|read| read.good == *good));
        }
    }

    #[test]
    fn b53_no_flipped_byte_yields_a_record_that_was_not_written() {
        let (whole, beginnings) = (log(&story()), beginnings());
        for at in 0..whole.len() {
            let bit = [0x01, 0x20, 0x80][at % 3];
            let mut flipped = whole.clone();
            flipped[at] ^= bit;
            match replay(&flipped) {
                Ok(read) => assert!(beginnings.iter().any(|(_, known)| *known == read), "bit {bit} at {at}"),
                Err(damage) => assert!(matches!(damage, Damage::Middle(_)), "bit {bit} at {at}: {damage}"),
            }
        }
    }

    #[test]
    fn a_damaged_middle_is_no_cut() {
        let mut bytes = log(&story());
        let second = log(&story()[..1]).len();
        bytes[second + 30] ^= 1;
        assert_eq!(replay(&bytes), Err(Damage::Middle(second)));
        // The same in the last record is a cut.
        let mut bytes = log(&story()[..2]);
        bytes[second + 30] ^= 1;
        assert_eq!(replay(&bytes).unwrap().unwrap().good, second);
    }

    #[test]
    fn what_no_job_writes_is_damage() {
        let table: [(&str, Vec<Record>); 8] = [
            ("begin with", vec![planned(1)]),
            ("begins twice", vec![asked(), asked()]),
            ("planned twice", vec![asked(), planned(1), planned(1)]),
            ("out of bounds", vec![asked(), planned(0)]),
            ("does not have", vec![asked(), planned(2), accepted(2, None)]),
            ("two results", vec![asked(), planned(2), accepted(1, None), accepted(1, None)]),
            ("not there", vec![asked(), planned(2), Record::Withdrawn { task: 1 }]),
            ("after its end", vec![asked(), ended(), Record::Resumed { at: 1 }]),
        ];
        for (expected, records) in table {
            let damage = replay(&log(&records)).unwrap_err().to_string();
            assert!(damage.contains(expected), "{damage}");
        }
    }

    #[test]
    fn a_line_is_bounded() {
        assert!(encode(&planned(TASKS_PER_JOB)).is_some());
        let Record::Planned(mut planned) = planned(1) else { unreachable!() };
        planned.params = "x".repeat(LINE_BYTES);
        assert_eq!(encode(&Record::Planned(planned)), None);
    }

    proptest! {
        #[test]
        fn garbage_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..600), at in 0usize..4000) {
            let _ = replay(&bytes);
            let mut log = log(&story());
            let at = at.min(log.len());
            let end = (at + bytes.len()).min(log.len());
            log.splice(at..end, bytes);
            if let Ok(Some(read)) = replay(&log) {
                prop_assert!(beginnings().iter().any(|(_, known)| known.as_ref() == Some(&read)));
            }
        }
    }
}
