//! `msm service run`: one run in the sandbox, without a market.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use msm_protocol::manifest::Permissions;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Folder, Screen, Stop, failed, open, run_failed};
use crate::{
    blob::Blob,
    cli::{
        call::{self, Stdin},
        render::text::{bytes, clean_lines, is_text, milliseconds},
        values,
    },
    command::{CommandError, ErrorCode},
    home::Home,
    node::packages::Installed,
    workshop::{self, WorkshopError, bench::Bench, local::Local, replay::Replay},
};

/// Run a service once, in the sandbox
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  msm service run ./my-service -i cat.png -o out.png -p radius=3\n  \
                        msm service run -i cat.png -o out.png --variant js --deny image --chunks 4")]
pub(super) struct Run {
    #[command(flatten)]
    folder: Folder,
    /// Input file; - reads standard input
    #[arg(short, long, value_name = "IN|-")]
    input: Option<PathBuf>,
    /// Output file; - is standard output
    #[arg(short, long, value_name = "OUT|-")]
    output: Option<PathBuf>,
    /// A parameter; repeat for more
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = values::param)]
    params: Vec<(String, Value)>,
    /// Only this variant: js, wasm, or js-2 for the second of its kind
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,
    /// In about so many parts instead of whole
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    chunks: Option<u32>,
    /// Run as if this were not asked for; repeat for more
    #[arg(long, value_enum, value_name = "RIGHT")]
    deny: Vec<Denied>,
    /// Answer with this device's own position, web and state, as far as its owner's [resources] allow
    #[arg(long, conflicts_with_all = ["gps", "site", "device"])]
    local_resources: bool,
    /// Answer gps.position from this file of positions (JSON)
    #[arg(long, value_name = "FILE")]
    gps: Option<PathBuf>,
    /// Answer net.fetch from this folder of sites (HOST/PATH)
    #[arg(long, value_name = "FOLDER")]
    site: Option<PathBuf>,
    /// Answer device.status from this file (JSON)
    #[arg(long, value_name = "FILE")]
    device: Option<PathBuf>,
}

/// A permission as `service.toml` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Denied {
    Gps,
    Net,
    Clock,
    Image,
    Device,
    Random,
}

/// `msm.service-run/1`.
#[derive(Serialize)]
struct RunRow<'a> {
    schema: &'static str,
    variant: &'a str,
    parts: usize,
    wall_ms: f64,
    cpu_ms: f64,
    output_bytes: usize,
    log: &'a str,
}

impl Run {
    pub(super) async fn run(
        self,
        home: impl FnOnce() -> Result<Home, CommandError>,
        stdin: Stdin,
        screen: &mut Screen,
    ) -> Result<(), Stop> {
        let folder = self.folder.folder.clone();
        let project = open(&folder, self.variant.as_deref(), screen).await?;
        let style = screen.style;
        let wrong = |error: WorkshopError| failed(error, &folder, style);
        let variants = project.variants(self.variant.as_deref()).map_err(wrong)?;
        let variant = variants.first().ok_or_else(|| wrong(WorkshopError::NotFound("no variant".into())))?;
        let input = match &self.input {
            Some(path) => call::read_input(path, stdin)?,
            None => Blob::default(),
        };
        let input = input.whole().await.map_err(|error| CommandError::new(ErrorCode::Failed, error.to_string()))?;
        if let Some(path) = self.output.as_deref().filter(|path| *path != Path::new("-")) {
            call::check_output(path)?;
        }
        let mut service = Installed::clone(&variant.service);
        self.deny.iter().for_each(|denied| denied.take_from(&mut service.manifest.permissions));
        let params = params_of(&service, &self.params)?;
        let replay =
            self.replay(&service.manifest.permissions).map_err(|why| CommandError::new(ErrorCode::Usage, why))?;
        let bench = Bench::open().map_err(wrong)?;
        // Held until the run has ended.
        let local = match self.local_resources {
            true => Some(Local::open(&home()?, &service.manifest, bench.client()).await?),
            false => None,
        };
        let resources = Some(local.as_ref().map_or_else(|| replay.play(), Local::resources));
        let run = workshop::bench::Run { service: &service, params: params.into(), input, resources };
        let ran = match self.chunks {
            None => bench.whole(&run).await,
            Some(want) => bench.parts(&run, want).await,
        };
        let ran = ran.map_err(|refusal| run_failed(&refusal, variant, &folder, style))?;
        if !ran.log.is_empty() && !style.quiet && !style.json {
            screen.message(clean_lines(ran.log.trim_end()));
        }
        let to_file = self.output.as_deref().filter(|path| *path != Path::new("-"));
        let milli = |time: std::time::Duration| time.as_secs_f64() * 1_000.0;
        match to_file {
            Some(path) => call::write_output(path, &ran.output)?,
            None if style.json => {}
            None if style.out_terminal && self.output.is_none() && !is_text(&ran.output) => {
                let message =
                    format!("the output is {} of binary data: write it with -o FILE", bytes(ran.output.len() as u64));
                return Err(CommandError::new(ErrorCode::Usage, message).into());
            }
            None => screen.result(&ran.output)?,
        }
        if style.json {
            return screen.result_json(&RunRow {
                schema: "msm.service-run/1",
                variant: &variant.name,
                parts: ran.parts,
                wall_ms: milli(ran.wall),
                cpu_ms: milli(ran.cpu),
                output_bytes: ran.output.len(),
                log: &ran.log,
            });
        }
        if !style.quiet {
            let parts = if ran.parts == 1 { String::new() } else { format!(" in {} parts", ran.parts) };
            let (took, size) = (milliseconds(milli(ran.wall)), bytes(ran.output.len() as u64));
            screen.message(format!("ran on {}{parts}: {took}, {size} out", variant.name));
        }
        Ok(())
    }

    fn replay(&self, asked: &Permissions) -> Result<Replay, String> {
        Replay::read(self.gps.as_deref(), self.site.as_deref(), self.device.as_deref(), asked)
    }
}

impl Denied {
    fn take_from(self, permissions: &mut Permissions) {
        match self {
            Self::Gps => permissions.gps = None,
            Self::Net => permissions.net.clear(),
            Self::Clock => permissions.clock = false,
            Self::Image => permissions.image = false,
            Self::Device => permissions.device = false,
            Self::Random => permissions.random = false,
        }
    }
}

/// All parameters as JSON; what is given must be what the manifest allows.
pub(super) fn params_of(service: &Installed, given: &[(String, Value)]) -> Result<String, CommandError> {
    let given: Map<String, Value> = given.iter().cloned().collect();
    service.manifest.resolve_params(&given).map_err(|error| CommandError::new(ErrorCode::Usage, error.to_string()))
}
