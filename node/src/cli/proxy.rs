//! `msm proxy`.

use std::net::SocketAddr;

use clap::Args;
use serde_json::json;
use tokio::net::TcpListener;

use super::{
    door::{self, AnyDoor, FAREWELL},
    hints,
    screen::{Screen, Stop},
    signals::Signals,
};
use crate::{
    command::{CommandError, ErrorCode},
    home::Home,
    node::Node,
    proxy::{self, LISTEN},
};

/// Serve pages to a browser that neighbours fetch
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  msm proxy
  msm proxy --listen 127.0.0.1:8118

As a browser's HTTP proxy it serves http:// pages. Any page, in one file: http://127.0.0.1:7481/https://example.org/
It needs the service internet-sharing in a trusted market, and a neighbour that offers it. It runs until SIGTERM or SIGINT.")]
pub struct Proxy {
    /// Where browsers connect; other addresses than this device's own need --yes
    #[arg(long, value_name = "IP:PORT", default_value_t = LISTEN)]
    listen: SocketAddr,
}

impl Proxy {
    pub(super) async fn run(self, home: &Home, yes: bool, screen: &mut Screen) -> Result<(), Stop> {
        let listen = self.listen;
        if !listen.ip().is_loopback() && !yes {
            let message = format!("{listen} is open to others: they would fetch pages in your name");
            return Err(CommandError::new(ErrorCode::NotAllowed, message)
                .or_try(hints::proxy(&format!("127.0.0.1:{}", listen.port())))
                .or_try(hints::proxy_to_others(&listen.to_string()))
                .into());
        }
        let mut signals = Signals::listen()?;
        let failed = |error: std::io::Error| {
            CommandError::new(ErrorCode::Failed, format!("cannot listen at {listen}: {error}"))
                .or_try(hints::proxy("127.0.0.1:0"))
        };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (door, started) = match door::running(home) {
            Ok(client) => (AnyDoor::Running(client), None),
            Err(_) => {
                let node = Node::start(door::for_call(home)).await?;
                (AnyDoor::Here(node.door()), Some(node))
            }
        };
        announce(address, screen)?;
        let ended = tokio::select! {
            served = proxy::Proxy::serve(listener, door) => served.map_err(|error| failed(error).into()),
            _ = signals.next() => Ok(()),
        };
        if let Some(node) = started {
            tokio::select! {
                _ = tokio::time::timeout(FAREWELL, node.shutdown()) => {}
                _ = signals.next() => {}
            }
        }
        ended
    }
}

fn announce(address: SocketAddr, screen: &mut Screen) -> Result<(), Stop> {
    if screen.style.json {
        return screen.result_json(&json!({ "schema": "msm.proxy/1", "address": address.to_string() }));
    }
    if !screen.style.quiet {
        screen.message(format!("HTTP proxy at {address}; pages in one file at http://{address}/https://example.org/"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{
        parse,
        screen::{Style, tests::captured},
    };

    #[tokio::test]
    async fn it_opens_to_others_only_when_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        let (mut screen, _, _) = captured(Style::default());
        let proxy = Proxy { listen: "0.0.0.0:0".parse().unwrap() };
        let Err(Stop::Failed(error)) = proxy.run(&home, false, &mut screen).await else { panic!("it must refuse") };
        assert_eq!(error.code, ErrorCode::NotAllowed);
        for line in error.r#try {
            parse(line.split(' ').skip(1)).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
}
