//! Pictures for services to work on, the same in every run.

use std::path::Path;

use anyhow::{Context, Result};
use image::{ImageFormat, Rgb, RgbImage};

/// Writes a picture with edges, gradients and noise: a blur that loses or moves a row changes it.
pub fn write(path: &Path, width: u32, height: u32, format: ImageFormat) -> Result<()> {
    let mut noise = 0x9e37_79b9_u32;
    let picture = RgbImage::from_fn(width, height, |x, y| {
        // xorshift
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        let stripes = if (x / 16 + y / 24) % 2 == 0 { 200 } else { 20 };
        let gradient = (x * 255 / width.max(1)) as u8;
        Rgb([gradient, stripes ^ (noise as u8 & 0x1f), (y * 255 / height.max(1)) as u8])
    });
    picture.save_with_format(path, format).with_context(|| format!("cannot write {}", path.display()))
}
