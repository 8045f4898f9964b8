//! What a command says of what is wanted: words of a search, wishes of an invocation, a grant.

use msm_protocol::{PeerId, device::Network};
use serde::{Deserialize, Serialize};

use crate::resources::words::{Audience, Precision, Right};

/// Words and filters of a search.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Search {
    /// All of them must occur.
    pub words: Vec<String>,
    /// Only this scope or scopes below it.
    pub scope: Option<String>,
    /// Only services that have a variant for it.
    pub engine: Option<String>,
    /// Only this market (alias or id).
    pub market: Option<String>,
    /// Also those that fewer have reviewed than their market asks for.
    pub unreviewed: bool,
}

/// How many devices to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Devices {
    /// As many as pay.
    #[default]
    Auto,
    /// From `min` to `max`, this device included.
    Range { min: u32, max: u32 },
}

/// What happens to the tasks of a lost worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnLoss {
    /// Another worker, then this device.
    #[default]
    Remote,
    /// This device.
    Local,
    /// The job ends with what it has, and says so.
    Partial,
}

/// Devices that may be asked for one output.
pub const VOTES_MAX: u32 = msm_scheduler::job::VOTES_MAX;

/// How outputs of other devices come to be believed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Redundancy {
    /// The first answer counts.
    None,
    /// The first answer counts, and a share of them is computed again: all of a new device's first ones, then fewer.
    #[default]
    Spot,
    /// `agree` devices must give the same answer; at most `of` are asked.
    Agree { agree: u32, of: u32 },
}

impl std::fmt::Display for Redundancy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Spot => f.write_str("spot"),
            Self::Agree { agree, of } => write!(f, "{agree}/{of}"),
        }
    }
}

/// A grant that the owner wants to give.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GrantWish {
    /// `name` or `market/name`; all its versions are meant.
    pub service: String,
    /// What it may use.
    pub right: Right,
    /// In whose jobs.
    pub to: Audience,
    /// For how long, seconds. Without it a position is granted for a day, and everything else until it is taken back.
    pub for_s: Option<u64>,
    /// How exactly a position is told; coarse when not said.
    pub accuracy: Option<Precision>,
}

/// A call of a service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Invoke {
    /// `name`, `market/name`, either with `@range`, or a manifest hash.
    pub service: String,
    /// Parameters as given, still to be checked against the manifest.
    pub params: serde_json::Map<String, serde_json::Value>,
    /// Media type of the input, guessed from its name or first bytes by the door.
    pub input_type: Option<String>,
    /// Devices wanted.
    pub devices: Devices,
    /// Fewer devices than asked for is an error.
    pub strict: bool,
    /// Only on this device.
    pub local: bool,
    /// Only on other devices.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub remote_only: bool,
    /// The only other devices that may take part; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<PeerId>,
    /// Smallest battery charge, percent.
    pub battery_min: Option<u8>,
    /// Smallest EQS.
    pub eqs_min: Option<f64>,
    /// Smallest network class; `Some(None)` is the paper's N.A.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub network: Option<Option<Network>>,
    /// A position source is needed.
    pub require_gps: bool,
    /// Only this engine.
    pub engine: Option<String>,
    /// What to do about lost workers.
    pub on_loss: OnLoss,
    /// How outputs of others are checked; not said, it is [`Redundancy::Spot`] where outputs can be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redundancy: Option<Redundancy>,
    /// Only say who would be used, who not, and why.
    pub plan: bool,
    /// Order devices by the paper's Eq. 1, for comparison.
    #[serde(default)]
    pub eqs_paper: bool,
    /// Give up after this long, milliseconds.
    pub deadline_ms: Option<u64>,
    /// Answer with the job's id at once; its output is kept for [`Command::JobWait`].
    #[serde(default)]
    pub detach: bool,
}

/// Reads a field that is there, null or not, as `Some`: JSON's null alone could not be told from a missing field.
fn present<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Option<Network>>, D::Error> {
    Option::<Network>::deserialize(d).map(Some)
}
