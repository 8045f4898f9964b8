//! `msm node`: runs a node until it is told to stop; with a terminal on stdin it is a REPL too.

use std::{io::IsTerminal, time::Duration};

use clap::Args;
use tokio::sync::{mpsc, oneshot};

use super::{
    door::FAREWELL,
    render,
    screen::{Screen, Stop},
    signals::Signals,
};
use crate::{
    command::{Command, CommandError, Door, ErrorCode, Reply},
    control::{ControlError, ControlServer},
    home::Home,
    node::{Node as Running, NodeDoor, NodeOptions},
    repl::{self, Session},
};

/// Addresses are there at once; only a device without a network waits so long.
const LISTENING: Duration = Duration::from_secs(3);

/// Run a node until it is told to stop
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  msm node
  msm node --listen /ip4/0.0.0.0/udp/4001/quic-v1 --no-mdns
  msm node --peer /ip4/192.168.1.7/udp/4001/quic-v1/p2p/12D3KooWExample

With a terminal on standard input it takes commands there, as msm repl does. Without one it runs until SIGTERM or SIGINT.")]
pub struct Node {
    /// Listen on this multiaddress; repeat for more
    #[arg(long, value_name = "MA")]
    listen: Vec<String>,
    /// Dial this node (a multiaddress ending in /p2p/PEER) and stay connected; repeat for more
    #[arg(long, value_name = "MA")]
    peer: Vec<String>,
    /// Do not look for neighbours by multicast
    #[arg(long)]
    no_mdns: bool,
    /// Use other devices without lending this one
    #[arg(long)]
    no_offer: bool,
}

impl Node {
    pub(super) async fn run(self, home: &Home, screen: &mut Screen) -> Result<(), Stop> {
        // First of all: from here on a signal means to leave cleanly.
        let mut signals = Signals::listen()?;
        let options = NodeOptions {
            home: home.clone(),
            listen: self.listen,
            peers: self.peer,
            mdns: self.no_mdns.then_some(false),
            offer: self.no_offer.then_some(false),
            ephemeral: false,
        };
        let node = tokio::select! {
            node = Running::start(options) => node?,
            _ = signals.next() => return Ok(()),
        };
        let served = serve(&node, home, &mut signals, screen).await;
        tokio::select! {
            left = tokio::time::timeout(FAREWELL, node.shutdown()) => {
                if left.is_err() {
                    tracing::warn!(seconds = FAREWELL.as_secs(), "the node did not leave in time");
                }
            }
            code = signals.next() => return Err(Stop::Exit(code)),
        }
        served
    }
}

/// Offers the node on its control socket until a signal or the end of the REPL.
async fn serve(node: &Running, home: &Home, signals: &mut Signals, screen: &mut Screen) -> Result<(), Stop> {
    let server = ControlServer::bind(home.control_socket(), &home.spool_dir()).map_err(refused)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let door = node.door();
    let server = tokio::spawn(server.serve(door.clone(), async move {
        let _ = stopped.await;
    }));
    let ended = attend(door, home, signals, screen).await;
    node.begin_to_end();
    drop(stop);
    // It returns at once, and its socket is gone when it has.
    let _ = server.await;
    ended
}

async fn attend(door: NodeDoor, home: &Home, signals: &mut Signals, screen: &mut Screen) -> Result<(), Stop> {
    announce(&door, screen).await?;
    if std::io::stdin().is_terminal() && screen.style.bars && !screen.style.json {
        return repl::terminal::run(&mut Session::new(door, home.clone()), signals, screen).await;
    }
    signals.next().await;
    Ok(())
}

/// Says that the node is up: for a script the status as JSON, for people a line or two.
async fn announce(door: &NodeDoor, screen: &mut Screen) -> Result<(), Stop> {
    // A device without a network is still a node: it works alone, and sees networks that come up later.
    if door.wait_listening(LISTENING).await.is_err() {
        tracing::warn!(seconds = LISTENING.as_secs(), "no address to listen on yet");
    }
    let (events, _) = mpsc::channel(1);
    let reply = door.execute(Command::Status.into(), events).await?.reply;
    if screen.style.json {
        return screen.result_json(&reply);
    }
    if let (Reply::Status(status), false) = (&reply, screen.style.quiet) {
        let name = render::text::clean(&status.name, render::progress::NAME_CHARS);
        screen.message(format!("{name} {} is up", status.peer_id));
        for address in &status.addresses {
            screen.message(format!("  listens on {address}"));
        }
    }
    Ok(())
}

fn refused(error: ControlError) -> CommandError {
    let code = match error {
        ControlError::AlreadyRunning(_) | ControlError::NotASocket(_) => ErrorCode::NotAllowed,
        _ => ErrorCode::Failed,
    };
    CommandError::new(code, error.to_string()).or_try(super::hints::status())
}
