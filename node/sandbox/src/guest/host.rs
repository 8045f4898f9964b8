//! What a guest can reach outside its own heap: the log, progress, text, chance and the picture codecs.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use rquickjs::{
    ArrayBuffer, ArrayBufferSource, Coerced, Ctx, Exception, FromJs, Function, Object, Result, TypedArray, U8Clamped,
    Value, function::Rest,
};

use super::{channel::Channel, heap::Account};
use crate::{
    wire,
    work::{WorkError, codec},
};

/// Calls of `ctx.image` in one run: a service needs a few; each costs the host real work. *Judgement.*
const HOST_CALLS: u32 = 1_000;
/// How often progress is passed on, however often the guest tells it.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);
/// Where the guest's `Math.random` starts in every run: any number but 0.
const RANDOM_SEED: u64 = 0x4d53_4d31_4d53_4d31;

/// What the host knows of the run in progress. One per child, started anew for each run.
pub struct Host {
    pub account: Rc<Account>,
    /// None between runs: what the host itself has the engine do is not timed.
    deadline: Cell<Option<Instant>>,
    time: Cell<Duration>,
    log: RefCell<String>,
    host_calls: Cell<u32>,
    image: Cell<bool>,
    /// Bytes that decoded pictures may still take.
    pictures: Cell<u64>,
    random: Cell<u64>,
    told: Cell<Option<Instant>>,
}

impl Host {
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            account: Rc::default(),
            deadline: Cell::default(),
            time: Cell::default(),
            log: RefCell::default(),
            host_calls: Cell::default(),
            image: Cell::default(),
            pictures: Cell::default(),
            random: Cell::new(RANDOM_SEED),
            told: Cell::default(),
        })
    }

    /// Starts a run: everything is as it was at the first one.
    pub fn start(&self, time: Duration, memory: u64, image: bool) {
        self.deadline.set(Instant::now().checked_add(time));
        self.time.set(time);
        self.log.borrow_mut().clear();
        self.host_calls.set(0);
        self.image.set(image);
        self.pictures.set(memory);
        self.random.set(RANDOM_SEED);
        self.told.set(None);
        self.account.allow(memory);
    }

    /// Ends a run: no deadline, no memory limit, for what the host itself does between runs.
    pub fn rest(&self) {
        self.deadline.set(None);
        self.account.unlimited();
    }

    /// Whether the run's time is over.
    pub fn is_late(&self) -> bool {
        self.deadline.get().is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// The run's whole time.
    pub const fn time(&self) -> Duration {
        self.time.get()
    }

    /// What the guest logged.
    pub fn take_log(&self) -> String {
        self.log.take()
    }

    fn log<'js>(&self, ctx: &Ctx<'js>, level: &str, values: &[Value<'js>]) {
        const CUT: &str = "… log cut\n";
        let room = wire::LOG_BYTES - CUT.len();
        if self.log.borrow().len() >= room {
            return;
        }
        let mut line = level.to_owned();
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                line.push(' ');
            }
            line.push_str(&readable(ctx, value));
            if line.len() > room {
                break;
            }
        }
        line.push('\n');
        let mut log = self.log.borrow_mut();
        let left = room - log.len();
        if line.len() > left {
            log.push_str(&line[..line.floor_char_boundary(left)]);
            log.push_str(CUT);
        } else {
            log.push_str(&line);
        }
    }

    /// xorshift64*: plain, quick, and the same on every device.
    fn random(&self) -> f64 {
        let mut state = self.random.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.random.set(state);
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn progress(&self, part: f64) {
        let now = Instant::now();
        if part.is_finite() && self.told.get().is_none_or(|told| now.duration_since(told) >= PROGRESS_EVERY) {
            self.told.set(Some(now));
            Channel::inherited().send(wire::kind::PROGRESS, &[&(part.clamp(0.0, 1.0) as f32).to_le_bytes()]);
        }
    }

    /// Counts a call of `ctx.image` and checks that it is granted.
    fn image_call(&self, ctx: &Ctx<'_>, name: &str) -> Result<()> {
        if !self.image.get() {
            let text = format!("ctx.image.{name} is not permitted: add `image = true` under [permissions]");
            let error = Exception::from_message(ctx.clone(), &text)?;
            error.as_object().set("name", "PermissionError")?;
            return Err(error.throw());
        }
        let calls = self.host_calls.get() + 1;
        if calls > HOST_CALLS {
            return Err(Exception::throw_range(ctx, &format!("more than {HOST_CALLS} calls of ctx.image in one run")));
        }
        self.host_calls.set(calls);
        Ok(())
    }

    /// A work error as the guest sees it.
    fn throw(&self, ctx: &Ctx<'_>, error: &WorkError) -> rquickjs::Error {
        match error {
            WorkError::Memory { .. } => {
                self.account.refuse();
                Exception::throw_range(ctx, &error.to_string())
            }
            WorkError::Bad(_) => Exception::throw_message(ctx, &error.to_string()),
        }
    }
}

/// The functions that prelude.js builds `ctx` and the globals from.
pub fn natives<'js>(ctx: &Ctx<'js>, host: &Rc<Host>) -> Result<Object<'js>> {
    let natives = Object::new(ctx.clone())?;
    let at = host.clone();
    natives.set(
        "log",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, level: String, values: Rest<Value<'js>>| {
            at.log(&ctx, &level, &values)
        })?,
    )?;
    let at = host.clone();
    natives.set("progress", Function::new(ctx.clone(), move |part: Coerced<f64>| at.progress(part.0))?)?;
    let at = host.clone();
    natives.set("random", Function::new(ctx.clone(), move || at.random())?.with_name("random")?)?;
    natives.set("utf8", Function::new(ctx.clone(), utf8)?)?;
    natives.set("text", Function::new(ctx.clone(), text)?)?;
    let at = host.clone();
    natives.set("decode", Function::new(ctx.clone(), move |ctx, bytes| decode(&at, ctx, &bytes))?)?;
    let at = host.clone();
    natives.set(
        "encode",
        Function::new(ctx.clone(), move |ctx, width: Coerced<f64>, height: Coerced<f64>, data| {
            encode(&at, ctx, width.0, height.0, &data)
        })?,
    )?;
    Ok(natives)
}

fn decode<'js>(host: &Rc<Host>, ctx: Ctx<'js>, bytes: &Octets<'js>) -> Result<Object<'js>> {
    host.image_call(&ctx, "decode")?;
    // SAFETY: no JavaScript runs while the picture is decoded.
    let picture = codec::decode(unsafe { bytes.as_slice() }, host.pictures.get());
    let picture = picture.map_err(|error| host.throw(&ctx, &error))?;
    let object = Object::new(ctx.clone())?;
    object.set("width", picture.width)?;
    object.set("height", picture.height)?;
    object.set("data", lend(&ctx, host, picture.data)?)?;
    Ok(object)
}

fn encode<'js>(host: &Rc<Host>, ctx: Ctx<'js>, width: f64, height: f64, data: &Octets<'js>) -> Result<Value<'js>> {
    host.image_call(&ctx, "encode")?;
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

fn utf8<'js>(ctx: Ctx<'js>, text: Value<'js>) -> Result<Value<'js>> {
    Ok(TypedArray::<u8>::new_copy(ctx.clone(), lossy(&ctx, &text).as_bytes())?.into_value())
}

fn text(ctx: Ctx<'_>, bytes: Octets<'_>, fatal: bool, keep_bom: bool) -> Result<String> {
    // SAFETY: no JavaScript runs while the text is made.
    let mut bytes = unsafe { bytes.as_slice() };
    if !keep_bom {
        bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) if fatal => Err(Exception::throw_type(&ctx, &format!("TextDecoder: {error}"))),
        Err(_) => Ok(String::from_utf8_lossy(bytes).into_owned()),
    }
}

/// The text of a string; halves of surrogate pairs become U+FFFD.
fn lossy(ctx: &Ctx<'_>, value: &Value<'_>) -> String {
    let Some(string) = value.as_string() else { return String::new() };
    string.to_string().unwrap_or_else(|_| {
        ctx.catch();
        string.clone().to_cstring().map_or_else(|_| String::new(), |text| whole_characters(text.as_bytes()))
    })
}

/// The text of the engine's bytes: it spells half a surrogate pair as ED A0..BF 80..BF, which is not UTF-8.
pub fn whole_characters(bytes: &[u8]) -> String {
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len() {
        if let [0xed, 0xa0..=0xbf, _, ..] = bytes[at..] {
            bytes[at..at + 3].copy_from_slice("\u{fffd}".as_bytes());
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A value as a log line shows it.
fn readable<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> String {
    if value.is_string() {
        return lossy(ctx, value);
    }
    if let Some(error) = value.as_object().filter(|object| object.is_error()) {
        let field = |name| error.get::<_, Coerced<String>>(name).map(|text| text.0).unwrap_or_default();
        return format!("{}: {}\n{}", field("name"), field("message"), field("stack").trim_end());
    }
    let json =
        if value.is_object() && !value.is_function() { ctx.json_stringify(value.clone()).ok().flatten() } else { None };
    let text = json.and_then(|text| text.to_string().ok());
    let text = text.or_else(|| Coerced::<String>::from_js(ctx, value.clone()).ok().map(|text| text.0));
    // Whatever a getter or toJSON threw is the log's affair only.
    ctx.catch();
    text.unwrap_or_else(|| value.type_name().to_owned())
}

/// Bytes in a typed array of bytes or an ArrayBuffer.
pub struct Octets<'js> {
    bytes: std::ptr::NonNull<[u8]>,
    /// Keeps the buffer alive.
    _value: Value<'js>,
}

impl<'js> Octets<'js> {
    /// The bytes in `value`, if it holds bytes.
    pub fn of(value: &Value<'js>) -> Option<Self> {
        let object = value.as_object()?;
        let raw = if object.is_typed_array::<u8>() {
            TypedArray::<u8>::from_object(object.clone()).ok()?.as_raw()
        } else if object.is_typed_array::<U8Clamped>() {
            TypedArray::<U8Clamped>::from_object(object.clone()).ok()?.as_raw()
        } else {
            ArrayBuffer::from_object(object.clone()).and_then(|buffer| buffer.as_raw())
        };
        if raw.is_none() {
            // The engine throws when it is asked for bytes that are not there.
            value.ctx().catch();
        }
        Some(Self { bytes: raw?, _value: value.clone() })
    }

    /// The bytes.
    ///
    /// # Safety
    /// No JavaScript may have run since [`Octets::of`] or may run while the slice lives: it could free them.
    pub const unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: the engine gave the pointer and the caller promises that it has not run since; the value keeps the
        // buffer alive.
        unsafe { self.bytes.as_ref() }
    }
}

impl<'js> FromJs<'js> for Octets<'js> {
    fn from_js(ctx: &Ctx<'js>, value: Value<'js>) -> Result<Self> {
        Self::of(&value).ok_or_else(|| Exception::throw_type(ctx, "expected a Uint8Array"))
    }
}

/// Host bytes that the guest may read and write; they count as its pictures until it drops them.
struct Lent {
    bytes: Vec<u8>,
    counted: u64,
    host: Rc<Host>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.host.pictures.set(self.host.pictures.get().saturating_add(self.counted));
    }
}

// SAFETY: the bytes are on the heap, stay where they are when `Lent` moves, and are nobody else's.
unsafe impl ArrayBufferSource for Lent {
    fn as_ptr(&self) -> *mut u8 {
        self.bytes.as_ptr().cast_mut()
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Gives the guest a Uint8Array over host bytes that count as a picture.
fn lend<'js>(ctx: &Ctx<'js>, host: &Rc<Host>, bytes: Vec<u8>) -> Result<Value<'js>> {
    let counted = bytes.len() as u64;
    let Some(left) = host.pictures.get().checked_sub(counted) else {
        host.account.refuse();
        return Err(Exception::throw_range(ctx, "the run's pictures need more than its memory limit"));
    };
    host.pictures.set(left);
    octets(ctx, Lent { bytes, counted, host: host.clone() })
}

/// Gives the guest a Uint8Array over the call's input, which counts as nothing.
pub fn lend_input<'js>(ctx: &Ctx<'js>, host: &Rc<Host>, bytes: Vec<u8>) -> Result<Value<'js>> {
    octets(ctx, Lent { bytes, counted: 0, host: host.clone() })
}

fn octets<'js>(ctx: &Ctx<'js>, lent: Lent) -> Result<Value<'js>> {
    let buffer = ArrayBuffer::from_source(ctx.clone(), lent)?;
    Ok(TypedArray::<u8>::from_arraybuffer(buffer)?.into_value())
}
