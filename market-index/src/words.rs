//! The words by which a market's services are found, also by a device that holds only the pages it needs.

use std::collections::{BTreeMap, BTreeSet};

use msm_protocol::{
    document::{Mention, Release, Status},
    limits::{WORD_BYTES, WORDS_PER_SERVICE},
};
use semver::Version;

use crate::tree::Leaf;

/// The words of a text in lower case: runs of letters and digits. Longer ones than a word may be are left out.
pub fn words(text: &str) -> impl Iterator<Item = String> {
    let runs = text.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty()).map(str::to_lowercase);
    runs.filter(|word| word.len() <= WORD_BYTES).collect::<Vec<_>>().into_iter()
}

/// What finds `release`: its whole name, its whole scope, and the words of name, scope and summary in this order, as
/// many as one service may have.
fn of_release(release: &Release) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let whole = [&release.name, &release.scope].map(String::clone);
    let texts = [&release.name, &release.scope, &release.summary];
    for word in whole.into_iter().chain(texts.into_iter().flat_map(|text| words(text))) {
        if all.len() == WORDS_PER_SERVICE {
            break;
        }
        all.insert(word);
    }
    all.retain(|word| word.len() <= WORD_BYTES);
    all
}

/// The tree of words of a market: each service by what its newest active release says.
pub fn mentions(releases: &[Release]) -> Vec<Mention> {
    let mut newest: BTreeMap<&str, (&Release, Option<Version>)> = BTreeMap::new();
    for release in releases.iter().filter(|release| release.status == Status::Active) {
        let version = Version::parse(&release.version).ok();
        let held = newest.entry(&release.name).or_insert((release, version.clone()));
        if held.1 < version {
            *held = (release, version);
        }
    }
    let of = |(name, (release, _)): (&str, (&Release, _))| {
        let service = name.to_owned();
        of_release(release).into_iter().map(move |word| Mention { word, service: service.clone() })
    };
    let mut all: Vec<Mention> = newest.into_iter().flat_map(of).collect();
    all.sort();
    all
}

/// True when `release` answers every one of `asked`: each begins one of its words.
pub fn answers(release: &Release, asked: &[String]) -> bool {
    let own = of_release(release);
    asked.iter().all(|word| own.range(word.clone()..).next().is_some_and(|first| first.starts_with(word.as_str())))
}

impl Leaf for Mention {
    fn fault(&self) -> Option<&'static str> {
        let word =
            (1..=WORD_BYTES).contains(&self.word.len()) && msm_protocol::manifest::is_line(&self.word, WORD_BYTES);
        let checks = [("word", word), ("service", msm_protocol::manifest::is_name(&self.service))];
        checks.into_iter().find(|(_, good)| !good).map(|(field, _)| field)
    }

    fn label(&self) -> String {
        format!("word {:?} of {}", self.word, self.service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_its_runs_of_letters_and_digits() {
        let all: Vec<String> = words("Weich-zeichner für H.264, ÄÖ (schnell)").collect();
        assert_eq!(all, ["weich", "zeichner", "für", "h", "264", "äö", "schnell"]);
        assert_eq!(words(&"x".repeat(WORD_BYTES + 1)).count(), 0);
    }
}
