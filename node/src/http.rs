//! What the HTTP servers of this program share: taking connections, and [`Whole`], a body that is there as a whole.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};

/// Connections at a time; more wait. Browsers open six to a proxy for each host, 32 in all. *Judgement.*
pub const CONNECTIONS: usize = 64;
/// A request comes at once.
pub const HEADER_TIME: Duration = Duration::from_secs(10);
/// After a connection that could not be taken. *Judgement.*
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Takes connections until its future is dropped, and gives each to `serve`.
pub async fn take<R: Future<Output = ()> + Send + 'static>(listener: TcpListener, serve: impl Fn(TcpStream) -> R) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let mut tasks = JoinSet::new();
    loop {
        // Connections that are over free their memory here; those of a dropped server are aborted with the set.
        while tasks.try_join_next().is_some() {}
        let Ok(place) = connections.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Such as no descriptor left: asking again at once would keep a core busy with it.
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let served = serve(stream);
        tasks.spawn(async move {
            let _place = place;
            served.await;
        });
    }
}

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
