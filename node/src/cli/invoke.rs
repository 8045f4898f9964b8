//! `msm invoke`.

use std::path::{Path, PathBuf};

use clap::Args;
use msm_protocol::{PeerId, limits::PARAMS_BYTES};
use serde_json::{Map, Value};

use super::{
    call::{self, Call, Output, Stdin, WithoutNode},
    hints,
    values::{self, EngineWish, LossWish, NetworkWish, Require, ScoreWish},
};
use crate::{
    blob::Blob,
    command::{self, Command, CommandError, Devices, ErrorCode, Redundancy, Request},
};

const EXAMPLES: &str = "\
Examples:
  msm invoke image-blur cat.png -o out.png
  msm invoke image-blur cat.png -o out.png -p radius=8 --devices 4
  msm invoke home/image-blur@1.2 - -o - < cat.png > out.png
  msm invoke image-blur cat.png --plan
  msm invoke image-blur cat.png --detach
  msm invoke internet-sharing http://example.org/ -o page.html

With --json the report of the job (msm.job/1) is printed; the output then goes to -o FILE only.";

/// Run a service on this device and those nearby
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Invoke {
    /// NAME, MARKET/NAME, either with @RANGE, or a manifest's hash
    service: String,
    /// Input file, or a web address as the input itself; - reads standard input; nothing for services without input
    #[arg(value_name = "IN|URL|-")]
    input: Option<PathBuf>,
    /// Output file; - is standard output
    #[arg(short, long, value_name = "OUT|-")]
    output: Option<PathBuf>,
    /// A parameter of the service; repeat for more
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = values::param)]
    params: Vec<(String, Value)>,
    /// How many devices, this one included: a number, a range such as 2..6, or auto
    #[arg(long, value_name = "N|A..B|auto", default_value = "auto", value_parser = values::devices)]
    devices: Devices,
    /// Fewer devices than asked for is an error (exit 5), and so is a partial result (exit 1)
    #[arg(long)]
    strict: bool,
    /// Only on this device
    #[arg(long, conflicts_with_all = ["devices", "strict"])]
    local: bool,
    /// Only on other devices, not on this one
    #[arg(long, conflicts_with = "local")]
    remote_only: bool,
    /// Of the others only this one; repeat for more
    #[arg(long = "peer", value_name = "PEER", conflicts_with = "local")]
    peers: Vec<PeerId>,
    /// Smallest battery charge, percent
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    battery_min: Option<u8>,
    /// Smallest execution quality score
    #[arg(long, value_name = "EQS", value_parser = values::score)]
    eqs_min: Option<f64>,
    /// Smallest network class
    #[arg(long, value_enum)]
    network: Option<NetworkWish>,
    /// What a device must have
    #[arg(long, value_enum, value_name = "SENSOR")]
    require: Vec<Require>,
    /// Only this engine
    #[arg(long, value_enum)]
    engine: Option<EngineWish>,
    /// Which score orders the devices; paper is for comparison only
    #[arg(long, value_enum, default_value = "measured", value_name = "SCORE")]
    eqs: ScoreWish,
    /// Who takes the tasks of a device that is lost
    #[arg(long, value_enum, default_value = "remote", value_name = "WHO")]
    on_loss: LossWish,
    /// How outputs of other devices are checked: not at all, by samples, or by the word of K of N devices on each part
    #[arg(long, value_name = "none|spot|K/N", value_parser = values::redundancy)]
    redundancy: Option<Redundancy>,
    /// Give up after this long, such as 500ms, 30s or 2m
    #[arg(long, value_name = "TIME", value_parser = values::duration_ms)]
    deadline: Option<u64>,
    /// Only say which devices would be used, and why the others not
    #[arg(long)]
    plan: bool,
    /// Print the job's id and leave it to the running node; msm jobs wait ID gets the result
    #[arg(long, conflicts_with_all = ["plan", "output"])]
    detach: bool,
}

impl Invoke {
    /// Reads the input and checks the output's place.
    pub(super) fn meaning(self, stdin: Stdin) -> Result<Call, CommandError> {
        let params = collect(self.params, &self.service)?;
        let url = self.input.as_deref().and_then(web_address);
        let input = match (&self.input, url) {
            (_, Some(url)) => url.to_owned().into(),
            (Some(path), None) => call::read_input(path, stdin)?,
            (None, None) => Blob::default(),
        };
        let name = self.input.as_deref().filter(|path| *path != Path::new("-")).map(Path::to_string_lossy);
        let input_type = match url {
            Some(_) => Some(URL_LIST.to_owned()),
            None if self.input.is_some() => values::media_type(name.as_deref(), &call::first_bytes(&input)),
            None => None,
        };
        let output = match self.output {
            Some(path) if path == Path::new("-") => Output::Stdout,
            Some(path) => {
                call::check_output(&path)?;
                apart(self.input.as_deref(), &path)?;
                Output::File(path)
            }
            None => Output::Unsaid,
        };
        let invoke = command::Invoke {
            service: self.service,
            params,
            input_type,
            devices: self.devices,
            strict: self.strict,
            local: self.local,
            remote_only: self.remote_only,
            peers: self.peers,
            battery_min: self.battery_min,
            eqs_min: self.eqs_min,
            network: self.network.map(Into::into),
            require_gps: self.require.contains(&Require::Gps),
            engine: self.engine.map(|engine| engine.as_str().to_owned()),
            on_loss: self.on_loss.into(),
            redundancy: self.redundancy,
            plan: self.plan,
            eqs_paper: self.eqs == ScoreWish::Paper,
            deadline_ms: self.deadline,
            detach: self.detach,
        };
        let request = Request { command: Command::Invoke(Box::new(invoke)), input };
        // A node that lives for one call could not finish the job.
        let (output, without_node) = match self.detach {
            true => (Output::Id, WithoutNode::Refuse),
            false => (output, WithoutNode::Start),
        };
        Ok(Call { request, output, without_node, consent: None })
    }
}

/// Refuses an output that would replace the input.
fn apart(input: Option<&Path>, output: &Path) -> Result<(), CommandError> {
    let same = input
        .and_then(|input| input.canonicalize().ok())
        .is_some_and(|input| output.canonicalize().is_ok_and(|output| output == input));
    if !same {
        return Ok(());
    }
    let message = format!("{} is the input too: the result would replace it", output.display());
    Err(CommandError::new(ErrorCode::Usage, message))
}

/// Media type of an input that is a web address.
const URL_LIST: &str = "text/uri-list";

/// A web address in the place of an input file; no file's name begins so by chance.
fn web_address(input: &Path) -> Option<&str> {
    input.to_str().filter(|text| text.starts_with("http://") || text.starts_with("https://"))
}

fn collect(given: Vec<(String, Value)>, service: &str) -> Result<Map<String, Value>, CommandError> {
    let mut params = Map::new();
    for (name, value) in given {
        if params.insert(name.clone(), value).is_some() {
            let message = format!("parameter {name:?} is given twice");
            return Err(CommandError::new(ErrorCode::Usage, message).or_try(hints::show(service)));
        }
    }
    let length = Value::Object(params.clone()).to_string().len();
    if length > PARAMS_BYTES {
        let message = format!("the parameters are {length} bytes of JSON, at most {PARAMS_BYTES}");
        return Err(CommandError::new(ErrorCode::Usage, message).or_try(hints::show(service)));
    }
    Ok(params)
}

#[cfg(test)]
mod tests {
    use msm_protocol::device::Network;
    use serde_json::json;

    use super::*;
    use crate::{
        cli::{Meaning, parse},
        command::OnLoss,
    };

    fn invoke(line: &str) -> Result<(command::Invoke, Output), CommandError> {
        match parse(line.split(' ')).unwrap().verb.meaning(Stdin::Taken)? {
            Meaning::Call(call) => match call.request.command {
                Command::Invoke(invoke) => Ok((*invoke, call.output)),
                other => panic!("{other:?}"),
            },
            Meaning::Local(_) => panic!("{line} is for a node"),
        }
    }

    #[test]
    fn what_is_typed_is_what_is_meant() {
        let plain = command::Invoke { service: "x".into(), ..command::Invoke::default() };
        let cases: [(&str, command::Invoke); 14] = [
            ("invoke x --eqs paper", command::Invoke { eqs_paper: true, ..plain.clone() }),
            ("invoke x", plain.clone()),
            (
                "invoke x -p radius=8 -p name=ada",
                command::Invoke {
                    params: json!({"radius": 8, "name": "ada"}).as_object().unwrap().clone(),
                    ..plain.clone()
                },
            ),
            (
                "invoke x --devices 2..6 --strict",
                command::Invoke { devices: Devices::Range { min: 2, max: 6 }, strict: true, ..plain.clone() },
            ),
            (
                "invoke x --battery-min 50 --eqs-min 7.5",
                command::Invoke { battery_min: Some(50), eqs_min: Some(7.5), ..plain.clone() },
            ),
            ("invoke x --network high", command::Invoke { network: Some(Some(Network::High)), ..plain.clone() }),
            ("invoke x --network na", command::Invoke { network: Some(None), ..plain.clone() }),
            (
                "invoke x --remote-only --peer 12D3KooWBwZkuG6mRRVzLQX1e6unHsHiZYcCYGgDFPSZSYhCX7sx",
                command::Invoke {
                    remote_only: true,
                    peers: vec!["12D3KooWBwZkuG6mRRVzLQX1e6unHsHiZYcCYGgDFPSZSYhCX7sx".parse().unwrap()],
                    ..plain.clone()
                },
            ),
            ("invoke x --require gps --local", command::Invoke { require_gps: true, local: true, ..plain.clone() }),
            (
                "invoke x --engine wasm --on-loss partial",
                command::Invoke { engine: Some("wasm".into()), on_loss: OnLoss::Partial, ..plain.clone() },
            ),
            (
                "invoke x --redundancy 2/3",
                command::Invoke { redundancy: Some(Redundancy::Agree { agree: 2, of: 3 }), ..plain.clone() },
            ),
            ("invoke x --redundancy none", command::Invoke { redundancy: Some(Redundancy::None), ..plain.clone() }),
            (
                "invoke x http://example.org/a?b=c",
                command::Invoke { input_type: Some("text/uri-list".into()), ..plain.clone() },
            ),
            ("invoke x --plan --deadline 2m", command::Invoke { plan: true, deadline_ms: Some(120_000), ..plain }),
        ];
        for (line, expected) in cases {
            assert_eq!(invoke(line).unwrap(), (expected, Output::Unsaid), "{line}");
        }
        assert_eq!(invoke("invoke x -o -").unwrap().1, Output::Stdout);
        assert_eq!(invoke("invoke x -o new.png").unwrap().1, Output::File("new.png".into()));
    }

    #[test]
    fn mistakes_are_found_before_anything_starts() {
        let cases = [
            ("invoke x no-such-cat.png -o out.png", ErrorCode::NotFound),
            ("invoke x -o no/such/folder/out.png", ErrorCode::NotFound),
            ("invoke x -p a=1 -p a=2", ErrorCode::Usage),
            ("invoke x -", ErrorCode::Usage),
            ("invoke x Cargo.toml -o ./Cargo.toml", ErrorCode::Usage),
        ];
        for (line, code) in cases {
            assert_eq!(invoke(line).unwrap_err().code, code, "{line}");
        }
        let big = format!("invoke x -p a={}", "x".repeat(PARAMS_BYTES));
        assert_eq!(invoke(&big).unwrap_err().code, ErrorCode::Usage);
        for bad in
            ["--devices 0", "--battery-min 101", "--eqs-min nan", "--network fast", "--local --devices 2", "-p a"]
        {
            assert!(parse(format!("invoke x {bad}").split(' ')).is_err(), "{bad}");
        }
    }
}
