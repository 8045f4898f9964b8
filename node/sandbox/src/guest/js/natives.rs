//! The functions that prelude.js and web.js make `ctx` and the globals of.

use std::{cell::RefCell, rc::Rc};

use rquickjs::{
    Coerced, Ctx, Exception, Function, IntoJs, Module, Object, Persistent, Result, String as JsString, TypedArray,
    Value,
    function::{IntoJsFunc, Rest},
};

use super::{
    buffers::{Octets, lend},
    modules::Compiled,
    questions::Asker,
    text, urls,
};
use crate::{
    guest::host::{Host, Right},
    work::codec,
};

/// The name of prelude.js in stacks.
pub const PRELUDE: &str = "msm";
/// The name of web.js in stacks.
const WEB: &str = "msm-web";
/// Bytes of real randomness in one piece, as on the web.
const RANDOM_BYTES: usize = 65_536;

/// web.js, compiled when the first guest needs it.
#[derive(Default)]
struct Web(Rc<RefCell<Option<Rc<Compiled>>>>);

impl Web {
    /// The function that makes the globals of web.js.
    fn load<'js>(&self, ctx: &Ctx<'js>) -> Result<Function<'js>> {
        let known = self.0.borrow().clone();
        let module = match known {
            Some(compiled) => compiled.load(ctx)?,
            None => {
                let module = Module::declare(ctx.clone(), WEB, include_str!("../web.js"))?;
                *self.0.borrow_mut() = Compiled::of(&module).map(Rc::new);
                module
            }
        };
        module.eval()?.0.get("default")
    }
}

/// All of them in one object. No other value of the engine owns anything outside its memory.
pub fn of<'js>(ctx: &Ctx<'js>, host: &Rc<Host>) -> Result<Object<'js>> {
    let natives = Natives { object: Object::new(ctx.clone())?, ctx };
    let at = host.clone();
    natives.add("log", move |ctx: Ctx<'js>, level: String, values: Rest<Value<'js>>| at.log(&ctx, &level, &values))?;
    let at = host.clone();
    natives.add("progress", move |part: Coerced<f64>| at.progress(part.0))?;
    let at = host.clone();
    natives.add("now", move || at.now_ms())?;
    let at = host.clone();
    natives.add("random", move || at.random())?;

    natives.add("utf8", text::utf8)?;
    natives.add("text", text::text)?;

    let at = host.clone();
    natives.add("decode", move |ctx, bytes| decode(&at, ctx, &bytes))?;
    let at = host.clone();
    natives.add("encode", move |ctx, width: Coerced<f64>, height: Coerced<f64>, data| {
        encode(&at, ctx, width.0, height.0, &data)
    })?;
    let at = host.clone();
    natives.add("assets", move || at.package().assets.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>())?;
    let at = host.clone();
    natives.add("asset", move |ctx, path: String| asset(&at, ctx, &path))?;

    let at = host.clone();
    natives.add("missing", move |right: String, what: String| {
        Right::named(&right).and_then(|right| at.missing(right, &what))
    })?;
    let at = host.clone();
    natives.add("ask", move |ctx: Ctx<'js>, right: String, op: String, body, answered, failed| {
        ask(&at, &ctx, &right, op, body, answered, failed)
    })?;
    let at = host.clone();
    natives.add("timer", move |ctx: Ctx<'js>, act, wait_ms: Coerced<f64>, repeats: bool| {
        at.turns.add_timer(&ctx, act, wait_ms.0, repeats)
    })?;
    let at = host.clone();
    natives.add("untimer", move |number: Coerced<f64>| at.turns.remove_timer(number.0 as u32))?;
    let (at, web) = (host.clone(), Web::default());
    // Else it would be a matter of memory whether a service meets a child that has compiled it before.
    natives.add("web", move |ctx: Ctx<'js>| at.account.aside(|| web.load(&ctx)))?;

    // Those that only web.js needs.
    natives.add("base64", text::base64)?;
    natives.add("urlParts", urls::names)?;
    natives.add("url", urls::parse)?;
    natives.add("urlSet", urls::set)?;
    natives.add("pairs", urls::pairs)?;
    natives.add("query", urls::query)?;
    let at = host.clone();
    natives.add("chance", move |ctx, count: usize| chance(&at, ctx, count))?;
    let at = host.clone();
    natives.add("lastCall", move |ctx: Ctx<'js>, act| at.turns.at_last_call(&ctx, &at, act))?;
    Ok(natives.object)
}

struct Natives<'a, 'js> {
    object: Object<'js>,
    ctx: &'a Ctx<'js>,
}

impl<'js> Natives<'_, 'js> {
    fn add<P>(&self, name: &str, function: impl IntoJsFunc<'js, P> + 'js) -> Result<()> {
        self.object.set(name, Function::new(self.ctx.clone(), function)?.with_name(name)?)
    }
}

fn chance<'js>(host: &Host, ctx: Ctx<'js>, count: usize) -> Result<Value<'js>> {
    let mut bytes = vec![0; count.min(RANDOM_BYTES)];
    let has = Right::Random;
    if host.missing(has, "crypto").is_some() || !host.chance.fill(&mut bytes) {
        return Err(Exception::throw_message(&ctx, "there is no randomness here"));
    }
    Ok(TypedArray::<u8>::new_copy(ctx, bytes)?.into_value())
}

fn asset<'js>(host: &Host, ctx: Ctx<'js>, path: &str) -> Result<Value<'js>> {
    let package = host.package();
    match package.assets.iter().find(|(known, _)| known == path) {
        // A copy: the next run must find the file as it was.
        Some((_, bytes)) => Ok(TypedArray::<u8>::new_copy(ctx, bytes)?.into_value()),
        None => ().into_js(&ctx),
    }
}

fn ask<'js>(
    host: &Host,
    ctx: &Ctx<'js>,
    right: &str,
    op: String,
    body: JsString<'js>,
    answered: Function<'js>,
    failed: Function<'js>,
) -> Result<()> {
    let right = Right::named(right).ok_or(rquickjs::Error::Unknown)?;
    if let Some(why) = host.missing(right, &op) {
        return Err(Exception::throw_message(ctx, &why));
    }
    let asker = Asker { answered: Persistent::save(ctx, answered), failed: Persistent::save(ctx, failed) };
    host.turns.ask(ctx, op, body, asker)
}

fn decode<'js>(host: &Rc<Host>, ctx: Ctx<'js>, bytes: &Octets<'js>) -> Result<Object<'js>> {
    host.image_call(&ctx, "ctx.image.decode")?;
    // SAFETY: no JavaScript runs while the picture is decoded.
    let picture = codec::decode(unsafe { bytes.as_slice() }, host.lent.left());
    let picture = picture.map_err(|error| host.throw(&ctx, &error))?;
    let object = Object::new(ctx.clone())?;
    object.set("width", picture.width)?;
    object.set("height", picture.height)?;
    object.set("data", lend(&ctx, host, picture.data)?)?;
    Ok(object)
}

fn encode<'js>(host: &Rc<Host>, ctx: Ctx<'js>, width: f64, height: f64, data: &Octets<'js>) -> Result<Value<'js>> {
    host.image_call(&ctx, "ctx.image.encode")?;
    // SAFETY: no JavaScript runs while the picture is encoded.
    let rgba = unsafe { data.as_slice() };
    let side = |number: f64| (number >= 1.0 && number <= f64::from(u32::MAX)).then_some(number as u32);
    let (Some(w), Some(h)) = (side(width), side(height)) else {
        return Err(Exception::throw_range(&ctx, &format!("a picture of {width}x{height} pixels")));
    };
    if u64::from(w).checked_mul(u64::from(h)).and_then(|pixels| pixels.checked_mul(4)) != Some(rgba.len() as u64) {
        let text = format!("{w}x{h} pixels need 4 bytes each, data has {}", rgba.len());
        return Err(Exception::throw_range(&ctx, &text));
    }
    let png = codec::encode(w, h, rgba).map_err(|error| host.throw(&ctx, &error))?;
    lend(&ctx, host, png)
}
