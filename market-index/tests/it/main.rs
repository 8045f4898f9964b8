//! Tests of both sides of a market through the public API; `attacks` is named after the faults it shows.

mod attacks;
mod cases;
mod catalogue;
mod entry;
mod fixture;
mod histories;
mod hostile_trees;
mod manifests;
mod market;
mod pack;
mod pack_errors;
mod pack_files;
mod resolve;
mod signing;
mod tree;
mod trust;
mod unsigned;
mod verify;
