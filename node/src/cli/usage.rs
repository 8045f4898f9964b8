//! What clap says about a line that does not parse, in our words and with a line to try.

use std::ffi::OsStr;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{
    hints,
    screen::{Screen, Stop},
};
use crate::command::{CommandError, ErrorCode};

/// Shows help and versions on stdout; everything else becomes an error. `words` are those that did not parse.
pub fn stop<W: AsRef<OsStr>>(error: &clap::Error, words: &[W], screen: &mut Screen) -> Stop {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match screen.result_line(error.render().to_string()) {
            Ok(()) => Stop::Exit(0),
            Err(stop) => stop,
        },
        _ => Stop::Failed(explain(error, words)),
    }
}

/// The error with the closest words as a line to try.
fn explain<W: AsRef<OsStr>>(error: &clap::Error, words: &[W]) -> CommandError {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    let path = path(words, text(ContextKind::InvalidSubcommand).as_deref());
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(unknown) = text(ContextKind::InvalidSubcommand)
    {
        let error = CommandError::new(ErrorCode::Usage, format!("there is no command {unknown:?}"));
        return match text(ContextKind::SuggestedSubcommand) {
            Some(near) => error.or_try(hints::help_for(&[&path[..], &[&near]].concat())),
            None if path.is_empty() => error.or_try(hints::help()),
            None => error.or_try(hints::help_for(&path)),
        };
    }
    // The first paragraph says what is wrong; usage lines are for --help.
    let rendered = error.render().to_string();
    let message: Vec<&str> = rendered
        .trim_start_matches("error: ")
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let message = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            "a command is missing".to_owned()
        }
        _ => message.join("; "),
    };
    let error = CommandError::new(ErrorCode::Usage, message);
    if path.is_empty() { error.or_try(hints::help()) } else { error.or_try(hints::help_for(&path)) }
}

/// The words that name the command which was being read, up to the `unknown` one.
fn path<W: AsRef<OsStr>>(words: &[W], unknown: Option<&str>) -> Vec<String> {
    let mut command = super::command();
    let mut path = Vec::new();
    for word in words.iter().filter_map(|word| word.as_ref().to_str()).take_while(|word| Some(*word) != unknown) {
        // Other words are flags and their values.
        if let Some(sub) = command.find_subcommand(word).cloned() {
            path.push(sub.get_name().to_owned());
            command = sub;
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse;

    #[test]
    fn mistakes_are_explained() {
        let cases = [
            ("pers", "there is no command \"pers\"", "msm peers --help"),
            ("xyzzy", "there is no command \"xyzzy\"", "msm help"),
            ("market ad x", "there is no command \"ad\"", "msm market add --help"),
            ("peers --jsn", "unexpected argument '--jsn' found", "msm peers --help"),
            ("invoke", "required arguments were not provided", "msm invoke --help"),
            ("invoke x --devices zero", "invalid value 'zero'", "msm invoke --help"),
            ("--home /x market", "a command is missing", "msm market --help"),
            ("", "a command is missing", "msm help"),
        ];
        for (line, message, hint) in cases {
            let words: Vec<&str> = line.split_whitespace().collect();
            let error = explain(&parse(&words).unwrap_err(), &words);
            assert_eq!(error.code, ErrorCode::Usage);
            assert!(error.message.contains(message), "{line}: {}", error.message);
            assert!(!error.message.contains("Usage"), "{line}: {}", error.message);
            assert_eq!(error.r#try, [hint], "{line}");
        }
    }
}
