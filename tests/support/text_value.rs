//! Arrow values as the text that Postgres reads, by plain code of the tests' own.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalYearMonthType};
use arrow_array::{Array, ArrayRef};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Field, IntervalUnit, TimeUnit};
use base64::Engine as _;
use lakegate::encode::VARIANT_METADATA_KEY;
use parquet_variant::Variant;

/// The text of one row's value; `None` for null.
pub(crate) type Text<'a> = Box<dyn Fn(usize) -> Option<String> + 'a>;

/// The same values without dictionaries, at any depth.
pub(crate) fn unpacked(array: &ArrayRef) -> ArrayRef {
    let to = plain_type(array.data_type());
    if &to == array.data_type() { array.clone() } else { arrow_cast::cast(array, &to).unwrap() }
}

fn plain_type(data_type: &DataType) -> DataType {
    let plain = |field: &Field| field.clone().with_data_type(plain_type(field.data_type()));
    match data_type {
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::List(item) => DataType::List(plain(item).into()),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| plain(field)).collect()),
        other => other.clone(),
    }
}

/// The text of a column's values.
pub(crate) fn text<'a>(array: &'a dyn Array, field: &Field) -> Text<'a> {
    match array.data_type() {
        DataType::Struct(_) | DataType::Map(..) => json(array, field, true),
        data_type if item(data_type).is_some_and(|item| item.data_type().is_nested()) => json(array, field, true),
        data_type if item(data_type).is_some() => array_literal(array),
        _ => scalar(array, field),
    }
}

fn item(data_type: &DataType) -> Option<&Field> {
    match data_type {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => Some(item),
        _ => None,
    }
}

/// The items of one row's list.
fn list_of(array: &dyn Array, row: usize) -> ArrayRef {
    match array.data_type() {
        DataType::List(_) => array.as_list::<i32>().value(row),
        DataType::LargeList(_) => array.as_list::<i64>().value(row),
        DataType::FixedSizeList(..) => array.as_fixed_size_list().value(row),
        DataType::ListView(_) => array.as_list_view::<i32>().value(row),
        _ => array.as_list_view::<i64>().value(row),
    }
}

fn scalar<'a>(array: &'a dyn Array, field: &Field) -> Text<'a> {
    let is_uuid = is_uuid(field);
    let value: Box<dyn Fn(usize) -> String + 'a> = match array.data_type() {
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) | DataType::Time32(_) | DataType::Time64(_) => {
            let micros = micros(array);
            Box::new(move |row| instant(array.data_type(), micros(row)))
        }
        DataType::Interval(_) | DataType::Duration(_) => Box::new(move |row| interval(array, row)),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let prefix = if is_uuid { "" } else { "\\x" };
            Box::new(move |row| format!("{prefix}{}", display(array, row)))
        }
        _ => {
            let formatter = ArrayFormatter::try_new(array, &FormatOptions::default()).unwrap();
            Box::new(move |row| formatter.value(row).to_string())
        }
    };
    Box::new(move |row| array.is_valid(row).then(|| value(row)))
}

fn array_literal(array: &dyn Array) -> Text<'_> {
    Box::new(move |row| {
        array.is_valid(row).then(|| {
            let items = list_of(array, row);
            let text = scalar(&items, item(array.data_type()).unwrap());
            let quoted = |text: String| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            let items: Vec<String> =
                (0..items.len()).map(|item| text(item).map_or_else(|| "NULL".to_owned(), quoted)).collect();
            format!("{{{}}}", items.join(","))
        })
    })
}

/// JSON; a null is SQL's for a whole column, and JSON's inside.
fn json<'a>(array: &'a dyn Array, field: &Field, is_column: bool) -> Text<'a> {
    let field = field.clone();
    Box::new(move |row| {
        if array.is_null(row) || array.data_type() == &DataType::Null {
            return (!is_column).then(|| "null".to_owned());
        }
        let inner = |array: &dyn Array, field: &Field, row: usize| json(array, field, false)(row).unwrap();
        Some(match array.data_type() {
            DataType::Struct(_) if field.metadata().contains_key(VARIANT_METADATA_KEY) => {
                let parts = array.as_struct();
                let bytes = |part: &str| parts.column_by_name(part).unwrap().as_binary::<i32>().value(row);
                variant(&Variant::new(bytes("metadata"), bytes("value")))
            }
            DataType::Struct(fields) => {
                let columns = fields.iter().zip(array.as_struct().columns());
                let members =
                    columns.map(|(field, values)| format!("{}:{}", string(field.name()), inner(values, field, row)));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }
            DataType::Map(..) => {
                let map = array.as_map();
                let (key, value) = map.entries_fields();
                let entries = map.value(row);
                let member = |at: usize| {
                    let name = inner(entries.column(0), key, at);
                    let name = if name.starts_with('"') { name } else { string(&name) };
                    format!("{name}:{}", inner(entries.column(1), value, at))
                };
                format!("{{{}}}", (0..entries.len()).map(member).collect::<Vec<_>>().join(","))
            }
            data_type if item(data_type).is_some() => {
                let items = list_of(array, row);
                let values = (0..items.len()).map(|at| inner(&items, item(data_type).unwrap(), at));
                format!("[{}]", values.collect::<Vec<_>>().join(","))
            }
            _ => json_scalar(array, &field, row),
        })
    })
}

fn json_scalar(array: &dyn Array, field: &Field, row: usize) -> String {
    match array.data_type() {
        DataType::Boolean => display(array, row),
        data_type if data_type.is_floating() => match display(array, row).as_str() {
            "NaN" => string("NaN"),
            "inf" => string("Infinity"),
            "-inf" => string("-Infinity"),
            // In plain notation, as jsonb has it.
            number if data_type == &DataType::Float64 => number.parse::<f64>().unwrap().to_string(),
            number => number.parse::<f32>().unwrap().to_string(),
        },
        data_type if data_type.is_numeric() => display(array, row),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let hex = display(array, row);
            let bytes: Vec<u8> =
                (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect();
            match uuid::Uuid::from_slice(&bytes) {
                Ok(id) if is_uuid(field) => string(&id.to_string()),
                _ => string(&base64::prelude::BASE64_STANDARD.encode(bytes)),
            }
        }
        DataType::Date32 | DataType::Date64 => calendar(array, row, "%Y-%m-%d", ""),
        DataType::Timestamp(_, None) => calendar(array, row, "%Y-%m-%dT%H:%M:%S%.6f", ""),
        DataType::Timestamp(_, Some(_)) => calendar(array, row, "%Y-%m-%dT%H:%M:%S%.6f", "Z"),
        DataType::Time32(_) | DataType::Time64(_) => calendar(array, row, "%H:%M:%S%.6f", ""),
        _ => string(&display(array, row)),
    }
}

/// The JSON of a variant, as far as the variants of tests go.
fn variant(value: &Variant<'_, '_>) -> String {
    match value {
        Variant::Null => "null".to_owned(),
        Variant::Object(object) => {
            let members = object.iter().map(|(name, value)| format!("{}:{}", string(name), variant(&value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Variant::List(list) => {
            format!("[{}]", list.iter().map(|item| variant(&item)).collect::<Vec<_>>().join(","))
        }
        other => match (other.as_int64(), other.as_string()) {
            (Some(number), _) => number.to_string(),
            (_, Some(text)) => string(text),
            _ => panic!("no test has variants like {other:?}"),
        },
    }
}

/// An instant in one of chrono's formats, without the zeros that end a fraction.
fn calendar(array: &dyn Array, row: usize, format: &str, end: &str) -> String {
    let micros = i64::try_from(micros(&array.slice(row, 1))(0)).unwrap();
    let text = chrono::DateTime::from_timestamp_micros(micros).unwrap().format(format).to_string();
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    string(&format!("{text}{end}"))
}

/// `J2440588 12:34:56.789012+00`: Postgres reads the number of a Julian day, which says every date it can hold without
/// a calendar of our own.
fn instant(data_type: &DataType, micros: i128) -> String {
    const DAY: i128 = 86_400_000_000;
    const JULIAN_DAY_OF_1970: i128 = 2_440_588;
    let clock = |micros: i128| {
        let seconds = micros / 1_000_000;
        let fraction = micros % 1_000_000;
        format!("{:02}:{:02}:{:02}.{fraction:06}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    };
    let day = format!("J{}", micros.div_euclid(DAY) + JULIAN_DAY_OF_1970);
    match data_type {
        DataType::Date32 | DataType::Date64 => day,
        DataType::Time32(_) | DataType::Time64(_) => clock(micros),
        DataType::Timestamp(_, None) => format!("{day} {}", clock(micros.rem_euclid(DAY))),
        _ => format!("{day} {}+00", clock(micros.rem_euclid(DAY))),
    }
}

/// Each value in microseconds, since 1970 or since midnight; nanoseconds must be whole microseconds.
fn micros(array: &dyn Array) -> impl Fn(usize) -> i128 + use<> {
    let (times, per) = match array.data_type() {
        DataType::Date32 => (86_400_000_000, 1),
        DataType::Date64 => (1_000, 1),
        DataType::Timestamp(unit, _) | DataType::Time32(unit) | DataType::Time64(unit) | DataType::Duration(unit) => {
            match unit {
                TimeUnit::Second => (1_000_000, 1),
                TimeUnit::Millisecond => (1_000, 1),
                TimeUnit::Microsecond => (1, 1),
                TimeUnit::Nanosecond => (1, 1_000),
            }
        }
        other => panic!("{other} is no time"),
    };
    let is_narrow = matches!(array.data_type(), DataType::Date32 | DataType::Time32(_));
    let counts =
        if is_narrow { arrow_cast::cast(array, &DataType::Int32).unwrap() } else { array.slice(0, array.len()) };
    let counts = arrow_cast::cast(&counts, &DataType::Int64).unwrap();
    let counts = counts.as_primitive::<Int64Type>().clone();
    move |row| {
        let count = i128::from(counts.value(row)) * times;
        assert_eq!(count % per, 0, "finer than a microsecond");
        count / per
    }
}

fn interval(array: &dyn Array, row: usize) -> String {
    let (months, days, micros) = match array.data_type() {
        DataType::Interval(IntervalUnit::YearMonth) => (array.as_primitive::<IntervalYearMonthType>().value(row), 0, 0),
        DataType::Interval(IntervalUnit::DayTime) => {
            let value = array.as_primitive::<IntervalDayTimeType>().value(row);
            (0, value.days, i128::from(value.milliseconds) * 1_000)
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            (value.months, value.days, i128::from(value.nanoseconds) / 1_000)
        }
        _ => (0, 0, micros(&array.slice(row, 1))(0)),
    };
    format!("{months} mons {days} days {micros} us")
}

fn is_uuid(field: &Field) -> bool {
    field.metadata().get("ARROW:extension:name").is_some_and(|name| name == "arrow.uuid")
}

fn display(array: &dyn Array, row: usize) -> String {
    ArrayFormatter::try_new(array, &FormatOptions::default()).unwrap().value(row).to_string()
}

fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
