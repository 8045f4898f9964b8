//! Inverts the colours of some rows of a picture. stdin has four bytes a pixel (red, green, blue, opacity); how wide the
//! rows are, and which belong to the neighbours, stands in MSM_TILE_WIDTH, _HEIGHT, _TOP and _BOTTOM.

use std::io::{self, Read, Write};

mod msm;

fn main() -> io::Result<()> {
    let mut rows = Vec::new();
    io::stdin().lock().read_to_end(&mut rows)?;
    for pixel in rows.chunks_exact_mut(4) {
        for channel in &mut pixel[..3] {
            *channel = 255 - *channel;
        }
    }
    io::stdout().lock().write_all(&rows)
}
