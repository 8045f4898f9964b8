//! Who was struck out, and how the outputs of a job were checked, as people see it.

use std::time::Duration;

use msm_protocol::PeerId;

use super::{
    progress::NAME_CHARS,
    table::{Align::Left, columns},
    text::{clean, count, seconds},
};
use crate::{
    cli::hints,
    command::{Checks, JobReport, StruckRow},
};

/// Comparisons that are listed one by one; JSON has more.
const LISTED: usize = 16;
/// Characters of a reason.
const WHY_CHARS: usize = 256;

/// Those that get no tasks of this node; nothing when there are none.
pub fn struck(rows: &[StruckRow], now: u64) -> String {
    if rows.is_empty() {
        return String::new();
    }
    columns(
        [("STRUCK OUT", Left), ("WHEN", Left), ("WHY", Left)],
        rows.iter().map(|row| {
            let ago = seconds(Duration::from_secs(now.saturating_sub(row.since)));
            [row.peer_id.to_string(), format!("{ago} ago"), clean(&row.why, WHY_CHARS)]
        }),
    )
}

/// What a strike was that is taken back.
pub fn forgiven(row: &StruckRow) -> String {
    format!("{} may work again; it was struck out for {}\n", row.peer_id, clean(&row.why, WHY_CHARS))
}

/// Lines of a job's report.
pub fn checks(job: &JobReport) -> Vec<(&'static str, String)> {
    let Checks { redundancy, compared, right, unchecked, withdrawn, rows, struck } = &job.checks;
    let mut lines = Vec::new();
    if *compared == 0 && *unchecked == 0 && struck.is_empty() {
        return lines;
    }
    let mut line = format!("{}: {compared} compared, {right} right", clean(redundancy, NAME_CHARS));
    for (many, what) in [(unchecked, "that nobody could check"), (withdrawn, "computed again")] {
        if *many > 0 {
            line += &format!("; {many} {what}");
        }
    }
    lines.push(("checks", line));
    lines.extend(rows.iter().take(LISTED).map(|row| {
        let ended = if row.agrees { "right" } else { "wrong" };
        ("checked", format!("task {} of {} by {}: {ended}", row.task, name(job, &row.peer_id), name(job, &row.by)))
    }));
    if rows.len() > LISTED {
        let left = compared.saturating_sub(LISTED as u32);
        lines.push(("", format!("… and {} (--json)", count(u64::from(left), "check"))));
    }
    lines.extend(struck.iter().map(|row| {
        let line = hints::forgive(&row.peer_id.to_string());
        ("struck", format!("{}: {}; try: {line}", name(job, &row.peer_id), clean(&row.why, WHY_CHARS)))
    }));
    lines
}

fn name(job: &JobReport, peer: &PeerId) -> String {
    let device = job.devices.iter().find(|device| device.peer_id == *peer);
    match device {
        Some(device) if device.local => "this device".to_owned(),
        Some(device) if !device.name.is_empty() => clean(&device.name, NAME_CHARS),
        _ => peer.short(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::samples, command::CheckRow};

    #[test]
    fn nothing_is_said_of_jobs_without_checks() {
        let job = JobReport { checks: Checks::default(), ..samples::job() };
        assert!(checks(&job).is_empty() && struck(&[], 0).is_empty());
    }

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let mut job = samples::job();
        let row = CheckRow { task: 1, peer_id: samples::peer(), by: samples::peer(), agrees: true };
        job.checks.rows = vec![row; 40];
        (job.checks.compared, job.checks.right) = (500, 500);
        let lines = checks(&job);
        assert_eq!(lines.iter().filter(|(label, _)| *label == "checked").count(), LISTED);
        assert!(lines.iter().any(|(_, text)| text == "… and 484 checks (--json)"), "{lines:?}");
    }
}
