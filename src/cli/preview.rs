//! `lakegate preview`: what a source is, before anything is declared.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use serde_json::json;

use crate::domain::{Error, Result, SourceSpec};
use crate::source::{COMMENT, Source};

use super::arguments::{Output, PreviewArgs};
use super::context::Context;
use super::printer::{Printer, bytes, counted};
use super::{Ended, key_candidates};

/// Bytes that reading may hold.
const BUDGET: u64 = 128 * 1024 * 1024;
/// The widest cell of a table for people, in characters.
const CELL: usize = 40;

pub(super) async fn run(context: &Context<'_>, args: &PreviewArgs) -> Result<(), Ended> {
    let source = open(context, &args.source).await?;
    let limit = if args.all { usize::MAX } else { args.limit };
    if context.printer.output() == Output::Ndjson {
        return Ok(rows_as_json(*context.printer, source, limit).await?);
    }
    let candidates = key_candidates::by_name(source.schema());
    if context.printer.is_json() {
        context.printer.json(&describe(&source, &candidates));
        return Ok(());
    }
    let size = source.size();
    let line = |title: &str, text: String| context.printer.line(&format!("{title:<10} {text}"));
    line("source", source.address().to_owned());
    line("format", format!("{}, version {}", source.format(), source.version().version));
    if !source.features().is_empty() {
        line("features", source.features().join(", "));
    }
    let rows = size.rows.map_or_else(|| "an unknown number of rows".to_owned(), |rows| counted(rows, "row"));
    line("size", format!("{rows}, {}, {}", counted(size.files, "file"), bytes(size.bytes)));
    if !source.partition_columns().is_empty() {
        line("partitions", source.partition_columns().join(", "));
    }
    line("keys", if candidates.is_empty() { "no column looks like one".to_owned() } else { candidates.join(", ") });
    let columns = source.schema().fields().iter().map(|field| {
        let comment = field.metadata().get(COMMENT).cloned().unwrap_or_default();
        let null = if field.is_nullable() { "" } else { "not null" };
        vec![field.name().clone(), field.data_type().to_string(), null.to_owned(), comment]
    });
    context.printer.line("");
    context.printer.table(&["column", "type", "", "comment"], columns.collect());
    context.printer.line("");
    rows_as_table(*context.printer, source, limit).await?;
    Ok(())
}

/// Opens a source given on the command line.
pub(super) async fn open(context: &Context<'_>, address: &str) -> Result<Arc<Source>> {
    let spec = SourceSpec::Auto(address.to_owned());
    let current = std::env::current_dir().unwrap_or_else(|_| context.dir.clone());
    Ok(Arc::new(Source::open(&spec, &context.source_context(&current)).await?))
}

fn describe(source: &Source, candidates: &[String]) -> serde_json::Value {
    let size = source.size();
    let columns: Vec<_> = source
        .schema()
        .fields()
        .iter()
        .map(|field| {
            json!({
                "name": field.name(),
                "type": field.data_type().to_string(),
                "nullable": field.is_nullable(),
                "comment": field.metadata().get(COMMENT),
            })
        })
        .collect();
    json!({
        "source": source.address(),
        "format": source.format().to_string(),
        "version": source.version().version,
        "features": source.features(),
        "files": size.files,
        "bytes": size.bytes,
        "rows": size.rows,
        "partition_columns": source.partition_columns(),
        "key_candidates": candidates,
        "columns": columns,
    })
}

/// Calls `each` with the source's batches, cut to `limit` rows in all, on a thread that may block.
async fn read(
    source: Arc<Source>,
    limit: usize,
    mut each: impl FnMut(&RecordBatch) -> Result<()> + Send + 'static,
) -> Result<()> {
    let read = move || {
        let mut scan = source.scan(None, 1, BUDGET)?;
        let Some(worker) = scan.workers.first_mut() else { return Ok(()) };
        let mut left = limit;
        while left > 0 {
            let Some(batch) = worker.next()? else { break };
            let batch = batch.slice(0, batch.num_rows().min(left));
            left -= batch.num_rows();
            each(&batch)?;
        }
        Ok(())
    };
    tokio::task::spawn_blocking(read).await.map_err(|error| Error::internal("reading stopped").because(error))?
}

async fn rows_as_json(printer: Printer, source: Arc<Source>, limit: usize) -> Result<()> {
    read(source, limit, move |batch| {
        let mut text = Vec::new();
        let mut writer = arrow_json::WriterBuilder::new()
            .with_explicit_nulls(true)
            .build::<_, arrow_json::writer::LineDelimited>(&mut text);
        writer.write(batch).and_then(|()| writer.finish()).map_err(|error| {
            Error::new(crate::domain::Code::UnsupportedType, format!("rows cannot be shown as JSON: {error}"))
        })?;
        drop(writer);
        text.pop();
        printer.bytes(&text);
        Ok(())
    })
    .await
}

async fn rows_as_table(printer: Printer, source: Arc<Source>, limit: usize) -> Result<()> {
    let header: Vec<String> = source.schema().fields().iter().map(|field| field.name().clone()).collect();
    read(source, limit, move |batch| {
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        printer.table(&header, cells(batch)?);
        Ok(())
    })
    .await
}

fn cells(batch: &RecordBatch) -> Result<Vec<Vec<String>>> {
    let options = FormatOptions::default().with_null("null").with_display_error(true);
    let formatters: Vec<ArrayFormatter<'_>> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
        .collect::<Result<_, _>>()
        .map_err(|error| Error::internal("a column cannot be shown").because(error))?;
    let cell = |text: String| {
        let text = without_control(&text);
        match text.char_indices().nth(CELL) {
            Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
            None => text,
        }
    };
    Ok((0..batch.num_rows())
        .map(|row| formatters.iter().map(|formatter| cell(formatter.value(row).to_string())).collect())
        .collect())
}

/// Text whose control characters are escaped: data must not drive a terminal.
fn without_control(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}
