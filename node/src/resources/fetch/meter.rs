//! Counts every byte that a fetch moves, heads, redirects and handshakes included, and stops it at its cap.

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

use super::{FetchError, Paying};

/// What all connections of one fetch have moved.
pub struct Meter {
    paying: Paying,
    /// Bytes that may come back, over all hops.
    limit: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    received: u64,
    refused: Option<Stop>,
}

/// Why nothing more is moved.
#[derive(Clone)]
enum Stop {
    Unpaid(String),
    Full,
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Meter {
    /// Pays for what is moved, and lets `limit` bytes come back.
    pub fn new(paying: Paying, limit: u64) -> Arc<Self> {
        Arc::new(Self { paying, limit, state: Mutex::default() })
    }

    /// Why it stopped the fetch, if it did.
    pub fn refusal(&self, host: &str) -> Option<FetchError> {
        let stop = self.state.lock().unwrap_or_else(PoisonError::into_inner).refused.clone()?;
        Some(match stop {
            Stop::Unpaid(why) => FetchError::Quota(why),
            Stop::Full => {
                let what = "the answer, with all heads and redirects,";
                FetchError::TooLarge { host: host.into(), what, limit: self.limit, unit: "bytes" }
            }
        })
    }

    fn moved(&self, sent: usize, received: usize) -> Result<(), ureq::Error> {
        let paid = (self.paying)((sent + received) as u64);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.received += received as u64;
        let stop = match paid {
            Err(why) => Stop::Unpaid(why),
            Ok(()) if state.received > self.limit => Stop::Full,
            Ok(()) => return Ok(()),
        };
        state.refused = Some(stop);
        Err(ureq::Error::Io(io::Error::other("stopped")))
    }
}

/// Puts a meter on each connection; right above TCP, so that nothing passes it.
#[derive(Debug)]
pub struct Metering(pub Arc<Meter>);

impl<In: Transport> Connector<In> for Metering {
    type Out = Metered<In>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        Ok(chained.map(|inner| Metered { inner, meter: self.0.clone() }))
    }
}

/// A connection with a meter.
#[derive(Debug)]
pub struct Metered<In> {
    inner: In,
    meter: Arc<Meter>,
}

impl<In: Transport> Transport for Metered<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.meter.moved(amount, 0)?;
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let before = self.inner.buffers().input().len();
        let more = self.inner.await_input(timeout)?;
        let after = self.inner.buffers().input().len();
        self.meter.moved(0, after.saturating_sub(before))?;
        Ok(more)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
