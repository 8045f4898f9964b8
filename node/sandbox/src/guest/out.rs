//! A call's output on its way to the parent, held to its cap.

use super::{Failure, channel::Channel};
use crate::{
    wire::{self, Fault, kind},
    work::Sink,
};

/// Where a call's output goes.
pub struct Out {
    channel: Channel,
    /// The last bytes, while they are few: they go with the end of the answer.
    waiting: Vec<u8>,
    left: u64,
    cap: u64,
}

impl Out {
    /// Nothing put yet; `cap` bytes may be.
    pub const fn new(channel: Channel, cap: u64) -> Self {
        Self { channel, waiting: Vec::new(), left: cap, cap }
    }

    /// Hands the output over to somebody who must own it; what is left here takes nothing.
    pub const fn hand_over(&mut self) -> Self {
        std::mem::replace(self, Self::new(self.channel, 0))
    }

    /// The bytes that still have to be sent.
    pub fn waiting(&self) -> &[u8] {
        &self.waiting
    }
}

impl Sink for Out {
    type Error = Failure;

    fn put(&mut self, parts: &[&[u8]]) -> Result<(), Failure> {
        /// An output up to this size is copied once, to save a write and the parent a turn.
        const WAITING_BYTES: u64 = 16 * 1024;
        let length: u64 = parts.iter().map(|part| part.len() as u64).sum();
        self.left = self.left.checked_sub(length).ok_or_else(|| {
            Failure::new(Fault::OutputTooLarge, format!("the output is larger than its limit of {} bytes", self.cap))
        })?;
        if self.waiting.len() as u64 + length <= WAITING_BYTES {
            parts.iter().for_each(|part| self.waiting.extend_from_slice(part));
            return Ok(());
        }
        for part in [self.waiting.as_slice()].iter().chain(parts) {
            for chunk in part.chunks(wire::OUTPUT_CHUNK) {
                self.channel.send(kind::OUTPUT, &[chunk]);
            }
        }
        self.waiting.clear();
        Ok(())
    }
}
