//! Servers: the only user of `reqwest` and `qdrant_client`.
//!
//! [`Address`] and [`CollectionAddress`] say where; [`ConnectionSettings`] say how; a [`Connection`]
//! is a server that can be asked. Its methods block; REST's are spread over the files here, and
//! gRPC's generated clients (`qdrant_client::qdrant`) run over [`Connection::grpc_channel`] inside
//! [`Connection::run`].
//!
//! Invariants: all talk with servers has one set of retries, time limits and secrets; whatever waits
//! for a server ends when the user asks to stop ([`crate::base::stop`]).

mod address;
mod answers;
mod call;
mod clustering;
mod connection;
mod create;
mod download;
mod failure;
mod keys;
mod members;
mod options;
pub mod points;
mod rate;
mod rest;
mod retry;
mod selection;
mod snapshots;
mod state;
mod telemetry;
mod tls;
mod upload;
mod versions;
mod webhook;

pub use address::{
    Address, CollectionAddress, GrpcAddress, PeerAddress, REST_PORT, check_name, check_vector_name,
    is_address,
};
pub use answers::{
    ACTIVE, ClusterStatus, CollectionInfo, LocalShard, Optimizations, PayloadIndex, Peer,
    RemoteShard, ServerInfo, ServerSnapshot, ServerVersion, Topology, UpdateQueue, version_numbers,
};
pub use call::CallTimeout;
pub use clustering::Clustering;
pub use connection::{Connection, ConnectionSettings, GrpcChannel, WithKey};
pub use create::create_body;
pub use download::{BodyReader, Fetch};
pub use failure::{Cause, Failure};
pub use keys::Keys;
pub use members::MembersFrom;
pub use options::{ConnectionOptions, KEY_VARIABLE, KnownServers, StateOptions};
pub use rate::Rate;
pub use rest::{not_found_as_none, require};
pub use retry::{Landed, Polling, Retry, RetryOn};
pub use selection::{Selection, StrictMode};
pub use snapshots::Making;
pub use state::{About, StateFolder};
pub use telemetry::Telemetry;
pub use upload::Upload;
pub use versions::{Feature, index_for};
pub use webhook::{post, put_metrics};
