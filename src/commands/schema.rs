//! `snapmerge schema`: JSON schemas of everything that is written as JSON, and of the nightly plan.
//!
//! Invariants: the schemas are made out of the types that write the JSON.

use clap::Args;

use super::{Ended, print, print_json};
use crate::base::error::{Error, Result};
use crate::report::schema::{SCHEMAS, Schema};

/// Arguments of `schema`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge schema
  snapmerge schema merge
  snapmerge schema nightly > nightly.schema.json

The schemas are JSON Schema, draft 2020-12. Within a version of a report fields are added, never removed or
given another meaning: a reader should let pass what it does not know.")]
pub struct SchemaArgs {
    /// A report or file, as the list names it; without one, the list
    pub name: Option<String>,
}

/// Runs the command.
pub fn run(args: &SchemaArgs) -> Result<Ended> {
    match &args.name {
        None => print(&list())?,
        Some(name) => {
            let schema = Schema::of(name).ok_or_else(|| {
                Error::usage(
                    format!("looking for the schema {name}"),
                    "there is none of this name",
                )
                .next("`snapmerge schema` lists them")
            })?;
            print_json(&schema.json())?;
        }
    }
    Ok(None)
}

/// The schemas, each with the place where such JSON is found.
fn list() -> String {
    let line = |schema: &Schema| format!("  {:<22}{}\n", schema.name, schema.found);
    let lines: String = SCHEMAS.iter().map(line).collect();
    format!(
        "Schemas, and where such JSON is found:\n{lines}\n`snapmerge schema NAME` prints one.\n"
    )
}
