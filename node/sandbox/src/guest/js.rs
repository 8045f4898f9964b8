//! The JavaScript engine: a fresh context for each run, driven until its promise settles or its time is over.

use std::rc::Rc;

use rquickjs::{
    Array, CaughtError, Coerced, Context, Ctx, FromJs, Function, Module, Object, Persistent, Runtime, Value,
    WriteOptions, module::Evaluated, qjs,
};

use super::{
    Failure,
    heap::Heap,
    host::{self, Host, Octets},
};
use crate::wire::Fault;

/// Stack of the engine: deep recursion of a guest ends as an exception long before the child's real stack does.
const STACK_BYTES: usize = 512 * 1024;

/// The engine of one child.
pub struct Js {
    runtime: Runtime,
    /// The prelude, compiled once.
    prelude: Compiled,
    /// The context of the next run, built while nobody waits.
    ready: Option<Ready>,
    /// The package, compiled at its first run.
    package: Option<Compiled>,
    host: Rc<Host>,
}

/// A context with its prelude; the function in it makes a guest's `ctx`.
struct Ready {
    prelude: Persistent<Function<'static>>,
    context: Context,
}

/// What a run's `ctx` tells the guest about its place in the job.
#[derive(Default)]
pub struct Shape {
    /// `[width, height, top, bottom]`.
    pub tile: Option<[u32; 4]>,
    /// Index and count.
    pub chunk: Option<[u32; 2]>,
    pub want: Option<u32>,
}

impl Js {
    pub fn new(host: &Rc<Host>) -> rquickjs::Result<Self> {
        host.rest();
        let runtime = Runtime::new_with_alloc(Heap(host.account.clone()))?;
        runtime.set_max_stack_size(STACK_BYTES);
        let at = host.clone();
        runtime.set_interrupt_handler(Some(Box::new(move || at.is_late())));
        let context = Context::full(&runtime)?;
        let prelude = context.with(|ctx| {
            let source = include_str!("prelude.js");
            Compiled::of(&Module::declare(ctx, "msm", source)?).ok_or(rquickjs::Error::Unknown)
        })?;
        drop(context);
        let mut js = Self { runtime, prelude, ready: None, package: None, host: host.clone() };
        js.tidy()?;
        Ok(js)
    }

    /// Forgets the package: another one comes.
    pub fn forget_package(&mut self) {
        self.package = None;
    }

    /// Between runs: gets rid of the last run's objects and builds the next context.
    pub fn tidy(&mut self) -> rquickjs::Result<()> {
        self.host.rest();
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
            let (module, _) = self.prelude.load(&ctx)?.eval()?;
            let install: Function<'_> = module.get("default")?;
            let make: Function<'_> = install.call((host::natives(&ctx, &self.host)?,))?;
            Ok::<_, rquickjs::Error>(Persistent::save(&ctx, make))
        })?;
        Ok(Ready { prelude, context })
    }

    /// Loads the package into a fresh context and hands it to `act`. The host has been started for this run.
    pub fn run<T>(
        &mut self,
        label: &str,
        source: &[u8],
        act: impl FnOnce(&Guest<'_, '_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Some(Ready { prelude, context }) = self.ready.take() else {
            return Err(Failure::new(Fault::OutOfMemory, "the sandbox child has no memory for its engine"));
        };
        context.with(|ctx| {
            let failed = |error| failure(&ctx, &self.host, error);
            let module = match &self.package {
                Some(compiled) => compiled.load(&ctx).map_err(failed)?,
                None => {
                    let module = Module::declare(ctx.clone(), label, source).map_err(failed)?;
                    self.package = Compiled::of(&module);
                    module
                }
            };
            let (module, evaluation) = module.eval().map_err(failed)?;
            let prelude = prelude.restore(&ctx).map_err(failed)?;
            let guest = Guest { ctx: ctx.clone(), host: &self.host, module, prelude };
            guest.settle(evaluation.into_value())?;
            act(&guest)
        })
    }
}

/// A module that this process has compiled itself. The engine believes compiled code, so nothing that came over the
/// channel is ever taken for it: there is no way from bytes to this type but through the compiler.
struct Compiled(Vec<u8>);

impl Compiled {
    fn of(module: &Module<'_>) -> Option<Self> {
        // Positions stay for error texts; the text itself is not needed again.
        module.write(WriteOptions { strip_source: true, ..WriteOptions::default() }).ok().map(Self)
    }

    fn load<'js>(&self, ctx: &Ctx<'js>) -> rquickjs::Result<Module<'js>> {
        // SAFETY: these bytes were written by this engine in this process, from a module that it compiled.
        unsafe { Module::load(ctx.clone(), &self.0) }
    }
}

/// A package in a context.
pub struct Guest<'js, 'a> {
    pub ctx: Ctx<'js>,
    host: &'a Rc<Host>,
    module: Module<'js, Evaluated>,
    prelude: Function<'js>,
}

impl<'js> Guest<'js, '_> {
    /// Calls an export with an input and a `ctx`, and waits for what it promises.
    pub fn call(&self, export: &str, input: Value<'js>, params: &str, shape: &Shape) -> Result<Value<'js>, Failure> {
        let function: Option<Function<'js>> = self.module.get(export).ok();
        // Reading an export that was never initialised throws; so does an export that is no function.
        self.ctx.catch();
        let function = function.ok_or_else(|| Failure::service(format!("the service does not export `{export}`")))?;
        let context = self.context(params, shape).map_err(|error| self.failure(error))?;
        let returned = function.call((input, context)).map_err(|error| self.failure(error))?;
        self.settle(returned)
    }

    /// Host bytes as the guest's input.
    pub fn input(&self, bytes: Vec<u8>) -> Result<Value<'js>, Failure> {
        host::lend_input(&self.ctx, self.host, bytes).map_err(|error| self.failure(error))
    }

    /// Part of a `Uint8Array`'s memory as another one.
    pub fn view(&self, whole: &Value<'js>, start: usize, length: usize) -> Result<Value<'js>, Failure> {
        let view = || {
            let buffer: Value<'js> = whole.as_object().ok_or(rquickjs::Error::Unknown)?.get("buffer")?;
            let class: rquickjs::function::Constructor<'js> = self.ctx.globals().get("Uint8Array")?;
            class.construct((buffer, start as f64, length as f64))
        };
        view().map_err(|error| self.failure(error))
    }

    /// Values as an array.
    pub fn array(&self, values: impl Iterator<Item = Result<Value<'js>, Failure>>) -> Result<Value<'js>, Failure> {
        let array = Array::new(self.ctx.clone()).map_err(|error| self.failure(error))?;
        for (index, value) in values.enumerate() {
            array.set(index, value?).map_err(|error| self.failure(error))?;
        }
        Ok(array.into_value())
    }

    /// What an iterable gives, one after the other; an async iterable too.
    pub fn each(
        &self,
        iterable: &Value<'js>,
        mut act: impl FnMut(Value<'js>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        const WALK: &str = "(it) => { const walk = it?.[Symbol.asyncIterator] ?? it?.[Symbol.iterator]; \
             if (!walk) throw new TypeError('split() must give an iterable of Uint8Array'); \
             const walker = walk.call(it); return () => walker.next(); }";
        let walk = || self.ctx.eval::<Function<'js>, _>(WALK)?.call::<_, Function<'js>>((iterable.clone(),));
        let next = walk().map_err(|error| self.failure(error))?;
        loop {
            let step = next.call::<_, Value<'js>>(()).map_err(|error| self.failure(error))?;
            let step = self.settle(step)?;
            let step = Object::from_value(step).map_err(|error| self.failure(error))?;
            if step.get::<_, Coerced<bool>>("done").map_err(|error| self.failure(error))?.0 {
                return Ok(());
            }
            act(step.get("value").map_err(|error| self.failure(error))?)?;
        }
    }

    /// Hands the bytes of a returned value to `act`: of a byte array as they are, of a string as UTF-8, of anything
    /// else as JSON.
    pub fn bytes<T>(
        &self,
        value: &Value<'js>,
        what: &str,
        act: impl FnOnce(&[u8]) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if let Some(octets) = Octets::of(value) {
            // SAFETY: `act` gets bytes only, it cannot run JavaScript.
            return act(unsafe { octets.as_slice() });
        }
        // SAFETY: the value is live; the call reads its class only.
        if unsafe { qjs::JS_GetTypedArrayType(value.as_raw()) } >= 0 {
            // As JSON it would be an object of numbered fields, which nobody means.
            return Err(Failure::service(format!("{what} gave an array of larger numbers: return a Uint8Array of it")));
        }
        let nothing = || Failure::service(format!("{what} gave nothing: return a Uint8Array, a string or JSON"));
        let text = match value.as_string() {
            Some(text) => text.clone(),
            None => {
                let json = self.ctx.json_stringify(value.clone()).map_err(|error| self.failure(error))?;
                json.ok_or_else(nothing)?
            }
        };
        // to_cstring shares no bytes with a copy of ours: one copy less than a String.
        let text = text.to_cstring().map_err(|error| self.failure(error))?;
        match std::str::from_utf8(text.as_bytes()) {
            Ok(text) => act(text.as_bytes()),
            Err(_) => act(host::whole_characters(text.as_bytes()).as_bytes()),
        }
    }

    /// Runs the engine's jobs until `value` is no pending promise. This loop keeps the deadline itself: a chain of
    /// promises never lets one job run long enough for the engine to ask.
    fn settle(&self, value: Value<'js>) -> Result<Value<'js>, Failure> {
        let Some(promise) = value.as_promise().cloned() else { return self.in_time(value) };
        loop {
            if let Some(result) = promise.result::<Value<'js>>() {
                return self.in_time(result.map_err(|error| self.failure(error))?);
            }
            if self.host.is_late() {
                return Err(Failure::deadline(self.host.time()));
            }
            if !self.ctx.execute_pending_job() {
                return Err(Failure::service("the service waits for a promise that nothing will settle"));
            }
        }
    }

    /// A result that comes late is no result: every device must judge alike.
    fn in_time(&self, value: Value<'js>) -> Result<Value<'js>, Failure> {
        if self.host.is_late() { Err(Failure::deadline(self.host.time())) } else { Ok(value) }
    }

    fn context(&self, params: &str, shape: &Shape) -> rquickjs::Result<Value<'js>> {
        let object = || Object::new(self.ctx.clone());
        let about = object()?;
        if let Some([width, height, top, bottom]) = shape.tile {
            let tile = object()?;
            for (name, number) in [("width", width), ("height", height), ("top", top), ("bottom", bottom)] {
                tile.set(name, number)?;
            }
            about.set("tile", tile)?;
        }
        if let Some([index, count]) = shape.chunk {
            let chunk = object()?;
            chunk.set("index", index)?;
            chunk.set("count", count)?;
            about.set("chunk", chunk)?;
        }
        if let Some(want) = shape.want {
            about.set("want", want)?;
        }
        self.prelude.call((params, about))
    }

    fn failure(&self, error: rquickjs::Error) -> Failure {
        failure(&self.ctx, self.host, error)
    }
}

/// What a failed call of the engine means for the run.
fn failure(ctx: &Ctx<'_>, host: &Host, error: rquickjs::Error) -> Failure {
    let caught = CaughtError::from_error(ctx, error);
    if host.is_late() {
        return Failure::deadline(host.time());
    }
    if host.account.has_refused() {
        return Failure::new(Fault::OutOfMemory, "the service needs more than its memory limit");
    }
    let text = match caught {
        CaughtError::Error(error) => error.to_string(),
        CaughtError::Value(value) => {
            let text = Coerced::<String>::from_js(ctx, value.clone()).map_or_else(|_| String::new(), |text| text.0);
            ctx.catch();
            format!("the service threw {} {text}", value.type_name())
        }
        CaughtError::Exception(exception) => {
            let name = exception.get::<_, Coerced<String>>("name").map_or_else(|_| "Error".to_owned(), |name| name.0);
            let message = exception.message().unwrap_or_default();
            let stack = exception.stack().unwrap_or_default();
            ctx.catch();
            let at = stack.lines().next().unwrap_or_default().trim();
            let hint = if message.contains("could not load module") {
                "; a service is one file: bundle what it imports"
            } else {
                ""
            };
            format!("{name}: {message}{hint} {at}")
        }
    };
    // Reading the error may have run getters of the guest's.
    if host.is_late() { Failure::deadline(host.time()) } else { Failure::service(text.trim_end()) }
}
