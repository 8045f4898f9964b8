//! `msm doctor`.

use clap::Args;

use super::{
    render::{
        table::{Align::Left, columns},
        text::clean,
    },
    screen::{Screen, Stop},
};
use crate::{
    command::ErrorCode,
    doctor::{self, CheckStatus, Report},
    home::Home,
};

/// Characters of one finding.
const DETAIL_CHARS: usize = 512;

/// Check this machine, this home and its network
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  msm doctor\n  msm doctor --json\n\nExits with 1 when a check failed.")]
pub struct Doctor {}

impl Doctor {
    pub(crate) async fn run(self, home: &Home, screen: &mut Screen) -> Result<(), Stop> {
        show(&doctor::report(home).await, screen)
    }
}

fn show(report: &Report, screen: &mut Screen) -> Result<(), Stop> {
    if screen.style.json {
        screen.result_json(report)?;
    } else {
        screen.result_line(text(report))?;
    }
    if report.ok { Ok(()) } else { Err(Stop::Exit(ErrorCode::Failed.exit())) }
}

fn text(report: &Report) -> String {
    let mut rows = Vec::new();
    for check in &report.checks {
        let status = match check.status {
            CheckStatus::Ok => "ok",
            CheckStatus::Warn => "warn",
            CheckStatus::Fail => "FAIL",
        };
        rows.push([status.to_owned(), clean(&check.name, 64), clean(&check.detail, DETAIL_CHARS)]);
        if let Some(line) = &check.try_line {
            rows.push([String::new(), String::new(), format!("try: {}", clean(line, DETAIL_CHARS))]);
        }
    }
    columns([("", Left), ("", Left), ("", Left)], rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::screen::{Style, tests::captured},
        doctor::Check,
    };

    #[test]
    fn a_failed_check_is_seen_by_people_and_scripts() {
        let check = |status, line: Option<&str>| Check {
            name: "node".into(),
            status,
            detail: "none runs".into(),
            try_line: line.map(str::to_owned),
        };
        let warned = Report { ok: true, checks: vec![check(CheckStatus::Warn, Some("msm node"))] };
        let failed = Report { ok: false, checks: vec![check(CheckStatus::Fail, None)] };
        let (mut screen, out, _) = captured(Style::default());
        show(&warned, &mut screen).unwrap();
        assert_eq!(out.text(), "warn  node  none runs\n            try: msm node\n");
        assert!(matches!(show(&failed, &mut screen), Err(Stop::Exit(1))));
        let (mut screen, out, _) = captured(Style { json: true, ..Style::default() });
        assert!(show(&failed, &mut screen).is_err());
        assert!(out.text().starts_with(r#"{"schema":"msm.doctor/1","ok":false"#), "{}", out.text());
    }
}
