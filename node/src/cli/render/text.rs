//! Numbers and strangers' words as safe, short text.

use std::time::Duration;

/// True for what moves the cursor, turns the line round or is not seen: control characters (C0, DEL and C1, of which
/// U+009B begins an escape sequence by itself), and what Unicode has for format (Cf), lines and paragraphs.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{600}'..='\u{605}'
                | '\u{61c}'
                | '\u{6dd}'
                | '\u{70f}'
                | '\u{890}'..='\u{891}'
                | '\u{8e2}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{110bd}'
                | '\u{110cd}'
                | '\u{13430}'..='\u{1343f}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// A text from another machine, cut and without anything that moves the cursor or reverses the line.
pub fn clean(text: &str, limit: usize) -> String {
    let mut clean: String = text.chars().map(|c| if is_unsafe(c) { '?' } else { c }).take(limit).collect();
    if text.chars().nth(limit).is_some() {
        clean.pop();
        clean.push('…');
    }
    clean
}

/// A text of several lines that a stranger wrote, such as a service's log: its lines and tabs stay, all of it is shown,
/// and nothing in it drives the terminal.
pub fn clean_lines(text: &str) -> String {
    let line = |line: &str| line.split('\t').map(|part| clean(part, usize::MAX)).collect::<Vec<_>>().join("\t");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// `1.9 MB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if count < 1_000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1_000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1_000.0;
        unit += 1;
    }
    let digits = usize::from(value < 9.95);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// `412 ms`, `1.08 s`, `2 min 3 s`.
pub fn milliseconds(ms: f64) -> String {
    match ms {
        ms if !ms.is_finite() => "-".to_owned(),
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms if ms < 59_995.0 => format!("{:.2} s", ms / 1_000.0),
        ms => seconds(Duration::from_secs((ms / 1_000.0) as u64)),
    }
}

/// `4 s`, `2 min 3 s`, `5 h 1 min`, `3 d 4 h`.
pub fn seconds(time: Duration) -> String {
    let total = time.as_secs();
    let (large, small, names) = match total {
        0..60 => return format!("{total} s"),
        60..3_600 => (total / 60, total % 60, ("min", "s")),
        3_600..86_400 => (total / 3_600, total % 3_600 / 60, ("h", "min")),
        _ => (total / 86_400, total % 86_400 / 3_600, ("d", "h")),
    };
    if small == 0 { format!("{large} {}", names.0) } else { format!("{large} {} {small} {}", names.0, names.1) }
}

/// `1 task`, `2 tasks`.
pub fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// `yes`, `no`, or `-` when unknown.
pub fn yes_no(value: Option<bool>) -> &'static str {
    match value {
        Some(true) => "yes",
        Some(false) => "no",
        None => "-",
    }
}

/// True when the bytes are text that a terminal can show.
pub fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes)
        .is_ok_and(|text| !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_words_cannot_drive_the_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\n\u{202e}c", 64), "a?[31mb??c");
        assert_eq!(clean("abcdef", 4), "abc…");
        assert_eq!(clean("äöü", 3), "äöü");
        // A C1 escape, a soft hyphen, Arabic and invisible marks, isolates, tags.
        let odd = "\u{9b}2J\u{7f}\u{ad}\u{61c}\u{2060}\u{2066}\u{206f}\u{fffb}\u{e0041}";
        assert_eq!(clean(odd, 64), "?2J????????");
        assert_eq!(clean_lines("one\ttwo\r\n\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}\rx\n"), "one\ttwo\n?]0;owned??[2J??x");
        let long = "y".repeat(100_000);
        assert_eq!(clean_lines(&long), long);
    }

    #[test]
    fn sizes_and_times() {
        let sizes = [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (12_345, "12 kB"),
            (999_600, "1.0 MB"),
            (1_900_000, "1.9 MB"),
        ];
        for (count, text) in sizes {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(bytes(u64::MAX), "18446744 TB");
        let times = [
            (0.04, "0.0 ms"),
            (3.0, "3.0 ms"),
            (412.3, "412 ms"),
            (1_080.0, "1.08 s"),
            (123_000.0, "2 min 3 s"),
            (f64::NAN, "-"),
        ];
        for (ms, text) in times {
            assert_eq!(milliseconds(ms), text);
        }
        let spans = [(4, "4 s"), (60, "1 min"), (18_060, "5 h 1 min"), (273_600, "3 d 4 h")];
        for (span, text) in spans {
            assert_eq!(seconds(Duration::from_secs(span)), text);
        }
    }

    #[test]
    fn text_is_told_from_bytes() {
        assert!(is_text(b"{\"a\":1}\n"));
        assert!(is_text("☃\t".as_bytes()));
        assert!(!is_text(b"\x89PNG\r\n\x1a\n"));
        assert!(!is_text(b"a\x1b[31m"));
        assert!(!is_text(b"a\0b"));
    }
}
