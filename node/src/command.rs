//! The whole surface of a node: one [`Command`] enum behind three doors (command line, REPL, local API).
//!
//! A door sends a [`Request`] and gets [`Event`]s while it runs and one [`Response`] or [`CommandError`] at its end.
//! Everything here is serialisable: the doors to a running node lead through `control.sock`.

mod error;
mod event;
mod reply;
mod wish;

use std::future::Future;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use self::{error::*, event::*, reply::*, wish::*};
use crate::{
    blob::Blob,
    body::Body,
    resources::words::{Audience, Right},
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
    /// Copy a whole market (alias or id) into a folder.
    MarketMirror { market: String, folder: std::path::PathBuf },
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
