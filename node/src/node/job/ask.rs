//! What an invocation asks for: the service that is meant, and the caller's wishes within what its manifest allows.

use std::sync::Arc;

use msm_protocol::{
    device::Requirements,
    document::Release,
    limits::{JOB_DISK_BYTES, JOB_INPUT_BYTES},
    manifest::{Engine, Range, Split},
};
use msm_scheduler::DeviceWish;

use super::{Invocation, error_of};
use crate::{
    command::{CommandError, Devices, ErrorCode, Redundancy},
    node::{
        markets::Found,
        packages::{self, Installed},
    },
    resources::{denial::PermissionError, gate::Service},
};

/// A service that was found and may run here.
pub(super) struct Resolved {
    pub(super) market: msm_protocol::MarketId,
    pub(super) index_version: u64,
    pub(super) release: Release,
    pub(super) installed: Arc<Installed>,
    pub(super) service: Arc<Service>,
    /// Why this device's own guests may not run it: a stranger's code needs the owner's grant in his own jobs too.
    pub(super) not_here: Option<PermissionError>,
    pub(super) params: Arc<str>,
    pub(super) need: Requirements,
    pub(super) wish: DeviceWish,
    /// How outputs of others are checked.
    pub(super) redundancy: Redundancy,
}

impl Invocation {
    /// Finds the service, gets its package and checks what the caller gave.
    pub(super) async fn resolve(&mut self) -> Result<Resolved, CommandError> {
        let Found { market, alias, index_version, release } =
            self.ctx.markets.find(&self.ctx, &self.invoke.service).await?;
        self.record.report.service = format!("{alias}/{}@{}", release.name, release.version);
        let engines = match self.invoke.engine.as_deref() {
            None => &packages::ENGINES[..],
            Some("js") => &[Engine::Js],
            Some("wasm") => &[Engine::Wasm],
            Some(other) => {
                let message = format!("engine {other:?} does not run on this node, which has: js, wasm");
                return Err(CommandError::new(ErrorCode::NoDevice, message));
            }
        };
        let installed = packages::install(&self.ctx, &market, &release, engines, None)
            .await
            .map_err(|refusal| error_of(&refusal))?;
        let manifest = &installed.manifest;
        let usage = |e: msm_protocol::manifest::ManifestError| {
            CommandError::new(ErrorCode::Usage, format!("bad-input: {e}"))
                .or_try(format!("msm show {}", self.invoke.service))
        };
        let params: Arc<str> = manifest.resolve_params(&self.invoke.params).map_err(usage)?.into();
        self.check_input(manifest)?;
        let need = self.requirements(manifest)?;
        let wish = self.wish(&manifest.constraints.devices)?;
        let redundancy = self.redundancy(manifest)?;
        let service = Arc::new(installed.service(market, alias));
        let not_here = self.not_here(&service, &need).await?;
        Ok(Resolved { market, index_version, release, installed, service, not_here, params, need, wish, redundancy })
    }

    /// Whether this device may work on the job, as far as its owner's grants go. Other devices may all the same.
    pub(super) async fn not_here(
        &mut self,
        service: &Arc<Service>,
        need: &Requirements,
    ) -> Result<Option<PermissionError>, CommandError> {
        if self.invoke.remote_only {
            return Ok(None);
        }
        let (steward, caller) = (&self.ctx.steward, self.ctx.steward.caller(self.ctx.local));
        // Whose device could not do it anyway is not asked for a grant that would not help.
        let could = self.could(need);
        let admitted = match self.invoke.plan || !could {
            true => steward.at_gate(|gate| gate.check_all(service, &caller)),
            false => steward.admit(service, &caller).await,
        };
        let Err(error) = admitted else { return Ok(None) };
        if !could {
            return Ok(Some(error));
        }
        if self.invoke.local {
            let denied = CommandError::new(ErrorCode::NotAllowed, format!("refused: denied: {error}"));
            return Err(match error.r#try() {
                Some(line) => denied.or_try(line),
                None => denied,
            });
        }
        self.record.report.notes.push(format!("this device did not work itself: {}", error.text_for(caller.kin)));
        Ok(Some(error))
    }

    /// Whether this device meets the constraints now.
    pub(super) fn could(&self, need: &Requirements) -> bool {
        let own = self.ctx.device();
        need.unmet_by(&own, own.eqs).is_none()
    }

    pub(super) fn check_input(&self, manifest: &msm_protocol::Manifest) -> Result<(), CommandError> {
        let usage = |message: String| Err(CommandError::new(ErrorCode::Usage, message));
        if self.is_cut() {
            // Its input was what it should be; what is left of that are its parts.
            return Ok(());
        }
        let size = self.input.len();
        let cap = input_cap(manifest);
        if size > cap {
            return usage(format!("bad-input: {size} bytes of input, {} takes at most {cap}", manifest.name));
        }
        let takes_none = manifest.input.iter().any(|kind| kind == "none");
        if size == 0 && !takes_none {
            return usage(format!(
                "bad-input: the input is empty, {} takes {}",
                manifest.name,
                manifest.input.join(" or ")
            ));
        }
        match &self.invoke.input_type {
            Some(kind) if size > 0 && !manifest.input.iter().any(|takes| accepts(takes, kind)) => {
                usage(format!("bad-input: {kind} is not what {} takes: {}", manifest.name, manifest.input.join(", ")))
            }
            _ => Ok(()),
        }
    }

    /// Fits the application's wishes into what the manifest lets it change.
    pub(super) fn requirements(&self, manifest: &msm_protocol::Manifest) -> Result<Requirements, CommandError> {
        let mut need = manifest.requirements();
        if let Some(eqs) = self.invoke.eqs_min {
            need.eqs = eqs;
        }
        if let Some(battery) = self.invoke.battery_min {
            need.battery = battery;
        }
        if let Some(network) = self.invoke.network {
            need.network = network;
        }
        need.gps |= self.invoke.require_gps;
        if manifest.allows(&need) {
            return Ok(need);
        }
        let Range { min, max, .. } = manifest.constraints.battery;
        let eqs = &manifest.constraints.eqs;
        let message = format!(
            "a constraint is outside what {} allows: battery {min}..{max}, eqs {}..{}, network {}",
            manifest.name,
            eqs.min,
            eqs.max,
            manifest.constraints.network.map_or("any".into(), |n| format!("{n:?}").to_lowercase()),
        );
        Err(CommandError::new(ErrorCode::Usage, message).or_try(format!("msm show {}", self.invoke.service)))
    }

    pub(super) fn wish(&self, allowed: &Range) -> Result<DeviceWish, CommandError> {
        let auto = DeviceWish { min: allowed.min.max(1), max: allowed.max.max(1), auto: true };
        match self.invoke.devices {
            _ if self.invoke.local => Ok(DeviceWish { min: 1, max: 1, auto: false }),
            // What the manifest prefers is no demand: fewer do.
            Devices::Auto => Ok(match allowed.default {
                Some(count) => DeviceWish { min: auto.min, max: count.max(1), auto: false },
                None => auto,
            }),
            Devices::Range { min, max } if min >= 1 && min <= max && min >= allowed.min && max <= allowed.max => {
                Ok(DeviceWish { min, max, auto: false })
            }
            Devices::Range { min, max } => {
                let message = format!(
                    "devices {min}..{max} is outside what the service allows: {}..{}",
                    allowed.min, allowed.max
                );
                Err(CommandError::new(ErrorCode::Usage, message))
            }
        }
    }
}

/// `image/*` accepts `image/png`.
fn accepts(takes: &str, kind: &str) -> bool {
    takes == kind
        || takes == "*/*"
        || takes.strip_suffix("/*").is_some_and(|major| kind.split('/').next() == Some(major))
}

/// Bytes of input that a job of this service may have: what it says, and what must be held in memory to be cut may be no
/// more than fits there. Where parts are pieces of the input, the largest number that can be said is no limit.
fn input_cap(manifest: &msm_protocol::Manifest) -> u64 {
    let pieces = matches!(manifest.work.split, Split::Bytes(_) | Split::Lines(_)) && !manifest.work.remote;
    match manifest.limits.input {
        JOB_INPUT_BYTES if pieces => JOB_DISK_BYTES,
        own => own.min(JOB_INPUT_BYTES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types() {
        assert!(accepts("image/png", "image/png") && accepts("image/*", "image/png") && accepts("*/*", "text/plain"));
        assert!(!accepts("image/png", "image/jpeg") && !accepts("image/*", "text/plain"));
    }
}
