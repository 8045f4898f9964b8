//! `msm market yank|revoke|delegate|policy|rotate-key|sign|…`: what an operator changes in a market of this home.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use msm_market_index::{Change, MarketFolder, Outcome, Signers, market::MarketState};
use msm_protocol::{
    PublicKey,
    document::{Delegation, Policy, Role, Status},
};
use serde::Serialize;

use super::{
    call::Consent,
    hints,
    market_folder::{OwnKeys, from_market, now, open_own, own_market, tell_node},
    render::{
        table::{
            Align::{Left, Right},
            columns,
        },
        text::{clean, count, seconds},
    },
    screen::{Screen, Stop},
};
use crate::{
    command::{CommandError, ErrorCode},
    home::{Home, MarketEntry},
    keys::Keys,
};

/// A market of this home.
#[derive(Debug, Args)]
pub struct Which {
    /// The market's folder or alias; may be left out while the home has one
    #[arg(long, value_name = "FOLDER|ALIAS")]
    market: Option<String>,
}

/// A release and its market.
#[derive(Debug, Args)]
pub struct OneRelease {
    /// The release
    #[arg(value_name = "SERVICE@VERSION", value_parser = release)]
    release: (String, String),
    #[command(flatten)]
    which: Which,
}

/// What is revoked, and why.
#[derive(Debug, Args)]
pub struct Revoke {
    /// The release
    #[arg(value_name = "SERVICE@VERSION", value_parser = release, required_unless_present = "publisher")]
    release: Option<(String, String)>,
    /// Instead: everything that this key has brought in, and anything it may bring
    #[arg(long, value_name = "KEY", conflicts_with = "release")]
    publisher: Option<String>,
    /// Why, for those whose devices stop: one line
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    which: Which,
}

/// Who may publish names with a prefix.
#[derive(Debug, Args)]
pub struct Delegate {
    /// What the names begin with, or a whole name
    prefix: String,
    /// A key that may publish them: a name of `msm key list`, or 64 hex digits; repeated for several. None gives the
    /// names back to everybody
    #[arg(long = "to", value_name = "KEY")]
    keys: Vec<String>,
    #[command(flatten)]
    which: Which,
}

/// How many reviews a release needs.
#[derive(Debug, Args)]
pub struct Rules {
    /// Reviews that a release needs before devices show and install it
    #[arg(long, value_name = "N")]
    reviews: u16,
    /// A key whose reviews count: a name of `msm key list`, or 64 hex digits; repeated for several
    #[arg(long = "reviewer", value_name = "KEY")]
    reviewers: Vec<String>,
    #[command(flatten)]
    which: Which,
}

/// A signed report.
#[derive(Debug, Args)]
pub struct PutReview {
    /// What `msm market review -o` wrote
    report: PathBuf,
    /// Whose it is: a name of `msm key list`, or 64 hex digits
    #[arg(long, value_name = "KEY")]
    by: String,
    #[command(flatten)]
    which: Which,
}

/// A role of a market's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleName {
    /// Signs the next root: who may sign what
    Root,
    /// Signs indexes: what the market lists
    Index,
    /// Signs heads: which index is the newest
    Head,
}

/// New keys for one role.
#[derive(Debug, Args)]
pub struct Rotate {
    /// Which keys change
    #[arg(long, value_enum)]
    role: RoleName,
    /// The keys from now on: names of `msm key list`, or 64 hex digits each. None makes one new key in this home
    #[arg(long = "to", value_name = "KEY")]
    keys: Vec<String>,
    /// How many of them must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    threshold: u16,
    #[command(flatten)]
    which: Which,
}

/// Signing what waits.
#[derive(Debug, Args)]
pub struct Sign {
    /// A copy of the market's folder in which others have signed; repeated for several
    #[arg(long = "with", value_name = "FOLDER")]
    copies: Vec<PathBuf>,
    /// Sign in this copy of a market's folder, for a market that is not this home's
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["copies", "market"])]
    folder: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
}

/// What is done to a market of this home.
#[derive(Debug)]
pub enum Edit {
    /// No new picks of a release.
    Yank(OneRelease),
    /// Picks of it again.
    Unyank(OneRelease),
    /// A release, or a publisher, never runs again.
    Revoke(Revoke),
    /// Names are given to some keys.
    Delegate(Delegate),
    /// Reviews are asked for.
    Rules(Rules),
    /// A review is added.
    PutReview(PutReview),
    /// Keys change.
    Rotate(Rotate),
    /// What waits is signed.
    Sign(Sign),
    /// What waits is given up.
    Discard(Which),
    /// How the market stands.
    Status(Which),
}

/// `msm.market-change/1`.
#[derive(Debug, Serialize)]
struct ChangeRow<'a> {
    schema: &'static str,
    market: msm_protocol::MarketId,
    alias: &'a str,
    index: u64,
    changed: bool,
    /// Empty when it is published.
    wanting: Vec<WantingRow>,
}

#[derive(Debug, Serialize)]
struct WantingRow {
    document: &'static str,
    signed: usize,
    threshold: usize,
    missing: Vec<String>,
}

/// `msm.market-status/1`.
#[derive(Debug, Serialize)]
struct StatusRow {
    schema: &'static str,
    market: msm_protocol::MarketId,
    alias: String,
    root: u64,
    index: u64,
    releases: usize,
    revocations: usize,
    /// Number of an index that waits for signatures.
    waiting: Option<u64>,
    roles: Vec<RoleRow>,
}

#[derive(Debug, Serialize)]
struct RoleRow {
    role: &'static str,
    threshold: u16,
    keys: Vec<String>,
    /// Names of those that are in this home.
    here: Vec<String>,
    /// Unix seconds.
    expires: u64,
}

fn release(text: &str) -> Result<(String, String), String> {
    let (name, version) =
        text.split_once('@').ok_or("expected SERVICE@VERSION, such as image-blur@1.2.0: a whole version".to_owned())?;
    semver::Version::parse(version).map_err(|error| format!("{version:?} is not a whole version: {error}"))?;
    Ok((name.to_owned(), version.to_owned()))
}

impl Revoke {
    /// A revocation is for ever.
    fn consent(&self, entry: &MarketEntry) -> Consent {
        let what = match (&self.release, &self.publisher) {
            (Some((name, version)), _) => format!("{name}@{version}"),
            (None, publisher) => format!("everything of publisher {}", publisher.as_deref().unwrap_or_default()),
        };
        let question = format!(
            "Revoke {what} in {}? It never runs again on any device that follows this market, and this cannot be undone.",
            entry.alias
        );
        let hint = match (&self.release, &self.publisher) {
            (Some((name, version)), _) => hints::market_revoke(&format!("{name}@{version}"), &self.reason),
            (None, publisher) => hints::market_revoke_publisher(publisher.as_deref().unwrap_or_default(), &self.reason),
        };
        Consent { question, hint }
    }
}

impl Edit {
    fn which(&self) -> Option<&str> {
        let which = match self {
            Self::Yank(it) | Self::Unyank(it) => &it.which,
            Self::Revoke(it) => &it.which,
            Self::Delegate(it) => &it.which,
            Self::Rules(it) => &it.which,
            Self::PutReview(it) => &it.which,
            Self::Rotate(it) => &it.which,
            Self::Sign(it) => &it.which,
            Self::Discard(it) | Self::Status(it) => it,
        };
        which.market.as_deref()
    }

    pub(super) async fn run(self, home: &Home, yes: bool, screen: &mut Screen) -> Result<(), Stop> {
        if let Self::Sign(Sign { folder: Some(folder), .. }) = &self {
            return sign_copy(home, folder, screen);
        }
        let entry = own_market(home, self.which())?;
        let market = open_own(&entry)?;
        if let Self::Status(_) = self {
            return status(home, &entry, &market, screen);
        }
        if let Self::Discard(_) = self {
            market.discard().map_err(from_market)?;
            return screen.result_line(format!("nothing of {} waits for signatures any more", entry.alias));
        }
        if let Self::Revoke(revoke) = &self
            && !yes
        {
            revoke.consent(&entry).ask(screen)?;
        }
        let outcome = self.make(home, &entry, &market)?;
        show(&entry, &outcome, screen)?;
        if outcome.changed && outcome.wanting.is_empty() {
            tell_node(home, screen).await;
        }
        Ok(())
    }

    fn make(&self, home: &Home, entry: &MarketEntry, market: &MarketFolder) -> Result<Outcome, CommandError> {
        let keys = OwnKeys::find(home, market)?;
        let change = |change: Change<'_>| market.change(vec![change], &keys.signers(), now()).map_err(from_market);
        match self {
            Self::Yank(it) => change(status_of(&it.release, Status::Yanked, "")),
            Self::Unyank(it) => change(status_of(&it.release, Status::Active, "")),
            Self::Revoke(Revoke { release: Some(release), reason, .. }) => {
                change(status_of(release, Status::Revoked, reason))
            }
            Self::Revoke(Revoke { publisher, reason, .. }) => {
                let publisher = key(home, publisher.as_deref().unwrap_or_default())?;
                change(Change::RevokePublisher { publisher, reason })
            }
            Self::Delegate(it) => {
                change(Change::Delegate(Delegation { keys: all_keys(home, &it.keys)?, prefix: it.prefix.clone() }))
            }
            Self::Rules(it) => {
                change(Change::Policy(Policy { reviews: it.reviews, reviewers: all_keys(home, &it.reviewers)? }))
            }
            Self::PutReview(it) => {
                let report = std::fs::read(&it.report).map_err(|error| {
                    CommandError::new(ErrorCode::NotFound, format!("{}: {error}", it.report.display()))
                })?;
                change(Change::Review { report: &report, reviewer: key(home, &it.by)? })
            }
            Self::Rotate(it) => rotate(home, entry, market, it),
            Self::Sign(it) => {
                let all = OwnKeys::all(home)?;
                market.sign(&it.copies, &all.signers(), now()).map_err(from_market)
            }
            Self::Discard(_) | Self::Status(_) => Ok(Outcome::default()),
        }
    }
}

/// Adds the signatures of this home's keys to what waits in a copy of somebody else's market.
fn sign_copy(home: &Home, folder: &Path, screen: &mut Screen) -> Result<(), Stop> {
    let market = MarketFolder::open(folder).map_err(from_market)?;
    let all = OwnKeys::all(home)?;
    let outcome = market.cosign(&all.signers(), now()).map_err(from_market)?;
    let (alias, publish_folder) = (folder.display().to_string(), Some(folder.to_owned()));
    show(&MarketEntry { alias, market: market.share(), source: None, publish_folder, added: 0 }, &outcome, screen)
}

fn status_of<'a>((name, version): &'a (String, String), status: Status, reason: &'a str) -> Change<'a> {
    Change::Status { name, version, status, reason }
}

/// A key by its name in this home, or as 64 hex digits.
fn key(home: &Home, text: &str) -> Result<PublicKey, CommandError> {
    if let Ok(key) = text.strip_prefix("ed25519:").unwrap_or(text).parse() {
        return Ok(key);
    }
    Ok(Keys::open(&home.keys_dir())?.show(text)?.public)
}

fn all_keys(home: &Home, texts: &[String]) -> Result<Vec<PublicKey>, CommandError> {
    texts.iter().map(|text| key(home, text)).collect()
}

fn rotate(home: &Home, entry: &MarketEntry, market: &MarketFolder, wish: &Rotate) -> Result<Outcome, CommandError> {
    let state = market.state().map_err(from_market)?;
    let root = state.trusted.root().ok_or_else(|| CommandError::new(ErrorCode::Verification, "no root"))?;
    let (mut roles, next) = (root.roles.clone(), root.version + 1);
    let mut keys = all_keys(home, &wish.keys)?;
    if keys.is_empty() {
        let role = match wish.role {
            RoleName::Root => "root",
            RoleName::Index => "index",
            RoleName::Head => "head",
        };
        keys.push(Keys::open(&home.keys_dir())?.new_key(&format!("{}-{role}-{next}", entry.alias))?.public);
    }
    if usize::from(wish.threshold) > keys.len() || wish.threshold == 0 {
        let message = format!(
            "--threshold {}: there are {}, so 1 to {}",
            wish.threshold,
            count(keys.len() as u64, "key"),
            keys.len()
        );
        return Err(CommandError::new(ErrorCode::Usage, message));
    }
    let role = Role { keys, threshold: wish.threshold };
    match wish.role {
        RoleName::Root => roles.root = role,
        RoleName::Index => roles.index = role,
        RoleName::Head => roles.head = role,
    }
    // Old and new ones: each signs where its role asks for it.
    let all = OwnKeys::all(home)?;
    let of = |old: &Role, new: &Role| {
        all.root.iter().filter(|key| old.keys.contains(&key.public()) || new.keys.contains(&key.public())).collect()
    };
    let signers = Signers {
        root: of(&root.roles.root, &roles.root),
        index: of(&root.roles.index, &roles.index),
        head: of(&root.roles.head, &roles.head),
    };
    market.rotate(roles.clone(), &signers, now()).map_err(from_market)
}

fn show(entry: &MarketEntry, outcome: &Outcome, screen: &mut Screen) -> Result<(), Stop> {
    if screen.style.json {
        let wanting = outcome.wanting.iter().map(|it| WantingRow {
            document: it.document,
            signed: it.signed,
            threshold: it.threshold,
            missing: it.missing.iter().map(ToString::to_string).collect(),
        });
        return screen.result_json(&ChangeRow {
            schema: "msm.market-change/1",
            market: entry.market,
            alias: &entry.alias,
            index: outcome.index,
            changed: outcome.changed,
            wanting: wanting.collect(),
        });
    }
    if !outcome.changed {
        return screen.result_line(format!("{}: nothing to change, index {}", entry.alias, outcome.index));
    }
    if outcome.wanting.is_empty() {
        return screen.result_line(format!("{}: index {} has all its signatures", entry.alias, outcome.index));
    }
    let mut text = format!("{}: index {} waits for signatures; nobody sees it yet\n", entry.alias, outcome.index);
    for wanting in &outcome.wanting {
        text.push_str(&format!("  {wanting}, of\n"));
        wanting.missing.iter().for_each(|key| text.push_str(&format!("    {key}\n")));
    }
    text.push_str(&format!("try: {}\n", hints::market_sign(&entry.alias)));
    screen.result_line(text)
}

fn status(home: &Home, entry: &MarketEntry, market: &MarketFolder, screen: &mut Screen) -> Result<(), Stop> {
    let row = status_row(home, entry, market)?;
    if screen.style.json {
        return screen.result_json(&row);
    }
    let now = now();
    let left = |expires: u64| match expires.checked_sub(now) {
        Some(left) => format!("{} left", seconds(std::time::Duration::from_secs(left))),
        None => "expired".to_owned(),
    };
    let rows = row.roles.iter().map(|role| {
        [
            role.role.to_owned(),
            format!("{} of {}", role.threshold, role.keys.len()),
            left(role.expires),
            if role.here.is_empty() { "-".to_owned() } else { clean(&role.here.join(", "), 200) },
        ]
    });
    let table = columns([("ROLE", Left), ("KEYS", Right), ("SIGNED FOR", Left), ("KEYS HERE", Left)], rows);
    let waiting = match row.waiting {
        Some(index) => {
            format!("index {index} waits for signatures\ntry: {}\n", hints::market_sign(&entry.alias))
        }
        None => String::new(),
    };
    screen.result_line(format!(
        "{}  root {}, index {}, {}, {}\n{table}{waiting}",
        entry.alias,
        row.root,
        row.index,
        count(row.releases as u64, "release"),
        count(row.revocations as u64, "revocation"),
    ))
}

fn status_row(home: &Home, entry: &MarketEntry, market: &MarketFolder) -> Result<StatusRow, CommandError> {
    let state: MarketState = market.state().map_err(from_market)?;
    let none = || CommandError::new(ErrorCode::Verification, "the market has no root, index or head");
    let root = state.trusted.root().ok_or_else(none)?;
    let (index, head) = (state.trusted.index().ok_or_else(none)?, state.trusted.head().ok_or_else(none)?);
    let own = Keys::open(&home.keys_dir())?.list()?;
    let row = |role: &'static str, of: &Role, expires| RoleRow {
        role,
        threshold: of.threshold,
        keys: of.keys.iter().map(ToString::to_string).collect(),
        here: own.iter().filter(|key| of.keys.contains(&key.public)).map(|key| key.name.clone()).collect(),
        expires,
    };
    Ok(StatusRow {
        schema: "msm.market-status/1",
        market: entry.market,
        alias: entry.alias.clone(),
        root: root.version,
        index: index.version,
        releases: state.catalogue.releases.len(),
        revocations: state.catalogue.revocations.len(),
        waiting: market.draft().map_err(from_market)?,
        roles: vec![
            row("root", &root.roles.root, root.expires),
            row("index", &root.roles.index, index.expires),
            row("head", &root.roles.head, head.expires),
        ],
    })
}
