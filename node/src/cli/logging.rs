//! Logs on stderr, above the REPL's prompt where there is one.

use std::{
    io::{self, Write},
    sync::{Mutex, PoisonError, mpsc::SyncSender},
};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use super::hints;
use crate::command::{CommandError, ErrorCode};

/// Takes log lines while a prompt is on the terminal. Process-wide because logging is.
static ABOVE_THE_PROMPT: Mutex<Option<SyncSender<String>>> = Mutex::new(None);

/// Sends log lines to `printer` until the guard is dropped. Lines that do not fit into its queue are dropped: a
/// terminal that stands still must not stop a node.
pub fn print_above_prompt(printer: SyncSender<String>) -> AbovePrompt {
    *ABOVE_THE_PROMPT.lock().unwrap_or_else(PoisonError::into_inner) = Some(printer);
    AbovePrompt(())
}

/// Gives stderr back to the logs when dropped.
pub struct AbovePrompt(());

impl Drop for AbovePrompt {
    fn drop(&mut self) {
        *ABOVE_THE_PROMPT.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// What to log when `MSM_LOG` does not say: our crates at `ours`, others when they warn.
fn default_filter(verbose: u8, quiet: bool, daemon: bool) -> String {
    let ours = match (quiet, verbose, daemon) {
        (true, ..) => return "error".to_owned(),
        (_, 0, false) => "warn",
        (_, 0, true) | (_, 1, false) => "info",
        (_, 1, true) | (_, 2, false) => "debug",
        _ => return "trace".to_owned(),
    };
    format!("error,msm_node={ours},msm_sandbox={ours},msm_market_index={ours},msm_scheduler={ours},msm={ours}")
}

/// Starts logging. `MSM_LOG` (a tracing filter) wins over the flags.
pub fn start(verbose: u8, quiet: bool, daemon: bool, color: bool) -> Result<(), CommandError> {
    let filter = match std::env::var("MSM_LOG") {
        Ok(filter) if !filter.is_empty() => EnvFilter::try_new(&filter).map_err(|error| {
            let message = format!("MSM_LOG is not a filter such as \"info\" or \"msm_node=debug\": {error}");
            CommandError::new(ErrorCode::Usage, message).or_try(hints::help())
        })?,
        _ => EnvFilter::new(default_filter(verbose, quiet, daemon)),
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(color).with_writer(Logs).with_target(false);
    // A second start in one process (tests) keeps the first.
    let _ = logs.try_init();
    Ok(())
}

struct Logs;

impl<'a> MakeWriter<'a> for Logs {
    type Writer = Line;
    fn make_writer(&'a self) -> Line {
        Line(Vec::new())
    }
}

/// One event's text; written as a whole when it is complete.
struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let above = ABOVE_THE_PROMPT.lock().unwrap_or_else(PoisonError::into_inner);
        match above.as_ref() {
            Some(printer) => drop(printer.try_send(String::from_utf8_lossy(&self.0).into_owned())),
            None => drop(io::stderr().write_all(&self.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_filter_is_one() {
        for verbose in 0..4 {
            for (quiet, daemon) in [(false, false), (false, true), (true, false)] {
                EnvFilter::try_new(default_filter(verbose, quiet, daemon)).unwrap();
            }
        }
        assert!(default_filter(0, false, false).contains("msm_node=warn"));
        assert!(default_filter(0, false, true).contains("msm_node=info"));
    }
}
