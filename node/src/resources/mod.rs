//! What guests may use of this device beside its processor, and who decides that. Read in this order:
//!
//! 1. [`words`]: rights, audiences, callers. [`grants`]: what the owner granted.
//! 2. [`gate`]: asked AND granted AND within the ceiling makes a [`Permit`]; nothing else does. [`denial`]: why not.
//! 3. [`device`], [`location`], [`fetch`]: the resources, each of which demands its permit. [`quota`]: how much.
//! 4. [`broker`]: answers the questions of one call. [`ledger`]: every decision, on disk; `tally`: repeats of one. [`pending`]: for the owner.
//! 5. [`steward`]: keeps all of it for a node.

pub mod broker;
pub mod denial;
pub mod device;
pub mod fetch;
pub mod gate;
pub mod grants;
pub mod ledger;
pub mod location;
pub mod pending;
pub mod quota;
pub mod steward;
mod tally;
pub mod words;

pub use gate::{DeviceState, Gps, Net, Permit};
pub use steward::Steward;
