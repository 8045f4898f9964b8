//! The network room: one task owns the libp2p swarm and only translates between it and the node.
//!
//! [`NetHandle`] carries commands in, a bounded queue carries [`NetEvent`]s out. Nothing here decides: who is dialled,
//! believed, answered or blocked is the coordinator's business. Read in this order:
//! [`behaviour`] (what is composed, with every limit), [`handle`] (what can be asked), [`event_loop`] (the task).

pub mod behaviour;
pub mod codec;
pub mod event_loop;
pub mod handle;
pub mod limits;
pub mod linger;
pub mod mdns;
pub mod per_ip;
pub mod stream;

pub use event_loop::start;
pub use handle::{FoundBy, Gossip, NetConfig, NetError, NetEvent, NetHandle, Verdict};
