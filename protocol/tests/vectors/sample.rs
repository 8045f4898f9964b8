//! What a vector is: bytes, what they are, and how to read them again.

use msm_protocol::{
    Envelope, Manifest, PublicKey, SecretKey, Signed,
    cbor::{self, CborError},
    device::DeviceInfo,
    document::{Head, Index, Mention, Page, Release, Revocation, Root},
    envelope,
    evidence::{EVIDENCE_BYTES, Evidence},
    job::{Receipt, ToRequester, ToWorker},
    limits::{
        CONTROL_BYTES, FILES, FRAME_BYTES, HEAD_RESPONSE_BYTES, MANIFEST_BYTES, PACKAGE_BYTES, PAGE_BYTES, VARIANTS,
    },
    message::{BlobRequest, BlobResponse, Discovery, HeadRequest, HeadResponse, Presence},
    review::Report,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_bytes::ByteBuf;

/// A `.sep` file: a package, and the CBOR around its blobs.
pub const SEP_BYTES: usize = PACKAGE_BYTES + 128 + 9 * FILES * (VARIANTS + 1);

/// Reads bytes as one kind of message and writes them again.
pub type Again = fn(&[u8]) -> Result<Vec<u8>, String>;

/// Whether these bytes are believed when all of these keys must have signed.
pub type Verifies = fn(&[u8], &[PublicKey]) -> bool;

/// What a sample is.
pub enum Form {
    /// Bytes that are no message of their own.
    Raw,
    /// Bytes and the text that people see for them.
    Text(String),
    /// CBOR of this Rust type.
    Message(&'static str, Again),
    /// An envelope and how it was made.
    Signed {
        document: &'static str,
        seeds: Vec<u8>,
        payload: Vec<u8>,
        digest: [u8; 32],
        again: Again,
        verifies: Verifies,
    },
    /// Bytes that no receiver of this type takes, and the kind of error.
    Refused(&'static str, String),
}

/// One vector.
pub struct Sample {
    pub name: String,
    pub note: &'static str,
    pub bytes: Vec<u8>,
    pub form: Form,
}

/// The `.sep` bundle: `market-index` reads and writes it, its bytes are part of the protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    pub v: u8,
    pub blobs: Vec<ByteBuf>,
}

pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// Decodes, encodes, decodes again: the two values must be the same.
pub fn again<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug, const LIMIT: usize>(
    bytes: &[u8],
) -> Result<Vec<u8>, String> {
    let value: T = cbor::from_slice(bytes, LIMIT).map_err(|e| e.to_string())?;
    let encoded = cbor::to_vec(&value).map_err(|e| e.to_string())?;
    assert_eq!(cbor::from_slice::<T>(&encoded, LIMIT).as_ref(), Ok(&value));
    Ok(encoded)
}

fn manifest_again(bytes: &[u8]) -> Result<Vec<u8>, String> {
    Manifest::from_slice(bytes).map_err(|e| e.to_string())?;
    again::<Manifest, MANIFEST_BYTES>(bytes)
}

/// Reads an envelope and its payload without believing either.
fn envelope_again<T: Signed + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let envelope = Envelope::from_slice::<T>(bytes).map_err(|e| e.to_string())?;
    let document: T = cbor::from_slice(envelope.payload(), T::LIMIT).map_err(|e| e.to_string())?;
    let encoded = cbor::to_vec(&document).map_err(|e| e.to_string())?;
    assert_eq!(cbor::from_slice::<T>(&encoded, T::LIMIT).as_ref(), Ok(&document));
    let _ = envelope.claimed_key();
    let encoded = envelope.to_vec().map_err(|e| e.to_string())?;
    assert_eq!(Envelope::from_slice::<T>(&encoded).as_ref(), Ok(&envelope));
    Ok(encoded)
}

fn verifies<T: Signed>(bytes: &[u8], trusted: &[PublicKey]) -> bool {
    Envelope::from_slice::<T>(bytes).is_ok_and(|envelope| envelope.verify::<T>(trusted, trusted.len()).is_ok())
}

/// Every decoder, for bytes of unknown kind.
pub const DECODERS: &[Again] = &[
    again::<Discovery, CONTROL_BYTES>,
    again::<DeviceInfo, CONTROL_BYTES>,
    again::<HeadRequest, CONTROL_BYTES>,
    again::<HeadResponse, HEAD_RESPONSE_BYTES>,
    again::<BlobRequest, CONTROL_BYTES>,
    again::<BlobResponse, FRAME_BYTES>,
    again::<ToWorker, FRAME_BYTES>,
    again::<ToRequester, FRAME_BYTES>,
    again::<Page<Release>, PAGE_BYTES>,
    again::<Page<Mention>, PAGE_BYTES>,
    again::<Page<Revocation>, PAGE_BYTES>,
    again::<Manifest, MANIFEST_BYTES>,
    manifest_again,
    again::<Bundle, SEP_BYTES>,
    again::<Evidence, EVIDENCE_BYTES>,
    envelope_again::<Root>,
    envelope_again::<Index>,
    envelope_again::<Head>,
    envelope_again::<Presence>,
    envelope_again::<Receipt>,
    envelope_again::<Report>,
];

/// Vectors in the making.
#[derive(Default)]
pub struct Samples(pub Vec<Sample>);

impl Samples {
    fn push(&mut self, name: impl Into<String>, note: &'static str, bytes: &[u8], form: Form) {
        self.0.push(Sample { name: name.into(), note, bytes: bytes.to_vec(), form });
    }

    pub fn text(&mut self, name: &str, note: &'static str, bytes: &[u8], text: impl ToString) {
        self.push(name, note, bytes, Form::Text(text.to_string()));
    }

    pub fn raw(&mut self, name: &str, note: &'static str, bytes: &[u8]) {
        self.push(name, note, bytes, Form::Raw);
    }

    pub fn message<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug, const LIMIT: usize>(
        &mut self,
        name: &str,
        note: &'static str,
        value: &T,
    ) -> Vec<u8> {
        let bytes = cbor::to_vec(value).unwrap();
        self.push(name, note, &bytes, Form::Message(short_name::<T>(), again::<T, LIMIT>));
        bytes
    }

    pub fn signed<T: Signed + PartialEq + std::fmt::Debug>(
        &mut self,
        name: &str,
        note: &'static str,
        document: &T,
        seeds: &[u8],
    ) -> Vec<u8> {
        let keys: Vec<SecretKey> = seeds.iter().map(|seed| key(*seed)).collect();
        let signed = Envelope::sign(document, &keys.iter().collect::<Vec<_>>()).unwrap();
        let trusted: Vec<PublicKey> = keys.iter().map(SecretKey::public).collect();
        assert_eq!(*signed.verify::<T>(&trusted, seeds.len()).unwrap(), *document);
        let (payload, bytes) = (signed.payload().to_vec(), signed.to_vec().unwrap());
        let digest = envelope::digest(T::TYPE, &payload);
        let (again, verifies) = (envelope_again::<T>, verifies::<T>);
        let form = Form::Signed { document: T::TYPE, seeds: seeds.to_vec(), payload, digest, again, verifies };
        self.push(name, note, &bytes, form);
        bytes
    }

    pub fn refused(
        &mut self,
        name: &str,
        note: &'static str,
        bytes: &[u8],
        reader: &'static str,
        error: impl ToString,
    ) {
        self.push(format!("refuse/{name}"), note, bytes, Form::Refused(reader, error.to_string()));
    }

    /// Deterministic CBOR that is no `T`.
    pub fn misread<T: DeserializeOwned>(&mut self, name: &str, note: &'static str, bytes: &[u8]) {
        assert_eq!(cbor::check(bytes), Ok(()), "{name}");
        let Err(error) = cbor::from_slice::<T>(bytes, FRAME_BYTES) else { panic!("{name} is read") };
        self.refused(name, note, bytes, short_name::<T>(), class(&error));
    }
}

fn short_name<T>() -> &'static str {
    std::any::type_name::<T>().rsplit("::").next().unwrap_or_default()
}

/// The kind of an error, without the words of a library.
pub fn class(error: &CborError) -> &'static str {
    match error {
        CborError::Truncated => "truncated",
        CborError::Trailing(_) => "trailing",
        CborError::Depth => "depth",
        CborError::Utf8 => "utf8",
        CborError::Form(_) => "form",
        CborError::Shape(_) => "shape",
        other => panic!("no vector has {other}"),
    }
}
