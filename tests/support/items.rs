//! A project with one table `items` of three numbered rows, on which things can be tried.

use std::sync::Arc;

use arrow_array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray};

use super::lake::LakeTable;
use super::postgres::TestDatabase;
use super::project::TestProject;

/// The project and the lake's table.
pub(crate) struct Items {
    pub(crate) project: TestProject,
    pub(crate) lake: LakeTable,
}

impl Items {
    /// A project whose pipeline has these further lines, synced once.
    pub(crate) async fn new(further: &str) -> Items {
        let items = Items::unsynced(further).await;
        items.project.sync("items").await;
        items
    }

    /// The same before its first sync.
    pub(crate) async fn unsynced(further: &str) -> Items {
        Items::on(TestDatabase::new().await, further).await
    }

    /// The same, synced once, with the project's roles: see [`TestDatabase::alone`].
    pub(crate) async fn with_roles(further: &str) -> Items {
        let items = Items::on(TestDatabase::alone().await, further).await;
        items.project.sync("items").await;
        items
    }

    /// The same before its first sync, on this database.
    pub(crate) async fn on(database: TestDatabase, further: &str) -> Items {
        let project = TestProject::on(database);
        let (schema, batch) = LakeTable::numbered(0..3);
        let lake = LakeTable::create(&project.path("lake/items"), &schema, vec![batch]).await;
        let items = Items { project, lake };
        items.pipeline(further);
        items
    }

    /// Writes the pipeline with these further lines. Every refresh makes a generation unless they say otherwise.
    pub(crate) fn pipeline(&self, further: &str) {
        let mode = if further.contains("mode:") { "" } else { "mode: snapshot\n" };
        self.project.pipeline("items", &format!("source: lake/items\nprimary_key: [id]\n{mode}{further}"));
    }

    /// Replaces the lake's rows by three with these columns: `id`, `id_text`, `name`, `name_number`,
    /// `price` or `price_fine`. What follows the `_` says of which other type the column is, and is not in its name.
    pub(crate) async fn replace_columns(&mut self, columns: &[&str]) {
        let decimals = |precision, scale| -> ArrayRef {
            let values = Decimal128Array::from(vec![1, 2, 3]).with_precision_and_scale(precision, scale);
            Arc::new(values.unwrap())
        };
        let column = |kind: &str| -> ArrayRef {
            match kind {
                "id" | "name_number" => Arc::new(Int64Array::from(vec![0, 1, 2])),
                "id_text" | "name" => Arc::new(StringArray::from(vec!["a", "b", "c"])),
                "price" => decimals(10, 2),
                "price_fine" => decimals(12, 4),
                other => panic!("no column {other}"),
            }
        };
        let named = |kind: &&str| (kind.split('_').next().unwrap().to_owned(), column(kind));
        let batch = RecordBatch::try_from_iter(columns.iter().map(named)).unwrap();
        self.lake.replace(vec![batch]).await;
    }

    /// How many generations exist as tables.
    pub(crate) async fn generation_tables(&self) -> i64 {
        let sql = "SELECT count(*) FROM pg_class WHERE relnamespace = 'lakegate_data'::regnamespace AND relkind = 'r' \
                   AND relname LIKE '%\\_\\_g%'";
        self.project.sql().await.query_one(sql, &[]).await.unwrap().get(0)
    }
}
