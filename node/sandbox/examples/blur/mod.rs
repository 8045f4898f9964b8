//! The box blur of `services/image-blur` in plain fast Rust: what its WebAssembly is measured against.
//!
//! The same algorithm as the C there: each row is blurred along itself when it comes, sums of columns move down by a row,
//! and no more rows are kept than that needs. No intrinsics: loops that the compiler turns into vectors.

/// Blurs `height` rows of `width` RGBA pixels. `radius` is 1 to 50, and the picture has at least one pixel.
pub fn box_blur(rgba: &[u8], width: usize, height: usize, radius: usize) -> Vec<u8> {
    let bytes = width * 4;
    let mean = Mean::of(2 * radius + 1);
    // The row that leaves is needed once more.
    let slots = (2 * radius + 2).min(height);
    let mut ring = vec![0; slots * bytes];
    let mut line = vec![0; bytes + 4 * (2 * radius + 1)];
    let mut along = vec![0; bytes];
    let mut columns = vec![0u16; bytes];
    let mut out = vec![0; height * bytes];
    let clamped = |y: isize| y.clamp(0, height as isize - 1) as usize;
    let slot = |y: isize| clamped(y) % slots * bytes..clamped(y) % slots * bytes + bytes;

    let mut read = 0;
    for y in 0..height {
        while read < height.min(y + radius + 1) {
            pad(&mut line, &rgba[read * bytes..][..bytes], radius);
            let at = read % slots * bytes;
            blur_line(&line, &mut along, &mut ring[at..at + bytes], radius, mean);
            read += 1;
        }
        let (y, radius) = (y as isize, radius as isize);
        if y == 0 {
            for d in -radius..=radius {
                columns.iter_mut().zip(&ring[slot(d)]).for_each(|(sum, pixel)| *sum += u16::from(*pixel));
            }
        } else {
            let (enters, leaves) = (&ring[slot(y + radius)], &ring[slot(y - radius - 1)]);
            for ((sum, enters), leaves) in columns.iter_mut().zip(enters).zip(leaves) {
                *sum = *sum + u16::from(*enters) - u16::from(*leaves);
            }
        }
        mean.all(&columns, &mut out[y as usize * bytes..][..bytes]);
    }
    out
}

/// Division by a small odd number, as a product and a shift: exact for sums below 2^15.
#[derive(Clone, Copy)]
struct Mean {
    half: u16,
    factor: u32,
    shift: u32,
}

impl Mean {
    fn of(n: usize) -> Self {
        let shift = 15 + n.next_power_of_two().trailing_zeros();
        Self { half: n as u16 / 2, factor: (1u32 << shift).div_ceil(n as u32), shift }
    }

    fn all(self, sums: &[u16], out: &mut [u8]) {
        // The sum of 101 bytes and a half is below 2^15, the factor below 2^16.
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = ((u32::from(sum + self.half) * self.factor) >> self.shift) as u8;
        }
    }
}

/// The row with its edge pixels `radius` times before it and once more than that behind it.
fn pad(line: &mut [u8], row: &[u8], radius: usize) {
    let (before, rest) = line.split_at_mut(radius * 4);
    let (middle, behind) = rest.split_at_mut(row.len());
    before.chunks_exact_mut(4).for_each(|pixel| pixel.copy_from_slice(&row[..4]));
    middle.copy_from_slice(row);
    behind.chunks_exact_mut(4).for_each(|pixel| pixel.copy_from_slice(&row[row.len() - 4..]));
}

fn blur_line(line: &[u8], sums: &mut [u16], out: &mut [u8], radius: usize, mean: Mean) {
    let ahead = 4 * (2 * radius + 1);
    let mut sum = [0u16; 4];
    for pixel in line[..ahead].chunks_exact(4) {
        (0..4).for_each(|c| sum[c] += u16::from(pixel[c]));
    }
    let (enters, leaves) = (line[ahead..].chunks_exact(4), line.chunks_exact(4));
    for ((to, enters), leaves) in sums.chunks_exact_mut(4).zip(enters).zip(leaves) {
        to.copy_from_slice(&sum);
        (0..4).for_each(|c| sum[c] = sum[c] + u16::from(enters[c]) - u16::from(leaves[c]));
    }
    mean.all(sums, out);
}
