//! Events of runs as people watch them: bars on a terminal, a few lines elsewhere.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::domain::TableName;
use crate::observe::{Event, Observer, Progress, Stage};

use super::printer::{Printer, bytes, count, seconds};

/// How often a copy without a terminal says how far it is.
const SPARSE: Duration = Duration::from_secs(10);

/// Shows runs on standard error.
pub(super) struct ProgressView {
    printer: Printer,
    /// `None` where standard error is not a terminal.
    bars: Option<MultiProgress>,
    running: Mutex<HashMap<TableName, Running>>,
}

struct Running {
    bar: Option<ProgressBar>,
    copy_started: Option<Instant>,
    last_line: Instant,
}

impl ProgressView {
    pub(super) fn new(printer: Printer) -> Self {
        let bars = Printer::is_interactive().then(MultiProgress::new);
        ProgressView { printer, bars, running: Mutex::new(HashMap::new()) }
    }

    fn say(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| self.printer.note(text)),
            None => self.printer.note(text),
        }
    }

    fn with<R>(&self, pipeline: &TableName, then: impl FnOnce(&mut Running) -> R) -> R {
        let mut running = self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let entry = running.entry(pipeline.clone()).or_insert_with(|| Running {
            bar: self.bars.as_ref().map(|bars| {
                let bar = bars.add(ProgressBar::new_spinner());
                bar.set_style(spinner());
                bar.set_prefix(pipeline.to_string());
                bar.enable_steady_tick(Duration::from_millis(120));
                bar
            }),
            copy_started: None,
            last_line: Instant::now(),
        });
        then(entry)
    }

    fn entered(&self, pipeline: &TableName, stage: Stage) {
        self.with(pipeline, |running| {
            if stage == Stage::Copy {
                running.copy_started = Some(Instant::now());
            }
            if let Some(bar) = &running.bar {
                bar.set_style(spinner());
                bar.set_message(stage.as_str());
            }
        });
    }

    fn copying(&self, pipeline: &TableName, progress: Progress) {
        let line = self.with(pipeline, |running| {
            let elapsed = running.copy_started.map_or(0.0, |started| started.elapsed().as_secs_f64()).max(0.001);
            let rate = progress.rows as f64 / elapsed;
            let text = format!(
                "copy {}{} rows, {}, {} rows/s",
                count(progress.rows),
                progress.rows_total.map(|total| format!(" of {}", count(total))).unwrap_or_default(),
                bytes(progress.bytes_copied),
                count(rate as u64)
            );
            match &running.bar {
                Some(bar) => {
                    if let Some(total) = progress.rows_total {
                        bar.set_style(fraction());
                        bar.set_length(total.max(progress.rows));
                        bar.set_position(progress.rows);
                    }
                    bar.set_message(text);
                    None
                }
                None if running.last_line.elapsed() >= SPARSE => {
                    running.last_line = Instant::now();
                    Some(text)
                }
                None => None,
            }
        });
        if let Some(line) = line {
            self.say(&format!("{pipeline}: {line}"));
        }
    }

    fn end(&self, pipeline: &TableName) {
        let ended = self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(pipeline);
        if let Some(bar) = ended.and_then(|running| running.bar) {
            bar.finish_and_clear();
        }
    }
}

impl Observer for ProgressView {
    fn observe(&self, pipeline: &TableName, event: &Event<'_>) {
        match event {
            Event::RunStarted { .. } => self.with(pipeline, |_| {}),
            Event::Joined { holder } => self.say(&format!("{pipeline}: joins the run of {holder}")),
            Event::Planned { mode, reason } => self.say(&format!("{pipeline}: {} ({reason})", mode.as_str())),
            Event::Entered(stage) => self.entered(pipeline, *stage),
            Event::Copying(progress) => self.copying(pipeline, *progress),
            Event::Waiting { waited, blockers } => {
                self.with(pipeline, |running| {
                    if let Some(bar) = &running.bar {
                        bar.set_message(format!("waits to publish: {blockers}"));
                    }
                });
                if self.bars.is_none() {
                    self.say(&format!(
                        "{pipeline}: waits to publish for {}: {blockers}",
                        seconds(waited.as_secs_f64())
                    ));
                }
            }
            Event::Retrying { error, pause } => {
                let when = if pause.is_zero() { "at once" } else { &format!("in {}", seconds(pause.as_secs_f64())) };
                self.say(&format!("{pipeline}: {error}; tried again {when}"));
            }
            Event::Warning(text) => self.say(&format!("{pipeline}: warning: {text}")),
            Event::Finished(_) | Event::Failed(_) => self.end(pipeline),
        }
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {prefix}  {wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn fraction() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {prefix}  {bar:24} {percent:>3}%  {msg}  {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
