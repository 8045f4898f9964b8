//! A [`Door`] that leads to a running node through its control socket.

use std::path::{Path, PathBuf};

use tokio::{io::AsyncWriteExt, net::unix::OwnedWriteHalf, sync::mpsc};

use super::{
    ControlError, socket,
    wire::{self, ANSWER_BYTES, ASK_BYTES, Answer, Ask, INPUT_BYTES, OUTPUT_BYTES, WireError},
};
use crate::{
    cli::hints,
    command::{CommandError, Door, ErrorCode, Event, Request, Response},
};

/// The way to a running node. Each command opens its own connection; dropping the future closes it, which cancels the
/// command.
#[derive(Debug, Clone)]
pub struct ControlClient {
    path: PathBuf,
}

impl ControlClient {
    /// The node behind `path`, or `None` when nobody answers there.
    pub fn find(path: &Path) -> Option<Self> {
        socket::connect(path).ok().map(|_| Self { path: path.to_owned() })
    }

    /// The node behind `path`, whether it answers or not.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    async fn talk(&self, request: Request, events: &mpsc::Sender<Event>) -> Result<Response, CommandError> {
        let (mut reader, mut writer) = socket::connect(&self.path).map_err(|e| self.nobody(&e))?.into_split();
        // A node that refuses stops reading: its reason is worth more than our broken pipe.
        let sent = send(request, &mut writer).await;
        loop {
            match wire::read_json(&mut reader, ANSWER_BYTES).await {
                // Dropped when the door is slow: events are for people, the reply is what counts.
                Ok(Answer::Event(event)) => drop(events.try_send(event)),
                Ok(Answer::Error(error)) => return Err(error),
                Ok(Answer::Reply { reply, output_bytes }) => {
                    let output = wire::read_bulk(&mut reader, output_bytes, OUTPUT_BYTES);
                    return Ok(Response { reply, output: output.await.map_err(|e| self.lost(&e))? });
                }
                Err(error) => return Err(self.lost(&sent.err().unwrap_or(error))),
            }
        }
    }

    fn nobody(&self, error: &ControlError) -> CommandError {
        CommandError::new(ErrorCode::NoNode, format!("no node answers on {}: {error}", self.path.display()))
            .or_try(hints::node())
    }

    fn lost(&self, error: &WireError) -> CommandError {
        let message = format!("the running node was lost while it worked: {error}");
        CommandError::new(ErrorCode::NoNode, message).or_try(hints::status())
    }
}

async fn send(request: Request, writer: &mut OwnedWriteHalf) -> Result<(), WireError> {
    let ask = Ask { v: wire::VERSION, command: request.command, input_bytes: request.input.len() as u64 };
    wire::write_json(writer, &ask, ASK_BYTES).await?;
    wire::write_bulk(writer, &request.input).await?;
    Ok(writer.flush().await?)
}

impl Door for ControlClient {
    async fn execute(&self, request: Request, events: mpsc::Sender<Event>) -> Result<Response, CommandError> {
        if request.input.len() as u64 > INPUT_BYTES {
            let message = format!("input-too-large: {} bytes, at most {INPUT_BYTES}", request.input.len());
            return Err(CommandError::new(ErrorCode::Usage, message));
        }
        let watching = matches!(request.command, crate::command::Command::Watch { .. });
        tokio::select! {
            outcome = self.talk(request, &events) => outcome,
            // A watcher that went away would otherwise hold its connection until the next event.
            () = events.closed(), if watching => Err(CommandError::new(ErrorCode::Failed, "the watcher has gone")),
        }
    }
}
