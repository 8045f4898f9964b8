//! `msm service`: from an empty folder to a package, on the author's machine; no market and no node take part.

mod bench;
mod check;
mod dev;
mod inspect;
mod new;
mod pack;
mod run;
mod test;

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use msm_market_index::{PackError, Package, pack_folder, read_recipe, read_sep};
use msm_protocol::{Refusal, RefusalCode, limits::PACKAGE_BYTES};

use super::{
    call::Stdin,
    hints,
    render::{
        source,
        text::{bytes, clean_lines},
    },
    screen::{Screen, Stop, Style},
};
use crate::{
    command::{CommandError, ErrorCode},
    home::Home,
    node::job::error_of,
    workshop::{
        WorkshopError, build,
        check::Finding,
        project::{self, Project, Variant},
        sources::{Place, Sources},
    },
};

/// Bytes of a bundle: a package and its lengths.
const SEP_BYTES: u64 = 2 * PACKAGE_BYTES as u64;

const EXAMPLES: &str = "\
Examples:
  msm service new hello --lang js
  msm service dev hello
  msm service test hello
  msm service pack hello";

/// Build services
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Service {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make the folder of a new service
    New(new::New),
    /// Build, check and test again after every change
    Dev(dev::Dev),
    /// Check service.toml, the code, the tests and the README
    Check(check::Check),
    /// Run a service once, in the sandbox
    Run(Box<run::Run>),
    /// Run every test on every variant, whole and in parts, twice
    Test(test::Test),
    /// Measure how quick each variant is
    Bench(bench::Bench),
    /// Pack a service's folder into one file to carry by hand
    Pack(pack::Pack),
    /// What a packed file or a folder holds and asks for
    Inspect(inspect::Inspect),
}

impl Service {
    /// Most need no home: `home` opens it for those that do.
    pub(crate) async fn run(
        self,
        home: impl FnOnce() -> Result<Home, CommandError>,
        stdin: Stdin,
        screen: &mut Screen,
    ) -> Result<(), Stop> {
        match self.what {
            What::New(it) => it.run(screen),
            What::Dev(it) => it.run(screen).await,
            What::Check(it) => it.run(screen).await,
            What::Run(it) => it.run(home, stdin, screen).await,
            What::Test(it) => it.run(screen).await,
            What::Bench(it) => it.run(screen).await,
            What::Pack(it) => it.run(screen).await,
            What::Inspect(it) => it.run(screen),
        }
    }
}

/// The folder of the service, by default this one.
#[derive(Debug, Args)]
struct Folder {
    /// The folder with service.toml
    #[arg(value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
}

/// Builds the variants that are due. Each line is shown before it runs: it is a program on the author's machine.
async fn build_due(folder: &Path, only: Option<&str>, screen: &mut Screen) -> Result<(), Stop> {
    let recipe = read_recipe(folder).map_err(|error| refused(&error, folder, screen.style))?;
    for variant in &recipe.variants {
        let wanted = only.is_none_or(|only| only.split('-').next() == Some(variant.engine.as_str()));
        if let (true, true, Some(line)) = (wanted, build::is_due(folder, variant), &variant.build) {
            // However quiet: nothing of a folder's runs outside a sandbox unseen.
            screen.message(clean_lines(&format!("building {}: {line}", variant.file)));
            let built = build::run(folder, variant).await.map_err(|error| failed(error, folder, screen.style))?;
            if !screen.style.quiet {
                let (size, took) = (bytes(built.size), built.took.as_millis());
                screen.message(clean_lines(&format!("built {}  {size}  {took} ms", built.file)));
            }
        }
    }
    Ok(())
}

/// The service in `folder`, its variants built.
async fn open(folder: &Path, only: Option<&str>, screen: &mut Screen) -> Result<Project, Stop> {
    build_due(folder, only, screen).await?;
    Ok(Project::open(folder).map_err(|error| failed(error, folder, screen.style))?)
}

/// The package in a folder or a packed file. Nothing is built: it may come from anywhere.
pub(super) fn read(path: &Path, style: Style) -> Result<Package, CommandError> {
    if path.is_dir() {
        return pack_folder(path).map_err(|error| refused(&error, path, style));
    }
    let failed = |error: io::Error| {
        let code = if error.kind() == io::ErrorKind::NotFound { ErrorCode::NotFound } else { ErrorCode::Failed };
        CommandError::new(code, format!("cannot read {}: {error}", path.display()))
    };
    let mut sep = Vec::new();
    fs::File::open(path).and_then(|file| file.take(SEP_BYTES + 1).read_to_end(&mut sep)).map_err(failed)?;
    if sep.len() as u64 > SEP_BYTES {
        let message = format!("{} has more than {SEP_BYTES} bytes: it is no packed service", path.display());
        return Err(CommandError::new(ErrorCode::Verification, message));
    }
    read_sep(&sep).map_err(|error| refused(&error, path, style))
}

fn refused(error: &PackError, path: &Path, style: Style) -> CommandError {
    let hint = hints::service_check(&path.to_string_lossy());
    match error {
        PackError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            CommandError::new(ErrorCode::NotFound, error.to_string())
        }
        PackError::Io { .. } => CommandError::new(ErrorCode::Failed, error.to_string()),
        PackError::Bundle(_) => CommandError::new(ErrorCode::Verification, error.to_string()),
        PackError::Manifest { path: toml, text, faults } if !style.json => {
            let shown = faults.iter().map(|fault| {
                let what = format!("{}: {}", fault.key, fault.reason);
                let place = fault.span.clone().map(|span| (toml.to_string_lossy(), span));
                let place = place.as_ref().map(|(path, span)| (&**path, text.as_str(), span.clone()));
                source::text(&source::Remark { is_error: true, what: &what, place, help: fault.help.as_deref() }, false)
            });
            let shown = shown.collect::<Vec<_>>().join("\n");
            let message = format!("{} cannot be packed\n{shown}", path.display());
            CommandError::new(ErrorCode::Failed, message).or_try(hint)
        }
        _ => CommandError::new(ErrorCode::Failed, error.to_string()).or_try(hint),
    }
}

/// Why something on the bench failed, as the command's end.
pub(super) fn failed(error: WorkshopError, folder: &Path, style: Style) -> CommandError {
    let code = match &error {
        WorkshopError::Pack(error) => return refused(error, folder, style),
        WorkshopError::NotFound(_) => ErrorCode::NotFound,
        WorkshopError::Usage(_) => ErrorCode::Usage,
        WorkshopError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorCode::NotFound,
        _ => ErrorCode::Failed,
    };
    let message = match &error {
        WorkshopError::Case { path, text, span: Some(span), reason } if !style.json => {
            let path = path.to_string_lossy();
            let place = Some((&*path, text.as_str(), span.clone()));
            let remark = source::Remark { is_error: true, what: reason, place, help: None };
            format!("a test cannot be read\n{}", source::text(&remark, false))
        }
        _ => error.to_string(),
    };
    CommandError::new(code, message)
}

/// The line of a place and a caret below it, without a title: what it is about was said.
fn caret(place: &Place, folder: &Path) -> String {
    let path = project::path_in(folder, &place.file);
    let remark = source::Remark {
        is_error: true,
        what: "",
        place: Some((&path, place.text.as_str(), place.span.clone())),
        help: None,
    };
    let shown = source::text(&remark, false);
    shown.split_once('\n').map_or(String::new(), |(_, rest)| rest.to_owned() + "\n")
}

/// Why a run failed, with the place in the code where it did. What a service was not allowed to do is no failure of its
/// own.
fn run_failed(refusal: &Refusal, variant: &Variant, folder: &Path, style: Style) -> CommandError {
    let mut error = error_of(refusal);
    if let (false, (what, Some(place))) = (style.json, Sources::of_variant(variant).explain(&error.message)) {
        error.message = format!("{what}\n{}", caret(&place, folder).trim_end());
    }
    if refusal.code == RefusalCode::ServiceFailed && refusal.reason.contains("PermissionError") {
        return CommandError { code: ErrorCode::NotAllowed, ..error };
    }
    error
}

/// A finding for people, its file named as the author would type it.
fn shown(finding: &Finding, folder: &Path, color: bool) -> String {
    use crate::workshop::check::Level;
    let path = finding.place.as_ref().map(|place| project::path_in(folder, &place.file));
    let place = finding.place.as_ref().zip(path.as_deref());
    let remark = source::Remark {
        is_error: finding.level == Level::Error,
        what: &finding.what,
        place: place.map(|(place, path)| (path, place.text.as_str(), place.span.clone())),
        help: finding.help.as_deref(),
    };
    source::text(&remark, color)
}
