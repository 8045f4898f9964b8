//! The size of a picture's tile, read from the headers of task inputs and outputs (`image-rows`).

use bytes::Bytes;

use crate::blob::Blob;

/// Bytes of one RGBA pixel.
const PIXEL: u64 = 4;

/// Width and rows of what one task has to give back: its tile without the neighbouring rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Core {
    width: u32,
    rows: u32,
}

impl Core {
    /// From a task input: width, rows, rows above, rows below, each u32 LE, then pixels.
    pub async fn of_input(input: &Blob) -> Option<Self> {
        Self::of_header(&input.read(0, 16).await.ok()?)
    }

    fn of_header(input: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(input.get(at..at + 4)?.try_into().ok()?));
        let (width, rows, above, below) = (word(0)?, word(4)?, word(8)?, word(12)?);
        Some(Self { width, rows: rows.checked_sub(above)?.checked_sub(below)? })
    }

    fn header(self) -> [u8; 8] {
        let mut header = [0; 8];
        header[..4].copy_from_slice(&self.width.to_le_bytes());
        header[4..].copy_from_slice(&self.rows.to_le_bytes());
        header
    }

    fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.rows) * PIXEL
    }

    /// Whether `output` (width and rows, then pixels) has this size.
    pub async fn fits(self, output: &Blob) -> bool {
        output.len() == 8 + self.pixels() && output.read(0, 8).await.is_ok_and(|header| *header == self.header())
    }

    /// An output of this size that shows nothing.
    pub fn blank(self) -> Bytes {
        let mut output = self.header().to_vec();
        output.resize(8 + self.pixels() as usize, 0);
        output.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_tiles_own_size_fits() {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let core = Core::of_input(&words(&[3, 7, 2, 1]).into()).await.unwrap();
        assert_eq!(core, Core { width: 3, rows: 4 });
        assert!(core.fits(&core.blank().into()).await);
        assert!(!core.fits(&Core { width: 4, rows: 3 }.blank().into()).await);
        assert!(!core.fits(&core.blank().slice(..55).into()).await);
        assert_eq!(Core::of_input(&words(&[3, 1, 2, 1]).into()).await, None);
        assert_eq!(Core::of_input(&vec![0; 15].into()).await, None);
    }
}
