//! Makes the attacks. Root key 1, index key 2, head key 3, unless a case says otherwise; 7 is a stranger's.

use std::collections::BTreeMap;

use msm_market_index::TrustedMarket;
use msm_protocol::{
    document::{Delegation, Head, Index, Roles, Root},
    limits::VERSION_STEP,
};

use super::{Case, Step};
use crate::fixture::{DAY, Forge, NOW, key, market_of, role, sign};

/// One attack in the making.
pub struct Made {
    pub name: &'static str,
    case: Case,
    bytes: Vec<(String, Vec<u8>)>,
}

impl Made {
    fn new(name: &'static str, forge: &Forge, about: &str, mirrors: &[&str]) -> Self {
        let mirrors = mirrors.iter().map(ToString::to_string).collect();
        let market = forge.market.to_string();
        Self { name, case: Case { about: about.into(), mirrors, market, now: NOW, step: vec![] }, bytes: vec![] }
    }

    fn at(mut self, now: u64, kind: &str, bytes: &[u8], expect: &str) -> Self {
        self = self.offer(kind, bytes, expect);
        self.case.step.last_mut().unwrap().now = Some(now);
        self
    }

    fn offer(mut self, kind: &str, bytes: &[u8], expect: &str) -> Self {
        let file = format!("{:02}-{kind}.cbor", self.bytes.len() + 1);
        let expect =
            if expect == "accepted" || expect == "known" { expect.into() } else { format!("refused: {expect}") };
        self.case.step.push(Step { kind: kind.into(), file: file.clone(), now: None, expect });
        self.bytes.push((file, bytes.to_vec()));
        self
    }

    fn root(self, bytes: &[u8], expect: &str) -> Self {
        self.offer("root", bytes, expect)
    }

    fn head(self, bytes: &[u8], expect: &str) -> Self {
        self.offer("head", bytes, expect)
    }

    fn index(self, bytes: &[u8], expect: &str) -> Self {
        self.offer("index", bytes, expect)
    }

    fn restart(mut self) -> Self {
        self.case.step.push(Step { kind: "restart".into(), file: String::new(), now: None, expect: String::new() });
        self
    }

    /// Root 1, and index 8 with its head.
    fn with_eight(self, forge: &Forge) -> Self {
        let (index, head) = forge.pair(8, None);
        self.root(&forge.root_bytes(), "accepted").head(&head, "accepted").index(&index, "accepted")
    }

    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files: BTreeMap<_, _> = self.bytes.iter().cloned().collect();
        files.insert("case.toml".into(), toml::to_string(&self.case).unwrap().into_bytes());
        files
    }
}

fn unsigned<T: msm_protocol::Signed>(document: &T) -> Vec<u8> {
    sign(document, &[])
}

/// Index 9 after index 8, changed, and its head.
fn nine(forge: &Forge, change: impl FnOnce(&mut Index)) -> (Vec<u8>, Vec<u8>) {
    let mut index = forge.index(9, Some(&forge.pair(8, None).0));
    change(&mut index);
    let index = sign(&index, &[2]);
    let head = sign(&forge.head(9, &index), &[3]);
    (index, head)
}

fn head_nine(forge: &Forge, change: impl FnOnce(&mut Head)) -> Vec<u8> {
    let mut head = forge.head(9, &nine(forge, |_| {}).0);
    change(&mut head);
    sign(&head, &[3])
}

pub fn all() -> Vec<Made> {
    let forge = Forge::new();
    let (eight, eight_head) = forge.pair(8, None);
    let (good, good_head) = nine(&forge, |_| {});
    let new = |name, about, mirrors: &[&str]| Made::new(name, &forge, about, mirrors);
    let mut all = vec![
        new(
            "root_of_another_market",
            "a root that is not the pinned one, also signed by the pinned one's keys",
            &["test_basic::test_invalid_initial_root"],
        )
        .root(&sign(&renamed(&forge), &[1]), "market-mismatch"),
        new(
            "root_without_its_own_signature",
            "the pinned bytes without a signature of their own keys",
            &["test_basic::test_unsigned_initial_root"],
        )
        .root(&unsigned(&forge.root), "untrusted-market")
        .root(&sign(&forge.root, &[7]), "untrusted-market"),
        new("root_unsigned", "a next root that nobody has signed", &["test_basic::test_unsigned_metadata"])
            .with_eight(&forge)
            .root(&unsigned(&forge.next_root(|_| {})), "untrusted-market"),
        new("head_unsigned", "a head that nobody has signed", &["test_basic::test_unsigned_metadata"])
            .with_eight(&forge)
            .head(&unsigned(&forge.head(9, &good)), "untrusted-market"),
        new(
            "index_unsigned",
            "an index that nobody has signed, announced by a good head",
            &["test_basic::test_unsigned_metadata"],
        )
        .with_eight(&forge)
        .head(&sign(&forge.head(9, &unsigned(&forge.index(9, Some(&eight)))), &[3]), "accepted")
        .index(&unsigned(&forge.index(9, Some(&eight))), "untrusted-market"),
        new(
            "stranger_signs",
            "documents by a key that the market does not know",
            &["test_updater_key_rotations::test_non_root_rotations"],
        )
        .with_eight(&forge)
        .head(&sign(&forge.head(9, &good), &[7]), "untrusted-market")
        .index(&sign(&forge.index(9, Some(&eight)), &[7]), "untrusted-market")
        .root(&sign(&forge.next_root(|_| {}), &[7]), "untrusted-market"),
        new(
            "roles_are_not_exchanged",
            "real keys of the market in a role that is not theirs",
            &["test_keys::test_snapshot_does_not_meet_threshold"],
        )
        .with_eight(&forge)
        .head(&sign(&forge.head(9, &good), &[1, 2]), "untrusted-market")
        .index(&sign(&forge.index(9, Some(&eight)), &[1, 3]), "untrusted-market")
        .root(&sign(&forge.next_root(|_| {}), &[2, 3]), "untrusted-market"),
        new(
            "root_that_skips_its_number",
            "root 3 in the place of root 2: its own number must be the next one",
            &[
                "test_basic::test_url_and_metadata_version_mismatch",
                "CVE-2025-2885 (tough: version of a root not looked at)",
            ],
        )
        .with_eight(&forge)
        .root(&sign(&forge.next_root(|root| root.version = 3), &[1]), "root-version"),
        new("root_gap", "a chain of roots with a gap", &["test_updater_key_rotations::test_root_rotation"])
            .with_eight(&forge)
            .root(&sign(&forge.next_root(|root| root.version = 3), &[1]), "root-version")
            .root(&sign(&forge.next_root(|_| {}), &[1]), "accepted")
            .root(&sign(&forge.next_root(|root| root.version = 4), &[1]), "root-version"),
        new(
            "two_heads_of_one_index",
            "the same index number with other bytes",
            &["test_basic::test_timestamp_content_changes"],
        )
        .with_eight(&forge)
        .head(&sign(&forge.head(8, b"another index"), &[3]), "equivocation")
        .head(&good_head, "accepted")
        .head(&sign(&forge.head(9, b"another index"), &[3]), "equivocation"),
        new(
            "index_hash_is_another",
            "an index with other bytes than its head says",
            &["test_basic::test_snapshot_hash_mismatch", "test_basic::test_targets_hash_mismatch"],
        )
        .with_eight(&forge)
        .head(&good_head, "accepted")
        .index(&nine(&forge, |index| index.issued += 1).0, "equivocation"),
        new(
            "index_size_is_another",
            "an index of another size than its head says",
            &["test_basic::test_basic_metadata_hash_support"],
        )
        .with_eight(&forge)
        .head(&head_nine(&forge, |head| head.size += 1), "accepted")
        .index(&good, "equivocation"),
        new(
            "index_unannounced",
            "an index that no head points to",
            &["test_updater_delegation_graphs::test_delegation_not_in_snapshot"],
        )
        .with_eight(&forge)
        .index(&good, "unannounced"),
        new(
            "head_of_another_type",
            "an index and a root in the place of a head",
            &["test_basic::test_incorrect_metadata_type"],
        )
        .with_eight(&forge)
        .head(&good, "wrong-type")
        .head(&forge.root_bytes(), "wrong-type"),
        new("index_of_another_type", "a head in the place of an index", &["test_basic::test_incorrect_metadata_type"])
            .with_eight(&forge)
            .index(&good_head, "wrong-type"),
        new("root_of_another_type", "a head in the place of a root", &["test_basic::test_incorrect_metadata_type"])
            .with_eight(&forge)
            .root(&good_head, "wrong-type"),
        new(
            "expired_root",
            "nothing under a root whose time is over, however fresh it looks",
            &["test_expiration::test_root_expired"],
        )
        .with_eight(&forge)
        .at(
            NOW + 400 * DAY,
            "head",
            &head_nine(&forge, |head| (head.issued, head.expires) = (NOW + 399 * DAY, NOW + 430 * DAY)),
            "expired: this root",
        ),
        new("expired_head", "a head whose time is over", &["test_expiration::test_timestamp_expired"])
            .with_eight(&forge)
            .at(NOW + 30 * DAY, "head", &good_head, "expired: this head"),
        new(
            "expired_index",
            "an index whose time is over behind a head that is fresh",
            &["test_expiration::test_snapshot_expired", "test_expiration::test_targets_expired"],
        )
        .with_eight(&forge)
        .at(
            NOW + 30 * DAY,
            "head",
            &head_nine(&forge, |head| (head.issued, head.expires) = (NOW + 30 * DAY, NOW + 60 * DAY)),
            "accepted",
        )
        .at(NOW + 30 * DAY, "index", &good, "expired: this index"),
        {
            let root = forge.next_root(|root| root.expires = NOW + 700 * DAY);
            let late = NOW + 400 * DAY;
            let mut index = forge.index(9, Some(&eight));
            (index.issued, index.expires) = (late, late + 30 * DAY);
            let index = sign(&index, &[2]);
            let mut head = forge.head(9, &index);
            (head.issued, head.expires) = (late, late + 30 * DAY);
            new(
                "expired_root_here_is_no_obstacle",
                "a device whose root has expired follows the next one",
                &["test_expiration::test_expired_local_root"],
            )
            .with_eight(&forge)
            .at(late, "root", &sign(&root, &[1]), "accepted")
            .at(late, "head", &sign(&head, &[3]), "accepted")
            .at(late, "index", &index, "accepted")
        },
        {
            let late = NOW + 60 * DAY;
            let mut index = forge.index(9, Some(&eight));
            (index.issued, index.expires) = (late, late + 30 * DAY);
            let index = sign(&index, &[2]);
            let mut head = forge.head(9, &index);
            (head.issued, head.expires) = (late, late + 30 * DAY);
            new(
                "expired_head_here_is_no_obstacle",
                "a device that was away for 60 days follows a newer index",
                &["test_expiration::test_expired_local_timestamp"],
            )
            .with_eight(&forge)
            .at(late, "head", &sign(&head, &[3]), "accepted")
            .at(late, "index", &index, "accepted")
        },
        new(
            "clock_ahead_makes_everything_expired",
            "a clock ten years ahead: nothing new, and what is here is known",
            &["test_basic::test_faketime"],
        )
        .with_eight(&forge)
        .at(NOW + 3_650 * DAY, "head", &good_head, "expired")
        .at(NOW + 3_650 * DAY, "head", &eight_head, "known"),
        new(
            "clock_behind_takes_nothing_new",
            "a clock ten years behind, and a market that the device has not met",
            &["test_basic::test_faketime"],
        )
        .at(NOW - 3_650 * DAY, "root", &forge.root_bytes(), "accepted")
        .at(NOW - 3_650 * DAY, "head", &eight_head, "clock-suspect")
        .head(&eight_head, "accepted"),
        new(
            "freeze_by_an_old_clock",
            "a clock that was set back does not make old documents good",
            &["test_expiration::test_timestamp_expired"],
        )
        .with_eight(&forge)
        .at(
            NOW - 39 * DAY,
            "head",
            &head_nine(&forge, |head| (head.issued, head.expires) = (NOW - 40 * DAY, NOW - 10 * DAY)),
            "expired",
        ),
        new(
            "duplicate_signatures",
            "one key that signs twice is one signature",
            &[
                "test_keys::test_duplicate_sig_keyids",
                "CVE-2020-6174 (python-tuf: one signature counted several times)",
            ],
        )
        .twice(),
        new(
            "one_bad_signature_beside_a_good_one",
            "a signature that fails does not spoil the others",
            &["test_keys::test_invalid_sig_in_valid_metadata"],
        )
        .with_eight(&forge)
        .head(&sign(&forge.head(9, &good), &[7, 3]), "accepted")
        .index(&good, "accepted"),
        new(
            "rollback_of_a_head",
            "a head older than what was believed",
            &["test_rollback::test_new_timestamp_version_rollback", "CVE-2022-29173 (go-tuf: versions not compared)"],
        )
        .with_eight(&forge)
        .head(&forge.pair(7, None).1, "rollback 7<8"),
        new(
            "rollback_of_an_index",
            "an index older than what was believed",
            &[
                "test_rollback::test_snapshot_rollback",
                "test_rollback::test_targets_rollback",
                "CVE-2025-2887 (tough: rollback of a delegated role)",
            ],
        )
        .with_eight(&forge)
        .index(&forge.pair(7, None).0, "rollback 7<8"),
        new(
            "floors_outlive_the_store",
            "a rollback after everything but the floor was lost",
            &["CVE-2022-29173 (go-tuf: compared with nothing)"],
        )
        .with_eight(&forge)
        .restart()
        .head(&forge.pair(7, None).1, "root-version")
        .root(&forge.root_bytes(), "accepted")
        .head(&forge.pair(7, None).1, "rollback 7<8")
        .index(&forge.pair(7, None).0, "rollback 7<8")
        .head(&eight_head, "accepted")
        .index(&eight, "accepted"),
        new(
            "fast_forward",
            "a number that leaves no room for later ones",
            &["test_rollback::test_new_timestamp_fast_forward_recovery"],
        )
        .with_eight(&forge)
        .head(&forge.pair(u64::MAX, None).1, "fast-forward")
        .head(&forge.pair(9 + VERSION_STEP, None).1, "fast-forward")
        .head(&good_head, "accepted")
        .index(&good, "accepted"),
        {
            let (stolen, stolen_head) = forge.pair(8 + VERSION_STEP, Some(&eight));
            let root = forge.next_root(|root| {
                root.roles.index = role(&[22], 1);
                root.roles.head = role(&[23], 1);
            });
            let mut late = forge.index(12, None);
            late.issued += 1;
            let legit = sign(&late, &[22]);
            new(
                "fast_forward_ends_with_new_keys",
                "as far as a thief of keys can jump, a root with new keys brings the market back",
                &[
                    "test_rollback::test_new_timestamp_fast_forward_recovery",
                    "test_rollback::test_new_snapshot_fast_forward_recovery",
                    "test_rollback::test_targets_fast_forward_recovery",
                ],
            )
            .with_eight(&forge)
            .head(&stolen_head, "accepted")
            .index(&stolen, "accepted")
            .head(&forge.pair(12, None).1, "rollback 12<")
            .root(&sign(&root, &[1]), "accepted")
            .head(&stolen_head, "untrusted-market")
            .head(&sign(&forge.head(12, &legit), &[23]), "accepted")
            .index(&legit, "accepted")
        },
        {
            let root = forge.next_root(|root| root.roles.root = role(&[21], 1));
            new(
                "root_by_new_keys_only",
                "a root that only its own keys have signed",
                &["test_updater_key_rotations::test_root_rotation"],
            )
            .with_eight(&forge)
            .root(&sign(&root, &[21]), "untrusted-market")
        },
        {
            let root = forge.next_root(|root| root.roles.root = role(&[21], 1));
            new(
                "root_by_old_keys_only",
                "a root that its own keys have not signed",
                &["test_updater_key_rotations::test_root_rotation"],
            )
            .with_eight(&forge)
            .root(&sign(&root, &[1]), "untrusted-market")
        },
        {
            let two = forge.next_root(|root| root.roles.root = role(&[21], 1));
            let three =
                Root { version: 3, roles: Roles { root: role(&[31, 32], 2), ..two.roles.clone() }, ..two.clone() };
            new(
                "a_chain_of_three_roots",
                "keys change twice; each step by the old keys and the new ones",
                &["test_updater_key_rotations::test_root_rotation"],
            )
            .with_eight(&forge)
            .root(&sign(&three, &[21, 31, 32]), "untrusted-market")
            .root(&sign(&two, &[1, 21]), "accepted")
            .root(&sign(&three, &[21, 31]), "threshold 1/2")
            .root(&sign(&three, &[21, 31, 32]), "accepted")
            .head(&good_head, "accepted")
        },
        {
            let root = forge.next_root(|root| root.name = "Another Name".into());
            new(
                "two_roots_of_one_number",
                "two roots of one number, both signed",
                &["test_basic::test_timestamp_content_changes"],
            )
            .with_eight(&forge)
            .root(&sign(&forge.next_root(|_| {}), &[1]), "accepted")
            .root(&sign(&root, &[1]), "equivocation")
        },
        {
            let root = forge.next_root(|root| root.roles.head = role(&[33], 1));
            new(
                "old_keys_after_a_rotation",
                "a head by the key that the newest root took away",
                &[
                    "test_updater_key_rotations::test_non_root_rotations",
                    "test_updater_delegation_graphs::test_cached_role_is_verified_against_current_delegator",
                ],
            )
            .with_eight(&forge)
            .root(&sign(&root, &[1]), "accepted")
            .head(&good_head, "untrusted-market")
            .head(&eight_head, "untrusted-market")
            .head(&sign(&forge.head(9, &good), &[33]), "accepted")
        },
        {
            let root = forge.next_root(|root| root.roles.head = role(&[33], 1));
            new(
                "old_chain_after_a_restart",
                "after a restart the device is shown only the roots before the newest",
                &["test_updater_key_rotations::test_root_rotation"],
            )
            .with_eight(&forge)
            .root(&sign(&root, &[1]), "accepted")
            .restart()
            .root(&forge.root_bytes(), "accepted")
            .head(&good_head, "root-version")
            .root(&sign(&root, &[1]), "accepted")
            .head(&good_head, "untrusted-market")
        },
        {
            let bad = forge.next_root(|root| {
                root.roles.root = role(&[7], 1);
                root.roles.head = role(&[7], 1);
            });
            new(
                "state_is_kept_only_when_all_is_checked",
                "what came with a refused document is not believed afterwards",
                &[
                    "CVE-2020-15163 (python-tuf: a root that failed was trusted at the next start)",
                    "CVE-2025-2888 (tough: a timestamp kept though its snapshot was refused)",
                ],
            )
            .with_eight(&forge)
            .root(&sign(&bad, &[7]), "untrusted-market")
            .head(&sign(&forge.head(9, &good), &[7]), "untrusted-market")
            .restart()
            .root(&forge.root_bytes(), "accepted")
            .root(&sign(&bad, &[7]), "untrusted-market")
            .head(&sign(&forge.head(9, &good), &[7]), "untrusted-market")
        },
        new(
            "broken_chain_of_indexes",
            "an index that follows another one than the device has",
            &["test_rollback::test_snapshot_rollback"],
        )
        .with_eight(&forge)
        .head(&sign(&forge.head(9, &sign(&forge.index(9, Some(b"another eight")), &[2])), &[3]), "accepted")
        .index(&sign(&forge.index(9, Some(b"another eight")), &[2]), "equivocation"),
        new("head_too_long", "a head of 1,025 bytes", &["CVE-2020-6173 (python-tuf: resources without end)"])
            .with_eight(&forge)
            .head(&[0x40; 1_025], "bad-message"),
        new(
            "bomb_of_arrays",
            "arrays in arrays, and an array that says it has a billion items",
            &["CVE-2020-6173 (python-tuf: resources without end)"],
        )
        .with_eight(&forge)
        .head(&[0x81; 1_000], "bad-message")
        .index(&[0x9b, 0, 0, 0, 0, 0x3b, 0x9a, 0xca, 0], "bad-message"),
        new(
            "name_that_drives_a_terminal",
            "a root whose name is a control sequence",
            &["test_quoting_issues::test_unusual_role_name", "CVE-2021-41131 (python-tuf: names that are paths)"],
        )
        .with_eight(&forge)
        .root(&sign(&forge.next_root(|root| root.name = "\u{1b}[2J".into()), &[1]), "bad-message"),
        {
            let (index, head) = nine(&forge, |index| index.releases = 3);
            new(
                "releases_without_a_tree",
                "an index that counts releases and names no tree",
                &["test_rollback::test_targets_role_removal"],
            )
            .with_eight(&forge)
            .head(&head, "accepted")
            .index(&index, "bad-message")
        },
        {
            let one = |prefix: &str| Delegation { keys: vec![key(6).public()], prefix: prefix.into() };
            let (index, head) = nine(&forge, |index| index.delegations = vec![one("b"), one("a")]);
            new(
                "delegations_out_of_order",
                "delegations in an order in which two readers could find different ones",
                &[
                    "test_updater_delegation_graphs::test_graph_traversal",
                    "CVE-2024-47534 (go-tuf: the wrong delegation is found)",
                ],
            )
            .with_eight(&forge)
            .head(&head, "accepted")
            .index(&index, "bad-message")
        },
        {
            let (index, head) = nine(&forge, |index| index.policy.reviews = 1);
            new(
                "more_reviews_than_reviewers",
                "an index that asks for what nobody can give",
                &["test_keys::test_snapshot_has_too_few_keys"],
            )
            .with_eight(&forge)
            .head(&head, "accepted")
            .index(&index, "bad-message")
        },
        new(
            "head_of_a_root_to_come",
            "a head that was signed after a root that the device does not have",
            &["test_updater_key_rotations::test_root_rotation"],
        )
        .with_eight(&forge)
        .head(&head_nine(&forge, |head| head.root = 2), "root-version")
        .root(&sign(&forge.next_root(|_| {}), &[1]), "accepted")
        .head(&head_nine(&forge, |head| head.root = 2), "accepted"),
    ];
    let other = Forge { market: market_of(&renamed(&forge)), root: renamed(&forge) };
    let (their_index, their_head) = other.pair(9, Some(&eight));
    all.push(
        new("head_of_another_market", "a head of another market of the same operator, by the same keys", &[])
            .with_eight(&forge)
            .head(&their_head, "market-mismatch"),
    );
    all.push(
        new("index_of_another_market", "an index of another market, announced by this one's head", &[])
            .with_eight(&forge)
            .head(&sign(&forge.head(9, &their_index), &[3]), "accepted")
            .index(&their_index, "market-mismatch"),
    );
    all.extend(thresholds());
    all.push(
        new(
            "too_many_signatures",
            "seventeen signatures, more than anybody needs",
            &["CVE-2020-6173 (python-tuf: resources without end)"],
        )
        .with_eight(&forge)
        .root(&sign(&forge.next_root(|_| {}), &(40..57).collect::<Vec<u8>>()), "bad-message"),
    );
    // A device that was only pinned never believes less than it should: each case begins there.
    assert!(all.iter().all(|made| TrustedMarket::pin(forge.market).root().is_none() && !made.case.step.is_empty()));
    all
}

/// The same operator, the same keys, another name: another market.
fn renamed(forge: &Forge) -> Root {
    Root { name: "Second Market".into(), ..forge.root.clone() }
}

impl Made {
    /// A market in which head and index take two keys each, and one that signs twice.
    fn twice(self) -> Self {
        let forge = two_keys();
        let index = sign(&forge.index(1, None), &[2, 12]);
        Self::new(
            self.name,
            &forge,
            &self.case.about,
            &self.case.mirrors.iter().map(String::as_str).collect::<Vec<_>>(),
        )
        .root(&forge.root_bytes(), "accepted")
        .head(&sign(&forge.head(1, &index), &[3, 3]), "threshold 1/2")
        .head(&sign(&forge.head(1, &index), &[3, 13]), "accepted")
        .index(&sign(&forge.index(1, None), &[2, 2]), "threshold 1/2")
        .index(&index, "accepted")
    }
}

fn two_keys() -> Forge {
    Forge::with(Roles { head: role(&[3, 13], 2), root: role(&[1], 1), index: role(&[2, 12], 2) })
}

fn thresholds() -> Vec<Made> {
    let forge = two_keys();
    let index = sign(&forge.index(1, None), &[2]);
    let below = Made::new(
        "index_below_its_threshold",
        &forge,
        "one signature where two are asked for",
        &["test_keys::test_snapshot_does_not_meet_threshold"],
    )
    .root(&forge.root_bytes(), "accepted")
    .head(&sign(&forge.head(1, &index), &[3, 13]), "accepted")
    .index(&index, "threshold 1/2");
    let few = Forge::with(Roles { index: role(&[2], 2), ..Forge::new().root.roles });
    let few = Made::new(
        "threshold_that_no_keys_reach",
        &few,
        "a role that asks for more signatures than it has keys",
        &["test_keys::test_snapshot_has_too_few_keys"],
    )
    .root(&few.root_bytes(), "bad-message");
    let double = Forge::with(Roles { index: role(&[2, 2], 2), ..Forge::new().root.roles });
    let double = Made::new(
        "duplicate_keys_in_a_role",
        &double,
        "a role that lists one key twice",
        &["test_keys::test_duplicate_keys"],
    )
    .root(&double.root_bytes(), "bad-message");
    vec![below, few, double]
}
