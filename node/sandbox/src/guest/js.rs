//! The JavaScript engine, as new for each run, in which the package is loaded and called.

pub(super) mod buffers;
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

use rquickjs::{Context, Ctx, Function, Module, Object, Persistent, Runtime};

use self::{errors::failure, modules::Modules};
pub use self::{
    exports::{Guest, Shape},
    text::readable,
};
use super::{
    Failure,
    heap::{Heap, Memory},
    host::Host,
};
use crate::wire::Loaded;

/// Stack of the engine: deep recursion of a guest ends as an exception long before the child's real stack does.
const STACK_BYTES: usize = 512 * 1024;

/// The engine of one child. Each run finds it as it was before the first: its memory is set back after each.
pub struct Js {
    /// Makes a guest's `ctx`.
    prelude: Persistent<Function<'static>>,
    /// Held so that no guest can have one of these functions freed: what they capture lies outside the engine's memory.
    _natives: Persistent<Object<'static>>,
    /// Behind its values, which must be given back before it ends.
    context: Context,
    modules: Modules,
    host: Rc<Host>,
    /// Behind the engine that lives in it.
    memory: Rc<Memory>,
}

impl Js {
    /// The engine with its prelude; none if there is no memory for it.
    pub fn new(host: &Rc<Host>) -> rquickjs::Result<Self> {
        host.rest();
        let memory = Memory::new(host.account.clone()).ok_or(rquickjs::Error::Allocation)?;
        let runtime = Runtime::new_with_alloc(Heap(memory.clone()))?;
        runtime.set_max_stack_size(STACK_BYTES);
        let at = host.clone();
        runtime.set_interrupt_handler(Some(Box::new(move || at.is_late())));
        let at = host.clone();
        runtime.set_host_promise_rejection_tracker(Some(Box::new(move |ctx, promise, reason, is_handled| {
            at.rejections.note(&ctx, &promise, reason, is_handled);
        })));
        let modules = Modules::new(host);
        runtime.set_loader(modules.clone(), modules.clone());
        let context = Context::full(&runtime)?;
        let (prelude, natives) = context.with(|ctx| install(&ctx, host))?;
        // What building it has left: a run's own garbage must not make that of ours a matter of time.
        runtime.run_gc();
        memory.keep();
        Ok(Self { prelude, _natives: natives, context, modules, host: host.clone(), memory })
    }

    /// Forgets the package: another one comes.
    pub fn forget_package(&mut self) {
        self.modules.clear();
    }

    /// Between runs: nothing of the last one is left, neither in the engine nor beside it.
    pub fn tidy(&mut self) {
        self.host.rest();
        // What the host holds of the run's values goes before they do.
        self.host.turns.clear();
        self.host.rejections.clear();
        // SAFETY: no run is under way, and all that the host held of it was just given up. The functions in `natives`
        // are the only values that own something outside the engine's memory, and none of them was freed; bytes that
        // were lent are the host's own and are taken back below.
        unsafe { self.memory.restore() };
        self.host.lent.take_back();
    }

    /// Loads the package and hands it to `act`. The host has been started for this run, and the last one was tidied up.
    pub fn run<T>(
        &mut self,
        package: &Loaded,
        act: impl FnOnce(&Guest<'_, '_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.context.with(|ctx| {
            let failed = |error| failure(&ctx, &self.host, error);
            let (exports, evaluation) = self.modules.evaluate(&ctx, package).map_err(failed)?;
            let prelude = self.prelude.clone().restore(&ctx).map_err(failed)?;
            let guest = Guest { ctx: ctx.clone(), host: &self.host, exports, prelude };
            guest.settle(evaluation)?;
            let given = act(&guest)?;
            self.host.rejections.tell(&ctx, &self.host);
            // Showing them may have taken what was left of the time.
            if self.host.is_late() { Err(Failure::deadline(self.host.time())) } else { Ok(given) }
        })
    }
}

/// Has the prelude put its globals into a context; what it gives makes a guest's `ctx`. Also the native functions.
fn install(
    ctx: &Ctx<'_>,
    host: &Rc<Host>,
) -> rquickjs::Result<(Persistent<Function<'static>>, Persistent<Object<'static>>)> {
    let module = Module::declare(ctx.clone(), natives::PRELUDE, include_str!("prelude.js"))?;
    let install: Function<'_> = module.eval()?.0.get("default")?;
    let natives = natives::of(ctx, host)?;
    let make: Function<'_> = install.call((natives.clone(),))?;
    Ok((Persistent::save(ctx, make), Persistent::save(ctx, natives)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An engine that is built leaves half of the core for newer ones.
    #[test]
    fn the_engine_fits_into_its_core() {
        let js = Js::new(&Host::new()).unwrap();
        let size = js.memory.kept_bytes();
        assert!((100_000..crate::guest::heap::CORE_BYTES / 2).contains(&size), "{size} bytes");
    }
}
