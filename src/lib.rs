//! snapmerge merges the snapshots of many Qdrant collections into one verified master and never
//! touches the sources.
//!
//! Data flows one way:
//!
//! ```text
//! capture → archive → open → stream → resolve → graft | rebuild | replay → restore → verify → publish → report
//! ```
//!
//! Every module uses itself and those below it, never one above. A test holds this order and this
//! map (`tests/suite/house/layers.rs`).
//!
//! | module | what it has |
//! |---|---|
//! | [`cli`] | arguments and exit codes |
//! | [`commands`] | one file a verb: parse, call one operation, print its report |
//! | [`report`] | typed reports rendered as text and HTML |
//! | [`nightly`] | a whole run by a plan: steps, journal, resume |
//! | [`worker`] | operations done by a supervised child process |
//! | [`drill`] | archived snapshots restored and compared, as after a disaster |
//! | [`publish`] | aliases moved to a new master and back |
//! | [`jobs`] | one merge as tasks of other engines: plan, task, join |
//! | [`merge`] | plan, route, and the master made by `graft`, `rebuild` or `replay` |
//! | [`ingest`] | rows of files into collections, by the value of a field |
//! | [`split`] | one snapshot into several, by the value of a field |
//! | [`build`] | collections made of records: written, indexed, packed, proven |
//! | [`restore`] | a master restored onto a server and compared |
//! | [`verify`] | a master compared with its sources; two snapshots compared |
//! | [`inspect`] | what snapshots hold and whether they can be merged |
//! | [`export`] | points as JSON lines, Parquet or Arrow |
//! | [`capture`] | snapshots taken off running servers |
//! | [`input`] | files, archive entries and live collections found and opened for an operation |
//! | [`archive`] | many snapshots kept once each: store, objects, recipes, chain, retention |
//! | [`table`] | the only user of `parquet` and `arrow`: points as columns |
//! | [`stream`] | sources as ordered points: scan, union, conflicts, ledger, hash ring |
//! | [`source`] | snapshot files and live collections: checksums, opening |
//! | [`server`] | the only user of `reqwest` and `qdrant_client`: REST, points over gRPC |
//! | [`engine`] | the only user of `qdrant_edge` |
//! | [`format`] | Qdrant's files: tar, layout, id trackers, WAL, config |
//! | [`point`] | id, shard key, record, canonical bytes, digest |
//! | [`manual`] | the pages of `snapmerge help` |
//! | [`base`] | errors, durable files, scratch, progress, parallel work |

pub mod archive;
pub mod base;
pub mod build;
pub mod capture;
pub mod cli;
pub mod commands;
pub mod drill;
pub mod engine;
pub mod export;
pub mod format;
pub mod ingest;
pub mod input;
pub mod inspect;
pub mod jobs;
pub mod manual;
pub mod merge;
pub mod nightly;
pub mod point;
pub mod publish;
pub mod report;
pub mod restore;
pub mod server;
pub mod source;
pub mod split;
pub mod stream;
pub mod table;
pub mod verify;
pub mod worker;
