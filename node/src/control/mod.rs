//! The door to a running node: its `control.sock`, one connection a command.
//!
//! Read in this order:
//! 1. [`wire`]: the frames and their caps.
//! 2. [`ControlServer`]: offers a [`Door`](crate::command::Door) on a Unix socket.
//! 3. [`ControlClient`]: is a [`Door`](crate::command::Door) that leads through the socket.
//!
//! The socket has no token: whoever can open it is this user (mode 0600, and the kernel's word for who connected).

mod client;
mod server;
mod socket;
pub mod spool;
#[cfg(test)]
mod tests;
pub mod wire;

pub use client::ControlClient;
pub use server::ControlServer;

use std::path::PathBuf;

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// A live process answers on it.
    #[error("already-running: a node answers on {0}")]
    AlreadyRunning(PathBuf),
    /// What stands in its place is no socket, so it is not ours to remove.
    #[error("{0} is in the way: it is not a socket")]
    NotASocket(PathBuf),
    /// The folder for large inputs cannot be used.
    #[error(transparent)]
    File(#[from] crate::home::FileError),
    /// The system refused.
    #[error("cannot serve {path}: {source}")]
    Io {
        /// The socket's path.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}
