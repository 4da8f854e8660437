//! What a person sees for each kind of bad input: every message stands in a snapshot, as the built binary prints it.

mod config;
mod disk_full;
mod listening;
mod rows;
mod server;
mod source;

use crate::support::project::TestProject;

/// Holds the message of a command that a person has to mend to its snapshot.
macro_rules! refused {
    ($name:literal, $project:expr, $($argument:literal)+ $(, $found:expr => $shown:literal)*) => {{
        let arguments = [$($argument),+];
        let ran = $project.run(&arguments).await;
        let shown = crate::support::shown::refusal(&$project, &ran, &[$(($found, $shown)),*]);
        assert_eq!(ran.code, Some(1), "{shown}");
        insta::assert_snapshot!($name, format!("lakegate {}\n{shown}", arguments.join(" ")));
    }};
}
use refused;

/// A project with this pipeline `items`.
async fn items(yaml: &str) -> TestProject {
    let project = TestProject::new().await;
    // Without it the first command would write one, and say so.
    std::fs::write(project.path("lakegate.yaml"), "project: shop\n").unwrap();
    project.pipeline("items", yaml);
    project
}

/// What most pipelines here declare.
const ITEMS: &str = "source: lake/items\nprimary_key: [id]\n";
