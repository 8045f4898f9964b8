//! The whole system from outside: architecture, the demo, network namespaces, containers.

mod arrows;
mod containers;
mod demo;
mod netns;
