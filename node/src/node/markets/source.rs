//! Where a market's files come from: peers, a folder, or a web server. None of them is believed.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use msm_market_index::{PublishedFolder, folder::FolderError};
use msm_protocol::{ContentHash, PeerId, limits::PAGE_BYTES};

use super::MarketError;
use crate::node::{
    context::Context,
    fetch::{FetchError, fetch},
};

/// One file from a web server.
const HTTP_TIME: Duration = Duration::from_secs(20);

/// Why a file could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// No peer had it.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The folder could not be read.
    #[error("{0}")]
    Folder(String),
    /// The web server did not give it.
    #[error("{url}: {reason}")]
    Http {
        /// The address.
        url: String,
        /// What happened.
        reason: String,
    },
    /// It is not there.
    #[error("{0} is missing")]
    Missing(String),
    /// What is there cannot be what was signed.
    #[error("refused: {0}")]
    Wrong(String),
}

/// A source.
#[derive(Debug, Clone)]
pub enum Source {
    /// Whoever has it: the market's files on this device, peers, its web server, in this order.
    Anyone {
        /// A peer that must have it.
        hint: Option<PeerId>,
        /// Its files on this device.
        folder: Option<PublishedFolder>,
        /// Its address.
        url: Option<String>,
    },
    /// A published folder.
    Folder(PublishedFolder),
    /// The same folder behind a web server; the address ends without a slash.
    Http(String),
}

impl Source {
    /// Peers, one of which must have it.
    pub fn peers(hint: Option<PeerId>) -> Self {
        Self::Anyone { hint, folder: None, url: None }
    }

    /// The peer that must have it.
    pub fn hint(&self) -> Option<PeerId> {
        match self {
            Self::Anyone { hint, .. } => *hint,
            Self::Folder(_) | Self::Http(_) => None,
        }
    }

    /// A page of a market's trees.
    pub fn page<'a>(&'a self, ctx: &'a Arc<Context>, hash: ContentHash) -> BoxFuture<'a, Result<Bytes, MarketError>> {
        async move { Ok(self.get(ctx, hash, PAGE_BYTES as u64, false).await?) }.boxed()
    }

    /// A blob from the market's files on this device, if they are there and whole. What they do not have is no error:
    /// others may have it.
    pub async fn folder_blob(&self, hash: ContentHash, limit: u64) -> Option<Bytes> {
        let Self::Anyone { folder: Some(folder), .. } = self else { return None };
        let (folder, limit) = (folder.clone(), usize::try_from(limit).unwrap_or(usize::MAX));
        let read = tokio::task::spawn_blocking(move || folder.blob(&hash, limit)).await.ok()?;
        read.inspect_err(|error| tracing::debug!(%error, "not taken from a market's folder")).ok()?.map(Bytes::from)
    }

    /// A blob of at most `limit` bytes, kept in the store.
    pub async fn get(
        &self,
        ctx: &Arc<Context>,
        hash: ContentHash,
        limit: u64,
        exact: bool,
    ) -> Result<Bytes, SourceError> {
        if let Some(bytes) = ctx.store.get(hash).await {
            self.keep(ctx, hash).await;
            return Ok(bytes);
        }
        let bytes = match self {
            Self::Anyone { hint, folder: _, url } => {
                if let Some(bytes) = self.folder_blob(hash, limit).await {
                    // The folder may be on a stick.
                    if let Err(error) = ctx.store.put(bytes.clone()).await {
                        tracing::debug!(%error, hash = hash.short(), "blob not kept");
                    }
                    return Ok(bytes);
                }
                match (fetch(ctx, hash, limit, exact, *hint).await, url) {
                    (Ok(bytes), _) => return Ok(bytes),
                    (Err(error), None) => return Err(error.into()),
                    (Err(_), Some(url)) => Self::Http(url.clone()).file(&format!("blobs/{hash}"), limit).await?,
                }
            }
            Self::Folder(_) | Self::Http(_) => self.file(&format!("blobs/{hash}"), limit).await?,
        };
        let bytes: Bytes = bytes.ok_or_else(|| SourceError::Missing(hash.to_string()))?.into();
        if ContentHash::of(&bytes) != hash {
            return Err(SourceError::Wrong(format!("{hash} has other bytes there than were signed")));
        }
        if let Err(error) = ctx.store.put(bytes.clone()).await {
            tracing::warn!(%error, hash = hash.short(), "blob not kept");
        }
        self.keep(ctx, hash).await;
        Ok(bytes)
    }

    /// What this home publishes must not be evicted: others count on it.
    async fn keep(&self, ctx: &Context, hash: ContentHash) {
        if let Self::Folder(_) = self {
            ctx.store.pin(hash).await;
        }
    }

    /// A file of a published market by its path, such as `head.cbor`. Peers have none.
    pub async fn file(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, SourceError> {
        match self {
            Self::Anyone { .. } => Ok(None),
            Self::Folder(folder) => {
                let (folder, path, limit) =
                    (folder.clone(), path.to_owned(), usize::try_from(limit).unwrap_or(usize::MAX));
                let read = move || {
                    folder.file(&path, limit).map_err(|error| match error {
                        FolderError::TooLong { .. } | FolderError::NotAFile { .. } | FolderError::Damaged { .. } => {
                            SourceError::Wrong(error.to_string())
                        }
                        error => SourceError::Folder(error.to_string()),
                    })
                };
                tokio::task::spawn_blocking(read).await.unwrap_or_else(|e| Err(SourceError::Folder(e.to_string())))
            }
            Self::Http(base) => {
                let url = format!("{base}/{path}");
                tokio::task::spawn_blocking(move || download(&url, limit))
                    .await
                    .unwrap_or_else(|e| Err(SourceError::Folder(e.to_string())))
            }
        }
    }
}

fn download(url: &str, limit: u64) -> Result<Option<Vec<u8>>, SourceError> {
    let failed = |reason: String| SourceError::Http { url: url.to_owned(), reason };
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(HTTP_TIME)).max_redirects(3).build().into();
    match agent.get(url).call() {
        Ok(mut response) => {
            let bytes = response.body_mut().with_config().limit(limit).read_to_vec();
            bytes.map(Some).map_err(|error| match error {
                ureq::Error::BodyExceedsLimit(limit) => {
                    SourceError::Wrong(format!("{url}: is larger than {limit} bytes"))
                }
                error => failed(error.to_string()),
            })
        }
        Err(ureq::Error::StatusCode(404)) => Ok(None),
        Err(error) => Err(failed(error.to_string())),
    }
}
