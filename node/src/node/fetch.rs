//! Gets blobs by hash: from the store, from connected peers, from providers in the DHT, hashed as they arrive.
//!
//! Bytes may come from anyone. A provider that sends wrong bytes is banned for a while (B18), one that sends too many
//! is cut at the signed size (B19), one that is too slow is left for the next (B20), which goes on where it stopped.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use msm_protocol::{
    ContentHash, PeerId,
    hash::Hasher,
    limits::CHUNK_BYTES,
    message::{BlobRequest, BlobResponse},
};

use super::{context::Context, job::settle};

/// Peers asked at the same time whether they have a blob. *Judgement.*
const ASKED_AT_ONCE: usize = 8;
/// Providers tried for one blob. *Judgement.*
const PROVIDERS_TRIED: usize = 16;
/// A peer that sent wrong bytes is not asked again for this long (B18).
pub const BAN: Duration = Duration::from_secs(600);
/// One blob, whatever its providers do.
const FETCH_TIME: Duration = Duration::from_secs(60);
/// One provider of it.
const PROVIDER_TIME: Duration = Duration::from_secs(20);
/// A provider found in the DHT is dialled while it is found; this long its connection may take.
pub const CONNECT_TIME: Duration = Duration::from_secs(3);

/// Why a blob could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Nobody reachable has it.
    #[error("no peer has {0}")]
    NotFound(ContentHash),
    /// Providers were found, none gave it.
    #[error("none of {tried} providers gave {hash}: {last}")]
    Failed {
        /// The blob.
        hash: ContentHash,
        /// Providers tried.
        tried: usize,
        /// What the last one did.
        last: String,
    },
    /// Providers were found, none gave it, and what came was not what was signed.
    #[error("none of {tried} providers gave {hash}: {last}")]
    Wrong {
        /// The blob.
        hash: ContentHash,
        /// Providers tried.
        tried: usize,
        /// What the last one that lied did.
        last: String,
    },
    /// It took too long.
    #[error("{hash} did not arrive within {seconds} s")]
    Timeout {
        /// The blob.
        hash: ContentHash,
        /// How long it was waited for.
        seconds: u64,
    },
}

/// Fetches the blob `hash` of at most `limit` bytes and keeps it in the store.
///
/// `exact` says that the size is signed: then a provider of another size is lying. `hint` is a peer that must have it.
pub async fn fetch(
    ctx: &Arc<Context>,
    hash: ContentHash,
    limit: u64,
    exact: bool,
    hint: Option<PeerId>,
) -> Result<Bytes, FetchError> {
    if let Some(bytes) = ctx.store.get(hash).await {
        return Ok(bytes);
    }
    // A node that was started for one call asks before its neighbours are connected.
    if hint.is_none() {
        settle(ctx).await;
    }
    let mut attempt = Attempt {
        ctx,
        hash,
        limit,
        exact,
        got: Vec::new(),
        hasher: Hasher::default(),
        givers: Vec::new(),
        tried: HashSet::new(),
        last: String::new(),
        wrong: None,
    };
    match tokio::time::timeout(FETCH_TIME, attempt.run(hint)).await {
        Ok(result) => result,
        Err(_) => Err(FetchError::Timeout { hash, seconds: FETCH_TIME.as_secs() }),
    }
}

/// One blob on its way.
struct Attempt<'a> {
    ctx: &'a Arc<Context>,
    hash: ContentHash,
    limit: u64,
    exact: bool,
    /// What has arrived, in order, and its hash so far.
    got: Vec<u8>,
    hasher: Hasher,
    /// Who gave any of it.
    givers: Vec<PeerId>,
    tried: HashSet<PeerId>,
    last: String,
    /// What came that was not what was signed.
    wrong: Option<String>,
}

impl Attempt<'_> {
    async fn run(&mut self, hint: Option<PeerId>) -> Result<Bytes, FetchError> {
        let mut connected = self.ctx.connected();
        if let Some(hint) = hint {
            // Not asked whether it has it: that would be a round trip for each blob of a cold start.
            if let Some(bytes) = self.take_from(hint).await {
                return Ok(bytes);
            }
            connected.retain(|peer| *peer != hint);
        }
        let mut have = self.who_has(connected);
        while let Some(holder) = have.next().await {
            if let Some(peer) = holder
                && let Some(bytes) = self.take_from(peer).await
            {
                return Ok(bytes);
            }
        }
        drop(have);
        // Waited for all at once: announced providers that do not exist must not cost their time one after the other.
        let mut found = self.ctx.net.find_providers(self.hash).await;
        let ctx = self.ctx.clone();
        let mut providers = Box::pin(
            futures::stream::poll_fn(move |cx| found.poll_recv(cx))
                .map(move |peer| {
                    let ctx = ctx.clone();
                    async move {
                        let there = peer != ctx.local && ctx.wait_connected(peer, CONNECT_TIME).await;
                        there.then_some(peer)
                    }
                })
                .buffer_unordered(ASKED_AT_ONCE),
        );
        while let Some(provider) = providers.next().await {
            if let Some(peer) = provider
                && let Some(bytes) = self.take_from(peer).await
            {
                return Ok(bytes);
            }
        }
        let hash = self.hash;
        Err(match (self.tried.len(), self.wrong.take()) {
            (0, _) => FetchError::NotFound(hash),
            (tried, None) => FetchError::Failed { hash, tried, last: std::mem::take(&mut self.last) },
            (tried, Some(last)) => FetchError::Wrong { hash, tried, last },
        })
    }

    /// Asks peers whether they have the blob, a few at a time; yields those who do as they answer.
    fn who_has(&self, peers: Vec<PeerId>) -> impl futures::Stream<Item = Option<PeerId>> + Unpin + use<> {
        let (net, hash) = (self.ctx.net.clone(), self.hash);
        let asks = peers.into_iter().map(move |peer| {
            let net = net.clone();
            async move {
                let ask = BlobRequest { v: 1, len: 0, hash, offset: 0 };
                matches!(net.blob(peer, &ask).await, Ok(BlobResponse::Have(_))).then_some(peer)
            }
        });
        Box::pin(futures::stream::iter(asks).buffer_unordered(ASKED_AT_ONCE))
    }

    /// Takes what is missing from one provider. `Some` when the blob is whole and right.
    async fn take_from(&mut self, peer: PeerId) -> Option<Bytes> {
        if self.tried.len() >= PROVIDERS_TRIED || self.ctx.is_banned(&peer) || !self.tried.insert(peer) {
            return None;
        }
        let continued = !self.got.is_empty();
        let mut pulled = self.pull_in_time(peer).await;
        if continued && pulled.is_err() && self.got.is_empty() {
            // What another had begun was wrong, perhaps: this one alone can show.
            pulled = self.pull_in_time(peer).await;
        }
        match pulled {
            Ok(bytes) => {
                if let Err(error) = self.ctx.store.put(bytes.clone()).await {
                    tracing::warn!(%error, hash = self.hash.short(), "blob not kept");
                }
                Some(bytes)
            }
            Err(reason) => {
                tracing::debug!(peer = peer.short(), hash = self.hash.short(), reason, "provider failed");
                self.last = reason;
                None
            }
        }
    }

    /// Nobody gets all the time that a blob may take.
    async fn pull_in_time(&mut self, peer: PeerId) -> Result<Bytes, String> {
        match tokio::time::timeout(PROVIDER_TIME, self.pull(peer)).await {
            Ok(pulled) => pulled,
            Err(_) => Err(format!("not whole within {} s", PROVIDER_TIME.as_secs())),
        }
    }

    async fn pull(&mut self, peer: PeerId) -> Result<Bytes, String> {
        self.givers.push(peer);
        loop {
            let ask = BlobRequest { v: 1, len: CHUNK_BYTES as u32, hash: self.hash, offset: self.got.len() as u64 };
            let range = match self.ctx.net.blob(peer, &ask).await {
                Ok(BlobResponse::Have(range)) => range,
                Ok(BlobResponse::Missing) => return Err("it does not have it any more".into()),
                Ok(BlobResponse::Refused(refusal)) => return Err(refusal.sanitised().to_string()),
                Err(error) => return Err(error.to_string()),
            };
            let wrong_size = range.size > self.limit || (self.exact && range.size != self.limit);
            let offset = self.got.len() as u64;
            let end = offset + range.bytes.len() as u64;
            // Every answer is as long as it can be: one byte at a time would hold the fetch up (B20).
            let whole_chunk = range.size.saturating_sub(offset).min(CHUNK_BYTES as u64);
            if wrong_size || range.bytes.len() as u64 != whole_chunk {
                self.blame(&[peer]).await;
                let wrong = if wrong_size {
                    format!("it says {} bytes where {} are signed", range.size, self.limit)
                } else {
                    format!("it sent {} bytes where {whole_chunk} were asked for", range.bytes.len())
                };
                self.wrong = Some(wrong.clone());
                return Err(wrong);
            }
            self.hasher.update(&range.bytes);
            self.got.extend_from_slice(&range.bytes);
            if end == range.size {
                return self.finish().await;
            }
        }
    }

    /// Checks the whole. Wrong bytes from a single giver are its lie; from several nobody can tell, so all is dropped
    /// and the last of them is asked for all of it.
    async fn finish(&mut self) -> Result<Bytes, String> {
        let got = std::mem::take(&mut self.got);
        let givers = std::mem::take(&mut self.givers);
        if std::mem::take(&mut self.hasher).finish() == self.hash {
            return Ok(got.into());
        }
        if let [only] = givers.as_slice() {
            self.blame(&[*only]).await;
        }
        let wrong = "hash mismatch: the bytes are not those that were signed".to_owned();
        self.wrong = Some(wrong.clone());
        Err(wrong)
    }

    async fn blame(&self, peers: &[PeerId]) {
        for peer in peers {
            self.ctx.ban(*peer, BAN, "sent bytes that do not match their hash").await;
        }
    }
}
