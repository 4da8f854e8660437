//! What is kept of the files of a published state, so that a later run can tell what changed since.
//!
//! Nothing but the files themselves says what a folder held, and files that are gone say nothing. So their paths, sizes
//! and entity tags are kept with the generation, as hashes. With them are kept the number of rows and
//! the columns of each file, so that the footers of unchanged files need not be read again.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow_schema::{Schema, SchemaRef};
use twox_hash::XxHash3_128;

use super::KnownFile;
use super::footers::Footer;
use super::listing::Listed;

/// What a record begins with; the digit grows when its form changes.
const MAGIC: &[u8; 4] = b"LGF1";
/// The longest record, in bytes: about 600,000 files.
const BYTES_MAX: usize = 16 << 20;
/// Of a file: the hashes of its path and of its state, its rows, and which schema it has.
const FILE_BYTES: usize = 8 + 8 + 8 + 2;
/// The most different schemas of files.
const SCHEMAS_MAX: usize = 256;

/// The files of one state of a source.
#[derive(Debug)]
pub(super) struct Record {
    /// The version of that state.
    pub(super) version: String,
    /// The columns of the source as a whole.
    pub(super) schema: SchemaRef,
    /// By the hash of their paths.
    files: HashMap<u64, Known>,
}

#[derive(Debug)]
struct Known {
    /// The hash of size and tag.
    state: u64,
    footer: Footer,
}

/// How the files of a listing stand to those of a record.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Files that only the listing has, by their places in it.
    pub(super) added: Vec<usize>,
    /// Files that both have, but not the same, by their places in the listing.
    pub(super) replaced: Vec<usize>,
    /// How many files only the record has.
    pub(super) removed: usize,
}

impl Record {
    /// The footer of a file, if it has not changed since.
    pub(super) fn footer(&self, file: &Listed) -> Option<&Footer> {
        let known = self.files.get(&path_hash(file))?;
        (known.state == state_hash(file)).then_some(&known.footer)
    }

    /// What differs between the record and a later listing.
    pub(super) fn difference(&self, files: &[KnownFile]) -> Difference {
        let mut difference = Difference::default();
        let mut still_there = 0;
        for (index, KnownFile { listed: file, .. }) in files.iter().enumerate() {
            let Some(known) = self.files.get(&path_hash(file)) else {
                difference.added.push(index);
                continue;
            };
            still_there += 1;
            if known.state != state_hash(file) {
                difference.replaced.push(index);
            }
        }
        difference.removed = self.files.len().saturating_sub(still_there);
        difference
    }

    /// The record of these files as bytes; `None` where they are too many or too different to be kept.
    pub(super) fn encode(version: &str, schema: &Schema, files: &[KnownFile]) -> Option<Vec<u8>> {
        let mut schemas: Vec<SchemaRef> = Vec::new();
        let mut entries = Vec::with_capacity(files.len().min(BYTES_MAX / FILE_BYTES) * FILE_BYTES);
        for KnownFile { listed: file, footer, .. } in files {
            let same = |known: &SchemaRef| Arc::ptr_eq(known, &footer.schema) || *known == footer.schema;
            let index = match schemas.iter().position(same) {
                Some(index) => index,
                None => {
                    schemas.push(Arc::clone(&footer.schema));
                    schemas.len() - 1
                }
            };
            entries.extend_from_slice(&path_hash(file).to_le_bytes());
            entries.extend_from_slice(&state_hash(file).to_le_bytes());
            entries.extend_from_slice(&footer.rows.to_le_bytes());
            entries.extend_from_slice(&u16::try_from(index).ok()?.to_le_bytes());
            if schemas.len() > SCHEMAS_MAX || entries.len() > BYTES_MAX {
                return None;
            }
        }
        let mut bytes = MAGIC.to_vec();
        put(&mut bytes, version.as_bytes())?;
        put(&mut bytes, &schema_bytes(schema)?)?;
        bytes.extend_from_slice(&u32::try_from(schemas.len()).ok()?.to_le_bytes());
        for schema in &schemas {
            put(&mut bytes, &schema_bytes(schema)?)?;
        }
        bytes.extend_from_slice(&entries);
        (bytes.len() <= BYTES_MAX).then_some(bytes)
    }

    /// The record that these bytes are of; `None` where they are none that is understood.
    pub(super) fn decode(bytes: &[u8]) -> Option<Record> {
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let version = String::from_utf8(take(&mut rest)?.to_vec()).ok()?;
        let schema = schema_of(take(&mut rest)?)?;
        let count = u32::from_le_bytes(*rest.split_off(..4)?.as_array()?);
        let schemas: Vec<SchemaRef> = (0..count).map(|_| schema_of(take(&mut rest)?)).collect::<Option<_>>()?;
        let mut files = HashMap::with_capacity(rest.len() / FILE_BYTES);
        while !rest.is_empty() {
            let path = u64::from_le_bytes(*rest.split_off(..8)?.as_array()?);
            let state = u64::from_le_bytes(*rest.split_off(..8)?.as_array()?);
            let rows = u64::from_le_bytes(*rest.split_off(..8)?.as_array()?);
            let schema = schemas.get(usize::from(u16::from_le_bytes(*rest.split_off(..2)?.as_array()?)))?;
            let footer = Footer { schema: Arc::clone(schema), rows };
            // Two paths of one hash: nothing could be told of either.
            if files.insert(path, Known { state, footer }).is_some() {
                return None;
            }
        }
        Some(Record { version, schema, files })
    }
}

fn hash(bytes: &[u8]) -> u64 {
    XxHash3_128::oneshot(bytes) as u64
}

fn path_hash(file: &Listed) -> u64 {
    hash(file.name.as_bytes())
}

fn state_hash(file: &Listed) -> u64 {
    hash(&file.state())
}

/// Appends bytes behind their number.
fn put(to: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    to.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_le_bytes());
    to.extend_from_slice(bytes);
    Some(())
}

/// Takes what [`put`] appended.
fn take<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let count = u32::from_le_bytes(*from.split_off(..4)?.as_array()?);
    from.split_off(..usize::try_from(count).ok()?)
}

/// A schema in Arrow's own form, which later versions read as well.
fn schema_bytes(schema: &Schema) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    StreamWriter::try_new(&mut bytes, schema).ok()?.finish().ok()?;
    Some(bytes)
}

fn schema_of(bytes: &[u8]) -> Option<SchemaRef> {
    Some(StreamReader::try_new(bytes, None).ok()?.schema())
}

#[cfg(test)]
mod tests {
    use arrow_schema::{DataType, Field, TimeUnit};
    use object_store::ObjectMeta;

    use super::*;

    fn file(name: &str, size: u64, tag: Option<&str>, columns: &str) -> KnownFile {
        let meta = ObjectMeta {
            location: name.into(),
            last_modified: chrono::DateTime::UNIX_EPOCH,
            size,
            e_tag: tag.map(str::to_owned),
            version: None,
        };
        let footer = Footer { schema: schema(columns), rows: size * 10 };
        KnownFile { listed: Listed { name: name.to_owned(), meta }, footer, constants: Box::default() }
    }

    fn schema(name: &str) -> SchemaRef {
        let marked = HashMap::from([("PARQUET:field_id".to_owned(), "7".to_owned()), ("b".to_owned(), "c".to_owned())]);
        let fields = vec![
            Field::new(name, DataType::Decimal128(38, 2), false).with_metadata(marked),
            Field::new("at", DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), true),
            Field::new_list("tags", Field::new("item", DataType::Utf8, true), true),
        ];
        Arc::new(Schema::new(fields))
    }

    #[test]
    fn a_record_tells_what_was_added_replaced_and_removed() {
        let tagged = |name, size, tag| file(name, size, Some(tag), "p");
        let before = [tagged("a", 1, "x"), tagged("b", 1, "x"), file("c", 1, None, "q"), tagged("d", 1, "x")];
        let bytes = Record::encode("v1", &schema("all"), &before).unwrap();
        let record = Record::decode(&bytes).unwrap();
        assert_eq!((record.version.as_str(), &record.schema), ("v1", &schema("all")));
        for file in &before {
            let known = record.footer(&file.listed).unwrap();
            assert_eq!((&known.schema, known.rows), (&file.footer.schema, 10));
        }
        assert_eq!(record.difference(&before), Difference::default());

        // The same size under another tag, another size under the same tag, the same file, another path.
        let after = [tagged("a", 1, "y"), tagged("b", 2, "x"), file("c", 1, None, "q"), tagged("e", 1, "x")];
        let known = after.each_ref().map(|file| record.footer(&file.listed).is_some());
        assert_eq!(known, [false, false, true, false]);
        assert_eq!(record.difference(&after), Difference { added: vec![3], replaced: vec![0, 1], removed: 1 });
    }

    #[test]
    fn many_files_take_little_room_and_files_too_different_are_not_kept() {
        let one = file("one", 1, Some("x"), "p");
        let named = |name: String, columns: SchemaRef| KnownFile {
            listed: Listed { name, meta: one.listed.meta.clone() },
            footer: Footer { schema: columns, rows: 1 },
            constants: Box::default(),
        };
        let files: Vec<KnownFile> =
            (0..100_000).map(|index| named(format!("part-{index}"), Arc::clone(&one.footer.schema))).collect();
        let bytes = Record::encode("v", &schema("p"), &files).unwrap();
        assert!(bytes.len() < 2_700_000, "{} bytes", bytes.len());
        assert_eq!(Record::decode(&bytes).unwrap().difference(&files[1..]).removed, 1);
        let files: Vec<KnownFile> =
            (0..=SCHEMAS_MAX).map(|index| named(index.to_string(), schema(&index.to_string()))).collect();
        assert!(Record::encode("v", &schema("p"), &files).is_none());
    }

    #[test]
    fn bytes_that_are_no_record_are_none() {
        let bytes = Record::encode("v", &schema("p"), &[file("a", 1, None, "p")]).unwrap();
        for end in 0..bytes.len() {
            // A record may end before or after any file.
            assert!(Record::decode(&bytes[..end]).is_none_or(|record| record.files.is_empty()), "{end}");
        }
        let twice = [bytes.as_slice(), &bytes[bytes.len() - FILE_BYTES..]].concat();
        assert!(Record::decode(&twice).is_none());
    }
}
