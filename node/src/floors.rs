//! Trusted versions of markets, kept so that neither a crash, a damaged disk nor a lost store can roll one back.
//!
//! Each market has two copies, `FINGERPRINT.a` and `FINGERPRINT.b`, both written at each save, one after the other.
//! A copy is: `msm-floor 1\n`, sequence number (8 bytes), market id (32), length (4), payload, SHA-256 of all before;
//! numbers big-endian. Of two whole copies the one with the higher number counts. Where copies are there and none is
//! whole, nothing is trusted: the caller must stop using the market, not begin again from zero.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use msm_protocol::{ContentHash, MarketId};

use crate::{
    command::{CommandError, ErrorCode},
    home::{
        FileError,
        files::{self, Secrecy},
    },
};

/// Bytes of one market's payload: a floor and the few envelopes (root chain, index, head) for a start without network.
pub const FLOOR_BYTES: usize = 1024 * 1024;

const MAGIC: &[u8; 12] = b"msm-floor 1\n";
const HEADER_BYTES: usize = MAGIC.len() + 8 + 32 + 4;
const HASH_BYTES: usize = 32;
const FILE_BYTES: u64 = (HEADER_BYTES + FLOOR_BYTES + HASH_BYTES) as u64;
/// The order in which copies are written.
const COPIES: [&str; 2] = ["a", "b"];

/// Why a floor cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FloorError {
    /// Copies are there, and none is whole: what was trusted is not known any more, so nothing is.
    #[error("floor-unreadable: {market}: {why}; what was trusted of it is not known any more")]
    Unreadable {
        /// The market.
        market: MarketId,
        /// The two files. Without them the market is trusted anew, from its fingerprint on.
        copies: Vec<PathBuf>,
        /// What is wrong with each.
        why: String,
    },
    /// More than [`FLOOR_BYTES`].
    #[error("a floor of {0} bytes; at most {FLOOR_BYTES} are kept")]
    TooLarge(usize),
    /// A file or the folder cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<FloorError> for CommandError {
    fn from(error: FloorError) -> Self {
        match error {
            FloorError::Unreadable { ref copies, .. } => {
                let copies: Vec<String> = copies.iter().map(|path| files::quoted(path)).collect();
                let line = format!("rm {}", copies.join(" "));
                Self::new(ErrorCode::Verification, error.to_string()).or_try(line)
            }
            FloorError::File(ref file) => {
                let mut answer = Self::new(ErrorCode::Failed, error.to_string());
                answer.r#try = file.tries();
                answer
            }
            FloorError::TooLarge(_) => Self::new(ErrorCode::Failed, error.to_string()),
        }
    }
}

/// The folder of floors. All calls block on the disk: `save` for a few syncs.
#[derive(Debug)]
pub struct Floors {
    dir: PathBuf,
    /// One save at a time: two would write over each other's copies.
    writing: Mutex<()>,
}

/// What one copy is worth.
#[derive(Debug, PartialEq, Eq)]
enum Copy {
    Missing,
    Damaged(String),
    Whole { sequence: u64, payload: Vec<u8> },
}

impl Copy {
    fn sequence(&self) -> Option<u64> {
        match self {
            Self::Whole { sequence, .. } => Some(*sequence),
            _ => None,
        }
    }
}

impl Floors {
    /// The floors in `dir` ([`crate::home::Home::floors_dir`]), which is made when missing.
    pub fn open(dir: &Path) -> Result<Self, FloorError> {
        files::private_folder(dir)?;
        files::sweep(dir);
        Ok(Self { dir: dir.to_owned(), writing: Mutex::new(()) })
    }

    /// The payload saved last for `market`; `None` when none ever was.
    ///
    /// # Errors
    /// [`FloorError::Unreadable`] when it was saved and cannot be known any more.
    pub fn load(&self, market: MarketId) -> Result<Option<Vec<u8>>, FloorError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let [a, b] = self.copies(market)?;
        let sequences = [a.sequence(), b.sequence()];
        let Some((sequence, payload)) = self.newest(market, a, b)? else { return Ok(None) };
        // A copy that is missing, damaged or older: with one more fault the floor would be lost.
        for (copy, _) in COPIES.iter().zip(sequences).filter(|(_, found)| *found != Some(sequence)) {
            match self.write(market, copy, &encode(market, sequence, &payload)) {
                Ok(()) => tracing::warn!(market = market.short(), copy, "floor repaired from its other copy"),
                Err(error) => tracing::warn!(market = market.short(), copy, %error, "floor has only one good copy"),
            }
        }
        Ok(Some(payload))
    }

    /// Whether [`Self::load`] would succeed; repairs nothing.
    pub fn check(&self, market: MarketId) -> Result<(), FloorError> {
        let [a, b] = self.copies(market)?;
        self.newest(market, a, b).map(drop)
    }

    /// Keeps `payload` for `market`. When it returns, it survives a power cut; when it fails, the floor is the old or
    /// the new one.
    pub fn save(&self, market: MarketId, payload: &[u8]) -> Result<(), FloorError> {
        if payload.len() > FLOOR_BYTES {
            return Err(FloorError::TooLarge(payload.len()));
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let [a, b] = self.copies(market)?;
        let both = a == b;
        let sequence = match self.newest(market, a, b)? {
            Some((_, old)) if both && old == payload => return Ok(()),
            Some((sequence, _)) => sequence + 1,
            None => 1,
        };
        let bytes = encode(market, sequence, payload);
        COPIES.iter().try_for_each(|copy| self.write(market, copy, &bytes))
    }

    /// Forgets what was trusted. Only the owner may ask for it: afterwards an old index of the market is as good as
    /// its newest.
    pub fn forget(&self, market: MarketId) -> Result<(), FloorError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        for copy in COPIES {
            files::remove(&self.path(market, copy))?;
        }
        Ok(())
    }

    fn newest(&self, market: MarketId, a: Copy, b: Copy) -> Result<Option<(u64, Vec<u8>)>, FloorError> {
        let why = |copy: &Copy| match copy {
            Copy::Missing => "missing".to_owned(),
            Copy::Damaged(why) => why.clone(),
            Copy::Whole { .. } => String::new(),
        };
        match (a, b) {
            (Copy::Missing, Copy::Missing) => Ok(None),
            (Copy::Whole { sequence, payload }, other) if other.sequence().is_none_or(|other| other <= sequence) => {
                Ok(Some((sequence, payload)))
            }
            (_, Copy::Whole { sequence, payload }) => Ok(Some((sequence, payload))),
            (a, b) => {
                let copies = COPIES.map(|copy| self.path(market, copy)).to_vec();
                Err(FloorError::Unreadable { market, copies, why: format!("a: {}, b: {}", why(&a), why(&b)) })
            }
        }
    }

    fn copies(&self, market: MarketId) -> Result<[Copy; 2], FloorError> {
        Ok([self.read(market, COPIES[0])?, self.read(market, COPIES[1])?])
    }

    fn read(&self, market: MarketId, copy: &str) -> Result<Copy, FloorError> {
        match files::read(&self.path(market, copy), FILE_BYTES, Secrecy::Plain) {
            Ok(None) => Ok(Copy::Missing),
            Ok(Some(bytes)) => Ok(decode(market, &bytes)),
            // The disk cannot give it back: that is what the other copy is for.
            Err(error @ (FileError::Io { .. } | FileError::TooLarge { .. })) => Ok(Copy::Damaged(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    fn write(&self, market: MarketId, copy: &str, bytes: &[u8]) -> Result<(), FloorError> {
        Ok(files::replace(&self.path(market, copy), bytes)?)
    }

    fn path(&self, market: MarketId, copy: &str) -> PathBuf {
        let text = market.to_string();
        let fingerprint = text.rsplit(':').next().unwrap_or(&text);
        self.dir.join(format!("{fingerprint}.{copy}"))
    }
}

fn encode(market: MarketId, sequence: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len() + HASH_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes.extend_from_slice(market.as_bytes());
    // `save` bounds it far below 4 GiB.
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    bytes.extend_from_slice(payload);
    let hash = ContentHash::of(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    bytes
}

fn decode(market: MarketId, bytes: &[u8]) -> Copy {
    let whole = || {
        let (signed, hash) = bytes.split_last_chunk::<HASH_BYTES>()?;
        let rest = (ContentHash::of(signed).as_bytes() == hash).then_some(signed)?.strip_prefix(MAGIC)?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (id, rest) = rest.split_first_chunk::<32>()?;
        let (len, payload) = rest.split_first_chunk::<4>()?;
        // A whole copy of another market was put here by somebody.
        let right = id == market.as_bytes() && u32::from_be_bytes(*len) as usize == payload.len();
        right.then(|| Copy::Whole { sequence: u64::from_be_bytes(*sequence), payload: payload.to_vec() })
    };
    whole().unwrap_or_else(|| Copy::Damaged(format!("damaged ({} bytes)", bytes.len())))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    const MARKET: MarketId = MarketId::from_bytes([7; 32]);

    fn floors() -> (tempfile::TempDir, Floors) {
        let dir = tempfile::tempdir().unwrap();
        let floors = Floors::open(&dir.path().join("floors")).unwrap();
        (dir, floors)
    }

    fn paths(floors: &Floors) -> [PathBuf; 2] {
        COPIES.map(|copy| floors.path(MARKET, copy))
    }

    #[test]
    fn what_was_saved_last_is_loaded_also_by_the_next_process() {
        let (_dir, floors) = floors();
        assert_eq!(floors.load(MARKET).unwrap(), None);
        for payload in [&b"seven"[..], b"eight", b"eight", b""] {
            floors.save(MARKET, payload).unwrap();
            assert_eq!(Floors::open(&floors.dir).unwrap().load(MARKET).unwrap().as_deref(), Some(payload));
        }
        assert_eq!(floors.load(MarketId::from_bytes([8; 32])).unwrap(), None);
        floors.forget(MARKET).unwrap();
        assert_eq!(floors.load(MARKET).unwrap(), None);
    }

    #[test]
    fn either_copy_may_be_flipped_or_cut_at_every_offset() {
        let (_dir, floors) = floors();
        floors.save(MARKET, b"seven").unwrap();
        floors.save(MARKET, b"eight").unwrap();
        for path in paths(&floors) {
            let good = fs::read(&path).unwrap();
            let flipped = (0..good.len()).flat_map(|at| {
                [0x01, 0x80].map(|bit| {
                    let mut bytes = good.clone();
                    bytes[at] ^= bit;
                    bytes
                })
            });
            let cut = (0..good.len()).map(|len| good[..len].to_vec());
            let longer = [good.iter().copied().chain([0]).collect::<Vec<u8>>()];
            for bad in flipped.chain(cut).chain(longer) {
                fs::write(&path, &bad).unwrap();
                let [a, b] = floors.copies(MARKET).unwrap();
                assert!(matches!(&a, Copy::Damaged(_)) != matches!(&b, Copy::Damaged(_)));
                assert_eq!(floors.newest(MARKET, a, b).unwrap(), Some((2, b"eight".to_vec())));
            }
            // Loading repairs: the other copy may be the next to go.
            for bad in [None, Some(&b""[..]), Some(&good[..50])] {
                match bad {
                    Some(bytes) => fs::write(&path, bytes).unwrap(),
                    None => fs::remove_file(&path).unwrap(),
                }
                assert_eq!(floors.load(MARKET).unwrap().as_deref(), Some(&b"eight"[..]));
                assert_eq!(fs::read(&path).unwrap(), good);
            }
        }
    }

    #[test]
    fn with_no_whole_copy_nothing_is_trusted() {
        let (_dir, floors) = floors();
        floors.save(MARKET, b"eight").unwrap();
        let [a, b] = paths(&floors);
        let good = fs::read(&a).unwrap();
        for (spoil_a, spoil_b) in [(Some(&b"x"[..]), Some(&good[..40])), (None, Some(b"")), (Some(b""), None)] {
            for (path, content) in [(&a, spoil_a), (&b, spoil_b)] {
                match content {
                    Some(content) => fs::write(path, content).unwrap(),
                    None => drop(fs::remove_file(path)),
                }
            }
            let error = floors.load(MARKET).unwrap_err();
            assert!(error.to_string().starts_with("floor-unreadable: msm:market:"), "{error}");
            assert!(matches!(floors.save(MARKET, b"one"), Err(FloorError::Unreadable { .. })));
            assert_eq!(CommandError::from(error).code, ErrorCode::Verification);
        }
    }

    #[test]
    fn a_copy_of_another_market_is_no_floor() {
        let (_dir, floors) = floors();
        let other = MarketId::from_bytes([8; 32]);
        floors.save(other, b"one").unwrap();
        floors.save(MARKET, b"eight").unwrap();
        for copy in COPIES {
            fs::copy(floors.path(other, copy), floors.path(MARKET, copy)).unwrap();
        }
        assert!(matches!(floors.load(MARKET), Err(FloorError::Unreadable { .. })));
    }

    /// Every state of the folder in which a kill during `save(new)` can leave it, and what is loaded then.
    #[test]
    fn a_kill_between_any_two_steps_leaves_the_old_or_the_new_floor() {
        let (old, new) = (encode(MARKET, 4, b"old"), encode(MARKET, 5, b"new"));
        let half = &new[..new.len() / 2];
        /// What happened last, both copies, what lies beside one, and the floor then.
        type State<'a> = (&'a str, &'a [u8], &'a [u8], Option<(&'a str, &'a [u8])>, &'a [u8]);
        let states: [State<'_>; 7] = [
            ("before", &old, &old, None, b"old"),
            ("a half written beside", &old, &old, Some(("a", half)), b"old"),
            ("a written beside", &old, &old, Some(("a", &new)), b"old"),
            ("a renamed", &new, &old, None, b"new"),
            ("b written beside", &new, &old, Some(("b", &new)), b"new"),
            ("b renamed", &new, &new, None, b"new"),
            // Not by a kill: somebody put an old copy back.
            ("an old a", &old, &new, None, b"new"),
        ];
        for (state, a, b, beside, expected) in states {
            let (_dir, floors) = floors();
            let [a_path, b_path] = paths(&floors);
            fs::write(&a_path, a).unwrap();
            fs::write(&b_path, b).unwrap();
            if let Some((copy, bytes)) = beside {
                fs::write(
                    floors.dir.join(format!("{}.tmp-2147483647-dead", floors.path(MARKET, copy).display())),
                    bytes,
                )
                .unwrap();
            }
            let floors = Floors::open(&floors.dir).unwrap();
            assert_eq!(floors.load(MARKET).unwrap().as_deref(), Some(expected), "{state}");
            assert_eq!(fs::read_dir(&floors.dir).unwrap().count(), 2, "{state}: nothing is left behind");
            // The next save wins over whatever was there.
            floors.save(MARKET, b"next").unwrap();
            assert_eq!(floors.load(MARKET).unwrap().as_deref(), Some(&b"next"[..]), "{state}");
        }
    }

    #[test]
    fn b56_links_are_refused() {
        let (dir, floors) = floors();
        floors.save(MARKET, b"eight").unwrap();
        let elsewhere = dir.path().join("elsewhere");
        for path in paths(&floors) {
            fs::rename(&path, &elsewhere).unwrap();
            symlink(&elsewhere, &path).unwrap();
            assert!(matches!(floors.load(MARKET), Err(FloorError::File(FileError::Symlink { .. }))));
            assert!(matches!(floors.save(MARKET, b"x"), Err(FloorError::File(FileError::Symlink { .. }))));
            fs::rename(&elsewhere, &path).unwrap();
        }
        let link = dir.path().join("link");
        symlink("/etc", &link).unwrap();
        assert!(matches!(Floors::open(&link), Err(FloorError::File(FileError::Symlink { .. }))));
    }

    #[test]
    fn floors_are_bounded() {
        let (_dir, floors) = floors();
        floors.save(MARKET, &vec![1; FLOOR_BYTES]).unwrap();
        assert_eq!(floors.load(MARKET).unwrap().map(|payload| payload.len()), Some(FLOOR_BYTES));
        assert!(matches!(floors.save(MARKET, &vec![1; FLOOR_BYTES + 1]), Err(FloorError::TooLarge(_))));
    }
}
