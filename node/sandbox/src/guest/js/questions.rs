//! The guest's questions to its device: a few on their way, the others in line, each with what its answer calls.

use std::collections::{HashMap, VecDeque};

use rquickjs::{Ctx, Exception, Function, Persistent, Result, String as JsString};

use crate::{
    guest::channel::Channel,
    resources::{ASK_BYTES, ASKS, ASKS_AT_ONCE},
    wire,
};

/// What the end of a question calls.
#[derive(Clone)]
pub struct Asker {
    /// With the answer's JSON and bytes.
    pub answered: Persistent<Function<'static>>,
    /// With the number of an [`AskErrorKind`](crate::resources::AskErrorKind) and a text.
    pub failed: Persistent<Function<'static>>,
}

struct Waiting {
    op: String,
    /// On the guest's heap, so that its limit counts what waits.
    body: Persistent<JsString<'static>>,
    asker: Asker,
}

/// The questions of a run.
#[derive(Default)]
pub struct Questions {
    open: HashMap<u32, Asker>,
    /// Bounded by [`ASKS`].
    waiting: VecDeque<Waiting>,
    /// Never set back: an answer to an earlier run's question must not be taken for one to this run's.
    last: u32,
    asked: u32,
}

impl Questions {
    /// Ends a run.
    pub fn clear(&mut self) {
        self.open.clear();
        self.waiting.clear();
        self.asked = 0;
    }

    /// Whether an answer is to come.
    pub fn are_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Asks, now or when there is room.
    pub fn ask<'js>(&mut self, ctx: &Ctx<'js>, op: String, body: JsString<'js>, asker: Asker) -> Result<()> {
        if self.asked >= ASKS {
            return Err(Exception::throw_range(ctx, &format!("more than {ASKS} calls of resources in one task")));
        }
        // Its text is kept by nobody: while it waits, only the engine's own string is there.
        let bytes = body.clone().to_cstring()?.len();
        if bytes > ASK_BYTES {
            return Err(Exception::throw_range(ctx, &format!("{op}: {bytes} bytes of request, at most {ASK_BYTES}")));
        }
        self.asked += 1;
        self.waiting.push_back(Waiting { op, body: Persistent::save(ctx, body), asker });
        self.send(ctx)
    }

    /// Sends what there is room for.
    fn send(&mut self, ctx: &Ctx<'_>) -> Result<()> {
        while self.open.len() < ASKS_AT_ONCE
            && let Some(Waiting { op, body, asker }) = self.waiting.pop_front()
        {
            let body = body.restore(ctx)?.to_cstring()?;
            self.last = self.last.wrapping_add(1);
            let mut message = Vec::new();
            wire::put_ask(&mut message, self.last, &op, body.as_bytes());
            Channel::inherited().write(&mut [std::io::IoSlice::new(&message)]);
            self.open.insert(self.last, asker);
        }
        Ok(())
    }

    /// Who asked the question of this number; the next ones take its place. None: it was an earlier run's.
    pub fn close(&mut self, ctx: &Ctx<'_>, number: u32) -> Result<Option<Asker>> {
        let asker = self.open.remove(&number);
        self.send(ctx)?;
        Ok(asker)
    }
}
