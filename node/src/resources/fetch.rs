//! `net.fetch`: the web, for guests.

use msm_sandbox::{Answer, AskError, AskErrorKind};

use super::{Net, Permit};
use crate::config::ResourcesConfig;

/// What all fetches of this node share.
#[derive(Debug, Default)]
pub struct Web {}

impl Web {
    /// As the owner allows it.
    pub fn new(_: &ResourcesConfig) -> Self {
        Self::default()
    }
}

/// Fetches what `body`, the guest's JSON, asks for.
pub async fn fetch(_: &Permit<Net>, _: &Web, _body: &[u8]) -> Result<Answer, AskError> {
    Err(AskError::new(AskErrorKind::Failed, "this device cannot fetch yet"))
}
