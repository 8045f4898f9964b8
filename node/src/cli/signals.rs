//! SIGINT and SIGTERM as futures.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::command::{CommandError, ErrorCode};

/// Exit code of a command that was interrupted from the keyboard.
pub const INTERRUPTED: u8 = 130;
/// Exit code of a command that was told to end.
pub const TERMINATED: u8 = 143;

/// Listens for both. Once made, the process no longer dies of them by itself.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Begins to listen.
    pub fn listen() -> Result<Self, CommandError> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| CommandError::new(ErrorCode::Failed, format!("cannot listen for signals: {error}")))
        };
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// The exit code of the next signal.
    pub async fn next(&mut self) -> u8 {
        tokio::select! {
            Some(()) = self.interrupt.recv() => INTERRUPTED,
            Some(()) = self.terminate.recv() => TERMINATED,
            else => std::future::pending().await,
        }
    }
}
