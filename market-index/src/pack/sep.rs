//! A `.sep` file: a whole package in one bundle, to carry by hand.
//!
//! Format: one deterministic CBOR item of at most [`PACKAGE_BYTES`] plus [`HEADER_BYTES`]:
//!
//! ```text
//! { "v": 1, "blobs": [ manifest, blob 1, blob 2, … ] }      every element a byte string; after the manifest every
//!                                                          blob that it names, once, variant by variant, then assets
//! ```
//!
//! Deterministic CBOR has one form, so that a package has exactly one bundle. Nothing in it is signed and nothing needs
//! to be: the market's index names the hash of the manifest, and the manifest names the hashes of the others.

use msm_protocol::{
    cbor,
    limits::{FILES, PACKAGE_BYTES, VARIANTS},
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{PackError, Package};

/// The version of the format.
const VERSION: u8 = 1;
/// The CBOR around the blobs: two keys and a header of up to 9 bytes for each blob, rounded up.
const HEADER_BYTES: usize = 128 + 9 * FILES * (VARIANTS + 1);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bundle {
    v: u8,
    blobs: Vec<ByteBuf>,
}

/// The bundle of `package`.
pub fn write_sep(package: &Package) -> Result<Vec<u8>, PackError> {
    package.check()?;
    let blobs = std::iter::once(&package.manifest_bytes).chain(package.blobs.iter().map(|(_, bytes)| bytes));
    let bundle = Bundle { v: VERSION, blobs: blobs.map(|bytes| ByteBuf::from(bytes.as_slice())).collect() };
    cbor::to_vec(&bundle).map_err(|e| PackError::Bundle(e.to_string()))
}

/// Reads a bundle, as strictly as [`Package::from_parts`].
pub fn read_sep(bytes: &[u8]) -> Result<Package, PackError> {
    let bad = |reason: String| PackError::Bundle(reason);
    let bundle: Bundle =
        cbor::from_slice(bytes, PACKAGE_BYTES + HEADER_BYTES).map_err(|e| bad(format!("not a bundle: {e}")))?;
    if bundle.v != VERSION {
        return Err(bad(format!("a bundle of version {}, this program reads {VERSION}", bundle.v)));
    }
    let mut blobs = bundle.blobs.into_iter().map(ByteBuf::into_vec);
    let manifest = blobs.next().ok_or_else(|| bad("a bundle without a manifest".into()))?;
    Package::from_parts(manifest, blobs.collect())
}
