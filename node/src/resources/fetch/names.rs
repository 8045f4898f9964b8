//! Names to addresses: the system's resolver, or another one in tests.

use std::{
    io,
    net::{IpAddr, ToSocketAddrs},
};

/// Addresses of one name that are looked at. A name with more is a trick or a crowd; the rest is not connected to.
pub const ADDRESSES: usize = 16;

/// Finds the addresses of a name. May block: it is called where that is fine.
pub trait Names: Send + Sync {
    /// All addresses of `host`.
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver, with its hosts file and its servers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemNames;

impl Names for SystemNames {
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in (host, 0).to_socket_addrs()? {
            if !addresses.contains(&address.ip()) {
                addresses.push(address.ip());
            }
        }
        Ok(addresses)
    }
}
