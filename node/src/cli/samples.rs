//! One reply of each kind, and a door that gives them, for tests of what is sent and what is shown.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use msm_protocol::{
    ContentHash, JobId, MarketId, PeerId, SecretKey,
    device::Network,
    manifest::{Engine, Param, ParamType, Value},
};

use tokio::sync::mpsc;

use crate::{
    command::{
        CheckRow, Checks, Command, CommandError, Door, ErrorCode, Event, GrantRow, JobDevice, JobReport, JobState,
        Lending, MarketRow, MirrorRow, PeerRow, PendingRow, Plan, PlanRow, Reply, Request, Reruns, Response,
        ServiceDetail, ServiceRow, Status, StruckRow,
    },
    resources::{
        ledger::{Entry, Outcome},
        words::{Audience, Kin, Precision, Right},
    },
};

/// Unix seconds at which the samples are shown.
pub const NOW: u64 = 1_800_000_000;

pub fn peer() -> PeerId {
    PeerId::of(&SecretKey::from_seed(&[7; 32]).public())
}

pub fn market() -> MarketRow {
    let market = MarketId::of_first_root(b"home");
    MarketRow {
        alias: "home".into(),
        name: "Home Market".into(),
        market,
        fingerprint: market.fingerprint(),
        version: 14,
        releases: 3,
        freshness: "fresh".into(),
        expires: NOW + 27 * 86_400,
        published_here: false,
        two_histories: None,
    }
}

pub fn job() -> JobReport {
    let device = |name: &str, tasks, local, lost: Option<&str>| JobDevice {
        peer_id: peer(),
        name: name.into(),
        tasks,
        local,
        engine: Some(Engine::Wasm),
        lost: lost.map(str::to_owned),
    };
    JobReport {
        job_id: JobId::from_bytes([0x7f; 16]),
        service: "home/image-blur@1.2.0".into(),
        state: JobState::Done,
        tasks: 16,
        tasks_done: 16,
        tasks_rerun: 2,
        reruns: Reruns { lost: 2, ..Reruns::default() },
        devices: vec![
            device("attic", 9, true, None),
            device("garage", 7, false, None),
            device("kitchen\u{1b}[2J", 0, false, Some("connection closed")),
        ],
        wall_ms: 1_080.0,
        output_bytes: 1_900_000,
        output_sha256: "9c".repeat(32),
        phases_ms: vec![("resolve".into(), 3.0), ("run".into(), 1_000.0)],
        error: None,
        notes: vec!["kitchen was lost; its 2 tasks ran on attic".into()],
        predicted_ms: Some(1_020.0),
        predicted_from: Some("measured".into()),
        checks: Checks {
            redundancy: "spot".into(),
            compared: 5,
            right: 4,
            unchecked: 1,
            withdrawn: 3,
            rows: vec![CheckRow { task: 7, peer_id: peer(), by: peer(), agrees: false }],
            struck: vec![struck()],
        },
    }
}

pub fn struck() -> StruckRow {
    StruckRow {
        peer_id: peer(),
        why: "task 7 of job 7f7f: claimed 9c9c9c9c…, right is 1d1d1d1d…".into(),
        job_id: JobId::from_bytes([0x7f; 16]),
        task: 7,
        service: "home/image-blur@1.2.0".into(),
        claimed: ContentHash::of(b"wrong"),
        right: ContentHash::of(b"right"),
        by: peer(),
        since: NOW - 7_200,
        evidence: Some("12D3KooWExample-1.cbor".into()),
    }
}

fn service() -> ServiceRow {
    ServiceRow {
        name: "image-blur".into(),
        version: "1.2.0".into(),
        scope: "media/image".into(),
        engines: vec!["js".into()],
        rating: 6,
        summary: "Blur an image, split over devices".into(),
        needs: Some(vec![]),
        market: "home".into(),
        manifest: ContentHash::of(b"manifest"),
    }
}

pub fn replies() -> Vec<Reply> {
    let status = Status {
        name: "attic".into(),
        peer_id: peer(),
        uptime_s: 64,
        addresses: vec!["/ip4/10.0.0.1/tcp/4001".into()],
        lending: false,
        lending_detail: "no market trusted yet".into(),
        peers: 2,
        battery: 0.62,
        network: Network::High,
        gps: false,
        gps_detail: "no receiver is configured (sensors.gps)".into(),
        eqs: 71.4,
        markets: vec![],
        running_tasks: 0,
        offer: vec!["50 % of 4 cores".into(), "22:00-07:00".into()],
        paused: false,
        config_changed: true,
        home: "/home/ada/.local/share/msm".into(),
        version: "0.1.0".into(),
    };
    let known = PeerRow {
        peer_id: peer(),
        name: "garage".into(),
        eqs: Some(88.4),
        rtt_ms: Some(3.2),
        network: Some(Network::High),
        gps: Some(false),
        availability: Some(true),
        engines: vec!["js".into(), "wasm".into()],
        addresses: vec!["/ip4/10.0.0.2/udp/4001/quic-v1".into()],
        found_by: "mdns".into(),
    };
    let new = PeerRow { eqs: None, rtt_ms: None, network: None, gps: None, availability: None, ..known.clone() };
    let radius = Param {
        choices: vec![],
        name: "radius".into(),
        r#type: ParamType::Integer,
        default: Some(Value::Integer(3)),
        maximum: Some(50.0),
        minimum: Some(1.0),
        description: "blur radius in pixels".into(),
    };
    let detail = ServiceDetail {
        row: service(),
        market_id: market().market,
        input: vec!["image/png".into(), "image/jpeg".into()],
        output: "image/png".into(),
        params: vec![radius],
        permissions: vec!["image: decode and encode pictures".into()],
        constraints: vec!["devices 1..16".into()],
        deterministic: true,
        private: false,
        license: "MIT".into(),
        authors: vec!["Ada".into()],
        versions: vec!["1.2.0".into(), "1.1.0".into()],
        size: 9_400,
        installed: false,
    };
    let row = |name: &str, used, why: &str, local: bool| PlanRow {
        peer_id: peer(),
        name: name.into(),
        eqs: Some(71.0),
        rtt_ms: (!local).then_some(6.0),
        used,
        why: why.into(),
        local,
    };
    let plan = Plan {
        service: "home/image-blur@1.2.0".into(),
        rating: 6,
        needs: vec![],
        rows: vec![row("attic", true, "this device", true), row("phone", false, "battery 41 % < 50 %", false)],
        tasks: 16,
        predicted_ms: vec![1_900.0, 1_100.0],
        predicted_from: "measured".into(),
        chosen: 2,
        fit: 2,
        wanted: Some(4),
    };
    vec![
        Reply::Status(Box::new(status)),
        Reply::Peers { peers: vec![known, new], struck: vec![struck()] },
        Reply::Jobs { jobs: vec![job()] },
        Reply::Job(Box::new(job())),
        Reply::Plan(plan),
        Reply::Services { services: vec![service()] },
        Reply::Service(Box::new(detail)),
        Reply::Market(market()),
        Reply::Markets { markets: vec![market(), MarketRow { version: 0, freshness: "unknown".into(), ..market() }] },
        Reply::Connected { peer_id: peer() },
        Reply::Grants { grants: grants() },
        Reply::Pending { pending: vec![question()] },
        Reply::History { entries: history() },
        Reply::Forgiven(Box::new(struck())),
        Reply::Lending(Lending {
            lending: false,
            detail: "paused by its owner until 15:13".into(),
            paused: true,
            until: Some(NOW + 3_600),
            tasks_back: 1,
        }),
        Reply::Mirror(MirrorRow {
            market: market().market,
            folder: "/media/usb/market".into(),
            releases: 3,
            blobs: 14,
            bytes: 41_000,
        }),
    ]
}

fn grants() -> Vec<GrantRow> {
    let gps = GrantRow {
        service: "home/gps-sharing".into(),
        market_id: market().market,
        right: Right::Gps,
        to: Audience::Peer(peer()),
        accuracy: Some(Precision::Coarse),
        hosts: vec![],
        since: NOW - 60,
        until: Some(NOW + 8 * 3_600),
        holds: true,
    };
    let hosts = vec!["web.example".into(), "*.web.example".into()];
    let net = GrantRow { right: Right::Net, accuracy: None, hosts, until: Some(NOW - 60), holds: false, ..gps.clone() };
    let device = GrantRow { right: Right::Device, accuracy: None, to: Audience::Anyone, until: None, ..gps.clone() };
    vec![gps, net, device]
}

fn question() -> PendingRow {
    PendingRow {
        service: "home/gps-sharing".into(),
        version: "1.0.0".into(),
        market_id: market().market,
        rating: 4,
        needs: vec!["position (coarse)".into()],
        right: Right::Gps,
        peer_id: peer(),
        name: "garage".into(),
        kin: Kin::Stranger,
        why: "not-granted".into(),
        times: 3,
        last: NOW - 120,
        r#try: super::hints::grant("home/gps-sharing", "gps", &peer().to_string()),
    }
}

fn history() -> Vec<Entry> {
    let fetched = Entry {
        time: NOW,
        service: "home/internet-sharing@1.0.0".into(),
        caller: peer().to_string(),
        own: false,
        op: "net.fetch".into(),
        outcome: Outcome::Allowed,
        why: String::new(),
        bytes: 118,
        times: 1,
        detail: "https://web.example".into(),
    };
    let why = "not-granted".to_owned();
    let denied = Entry { own: true, outcome: Outcome::Denied, why, bytes: 0, detail: String::new(), ..fetched.clone() };
    vec![fetched, denied]
}

/// A door that answers every command with its sample and remembers what it was asked.
#[derive(Clone, Default)]
pub struct SampleDoor {
    /// Commands, oldest first.
    pub asked: Arc<Mutex<Vec<Command>>>,
    /// Output of every invocation.
    pub output: Bytes,
    /// Media type that `show` says.
    pub output_type: String,
    /// State of every job.
    pub state: Option<JobState>,
}

impl SampleDoor {
    pub fn asked(&self) -> Vec<Command> {
        self.asked.lock().unwrap().clone()
    }
}

impl Door for SampleDoor {
    async fn execute(&self, request: Request, events: mpsc::Sender<Event>) -> Result<Response, CommandError> {
        self.asked.lock().unwrap().push(request.command.clone());
        let at = match request.command {
            Command::Invoke(_) => {
                let job = JobReport { state: self.state.unwrap_or(JobState::Done), ..job() };
                let _ = events.try_send(Event::JobDone { job_id: job.job_id, wall_ms: job.wall_ms });
                return Ok(Response { reply: Reply::Job(Box::new(job)), output: self.output.clone().into() });
            }
            Command::Show { .. } => {
                let Some(Reply::Service(mut detail)) = replies().into_iter().nth(6) else { unreachable!() };
                detail.output.clone_from(&self.output_type);
                return Ok(Reply::Service(detail).into());
            }
            Command::Job { id }
            | Command::JobWait { id, .. }
            | Command::JobTaken { id }
            | Command::JobCancel { id }
            | Command::JobResume { id } => {
                let error = CommandError::new(ErrorCode::NotFound, format!("no job begins with {id:?}"));
                return Err(error.or_try("msm jobs"));
            }
            Command::Watch { .. } => std::future::pending().await,
            Command::Status => 0,
            Command::Peers => 1,
            Command::Jobs => 2,
            Command::Search(_) => 5,
            Command::MarketAdd { .. } | Command::MarketRemove { .. } => 7,
            Command::MarketList | Command::MarketRefresh => 8,
            Command::Connect { .. } => 9,
            Command::Grant(_) | Command::RevokeGrant { .. } | Command::Grants => 10,
            Command::Pending => 11,
            Command::History { .. } => 12,
            Command::Forgive { .. } => 13,
            Command::Pause { .. } | Command::Resume => 14,
            Command::MarketMirror { .. } => 15,
        };
        Ok(replies().swap_remove(at).into())
    }
}
