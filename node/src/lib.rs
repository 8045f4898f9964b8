//! An MSM node and its command line. Read in this order:
//!
//! 1. [`command`]: everything a node can be asked, and what it answers.
//! 2. [`home`], [`keys`], [`config`]: the files of a node, its secrets, its owner's settings.
//! 3. [`store`], [`floors`]: content by hash (a cache), trusted versions (never lost).
//! 4. [`monitor`], [`speed`], [`doctor`]: what the device has to lend, how quick it is, what is wrong with it.
//! 5. [`resources`]: what guests may use of the device, and the owner's grants.
//! 6. [`net`]: the libp2p swarm, behind two bounded queues. [`node`]: a running node, from trust to results.
//! 7. [`control`]: the door for other processes. [`cli`], [`repl`]: the doors for people. [`demo`]: all of it at once.
//!    [`proxy`]: the door for browsers.

pub mod blob;
pub mod body;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod control;
pub mod demo;
pub mod doctor;
pub mod floors;
pub mod home;
mod http;
pub mod keys;
pub mod monitor;
pub mod net;
pub mod node;
pub mod proxy;
pub mod repl;
pub mod resources;
pub mod speed;
pub mod store;

pub mod workshop;

#[cfg(test)]
mod own_mounts;
