//! `markets.toml`: which markets this home trusts, under which names, and which it publishes.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use msm_protocol::{MarketId, manifest::is_name};
use serde::{Deserialize, Serialize};

use super::{FileError, Home, HomeError, files};

/// Markets in one home; each costs gossip topics and refreshes. The same as a DeviceInfo can list.
pub const MARKETS: usize = msm_protocol::limits::DEVICE_LIST;
/// Bytes of `markets.toml`: [`MARKETS`] entries with the longest paths and addresses we expect, many times over.
const MARKETS_FILE_BYTES: u64 = 256 * 1024;

/// One market.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MarketEntry {
    /// The owner's name for it: lower-case letters, digits and `-`, unique in the home.
    pub alias: String,
    /// The pinned fingerprint: all trust starts here.
    pub market: MarketId,
    /// Where to look besides peers: a folder or an `http://` address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The folder that this home signs and serves, when the market is its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish_folder: Option<PathBuf>,
    /// When the owner added it, Unix seconds.
    pub added: u64,
}

/// Why a market cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefusedMarket {
    /// The alias is not a name.
    #[error("{0:?} is not an alias: use 2 to 40 lower-case letters, digits and -")]
    BadAlias(String),
    /// The alias is taken.
    #[error("the alias {alias:?} already names {market}")]
    AliasTaken {
        /// The alias.
        alias: String,
        /// The market that has it.
        market: MarketId,
    },
    /// The market is there already.
    #[error("{market} is already trusted as {alias:?}")]
    AlreadyThere {
        /// The market.
        market: MarketId,
        /// Its alias.
        alias: String,
    },
    /// Too many.
    #[error("{MARKETS} markets are trusted already, and that is the most")]
    TooMany,
}

/// All markets of a home, in the order they were added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Markets {
    /// They keep the rules of [`Markets::add`].
    #[serde(default, rename = "market")]
    entries: Vec<MarketEntry>,
}

impl Markets {
    /// In the order they were added.
    pub fn entries(&self) -> &[MarketEntry] {
        &self.entries
    }

    /// The market with this alias or id.
    pub fn find(&self, alias_or_id: &str) -> Option<&MarketEntry> {
        let id = alias_or_id.parse::<MarketId>().ok();
        self.entries.iter().find(|entry| entry.alias == alias_or_id || Some(entry.market) == id)
    }

    /// Adds a market.
    pub fn add(&mut self, entry: MarketEntry) -> Result<(), RefusedMarket> {
        if !is_name(&entry.alias) {
            return Err(RefusedMarket::BadAlias(entry.alias));
        }
        if let Some(there) = self.entries.iter().find(|there| there.market == entry.market) {
            return Err(RefusedMarket::AlreadyThere { market: there.market, alias: there.alias.clone() });
        }
        if let Some(there) = self.entries.iter().find(|there| there.alias == entry.alias) {
            return Err(RefusedMarket::AliasTaken { market: there.market, alias: entry.alias });
        }
        if self.entries.len() >= MARKETS {
            return Err(RefusedMarket::TooMany);
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Removes the market with this alias or id.
    pub fn remove(&mut self, alias_or_id: &str) -> Option<MarketEntry> {
        let market = self.find(alias_or_id)?.market;
        let at = self.entries.iter().position(|entry| entry.market == market)?;
        Some(self.entries.remove(at))
    }

    /// `wish` or, when that is taken or not a name, the nearest free alias.
    pub fn free_alias(&self, wish: &str) -> String {
        let mut base: String = wish
            .to_lowercase()
            .split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit()))
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join("-");
        base.truncate(msm_protocol::limits::NAME_BYTES - 3);
        base.truncate(base.trim_end_matches('-').len());
        if !is_name(&base) {
            base = "market".into();
        }
        let numbered = (2..).map(|n| format!("{base}-{n}"));
        std::iter::once(base.clone()).chain(numbered).find(|alias| self.find(alias).is_none()).unwrap_or(base)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, HomeError> {
        let bad = |why: String| HomeError::BadMarkets { path: path.to_owned(), why };
        let read: Self = toml::from_str(text).map_err(|error| bad(error.to_string()))?;
        let mut checked = Self::default();
        for entry in read.entries {
            checked.add(entry).map_err(|refused| bad(refused.to_string()))?;
        }
        Ok(checked)
    }

    /// Fails for a folder whose name is not UTF-8: TOML cannot hold it.
    fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let entries = toml::to_string(self)?;
        Ok(format!("# The markets of this home. Written by msm: change it with `msm market …`.\n{entries}"))
    }
}

impl Home {
    /// The markets of this home; none before the first was added.
    pub fn markets(&self) -> Result<Markets, HomeError> {
        let path = self.markets_file();
        let Some(bytes) = files::read(&path, MARKETS_FILE_BYTES, files::Secrecy::Plain)? else {
            return Ok(Markets::default());
        };
        let text = String::from_utf8(bytes)
            .map_err(|_| HomeError::BadMarkets { path: path.clone(), why: "not UTF-8 text".into() })?;
        Markets::parse(&path, &text)
    }

    /// Reads, changes and writes the markets in one step: of two processes that do it at once, neither loses.
    /// Nothing is written when `change` fails.
    pub fn update_markets<T, E: From<HomeError>>(
        &self,
        change: impl FnOnce(&mut Markets) -> Result<T, E>,
    ) -> Result<T, E> {
        let lock_path = self.markets_file().with_extension("lock");
        let io = |what| {
            let path = lock_path.clone();
            move |source| E::from(HomeError::from(FileError::Io { what, path, source }))
        };
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&lock_path)
            .map_err(io("open"))?;
        // Held for one small read and write by any holder, so the wait is short.
        lock.lock().map_err(io("lock"))?;
        let before = self.markets()?;
        let mut markets = before.clone();
        let answer = change(&mut markets)?;
        if markets != before {
            let path = self.markets_file();
            let bad = |error: toml::ser::Error| HomeError::BadMarkets { path: path.clone(), why: error.to_string() };
            let text = markets.to_toml().map_err(bad)?;
            files::replace(&path, text.as_bytes()).map_err(HomeError::from)?;
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn entry(alias: &str, seed: u8) -> MarketEntry {
        MarketEntry {
            alias: alias.into(),
            market: MarketId::from_bytes([seed; 32]),
            source: None,
            publish_folder: None,
            added: 1_790_000_000,
        }
    }

    #[test]
    fn the_file_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        assert_eq!(home.markets().unwrap(), Markets::default());
        let full = MarketEntry {
            source: Some("http://kitchen-pi.local:7480/market".into()),
            publish_folder: Some("/home/ada/my \"market\"".into()),
            ..entry("home", 1)
        };
        home.update_markets(|markets| {
            markets.add(full.clone())?;
            markets.add(entry("work", 2))?;
            Ok::<_, HomeError>(())
        })
        .unwrap();
        let markets = home.markets().unwrap();
        assert_eq!(markets.entries(), [full.clone(), entry("work", 2)]);
        assert_eq!(markets.find("home"), Some(&full));
        assert_eq!(markets.find(&full.market.fingerprint()), Some(&full));
        assert_eq!(markets.find("nowhere"), None);
        home.update_markets(|markets| Ok::<_, HomeError>(markets.remove("home"))).unwrap();
        assert_eq!(home.markets().unwrap().entries(), [entry("work", 2)]);
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        let mut markets = Markets::default();
        markets.add(entry("home", 1)).unwrap();
        for (bad, expected) in [
            (entry("Home Market", 2), RefusedMarket::BadAlias("Home Market".into())),
            (entry("../../x", 2), RefusedMarket::BadAlias("../../x".into())),
            (entry("home", 2), RefusedMarket::AliasTaken { alias: "home".into(), market: entry("", 1).market }),
            (entry("other", 1), RefusedMarket::AlreadyThere { market: entry("", 1).market, alias: "home".into() }),
        ] {
            assert_eq!(markets.add(bad), Err(expected));
        }
        for n in 1..MARKETS {
            markets.add(entry(&format!("m{n}"), n as u8 + 1)).unwrap();
        }
        assert_eq!(markets.add(entry("last", 99)), Err(RefusedMarket::TooMany));
    }

    #[test]
    fn a_strange_file_is_refused_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        let good = toml::to_string(&Markets { entries: vec![entry("home", 1)] }).unwrap();
        for (text, expected) in [
            (format!("{good}surprise = 1\n"), "unknown field `surprise`"),
            ("[[market]]\nalias = \"x\"\n".into(), "missing field `market`"),
            (format!("{good}{good}"), "already trusted"),
            (good.replace("\"home\"", "\"../x\""), "is not an alias"),
            ("\u{0}".into(), "line 1"),
        ] {
            fs::write(home.markets_file(), &text).unwrap();
            let error = home.markets().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn changes_at_the_same_time_are_all_kept() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        std::thread::scope(|scope| {
            for n in 0..8 {
                let home = &home;
                scope.spawn(move || {
                    home.update_markets(|markets| markets.add(entry(&format!("m{n}"), n)).map_err(HomeError::from))
                });
            }
        });
        assert_eq!(home.markets().unwrap().entries().len(), 8);
    }

    #[test]
    fn free_aliases_are_names() {
        let mut markets = Markets::default();
        for (wish, alias) in [
            ("Home Market", "home-market"),
            ("Home Market", "home-market-2"),
            ("Home Market", "home-market-3"),
            ("Ünïcode!", "n-code"),
            ("!!", "market"),
            (&"x".repeat(200), &"x".repeat(37)),
        ] {
            let free = markets.free_alias(wish);
            assert_eq!(free, alias);
            markets.add(entry(&free, markets.entries().len() as u8)).unwrap();
        }
    }
}
