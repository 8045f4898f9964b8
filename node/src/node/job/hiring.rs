//! Whom a running job hires: the scheduler's own choice, made again when parts are done or neighbours appear.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use msm_protocol::PeerId;
use msm_scheduler::{Input, Output, Selection, hire::Shown};
use tokio::sync::watch;

use super::{
    choose::Choice,
    discover::{self, Asks, Found},
};
use crate::node::context::Context;

/// Whom a job hires, and when.
pub(super) struct Hiring {
    ctx: Arc<Context>,
    decides: msm_scheduler::Hiring,
    choice: Choice,
    found: Vec<Found>,
    asks: Asks,
    /// Who is connected, while newcomers are welcome.
    connected: Option<watch::Receiver<Arc<Vec<PeerId>>>>,
    here: bool,
    /// The clock of the job: set when it begins.
    started: Instant,
}

impl Hiring {
    /// For tasks of so many `bytes`. With `asks` the job begins while others are still asked, and who appears later is
    /// asked too.
    pub(super) fn new(
        ctx: &Arc<Context>,
        choice: Choice,
        selection: &Selection,
        found: &[Found],
        bytes: Vec<u64>,
        asks: Option<Asks>,
    ) -> Self {
        let connected = asks.as_ref().map(|_| {
            let mut connected = ctx.connected.clone();
            // Those that are there at the first look count as new: some may have come since they were listed.
            connected.mark_changed();
            connected
        });
        Self {
            ctx: ctx.clone(),
            decides: msm_scheduler::Hiring::new(selection, choice.wish, bytes),
            here: selection.is_here() && selection.rows.iter().any(|row| row.used && row.peer.is_none()),
            choice,
            found: found.to_vec(),
            asks: asks.unwrap_or_default(),
            connected,
            started: Instant::now(),
        }
    }

    /// True when this device works on the job.
    pub(super) fn is_here(&self) -> bool {
        self.here
    }

    /// Those that were found so far.
    pub(super) fn found(&self) -> &[Found] {
        &self.found
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The job begins: who is hired at once.
    pub(super) fn start(&mut self, at: Instant) -> Vec<PeerId> {
        self.started = at;
        self.decides.whom(self.now())
    }

    /// What the job is about to be told.
    pub(super) fn heard(&mut self, input: &Input) {
        self.decides.heard(input, self.now());
    }

    /// What the job has decided.
    pub(super) fn told(&mut self, output: &Output) {
        self.decides.told(output, self.now());
    }

    /// A device did not take the job.
    pub(super) fn refused(&mut self, peer: &PeerId) {
        self.decides.refused(peer);
    }

    /// The next best device that fits, for the place of one that is missing; it counts as hired.
    pub(super) fn spare(&mut self) -> Option<PeerId> {
        self.decides.spare(self.now())
    }

    /// How many others could be hired now.
    pub(super) fn spares(&self) -> usize {
        self.decides.spares()
    }

    /// Waits until there is somebody to hire; for ever when there cannot be. May be dropped at any point.
    pub(super) async fn next(&mut self) -> Vec<PeerId> {
        loop {
            let whom = self.decides.whom(self.now());
            if !whom.is_empty() {
                return whom;
            }
            let look = self.decides.next_look();
            let at_look = async {
                match look {
                    Some(at) => tokio::time::sleep_until((self.started + at).into()).await,
                    None => std::future::pending().await,
                }
            };
            let news = async {
                // The node ends: nobody comes any more.
                if let Some(connected) = &mut self.connected
                    && connected.changed().await.is_ok()
                {
                    return connected.borrow_and_update().clone();
                }
                std::future::pending().await
            };
            tokio::select! {
                () = at_look => {}
                peers = news => discover::ask_newcomers(&self.ctx, &peers, &self.found, &mut self.asks),
                Some(answer) = self.asks.join_next(), if !self.asks.is_empty() => self.add(answer.ok().flatten()),
            }
        }
    }

    /// Somebody has answered: the choice is made again.
    fn add(&mut self, answer: Option<Found>) {
        let Some(found) = answer else { return };
        self.found.retain(|known| known.candidate.peer != found.candidate.peer);
        self.found.push(found);
        let selection = self.choice.select(&self.found);
        self.decides.renew(&selection);
    }

    /// True when other devices took part.
    pub(super) fn hired_any(&self) -> bool {
        self.decides.hired().next().is_some()
    }

    /// What the job has shown of everybody.
    pub(super) fn shown(&self) -> Shown {
        self.decides.shown(self.now())
    }
}
