//! The broker with hostile guests, withdrawn consent and a ledger without room.

use std::time::Duration;

use msm_protocol::{MarketId, PeerId, SecretKey, manifest::Permissions};
use tempfile::TempDir;

use super::*;
use crate::{
    config::ResourcesConfig,
    home::Home,
    monitor::{Monitor, MonitorConfig},
    resources::{
        grants::{Grant, GrantTable, LOCATION_LIFE},
        ledger,
        steward::{Household, unix_now},
        words::{Audience, Precision},
    },
};

/// Waits for what happens at once.
const SOON: Duration = Duration::from_secs(20);

fn peer(seed: u8) -> PeerId {
    PeerId::of(&SecretKey::from_seed(&[seed; 32]).public())
}

struct Rig {
    steward: Arc<Steward>,
    home: Home,
    _folder: TempDir,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path())).unwrap();
        let household = Household { local: peer(0), known: vec![peer(1)], name: "attic".into() };
        let monitor = Arc::new(Monitor::start(MonitorConfig::default()));
        let steward = Steward::start(home.clone(), household, ResourcesConfig::default(), monitor).unwrap();
        Self { steward: Arc::new(steward), home, _folder: folder }
    }

    async fn grant(&self, right: Right, to: Audience) {
        let since = unix_now();
        let grant = Grant {
            market: service().market,
            service: service().name,
            right,
            to,
            precision: (right == Right::Gps).then_some(Precision::Coarse),
            hosts: if right == Right::Net { vec!["*".into()] } else { vec![] },
            since,
            until: Some(since + LOCATION_LIFE),
        };
        self.steward.grant(grant).await.unwrap();
    }

    fn broker(&self, caller: PeerId) -> Arc<Broker> {
        self.steward.broker(Arc::new(service()), caller)
    }

    fn history(&self) -> Vec<Entry> {
        ledger::read(&self.home.audit_file(), 0, ledger::HISTORY).unwrap()
    }

    /// The ledger once it has as many lines.
    async fn history_of(&self, lines: usize) -> Vec<Entry> {
        let looked = async {
            while self.history().len() < lines {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, looked).await.unwrap_or_else(|_| panic!("{:?}", self.history()));
        self.history()
    }
}

fn service() -> Service {
    Service {
        market: MarketId::of_first_root(b"home"),
        alias: "home".into(),
        name: "all-of-it".into(),
        version: "1.0.0".into(),
        asked: Permissions {
            gps: Some("coarse".into()),
            net: vec!["*".into()],
            device: true,
            ..Permissions::default()
        },
    }
}

async fn ask(broker: &Broker, op: &str, body: impl Into<bytes::Bytes>) -> Result<Answer, AskError> {
    broker.answer(Ask { op: op.into(), body: body.into() }).await
}

fn brief(entry: &Entry) -> (&str, Outcome, &str, u32) {
    (&entry.op, entry.outcome, &entry.why, entry.times)
}

#[tokio::test]
async fn what_is_granted_is_done_and_taken_down_and_nothing_else_is() {
    let rig = Rig::new();
    let (stranger, own) = (rig.broker(peer(2)), rig.broker(peer(0)));
    let denied = ask(&stranger, "device.status", "{}").await.unwrap_err();
    assert_eq!(
        (denied.kind, &*denied.message),
        (AskErrorKind::Denied, "device.status: all-of-it may not use device here")
    );
    let denied = ask(&own, "device.status", "{}").await.unwrap_err();
    assert!(denied.message.ends_with("; try: msm grant home/all-of-it device --to own"), "{denied}");

    rig.grant(Right::Device, Audience::Anyone).await;
    let answer = ask(&stranger, "device.status", "{}").await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&answer.json).unwrap();
    assert_eq!(json["name"], "attic");
    assert!(["low", "medium", "high", "mains"].contains(&json["battery"].as_str().unwrap()));
    // A grant of one thing is none of another.
    assert_eq!(ask(&stranger, "gps.position", "{}").await.unwrap_err().kind, AskErrorKind::Denied);
    let seen = rig.history();
    let briefs: Vec<_> = seen.iter().rev().map(brief).collect();
    assert_eq!(
        briefs,
        [
            ("device.status", Outcome::Denied, "not-granted", 1),
            ("device.status", Outcome::Denied, "not-granted", 1),
            ("device.status", Outcome::Allowed, "", 1),
            ("gps.position", Outcome::Denied, "not-granted", 1),
        ]
    );
    assert_eq!((seen[1].bytes, &*seen[1].caller), (answer.json.len() as u64, &*peer(2).to_string()));
    assert_eq!((&*seen[0].service, seen[2].own, seen[3].own), ("home/all-of-it@1.0.0", true, false));

    // Both questions that a grant would have answered wait for the owner; the answered one is gone.
    let waiting: Vec<_> = rig.steward.questions().into_iter().map(|it| (it.right, it.peer)).collect();
    assert_eq!(waiting, [(Right::Gps, peer(2))]);
}

#[tokio::test]
async fn a_hostile_child_gets_errors_and_no_way_to_flood_the_ledger() {
    let rig = Rig::new();
    rig.grant(Right::Device, Audience::Anyone).await;
    rig.grant(Right::Net, Audience::Anyone).await;
    let broker = rig.broker(peer(2));
    let huge = "[".repeat(64 * 1024);
    let escape = format!("evil{}\u{1b}]0;x\u{7}", "x".repeat(10_000));
    for op in ["", "gps", "net.fetch2", "../../etc/passwd", "device.status\0", &escape] {
        let error = ask(&broker, op, "{}").await.unwrap_err();
        assert_eq!(error.kind, AskErrorKind::Usage, "{op}");
        assert!(error.message.len() < 200, "{error}");
    }
    for body in ["", "{", "[]", "null", "\u{1b}[2J", "{\"a\":1}", "{\"a\":{\"a\":{}}}", &huge] {
        let error = ask(&broker, "device.status", body.to_owned()).await.unwrap_err();
        assert_eq!(error.kind, AskErrorKind::Usage, "{body}");
        let error = ask(&broker, "net.fetch", body.to_owned()).await.unwrap_err();
        assert_ne!(error.kind, AskErrorKind::Denied, "it was allowed and failed: {error}");
    }
    assert!(ask(&broker, "device.status", bytes::Bytes::from_static(b"\xff\xfe")).await.is_err());
    let before = rig.history().len();
    for _ in 0..1_001 {
        assert_eq!(ask(&broker, "gps.position", "{}").await.unwrap_err().kind, AskErrorKind::Denied);
    }
    assert_eq!(rig.history().len(), before + 1, "the first refusal is a line");
    drop(broker);
    // One line more for each kind: unknown operations, both that failed, and the refusals.
    let end = rig.history_of(before + 5).await;
    let repeated = end.iter().find(|entry| entry.times == 1_000).unwrap();
    assert_eq!(
        brief(repeated),
        ("gps.position", Outcome::Denied, "not-granted", 1_000),
        "the rest are one with their number"
    );
    let text = std::fs::read_to_string(rig.home.audit_file()).unwrap();
    assert!(!text.contains('\u{1b}') && !text.contains("\\u001b"), "no control character reaches the ledger");
    assert!(text.lines().all(|line| line.len() < 1_000));
    assert_eq!(rig.steward.questions().first().map(|it| it.times), Some(1_001));
}

#[tokio::test]
async fn addresses_reach_the_ledger_without_what_they_hold() {
    let rig = Rig::new();
    rig.grant(Right::Net, Audience::Anyone).await;
    let broker = rig.broker(peer(2));
    let body = r#"{"url": "https://user:secret@bank.example:8443/private?token=hidden#here"}"#;
    let _ = ask(&broker, "net.fetch", body).await;
    let text = std::fs::read_to_string(rig.home.audit_file()).unwrap();
    assert!(text.contains("\"detail\":\"https://bank.example:8443\""), "{text}");
    for secret in ["user", "secret", "private", "token", "hidden", "here"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

/// The answer is on its way when the consent goes: it must not arrive. The gate is looked at again before the answer is
/// given, whatever the resource was doing.
#[tokio::test]
async fn b77_consent_that_is_withdrawn_while_a_question_waits_is_a_denial() {
    let rig = Rig::new();
    rig.grant(Right::Device, Audience::Anyone).await;
    let broker = rig.broker(peer(2));
    let here = broker.here.clone();
    let waiting = tokio::spawn(async move { here.withdrawn(&here.pass(Right::Device).unwrap()).await });
    // Another grant changes, this one holds: nothing happens.
    rig.grant(Right::Gps, Audience::Anyone).await;
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    // A slow resource: the page is taken, the answer not yet given.
    let here = broker.here.clone();
    let (slow, go) = tokio::sync::oneshot::channel::<()>();
    let answer = tokio::spawn(async move {
        let pass = here.pass(Right::Device).unwrap();
        here.under_consent("device.status", &pass, String::new(), async move {
            let _ = go.await;
            Ok(Answer { json: "\"secret\"".into(), ..Answer::default() })
        })
        .await
    });
    tokio::task::yield_now().await;
    let taken = rig.steward.take_back(None, "all-of-it", Right::Device, None).await.unwrap();
    assert_eq!(taken.len(), 1);
    let error = tokio::time::timeout(SOON, answer).await.unwrap().unwrap().unwrap_err();
    assert_eq!(
        (error.kind, &*error.message),
        (AskErrorKind::Denied, "device.status: all-of-it may not use device here")
    );
    drop(slow);
    tokio::time::timeout(SOON, waiting).await.unwrap().unwrap();
    assert_eq!(brief(&rig.history()[0]), ("device.status", Outcome::Denied, "withdrawn", 1));
}

/// The same when the resource is done at that very moment: the consent is looked at after the answer is there.
#[tokio::test]
async fn b77_consent_that_has_ended_by_the_time_of_the_answer_is_a_denial() {
    let rig = Rig::new();
    rig.grant(Right::Device, Audience::Anyone).await;
    let broker = rig.broker(peer(2));
    let steward = rig.steward.clone();
    let pass = broker.here.pass(Right::Device).unwrap();
    let answer = broker.here.under_consent("device.status", &pass, String::new(), async move {
        // The grant is gone before the answer is given, and nobody was waiting for a change yet.
        steward.take_back(None, "all-of-it", Right::Device, None).await.unwrap();
        Ok(Answer::default())
    });
    assert_eq!(answer.await.unwrap_err().kind, AskErrorKind::Denied);
}

#[tokio::test]
async fn without_room_in_the_ledger_nothing_is_done() {
    let rig = Rig::new();
    rig.grant(Right::Device, Audience::Anyone).await;
    let broker = rig.broker(peer(0));
    let mut pages = Vec::new();
    while let Ok(page) = rig.steward.ledger.page(rig.steward.entry(&service(), &rig.steward.caller(peer(0)), "x")).await
    {
        pages.push(page);
    }
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mark = done.clone();
    let pass = broker.here.pass(Right::Device).unwrap();
    let answer = broker.here.under_consent("device.status", &pass, String::new(), async move {
        mark.store(true, std::sync::atomic::Ordering::Relaxed);
        Ok(Answer::default())
    });
    let error = answer.await.unwrap_err();
    assert_eq!(error.kind, AskErrorKind::Denied);
    assert!(error.message.contains("lines wait for the audit ledger"), "{error}");
    assert!(!done.load(std::sync::atomic::Ordering::Relaxed), "the resource was not touched");
    let waiting = pages.len();
    drop(pages);
    rig.history_of(waiting).await;
    assert!(ask(&broker, "device.status", "{}").await.is_ok());
}

#[tokio::test]
async fn a_cut_task_leaves_its_line() {
    let rig = Rig::new();
    rig.grant(Right::Net, Audience::Anyone).await;
    let broker = rig.broker(peer(2));
    let pass = broker.here.pass(Right::Net).unwrap();
    let never = broker.here.under_consent("net.fetch", &pass, "https://slow.example".into(), std::future::pending());
    assert!(tokio::time::timeout(Duration::from_millis(50), never).await.is_err());
    let line = rig.history_of(1).await.remove(0);
    assert_eq!((brief(&line), &*line.detail), (("net.fetch", Outcome::Cut, "", 1), "https://slow.example"));
}

/// What moves is counted at once and kept in a file of its own: the ledger, which forgets, has nothing to do with it.
#[tokio::test]
async fn what_others_fetched_today_counts_after_a_restart() {
    let rig = Rig::new();
    rig.grant(Right::Net, Audience::Anyone).await;
    let charge = |caller: u8, bytes: u64| {
        let Ok(Pass::Net(permit)) = rig.broker(peer(caller)).here.pass(Right::Net) else { panic!("it is granted") };
        permit.quota().take(bytes, unix_now()).unwrap();
    };
    charge(2, 1_000);
    charge(3, 500);
    // The owner's own do not count.
    charge(0, 70_000);
    let (home, monitor, folder) = (rig.home.clone(), rig.steward.monitor.clone(), rig._folder);
    drop(rig.steward);
    let started = || {
        let household = Household { local: peer(0), known: vec![], name: String::new() };
        let ceiling = ResourcesConfig { net_quota: Some(10_000), ..ResourcesConfig::default() };
        Steward::start(home.clone(), household, ceiling, monitor.clone()).unwrap()
    };
    // Nothing of the ledger is left.
    std::fs::remove_file(home.audit_file()).unwrap_or_default();
    assert_eq!(started().quota.left(unix_now()), 8_500);
    // It stands on disk a few seconds later, also when nobody ends the node in order.
    let running = started();
    running.quota.take(500, unix_now()).unwrap();
    let kept = async {
        while home.spent(0).unwrap().bytes != 2_000 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, kept).await.expect("it is kept while the node runs");
    drop((running, folder));
}

/// One task may ask a thousand times for what is blocked before any rate is asked, each time for another host.
#[tokio::test]
async fn a_task_that_fails_a_thousand_times_leaves_a_page_of_lines() {
    let rig = Rig::new();
    rig.grant(Right::Net, Audience::Anyone).await;
    let broker = rig.broker(peer(2));
    for n in 0..1_000_u32 {
        let body = format!(r#"{{"url": "http://10.0.{}.{}/"}}"#, n / 250, n % 250);
        assert_eq!(ask(&broker, "net.fetch", body).await.unwrap_err().kind, AskErrorKind::Denied);
    }
    drop(broker);
    let history = rig.history_of(9).await;
    assert_eq!(history.iter().map(|it| it.times).sum::<u32>(), 1_000, "none is forgotten");
    assert_eq!(brief(&history[0]), ("net.fetch", Outcome::Failed, "blocked", 992));
    assert_eq!(history[0].detail, "and others");
}

/// The grant is not gone but less than it was: a fetch under the wider one must not go on.
#[tokio::test]
async fn b77_a_grant_that_is_narrowed_ends_a_fetch_that_needs_more() {
    let rig = Rig::new();
    let grant_hosts = async |hosts: &[&str]| {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        let grant = rig.steward.grants().entries().iter().find(|it| it.right == Right::Net).cloned().unwrap();
        rig.steward.grant(Grant { hosts, ..grant }).await.unwrap();
    };
    rig.grant(Right::Net, Audience::Anyone).await;
    grant_hosts(&["a.example", "b.example"]).await;
    let broker = rig.broker(peer(2));
    let here = broker.here.clone();
    let fetching = tokio::spawn(async move {
        let pass = here.pass(Right::Net).unwrap();
        here.under_consent("net.fetch", &pass, "https://b.example".into(), std::future::pending()).await
    });
    tokio::task::yield_now().await;
    // More than before is no reason to end.
    grant_hosts(&["*"]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!fetching.is_finished());
    grant_hosts(&["a.example"]).await;
    let error = tokio::time::timeout(SOON, fetching).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind, AskErrorKind::Denied);
    assert_eq!(brief(&rig.history()[0]), ("net.fetch", Outcome::Denied, "withdrawn", 1));
    // The same at the moment of the answer.
    let pass = broker.here.pass(Right::Net).unwrap();
    let answer = broker.here.under_consent("net.fetch", &pass, String::new(), async {
        grant_hosts(&["c.example"]).await;
        Ok(Answer::default())
    });
    assert_eq!(answer.await.unwrap_err().kind, AskErrorKind::Denied);
}

#[tokio::test]
async fn b77_a_position_that_may_be_known_less_exactly_is_less() {
    let rig = Rig::new();
    rig.grant(Right::Gps, Audience::Anyone).await;
    let exact = Service { asked: Permissions { gps: Some("precise".into()), ..service().asked }, ..service() };
    let ceiling = ResourcesConfig { gps: Some(Precision::Precise), ..ResourcesConfig::default() };
    let caller = rig.steward.caller(peer(2));
    let mut grants = GrantTable::clone(&rig.steward.grants());
    let grant = grants.entries().first().cloned().unwrap();
    let mut pass = |precision: Precision| {
        grants.put(Grant { precision: Some(precision), ..grant.clone() }).unwrap();
        Pass::Gps(Gate { ceiling: &ceiling, grants: &grants, now: unix_now() }.gps(&exact, &caller).unwrap())
    };
    let (coarse, exact) = (pass(Precision::Coarse), pass(Precision::Precise));
    assert!(exact.covers(&coarse) && coarse.covers(&coarse) && !coarse.covers(&exact));
}

/// Anybody can make offers, under as many names as he likes.
#[tokio::test]
async fn a_flood_of_refused_offers_is_two_lines_and_a_short_list() {
    let rig = Rig::new();
    for n in 0..1_000_u32 {
        let caller = rig.steward.caller(peer((n % 250) as u8 + 2));
        assert!(rig.steward.admit(&service(), &caller).await.is_err());
    }
    let history = rig.steward.history(0).await.unwrap();
    // The counted line is on its way when the history is read; then it is there.
    let history = if history.len() < 2 { rig.history_of(2).await } else { history };
    let times: Vec<_> = history.iter().map(|it| (brief(it), &*it.caller)).collect();
    let first = peer(2).to_string();
    assert_eq!(
        times,
        [(("offer", Outcome::Denied, "not-granted", 999), ""), (("offer", Outcome::Denied, "not-granted", 1), &*first),]
    );
    assert!(rig.steward.questions().len() < 10);
}
