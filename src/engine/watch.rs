//! Looking whether a source has moved on, again and again.

use std::fmt;

use crate::domain::{Pipeline, Result};
use crate::postgres::Session;
use crate::source::Source;

use super::Engine;

/// What a look at a source found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// The pipeline is paused: whatever the source holds is left alone.
    Paused,
    /// The source stands where it stood when it was published.
    Same,
    /// It may hold something newer, or nothing is published.
    Moved,
}

/// Looks at one source, with a connection that stays open between looks.
#[derive(Default)]
pub struct Watcher {
    session: Option<Session>,
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").field("connected", &self.session.is_some()).finish()
    }
}

impl Watcher {
    /// Looks once, asking as little as possible.
    ///
    /// # Errors
    /// Those of the source and of the server.
    pub async fn look(&mut self, engine: &Engine, pipeline: &Pipeline) -> Result<Watched> {
        let session = match self.session.take() {
            Some(session) if !session.is_closed() => session,
            _ => engine.control_session().await?,
        };
        let watched = engine.watch(&session, pipeline).await;
        self.session = Some(session);
        watched
    }
}

impl Engine {
    async fn watch(&self, session: &Session, pipeline: &Pipeline) -> Result<Watched> {
        let name = &pipeline.name;
        if self.is_paused(session, pipeline).await? {
            return Ok(Watched::Paused);
        }
        let Some(published) = self.control.published(&**session, name).await? else { return Ok(Watched::Moved) };
        let Some(live) = self.control.generation(&**session, published.generation).await? else {
            return Ok(Watched::Moved);
        };
        let moved = Source::has_moved(&pipeline.source, &self.sources, &live.source).await;
        Ok(if moved.map_err(|error| error.at(name))? { Watched::Moved } else { Watched::Same })
    }
}
