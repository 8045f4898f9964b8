//! Every bound of the network room, named once, each with its reason.

use std::time::Duration;

/// Connections in all, and in each direction: what go-libp2p allots to 128 MiB of memory.
pub const CONNECTIONS: u32 = 128;
/// Connections in one direction.
pub const CONNECTIONS_ONE_WAY: u32 = 64;
/// Connections to one peer: one, and one more while both sides dial at once.
pub const CONNECTIONS_PER_PEER: u32 = 2;
/// Handshakes under way in one direction.
pub const CONNECTIONS_PENDING: u32 = 16;
/// Connections from one IP address that is not loopback (B42). Several nodes behind one router fit; 200 do not.
pub const CONNECTIONS_PER_IP: usize = 8;
/// Handshakes under way from one IP address: it alone cannot take all of [`CONNECTIONS_PENDING`] (B44).
pub const CONNECTIONS_PENDING_PER_IP: usize = 12;
/// New connections are refused above this resident memory.
pub const MEMORY_BYTES: usize = 256 * 1024 * 1024;
/// A handshake that takes longer is given up (B44).
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// A connection that nobody uses is closed after this. Pings do not count as use, presence does.
pub const IDLE: Duration = Duration::from_secs(3600);
/// Streams that may be negotiating on one connection.
pub const NEGOTIATING_STREAMS: usize = 32;
/// Streams of one connection.
pub const YAMUX_STREAMS: usize = 64;
/// Receive window of one QUIC stream; a chunk is a quarter of it.
pub const QUIC_STREAM_WINDOW: u32 = 1024 * 1024;
/// Receive window of one QUIC connection.
pub const QUIC_CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// A QUIC substream that is closed and dropped before anything was heard on it stays for so long …
pub const LINGER: Duration = CONTROL_TIMEOUT;
/// … or until so much has come: the other side's word that it speaks the protocol, and a small answer.
pub const LINGER_BYTES: u64 = 1024;

/// Liveness: a ping this often …
pub const PING_INTERVAL: Duration = Duration::from_secs(2);
/// … that may take three times as long: a lost packet is sent again by the transport, a second ping would not be quicker.
pub const PING_TIMEOUT: Duration = Duration::from_secs(6);
/// A peer that has answered nothing for this long is gone: at most 8 s after the cable was pulled (B86, B91).
/// Failed pings are not counted: libp2p keeps the first to itself, and its next waits 10 s for a new stream.
pub const SILENCE: Duration = Duration::from_millis(7_500);
/// Silent peers are looked for this often.
pub const SILENCE_LOOK: Duration = Duration::from_millis(250);

/// A control request that takes longer has failed.
pub const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);
/// A blob chunk that takes longer has failed (B20).
pub const BLOB_TIMEOUT: Duration = Duration::from_secs(5);
/// Control requests at a time on one connection, each protocol.
pub const CONTROL_STREAMS: usize = 8;
/// Blob requests at a time on one connection.
pub const BLOB_STREAMS: usize = 4;
/// Job streams waiting to be opened on one connection.
pub const JOB_STREAMS_OPENING: usize = 8;
/// Job streams that a peer may have open to this node: one for each service that it uses, half of them kept warm.
pub const JOB_STREAMS_PER_PEER: usize = 8;

/// mDNS addresses remembered (B49).
pub const MDNS_ENTRIES: usize = 256;
/// mDNS time to live that this node announces.
pub const MDNS_TTL: Duration = Duration::from_secs(360);
/// mDNS asks this often; new nodes are heard at once because they ask when they start.
pub const MDNS_QUERY: Duration = Duration::from_secs(30);
/// Discoveries passed on per second: more is a flood, and stays in the kernel's socket buffer.
pub const MDNS_RATE: u32 = 20;

/// Kademlia query.
pub const KAD_QUERY: Duration = Duration::from_secs(10);
/// Kademlia packet.
pub const KAD_PACKET: usize = 16 * 1024;
/// Provider and head records live this long; they are announced again at half of it. On a LAN minutes are right.
pub const KAD_TTL: Duration = Duration::from_secs(60 * 60);
/// Records are announced again this often.
pub const KAD_REPUBLISH: Duration = Duration::from_secs(10 * 60);
/// Head records stored for others.
pub const KAD_RECORDS: usize = 64;
/// Keys with providers stored for others.
pub const KAD_PROVIDED_KEYS: usize = 1_024;
/// Providers of one key.
pub const KAD_PROVIDERS: usize = 20;
/// Providers asked for in one search.
pub const PROVIDERS_WANTED: usize = 8;

/// Blobs that this node announces; the rest it serves to whoever asks.
pub const PROVIDED: usize = 256;

/// A node that leaves waits this long for its connections to close …
pub const CLOSING: Duration = Duration::from_millis(500);
/// … this long for those that are still being made: longer than a round trip next door …
pub const MAKING: Duration = Duration::from_millis(150);
/// … and this long for the last packets to leave.
pub const GOODBYE: Duration = Duration::from_millis(50);

/// Addresses of one peer that are used.
pub const ADDRESSES_PER_PEER: usize = 8;
/// Commands waiting for the swarm task.
pub const COMMANDS: usize = 256;
/// Events waiting for the coordinator; the swarm is not polled while they are full.
pub const EVENTS: usize = 256;
