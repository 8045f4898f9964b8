//! The whole surface of a node: one [`Command`] enum behind three doors (command line, REPL, local API).
//!
//! A door sends a [`Request`] and gets [`Event`]s while it runs and one [`Response`] or [`CommandError`] at its end.
//! Everything here is serialisable: the doors to a running node lead through `control.sock`.

use std::future::Future;

use msm_protocol::{
    ContentHash, JobId, MarketId, PeerId,
    device::Network,
    manifest::{Engine, Param},
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{
    blob::Blob,
    body::Body,
    resources::{
        ledger::Entry,
        words::{Audience, Kin, Precision, Right},
    },
};

/// What a node can be asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// What this node is, lends and sees.
    Status,
    /// The peers it is connected to.
    Peers,
    /// Jobs since the node started and those that are kept of earlier runs, newest first.
    Jobs,
    /// One job; `id` is the whole id or an unambiguous beginning.
    Job { id: String },
    /// Wait for the end of a job: its report, with its output when that is wanted, or the error that it ended with. The
    /// output is kept until [`Command::JobTaken`] says that it has arrived.
    JobWait { id: String, output: bool },
    /// The output of this job has arrived, and need not be kept.
    JobTaken { id: String },
    /// End a job everywhere, and keep nothing of it.
    JobCancel { id: String },
    /// Go on with a job that was interrupted, and wait for it as [`Command::JobWait`] does.
    JobResume { id: String },
    /// Services whose name, scope or summary contain every word.
    Search(Search),
    /// One service: `name`, `market/name`, either with `@range`.
    Show { service: String },
    /// Run a service. The input travels as the request's `input`, the output as the response's `output`.
    Invoke(Box<Invoke>),
    /// Trust a market: `msm:market:FPR`, `FOLDER#FPR` or `http://HOST/PATH#FPR`.
    MarketAdd { target: String, alias: Option<String> },
    /// Stop trusting a market (alias or id).
    MarketRemove { market: String },
    /// The trusted markets.
    MarketList,
    /// Read the markets again that this home publishes, and ask peers for newer indexes of all others.
    MarketRefresh,
    /// Let a service use a part of this device.
    Grant(Box<GrantWish>),
    /// Take grants back: of `right` to `service` (`name` or `market/name`), for `to` or for all.
    RevokeGrant { service: String, right: Right, to: Option<Audience> },
    /// What is granted.
    Grants,
    /// What was asked for since the node started, and refused for want of a grant.
    Pending,
    /// What guests did with this device, newest first; `today` leaves out what is older than midnight UTC.
    History { today: bool },
    /// Take back that a peer was struck out for a wrong output: its id, or the end of it as lists show it.
    Forgive { peer: String },
    /// Dial this address (a multiaddress ending in `/p2p/PEER`).
    Connect { address: String },
    /// Lend nothing for so many seconds, or until [`Self::Resume`]; tasks of others are handed back.
    Pause { for_s: Option<u64> },
    /// End a pause.
    Resume,
    /// Nothing but events, until the door is closed: those of one running job (`job` is its id or an unambiguous
    /// beginning), or all.
    Watch { job: Option<String> },
}

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

/// A command and its bulk input.
#[derive(Debug, Clone)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// Input bytes of an invocation; empty otherwise.
    pub input: Blob,
}

impl From<Command> for Request {
    fn from(command: Command) -> Self {
        Self { command, input: Blob::default() }
    }
}

/// A reply and its bulk output.
#[derive(Debug)]
pub struct Response {
    /// What happened.
    pub reply: Reply,
    /// Output bytes of an invocation; empty otherwise.
    pub output: Body,
}

impl From<Reply> for Response {
    fn from(reply: Reply) -> Self {
        Self { reply, output: Body::default() }
    }
}

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
    pub services: u64,
    /// `fresh`, `stale` or `unknown` (nothing found yet).
    pub freshness: String,
    /// Unix seconds.
    pub expires: u64,
    /// True when this home holds its signing keys and serves it.
    pub published_here: bool,
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

/// Why an attempt is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The task's first.
    #[default]
    Fresh,
    /// The device that had the task was lost.
    Lost,
    /// The device that had the task could not do it.
    Failed,
    /// The device that has the task takes long.
    Straggler,
    /// The answer of another device is checked.
    Check,
    /// Several devices must agree, or two do not.
    Vote,
    /// The answer that was there counts no more: its device lied.
    Withdrawn,
}

impl Why {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Lost => "lost",
            Self::Failed => "failed",
            Self::Straggler => "straggler",
            Self::Check => "check",
            Self::Vote => "vote",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// What happens: shown while a command runs, and streamed by [`Command::Watch`]. A job's events go to its own door only.
///
/// A name is the owner's for the device, empty when it has not told one. Serialised, each is an object whose `event`
/// says which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    PeerJoined {
        peer_id: PeerId,
        name: String,
    },
    PeerLeft {
        peer_id: PeerId,
        name: String,
        reason: String,
    },
    MarketUpdated {
        alias: String,
        version: u64,
    },
    /// The owner lends nothing for a while.
    Paused {
        /// Unix seconds; absent for until he says so.
        until: Option<u64>,
        /// Tasks of others that were handed back.
        tasks_back: u32,
    },
    /// The device is lent again.
    Resumed {
        reason: String,
    },
    /// A device did what no honest one does.
    Struck {
        /// The job in which it was found out, if it was in one.
        job_id: Option<JobId>,
        peer_id: PeerId,
        name: String,
        task: Option<u32>,
        reason: String,
        /// What proves it: a file below `evidence/` in this home.
        evidence: Option<String>,
    },
    JobStarted {
        job_id: JobId,
        service: String,
        tasks: u32,
    },
    /// A job goes on that an earlier run of this node began.
    JobResumed {
        job_id: JobId,
        service: String,
        tasks: u32,
        tasks_done: u32,
    },
    DeviceJoined {
        job_id: JobId,
        peer_id: PeerId,
        name: String,
        local: bool,
    },
    DeviceLost {
        job_id: JobId,
        peer_id: PeerId,
        name: String,
        reason: String,
        tasks_back: u32,
    },
    /// An offer was not taken.
    DeviceRefused {
        job_id: JobId,
        peer_id: PeerId,
        name: String,
        code: String,
        reason: String,
    },
    /// A device has the task now, for as long as its lease lasts.
    TaskStarted {
        job_id: JobId,
        peer_id: PeerId,
        #[serde(default)]
        name: String,
        task: u32,
        attempt: u32,
        #[serde(default)]
        why: Why,
    },
    /// A task that another device had, or still has, is given to one more.
    TaskRetried {
        job_id: JobId,
        task: u32,
        attempt: u32,
        /// Who has it now.
        peer_id: PeerId,
        name: String,
        /// Who had it.
        from: PeerId,
        from_name: String,
        why: Why,
        /// In words, such as why the device was lost.
        reason: String,
    },
    TaskDone {
        job_id: JobId,
        peer_id: PeerId,
        #[serde(default)]
        name: String,
        task: u32,
        attempt: u32,
        done: u32,
        tasks: u32,
    },
    TaskFailed {
        job_id: JobId,
        peer_id: PeerId,
        #[serde(default)]
        name: String,
        task: u32,
        attempt: u32,
        code: String,
        reason: String,
    },
    /// A device's answer was compared with another's.
    TaskChecked {
        job_id: JobId,
        task: u32,
        /// Who was checked.
        peer_id: PeerId,
        name: String,
        by: PeerId,
        by_name: String,
        agrees: bool,
    },
    /// An answer counts no more, because its device lied elsewhere; the task is done again.
    TaskWithdrawn {
        job_id: JobId,
        task: u32,
        peer_id: PeerId,
        name: String,
    },
    JobDone {
        job_id: JobId,
        wall_ms: f64,
    },
    JobFailed {
        job_id: JobId,
        error: String,
    },
    /// A phase of the job begins; for spinners.
    Phase {
        job_id: JobId,
        name: String,
    },
}

impl Event {
    /// The job that it belongs to.
    pub fn job_id(&self) -> Option<JobId> {
        match self {
            Self::PeerJoined { .. }
            | Self::PeerLeft { .. }
            | Self::MarketUpdated { .. }
            | Self::Paused { .. }
            | Self::Resumed { .. } => None,
            Self::Struck { job_id, .. } => *job_id,
            Self::JobStarted { job_id, .. }
            | Self::JobResumed { job_id, .. }
            | Self::DeviceJoined { job_id, .. }
            | Self::DeviceLost { job_id, .. }
            | Self::DeviceRefused { job_id, .. }
            | Self::TaskStarted { job_id, .. }
            | Self::TaskRetried { job_id, .. }
            | Self::TaskDone { job_id, .. }
            | Self::TaskFailed { job_id, .. }
            | Self::TaskChecked { job_id, .. }
            | Self::TaskWithdrawn { job_id, .. }
            | Self::JobDone { job_id, .. }
            | Self::JobFailed { job_id, .. }
            | Self::Phase { job_id, .. } => Some(*job_id),
        }
    }
}

/// Why a command failed: the text form of each is the `code` of `msm.error/1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    Failed,
    Usage,
    NoNode,
    NotAllowed,
    NoDevice,
    ServiceFailed,
    Deadline,
    Verification,
    NotFound,
}

impl ErrorCode {
    /// The process's exit code.
    pub const fn exit(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NoNode => 3,
            Self::NotAllowed => 4,
            Self::NoDevice => 5,
            Self::ServiceFailed => 6,
            Self::Deadline => 7,
            Self::Verification => 8,
            Self::NotFound => 9,
        }
    }
}

/// A command that failed: what, why (with the number), and what to type next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    pub code: ErrorCode,
    /// Begins with the quoted refusal where there is one, such as `refused: untrusted-market: …`.
    pub message: String,
    /// Runnable lines, `msm …`.
    pub r#try: Vec<String>,
}

impl CommandError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), r#try: Vec::new() }
    }

    /// Adds a line that would change the outcome.
    pub fn or_try(mut self, line: impl Into<String>) -> Self {
        self.r#try.push(line.into());
        self
    }
}

/// Progress events that wait for a slow door before they are dropped; replies never are.
pub const EVENT_QUEUE: usize = 1_024;

/// Something that carries out commands: a node in this process, or a running node behind its socket.
pub trait Door: Send + Sync {
    /// Carries out one command. Events are sent while it runs and dropped when `events` is full or closed.
    fn execute(
        &self,
        request: Request,
        events: mpsc::Sender<Event>,
    ) -> impl Future<Output = Result<Response, CommandError>> + Send;
}
