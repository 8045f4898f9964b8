//! What may not change from one index to the next.

use std::collections::BTreeMap;

use msm_protocol::document::{Release, Status};

use super::TrustError;

/// Compares the releases of an index with those of the one before it: the same name and version mean the same bytes for
/// ever, and what was revoked stays revoked (or leaves the index, which runs nowhere either).
///
/// `old` are releases of the index that was in use until now, as many of them as this device knows, and `new` the same
/// ones as they stand now. `old` is empty when [`super::TrustedMarket::index`] had none:
/// after new keys took over, what a thief of the old keys has published or revoked binds nobody.
pub fn check_successor(old: &[Release], new: &[Release]) -> Result<(), TrustError> {
    let old: BTreeMap<_, _> = old.iter().map(|release| ((&release.name, &release.version), release)).collect();
    for release in new {
        let Some(before) = old.get(&(&release.name, &release.version)) else { continue };
        let reason = if before.manifest != release.manifest {
            "changed"
        } else if before.status == Status::Revoked && release.status != Status::Revoked {
            "unrevoked"
        } else {
            continue;
        };
        return Err(TrustError::Release { reason, name: release.name.clone(), version: release.version.clone() });
    }
    Ok(())
}
