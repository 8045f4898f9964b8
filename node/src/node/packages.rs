//! Packages ready to run: a manifest that a trusted market vouches for, and one variant that this device can run.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use msm_market_index::entry::open_manifest;
use msm_protocol::{
    ContentHash, Manifest, MarketId, PeerId, Refusal, RefusalCode,
    document::{Release, Status},
    job::TaskOp,
    limits::{MORE_BLOBS, TASK_TARGET_BYTES, TASKS_PER_JOB},
    manifest::{Engine, FileRef, Permissions, Split, Variant},
};
use msm_sandbox::{Aim, Asks, Budget, Files, Op, Package, Work};
use serde_bytes::ByteBuf;

use super::{
    context::Context,
    fetch::{Arrived, FetchError, fetch_package},
    markets::source::SourceError,
};

use crate::resources::gate::Service;

/// The contracts between this node and its guests.
const ABIS: [(Engine, &str); 2] = [(Engine::Js, "msm-js-1"), (Engine::Wasm, "wasi-p1")];
/// The engines of this node.
pub const ENGINES: [Engine; 2] = [ABIS[0].0, ABIS[1].0];

/// The engine that a peer names, if there is one of that name.
pub fn engine_named(name: &str) -> Option<Engine> {
    ENGINES.into_iter().find(|engine| engine.as_str() == name)
}

/// The head of a byte string in CBOR at most.
const HEADER_BYTES: usize = 9;
/// Packages kept decoded. *Judgement.*
const KEPT: usize = 32;

/// A manifest and the bytes of the variant that runs here.
#[derive(Debug, Clone)]
pub struct Installed {
    /// Hash of the manifest.
    pub hash: ContentHash,
    /// What the service says about itself.
    pub manifest: Manifest,
    /// The engine that was chosen.
    pub engine: Engine,
    /// The variant's bytes.
    source: bytes::Bytes,
    /// What belongs to it.
    files: Files,
}

impl Installed {
    /// A package that no market vouches for: its author's own, with the variant at `index`.
    pub fn of_package(package: &msm_market_index::Package, index: usize) -> Option<Self> {
        let variant = package.manifest.variants.get(index)?;
        let blob = |hash: &ContentHash| {
            let (_, bytes) = package.blobs.iter().find(|(other, _)| other == hash)?;
            Some(bytes::Bytes::copy_from_slice(bytes))
        };
        let read = |files: &[FileRef]| -> Option<Vec<_>> {
            files.iter().map(|file| Some((file.path.clone(), blob(&file.hash)?))).collect()
        };
        // A child serves one package: two variants of one engine, which no node runs side by side, must not share one.
        let hash = ContentHash::of(format!("{} {index}", package.hash).as_bytes());
        Some(Self {
            hash,
            manifest: package.manifest.clone(),
            engine: variant.engine,
            source: blob(&variant.hash)?,
            files: Files { modules: read(&variant.files)?, assets: read(&package.manifest.assets)? },
        })
    }

    /// The package as the sandbox takes it. The split depends on the parameters (a blur's halo is its radius).
    pub fn package(&self, params: &str) -> Package {
        let work = match &self.manifest.work.split {
            Split::None => Work::Whole,
            Split::Bytes(size) => Work::Bytes { size: *size },
            Split::Lines(n) => Work::Lines { n: *n },
            Split::JsonArray => Work::JsonArray,
            Split::ImageRows(_) => Work::ImageRows { halo: self.manifest.halo_rows(params) },
            Split::Service => Work::Service,
        };
        Package {
            hash: self.hash,
            engine: match self.engine {
                Engine::Wasm => msm_sandbox::Engine::Wasm,
                _ => msm_sandbox::Engine::Js,
            },
            source: self.source.clone(),
            files: self.files.clone(),
            asks: asks(&self.manifest),
            work,
            label: format!("{}@{}", self.manifest.name, self.manifest.version),
        }
    }

    /// The service as the owner's grants know it; `market` vouches for it, and the owner calls that `alias`.
    pub fn service(&self, market: MarketId, alias: String) -> Service {
        service_of(&self.manifest, market, alias)
    }

    /// What one task may use.
    pub fn budget(&self) -> Budget {
        let limits = &self.manifest.limits;
        Budget { memory: limits.memory, time: Duration::from_millis(limits.time_ms), output: limits.output }
    }
}

/// The service of a manifest as the owner's grants know it.
pub fn service_of(manifest: &Manifest, market: MarketId, alias: String) -> Service {
    let Manifest { name, version, permissions, .. } = manifest;
    Service { market, alias, name: name.clone(), version: version.clone(), asked: permissions.clone() }
}

/// A task as the sandbox takes it. `count` is the number of tasks, or of those wished for.
pub fn operation(op: TaskOp, index: u32, count: u32) -> Op {
    match op {
        TaskOp::Run => Op::Part { index, count },
        TaskOp::Split => Op::Split(Aim::even(count.min(TASKS_PER_JOB as u32), TASK_TARGET_BYTES as u64)),
    }
}

/// What a manifest asks for, as the sandbox takes it.
fn asks(manifest: &Manifest) -> Asks {
    let Permissions { gps, net, clock, image, device, random } = &manifest.permissions;
    let (gps, net) = (gps.is_some(), !net.is_empty());
    Asks { image: *image, clock: *clock, random: *random, gps, net, device: *device }
}

/// A small cache of installed packages, newest first.
#[derive(Debug, Default)]
pub struct Packages {
    kept: Mutex<VecDeque<Arc<Installed>>>,
}

impl Packages {
    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<Installed>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cached(&self, hash: ContentHash, engines: &[Engine]) -> Option<Arc<Installed>> {
        let fits = |package: &Arc<Installed>| {
            package.hash == hash && fitting(&package.manifest, engines).is_some_and(|it| it.engine == package.engine)
        };
        self.kept().iter().find(|package| fits(package)).cloned()
    }

    fn keep(&self, package: Arc<Installed>) {
        let mut kept = self.kept();
        kept.retain(|other| other.hash != package.hash || other.engine != package.engine);
        kept.push_front(package);
        kept.truncate(KEPT);
    }
}

/// The first variant, in the publisher's order, that runs here in one of these engines.
fn fitting<'a>(manifest: &'a Manifest, engines: &[Engine]) -> Option<&'a Variant> {
    let runs =
        |variant: &&Variant| ABIS.contains(&(variant.engine, &*variant.abi)) && engines.contains(&variant.engine);
    manifest.variants.iter().find(runs)
}

/// Gets the package of `release`, which `market` vouches for, with a variant for one of `engines`. `hint` is a peer that
/// must have it.
///
/// A stale market's packages run while they are on this device; nothing new of it is fetched.
pub async fn install(
    ctx: &Arc<Context>,
    market: &MarketId,
    release: &Release,
    engines: &[Engine],
    hint: Option<PeerId>,
) -> Result<Arc<Installed>, Refusal> {
    if release.status != Status::Revoked
        && let Some(package) = ctx.packages.cached(release.manifest, engines)
    {
        return Ok(package);
    }
    let (manifest, giver) = manifest_from(ctx, market, release, engines, hint, Wanted::Package).await?;
    // Who gave the manifest has the rest, and who has it need not be asked again.
    let hint = hint.or(giver);
    let Some(variant) = fitting(&manifest, engines) else {
        let names = |engines: Vec<Engine>| engines.into_iter().map(Engine::as_str).collect::<Vec<_>>().join(" and ");
        let has = names(manifest.variants.iter().map(|variant| variant.engine).collect());
        let wanted = names(engines.to_vec());
        let reason = format!("no variant for this device: it is to run in {wanted}, the package has {has}");
        return Err(Refusal::new(RefusalCode::Constraint, reason));
    };
    let source = async { blob(ctx, market, variant.hash, variant.size, hint).await };
    let modules = fetch_files(ctx, market, &variant.files, hint);
    let assets = fetch_files(ctx, market, &manifest.assets, hint);
    let (source, modules, assets) = tokio::try_join!(source, modules, assets)?;
    let files = Files { modules, assets };
    let engine = variant.engine;
    let variant = variant.hash;
    let package = Arc::new(Installed { hash: release.manifest, manifest, engine, source, files });
    ctx.packages.keep(package.clone());
    compile_ahead(ctx, &package);
    // Whoever has it serves it: neighbours need not find the publisher.
    ctx.net.provide(release.manifest).await;
    ctx.net.provide(variant).await;
    Ok(package)
}

/// Gets what the package of `release` says about itself: enough to decide whether its code is wanted here at all.
pub async fn manifest(
    ctx: &Arc<Context>,
    market: &MarketId,
    release: &Release,
    engines: &[Engine],
    hint: Option<PeerId>,
) -> Result<Manifest, Refusal> {
    manifest_from(ctx, market, release, engines, hint, Wanted::Manifest).await.map(|(manifest, _)| manifest)
}

/// What is wanted of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Only what it says about itself.
    Manifest,
    /// All of it, as far as it may come at once.
    Package,
}

/// The manifest, and who gave it if it was not here.
async fn manifest_from(
    ctx: &Arc<Context>,
    market: &MarketId,
    release: &Release,
    engines: &[Engine],
    hint: Option<PeerId>,
    wanted: Wanted,
) -> Result<(Manifest, Option<PeerId>), Refusal> {
    if release.status == Status::Revoked {
        let reason = format!("{}@{} was revoked by its market", release.name, release.version);
        return Err(Refusal::new(RefusalCode::Revoked, reason));
    }
    if let Some(package) = ctx.packages.cached(release.manifest, engines) {
        return Ok((package.manifest.clone(), None));
    }
    if !ctx.markets.is_fresh(market) && !ctx.store.has(release.manifest).await {
        let reason = format!("the index of {} has expired, and the package is not on this device", market.short());
        return Err(Refusal::new(RefusalCode::StaleMarket, reason));
    }
    // Also when its manifest is here: a catalogue brings that. The reviews themselves stay here once they were read.
    ctx.markets.reviewed(ctx, market, release, hint).await?;
    let bad = |reason: String| Refusal::new(RefusalCode::BadPackage, reason);
    let open = |bytes: &[u8]| open_manifest(release, bytes).map_err(|e| bad(format!("manifest: {e}")));
    if wanted == Wanted::Manifest {
        let bytes = blob(ctx, market, release.manifest, release.size, hint).await?;
        return Ok((open(&bytes)?, None));
    }
    let Arrived { bytes, more, giver } = match fetch_package(ctx, release.manifest, release.size, hint).await {
        Ok(arrived) => arrived,
        // The market's own files may have it where no peer has.
        Err(error) => match ctx.markets.blob(ctx, market, release.manifest, release.size, hint).await {
            Ok(bytes) => Arrived { bytes, more: Vec::new(), giver: None },
            Err(_) => return Err(not_fetched(error)),
        },
    };
    let manifest = open(&bytes)?;
    keep_named(ctx, &manifest, more).await;
    Ok((manifest, giver))
}

/// Keeps what came with a manifest, as far as the manifest names it: a giver does not decide what lies in the store.
async fn keep_named(ctx: &Context, manifest: &Manifest, more: Vec<bytes::Bytes>) {
    let named: HashSet<ContentHash> = manifest.blobs().map(|(hash, _)| hash).collect();
    for bytes in more {
        // What is not kept is fetched like all the rest.
        if named.contains(&ContentHash::of(&bytes))
            && let Err(error) = ctx.store.put(bytes).await
        {
            tracing::warn!(%error, service = manifest.name, "blob not kept");
        }
    }
}

/// Blobs of this device that the manifest in `bytes` names, as many of them as `room` bytes hold: for whoever asks for
/// all of a small package.
pub async fn named_by(ctx: &Context, bytes: &[u8], mut room: usize) -> Vec<ByteBuf> {
    let Ok(manifest) = Manifest::from_slice(bytes) else { return Vec::new() };
    let mut found = Vec::new();
    for (hash, size) in manifest.blobs() {
        if found.len() == MORE_BLOBS {
            break;
        }
        let taken = usize::try_from(size).unwrap_or(usize::MAX).saturating_add(HEADER_BYTES);
        // The size is what a publisher said; a blob of another one is not what he meant.
        if taken <= room
            && ctx.store.size(hash).await == Some(size)
            && let Some(blob) = ctx.store.get(hash).await
        {
            room -= taken;
            found.push(ByteBuf::from(&blob[..]));
        }
    }
    found
}

/// Has WebAssembly compiled before its first task needs it. Not as a part of that task: one that is cancelled, because
/// somebody else was quicker, would take the half-done work with it, and this device would stay too slow for ever.
fn compile_ahead(ctx: &Arc<Context>, package: &Arc<Installed>) {
    if package.engine != Engine::Wasm {
        return;
    }
    let (ctx, package) = (ctx.clone(), package.clone());
    tokio::spawn(async move {
        // Compiled code depends on no parameter. What is wrong with it, the first task will be told.
        let package = package.package("{}");
        if let Err(refusal) = ctx.sandbox.prepare(&package).await {
            tracing::debug!(service = package.label, %refusal, "not compiled ahead");
        }
    });
}

/// A blob of a market's package from wherever it may be had.
async fn blob(
    ctx: &Arc<Context>,
    market: &MarketId,
    hash: ContentHash,
    size: u64,
    hint: Option<PeerId>,
) -> Result<bytes::Bytes, Refusal> {
    ctx.markets.blob(ctx, market, hash, size, hint).await.map_err(|error| match error {
        SourceError::Fetch(error) => not_fetched(error),
        SourceError::Wrong(reason) => Refusal::new(RefusalCode::BadPackage, reason),
        error => Refusal::new(RefusalCode::Unavailable, error.to_string()),
    })
}

async fn fetch_files(
    ctx: &Arc<Context>,
    market: &MarketId,
    files: &[FileRef],
    hint: Option<PeerId>,
) -> Result<Vec<(String, bytes::Bytes)>, Refusal> {
    let mut fetched = Vec::with_capacity(files.len());
    for file in files {
        let bytes = blob(ctx, market, file.hash, file.size, hint).await?;
        fetched.push((file.path.clone(), bytes));
    }
    Ok(fetched)
}

/// Nobody gave it, or somebody gave wrong bytes: the first is bad luck, the second somebody's doing.
fn not_fetched(error: FetchError) -> Refusal {
    let code = match error {
        FetchError::Wrong { .. } => RefusalCode::BadPackage,
        _ => RefusalCode::Unavailable,
    };
    Refusal::new(code, error.to_string())
}
