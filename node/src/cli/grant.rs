//! `msm grant`, `msm revoke-grant` and `msm grants`.

use clap::Args;

use super::{call::Call, values};
use crate::{
    command::{Command, GrantWish},
    resources::words::{Audience, Precision, Right},
};

/// Let a service use a part of this device
#[derive(Debug, Args)]
#[command(
    after_help = "Without a grant no service may use the position, the web or the state of this device, not even\n\
                        in your own jobs: it is a stranger's code. msm help grants says more.\n\n\
                        Example:\n  msm grant gps-sharing gps --for 8h --to known\n  \
                        msm grant internet-sharing net --to anyone"
)]
pub struct Grant {
    /// NAME or MARKET/NAME; all its versions
    service: String,
    /// gps, net or device
    right: Right,
    /// For how long, such as 30m, 8h or 7d [default: 24h for gps, else until it is taken back]
    #[arg(long = "for", value_name = "TIME", value_parser = values::life_s)]
    for_s: Option<u64>,
    /// In whose jobs: own, known (yours and those of node.peers), anyone, or a peer id
    #[arg(long, value_name = "WHO", default_value = "known")]
    to: Audience,
    /// How exactly a position is told: coarse (a cell of about 2 km) or precise
    #[arg(long, value_name = "HOW")]
    accuracy: Option<Precision>,
}

impl Grant {
    pub(super) fn meaning(self) -> Call {
        let Self { service, right, for_s, to, accuracy } = self;
        Call::of_any_node(Command::Grant(Box::new(GrantWish { service, right, to, for_s, accuracy })))
    }
}

/// Take a grant back; what runs under it is stopped
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  msm revoke-grant gps-sharing gps\n  msm revoke-grant home/gps-sharing gps --to anyone"
)]
pub struct RevokeGrant {
    /// NAME or MARKET/NAME
    service: String,
    /// gps, net or device
    right: Right,
    /// Only the grant for these [default: all]
    #[arg(long, value_name = "WHO")]
    to: Option<Audience>,
}

impl RevokeGrant {
    pub(super) fn meaning(self) -> Call {
        Call::of_any_node(Command::RevokeGrant { service: self.service, right: self.right, to: self.to })
    }
}

/// What services may use of this device
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  msm grants\n  msm grants --json")]
pub struct Grants {}

impl Grants {
    pub(super) fn meaning(self) -> Call {
        Call::of_any_node(Command::Grants)
    }
}
