//! The document as it is kept: made anew when the published tables are others, and not for each request.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::{Bounds, Shown, document};
use crate::domain::{Error, Result};
use crate::serve::content::Content;

/// Keeps the document about the tables that were published last.
#[derive(Debug)]
pub(in crate::serve) struct Contract {
    bounds: Bounds,
    /// For callers who see different things, the one that was asked for last at the end.
    kept: Mutex<Vec<Kept>>,
}

/// The most documents that are kept.
const MAX_KEPT: usize = 8;

#[derive(Debug)]
struct Kept {
    /// The states of tables that it is about, with the columns that are seen of each.
    about: Vec<About>,
    content: Arc<Content>,
}

type About = (u64, Option<Vec<usize>>);

impl Contract {
    pub(in crate::serve) fn new(bounds: Bounds) -> Self {
        Contract { bounds, kept: Mutex::default() }
    }

    /// The document about these tables, in the order of their names. Whoever comes while it is made waits for it.
    ///
    /// # Errors
    /// Only by a defect.
    pub(in crate::serve) async fn about(&self, tables: Vec<Shown>) -> Result<Arc<Content>> {
        let mut kept = self.kept.lock().await;
        let about: Vec<About> = tables.iter().map(|shown| (shown.table.serial, shown.columns.clone())).collect();
        if let Some(place) = kept.iter().position(|kept| kept.about == about) {
            let found = kept.remove(place);
            let content = Arc::clone(&found.content);
            kept.push(found);
            return Ok(content);
        }
        let bounds = self.bounds;
        let made = spawn_blocking(move || serde_json::to_vec(&document(&tables, bounds))).await;
        let bytes = made.map_err(|error| Error::internal("the document was not made").because(error))?;
        let bytes = bytes.map_err(|error| Error::internal("the document cannot be written").because(error))?;
        // Most publishes change rows alone: what was compressed stays.
        let same = kept.iter().position(|kept| kept.content.is(&bytes)).map(|place| kept.remove(place).content);
        let content = same.unwrap_or_else(|| Arc::new(Content::new("application/json", bytes)));
        if kept.len() >= MAX_KEPT {
            kept.remove(0);
        }
        kept.push(Kept { about, content: Arc::clone(&content) });
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::openapi::tests::shown;
    use crate::serve::table::tests::table;

    fn contract() -> Contract {
        Contract::new(Bounds { page_max: 10, batch_keys_max: 10, credentials: false })
    }

    #[tokio::test]
    async fn it_is_made_once_for_the_same_tables() {
        let contract = contract();
        let orders = || shown(table(1, "orders"));
        let first = contract.about(vec![orders()]).await.unwrap();
        let again = contract.about(vec![orders()]).await.unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        // Another publish of the same columns.
        let same = contract.about(vec![shown(table(2, "orders"))]).await.unwrap();
        assert!(Arc::ptr_eq(&first, &same));
        let more = contract.about(vec![orders(), shown(table(3, "things"))]).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &more));
        assert!(!Arc::ptr_eq(&more, &contract.about(Vec::new()).await.unwrap()));
    }
}
