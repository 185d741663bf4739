//! The night as metrics, for the textfile collector of Prometheus' node exporter, or a Pushgateway.
//!
//! Invariants: the file is whole or absent; a night that failed does not take away when the last one
//! succeeded.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use chrono::{DateTime, Utc};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use url::Url;

use super::report::{How, RunOutcome, RunReport};
use crate::base::durable;
use crate::base::error::{Error, Result};
use crate::server;

/// Writes them to `path`.
pub fn write(path: &Path, report: &RunReport) -> Result<()> {
    if let Some(folder) = path.parent() {
        durable::make_folder(folder)?;
    }
    durable::write(path, text(report)?.as_bytes(), true)
}

/// Puts them in place of the plan's earlier ones in the Pushgateway at `gateway`.
pub fn push(gateway: &Url, report: &RunReport) -> Result<()> {
    let shown = format!(
        "the Pushgateway at {}",
        gateway.host_str().unwrap_or_default()
    );
    let address = group(gateway, &report.plan);
    server::put_metrics(address.as_str(), &shown, text(report)?.as_bytes())
}

/// Where a Pushgateway has the metrics of a plan.
fn group(gateway: &Url, plan: &str) -> Url {
    let mut address = gateway.clone();
    // An address with a host has segments.
    if let Ok(mut segments) = address.path_segments_mut() {
        segments
            .pop_if_empty()
            .extend(["metrics", "job", "snapmerge", "plan", plan]);
    }
    address
}

/// A label besides that of the plan, if there is one, and the value.
type Sample<'a> = (Option<(&'static str, &'a str)>, f64);

/// The value of a gauge that has one at the most.
fn one<'a>(value: impl Into<Option<f64>>) -> Vec<Sample<'a>> {
    value
        .into()
        .map(|value| (None, value))
        .into_iter()
        .collect()
}

/// The value of a gauge that says when.
fn at<'a>(time: Option<DateTime<Utc>>) -> Vec<Sample<'a>> {
    one(time.map(|time| count(u64::try_from(time.timestamp()).unwrap_or(0))))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus has no other numbers"
)]
fn count(value: u64) -> f64 {
    value as f64
}

fn text(report: &RunReport) -> Result<String> {
    let plan = ("plan".into(), report.plan.clone().into());
    let mut registry = Registry::with_labels(std::iter::once(plan));
    let mut gauge = |name: &str, help: &str, samples: Vec<Sample<'_>>| {
        let family = Family::<Vec<(&'static str, String)>, Gauge<f64, AtomicU64>>::default();
        for (label, value) in samples {
            let labels = label.map(|(key, value)| (key, value.to_owned()));
            let labels: Vec<_> = labels.into_iter().collect();
            family.get_or_create(&labels).set(value);
        }
        registry.register(name, help, family);
    };
    gauge(
        "snapmerge_run_end_timestamp_seconds",
        "When the last run ended",
        at(Some(report.ended)),
    );
    let success = f64::from(u8::from(report.run_outcome == RunOutcome::Done));
    gauge(
        "snapmerge_run_success",
        "Whether the last run ended with exit code 0",
        one(success),
    );
    let code = f64::from(report.envelope.outcome.exit_code());
    gauge(
        "snapmerge_run_exit_code",
        "The exit code of the last run",
        one(code),
    );
    gauge(
        "snapmerge_run_seconds",
        "How long the last run took",
        one(report.seconds),
    );
    gauge(
        "snapmerge_last_success_timestamp_seconds",
        "When a run last ended with exit code 0",
        at(report.last_success),
    );
    gauge(
        "snapmerge_last_proven_master_timestamp_seconds",
        "When a master was last proven",
        at(report.last_proven),
    );
    gauge(
        "snapmerge_last_proven_restore_timestamp_seconds",
        "When a drill last restored something from the archive and proved it",
        at(report.last_proven_restore),
    );
    let mut steps: BTreeMap<&str, f64> = BTreeMap::new();
    for step in report.steps.iter().filter(|step| !step.earlier) {
        let kind = step.step.split(' ').next().unwrap_or_default();
        *steps.entry(kind).or_default() += step.seconds;
    }
    gauge(
        "snapmerge_step_seconds",
        "How long each kind of step of the last run took",
        steps
            .into_iter()
            .map(|(kind, seconds)| (Some(("step", kind)), seconds))
            .collect(),
    );
    let ways = [
        (How::Captured, "captured"),
        (How::Unchanged, "unchanged"),
        (How::Last, "last"),
        (How::Broken, "broken"),
    ];
    let ways = ways.map(|(how, word)| {
        let sources = report.sources.iter().filter(|one| one.how == how);
        (Some(("how", word)), count(sources.count() as u64))
    });
    gauge(
        "snapmerge_sources",
        "Sources of the last run, by what became of them",
        ways.into(),
    );
    let of_sources = |value: fn(&super::report::RunSource) -> Option<u64>| {
        let sources = report.sources.iter();
        sources
            .filter_map(|source| {
                Some((
                    Some(("source", source.name.as_str())),
                    count(value(source)?),
                ))
            })
            .collect()
    };
    gauge(
        "snapmerge_source_points",
        "Points of each source",
        of_sources(|source| source.points),
    );
    let bytes = of_sources(|source| Some(source.bytes));
    gauge(
        "snapmerge_source_bytes",
        "Bytes of each source's snapshot",
        bytes,
    );
    let master = report.master.as_ref();
    gauge(
        "snapmerge_master_points",
        "Points of the master",
        one(master.map(|master| count(master.points))),
    );
    let bytes = master.and_then(|master| master.bytes).map(count);
    gauge(
        "snapmerge_master_bytes",
        "Bytes of the master's file",
        one(bytes),
    );
    gauge(
        "snapmerge_archive_entries",
        "Entries in the archive",
        one(count(report.archive.entries)),
    );
    gauge(
        "snapmerge_archive_new_bytes",
        "Bytes that the last run added to the archive",
        one(count(report.archive.new_bytes)),
    );
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|err| Error::failed("writing the metrics", err))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_plan_has_its_group_in_a_gateway() {
        for (gateway, plan, expected) in [
            (
                "http://g:9091",
                "nightly",
                "http://g:9091/metrics/job/snapmerge/plan/nightly",
            ),
            (
                "https://h/push/",
                "a b%?",
                "https://h/push/metrics/job/snapmerge/plan/a%20b%25%3F",
            ),
        ] {
            let group = group(&gateway.parse().unwrap(), plan);
            assert_eq!(group.as_str(), expected);
        }
    }

    #[test]
    fn every_line_is_a_metric_of_its_family() {
        let at = "2026-11-22T03:00:00Z".parse().unwrap();
        let mut report = RunReport::begin("a \"plan\"", "backups", "n", at, false);
        report.last_success = Some(at);
        let text = text(&report).unwrap();
        let success =
            "snapmerge_last_success_timestamp_seconds{plan=\"a \\\"plan\\\"\"} 1795316400.0";
        assert!(text.contains(success), "{text}");
        let mut family = "";
        for line in text.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(rest) => family = rest.strip_suffix(" gauge").unwrap(),
                None if line.starts_with("# HELP ") || line == "# EOF" => {}
                None => {
                    let (name, rest) = line.split_once('{').unwrap();
                    assert_eq!(name, family);
                    rest.rsplit_once("} ").unwrap().1.parse::<f64>().unwrap();
                }
            }
        }
        for name in ["run_exit_code", "sources", "archive_entries"] {
            assert!(
                text.contains(&format!("\nsnapmerge_{name}{{")),
                "{name}: {text}"
            );
        }
    }
}
