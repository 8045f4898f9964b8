//! Where in `service.toml` a key stands, for error messages.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A text and the places of its keys.
pub struct Places {
    text: String,
    keys: Vec<Place>,
}

struct Place {
    path: String,
    key: Range<usize>,
    value: Range<usize>,
}

impl Places {
    /// The places in `text`, which has been parsed to `table`.
    pub fn of(text: &str, table: &DeTable<'_>) -> Self {
        let mut keys = Vec::new();
        visit_table("", table, &mut keys);
        Self { text: text.to_owned(), keys }
    }

    /// The bytes of the value of the key with this path, or of the nearest key around it that is in the text.
    pub fn value_of(&self, path: &str) -> Option<Range<usize>> {
        let exact = self.find(path).map(|place| {
            // The value of a [table] is all of it: its name says which one is meant.
            if self.is_one_line(&place.value) { place.value.clone() } else { place.key.clone() }
        });
        exact.or_else(|| self.key_of(parent(path)?))
    }

    /// The bytes of the key with this path, or of the nearest key around it that is in the text.
    pub fn key_of(&self, path: &str) -> Option<Range<usize>> {
        match self.find(path) {
            Some(place) => Some(place.key.clone()),
            None => self.key_of(parent(path)?),
        }
    }

    /// Path of the innermost key whose name or value has this byte in it.
    pub fn path_at(&self, offset: usize) -> Option<String> {
        let size = |place: &Place| match (place.key.contains(&offset), place.value.contains(&offset)) {
            (true, _) => Some(place.key.len()),
            (false, true) => Some(place.value.len()),
            (false, false) => None,
        };
        let found = self.keys.iter().filter_map(|place| Some((size(place)?, &place.path)));
        found.min_by_key(|(size, path)| (*size, std::cmp::Reverse(path.len()))).map(|(_, path)| path.clone())
    }

    /// Line and column of a byte, both counted from 1, the column in characters.
    pub fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    fn find(&self, path: &str) -> Option<&Place> {
        self.keys.iter().find(|place| place.path == path)
    }

    fn is_one_line(&self, span: &Range<usize>) -> bool {
        self.text.get(span.clone()).is_some_and(|value| !value.is_empty() && !value.contains('\n') && !is_header(value))
    }
}

fn is_header(text: &str) -> bool {
    // `[a.b]` or `[[a]]`: an array of bare words is no TOML, so this is no list.
    let inner = text.trim_start_matches('[').trim_end_matches(']');
    text.starts_with('[') && !inner.is_empty() && inner.chars().all(|c| c.is_ascii_alphabetic() || "._-".contains(c))
}

fn parent(path: &str) -> Option<&str> {
    Some(&path[..path.rfind(['.', '['])?])
}

fn visit_table(prefix: &str, table: &DeTable<'_>, found: &mut Vec<Place>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        found.push(Place { path: path.clone(), key: key.span(), value: value.span() });
        visit_value(&path, value, found);
    }
}

fn visit_value(path: &str, value: &Spanned<DeValue<'_>>, found: &mut Vec<Place>) {
    match value.get_ref() {
        DeValue::Table(table) => visit_table(path, table, found),
        DeValue::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                let path = format!("{path}[{}]", n + 1);
                found.push(Place { path: path.clone(), key: item.span(), value: item.span() });
                visit_value(&path, item, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a = 1\n[b]\nc = { d = 2 }\n[[e]]\nf = 3\n[[e]]\nf = [\"ä\", 4]\n";

    #[test]
    fn keys_and_values_are_found_by_path() {
        let table = DeTable::parse(TEXT).unwrap();
        let places = Places::of(TEXT, table.get_ref());
        for (path, expected, line, column) in [
            ("a", "1", 1, 5),
            ("b", "b", 2, 2),
            ("b.c", "{ d = 2 }", 3, 5),
            ("b.c.d", "2", 3, 11),
            ("b.missing", "b", 2, 2),
            ("e[1].f", "3", 5, 5),
            ("e[2].f", "[\"ä\", 4]", 7, 5),
            ("e[2].f[2]", "4", 7, 11),
            ("e[2].missing", "[[e]]", 6, 1),
        ] {
            let span = places.value_of(path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!(&TEXT[span.clone()], expected, "{path}");
            assert_eq!(places.line_and_column(span.start), (line, column), "{path}");
        }
        for (needle, expected) in [("1", "a"), ("d = 2", "b.c.d"), ("4", "e[2].f[2]")] {
            assert_eq!(places.path_at(TEXT.find(needle).unwrap()).as_deref(), Some(expected), "{needle}");
        }
        assert_eq!(places.value_of("missing"), None);
        assert_eq!(places.key_of("b.c").map(|span| &TEXT[span]), Some("c"));
    }
}
