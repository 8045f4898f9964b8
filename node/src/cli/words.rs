//! Lines into words and words into lines, by a shell's rules for quotes.

/// Why a line has no words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnfinishedLine {
    /// No closing quote.
    #[error("a quote ({0}) is not closed")]
    Quote(char),
    /// Nothing after the last backslash.
    #[error("nothing follows the backslash at the end")]
    Backslash,
}

/// Splits at blanks; `'…'` keeps everything, `"…"` keeps all but `\"` and `\\`, a backslash keeps the next character.
pub fn split(line: &str) -> Result<Vec<String>, UnfinishedLine> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\\' => word.get_or_insert_default().push(chars.next().ok_or(UnfinishedLine::Backslash)?),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(UnfinishedLine::Quote(c))? {
                        end if end == c => break,
                        '\\' if c == '"' => match chars.next().ok_or(UnfinishedLine::Quote(c))? {
                            kept @ ('"' | '\\') => word.push(kept),
                            other => word.extend(['\\', other]),
                        },
                        kept => word.push(kept),
                    }
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// The word as a shell (and [`split`]) reads it back; plain where it can be.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:@#=+,%^".contains(c);
    if !word.is_empty() && word.chars().all(plain) && !word.starts_with('#') {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_split_like_a_shells() {
        let cases: [(&str, &[&str]); 8] = [
            ("", &[]),
            ("  peers  --json ", &["peers", "--json"]),
            ("show 'a b' \"c d\"", &["show", "a b", "c d"]),
            (r#"x "a\"b\\c\d""#, &["x", r#"a"b\c\d"#]),
            (r"a\ b '' c", &["a b", "", "c"]),
            ("-p text='two words'", &["-p", "text=two words"]),
            (r"'it'\''s'", &["it's"]),
            ("päck ☃", &["päck", "☃"]),
        ];
        for (line, words) in cases {
            assert_eq!(split(line).unwrap(), words, "{line}");
        }
        assert_eq!(split("a 'b"), Err(UnfinishedLine::Quote('\'')));
        assert_eq!(split(r#"a "b\"#), Err(UnfinishedLine::Quote('"')));
        assert_eq!(split(r"a \"), Err(UnfinishedLine::Backslash));
    }

    #[test]
    fn quoted_words_read_back() {
        for word in ["plain", "a b", "", "it's", "#no-comment", "a#b", "~/x", "$HOME", "\\", "tab\there", "☃"] {
            assert_eq!(split(&quote(word)).unwrap(), [word], "{word}");
        }
    }
}
