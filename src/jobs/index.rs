//! Which task a process is to do.
//!
//! Invariants: the index that was given counts; without one, what the engine that started the process says, and two
//! that say different things are refused.

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};

/// Stage of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// A task for each shard of the sources, where the master has other shards
    Map,
    /// A task for each of the master's shards
    Shard,
}

impl Stage {
    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Map => "map",
            Self::Shard => "shard",
        }
    }
}

/// The variables in which engines say which of their tasks a process is, from 0 on.
pub const VARIABLES: [&str; 4] = [
    "JOB_COMPLETION_INDEX",
    "SLURM_ARRAY_TASK_ID",
    "AWS_BATCH_JOB_ARRAY_INDEX",
    "CLOUD_RUN_TASK_INDEX",
];

/// The index of the task, which is `given` or in a variable that `lookup` finds.
pub fn index(given: Option<u32>, lookup: impl Fn(&str) -> Option<String>) -> Result<u32> {
    if let Some(given) = given {
        return Ok(given);
    }
    let mut found: Option<(&str, u32)> = None;
    for variable in VARIABLES {
        let Some(text) = lookup(variable) else {
            continue;
        };
        let index: u32 = text.parse().map_err(|_| {
            Error::usage(
                format!("reading {variable}"),
                format!("'{text}' is no index of a task"),
            )
            .next("give the index with --index")
        })?;
        match found {
            Some((other, known)) if known != index => {
                return Err(Error::usage(
                    "looking which task this is",
                    format!("{other} says {known}, and {variable} says {index}"),
                )
                .next("give the index with --index"));
            }
            _ => found = Some((variable, index)),
        }
    }
    found.map(|(_, index)| index).ok_or_else(|| {
        Error::usage(
            "looking which task this is",
            format!("none of {} says it", VARIABLES.join(", ")),
        )
        .next("give the index with --index")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_given_or_said_by_one_engine() {
        let with = |given: Option<u32>, set: &[(&str, &str)]| {
            let lookup = |name: &str| {
                let found = set.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            index(given, lookup).ok()
        };
        assert_eq!(with(Some(3), &[("SLURM_ARRAY_TASK_ID", "5")]), Some(3));
        for variable in VARIABLES {
            assert_eq!(with(None, &[(variable, "5")]), Some(5));
            assert_eq!(with(None, &[(variable, "")]), None);
            assert_eq!(with(None, &[(variable, "-1")]), None);
        }
        assert_eq!(with(None, &[]), None);
        let two = |other| {
            [
                ("JOB_COMPLETION_INDEX", "5"),
                ("CLOUD_RUN_TASK_INDEX", other),
            ]
        };
        assert_eq!(with(None, &two("5")), Some(5));
        assert_eq!(with(None, &two("6")), None);
    }
}
