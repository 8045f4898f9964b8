//! Frames: length (u32 LE) and bytes, repeated.

use super::WorkError;

/// The frames of a sequence, each checked before it is given out.
pub struct Frames<'a>(&'a [u8]);

/// Reads a sequence of frames.
pub const fn read(bytes: &[u8]) -> Frames<'_> {
    Frames(bytes)
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<&'a [u8], WorkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let frame = self.0.split_first_chunk::<4>().and_then(|(length, rest)| {
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            rest.split_at_checked(length)
        });
        match frame {
            Some((frame, rest)) => {
                self.0 = rest;
                Some(Ok(frame))
            }
            None => {
                self.0 = &[];
                Some(Err(WorkError::bad("frames end in the middle of one")))
            }
        }
    }
}

/// The bytes before a frame of `length` bytes.
pub fn prefix(length: usize) -> Result<[u8; 4], WorkError> {
    let length = u32::try_from(length).map_err(|_| WorkError::bad("a task of more than 4 GiB"))?;
    Ok(length.to_le_bytes())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A sink that keeps everything, for tests of splits.
    #[derive(Default)]
    pub struct Keep(pub Vec<u8>);

    impl super::super::Sink for Keep {
        type Error = WorkError;

        fn put(&mut self, parts: &[&[u8]]) -> Result<(), WorkError> {
            self.0.extend(parts.concat());
            Ok(())
        }
    }

    pub fn all(bytes: &[u8]) -> Vec<&[u8]> {
        read(bytes).collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn cut_frames_are_refused_at_every_byte() {
        let whole = [3, 0, 0, 0, b'a', b'b', b'c', 0, 0, 0, 0];
        assert_eq!(all(&whole), [b"abc".as_slice(), b""]);
        assert_eq!(all(&[]).len(), 0);
        for cut in (1..whole.len()).filter(|cut| *cut != 7) {
            assert!(read(&whole[..cut]).any(|frame| frame.is_err()), "cut at {cut}");
        }
        assert!(read(&[0xff, 0xff, 0xff, 0xff, 1]).next().unwrap().is_err());
    }
}
