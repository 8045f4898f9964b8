//! What a failed call of the engine means for its run, and what its author is told: the error, where it happened, and
//! that line of the source.

use rquickjs::{CaughtError, Coerced, Ctx, FromJs};

use crate::{
    guest::{Failure, host::Host},
    wire::{Fault, Loaded},
};

/// Bytes of a message that are shown: with the position and the line after it the text stays below a refusal's limit.
const MESSAGE_BYTES: usize = 320;
/// Bytes of a source line that are shown: a bundled file may be one line.
const LINE_BYTES: usize = 80;

/// What the error means for the run.
pub fn failure(ctx: &Ctx<'_>, host: &Host, error: rquickjs::Error) -> Failure {
    let caught = CaughtError::from_error(ctx, error);
    if host.is_late() {
        return Failure::deadline(host.time());
    }
    if host.account.has_refused() {
        return Failure::new(Fault::OutOfMemory, "the service needs more than its memory limit");
    }
    let text = match caught {
        CaughtError::Error(error) => error.to_string(),
        CaughtError::Value(value) => {
            let text = Coerced::<String>::from_js(ctx, value.clone()).map_or_else(|_| String::new(), |text| text.0);
            ctx.catch();
            format!("the service threw {} {}", value.type_name(), cut(&text, MESSAGE_BYTES))
        }
        CaughtError::Exception(exception) => {
            let name = exception.get::<_, Coerced<String>>("name").map_or_else(|_| "Error".to_owned(), |name| name.0);
            let message = exception.message().unwrap_or_default();
            let stack = exception.stack().unwrap_or_default();
            ctx.catch();
            let name = cut(&name, MESSAGE_BYTES / 4);
            format!("{name}: {}{}", cut(&message, MESSAGE_BYTES), place(&host.package(), &stack))
        }
    };
    // Reading the error may have run getters of the guest's.
    if host.is_late() { Failure::deadline(host.time()) } else { Failure::service(text.trim_end()) }
}

/// The first place of a stack that lies in the package, with its line: ` at run (blur@1.0.0:3:5): null.x;`.
fn place(package: &Loaded, stack: &str) -> String {
    for frame in stack.lines() {
        let frame = frame.trim();
        let position = frame.rsplit_once('(').map_or(frame.trim_start_matches("at "), |(_, position)| position);
        let mut parts = position.trim_end_matches(')').rsplitn(3, ':');
        let (column, line, file) = (parts.next(), parts.next(), parts.next());
        let (Some(Ok(line)), Some(file)) = (line.map(str::parse::<usize>), file) else { continue };
        if column.is_none_or(|column| column.parse::<u32>().is_err()) {
            continue;
        }
        if let Some(source) = source_of(package, file) {
            let text = source.split(|byte| *byte == b'\n').nth(line.saturating_sub(1)).unwrap_or_default();
            // Enough to be cut at a character; a whole line may be a whole bundle.
            let text = String::from_utf8_lossy(&text[..text.len().min(4 * LINE_BYTES)]);
            let text = cut(text.trim(), LINE_BYTES);
            return if text.is_empty() { format!(" {frame}") } else { format!(" {frame}: {text}") };
        }
    }
    String::new()
}

fn source_of<'a>(package: &'a Loaded, file: &str) -> Option<&'a [u8]> {
    if file == package.label {
        return Some(&package.source);
    }
    package.modules.iter().find(|(path, _)| path == file).map(|(_, source)| &**source)
}

fn cut(text: &str, most: usize) -> String {
    match text.floor_char_boundary(most) {
        end if end < text.len() => format!("{}…", &text[..end]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Asks, Engine, Work};

    #[test]
    fn the_first_frame_in_the_package_counts() {
        let package = Loaded {
            engine: Engine::Js,
            work: Work::Whole,
            asks: Asks::default(),
            label: "blur@1.0.0".into(),
            modules: vec![("lib/a.js".into(), b"one\n  two();\n".to_vec())],
            assets: vec![],
            source: [b"first\n\n", "ä".repeat(200).as_bytes()].concat(),
        };
        let long = format!(" at blur@1.0.0:3:1: {}…", "ä".repeat(40));
        let table = [
            (
                "    at ask (msm:9:9)\n    at f (lib/a.js:2:3)\n    at run (blur@1.0.0:1:1)\n",
                " at f (lib/a.js:2:3): two();",
            ),
            ("    at native\n    at <anonymous> (blur@1.0.0:1:1)", " at <anonymous> (blur@1.0.0:1:1): first"),
            ("    at blur@1.0.0:2:7", " at blur@1.0.0:2:7"),
            ("    at blur@1.0.0:3:1", &long),
            ("    at blur@1.0.0:99:1", " at blur@1.0.0:99:1"),
            ("    at /etc/passwd:1:1\n at (::)\n at (1:2)\n:::::", ""),
            ("", ""),
        ];
        for (stack, expected) in table {
            assert_eq!(place(&package, stack), expected, "{stack}");
        }
    }
}
