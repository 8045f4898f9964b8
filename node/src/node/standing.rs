//! Whether this device still may and can do a job that it took: watched for as long as the job lasts.

use std::sync::Arc;

use msm_protocol::{
    ContentHash, PeerId, Refusal, RefusalCode,
    device::{DeviceInfo, Requirements},
    job::Offer,
};
use tokio::sync::watch;

use super::{context::Context, lending::Pause, markets::MarketView};
use crate::{
    monitor::Sample,
    resources::{
        gate::Service,
        grants::GrantTable,
        words::{Caller, Kin},
    },
};

/// One job's conditions.
pub struct Standing {
    ctx: Arc<Context>,
    caller: Caller,
    need: Requirements,
    manifest: ContentHash,
    service: Arc<Service>,
    markets: watch::Receiver<Arc<Vec<MarketView>>>,
    samples: watch::Receiver<Sample>,
    grants: watch::Receiver<Arc<GrantTable>>,
    pause: watch::Receiver<Option<Pause>>,
}

impl Standing {
    /// Of a job that `peer` offers.
    pub fn new(ctx: Arc<Context>, peer: PeerId, offer: &Offer, service: Arc<Service>) -> Self {
        let (samples, grants, markets) = (ctx.monitor.subscribe(), ctx.steward.subscribe(), ctx.markets.subscribe());
        let pause = ctx.pause.subscribe();
        let (caller, need, manifest) = (ctx.steward.caller(peer), offer.need.clone(), offer.manifest);
        Self { ctx, caller, need, manifest, service, markets, samples, grants, pause }
    }

    /// Whether the device meets the job's constraints, all of them.
    pub fn fits_device(&self) -> Result<(), Refusal> {
        self.meets(&self.need, &self.ctx.device())
    }

    fn meets(&self, need: &Requirements, device: &DeviceInfo) -> Result<(), Refusal> {
        match need.unmet_by(device, device.eqs) {
            Some(reason) => Err(Refusal::new(RefusalCode::Constraint, told(&reason, self.caller.kin))),
            None => Ok(()),
        }
    }

    /// Waits until the job must be given up, for ever when it need not be: the battery, the network or the position
    /// fell short of what the service needs, the owner stopped lending (a pause, his hours, his own use of the device), a grant ended or was taken back, or the market
    /// revoked the package or is trusted no more. Looked at with every sample of the device and every change of the
    /// grants and the markets. Dropping the future loses nothing.
    pub async fn lost(&mut self) -> Refusal {
        loop {
            tokio::select! {
                changed = self.samples.changed() => if changed.is_err() { break },
                changed = self.grants.changed() => if changed.is_err() { break },
                changed = self.markets.changed() => if changed.is_err() { break },
                changed = self.pause.changed() => if changed.is_err() { break },
            }
            if let Err(refusal) = self.holds() {
                return refusal;
            }
        }
        // The node is ending, and with it this job.
        std::future::pending().await
    }

    fn holds(&self) -> Result<(), Refusal> {
        self.ctx.markets.vouches(&self.service.market, &self.manifest)?;
        self.ctx.lends_to(&self.caller.peer)?;
        let passed = self.ctx.steward.at_gate(|gate| gate.check_all(&self.service, &self.caller));
        passed.map_err(|error| error.refusal_for(self.caller.kin))?;
        // The score falls because the device works: that is no reason to stop working.
        let need = Requirements { eqs: 0.0, ..self.need.clone() };
        self.meets(&need, &self.ctx.device())
    }
}

/// What a requester gets to read: numbers of a device are for those whom its owner knows.
fn told(reason: &str, kin: Kin) -> String {
    match kin {
        Kin::Stranger => "this device does not meet the service's constraints now".to_owned(),
        Kin::Known | Kin::Own => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_those_whom_the_owner_knows() {
        let reason = "battery 41 % < 50 %";
        assert_eq!(told(reason, Kin::Known), reason);
        assert_eq!(told(reason, Kin::Own), reason);
        let general = told(reason, Kin::Stranger);
        assert!(!general.contains(|c: char| c.is_ascii_digit()) && !general.contains("battery"), "{general}");
    }
}
