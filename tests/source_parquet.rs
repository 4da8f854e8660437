//! Parquet files without a log.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array as _, ArrayRef, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    TimestampNanosecondArray,
};
use arrow_schema::DataType;
use chrono::NaiveDate;
use lakegate::domain::{Code, ParquetSource, SourceSpec, StorageOptions};
use lakegate::source::{ScanWorker, Source};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::data_type::{Int96, Int96Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::support::rows::{BUDGET, RowCounts, bare, context, count, drain, local, read};
use crate::support::s3::S3Server;

#[tokio::test(flavor = "multi_thread")]
async fn hive_folders_become_columns() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("year=2024/day=2024-02-29/city=a%2Fb/x.parquet"), [("id", ints(&[1]))]);
    write(&dir.path().join("year=2025/day=2025-01-01/city=__HIVE_DEFAULT_PARTITION__/y.parquet"), [("id", ints(&[2]))]);
    write(&dir.path().join("_spark_metadata/z.parquet"), [("id", ints(&[3]))]);
    fs::write(dir.path().join("_SUCCESS"), "").unwrap();
    let (source, batches) = read(&local(dir.path())).await.unwrap();
    assert_eq!(source.partition_columns(), ["year", "day", "city"]);
    let types: Vec<&DataType> = source.schema().fields().iter().map(|field| field.data_type()).collect();
    assert_eq!(types, [&DataType::Int32, &DataType::Int64, &DataType::Date32, &DataType::Utf8]);
    assert_eq!(rows(&source, &batches), ["1 | 2024 | 2024-02-29 | a/b", "2 | 2025 | 2025-01-01 | NULL"]);
    assert_eq!(source.size().rows, Some(2));
    assert_eq!(source.version().version.len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn hive_folders_stay_folders_when_told_so() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("month=01/x.parquet"), [("id", ints(&[1]))]);
    let text = read(&local(dir.path())).await.unwrap().0;
    assert_eq!(text.schema().field(1).data_type(), &DataType::Utf8, "01 is no number: it would lose its zero");
    let uri = dir.path().to_str().unwrap().to_owned();
    let options = StorageOptions::new();
    let spec = SourceSpec::Parquet(ParquetSource { uri, hive_partitioning: false, options });
    let (source, _) = read(&spec).await.unwrap();
    assert_eq!(source.schema().fields().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_different_but_compatible_schemas_are_one_table() {
    let dir = tempfile::tempdir().unwrap();
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    write(&dir.path().join("a.parquet"), [("id", ints(&[1])), ("gone", text)]);
    let wide: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX]));
    let float: ArrayRef = Arc::new(Float64Array::from(vec![0.5]));
    write(&dir.path().join("b.parquet"), [("new", float), ("id", wide)]);
    let (source, batches) = read(&local(dir.path())).await.unwrap();
    assert_eq!(rows(&source, &batches), ["1 | x | NULL", "9223372036854775807 | NULL | 0.5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn incompatible_schemas_are_refused_with_both_files() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("a.parquet"), [("id", ints(&[1]))]);
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    write(&dir.path().join("b.parquet"), [("id", text)]);
    let error = Source::open(&local(dir.path()), &context()).await.unwrap_err();
    assert_eq!(error.code(), Code::SchemaMismatch);
    assert!(error.detail().contains("a.parquet") && error.detail().contains("b.parquet"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_glob_takes_what_it_matches() {
    let dir = tempfile::tempdir().unwrap();
    for (name, id) in [("a/1.parquet", 1), ("a/2.parquet", 2), ("b/1.parquet", 3)] {
        write(&dir.path().join(name), [("id", ints(&[id]))]);
    }
    for (pattern, expected) in
        [("*/1.parquet", vec!["1", "3"]), ("a/*", vec!["1", "2"]), ("**/*.parquet", vec!["1", "2", "3"])]
    {
        let spec = SourceSpec::Auto(format!("{}/{pattern}", dir.path().display()));
        let (source, batches) = read(&spec).await.unwrap();
        assert_eq!(rows(&source, &batches), expected, "{pattern}");
    }
    let none = SourceSpec::Auto(format!("{}/*.csv", dir.path().display()));
    assert_eq!(Source::open(&none, &context()).await.unwrap_err().code(), Code::SourceNotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_changes_with_the_files_and_only_then() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("a.parquet"), [("id", ints(&[1]))]);
    let version = || async { Source::current_version(&local(dir.path()), &context()).await.unwrap() };
    let first = version().await;
    assert_eq!(first, version().await);
    assert_eq!(&first, Source::open(&local(dir.path()), &context()).await.unwrap().version());
    write(&dir.path().join("b.parquet"), [("id", ints(&[2]))]);
    assert_ne!(first, version().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn int96_holds_from_the_year_1_to_9999() {
    let dir = tempfile::tempdir().unwrap();
    let instants = ["0001-01-01", "1582-10-15", "1969-12-31", "2262-04-12", "9999-12-31"];
    let days: Vec<i64> = instants.iter().map(|day| day.parse::<NaiveDate>().unwrap()).map(days_of).collect();
    write_int96(&dir.path().join("t.parquet"), &days);
    let (source, batches) = read(&local(dir.path())).await.unwrap();
    assert_eq!(source.schema().field(0).data_type().to_string(), "Timestamp(µs, \"UTC\")");
    let mut micros: Vec<i64> = batches
        .iter()
        .flat_map(|batch| batch.column(0).as_primitive::<TimestampMicrosecondType>().values().to_vec())
        .collect();
    micros.sort_unstable();
    let noon = 43_200 * 1_000_000;
    assert_eq!(micros, days.iter().map(|day| day * 86_400_000_000 + noon).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_row_group_does_not_need_memory_for_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (expected, size) = write_large(&dir.path().join("lake/large.parquet"));
    let budget = 4 * 1024 * 1024;
    assert!(size > 6 * budget, "{size} bytes do not show anything");
    let server = S3Server::start(dir.path()).await;
    for spec in [local(&dir.path().join("lake")), server.parquet("s3://lake/large.parquet")] {
        let source = Source::open(&spec, &context()).await.unwrap();
        let scan = source.scan(None, 1, budget).unwrap();
        let totals = Arc::clone(&scan.totals);
        let batches = tokio::task::spawn_blocking(move || drain(scan)).await.unwrap().unwrap();
        assert!(totals.held_peak() <= budget / 2, "{} bytes held", totals.held_peak());
        assert!(totals.bytes_read() < size * 2, "{} bytes read of {size}", totals.bytes_read());
        let largest = batches.iter().map(RecordBatch::get_array_memory_size).max().unwrap();
        assert!(largest < budget as usize / 2, "a batch of {largest} bytes");
        assert_eq!(count(&batches, &bare(source.schema())), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_large_file_is_read_by_all_workers() {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create(dir.path().join("many.parquet")).unwrap();
    let batch = RecordBatch::try_from_iter([("id", ints(&(0..1000).collect::<Vec<_>>()))]).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(100)).build();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let source = Source::open(&local(dir.path()), &context()).await.unwrap();
    let mut scan = source.scan(None, 2, BUDGET).unwrap();
    let (mut first, mut second) = (scan.workers.remove(0), scan.workers.remove(0));
    let rows = tokio::task::spawn_blocking(move || {
        // In turns: were the file one worker's alone, the other would get nothing.
        let mut rows = [0, 0];
        loop {
            let (a, b) = (first.next().unwrap(), second.next().unwrap());
            if a.is_none() && b.is_none() {
                return rows;
            }
            rows[0] += a.map_or(0, |batch| batch.num_rows());
            rows[1] += b.map_or(0, |batch| batch.num_rows());
        }
    });
    let rows = rows.await.unwrap();
    assert_eq!(rows[0] + rows[1], 1000);
    assert!(rows[0] > 0 && rows[1] > 0, "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_large_row_group_is_read_by_all_workers() {
    let dir = tempfile::tempdir().unwrap();
    let rows: i64 = 400_000;
    let text = |row: i64| (row % 3 > 0).then(|| format!("the text of row {row}"));
    let list = |row: i64| (row % 5 > 0).then(|| (0..row % 5).map(|item| Some(row + item)).collect::<Vec<_>>());
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let texts: ArrayRef = Arc::new((0..rows).map(text).collect::<StringArray>());
    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>((0..rows).map(list)));
    let path = dir.path().join("lake/one.parquet");
    write(&path, [("id", ids), ("text", texts), ("list", lists)]);
    let size = fs::metadata(path).unwrap().len();
    assert!(size > BUDGET / 6, "{size} bytes are held as a whole by each of three workers");
    let server = S3Server::start(dir.path()).await;
    let (near, far) = (local(&dir.path().join("lake")), server.parquet("s3://lake/one.parquet"));
    // Through windows, for which bytes before those of interest are fetched once more; and held as a whole, once for all of them.
    for (spec, budget, most) in [(&near, BUDGET, 4 * size), (&far, BUDGET, 3 * size), (&far, 12 * size, size)] {
        let source = Source::open(spec, &context()).await.unwrap();
        let scan = source.scan(None, 3, budget).unwrap();
        let (mut workers, totals) = (scan.workers, scan.totals);
        let seen = tokio::task::spawn_blocking(move || {
            let (mut seen, mut resting) = (vec![Vec::new(); 3], 0);
            // In turns, until none has anything left.
            for number in (0..3).cycle() {
                let Some((batch, place)) = workers[number].next_placed().unwrap() else {
                    resting += 1;
                    if resting == 3 {
                        return seen;
                    }
                    continue;
                };
                resting = 0;
                let (texts, lists) = (batch.column(1).as_string::<i32>(), batch.column(2).as_list::<i32>());
                for (offset, &id) in batch.column(0).as_primitive::<Int64Type>().values().iter().enumerate() {
                    assert_eq!(id, (place.first_row + offset) as i64, "{place:?}");
                    assert_eq!(texts.is_valid(offset).then(|| texts.value(offset).to_owned()), text(id));
                    let items = lists.is_valid(offset).then(|| lists.value(offset));
                    let items = items.map(|items| items.as_primitive::<Int64Type>().iter().collect::<Vec<_>>());
                    assert_eq!(items, list(id));
                    seen[number].push(id);
                }
            }
            seen
        });
        let seen = seen.await.unwrap();
        for ids in &seen {
            assert!(ids.len() as i64 > rows / 10, "{:?}", seen.iter().map(Vec::len).collect::<Vec<_>>());
        }
        let mut all = seen.concat();
        all.sort_unstable();
        assert_eq!(all, (0..rows).collect::<Vec<_>>());
        // The end of the file, where its footer is, comes before.
        assert!(totals.bytes_read() < most + 100_000, "{} bytes read of {size}", totals.bytes_read());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_workers_read_than_there_is_room_for_dictionaries() {
    let dir = tempfile::tempdir().unwrap();
    let rows = 400_000;
    write_dictionaries(&dir.path().join("dictionaries.parquet"), rows);
    let source = Source::open(&local(dir.path()), &context()).await.unwrap();

    let read_in_turns = async |budget: u64| {
        let mut workers = source.scan(None, 3, budget).unwrap().workers;
        let ids = tokio::task::spawn_blocking(move || {
            let mut ids = vec![Vec::new(); workers.len()];
            loop {
                let mut resting = true;
                for (worker, ids) in workers.iter_mut().zip(&mut ids) {
                    if let Some(batch) = worker.next().unwrap() {
                        resting = false;
                        ids.extend_from_slice(batch.column(0).as_primitive::<Int64Type>().values());
                    }
                }
                if resting {
                    return ids;
                }
            }
        });
        ids.await.unwrap()
    };
    // Half of the budget is for dictionaries; one reader gets what it needs even so.
    for (budget, readers) in [(1 << 20, 1), (7 << 20, 2), (12 << 20, 3)] {
        let ids = read_in_turns(budget).await;
        assert_eq!(ids.iter().filter(|ids| !ids.is_empty()).count(), readers, "{budget}");
        let mut all = ids.concat();
        all.sort_unstable();
        assert_eq!(all, (0..rows).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_share_are_given_what_those_decode_who_have_room() {
    let dir = tempfile::tempdir().unwrap();
    let rows = 400_000;
    write_dictionaries(&dir.path().join("dictionaries.parquet"), rows);
    let source = Source::open(&local(dir.path()), &context()).await.unwrap();
    // Whoever reads may be done before the threads of the others run: they get another chance.
    for _ in 0..100 {
        let scan = source.scan(None, 3, 1 << 20).unwrap();
        let totals = Arc::clone(&scan.totals);
        let reading = scan.workers.into_iter().map(ScanWorker::sharing).map(|mut worker| {
            tokio::task::spawn_blocking(move || {
                let mut ids = Vec::new();
                while let Some((batch, place)) = worker.next_placed().unwrap() {
                    let column = batch.column(0).as_primitive::<Int64Type>().values();
                    assert_eq!(column[0] as u64, place.row_group_start + place.first_row as u64);
                    ids.extend_from_slice(column);
                }
                ids
            })
        });
        let mut ids = Vec::new();
        for read in reading.collect::<Vec<_>>() {
            ids.push(read.await.unwrap());
        }
        let mut all = ids.concat();
        all.sort_unstable();
        assert_eq!(all, (0..rows).collect::<Vec<_>>());
        assert_eq!(totals.rows_yielded(), rows as u64);
        if ids.iter().all(|ids| !ids.is_empty()) {
            return;
        }
    }
    panic!("somebody was given nothing a hundred times");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_share_end_with_the_one_that_fails() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dictionaries.parquet");
    write_dictionaries(&path, 400_000);
    let mut bytes = fs::read(&path).unwrap();
    // All but the first row groups and the footer.
    let (middle, end) = (bytes.len() / 2, bytes.len() - 10_000);
    bytes[middle..end].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let source = Source::open(&local(dir.path()), &context()).await.unwrap();
    let workers = source.scan(None, 3, 1 << 20).unwrap().workers;
    let reading = workers.into_iter().map(ScanWorker::sharing).map(|mut worker| {
        tokio::task::spawn_blocking(move || {
            loop {
                match worker.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => return None,
                    Err(error) => return Some(error.code()),
                }
            }
        })
    });
    for read in reading.collect::<Vec<_>>() {
        assert_eq!(read.await.unwrap(), Some(Code::SourceCorrupt));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    write(&path, [("id", ints(&(0..10_000).collect::<Vec<_>>()))]);
    let whole = fs::read(&path).unwrap();
    let mut wild = whole.clone();
    wild[4..whole.len() / 2].fill(0xff);
    let damages = [
        ("truncated", whole[..whole.len() / 2].to_vec()),
        ("empty", Vec::new()),
        ("wild", wild),
        ("text", b"a,b\n1,2\n".to_vec()),
    ];
    for (damage, bytes) in damages {
        fs::write(&path, bytes).unwrap();
        let error = read(&local(dir.path())).await.unwrap_err();
        assert_eq!(error.code(), Code::SourceCorrupt, "{damage}: {error}");
        assert!(error.detail().contains("x.parquet"), "{damage}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_cut_short_after_it_was_opened_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    write(&path, [("id", ints(&[1, 2, 3]))]);
    let source = Source::open(&local(dir.path()), &context()).await.unwrap();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 10]).unwrap();
    let scan = source.scan(None, 1, BUDGET).unwrap();
    let error = tokio::task::spawn_blocking(move || drain(scan)).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::SourceCorrupt, "{error}");
    assert!(error.detail().contains("x.parquet"), "{error}");
}

// Elsewhere files are asked for by name each time, as those of any store.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_replaced_while_it_is_read_stays_what_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    let (expected, _) = write_large(&path);
    let source = Source::open(&local(dir.path()), &context()).await.unwrap();
    let mut worker = source.scan(None, 1, 4 * 1024 * 1024).unwrap().workers.remove(0);
    let batches = tokio::task::spawn_blocking(move || {
        let mut batches = vec![worker.next().unwrap().unwrap()];
        let other = path.with_extension("other");
        write(&other, [("id", ints(&[1, 2, 3]))]);
        fs::rename(other, path).unwrap();
        batches.extend(std::iter::from_fn(|| worker.next().unwrap()));
        batches
    });
    assert_eq!(count(&batches.await.unwrap(), &bare(source.schema())), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn nanoseconds_stay_nanoseconds() {
    let dir = tempfile::tempdir().unwrap();
    let nanos: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1_000_000_001]));
    write(&dir.path().join("x.parquet"), [("at", nanos)]);
    let (source, batches) = read(&local(dir.path())).await.unwrap();
    assert_eq!(rows(&source, &batches), ["1970-01-01T00:00:01.000000001"]);
}

fn ints(values: &[i32]) -> ArrayRef {
    Arc::new(Int32Array::from(values.to_vec()))
}

fn rows(source: &Source, batches: &[RecordBatch]) -> Vec<String> {
    count(batches, &bare(source.schema())).into_keys().collect()
}

fn write<const N: usize>(path: &Path, columns: [(&str, ArrayRef); N]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Row groups of 100,000 rows with two dictionaries of 800,000 bytes each, as all values of `id` and `other` differ.
fn write_dictionaries(path: &Path, rows: i64) {
    let column = |step: i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values((0..rows).map(|row| row * step))) };
    let batch = RecordBatch::try_from_iter([("id", column(1)), ("other", column(7))]).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(100_000)).build();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn days_of(date: NaiveDate) -> i64 {
    date.signed_duration_since(NaiveDate::default()).num_days()
}

/// Noon of each day since 1970.
fn write_int96(path: &Path, days: &[i64]) {
    let julian_day_of_1970 = 2_440_588;
    let noon: u64 = 43_200_000_000_000;
    let values: Vec<Int96> = days
        .iter()
        .map(|day| {
            let mut value = Int96::new();
            value.set_data(noon as u32, (noon >> 32) as u32, (day + julian_day_of_1970) as u32);
            value
        })
        .collect();
    let schema = Arc::new(parse_message_type("message t { required int96 at; }").unwrap());
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int96Type>().write_batch(&values, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

/// One row group of values that do not compress; the rows, and the file's size.
fn write_large(path: &Path) -> (RowCounts, u64) {
    let properties = WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(Some(usize::MAX))
        .build();
    let batch = |from: i64| {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + 1000));
        let texts = (from..from + 1000).map(|id| format!("{id:0>1500}"));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
        RecordBatch::try_from_iter([("id", ids), ("text", texts)]).unwrap()
    };
    let schema = batch(0).schema();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), schema.clone(), Some(properties)).unwrap();
    let mut batches = Vec::new();
    for from in 0..20 {
        batches.push(batch(from * 1000));
        writer.write(batches.last().unwrap()).unwrap();
    }
    assert_eq!(writer.close().unwrap().num_row_groups(), 1);
    (count(&batches, &bare(&schema)), fs::metadata(path).unwrap().len())
}
