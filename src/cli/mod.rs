//! Command line and exit codes.
//!
//! Invariants: everything that a command does is decided by its arguments; the exit codes are one
//! table.

pub mod exit;
pub mod help;
pub mod typed;
pub mod version;

use clap::{Parser, Subcommand};

use crate::base::error::Result;
use crate::base::progress::Form;
use crate::commands::archive::ArchiveArgs;
use crate::commands::capture::CaptureArgs;
use crate::commands::diff::DiffArgs;
use crate::commands::drill::DrillArgs;
use crate::commands::export::ExportArgs;
use crate::commands::ingest::IngestArgs;
use crate::commands::init::InitPlanArgs;
use crate::commands::inspect::InspectArgs;
use crate::commands::job::JobArgs;
use crate::commands::merge::MergeArgs;
use crate::commands::publish::PublishArgs;
use crate::commands::report::ReportArgs;
use crate::commands::restore::RestoreArgs;
use crate::commands::rollback::RollbackArgs;
use crate::commands::run::RunArgs;
use crate::commands::schema::SchemaArgs;
use crate::commands::split::SplitArgs;
use crate::commands::verify::VerifyArgs;
use crate::commands::{
    Ended, archive, capture, diff, drill, export, ingest, init, inspect, job, merge, publish,
    report, restore, rollback, run, schema, split, verify,
};

/// Merge the snapshots of many Qdrant collections into one verified master, offline.
#[derive(Debug, Parser)]
#[command(
    name = "snapmerge",
    version,
    long_version = version::long(),
    max_term_width = 100,
    after_help = exit::help(),
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Form of progress, notes and errors on standard error
    #[arg(long, global = true, value_name = "FORM", default_value = "text")]
    pub progress: Form,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what is in snapshots, and whether they can be merged
    Inspect(InspectArgs),
    /// Merge snapshots into one master snapshot
    Merge(Box<MergeArgs>),
    /// Write the points of a snapshot as JSON lines, in the shape of Qdrant's scroll answer, Parquet or Arrow
    Export(Box<ExportArgs>),
    /// Put rows of JSON lines, Parquet or Arrow into snapshots, without a server, or into a running one, by a field
    Ingest(Box<IngestArgs>),
    /// Split a snapshot into several by the value of a field: the inverse of merge
    Split(Box<SplitArgs>),
    /// Take snapshots off a running server, without leaving a trace there
    Capture(Box<CaptureArgs>),
    /// Bring a snapshot onto a server as a new collection, and compare
    Restore(Box<RestoreArgs>),
    /// Point an alias to a new master, in one call
    Publish(Box<PublishArgs>),
    /// Point an alias back to what it pointed to before
    Rollback(Box<RollbackArgs>),
    /// Prove that a master is the union of its sources, point by point
    Verify(Box<VerifyArgs>),
    /// Say what changed from one snapshot to another
    Diff(Box<DiffArgs>),
    /// Make one HTML page of the JSON reports of verify, merge, diff or run
    Report(ReportArgs),
    /// Keep snapshots of many nights in one place, each byte once and every byte checked
    Archive(Box<ArchiveArgs>),
    /// Merge on many machines: one merge as tasks of Kubernetes, Slurm, Ray or a loop
    Job(Box<JobArgs>),
    /// Do all of it by a plan: capture, archive, merge, prove, restore, publish, forget, report
    Run(RunArgs),
    /// Print a plan for a whole night, to start from
    Init(InitPlanArgs),
    /// Restore what is in an archive, prove that it is what it was, and note that it is
    Drill(Box<DrillArgs>),
    /// Print the JSON schema of a report, of a file, or of the plan of a night
    Schema(SchemaArgs),
    /// Show a topic of the manual, or the help of a verb
    Help(help::HelpArgs),
    /// Print completions for a shell
    Completions(help::CompletionsArgs),
    /// Write man pages into a folder
    Man(help::ManArgs),
}

impl Command {
    /// Returns true if the command may make something on a server in this process, which it removes when it
    /// is asked to stop.
    pub fn puts_away(&self) -> bool {
        matches!(
            self,
            Self::Capture(_)
                | Self::Restore(_)
                | Self::Publish(_)
                | Self::Rollback(_)
                | Self::Run(_)
        )
    }

    /// Runs it.
    pub fn run(self) -> Result<Ended> {
        match self {
            Self::Inspect(args) => inspect::run(args),
            Self::Merge(args) => merge::run(*args),
            Self::Export(args) => export::run(*args),
            Self::Ingest(args) => ingest::run(*args),
            Self::Split(args) => split::run(*args),
            Self::Capture(args) => capture::run(*args),
            Self::Restore(args) => restore::run(*args),
            Self::Publish(args) => publish::run(*args),
            Self::Rollback(args) => rollback::run(*args),
            Self::Verify(args) => verify::run(*args),
            Self::Diff(args) => diff::run(*args),
            Self::Report(args) => report::run(&args),
            Self::Archive(args) => archive::run(*args),
            Self::Job(args) => job::run(*args),
            Self::Run(args) => run::run(&args),
            Self::Init(args) => init::run(&args),
            Self::Drill(args) => drill::run(&args),
            Self::Schema(args) => schema::run(&args),
            Self::Help(args) => help::help(&args).map(|()| None),
            Self::Completions(args) => help::completions(&args).map(|()| None),
            Self::Man(args) => help::man(&args).map(|()| None),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use crate::manual::{PAGES, Page};

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_text_has_examples_that_parse() {
        let command = Cli::command();
        let mut parsed = 0;
        let mut verbs: Vec<&clap::Command> = command.get_subcommands().collect();
        while let Some(verb) = verbs.pop() {
            verbs.extend(verb.get_subcommands());
            let help = verb
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            let examples: Vec<&str> = help
                .lines()
                .map(str::trim)
                .filter(|line| line.starts_with("snapmerge "))
                .collect();
            assert!(!examples.is_empty(), "{} has no example", verb.get_name());
            for example in examples {
                let words = words(example);
                Cli::try_parse_from(&words).unwrap_or_else(|err| panic!("{example}: {err}"));
                parsed += 1;
            }
        }
        assert!(parsed >= 8, "{parsed}");
    }

    #[test]
    fn every_command_of_the_manual_parses() {
        let mut parsed = 0;
        for page in PAGES {
            for example in page.commands() {
                Cli::try_parse_from(words(example))
                    .unwrap_or_else(|err| panic!("{}: {example}: {err}", page.topic));
                parsed += 1;
            }
        }
        assert!(parsed >= 50, "{parsed}");
    }

    #[test]
    fn every_verb_is_on_a_page() {
        let command = Cli::command();
        for verb in command.get_subcommands() {
            let typed = format!("snapmerge {} ", verb.get_name());
            let is_there = |page: &Page| page.text.contains(&typed);
            assert!(PAGES.iter().any(is_there), "{typed}");
            for below in verb.get_subcommands() {
                let typed = format!("{typed}{} ", below.get_name());
                assert!(
                    PAGES.iter().any(|page| page.text.contains(&typed)),
                    "{typed}"
                );
            }
        }
    }

    /// The words of a shell line, with single quotes and a redirection.
    fn words(line: &str) -> Vec<String> {
        let line = line.split(" > ").next().unwrap_or(line);
        let mut words = vec![String::new()];
        let mut quoted = false;
        for char in line.chars() {
            match char {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                other => words.last_mut().unwrap().push(other),
            }
        }
        words
    }
}
