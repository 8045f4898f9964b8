//! [`Evidence`]: what a requester keeps of a worker that signed a wrong output, for anyone who has package and input.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    ContentHash, Envelope, JobId, PeerId, Verified, VerifyError,
    cbor::{self, CborError},
    job::{Claim, Receipt},
    limits::{CONTROL_BYTES, PARAMS_BYTES},
};

/// Bytes of one piece of evidence at most: the parameters, and receipts that vouch for many tasks each.
pub const EVIDENCE_BYTES: usize = (EVIDENCE_OTHERS + 2) * CONTROL_BYTES;
/// Receipts of others that may stand beside the liar's: the most voters of one task, without it.
pub const EVIDENCE_OTHERS: usize = 4;

/// A worker's signed word about one task, and what the right output is. Nobody need believe who wrote it: the receipt
/// says what the worker claimed, and running the package on the input says what is right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Format version, 1.
    pub v: u8,
    /// Who gave the right output: the requester itself, or another worker.
    pub by: PeerId,
    /// The job.
    pub job: JobId,
    /// Index of the task in its job.
    pub task: u32,
    /// When it was found, Unix seconds by the requester's clock.
    pub time: u64,
    /// The number of tasks that the guest was told.
    pub count: u32,
    /// SHA-256 of the right output.
    pub right: ContentHash,
    /// Receipts of other workers for the right output of this task, at most [`EVIDENCE_OTHERS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<ByteBuf>,
    /// The parameters as the offer had them.
    pub params: String,
    /// The envelope of the liar's [`Receipt`], as it came.
    pub receipt: ByteBuf,
}

/// Why something is no evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// Not readable.
    #[error("bad-message: {0}")]
    Cbor(#[from] CborError),
    /// Of another version.
    #[error("version {0} is not 1")]
    Version(u8),
    /// Longer lists or texts than anybody needs.
    #[error("{what}: {found}, at most {most}")]
    Bounds {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// The receipt is signed by nobody, or not by the worker that it names.
    #[error("the receipt: {0}")]
    Receipt(#[from] VerifyError),
    /// The receipt does not name its signer.
    #[error("the receipt names another worker than the one that signed it")]
    NotItsOwn,
    /// The receipt does not claim this task of this job.
    #[error("the receipt is not for task {0}")]
    AnotherTask(u32),
    /// The worker claimed what is right.
    #[error("the worker's output is the right one")]
    NoLie,
}

impl Evidence {
    /// Reads evidence. Nothing in it is believed yet.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, EvidenceError> {
        let evidence: Self = cbor::from_slice(bytes, EVIDENCE_BYTES)?;
        if evidence.v != 1 {
            return Err(EvidenceError::Version(evidence.v));
        }
        let bounds =
            [("others", evidence.others.len(), EVIDENCE_OTHERS), ("params", evidence.params.len(), PARAMS_BYTES)];
        for (what, found, most) in bounds {
            if found > most {
                return Err(EvidenceError::Bounds { what, found, most });
            }
        }
        Ok(evidence)
    }

    /// The bytes to keep.
    pub fn to_vec(&self) -> Result<Vec<u8>, CborError> {
        cbor::to_vec(self)
    }

    /// The liar's claim, when it is one: in a receipt signed by the worker that it names, for this task, with another
    /// output than `right`. What remains to be seen is whether `right` is right, by running the package on the input.
    pub fn claim(&self) -> Result<Claim, EvidenceError> {
        let receipt = own_receipt(&self.receipt)?.into_inner();
        let mut of_task =
            receipt.claims.iter().filter(|claim| (claim.job, claim.task) == (self.job, self.task)).peekable();
        if of_task.peek().is_none() {
            return Err(EvidenceError::AnotherTask(self.task));
        }
        of_task.find(|claim| claim.output != self.right).copied().ok_or(EvidenceError::NoLie)
    }
}

/// A receipt that is signed by the worker that it names.
fn own_receipt(bytes: &[u8]) -> Result<Verified<Receipt>, EvidenceError> {
    let envelope = Envelope::from_slice::<Receipt>(bytes)?;
    let key = envelope.claimed_key().ok_or(EvidenceError::NotItsOwn)?;
    let receipt = envelope.verify_from::<Receipt>(&key)?;
    if receipt.peer != PeerId::of(&key) {
        return Err(EvidenceError::NotItsOwn);
    }
    Ok(receipt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{JobId, SecretKey};

    fn evidence() -> (SecretKey, Receipt, Evidence) {
        let key = SecretKey::from_seed(&[5; 32]);
        let claim = |task, output| Claim {
            job: JobId::from_bytes([3; 16]),
            task,
            input: ContentHash::of(b"in"),
            output: ContentHash::of(output),
        };
        let claims = vec![claim(6, b"right".as_slice()), claim(7, b"wrong")];
        let receipt = Receipt { v: 1, peer: PeerId::of(&key.public()), claims, package: ContentHash::of(b"package") };
        let evidence = Evidence {
            v: 1,
            by: PeerId::of(&SecretKey::from_seed(&[6; 32]).public()),
            job: JobId::from_bytes([3; 16]),
            task: 7,
            time: 1_800_000_000,
            count: 9,
            right: ContentHash::of(b"right"),
            others: vec![],
            params: "{}".into(),
            receipt: signed(&receipt, &key),
        };
        (key, receipt, evidence)
    }

    fn signed(receipt: &Receipt, key: &SecretKey) -> ByteBuf {
        ByteBuf::from(Envelope::sign(receipt, &[key]).unwrap().to_vec().unwrap())
    }

    #[test]
    fn a_signed_wrong_output_is_evidence() {
        let (_, receipt, evidence) = evidence();
        let read = Evidence::from_slice(&evidence.to_vec().unwrap()).unwrap();
        assert_eq!(read, evidence);
        assert_eq!(read.claim(), Ok(receipt.claims[1]));
    }

    #[test]
    fn nobody_is_accused_by_what_he_did_not_sign() {
        let (key, receipt, evidence) = evidence();
        let other = SecretKey::from_seed(&[9; 32]);
        let with = |receipt| Evidence { receipt, ..evidence.clone() }.claim();
        assert_eq!(with(signed(&receipt, &other)), Err(EvidenceError::NotItsOwn), "signed by somebody else");
        let mut flipped = signed(&receipt, &key);
        for at in 0..flipped.len() {
            flipped[at] ^= 1;
            assert!(with(flipped.clone()).is_err(), "byte {at}");
            flipped[at] ^= 1;
        }
        let changed = |change: &dyn Fn(&mut Claim)| {
            let mut receipt = receipt.clone();
            change(&mut receipt.claims[1]);
            with(signed(&receipt, &key))
        };
        assert_eq!(changed(&|claim| claim.task = 8), Err(EvidenceError::AnotherTask(7)));
        assert_eq!(changed(&|claim| claim.job = JobId::from_bytes([4; 16])), Err(EvidenceError::AnotherTask(7)));
        assert_eq!(changed(&|claim| claim.output = evidence.right), Err(EvidenceError::NoLie));
    }

    #[test]
    fn long_or_newer_evidence_is_refused() {
        let (_, _, evidence) = evidence();
        let read = |evidence: Evidence| Evidence::from_slice(&evidence.to_vec().unwrap());
        assert_eq!(read(Evidence { v: 2, ..evidence.clone() }), Err(EvidenceError::Version(2)));
        let others = vec![ByteBuf::from([0]); EVIDENCE_OTHERS + 1];
        let error = read(Evidence { others, ..evidence.clone() }).unwrap_err();
        assert_eq!(error.to_string(), "others: 5, at most 4");
        let params = " ".repeat(PARAMS_BYTES + 1);
        assert!(matches!(read(Evidence { params, ..evidence }), Err(EvidenceError::Bounds { what: "params", .. })));
    }
}
