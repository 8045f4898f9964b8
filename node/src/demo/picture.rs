//! The picture that the demo blurs when it is given none: sharp edges and fine grain, so that a blur shows.

use bytes::Bytes;
use image::{ExtendedColorType, ImageEncoder, ImageError, codecs::png::PngEncoder};

/// Draws a PNG of `width` x `height` pixels. The same size gives the same bytes.
pub fn draw(width: u32, height: u32) -> Result<Bytes, ImageError> {
    let mut pixels = Vec::with_capacity(width as usize * height as usize * 3);
    let (w, h) = (f64::from(width), f64::from(height));
    let mut grain = 0x2545_f491_u32;
    for y in 0..height {
        for x in 0..width {
            let (u, v) = (f64::from(x) / w, f64::from(y) / h);
            grain ^= grain << 13;
            grain ^= grain >> 17;
            grain ^= grain << 5;
            let noise = f64::from(grain >> 27) - 16.0;
            let rings = (((u - 0.62).hypot((v - 0.45) * h / w) * 90.0).sin() > 0.0) as u8;
            let board = ((x / 48 + y / 48) % 2) as u8;
            let sky = [70.0 + 120.0 * v, 110.0 + 90.0 * v, 200.0 - 60.0 * v];
            let figure = if u < 0.36 { f64::from(board) * 90.0 } else { f64::from(rings) * 110.0 };
            for (channel, base) in sky.into_iter().enumerate() {
                let tint = if channel == 2 { -figure } else { figure * 0.6 };
                pixels.push((base + tint + noise).clamp(0.0, 255.0) as u8);
            }
        }
    }
    let mut png = Vec::new();
    PngEncoder::new(&mut png).write_image(&pixels, width, height, ExtendedColorType::Rgb8)?;
    Ok(png.into())
}
