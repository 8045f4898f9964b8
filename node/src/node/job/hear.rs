//! What a driver hears from the streams of its workers, and what of it the scheduler is told.

use msm_sandbox::Work;
use msm_scheduler::{Input, Worker};

use super::{drive::Driver, remote::FromRemote, tile::Core};
use crate::{
    blob::Blob,
    command::Event,
    node::{context::Ask, fetch::BAN},
};

impl Driver<'_> {
    pub(super) async fn hear(&mut self, report: FromRemote) {
        if let FromRemote::Refused(peer, _)
        | FromRemote::Input(Input::WorkerLost { worker: Worker::Remote(peer), .. }, _) = &report
        {
            self.ctx.tell(Ask::Doubted(*peer)).await;
        }
        match report {
            FromRemote::Input(input, bytes) => {
                if let (Input::Result { worker: Worker::Remote(peer), attempt, .. }, Some((bytes, _))) =
                    (&input, &bytes)
                    && !self.has_shape(attempt.task, bytes).await
                {
                    let (peer, what) = (*peer, "an output that is not the size of its tile".to_owned());
                    return Box::pin(self.hear(FromRemote::Lied(peer, what))).await;
                }
                match &input {
                    Input::WorkerLost { worker: Worker::Remote(peer), reason } => self.leave(*peer, reason.clone()),
                    Input::Unsigned { worker: Worker::Remote(peer), claims } => self.unsigned(*peer, claims.len()),
                    Input::Failed { worker: Worker::Remote(peer), attempt, refusal } => {
                        self.failed(*peer, *attempt, refusal);
                        self.in_doubt |= self.remotes.len() == 1 && self.no_local();
                        self.second_opinion();
                    }
                    _ => {}
                }
                let (bytes, delivery) = bytes.unzip();
                (self.arrived, self.delivery) = (bytes, delivery.flatten());
                self.handle(input);
            }
            FromRemote::Ready { peer, credit, engine } => {
                let worker = Worker::Remote(peer);
                self.joined(worker, engine);
                self.handle(Input::WorkerReady { worker, credit, trust: self.trust_of(worker) });
                if let Some((rtt, slots)) = self.links.get(&peer).copied() {
                    self.handle(Input::Link { worker, rtt, slots });
                }
            }
            FromRemote::Receipt { peer, claims, envelope } => self.signed(peer, claims, envelope),
            FromRemote::Refused(peer, refusal) => {
                self.remotes.remove(&peer);
                self.hiring.refused(&peer);
                let (job_id, name, code) = (self.record.report.job_id, self.name(peer), refusal.code.to_string());
                self.note(format!("{name} did not take the job: {refusal}"));
                let reason = refusal.reason.clone();
                self.ctx.emit(Event::DeviceRefused { job_id, peer_id: peer, name, code, reason });
                self.refusals.push((peer, refusal));
                self.hire_spare();
            }
            FromRemote::Lied(peer, what) => {
                // Its lane has done so already, unless it is this job that found out.
                if !self.ctx.is_banned(&peer) {
                    self.ctx.ban(peer, BAN, &what).await;
                }
                self.leave(peer, what.clone());
                self.handle(Input::WorkerLost { worker: Worker::Remote(peer), reason: what });
            }
        }
    }

    /// Whether an output can be one of this task: a picture's tile has a size that nobody may change.
    async fn has_shape(&self, task: u32, output: &Blob) -> bool {
        let (Work::ImageRows { .. }, Some(input)) = (self.package.work, self.inputs.get(task as usize)) else {
            return true;
        };
        match Core::of_input(input).await {
            Some(core) => core.fits(output).await,
            None => false,
        }
    }
}
