//! The requester's side of one worker in one job: a seat on a lane, and what the driver and the lane tell each other.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use msm_protocol::{
    ContentHash, PeerId, Refusal,
    job::{AttemptRef, Offer},
    manifest::Engine,
};
use msm_scheduler::{Input, Worker};
use tokio::sync::mpsc;

use crate::{
    blob::Blob,
    node::{
        context::Context,
        lanes::{DESK, Delivery, Desk, JobTerms, LaneKey, Lanes, Report, Seat, TooMany},
    },
};

/// To one worker's stream.
#[derive(Debug)]
pub enum ToRemote {
    /// Send this task.
    Start { attempt: AttemptRef, input: Blob, hash: ContentHash },
    /// This attempt is not wanted any more.
    Cancel(AttemptRef),
}

/// From one worker's stream to the driver.
#[derive(Debug)]
pub enum FromRemote {
    /// For the scheduler, with the bytes of a result and their share of memory, held until they are kept or thrown away.
    Input(Input, Option<(Blob, Delivery)>),
    /// The offer was taken; the service runs in `engine` there, if it named one.
    Ready { peer: PeerId, credit: u32, engine: Option<Engine> },
    /// The offer was not taken.
    Refused(PeerId, Refusal),
    /// The worker did what no honest worker does.
    Lied(PeerId, String),
    /// The worker has signed for these results of the job; the envelope vouches for others too.
    Receipt { peer: PeerId, claims: Vec<(u32, ContentHash)>, envelope: Bytes },
}

/// What a stream needs to know of its job.
pub struct Terms {
    /// The offer, the same for every worker.
    pub offer: Offer,
    /// The lane that it asks for.
    pub key: LaneKey,
    /// The job.
    pub job: JobTerms,
}

/// Serves one worker until the job is over (the command channel closes) or the worker is lost.
pub async fn run(
    ctx: Arc<Context>,
    peer: PeerId,
    terms: Arc<Terms>,
    mut commands: mpsc::Receiver<ToRemote>,
    events: mpsc::Sender<FromRemote>,
) {
    let (mut seat, mut reports) = match attach(&ctx, peer, &terms) {
        Ok(attached) => attached,
        Err(error) => return drop(events.send(lost(peer, error.to_string())).await),
    };
    let mut remote = Remote { peer, sent: HashMap::new(), has_heard: false, is_ready: false };
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(ToRemote::Start { attempt, input, hash }) => {
                    // A lane that has ended says so in its last report.
                    seat.start(attempt, input.clone(), hash);
                    remote.sent.insert(attempt, (input, hash));
                }
                Some(ToRemote::Cancel(attempt)) => {
                    seat.cancel(attempt);
                    remote.sent.remove(&attempt);
                }
                None => return,
            },
            report = reports.recv() => match report {
                // A warm lane that breaks before its worker has said a word about this job was broken before. Once.
                Some(Report::Lost(reason)) if seat.is_warm && !remote.has_heard => {
                    tracing::debug!(peer = peer.short(), reason, "a warm lane was broken");
                    (seat, reports) = match attach(&ctx, peer, &terms) {
                        Ok(attached) => attached,
                        Err(error) => return drop(events.send(lost(peer, error.to_string())).await),
                    };
                    seat.is_warm = false;
                    for (attempt, (input, hash)) in &remote.sent {
                        seat.start(*attempt, input.clone(), *hash);
                    }
                }
                Some(report) => {
                    let (event, ended) = remote.report(report);
                    if let Some(event) = event && events.send(event).await.is_err() {
                        return;
                    }
                    if ended {
                        return;
                    }
                }
                None => return drop(events.send(lost(peer, "the lane was closed")).await),
            },
        }
    }
}

fn attach(ctx: &Arc<Context>, peer: PeerId, terms: &Terms) -> Result<(Seat, mpsc::Receiver<Report>), TooMany> {
    let (desk, reports) = mpsc::channel(DESK);
    let seat = Lanes::attach(ctx, peer, terms.key, &terms.offer, terms.job.clone(), Desk::Job(desk))?;
    Ok((seat, reports))
}

fn lost(peer: PeerId, reason: impl Into<String>) -> FromRemote {
    FromRemote::Input(Input::WorkerLost { worker: Worker::Remote(peer), reason: reason.into() }, None)
}

struct Remote {
    peer: PeerId,
    /// Inputs of attempts that were sent and not answered.
    sent: HashMap<AttemptRef, (Blob, ContentHash)>,
    /// The worker has said something about this job.
    has_heard: bool,
    /// The driver knows that the worker takes tasks.
    is_ready: bool,
}

impl Remote {
    /// What the driver is told, and whether it is the last.
    fn report(&mut self, report: Report) -> (Option<FromRemote>, bool) {
        let (peer, worker) = (self.peer, Worker::Remote(self.peer));
        // A warm lane says by itself that it is ready.
        self.has_heard |= !matches!(report, Report::Ready { .. });
        let event = match report {
            Report::Ready { .. } if self.is_ready => return (None, false),
            Report::Ready { credit, engine } => {
                self.is_ready = true;
                FromRemote::Ready { peer, credit, engine }
            }
            Report::Heartbeat(attempts) => FromRemote::Input(Input::Heartbeat { worker, attempts }, None),
            Report::Result(attempt, output, bytes, held) => {
                self.sent.remove(&attempt);
                FromRemote::Input(Input::Result { worker, attempt, output }, Some((bytes.into(), held)))
            }
            Report::Failed(attempt, refusal) => {
                self.sent.remove(&attempt);
                FromRemote::Input(Input::Failed { worker, attempt, refusal }, None)
            }
            Report::Receipt(claims, envelope) => {
                let claims = claims.iter().map(|claim| (claim.task, claim.output)).collect();
                FromRemote::Receipt { peer, claims, envelope }
            }
            Report::Unsigned(claims) => {
                let claims = claims.iter().map(|claim| (claim.task, claim.output)).collect();
                FromRemote::Input(Input::Unsigned { worker, claims }, None)
            }
            // A worker that was ready and takes the job no more has left it.
            Report::Refused(refusal) if self.is_ready => return (Some(lost(peer, refusal.to_string())), true),
            Report::Refused(refusal) => return (Some(FromRemote::Refused(peer, refusal)), true),
            Report::Lied(what) => return (Some(FromRemote::Lied(peer, what)), true),
            Report::Silent(reason) | Report::Lost(reason) => return (Some(lost(peer, reason)), true),
        };
        (Some(event), false)
    }
}

#[cfg(test)]
mod tests {
    use msm_scheduler::OutputId;
    use tokio::sync::Semaphore;

    use super::*;

    /// Otherwise as many whole outputs as reports may wait would be held besides those that the lane counts.
    #[test]
    fn an_output_has_its_share_of_memory_until_the_driver_has_done_with_it() {
        let peer = PeerId::of(&msm_protocol::SecretKey::from_seed(&[1; 32]).public());
        let mut remote = Remote { peer, sent: HashMap::new(), has_heard: false, is_ready: true };
        let memory = Arc::new(Semaphore::new(1));
        let share = memory.clone().try_acquire_owned().unwrap();
        let output = OutputId { hash: ContentHash::of(b"x"), size: 1 };
        let attempt = AttemptRef { task: 0, attempt: 0 };
        let (event, ended) = remote.report(Report::Result(attempt, output, Bytes::from_static(b"x"), Some(share)));
        assert!(event.is_some() && !ended);
        assert_eq!(memory.available_permits(), 0, "the lane may not read on while the output waits");
        drop(event);
        assert_eq!(memory.available_permits(), 1);
    }
}
