//! [`Sources`]: the texts of a variant, and the place that an engine's words mean.

use std::ops::Range;

use bytes::Bytes;
use msm_protocol::manifest::Engine;

use super::project::Variant;

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, from the service's folder.
    pub file: String,
    /// Its text.
    pub text: String,
    /// Bytes of the text.
    pub span: Range<usize>,
}

impl Place {
    /// Line and column of its begin, counted from 1, the column in characters.
    pub fn line_and_column(&self) -> (usize, usize) {
        let before = self.text.get(..self.span.start).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// The texts of a variant, by the names that its engine has for them.
#[derive(Debug, Default)]
pub struct Sources(Vec<Source>);

#[derive(Debug)]
struct Source {
    /// What the engine calls it.
    name: String,
    /// The file, from the service's folder.
    file: String,
    bytes: Bytes,
}

impl Sources {
    /// A main file that the engine knows as `main`, and its modules.
    pub fn of(file: &str, main: &str, source: &Bytes, modules: &[(String, Bytes)]) -> Self {
        let folder = file.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let main = Source { name: main.to_owned(), file: file.to_owned(), bytes: source.clone() };
        let modules = modules.iter().map(|(path, bytes)| Source {
            name: path.clone(),
            file: format!("{folder}{path}"),
            bytes: bytes.clone(),
        });
        Self(std::iter::once(main).chain(modules).collect())
    }

    /// Those of a variant as nodes run it. A compiled one has none.
    pub fn of_variant(variant: &Variant) -> Self {
        if variant.service.engine != Engine::Js {
            return Self::default();
        }
        let package = variant.service.package("{}");
        Self::of(&variant.file, &package.label, &package.source, &package.files.modules)
    }

    /// The words without the line of source at their end, and the place that they mean; or the words as they are.
    pub fn explain(&self, words: &str) -> (String, Option<Place>) {
        match self.place(words) {
            Some((end, place)) => (words[..end].to_owned(), Some(place)),
            None => (words.to_owned(), None),
        }
    }

    /// The first `FILE:LINE:COLUMN` in the words, and where in them it ends.
    fn place(&self, words: &str) -> Option<(usize, Place)> {
        let found = self.0.iter().filter_map(|source| {
            let at = words.find(&format!("{}:", source.name))?;
            let position = &words[at + source.name.len() + 1..];
            let length = position.find(|c: char| !c.is_ascii_digit() && c != ':').unwrap_or(position.len());
            let mut numbers = position[..length].split(':');
            let line: usize = numbers.next()?.parse().ok()?;
            let column: usize = numbers.next().and_then(|column| column.parse().ok()).unwrap_or(1);
            let text = String::from_utf8_lossy(&source.bytes).into_owned();
            let start: usize = text.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
            let rest = text.get(start..)?.lines().next().unwrap_or_default();
            let from = rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(at, _)| at);
            // A word where one begins there, else the one character.
            let in_word = |c: &char| c.is_alphanumeric() || matches!(c, '_' | '$');
            let word: usize = rest[from..].chars().take_while(in_word).map(char::len_utf8).sum();
            let length_of_mark = word.max(rest[from..].chars().next().map_or(0, char::len_utf8));
            let span = start + from..start + from + length_of_mark;
            // "(file:1:2): the line": the bracket belongs to the position.
            let closed = usize::from(position[length..].starts_with(')'));
            let end = at + source.name.len() + 1 + position[..length].trim_end_matches(':').len() + closed;
            Some((at, end, Place { file: source.file.clone(), text, span }))
        });
        // The innermost one is named first.
        found.min_by_key(|(at, ..)| *at).map(|(_, end, place)| (end, place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engines_position_becomes_a_place() {
        let main = Bytes::from_static(b"import './lib/a.js';\n");
        let modules = [("lib/a.js".to_owned(), Bytes::from_static("let \u{e4} = 1;\n  foo();\n".as_bytes()))];
        let sources = Sources::of("src/main.js", "x@1.0.0", &main, &modules);
        let (what, place) = sources.explain("ReferenceError: foo is not defined at run (lib/a.js:2:3): foo();");
        let place = place.unwrap();
        assert_eq!(what, "ReferenceError: foo is not defined at run (lib/a.js:2:3)");
        assert_eq!((place.file.as_str(), place.line_and_column()), ("src/lib/a.js", (2, 3)));
        assert_eq!(&place.text[place.span.clone()], "foo");
        let (what, place) = sources.explain("SyntaxError: odd at x@1.0.0:1:8: import './lib/a.js';");
        assert_eq!(what, "SyntaxError: odd at x@1.0.0:1:8");
        let place = place.unwrap();
        assert_eq!((place.file.as_str(), place.line_and_column()), ("src/main.js", (1, 8)));
        for nowhere in ["", "x@1.0.0", "x@1.0.0:x", "lib/a.js:0:1", "lib/a.js:99:1", "lib/a.js:99999999999999999999"] {
            let (what, place) = sources.explain(nowhere);
            assert!(what == nowhere && place.is_none_or(|place| place.span.end <= place.text.len()), "{nowhere}");
        }
    }
}
