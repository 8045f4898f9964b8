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
    limits::{CHUNK_BYTES, MORE_BLOBS},
    message::{BlobRange, BlobRequest, BlobResponse},
};

use super::{context::Context, job::settle};

/// Peers asked at the same time whether they have a blob. *Judgement.*
const ASKED_AT_ONCE: usize = 8;
/// What a peer sends that is asked for bytes and not only whether it has them, with what belongs to them: asking first
/// would cost a round trip, and all that are asked at once send no more than a chunk together.
const AT_ONCE_BYTES: u64 = (CHUNK_BYTES / ASKED_AT_ONCE) as u64;
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

/// A manifest that is here now.
#[derive(Debug)]
pub struct Arrived {
    /// Its bytes.
    pub bytes: Bytes,
    /// What its giver sent with it. Nobody has said yet that the manifest names that.
    pub more: Vec<Bytes>,
    /// Who gave it, if it was not here.
    pub giver: Option<PeerId>,
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
    get(ctx, hash, (limit, exact), 0, hint).await.map(|arrived| arrived.bytes)
}

/// Fetches the manifest `hash` of `size` bytes, and what it names where that is small: such a package takes one round
/// trip.
pub async fn fetch_package(
    ctx: &Arc<Context>,
    hash: ContentHash,
    size: u64,
    hint: Option<PeerId>,
) -> Result<Arrived, FetchError> {
    get(ctx, hash, (size, true), AT_ONCE_BYTES.saturating_sub(size) as u32, hint).await
}

async fn get(
    ctx: &Arc<Context>,
    hash: ContentHash,
    (limit, exact): (u64, bool),
    more_bytes: u32,
    hint: Option<PeerId>,
) -> Result<Arrived, FetchError> {
    if let Some(bytes) = ctx.store.get(hash).await {
        return Ok(Arrived { bytes, more: Vec::new(), giver: None });
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
        more_bytes,
        more: Vec::new(),
        got: Vec::new(),
        hasher: Hasher::default(),
        givers: Vec::new(),
        tried: HashSet::new(),
        last: String::new(),
        wrong: None,
    };
    match tokio::time::timeout(FETCH_TIME, attempt.run(hint)).await {
        Ok(Ok((bytes, giver))) => Ok(Arrived { bytes, more: attempt.more, giver: Some(giver) }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(FetchError::Timeout { hash, seconds: FETCH_TIME.as_secs() }),
    }
}

/// A peer that has the blob, and its answer if it was asked for bytes.
type Holder = (PeerId, Option<BlobRange>);

/// One blob on its way.
struct Attempt<'a> {
    ctx: &'a Arc<Context>,
    hash: ContentHash,
    limit: u64,
    exact: bool,
    /// Bytes of what the blob names that may come with it.
    more_bytes: u32,
    more: Vec<Bytes>,
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
    async fn run(&mut self, hint: Option<PeerId>) -> Result<(Bytes, PeerId), FetchError> {
        if let Some(hint) = hint {
            // Not asked whether it has it: that would be a round trip for each blob of a cold start.
            if let Some(bytes) = self.take_from(hint, None).await {
                return Ok((bytes, hint));
            }
        }
        let mut neighbours = self.ctx.connected();
        neighbours.retain(|peer| Some(*peer) != hint);
        // Side by side: when no neighbour has it, the search has not to wait for the slowest of them to say so.
        let announced = self.announced(neighbours.clone()).await;
        let mut holders = futures::stream::select(self.who_has(neighbours), announced);
        while let Some(holder) = holders.next().await {
            if let Some((peer, first)) = holder
                && let Some(bytes) = self.take_from(peer, first).await
            {
                return Ok((bytes, peer));
            }
        }
        let hash = self.hash;
        Err(match (self.tried.len(), self.wrong.take()) {
            (0, _) => FetchError::NotFound(hash),
            (tried, None) => FetchError::Failed { hash, tried, last: std::mem::take(&mut self.last) },
            (tried, Some(last)) => FetchError::Wrong { hash, tried, last },
        })
    }

    /// Asks peers whether they have the blob, a few at a time; yields those who do as they answer. One that is small
    /// comes with the answer.
    fn who_has(&self, peers: Vec<PeerId>) -> impl futures::Stream<Item = Option<Holder>> + Unpin + use<> {
        let ask = if self.limit <= AT_ONCE_BYTES {
            self.question()
        } else {
            BlobRequest { v: 1, len: 0, hash: self.hash, more: 0, offset: 0 }
        };
        let net = self.ctx.net.clone();
        let asks = peers.into_iter().map(move |peer| {
            let (net, ask) = (net.clone(), ask.clone());
            async move {
                match net.blob(peer, &ask).await {
                    Ok(BlobResponse::Have(range)) => Some((peer, Some(range))),
                    _ => None,
                }
            }
        });
        Box::pin(futures::stream::iter(asks).buffer_unordered(ASKED_AT_ONCE))
    }

    /// Providers that the DHT knows beside the `neighbours`, who answer for themselves; each when it is connected.
    async fn announced(&self, neighbours: Vec<PeerId>) -> impl futures::Stream<Item = Option<Holder>> + Unpin + use<> {
        let mut found = self.ctx.net.find_providers(self.hash).await;
        let ctx = self.ctx.clone();
        // Waited for all at once: announced providers that do not exist must not cost their time one after the other.
        Box::pin(
            futures::stream::poll_fn(move |cx| found.poll_recv(cx))
                .map(move |peer| {
                    let (ctx, other) = (ctx.clone(), peer != ctx.local && !neighbours.contains(&peer));
                    async move { (other && ctx.wait_connected(peer, CONNECT_TIME).await).then_some((peer, None)) }
                })
                .buffer_unordered(ASKED_AT_ONCE),
        )
    }

    /// Asks for the next bytes.
    fn question(&self) -> BlobRequest {
        let offset = self.got.len() as u64;
        let more = if offset == 0 { self.more_bytes } else { 0 };
        BlobRequest { v: 1, len: CHUNK_BYTES as u32, hash: self.hash, more, offset }
    }

    /// Takes what is missing from one provider, whose answer to the `first` question is here perhaps. `Some` when the
    /// blob is whole and right.
    async fn take_from(&mut self, peer: PeerId, first: Option<BlobRange>) -> Option<Bytes> {
        if self.tried.len() >= PROVIDERS_TRIED || self.ctx.is_banned(&peer) || !self.tried.insert(peer) {
            return None;
        }
        let continued = !self.got.is_empty();
        // It begins where this attempt did, and does not go on with what another gave.
        let first = first.filter(|range| !continued && !range.bytes.is_empty());
        let mut pulled = self.pull_in_time(peer, first).await;
        if continued && pulled.is_err() && self.got.is_empty() {
            // What another had begun was wrong, perhaps: this one alone can show.
            pulled = self.pull_in_time(peer, None).await;
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
    async fn pull_in_time(&mut self, peer: PeerId, first: Option<BlobRange>) -> Result<Bytes, String> {
        match tokio::time::timeout(PROVIDER_TIME, self.pull(peer, first)).await {
            Ok(pulled) => pulled,
            Err(_) => Err(format!("not whole within {} s", PROVIDER_TIME.as_secs())),
        }
    }

    async fn pull(&mut self, peer: PeerId, mut first: Option<BlobRange>) -> Result<Bytes, String> {
        self.givers.push(peer);
        loop {
            let mut range = match first.take() {
                Some(range) => range,
                None => self.ask(peer).await?,
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
            if self.more_bytes > 0 && offset == 0 {
                let more = std::mem::take(&mut range.more).into_iter().take(MORE_BLOBS);
                self.more = more.map(|it| it.into_vec().into()).collect();
            }
            self.hasher.update(&range.bytes);
            self.got.extend_from_slice(&range.bytes);
            if end == range.size {
                return self.finish().await;
            }
        }
    }

    async fn ask(&self, peer: PeerId) -> Result<BlobRange, String> {
        match self.ctx.net.blob(peer, &self.question()).await {
            Ok(BlobResponse::Have(range)) => Ok(range),
            Ok(BlobResponse::Missing) => Err("it does not have it any more".into()),
            Ok(BlobResponse::Refused(refusal)) => Err(refusal.sanitised().to_string()),
            Err(error) => Err(error.to_string()),
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
