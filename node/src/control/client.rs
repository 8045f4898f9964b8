//! A [`Door`] that leads to a running node through its control socket.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::StreamExt;
use tokio::{
    io::AsyncWriteExt,
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
    sync::mpsc,
};

use super::{
    ControlError, socket,
    wire::{self, ANSWER_BYTES, ASK_BYTES, Answer, Ask, INPUT_BYTES, OUTPUT_BYTES, WireError},
};
use crate::{
    body::Body,
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
                    let limit = OUTPUT_BYTES;
                    if output_bytes > limit {
                        return Err(self.lost(&WireError::TooLong { length: output_bytes, limit }));
                    }
                    return Ok(Response { reply, output: arriving(reader, writer, output_bytes) });
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
    let ask = Ask { v: wire::VERSION, command: request.command, input_bytes: request.input.len() };
    wire::write_json(writer, &ask, ASK_BYTES).await?;
    wire::write_body(writer, &mut Body::of_pieces([request.input])).await?;
    Ok(writer.flush().await?)
}

/// The output as it comes through the socket. The node takes a closed connection for a caller that has gone, so both
/// halves stay open until the end.
fn arriving(reader: OwnedReadHalf, writer: OwnedWriteHalf, bytes: u64) -> Body {
    let pieces = futures::stream::try_unfold((reader, writer, bytes), |(mut reader, writer, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let piece = wire::read_piece(&mut reader, left).await.map_err(io::Error::other)?;
        let left = left - piece.len() as u64;
        Ok(Some((Bytes::from(piece), (reader, writer, left))))
    });
    Body::arriving(bytes, pieces.boxed())
}

impl Door for ControlClient {
    async fn execute(&self, request: Request, events: mpsc::Sender<Event>) -> Result<Response, CommandError> {
        if request.input.len() > INPUT_BYTES {
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
