//! Copying a whole market into a folder: for a stick, a web server, or a house without internet.

use std::{
    collections::HashMap,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use msm_market_index::{
    PublishedFolder,
    catalogue::{all_releases, all_revocations, all_words},
    entry::open_manifest,
    folder::FolderError,
};
use msm_protocol::{
    ContentHash, Envelope, MarketId, Signed as _, cbor,
    document::{Head, Status},
    limits::{MANIFEST_BYTES, PACKAGE_BYTES, REPORT_BYTES},
};

use super::{
    MarketError, MarketView, Markets,
    services::{read_within, refused},
    source::{Source, SourceError},
};
use crate::{
    command::{CommandError, ErrorCode, MirrorRow},
    net::limits::BLOB_STREAMS,
    node::context::Context,
};

/// Pages of one market that are copied. *Judgement*: hundreds of thousands of releases.
const CATALOGUE_BYTES: usize = 256 * 1024 * 1024;
/// Blobs on their way at the same time: fewer than one peer answers at once.
const BLOBS_AT_ONCE: usize = BLOB_STREAMS - 1;

/// A market on its way into a folder.
struct Mirror<'a> {
    ctx: &'a Arc<Context>,
    source: Source,
    there: PublishedFolder,
    folder: PathBuf,
}

impl Markets {
    /// Copies the market with this alias or id, as it is believed here, into `folder`: what is there already stays, the
    /// head comes last.
    pub async fn mirror(&self, ctx: &Arc<Context>, name: &str, folder: &Path) -> Result<MirrorRow, CommandError> {
        let views = self.view();
        let id = name.parse::<MarketId>().ok();
        let view = views.iter().find(|view| view.entry.alias == name || Some(view.id) == id).ok_or_else(|| {
            let message = format!("not-found: no market {name:?} is trusted here");
            CommandError::new(ErrorCode::NotFound, message).or_try("msm market list")
        })?;
        let mirror =
            Mirror { ctx, source: view.source(None), there: PublishedFolder::at(folder), folder: folder.to_owned() };
        mirror.copy(view).await.map_err(|error| {
            let message = format!("{} is not mirrored: {error}", view.entry.alias);
            CommandError::new(ErrorCode::Failed, message).or_try("msm market list")
        })
    }
}

impl Mirror<'_> {
    async fn copy(&self, view: &MarketView) -> Result<MirrorRow, MarketError> {
        let (Some(index), Some(head), Some(envelope)) = (view.index(), &view.saved.head, &view.saved.index) else {
            return Err(SourceError::Missing("its index (nobody who has it was met yet)".into()).into());
        };
        self.may_write(view)?;
        let mut pages = HashMap::new();
        let get = |hash| self.source.page(self.ctx, hash);
        let releases = read_within(all_releases(index), &mut pages, &get, CATALOGUE_BYTES).await?;
        let releases = releases.entries().map_err(refused)?;
        read_within(all_words(index), &mut pages, &get, CATALOGUE_BYTES).await?;
        read_within(all_revocations(index), &mut pages, &get, CATALOGUE_BYTES).await?;
        let mut row =
            MirrorRow { market: view.id, folder: self.folder.display().to_string(), releases: 0, blobs: 0, bytes: 0 };
        for (hash, bytes) in pages {
            self.keep(&mut row, hash, &bytes)?;
        }
        for release in releases.iter().filter(|release| release.status != Status::Revoked) {
            let manifest = self.blob(&mut row, release.manifest, MANIFEST_BYTES as u64).await?;
            let manifest = open_manifest(release, &manifest)
                .map_err(|error| MarketError::Refused(format!("{}@{}: {error}", release.name, release.version)))?;
            let reviews = release.reviews.iter().map(|review| (review.report, REPORT_BYTES as u64));
            let blobs: Vec<_> = manifest.blobs().chain(reviews).collect();
            let fetched = futures::stream::iter(blobs)
                .map(|(hash, size)| async move { Ok::<_, MarketError>((hash, self.fetch(hash, size).await?)) });
            let fetched: Vec<_> = fetched.buffer_unordered(BLOBS_AT_ONCE).try_collect().await?;
            for (hash, bytes) in fetched {
                self.keep(&mut row, hash, &bytes)?;
            }
            row.releases += 1;
        }
        self.keep(&mut row, ContentHash::of(envelope), envelope)?;
        for (version, root) in (1..).zip(&view.saved.roots) {
            self.write(&format!("root/{version}.cbor"), root)?;
        }
        self.write("head.cbor", head)?;
        Ok(row)
    }

    /// Refuses a folder that holds another market, or a newer state of this one.
    fn may_write(&self, view: &MarketView) -> Result<(), MarketError> {
        let wrong = |why: &str| Err(SourceError::Wrong(format!("{}: {why}", self.folder.display())).into());
        let unreadable = |error: FolderError| MarketError::from(SourceError::Folder(error.to_string()));
        if let (Some(there), Some(ours)) = (self.there.root(1).map_err(unreadable)?, view.saved.roots.first())
            && there != ours.as_ref()
        {
            return wrong("another market is there");
        }
        let number = |head: &[u8]| {
            let envelope = Envelope::from_slice::<Head>(head).ok()?;
            cbor::from_slice::<Head>(envelope.payload(), Head::LIMIT).ok().map(|head| head.version)
        };
        match self.there.head().map_err(unreadable)?.as_deref().and_then(number) {
            Some(there) if there > view.version() => wrong("a newer index of this market is there"),
            _ => Ok(()),
        }
    }

    async fn blob(&self, row: &mut MirrorRow, hash: ContentHash, size: u64) -> Result<Bytes, MarketError> {
        let bytes = self.fetch(hash, size).await?;
        self.keep(row, hash, &bytes)?;
        Ok(bytes)
    }

    /// A blob that the folder has already is not fetched again.
    async fn fetch(&self, hash: ContentHash, limit: u64) -> Result<Bytes, MarketError> {
        if let Ok(Some(bytes)) = self.there.blob(&hash, PACKAGE_BYTES) {
            return Ok(bytes.into());
        }
        Ok(self.source.get(self.ctx, hash, limit, false).await?)
    }

    fn keep(&self, row: &mut MirrorRow, hash: ContentHash, bytes: &[u8]) -> Result<(), MarketError> {
        row.blobs += 1;
        row.bytes += bytes.len() as u64;
        if let Ok(Some(_)) = self.there.blob(&hash, PACKAGE_BYTES) {
            return Ok(());
        }
        self.write(&format!("blobs/{hash}"), bytes)
    }

    /// Writes a file whole or not at all.
    fn write(&self, file: &str, bytes: &[u8]) -> Result<(), MarketError> {
        let path = self.folder.join(file);
        let parent = path.parent().unwrap_or(&self.folder);
        let written = std::fs::create_dir_all(parent)
            .and_then(|()| tempfile::NamedTempFile::new_in(parent))
            .and_then(|mut new| new.write_all(bytes).and_then(|()| new.as_file().sync_all()).map(|()| new))
            .and_then(|new| new.persist(&path).map_err(|error| error.error).map(drop));
        written.map_err(|error| SourceError::Folder(format!("{}: {error}", path.display())).into())
    }
}
