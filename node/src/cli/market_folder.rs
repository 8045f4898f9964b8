//! `msm market init|publish|refresh|share|verify`: work on the folders of markets.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use msm_market_index::{
    MarketError, MarketFolder, Outcome, Package, Publisher, Report, Signers, entry::delegation_of, verify_folder,
};
use msm_protocol::{MarketId, PublicKey, SecretKey, manifest::is_name};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{
    call::Call,
    door, hints,
    market::{Place, Target},
    market_change::Edit,
    market_mirror,
    market_review::Review,
    market_serve::Serve,
    render::text::{clean, count, seconds},
    screen::{Screen, Stop},
    service,
};
use crate::{
    command::{Command, CommandError, Door, ErrorCode},
    home::{Home, HomeError, MarketEntry},
    keys::Keys,
};

/// Characters of an alias of an own market, so that the names of its keys (`ALIAS-index`) are names too.
const OWN_ALIAS: usize = 34;

/// What is done.
pub enum Action {
    /// Make a market.
    Init { folder: PathBuf, name: String, alias: Option<String> },
    /// Publish a service.
    Publish { service: PathBuf, market: Option<String> },
    /// Inspect a market.
    Verify { target: Target },
    /// Say its name.
    Share { market: Option<String> },
    /// Sign freshness again.
    Refresh,
    /// Change what it says.
    Edit(Edit),
    /// Look a service over.
    Review(Review),
    /// Give it to others over HTTP.
    Serve(Serve),
    /// Write down that a market has two histories.
    Proof { market: String, output: PathBuf },
    /// Check that.
    VerifyProof { proof: PathBuf },
}

/// `msm.market-share/1`.
#[derive(Serialize)]
struct Share<'a> {
    schema: &'static str,
    market: MarketId,
    fingerprint: String,
    alias: &'a str,
    folder: &'a Path,
}

/// `msm.published/1`.
#[derive(Debug, Serialize)]
struct PublishedRow {
    schema: &'static str,
    market: MarketId,
    service: String,
    version: String,
    manifest: String,
    index: u64,
    new: bool,
    /// Signatures that are still wanted before anybody sees it.
    wanting: Vec<String>,
}

/// `msm.market-report/1`.
#[derive(Serialize)]
struct ReportRow<'a> {
    schema: &'static str,
    passed: bool,
    #[serde(flatten)]
    report: &'a Report,
}

impl Action {
    pub(crate) async fn run(self, home: &Home, yes: bool, screen: &mut Screen) -> Result<(), Stop> {
        match self {
            Self::Init { folder, name, alias } => {
                let entry = init(home, &folder, &name, alias, now())?;
                share(&entry, screen)?;
                tell_node(home, screen).await;
                Ok(())
            }
            Self::Publish { service, market } => {
                let package = service::read(&service, screen.style)?;
                let row = publish(home, &package, market.as_deref(), now())?;
                show_published(&row, screen)?;
                tell_node(home, screen).await;
                Ok(())
            }
            Self::Share { market } => share(&own_market(home, market.as_deref())?, screen),
            Self::Verify { target } => verify(target, now(), screen).await,
            Self::Refresh => {
                refresh(home, now(), screen)?;
                let call = Call::of_any_node(Command::MarketRefresh);
                door::ask(call, home, screen).await
            }
            Self::Proof { market, output } => super::market_proof::write(home, &market, &output, screen),
            Self::VerifyProof { proof } => super::market_proof::verify(&proof, screen),
            Self::Serve(serve) => serve.run(home, screen).await,
            Self::Review(review) => review.run(home, screen).await,
            Self::Edit(edit) => edit.run(home, yes, screen).await,
        }
    }
}

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

pub(super) fn from_market(error: MarketError) -> CommandError {
    let (code, hint) = match &error {
        MarketError::NotAMarket { path, .. } => {
            (ErrorCode::NotFound, Some(hints::market_init(&path.to_string_lossy())))
        }
        MarketError::NotFound { .. } => (ErrorCode::NotFound, None),
        MarketError::Trust(_) | MarketError::Tree(_) => (ErrorCode::Verification, None),
        MarketError::WrongKey { .. } => (ErrorCode::NotAllowed, Some(hints::key_list())),
        MarketError::AlreadyAMarket { .. } => (ErrorCode::NotAllowed, Some(hints::market_share())),
        MarketError::Revoked { .. }
        | MarketError::VersionTaken { .. }
        | MarketError::PublisherRevoked { .. }
        | MarketError::Rules(_)
        | MarketError::Draft { .. } => (ErrorCode::NotAllowed, None),
        MarketError::Review(_) => (ErrorCode::Verification, None),
        MarketError::NoDraft { .. } => (ErrorCode::NotFound, None),
        _ => (ErrorCode::Failed, None),
    };
    let error = CommandError::new(code, error.to_string());
    match hint {
        Some(hint) => error.or_try(hint),
        None => error,
    }
}

/// Makes keys, the folder, and the home's note of both, in this order: after a crash nothing is registered that cannot
/// be signed.
fn init(home: &Home, folder: &Path, name: &str, alias: Option<String>, now: u64) -> Result<MarketEntry, CommandError> {
    let markets = home.markets()?;
    let alias = alias.unwrap_or_else(|| markets.free_alias(&name.chars().take(OWN_ALIAS - 3).collect::<String>()));
    if !is_name(&alias) || alias.len() > OWN_ALIAS {
        let message = format!("{alias:?} is not an alias: use 2 to {OWN_ALIAS} lower-case letters, digits and -");
        return Err(CommandError::new(ErrorCode::Usage, message));
    }
    if let Some(there) = markets.find(&alias) {
        let message = format!("the alias {alias:?} already names {}; choose one with --alias", there.market);
        return Err(CommandError::new(ErrorCode::Usage, message).or_try(hints::market_list()));
    }
    if MarketFolder::open(folder).is_ok() {
        return Err(from_market(MarketError::AlreadyAMarket { path: folder.to_owned() }));
    }
    let keys = Keys::open(&home.keys_dir())?;
    let key = |role: &str| -> Result<SecretKey, CommandError> {
        let name = format!("{alias}-{role}");
        keys.new_key(&name)?;
        Ok(keys.secret(&name)?)
    };
    let (root, index, head) = (key("root")?, key("index")?, key("head")?);
    let signers = Signers { root: vec![&root], index: vec![&index], head: vec![&head] };
    let made = MarketFolder::init(folder, name, &signers, now).map_err(from_market)?;
    let folder = fs::canonicalize(folder).map_err(|error| {
        CommandError::new(ErrorCode::Failed, format!("cannot find {} again: {error}", folder.display()))
    })?;
    let entry = MarketEntry { alias, market: made.share(), source: None, publish_folder: Some(folder), added: now };
    home.update_markets(|markets| markets.add(entry.clone()).map_err(HomeError::from))?;
    Ok(entry)
}

/// The market of this home with this folder or alias, or its only one.
pub(super) fn own_market(home: &Home, wanted: Option<&str>) -> Result<MarketEntry, CommandError> {
    let markets = home.markets()?;
    let own: Vec<&MarketEntry> = markets.entries().iter().filter(|entry| entry.publish_folder.is_some()).collect();
    let names = || own.iter().map(|entry| entry.alias.as_str()).collect::<Vec<_>>().join(", ");
    match (wanted, own.as_slice()) {
        (_, []) => {
            let message = "this home publishes no market";
            Err(CommandError::new(ErrorCode::NotFound, message).or_try(hints::market_init("./market")))
        }
        (None, [only]) => Ok((*only).clone()),
        (None, _) => {
            let message = format!("this home publishes several markets ({}): say which", names());
            Err(CommandError::new(ErrorCode::Usage, message).or_try(hints::market_list()))
        }
        (Some(wanted), _) => {
            let folder = fs::canonicalize(wanted).ok();
            let named = |entry: &&&MarketEntry| {
                (folder.is_some() && entry.publish_folder == folder)
                    || entry.alias == wanted
                    || wanted.parse() == Ok(entry.market)
            };
            own.iter().find(named).map(|entry| (**entry).clone()).ok_or_else(|| {
                let message = format!("this home does not publish {wanted:?} (it publishes {})", names());
                CommandError::new(ErrorCode::NotFound, message).or_try(hints::market_list())
            })
        }
    }
}

pub(super) fn open_own(entry: &MarketEntry) -> Result<MarketFolder, CommandError> {
    let folder = entry.publish_folder.as_deref().unwrap_or(Path::new("."));
    let market = MarketFolder::open(folder).map_err(from_market)?;
    if market.share() != entry.market {
        let message = format!("{} holds another market ({}) than {}", folder.display(), market.share(), entry.market);
        return Err(CommandError::new(ErrorCode::Verification, message).or_try(hints::market_list()));
    }
    Ok(market)
}

/// The keys of this home that may sign for a market, by the roles of its root: names of files say nothing.
pub(super) struct OwnKeys {
    pub(super) root: Vec<SecretKey>,
    index: Vec<SecretKey>,
    head: Vec<SecretKey>,
}

impl OwnKeys {
    pub(super) fn find(home: &Home, market: &MarketFolder) -> Result<Self, CommandError> {
        let state = market.state().map_err(from_market)?;
        let root = state.trusted.root().ok_or_else(|| CommandError::new(ErrorCode::Verification, "no root"))?;
        let keys = Keys::open(&home.keys_dir())?;
        let known = keys.list()?;
        let of_role = |role: &[PublicKey]| -> Result<Vec<SecretKey>, CommandError> {
            let held = known.iter().filter(|key| role.contains(&key.public));
            held.map(|key| Ok(keys.secret(&key.name)?)).collect()
        };
        let roles = &root.roles;
        Ok(Self {
            root: of_role(&roles.root.keys)?,
            index: of_role(&roles.index.keys)?,
            head: of_role(&roles.head.keys)?,
        })
    }

    /// Every key of this home, for every role: a signature counts only where the role knows its key.
    pub(super) fn all(home: &Home) -> Result<Self, CommandError> {
        let keys = Keys::open(&home.keys_dir())?;
        let all = || -> Result<Vec<SecretKey>, CommandError> {
            keys.list()?.iter().map(|key| Ok(keys.secret(&key.name)?)).collect()
        };
        Ok(Self { root: all()?, index: all()?, head: all()? })
    }

    pub(super) fn signers(&self) -> Signers<'_> {
        Signers {
            root: self.root.iter().collect(),
            index: self.index.iter().collect(),
            head: self.head.iter().collect(),
        }
    }
}

fn publish(home: &Home, package: &Package, market: Option<&str>, now: u64) -> Result<PublishedRow, CommandError> {
    let entry = own_market(home, market)?;
    let market = open_own(&entry)?;
    let keys = OwnKeys::find(home, &market)?;
    if keys.index.is_empty() {
        let message = format!("no key of this home may sign the index of {}", entry.alias);
        return Err(CommandError::new(ErrorCode::NotAllowed, message).or_try(hints::key_list()));
    }
    let publisher = publisher(home, &market, &keys, package)?;
    let Outcome { index, changed, wanting } =
        market.publish(package, &publisher, &keys.signers(), now).map_err(from_market)?;
    Ok(PublishedRow {
        schema: "msm.published/1",
        market: entry.market,
        service: format!("{}/{}", entry.alias, package.manifest.name),
        version: package.manifest.version.clone(),
        manifest: package.hash.to_string(),
        index,
        new: changed,
        wanting: wanting.iter().map(ToString::to_string).collect(),
    })
}

/// Who brings a package in: the market's own key, or where the name is delegated a key of this home that it is
/// delegated to.
fn publisher(home: &Home, market: &MarketFolder, keys: &OwnKeys, package: &Package) -> Result<Publisher, CommandError> {
    let catalogue = market.state().map_err(from_market)?.catalogue;
    let name = &package.manifest.name;
    let Some(delegation) = delegation_of(&catalogue.delegations, name) else {
        let own = keys.index.first().map(SecretKey::public);
        return own.map(Publisher::named).ok_or_else(|| CommandError::new(ErrorCode::NotAllowed, "no index key"));
    };
    let all = OwnKeys::all(home)?;
    let held = all.root.iter().find(|key| delegation.keys.contains(&key.public()));
    held.map(|key| Publisher::signing(key, package)).ok_or_else(|| {
        let message = format!(
            "names that begin with {:?} are delegated, and no key of this home is among those that may publish {name}",
            delegation.prefix
        );
        CommandError::new(ErrorCode::NotAllowed, message).or_try(hints::key_list())
    })
}

fn show_published(row: &PublishedRow, screen: &mut Screen) -> Result<(), Stop> {
    if screen.style.json {
        return screen.result_json(row);
    }
    let what = if row.new { "published" } else { "was published already" };
    let PublishedRow { service, version, index, manifest, .. } = row;
    let mut text = format!("{service} {version} {what}, index {index}\nmanifest  {manifest}");
    if !row.wanting.is_empty() {
        text.push_str(&format!(
            "\nnobody sees it yet: {} signatures\ntry: msm market sign",
            row.wanting.join(", ").replace(" signatures", "")
        ));
    }
    screen.result_line(text)
}

fn share(entry: &MarketEntry, screen: &mut Screen) -> Result<(), Stop> {
    let folder = entry.publish_folder.as_deref().unwrap_or(Path::new("."));
    let fingerprint = entry.market.fingerprint();
    if screen.style.json {
        let (market, alias) = (entry.market, &*entry.alias);
        return screen.result_json(&Share { schema: "msm.market-share/1", market, fingerprint, alias, folder });
    }
    screen.result_line(format!(
        "market  {} in {}\nkey     {fingerprint}\nshare   msm market add {}",
        entry.alias,
        folder.display(),
        entry.market
    ))
}

/// Signs every own market again for which keys are here. A market that cannot be signed is said and left.
fn refresh(home: &Home, now: u64, screen: &mut Screen) -> Result<(), CommandError> {
    for entry in home.markets()?.entries().iter().filter(|entry| entry.publish_folder.is_some()) {
        let market = open_own(entry)?;
        let keys = OwnKeys::find(home, &market)?;
        market.refresh(&keys.signers(), now).map_err(from_market)?;
        let until = market.state().map_err(from_market)?.stale_from();
        if !screen.style.quiet && !screen.style.json {
            let left = std::time::Duration::from_secs(until.saturating_sub(now));
            screen.message(format!("{} is signed again, good for {}", entry.alias, seconds(left)));
        }
    }
    Ok(())
}

/// The node that runs on this home serves the change at once; without one there is nothing to tell.
pub(super) async fn tell_node(home: &Home, screen: &mut Screen) {
    let Ok(node) = door::running(home) else { return };
    let (events, _) = mpsc::channel(1);
    if let Err(error) = node.execute(Command::MarketRefresh.into(), events).await {
        screen.message(format!("warning: the running node was not told: {error}"));
    }
}

async fn verify(target: Target, now: u64, screen: &mut Screen) -> Result<(), Stop> {
    let usage = |why: &str| CommandError::new(ErrorCode::Usage, why).or_try(hints::market_share());
    // Lives until the report is made.
    let mirror;
    let (folder, market) = match (target.place, target.market) {
        (None, _) => {
            return Err(usage("a folder or an address is verified; peers' markets are, whenever they are used").into());
        }
        (Some(Place::Url(_)), None) => return Err(usage("an address needs #FINGERPRINT to be verified against").into()),
        (Some(Place::Url(url)), Some(market)) => {
            mirror = market_mirror::download(&url, market).await?;
            (mirror.path().to_owned(), market)
        }
        (Some(Place::Folder(folder)), Some(market)) => (folder, market),
        (Some(Place::Folder(folder)), None) => {
            let market = MarketFolder::open(&folder).map_err(from_market)?.share();
            (folder, market)
        }
    };
    if !folder.is_dir() {
        let message = format!("there is no folder {}", folder.display());
        return Err(CommandError::new(ErrorCode::NotFound, message).into());
    }
    show_report(&verify_folder(&folder, market, now), now, screen)
}

fn show_report(report: &Report, now: u64, screen: &mut Screen) -> Result<(), Stop> {
    let passed = report.passed();
    if screen.style.json {
        screen.result_json(&ReportRow { schema: "msm.market-report/1", passed, report })?;
    } else {
        let mut text = String::new();
        for check in &report.checks {
            let what = clean(&check.what, 256);
            match &check.fault {
                Some(fault) => text.push_str(&format!("FAILED  {what}: {}\n", clean(fault, 512))),
                None if screen.style.quiet => {}
                None => text.push_str(&format!("ok      {what}\n")),
            }
        }
        let left = std::time::Duration::from_secs(report.expires.saturating_sub(now));
        text.push_str(&format!(
            "market  {}  index {}, {}, good for {}\n",
            report.market,
            report.index,
            count(report.releases as u64, "release"),
            seconds(left)
        ));
        screen.result_line(text)?;
    }
    if passed {
        return Ok(());
    }
    let faults = report.faults().count();
    let first = report.faults().next().map(|check| format!("{}: {}", check.what, check.fault.as_deref().unwrap_or("")));
    let message = format!("{} failed; first: {}", count(faults as u64, "check"), first.unwrap_or_default());
    Err(CommandError::new(ErrorCode::Verification, message).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::screen::{Style, tests::captured};

    /// A service that packs.
    pub(super) fn write_service(folder: &Path, version: &str) {
        fs::create_dir_all(folder.join("src")).unwrap();
        fs::write(folder.join("src/main.js"), "export function run(input) { return input }\n").unwrap();
        let toml = format!(
            r#"schema = 1
[service]
name = "echo"
version = "{version}"
summary = "Gives back what it gets"
scope = "text"
license = "MIT"
authors = ["Ada"]
[io]
input = ["application/octet-stream"]
output = "application/octet-stream"
[work]
split = "none"
deterministic = true
[[variant]]
engine = "js"
file = "src/main.js"
"#
        );
        fs::write(folder.join("service.toml"), toml).unwrap();
    }

    const NOW: u64 = 1_800_000_000;

    #[tokio::test]
    async fn a_market_is_made_filled_shared_and_verified() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(&folder.path().join("home"))).unwrap();
        let (market, service) = (folder.path().join("my market"), folder.path().join("echo"));
        write_service(&service, "1.0.0");

        let none = publish(&home, &service::read(&service, Default::default()).unwrap(), None, NOW).unwrap_err();
        assert_eq!((none.code, none.r#try.len()), (ErrorCode::NotFound, 1));

        let entry = init(&home, &market, "Home Market", None, NOW).unwrap();
        assert_eq!(entry.alias, "home-market");
        assert_eq!(home.markets().unwrap().find("home-market"), Some(&entry));
        let again = init(&home, &market, "Home Market", Some("other".into()), NOW).unwrap_err();
        assert_eq!(again.code, ErrorCode::NotAllowed);

        let first = publish(&home, &service::read(&service, Default::default()).unwrap(), None, NOW).unwrap();
        assert!(first.new && first.service == "home-market/echo", "{}", first.service);
        assert!(
            !publish(&home, &service::read(&service, Default::default()).unwrap(), Some("home-market"), NOW)
                .unwrap()
                .new
        );
        assert!(
            !publish(&home, &service::read(&service, Default::default()).unwrap(), market.to_str(), NOW).unwrap().new
        );
        fs::write(service.join("src/main.js"), "export function run() { return 'other' }\n").unwrap();
        let taken = publish(&home, &service::read(&service, Default::default()).unwrap(), None, NOW).unwrap_err();
        assert_eq!(taken.code, ErrorCode::NotAllowed);

        let (mut screen, out, _) = captured(Style { json: true, ..Style::default() });
        share(&entry, &mut screen).unwrap();
        let json: serde_json::Value = serde_json::from_str(&out.text()).unwrap();
        assert_eq!(json["market"], entry.market.to_string());

        let target = || Target { place: Some(Place::Folder(market.clone())), market: Some(entry.market) };
        let (mut screen, out, _) = captured(Style::default());
        verify(target(), NOW, &mut screen).await.unwrap();
        assert!(out.text().contains("1 release") && !out.text().contains("FAILED"), "{}", out.text());

        // B18: one changed byte in the manifest.
        let blob = market.join("blobs").join(&first.manifest);
        let mut bytes = fs::read(&blob).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&blob, bytes).unwrap();
        let (mut screen, ..) = captured(Style { json: true, ..Style::default() });
        let stop = verify(target(), NOW, &mut screen).await.unwrap_err();
        assert_eq!(screen.stop(stop), 8);
        let elsewhere = Target { place: Some(Place::Folder(market.join("no"))), market: Some(entry.market) };
        let stop = verify(elsewhere, NOW, &mut screen).await.unwrap_err();
        assert_eq!(screen.stop(stop), 9);
    }

    #[tokio::test]
    async fn b02_a_market_verified_against_another_fingerprint_fails() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(&folder.path().join("home"))).unwrap();
        let market = folder.path().join("market");
        init(&home, &market, "One", Some("one".into()), NOW).unwrap();
        let other = MarketId::of_first_root(b"other");
        let (mut screen, ..) = captured(Style::default());
        let target = Target { place: Some(Place::Folder(market)), market: Some(other) };
        let stop = verify(target, NOW, &mut screen).await.unwrap_err();
        assert_eq!(screen.stop(stop), 8);
    }

    #[test]
    fn of_several_markets_one_must_be_named() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(&folder.path().join("home"))).unwrap();
        for name in ["one", "two"] {
            init(&home, &folder.path().join(name), name, Some(name.into()), NOW).unwrap();
        }
        assert_eq!(own_market(&home, None).unwrap_err().code, ErrorCode::Usage);
        assert_eq!(own_market(&home, Some("two")).unwrap().alias, "two");
        assert_eq!(own_market(&home, Some("three")).unwrap_err().code, ErrorCode::NotFound);
    }

    #[test]
    fn refreshing_moves_the_end_and_needs_the_keys() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(&folder.path().join("home"))).unwrap();
        let market = folder.path().join("market");
        let entry = init(&home, &market, "One", Some("one".into()), NOW).unwrap();
        let until = |market: &Path| MarketFolder::open(market).unwrap().state().unwrap().stale_from();
        let before = until(&market);
        let (mut screen, ..) = captured(Style::default());
        refresh(&home, NOW + 86_400, &mut screen).unwrap();
        assert_eq!(until(&market), before + 86_400);
        fs::remove_file(home.keys_dir().join(format!("{}-index.key", entry.alias))).unwrap();
        fs::remove_file(home.keys_dir().join(format!("{}-head.key", entry.alias))).unwrap();
        assert!(refresh(&home, NOW + 2 * 86_400, &mut screen).is_err());
        let service = folder.path().join("echo");
        write_service(&service, "1.0.0");
        assert_eq!(
            publish(&home, &service::read(&service, Default::default()).unwrap(), None, NOW).unwrap_err().code,
            ErrorCode::NotAllowed
        );
    }
}
