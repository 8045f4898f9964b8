//! Downloads a published market from a web server into a folder, so that it can be inspected like any other.

use std::{fs, path::Path};

use msm_market_index::{
    HeadOutcome, TreeWalk, TrustedMarket,
    catalogue::{all_releases, all_revocations, all_words},
    entry::open_manifest,
    tree::Leaf,
    trust::NO_CLOCK,
};
use msm_protocol::{
    ContentHash, MarketId,
    document::Status,
    limits::{HEAD_BYTES, INDEX_BYTES, MANIFEST_BYTES, PACKAGE_BYTES, PAGE_BYTES, REPORT_BYTES, ROOT_BYTES},
};

use crate::{
    command::{CommandError, ErrorCode},
    node::markets::source::{Source, SourceError},
};

/// Bytes of one market that are downloaded to be inspected. *Judgement*: some hundred packages of full size.
const MARKET_BYTES: u64 = 1 << 30;
/// Roots that are downloaded; one a year is usual.
const ROOTS: u64 = 64;

/// Downloads what the market's documents lead to. What is missing or wrong is left to the inspection to name; an error
/// here means that the server could not be asked, or that there is no end.
pub(super) async fn download(url: &str, market: MarketId) -> Result<tempfile::TempDir, CommandError> {
    let folder = tempfile::tempdir().map_err(|error| failed(error.to_string()))?;
    let source = Source::Http(url.trim_end_matches('/').to_owned());
    let mut mirror = Mirror { source, folder: folder.path(), left: MARKET_BYTES };
    mirror.market(market).await?;
    Ok(folder)
}

fn failed(reason: String) -> CommandError {
    CommandError::new(ErrorCode::Failed, format!("the market cannot be downloaded: {reason}"))
}

struct Mirror<'a> {
    source: Source,
    folder: &'a Path,
    left: u64,
}

impl Mirror<'_> {
    /// Downloads one file and keeps it; `None` when the server has none.
    async fn file(&mut self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, CommandError> {
        let unreachable = |error: SourceError| CommandError::new(ErrorCode::NotFound, error.to_string());
        let Some(bytes) = self.source.file(path, limit as u64).await.map_err(unreachable)? else { return Ok(None) };
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| failed(format!("it is larger than {MARKET_BYTES} bytes")))?;
        let place = self.folder.join(path);
        let written =
            fs::create_dir_all(place.parent().unwrap_or(self.folder)).and_then(|()| fs::write(&place, &bytes));
        written.map_err(|error| failed(error.to_string()))?;
        Ok(Some(bytes))
    }

    async fn blob(&mut self, hash: &ContentHash, limit: usize) -> Result<Option<Vec<u8>>, CommandError> {
        let bytes = self.file(&format!("blobs/{hash}"), limit).await?;
        Ok(bytes.filter(|bytes| ContentHash::of(bytes) == *hash))
    }

    /// Follows roots, head, index, tree, manifests. The inspection looks at dates.
    async fn market(&mut self, market: MarketId) -> Result<(), CommandError> {
        let mut trusted = TrustedMarket::pin(market);
        for version in 1..=ROOTS {
            let Some(root) = self.file(&format!("root/{version}.cbor"), ROOT_BYTES).await? else { break };
            if trusted.update_root(&root, NO_CLOCK).is_err() {
                return Ok(());
            }
        }
        let Some(head) = self.file("head.cbor", HEAD_BYTES).await? else { return Ok(()) };
        let Ok(HeadOutcome::Fetch { hash, .. }) = trusted.update_head(&head, NO_CLOCK) else { return Ok(()) };
        let Some(index) = self.blob(&hash, INDEX_BYTES).await? else { return Ok(()) };
        if trusted.update_index(&index, NO_CLOCK).is_err() {
            return Ok(());
        }
        let Some(index) = trusted.index() else { return Ok(()) };
        let releases = self.tree(all_releases(index)).await?;
        let (Some(releases), Some(_), Some(_)) =
            (releases, self.tree(all_words(index)).await?, self.tree(all_revocations(index)).await?)
        else {
            return Ok(());
        };
        for release in &releases {
            // A revoked one is asked for too: that it is still served is a fault.
            let Some(bytes) = self.blob(&release.manifest, MANIFEST_BYTES).await? else { continue };
            for review in &release.reviews {
                self.blob(&review.report, REPORT_BYTES).await?;
            }
            let Ok(manifest) = open_manifest(release, &bytes) else { continue };
            for (hash, _) in manifest.blobs().filter(|_| release.status != Status::Revoked) {
                self.blob(&hash, PACKAGE_BYTES).await?;
            }
        }
        Ok(())
    }

    /// All entries of a tree; `None` when the server does not have it, or has something else.
    async fn tree<E: Leaf>(&mut self, mut walk: TreeWalk<E>) -> Result<Option<Vec<E>>, CommandError> {
        let mut pages = std::collections::HashMap::new();
        loop {
            let Ok(missing) = walk.advance(|page| pages.remove(page)) else { return Ok(None) };
            if missing.is_empty() {
                return Ok(walk.entries().ok());
            }
            for page in missing {
                match self.blob(&page, PAGE_BYTES).await? {
                    Some(bytes) => drop(pages.insert(page, bytes)),
                    None => return Ok(None),
                }
            }
        }
    }
}
