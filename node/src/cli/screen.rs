//! Where results and messages go, and how a command ends.

use std::{
    ffi::OsStr,
    io::{self, IsTerminal, Write},
};

use clap::ValueEnum;

use super::render;
use crate::command::CommandError;

/// `--color`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorWish {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl ColorWish {
    /// Whether to colour what goes to a stream that is a terminal or not.
    pub fn allows(self, terminal: bool, env: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if env("NO_COLOR") => false,
            Self::Auto => terminal || env("CLICOLOR_FORCE"),
        }
    }
}

/// True when the variable is set to something.
pub fn env_is_set(name: &str) -> bool {
    std::env::var_os(name)
        .is_some_and(|value| !value.is_empty() && (name != "CLICOLOR_FORCE" || value != OsStr::new("0")))
}

/// How to show things.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// Results and errors as JSON objects.
    pub json: bool,
    /// No progress.
    pub quiet: bool,
    /// Colours in messages.
    pub color: bool,
    /// Bars in messages: stderr is a terminal.
    pub bars: bool,
    /// Results go to a terminal.
    pub out_terminal: bool,
    /// Somebody can be asked.
    pub may_ask: bool,
}

/// Why a command ended before its end.
#[derive(Debug)]
pub enum Stop {
    /// It failed; the error is still to be shown.
    Failed(CommandError),
    /// Nobody reads our results any more (`| head`): no reason to go on, none to complain.
    PipeClosed,
    /// Ended with this exit code, and everything is said.
    Exit(u8),
}

impl From<CommandError> for Stop {
    fn from(error: CommandError) -> Self {
        Self::Failed(error)
    }
}

/// Results (stdout) and messages (stderr).
pub struct Screen {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    /// How to show things.
    pub style: Style,
}

impl Screen {
    /// This process's streams.
    pub fn standard(json: bool, quiet: bool, color: ColorWish, no_input: bool) -> Self {
        let (out, err) = (io::stdout(), io::stderr());
        let bars = err.is_terminal() && !quiet && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let style = Style {
            json,
            quiet,
            color: color.allows(err.is_terminal(), env_is_set),
            bars,
            out_terminal: out.is_terminal(),
            may_ask: !no_input && io::stdin().is_terminal() && err.is_terminal(),
        };
        Self { out: Box::new(out), err: Box::new(err), style }
    }

    /// Other streams.
    pub fn on(out: impl Write + Send + 'static, err: impl Write + Send + 'static, style: Style) -> Self {
        Self { out: Box::new(out), err: Box::new(err), style }
    }

    /// Writes a result.
    pub fn result(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        match self.out.write_all(bytes).and_then(|()| self.out.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Stop::PipeClosed),
            Err(error) => {
                let message = format!("cannot write to standard output: {error}");
                Err(CommandError::new(crate::command::ErrorCode::Failed, message).into())
            }
        }
    }

    /// Writes a result and ends its line.
    pub fn result_line(&mut self, line: impl AsRef<str>) -> Result<(), Stop> {
        let mut line = line.as_ref().to_owned();
        if !line.ends_with('\n') {
            line.push('\n');
        }
        self.result(line.as_bytes())
    }

    /// Writes one JSON object on a line of its own.
    pub fn result_json(&mut self, value: &impl serde::Serialize) -> Result<(), Stop> {
        let text = render::json::line(value)?;
        self.result_line(text)
    }

    /// Writes a message. Nothing can be done when nobody reads messages.
    pub fn message(&mut self, line: impl AsRef<str>) {
        let _ = writeln!(self.err, "{}", line.as_ref());
    }

    /// Writes a message without ending its line: a question.
    pub fn question(&mut self, text: &str) {
        let _ = write!(self.err, "{text}");
        let _ = self.err.flush();
    }

    /// Shows why a command failed.
    pub fn error(&mut self, error: &CommandError) {
        let text =
            if self.style.json { render::error::json(error) } else { render::error::text(error, self.style.color) };
        self.message(text);
    }

    /// Shows what is to be shown of `stop` and gives the process's exit code.
    pub fn stop(&mut self, stop: Stop) -> u8 {
        match stop {
            Stop::Failed(error) => {
                self.error(&error);
                error.code.exit()
            }
            Stop::PipeClosed => 0,
            Stop::Exit(code) => code,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A stream that a test can read.
    #[derive(Clone, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(crate) fn text(&self) -> String {
            String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub(crate) fn captured(style: Style) -> (Screen, Captured, Captured) {
        let (out, err) = (Captured::default(), Captured::default());
        (Screen::on(out.clone(), err.clone(), style), out, err)
    }

    struct Head;

    impl Write for Head {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_ends_quietly() {
        let mut screen = Screen::on(Head, Head, Style::default());
        let stop = screen.result_line("a peer").unwrap_err();
        assert_eq!(screen.stop(stop), 0);
        screen.message("nobody reads this");
    }

    #[test]
    fn colour_follows_flag_then_environment_then_terminal() {
        let none = |_: &str| false;
        let set = |name: &'static str| move |asked: &str| asked == name;
        assert!(ColorWish::Always.allows(false, set("NO_COLOR")));
        assert!(!ColorWish::Never.allows(true, none));
        assert!(ColorWish::Auto.allows(true, none));
        assert!(!ColorWish::Auto.allows(false, none));
        assert!(!ColorWish::Auto.allows(true, set("NO_COLOR")));
        assert!(ColorWish::Auto.allows(false, set("CLICOLOR_FORCE")));
    }
}
