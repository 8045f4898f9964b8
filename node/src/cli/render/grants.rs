//! Grants, open questions and the ledger as people see them.

use std::time::Duration;

use super::{
    progress::NAME_CHARS,
    table::{
        Align::{Left, Right},
        columns,
    },
    text::{bytes, clean, seconds},
};
use crate::{
    command::{GrantRow, PendingRow},
    resources::{
        ledger::{Entry, Outcome},
        words::Kin,
    },
};

/// Characters of a list of needs, a host or a reason.
const TEXT_CHARS: usize = 128;
/// A peer id, and what comes before it.
const LINE_CHARS: usize = 256;

/// What is granted.
pub fn grants(rows: &[GrantRow], now: u64) -> String {
    columns(
        [("SERVICE", Left), ("RIGHT", Left), ("FOR", Left), ("HOW", Left), ("UNTIL", Left)],
        rows.iter().map(|row| {
            let how = match (row.accuracy, row.hosts.as_slice()) {
                (Some(accuracy), _) => accuracy.to_string(),
                (None, []) => "-".to_owned(),
                (None, hosts) => clean(&hosts.join(" "), TEXT_CHARS),
            };
            [clean(&row.service, NAME_CHARS), row.right.to_string(), row.to.to_string(), how, end(row, now)]
        }),
    )
}

fn end(row: &GrantRow, now: u64) -> String {
    match row.until {
        Some(until) if until <= now => format!("ended {} ago", seconds(Duration::from_secs(now - until))),
        _ if !row.holds => "not yet, says the clock".to_owned(),
        Some(until) => format!("{} from now", seconds(Duration::from_secs(until - now))),
        None => "no end".to_owned(),
    }
}

/// What waits for the owner's word: what, who, and the line that says yes.
pub fn pending(rows: &[PendingRow], now: u64) -> String {
    let mut text = String::new();
    for row in rows {
        let who = match (row.kin, row.name.is_empty()) {
            (Kin::Own, _) => "your own job".to_owned(),
            (_, true) => row.peer_id.short(),
            (_, false) => format!("{} ({})", clean(&row.name, NAME_CHARS), row.peer_id.short()),
        };
        let times = if row.times > 1 { format!(", {} times", row.times) } else { String::new() };
        text.push_str(&format!(
            "{} {}  {}/6 {}\n  {who} asks for {}  {} ago{times}  ({})\n  {}\n",
            clean(&row.service, NAME_CHARS),
            clean(&row.version, NAME_CHARS),
            row.rating,
            needs(&row.needs),
            row.right,
            seconds(Duration::from_secs(now.saturating_sub(row.last))),
            clean(&row.why, NAME_CHARS),
            clean(&row.r#try, LINE_CHARS),
        ));
    }
    text
}

/// What a service wants to use, or that it is nothing.
pub fn needs(needs: &[String]) -> String {
    if needs.is_empty() { "nothing special".to_owned() } else { clean(&needs.join(", "), TEXT_CHARS) }
}

/// What was done, newest first.
pub fn history(rows: &[Entry]) -> String {
    columns(
        [
            ("TIME (UTC)", Left),
            ("SERVICE", Left),
            ("FOR", Left),
            ("CALL", Left),
            ("TIMES", Right),
            ("OUTCOME", Left),
            ("OUT", Right),
            ("DETAIL", Left),
        ],
        rows.iter().map(|row| {
            let outcome = match (row.outcome, row.why.is_empty()) {
                (Outcome::Allowed, _) => "allowed".to_owned(),
                (Outcome::Cut, _) => "cut off".to_owned(),
                (outcome, why) => {
                    let word = if outcome == Outcome::Denied { "denied" } else { "failed" };
                    if why { word.to_owned() } else { format!("{word}: {}", clean(&row.why, NAME_CHARS)) }
                }
            };
            // The end of a peer id tells people apart; all of them begin alike.
            let caller: String = row.caller.chars().skip(row.caller.chars().count().saturating_sub(6)).collect();
            [
                date(row.time),
                clean(&row.service, TEXT_CHARS),
                match (row.own, caller.is_empty()) {
                    (true, _) => "you".to_owned(),
                    (false, true) => "several".to_owned(),
                    (false, false) => format!("..{}", clean(&caller, NAME_CHARS)),
                },
                clean(&row.op, NAME_CHARS),
                row.times.to_string(),
                outcome,
                bytes(row.bytes),
                if row.detail.is_empty() { "-".to_owned() } else { clean(&row.detail, TEXT_CHARS) },
            ]
        }),
    )
}

/// `2026-11-22 14:12:05` of Unix seconds: the civil calendar counted from 1 March of year 0, whose years end with the
/// leap day.
pub fn date(time: u64) -> String {
    const FROM_YEAR_0: u64 = 719_468;
    let (days, second) = (time / 86_400 + FROM_YEAR_0, time % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{of_month:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (time, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (951_868_800, "2000-03-01 00:00:00"),
            (1_709_164_800, "2024-02-29 00:00:00"),
            (1_800_000_000, "2027-01-15 08:00:00"),
            (4_102_444_799, "2099-12-31 23:59:59"),
        ] {
            assert_eq!(date(time), text);
        }
    }
}
