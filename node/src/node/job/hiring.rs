//! Whom a running job hires: the scheduler's own choice, made again when parts are done or neighbours appear.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use msm_protocol::PeerId;
use msm_scheduler::{Input, Output, Selection, hire::Shown};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    choose::Choice,
    discover::{self, Asks, Found, Neighbour},
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
    /// When what is known of the others is looked at again.
    look_around: Instant,
    looking: Option<JoinHandle<Vec<Neighbour>>>,
    /// All others were asked because nobody was left.
    was_last: bool,
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
            look_around: Instant::now() + discover::ASK_AGAIN,
            looking: None,
            was_last: false,
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

    /// How many others could be hired now, or when they have answered.
    pub(super) fn spares(&self) -> usize {
        self.decides.spares() + self.asks.len()
    }

    /// Nobody works on the job: whether somebody else may still be found. Who was busy when the job began is asked again,
    /// once.
    pub(super) fn may_find(&mut self) -> bool {
        if self.connected.is_some() && !std::mem::replace(&mut self.was_last, true) {
            self.look();
        }
        self.looking.is_some() || self.asks.len() > 0
    }

    fn look(&mut self) {
        self.look_around = Instant::now() + discover::ASK_AGAIN;
        let ctx = self.ctx.clone();
        self.looking.get_or_insert_with(|| tokio::spawn(async move { discover::neighbours(&ctx).await }));
    }

    /// Waits until there is somebody to hire, or nobody is asked any more; for ever when neither can be. May be dropped at
    /// any point.
    pub(super) async fn next(&mut self) -> Vec<PeerId> {
        loop {
            let whom = self.decides.whom(self.now());
            if !whom.is_empty() {
                return whom;
            }
            let look = self.decides.next_look().map(|at| self.started + at);
            let around = self.connected.is_some() && self.looking.is_none() && self.decides.room() > 0;
            let at = look.into_iter().chain(around.then_some(self.look_around)).min();
            let at_look = async {
                match at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
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
            let seen = async {
                match &mut self.looking {
                    Some(looking) => looking.await.unwrap_or_default(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = at_look => if around && self.look_around <= Instant::now() {
                    self.look();
                },
                peers = news => self.newcomers(&peers),
                neighbours = seen => {
                    self.looking = None;
                    self.look_at(neighbours);
                    if self.asks.len() == 0 {
                        return self.decides.whom(self.now());
                    }
                }
                Some(answer) = self.asks.next(&self.ctx) => {
                    self.add(answer);
                    if self.asks.len() == 0 {
                        return self.decides.whom(self.now());
                    }
                }
            }
        }
    }

    /// Asks those that nothing is known of.
    fn newcomers(&mut self, peers: &[PeerId]) {
        for peer in peers {
            let is_known = self.found.iter().any(|found| found.candidate.peer == *peer);
            if !is_known && self.choice.may_help(peer) {
                discover::ask_newcomer(&self.ctx, *peer, &mut self.asks);
            }
        }
    }

    /// What the coordinator was told meanwhile; while devices are missing, those that do not fit are asked again.
    fn look_at(&mut self, neighbours: Vec<Neighbour>) {
        let hired: Vec<PeerId> = self.decides.hired().collect();
        let others: Vec<_> = neighbours
            .into_iter()
            .filter(|other| !hired.contains(&other.peer) && self.choice.may_help(&other.peer))
            .collect();
        others.iter().filter_map(|other| other.found.clone()).for_each(|news| discover::renew(&mut self.found, news));
        let selection = self.choice.select(&self.found);
        self.decides.renew(&selection);
        if self.decides.lacks() {
            for other in others {
                let fits = selection.servers.iter().any(|(peer, _)| *peer == Some(other.peer));
                if other.is_asked(&self.ctx, true, fits) {
                    self.asks.ask(&self.ctx, &other);
                }
            }
        }
    }

    /// Somebody has answered: the choice is made again.
    fn add(&mut self, answer: Option<Found>) {
        let Some(news) = answer else { return };
        discover::renew(&mut self.found, news);
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
