//! What a run waits for outside its own code: answers first, then timers, never past its deadline.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use rquickjs::{Ctx, Exception, Function, Persistent, Result, String as JsString, Value};

use super::{
    buffers::lend,
    questions::{Asker, Questions},
    timers::{Act, TIMERS, Timers},
};
use crate::{
    guest::{channel::Channel, host::Host},
    resources::ANSWER_BYTES,
    wire::{self, kind},
};

/// An `ANSWER` message at most: the answer, and the numbers before it.
pub const ANSWER_MESSAGE_BYTES: usize = ANSWER_BYTES + 1024;
/// `ctx.signal` aborts this long before the deadline, or after nine tenths of a shorter run: time to give back what
/// there is. *Judgement.*
const LAST_CALL: Duration = Duration::from_millis(250);

/// The timers and questions of a run.
#[derive(Default)]
pub struct Turns {
    timers: RefCell<Timers>,
    questions: RefCell<Questions>,
    /// When `ctx.signal` aborts, and what that calls; none if the guest never looked at it.
    last_call: RefCell<Option<(Instant, Act)>>,
}

impl Turns {
    /// Ends a run: nothing of it is left.
    pub fn clear(&self) {
        // Questions keep their numbers, for answers that come late.
        self.questions.borrow_mut().clear();
        self.timers.take();
        self.last_call.take();
    }

    /// `setTimeout` and `setInterval`.
    pub fn add_timer<'js>(&self, ctx: &Ctx<'js>, act: Function<'js>, wait_ms: f64, repeats: bool) -> Result<u32> {
        let act = Persistent::save(ctx, act);
        let number = self.timers.borrow_mut().add(act, Instant::now(), wait_ms, repeats);
        number.ok_or_else(|| Exception::throw_range(ctx, &format!("more than {TIMERS} timers at a time")))
    }

    /// `clearTimeout` and `clearInterval`.
    pub fn remove_timer(&self, number: u32) {
        self.timers.borrow_mut().remove(number);
    }

    /// Has `act` called shortly before the run's deadline.
    pub fn at_last_call<'js>(&self, ctx: &Ctx<'js>, host: &Host, act: Function<'js>) {
        let Some(deadline) = host.deadline() else { return };
        let at = deadline.checked_sub(LAST_CALL.min(host.time() / 10)).unwrap_or(deadline);
        *self.last_call.borrow_mut() = Some((at, Persistent::save(ctx, act)));
    }

    /// Asks the device.
    pub fn ask<'js>(&self, ctx: &Ctx<'js>, op: String, body: JsString<'js>, asker: Asker) -> Result<()> {
        self.questions.borrow_mut().ask(ctx, op, body, asker)
    }

    /// Lets the guest go on with one answer or timer, after waiting for it. False if there is nothing to wait for.
    /// An error is what the guest's own code threw.
    pub fn next(&self, ctx: &Ctx<'_>, host: &std::rc::Rc<Host>) -> Result<bool> {
        let channel = Channel::inherited();
        let asked = self.questions.borrow().are_open();
        if asked && channel.wait(Duration::ZERO, true) {
            return self.answer(ctx, host).map(|()| true);
        }
        let now = Instant::now();
        if let Some(act) = self.take_due(now) {
            act.restore(ctx)?.call::<_, Value<'_>>(())?;
            return Ok(true);
        }
        let timer = self.timers.borrow().next();
        let last_call = self.last_call.borrow().as_ref().map(|(at, _)| *at);
        if !asked && timer.is_none() && last_call.is_none() {
            return Ok(false);
        }
        let until = [timer, last_call, host.deadline()].into_iter().flatten().min().unwrap_or(now);
        // Rounded up by a little: to wake too early would cost a turn of the loop for nothing.
        channel.wait(until.saturating_duration_since(now) + Duration::from_micros(1), asked);
        Ok(true)
    }

    fn take_due(&self, now: Instant) -> Option<Act> {
        let mut last_call = self.last_call.borrow_mut();
        if last_call.as_ref().is_some_and(|(at, _)| *at <= now) {
            return last_call.take().map(|(_, act)| act);
        }
        self.timers.borrow_mut().take_due(now)
    }

    /// Reads one answer and hands it to who asked.
    fn answer(&self, ctx: &Ctx<'_>, host: &std::rc::Rc<Host>) -> Result<()> {
        let answer = match Channel::inherited().receive(ANSWER_MESSAGE_BYTES) {
            (kind::ANSWER, payload) => wire::read_answer(payload),
            _ => None,
        };
        // The parent is this same program: it sends nothing else during a call.
        let Some((number, answer)) = answer else { std::process::abort() };
        let asker = self.questions.borrow_mut().close(ctx, number)?;
        let Some(Asker { answered, failed }) = asker else { return Ok(()) };
        match answer {
            Ok(answer) => {
                let bytes = lend(ctx, host, answer.bytes.into())?;
                answered.restore(ctx)?.call::<_, Value<'_>>((answer.json, bytes))?;
            }
            Err(error) => {
                failed.restore(ctx)?.call::<_, Value<'_>>((error.kind as u8, error.message))?;
            }
        }
        Ok(())
    }
}
