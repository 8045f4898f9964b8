//! Errors: `error[code]: message` and `  try: …`, or one `msm.error/1` object.

use serde::Serialize;

use super::text::clean;
use crate::command::{CommandError, ErrorCode};

/// Characters of a message that are shown: long enough for a reason with its number, too short to fill a screen.
const MESSAGE_CHARS: usize = 2_000;

/// The code as it stands in both forms.
pub fn code(code: ErrorCode) -> String {
    serde_json::to_value(code).ok().and_then(|code| code.as_str().map(str::to_owned)).unwrap_or_else(|| "failed".into())
}

/// For people.
pub fn text(error: &CommandError, color: bool) -> String {
    let (red, bold, plain) = if color { ("\x1b[1;31m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
    let message: Vec<String> = error.message.lines().map(|line| clean(line, MESSAGE_CHARS)).collect();
    let mut text = format!("{red}error[{}]{plain}: {}", code(error.code), message.join("\n  "));
    for line in &error.r#try {
        text.push_str(&format!("\n  {bold}try:{plain} {}", clean(line, MESSAGE_CHARS)));
    }
    text
}

/// For scripts: `{"schema":"msm.error/1","code","message","try":[…]}`.
pub fn json(error: &CommandError) -> String {
    #[derive(Serialize)]
    struct Object<'a> {
        schema: &'static str,
        #[serde(flatten)]
        error: &'a CommandError,
    }
    let object = Object { schema: "msm.error/1", error };
    // Strings and an enum always serialise.
    serde_json::to_string(&object).unwrap_or_else(|_| r#"{"schema":"msm.error/1","code":"failed"}"#.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error() -> CommandError {
        CommandError::new(ErrorCode::NoDevice, "no device has EQS >= 95 (best: 71)").or_try("msm peers")
    }

    #[test]
    fn both_forms() {
        assert_eq!(text(&error(), false), "error[no-device]: no device has EQS >= 95 (best: 71)\n  try: msm peers");
        assert!(text(&error(), true).contains("\x1b[1;31merror[no-device]\x1b[0m"));
        assert_eq!(
            json(&error()),
            r#"{"schema":"msm.error/1","code":"no-device","message":"no device has EQS >= 95 (best: 71)","try":["msm peers"]}"#
        );
    }

    #[test]
    fn a_peers_words_are_shown_safely() {
        let error = CommandError::new(ErrorCode::NotAllowed, "refused: denied: \u{1b}]0;pwned\u{7}");
        assert_eq!(text(&error, false), "error[not-allowed]: refused: denied: ?]0;pwned?");
    }
}
