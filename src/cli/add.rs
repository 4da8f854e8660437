//! `lakegate add`: from a source to a pipeline file.

use std::fs::OpenOptions;
use std::io::Write as _;

use serde_json::json;

use crate::domain::{Code, Error, Result, TableName};
use crate::encode::plan_columns;

use super::arguments::AddArgs;
use super::context::Context;
use super::preview::open;
use super::{Ended, key_candidates};

pub(super) async fn run(context: &Context<'_>, args: &AddArgs) -> Result<(), Ended> {
    let name = match &args.name {
        Some(name) => TableName::new(name.clone())?,
        None => name_of(&args.source)?,
    };
    let file = context.dir.join("pipelines").join(format!("{name}.yaml"));
    if file.exists() {
        return Err(Error::new(Code::WouldOverwrite, format!("{} exists already", file.display()))
            .hint("give the table another name with --name")
            .into());
    }
    let source = open(context, &args.source).await?;
    let proposed = args.key.is_empty();
    let key = if proposed { key_candidates::find(&source).await? } else { args.key.clone() };
    // Whatever a plan would refuse of the columns is refused here, before there is a file.
    plan_columns(source.schema(), &crate::domain::ColumnRules::default(), &key)?;
    let text = pipeline_text(&address_in_project(context, &args.source), &key);
    write_new(&file, &text)?;
    if context.printer.is_json() {
        context.printer.json(&json!({ "pipeline": name, "file": file, "primary_key": key, "key_proposed": proposed }));
    } else {
        context.printer.line(&format!("wrote {}:\n\n{text}", file.display()));
        if proposed {
            context.printer.line(&format!("the key ({}) is unique and never null in this version", key.join(", ")));
        }
        context.printer.line(&format!("next: lakegate plan {name}"));
    }
    Ok(())
}

/// The last part of the address, made into a table name.
fn name_of(source: &str) -> Result<TableName> {
    let last = source.trim_end_matches('/').rsplit(['/', '.']).find(|part| !part.is_empty() && *part != "parquet");
    let mut name: String = last
        .unwrap_or_default()
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .take(TableName::MAX_BYTES)
        .collect();
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name = format!("t_{name}").chars().take(TableName::MAX_BYTES).collect();
    }
    TableName::new(name).map_err(|error| error.hint("give the table a name with --name"))
}

/// Local paths on the command line begin in the current folder, those in a pipeline in the project's.
fn address_in_project(context: &Context<'_>, source: &str) -> String {
    if source.contains("://") {
        return source.to_owned();
    }
    let (Ok(path), Ok(project)) = (std::path::absolute(source), std::path::absolute(&context.dir)) else {
        return source.to_owned();
    };
    path.strip_prefix(&project).unwrap_or(&path).display().to_string()
}

fn pipeline_text(source: &str, key: &[String]) -> String {
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./:=@".contains(c));
    let value =
        |text: &str| if plain(text) && !text.starts_with(['@', '-', ':']) { text.to_owned() } else { quoted(text) };
    let key: Vec<String> = key.iter().map(|column| value(column)).collect();
    format!("source: {}\nprimary_key: [{}]\nschedule: every 15m\n", value(source), key.join(", "))
}

fn write_new(file: &std::path::Path, text: &str) -> Result<()> {
    let write = || {
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        OpenOptions::new().write(true).create_new(true).open(file)?.write_all(text.as_bytes())
    };
    write().map_err(|error| {
        Error::new(Code::UnreadableFile, format!("{} cannot be written: {error}", file.display()))
            .hint("check the folder's permissions, or name another project with --project")
    })
}
