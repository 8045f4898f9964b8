//! [`Local`]: this device's own position, web and state for a run of its author, through the same gate and resources as on
//! a node.
//!
//! No market vouches for the service and no grant of the home is for it: the author's word on the command line is the
//! consent, for this run and for what `service.toml` asks. It is kept in a home of its own that goes with the run. The
//! device's ceiling (`[resources]` in config.toml) holds all the same.

use std::sync::Arc;

use msm_protocol::{Manifest, MarketId, PeerId};
use msm_sandbox::Resources;

use crate::{
    command::{CommandError, ErrorCode},
    config::{Config, RawConfig},
    home::Home,
    monitor::Monitor,
    resources::{
        gate::Service,
        grants::Grant,
        steward::{Household, Steward, unix_now},
        words::{Audience, Precision, Right},
    },
};

/// What the made-up market of a service on the bench is named after: no root document is this text.
const NO_MARKET: &[u8] = b"a service that no market vouches for";

/// Answers a run's questions from this device, until it is dropped.
pub struct Local {
    broker: Arc<dyn Resources>,
    _home: tempfile::TempDir,
}

impl Local {
    /// Opens what the service asks for, on behalf of `client`, within the ceiling of `home`'s owner.
    pub async fn open(home: &Home, manifest: &Manifest, client: PeerId) -> Result<Self, CommandError> {
        let failed = |error: &dyn std::fmt::Display| CommandError::new(ErrorCode::Failed, error.to_string());
        let config = Config::load(home, RawConfig::default())?;
        let scratch = tempfile::tempdir().map_err(|error| failed(&error))?;
        let own = Home::open(Some(&scratch.path().join("home")))?;
        let household = Household { local: client, known: Vec::new(), name: config.name.clone() };
        let monitor = Arc::new(Monitor::start(&config));
        let steward = Arc::new(Steward::start(own, household, config.resources.clone(), monitor)?);
        let service = Service {
            market: MarketId::of_first_root(NO_MARKET),
            alias: "bench".to_owned(),
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            asked: manifest.permissions.clone(),
        };
        for right in Right::asked(&manifest.permissions) {
            let grant = Grant {
                market: service.market,
                service: service.name.clone(),
                right,
                to: Audience::Own,
                precision: (right == Right::Gps).then_some(Precision::Precise),
                hosts: if right == Right::Net { manifest.permissions.net.clone() } else { Vec::new() },
                since: unix_now(),
                until: None,
            };
            steward.grant(grant).await?;
        }
        let broker = steward.broker(Arc::new(service), client);
        Ok(Self { broker, _home: scratch })
    }

    /// Who answers.
    pub fn resources(&self) -> Arc<dyn Resources> {
        self.broker.clone()
    }
}
