//! What the tests share: a sandbox on this crate's own child program, and short ways to call it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use msm_protocol::{ContentHash, PeerId, Refusal, SecretKey};
use msm_sandbox::{
    Aim, Asks, Budget, Call, Engine, Files, Op, Output, Package, Sandbox, SandboxConfig, WallName, Work,
};

pub struct Rig {
    pub sandbox: Sandbox,
    pub budget: Budget,
    pub client: PeerId,
}

pub fn config() -> SandboxConfig {
    let program = env!("CARGO_BIN_EXE_msm-sandbox-child").into();
    SandboxConfig { program, max_children: 2, ..SandboxConfig::default() }
}

pub fn peer(seed: u8) -> PeerId {
    PeerId::of(&SecretKey::from_seed(&[seed; 32]).public())
}

pub fn package(source: impl AsRef<[u8]>, work: Work, image: bool) -> Arc<Package> {
    let source = Bytes::copy_from_slice(source.as_ref());
    let asks = Asks { image, ..Asks::default() };
    let hash = ContentHash::of(&[&source[..], format!("{work:?}{image}").as_bytes()].concat());
    Arc::new(Package {
        hash,
        engine: Engine::Js,
        source,
        files: Files::default(),
        asks,
        work,
        label: "test@1.0.0".into(),
    })
}

/// A file of the services that ship with msm.
pub fn shipped(path: &str) -> Vec<u8> {
    let services = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../services");
    std::fs::read(services.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The same for a WebAssembly variant.
pub fn wasm_package(module: impl AsRef<[u8]>, work: Work, image: bool) -> Arc<Package> {
    let mut package = package(module, work, image);
    Arc::get_mut(&mut package).unwrap().engine = Engine::Wasm;
    package
}

impl Rig {
    pub fn new() -> Self {
        Self::with(config())
    }

    pub fn without(walls: &'static [WallName]) -> Self {
        Self::with(SandboxConfig { without: walls, ..config() })
    }

    pub fn with(config: SandboxConfig) -> Self {
        // Generous: the machine may be busy, and honest guests should not fail for it.
        let budget = Budget { memory: 64 << 20, time: Duration::from_secs(20), output: 64 << 20 };
        Self { sandbox: Sandbox::new(config).unwrap(), budget, client: peer(1) }
    }

    pub fn call(&self, package: &Arc<Package>, op: Op, params: &str, input: impl Into<Bytes>) -> Call {
        let (package, params, input) = (package.clone(), params.into(), input.into());
        Call { package, client: self.client, op, params, input, budget: self.budget, resources: None }
    }

    pub async fn run(
        &self,
        package: &Arc<Package>,
        op: Op,
        params: &str,
        input: impl Into<Bytes>,
    ) -> Result<Output, Refusal> {
        self.sandbox.call(self.call(package, op, params, input)).await
    }

    /// Runs a source once, unsplit, and gives its output as text.
    pub async fn text(&self, source: &str) -> Result<String, Refusal> {
        let output = self.run(&package(source, Work::Whole, false), Op::Whole, "{}", "input").await?;
        Ok(String::from_utf8(output.bytes.to_vec()).unwrap())
    }

    /// Runs the body of a `run(input, ctx)` once.
    pub async fn body(&self, body: &str) -> Result<String, Refusal> {
        self.text(&format!("export async function run(input, ctx) {{ {body} }}")).await
    }

    /// Shows that the sandbox still works for honest guests.
    pub async fn works(&self) {
        assert_eq!(self.body("return 'fine';").await.as_deref(), Ok("fine"));
    }
}

/// The frames of a split.
pub fn frames(mut bytes: &[u8]) -> Vec<Bytes> {
    let mut out = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (frame, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        out.push(Bytes::copy_from_slice(frame));
        bytes = rest;
    }
    out
}

/// Frames of these parts.
pub fn framed(parts: &[Bytes]) -> Bytes {
    let mut out = Vec::new();
    for part in parts {
        out.extend((part.len() as u32).to_le_bytes());
        out.extend_from_slice(part);
    }
    out.into()
}

/// Splits, runs each part and merges.
pub async fn in_parts(
    rig: &Rig,
    package: &Arc<Package>,
    want: u32,
    params: &str,
    input: Bytes,
) -> Result<(Bytes, usize), Refusal> {
    let split = rig.run(package, Op::Split(Aim::even(want, 1 << 30)), params, input).await?;
    let tasks = frames(&split.bytes);
    let count = tasks.len();
    let mut outputs = Vec::new();
    for (index, task) in tasks.into_iter().enumerate() {
        let op = Op::Part { index: index as u32, count: count as u32 };
        outputs.push(rig.run(package, op, params, task).await?.bytes);
    }
    Ok((rig.run(package, Op::Merge, params, framed(&outputs)).await?.bytes, count))
}

/// The processes that this one has started and not reaped: pid and whether it is a zombie.
#[cfg(target_os = "linux")]
pub fn children_of(parent: u32) -> Vec<(u32, bool)> {
    let stat = |entry: std::fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let text = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name in parentheses may hold anything; state and parent follow the last one.
        let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
        let zombie = fields.next()? == "Z";
        (fields.next()?.parse() == Ok(parent)).then_some((pid, zombie))
    };
    std::fs::read_dir("/proc").unwrap().filter_map(|entry| stat(entry.ok()?)).collect()
}

/// Waits until the condition holds; panics after half a minute.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}
