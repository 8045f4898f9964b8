//! The store as an actor: a thread that owns it, and handles that ask.

use std::path::Path;

use bytes::Bytes;
use msm_protocol::{ContentHash, MarketId};
use tokio::sync::{mpsc, oneshot};

use super::{ContentStore, StoreError, StoreHealth, StoreLimits};

/// Questions that wait. Each may carry a blob of 8 MiB, so this bounds memory too.
const QUEUE: usize = 16;

enum Ask {
    Get(ContentHash, oneshot::Sender<Option<Bytes>>),
    Put(Bytes, Option<MarketId>, oneshot::Sender<Result<ContentHash, StoreError>>),
    Size(ContentHash, oneshot::Sender<Option<u64>>),
    Pin(ContentHash, bool, oneshot::Sender<bool>),
    Health(oneshot::Sender<StoreHealth>),
    Flush(oneshot::Sender<()>),
}

/// A store that any task can ask; cheap to clone. The store closes, and its index is written, when the last handle is
/// dropped.
///
/// A closed store reads as empty: whoever asks must be able to fetch a blob elsewhere anyhow.
#[derive(Debug, Clone)]
pub struct StoreHandle {
    asks: mpsc::Sender<Ask>,
}

impl StoreHandle {
    /// Opens the store in `dir` with the limits that we ship.
    pub async fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(dir, StoreLimits::default()).await
    }

    /// Opens the store in `dir`.
    pub async fn open_with(dir: &Path, limits: StoreLimits) -> Result<Self, StoreError> {
        let (asks, mut queue) = mpsc::channel(QUEUE);
        let (opened, outcome) = oneshot::channel();
        let dir = dir.to_owned();
        let run = move || {
            let mut store = match ContentStore::open(&dir, limits) {
                Ok(store) => store,
                Err(error) => return drop(opened.send(Err(error))),
            };
            if opened.send(Ok(())).is_err() {
                return;
            }
            while let Some(ask) = queue.blocking_recv() {
                answer(&mut store, ask);
            }
        };
        std::thread::Builder::new().name("msm-store".into()).spawn(run).map_err(|_| StoreError::Closed)?;
        outcome.await.map_err(|_| StoreError::Closed)??;
        Ok(Self { asks })
    }

    /// The blob, if it is there and its bytes are right.
    pub async fn get(&self, hash: ContentHash) -> Option<Bytes> {
        self.ask(|reply| Ask::Get(hash, reply)).await.ok().flatten()
    }

    /// Stores a blob that belongs to no market in particular.
    pub async fn put(&self, bytes: Bytes) -> Result<ContentHash, StoreError> {
        self.ask(|reply| Ask::Put(bytes, None, reply)).await?
    }

    /// Stores a blob of a market, within that market's share.
    pub async fn put_for(&self, market: MarketId, bytes: Bytes) -> Result<ContentHash, StoreError> {
        self.ask(|reply| Ask::Put(bytes, Some(market), reply)).await?
    }

    /// True when the blob is known; only reading tells whether it is whole.
    pub async fn has(&self, hash: ContentHash) -> bool {
        self.size(hash).await.is_some()
    }

    /// Bytes of the blob.
    pub async fn size(&self, hash: ContentHash) -> Option<u64> {
        self.ask(|reply| Ask::Size(hash, reply)).await.ok().flatten()
    }

    /// Keeps the blob until it is unpinned. False when it is not there.
    pub async fn pin(&self, hash: ContentHash) -> bool {
        self.ask(|reply| Ask::Pin(hash, true, reply)).await.unwrap_or(false)
    }

    /// Lets the blob go when room is needed. False when it is not there.
    pub async fn unpin(&self, hash: ContentHash) -> bool {
        self.ask(|reply| Ask::Pin(hash, false, reply)).await.unwrap_or(false)
    }

    /// How the store is.
    pub async fn health(&self) -> Result<StoreHealth, StoreError> {
        self.ask(Ask::Health).await
    }

    /// Writes what the index has not written yet.
    pub async fn flush(&self) {
        let _ = self.ask(Ask::Flush).await;
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(ask(reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)
    }
}

/// Answers one question. Whoever asked may have given up: then nobody listens, and that is fine.
fn answer(store: &mut ContentStore, ask: Ask) {
    match ask {
        Ask::Get(_, reply) if reply.is_closed() => {}
        Ask::Get(hash, reply) => drop(reply.send(store.get(&hash))),
        Ask::Put(bytes, origin, reply) => drop(reply.send(store.put(bytes, origin))),
        Ask::Size(hash, reply) => drop(reply.send(store.size(&hash))),
        Ask::Pin(hash, true, reply) => drop(reply.send(store.pin(&hash))),
        Ask::Pin(hash, false, reply) => drop(reply.send(store.unpin(&hash))),
        Ask::Health(reply) => drop(reply.send(store.health())),
        Ask::Flush(reply) => {
            store.flush();
            let _ = reply.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_tasks_share_one_store_and_the_next_process_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = StoreHandle::open(dir.path()).await.unwrap();
        let puts = (0..100u8).map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.put(Bytes::from(vec![n; 1_000])).await.unwrap() })
        });
        let mut hashes = Vec::new();
        for put in puts.collect::<Vec<_>>() {
            hashes.push(put.await.unwrap());
        }
        assert!(store.pin(hashes[0]).await);
        assert_eq!(store.health().await.unwrap().blobs, 100);
        assert!(store.has(hashes[7]).await && !store.has(ContentHash::of(b"else")).await);
        store.flush().await;
        let asks = store.asks.clone();
        drop(store);
        // The thread ends after the last handle, this one.
        let closed = asks.downgrade();
        drop(asks);
        assert!(closed.upgrade().is_none());
        // sled locks its folder until the old thread has closed it.
        let store = loop {
            let store = StoreHandle::open(dir.path()).await.unwrap();
            if store.health().await.unwrap().index {
                break store;
            }
            tokio::task::yield_now().await;
        };
        for (n, hash) in hashes.iter().enumerate() {
            assert_eq!(store.get(*hash).await, Some(Bytes::from(vec![n as u8; 1_000])));
        }
    }

    #[tokio::test]
    async fn b56_a_store_behind_a_link_does_not_open() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("store");
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        assert!(matches!(StoreHandle::open(&link).await, Err(StoreError::File(_))));
    }
}
