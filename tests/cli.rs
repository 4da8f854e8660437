//! The command line as its users meet it, people and programs.

mod contract;
mod doctor;
mod first_steps;
mod looking;
mod records;

use crate::support::lake::LakeTable;
use crate::support::project::TestProject;

/// A project whose pipeline `items` reads a Delta table of three numbered rows.
async fn items() -> (TestProject, LakeTable) {
    let project = TestProject::new().await;
    std::fs::write(project.path("lakegate.yaml"), "project: shop\n").unwrap();
    let (schema, batch) = LakeTable::numbered(0..3);
    let table = LakeTable::create(&project.path("lake/items"), &schema, vec![batch]).await;
    project.pipeline("items", "source: lake/items\nprimary_key: [id]\n");
    (project, table)
}
