//! What crosses an MSM wire or is signed: ids, hashes, keys, envelopes, documents, messages and their limits.
//!
//! Pure: no IO, no async, no clock. `PROTOCOL.md` beside this crate describes every byte, for second implementations.
//!
//! Read in this order:
//! 1. [`limits`]: every bound, with its reason.
//! 2. [`hash`], [`key`], [`id`]: the three kinds of names.
//! 3. [`cbor`]: the one strict encoding.
//! 4. [`envelope`]: signed bytes, and [`Verified`], which only a verifier can make.
//! 5. [`document`]: what markets sign. [`manifest`]: what a service says about itself.
//! 6. [`device`], [`message`], [`job`]: what nodes say to each other. [`refusal`]: how they say no. [`evidence`]: what they
//!    keep of those who lied.

pub mod limits;

pub mod hash;
pub mod id;
pub mod key;

pub mod cbor;
pub mod envelope;

pub mod document;
pub mod manifest;
pub mod review;

pub mod device;
pub mod evidence;
pub mod job;
pub mod message;
pub mod refusal;

pub use envelope::{Envelope, Signed, Verified, VerifyError};
pub use hash::ContentHash;
pub use id::{JobId, MarketId, PeerId};
pub use key::{PublicKey, SecretKey, Signature};
pub use manifest::Manifest;
pub use refusal::{Refusal, RefusalCode};
