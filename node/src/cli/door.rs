//! Which node carries out a command: the running one of this home, or one started for the call.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{
    call::{Call, WithoutNode},
    hints,
    screen::{Screen, Stop},
    signals::Signals,
};
use crate::{
    command::{CommandError, Door, ErrorCode, Event, Request, Response},
    control::ControlClient,
    home::Home,
    node::{Node, NodeDoor, NodeOptions},
};

/// A node that takes longer to say goodbye is left to end with the process.
pub const FAREWELL: Duration = Duration::from_secs(5);

/// The way to a node.
pub enum AnyDoor {
    /// Through the socket of the running one.
    Running(ControlClient),
    /// Into this process.
    Here(NodeDoor),
}

impl Door for AnyDoor {
    async fn execute(&self, request: Request, events: mpsc::Sender<Event>) -> Result<Response, CommandError> {
        match self {
            Self::Running(door) => door.execute(request, events).await,
            Self::Here(door) => door.execute(request, events).await,
        }
    }
}

/// The running node of `home`.
pub fn running(home: &Home) -> Result<ControlClient, CommandError> {
    ControlClient::find(home.control_socket()).ok_or_else(|| {
        let message = format!("no node runs on this home ({})", home.folder().display());
        CommandError::new(ErrorCode::NoNode, message).or_try(hints::node())
    })
}

/// A node that lives for one call: it finds its neighbours, lends nothing, and is gone.
pub fn for_call(home: &Home) -> NodeOptions {
    NodeOptions {
        home: home.clone(),
        listen: Vec::new(),
        peers: Vec::new(),
        mdns: None,
        offer: Some(false),
        ephemeral: true,
    }
}

/// Carries out `call` on the running node, or on one that is started for it.
pub async fn ask(call: Call, home: &Home, screen: &mut Screen) -> Result<(), Stop> {
    let (door, started) = match (running(home), call.without_node) {
        (Ok(client), _) => (AnyDoor::Running(client), None),
        (Err(error), WithoutNode::Refuse) => return Err(error.into()),
        (Err(_), WithoutNode::Start) => {
            let node = Node::start(for_call(home)).await?;
            (AnyDoor::Here(node.door()), Some(node))
        }
    };
    let mut signals = Signals::listen()?;
    let ended = tokio::select! {
        ended = call.carry_out(&door, screen) => ended,
        code = signals.next() => Err(Stop::Exit(code)),
    };
    if let Some(node) = started {
        tokio::select! {
            _ = tokio::time::timeout(FAREWELL, node.shutdown()) => {}
            _ = signals.next() => {}
        }
    }
    ended
}
