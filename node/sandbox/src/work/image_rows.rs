//! `image-rows`: bands of rows with their neighbours' rows, and the picture put together again.

use super::{
    Aim, Sink, WorkError,
    codec::{self, Picture},
    frames,
};

/// Bytes before a tile's rows.
const TILE_HEADER: usize = 16;
/// Bytes before an output's rows.
const CORE_HEADER: usize = 8;

/// The shape of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    pub width: u32,
    /// Rows, halo included.
    pub rows: u32,
    /// Halo rows at the top.
    pub top: u32,
    /// Halo rows at the bottom.
    pub bottom: u32,
}

impl Tile {
    /// A whole picture.
    pub const fn whole(picture: &Picture) -> Self {
        Self { width: picture.width, rows: picture.height, top: 0, bottom: 0 }
    }

    /// Rows without halo.
    pub const fn core_rows(&self) -> u32 {
        self.rows - self.top - self.bottom
    }

    /// Bytes of the rows without halo.
    pub fn core_bytes(&self) -> u64 {
        u64::from(self.core_rows()) * u64::from(self.width) * 4
    }

    /// Takes the header off a task input: what is left are the rows.
    pub fn read(input: &[u8]) -> Result<(Self, usize), WorkError> {
        let bad = |why: &str| WorkError::bad(format!("not a tile of rows: {why}"));
        let (header, rows_bytes) = input.split_first_chunk::<TILE_HEADER>().ok_or_else(|| bad("no header"))?;
        let [width, rows, top, bottom] = le_u32s(header);
        let core = rows.checked_sub(top).and_then(|rows| rows.checked_sub(bottom));
        if width == 0 || core.is_none_or(|core| core == 0) {
            return Err(bad("no rows of its own"));
        }
        if u64::from(width) * u64::from(rows) * 4 != rows_bytes.len() as u64 {
            return Err(bad(&format!("{width}x{rows} pixels in {} bytes", rows_bytes.len())));
        }
        Ok((Self { width, rows, top, bottom }, TILE_HEADER))
    }

    fn header(&self) -> [u8; TILE_HEADER] {
        bytes_of([self.width, self.rows, self.top, self.bottom])
    }

    /// What precedes a task output.
    pub fn core_header(&self) -> [u8; CORE_HEADER] {
        bytes_of([self.width, self.core_rows()])
    }
}

/// Own rows of a tile for each row of its halo, where more tiles are wished for than the devices need: what is computed
/// twice is a tenth at most. *Judgement.*
const ROWS_PER_HALO: u64 = 10;
/// Tiles for each slot that are made if they are wished for, whatever is computed twice. *Judgement.*
const NEEDED: u32 = 4;

/// Frames of tiles.
pub fn split<S: Sink>(picture: &Picture, halo: u32, aim: Aim, out: &mut S) -> Result<(), S::Error> {
    let height = u64::from(picture.height);
    let row_bytes = picture.width as usize * 4;
    let enough = aim.slots.saturating_mul(NEEDED);
    let pays = height / (2 * ROWS_PER_HALO * u64::from(halo)).max(1);
    let want = aim.want.min(enough.max(u32::try_from(pays).unwrap_or(u32::MAX)));
    for core in (Aim { want, ..aim }).runs(height, picture.data.len() as u64).iter() {
        let top = core.start.min(u64::from(halo));
        let bottom = (height - core.end).min(u64::from(halo));
        let (first, end) = (core.start - top, core.end + bottom);
        // All four fit: they are at most the picture's height.
        let tile = Tile { width: picture.width, rows: (end - first) as u32, top: top as u32, bottom: bottom as u32 };
        let rows = &picture.data[first as usize * row_bytes..end as usize * row_bytes];
        out.put(&[&frames::prefix(TILE_HEADER + rows.len())?, &tile.header(), rows])?;
    }
    Ok(())
}

/// The PNG of all task outputs; `input` is used as scratch.
pub fn merge(input: &mut [u8]) -> Result<Vec<u8>, WorkError> {
    // Headers are squeezed out in place: the rows of a big picture are never held twice.
    let total = input.len();
    let (mut read, mut kept, mut width, mut height, mut index) = (0, 0, 0u32, 0u64, 0);
    while read < total {
        let bad = |why: &str| WorkError::bad(format!("the output of part {index} is not rows: {why}"));
        let frame = frames::read(&input[read..]).next().transpose()?.unwrap_or_default();
        let (header, rows_bytes) = frame.split_first_chunk::<CORE_HEADER>().ok_or_else(|| bad("no header"))?;
        let [this_width, rows] = le_u32s(header);
        let bytes = rows_bytes.len();
        if u64::from(this_width) * u64::from(rows) * 4 != bytes as u64 {
            return Err(bad(&format!("{this_width}x{rows} pixels in {bytes} bytes")));
        }
        if index > 0 && this_width != width {
            return Err(bad(&format!("{this_width} pixels wide, the first part is {width}")));
        }
        let start = read + 4 + CORE_HEADER;
        input.copy_within(start..start + bytes, kept);
        (read, kept, width, height, index) =
            (start + bytes, kept + bytes, this_width, height + u64::from(rows), index + 1);
    }
    let height = u32::try_from(height).ok().filter(|height| *height > 0 && width > 0);
    let height = height.ok_or_else(|| WorkError::bad("no rows to put together"))?;
    codec::encode(width, height, &input[..kept])
}

fn le_u32s<const B: usize, const N: usize>(bytes: &[u8; B]) -> [u32; N] {
    let mut out = [0; N];
    for (number, chunk) in out.iter_mut().zip(bytes.chunks_exact(4)) {
        *number = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
    }
    out
}

fn bytes_of<const B: usize, const N: usize>(numbers: [u32; N]) -> [u8; B] {
    let mut out = [0; B];
    for (chunk, number) in out.chunks_exact_mut(4).zip(numbers) {
        chunk.copy_from_slice(&number.to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::frames::tests::*, *};

    fn picture(width: u32, height: u32) -> Picture {
        let data = (0..width * height * 4).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        Picture { width, height, data }
    }

    /// What a service that returns its tile's own rows unchanged gives.
    fn core_of(frame: &[u8]) -> Vec<u8> {
        let (tile, at) = Tile::read(frame).unwrap();
        let row = tile.width as usize * 4;
        let core = &frame[at + tile.top as usize * row..][..tile.core_bytes() as usize];
        let mut out = frames::prefix(core.len() + CORE_HEADER).unwrap().to_vec();
        out.extend(tile.core_header());
        out.extend(core);
        out
    }

    proptest! {
        #[test]
        fn tiles_put_together_are_the_picture(
            width in 1u32..20, height in 1u32..60, halo in 0u32..80, want in 0u32..20, target_bytes in 1u64..4000,
            slots in 1u32..20,
        ) {
            let picture = picture(width, height);
            let mut out = Keep::default();
            split(&picture, halo, Aim { want, target_bytes, slots }, &mut out)?;
            let tiles = all(&out.0);
            let mut row = 0;
            for frame in &tiles {
                let (tile, at) = Tile::read(frame).unwrap();
                prop_assert_eq!(tile.top, row.min(halo));
                let first = (row - tile.top) as usize * width as usize * 4;
                prop_assert_eq!(&frame[at..], &picture.data[first..][..frame.len() - at]);
                row += tile.core_rows();
                prop_assert_eq!(tile.bottom, (height - row).min(halo));
            }
            prop_assert_eq!(row, height);
            let mut outputs: Vec<u8> = tiles.iter().flat_map(|frame| core_of(frame)).collect();
            let png = merge(&mut outputs).unwrap();
            prop_assert_eq!(codec::decode(&png, 1 << 20).unwrap(), picture);
        }
    }

    #[test]
    fn hostile_tiles_and_outputs_are_refused() {
        let tile = |width: u32, rows: u32, top: u32, bottom: u32, bytes: usize| {
            let mut out: Vec<u8> = [width, rows, top, bottom].into_iter().flat_map(u32::to_le_bytes).collect();
            out.extend(vec![0; bytes]);
            Tile::read(&out).is_ok()
        };
        assert!(tile(2, 3, 1, 1, 24));
        assert!(!tile(2, 3, 1, 1, 23));
        assert!(!tile(2, 3, 1, 1, 25));
        assert!(!tile(2, 3, 2, 1, 24), "no own rows");
        assert!(!tile(2, 3, u32::MAX, 2, 24));
        assert!(!tile(0, 3, 0, 0, 0));
        assert!(!tile(1 << 16, 1 << 16, 0, 0, 0), "a product over 32 bits");
        assert!(Tile::read(&[0; 15]).is_err());

        let output = |parts: &[(u32, u32, usize)]| {
            let mut out = Vec::new();
            for (width, rows, bytes) in parts {
                out.extend(frames::prefix(8 + bytes).unwrap());
                out.extend([*width, *rows].into_iter().flat_map(u32::to_le_bytes));
                out.extend(vec![0; *bytes]);
            }
            merge(&mut out).is_ok()
        };
        assert!(output(&[(2, 1, 8), (2, 2, 16)]));
        assert!(!output(&[(2, 1, 8), (1, 1, 4)]), "widths differ");
        assert!(!output(&[(2, 2, 8)]));
        assert!(!output(&[]));
        assert!(!output(&[(0, 5, 0)]));
        assert!(merge(&mut [3, 0, 0, 0, 1, 2, 3]).is_err());
    }
}
