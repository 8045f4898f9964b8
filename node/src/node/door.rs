//! Carries out commands on this node: the door in the same process. `control` puts a socket before it.

use std::{sync::Arc, time::Duration};

use libp2p::{Multiaddr, multiaddr::Protocol};
use msm_market_index::resolve::closest;
use msm_protocol::{JobId, Manifest, PeerId, document::Status};
use tokio::sync::{mpsc, watch};

use super::{
    consent,
    context::Context,
    coordinator::dialable,
    events::{Filter, Subscription},
    job,
    markets::Found,
    pause,
};
use crate::{
    clock,
    command::{
        Command, CommandError, Door, ErrorCode, Event, JobReport, JobState, PeerRow, Reply, Request, Response, Search,
        ServiceDetail, ServiceRow, Status as NodeStatus,
    },
    config::Settings,
    home::Home,
    resources::words::needs,
};

/// Manifests that a search looks into at most: more rows than anybody reads. *Judgement.*
const NEEDS_READ: usize = 200;

/// The door of a node in this process. Cheap to clone.
#[derive(Clone)]
pub struct NodeDoor {
    ctx: Arc<Context>,
    home: Home,
    settings: Settings,
    addresses: watch::Receiver<Vec<Multiaddr>>,
}

impl Door for NodeDoor {
    async fn execute(&self, request: Request, events: mpsc::Sender<Event>) -> Result<Response, CommandError> {
        match &request.command {
            Command::Invoke(invoke) => {
                let (ctx, invoke, job_id) = (self.ctx.clone(), (**invoke).clone(), job::random_job_id()?);
                let _listening = self.listen(Filter::Own(job_id), events);
                job::invoke(ctx, job_id, request, invoke).await
            }
            Command::Watch { job } => {
                let filter = match job {
                    Some(id) => Filter::Job(self.running(id).await?),
                    None => Filter::All,
                };
                let _listening = self.listen(filter, events);
                // The caller ends it by going away.
                std::future::pending().await
            }
            Command::JobWait { id, output } => {
                let (job, output) = (self.find_job(id).await?.job_id, *output);
                let _listening = self.listen(Filter::Own(job), events);
                job::wait(&self.ctx, job, output).await
            }
            Command::JobResume { id } => {
                let job = self.find_job(id).await?.job_id;
                let _listening = self.listen(Filter::Own(job), events);
                job::resume(&self.ctx, job).await
            }
            _ => {
                let _listening = self.listen(Filter::Node, events);
                self.carry_out(request.command).await
            }
        }
    }
}

impl NodeDoor {
    pub(super) fn new(
        ctx: Arc<Context>,
        home: Home,
        settings: Settings,
        addresses: watch::Receiver<Vec<Multiaddr>>,
    ) -> Self {
        Self { ctx, home, settings, addresses }
    }

    /// Waits until all of `peers` are connected; false when they are not within `patience`.
    pub async fn wait_connected(&self, peers: &[PeerId], patience: Duration) -> bool {
        let mut connected = self.ctx.connected.clone();
        let all = connected.wait_for(|connected| peers.iter().all(|peer| connected.contains(peer)));
        matches!(tokio::time::timeout(patience, all).await, Ok(Ok(_)))
    }

    /// Waits until the node listens somewhere.
    pub async fn wait_listening(&self, patience: Duration) -> Result<(), CommandError> {
        let mut addresses = self.addresses.clone();
        let some = addresses.wait_for(|addresses| !addresses.is_empty());
        match tokio::time::timeout(patience, some).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(CommandError::new(ErrorCode::Failed, "the node listens nowhere").or_try("msm doctor")),
        }
    }

    /// Sends events to a door that reads them.
    fn listen(&self, filter: Filter, events: mpsc::Sender<Event>) -> Option<Subscription> {
        (!events.is_closed()).then(|| self.ctx.events.subscribe(filter, events))
    }

    async fn carry_out(&self, command: Command) -> Result<Response, CommandError> {
        let ctx = &self.ctx;
        match command {
            Command::Status => Ok(Reply::Status(Box::new(self.status())).into()),
            Command::Peers => {
                let peers = self.peers().await;
                Ok(Reply::Peers { peers, struck: ctx.trust.struck() }.into())
            }
            Command::Forgive { peer } => Ok(Reply::Forgiven(Box::new(ctx.trust.forgive(&peer).await?)).into()),
            Command::Jobs => Ok(Reply::Jobs { jobs: self.ctx.reports.all() }.into()),
            Command::Job { id } => self.job(&id).await,
            Command::JobCancel { id } => job::cancel(ctx, self.find_job(&id).await?).await,
            Command::JobTaken { id } => {
                let report = self.find_job(&id).await?;
                job::taken(ctx, report.job_id).await?;
                Ok(Reply::Job(Box::new(report)).into())
            }
            Command::Search(search) => Ok(Reply::Services { services: self.search(&search).await? }.into()),
            Command::Show { service } => Ok(Reply::Service(Box::new(self.show(&service).await?)).into()),
            Command::MarketAdd { target, alias } => {
                Ok(Reply::Market(ctx.markets.add(ctx, &target, alias.as_deref()).await?).into())
            }
            Command::MarketRemove { market } => Ok(Reply::Market(ctx.markets.remove(ctx, &market).await?).into()),
            Command::MarketList => Ok(Reply::Markets { markets: ctx.markets.rows() }.into()),
            Command::MarketMirror { market, folder } => {
                Ok(Reply::Mirror(ctx.markets.mirror(ctx, &market, &folder).await?).into())
            }
            Command::MarketRefresh => {
                ctx.markets.reload(ctx).await?;
                ctx.markets.sync_all(ctx).await;
                Ok(Reply::Markets { markets: ctx.markets.rows() }.into())
            }
            Command::Grant(wish) => Ok(consent::grant(ctx, *wish).await?.into()),
            Command::RevokeGrant { service, right, to } => {
                Ok(consent::take_back(ctx, &service, right, to).await?.into())
            }
            Command::Grants => Ok(consent::grants(ctx).into()),
            Command::Pending => Ok(consent::pending(ctx).await.into()),
            Command::History { today } => Ok(consent::history(ctx, today).await?.into()),
            Command::Connect { address } => self.connect(&address).await,
            Command::Pause { for_s } => Ok(pause::pause(ctx, &self.home, for_s).await?.into()),
            Command::Resume => Ok(pause::resume(ctx, &self.home).await?.into()),
            // Those that last have a door of their own.
            Command::Invoke(_) | Command::Watch { .. } | Command::JobWait { .. } | Command::JobResume { .. } => {
                Err(CommandError::new(ErrorCode::Failed, "not carried out"))
            }
        }
    }

    fn status(&self) -> NodeStatus {
        let ctx = &self.ctx;
        let device = ctx.device();
        let lending = ctx.lending();
        let addresses = dialable(&self.addresses.borrow());
        NodeStatus {
            name: ctx.config.name.clone(),
            peer_id: ctx.local,
            uptime_s: ctx.started.elapsed().as_secs(),
            addresses: addresses.into_iter().map(|address| format!("{address}/p2p/{}", ctx.local)).collect(),
            lending: lending.is_ok(),
            lending_detail: match lending {
                Ok(()) => pause::tasks_at_a_time(ctx.slot_count),
                Err(refusal) => refusal.reason,
            },
            peers: ctx.connected().len() as u32,
            battery: device.ext.battery,
            network: device.network,
            gps: device.gps,
            gps_detail: ctx.monitor.position().signal.to_string(),
            eqs: device.eqs,
            markets: ctx.markets.rows(),
            running_tasks: ctx.running_tasks.load(std::sync::atomic::Ordering::Relaxed),
            offer: ctx.config.offer.limits(std::thread::available_parallelism().map_or(1, usize::from)),
            paused: ctx.pause.borrow().is_some_and(|pause| pause.holds(clock::now())),
            config_changed: Settings::of(&self.home) != self.settings,
            home: self.home.folder().display().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    async fn peers(&self) -> Vec<PeerRow> {
        job::settle(&self.ctx).await;
        let snapshots = self.ctx.peers().await;
        let rows = snapshots.into_iter().map(|peer| {
            let info = peer.info.as_ref();
            PeerRow {
                peer_id: peer.peer,
                name: info.map(|info| info.ext.name.clone()).unwrap_or_default(),
                eqs: info.zip(peer.rtt).map(|(info, rtt)| msm_scheduler::eqs::with_net(info.eqs, rtt)),
                rtt_ms: peer.rtt.map(|rtt| (rtt.as_secs_f64() * 1e6).round() / 1e3),
                network: info.map(|info| info.network),
                gps: info.map(|info| info.gps),
                availability: info.map(|info| info.availability),
                engines: info.map(|info| info.ext.engines.clone()).unwrap_or_default(),
                addresses: peer.addresses.iter().map(Multiaddr::to_string).collect(),
                found_by: peer.found_by.as_str().to_owned(),
            }
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by(|a, b| b.eqs.unwrap_or(-1.0).total_cmp(&a.eqs.unwrap_or(-1.0)).then(a.peer_id.cmp(&b.peer_id)));
        rows
    }

    async fn job(&self, id: &str) -> Result<Response, CommandError> {
        Ok(Reply::Job(Box::new(self.find_job(id).await?)).into())
    }

    /// The job whose id begins with `id`, which must not have ended.
    async fn running(&self, id: &str) -> Result<JobId, CommandError> {
        let job = self.find_job(id).await?;
        if matches!(job.state, JobState::Running | JobState::Resumed) {
            return Ok(job.job_id);
        }
        let message = format!("not-found: job {} has ended; nothing more happens in it", job.job_id.short());
        Err(CommandError::new(ErrorCode::NotFound, message).or_try(format!("msm jobs show {}", job.job_id.short())))
    }

    async fn find_job(&self, id: &str) -> Result<JobReport, CommandError> {
        let jobs = self.ctx.reports.all();
        let mut found = jobs.into_iter().filter(|job| job.job_id.to_string().starts_with(id));
        match (found.next(), found.next()) {
            (Some(job), None) => Ok(job),
            (Some(_), Some(_)) => {
                let message = format!("{id:?} begins several job ids");
                Err(CommandError::new(ErrorCode::Usage, message).or_try("msm jobs"))
            }
            (None, _) => {
                let message = format!("not-found: no job {id:?} since this node started, nor kept of earlier runs");
                Err(CommandError::new(ErrorCode::NotFound, message).or_try("msm jobs"))
            }
        }
    }

    async fn search(&self, search: &Search) -> Result<Vec<ServiceRow>, CommandError> {
        let markets = &self.ctx.markets;
        if markets.view().iter().any(|view| view.version() == 0) {
            job::settle(&self.ctx).await;
            markets.sync_all(&self.ctx).await;
        }
        let views = markets.view();
        if let Some(name) = &search.market
            && !views.iter().any(|view| view.entry.alias == *name || view.id.to_string() == *name)
        {
            let near = closest(views.iter().map(|view| view.entry.alias.as_str()), name);
            let message = format!("not-found: no market {name:?} is trusted here");
            let error = CommandError::new(ErrorCode::NotFound, message);
            return Err(
                error.or_try(near.map_or("msm market list".into(), |near| format!("msm search --market {near}")))
            );
        }
        let wanted = |alias: &str, id: String| search.market.as_ref().is_none_or(|name| name == alias || *name == id);
        let mut rows = Vec::new();
        let mut failed = None;
        for view in views.iter().filter(|view| wanted(&view.entry.alias, view.id.to_string())) {
            match markets.search(&self.ctx, view, search).await {
                Ok(hits) => rows.extend(hits.releases.iter().map(|release| row_of(release, &view.entry.alias))),
                Err(error) => failed = Some((view.entry.alias.clone(), error)),
            }
        }
        if let Some((alias, error)) = failed.filter(|_| rows.is_empty()) {
            let message = format!("market {alias} cannot be searched: {error}");
            return Err(CommandError::new(ErrorCode::NotFound, message).or_try("msm market list"));
        }
        newest_only(&mut rows);
        for row in rows.iter_mut().take(NEEDS_READ) {
            // Nothing is fetched for a list: what is here is told.
            let manifest = self.ctx.store.get(row.manifest).await;
            row.needs = manifest.and_then(|bytes| Manifest::from_slice(&bytes).ok()).map(|it| needs(&it.permissions));
        }
        Ok(rows)
    }

    async fn show(&self, service: &str) -> Result<ServiceDetail, CommandError> {
        let found = self.ctx.markets.find(&self.ctx, service).await?;
        let manifest = consent::manifest_of(&self.ctx, &found.release).await?;
        let permissions = consent::permission_lines(&self.ctx, &found, &manifest.permissions);
        let Found { market, alias, release, .. } = found;
        let mut installed = true;
        for (hash, _) in manifest.blobs() {
            installed &= self.ctx.store.has(hash).await;
        }
        let service = self.ctx.markets.service(&self.ctx, &market, &release.name, None).await;
        let releases = service.as_ref().map_or(&[][..], |service| service.releases());
        let mut versions: Vec<_> =
            releases.iter().filter(|it| it.status == Status::Active).map(|it| it.version.clone()).collect();
        versions.sort_by(|a, b| semver::Version::parse(b).ok().cmp(&semver::Version::parse(a).ok()));
        let size = release.size + manifest.variants.iter().map(|variant| variant.size).max().unwrap_or(0);
        Ok(ServiceDetail {
            row: ServiceRow { needs: Some(needs(&manifest.permissions)), ..row_of(&release, &alias) },
            market_id: market,
            permissions,
            constraints: constraint_lines(&manifest),
            deterministic: manifest.work.deterministic,
            private: manifest.work.private,
            input: manifest.input,
            output: manifest.output,
            params: manifest.params,
            license: manifest.license,
            authors: manifest.authors,
            versions,
            size,
            installed,
        })
    }

    async fn connect(&self, address: &str) -> Result<Response, CommandError> {
        let usage = |e: libp2p::multiaddr::Error| CommandError::new(ErrorCode::Usage, format!("{address:?}: {e}"));
        let address: Multiaddr = address.parse().map_err(usage)?;
        let dialled = self.ctx.net.dial(peer_of(&address), vec![address]).await;
        let peer_id = dialled.map_err(|e| CommandError::new(ErrorCode::NoNode, e.to_string()).or_try("msm doctor"))?;
        Ok(Reply::Connected { peer_id }.into())
    }
}

fn row_of(release: &msm_protocol::document::Release, alias: &str) -> ServiceRow {
    ServiceRow {
        name: release.name.clone(),
        version: release.version.clone(),
        scope: release.scope.clone(),
        engines: release.engines.clone(),
        rating: release.rating,
        summary: release.summary.clone(),
        needs: None,
        market: alias.to_owned(),
        manifest: release.manifest,
    }
}

/// Keeps the newest version of each service of each market.
fn newest_only(rows: &mut Vec<ServiceRow>) {
    let version = |row: &ServiceRow| semver::Version::parse(&row.version).ok();
    rows.sort_by(|a, b| (&a.name, &a.market).cmp(&(&b.name, &b.market)).then_with(|| version(b).cmp(&version(a))));
    rows.dedup_by(|later, first| later.name == first.name && later.market == first.market);
}

fn constraint_lines(manifest: &Manifest) -> Vec<String> {
    let constraints = &manifest.constraints;
    let range = |range: &msm_protocol::manifest::Range| {
        if range.min == range.max {
            return range.min.to_string();
        }
        format!("{}..{} [{}]", range.min, range.max, range.default.map_or("auto".into(), |n| n.to_string()))
    };
    vec![
        format!("devices {}", range(&constraints.devices)),
        format!("battery {} %", range(&constraints.battery)),
        format!("eqs {}", range(&constraints.eqs)),
        format!("gps {}", if constraints.gps { "REQ" } else { "NREQ" }),
        format!("network {}", constraints.network.map_or("N.A.".into(), |n| format!("{n:?}").to_uppercase())),
    ]
}

/// The peer that an address names at its end.
pub fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last()? {
        Protocol::P2p(peer) => PeerId::from_libp2p_bytes(&peer.to_bytes()).ok(),
        _ => None,
    }
}
