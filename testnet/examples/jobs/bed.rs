//! Devices of known speeds on loopback, and work of a known amount for them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use msm_testnet::{
    market::{HEAVY, Market, PART_BYTES, text, write_heavy},
    node::{Client, Node, Repl},
    quota::Quota,
    wait,
};
use serde_json::Value;
use tempfile::TempDir;

/// Anything that is no measurement happens within this.
const SOON: Duration = Duration::from_secs(60);
/// Pieces of the work: many enough that cutting them fairly is no problem.
const PIECES: usize = 480;
/// What is given to devices together, of what there is: the rest is for this program and the machine.
const CORES_SHARE: f64 = 0.95;

/// A device: a node with a share of a core.
pub struct Device {
    pub node: Node,
    pub quota: Quota,
    pub share: f64,
}

/// A requester and workers.
pub struct Bed {
    repl: Repl,
    /// Of the workers.
    others: Vec<Repl>,
    /// The requester is the first.
    pub devices: Vec<Device>,
    input: PathBuf,
    /// The first half of it.
    half: PathBuf,
    out: PathBuf,
    /// CPU seconds of one turn of the work's loop for all of the input, where all work; known after [`Bed::calibrate`].
    turn: f64,
    flags: Vec<String>,
    /// Last: homes go when their nodes have gone.
    _folder: TempDir,
}

/// A finished job.
pub struct Done {
    pub report: Value,
    pub wall: f64,
}

impl Done {
    /// Seconds of one of its phases.
    pub fn phase(&self, name: &str) -> f64 {
        let phases = self.report["phases_ms"].as_array().into_iter().flatten();
        phases.filter(|phase| phase[0] == name).filter_map(|phase| phase[1].as_f64()).sum::<f64>() / 1e3
    }
}

impl Bed {
    /// Starts a device for each share, the first as requester, all with the service.
    ///
    /// # Errors
    /// The shares are more than the cores: a speed-up would be a lie.
    pub fn new(shares: &[f64]) -> Result<Self> {
        let (sum, cores) = (shares.iter().sum::<f64>(), std::thread::available_parallelism()?.get() as f64);
        ensure!(
            sum <= cores * CORES_SHARE,
            "devices of {sum:.2} cores in all on a machine of {cores}: their speed-up would mean nothing"
        );
        let folder = tempfile::Builder::new().prefix("msm-jobs-").tempdir()?;
        let service = write_heavy(folder.path())?;
        let requester = Client::new(folder.path().join("device0"))?;
        let market = Market::publish(&requester, &[service])?;
        let mut devices: Vec<Device> = Vec::new();
        let mut near = Vec::new();
        for (number, share) in shares.iter().enumerate() {
            let (quota, client) = (Quota::new(*share)?, Client::new(folder.path().join(format!("device{number}")))?);
            fs::create_dir_all(client.home())?;
            // One guest at a time, as one core has it; and its own work as well.
            fs::write(client.home().join("config.toml"), format!("name = \"device{number}\"\n[offer]\nslots = 1\n"))?;
            let flags = [
                &["--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns"],
                &near.iter().map(String::as_str).collect::<Vec<_>>()[..],
            ]
            .concat();
            let node = Node::start(quota.holds(client), &flags)?;
            if near.is_empty() {
                let status = node.client.json(&["status"])?;
                near = vec!["--peer".into(), status["addresses"][0].as_str().context("it listens")?.to_owned()];
            } else {
                node.client.json(&["market", "add", &market.name, "--yes"])?;
            }
            devices.push(Device { node, quota, share: *share });
        }
        let workers: Vec<&Node> = devices[1..].iter().map(|device| &device.node).collect();
        devices[0].node.sees(&workers, SOON)?;
        let [input, half, out] = ["input.bin", "half.bin", "out.bin"].map(|name| folder.path().join(name));
        let bytes: Vec<u8> = (0..PIECES * PART_BYTES).map(|at| (at * 31) as u8).collect();
        fs::write(&input, &bytes)?;
        fs::write(&half, &bytes[..PIECES / 2 * PART_BYTES])?;
        let mut repls = devices.iter().map(|device| Repl::open(&device.node.client)).collect::<Result<Vec<_>>>()?;
        let (repl, others) = (repls.remove(0), repls);
        let mut bed = Self { repl, others, devices, input, half, out, turn: 0.0, flags: near, _folder: folder };
        bed.warm()?;
        Ok(bed)
    }

    /// All devices have the service and have done something of it.
    fn warm(&mut self) -> Result<()> {
        let all = format!("--devices {}", self.devices.len());
        for _ in 0..5 {
            let done = self.run(100, &all)?;
            let used = done.report["devices"]
                .as_array()
                .map_or(0, |rows| rows.iter().filter(|row| row["tasks"].as_u64() > Some(0)).count());
            if used == self.devices.len() {
                break;
            }
        }
        Ok(())
    }

    /// Measures what a turn of the loop costs where all devices are at it: the difference between much of it and none, each
    /// device by itself, at its own share. A core of its own, or an idle neighbour, would make a turn cheaper than any job
    /// can have it: cores share caches and more. Gives the CPU seconds of a turn.
    pub fn calibrate(&mut self, rounds: u32) -> Result<f64> {
        /// On a whole core; on a share of one as much less.
        const TURNS: f64 = 10_000.0;
        let turns: Vec<u32> = self.devices.iter().map(|device| (TURNS * device.share).round() as u32).collect();
        let all = turns.iter().copied().map(f64::from).sum::<f64>();
        let mut costs = Vec::new();
        for _ in 0..rounds {
            let nothing = self.cost_of_each(&vec![0; turns.len()])?;
            costs.push((self.cost_of_each(&turns)? - nothing) / all);
        }
        self.turn = super::quantile(&costs, 0.5);
        ensure!(self.turn > 0.0, "work that costs nothing: {costs:?}");
        Ok(self.turn)
    }

    /// CPU seconds of so many turns on each device, all at the same time.
    fn cost_of_each(&mut self, turns: &[u32]) -> Result<f64> {
        let before = self.used()?;
        let lines = (0..).zip(turns).map(|(number, turns)| {
            let out = self.out.with_extension(number.to_string());
            Ok(format!("invoke {HEAVY} {} -p rounds={turns} --local -o {}", text(&self.input)?, text(&out)?))
        });
        let lines = lines.collect::<Result<Vec<String>>>()?;
        std::thread::scope(|scope| {
            let jobs: Vec<_> = std::iter::once(&mut self.repl)
                .chain(&mut self.others)
                .zip(&lines)
                .map(|(repl, line)| scope.spawn(move || repl.json(line)))
                .collect();
            for job in jobs {
                let report = job.join().map_err(|_| anyhow::anyhow!("a caller panicked"))??;
                ensure!(report["state"] == "done", "{report}");
            }
            Ok(())
        })?;
        Ok(self.used()? - before)
    }

    /// CPU seconds of all devices so far.
    pub fn used(&self) -> Result<f64> {
        self.devices.iter().map(|device| Ok(device.quota.used()?.as_secs_f64())).sum()
    }

    /// Turns of the loop that cost so many CPU seconds.
    pub fn turns(&self, seconds: f64) -> u32 {
        (seconds / self.turn).round().max(1.0) as u32
    }

    /// What so many turns cost, CPU seconds.
    pub fn cost(&self, turns: u32) -> f64 {
        f64::from(turns) * self.turn
    }

    /// The line of a job.
    fn line(&self, input: &Path, turns: u32, more: &str) -> Result<String> {
        Ok(format!("invoke {HEAVY} {} -p rounds={turns} {more} -o {}", text(input)?, text(&self.out)?))
    }

    /// Runs a job to its end.
    pub fn run(&mut self, turns: u32, more: &str) -> Result<Done> {
        self.finish(self.line(&self.input, turns, more)?)
    }

    /// Runs a job on half of the input: another job of the same service with the same parameters.
    pub fn run_half(&mut self, turns: u32, more: &str) -> Result<Done> {
        self.finish(self.line(&self.half, turns, more)?)
    }

    fn finish(&mut self, line: String) -> Result<Done> {
        let report = self.repl.json(&line)?;
        ensure!(report["state"] == "done", "{line}: {report}");
        let wall = report["wall_ms"].as_f64().context("wall_ms")? / 1e3;
        Ok(Done { report, wall })
    }

    /// Runs a job on all devices and does something when so many CPU seconds went into it; the job, and how it stood then.
    pub fn disturbed(
        &mut self,
        turns: u32,
        after: f64,
        disturb: impl FnOnce(&mut [Device]) -> Result<()>,
    ) -> Result<(Done, Moment)> {
        let line = self.line(&self.input, turns, &format!("--devices {}", self.devices.len()))?;
        let before = self.used()?;
        let Self { repl, devices, .. } = self;
        std::thread::scope(|scope| {
            let since = Instant::now();
            let job = scope.spawn(move || anyhow::Ok((repl.json(&line)?, since.elapsed().as_secs_f64())));
            let (used, _) = wait::until(SOON, &format!("{after:.2} CPU seconds of work"), || {
                let used = devices.iter().map(|device| Ok(device.quota.used()?.as_secs_f64())).sum::<Result<f64>>()?;
                Ok((used - before >= after).then_some(used - before))
            })?;
            disturb(devices)?;
            let moment = Moment { used, at: since.elapsed().as_secs_f64() };
            let (report, wall) = job.join().map_err(|_| anyhow::anyhow!("a caller panicked"))??;
            ensure!(report["state"] == "done", "{report}");
            Ok((Done { report, wall }, moment))
        })
    }

    /// Starts a device again that was killed, as the same one.
    pub fn back(&mut self, number: usize) -> Result<()> {
        let client = self.devices[number].node.client.clone();
        let listen = ["--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns"];
        let flags = [&listen[..], &self.flags.iter().map(String::as_str).collect::<Vec<_>>()].concat();
        self.devices[number].node = Node::start(client, &flags)?;
        self.devices[0].node.sees(&[&self.devices[number].node], SOON)?;
        Ok(())
    }
}

/// How a job stood when it was disturbed.
pub struct Moment {
    /// CPU seconds that all devices had used for it.
    pub used: f64,
    /// Seconds after the job began.
    pub at: f64,
}
