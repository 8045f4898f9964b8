//! The broker with hostile guests, withdrawn consent and a full ledger.
