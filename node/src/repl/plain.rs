//! Lines from a pipe, a script or flags: nothing is echoed, the first error ends it.

use std::{
    io::{self, BufRead, Read},
    thread,
};

use tokio::sync::mpsc;

use super::{Flow, LINE_BYTES, Session};
use crate::{
    cli::screen::{Screen, Stop},
    command::{CommandError, Door, ErrorCode},
};

/// Lines read ahead: the next one, while this one is carried out.
const AHEAD: usize = 1;

/// Lines that come from a thread of their own: reading them may block for ever.
pub struct Lines(mpsc::Receiver<io::Result<String>>);

/// Reads lines from `source` until its end or the first error.
pub fn lines(source: impl BufRead + Send + 'static) -> Lines {
    let (sender, receiver) = mpsc::channel(AHEAD);
    thread::spawn(move || {
        let mut source = source;
        while let Some(line) = next_line(&mut source).transpose() {
            let failed = line.is_err();
            if sender.blocking_send(line).is_err() || failed {
                return;
            }
        }
    });
    Lines(receiver)
}

fn next_line(source: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    source.take(LINE_BYTES as u64 + 1).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.len() > LINE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a line is longer than {LINE_BYTES} bytes")));
    }
    let line =
        String::from_utf8(line).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a line is not UTF-8"))?;
    Ok(Some(line))
}

/// Carries out lines until their end, `quit`, or the first error; with `keep_going` the first error is remembered and
/// its exit code given at the end.
pub async fn run<D: Door>(
    session: &mut Session<D>,
    mut lines: Lines,
    keep_going: bool,
    screen: &mut Screen,
) -> Result<(), Stop> {
    let mut first_error = None;
    while let Some(line) = lines.0.recv().await {
        let line = line.map_err(|error| CommandError::new(ErrorCode::Usage, error.to_string()))?;
        match session.line(&line, screen).await {
            Ok(Flow::Next) => {}
            Ok(Flow::Quit) => break,
            Err(Stop::Exit(code)) if keep_going => {
                first_error.get_or_insert(code);
            }
            Err(stop) => return Err(stop),
        }
    }
    first_error.map_or(Ok(()), |code| Err(Stop::Exit(code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_at_their_cap() {
        let mut source = io::Cursor::new(b"peers\n\nlast".to_vec());
        for expected in [Some("peers\n"), Some("\n"), Some("last"), None] {
            assert_eq!(next_line(&mut source).unwrap().as_deref(), expected);
        }
        assert!(next_line(&mut io::BufReader::new(io::repeat(b'x'))).is_err());
        assert!(next_line(&mut io::Cursor::new(b"\xff\n")).is_err());
    }
}
