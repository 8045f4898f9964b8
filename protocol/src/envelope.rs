//! Signed bytes: [`Envelope`] carries them, [`Verified`] is what only a verifier can make of them.
//!
//! A signature covers `SHA-256("msm:envelope:1" 0x00 type 0x00 payload)`: the exact payload bytes as they arrived,
//! bound to one document type, so that no signature can be moved to another document or re-encoded on the way.
//! Payloads are decoded only after the signatures have been counted.

use std::{collections::BTreeSet, ops::Deref};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_bytes::ByteBuf;
use sha2::{Digest, Sha256};

use crate::{
    PublicKey, SecretKey, Signature,
    cbor::{self, CborError},
    limits::SIGNATURES,
};

const DOMAIN: &[u8] = b"msm:envelope:1";

/// A type that travels signed.
pub trait Signed: Serialize + DeserializeOwned {
    /// The type name that signatures are bound to.
    const TYPE: &'static str;
    /// Bytes of the whole envelope at most.
    const LIMIT: usize;
}

/// One signature and the key that claims it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySignature {
    /// The signer. Kept as raw bytes: an unusable key is an uncounted signature, not an unreadable envelope.
    pub key: ByteBuf,
    /// Over the digest.
    pub sig: Signature,
}

/// Payload bytes, their type, and signatures that nobody has checked yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    sigs: Vec<KeySignature>,
    r#type: String,
    payload: ByteBuf,
}

/// Why an envelope is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Not an envelope, or its payload is not the document it says.
    #[error("bad-message: {0}")]
    Cbor(#[from] CborError),
    /// A document of another type.
    #[error("wrong-type: expected {expected}, got {found:?}")]
    Type {
        /// The type asked for.
        expected: &'static str,
        /// The type found.
        found: String,
    },
    /// Too few distinct trusted keys have signed.
    #[error("threshold {valid}/{threshold}")]
    Threshold {
        /// Distinct trusted keys with a valid signature.
        valid: usize,
        /// Keys needed.
        threshold: usize,
    },
    /// More signatures than anybody needs.
    #[error("{0} signatures, at most {SIGNATURES} are allowed")]
    TooManySignatures(usize),
}

impl Envelope {
    /// Encodes `document` and signs it with each of `keys`.
    pub fn sign<T: Signed>(document: &T, keys: &[&SecretKey]) -> Result<Self, CborError> {
        let payload = cbor::to_vec(document)?;
        let mut envelope = Self { sigs: Vec::new(), r#type: T::TYPE.to_owned(), payload: ByteBuf::from(payload) };
        for key in keys {
            envelope.add_signature(key);
        }
        Ok(envelope)
    }

    /// Adds one more signature over the same payload.
    pub fn add_signature(&mut self, key: &SecretKey) {
        let sig = key.sign(&digest(&self.r#type, &self.payload));
        self.sigs.push(KeySignature { key: ByteBuf::from(*key.public().as_bytes()), sig });
    }

    /// Adds the signatures of `other` by keys that have not signed here; false when it is another document.
    pub fn merge(&mut self, other: &Self) -> bool {
        if (&self.r#type, &self.payload) != (&other.r#type, &other.payload) {
            return false;
        }
        for signature in &other.sigs {
            if self.sigs.len() < SIGNATURES && !self.sigs.iter().any(|own| own.key == signature.key) {
                self.sigs.push(signature.clone());
            }
        }
        true
    }

    /// True when one of its signatures is by `key` and valid.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        let digest = digest(&self.r#type, &self.payload);
        let by = |signature: &&KeySignature| signature.key.as_slice() == key.as_bytes();
        self.sigs.iter().filter(by).any(|signature| key.verifies(&digest, &signature.sig))
    }

    /// Reads an envelope of type `T`. Nothing in it is trusted yet.
    pub fn from_slice<T: Signed>(bytes: &[u8]) -> Result<Self, VerifyError> {
        let envelope: Self = cbor::from_slice(bytes, T::LIMIT)?;
        if envelope.sigs.len() > SIGNATURES {
            return Err(VerifyError::TooManySignatures(envelope.sigs.len()));
        }
        Ok(envelope)
    }

    /// The bytes to send or store.
    pub fn to_vec(&self) -> Result<Vec<u8>, CborError> {
        cbor::to_vec(self)
    }

    /// What it says it is.
    pub fn document_type(&self) -> &str {
        &self.r#type
    }

    /// The signed bytes. Not to be decoded before [`Envelope::verify`].
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Counts the distinct keys among `trusted` that have signed and decodes the payload if they reach `threshold`.
    ///
    /// The only place in MSM that counts signatures. A threshold of 0 is never reached.
    pub fn verify<T: Signed>(&self, trusted: &[PublicKey], threshold: usize) -> Result<Verified<T>, VerifyError> {
        if self.r#type != T::TYPE {
            let found = self.r#type.chars().take(32).collect();
            return Err(VerifyError::Type { expected: T::TYPE, found });
        }
        let digest = digest(&self.r#type, &self.payload);
        let mut valid = BTreeSet::new();
        for signature in self.sigs.iter().take(SIGNATURES) {
            let Ok(key) = PublicKey::try_from(signature.key.as_slice()) else { continue };
            if trusted.contains(&key) && !valid.contains(&key) && key.verifies(&digest, &signature.sig) {
                valid.insert(key);
            }
        }
        if threshold == 0 || valid.len() < threshold {
            return Err(VerifyError::Threshold { valid: valid.len(), threshold });
        }
        let document = cbor::from_slice(&self.payload, T::LIMIT)?;
        Ok(Verified { document, signers: valid })
    }

    /// Verifies a document that names its own signer (presence, receipts): exactly the key it was sent under.
    pub fn verify_from<T: Signed>(&self, key: &PublicKey) -> Result<Verified<T>, VerifyError> {
        self.verify(std::slice::from_ref(key), 1)
    }

    /// The first key that claims to have signed, checked or not: to look up who to believe.
    pub fn claimed_key(&self) -> Option<PublicKey> {
        PublicKey::try_from(self.sigs.first()?.key.as_slice()).ok()
    }
}

/// What is signed: 32 bytes bound to a type and a payload.
pub fn digest(document_type: &str, payload: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(DOMAIN);
    hasher.update([0]);
    hasher.update(document_type.as_bytes());
    hasher.update([0]);
    hasher.update(payload);
    hasher.finalize().into()
}

/// A document whose signatures were counted. Cannot be made in any other way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T> {
    document: T,
    signers: BTreeSet<PublicKey>,
}

impl<T> Verified<T> {
    /// The trusted keys that signed.
    pub fn signers(&self) -> impl Iterator<Item = &PublicKey> {
        self.signers.iter()
    }

    /// The document alone. What it proves is lost with the wrapper.
    pub fn into_inner(self) -> T {
        self.document
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.document
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Note(String);
    impl Signed for Note {
        const TYPE: &'static str = "note";
        const LIMIT: usize = 1024;
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Other(String);
    impl Signed for Other {
        const TYPE: &'static str = "other";
        const LIMIT: usize = 1024;
    }

    fn key(n: u8) -> SecretKey {
        SecretKey::from_seed(&[n; 32])
    }

    #[test]
    fn a_signed_note_reads_back() {
        let envelope = Envelope::sign(&Note("hi".into()), &[&key(1)]).unwrap();
        let read = Envelope::from_slice::<Note>(&envelope.to_vec().unwrap()).unwrap();
        let note = read.verify::<Note>(&[key(1).public()], 1).unwrap();
        assert_eq!(*note, Note("hi".into()));
    }

    /// B06: one key counts once, however often it signs.
    #[test]
    fn b06_the_same_key_twice_is_one_signature() {
        let envelope = Envelope::sign(&Note("hi".into()), &[&key(1), &key(1)]).unwrap();
        let trusted = [key(1).public(), key(2).public()];
        assert_eq!(envelope.verify::<Note>(&trusted, 2), Err(VerifyError::Threshold { valid: 1, threshold: 2 }));
        let envelope = Envelope::sign(&Note("hi".into()), &[&key(1), &key(2)]).unwrap();
        assert!(envelope.verify::<Note>(&trusted, 2).is_ok());
    }

    #[test]
    fn forged_moved_and_foreign_signatures_do_not_count() {
        let none = Err(VerifyError::Threshold { valid: 0, threshold: 1 });
        let trusted = [key(1).public()];
        let foreign = Envelope::sign(&Note("hi".into()), &[&key(2)]).unwrap();
        assert_eq!(foreign.verify::<Note>(&trusted, 1), none);

        let mut changed = Envelope::sign(&Note("hi".into()), &[&key(1)]).unwrap();
        changed.payload = ByteBuf::from(cbor::to_vec(&Note("ho".into())).unwrap());
        assert_eq!(changed.verify::<Note>(&trusted, 1), none);

        let mut moved = Envelope::sign(&Note("hi".into()), &[&key(1)]).unwrap();
        assert!(matches!(moved.verify::<Other>(&trusted, 1), Err(VerifyError::Type { .. })));
        moved.r#type = Other::TYPE.into();
        assert!(matches!(moved.verify::<Other>(&trusted, 1), Err(VerifyError::Threshold { valid: 0, .. })));

        let good = Envelope::sign(&Note("hi".into()), &[&key(1)]).unwrap();
        assert_eq!(good.verify::<Note>(&trusted, 0), Err(VerifyError::Threshold { valid: 1, threshold: 0 }));
        assert_eq!(good.verify::<Note>(&[], 1), none);
    }

    #[test]
    fn too_many_signatures_are_refused_before_any_is_checked() {
        let mut envelope = Envelope::sign(&Note("hi".into()), &[]).unwrap();
        for _ in 0..=SIGNATURES {
            envelope.sigs.push(KeySignature { key: ByteBuf::new(), sig: Signature::from_bytes([0; 64]) });
        }
        let bytes = envelope.to_vec().unwrap();
        let limit = Note::LIMIT;
        assert!(
            bytes.len() > limit
                || matches!(Envelope::from_slice::<Note>(&bytes), Err(VerifyError::TooManySignatures(_)))
        );
    }
}
