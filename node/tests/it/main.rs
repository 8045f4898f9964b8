//! Whole nodes from outside: real processes, sockets, files, and peers that do not play by the rules.
//!
//! Read [`rig`] first (homes, processes, calls), then [`evil`] (a hostile peer with knobs) and [`gpsd`] (receivers). The
//! rest are stories.

mod evil;
mod gpsd;
mod rig;
mod wire;

mod choice;
mod cli;
mod constraints;
mod dht;
mod endurance;
mod evil_provider;
mod evil_requester;
mod evil_worker;
mod faults;
mod gossip;
mod grants;
mod guests;
mod jobs;
mod journal;
mod kills;
mod large;
mod liars;
mod live;
mod market;
mod market_life;
mod owner;
mod positions;
mod private;
mod remote_split;
mod repl;
mod revoked;
mod services;
mod slow_streams;
mod small_calls;
