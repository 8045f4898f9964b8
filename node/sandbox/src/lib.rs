//! Runs service code in a child process behind walls, killed at its deadline.
//!
//! No guest code runs in the caller's process. [`Sandbox`] keeps a small pool of children, each this same program
//! started again with a hidden argument, and speaks with each over one inherited socket pair. A child puts up its
//! walls (see [`Walls`]) before it reads the first byte of a package, serves one package for one peer, and dies with
//! its parent. Whatever a guest does to its child (crash, loop, eat memory), the caller gets a
//! [`Refusal`](msm_protocol::Refusal).
//!
//! A program that uses this crate calls [`run_if_child`] first thing in `main`.
//!
//! Read in this order:
//! 1. [`call`]: what is run and what comes back. [`config`]: how many children, which walls must be up.
//!    [`resources`]: what a guest may ask of its device. [`ceiling`]: processor time for many guests together.
//! 2. `pool`: which child serves which call. `process`: one child from birth to grave. `exchange`: one call with it.
//!    `compiled`: WebAssembly that was compiled, once, in a child of its own.
//! 3. `wire`: the bytes on the socket pair between the two sides.
//! 4. `guest`: the child's side: its walls, its loop, the two engines and what a guest may reach through each.
//! 5. [`work`]: how inputs are cut into tasks and outputs put together; every format that crosses the network.

pub mod call;
pub mod ceiling;
pub mod config;
pub mod resources;
pub mod walls;
pub mod work;

mod compiled;
mod exchange;
mod guest;
mod pool;
mod process;
mod wire;

pub use call::{Asks, Budget, Call, Engine, Files, Op, Output, Package, Phases, Work};
pub use ceiling::Ceiling;
pub use config::{SandboxConfig, SandboxError, WallPolicy};
pub use guest::{run_if_child, run_if_child_with_probe};
pub use pool::{Sandbox, Stint};
pub use resources::{Answer, Answering, Ask, AskError, AskErrorKind, Resources};
pub use walls::{Wall, WallName, Walls};
pub use work::Aim;
