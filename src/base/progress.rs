//! Progress: a bar on a terminal, a line now and then elsewhere, JSON lines for programs, nothing when
//! nobody wants it.
//!
//! Invariants: work only counts, and never waits for a display; everything goes to standard error,
//! without anything that a terminal obeys. The form is one for the process, since standard error is.

pub mod event;

use std::fmt;
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::event::Event;
use super::error::Error;
use super::printable::{printable, printable_lines};

/// Interval at which a bar is drawn.
const BAR_EVERY: Duration = Duration::from_millis(150);
/// Interval at which a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Form of progress, notes and errors on standard error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Form {
    /// A bar on a terminal and lines elsewhere, for people
    #[default]
    Text,
    /// A JSON object a line, for programs (`snapmerge schema progress`)
    Json,
}

/// The form of this process.
static FORM: OnceLock<Form> = OnceLock::new();

impl Form {
    /// The form of this process.
    pub fn chosen() -> Self {
        FORM.get().copied().unwrap_or_default()
    }

    /// Makes it the form of this process; the first choice holds.
    pub fn choose(self) {
        // A second choice is the same one, handed down again.
        let _ = FORM.set(self);
    }
}

/// Tells `err`, which ends this process, on standard error.
pub fn fail(err: &Error) {
    match Form::chosen() {
        Form::Text => tell(format_args!("snapmerge: {err}")),
        Form::Json => tell(format_args!("{}", Event::from(err))),
    }
}

/// Tells `text` beside the output, whatever is quiet.
pub fn note(text: &str) {
    match Form::chosen() {
        Form::Text => tell(format_args!("snapmerge: {}", printable_lines(text))),
        Form::Json => tell(format_args!("{}", Event::note(text))),
    }
}

/// Writes a line to standard error. The work goes on if nobody reads it any more.
fn tell(line: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Display of progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// A bar on a terminal, lines elsewhere.
    Shown,
    /// Not at all.
    Quiet,
}

/// Unit that a stage counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Points.
    Points,
    /// Nothing: it is not known how far it is.
    None,
}

/// A stage that is going on; it ends when dropped.
pub struct Stage {
    counter: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    display: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts a stage called `name` with `total` units to do, if that is known.
    pub fn stage(self, name: &str, total: Option<u64>, unit: Unit) -> Stage {
        let counter = Arc::new(AtomicU64::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        let display = (self == Self::Shown).then(|| {
            let (counter, ended) = (Arc::clone(&counter), Arc::clone(&ended));
            let name = printable(name).into_owned();
            std::thread::spawn(move || {
                if Form::chosen() == Form::Json {
                    event::stage(&name, total, unit, &counter, &ended);
                } else if std::io::stderr().is_terminal() {
                    bar(&name, total, unit, &counter, &ended);
                } else {
                    lines(&name, total, unit, &counter, &ended);
                }
            })
        });
        Stage {
            counter,
            ended,
            display,
        }
    }
}

impl Progress {
    /// Prints `text` at once.
    pub fn say(self, text: &str) {
        if self == Self::Shown {
            note(text);
        }
    }
}

impl Stage {
    /// The counter of what is done; whoever does it adds to it.
    pub fn counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.counter)
    }

    /// Counts `units` more.
    pub fn add(&self, units: u64) {
        self.counter.fetch_add(units, Ordering::Relaxed);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(display) = self.display.take() {
            display.thread().unpark();
            // A display that failed is no reason to fail.
            let _ = display.join();
        }
    }
}

fn bar(name: &str, total: Option<u64>, unit: Unit, counter: &AtomicU64, ended: &AtomicBool) {
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    let template = match (unit, total) {
        (Unit::Bytes, Some(_)) => {
            "{msg:24} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left"
        }
        (Unit::Bytes, None) => "{msg:24} {bytes} {bytes_per_sec}",
        (Unit::Points, Some(_)) => {
            "{msg:24} [{bar:30}] {human_pos}/{human_len} points {per_sec} {eta} left"
        }
        (Unit::Points, None) => "{msg:24} {human_pos} points {per_sec}",
        (Unit::None, _) => "{msg:24} {spinner} {elapsed}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(name.to_owned());
    while !ended.load(Ordering::Relaxed) {
        bar.set_position(counter.load(Ordering::Relaxed));
        bar.tick();
        std::thread::park_timeout(BAR_EVERY);
    }
    bar.finish_and_clear();
}

fn lines(name: &str, total: Option<u64>, unit: Unit, counter: &AtomicU64, ended: &AtomicBool) {
    let mut started = Instant::now();
    let mut told = started;
    let mut before = 0;
    while !ended.load(Ordering::Relaxed) {
        std::thread::park_timeout(BAR_EVERY);
        if told.elapsed() < LINE_EVERY || ended.load(Ordering::Relaxed) {
            continue;
        }
        told = Instant::now();
        let done = counter.load(Ordering::Relaxed);
        if done < before {
            // Begun anew: the rate is of this attempt.
            started = told;
        }
        before = done;
        let line = line(done, total, unit, started.elapsed());
        tell(format_args!("snapmerge: {name}: {line}"));
    }
}

/// "1.2 GiB of 3 GiB, 400 MiB/s, 5 s left".
fn line(done: u64, total: Option<u64>, unit: Unit, elapsed: Duration) -> String {
    let show = |count: u64| match unit {
        Unit::Bytes => humansize::format_size(count, humansize::BINARY),
        Unit::Points => format!("{count} points"),
        Unit::None => String::new(),
    };
    if unit == Unit::None {
        return format!("{} s", elapsed.as_secs());
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate for people"
    )]
    let per_second = show(rate as u64);
    match total.filter(|total| *total > 0) {
        None => format!("{}, {per_second}/s", show(done)),
        Some(total) => {
            let left = total.saturating_sub(done);
            // Of what has not got on nobody knows when it ends.
            if rate < 1.0 {
                return format!("{} of {}", show(done), show(total));
            }
            #[expect(clippy::cast_precision_loss, reason = "a time for people")]
            let seconds = left as f64 / rate;
            format!(
                "{} of {}, {per_second}/s, {seconds:.0} s left",
                show(done),
                show(total)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_rate_and_time_left() {
        let ten = Duration::from_secs(10);
        assert_eq!(
            line(1000, Some(3000), Unit::Points, ten),
            "1000 points of 3000 points, 100 points/s, 20 s left"
        );
        assert_eq!(
            line(0, Some(355_077_632), Unit::Bytes, ten),
            "0 B of 338.63 MiB"
        );
        assert_eq!(line(10 << 20, None, Unit::Bytes, ten), "10 MiB, 1 MiB/s");
        assert_eq!(line(0, None, Unit::None, ten), "10 s");
    }

    #[test]
    fn a_stage_ends_at_once() {
        let started = Instant::now();
        let stage = Progress::Shown.stage("nothing", Some(1), Unit::Bytes);
        stage.add(1);
        drop(stage);
        assert!(started.elapsed() < Duration::from_secs(2));
    }
}
