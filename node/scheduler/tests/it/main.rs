//! Integration tests: scores and selection by property, and jobs in a seeded simulation.

mod checker;
mod device;
mod fault;
mod found;
mod hire;
mod journal;
mod model;
mod net;
mod rng;
mod sabotage;
mod scene;
mod selection;
mod sim;
mod tenth;
mod trouble;
mod world;

use msm_protocol::PeerId;

/// The `n`th peer; ordered by `n`.
fn peer(n: u16) -> PeerId {
    let mut bytes = [0; 38];
    bytes[..6].copy_from_slice(&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20]);
    bytes[6..8].copy_from_slice(&n.to_be_bytes());
    PeerId::from_libp2p_bytes(&bytes).unwrap()
}
