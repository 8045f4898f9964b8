//! The hash of a result that is its tasks' outputs one after the other, taken while they arrive.

use std::io;

use msm_protocol::{ContentHash, hash::Hasher};

use crate::blob::Blob;

/// Bytes hashed at a time.
const HASHED: usize = 1024 * 1024;
/// Bytes after which [`Prefix::follow`] hashes no further output, so that its job's driver is not kept from other things
/// for long: two of the largest, and so what came late is caught up with.
const AT_ONCE: u64 = 2 * msm_protocol::limits::TASK_BYTES as u64;

/// The hash of the outputs before the first that is missing.
#[derive(Default)]
pub(super) struct Prefix {
    hasher: Hasher,
    /// Outputs that are in it.
    count: usize,
}

impl Prefix {
    /// Goes on as far as outputs are there, but not for long. After an error it is at the beginning again.
    pub(super) async fn follow(&mut self, outputs: &[Option<Blob>]) -> io::Result<()> {
        let mut hashed = 0;
        while let Some(Some(output)) = outputs.get(self.count).filter(|_| hashed < AT_ONCE) {
            self.add(output).await.inspect_err(|_| *self = Self::default())?;
            hashed += output.len();
        }
        Ok(())
    }

    /// An output is thrown away: what was hashed with it is hashed again.
    pub(super) fn without(&mut self, task: u32) {
        if (task as usize) < self.count {
            *self = Self::default();
        }
    }

    /// The hash of all `pieces`, which begin with the outputs that were followed.
    pub(super) async fn finish(mut self, pieces: &[Blob]) -> io::Result<ContentHash> {
        while let Some(piece) = pieces.get(self.count) {
            self.add(piece).await?;
        }
        Ok(self.hasher.finish())
    }

    async fn add(&mut self, piece: &Blob) -> io::Result<()> {
        let mut at = 0;
        while at < piece.len() {
            let bytes = piece.read(at, HASHED).await?;
            self.hasher.update(&bytes);
            at += bytes.len() as u64;
            // Hashing a large one takes a while: others have their turn.
            tokio::task::yield_now().await;
        }
        self.count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A job that goes on after a crash has many outputs at once, in a file.
    #[tokio::test]
    async fn much_at_once_is_hashed_little_by_little() {
        let bytes: Vec<u8> = (0..AT_ONCE * 2).map(|at| (at / 1_000) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let file = Blob::of_file(file).unwrap();
        let pieces: Vec<Blob> = (0..32).map(|at| file.slice(at * AT_ONCE / 16, AT_ONCE / 16)).collect();
        let outputs: Vec<Option<Blob>> = pieces.iter().cloned().map(Some).collect();
        let mut prefix = Prefix::default();
        for expected in [16, 32, 32] {
            prefix.follow(&outputs).await.unwrap();
            assert_eq!(prefix.count, expected);
        }
        assert_eq!(prefix.finish(&pieces).await.unwrap(), ContentHash::of(&bytes));
    }

    #[tokio::test]
    async fn it_is_the_hash_of_all_outputs_in_whatever_order_they_come() {
        let texts: Vec<String> = (0..5).map(|n| format!("{n}").repeat(n * 700_000)).collect();
        let all: Vec<Blob> = texts.iter().map(|text| Blob::from(text.clone())).collect();
        let expected = ContentHash::of(texts.concat().as_bytes());
        for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]] {
            for withdrawn in 0..5 {
                let (mut prefix, mut outputs) = (Prefix::default(), vec![None; 5]);
                for task in order {
                    outputs[task] = Some(if task == withdrawn { Blob::from("a lie") } else { all[task].clone() });
                    prefix.follow(&outputs).await.unwrap();
                }
                outputs[withdrawn] = None;
                prefix.without(withdrawn as u32);
                prefix.follow(&outputs).await.unwrap();
                assert!(prefix.count <= withdrawn);
                assert_eq!(prefix.finish(&all).await.unwrap(), expected, "{order:?} without {withdrawn}");
            }
        }
    }
}
