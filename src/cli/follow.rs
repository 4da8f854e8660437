//! `lakegate up` follows the project's files: what they declare holds within seconds, as long as they are sound.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Environment, Loaded, Problem, Problems, Stamp};
use crate::domain::Pipeline;
use crate::engine::{FilesState, Live};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How often they are read even where they look the same: a secret in a file of its own may be another one.
const READ: Duration = Duration::from_secs(30);

/// Takes over what the files declare, again and again until `shutdown`. Nothing that is wrong with them ends this, or what
/// goes on.
pub(super) async fn follow(dir: PathBuf, environment: Arc<Environment>, live: Live, shutdown: CancellationToken) {
    let mut timing = Timing::default();
    let mut told = Told::default();
    while shutdown.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        let Some(stamp) = look(&dir, &environment).await else { continue };
        if !timing.is_time_to_read(stamp, Instant::now()) {
            continue;
        }
        let loaded = aside(&dir, &environment, config::load).await;
        let (Some(loaded), Some(stamp)) = (loaded, look(&dir, &environment).await) else { continue };
        // What was written while it was read may be half of something.
        if timing.was_read(stamp, Instant::now()) {
            take(&dir, loaded, &live, &mut told);
        }
    }
}

async fn look(dir: &Path, environment: &Arc<Environment>) -> Option<Stamp> {
    aside(dir, environment, config::stamp).await
}

/// What is asked of the file system, which may be slow; `None` by a fault.
async fn aside<R: Send + 'static>(
    dir: &Path,
    environment: &Arc<Environment>,
    ask: fn(&Path, &Environment) -> R,
) -> Option<R> {
    let (dir, environment) = (dir.to_owned(), Arc::clone(environment));
    let answer = tokio::task::spawn_blocking(move || ask(&dir, &environment)).await;
    answer.inspect_err(|error| tracing::error!("the project's files could not be looked at: {error}")).ok()
}

/// When files are read: once they have looked the same twice, so that what is being written is not taken for the whole. A
/// pipeline file that is cut off may be a valid one that hides nothing.
#[derive(Debug)]
struct Timing<S> {
    seen: Option<S>,
    /// How they looked when they were last read, and when that was.
    read: Option<(S, Instant)>,
}

impl<S> Default for Timing<S> {
    fn default() -> Self {
        Timing { seen: None, read: None }
    }
}

impl<S: PartialEq> Timing<S> {
    /// Whether files that look like this now are to be read.
    fn is_time_to_read(&mut self, stamp: S, now: Instant) -> bool {
        let is_settled = self.seen.as_ref() == Some(&stamp);
        let is_read = self.read.as_ref().is_some_and(|(read, at)| *read == stamp && now.duration_since(*at) < READ);
        self.seen = Some(stamp);
        is_settled && !is_read
    }

    /// Whether what was read is to be believed, now that the files look like this.
    fn was_read(&mut self, stamp: S, now: Instant) -> bool {
        let is_settled = self.seen.as_ref() == Some(&stamp);
        if is_settled {
            self.read = Some((stamp, now));
        } else {
            self.seen = Some(stamp);
        }
        is_settled
    }
}

/// What the log has said last, so that it says nothing twice.
#[derive(Debug, Default)]
struct Told {
    problems: Vec<String>,
    warnings: Vec<String>,
    restart_needed: Vec<&'static str>,
}

fn take(dir: &Path, loaded: Result<Loaded, Problems>, live: &Live, told: &mut Told) {
    let before = live.files();
    let Loaded { project, warnings } = match loaded {
        Ok(loaded) => loaded,
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(placed).collect();
            if lines != told.problems {
                for line in &lines {
                    tracing::error!(
                        "what the project's files declared before goes on, since they cannot be used: {line}"
                    );
                }
                told.problems = lines;
            }
            let problems = problems.iter().filter_map(|problem| serde_json::to_value(problem).ok()).collect();
            live.note_files(FilesState { problems, ..before });
            return;
        }
    };
    if !std::mem::take(&mut told.problems).is_empty() {
        tracing::info!(project = %dir.display(), "the project's files can be used again");
    }
    let engine = live.now();
    let restart_needed = engine.project().settings_that_differ(&project);
    if restart_needed != told.restart_needed {
        if !restart_needed.is_empty() {
            let settings = restart_needed.join(", ");
            tracing::warn!(settings, "these settings have changed, and hold from the next start of this process on");
        }
        told.restart_needed.clone_from(&restart_needed);
    }
    let lines: Vec<String> = warnings.iter().map(placed).collect();
    let changed = tell_changes(&engine.project().pipelines, &project.pipelines);
    if changed {
        for line in lines.iter().filter(|line| !told.warnings.contains(line)) {
            tracing::warn!("{line}");
        }
        live.declare(project.pipelines);
    }
    told.warnings = lines;
    let changed_at = if changed { Some(Utc::now()) } else { before.changed_at };
    live.note_files(FilesState { problems: Vec::new(), restart_needed, changed_at });
}

/// Logs how pipelines are declared otherwise than before: whether any is.
fn tell_changes(before: &[Pipeline], now: &[Pipeline]) -> bool {
    let mut changed = false;
    for pipeline in now {
        let name = &pipeline.name;
        match before.iter().find(|other| other.name == *name) {
            Some(other) if other.is_same(pipeline) => continue,
            Some(_) => tracing::info!(pipeline = %name, "the pipeline has changed"),
            None => tracing::info!(pipeline = %name, "the pipeline is new"),
        }
        changed = true;
    }
    for gone in before.iter().filter(|other| now.iter().all(|pipeline| pipeline.name != other.name)) {
        tracing::warn!(pipeline = %gone.name, "the pipeline's file is gone: its table is no longer synced, and still served");
        changed = true;
    }
    changed
}

/// A problem in one line, with its place and what to do about it.
fn placed(problem: &Problem) -> String {
    let place = match (problem.file(), problem.line_and_column()) {
        (Some(file), Some((line, column))) => format!("{file}:{line}:{column}: "),
        _ => String::new(),
    };
    let hint = problem.advice().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{place}{}: {problem}{hint}", problem.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_once_they_have_settled_and_now_and_then() {
        let (start, mut timing) = (Instant::now(), Timing::default());
        let at = |millis: u64| start + Duration::from_millis(millis);
        assert!(!timing.is_time_to_read("a", at(0)), "one look says nothing");
        assert!(timing.is_time_to_read("a", at(500)));
        assert!(timing.was_read("a", at(501)));
        assert!(!timing.is_time_to_read("a", at(1_000)), "it was read");
        assert!(!timing.is_time_to_read("b", at(1_500)), "it is being written");
        assert!(!timing.is_time_to_read("c", at(2_000)), "it still is");
        assert!(timing.is_time_to_read("c", at(2_500)));
        assert!(!timing.was_read("d", at(2_501)), "it was written while it was read");
        assert!(timing.is_time_to_read("d", at(3_000)));
        assert!(timing.was_read("d", at(3_001)));
        assert!(!timing.is_time_to_read("d", at(32_000)));
        assert!(timing.is_time_to_read("d", at(33_001)), "what it refers to may have changed");
    }
}
