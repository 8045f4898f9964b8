//! What happens while a command runs: a bar for each device on a terminal, else one line a change of state.

use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use msm_protocol::{PeerId, limits::REASON_BYTES};

use super::text::{clean, count, milliseconds};
use crate::{
    cli::screen::{Screen, Style},
    clock,
    command::{Event, Why},
};

/// Bars on the screen: more devices than a job may have (64), fewer than would fill a terminal for ever.
const BARS: usize = 64;
/// Characters of a device's name.
pub const NAME_CHARS: usize = 32;
/// How often a bar may be drawn, per second.
const DRAWS: u8 = 15;

/// Shows events.
pub enum Progress {
    /// Nothing is shown.
    Silent,
    /// A line on stderr for each change of state.
    Lines,
    /// A bar for each device.
    Bars(Bars),
}

impl Progress {
    /// Progress as `style` wants it.
    pub fn new(style: Style) -> Self {
        match style {
            Style { quiet: true, .. } => Self::Silent,
            Style { bars: true, .. } => Self::Bars(Bars::new()),
            // A script that reads errors as JSON from stderr finds nothing else there.
            Style { json: true, .. } => Self::Silent,
            _ => Self::Lines,
        }
    }

    /// Shows one event.
    pub fn event(&mut self, event: &Event, screen: &mut Screen) {
        match self {
            Self::Silent => {}
            // How it ended is said by the report or the error.
            Self::Lines if matches!(event, Event::JobDone { .. } | Event::JobFailed { .. }) => {}
            Self::Lines => {
                if let Some(line) = line(event) {
                    screen.message(line);
                }
            }
            Self::Bars(bars) => bars.event(event),
        }
    }

    /// Takes bars off the screen; what was lost on the way stays as lines.
    pub fn finish(self, screen: &mut Screen) {
        if let Self::Bars(bars) = self {
            let _ = bars.multi.clear();
            for line in bars.kept {
                screen.message(line);
            }
        }
    }
}

/// One bar a device, and a line for the job's phase.
pub struct Bars {
    multi: MultiProgress,
    devices: BTreeMap<PeerId, ProgressBar>,
    phase: Option<ProgressBar>,
    tasks: u32,
    kept: Vec<String>,
}

impl Bars {
    fn new() -> Self {
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(DRAWS));
        Self { multi, devices: BTreeMap::new(), phase: None, tasks: 0, kept: Vec::new() }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Phase { name, .. } => self.phase(clean(name, NAME_CHARS)),
            Event::JobStarted { tasks, .. } => {
                self.tasks = *tasks;
                self.devices.values().for_each(|bar| bar.set_length(u64::from(*tasks)));
            }
            Event::DeviceJoined { peer_id, name, .. } => {
                let name = clean(name, NAME_CHARS);
                if let Some(bar) = self.device(*peer_id) {
                    bar.set_prefix(name);
                }
            }
            Event::TaskDone { peer_id, tasks, .. } => {
                self.tasks = *tasks;
                if let Some(bar) = self.device(*peer_id) {
                    bar.set_length(u64::from(*tasks));
                    bar.inc(1);
                }
            }
            Event::DeviceLost { peer_id, reason, tasks_back, .. } => {
                let reason = clean(reason, REASON_BYTES);
                if let Some(bar) = self.device(*peer_id) {
                    bar.abandon_with_message(format!("lost: {reason}, {} back", count(u64::from(*tasks_back), "task")));
                }
                self.keep(event);
            }
            Event::TaskFailed { .. }
            | Event::DeviceRefused { .. }
            | Event::Struck { .. }
            | Event::TaskWithdrawn { .. }
            | Event::TaskChecked { agrees: false, .. } => self.keep(event),
            _ => {}
        }
    }

    fn keep(&mut self, event: &Event) {
        if self.kept.len() < BARS {
            self.kept.extend(line(event));
        }
    }

    fn device(&mut self, peer: PeerId) -> Option<&ProgressBar> {
        if self.devices.len() >= BARS && !self.devices.contains_key(&peer) {
            return None;
        }
        let (multi, tasks) = (&self.multi, self.tasks);
        Some(self.devices.entry(peer).or_insert_with(|| {
            let bar = multi.add(ProgressBar::new(u64::from(tasks)).with_prefix(peer.short()));
            bar.set_style(style("{prefix:16} {bar:30} {pos:>4}/{len} {msg}"));
            bar
        }))
    }

    fn phase(&mut self, name: String) {
        let multi = &self.multi;
        let phase = self.phase.get_or_insert_with(|| {
            let spinner = multi.add(ProgressBar::new_spinner());
            spinner.set_style(style("{spinner} {msg} {elapsed}"));
            spinner
        });
        phase.set_message(name);
        phase.tick();
    }
}

/// The templates above are constants; a wrong one falls back to indicatif's own.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("█▌ ")
}

/// The event as one line, or `None` for those that are only of use in a bar.
pub fn line(event: &Event) -> Option<String> {
    let name = |name: &str, peer: &PeerId| {
        if name.is_empty() { peer.short() } else { clean(name, NAME_CHARS) }
    };
    Some(match event {
        Event::PeerJoined { peer_id, name: n } => format!("{} is here", name(n, peer_id)),
        Event::PeerLeft { peer_id, name: n, reason } => {
            format!("{} has gone: {}", name(n, peer_id), clean(reason, REASON_BYTES))
        }
        Event::MarketUpdated { alias, version } => format!("market {}: index {version}", clean(alias, NAME_CHARS)),
        Event::MarketSplit { alias, version } => format!(
            "market {}: has signed two histories at index {version}; not followed any further",
            clean(alias, NAME_CHARS)
        ),
        Event::JobStarted { job_id, service, tasks } => {
            format!("job {}: {}, {}", job_id.short(), clean(service, 128), count(u64::from(*tasks), "task"))
        }
        Event::DeviceJoined { peer_id, name: n, local, .. } => {
            format!("{}: joined{}", name(n, peer_id), if *local { " (this device)" } else { "" })
        }
        Event::DeviceLost { peer_id, name: n, reason, tasks_back, .. } => format!(
            "{}: lost ({}), {} back",
            name(n, peer_id),
            clean(reason, REASON_BYTES),
            count(u64::from(*tasks_back), "task")
        ),
        Event::DeviceRefused { peer_id, name: n, code, reason, .. } => {
            format!("{}: refused: {}: {}", name(n, peer_id), clean(code, NAME_CHARS), clean(reason, REASON_BYTES))
        }
        Event::TaskFailed { peer_id, name: n, task, attempt, code, reason, .. } => format!(
            "task {task}, attempt {attempt} on {}: {}: {}",
            name(n, peer_id),
            clean(code, NAME_CHARS),
            clean(reason, REASON_BYTES)
        ),
        Event::JobDone { job_id, wall_ms } => format!("job {}: done in {}", job_id.short(), milliseconds(*wall_ms)),
        Event::JobFailed { job_id, error } => {
            format!("job {}: failed: {}", job_id.short(), clean(error, REASON_BYTES))
        }
        Event::Paused { until, tasks_back } => {
            let until = until.map_or_else(|| "msm resume".to_owned(), |until| clock::told(until, clock::now()));
            format!("lending paused until {until}; {} handed back", count(u64::from(*tasks_back), "task"))
        }
        Event::Resumed { reason } => format!("lending again: {}", clean(reason, REASON_BYTES)),
        Event::Struck { peer_id, name: n, task, reason, evidence, .. } => {
            let task = task.map_or_else(String::new, |task| format!(" in task {task}"));
            let proof = evidence.as_ref().map_or_else(String::new, |hash| format!(" (evidence {})", clean(hash, 128)));
            format!("{}: struck{task}: {}{proof}", name(n, peer_id), clean(reason, REASON_BYTES))
        }
        Event::JobResumed { job_id, service, tasks, tasks_done } => format!(
            "job {}: goes on: {}, {tasks_done} of {} done",
            job_id.short(),
            clean(service, 128),
            count(u64::from(*tasks), "task")
        ),
        Event::TaskChecked { task, peer_id, name: n, by, by_name, agrees: false, .. } => {
            format!("task {task}: {} does not agree with {}", name(by_name, by), name(n, peer_id))
        }
        Event::TaskWithdrawn { task, peer_id, name: n, .. } => {
            format!("task {task}: the answer of {} counts no more", name(n, peer_id))
        }
        Event::TaskStarted { .. }
        | Event::TaskRetried { .. }
        | Event::TaskDone { .. }
        | Event::TaskChecked { .. }
        | Event::Phase { .. } => return None,
    })
}

/// The event as one line, whichever it is.
pub fn full(event: &Event) -> String {
    let name = |name: &str, peer: &PeerId| {
        if name.is_empty() { peer.short() } else { clean(name, NAME_CHARS) }
    };
    match event {
        Event::TaskStarted { peer_id, name: n, task, attempt, why, .. } => {
            let why = if *why == Why::Fresh { String::new() } else { format!(" ({})", why.as_str()) };
            format!("task {task}, attempt {attempt} on {}{why}", name(n, peer_id))
        }
        Event::TaskRetried { task, peer_id, name: n, from, from_name, reason, .. } => format!(
            "task {task}: from {} to {}: {}",
            name(from_name, from),
            name(n, peer_id),
            clean(reason, REASON_BYTES)
        ),
        Event::TaskDone { peer_id, name: n, task, done, tasks, .. } => {
            format!("task {task}: done by {}, {done} of {tasks}", name(n, peer_id))
        }
        Event::TaskChecked { task, peer_id, name: n, by, by_name, .. } => {
            format!("task {task}: {} agrees with {}", name(by_name, by), name(n, peer_id))
        }
        Event::Phase { job_id, name } => format!("job {}: {}", job_id.short(), clean(name, NAME_CHARS)),
        other => line(other).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use msm_protocol::{JobId, SecretKey};

    use super::*;
    use crate::cli::{samples::peer, screen::tests::captured};

    const JOB: JobId = JobId::from_bytes([0x7f; 16]);

    fn events() -> Vec<Event> {
        let (job_id, peer_id) = (JOB, peer());
        vec![
            Event::Phase { job_id, name: "resolve".into() },
            Event::JobStarted { job_id, service: "home/image-blur@1.2.0".into(), tasks: 16 },
            Event::DeviceJoined { job_id, peer_id, name: "attic".into(), local: false },
            Event::TaskStarted { job_id, peer_id, name: "attic".into(), task: 0, attempt: 0, why: Why::Fresh },
            Event::TaskDone { job_id, peer_id, name: "attic".into(), task: 0, attempt: 0, done: 1, tasks: 16 },
            Event::DeviceLost {
                job_id,
                peer_id,
                name: "attic".into(),
                reason: "closed\u{1b}[2J".into(),
                tasks_back: 2,
            },
            Event::JobDone { job_id, wall_ms: 1_080.0 },
        ]
    }

    #[test]
    fn without_a_terminal_one_line_a_change() {
        let (mut screen, out, err) = captured(Style::default());
        let mut progress = Progress::new(screen.style);
        for event in events() {
            progress.event(&event, &mut screen);
        }
        progress.finish(&mut screen);
        assert_eq!(out.text(), "");
        assert_eq!(
            err.text(),
            "job 7f7f: home/image-blur@1.2.0, 16 tasks\nattic: joined\nattic: lost (closed?[2J), 2 tasks back\n"
        );
    }

    #[test]
    fn quiet_and_json_show_nothing() {
        for style in [Style { quiet: true, bars: true, ..Style::default() }, Style { json: true, ..Style::default() }] {
            let (mut screen, out, err) = captured(style);
            let mut progress = Progress::new(style);
            for event in events() {
                progress.event(&event, &mut screen);
            }
            progress.finish(&mut screen);
            assert_eq!((out.text(), err.text()), (String::new(), String::new()));
        }
    }

    #[test]
    fn bars_keep_what_went_wrong_and_stay_bounded() {
        let (mut screen, _, err) = captured(Style::default());
        let mut bars = Bars { multi: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()), ..Bars::new() };
        for event in events() {
            bars.event(&event);
        }
        assert_eq!(bars.devices[&peer()].length(), Some(16));
        assert_eq!(bars.devices[&peer()].position(), 1);
        for n in 0..200u8 {
            let stranger = PeerId::of(&SecretKey::from_seed(&[n; 32]).public());
            bars.event(&Event::DeviceJoined { job_id: JOB, peer_id: stranger, name: "x".into(), local: false });
        }
        assert_eq!(bars.devices.len(), BARS);
        Progress::Bars(bars).finish(&mut screen);
        assert_eq!(err.text(), "attic: lost (closed?[2J), 2 tasks back\n");
    }
}
