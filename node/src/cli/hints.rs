//! Lines that follow `try:`, with words quoted as a shell wants them. A test runs each through the parser, and those
//! that other sources write by hand too.

use super::words::quote;

macro_rules! hints {
    ($($(#[$doc:meta])* $name:ident ( $($arg:ident),* ) = $format:literal, [$($sample:literal),*];)*) => {
        $($(#[$doc])* pub fn $name($($arg: &str),*) -> String {
            $(let $arg = quote($arg);)*
            format!($format)
        })*

        /// One line of each kind, for the test that parses them.
        #[cfg(test)]
        fn samples() -> Vec<String> {
            vec![$($name($($sample),*)),*]
        }
    };
}

hints! {
    /// Run a node.
    node() = "msm node", [];
    /// What the node is.
    status() = "msm status", [];
    /// What is wrong with this machine.
    doctor() = "msm doctor", [];
    /// Everything there is.
    search_all() = "msm search", [];
    /// What a service takes.
    show(service) = "msm show {service}", ["home/image-blur@1.2"];
    /// Trust a market; `target` is a share line.
    market_add(target) = "msm market add {target} --yes", ["msm:market:7qk3m2xd"];
    /// Trust a market of which only the kind of line is known.
    market_add_any() = "msm market add msm:market:FINGERPRINT", [];
    /// Trusted markets.
    market_list() = "msm market list", [];
    /// The line to give to friends.
    market_share() = "msm market share", [];
    /// Sign what waits.
    market_sign(market) = "msm market sign --market {market}", ["home"];
    /// Put a review into the index.
    market_put_review(report, key) = "msm market put-review {report} --by {key}", ["report.cbor", "ann"];
    /// Revoke a release.
    market_revoke(release, reason) = "msm market revoke {release} --reason {reason} --yes", ["blur@1.0.0", "it leaks"];
    /// Revoke a publisher.
    market_revoke_publisher(key, reason) =
        "msm market revoke --publisher {key} --reason {reason} --yes", ["ann", "its key was stolen"];
    /// Make a market.
    market_init(folder) = "msm market init {folder} --name 'My Market'", ["./market"];
    /// Look at a package or service folder.
    service_check(folder) = "msm service check {folder}", ["services/image-blur"];
    /// Let a peer work again that was struck out.
    forgive(peer) = "msm peers forgive {peer}", ["12D3KooWExample"];
    /// Keys of this home.
    key_list() = "msm key list", [];
    /// Make a key.
    key_new(name) = "msm key new {name}", ["home"];
    /// The first help page.
    help() = "msm help", [];
    /// Say where the output goes.
    invoke_to_file(service) = "msm invoke {service} -o out.bin", ["image-blur"];
    /// Let a service use a part of this device.
    grant(service, right, to) = "msm grant {service} {right} --to {to}", ["home/gps-sharing", "gps", "own"];
    /// The same with a coarse position.
    grant_coarse(service) = "msm grant {service} gps --accuracy coarse", ["home/gps-sharing"];
    /// Take a grant back.
    revoke_grant(service, right) = "msm revoke-grant {service} {right}", ["home/gps-sharing", "gps"];
    /// End a pause.
    resume() = "msm resume", [];
    /// What is granted.
    grants() = "msm grants", [];
    /// What is waiting for the owner's word.
    pending() = "msm pending", [];
    /// How grants work.
    help_grants() = "msm help grants", [];
    /// Serve a browser on this device.
    proxy(listen) = "msm proxy --listen {listen}", ["127.0.0.1:7481"];
    /// Serve browsers of others.
    proxy_to_others(listen) = "msm proxy --listen {listen} --yes", ["0.0.0.0:7481"];
    /// Watch a demonstration.
    demo() = "msm demo", [];
}

/// Help of the command with these words.
pub fn help_for(words: &[&str]) -> String {
    let words = words.iter().map(|word| quote(word) + " ").collect::<String>();
    format!("msm {words}--help")
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::cli::{self, words};

    fn parses(line: &str) -> Result<(), String> {
        let words = words::split(line).map_err(|e| e.to_string())?;
        if words.first().map(String::as_str) != Some("msm") {
            return Err("does not begin with msm".to_owned());
        }
        match cli::command().try_get_matches_from(&words) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == clap::error::ErrorKind::DisplayHelp => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn every_try_line_parses() {
        for line in samples().into_iter().chain([help_for(&["market", "add"])]) {
            parses(&line).unwrap_or_else(|why| panic!("{line}: {why}"));
        }
    }

    #[test]
    fn odd_words_stay_one_word() {
        for odd in ["a b", "it's", "--yes", "$(id)", "\u{1b}[31m"] {
            let line = show(odd);
            assert_eq!(words::split(&line).unwrap(), ["msm", "show", odd]);
        }
    }

    /// Lines that other sources write by hand must parse too: every text there that begins with `msm` and a verb.
    #[test]
    fn try_lines_elsewhere_in_the_sources_parse() {
        let verbs: Vec<String> = cli::command().get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        let (mut files, mut lines) = (0, 0);
        visit(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut |path, text| {
            files += 1;
            for (at, _) in text.match_indices("\"msm ") {
                let literal = text[at + 1..].split('"').next().unwrap_or_default();
                let verb = literal.split(' ').nth(1).unwrap_or_default();
                let is_line = verb.starts_with('-') || verbs.iter().any(|known| known == verb);
                if !is_line || literal.ends_with(' ') {
                    continue;
                }
                lines += 1;
                // What is filled in at run time stands for a word.
                let mut line = literal.to_owned();
                while let (Some(open), Some(close)) = (line.find('{'), line.find('}')) {
                    line.replace_range(open..=close, "x7");
                }
                parses(&line).unwrap_or_else(|why| panic!("{}: {line}: {why}", path.display()));
            }
        });
        assert!(files > 20 && lines > 0, "{files} files with {lines} lines were read");
    }

    fn visit(folder: &Path, each: &mut impl FnMut(&Path, &str)) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, each);
            } else if path.extension().is_some_and(|ending| ending == "rs") && !path.ends_with("cli/hints.rs") {
                each(&path, &fs::read_to_string(&path).unwrap());
            }
        }
    }
}
