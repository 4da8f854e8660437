//! The document as it is kept: made anew when the published tables are others, and not for each request.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::{Bounds, document};
use crate::domain::{Error, Result};
use crate::serve::content::Content;
use crate::serve::table::PublishedTable;

/// Keeps the document about the tables that were published last.
#[derive(Debug)]
pub(in crate::serve) struct Contract {
    bounds: Bounds,
    kept: Mutex<Option<Kept>>,
}

#[derive(Debug)]
struct Kept {
    /// The states of tables that it is about.
    serials: Vec<u64>,
    content: Arc<Content>,
}

impl Contract {
    pub(in crate::serve) fn new(bounds: Bounds) -> Self {
        Contract { bounds, kept: Mutex::default() }
    }

    /// The document about these tables, in the order of their names. Whoever comes while it is made waits for it.
    ///
    /// # Errors
    /// Only by a defect.
    pub(in crate::serve) async fn about(&self, tables: Vec<Arc<PublishedTable>>) -> Result<Arc<Content>> {
        let mut kept = self.kept.lock().await;
        let serials: Vec<u64> = tables.iter().map(|table| table.serial).collect();
        if let Some(kept) = kept.as_ref().filter(|kept| kept.serials == serials) {
            return Ok(Arc::clone(&kept.content));
        }
        let bounds = self.bounds;
        let made = spawn_blocking(move || serde_json::to_vec(&document(&tables, bounds))).await;
        let bytes = made.map_err(|error| Error::internal("the document was not made").because(error))?;
        let bytes = bytes.map_err(|error| Error::internal("the document cannot be written").because(error))?;
        // Most publishes change rows alone: what was compressed stays.
        let content = match kept.take() {
            Some(kept) if kept.content.is(&bytes) => kept.content,
            _ => Arc::new(Content::new("application/json", bytes)),
        };
        *kept = Some(Kept { serials, content: Arc::clone(&content) });
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::table::tests::table;

    fn contract() -> Contract {
        Contract::new(Bounds { page_max: 10, batch_keys_max: 10, credentials: false })
    }

    #[tokio::test]
    async fn it_is_made_once_for_the_same_tables() {
        let contract = contract();
        let orders = Arc::new(table(1, "orders"));
        let first = contract.about(vec![Arc::clone(&orders)]).await.unwrap();
        let again = contract.about(vec![Arc::clone(&orders)]).await.unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        // Another publish of the same columns.
        let same = contract.about(vec![Arc::new(table(2, "orders"))]).await.unwrap();
        assert!(Arc::ptr_eq(&first, &same));
        let more = contract.about(vec![orders, Arc::new(table(3, "things"))]).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &more));
        assert!(!Arc::ptr_eq(&more, &contract.about(Vec::new()).await.unwrap()));
    }
}
