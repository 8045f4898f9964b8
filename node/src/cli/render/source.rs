//! A place in a file, shown with its line and a caret below what is meant.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::text::{clean, clean_lines, is_unsafe};

/// Columns of a shown line: a bundled script may be one line of a megabyte.
const WIDTH: usize = 120;

/// Something to say about a place.
pub struct Remark<'a> {
    /// Whether it stops anything.
    pub is_error: bool,
    /// What is wrong, in a line.
    pub what: &'a str,
    /// The file, its text and the bytes that are meant.
    pub place: Option<(&'a str, &'a str, Range<usize>)>,
    /// What to do.
    pub help: Option<&'a str>,
}

/// The remark for a terminal or a log. Characters that would move the cursor are made visible: the renderer does so for
/// some, in some places, and not for C1 controls or in a help.
pub fn text(remark: &Remark<'_>, color: bool) -> String {
    let level = if remark.is_error { Level::ERROR } else { Level::WARNING };
    let title = level.primary_title(clean_lines(remark.what));
    let mut group = match &remark.place {
        Some((path, text, span)) => {
            let span = whole_characters(text, span.clone());
            let marked = AnnotationKind::Primary.span(span);
            title.element(Snippet::source(seen(text)).path(clean(path, usize::MAX)).annotation(marked))
        }
        None => Group::with_title(title),
    };
    if let Some(help) = remark.help {
        group = group.element(Level::HELP.message(clean_lines(help)));
    }
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    renderer.term_width(WIDTH).render(&[group])
}

/// The text without what only Unicode hides, as many bytes long; for C0 controls the renderer has signs.
fn seen(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut seen, c| {
        if is_unsafe(c) && !c.is_ascii() {
            seen.extend(std::iter::repeat_n('?', c.len_utf8()))
        } else {
            seen.push(c)
        }
        seen
    })
}

/// The range with both ends between characters and inside the text, so that whatever a parser says can be shown.
fn whole_characters(text: &str, span: Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(span.start.min(text.len()));
    let end = text.ceil_char_boundary(span.end.min(text.len()));
    start..end.max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caret_stands_below_the_place() {
        let toml = "[service]\nname = \"Big\"\n";
        let place = Some(("service.toml", toml, 17..22));
        let remark = Remark { is_error: true, what: "service.name: must be small", place, help: Some("write: big") };
        let expected = "\
error: service.name: must be small
 --> service.toml:2:8
  |
2 | name = \"Big\"
  |        ^^^^^
  |
  = help: write: big";
        assert_eq!(text(&remark, false), expected);
        assert!(text(&remark, true).contains("\u{1b}["));
    }

    #[test]
    fn odd_places_and_hostile_text_are_shown_safely() {
        let hostile = "a\u{1b}[31mb\u{202e}\u{9b}2J\u{7}\r\n\u{e4}\u{f6}";
        for span in [0..1, 2..3, 0..999, 999..1000, hostile.len()..hostile.len(), hostile.len() - 1..hostile.len()] {
            let place = Some((hostile, hostile, span));
            let remark = Remark { is_error: false, what: hostile, place, help: Some(hostile) };
            let shown = text(&remark, false);
            assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}', '\u{9b}', '\r']), "{shown:?}");
        }
        let remark = Remark { is_error: true, what: "everything", place: None, help: Some("something") };
        assert!(text(&remark, false).starts_with("error: everything"), "{}", text(&remark, false));
        // A line of a megabyte stays a line.
        let long = "x".repeat(1 << 20);
        let remark = Remark { is_error: true, what: "x", place: Some(("f", &long, 500_000..500_001)), help: None };
        assert!(text(&remark, false).len() < 2_000);
    }
}
