//! A package in a context: its exports are called, and what they promise is waited for.

use std::rc::Rc;

use rquickjs::{Array, Coerced, Ctx, Function, Object, Value, function::Constructor, qjs};

use super::{
    buffers::{Octets, lend_input},
    errors::failure,
    text::whole_characters,
};
use crate::guest::{Failure, host::Host};

/// What a run's `ctx` tells the guest about its place in the job.
#[derive(Default)]
pub struct Shape {
    /// `[width, height, top, bottom]`.
    pub tile: Option<[u32; 4]>,
    /// Index and count.
    pub chunk: Option<[u32; 2]>,
    pub want: Option<u32>,
}

/// A package in a context.
pub struct Guest<'js, 'a> {
    pub ctx: Ctx<'js>,
    pub host: &'a Rc<Host>,
    /// What the main module exports.
    pub exports: Object<'js>,
    /// Makes `ctx`.
    pub prelude: Function<'js>,
}

impl<'js> Guest<'js, '_> {
    /// Calls an export with an input and a `ctx`, and waits for what it promises.
    pub fn call(&self, export: &str, input: Value<'js>, params: &str, shape: &Shape) -> Result<Value<'js>, Failure> {
        let function: Option<Function<'js>> = self.exports.get(export).ok();
        // Reading an export that was never initialised throws; so does an export that is no function.
        self.ctx.catch();
        let function = function.ok_or_else(|| Failure::service(format!("the service does not export `{export}`")))?;
        let context = self.context(params, shape).map_err(|error| self.failure(error))?;
        let returned = function.call((input, context)).map_err(|error| self.failure(error))?;
        self.settle(returned)
    }

    /// Host bytes as the guest's input.
    pub fn input(&self, bytes: Vec<u8>) -> Result<Value<'js>, Failure> {
        lend_input(&self.ctx, self.host, bytes).map_err(|error| self.failure(error))
    }

    /// Part of a `Uint8Array`'s memory as another one.
    pub fn view(&self, whole: &Value<'js>, start: usize, length: usize) -> Result<Value<'js>, Failure> {
        let view = || {
            let buffer: Value<'js> = whole.as_object().ok_or(rquickjs::Error::Unknown)?.get("buffer")?;
            let class: Constructor<'js> = self.ctx.globals().get("Uint8Array")?;
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
            Err(_) => act(whole_characters(text.as_bytes()).as_bytes()),
        }
    }

    /// Runs the engine's jobs, and lets answers and timers in when there are none, until `value` is no pending promise.
    /// This loop keeps the deadline itself: a chain of promises never lets one job run long enough for the engine to
    /// ask.
    pub fn settle(&self, value: Value<'js>) -> Result<Value<'js>, Failure> {
        let Some(promise) = value.as_promise().cloned() else { return self.in_time(value) };
        loop {
            if let Some(result) = promise.result::<Value<'js>>() {
                return self.in_time(result.map_err(|error| self.failure(error))?);
            }
            if self.host.is_late() {
                return Err(Failure::deadline(self.host.time()));
            }
            if self.ctx.execute_pending_job() {
                continue;
            }
            if !self.host.turns.next(&self.ctx, self.host).map_err(|error| self.failure(error))? {
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
