//! QUIC substreams that, when they are dropped, stay until the other side has taken what was sent on them.
//!
//! A dialer sends its only protocol and its message together (V1Lazy). When it expects no answer, as Kademlia with a
//! provider record and identify with a push, it drops the substream then. QUIC tells that the other side in the same
//! packet; so its confirmation of the protocol fails, and the message with it. Yamux says nothing of the kind.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite};
use libp2p::{
    core::muxing::{StreamMuxer, StreamMuxerEvent},
    quic,
};

use super::limits::{LINGER, LINGER_BYTES};

/// A QUIC connection whose outbound substreams linger.
pub struct Muxer(quic::Connection);

impl Muxer {
    /// The same connection.
    pub fn new(connection: quic::Connection) -> Self {
        Self(connection)
    }

    fn inner(self: Pin<&mut Self>) -> Pin<&mut quic::Connection> {
        Pin::new(&mut self.get_mut().0)
    }
}

impl StreamMuxer for Muxer {
    type Substream = Substream;
    type Error = quic::Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Substream, quic::Error>> {
        self.inner().poll_inbound(cx).map_ok(|stream| Substream { stream: Some(stream), waits: false, closed: false })
    }

    fn poll_outbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Substream, quic::Error>> {
        self.inner().poll_outbound(cx).map_ok(|stream| Substream { stream: Some(stream), waits: true, closed: false })
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), quic::Error>> {
        self.inner().poll_close(cx)
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, quic::Error>> {
        self.inner().poll(cx)
    }
}

/// One substream.
pub struct Substream {
    /// There until it is dropped.
    stream: Option<quic::Stream>,
    /// This side opened it, and has heard nothing on it yet: not even that its protocol is spoken.
    waits: bool,
    /// This side has said all that it had to say. Without that, dropping means that nothing is wanted any more.
    closed: bool,
}

impl Substream {
    fn inner(&mut self) -> io::Result<Pin<&mut quic::Stream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Substream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = self.inner()?.poll_read(cx, buf);
        self.waits &= read.is_pending();
        read
    }
}

impl AsyncWrite for Substream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.inner()?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = self.inner()?.poll_close(cx);
        self.closed |= matches!(closed, Poll::Ready(Ok(())));
        closed
    }
}

impl Drop for Substream {
    fn drop(&mut self) {
        let stream = self.stream.take().filter(|_| self.waits && self.closed);
        let (Some(stream), Ok(runtime)) = (stream, tokio::runtime::Handle::try_current()) else { return };
        // It counts as open for so long, so that there are no more of these than a connection may have substreams.
        runtime.spawn(async move {
            let mut rest = Vec::new();
            let _ = tokio::time::timeout(LINGER, stream.take(LINGER_BYTES).read_to_end(&mut rest)).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use msm_protocol::{ContentHash, SecretKey};

    use crate::net::{
        NetEvent,
        event_loop::start,
        handle::{NetConfig, NetHandle},
    };

    async fn node(seed: u8) -> (NetHandle, tokio::sync::mpsc::Receiver<NetEvent>) {
        let listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()];
        start(NetConfig { key: SecretKey::from_seed(&[seed; 32]), listen, mdns: false }).await.unwrap()
    }

    /// It is a message without an answer.
    #[tokio::test]
    async fn a_provider_record_arrives_over_quic() {
        let ((keeper, mut heard), (provider, mut events)) = (node(1).await, node(2).await);
        let address = loop {
            if let NetEvent::Listening(address) = heard.recv().await.unwrap() {
                break address;
            }
        };
        // Its events must be taken.
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        assert_eq!(provider.dial(None, vec![address]).await.unwrap(), keeper.local());
        provider.provide(ContentHash::of(b"a package")).await;
        let offered = async {
            loop {
                if let NetEvent::ProviderOffered { from, .. } = heard.recv().await.unwrap() {
                    break from;
                }
            }
        };
        let from = tokio::time::timeout(std::time::Duration::from_secs(30), offered).await.expect("it is offered");
        assert_eq!(from, provider.local());
    }
}
