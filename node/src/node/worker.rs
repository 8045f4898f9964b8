//! The worker's side of a job stream: decides about the offer, runs the tasks, signs for the results.
//!
//! A package runs only when a market that this owner trusts vouches for it; what the requester says is never enough.
//! When the requester goes away its tasks end with it (B92): their children are killed.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use libp2p::Stream;
use msm_protocol::{
    ContentHash, Envelope, PeerId, Refusal, RefusalCode,
    job::{
        Accept, AttemptRef, Done, Heartbeat, Offer, Outcome, Receipt, TaskHeader, TaskOp, TaskResult, ToRequester,
        ToWorker,
    },
    limits::{CREDIT, HEARTBEAT, TASK_BYTES},
    manifest::Engine,
};
use msm_sandbox::{Call, Package};
use serde_bytes::ByteBuf;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    task::{AbortHandle, JoinSet},
    time::{Instant, MissedTickBehavior},
};

use super::{
    context::{Ask, Context},
    frames::{self, Assembly, FrameError, FrameWriter},
    packages::{self, Installed},
    standing::Standing,
};
use crate::resources::gate::Service;

/// The offer must follow the opening of the stream within this (B45).
const OFFER_TIME: Duration = Duration::from_secs(5);
/// An input must be whole within this, or its memory is taken back: 8 MiB over 64 kbit/s take longer, 1 MiB does not.
const INPUT_TIME: Duration = Duration::from_secs(150);
/// A stream on which nothing runs and nothing is said is closed after this.
const IDLE_TIME: Duration = Duration::from_secs(60);

/// Serves one job stream to its end.
pub async fn serve(ctx: Arc<Context>, peer: PeerId, stream: Stream) {
    let (mut frames, writer) = frames::open::<ToWorker>(stream);
    let offer = match tokio::time::timeout(OFFER_TIME, frames.recv()).await {
        Ok(Some(Ok(ToWorker::Offer(offer)))) => offer,
        Ok(Some(Ok(_))) => return end(&ctx, peer, &writer, bad("no offer came first".into())).await,
        Ok(Some(Err(FrameError::Io(_)))) => return,
        Ok(Some(Err(error))) => return end(&ctx, peer, &writer, bad(error.to_string())).await,
        Ok(None) | Err(_) => return,
    };
    let job = offer.job;
    match accept(&ctx, peer, &offer).await {
        Ok(job) => {
            let engine = job.installed.engine.as_str().to_owned();
            if writer.send(&ToRequester::Accept(Accept { credit: CREDIT, engine })).await.is_ok() {
                tracing::debug!(peer = peer.short(), job = offer.job.short(), "offer accepted");
                job.run(frames, writer).await;
            }
        }
        Err(refusal) => {
            tracing::info!(peer = peer.short(), job = job.short(), %refusal, "offer refused");
            end(&ctx, peer, &writer, refusal).await;
        }
    }
}

fn bad(reason: String) -> Refusal {
    Refusal::new(RefusalCode::BadMessage, reason)
}

/// The last word on a stream. What no honest requester sends costs a strike (B13, B14).
async fn end(ctx: &Context, peer: PeerId, writer: &FrameWriter, refusal: Refusal) {
    if refusal.code == RefusalCode::BadMessage {
        ctx.tell(Ask::Strike(peer, refusal.reason.clone())).await;
    }
    let _ = writer.send(&ToRequester::Refuse(refusal)).await;
}

/// Decides about an offer, in the order: lent at all, market, release, device, package, parameters.
async fn accept(ctx: &Arc<Context>, peer: PeerId, offer: &Offer) -> Result<Job, Refusal> {
    if offer.v != 1 {
        return Err(bad(format!("offer version {} is not 1", offer.v)));
    }
    if !ctx.markets.trusts(&offer.market) {
        let reason = format!("this device does not trust {}", offer.market);
        return Err(Refusal::new(RefusalCode::UntrustedMarket, reason));
    }
    ctx.lends_to(&peer)?;
    let caller = ctx.steward.caller(peer);
    let release = match ctx.markets.release(&offer.market, &offer.manifest) {
        Some(release) => {
            // A newer index may have withdrawn it; the job does not wait for that.
            if offer.version > ctx.markets.version(&offer.market) {
                let (ctx, market) = (ctx.clone(), offer.market);
                tokio::spawn(async move { drop(ctx.markets.sync_from(&ctx, market, peer).await) });
            }
            release
        }
        // The requester may know a newer index; only its signatures make us believe it. One who does not even say so
        // is answered at once (B01).
        None => {
            if offer.version > ctx.markets.version(&offer.market)
                && let Err(error) = ctx.markets.sync_from(ctx, offer.market, peer).await
            {
                tracing::debug!(peer = peer.short(), %error, "index not updated");
            }
            ctx.markets.release(&offer.market, &offer.manifest).ok_or_else(|| {
                let reason = format!("{} is not in the index of {}", offer.manifest, offer.market.short());
                Refusal::new(RefusalCode::UnknownPackage, reason)
            })?
        }
    };
    let lent = ctx.config.offer.engines.iter().copied();
    let engines: Vec<_> = lent.filter(|engine| offer.engine.is_none_or(|wanted| wanted == *engine)).collect();
    if engines.is_empty() {
        let wanted = offer.engine.map_or("any engine", Engine::as_str);
        let lent: Vec<&str> = ctx.config.offer.engines.iter().map(|engine| engine.as_str()).collect();
        let lent = if lent.is_empty() { "none".to_owned() } else { lent.join(" and ") };
        let reason = format!("the job is to run in {wanted}, this device lends {lent} (offer.engines)");
        return Err(Refusal::new(RefusalCode::Constraint, reason));
    }
    let installed = packages::install(ctx, &offer.market, &release, &engines, Some(peer)).await?;
    if offer.op == TaskOp::Split && !installed.manifest.work.remote {
        return Err(bad("a split is offered, and the manifest gives it to the requester".into()));
    }
    if !installed.manifest.allows(&offer.need) {
        let reason = "the offer asks less than the manifest requires";
        return Err(Refusal::new(RefusalCode::Constraint, reason));
    }
    let bad_params = |e: msm_protocol::manifest::ManifestError| Refusal::new(RefusalCode::BadInput, e.to_string());
    let params: Arc<str> = installed.manifest.check_params_text(&offer.params).map_err(bad_params)?.into();
    let package = Arc::new(installed.package(&params));
    let service = Arc::new(installed.service(offer.market, ctx.markets.alias(&offer.market)));
    let standing = Standing::new(ctx.clone(), peer, offer, service.clone());
    let job = Job { ctx: ctx.clone(), peer, offer: offer.clone(), installed, service, package, params, standing };
    ctx.steward.admit(&job.service, &caller).await.map_err(|error| error.refusal_for(caller.kin))?;
    job.standing.fits_device()?;
    if job.guest_mib() > (ctx.config.offer.memory >> 20) as u32 {
        let reason =
            format!("its guests take {} MiB, this device lends {} MiB", job.guest_mib(), ctx.config.offer.memory >> 20);
        return Err(Refusal::new(RefusalCode::Constraint, reason));
    }
    Ok(job)
}

/// An accepted offer.
struct Job {
    ctx: Arc<Context>,
    peer: PeerId,
    offer: Offer,
    installed: Arc<Installed>,
    service: Arc<Service>,
    package: Arc<Package>,
    params: Arc<str>,
    standing: Standing,
}

/// An attempt whose input is still arriving.
struct Arriving {
    header: TaskHeader,
    assembly: Assembly,
    /// Its share of the memory for inputs of others.
    memory: OwnedSemaphorePermit,
    /// A sender that dawdles must not hold that memory.
    until: Instant,
}

type Finished = (AttemptRef, ContentHash, Result<msm_sandbox::Output, Refusal>);

impl Job {
    /// Memory of one guest, MiB. Manifests are bounded, so this fits.
    fn guest_mib(&self) -> u32 {
        self.installed.budget().memory.div_ceil(1 << 20) as u32
    }

    async fn run(mut self, mut frames: mpsc::Receiver<Result<ToWorker, FrameError>>, writer: FrameWriter) {
        let mut arriving: HashMap<AttemptRef, Arriving> = HashMap::new();
        let mut running: HashMap<AttemptRef, AbortHandle> = HashMap::new();
        // Dropping the set when this function ends aborts every task in it, and with it its child.
        let mut tasks: JoinSet<Finished> = JoinSet::new();
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle_until = Instant::now() + IDLE_TIME;
        loop {
            let ended = tokio::select! {
                frame = frames.recv() => match frame {
                    None | Some(Ok(ToWorker::Done)) => Err(None),
                    Some(Err(FrameError::Io(_))) => Err(None),
                    Some(Err(error)) => Err(Some(bad(error.to_string()))),
                    Some(Ok(frame)) => {
                        idle_until = Instant::now() + IDLE_TIME;
                        self.frame(frame, &mut arriving, &mut running, &mut tasks).map_err(Some)
                    }
                },
                Some(finished) = tasks.join_next(), if !tasks.is_empty() => {
                    idle_until = Instant::now() + IDLE_TIME;
                    match finished {
                        Ok((attempt, input, outcome)) => {
                            running.remove(&attempt);
                            self.answer(&writer, attempt, input, outcome).await
                        }
                        // Cancelled: nobody waits for it.
                        Err(_) => Ok(()),
                    }
                }
                _ = heartbeat.tick(), if !running.is_empty() || !arriving.is_empty() => {
                    let now = Instant::now();
                    if arriving.values().any(|task| task.until <= now) {
                        Err(Some(Refusal::new(RefusalCode::Deadline, "an input took too long to arrive")))
                    } else {
                        // An input on a slow link is work too.
                        let attempts = running.keys().chain(arriving.keys()).copied().collect();
                        writer.send(&ToRequester::Heartbeat(Heartbeat { attempts })).await.map_err(|_| None)
                    }
                }
                // The requester gives the tasks to others at once; ending drops them here.
                refusal = self.standing.lost() => Err(Some(refusal)),
                () = tokio::time::sleep_until(idle_until), if running.is_empty() => Err(None),
            };
            if let Err(refusal) = ended {
                // First the guests, then the word: a requester that does not read must not keep them alive.
                drop(tasks);
                if let Some(refusal) = refusal {
                    tracing::info!(peer = self.peer.short(), job = self.offer.job.short(), %refusal, "leaving the job");
                    end(&self.ctx, self.peer, &writer, refusal).await;
                }
                return;
            }
        }
    }

    /// Handles one frame; an error ends the job.
    fn frame(
        &self,
        frame: ToWorker,
        arriving: &mut HashMap<AttemptRef, Arriving>,
        running: &mut HashMap<AttemptRef, AbortHandle>,
        tasks: &mut JoinSet<Finished>,
    ) -> Result<(), Refusal> {
        match frame {
            ToWorker::Task(header) => {
                self.ctx.markets.vouches(&self.offer.market, &self.offer.manifest)?;
                self.ctx.lends_to(&self.peer)?;
                self.standing.fits_device()?;
                let attempt = AttemptRef { task: header.task, attempt: header.attempt };
                if arriving.len() + running.len() >= CREDIT as usize {
                    return Err(bad(format!("more than {CREDIT} tasks at a time")));
                }
                if arriving.contains_key(&attempt) || running.contains_key(&attempt) {
                    return Err(Refusal::new(RefusalCode::Duplicate, "this attempt was sent before"));
                }
                let assembly =
                    Assembly::new(header.hash, header.size, TASK_BYTES as u64).map_err(|e| bad(e.to_string()))?;
                let kib = u32::try_from(header.size.div_ceil(1024)).unwrap_or(u32::MAX);
                let memory = self.ctx.inputs.clone().try_acquire_many_owned(kib).map_err(|_| {
                    Refusal::new(RefusalCode::Busy, format!("{kib} KiB of input do not fit into what is free now"))
                })?;
                let mut task = Arriving { header, assembly, memory, until: Instant::now() + INPUT_TIME };
                if task.assembly.is_empty() {
                    let input = task.assembly.finish().map_err(|e| bad(e.to_string()))?;
                    running.insert(attempt, tasks.spawn(self.execute(attempt, &task.header, input, task.memory)));
                } else {
                    arriving.insert(attempt, task);
                }
            }
            ToWorker::Chunk(chunk) => {
                let attempt = AttemptRef { task: chunk.task, attempt: chunk.attempt };
                // The rest of a cancelled input is still on its way.
                let Some(task) = arriving.get_mut(&attempt) else { return Ok(()) };
                if let Some(input) = task.assembly.add(&chunk).map_err(|e| bad(e.to_string()))?
                    && let Some(task) = arriving.remove(&attempt)
                {
                    running.insert(attempt, tasks.spawn(self.execute(attempt, &task.header, input, task.memory)));
                }
            }
            ToWorker::Cancel(attempt) => {
                arriving.remove(&attempt);
                if let Some(task) = running.remove(&attempt) {
                    task.abort();
                }
            }
            ToWorker::Offer(_) => return Err(bad("a second offer on one stream".into())),
            ToWorker::Done => {}
        }
        Ok(())
    }

    /// Runs one task when a slot is free.
    fn execute(
        &self,
        attempt: AttemptRef,
        header: &TaskHeader,
        input: Bytes,
        memory: OwnedSemaphorePermit,
    ) -> impl Future<Output = Finished> + Send + use<> {
        let ctx = self.ctx.clone();
        let (client, hash, guest_mib) = (self.peer, header.hash, self.guest_mib());
        let call = Call {
            package: self.package.clone(),
            client,
            op: packages::operation(self.offer.op, header.task, header.count),
            params: self.params.clone(),
            input,
            budget: self.installed.budget(),
            resources: Some(ctx.steward.broker(self.service.clone(), self.peer)),
        };
        async move {
            let _memory = memory;
            let _slot = match ctx.slots.acquire(client, guest_mib).await {
                Ok(slot) => slot,
                Err(refusal) => return (attempt, hash, Err(refusal)),
            };
            ctx.running_tasks.fetch_add(1, Ordering::Relaxed);
            let _running = Running(&ctx);
            (attempt, hash, ctx.sandbox.call_under(call, ctx.ceiling.as_ref()).await)
        }
    }

    async fn answer(
        &self,
        writer: &FrameWriter,
        attempt: AttemptRef,
        input: ContentHash,
        outcome: Result<msm_sandbox::Output, Refusal>,
    ) -> Result<(), Option<Refusal>> {
        let result = |outcome| {
            ToRequester::Result(Box::new(TaskResult { task: attempt.task, attempt: attempt.attempt, outcome }))
        };
        let output = match outcome {
            Ok(output) => output,
            Err(refusal) => return writer.send(&result(Outcome::Failed(refusal))).await.map_err(|_| None),
        };
        let receipt = Receipt {
            v: 1,
            job: self.offer.job,
            peer: self.ctx.local,
            task: attempt.task,
            input,
            output: ContentHash::of(&output.bytes),
            package: self.offer.manifest,
        };
        let receipt = Envelope::sign(&receipt, &[&self.ctx.key]).and_then(|envelope| envelope.to_vec());
        let receipt = receipt.map_err(|e| Some(Refusal::new(RefusalCode::Other, e.to_string())))?;
        let done = Done {
            size: output.bytes.len() as u64,
            cpu_us: output.cpu.as_micros() as u64,
            receipt: ByteBuf::from(receipt),
        };
        writer.send_bulk(&result(Outcome::Done(done)), attempt, output.bytes).await.map_err(|_| None)
    }
}

/// Counts a task as running until it ends in whatever way.
struct Running<'a>(&'a Context);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running_tasks.fetch_sub(1, Ordering::Relaxed);
    }
}
