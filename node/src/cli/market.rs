//! `msm market`: what was typed.

use std::{fs, path::PathBuf};

use clap::{Args, Subcommand};
use msm_protocol::MarketId;

use super::{
    call::{Call, Consent},
    hints,
    market_change::{Delegate, Edit, OneRelease, PutReview, Revoke, Rotate, Rules, Sign, Which},
    market_folder::Action,
    market_review::Review,
    market_serve::Serve,
    search::Search,
    show::Show,
};
use crate::command::{Command, CommandError, ErrorCode};

/// Trust markets, or run one
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  msm market add msm:market:FINGERPRINT
  msm market init ./market --name 'My Market'
  msm market publish ./my-service")]
pub struct Market {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Trust a market: the services that it signs may then run here
    #[command(after_help = "\
Examples:
  msm market add msm:market:FINGERPRINT --alias home
  msm market add /media/usb/market#FINGERPRINT --yes
  msm market add http://kitchen-pi.local:7480/market#FINGERPRINT")]
    Add(Add),
    /// Stop trusting a market
    #[command(visible_alias = "rm", after_help = "Example:\n  msm market remove home")]
    Remove {
        /// Its alias or id
        market: String,
    },
    /// The trusted markets
    #[command(after_help = "Example:\n  msm market list --json")]
    List,
    /// Sign the freshness of own markets again, and look for newer indexes of the others
    #[command(visible_alias = "update", after_help = "Example:\n  msm market refresh")]
    Refresh,
    /// Make a market of your own: keys in this home, documents in a folder
    #[command(after_help = "Example:\n  msm market init ./market --name 'My Market'")]
    Init {
        /// Where its signed files go; any web server can serve them
        folder: PathBuf,
        /// Its name, for people
        #[arg(long)]
        name: String,
        /// Your own short name for it
        #[arg(long)]
        alias: Option<String>,
    },
    /// Pack and sign a service into a market of this home
    #[command(
        after_help = "Example:\n  msm market publish ./my-service\n  msm market publish blur.sep --market ./market"
    )]
    Publish {
        /// A service's folder or packed file
        #[arg(value_name = "FOLDER|FILE.sep")]
        service: PathBuf,
        /// The market's folder or alias; may be left out while the home has one
        #[arg(long, value_name = "FOLDER|ALIAS")]
        market: Option<String>,
    },
    /// Let nobody newly pick a release; what is pinned to it still runs
    #[command(after_help = "Example:\n  msm market yank image-blur@1.2.0")]
    Yank(OneRelease),
    /// Let a yanked release be picked again
    #[command(after_help = "Example:\n  msm market unyank image-blur@1.2.0")]
    Unyank(OneRelease),
    /// Stop a release, or all of a publisher, on every device and for ever
    #[command(after_help = "Example:\n  msm market revoke gps-sharing@1.0.2 --reason 'leaks the exact position' --yes")]
    Revoke(Revoke),
    /// Let only some keys publish names with a prefix
    #[command(after_help = "Example:\n  msm market delegate acme- --to acme")]
    Delegate(Delegate),
    /// Set how many reviews a release needs, and whose count
    #[command(after_help = "Example:\n  msm market policy --reviews 1 --reviewer ann --reviewer bob")]
    Policy(Rules),
    /// Look a service over: manifest, code, size, what it asks for, every test on every variant
    #[command(
        after_help = "Examples:\n  msm market review ./my-service\n  msm market review ./my-service --key ann -o report.cbor"
    )]
    Review(Review),
    /// Put a reviewer's signed report into the index
    #[command(after_help = "Example:\n  msm market put-review report.cbor --by ann")]
    PutReview(PutReview),
    /// Give a role new keys, when the old ones are lost, stolen or old
    #[command(
        after_help = "Examples:\n  msm market rotate-key --role head\n  msm market rotate-key --role root --to ann --to bob --to eve --threshold 2"
    )]
    RotateKey(Rotate),
    /// Sign what waits for signatures with the keys of this home
    #[command(after_help = "Example:\n  msm market sign --with /media/usb/market")]
    Sign(Sign),
    /// Give up what waits for signatures
    #[command(after_help = "Example:\n  msm market discard")]
    Discard(Which),
    /// How long each role's signatures last, whose keys are here, and what waits
    #[command(after_help = "Example:\n  msm market status --json")]
    Status(Which),
    /// Copy a whole market into a folder: for a stick, a web server, or a place without internet
    #[command(after_help = "Example:\n  msm market mirror home --to /media/usb/market")]
    Mirror {
        /// Its alias or id
        market: String,
        /// The folder; what it has already is not fetched again
        #[arg(long, value_name = "FOLDER")]
        to: PathBuf,
    },
    /// Give a market's folder to others over HTTP
    #[command(after_help = "Examples:\n  msm market serve\n  msm market serve /media/usb/market --listen 0.0.0.0:7480")]
    Serve(Serve),
    /// Write the proof that a market has signed two histories
    #[command(after_help = "Example:\n  msm market proof home -o two-histories.proof")]
    Proof {
        /// Its alias or id
        market: String,
        /// A file for anybody to check
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Check a proof that a market has signed two histories; nothing else is needed for it
    #[command(after_help = "Example:\n  msm market verify-proof two-histories.proof")]
    VerifyProof {
        /// What `msm market proof` wrote
        proof: PathBuf,
    },
    /// Check every signature, hash and date of a published market
    #[command(
        after_help = "Example:\n  msm market verify ./market\n  msm market verify http://host/market#FINGERPRINT"
    )]
    Verify {
        /// A folder, or a folder or address with #FINGERPRINT
        #[arg(value_name = "FOLDER|URL#FPR")]
        target: String,
    },
    /// The line to give to those who shall trust a market of this home
    #[command(after_help = "Example:\n  msm market share --json")]
    Share {
        /// Its folder or alias; may be left out while the home has one
        #[arg(value_name = "FOLDER|ALIAS")]
        market: Option<String>,
    },
    /// Same as msm search
    #[command(hide = true)]
    Search(Search),
    /// Same as msm show
    #[command(hide = true)]
    Show(Show),
}

#[derive(Debug, Args)]
struct Add {
    /// The line that `msm market share` prints there, or FOLDER#FINGERPRINT, or http://HOST/PATH#FINGERPRINT
    target: String,
    /// Your own short name for it
    #[arg(long)]
    alias: Option<String>,
}

/// What a line about markets means.
pub(super) enum Meaning {
    /// A command for a node.
    Call(Box<Call>),
    /// Work on a folder of this machine.
    Folder(Action),
}

impl Market {
    pub(super) fn meaning(self) -> Result<Meaning, CommandError> {
        let call = match self.what {
            What::Add(add) => add.meaning()?,
            What::Remove { market } => Call::of_any_node(Command::MarketRemove { market }),
            What::List => Call::of_any_node(Command::MarketList),
            What::Search(search) => search.meaning(),
            What::Show(show) => show.meaning(),
            What::Refresh => return Ok(Meaning::Folder(Action::Refresh)),
            What::Init { folder, name, alias } => return Ok(Meaning::Folder(Action::Init { folder, name, alias })),
            What::Publish { service, market } => return Ok(Meaning::Folder(Action::Publish { service, market })),
            What::Verify { target } => return Ok(Meaning::Folder(Action::Verify { target: Target::read(&target)? })),
            What::Mirror { market, to } => {
                let absolute = std::path::absolute(&to)
                    .map_err(|error| CommandError::new(ErrorCode::Usage, format!("{}: {error}", to.display())))?;
                Call::of_any_node(Command::MarketMirror { market, folder: absolute })
            }
            What::Proof { market, output } => return Ok(Meaning::Folder(Action::Proof { market, output })),
            What::VerifyProof { proof } => return Ok(Meaning::Folder(Action::VerifyProof { proof })),
            What::Serve(it) => return Ok(Meaning::Folder(Action::Serve(it))),
            What::Yank(it) => return Ok(Meaning::Folder(Action::Edit(Edit::Yank(it)))),
            What::Unyank(it) => return Ok(Meaning::Folder(Action::Edit(Edit::Unyank(it)))),
            What::Revoke(it) => return Ok(Meaning::Folder(Action::Edit(Edit::Revoke(it)))),
            What::Delegate(it) => return Ok(Meaning::Folder(Action::Edit(Edit::Delegate(it)))),
            What::Policy(it) => return Ok(Meaning::Folder(Action::Edit(Edit::Rules(it)))),
            What::PutReview(it) => return Ok(Meaning::Folder(Action::Edit(Edit::PutReview(it)))),
            What::RotateKey(it) => return Ok(Meaning::Folder(Action::Edit(Edit::Rotate(it)))),
            What::Review(it) => return Ok(Meaning::Folder(Action::Review(it))),
            What::Sign(it) => return Ok(Meaning::Folder(Action::Edit(Edit::Sign(it)))),
            What::Discard(it) => return Ok(Meaning::Folder(Action::Edit(Edit::Discard(it)))),
            What::Status(it) => return Ok(Meaning::Folder(Action::Edit(Edit::Status(it)))),
            What::Share { market } => return Ok(Meaning::Folder(Action::Share { market })),
        };
        Ok(Meaning::Call(Box::new(call)))
    }
}

/// Where a market is and who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its folder or address; peers are asked when there is none.
    pub place: Option<Place>,
    /// Its fingerprint; only a folder that is inspected may lack one.
    pub market: Option<MarketId>,
}

/// A folder or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On this machine.
    Folder(PathBuf),
    /// `http://…`.
    Url(String),
}

impl Target {
    /// Reads `msm:market:FPR`, `FPR`, `FOLDER`, `FOLDER#FPR` or `URL#FPR`.
    pub fn read(text: &str) -> Result<Self, CommandError> {
        let bad = |why: String| CommandError::new(ErrorCode::Usage, why).or_try(hints::market_add_any());
        if text.starts_with("msm:market:") {
            let market = text.parse().map_err(|error| bad(format!("{text}: {error}")))?;
            return Ok(Self { place: None, market: Some(market) });
        }
        let (place, market) = match text.rsplit_once('#') {
            Some((place, fingerprint)) => {
                let market = fingerprint.parse().map_err(|error| bad(format!("after # in {text}: {error}")))?;
                (place, Some(market))
            }
            // A bare fingerprint; a folder of such a name can be written as ./NAME.
            None => match text.parse() {
                Ok(market) => return Ok(Self { place: None, market: Some(market) }),
                Err(_) => (text, None),
            },
        };
        let place = if place.starts_with("http://") {
            Place::Url(place.to_owned())
        } else if place.starts_with("https://") {
            return Err(bad("https is not spoken here, nor needed: what is fetched is signed; use http://".to_owned()));
        } else {
            Place::Folder(place.into())
        };
        Ok(Self { place: Some(place), market })
    }
}

impl Add {
    fn meaning(self) -> Result<Call, CommandError> {
        let target = Target::read(&self.target)?;
        let Some(market) = target.market else {
            let message = format!(
                "{} has no fingerprint; without it anybody could pretend to be that market. Its operator's \
                 `msm market share` prints the whole line",
                self.target
            );
            return Err(CommandError::new(ErrorCode::Usage, message).or_try(hints::market_add_any()));
        };
        let (sent, from) = match target.place {
            None => (market.to_string(), "peers".to_owned()),
            Some(Place::Url(url)) => (format!("{url}#{market}"), url),
            Some(Place::Folder(folder)) => {
                // The node has another working folder.
                let whole = fs::canonicalize(&folder).map_err(|error| {
                    CommandError::new(ErrorCode::NotFound, format!("no market in {}: {error}", folder.display()))
                })?;
                let Some(text) = whole.to_str() else {
                    let message = format!("{} is not UTF-8; a market's folder must be", whole.display());
                    return Err(CommandError::new(ErrorCode::Usage, message));
                };
                (format!("{text}#{market}"), text.to_owned())
            }
        };
        let consent = Consent {
            question: format!(
                "Trust the market {} (from {from})? Services that it signs may then run on this device, in a sandbox.",
                market.fingerprint()
            ),
            hint: hints::market_add(&self.target),
        };
        let call = Call::of_any_node(Command::MarketAdd { target: sent, alias: self.alias });
        Ok(Call { consent: Some(consent), ..call })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{
        self,
        call::Stdin,
        parse,
        screen::{Screen, Style},
    };

    fn fingerprint() -> (MarketId, String) {
        let market = MarketId::of_first_root(b"x");
        (market, market.fingerprint())
    }

    #[test]
    fn targets_read_in_every_form() {
        let (market, fpr) = fingerprint();
        let cases = [
            (market.to_string(), Target { place: None, market: Some(market) }),
            (fpr.clone(), Target { place: None, market: Some(market) }),
            (format!("a/b#{fpr}"), Target { place: Some(Place::Folder("a/b".into())), market: Some(market) }),
            (format!("a#b#{fpr}"), Target { place: Some(Place::Folder("a#b".into())), market: Some(market) }),
            (
                format!("http://h/m#{fpr}"),
                Target { place: Some(Place::Url("http://h/m".into())), market: Some(market) },
            ),
            ("a/b".into(), Target { place: Some(Place::Folder("a/b".into())), market: None }),
        ];
        for (text, target) in cases {
            assert_eq!(Target::read(&text).unwrap(), target, "{text}");
        }
        for bad in ["msm:market:short", "a#short", &format!("https://h/m#{fpr}")] {
            assert_eq!(Target::read(bad).unwrap_err().code, ErrorCode::Usage, "{bad}");
        }
    }

    fn add(line: &str) -> Result<Call, CommandError> {
        match parse(line.split(' ')).unwrap().verb.meaning(Stdin::Taken)? {
            cli::Meaning::Call(call) => Ok(*call),
            cli::Meaning::Local(_) => panic!("{line} is for a node"),
        }
    }

    #[test]
    fn adding_needs_a_fingerprint_a_folder_that_exists_and_consent() {
        let (market, fpr) = fingerprint();
        assert_eq!(add("market add a/b").unwrap_err().code, ErrorCode::Usage);
        assert_eq!(add(&format!("market add no/such/folder#{fpr}")).unwrap_err().code, ErrorCode::NotFound);
        let folder = tempfile::tempdir().unwrap();
        let call = add(&format!("market add {}#{fpr} --alias home", folder.path().display())).unwrap();
        let whole = folder.path().canonicalize().unwrap();
        assert_eq!(
            call.request.command,
            Command::MarketAdd { target: format!("{}#{market}", whole.display()), alias: Some("home".into()) }
        );
        let mut screen = Screen::on(Vec::new(), Vec::new(), Style::default());
        let stop = call.ask_consent(false, &mut screen).unwrap_err();
        let cli::screen::Stop::Failed(error) = stop else { panic!("{stop:?}") };
        assert_eq!(error.code, ErrorCode::NotAllowed);
        assert!(error.r#try[0].ends_with(" --yes") && error.r#try[0].starts_with("msm market add "), "{error:?}");
        assert!(call.ask_consent(true, &mut screen).is_ok());
    }
}
