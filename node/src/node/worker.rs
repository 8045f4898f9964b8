//! The worker's side of a lane: decides about the offer, runs the tasks of its jobs, signs for the results.
//!
//! A package runs only when a market that this owner trusts vouches for it; what the requester says is never enough.
//! When the requester goes away its tasks end with it (B92): their children are killed.
//!
//! `lane`: an accepted offer and what runs on it. `started`: which of its tasks run together. `words`: what is to be written.

mod lane;
mod started;
mod words;

use std::{sync::Arc, time::Duration};

use libp2p::Stream;
use msm_protocol::{
    Envelope, PeerId, Refusal, RefusalCode,
    job::{Accept, Offer, TaskOp, ToWorker},
    manifest::Engine,
};
use tokio::{sync::OwnedSemaphorePermit, task::JoinHandle};

use self::{
    lane::Serving,
    words::{Sign, Words},
};
use super::{
    context::{Ask, Context},
    frames::{self, Frame, FrameError, Outbox},
    packages,
    standing::Standing,
};

/// The offer must follow the opening of the stream within this (B45).
const OFFER_TIME: Duration = Duration::from_secs(5);
/// What is left to be said when a lane ends is written within this: its outputs and its place are held meanwhile, also by
/// one who reads slowly. *Judgement: 16 MiB at 5 Mbit/s.*
const END_TIME: Duration = Duration::from_secs(30);

/// Serves one lane to its end. `place` is the peer's permit for one more stream.
pub async fn serve(ctx: Arc<Context>, peer: PeerId, stream: Stream, place: OwnedSemaphorePermit) {
    // What a lane runs is known when its offer is; until then nobody signs for anything.
    let words = Outbox::new(Words::new(ctx.local, signer(ctx.clone())));
    let (mut frames, mut writer) = frames::open(stream, words.clone());
    let first = tokio::time::timeout(OFFER_TIME, frames.next::<ToWorker>()).await;
    let decided = match first {
        Ok(Ok(Some(Frame::Message(ToWorker::Offer(offer))))) => match ctx.job_streams.clone().try_acquire_owned() {
            Ok(permit) => accept(&ctx, peer, &offer).await.map(|lane| (lane, permit)),
            // A stream that was only opened takes no place here: those who dawdle with their offer keep nobody out.
            Err(_) => Err(Refusal::new(RefusalCode::Busy, "as many job streams as this device takes are open")),
        },
        Ok(Ok(Some(_))) => Err(bad("no offer came first".into())),
        Ok(Err(FrameError::Io(_))) | Ok(Ok(None)) | Err(_) => return writer.abort(),
        Ok(Err(error)) => Err(bad(error.to_string())),
    };
    let (last, permit) = match decided {
        Ok((mut lane, permit)) => {
            let engine = lane.engine().to_owned();
            words.change(|words| words.accept(Accept { credit: lane::credit(), engine }, lane.package()));
            tracing::debug!(peer = peer.short(), service = lane.name(), "offer accepted");
            let last = lane.run(&mut frames, &words, &mut writer).await;
            (last, Some(permit))
        }
        Err(refusal) => {
            tracing::info!(peer = peer.short(), %refusal, "offer refused");
            (Some(refusal), None)
        }
    };
    // What no honest requester sends costs a strike (B13, B14).
    if let Some(refusal) = last.as_ref().filter(|refusal| refusal.code == RefusalCode::BadMessage) {
        ctx.tell(Ask::Strike(peer, refusal.reason.clone())).await;
    }
    words.change(|words| words.close(last));
    drop(frames);
    written(writer, END_TIME).await;
    drop((permit, place));
}

/// Waits until a writer has written all, and gives it up after `limit`.
async fn written(mut writer: JoinHandle<std::io::Result<()>>, limit: Duration) {
    // One that has ended was heard of already, and must not be asked again.
    if !writer.is_finished() && tokio::time::timeout(limit, &mut writer).await.is_err() {
        tracing::debug!("the end of a lane was not read in time");
        writer.abort();
    }
}

fn signer(ctx: Arc<Context>) -> Sign {
    Box::new(move |receipt| {
        let envelope = Envelope::sign(receipt, &[&ctx.key]).and_then(|envelope| envelope.to_vec());
        envelope.inspect_err(|error| tracing::error!(%error, "a receipt of this node's own cannot be encoded")).ok()
    })
}

fn bad(reason: String) -> Refusal {
    Refusal::new(RefusalCode::BadMessage, reason)
}

/// Decides about an offer, in the order: lent at all, market, release, what the manifest asks, grants, package, device.
async fn accept(ctx: &Arc<Context>, peer: PeerId, offer: &Offer) -> Result<Serving, Refusal> {
    if offer.v != 1 {
        return Err(bad(format!("offer version {} is not 1", offer.v)));
    }
    if !ctx.markets.trusts(&offer.market) {
        let reason = format!("this device does not trust {}", offer.market);
        return Err(Refusal::new(RefusalCode::UntrustedMarket, reason));
    }
    ctx.lends_to(&peer)?;
    let caller = ctx.steward.caller(peer);
    let look = async || ctx.markets.release_of(ctx, &offer.market, &offer.name, &offer.manifest, Some(peer)).await;
    let release = match look().await {
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
            look().await.ok_or_else(|| {
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
    // What the owner does not allow is not fetched, and not compiled.
    let manifest = packages::manifest(ctx, &offer.market, &release, &engines, Some(peer)).await?;
    if offer.op == TaskOp::Split && !manifest.work.remote {
        return Err(bad("a split is offered, and the manifest gives it to the requester".into()));
    }
    if !manifest.allows(&offer.need) {
        let reason = "the offer asks less than the manifest requires";
        return Err(Refusal::new(RefusalCode::Constraint, reason));
    }
    let service = Arc::new(packages::service_of(&manifest, offer.market, ctx.markets.alias(&offer.market)));
    ctx.steward.admit(&service, &caller).await.map_err(|error| error.refusal_for(caller.kin))?;
    let installed = packages::install(ctx, &offer.market, &release, &engines, Some(peer)).await?;
    let standing = Standing::new(ctx.clone(), peer, offer, service.clone());
    let lane = Serving::new(ctx.clone(), peer, offer.clone(), installed, service, standing);
    lane.standing.fits_device()?;
    if lane.guest_mib() > (ctx.config.offer.memory >> 20) as u32 {
        let reason = format!(
            "its guests take {} MiB, this device lends {} MiB",
            lane.guest_mib(),
            ctx.config.offer.memory >> 20
        );
        return Err(Refusal::new(RefusalCode::Constraint, reason));
    }
    Ok(lane)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    /// One who takes a byte now and then keeps no lane's outputs for longer than its end may take.
    #[tokio::test]
    async fn b45_a_slow_reader_holds_an_ended_lane_for_a_limited_time() {
        let peer = PeerId::of(&msm_protocol::SecretKey::from_seed(&[1; 32]).public());
        let words = Outbox::new(Words::new(peer, Box::new(|_| None)));
        words.change(|words| words.close(Some(Refusal::new(RefusalCode::Busy, "x".repeat(400)))));
        let (near, mut far) = tokio::io::duplex(4);
        let weak = Arc::downgrade(&words);
        let writer = tokio::spawn(frames::write_all(near, words));
        let mut byte = [0];
        far.read_exact(&mut byte).await.unwrap();
        written(writer, Duration::from_millis(20)).await;
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).await.unwrap();
        assert!(rest.len() < 400, "it was given up, {} bytes came", rest.len());
        assert!(weak.upgrade().is_none(), "what was to be written is gone");
    }
}
