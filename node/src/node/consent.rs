//! Carries out the owner's commands about grants: give, take back, list, what is waiting, what was done.

use std::{collections::HashMap, sync::Arc};

use msm_protocol::{Manifest, PeerId, document::Release, manifest::Permissions};

use super::{context::Context, fetch::fetch, markets::Found};
use crate::{
    cli::hints,
    command::{CommandError, ErrorCode, GrantRow, GrantWish, PendingRow, Reply},
    resources::{
        denial::gps_setting,
        grants::{Grant, LOCATION_LIFE, Standing},
        quota::DAY,
        steward::{GrantError, unix_now},
        words::{Audience, Caller, Precision, Right, needs},
    },
};

impl From<GrantError> for CommandError {
    fn from(error: GrantError) -> Self {
        match error {
            GrantError::Home(error) => error.into(),
            other => Self::new(ErrorCode::Failed, other.to_string()).or_try(hints::grants()),
        }
    }
}

/// The manifest of a release, from this device or from somebody who has it.
pub async fn manifest_of(ctx: &Arc<Context>, release: &Release) -> Result<Manifest, CommandError> {
    let bytes = fetch(ctx, release.manifest, release.size, true, None)
        .await
        .map_err(|e| CommandError::new(ErrorCode::NoNode, e.to_string()).or_try("msm peers"))?;
    Manifest::from_slice(&bytes).map_err(|e| CommandError::new(ErrorCode::Verification, format!("bad-package: {e}")))
}

/// Gives a grant, if it would change anything.
pub async fn grant(ctx: &Arc<Context>, wish: GrantWish) -> Result<Reply, CommandError> {
    let Found { market, alias, release, .. } = ctx.markets.find(ctx, &wish.service).await?;
    let manifest = manifest_of(ctx, &release).await?;
    let reference = format!("{alias}/{}", release.name);
    let precision = check(ctx, &wish, &manifest.permissions, &reference)?;
    let now = unix_now();
    let life = wish.for_s.or((wish.right == Right::Gps).then_some(LOCATION_LIFE));
    let grant = Grant {
        market,
        service: release.name.clone(),
        right: wish.right,
        to: wish.to,
        precision,
        hosts: if wish.right == Right::Net { manifest.permissions.net } else { Vec::new() },
        since: now,
        until: life.map(|life| now.saturating_add(life)),
    };
    ctx.steward.grant(grant.clone()).await?;
    tracing::info!(service = reference, right = %grant.right, to = %grant.to, until = grant.until, "granted");
    Ok(Reply::Grants { grants: vec![row(ctx, &grant, now)] })
}

/// Refuses a grant that would be without effect, and says what stands against it; gives the precision of a position.
fn check(
    ctx: &Context,
    wish: &GrantWish,
    asked: &Permissions,
    reference: &str,
) -> Result<Option<Precision>, CommandError> {
    let ceiling = &ctx.config.resources;
    let usage = |message: String, line: String| Err(CommandError::new(ErrorCode::Usage, message).or_try(line));
    if !wish.right.is_asked(asked) {
        return usage(format!("{reference} does not ask for {}", wish.right), hints::show(reference));
    }
    let closed = match wish.right {
        Right::Gps if ceiling.gps.is_none() => Some(gps_setting(None)),
        Right::Net if !ceiling.net => Some("net = \"off\"".to_owned()),
        Right::Device if !ceiling.device => Some("device = false".to_owned()),
        _ => None,
    };
    if let Some(setting) = closed {
        let message =
            format!("no service may use {}: this device's setting is {setting} below [resources]", wish.right);
        return Err(CommandError::new(ErrorCode::NotAllowed, message).or_try(hints::help_grants()));
    }
    match (wish.right, wish.accuracy) {
        (Right::Gps, accuracy) => {
            let wanted = accuracy.unwrap_or(Precision::Coarse);
            if Precision::asked(asked) < Some(wanted) {
                return usage(format!("{reference} asks for a coarse position only"), hints::grant_coarse(reference));
            }
            if ceiling.gps < Some(wanted) {
                let setting = gps_setting(ceiling.gps);
                let message =
                    format!("no service may use {wanted} gps: this device's setting is {setting} below [resources]");
                let error = CommandError::new(ErrorCode::NotAllowed, message);
                return Err(error.or_try(hints::grant_coarse(reference)));
            }
            Ok(Some(wanted))
        }
        (right, Some(_)) => {
            let line = hints::grant(reference, right.as_str(), &wish.to.to_string());
            usage(format!("--accuracy belongs to gps, not to {right}"), line)
        }
        (_, None) => Ok(None),
    }
}

/// Takes grants back. The market need not be there any more.
pub async fn take_back(
    ctx: &Arc<Context>,
    service: &str,
    right: Right,
    to: Option<Audience>,
) -> Result<Reply, CommandError> {
    let (market, name) = match service.split_once('/') {
        Some((alias, name)) => {
            let views = ctx.markets.view();
            let known = views.iter().find(|view| view.entry.alias == alias).map(|view| view.id);
            let market = known.or_else(|| alias.parse().ok());
            let unknown =
                || CommandError::new(ErrorCode::NotFound, format!("not-found: no market {alias:?} is trusted here"));
            (Some(market.ok_or_else(|| unknown().or_try(hints::grants()))?), name)
        }
        None => (None, service),
    };
    let taken = ctx.steward.take_back(market, name, right, to).await?;
    if taken.is_empty() {
        let message = format!("not-found: {right} is not granted to {service}");
        return Err(CommandError::new(ErrorCode::NotFound, message).or_try(hints::grants()));
    }
    tracing::info!(service, %right, count = taken.len(), "grant taken back");
    let now = unix_now();
    Ok(Reply::Grants { grants: taken.iter().map(|grant| row(ctx, grant, now)).collect() })
}

/// All grants, those that end first first.
pub fn grants(ctx: &Context) -> Reply {
    let now = unix_now();
    let mut rows: Vec<_> = ctx.steward.grants().entries().iter().map(|grant| row(ctx, grant, now)).collect();
    rows.sort_by_key(|row| (row.until.unwrap_or(u64::MAX), row.service.clone(), row.right));
    Reply::Grants { grants: rows }
}

fn row(ctx: &Context, grant: &Grant, now: u64) -> GrantRow {
    GrantRow {
        service: format!("{}/{}", ctx.markets.alias(&grant.market), grant.service),
        market_id: grant.market,
        right: grant.right,
        to: grant.to,
        accuracy: grant.precision,
        hosts: grant.hosts.clone(),
        since: grant.since,
        until: grant.until,
        holds: grant.standing(now) == Standing::Holds,
    }
}

/// What waits for the owner's word, newest first.
pub async fn pending(ctx: &Arc<Context>) -> Reply {
    let names: HashMap<PeerId, String> = ctx
        .peers()
        .await
        .into_iter()
        .filter_map(|peer| Some((peer.peer, peer.info?.ext.name)))
        .chain([(ctx.local, ctx.config.name.clone())])
        .collect();
    let rows = ctx.steward.questions().into_iter().map(|it| PendingRow {
        r#try: it.answer(),
        name: names.get(&it.peer).cloned().unwrap_or_default(),
        rating: it.asked.rating(),
        needs: needs(&it.asked),
        service: it.reference,
        version: it.version,
        market_id: it.market,
        right: it.right,
        peer_id: it.peer,
        kin: it.kin,
        why: it.why.to_owned(),
        times: it.times,
        last: it.last,
    });
    Reply::Pending { pending: rows.collect() }
}

/// What was done, newest first.
pub async fn history(ctx: &Context, today: bool) -> Result<Reply, CommandError> {
    let since = if today { unix_now() / DAY * DAY } else { 0 };
    let entries = ctx.steward.history(since).await.map_err(|error| {
        let mut answer = CommandError::new(ErrorCode::Failed, error.to_string());
        answer.r#try = error.tries();
        answer
    })?;
    Ok(Reply::History { entries })
}

/// The permissions of a manifest as its file has them, each with what it means and whether it is granted here.
pub fn permission_lines(ctx: &Context, found: &Found, permissions: &Permissions) -> Vec<String> {
    let free = [
        (permissions.image, "image = true: decode and encode pictures"),
        (permissions.clock, "clock = true: the time of day"),
        (permissions.random, "random = true: randomness"),
    ];
    // They reveal nothing of this device, so there is nothing to grant.
    let free = free.into_iter().filter(|(asked, _)| *asked).map(|(_, line)| format!("{line} [needs no grant]"));
    let grants = ctx.steward.grants();
    let now = unix_now();
    let own = ctx.steward.caller(ctx.local);
    let gated = Right::asked(permissions).map(|right| {
        let line = match right {
            Right::Gps => format!("gps = {:?}: this device's position", permissions.gps.as_deref().unwrap_or_default()),
            Right::Net => format!("net = {:?}: fetch from these hosts", permissions.net),
            Right::Device => "device = true: battery, network and name of this device".to_owned(),
        };
        let mine = |grant: &&Grant| {
            grant.market == found.market && grant.service == found.release.name && grant.right == right
        };
        let holding: Vec<String> = grants
            .entries()
            .iter()
            .filter(mine)
            .filter(|grant| grant.standing(now) == Standing::Holds)
            .map(|grant| grant.to.to_string())
            .collect();
        let check = |caller: &Caller| grants.find(&found.market, &found.release.name, right, caller, now).is_ok();
        match holding.is_empty() {
            true => format!("{line} [not granted here]"),
            false if check(&own) => format!("{line} [granted here: {}]", holding.join(", ")),
            false => format!("{line} [granted here to others only: {}]", holding.join(", ")),
        }
    });
    free.chain(gated).collect()
}
