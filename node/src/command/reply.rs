//! [`Reply`]: the answers to commands, and the rows that they are made of.

use msm_protocol::{
    ContentHash, JobId, MarketId, PeerId,
    device::Network,
    manifest::{Engine, Param},
};
use serde::{Deserialize, Serialize};

use crate::resources::{
    ledger::Entry,
    words::{Audience, Kin, Precision, Right},
};

/// The answer to a [`Command`]. Serialised, each is one documented JSON object whose first field is `schema`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "schema")]
pub enum Reply {
    /// Answer to [`Command::Status`].
    #[serde(rename = "msm.status/1")]
    Status(Box<Status>),
    /// Answer to [`Command::Peers`].
    #[serde(rename = "msm.peers/1")]
    Peers {
        peers: Vec<PeerRow>,
        /// Those that get no tasks of this node any more, connected or not.
        #[serde(default)]
        struck: Vec<StruckRow>,
    },
    /// Answer to [`Command::Forgive`]: what was taken back.
    #[serde(rename = "msm.forgiven/1")]
    Forgiven(Box<StruckRow>),
    /// Answer to [`Command::Jobs`].
    #[serde(rename = "msm.jobs/1")]
    Jobs { jobs: Vec<JobReport> },
    /// Answer to [`Command::Invoke`] and [`Command::Job`].
    #[serde(rename = "msm.job/1")]
    Job(Box<JobReport>),
    /// Answer to [`Command::Invoke`] with `plan`.
    #[serde(rename = "msm.plan/1")]
    Plan(Plan),
    /// Answer to [`Command::Search`].
    #[serde(rename = "msm.services/1")]
    Services { services: Vec<ServiceRow> },
    /// Answer to [`Command::Show`].
    #[serde(rename = "msm.service/1")]
    Service(Box<ServiceDetail>),
    /// Answer to [`Command::MarketAdd`] and [`Command::MarketRemove`].
    #[serde(rename = "msm.market/1")]
    Market(MarketRow),
    /// Answer to [`Command::MarketList`] and [`Command::MarketRefresh`].
    #[serde(rename = "msm.markets/1")]
    Markets { markets: Vec<MarketRow> },
    /// Answer to [`Command::MarketMirror`].
    #[serde(rename = "msm.mirror/1")]
    Mirror(MirrorRow),
    /// Answer to [`Command::Grant`] (the one), [`Command::RevokeGrant`] (those taken back) and [`Command::Grants`].
    #[serde(rename = "msm.grants/1")]
    Grants { grants: Vec<GrantRow> },
    /// Answer to [`Command::Pending`].
    #[serde(rename = "msm.pending/1")]
    Pending { pending: Vec<PendingRow> },
    /// Answer to [`Command::History`].
    #[serde(rename = "msm.history/1")]
    History { entries: Vec<Entry> },
    /// Answer to [`Command::Pause`] and [`Command::Resume`].
    #[serde(rename = "msm.lending/1")]
    Lending(Lending),
    /// Answer to [`Command::Connect`].
    #[serde(rename = "msm.connected/1")]
    Connected { peer_id: PeerId },
}

/// This node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub name: String,
    pub peer_id: PeerId,
    pub uptime_s: u64,
    /// Addresses others can dial, each ending in `/p2p/PEER`.
    pub addresses: Vec<String>,
    /// True when tasks of others are taken.
    pub lending: bool,
    /// What is lent, or why nothing is.
    pub lending_detail: String,
    pub peers: u32,
    /// 0..1; mains counts as 1.
    pub battery: f64,
    pub network: Network,
    pub gps: bool,
    /// How it stands with the receiver: why there is no position, when there is none.
    pub gps_detail: String,
    /// This device's EQS without network factor.
    pub eqs: f64,
    pub markets: Vec<MarketRow>,
    /// Tasks of others that run now.
    pub running_tasks: u32,
    /// The owner's limits for others, in words, one each.
    #[serde(default)]
    pub offer: Vec<String>,
    /// The owner has paused lending.
    #[serde(default)]
    pub paused: bool,
    /// `config.toml` is not the one that this node was started with.
    #[serde(default)]
    pub config_changed: bool,
    pub home: String,
    pub version: String,
}

/// How it stands with lending after a word of the owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lending {
    /// True when tasks of others are taken.
    pub lending: bool,
    /// What is lent, or why nothing is.
    pub detail: String,
    /// A pause holds.
    pub paused: bool,
    /// Unix seconds; absent without a pause, and for one that the owner ends.
    pub until: Option<u64>,
    /// Tasks of others that were handed back.
    pub tasks_back: u32,
}

/// One connected peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerRow {
    pub peer_id: PeerId,
    pub name: String,
    /// EQS as this node sees it, with the network factor; absent until the peer has answered.
    pub eqs: Option<f64>,
    /// Round trip by ping, milliseconds.
    pub rtt_ms: Option<f64>,
    pub network: Option<Network>,
    pub gps: Option<bool>,
    pub availability: Option<bool>,
    /// Engines that it lends, by name; empty until the peer has answered.
    #[serde(default)]
    pub engines: Vec<String>,
    pub addresses: Vec<String>,
    /// `mdns`, `gossip`, `kad`, `dialled` or `inbound`.
    pub found_by: String,
}

/// A peer that gave a wrong output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StruckRow {
    pub peer_id: PeerId,
    /// Which task, what it claimed and what is right, in short.
    pub why: String,
    pub job_id: JobId,
    pub task: u32,
    /// `market/name@version`.
    pub service: String,
    /// SHA-256 of the output that it signed.
    pub claimed: ContentHash,
    /// SHA-256 of the right one.
    pub right: ContentHash,
    /// Whose output that is: this device, or another peer.
    pub by: PeerId,
    /// Unix seconds.
    pub since: u64,
    /// File below `evidence/` in this home, if it could be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
}

/// Which outputs of a job were compared, and how that ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Checks {
    /// `none`, `spot`, or `K/N`.
    pub redundancy: String,
    /// Comparisons.
    pub compared: u32,
    /// Those in which the output was right.
    pub right: u32,
    /// Outputs that should have been compared, with nobody left to compute them again.
    #[serde(default)]
    pub unchecked: u32,
    /// Outputs that were thrown away and computed again because their worker had lied.
    pub withdrawn: u32,
    /// The wrong ones, and the first of the others: at most 64.
    pub rows: Vec<CheckRow>,
    /// Who was struck out in this job.
    pub struck: Vec<StruckRow>,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckRow {
    pub task: u32,
    /// Whose output was compared.
    pub peer_id: PeerId,
    /// Who computed it too.
    pub by: PeerId,
    pub agrees: bool,
}

/// State of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    Running,
    Done,
    /// Ended early by `--on-loss partial`.
    Partial,
    Failed,
    /// Ended by its owner's word, or because whoever waited for it went away.
    Cancelled,
    /// Its node ended, or nobody could do it: it is kept, and may go on.
    Interrupted,
    /// Running again, after its node was started anew.
    Resumed,
}

/// A job, running or ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobReport {
    pub job_id: JobId,
    /// `market/name@version`.
    pub service: String,
    pub state: JobState,
    /// Tasks of the job.
    pub tasks: u32,
    /// Tasks with a counted result.
    pub tasks_done: u32,
    /// Attempts beyond the first of each task.
    pub tasks_rerun: u32,
    /// Why they were made.
    #[serde(default)]
    pub reruns: Reruns,
    /// Who finished how many tasks; this device too when it did any.
    pub devices: Vec<JobDevice>,
    pub wall_ms: f64,
    pub output_bytes: u64,
    /// Hex, as `sha256sum` prints it; empty until done.
    pub output_sha256: String,
    /// Milliseconds of each phase, in order: `resolve`, `discover`, `split`, `run`, `merge`.
    pub phases_ms: Vec<(String, f64)>,
    /// Why it failed or is partial.
    pub error: Option<String>,
    /// What went wrong on the way and was made good, such as a lost peer; one line each.
    pub notes: Vec<String>,
    /// How outputs of others were checked.
    #[serde(default)]
    pub checks: Checks,
    /// What `wall_ms` was predicted to be when the devices were chosen, the search for them left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_ms: Option<f64>,
    /// What that rests on: `measured` (this service ran here before) or `guessed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_from: Option<String>,
}

/// Attempts beyond the first of each task, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reruns {
    /// Their device was lost.
    pub lost: u32,
    /// Their device could not do it.
    pub failed: u32,
    /// Their device took long: a second one was asked besides.
    pub straggler: u32,
    /// Done again to check another device, to decide between two, or because a device lied.
    pub check: u32,
}

/// One device's share of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobDevice {
    pub peer_id: PeerId,
    pub name: String,
    /// Results counted.
    pub tasks: u32,
    /// This device itself.
    pub local: bool,
    /// The engine that it runs the service in: `js` or `wasm`; absent when it said neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// Why it left the job, if it did.
    pub lost: Option<String>,
}

/// Who would be used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub service: String,
    /// 1..6.
    pub rating: u8,
    /// What the service wants to use of each device, in words.
    pub needs: Vec<String>,
    pub rows: Vec<PlanRow>,
    pub tasks: u32,
    /// Milliseconds that the job is predicted to take with 1, 2, … of the devices that fit, in the order of their use.
    #[serde(default)]
    pub predicted_ms: Vec<f64>,
    /// `measured` (this service ran here before) or `guessed`.
    #[serde(default)]
    pub predicted_from: String,
    /// How many of them would be used.
    #[serde(default)]
    pub chosen: u32,
    /// How many devices fit, this one included.
    #[serde(default)]
    pub fit: u32,
    /// How many were asked for, at least; absent for `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<u32>,
}

/// One device in a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanRow {
    pub peer_id: PeerId,
    pub name: String,
    pub eqs: Option<f64>,
    pub rtt_ms: Option<f64>,
    pub used: bool,
    pub why: String,
    pub local: bool,
}

/// A service in a listing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceRow {
    pub name: String,
    pub version: String,
    pub scope: String,
    pub engines: Vec<String>,
    /// 1..6.
    pub rating: u8,
    pub summary: String,
    /// What it wants to use of a device, in words; absent while its manifest is not on this device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Vec<String>>,
    /// Alias of the market.
    pub market: String,
    pub manifest: ContentHash,
}

/// A service in detail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceDetail {
    #[serde(flatten)]
    pub row: ServiceRow,
    pub market_id: MarketId,
    pub input: Vec<String>,
    pub output: String,
    pub params: Vec<Param>,
    /// One line each, as in the manifest, and whether it is granted here.
    pub permissions: Vec<String>,
    pub constraints: Vec<String>,
    pub deterministic: bool,
    /// Only devices of the requester's owner may run it.
    #[serde(default)]
    pub private: bool,
    pub license: String,
    pub authors: Vec<String>,
    /// All versions in the market, newest first.
    pub versions: Vec<String>,
    /// Bytes of manifest and largest variant.
    pub size: u64,
    /// True when the bytes are on this device already.
    pub installed: bool,
}

/// A trusted market.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MarketRow {
    pub alias: String,
    pub name: String,
    pub market: MarketId,
    /// Groups of four.
    pub fingerprint: String,
    /// Version of the index in use; 0 while none was found.
    pub version: u64,
    /// Versions of services in its index.
    pub releases: u64,
    /// `fresh`, `stale` or `unknown` (nothing found yet).
    pub freshness: String,
    /// Unix seconds.
    pub expires: u64,
    /// True when this home holds its signing keys and serves it.
    pub published_here: bool,
    /// Number of an index of which the market has signed two: it is not followed any further.
    pub two_histories: Option<u64>,
}

/// A market in a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MirrorRow {
    pub market: MarketId,
    /// Where it is now.
    pub folder: String,
    /// Releases whose packages are there.
    pub releases: u64,
    /// Blobs that belong to it, those included that were there before.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A grant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GrantRow {
    /// `market/name`.
    pub service: String,
    pub market_id: MarketId,
    pub right: Right,
    pub to: Audience,
    /// For `gps`.
    pub accuracy: Option<Precision>,
    /// For `net`: what may be fetched, as the manifest asked for it then.
    pub hosts: Vec<String>,
    /// Unix seconds.
    pub since: u64,
    /// Unix seconds; absent for until it is taken back.
    pub until: Option<u64>,
    /// False when it has ended, or begins after the time that the clock says.
    pub holds: bool,
}

/// A question for the owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PendingRow {
    /// `market/name`.
    pub service: String,
    pub version: String,
    pub market_id: MarketId,
    /// 1..6.
    pub rating: u8,
    /// What the service wants to use, in words.
    pub needs: Vec<String>,
    pub right: Right,
    /// Who asked.
    pub peer_id: PeerId,
    /// His name for his device, as far as it is known.
    pub name: String,
    /// `own`, `known` or `stranger`.
    pub kin: Kin,
    /// Why it was refused: `not-granted`, `expired` or `withdrawn`.
    pub why: String,
    pub times: u32,
    /// Unix seconds.
    pub last: u64,
    /// The line that says yes.
    pub r#try: String,
}
