//! snapmerge turns the snapshots of many Qdrant collections into one verified master, and never
//! touches the sources.
//!
//! The way through the house:
//!
//! ```text
//! settle → scan → resolve → rebuild → pack → prove → publish → report
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | [`cli`] | what can be typed, the table of exit codes, the parent of the working process |
//! | [`commands`] | one file a verb: inspect, merge, verify, diff, export, … |
//! | [`nightly`] | a whole night by a plan: everything below, one after the other, gone on with after a kill |
//! | [`capture`] | snapshots taken off running servers, with their manifests |
//! | [`deliver`] | masters brought onto servers and compared; the alias moved, and moved back |
//! | [`source`] | snapshot files as sources: opened, checked, settled |
//! | [`merge`] | plan, k-way scan, conflicts, the hash ring, the route `rebuild` |
//! | [`proof`] | the packed master read back and compared; any master against its sources; two snapshots |
//! | [`archive`] | snapshots of many nights kept once: store, objects, recipes, chain, retention |
//! | [`drill`] | what is in an archive restored, and proven to be what it was |
//! | [`report`] | text, JSON, progress |
//! | [`engine`] | the only user of `qdrant_edge` |
//! | [`server`] | the only user of `reqwest` and `qdrant_client`: addresses, connections, REST |
//! | [`snapshot`] | the tar: safe reading, ids and log without the engine, packing |
//! | [`schema`] | a collection's config: read, compare, unite |
//! | [`point`] | ids and their order, records, canonical bytes and digest |
//! | [`scratch`], [`durable`], [`parallel`], [`status`], [`stop`], [`error`] | folders that go away, files that stay, pieces of work side by side, what is going on, the wish to stop, what went wrong |
//!
//! Arrows go one way: cli → commands → nightly → (merge, proof, archive, source, report) → (engine, server,
//! snapshot, schema, point, durable, scratch). A test holds that (`tests/suite/house`).

pub mod archive;
pub mod capture;
pub mod cli;
pub mod commands;
pub mod deliver;
pub mod drill;
pub mod durable;
pub mod engine;
pub mod error;
pub mod merge;
pub mod nightly;
pub mod parallel;
pub mod point;
pub mod proof;
pub mod report;
pub mod schema;
pub mod scratch;
pub mod server;
pub mod snapshot;
pub mod source;
pub mod status;
pub mod stop;
