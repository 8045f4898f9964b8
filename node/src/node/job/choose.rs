//! Who works on a job: the scheduler's selection, asked with what this node knows, and told in words.

use std::{sync::Arc, time::Duration};

use msm_protocol::{
    MarketId, PeerId,
    device::{DeviceInfo, Requirements},
    limits::{CREDIT, TASK_TARGET_BYTES, TASKS_PER_JOB},
};
use msm_sandbox::{Aim, Work};
use msm_scheduler::{
    DeviceWish, JobShape, Order, Redundancy, Row, Selection, Sure,
    makespan::{self, Load},
    plan::Hands,
    select::{STARTUP, brief},
};

use super::{
    Invocation, Resolved,
    believe::of_wish,
    discover::{self, Asks, Found},
    millis,
    tell::told_apart,
};
use crate::{
    blob::Blob,
    command::{CommandError, Devices, ErrorCode, Plan, PlanRow},
    node::{
        context::Context,
        markets,
        measured::{ServiceKey, Whole},
    },
    resources::{denial::PermissionError, words::needs},
};

/// Where nothing is known, of a service or of who is around, the input is cut for so many devices: each part costs
/// something, rows of its neighbours too, even if nobody else comes to do it. *Judgement.*
const UNKNOWN_DEVICES: u32 = 4;

/// How much is known of a job's tasks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cut<'a> {
    /// So many are asked for.
    Into(u32),
    /// As many as pay.
    Freely,
    /// These are their inputs.
    Parts(&'a [Blob]),
}

/// What a choice of devices rests on, so that it can be made again while the job runs.
pub(super) struct Choice {
    ctx: Arc<Context>,
    market: MarketId,
    need: Requirements,
    own: DeviceInfo,
    key: ServiceKey,
    /// Only devices of the requester's owner may see the input.
    private: bool,
    /// Nobody else is to take part; anybody when it is empty.
    named: Vec<PeerId>,
    /// Without what is known of others, which is looked up each time.
    shape: JobShape,
    pub(super) wish: DeviceWish,
}

impl Choice {
    /// False for a device that cannot take part, whatever it says of itself.
    pub(super) fn may_help(&self, peer: &PeerId) -> bool {
        let named = self.named.is_empty() || self.named.contains(peer);
        named && self.may_see(peer) && !self.ctx.trust.is_struck(peer) && !self.ctx.is_banned(peer)
    }

    fn may_see(&self, peer: &PeerId) -> bool {
        !self.private || self.ctx.is_own(peer)
    }

    /// Chooses among these.
    pub(super) fn select(&self, found: &[Found]) -> Selection {
        // Who says that its owner does not trust the market would refuse: not counted among those that could help. Nor
        // does anybody else see what a private service is given.
        let may_see = |found: &Found| self.may_see(&found.candidate.peer);
        let (willing, others): (Vec<_>, Vec<_>) =
            found.iter().partition(|found| found.trusts(&self.market) && may_see(found));
        let candidates: Vec<_> = willing.iter().map(|found| found.candidate.clone()).collect();
        let now = markets::now();
        let known = candidates.iter().map(|candidate| {
            let known = self.ctx.measured.device(&candidate.peer, &self.key, self.ctx.trust.of(&candidate.peer), now);
            (candidate.peer, known)
        });
        let shape = JobShape { known: known.collect(), ..self.shape.clone() };
        let mut selection = msm_scheduler::select(&self.own, &candidates, &self.need, self.wish, shape);
        if self.need.gps && !self.own.gps {
            // What keeps his own receiver from it is the owner's to know.
            let signal = self.ctx.monitor.position().signal;
            let unmet = self.need.unmet_by(&self.own, self.own.eqs);
            let here = |row: &&mut Row| row.peer.is_none() && Some(&row.why) == unmet.as_ref();
            selection.rows.iter_mut().filter(here).for_each(|row| row.why = format!("{}: {signal}", row.why));
        }
        for row in &mut selection.rows {
            let why = row.peer.filter(|_| !row.used).and_then(|peer| self.ctx.trust.why_struck(&peer));
            row.why = why.unwrap_or_else(|| std::mem::take(&mut row.why));
        }
        selection.rows.extend(others.iter().map(|found| Row {
            peer: Some(found.candidate.peer),
            eqs: found.candidate.info.eqs,
            used: false,
            why: match may_see(found) {
                true => "its owner does not trust this market".to_owned(),
                false => "the service is private: only your own devices see its input (node.own)".to_owned(),
            },
        }));
        selection
    }
}

/// Who is around, as far as it is known when the job begins.
#[derive(Default)]
pub(super) struct Around {
    pub(super) found: Vec<Found>,
    /// Questions to others, for which the job does not wait; `None` when it is for nobody else.
    pub(super) asks: Option<Asks>,
    /// Neighbours that may take part, whatever is known of them.
    there: usize,
}

impl Invocation {
    /// Looks for others. A job that needs them waits until as many fit as it needs, or everybody has answered; the others
    /// have no reason to wait.
    pub(super) async fn discover(&self, resolved: &Resolved, own: &DeviceInfo) -> Around {
        let (wish, need, plan) = (wanted(resolved), &resolved.need, self.invoke.plan);
        let named = &self.invoke.peers;
        let here = resolved.not_here.is_none() && self.could(need) && !self.invoke.remote_only;
        let needs_others =
            !here || !named.is_empty() || plan || wish.min > 1 || resolved.installed.manifest.work.remote;
        // Who asks for a position is told of the neighbours that were not needed for it.
        if self.invoke.local || !(needs_others || need.gps || wish.max > 1) {
            return Around::default();
        }
        if needs_others || need.gps {
            discover::settle(&self.ctx).await;
        }
        let mut neighbours = discover::neighbours(&self.ctx).await;
        neighbours.retain(|it| named.is_empty() || named.contains(&it.peer));
        let mut found: Vec<_> = neighbours.iter().filter_map(|it| it.found.clone()).collect();
        let choice = self.choice(resolved, own, wish, Cut::Freely);
        let fitting = |found: &[Found]| {
            let selection = choice.select(found);
            let fitting: Vec<_> = selection.servers.into_iter().map(|(peer, _)| peer).collect();
            let named = named.iter().all(|peer| fitting.contains(&Some(*peer)));
            let enough = named && fitting.len() >= wish.min.max(1) as usize;
            (fitting, enough && !plan)
        };
        // A plan tells of everybody.
        let lacking = needs_others.then(|| fitting(&found)).and_then(|(fitting, enough)| (!enough).then_some(fitting));
        let mut asks = Asks::default();
        for neighbour in &neighbours {
            let fits = lacking.as_ref().is_some_and(|fitting| fitting.contains(&Some(neighbour.peer)));
            if (plan || choice.may_help(&neighbour.peer)) && neighbour.is_asked(&self.ctx, lacking.is_some(), fits) {
                asks.ask(&self.ctx, neighbour);
            }
        }
        if lacking.is_some() {
            let wait = async {
                while let Some(answer) = asks.next(&self.ctx).await {
                    let Some(news) = answer else { continue };
                    discover::renew(&mut found, news);
                    if fitting(&found).1 {
                        break;
                    }
                }
            };
            let _ = tokio::time::timeout(discover::ANSWER, wait).await;
        }
        Around { found, asks: Some(asks), there: neighbours.len() }
    }

    /// What a choice of devices for this job rests on.
    pub(super) fn choice(&self, resolved: &Resolved, own: &DeviceInfo, wish: DeviceWish, cut: Cut<'_>) -> Choice {
        let key = self.service_key(resolved);
        let known = self.ctx.measured.call(&key, markets::now());
        let input = self.input.len();
        let (tasks, bytes) = match cut {
            Cut::Parts(parts) => (parts.len() as u32, parts.iter().map(Blob::len).sum()),
            Cut::Into(tasks) => (tasks, (input as f64 * known.cut.unwrap_or(1.0)) as u64),
            Cut::Freely => {
                let whole = matches!(resolved.installed.package(&resolved.params).work, Work::Whole);
                let most = if whole { 1 } else { TASKS_PER_JOB as u32 };
                (most, (input as f64 * known.cut.unwrap_or(1.0)) as u64)
            }
        };
        let time = makespan::seconds;
        let shape = JobShape {
            tasks,
            cut: matches!(cut, Cut::Parts(_) | Cut::Into(_)),
            bytes,
            output: (bytes as f64 * known.output.unwrap_or(1.0)) as u64,
            work: known.part.map(|line| time(line.per_byte * bytes as f64)),
            per_task: known.part.map_or(Duration::ZERO, |line| time(line.fixed)),
            around: known.around.map_or(Duration::ZERO, |line| time(line.at(input as f64))),
            slots: self.ctx.own_slot_count as u32,
            not_here: match self.invoke.remote_only {
                true => Some("only other devices were asked for (--remote-only)".to_owned()),
                false => resolved.not_here.as_ref().map(ToString::to_string),
            },
            order: if self.invoke.eqs_paper { Order::Paper } else { Order::Net },
            redundancy: of_wish(resolved.redundancy),
            ..JobShape::default()
        };
        let (ctx, market, need) = (self.ctx.clone(), resolved.market, resolved.need.clone());
        let private = resolved.installed.manifest.work.private;
        let named = self.invoke.peers.clone();
        Choice { ctx, market, need, own: own.clone(), key, private, named, shape, wish }
    }

    fn service_key(&self, resolved: &Resolved) -> ServiceKey {
        ServiceKey::new(&resolved.market, &resolved.release, resolved.installed.engine, &resolved.params)
    }

    /// How to cut the input: for the devices that will share it, as far as that is known, and for how long it takes.
    pub(super) fn aim(&self, resolved: &Resolved, own: &DeviceInfo, around: &Around) -> Aim {
        let wish = wanted(resolved);
        let there = around.there as u32 + 1;
        let alone = || !self.ctx.settled.initialized() && self.ctx.started.elapsed() < discover::FIRST_NEIGHBOUR;
        let young = around.asks.is_some() && alone();
        let there = if young { there.max(UNKNOWN_DEVICES) } else { there };
        let before = self.choice(resolved, own, wish, Cut::Freely).select(&around.found);
        let devices = match (wish.auto, before.load.sure) {
            (false, _) => there,
            (true, Sure::Guessed) => there.min(UNKNOWN_DEVICES),
            // It will be over before anybody else could begin.
            (true, Sure::Measured) if before.predicted.first().is_some_and(|alone| *alone < STARTUP) => 1,
            (true, Sure::Measured) if young => before.count.max(there.min(UNKNOWN_DEVICES)),
            (true, Sure::Measured) => before.count,
        };
        let devices = devices.min(wish.max).max(1);
        let known = Hands::of(before.servers.iter().take(devices as usize).map(|(_, server)| server));
        // Of the others no more is known than what they will be given to begin with.
        let slots = known.slots.saturating_add((devices - known.devices).saturating_mul(CREDIT));
        let hands = Hands { devices, slots };
        let load = Load { tasks: TASKS_PER_JOB as u32, ..before.load };
        Aim { want: load.tasks_on(hands), target_bytes: TASK_TARGET_BYTES as u64, slots }
    }

    /// Notes in the report what is predicted.
    pub(super) fn predict(&mut self, selection: &Selection) {
        let report = &mut self.record.report;
        report.predicted_ms = selection.time().map(millis);
        report.predicted_from = Some(said(selection.load.sure).to_owned());
    }

    /// Says that the job stayed here though others were there, and why.
    pub(super) fn stayed(&mut self, resolved: &Resolved, selection: &Selection) {
        let [alone, two, ..] = *selection.predicted.as_slice() else { return };
        if !resolved.wish.auto || self.invoke.local {
            return;
        }
        let note = match selection.load.sure {
            Sure::Measured => format!("stays here: 1 device {}, 2 devices {}", brief(alone), brief(two)),
            Sure::Guessed => "stays here: it was nearly done before others could have begun".to_owned(),
        };
        self.record.report.notes.push(note);
    }

    /// What the job has shown, for those to come.
    pub(super) fn learn(&self, resolved: &Resolved, shown: &msm_scheduler::hire::Shown, cut: u64, output: u64) {
        let phases = &self.record.report.phases_ms;
        let around = phases.iter().filter(|(name, _)| matches!(name.as_str(), "resolve" | "split" | "merge"));
        let around = Duration::from_secs_f64(around.map(|(_, ms)| ms / 1e3).sum::<f64>().max(0.0));
        let whole = Whole { input: self.input.len(), cut, output, around };
        self.ctx.measured.job(&self.service_key(resolved), shown, &whole, markets::now());
    }

    pub(super) fn enough_devices(
        &self,
        resolved: &Resolved,
        selection: &Selection,
        found: &[discover::Found],
    ) -> Result<(), CommandError> {
        let reasons = || {
            let names = told_apart(&self.ctx, found);
            let name = |peer: PeerId| names.get(&peer).cloned().unwrap_or_else(|| peer.short());
            let rows = selection.rows.iter().filter(|row| !row.used);
            let reasons: Vec<String> =
                rows.map(|row| format!("{}: {}", row.peer.map_or("this device".into(), name), row.why)).collect();
            if reasons.is_empty() { "no other device is around".to_owned() } else { reasons.join("; ") }
        };
        if selection.count == 0 {
            let message = format!("no device fits the constraints ({})", reasons());
            let error = CommandError::new(ErrorCode::NoDevice, message).or_try("msm peers");
            return Err(self.or_grant(resolved, error));
        }
        if self.invoke.strict && selection.count < resolved.wish.min {
            let message = format!("{} devices wanted, {} fit ({})", resolved.wish.min, selection.count, reasons());
            return Err(CommandError::new(ErrorCode::NoDevice, message).or_try("msm peers"));
        }
        Ok(())
    }

    /// Adds the line with which this device could do the job itself, if it lacks the owner's grant and nothing else.
    pub(super) fn or_grant(&self, resolved: &Resolved, error: CommandError) -> CommandError {
        let denial = resolved.not_here.as_ref().filter(|_| self.could(&resolved.need));
        match denial.and_then(PermissionError::r#try) {
            Some(line) => error.or_try(line),
            None => error,
        }
    }

    /// Tells who asks for a position and has a receiver himself that neighbours were not needed.
    pub(super) fn own_receiver(&mut self, resolved: &Resolved, selection: &Selection) {
        let here = selection.rows.iter().find(|row| row.used && row.peer.is_none());
        if let Some(row) = here.filter(|_| resolved.need.gps && !self.invoke.local) {
            let others = match selection.spare.len() {
                0 => "no neighbour has one".to_owned(),
                1 => "1 neighbour that has one was not asked".to_owned(),
                count => format!("{count} neighbours that have one were not asked"),
            };
            self.record.report.notes.push(format!("{}; {others}", row.why));
        }
    }

    pub(super) fn plan(&self, resolved: &Resolved, selection: &Selection, found: &[Found], tasks: u32) -> Plan {
        let rows = selection.rows.iter().map(|row| {
            let found = found.iter().find(|found| Some(found.candidate.peer) == row.peer);
            PlanRow {
                peer_id: row.peer.unwrap_or(self.ctx.local),
                name: found.map_or_else(|| self.ctx.config.name.clone(), |found| found.name.clone()),
                eqs: Some(row.eqs),
                rtt_ms: found.and_then(|found| found.candidate.rtt).map(millis),
                used: row.used,
                why: row.why.clone(),
                local: row.peer.is_none(),
            }
        });
        let permissions = &resolved.installed.manifest.permissions;
        let (rating, needs) = (permissions.rating(), needs(permissions));
        let wanted = match self.invoke.devices {
            Devices::Range { min, .. } if !self.invoke.local => Some(min),
            _ => None,
        };
        Plan {
            service: self.record.report.service.clone(),
            rating,
            needs,
            rows: rows.collect(),
            tasks,
            predicted_ms: selection.predicted.iter().copied().map(millis).collect(),
            predicted_from: said(selection.load.sure).to_owned(),
            chosen: selection.count,
            fit: selection.fit,
            wanted,
        }
    }
}

/// How many devices: those that have to agree on each part are needed, whatever pays.
pub(super) fn wanted(resolved: &Resolved) -> DeviceWish {
    match of_wish(resolved.redundancy) {
        Redundancy::Agree { agree, .. } => DeviceWish { min: resolved.wish.min.max(agree), ..resolved.wish },
        Redundancy::None | Redundancy::Spot => resolved.wish,
    }
}

/// What a prediction rests on.
fn said(sure: Sure) -> &'static str {
    match sure {
        Sure::Measured => "measured",
        Sure::Guessed => "guessed",
    }
}
