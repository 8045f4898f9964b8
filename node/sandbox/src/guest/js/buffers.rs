//! Bytes between host and guest: neither side copies what the other has.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    ffi::c_void,
    rc::Rc,
};

use rquickjs::{ArrayBuffer, Ctx, Exception, FromJs, Result, TypedArray, U8Clamped, Value, qjs};

use crate::guest::host::Host;

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

/// Host bytes in the guest's hands, and how many more it may get. They are kept here and not by the engine, which may be
/// set back without a word to anybody.
#[derive(Default)]
pub struct LentBytes {
    left: Cell<u64>,
    /// By where they lie, with what they count.
    lent: RefCell<HashMap<usize, (Vec<u8>, u64)>>,
}

impl LentBytes {
    /// Starts a run, which may have so many bytes at a time.
    pub fn allow(&self, bytes: u64) {
        self.left.set(bytes);
    }

    /// Bytes that the guest may still get.
    pub const fn left(&self) -> u64 {
        self.left.get()
    }

    /// Ends a run: no value of the engine refers to these bytes any more.
    pub fn take_back(&self) {
        self.lent.borrow_mut().clear();
    }

    fn give(&self, at: usize, bytes: Vec<u8>, counted: u64) {
        self.left.set(self.left.get().saturating_sub(counted));
        self.lent.borrow_mut().insert(at, (bytes, counted));
    }

    fn given_back(&self, at: usize) {
        if let Some((_, counted)) = self.lent.borrow_mut().remove(&at) {
            self.left.set(self.left.get().saturating_add(counted));
        }
    }
}

/// Gives the guest a Uint8Array over host bytes, such as a decoded picture or a fetched page, within its limit for these.
pub fn lend<'js>(ctx: &Ctx<'js>, host: &Rc<Host>, bytes: Vec<u8>) -> Result<Value<'js>> {
    let counted = bytes.len() as u64;
    if counted > host.lent.left() {
        host.account.refuse();
        return Err(Exception::throw_range(ctx, "the run's pictures and answers need more than its memory limit"));
    }
    octets(ctx, host, bytes, counted)
}

/// Gives the guest a Uint8Array over the call's input, which counts as nothing.
pub fn lend_input<'js>(ctx: &Ctx<'js>, host: &Rc<Host>, bytes: Vec<u8>) -> Result<Value<'js>> {
    octets(ctx, host, bytes, 0)
}

fn octets<'js>(ctx: &Ctx<'js>, host: &Rc<Host>, mut bytes: Vec<u8>, counted: u64) -> Result<Value<'js>> {
    if bytes.is_empty() {
        return Ok(TypedArray::<u8>::new_copy(ctx.clone(), bytes)?.into_value());
    }
    let (start, length) = (bytes.as_mut_ptr(), bytes.len());
    host.lent.give(start as usize, bytes, counted);
    // SAFETY: the bytes stay where they are until the engine gives them back, or until it has forgotten them. The host
    // outlives the engine. A length of 0 at the end says that the buffer keeps its length.
    let buffer = unsafe {
        let opaque = Rc::as_ptr(host).cast_mut().cast();
        let raw = ctx.as_raw().as_ptr();
        let buffer = qjs::JS_NewArrayBuffer(raw, start, length as _, 0, Some(resized), opaque, false);
        if qjs::JS_VALUE_GET_NORM_TAG(buffer) == qjs::JS_TAG_EXCEPTION {
            host.lent.given_back(start as usize);
            return Err(rquickjs::Error::Exception);
        }
        Value::from_raw(ctx.clone(), buffer)
    };
    let buffer = ArrayBuffer::from_value(buffer).ok_or(rquickjs::Error::Unknown)?;
    Ok(TypedArray::<u8>::from_arraybuffer(buffer)?.into_value())
}

/// What the engine calls when it frees a buffer: that is a new length of 0. It cannot have another length.
extern "C" fn resized(
    _: *mut qjs::JSRuntime,
    host: *mut c_void,
    start: *mut c_void,
    length: qjs::size_t,
) -> *mut c_void {
    if length == 0 {
        // SAFETY: the pointer was made of the host, which lives longer than the engine.
        unsafe { (*host.cast::<Host>()).lent.given_back(start as usize) };
    }
    std::ptr::null_mut()
}
