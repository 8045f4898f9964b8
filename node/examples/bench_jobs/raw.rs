//! The raw peer: a process with the swarm of a node, that gives back on a stream what comes on it, and nothing else.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::Stream;
use msm_node::net::{self, NetConfig, NetEvent, NetHandle};
use msm_protocol::{ContentHash, PeerId, SecretKey};
use tokio::sync::mpsc;

use crate::crew::{listen, open_home};

/// The argument that makes this program one.
pub const SERVER: &str = "--raw-server";
/// Longer than any frame here.
const FRAME_BYTES: usize = 16 << 20;

/// A home's key in `MSM_HOME`.
async fn swarm(home: &Path) -> Result<(NetHandle, mpsc::Receiver<NetEvent>)> {
    let key: SecretKey = open_home(home)?.identity()?;
    let listen = vec![listen().parse()?];
    net::start(NetConfig { key, listen, mdns: false }).await.map_err(|error| anyhow::anyhow!("{error}"))
}

/// Serves until it is killed.
pub async fn serve() -> Result<()> {
    let home = std::env::var_os("MSM_HOME").context("MSM_HOME")?;
    let (net, mut events) = swarm(Path::new(&home)).await?;
    let mut told = false;
    while let Some(event) = events.recv().await {
        match event {
            NetEvent::Listening(address) if !told => {
                told = true;
                let mut out = std::io::stdout().lock();
                writeln!(out, "{address} {}", net.local())?;
                out.flush()?;
            }
            NetEvent::JobStream { stream, .. } => drop(tokio::spawn(give_back(stream))),
            _ => {}
        }
    }
    Ok(())
}

/// Each frame: u32 LE length, SHA-256 of the bytes or zeros for one that is not to be hashed, the bytes.
async fn give_back(mut stream: Stream) -> Result<()> {
    let mut head = [0; 36];
    let mut bytes = Vec::new();
    loop {
        read(&mut stream, &mut head, &mut bytes).await?;
        stream.write_all(&head).await?;
        stream.write_all(&bytes).await?;
        stream.flush().await?;
    }
}

/// Reads a frame, and compares its hash if it has one.
async fn read(stream: &mut (impl futures::AsyncRead + Unpin), head: &mut [u8; 36], bytes: &mut Vec<u8>) -> Result<()> {
    stream.read_exact(head).await?;
    let (length, hash) = head.split_at(4);
    let length = u32::from_le_bytes(length.try_into()?) as usize;
    ensure!(length <= FRAME_BYTES, "a frame of {length} bytes");
    bytes.resize(length, 0);
    stream.read_exact(bytes).await?;
    ensure!(hash == [0; 32] || hash == ContentHash::of(bytes).as_bytes(), "another hash");
    Ok(())
}

fn head(bytes: &[u8], hash: [u8; 32]) -> [u8; 36] {
    let mut head = [0; 36];
    head[..4].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
    head[4..].copy_from_slice(&hash);
    head
}

/// One round trip of a few bytes.
pub async fn echo(stream: &mut Stream, bytes: &[u8]) -> Result<()> {
    let sent = [&head(bytes, [0; 32])[..], bytes].concat();
    stream.write_all(&sent).await?;
    stream.flush().await?;
    let (mut head, mut back) = ([0; 36], Vec::new());
    read(stream, &mut head, &mut back).await?;
    ensure!(back == bytes, "other bytes came back");
    Ok(())
}

/// There and back in parts of `size`, each hashed when it is sent and compared where it arrives; both ways at once.
pub async fn echo_hashed(stream: Stream, bytes: &bytes::Bytes, size: usize) -> Result<Stream> {
    let (mut reader, mut writer) = stream.split();
    let parts: Vec<bytes::Bytes> =
        (0..bytes.len()).step_by(size).map(|at| bytes.slice(at..bytes.len().min(at + size))).collect();
    let sent = parts.clone();
    let sending = tokio::spawn(async move {
        for part in sent {
            writer.write_all(&head(&part, *ContentHash::of(&part).as_bytes())).await?;
            writer.write_all(&part).await?;
            writer.flush().await?;
        }
        anyhow::Ok(writer)
    });
    let (mut head, mut back) = ([0; 36], Vec::new());
    for part in &parts {
        read(&mut reader, &mut head, &mut back).await?;
        ensure!(back == *part, "other bytes came back");
    }
    let writer = sending.await??;
    reader.reunite(writer).map_err(|_| anyhow::anyhow!("two halves of one stream"))
}

/// The raw peer's process, and a connection to it. Dropping it ends both.
pub struct Raw {
    net: NetHandle,
    peer: PeerId,
    child: Child,
}

impl Raw {
    pub async fn start(folder: &Path) -> Result<Self> {
        let home = folder.join("raw-server");
        let mut child = Command::new(std::env::current_exe()?)
            .arg(SERVER)
            .env("MSM_HOME", &home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("stdout is piped")?).read_line(&mut line)?;
        let (net, mut events) = swarm(&folder.join("raw-client")).await?;
        // It has nothing to say; a full queue would stop the swarm.
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        let Some((address, _)) = line.trim().split_once(' ') else { bail!("the raw peer said {line:?}") };
        let peer = net.dial(None, vec![address.parse()?]).await?;
        Ok(Self { net, peer, child })
    }

    /// A stream to it.
    pub async fn open(&self) -> Result<Stream> {
        Ok(self.net.open_job(self.peer).await?)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
