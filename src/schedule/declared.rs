//! Which pipelines run together, and how they are declared now.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch::Receiver;

use crate::domain::{Pipeline, Schedule, TableName};
use crate::engine::{Engine, Live};

use super::watch::Watch;

/// What is one run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Together {
    /// A pipeline without a group.
    Alone(TableName),
    /// The pipelines of a group.
    Group(TableName),
}

impl Together {
    fn of(pipeline: &Pipeline) -> Together {
        match &pipeline.group {
            Some(group) => Together::Group(group.clone()),
            None => Together::Alone(pipeline.name.clone()),
        }
    }
}

/// The scheduled pipelines, by what runs together.
pub(super) fn scheduled(engine: &Engine) -> BTreeMap<Together, Vec<Pipeline>> {
    let mut groups: BTreeMap<Together, Vec<Pipeline>> = BTreeMap::new();
    for pipeline in engine.project().pipelines.iter().filter(|pipeline| pipeline.schedule != Schedule::Manual) {
        groups.entry(Together::of(pipeline)).or_default().push(pipeline.clone());
    }
    groups
}

/// What runs together as it is declared, and the engine of the project in which it is.
pub(super) struct Declared {
    live: Live,
    changes: Receiver<Arc<Engine>>,
    together: Together,
    pub(super) engine: Arc<Engine>,
    /// Empty where it is no longer declared, or no longer scheduled.
    pub(super) group: Vec<Pipeline>,
}

impl Declared {
    /// As it is now.
    pub(super) fn new(live: &Live, together: &Together) -> Declared {
        let mut changes = live.follow();
        let engine = changes.borrow_and_update().clone();
        let group = scheduled(&engine).remove(together).unwrap_or_default();
        Declared { live: live.clone(), changes, together: together.clone(), engine, group }
    }

    /// Watches for the pipelines; `redefined` where they were others before.
    pub(super) fn watches(&self, redefined: bool) -> Vec<Watch> {
        self.group.iter().map(|_| Watch::new(redefined)).collect()
    }

    /// Whether it is declared otherwise by now.
    pub(super) fn is_outdated(&self) -> bool {
        let now = self.live.now();
        !Arc::ptr_eq(&now, &self.engine) && !is_same(&self.group, &self.of(&now))
    }

    /// Waits until it is declared otherwise, and then is what is declared. What changes elsewhere in the project goes by.
    pub(super) async fn redefined(&mut self) {
        loop {
            let now = self.changes.borrow_and_update().clone();
            if !Arc::ptr_eq(&now, &self.engine) {
                let group = self.of(&now);
                self.engine = now;
                if !is_same(&self.group, &group) {
                    self.group = group;
                    return;
                }
            }
            if self.changes.changed().await.is_err() {
                // Nothing will be declared any more.
                std::future::pending::<()>().await;
            }
        }
    }

    /// A run that was overtaken by another declaration may have published again what that has just replaced.
    pub(super) fn after_run(&self) {
        if self.is_outdated() {
            self.live.look_again();
        }
    }

    fn of(&self, engine: &Engine) -> Vec<Pipeline> {
        scheduled(engine).remove(&self.together).unwrap_or_default()
    }
}

fn is_same(one: &[Pipeline], other: &[Pipeline]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.is_same(other))
}
