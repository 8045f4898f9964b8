//! Promises that a guest rejected and never looked at: the log tells of them, else a forgotten `await` hides an error.

use std::cell::RefCell;

use rquickjs::{Ctx, Persistent, Value};

use crate::guest::host::Host;

/// Rejections of one run that are remembered: the first few tell what is wrong.
const REJECTIONS: usize = 8;

/// The rejections of a run that nobody has handled so far.
#[derive(Default)]
pub struct Rejections(RefCell<Vec<Rejection>>);

struct Rejection {
    /// Where the promise lies in memory. When another one lies there later, an entry may go too early: it is only told.
    promise: usize,
    reason: Persistent<Value<'static>>,
}

impl Rejections {
    /// Notes that a promise was rejected, or that a rejected one is handled after all. Runs no code of the guest's.
    pub fn note<'js>(&self, ctx: &Ctx<'js>, promise: &Value<'js>, reason: Value<'js>, is_handled: bool) {
        // SAFETY: a promise is an object; its address is read and never followed.
        let promise = unsafe { rquickjs::qjs::JS_VALUE_GET_PTR(promise.as_raw()) } as usize;
        let mut all = self.0.borrow_mut();
        if is_handled {
            all.retain(|rejection| rejection.promise != promise);
        } else if all.len() < REJECTIONS {
            all.push(Rejection { promise, reason: Persistent::save(ctx, reason) });
        }
    }

    /// Logs those that are left.
    pub fn tell(&self, ctx: &Ctx<'_>, host: &Host) {
        // Taken out first: showing a reason may run code of the guest's that rejects more.
        for Rejection { reason, .. } in self.0.take() {
            if let Ok(reason) = reason.restore(ctx) {
                host.log(ctx, "warn: a promise was rejected, and nothing waits for it: ", &[reason]);
            }
        }
    }

    /// Ends a run.
    pub fn clear(&self) {
        self.0.take();
    }
}
