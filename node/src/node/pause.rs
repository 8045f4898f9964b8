//! The owner's word that nothing is lent for a while: given, taken back, and over by itself.

use std::sync::{Arc, atomic::Ordering};

use super::{context::Context, lending::Pause};
use crate::{
    clock,
    command::{CommandError, ErrorCode, Event, Lending, Reply},
    home::Home,
};

/// Lends nothing for so many seconds, or until it is resumed. Every job stream hears of it at once, hands its tasks back
/// and kills their children; what runs for the owner goes on.
pub async fn pause(ctx: &Arc<Context>, home: &Home, for_s: Option<u64>) -> Result<Reply, CommandError> {
    let pause = Pause { until: for_s.map(|seconds| clock::now().saturating_add(seconds)) };
    let tasks_back = ctx.running_tasks.load(Ordering::Relaxed);
    // First the effect, then the file: what fails there does not hold it up.
    ctx.pause.send_replace(Some(pause));
    tracing::info!(until = pause.until, tasks_back, "lending paused");
    ctx.emit(Event::Paused { until: pause.until, tasks_back });
    keep(home, Some(pause), "paused, but a restart would forget it").await?;
    Ok(told(ctx, tasks_back))
}

/// Ends a pause.
pub async fn resume(ctx: &Arc<Context>, home: &Home) -> Result<Reply, CommandError> {
    // First the file: a device that was to be kept must not be lent after a restart because of a full disk, and one
    // that was to be lent says that it is not.
    keep(home, None, "still paused").await?;
    if ctx.pause.send_replace(None).is_some() {
        tracing::info!("lending resumed");
        ctx.emit(Event::Resumed { reason: "by its owner".into() });
    }
    Ok(told(ctx, 0))
}

/// Tells that a pause is over when it is. The time decides by itself; this is for whoever watches.
pub fn look(ctx: &Context) {
    let over = |pause: &mut Option<Pause>| pause.is_some_and(|it| !it.holds(clock::now())) && pause.take().is_some();
    if ctx.pause.send_if_modified(over) {
        tracing::info!("the pause is over");
        ctx.emit(Event::Resumed { reason: "the pause is over".into() });
    }
}

async fn keep(home: &Home, pause: Option<Pause>, what: &str) -> Result<(), CommandError> {
    let home = home.clone();
    let kept = tokio::task::spawn_blocking(move || home.keep_pause(pause).map_err(CommandError::from)).await;
    let kept = kept.unwrap_or_else(|_| Err(CommandError::new(ErrorCode::Failed, "the node is ending")));
    kept.map_err(|error| CommandError { message: format!("{what}: {}", error.message), ..error })
}

fn told(ctx: &Context, tasks_back: u32) -> Reply {
    let (lending, pause) = (ctx.lending(), *ctx.pause.borrow());
    Reply::Lending(Lending {
        lending: lending.is_ok(),
        detail: lending.map_or_else(|refusal| refusal.reason, |()| tasks_at_a_time(ctx.slot_count)),
        paused: pause.is_some(),
        until: pause.and_then(|pause| pause.until),
        tasks_back,
    })
}

/// What is lent.
pub fn tasks_at_a_time(slots: usize) -> String {
    format!("{slots} task{} at a time", if slots == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_task_is_no_tasks() {
        assert_eq!([0, 1, 2].map(tasks_at_a_time), ["0 tasks at a time", "1 task at a time", "2 tasks at a time"]);
    }
}
