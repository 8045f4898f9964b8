//! [`Whole`]: an HTTP body that is there as a whole.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// A body that is there as a whole.
pub struct Whole {
    bytes: Bytes,
    sent: bool,
}

impl From<Bytes> for Whole {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, sent: false }
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let whole = self.get_mut();
        if whole.sent || whole.bytes.is_empty() {
            return Poll::Ready(None);
        }
        whole.sent = true;
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut whole.bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.sent || self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}
