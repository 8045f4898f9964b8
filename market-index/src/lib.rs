//! Both sides of a signed market: packing and publishing for its operator, verifying and choosing for its users.
//!
//! Pure but for reading and writing one folder: `now` and keys come in, bytes and decisions go out. Nothing here opens
//! a socket, reads a clock or draws a random number.
//!
//! Read in this order:
//! 1. [`pack`]: a service folder becomes a [`Package`]: a manifest and the blobs of its variants.
//! 2. [`entry`]: what a market says about one release, and the rules that both sides check. [`words`]: what finds it.
//! 3. [`tree`]: ordered trees of content-addressed pages. [`catalogue`]: the three of a market, and all that they list.
//! 4. [`trust`]: the user's side: [`TrustedMarket`] decides which root, head and index to believe. [`proof`]: what is
//!    kept of a market that has shown two histories.
//! 5. [`folder`]: a published market as static files. [`market`]: its operator's side. [`verify`]: a full inspection.
//! 6. [`mod@resolve`]: from `name@range` to a release.
//!
//! Invariants: a document is used only after [`TrustedMarket`] has accepted it, by operators too; a page or manifest
//! is used only after its hash has been compared with the one that the signed document names; state changes only when
//! every check has passed.

pub mod catalogue;
pub mod entry;
pub mod folder;
pub mod market;
pub mod pack;
pub mod proof;
pub mod resolve;
pub mod tree;
pub mod trust;
pub mod verify;
pub mod words;

pub use catalogue::Catalogue;
pub use folder::PublishedFolder;
pub use market::{Change, MarketError, MarketFolder, Outcome, Publisher, Signers, Wanting};
pub use pack::{
    Fault, PackError, Package, Recipe, SERVICE_TOML, VariantRecipe, pack_folder, read_recipe, read_sep, write_sep,
};
pub use proof::Proof;
pub use resolve::{ResolveError, ServiceRef, resolve};
pub use tree::{Scope, TreeError, TreeWalk};
pub use trust::{Floor, Freshness, HeadOutcome, RootOutcome, TrustError, TrustedMarket};
pub use verify::{Report, verify_folder};
