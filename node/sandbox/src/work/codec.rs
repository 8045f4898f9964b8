//! PNG and JPEG to RGBA and RGBA to PNG, with a bound on memory.

use std::io::Cursor;

use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageReader, Limits,
    codecs::png::{CompressionType, FilterType, PngEncoder},
};

use super::WorkError;

/// A picture: 8-bit RGBA, row by row.
#[derive(Debug, PartialEq, Eq)]
pub struct Picture {
    pub width: u32,
    pub height: u32,
    pub data: Vec<u8>,
}

/// Decodes a PNG or JPEG and turns it upright. The RGBA must fit into `memory` bytes.
pub fn decode(bytes: &[u8], memory: u64) -> Result<Picture, WorkError> {
    let bad = |error: image::ImageError| WorkError::bad(format!("not a readable PNG or JPEG: {error}"));
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let mut reader = reader.map_err(|error| WorkError::bad(format!("not a readable picture: {error}")))?;
    let mut limits = Limits::no_limits();
    // What the decoder itself takes beside the pixels (interlacing, 16-bit samples) is bounded too, loosely.
    limits.max_alloc = Some(memory.saturating_mul(2));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(bad)?;
    let (width, height) = decoder.dimensions();
    let needed = u64::from(width) * u64::from(height) * 4;
    if needed > memory {
        return Err(WorkError::Memory { what: "the decoded picture", needed, limit: memory });
    }
    // Decoded first as the file has it (16 bits, no alpha), then as RGBA: for a moment both are there.
    let both = decoder.total_bytes().saturating_add(needed);
    if both > memory.saturating_mul(2) {
        let limit = memory.saturating_mul(2);
        return Err(WorkError::Memory { what: "the picture, while it is decoded,", needed: both, limit });
    }
    let orientation = decoder.orientation().map_err(bad)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(bad)?;
    picture.apply_orientation(orientation);
    let rgba = picture.into_rgba8();
    Ok(Picture { width: rgba.width(), height: rgba.height(), data: rgba.into_raw() })
}

/// Encodes RGBA as PNG, always with the same settings: the same pixels give the same bytes.
pub fn encode(width: u32, height: u32, rgba: &[u8]) -> Result<Vec<u8>, WorkError> {
    let mut out = Vec::new();
    // Fast and fixed: about as small as zlib's middle levels on photos, many times quicker.
    PngEncoder::new_with_quality(&mut out, CompressionType::Fast, FilterType::Adaptive)
        .write_image(rgba, width, height, ExtendedColorType::Rgba8)
        .map_err(|error| WorkError::bad(format!("cannot write a PNG of {width}x{height}: {error}")))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_survive_png() {
        let data: Vec<u8> = (0..7 * 5 * 4).map(|i| i as u8).collect();
        let png = encode(7, 5, &data).unwrap();
        assert_eq!(decode(&png, 140).unwrap(), Picture { width: 7, height: 5, data });
        assert_eq!(decode(&png, 139), Err(WorkError::Memory { what: "the decoded picture", needed: 140, limit: 139 }));
    }

    #[test]
    fn a_header_that_promises_too_much_costs_nothing() {
        let mut png = encode(1, 1, &[0; 4]).unwrap();
        // Width and height of IHDR, then its checksum.
        png[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
        assert!(decode(&png, 1 << 28).is_err());
        for cut in 0..png.len() - 13 {
            assert!(decode(&png[..cut], 1 << 20).is_err(), "cut at {cut}");
        }
    }
}
