//! Who works on a job: the scheduler's selection, asked with what this node knows, and told in words.

use msm_protocol::{PeerId, device::DeviceInfo};
use msm_scheduler::{DeviceWish, JobShape, Row, Selection};

use super::{Invocation, Resolved, discover, millis, tell::told_apart};
use crate::{
    command::{CommandError, ErrorCode, Plan, PlanRow},
    resources::{denial::PermissionError, words::needs},
};

impl Invocation {
    /// Chooses the devices for a round of `tasks` tasks with so many bytes of input.
    pub(super) fn select(
        &self,
        resolved: &Resolved,
        own: &DeviceInfo,
        found: &[discover::Found],
        wish: DeviceWish,
        tasks: u32,
        bytes: u64,
    ) -> Selection {
        let not_here = resolved.not_here.as_ref().map(ToString::to_string);
        let shape = JobShape { tasks, bytes, not_here, ..JobShape::default() };
        // Who says that its owner does not trust the market would refuse: not counted among those that could help. Nor
        // does anybody else see what a private service is given.
        let private = resolved.installed.manifest.work.private;
        let may_see = |found: &discover::Found| !private || self.ctx.is_own(&found.candidate.peer);
        let (willing, others): (Vec<_>, Vec<_>) =
            found.iter().partition(|found| found.trusts(&resolved.market) && may_see(found));
        let candidates: Vec<_> = willing.iter().map(|found| found.candidate.clone()).collect();
        let mut selection = msm_scheduler::select(own, &candidates, &resolved.need, wish, shape);
        if resolved.need.gps && !own.gps {
            // What keeps his own receiver from it is the owner's to know.
            let signal = self.ctx.monitor.position().signal;
            let unmet = resolved.need.unmet_by(own, own.eqs);
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

    pub(super) fn plan(
        &self,
        resolved: &Resolved,
        selection: &Selection,
        found: &[discover::Found],
        tasks: u32,
    ) -> Plan {
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
        Plan { service: self.record.report.service.clone(), rating, needs, rows: rows.collect(), tasks }
    }
}
