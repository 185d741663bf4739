//! Checks that `newest:FIELD` has anything to compare.
//!
//! Invariants: a field that no record has decides no conflict: it is refused before a record is
//! written, and never taken for "the last source wins".

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::conflict::Policy;
use super::options::UnionOptions;
use super::point_stream::PointStream;
use super::scan::Scan;
use crate::base::error::{Error, Result};
use crate::base::words::{did_you_mean, nearest};
use crate::engine::{Columns, PayloadField};
use crate::point::Identity;
use crate::source::Reading;

/// Names of fields that are remembered, to tell the one that was meant.
const NAMES_MAX: usize = 1000;
/// Bytes of a page.
const PAGE_BYTES: usize = 256 << 10;

/// Refuses a policy `newest:FIELD` where an id of `point_streams` is in conflict and no record of theirs has the
/// field. Where they have it, no more than the first records are read.
pub fn refuse_unknown_field(
    point_streams: &[PointStream<'_>],
    options: &UnionOptions,
) -> Result<()> {
    deciding_field(point_streams, options)?.refuse_unknown()
}

/// Looks for the field by which conflicts over ids of `point_streams` are decided.
pub fn deciding_field(
    point_streams: &[PointStream<'_>],
    options: &UnionOptions,
) -> Result<DecidingField> {
    let Policy::Newest(field) = &options.on_conflict else {
        return Ok(DecidingField::NotNeeded);
    };
    let Found::Others(names) = find(field, point_streams, options)? else {
        return Ok(DecidingField::Found);
    };
    Ok(match first_conflict(point_streams, options)? {
        Some(id) => DecidingField::Unknown(names.refuse(field, &id)),
        None => DecidingField::NotNeeded,
    })
}

/// Whether a record has the field that decides conflicts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecidingField {
    /// No conflict is decided by one.
    NotNeeded,
    /// A record has it.
    Found,
    /// There is a conflict, and no record has it; how that is refused.
    Unknown(Error),
}

impl DecidingField {
    /// Adds what is known of other records.
    pub fn join(&mut self, other: Self) {
        *self = match (std::mem::replace(self, Self::NotNeeded), other) {
            (Self::Found, _) | (_, Self::Found) => Self::Found,
            (Self::Unknown(err), _) | (_, Self::Unknown(err)) => Self::Unknown(err),
            (Self::NotNeeded, Self::NotNeeded) => Self::NotNeeded,
        };
    }

    /// An error if there is a conflict, and no record has the field.
    pub fn refuse_unknown(self) -> Result<()> {
        match self {
            Self::Unknown(err) => Err(err),
            Self::NotNeeded | Self::Found => Ok(()),
        }
    }
}

/// Result of looking for a field.
pub enum Found {
    /// A record has it.
    Field,
    /// None has; these have other fields.
    Others(Names),
}

/// The fields that records have.
#[derive(Default)]
pub struct Names(BTreeSet<String>);

impl Names {
    fn add(&mut self, above: &str, payload: &Map<String, Value>) {
        for (key, value) in payload {
            if self.0.len() >= NAMES_MAX {
                return;
            }
            let name = format!("{above}{key}");
            if let Value::Object(inner) = value {
                self.add(&format!("{name}."), inner);
            }
            self.0.insert(name);
        }
    }

    /// The refusal of `field`, by which the conflict over `id` was to be decided.
    pub fn refuse(&self, field: &PayloadField, id: &Identity) -> Error {
        let known: Vec<&str> = self.0.iter().map(String::as_str).collect();
        let hint = did_you_mean(nearest(&field.to_string(), &known));
        Error::usage(
            format!("deciding the conflict over point {id} by --on-conflict newest:{field}"),
            format!("no record of any source has the payload field '{field}'{hint}"),
        )
        .next("name a field of numbers or dates, or choose last, first, fail or remap")
    }
}

/// Looks for `field` in what `options` take of `point_streams`: at the beginning of each, then in all.
pub fn find(
    field: &PayloadField,
    point_streams: &[PointStream<'_>],
    options: &UnionOptions,
) -> Result<Found> {
    let mut names = Names::default();
    for whole in [false, true] {
        for point_stream in point_streams {
            let mut is_found = false;
            point_stream
                .records
                .read(payloads(options), PAGE_BYTES, &mut |page| {
                    for record in page {
                        is_found |= field.value(&record.payload).is_some();
                        names.add("", &record.payload);
                    }
                    whole && !is_found
                })?;
            if is_found {
                return Ok(Found::Field);
            }
        }
    }
    Ok(Found::Others(names))
}

fn payloads(options: &UnionOptions) -> Reading<'_> {
    Reading {
        filter: options.filter.as_ref(),
        columns: Columns::PAYLOADS,
        ..Reading::default()
    }
}

fn first_conflict(
    point_streams: &[PointStream<'_>],
    options: &UnionOptions,
) -> Result<Option<Identity>> {
    std::thread::scope(|scope| {
        // Keys that are given by a field are in the payloads.
        let reading = match options.layout.field() {
            Some(_) => payloads(options),
            None => Reading {
                columns: Columns::IDS,
                ..payloads(options)
            },
        };
        let mut scan = Scan::start_reading(scope, point_streams, reading)?;
        let mut group = Vec::new();
        while let Some(id) = scan.next_group(&mut group)? {
            if group.len() > 1 {
                return Ok(Some(id));
            }
        }
        Ok(None)
    })
}
