//! `lakegate init`: a new project that runs as it is.

use std::fs;
use std::path::Path;

use crate::domain::{Code, Error, Result};

use super::Ended;
use super::arguments::InitArgs;
use super::context::Context;
use super::sample::write_lake;

/// The project's own examples, over the lake that `lakegate sample` writes.
const PIPELINES: &[(&str, &str)] = &[
    ("customers.yaml", include_str!("../../pipelines/customers.yaml")),
    ("events.yaml", include_str!("../../pipelines/events.yaml")),
    ("monthly_revenue.yaml", include_str!("../../pipelines/monthly_revenue.yaml")),
    ("order_lines.yaml", include_str!("../../pipelines/order_lines.yaml")),
    ("orders.yaml", include_str!("../../pipelines/orders.yaml")),
];

const PROJECT: &str = "\
# All settings have defaults: without a `postgres` URL, Lakegate runs a Postgres of its own in .lakegate/.
# postgres: ${DATABASE_URL}
";

const IGNORED: &str = "/.lakegate/\n/sample/\n";

pub(super) async fn run(context: &Context<'_>, args: &InitArgs) -> Result<(), Ended> {
    let dir = args.dir.as_ref().unwrap_or(&context.dir);
    for (file, _) in PIPELINES {
        refuse_existing(&dir.join("pipelines").join(file))?;
    }
    refuse_existing(&dir.join("lakegate.yaml"))?;
    let sample = dir.join("sample");
    let has_sample = sample.exists();
    fs::create_dir_all(dir.join("pipelines")).map_err(|error| unwritable(dir, error))?;
    for (file, text) in PIPELINES {
        write(&dir.join("pipelines").join(file), text)?;
    }
    write(&dir.join("lakegate.yaml"), PROJECT)?;
    if !dir.join(".gitignore").exists() {
        write(&dir.join(".gitignore"), IGNORED)?;
    }
    if !has_sample {
        write_lake(context, &sample).await?;
    }
    let next = match dir.to_str() {
        Some(".") => "lakegate up".to_owned(),
        _ => format!("lakegate --project {} up", dir.display()),
    };
    if context.printer.is_json() {
        context.printer.json(&serde_json::json!({ "project": dir, "next": next }));
    } else {
        context.printer.line(&format!(
            "a project with {} pipelines is in {}; next: {next}",
            PIPELINES.len(),
            dir.display()
        ));
    }
    Ok(())
}

fn refuse_existing(path: &Path) -> Result<()> {
    if path.exists() {
        return Err(Error::new(Code::WouldOverwrite, format!("{} exists already", path.display()))
            .hint("choose an empty folder: lakegate init DIR"));
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| unwritable(path, error))
}

fn unwritable(path: &Path, error: std::io::Error) -> Error {
    Error::new(Code::UnreadableFile, format!("{} cannot be written: {error}", path.display()))
        .hint("check the folder's permissions")
}
