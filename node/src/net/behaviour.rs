//! What the swarm is composed of, each part with its limits.

use std::{error::Error, num::NonZeroUsize};

use libp2p::{
    StreamProtocol, Swarm, SwarmBuilder, Transport, allow_block_list, connection_limits, gossipsub, identify, identity,
    kad, memory_connection_limits, noise, ping, quic, request_response,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
    yamux,
};
use msm_protocol::{
    ContentHash,
    limits::{CONTROL_BYTES, FRAME_BYTES, GOSSIP_BYTES, HEAD_BYTES, HEAD_RESPONSE_BYTES},
    message::name,
};

use super::{codec::BytesCodec, limits::*, linger, mdns, per_ip, stream};

/// The composed behaviour.
#[derive(NetworkBehaviour)]
pub struct Behaviour {
    // Those that may deny a connection come first.
    pub limits: connection_limits::Behaviour,
    pub memory: memory_connection_limits::Behaviour,
    pub per_ip: per_ip::Behaviour,
    pub blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    pub ping: ping::Behaviour,
    pub identify: identify::Behaviour,
    pub mdns: Toggle<mdns::Behaviour>,
    pub gossip: gossipsub::Behaviour,
    pub kad: kad::Behaviour<kad::store::MemoryStore>,
    pub device: request_response::Behaviour<BytesCodec>,
    pub head: request_response::Behaviour<BytesCodec>,
    pub blob: request_response::Behaviour<BytesCodec>,
    pub job: stream::Behaviour,
}

/// Builds the swarm: TCP with Noise and Yamux, and QUIC.
pub fn swarm(key: identity::Keypair, with_mdns: bool) -> Result<Swarm<Behaviour>, Box<dyn Error + Send + Sync>> {
    let yamux = || {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(YAMUX_STREAMS);
        config
    };
    let swarm = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(libp2p::tcp::Config::default().nodelay(true), noise::Config::new, yamux)?
        .with_other_transport(|key| {
            let mut config = quic::Config::new(key);
            config.handshake_timeout = HANDSHAKE;
            config.max_stream_data = QUIC_STREAM_WINDOW;
            config.max_connection_data = QUIC_CONNECTION_WINDOW;
            config.max_concurrent_stream_limit = YAMUX_STREAMS as u32;
            quic::tokio::Transport::new(config).map(|(peer, connection), _| (peer, linger::Muxer::new(connection)))
        })?
        .with_behaviour(|key| behaviour(key, with_mdns))?
        .with_swarm_config(|config| {
            config
                .with_idle_connection_timeout(IDLE)
                .with_max_negotiating_inbound_streams(NEGOTIATING_STREAMS)
                // One round trip less for each substream: every dialler here proposes a single protocol.
                .with_substream_upgrade_protocol_override(libp2p::core::upgrade::Version::V1Lazy)
        })
        .with_connection_timeout(HANDSHAKE)
        .build();
    Ok(swarm)
}

fn behaviour(key: &identity::Keypair, with_mdns: bool) -> Result<Behaviour, Box<dyn Error + Send + Sync>> {
    let peer = key.public().to_peer_id();
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_established(Some(CONNECTIONS))
        .with_max_established_incoming(Some(CONNECTIONS_ONE_WAY))
        .with_max_established_outgoing(Some(CONNECTIONS_ONE_WAY))
        .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER))
        .with_max_pending_incoming(Some(CONNECTIONS_PENDING))
        .with_max_pending_outgoing(Some(CONNECTIONS_PENDING));
    let identify = identify::Config::new(name::IDENTIFY.to_owned(), key.public())
        .with_agent_version(concat!("msm/", env!("CARGO_PKG_VERSION")).to_owned())
        .with_push_listen_addr_updates(true);
    Ok(Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        memory: memory_connection_limits::Behaviour::with_max_bytes(MEMORY_BYTES),
        per_ip: per_ip::Behaviour::new(CONNECTIONS_PER_IP, CONNECTIONS_PENDING_PER_IP),
        blocked: allow_block_list::Behaviour::default(),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT)),
        identify: identify::Behaviour::new(identify),
        mdns: with_mdns.then(|| mdns::Behaviour::new(peer)).transpose()?.into(),
        gossip: gossip()?,
        kad: kad(key),
        device: exchange(name::DEVICE, CONTROL_BYTES, CONTROL_BYTES),
        head: exchange(name::HEAD, CONTROL_BYTES, HEAD_RESPONSE_BYTES),
        blob: blobs(),
        job: stream::Behaviour::default(),
    })
}

fn exchange(name: &'static str, request: usize, response: usize) -> request_response::Behaviour<BytesCodec> {
    let config = request_response::Config::default()
        .with_request_timeout(CONTROL_TIMEOUT)
        .with_max_concurrent_streams(CONTROL_STREAMS);
    let protocols = [(StreamProtocol::new(name), request_response::ProtocolSupport::Full)];
    request_response::Behaviour::with_codec(BytesCodec { request, response }, protocols, config)
}

fn blobs() -> request_response::Behaviour<BytesCodec> {
    let config = request_response::Config::default()
        .with_request_timeout(BLOB_TIMEOUT)
        .with_max_concurrent_streams(BLOB_STREAMS);
    let protocols = [(StreamProtocol::new(name::BLOB), request_response::ProtocolSupport::Full)];
    request_response::Behaviour::with_codec(
        BytesCodec { request: CONTROL_BYTES, response: FRAME_BYTES },
        protocols,
        config,
    )
}

/// Small networks: a mesh of three where libp2p's default wants six. Messages carry no gossipsub signature: what they
/// hold is signed itself, so that anybody may pass it on and the same content is the same message.
fn gossip() -> Result<gossipsub::Behaviour, Box<dyn Error + Send + Sync>> {
    let config = gossipsub::ConfigBuilder::default()
        .mesh_n(3)
        .mesh_n_low(1)
        .mesh_n_high(8)
        .mesh_outbound_min(0)
        .max_transmit_size(GOSSIP_BYTES)
        .max_ihave_messages_heartbeat(10)
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message| ContentHash::of(&message.data).as_bytes().to_vec().into())
        .build()?;
    Ok(gossipsub::Behaviour::new(gossipsub::MessageAuthenticity::Anonymous, config)?)
}

/// A private DHT whose every node serves. Records of others are stored only after the coordinator has seen them, and
/// peers enter the routing table when this node has dialled them, and leave it when identify shows that they do not speak
/// our protocol; those that have dialled us enter it when identify shows that they do.
fn kad(key: &identity::Keypair) -> kad::Behaviour<kad::store::MemoryStore> {
    let peer = key.public().to_peer_id();
    let store = kad::store::MemoryStoreConfig {
        max_records: KAD_RECORDS,
        max_value_bytes: HEAD_BYTES,
        max_providers_per_key: KAD_PROVIDERS,
        max_provided_keys: KAD_PROVIDED_KEYS,
    };
    let mut config = kad::Config::new(StreamProtocol::new(name::KAD));
    config
        .set_query_timeout(KAD_QUERY)
        .set_max_packet_size(KAD_PACKET)
        .set_record_ttl(Some(KAD_TTL))
        .set_provider_record_ttl(Some(KAD_TTL))
        .set_publication_interval(Some(KAD_REPUBLISH))
        .set_replication_interval(Some(KAD_REPUBLISH))
        .set_provider_publication_interval(Some(KAD_REPUBLISH))
        .set_replication_factor(NonZeroUsize::MIN.saturating_add(KAD_PROVIDERS - 1))
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_periodic_bootstrap_interval(Some(KAD_REPUBLISH))
        .disjoint_query_paths(true);
    let mut behaviour = kad::Behaviour::with_config(peer, kad::store::MemoryStore::with_config(peer, store), config);
    behaviour.set_mode(Some(kad::Mode::Server));
    behaviour
}
