//! How fast an input or output arrives: from the end of its first chunk to the end of its last. Pure.

use std::time::{Duration, Instant};

/// One on its way. The first chunk says when; the others, how fast.
#[derive(Debug, Clone, Copy, Default)]
pub struct Passage {
    since: Option<Instant>,
    bytes: u64,
    took: Duration,
    paused: bool,
}

impl Passage {
    /// A chunk of so many bytes is here.
    pub fn chunk(&mut self, bytes: usize, now: Instant) {
        match self.since {
            None => self.since = Some(now),
            Some(since) => {
                self.bytes += bytes as u64;
                self.took = now.saturating_duration_since(since);
            }
        }
    }

    /// This side did not read for a while: what came meanwhile lies in buffers, and neither time is the link's.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// The bytes after the first chunk and how long they took, if there were any and all were read as they came.
    pub fn shown(&self) -> Option<(u64, Duration)> {
        (self.bytes > 0 && !self.paused).then_some((self.bytes, self.took))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_chunk_starts_the_clock() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut passage = Passage::default();
        passage.chunk(100, at(50));
        assert_eq!(passage.shown(), None, "how long it took to begin says nothing");
        passage.chunk(100, at(60));
        passage.chunk(30, at(63));
        assert_eq!(passage.shown(), Some((130, Duration::from_millis(13))));
        // A clock that stands still, or one that was not read.
        passage.chunk(1, at(0));
        assert_eq!(passage.shown(), Some((131, Duration::ZERO)));
        passage.pause();
        assert_eq!(passage.shown(), None);
    }
}
