//! [`Bench`]: runs of a variant in walled children, whole or in parts, as a node would do them.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use msm_protocol::{
    ContentHash, PeerId, Refusal, RefusalCode, SecretKey,
    limits::{GUEST_MEMORY, JOB_INPUT_BYTES, TASK_TIME_MAX},
    manifest::Split,
};
use msm_sandbox::{
    Aim, Asks, Budget, Call, Engine, Files, Op, Output, Package, Resources, Sandbox, SandboxConfig, Work,
};

use super::WorkshopError;
use crate::node::{
    job::{frame, inputs_of},
    packages::Installed,
};

/// On whose behalf services run here. A fixed key: nobody is spoken to.
const CLIENT_SEED: [u8; 32] = [7; 32];
/// Bytes per part aimed at when a number of parts is asked for: so many that the number decides.
const NO_TARGET: u64 = 1 << 40;

/// A pool of walled children on the author's machine.
#[derive(Debug, Clone)]
pub struct Bench {
    sandbox: Sandbox,
    client: PeerId,
}

/// One run of a service.
#[derive(Clone)]
pub struct Run<'a> {
    /// What is run.
    pub service: &'a Installed,
    /// All parameters, as JSON.
    pub params: Arc<str>,
    /// The input.
    pub input: Bytes,
    /// Who answers what it asks of its device.
    pub resources: Option<Arc<dyn Resources>>,
}

/// What a run gave.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The output.
    pub output: Bytes,
    /// What the service logged, part by part.
    pub log: String,
    /// Parts that it was cut into; 1 for a whole one.
    pub parts: usize,
    /// From the call to its result.
    pub wall: Duration,
    /// CPU time of its children.
    pub cpu: Duration,
}

impl Bench {
    /// Starts the first child.
    pub fn open() -> Result<Self, WorkshopError> {
        let sandbox = Sandbox::new(SandboxConfig::default())?;
        Ok(Self { sandbox, client: PeerId::of(&SecretKey::from_seed(&CLIENT_SEED).public()) })
    }

    /// On whose behalf services run.
    pub fn client(&self) -> PeerId {
        self.client
    }

    /// Runs that make sense at a time.
    pub fn width() -> usize {
        thread::available_parallelism().map_or(1, usize::from)
    }

    /// Runs the service on the whole input. A service with a split of its own is asked for one part: that is how a
    /// node with no neighbours runs it.
    pub async fn whole(&self, run: &Run<'_>) -> Result<Ran, Refusal> {
        if run.service.manifest.work.split == Split::Service {
            return self.parts(run, 1).await;
        }
        let began = Instant::now();
        let budget = self.job_budget(run.service);
        let budget = Budget { time: run.service.budget().time, ..budget };
        let Output { bytes, log, cpu, .. } = self.call(run, Op::Whole, run.input.clone(), budget).await?;
        Ok(Ran { output: bytes, log, parts: 1, wall: began.elapsed(), cpu })
    }

    /// Cuts the input into about `want` parts, runs each and puts their outputs together.
    pub async fn parts(&self, run: &Run<'_>, want: u32) -> Result<Ran, Refusal> {
        let began = Instant::now();
        let whole_job = self.job_budget(run.service);
        let split = self.call(run, Op::Split(Aim::even(want, NO_TARGET)), run.input.clone(), whole_job).await?;
        let inputs =
            inputs_of(&split.bytes).map_err(|error| Refusal::new(RefusalCode::ServiceFailed, error.message))?;
        let (mut outputs, mut log, mut cpu) = (Vec::with_capacity(inputs.len()), split.log, split.cpu);
        let count = inputs.len();
        for (index, input) in inputs.into_iter().enumerate() {
            let op = Op::Part { index: index as u32, count: count as u32 };
            let part = self.call(run, op, input, run.service.budget()).await?;
            outputs.push(part.bytes);
            log.push_str(&part.log);
            cpu += part.cpu;
        }
        let merged = self.call(run, Op::Merge, frame(&outputs), whole_job).await?;
        log.push_str(&merged.log);
        Ok(Ran { output: merged.bytes, log, parts: count, wall: began.elapsed(), cpu: cpu + merged.cpu })
    }

    async fn call(&self, run: &Run<'_>, op: Op, input: Bytes, budget: Budget) -> Result<Output, Refusal> {
        let package = Arc::new(run.service.package(&run.params));
        let (params, resources) = (run.params.clone(), run.resources.clone());
        self.sandbox.call(Call { package, client: self.client, op, params, input, budget, resources }).await
    }

    /// What a step on all of the input may use; the same as on a node.
    fn job_budget(&self, service: &Installed) -> Budget {
        let memory = service.budget().memory.max(GUEST_MEMORY).max(4 * JOB_INPUT_BYTES);
        Budget { memory, time: TASK_TIME_MAX, output: 4 * JOB_INPUT_BYTES }
    }

    /// Decodes a picture in a child, as every picture is: width, height, and 8-bit RGBA row by row.
    pub async fn pixels(&self, picture: Bytes) -> Result<Pixels, Refusal> {
        let op = Op::Split(Aim::even(1, NO_TARGET));
        let tile = self.picture_call(op, picture).await?;
        // One frame (u32 length) with one tile: width, rows, top and bottom halo, then the rows.
        let field = |at: usize| Some(u32::from_le_bytes(tile.get(at..at + 4)?.try_into().ok()?));
        match (field(4), field(8), tile.len()) {
            (Some(width), Some(height), 21..) => Ok(Pixels { width, height, rgba: tile.slice(20..) }),
            _ => Err(Refusal::new(RefusalCode::Other, "a decoded picture without pixels")),
        }
    }

    /// Encodes a picture as PNG, in a child too.
    pub async fn png(&self, picture: &Pixels) -> Result<Bytes, Refusal> {
        let mut tile = Vec::with_capacity(8 + picture.rgba.len());
        tile.extend(picture.width.to_le_bytes());
        tile.extend(picture.height.to_le_bytes());
        tile.extend_from_slice(&picture.rgba);
        self.picture_call(Op::Merge, frame(&[tile.into()])).await
    }

    /// A step of the built-in split of pictures; no code of any service takes part.
    async fn picture_call(&self, op: Op, input: Bytes) -> Result<Bytes, Refusal> {
        let source = Bytes::from_static(b"export function run() {}");
        let package = Package {
            hash: ContentHash::of(&source),
            engine: Engine::Js,
            source,
            work: Work::ImageRows { halo: 0 },
            files: Files::default(),
            asks: Asks { image: true, ..Asks::default() },
            label: "picture".to_owned(),
        };
        let bytes = 4 * JOB_INPUT_BYTES;
        let call = Call {
            package: package.into(),
            client: self.client,
            op,
            params: "{}".into(),
            input,
            budget: Budget { memory: bytes, time: TASK_TIME_MAX, output: bytes },
            resources: None,
        };
        Ok(self.sandbox.call(call).await?.bytes)
    }

    /// Compiles a service's code and says what it exports, without calling any of it.
    pub async fn exports(&self, package: Package) -> Result<Bytes, Refusal> {
        let call = Call {
            package: package.into(),
            client: self.client,
            op: Op::Whole,
            params: "{}".into(),
            input: Bytes::new(),
            budget: Budget { memory: GUEST_MEMORY, time: Duration::from_secs(10), output: 64 * 1024 },
            resources: None,
        };
        Ok(self.sandbox.call(call).await?.bytes)
    }
}

/// A decoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Row by row, four bytes a pixel.
    pub rgba: Bytes,
}
