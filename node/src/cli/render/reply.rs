//! Replies as people see them: tables, and a few lines where a table says less.

use std::{fmt::Write, time::Duration};

use msm_protocol::{
    PeerId,
    device::Network,
    manifest::{Param, Value},
};

use super::{
    grants,
    progress::NAME_CHARS,
    table::{
        Align::{Left, Right},
        columns,
    },
    text::{bytes, clean, count, milliseconds, seconds, yes_no},
    trust,
};
use crate::{
    cli::hints,
    clock,
    command::{
        JobReport, JobState, Lending, MarketRow, MirrorRow, PeerRow, Plan, Reply, Reruns, ServiceDetail, ServiceRow,
        Status,
    },
};

/// Characters of a line of free text.
const TEXT_CHARS: usize = 512;

/// What to say besides an empty or unfinished result, and the line to try: messages, not results.
pub fn remark(reply: &Reply) -> Option<(&'static str, String)> {
    match reply {
        Reply::Peers { peers, struck } if peers.is_empty() && struck.is_empty() => Some(("no peers", hints::doctor())),
        Reply::Jobs { jobs } if jobs.is_empty() => Some(("no jobs since this node started", hints::search_all())),
        Reply::Grants { grants } if grants.is_empty() => {
            Some(("no grants: services use nothing of this device", hints::pending()))
        }
        Reply::Pending { pending } if pending.is_empty() => Some(("no service waits for your word", hints::grants())),
        Reply::History { entries } if entries.is_empty() => {
            Some(("no service used anything of this device", hints::grants()))
        }
        Reply::Services { services } if services.is_empty() => Some(("no service matches", hints::market_list())),
        Reply::Markets { markets } if markets.is_empty() => Some(("no market is trusted yet", hints::market_add_any())),
        Reply::Market(row) if row.version == 0 => {
            let nobody =
                "nobody around has this market: its index comes when somebody does (is the fingerprint right?)";
            Some((nobody, hints::doctor()))
        }
        Reply::Status(it) if it.markets.is_empty() => Some(("no market is trusted yet", hints::market_add_any())),
        Reply::Status(it) if it.paused => Some(("lending is paused", hints::resume())),
        Reply::Lending(it) if it.paused => {
            Some((if it.until.is_some() { "to end it before" } else { "to end it" }, hints::resume()))
        }
        _ => None,
    }
}

/// The reply as lines; nothing for an empty list. `now` is Unix seconds.
pub fn text(reply: &Reply, now: u64) -> String {
    match reply {
        Reply::Peers { peers, struck } if peers.is_empty() && struck.is_empty() => String::new(),
        Reply::Jobs { jobs: rows } if rows.is_empty() => String::new(),
        Reply::Services { services: rows } if rows.is_empty() => String::new(),
        Reply::Markets { markets: rows } if rows.is_empty() => String::new(),
        Reply::Status(it) => status(it, now),
        Reply::Peers { peers: rows, struck } => peers(rows) + &trust::struck(struck, now),
        Reply::Forgiven(it) => trust::forgiven(it),
        Reply::Jobs { jobs: rows } => jobs(rows),
        Reply::Job(it) => job(it, None),
        Reply::Plan(it) => plan(it),
        Reply::Services { services: rows } => services(rows),
        Reply::Service(it) => service(it),
        Reply::Grants { grants: rows } if rows.is_empty() => String::new(),
        Reply::History { entries: rows } if rows.is_empty() => String::new(),
        Reply::Grants { grants: rows } => grants::grants(rows, now),
        Reply::Pending { pending: rows } => grants::pending(rows, now),
        Reply::History { entries: rows } => grants::history(rows),
        Reply::Market(it) => market(it, now),
        Reply::Markets { markets: rows } => markets(rows, now),
        Reply::Lending(it) => lending(it, now),
        Reply::Mirror(it) => mirror(it),
        Reply::Connected { peer_id } => format!("connected to {peer_id}\n"),
    }
}

/// `label   text`, one a line, with the labels in one column.
fn lines<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
    columns([("", Left), ("", Left)], rows.into_iter().map(|(label, text)| [label.to_owned(), text]))
}

fn network(network: Network) -> &'static str {
    match network {
        Network::Off => "off",
        Network::Low => "low",
        Network::High => "high",
    }
}

fn number(value: Option<f64>) -> String {
    value.filter(|value| value.is_finite()).map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"))
}

fn round_trip(rtt_ms: Option<f64>) -> String {
    rtt_ms.map_or_else(|| "-".to_owned(), milliseconds)
}

fn status(it: &Status, now: u64) -> String {
    let lending = if it.lending { "yes" } else { "no" };
    let mut rows = vec![
        ("device", format!("{}, up {}", clean(&it.name, NAME_CHARS), seconds(Duration::from_secs(it.uptime_s)))),
        ("peer id", it.peer_id.to_string()),
        ("lending", format!("{lending}: {}", clean(&it.lending_detail, TEXT_CHARS))),
        ("offer", clean(&it.offer.join(", "), TEXT_CHARS)),
        ("peers", it.peers.to_string()),
        (
            "this",
            format!(
                "battery {:.0} %   network {}   gps {}   EQS {:.0}   tasks of others {}",
                it.battery * 100.0,
                network(it.network),
                yes_no(Some(it.gps)),
                it.eqs,
                it.running_tasks
            ),
        ),
    ];
    if it.config_changed {
        rows.push(("config", "config.toml changed since this node started: restart to use it".to_owned()));
    }
    rows.push(("receiver", clean(&it.gps_detail, TEXT_CHARS)));
    rows.extend(it.markets.iter().map(|row| ("market", market_line(row, now))));
    rows.extend(it.addresses.iter().map(|address| ("address", clean(address, TEXT_CHARS))));
    rows.extend([("home", clean(&it.home, TEXT_CHARS)), ("version", clean(&it.version, NAME_CHARS))]);
    lines(rows)
}

fn lending(it: &Lending, now: u64) -> String {
    let back = count(u64::from(it.tasks_back), "running task");
    match (it.paused, it.until) {
        (true, Some(until)) => format!("paused until {}. {back} handed back.\n", clock::told(until, now)),
        (true, None) => format!("paused. {back} handed back.\n"),
        (false, _) if it.lending => format!("lending: {}\n", clean(&it.detail, TEXT_CHARS)),
        (false, _) => format!("not paused, and not lending: {}\n", clean(&it.detail, TEXT_CHARS)),
    }
}

fn peers(rows: &[PeerRow]) -> String {
    columns(
        [
            ("PEER", Left),
            ("EQS", Right),
            ("RTT", Right),
            ("NETWORK", Left),
            ("GPS", Left),
            ("LENDS", Left),
            ("FOUND BY", Left),
            ("PEER ID", Left),
        ],
        rows.iter().map(|row| {
            let name = if row.name.is_empty() { "-".to_owned() } else { clean(&row.name, NAME_CHARS) };
            [
                name,
                number(row.eqs),
                round_trip(row.rtt_ms),
                row.network.map_or("-", network).to_owned(),
                yes_no(row.gps).to_owned(),
                yes_no(row.availability).to_owned(),
                clean(&row.found_by, NAME_CHARS),
                row.peer_id.to_string(),
            ]
        }),
    )
}

/// The name of a device, with the end of its id where another has the same name or it has none.
fn device_name<'a>(name: &str, peer: PeerId, all: impl Iterator<Item = &'a str>) -> String {
    match all.filter(|other| *other == name).count() {
        _ if name.is_empty() => peer.short(),
        0 | 1 => clean(name, NAME_CHARS),
        _ => format!("{} ({})", clean(name, NAME_CHARS), peer.short()),
    }
}

fn state(state: JobState) -> &'static str {
    match state {
        JobState::Running => "running",
        JobState::Done => "done",
        JobState::Partial => "partial",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
        JobState::Interrupted => "interrupted",
        JobState::Resumed => "resumed",
    }
}

fn jobs(rows: &[JobReport]) -> String {
    columns(
        [
            ("JOB", Left),
            ("SERVICE", Left),
            ("STATE", Left),
            ("TASKS", Right),
            ("AGAIN", Right),
            ("DEVICES", Right),
            ("TIME", Right),
        ],
        rows.iter().map(|row| {
            [
                row.job_id.short(),
                clean(&row.service, TEXT_CHARS),
                state(row.state).to_owned(),
                format!("{}/{}", row.tasks_done, row.tasks),
                row.tasks_rerun.to_string(),
                row.devices.len().to_string(),
                milliseconds(row.wall_ms),
            ]
        }),
    )
}

/// One job; `output` names where its output was written.
pub fn job(it: &JobReport, output: Option<&str>) -> String {
    let mut text = format!(
        "job {}  {}  {}  {}, {}  {}\n",
        it.job_id.short(),
        clean(&it.service, TEXT_CHARS),
        state(it.state),
        count(u64::from(it.tasks_done), "task"),
        again(it.tasks_rerun, it.reruns),
        milliseconds(it.wall_ms)
    );
    if !it.devices.is_empty() {
        text.push_str(&columns(
            [("DEVICE", Left), ("TASKS", Right), ("NOTE", Left)],
            it.devices.iter().map(|device| {
                let all = it.devices.iter().map(|device| device.name.as_str());
                let name = device_name(&device.name, device.peer_id, all);
                let note = match (&device.lost, device.local) {
                    (Some(why), _) => format!("lost: {}", clean(why, TEXT_CHARS)),
                    (None, true) => "this device".to_owned(),
                    (None, false) => String::new(),
                };
                [name, device.tasks.to_string(), note]
            }),
        ));
    }
    let mut rows = Vec::new();
    if !it.phases_ms.is_empty() {
        let phases: Vec<String> = it
            .phases_ms
            .iter()
            .map(|(name, ms)| format!("{} {}", clean(name, NAME_CHARS), milliseconds(*ms)))
            .collect();
        rows.push(("phases", phases.join(", ")));
    }
    if let Some(predicted) = it.predicted_ms {
        let from =
            it.predicted_from.as_deref().map_or_else(String::new, |from| format!(" ({})", clean(from, NAME_CHARS)));
        let took =
            if it.state == JobState::Running { String::new() } else { format!(", took {}", milliseconds(it.wall_ms)) };
        rows.push(("predicted", format!("{}{from}{took}", milliseconds(predicted))));
    }
    if !it.output_sha256.is_empty() {
        let place = output.map_or_else(String::new, |place| format!("{place}  "));
        rows.push(("output", format!("{place}{}  sha256 {}", bytes(it.output_bytes), clean(&it.output_sha256, 64))));
    }
    rows.extend(trust::checks(it));
    rows.extend(it.notes.iter().map(|note| ("note", clean(note, TEXT_CHARS))));
    rows.extend(it.error.iter().map(|error| ("error", clean(error, TEXT_CHARS))));
    if !rows.is_empty() {
        text.push_str(&lines(rows));
    }
    text
}

/// How many attempts were made again, and why.
fn again(all: u32, Reruns { lost, failed, straggler, check }: Reruns) -> String {
    let reasons = [("lost", lost), ("failed", failed), ("straggler", straggler), ("check", check)];
    let reasons: Vec<String> =
        reasons.iter().filter(|(_, count)| *count > 0).map(|(reason, count)| format!("{reason} {count}")).collect();
    match reasons.as_slice() {
        [] => format!("{all} run again"),
        reasons => format!("{all} run again ({})", reasons.join(", ")),
    }
}

fn plan(it: &Plan) -> String {
    let (service, needs) = (clean(&it.service, TEXT_CHARS), grants::needs(&it.needs));
    let mut text = format!("{service}, {}   {}/6 {needs}\n", count(u64::from(it.tasks), "task"), it.rating);
    text.push_str(&columns(
        [("PEER", Left), ("EQS", Right), ("RTT", Right), ("USE", Left), ("WHY", Left)],
        it.rows.iter().map(|row| {
            let all = it.rows.iter().map(|row| row.name.as_str());
            [
                device_name(&row.name, row.peer_id, all),
                number(row.eqs),
                if row.local { "-".to_owned() } else { round_trip(row.rtt_ms) },
                yes_no(Some(row.used)).to_owned(),
                clean(&row.why, TEXT_CHARS),
            ]
        }),
    ));
    text.push_str(&times(it));
    text
}

/// Predicted times that are shown beside the chosen one.
const TIMES: usize = 8;

/// How long the job would take on 1, 2, … devices.
fn times(it: &Plan) -> String {
    if it.rows.iter().all(|row| !row.used) {
        return "no device fits: the job would not run\n".to_owned();
    }
    let chosen = it.chosen as usize;
    let shown = it.predicted_ms.iter().enumerate().filter(|(at, _)| *at < TIMES || at + 1 == chosen);
    let mut parts: Vec<String> = shown
        .map(|(at, ms)| {
            let mark = if at + 1 == chosen { " <- chosen" } else { "" };
            format!("{} {}{mark}", count(at as u64 + 1, "device"), milliseconds(*ms))
        })
        .collect();
    if let Some(wanted) = it.wanted.filter(|wanted| *wanted > it.fit) {
        let fit = if it.fit == 1 { "only 1 fits".to_owned() } else { format!("only {} fit", it.fit) };
        parts.push(format!("you asked for {wanted}, {fit}"));
    }
    if parts.is_empty() {
        return String::new();
    }
    let sure = match it.predicted_from.as_str() {
        "guessed" => {
            " (guessed: it never ran here; a job begins here, and others join when its first part shows that it pays)"
        }
        "measured" => " (measured)",
        _ => "",
    };
    format!("time: {}{sure}\n", parts.join(" | "))
}

fn services(rows: &[ServiceRow]) -> String {
    columns(
        [
            ("SERVICE", Left),
            ("VERSION", Left),
            ("SCOPE", Left),
            ("ENGINES", Left),
            ("RATING", Left),
            ("NEEDS", Left),
            ("MARKET", Left),
            ("SUMMARY", Left),
        ],
        rows.iter().map(|row| {
            [
                clean(&row.name, NAME_CHARS),
                clean(&row.version, NAME_CHARS),
                clean(&row.scope, 128),
                clean(&row.engines.join(" "), NAME_CHARS),
                format!("{}/6", row.rating),
                match &row.needs {
                    Some(needs) => grants::needs(needs),
                    None if row.rating == 6 => grants::needs(&[]),
                    None => "see msm show".to_owned(),
                },
                clean(&row.market, NAME_CHARS),
                clean(&row.summary, 128),
            ]
        }),
    )
}

/// Dots for a rating from 1 to 6.
fn rating(rating: u8) -> String {
    let full = usize::from(rating.min(6));
    format!("{}{} {rating}/6", "●".repeat(full), "○".repeat(6 - full))
}

fn service(it: &ServiceDetail) -> String {
    let row = &it.row;
    let name = format!("{}/{}", clean(&row.market, NAME_CHARS), clean(&row.name, NAME_CHARS));
    let list = |items: &[String]| items.iter().map(|item| clean(item, 128)).collect::<Vec<_>>().join(", ");
    let mut rows = vec![
        ("service", format!("{name} {}", clean(&row.version, NAME_CHARS))),
        ("", clean(&row.summary, 128)),
        ("scope", clean(&row.scope, 128)),
        ("rating", format!("{}  {}", rating(row.rating), grants::needs(row.needs.as_deref().unwrap_or_default()))),
        ("input", list(&it.input)),
        ("output", clean(&it.output, 128)),
        ("engines", list(&row.engines)),
    ];
    rows.extend(it.params.iter().map(|param| ("parameter", parameter(param))));
    rows.extend(it.constraints.iter().map(|line| ("constraint", clean(line, TEXT_CHARS))));
    if it.permissions.is_empty() {
        rows.push(("permission", "none: it computes and touches nothing".to_owned()));
    }
    rows.extend(it.permissions.iter().map(|line| ("permission", clean(line, TEXT_CHARS))));
    let deterministic = if it.deterministic { "yes: results can be compared and run again" } else { "no" };
    let privacy = match it.private {
        true => "private: runs on this device and those in node.own, and nowhere else",
        false => "a device that runs it sees the input it is given",
    };
    rows.extend([
        ("deterministic", deterministic.to_owned()),
        ("privacy", privacy.to_owned()),
        ("size", bytes(it.size)),
        ("installed", yes_no(Some(it.installed)).to_owned()),
        ("versions", list(&it.versions)),
        ("license", clean(&it.license, 64)),
        ("authors", list(&it.authors)),
        ("market", it.market_id.to_string()),
        ("manifest", row.manifest.to_string()),
    ]);
    lines(rows)
}

fn value(value: &Value) -> String {
    match value {
        Value::Bool(it) => it.to_string(),
        Value::Integer(it) => it.to_string(),
        Value::Number(it) => it.to_string(),
        Value::Text(it) => clean(it, 64),
    }
}

/// `radius=INTEGER  blur radius in pixels  [default 3, 1..50]`.
fn parameter(param: &Param) -> String {
    let mut text = format!("{}={}", clean(&param.name, NAME_CHARS), param.r#type.as_str().to_uppercase());
    if !param.description.is_empty() {
        let _ = write!(text, "  {}", clean(&param.description, 128));
    }
    let mut notes: Vec<String> = Vec::new();
    notes.push(param.default.as_ref().map_or("required".to_owned(), |default| format!("default {}", value(default))));
    if param.minimum.is_some() || param.maximum.is_some() {
        let bound = |bound: Option<f64>| bound.map_or_else(String::new, |bound| bound.to_string());
        notes.push(format!("{}..{}", bound(param.minimum), bound(param.maximum)));
    }
    if !param.choices.is_empty() {
        notes.push(format!("one of {}", param.choices.iter().map(value).collect::<Vec<_>>().join(", ")));
    }
    let _ = write!(text, "  [{}]", notes.join(", "));
    text
}

/// `good for 27 d`, `expired 2 h ago`.
fn expiry(row: &MarketRow, now: u64) -> String {
    match (row.version, row.expires.checked_sub(now)) {
        (0, _) => "nothing found yet".to_owned(),
        (_, Some(left)) => format!("good for {}", seconds(Duration::from_secs(left))),
        (_, None) => format!("expired {} ago", seconds(Duration::from_secs(now - row.expires))),
    }
}

fn market_line(row: &MarketRow, now: u64) -> String {
    format!(
        "{} \"{}\"  index {}, {}, {}, {}{}",
        clean(&row.alias, NAME_CHARS),
        clean(&row.name, TEXT_CHARS),
        row.version,
        count(row.releases, "release"),
        clean(&row.freshness, NAME_CHARS),
        expiry(row, now),
        if row.published_here { ", published here" } else { "" }
    ) + &two_histories(row)
}

fn mirror(row: &MirrorRow) -> String {
    let what = format!("{}, {}", count(row.releases, "release"), bytes(row.bytes));
    let share = format!("msm market add {}#{}", row.folder, row.market.fingerprint());
    lines([("mirrored", what), ("folder", clean(&row.folder, TEXT_CHARS)), ("share", clean(&share, 2 * TEXT_CHARS))])
}

/// The alarm of a market that shows two histories.
fn two_histories(row: &MarketRow) -> String {
    row.two_histories.map_or_else(String::new, |version| {
        format!(
            "\n! it has signed two histories at index {version}: not followed any further (msm market proof {})",
            clean(&row.alias, NAME_CHARS)
        )
    })
}

fn market(row: &MarketRow, now: u64) -> String {
    lines([("market", market_line(row, now)), ("key", row.fingerprint.clone()), ("share", row.market.to_string())])
}

fn markets(rows: &[MarketRow], now: u64) -> String {
    columns(
        [
            ("MARKET", Left),
            ("NAME", Left),
            ("INDEX", Right),
            ("RELEASES", Right),
            ("STATE", Left),
            ("EXPIRY", Left),
            ("HERE", Left),
            ("KEY", Left),
        ],
        rows.iter().map(|row| {
            [
                clean(&row.alias, NAME_CHARS),
                clean(&row.name, 64),
                row.version.to_string(),
                row.releases.to_string(),
                clean(&row.freshness, NAME_CHARS),
                expiry(row, now),
                if row.published_here { "published" } else { "-" }.to_owned(),
                row.fingerprint.clone(),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples::{self, NOW};

    /// What each sample reply must show.
    const SHOWN: [&[&str]; 16] = [
        &["attic, up 1 min 4 s", "no: no market trusted yet", "battery 62 %", "EQS 71"],
        &[
            "PEER    EQS     RTT  NETWORK",
            "garage   88  3.2 ms  high",
            "garage    -       -  -",
            "12D3KooW",
            "STRUCK OUT",
            "task 7 of job 7f7f",
            "2 h ago",
        ],
        &["JOB", "7f7f", "home/image-blur@1.2.0", "16/16", "1.08 s"],
        &[
            "job 7f7f",
            "16 tasks, 2 run again (lost 2)",
            "this device",
            "lost: connection closed",
            "note",
            "kitchen?[2J",
            "spot: 5 compared, 4 right",
            "1 that nobody could check; 3 computed again",
        ],
        &["image-blur@1.2.0, 16 tasks", "attic", "yes", "battery 41 % < 50 %"],
        &["SERVICE", "image-blur", "media/image", "6/6", "home"],
        &["●●●●●● 6/6", "radius=INTEGER  blur radius in pixels  [default 3, 1..50]"],
        &["index 14, 3 releases, fresh, good for 27 d", "share", "msm:market:"],
        &["MARKET", "Home Market", "good for 27 d", "nothing found yet"],
        &["connected to 12D3KooW"],
        &[
            "home/gps-sharing",
            "coarse",
            "8 h from now",
            "web.example *.web.example",
            "ended 1 min ago",
            "UNTIL",
            "no end",
        ],
        &[
            "home/gps-sharing 1.0.0  4/6 position (coarse)",
            "garage (",
            "asks for gps  2 min ago, 3 times",
            "grant home/gps-sharing gps --to 12D3KooW",
        ],
        &[
            "2027-01-15 08:00:00",
            "home/internet-sharing@1.0.0",
            "net.fetch",
            "https://web.example",
            "118 B",
            "denied: not-granted",
            "you",
        ],
        &["may work again", "task 7 of job 7f7f: claimed 9c9c9c9c…"],
        &["paused until ", "1 running task handed back"],
        &["mirrored", "3 releases, 41 kB", "/media/usb/market", "msm market add /media/usb/market#"],
    ];

    #[test]
    fn every_reply_is_shown_in_plain_lines() {
        let replies = samples::replies();
        assert_eq!(replies.len(), SHOWN.len());
        for (reply, expected) in replies.iter().zip(SHOWN) {
            let text = text(reply, NOW);
            for part in expected {
                assert!(text.contains(part), "{part:?} is missing in:\n{text}");
            }
            assert!(text.ends_with('\n') && !text.contains(" \n"), "{text}");
            assert!(!text.contains('\u{1b}'), "no control sequences: {text}");
        }
    }

    #[test]
    fn empty_lists_are_empty_results_with_a_remark() {
        let empty = [
            Reply::Peers { peers: vec![], struck: vec![] },
            Reply::Jobs { jobs: vec![] },
            Reply::Services { services: vec![] },
            Reply::Markets { markets: vec![] },
            Reply::Grants { grants: vec![] },
            Reply::Pending { pending: vec![] },
            Reply::History { entries: vec![] },
        ];
        for reply in empty {
            assert_eq!(text(&reply, NOW), "");
            let (remark, hint) = remark(&reply).unwrap();
            assert!(remark.starts_with("no ") && hint.starts_with("msm "));
        }
        let remarks: Vec<bool> = samples::replies().iter().map(|reply| remark(reply).is_some()).collect();
        assert_eq!(
            remarks.iter().filter(|it| **it).count(),
            2,
            "only a node without markets, and a paused one: {remarks:?}"
        );
    }

    #[test]
    fn devices_of_one_name_are_told_apart() {
        let mut twins = samples::job();
        twins.devices.truncate(2);
        twins.devices[1].name = twins.devices[0].name.clone();
        let text = job(&twins, None);
        assert!(text.contains(&format!("attic ({})", samples::peer().short())), "{text}");
    }

    #[test]
    fn an_expired_market_says_for_how_long() {
        let row = MarketRow { expires: NOW - 7_200, ..samples::market() };
        assert_eq!(expiry(&row, NOW), "expired 2 h ago");
    }

    /// The contracts that scripts rely on: schema first, and the fields of each.
    #[test]
    fn json_keeps_its_contracts() {
        let fields: [(&str, &[&str]); 16] = [
            ("msm.status/1", &["name", "peer_id", "lending", "markets", "home"]),
            ("msm.peers/1", &["peers", "struck"]),
            ("msm.jobs/1", &["jobs"]),
            (
                "msm.job/1",
                &["job_id", "service", "tasks", "tasks_rerun", "devices", "wall_ms", "output_sha256", "checks"],
            ),
            ("msm.plan/1", &["service", "rows", "tasks"]),
            ("msm.services/1", &["services"]),
            ("msm.service/1", &["name", "version", "params", "market_id", "manifest"]),
            ("msm.market/1", &["alias", "market", "fingerprint", "version"]),
            ("msm.markets/1", &["markets"]),
            ("msm.connected/1", &["peer_id"]),
            ("msm.grants/1", &["grants"]),
            ("msm.pending/1", &["pending"]),
            ("msm.history/1", &["entries"]),
            ("msm.forgiven/1", &["peer_id", "why", "job_id", "task", "claimed", "right", "by", "since"]),
            ("msm.lending/1", &["lending", "detail", "paused", "until", "tasks_back"]),
            ("msm.mirror/1", &["market", "folder", "releases", "bytes"]),
        ];
        for (reply, (schema, fields)) in samples::replies().iter().zip(fields) {
            let line = crate::cli::render::json::line(reply).unwrap();
            assert!(line.starts_with(&format!("{{\"schema\":\"{schema}\",")) && !line.contains('\n'), "{line}");
            let json: serde_json::Value = serde_json::from_str(&line).unwrap();
            for field in fields {
                assert!(json.get(field).is_some(), "{schema} has no {field}: {line}");
            }
            assert_eq!(serde_json::from_str::<Reply>(&line).unwrap(), *reply);
        }
        let peers = serde_json::to_value(&samples::replies()[1]).unwrap();
        for field in ["peer_id", "eqs", "rtt_ms", "network", "gps", "availability", "addresses"] {
            assert!(peers["peers"][0].get(field).is_some(), "{field}");
        }
        let job = serde_json::to_value(&samples::replies()[3]).unwrap();
        assert!(job["devices"][0].get("tasks").is_some() && job["devices"][0].get("peer_id").is_some());
    }
}
