//! Bytes between host and guest: neither side copies what the other has.

use std::rc::Rc;

use rquickjs::{ArrayBuffer, ArrayBufferSource, Ctx, Exception, FromJs, Result, TypedArray, U8Clamped, Value};

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

/// Host bytes that the guest may read and write; they count as lent to it until it drops them.
struct Lent {
    bytes: Vec<u8>,
    counted: u64,
    host: Rc<Host>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.host.lent.set(self.host.lent.get().saturating_add(self.counted));
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

/// Gives the guest a Uint8Array over host bytes, such as a decoded picture or a fetched page, within its limit for these.
pub fn lend<'js>(ctx: &Ctx<'js>, host: &Rc<Host>, bytes: Vec<u8>) -> Result<Value<'js>> {
    let counted = bytes.len() as u64;
    let Some(left) = host.lent.get().checked_sub(counted) else {
        host.account.refuse();
        return Err(Exception::throw_range(ctx, "the run's pictures and answers need more than its memory limit"));
    };
    host.lent.set(left);
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
