//! Every way past the gate, and each of its checks closed in turn.

use msm_protocol::{PeerId, SecretKey};

use super::*;
use crate::resources::{
    grants::{Grant, LOCATION_LIFE},
    quota::Spent,
    words::Audience,
};

const NOW: u64 = 1_800_000_000;

fn peer(seed: u8) -> PeerId {
    PeerId::of(&SecretKey::from_seed(&[seed; 32]).public())
}

fn market() -> MarketId {
    MarketId::of_first_root(b"home")
}

fn service() -> Service {
    Service {
        market: market(),
        alias: "home".into(),
        name: "all-of-it".into(),
        version: "1.0.0".into(),
        asked: Permissions {
            gps: Some("precise".into()),
            net: vec!["*.example.org".into()],
            device: true,
            ..Permissions::default()
        },
    }
}

fn caller(kin: Kin) -> Caller {
    Caller { peer: peer(1), kin }
}

fn grant(right: Right, to: Audience) -> Grant {
    Grant {
        market: market(),
        service: "all-of-it".into(),
        right,
        to,
        precision: (right == Right::Gps).then_some(Precision::Precise),
        hosts: if right == Right::Net { vec!["*.example.org".into()] } else { vec![] },
        since: NOW - 60,
        until: Some(NOW + 60),
    }
}

fn table(grants: impl IntoIterator<Item = Grant>) -> GrantTable {
    let mut table = GrantTable::default();
    grants.into_iter().for_each(|grant| table.put(grant).unwrap());
    table
}

fn open() -> ResourcesConfig {
    ResourcesConfig { gps: Some(Precision::Precise), ..ResourcesConfig::default() }
}

/// The code of the refusal, or that there was none.
fn code(gate: Gate<'_>, service: &Service, caller: &Caller, right: Right) -> &'static str {
    let quota = Quota::unlimited();
    let permit = match right {
        Right::Gps => gate.gps(service, caller).map(drop),
        Right::Net => gate.net(service, caller, &quota).map(drop),
        Right::Device => gate.device(service, caller).map(drop),
    };
    // The check without a permit says the same.
    assert_eq!(gate.check(service, caller, right), permit);
    permit.map_or_else(|error| error.code(), |()| "ok")
}

#[test]
fn every_check_of_the_gate_is_needed() {
    for right in Right::ALL {
        let grants = table([grant(right, Audience::Known)]);
        let gate = Gate { ceiling: &open(), grants: &grants, now: NOW };
        let known = caller(Kin::Known);
        assert_eq!(code(gate, &service(), &known, right), "ok");
        assert_eq!(code(gate, &service(), &caller(Kin::Own), right), "ok");

        // Asked.
        let silent = Service { asked: Permissions::default(), ..service() };
        assert_eq!(code(gate, &silent, &known, right), "not-asked");
        // Granted: at all, to this service, of this market.
        let nothing = GrantTable::default();
        assert_eq!(code(Gate { grants: &nothing, ..gate }, &service(), &known, right), "not-granted");
        let others = table(Right::ALL.into_iter().filter(|it| *it != right).map(|it| grant(it, Audience::Anyone)));
        assert_eq!(code(Gate { grants: &others, ..gate }, &service(), &known, right), "not-granted");
        let other = Service { name: "other".into(), ..service() };
        assert_eq!(code(gate, &other, &known, right), "not-granted");
        let namesake = Service { market: MarketId::of_first_root(b"other"), ..service() };
        assert_eq!(code(gate, &namesake, &known, right), "not-granted");
        // Caller.
        assert_eq!(code(gate, &service(), &caller(Kin::Stranger), right), "not-granted");
        let only = table([grant(right, Audience::Peer(peer(2)))]);
        assert_eq!(code(Gate { grants: &only, ..gate }, &service(), &known, right), "not-granted");
        let second = Caller { peer: peer(2), kin: Kin::Stranger };
        assert_eq!(code(Gate { grants: &only, ..gate }, &service(), &second, right), "ok");
        // Expiry, to the second; and a clock that was set back.
        assert_eq!(code(Gate { now: NOW + 59, ..gate }, &service(), &known, right), "ok");
        assert_eq!(code(Gate { now: NOW + 60, ..gate }, &service(), &known, right), "expired");
        assert_eq!(code(Gate { now: NOW - 86_400, ..gate }, &service(), &known, right), "clock-suspect");
        // Ceiling.
        let closed = match right {
            Right::Gps => ResourcesConfig { gps: None, ..open() },
            Right::Net => ResourcesConfig { net: false, ..open() },
            Right::Device => ResourcesConfig { device: false, ..open() },
        };
        assert_eq!(code(Gate { ceiling: &closed, ..gate }, &service(), &known, right), "ceiling");
    }
}

#[test]
fn the_owner_needs_a_grant_too() {
    let grants = GrantTable::default();
    let gate = Gate { ceiling: &open(), grants: &grants, now: NOW };
    for right in Right::ALL {
        assert_eq!(code(gate, &service(), &caller(Kin::Own), right), "not-granted");
    }
}

#[test]
fn a_position_is_as_exact_as_the_least_of_the_three() {
    use Precision::{Coarse, Precise};
    for asked in [Coarse, Precise] {
        for granted in [Coarse, Precise] {
            for ceiling in [Coarse, Precise] {
                let mut service = service();
                service.asked.gps = Some(asked.as_str().into());
                let grants = table([Grant { precision: Some(granted), ..grant(Right::Gps, Audience::Known) }]);
                let ceiling_of = ResourcesConfig { gps: Some(ceiling), ..open() };
                let gate = Gate { ceiling: &ceiling_of, grants: &grants, now: NOW };
                let permit = gate.gps(&service, &caller(Kin::Known)).unwrap();
                assert_eq!(permit.precision(), asked.min(granted).min(ceiling));
            }
        }
    }
    // Several grants that cover a caller count together, but one that has ended does not.
    let coarse = Grant { precision: Some(Coarse), until: None, ..grant(Right::Gps, Audience::Anyone) };
    let grants = table([coarse, grant(Right::Gps, Audience::Known)]);
    let gate = Gate { ceiling: &open(), grants: &grants, now: NOW };
    assert_eq!(gate.gps(&service(), &caller(Kin::Known)).unwrap().precision(), Precise);
    assert_eq!(gate.gps(&service(), &caller(Kin::Stranger)).unwrap().precision(), Coarse);
    let later = Gate { now: NOW + LOCATION_LIFE, ..gate };
    assert_eq!(later.gps(&service(), &caller(Kin::Known)).unwrap().precision(), Coarse);
}

#[test]
fn hosts_are_those_of_manifest_grant_and_owner_and_others_pay_from_the_quota() {
    let grants = table([grant(Right::Net, Audience::Anyone)]);
    let ceiling = ResourcesConfig { net_hosts: vec!["https://*.example.org".into()], ..open() };
    let gate = Gate { ceiling: &ceiling, grants: &grants, now: NOW };
    // A newer version asks for more than was granted.
    let mut wider = service();
    wider.asked.net = vec!["*".into()];
    let quota = Quota::new(Some(10), Spent::default(), NOW);
    let permit = gate.net(&wider, &caller(Kin::Stranger), &quota).unwrap();
    assert_eq!(
        permit.host_lists(),
        [&["*".to_owned()][..], &["*.example.org".into()], &["https://*.example.org".into()]]
    );
    assert_eq!((permit.caller(), permit.service()), (caller(Kin::Stranger), "all-of-it@1.0.0"));
    permit.quota().take(10, NOW).unwrap();
    assert_eq!(quota.left(NOW), 0);
    let own = gate.net(&wider, &caller(Kin::Own), &quota).unwrap();
    assert_eq!(own.quota().take(1_000_000, NOW), Ok(()), "the owner's own network");
}

#[test]
fn strangers_learn_the_service_and_the_right_and_no_more() {
    let texts = |error: &PermissionError| [Kin::Stranger, Kin::Known, Kin::Own].map(|kin| error.text_for(kin));
    let subject = service().subject(Right::Gps);
    let closed = PermissionError::Ceiling { subject: subject.clone(), setting: gps_setting(None) };
    let expired = PermissionError::Expired { subject: subject.clone(), ago: 7 };
    let never = PermissionError::NotGranted(subject.clone());
    for error in [&closed, &expired, &never, &PermissionError::Withdrawn(subject.clone())] {
        assert_eq!(error.text_for(Kin::Stranger), "all-of-it may not use gps here");
        assert!(!error.text_for(Kin::Known).contains("try:"), "the command is of no use to somebody else");
    }
    let [_, known, own] = texts(&never);
    assert_eq!(known, "all-of-it may not use gps: its owner has not granted it");
    assert!(own.ends_with("; try: msm grant home/all-of-it gps --to own"), "{own}");
    assert!(closed.text_for(Kin::Known).contains("gps = \"off\" below [resources]"));
    let author = PermissionError::NotAsked(subject);
    assert_eq!(
        author.text_for(Kin::Stranger),
        "all-of-it does not ask for gps: add  gps = \"coarse\"  under [permissions]"
    );
    assert_eq!(author.refusal_for(Kin::Known).code, msm_protocol::RefusalCode::Denied);
}
