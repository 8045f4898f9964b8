//! Reads a body within its caps: on the wire, inflated, and in how much it may grow.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;

use super::{Bounds, FetchError};

/// How a body is coded. Only gzip is offered, so anything else is a server that does not listen, or a trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// One layer of gzip.
    Gzip,
}

impl Coding {
    /// From the values of `content-encoding`. Layers are refused: each multiplies what the one before it may.
    pub fn of(host: &str, values: &[&str]) -> Result<Self, FetchError> {
        let names: Vec<&str> = values.iter().flat_map(|value| value.split(',')).map(str::trim).collect();
        let real: Vec<&str> =
            names.into_iter().filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity")).collect();
        match real.as_slice() {
            [] => Ok(Self::Identity),
            [one] if one.eq_ignore_ascii_case("gzip") || one.eq_ignore_ascii_case("x-gzip") => Ok(Self::Gzip),
            other => {
                let shown: String = other.join(", ").chars().filter(|c| !c.is_control()).take(64).collect();
                let why = format!("the body is coded as {shown:?}; only gzip, once, was offered");
                Err(FetchError::BadEncoding { host: host.into(), why })
            }
        }
    }
}

/// Counts what crosses the network as body and stops at the cap. What is paid for is the meter's to count.
struct Counted<'a, R> {
    inner: R,
    host: &'a str,
    limit: u64,
    read: u64,
    refused: Option<FetchError>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read += count as u64;
        let refused = if self.read > self.limit {
            Some(FetchError::TooLarge { host: self.host.into(), what: "the body", limit: self.limit, unit: "bytes" })
        } else {
            None
        };
        match refused {
            Some(error) => {
                self.refused = Some(error);
                Err(io::Error::other("stopped"))
            }
            None => Ok(count),
        }
    }
}

/// Reads a body to its end and takes its coding off. Gives the bytes and how many of them crossed the network.
/// `explain` makes an error of the connection one of ours.
pub fn read(
    reader: impl Read,
    coding: Coding,
    host: &str,
    bounds: &Bounds,
    explain: impl Fn(io::Error) -> FetchError,
) -> Result<(Vec<u8>, u64), FetchError> {
    let mut counted = Counted { inner: reader, host, limit: bounds.body, read: 0, refused: None };
    let mut body = Vec::new();
    let outcome = match coding {
        Coding::Identity => counted.read_to_end(&mut body).map(|_| ()),
        Coding::Gzip => match inflate(&mut counted, &mut body, host, bounds) {
            Inflated::Ended => Ok(()),
            Inflated::Refused(error) => return Err(error),
            // A body of no bytes has no coding, whatever its header says: an answer to HEAD, or 304.
            Inflated::Broken(_) if counted.read == 0 && counted.refused.is_none() => Ok(()),
            Inflated::Broken(error) => Err(error),
        },
    };
    let wire_bytes = counted.read;
    if let Some(error) = counted.refused {
        return Err(error);
    }
    match outcome {
        Ok(()) => Ok((body, wire_bytes)),
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => {
            Err(FetchError::BadEncoding { host: host.into(), why: "the body is no gzip".into() })
        }
        Err(error) => Err(explain(error)),
    }
}

/// How inflating ended.
enum Inflated {
    Ended,
    Refused(FetchError),
    Broken(io::Error),
}

/// Bytes inflated at a time: what is made before a cap is looked at.
const STEP: usize = 64 * 1024;
/// Below this many bytes nobody asks how much a body grew: an empty page of tables may be all blanks. *Judgement.*
const RATIO_FROM: u64 = 1 << 20;

fn inflate<R: Read>(counted: &mut Counted<'_, R>, body: &mut Vec<u8>, host: &str, bounds: &Bounds) -> Inflated {
    let mut decoder = MultiGzDecoder::new(counted);
    let mut step = vec![0; STEP];
    loop {
        let count = match decoder.read(&mut step) {
            Ok(0) => return Inflated::Ended,
            Ok(count) => count,
            Err(error) => return Inflated::Broken(error),
        };
        body.extend_from_slice(step.get(..count).unwrap_or_default());
        let (inflated, wire) = (body.len() as u64, decoder.get_ref().read);
        let too_large = |what, limit, unit| FetchError::TooLarge { host: host.into(), what, limit, unit };
        if inflated > bounds.inflated {
            return Inflated::Refused(too_large("the unpacked body", bounds.inflated, "bytes"));
        }
        if inflated > RATIO_FROM && inflated > wire.saturating_mul(bounds.ratio) {
            return Inflated::Refused(too_large("the growth of the packed body", bounds.ratio, "times"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn all(reader: impl Read, coding: Coding, bounds: &Bounds) -> Result<(Vec<u8>, u64), FetchError> {
        let explain = |error: io::Error| FetchError::BadAnswer { host: "h".into(), why: error.to_string() };
        read(reader, coding, "h", bounds, explain)
    }

    #[test]
    fn codings_that_were_not_offered_are_refused() {
        let of = |values: &[&str]| Coding::of("h", values);
        assert_eq!(of(&[]), Ok(Coding::Identity));
        assert_eq!(of(&["identity", ""]), Ok(Coding::Identity));
        assert_eq!(of(&["GZIP"]), Ok(Coding::Gzip));
        for values in [&["br"][..], &["gzip, gzip"], &["gzip", "gzip"], &["br, gzip"], &["deflate"], &["zstd"]] {
            assert_eq!(of(values).unwrap_err().code(), "bad-encoding", "{values:?}");
        }
    }

    #[test]
    fn b67_bodies_are_cut_at_their_caps() {
        let bounds = Bounds { body: 1 << 20, inflated: 4 << 20, ..Bounds::SHIPPED };
        // As it is: to the byte, and not one more; an endless one too.
        let exact = vec![7; 1 << 20];
        assert_eq!(all(&exact[..], Coding::Identity, &bounds).unwrap(), (exact.clone(), 1 << 20));
        let error = all(io::repeat(7), Coding::Identity, &bounds).unwrap_err();
        assert_eq!(error.to_string(), "too-large: the body of h is over 1048576 bytes");
        // Packed: growth, size, layers of members, and a bomb.
        let bomb = packed(&vec![0; 64 << 20]);
        let error = all(&bomb[..], Coding::Gzip, &bounds).unwrap_err();
        assert_eq!(error.to_string(), "too-large: the growth of the packed body of h is over 100 times");
        let loose = Bounds { ratio: u64::MAX, ..bounds };
        let error = all(&bomb[..], Coding::Gzip, &loose).unwrap_err();
        assert_eq!(error.to_string(), "too-large: the unpacked body of h is over 4194304 bytes");
        let members: Vec<u8> = std::iter::repeat_n(packed(&vec![0; 1 << 16]), 1_000).flatten().collect();
        assert!(all(&members[..], Coding::Gzip, &bounds).is_err());
        // An endless stream of tiny members never makes a byte of body: the cap on the wire ends it.
        let empty = packed(b"");
        let endless = std::iter::repeat_n(empty, 100_000).flatten().collect::<Vec<u8>>();
        assert_eq!(all(&endless[..], Coding::Gzip, &bounds).unwrap_err().code(), "too-large");
    }

    #[test]
    fn gzip_is_taken_off() {
        let text = "the same line again and again\n".repeat(1_000);
        let wire = packed(text.as_bytes());
        let (body, read) = all(&wire[..], Coding::Gzip, &Bounds::SHIPPED).unwrap();
        assert_eq!((body.as_slice(), read), (text.as_bytes(), wire.len() as u64));
        assert_eq!(all(&[][..], Coding::Gzip, &Bounds::SHIPPED).unwrap(), (vec![], 0));
        assert_eq!(
            all(&b"this is no gzip at all"[..], Coding::Gzip, &Bounds::SHIPPED).unwrap_err().code(),
            "bad-encoding"
        );
        assert!(all(&wire[..wire.len() / 2], Coding::Gzip, &Bounds::SHIPPED).is_err());
    }
}
