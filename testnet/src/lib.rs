//! Real `msm` processes on real networks of their own, for tests and measurements. Read in this order:
//!
//! 1. [`binary`]: which `msm` is run. Nothing here links the node's code.
//! 2. [`node`]: one running node with a home of its own, and calls of its command line. [`speed`]: equal devices.
//! 3. [`net`]: hosts in network namespaces joined by a bridge, and what can be done to their links. [`delay`]: bad links.
//!    [`quota`]: processes that have a share of a core.
//! 4. [`market`]: a throw-away market with the services of this repository.
//! 5. [`photo`]: pictures to blur. [`website`]: pages to share. [`browser`]: what people see of them.
//! 6. [`wait`]: bounded waiting; [`stats`]: quantiles.

pub mod binary;
pub mod browser;
pub mod delay;
pub mod market;
pub mod net;
pub mod node;
pub mod photo;
pub mod quota;
pub mod speed;
pub mod stats;
pub mod wait;
pub mod website;
