//! Where in `service.toml` a key stands, for error messages.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// The line (counted from 1) of the key with this path, or of the nearest key around it that is in the text.
pub fn line_of(text: &str, key: &str) -> Option<usize> {
    let places = places(text);
    let mut key = key;
    loop {
        if let Some((_, span)) = places.iter().find(|(path, _)| path == key) {
            return Some(line(text, span.start));
        }
        key = &key[..key.rfind(['.', '['])?];
    }
}

/// The line of a byte offset and the path of the key there; `service.toml` itself when no key is there.
pub fn place_of(text: &str, offset: Option<usize>) -> (Option<usize>, String) {
    let Some(offset) = offset else { return (None, "file".into()) };
    let key = places(text)
        .into_iter()
        .filter(|(_, span)| span.contains(&offset))
        .min_by_key(|(path, span)| (span.len(), std::cmp::Reverse(path.len())))
        .map_or_else(|| "syntax".into(), |(path, _)| path);
    (Some(line(text, offset)), key)
}

fn line(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

/// Every key's path with the spans of the key and of its value. Text that does not parse has none.
fn places(text: &str) -> Vec<(String, Range<usize>)> {
    let mut found = Vec::new();
    if let Ok(table) = DeTable::parse(text) {
        visit_table("", table.get_ref(), &mut found);
    }
    found
}

fn visit_table(prefix: &str, table: &DeTable<'_>, found: &mut Vec<(String, Range<usize>)>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        found.push((path.clone(), key.span()));
        visit_value(&path, value, found);
    }
}

fn visit_value(path: &str, value: &Spanned<DeValue<'_>>, found: &mut Vec<(String, Range<usize>)>) {
    found.push((path.to_owned(), value.span()));
    match value.get_ref() {
        DeValue::Table(table) => visit_table(path, table, found),
        DeValue::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                visit_value(&format!("{path}[{}]", n + 1), item, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a = 1\n[b]\nc = { d = 2 }\n[[e]]\nf = 3\n[[e]]\nf = 4\n";

    #[test]
    fn keys_are_found_by_path_and_by_place() {
        for (key, expected) in [
            ("a", Some(1)),
            ("b", Some(2)),
            ("b.c", Some(3)),
            ("b.c.d", Some(3)),
            ("b.missing", Some(2)),
            ("e[1].f", Some(5)),
            ("e[2].f", Some(7)),
            ("e[2].missing", Some(6)),
            ("missing", None),
        ] {
            assert_eq!(line_of(TEXT, key), expected, "{key}");
        }
        for (needle, expected) in [("1", "a"), ("d = 2", "b.c.d"), ("4", "e[2].f")] {
            assert_eq!(place_of(TEXT, TEXT.find(needle)).1, expected, "{needle}");
        }
        assert_eq!(place_of("x = [", Some(4)), (Some(1), "syntax".into()));
    }
}
