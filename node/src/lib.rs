//! An MSM node and its command line. Read in this order:
//!
//! 1. [`command`]: everything a node can be asked, and what it answers.

pub mod command;
