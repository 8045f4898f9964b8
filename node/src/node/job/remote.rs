//! The requester's side of one job stream: offers the job to one worker, sends it tasks, checks its results.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use msm_protocol::{
    ContentHash, Envelope, PeerId, Refusal,
    job::{AttemptRef, Offer, Outcome, Receipt, TaskHeader, ToRequester, ToWorker},
    manifest::Engine,
};
use msm_scheduler::{Input, OutputId, Worker};
use tokio::sync::mpsc;

use crate::{
    blob::Blob,
    node::{
        context::Context,
        frames::{self, Assembly, FrameError, FrameWriter},
        packages,
    },
};

/// A worker may fetch the package first; after this it is as good as absent.
const ACCEPT_TIME: Duration = Duration::from_secs(15);

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
    /// For the scheduler, with the bytes of a result.
    Input(Input, Option<Blob>),
    /// The offer was taken; the service runs in `engine` there, if it named one.
    Ready { peer: PeerId, credit: u32, engine: Option<Engine> },
    /// The worker has signed for these outputs; it comes before the result.
    Receipt { peer: PeerId, claims: Vec<(u32, ContentHash)>, envelope: Bytes },
    /// The offer was not taken.
    Refused(PeerId, Refusal),
    /// The worker sent a result that it cannot have computed honestly or did not sign.
    Lied(PeerId, String),
}

/// What a stream needs to know of its job.
pub struct Terms {
    /// The offer, the same for every worker.
    pub offer: Offer,
    /// Tasks in the job.
    pub count: u32,
    /// Bytes of one task's output at most.
    pub output_limit: u64,
}

/// Runs one worker's stream until the job is over (the command channel closes) or the worker is lost.
pub async fn run(
    ctx: Arc<Context>,
    peer: PeerId,
    terms: Arc<Terms>,
    mut commands: mpsc::Receiver<ToRemote>,
    events: mpsc::Sender<FromRemote>,
) {
    let worker = Worker::Remote(peer);
    let lost = |reason: String| FromRemote::Input(Input::WorkerLost { worker, reason }, None);
    let stream = match ctx.net.open_job(peer).await {
        Ok(stream) => stream,
        Err(error) => return drop(events.send(lost(error.to_string())).await),
    };
    let (mut frames, writer) = frames::open::<ToRequester>(stream);
    if writer.send(&ToWorker::Offer(Box::new(terms.offer.clone()))).await.is_err() {
        return drop(events.send(lost("stream broke".into())).await);
    }
    let accept = match tokio::time::timeout(ACCEPT_TIME, frames.recv()).await {
        Ok(Some(Ok(ToRequester::Accept(accept)))) => accept,
        Ok(Some(Ok(ToRequester::Refuse(refusal)))) => {
            return drop(events.send(FromRemote::Refused(peer, refusal.sanitised())).await);
        }
        Ok(Some(Ok(_))) => return drop(events.send(lost("it answered no offer".into())).await),
        Ok(Some(Err(error))) => return drop(events.send(lost(error.to_string())).await),
        Ok(None) => return drop(events.send(lost("it closed the stream".into())).await),
        Err(_) => return drop(events.send(lost(format!("no answer in {} s", ACCEPT_TIME.as_secs()))).await),
    };
    let ready = FromRemote::Ready { peer, credit: accept.credit, engine: packages::engine_named(&accept.engine) };
    if events.send(ready).await.is_err() {
        return;
    }
    let mut remote = Remote { peer, worker, terms, writer, sent: HashMap::new(), arriving: HashMap::new() };
    loop {
        let step = tokio::select! {
            command = commands.recv() => match command {
                Some(command) => remote.command(command).await,
                None => {
                    let _ = remote.writer.send(&ToWorker::Done).await;
                    return;
                }
            },
            frame = frames.recv() => match frame {
                Some(Ok(frame)) => remote.frame(frame),
                Some(Err(FrameError::Io(error))) => Err(lost(error.to_string())),
                Some(Err(error)) => Err(remote.lied(error.to_string())),
                None => Err(lost("connection closed".into())),
            },
        };
        let (event, ended) = match step {
            Ok(Some(event)) => (event, false),
            Ok(None) => continue,
            Err(event) => (event, true),
        };
        if events.send(event).await.is_err() || ended {
            return;
        }
    }
}

/// A result whose bytes are arriving.
struct Arriving {
    assembly: Assembly,
    output: OutputId,
}

struct Remote {
    peer: PeerId,
    worker: Worker,
    terms: Arc<Terms>,
    writer: FrameWriter,
    /// Input hashes of attempts that were sent and not answered.
    sent: HashMap<AttemptRef, ContentHash>,
    arriving: HashMap<AttemptRef, Arriving>,
}

/// `Ok` goes on, with or without something to report; `Err` is the last report.
type Step = Result<Option<FromRemote>, FromRemote>;

impl Remote {
    fn lost(&self, reason: impl Into<String>) -> FromRemote {
        FromRemote::Input(Input::WorkerLost { worker: self.worker, reason: reason.into() }, None)
    }

    async fn command(&mut self, command: ToRemote) -> Step {
        let sent = match command {
            ToRemote::Start { attempt, input, hash } => {
                self.sent.insert(attempt, hash);
                let AttemptRef { task, attempt: number } = attempt;
                let count = self.terms.count;
                let header = TaskHeader { hash, size: input.len(), task, count, attempt: number };
                let input = input.whole().await.map_err(|error| self.lost(error.to_string()))?;
                self.writer.send_bulk(&ToWorker::Task(header), attempt, input).await
            }
            ToRemote::Cancel(attempt) => {
                // An answer that crosses the cancel is dropped by the scheduler.
                self.writer.cancel(&ToWorker::Cancel(attempt), attempt).await
            }
        };
        sent.map(|()| None).map_err(|_| self.lost("connection closed"))
    }

    fn frame(&mut self, frame: ToRequester) -> Step {
        let worker = self.worker;
        match frame {
            ToRequester::Heartbeat(heartbeat) => {
                Ok(Some(FromRemote::Input(Input::Heartbeat { worker, attempts: heartbeat.attempts }, None)))
            }
            ToRequester::Result(result) => {
                let attempt = AttemptRef { task: result.task, attempt: result.attempt };
                let Some(input) = self.sent.remove(&attempt) else {
                    return Err(self.lied("a result that was not asked for"));
                };
                match result.outcome {
                    Outcome::Failed(refusal) => {
                        let refusal = refusal.sanitised();
                        Ok(Some(FromRemote::Input(Input::Failed { worker, attempt, refusal }, None)))
                    }
                    Outcome::Done(done) => {
                        let receipt = self.receipt(attempt, input, &done.receipt).map_err(|why| self.lied(why))?;
                        let output = OutputId { hash: receipt.output, size: done.size };
                        let assembly = Assembly::new(output.hash, done.size, self.terms.output_limit)
                            .map_err(|error| self.lied(error.to_string()))?;
                        self.arriving.insert(attempt, Arriving { assembly, output });
                        if done.size == 0 {
                            return self.finish(attempt);
                        }
                        let claims = vec![(attempt.task, output.hash)];
                        let envelope = Bytes::from(done.receipt.into_vec());
                        Ok(Some(FromRemote::Receipt { peer: self.peer, claims, envelope }))
                    }
                }
            }
            ToRequester::Chunk(chunk) => {
                let attempt = AttemptRef { task: chunk.task, attempt: chunk.attempt };
                let Some(arriving) = self.arriving.get_mut(&attempt) else {
                    return Err(self.lied("a chunk that belongs to no result"));
                };
                match arriving.assembly.add(&chunk) {
                    // A slow link is not a dead worker.
                    Ok(None) => Ok(Some(FromRemote::Input(Input::Heartbeat { worker, attempts: vec![attempt] }, None))),
                    Ok(Some(bytes)) => self.report(attempt, bytes),
                    Err(error) => Err(self.lied(error.to_string())),
                }
            }
            ToRequester::Refuse(refusal) => Err(self.lost(refusal.sanitised().to_string())),
            ToRequester::Accept(_) => Err(self.lied("it accepted twice")),
        }
    }

    fn finish(&mut self, attempt: AttemptRef) -> Step {
        match self.arriving.get_mut(&attempt).map(|arriving| arriving.assembly.finish()) {
            Some(Ok(bytes)) => self.report(attempt, bytes),
            _ => Err(self.lied("an empty output with another hash")),
        }
    }

    fn report(&mut self, attempt: AttemptRef, bytes: Bytes) -> Step {
        let Some(arriving) = self.arriving.remove(&attempt) else { return Ok(None) };
        let input = Input::Result { worker: self.worker, attempt, output: arriving.output };
        Ok(Some(FromRemote::Input(input, Some(bytes.into()))))
    }

    /// Checks the worker's signature and that it signed for this very task.
    fn receipt(&self, attempt: AttemptRef, input: ContentHash, bytes: &[u8]) -> Result<Receipt, String> {
        let key = self.peer.key().map_err(|e| e.to_string())?;
        let envelope = Envelope::from_slice::<Receipt>(bytes).map_err(|e| e.to_string())?;
        let receipt = envelope.verify_from::<Receipt>(&key).map_err(|e| e.to_string())?.into_inner();
        let Offer { job, manifest: package, .. } = self.terms.offer;
        // Only the output's hash is the worker's to say.
        let expected =
            Receipt { v: 1, job, peer: self.peer, task: attempt.task, input, output: receipt.output, package };
        if receipt == expected { Ok(receipt) } else { Err("a receipt for something else".into()) }
    }

    fn lied(&self, what: impl Into<String>) -> FromRemote {
        FromRemote::Lied(self.peer, what.into())
    }
}
