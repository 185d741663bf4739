//! Reports of `job` as text.

use std::fmt::Write as _;

use super::words::{duration, size};
use crate::jobs::{
    JobPlanReport, JobRemoveReport, JobStatusReport, JoinReport, Stage, StagePlan, TaskReport,
    TaskState,
};
use crate::merge::{SourceShard, TaskNeeds};

impl JobPlanReport {
    /// It as text.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.job);
        let mut line = |name: &str, value: String| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {name:<9}{value}");
        };
        if self.was_planned {
            line("planned", "before: it is the same job".into());
        }
        line(
            "route",
            format!("{} because {}", self.merge.route, self.merge.because),
        );
        for source in &self.sources {
            line("source", format!("{}  {}", source.id, size(source.bytes)));
        }
        for stage in &self.stages {
            let (stage, needs): (_, Vec<TaskNeeds>) = match stage {
                StagePlan::Map { tasks } => {
                    (Stage::Map, tasks.iter().map(|task| task.needs).collect())
                }
                StagePlan::Shard { tasks } => {
                    (Stage::Shard, tasks.iter().map(|task| task.needs).collect())
                }
            };
            let most = |of: fn(&TaskNeeds) -> u64| size(needs.iter().map(of).max().unwrap_or(0));
            line(
                "stage",
                format!("{}, {} tasks, each at the most:", stage.word(), needs.len()),
            );
            line("", format!("reads {}", most(|task| task.read_bytes)));
            line("", format!("writes {}", most(|task| task.written_bytes)));
            line(
                "",
                format!("disk {} for scratch", most(|task| task.scratch_bytes)),
            );
            line("", format!("memory {}", most(|task| task.memory_bytes)));
        }
        line(
            "join",
            format!("reads and writes {}", size(self.join_bytes)),
        );
        for missing in &self.merge.missing {
            line("MISSING", missing.clone());
        }
        for finding in &self.merge.findings {
            line("differs", finding.to_string());
        }
        for decision in &self.merge.decisions {
            line("chosen", decision.to_string());
        }
        for note in &self.merge.notes {
            line("note", note.clone());
        }
        text
    }
}

impl TaskReport {
    /// It as text.
    pub fn text(&self) -> String {
        let done = match self.was_there {
            true => "was there, compared",
            false => "made",
        };
        let mut text = format!(
            "task {} of {}: {done}\n  {:<9}{}: {} points",
            self.index,
            self.job,
            self.stage.word(),
            subject(self.of, self.shard),
            self.points
        );
        // Writing to a string does not fail.
        let _ = match self.stage {
            Stage::Map => write!(text, ", {}", size(self.bytes)),
            Stage::Shard => write!(
                text,
                " in {} segments, {} conflicts, {}",
                self.segments,
                self.conflicts,
                size(self.bytes)
            ),
        };
        let _ = writeln!(text, "\n  time     {}", duration(self.seconds));
        text
    }
}

/// Name of a task's output.
fn subject(of: Option<SourceShard>, shard: Option<u32>) -> String {
    match (of, shard) {
        (Some(SourceShard { source, shard }), _) => {
            format!("shard {shard} of source {source}")
        }
        (None, Some(shard)) => shard.to_string(),
        (None, None) => String::new(),
    }
}

impl JoinReport {
    /// It as text.
    pub fn text(&self) -> String {
        let mut text = self.merge.text();
        if let Some(added) = &self.archived {
            text += &added.text();
        }
        if let Some(restored) = &self.restored {
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{}: {} points, {}, green\n  server   {}, members: {}",
                restored.target,
                restored
                    .verdict
                    .as_ref()
                    .map_or(0, |verdict| verdict.points),
                size(restored.bytes),
                restored.server_version,
                restored.members
            );
            for note in &restored.notes {
                let _ = writeln!(text, "  note     {note}");
            }
            for left in &restored.left {
                let _ = writeln!(text, "  LEFT     {left}");
            }
        }
        text
    }
}

impl JobStatusReport {
    /// It as text.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}: {} of {} tasks done, {}\n",
            self.job,
            self.done,
            self.tasks.len(),
            size(self.bytes)
        );
        for task in &self.tasks {
            let state = match &task.state {
                TaskState::Done {
                    seconds,
                    points,
                    bytes,
                    ..
                } => format!(
                    "done: {points} points, {}, in {}",
                    size(*bytes),
                    duration(*seconds)
                ),
                TaskState::NotDone => "not done".into(),
                TaskState::Damaged { why } => format!("DAMAGED: {why}"),
            };
            // Writing to a string does not fail.
            let subject = subject(task.of, task.shard);
            let stage = task.stage.word();
            let _ = writeln!(text, "  {:<5} {stage} {subject:<5} {state}", task.index);
        }
        if self.unnamed_bytes > 0 {
            let _ = writeln!(
                text,
                "  {} of attempts that are under way or were ended",
                size(self.unnamed_bytes)
            );
        }
        text
    }
}

impl JobRemoveReport {
    /// It as text.
    pub fn text(&self) -> String {
        format!(
            "{} files of {} jobs were removed, {}\n",
            self.removed,
            self.jobs.len(),
            size(self.removed_bytes)
        )
    }
}
