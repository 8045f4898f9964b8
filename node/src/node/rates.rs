//! How much each peer may ask of this node: one token bucket for each peer and kind of request. Pure.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use msm_protocol::PeerId;

/// Buckets remembered; a full table forgets the one used longest ago.
const BUCKETS: usize = 1_024;
/// Refused requests after which a peer is dropped (B41).
pub const REFUSALS: u32 = 1_000;

/// A kind of request with its own allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Discovery messages.
    Device,
    /// Questions for heads.
    Head,
    /// Blob chunks.
    Blob,
    /// Gossip messages passed on to us.
    Gossip,
    /// Updates of a market that a peer's words make us ask for.
    Sync,
    /// Presence messages that make us ask a peer what it is like.
    Presence,
    /// Provider records to be stored here.
    Provide,
    /// Job offers. Tasks inside an accepted job are bounded by credit.
    Offer,
}

impl Kind {
    /// Requests per second in the long run, and at once.
    const fn allowance(self) -> (f64, f64) {
        match self {
            // A user looks around, then runs a few jobs in a row; a flood is thousands.
            Self::Device => (2.0, 20.0),
            Self::Head => (2.0, 20.0),
            // A market's first sync reads its pages one by one.
            Self::Blob => (64.0, 256.0),
            // A mesh peer passes on everybody's presence (one in 30 s each) and the heads of a few markets.
            Self::Gossip => (10.0, 100.0),
            Self::Sync => (0.5, 20.0),
            // Every 30 s, and when it begins or ends to lend.
            Self::Presence => (0.5, 10.0),
            // An honest node announces at most 256 blobs, again when the network grows; a flood fills the store.
            Self::Provide => (2.0, 256.0),
            Self::Offer => (20.0, 100.0),
        }
    }
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
    refused: u32,
}

/// The table.
#[derive(Debug, Default)]
pub struct Rates {
    buckets: HashMap<(PeerId, Kind), Bucket>,
}

/// Whether a request is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// Serve it.
    Yes,
    /// Too many: refuse it.
    No,
    /// Far too many: drop the peer.
    Drop,
}

impl Rates {
    /// Takes one request of `peer` into account.
    pub fn allow(&mut self, peer: PeerId, kind: Kind, now: Instant) -> Allowed {
        let (rate, burst) = kind.allowance();
        if self.buckets.len() >= BUCKETS && !self.buckets.contains_key(&(peer, kind)) {
            let refilled = Duration::from_secs_f64(burst / rate);
            self.buckets.retain(|_, bucket| now.duration_since(bucket.at) < refilled);
            let oldest = self.buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(key, _)| *key);
            if let Some(oldest) = oldest.filter(|_| self.buckets.len() >= BUCKETS) {
                self.buckets.remove(&oldest);
            }
        }
        let bucket = self.buckets.entry((peer, kind)).or_insert(Bucket { tokens: burst, at: now, refused: 0 });
        let refill = now.duration_since(bucket.at).as_secs_f64() * rate;
        bucket.tokens = (bucket.tokens + refill).min(burst);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Allowed::Yes;
        }
        bucket.refused += 1;
        if bucket.refused >= REFUSALS {
            bucket.refused = 0;
            return Allowed::Drop;
        }
        Allowed::No
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use msm_protocol::SecretKey;

    #[test]
    fn b41_a_flood_is_served_at_the_limit_then_dropped() {
        let peer = PeerId::of(&SecretKey::from_seed(&[1; 32]).public());
        let (start, mut rates) = (Instant::now(), Rates::default());
        let (mut served, mut dropped) = (0, false);
        for n in 0..2_000u32 {
            match rates.allow(peer, Kind::Offer, start + Duration::from_micros(u64::from(n) * 500)) {
                Allowed::Yes => served += 1,
                Allowed::No => {}
                Allowed::Drop => dropped = true,
            }
        }
        assert!((100..=121).contains(&served), "{served} served in one second");
        assert!(dropped);
        let honest = PeerId::of(&SecretKey::from_seed(&[2; 32]).public());
        assert_eq!(rates.allow(honest, Kind::Offer, start), Allowed::Yes);
    }
}
