//! `msm market proof|verify-proof`: evidence that a market has signed two histories, to be shown to anybody.

use std::path::Path;

use msm_market_index::{
    Proof,
    proof::{Histories, PROOF_BYTES},
};
use serde::Serialize;

use super::{
    hints,
    screen::{Screen, Stop},
};
use crate::{
    command::{CommandError, ErrorCode},
    floors::Floors,
    home::Home,
    node::markets::saved,
};

/// `msm.market-proof/1`.
#[derive(Serialize)]
struct ProofRow {
    schema: &'static str,
    market: msm_protocol::MarketId,
    fingerprint: String,
    root: u64,
    /// Number of the index of which there are two.
    version: u64,
    hashes: Vec<String>,
}

fn refused(message: String) -> CommandError {
    CommandError::new(ErrorCode::Verification, message)
}

/// Writes the proof that this home has of a market.
pub(super) fn write(home: &Home, market: &str, output: &Path, screen: &mut Screen) -> Result<(), Stop> {
    let markets = home.markets().map_err(CommandError::from)?;
    let entry = markets.find(market).ok_or_else(|| {
        CommandError::new(ErrorCode::NotFound, format!("not-found: no market {market:?} is trusted here"))
            .or_try(hints::market_list())
    })?;
    let floors = Floors::open(&home.floors_dir()).map_err(|error| refused(error.to_string()))?;
    let saved = saved::load(&floors, entry.market).map_err(|error| refused(error.to_string()))?;
    let Some(bytes) = saved.proof else {
        let message = format!("{}: this device has seen one history of it", entry.alias);
        return Err(CommandError::new(ErrorCode::NotFound, message).or_try(hints::market_list()).into());
    };
    let histories = check(&bytes)?;
    std::fs::write(output, &bytes)
        .map_err(|error| CommandError::new(ErrorCode::Failed, format!("{}: {error}", output.display())))?;
    show(histories, screen)
}

/// Checks a proof; no node and no network is needed.
pub(super) fn verify(proof: &Path, screen: &mut Screen) -> Result<(), Stop> {
    let bytes = std::fs::metadata(proof).and_then(|meta| {
        if meta.len() > PROOF_BYTES as u64 {
            return Err(std::io::Error::other(format!("has {} bytes, a proof has at most {PROOF_BYTES}", meta.len())));
        }
        std::fs::read(proof)
    });
    let bytes =
        bytes.map_err(|error| CommandError::new(ErrorCode::NotFound, format!("{}: {error}", proof.display())))?;
    show(check(&bytes)?, screen)
}

fn check(bytes: &[u8]) -> Result<Histories, CommandError> {
    let proof = Proof::from_slice(bytes).and_then(|proof| proof.check());
    proof.map_err(|error| refused(format!("this proves nothing: {error}")))
}

fn show(histories: Histories, screen: &mut Screen) -> Result<(), Stop> {
    let Histories { market, root, version, hashes: (one, other) } = histories;
    let other = other.map(|hash| hash.to_string());
    if screen.style.json {
        let hashes = [one.to_string()].into_iter().chain(other).collect();
        let (schema, fingerprint) = ("msm.market-proof/1", market.fingerprint());
        return screen.result_json(&ProofRow { schema, market, fingerprint, root, version, hashes });
    }
    screen.result_line(format!(
        "the market {} has signed two histories, under root {root}\nindex {version}  {one}\nindex {version}  {}",
        market.fingerprint(),
        other.as_deref().unwrap_or("none: the index after it follows no index")
    ))
}
