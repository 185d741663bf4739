//! A request to restore archived snapshots and compare them.
//!
//! Invariants: one entry that fails does not keep the others from being restored; that entries are proven is
//! written into the archive before it is reported.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Drilled, On, Place, choose, drill};
use crate::archive::{EntryReader, EntryRef, WritableArchiveOptions};
use crate::base::error::{Error, Kind, Result};
use crate::base::operation::{Context, Envelope, Operation, Outcome};
use crate::input::connect;
use crate::server::{Address, KnownServers};

/// Restores archived snapshots and compares them.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct DrillRequest {
    /// Entry to restore: NAME, NAME@DATE or NAME@latest [default: the newest master and a source]
    #[arg(value_name = "ENTRY")]
    pub entries: Vec<EntryRef>,
    /// Restore it on this server, too: in a collection of its own, which is removed again
    #[arg(long, value_name = "SERVER")]
    pub to: Option<Address>,
    /// Where it is unpacked [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub archive: WritableArchiveOptions,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub known: KnownServers,
}

/// Entries that were restored and compared.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DrillReport {
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub envelope: Envelope,
    /// The archive.
    pub archive: String,
    /// Time of the record that says which were proven; none if none was.
    pub proven_at: Option<DateTime<Utc>>,
    /// Entries that could be restored.
    pub drilled: Vec<Drilled>,
    /// Entries that could not.
    pub failed: Vec<DrillFailure>,
}

/// An entry that could not be restored.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "said by their names")]
pub struct DrillFailure {
    pub id: String,
    pub error: Error,
}

impl Operation for DrillRequest {
    const NAME: &'static str = "drill";
    type Report = DrillReport;

    fn run(self, context: &Context) -> Result<DrillReport> {
        let reader = EntryReader::new(self.archive.open()?);
        let archive = reader.archive();
        let chain = archive.chain()?;
        let entries = choose(&chain, &self.entries)?;
        let server = self
            .to
            .as_ref()
            .map(|address| -> Result<_> {
                let connection = connect(address, &self.known.connection, &Context::LOUD)?;
                // A server that is not there is known before anything is unpacked.
                connection.server_info()?;
                Ok((connection, self.known.state.folder()?.lent()))
            })
            .transpose()?;
        let scratch = self.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let place = Place {
            scratch: &scratch,
            server: server
                .as_ref()
                .map(|(connection, notes)| On { connection, notes }),
            progress: context.progress,
        };
        let (mut drilled, mut failed) = (Vec::new(), Vec::new());
        for entry in &entries {
            match drill(&reader, &chain, entry, place) {
                Ok(one) => drilled.push(one),
                // The next one would fare no better.
                Err(err) if matches!(err.kind(), Kind::Cancelled | Kind::NoSpace) => {
                    return Err(err);
                }
                Err(error) => failed.push(DrillFailure {
                    id: entry.id.clone(),
                    error,
                }),
            }
        }
        let proven: Vec<_> = drilled
            .iter()
            .filter(|one| one.is_proven())
            .map(Drilled::proven)
            .collect();
        let proven_at = match proven.is_empty() {
            true => None,
            false => Some(archive.note_proven(proven)?),
        };
        let outcome = match failed.first() {
            Some(first) => first.error.kind().into(),
            None => Outcome::differs_if(!drilled.iter().all(Drilled::is_proven)),
        };
        Ok(DrillReport {
            envelope: Envelope::new(Self::NAME, 2, outcome),
            archive: archive.what(),
            proven_at,
            drilled,
            failed,
        })
    }
}
