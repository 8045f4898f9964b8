//! `msm peers`.

use clap::{Args, Subcommand};

use super::call::Call;
use crate::command::Command;

/// The devices nearby
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  msm peers\n  msm peers --json")]
pub struct Peers {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List them (also without this word)
    #[command(after_help = "Example:\n  msm peers list")]
    List,
    /// Dial one whose address you know
    #[command(after_help = "Example:\n  msm peers add /ip4/192.168.1.7/udp/4001/quic-v1/p2p/12D3KooWExample")]
    Add {
        /// A multiaddress that ends in /p2p/PEER
        address: String,
    },
    /// Let one work again that was struck out for a wrong output
    #[command(after_help = "Example:\n  msm peers\n  msm peers forgive 12D3KooWExample")]
    Forgive {
        /// Its peer id, or the end of it as lists show it
        peer: String,
    },
}

impl Peers {
    pub(super) fn meaning(self) -> Call {
        match self.what {
            None | Some(What::List) => Call::of_any_node(Command::Peers),
            Some(What::Add { address }) => Call::of_running_node(Command::Connect { address }),
            Some(What::Forgive { peer }) => Call::of_any_node(Command::Forgive { peer }),
        }
    }
}
