//! `msm service`: packing and looking at services.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use msm_market_index::{PackError, Package, pack_folder, read_sep, write_sep};
use msm_protocol::limits::PACKAGE_BYTES;
use serde::Serialize;

use super::{
    call, hints,
    render::text::{bytes, clean},
    screen::{Screen, Stop},
};
use crate::command::{CommandError, ErrorCode};

/// Bytes of a bundle: a package and its lengths.
const SEP_BYTES: u64 = 2 * PACKAGE_BYTES as u64;

/// Build services
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  msm service check ./my-service\n  msm service pack ./my-service")]
pub struct Service {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Pack a service's folder into one file to carry by hand
    #[command(after_help = "Example:\n  msm service pack ./my-service -o my-service.sep")]
    Pack {
        /// The folder with service.toml
        folder: PathBuf,
        /// The file; by default NAME-VERSION.sep here
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// What a packed file or a folder holds and asks for
    #[command(after_help = "Example:\n  msm service inspect my-service-1.0.0.sep")]
    Inspect {
        /// A packed file or a folder
        #[arg(value_name = "FILE.sep|FOLDER")]
        package: PathBuf,
    },
    /// Check service.toml and the files it names, without writing anything
    #[command(after_help = "Example:\n  msm service check ./my-service")]
    Check {
        /// The folder with service.toml
        folder: PathBuf,
    },
}

/// `msm.package/1`.
#[derive(Serialize)]
struct PackageRow<'a> {
    schema: &'static str,
    name: &'a str,
    version: &'a str,
    manifest: String,
    size: u64,
    rating: u8,
    summary: &'a str,
    scope: &'a str,
    variants: Vec<VariantRow>,
    permissions: &'a msm_protocol::manifest::Permissions,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a Path>,
}

#[derive(Serialize)]
struct VariantRow {
    engine: &'static str,
    hash: String,
    size: u64,
}

impl Service {
    pub(crate) fn run(self, screen: &mut Screen) -> Result<(), Stop> {
        match self.what {
            What::Inspect { package } => show(&read(&package)?, None, screen),
            What::Check { folder } => show(&pack(&folder)?, None, screen),
            What::Pack { folder, output } => {
                let package = pack(&folder)?;
                let manifest = &package.manifest;
                let file = output.unwrap_or_else(|| format!("{}-{}.sep", manifest.name, manifest.version).into());
                call::check_output(&file)?;
                let sep = write_sep(&package).map_err(|error| refused(&error, &folder))?;
                call::write_output(&file, &sep)?;
                show(&package, Some(&file), screen)
            }
        }
    }
}

fn show(package: &Package, file: Option<&Path>, screen: &mut Screen) -> Result<(), Stop> {
    let manifest = &package.manifest;
    let size = package.manifest_bytes.len() as u64 + manifest.variants.iter().map(|it| it.size).sum::<u64>();
    let rating = manifest.permissions.rating();
    if screen.style.json {
        let variants = manifest.variants.iter().map(|variant| VariantRow {
            engine: variant.engine.as_str(),
            hash: variant.hash.to_string(),
            size: variant.size,
        });
        return screen.result_json(&PackageRow {
            schema: "msm.package/1",
            name: &manifest.name,
            version: &manifest.version,
            manifest: package.hash.to_string(),
            size,
            rating,
            summary: &manifest.summary,
            scope: &manifest.scope,
            variants: variants.collect(),
            permissions: &manifest.permissions,
            file,
        });
    }
    let mut text = format!(
        "{} {}  {}  {}  rating {rating}/6\nmanifest  {}\n",
        manifest.name,
        manifest.version,
        clean(&manifest.summary, 128),
        bytes(size),
        package.hash
    );
    for variant in &manifest.variants {
        text.push_str(&format!("{:8}  {}  {}\n", variant.engine.as_str(), variant.hash, bytes(variant.size)));
    }
    if let Some(file) = file {
        text.push_str(&format!("file      {}\n", file.display()));
    }
    screen.result_line(text)
}

/// The package in a folder or a packed file.
pub(super) fn read(path: &Path) -> Result<Package, CommandError> {
    if path.is_dir() {
        return pack(path);
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
    read_sep(&sep).map_err(|error| refused(&error, path))
}

fn pack(folder: &Path) -> Result<Package, CommandError> {
    pack_folder(folder).map_err(|error| refused(&error, folder))
}

fn refused(error: &PackError, path: &Path) -> CommandError {
    let hint = hints::service_check(&path.to_string_lossy());
    match error {
        PackError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            CommandError::new(ErrorCode::NotFound, error.to_string())
        }
        PackError::Io { .. } => CommandError::new(ErrorCode::Failed, error.to_string()),
        PackError::Bundle(_) => CommandError::new(ErrorCode::Verification, error.to_string()),
        _ => CommandError::new(ErrorCode::Failed, error.to_string()).or_try(hint),
    }
}
