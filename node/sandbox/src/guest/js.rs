//! The JavaScript engine: a fresh context for each run, in which the package is loaded and called.

mod buffers;
mod errors;
mod exports;
mod modules;
pub(super) mod natives;
mod questions;
pub(super) mod rejections;
mod text;
mod timers;
pub(super) mod turns;
mod urls;

use std::rc::Rc;

use rquickjs::{Context, Ctx, Function, Module, Persistent, Runtime, qjs};

use self::{
    errors::failure,
    modules::{Compiled, Modules},
    natives::Web,
};
pub use self::{
    exports::{Guest, Shape},
    text::readable,
};
use super::{Failure, host::Host};
use crate::wire::{Fault, Loaded};

/// Stack of the engine: deep recursion of a guest ends as an exception long before the child's real stack does.
const STACK_BYTES: usize = 512 * 1024;

/// The engine of one child.
pub struct Js {
    runtime: Runtime,
    /// The prelude, compiled once.
    prelude: Compiled,
    /// The part of the prelude that few guests need, compiled when the first one does.
    web: Web,
    /// The context of the next run, built while nobody waits.
    ready: Option<Ready>,
    modules: Modules,
    host: Rc<Host>,
}

/// A context with its prelude; the function in it makes a guest's `ctx`.
struct Ready {
    prelude: Persistent<Function<'static>>,
    context: Context,
}

impl Js {
    pub fn new(host: &Rc<Host>) -> rquickjs::Result<Self> {
        host.rest();
        let runtime = Runtime::new_with_alloc(super::heap::Heap(host.account.clone()))?;
        runtime.set_max_stack_size(STACK_BYTES);
        let at = host.clone();
        runtime.set_interrupt_handler(Some(Box::new(move || at.is_late())));
        let at = host.clone();
        runtime.set_host_promise_rejection_tracker(Some(Box::new(move |ctx, promise, reason, is_handled| {
            at.rejections.note(&ctx, &promise, reason, is_handled);
        })));
        let modules = Modules::new(host);
        runtime.set_loader(modules.clone(), modules.clone());
        // The context that the prelude is compiled in serves the first run.
        let (context, web) = (Context::full(&runtime)?, Web::default());
        let (compiled, prelude) = context.with(|ctx| {
            let module = Module::declare(ctx.clone(), natives::PRELUDE, include_str!("prelude.js"))?;
            let compiled = Compiled::of(&module).ok_or(rquickjs::Error::Unknown)?;
            Ok::<_, rquickjs::Error>((compiled, install(&ctx, module, host, &web)?))
        })?;
        let ready = Some(Ready { prelude, context });
        Ok(Self { runtime, prelude: compiled, web, ready, modules, host: host.clone() })
    }

    /// Forgets the package: another one comes.
    pub fn forget_package(&mut self) {
        self.modules.clear();
    }

    /// Between runs: gets rid of the last run's objects and builds the next context.
    pub fn tidy(&mut self) -> rquickjs::Result<()> {
        self.host.rest();
        if self.runtime.is_job_pending() {
            // Jobs are the engine's, not the context's: what a run left undone would go on in the next one.
            let host = self.host.clone();
            *self = Self::new(&host)?;
            return Ok(());
        }
        if self.ready.is_none() {
            // A context is dropped with its reference cycles; only the collector frees those.
            self.runtime.run_gc();
            self.ready = Some(self.build()?);
        }
        Ok(())
    }

    fn build(&self) -> rquickjs::Result<Ready> {
        let context = Context::full(&self.runtime)?;
        let prelude = context.with(|ctx| {
            // The engine gives this class to the first context of a runtime only.
            // SAFETY: a live context.
            if unsafe { qjs::JS_AddIntrinsicDOMException(ctx.as_raw().as_ptr()) } < 0 {
                return Err(rquickjs::Error::Exception);
            }
            install(&ctx, self.prelude.load(&ctx)?, &self.host, &self.web)
        })?;
        Ok(Ready { prelude, context })
    }

    /// Loads the package into a fresh context and hands it to `act`. The host has been started for this run.
    pub fn run<T>(
        &mut self,
        package: &Loaded,
        act: impl FnOnce(&Guest<'_, '_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Some(Ready { prelude, context }) = self.ready.take() else {
            return Err(Failure::new(Fault::OutOfMemory, "the sandbox child has no memory for its engine"));
        };
        let result = context.with(|ctx| {
            let failed = |error| failure(&ctx, &self.host, error);
            let (exports, evaluation) = self.modules.evaluate(&ctx, package).map_err(failed)?;
            let prelude = prelude.restore(&ctx).map_err(failed)?;
            let guest = Guest { ctx: ctx.clone(), host: &self.host, exports, prelude };
            guest.settle(evaluation)?;
            let given = act(&guest)?;
            self.host.rejections.tell(&ctx, &self.host);
            // Showing them may have taken what was left of the time.
            if self.host.is_late() { Err(Failure::deadline(self.host.time())) } else { Ok(given) }
        });
        // What the guest still waits for goes before its context does.
        self.host.turns.clear();
        self.host.rejections.clear();
        result
    }
}

/// Has the prelude put its globals into a context; what it gives makes a guest's `ctx`.
fn install<'js>(
    ctx: &Ctx<'js>,
    prelude: Module<'js>,
    host: &Rc<Host>,
    web: &Web,
) -> rquickjs::Result<Persistent<Function<'static>>> {
    let install: Function<'_> = prelude.eval()?.0.get("default")?;
    let make: Function<'_> = install.call((natives::of(ctx, host, web)?,))?;
    Ok(Persistent::save(ctx, make))
}
