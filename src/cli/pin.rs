//! `lakegate pin`: from the columns of a source to what a table promises.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;

use crate::config::contract_text;
use crate::domain::{Code, ColumnType, Contract, Error, Result, TableSchema};

use super::Ended;
use super::arguments::NameArgs;
use super::context::Context;
use super::printer::counted;

pub(super) async fn run(context: &Context<'_>, args: &NameArgs) -> Result<(), Ended> {
    let (pipeline, schema) = context
        .looking(async |engine| {
            let pipeline = engine.pipeline(&args.name)?;
            Ok((pipeline.clone(), engine.columns_to_pin(pipeline).await?))
        })
        .await?;
    let name = &pipeline.name;
    let file = Contract::file_of(name);
    let changes = changes(pipeline.contract.as_ref(), &schema);
    let written = pipeline.contract.is_none() || !changes.is_empty();
    if written {
        write(&context.dir.join(&file), &contract_text(name, &schema))?;
    }
    if context.printer.is_json() {
        let columns = schema.columns.len();
        context.printer.json(
            &json!({ "pipeline": name, "file": file, "columns": columns, "written": written, "changes": changes }),
        );
    } else if !written {
        context.printer.line(&format!("{name}: {} promises what the source has already", file.display()));
    } else {
        let columns = counted(schema.columns.len() as u64, "column");
        context.printer.line(&format!("{name}: wrote {}, with {columns}", file.display()));
        changes.iter().for_each(|change| context.printer.line(&format!("  {change}")));
    }
    Ok(())
}

/// What becomes of an earlier promise, a line each.
fn changes(before: Option<&Contract>, schema: &TableSchema) -> Vec<String> {
    let Some(before) = before else { return Vec::new() };
    let spelled = |ty: ColumnType, nullable: bool| if nullable { ty.to_string() } else { format!("{ty} not null") };
    let mut changes = Vec::new();
    for (at, column) in schema.columns.iter().enumerate() {
        let is = spelled(column.ty, column.nullable);
        let Some(pinned) = before.column(&column.name) else {
            changes.push(format!("`{}` {is} is new", column.name));
            continue;
        };
        // A key is never null, whether the file says so or not.
        let was = spelled(pinned.ty, pinned.nullable && !schema.key.contains(&at));
        if was != is {
            changes.push(format!("`{}` was {was} and is {is}", column.name));
        }
    }
    let gone = before.columns.iter().filter(|pinned| schema.position(&pinned.name).is_none());
    changes.extend(gone.map(|pinned| format!("`{}` {} is gone", pinned.name, spelled(pinned.ty, pinned.nullable))));
    changes
}

/// Writes the file in one go: whoever reads it meanwhile sees the old promise or the new one.
fn write(file: &Path, text: &str) -> Result<()> {
    let write = || -> io::Result<()> {
        let folder = file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let readable = fs::Permissions::from_mode(0o666);
        let mut whole = tempfile::Builder::new().prefix(".pin").permissions(readable).tempfile_in(folder)?;
        io::Write::write_all(&mut whole, text.as_bytes())?;
        whole.persist(file)?;
        Ok(())
    };
    write().map_err(|error| {
        Error::new(Code::UnreadableFile, format!("{} cannot be written: {error}", file.display()))
            .hint("check the folder's permissions")
    })
}
