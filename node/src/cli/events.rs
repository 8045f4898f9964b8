//! `msm events`: what happens, a line each, until it is ended.

use std::{
    pin::pin,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::Args;
use serde::Serialize;
use tokio::sync::mpsc;

use super::{
    call::Call,
    render::progress,
    screen::{Screen, Stop},
};
use crate::{
    clock,
    command::{Command, Door, EVENT_QUEUE, Event, Request},
};

/// What happens on the running node, a line each, until Ctrl-C
#[derive(Debug, Args)]
#[command(
    after_help = "Each line of --json is one object; its `event` says what happened: peer-joined, task-started,\n\
                        task-retried, device-lost, struck, paused and others.\n\n\
                        Example:\n  msm events\n  msm events --json\n  msm events --job 7f3a"
)]
pub struct Events {
    /// Only those of this running job, and not longer than it: its id, or an unambiguous beginning
    #[arg(long, value_name = "ID")]
    job: Option<String>,
}

impl Events {
    pub(super) fn meaning(self) -> Call {
        Call::of_running_node(Command::Watch { job: self.job })
    }
}

/// One line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    /// Unix seconds with milliseconds, when this program heard of it.
    time: f64,
    #[serde(flatten)]
    event: &'a Event,
}

/// Prints events as results until the node, the job or the reader has gone.
pub async fn follow<D: Door>(door: &D, request: Request, screen: &mut Screen) -> Result<(), Stop> {
    let of_job = matches!(request.command, Command::Watch { job: Some(_) });
    let (events, mut queue) = mpsc::channel::<Event>(EVENT_QUEUE);
    let mut watch = pin!(door.execute(request, events));
    loop {
        let event = tokio::select! {
            biased;
            Some(event) = queue.recv() => event,
            ended = &mut watch => return ended.map(drop).map_err(Stop::from),
        };
        print(&event, screen)?;
        if of_job && matches!(event, Event::JobDone { .. } | Event::JobFailed { .. }) {
            return Ok(());
        }
    }
}

fn print(event: &Event, screen: &mut Screen) -> Result<(), Stop> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if screen.style.json {
        let time = now.as_millis() as f64 / 1e3;
        return screen.result_json(&Line { schema: "msm.event/1", time, event });
    }
    let local = clock::local(now.as_secs());
    screen.result_line(format!("{:02}:{:02}:{:02}  {}", local.hour, local.minute, local.second, progress::full(event)))
}

#[cfg(test)]
mod tests {
    use msm_protocol::JobId;

    use super::*;
    use crate::{
        cli::{
            samples::peer,
            screen::{Style, tests::captured},
        },
        command::{CommandError, Response, Why},
    };

    const JOB: JobId = JobId::from_bytes([0x7f; 16]);

    /// Sends these, and then nothing for ever.
    struct Sends(Vec<Event>);

    impl Door for Sends {
        async fn execute(&self, _: Request, events: mpsc::Sender<Event>) -> Result<Response, CommandError> {
            self.0.iter().for_each(|event| events.try_send(event.clone()).unwrap());
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_jobs_events_end_with_it_and_each_is_one_object() {
        let (job_id, peer_id, name) = (JOB, peer(), "attic".to_owned());
        let door = Sends(vec![
            Event::TaskStarted { job_id, peer_id, name, task: 3, attempt: 1, why: Why::Lost },
            Event::JobDone { job_id, wall_ms: 12.0 },
            Event::MarketUpdated { alias: "too late".into(), version: 1 },
        ]);
        let request = || Request::from(Command::Watch { job: Some("7f".into()) });
        let (mut screen, out, err) = captured(Style { json: true, ..Style::default() });
        follow(&door, request(), &mut screen).await.unwrap();
        let lines: Vec<serde_json::Value> =
            out.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((lines.len(), err.text().as_str()), (2, ""));
        assert!(out.text().starts_with("{\"schema\":\"msm.event/1\",\"time\":"), "{}", out.text());
        for (field, value) in [("event", "task-started"), ("why", "lost"), ("name", "attic")] {
            assert_eq!(lines[0][field], value);
        }
        assert_eq!((&lines[0]["task"], &lines[0]["attempt"]), (&3.into(), &1.into()));
        assert_eq!((&lines[0]["job_id"], &lines[0]["peer_id"]), (&JOB.to_string().into(), &peer_id.to_string().into()));

        let (mut screen, out, _) = captured(Style::default());
        follow(&door, request(), &mut screen).await.unwrap();
        let text = out.text();
        let lines: Vec<&str> = text.lines().map(|line| line.split_once("  ").unwrap().1).collect();
        assert_eq!(lines, ["task 3, attempt 1 on attic (lost)", "job 7f7f: done in 12 ms"]);
    }
}
