//! The proof that values arrived: one 64-bit hash per row over all columns, summed over the rows.
//!
//! The hash of a row goes from column to column, each value's hash seeded by what came before; columns whose hashes
//! take several seeds are combined by XOR, with seeds of their positions, and so are those that a generation did not have
//! when it was loaded, where null counts for nothing. So values in the wrong column or the wrong row do not
//! cancel out. Here it is computed from the Arrow values, never from what was
//! encoded; in Postgres, by [`super::verify_sql`], from what is stored.

use crate::domain::{ColumnType, Result, ScalarType};

use super::column_hash::{self, NullLink};
use super::mapping::Mapping;
use super::prepared::PreparedBatch;

/// Of how many rows a sampled check takes one.
pub const SAMPLE_DIVISOR: u8 = 16;

/// Which rows are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// All.
    Full,
    /// Those whose key hash leaves this remainder when divided by [`SAMPLE_DIVISOR`].
    Sampled {
        /// The remainder, 0 to 15.
        residue: u8,
    },
}

impl Coverage {
    /// The sample for a run: one sixteenth of the rows, which one no pattern of run numbers can fix.
    #[must_use]
    pub fn sample_of_run(run: i64) -> Self {
        Coverage::Sampled { residue: (splitmix64(run as u64) % u64::from(SAMPLE_DIVISOR)) as u8 }
    }
}

/// What the rows of one side add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checksum {
    /// All rows.
    pub rows: u64,
    /// The rows that are in `sum`.
    pub hashed: u64,
    /// The sum of their hashes, read as signed numbers.
    pub sum: i128,
}

impl Checksum {
    /// Adds rows hashed elsewhere.
    pub fn add(&mut self, other: &Checksum) {
        self.rows += other.rows;
        self.hashed += other.hashed;
        self.sum += other.sum;
    }
}

/// The constants that make the hash of a column its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seeds {
    /// Seeds the hash of a value.
    pub(super) value: u64,
    /// Seeds the hash of a value's other half, where one function does not see all of it.
    pub(super) other: u64,
    /// Seeds two further parts of intervals.
    pub(super) third: u64,
    /// See `third`.
    pub(super) fourth: u64,
    /// Stands for null.
    pub(super) null: u64,
    /// Stands for a null item of an array.
    pub(super) null_item: u64,
}

impl Seeds {
    /// The seeds of a column's values, by its position.
    pub(super) fn of_column(position: usize) -> Self {
        Seeds::new(position as u64)
    }

    /// What a chain of columns begins with, by its number.
    pub(super) fn of_chain(number: usize) -> u64 {
        Seeds::new(2 << 32 | number as u64).value
    }

    /// What stands for null in a chain: values that a column hardly holds, or cannot.
    pub(super) fn null_link(position: usize, ty: ScalarType) -> NullLink {
        let seeds = Seeds::of_column(position);
        match ty {
            // Beyond all dates, and beyond 16 bits.
            ScalarType::Date => NullLink::Int4(i32::MIN + 7),
            ScalarType::Int16 => NullLink::Int4(1 << 20),
            ScalarType::Int32 => NullLink::Int4(seeds.null as i32),
            ScalarType::Int64 => NullLink::Int8(seeds.null as i64),
            ScalarType::Numeric { .. } => NullLink::Text("null".to_owned()),
            _ => NullLink::Text(format!("{:016x}{:016x}", seeds.null, seeds.null_item)),
        }
    }

    /// The seeds by which a key column takes part in the choice of the sample.
    pub(super) fn of_key(position: usize) -> Self {
        Seeds::new(1 << 32 | position as u64)
    }

    fn new(position: u64) -> Self {
        let seed = |purpose: u64| splitmix64(position << 8 | purpose);
        Seeds { value: seed(1), other: seed(2), third: seed(3), fourth: seed(4), null: seed(5), null_item: seed(6) }
    }
}

/// The generator of Steele, Lea and Flood: neighbouring inputs give unrelated numbers, and no two give the same.
fn splitmix64(input: u64) -> u64 {
    let mut z = input.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Adds up the hashes of batches.
#[derive(Debug)]
pub struct RowHasher<'m> {
    mapping: &'m Mapping,
    coverage: Coverage,
    checksum: Checksum,
    rows: Vec<u32>,
    hashes: Vec<u64>,
    /// The hashes of the chain of columns at hand.
    chain: Vec<u64>,
}

/// How many columns make a chain: the server takes an expression apart by recursion.
const CHAIN_MAX: usize = 16;

/// Divides columns into chains.
#[derive(Debug, Default)]
pub(super) struct Links {
    columns: usize,
}

impl Links {
    /// Takes the next column: the seed of a new chain where it begins one.
    pub(super) fn next(&mut self) -> Option<u64> {
        let begins = self.columns.is_multiple_of(CHAIN_MAX);
        let seed = begins.then(|| Seeds::of_chain(self.columns / CHAIN_MAX));
        self.columns += 1;
        seed
    }
}

fn xor_into(hashes: &mut [u64], chain: &[u64]) {
    hashes.iter_mut().zip(chain).for_each(|(hash, link)| *hash ^= link);
}

impl<'m> RowHasher<'m> {
    /// A hasher for one load, or one worker's part of it.
    #[must_use]
    pub fn new(mapping: &'m Mapping, coverage: Coverage) -> Self {
        RowHasher {
            mapping,
            coverage,
            checksum: Checksum::default(),
            rows: Vec::new(),
            hashes: Vec::new(),
            chain: Vec::new(),
        }
    }

    /// Adds a batch but for the rows that the encoder left out (ascending).
    ///
    /// # Errors
    /// [`crate::domain::Code::Internal`] where the batch is not of this hasher's mapping.
    pub fn update(&mut self, batch: &PreparedBatch, rejected: &[usize]) -> Result<()> {
        self.choose(batch, rejected)?;
        self.hashes.clear();
        self.hashes.resize(self.rows.len(), 0);
        let mut links = Links::default();
        for index in 0..self.mapping.schema.columns.len() {
            let column = self.mapping.schema.columns.get(index);
            match (column.map(|column| column.ty), batch.columns.get(index)) {
                _ if column.is_some_and(|column| column.late) => {
                    self.hash(batch, index, Seeds { null: 0, ..Seeds::of_column(index) })?;
                }
                (Some(ColumnType::Scalar(ty)), Some(values)) if column_hash::can_be_linked(ColumnType::Scalar(ty)) => {
                    if let Some(seed) = links.next() {
                        xor_into(&mut self.hashes, &self.chain);
                        self.chain.clear();
                        self.chain.resize(self.rows.len(), seed);
                    }
                    column_hash::link(ty, values, &Seeds::null_link(index, ty), &self.rows, &mut self.chain)?;
                }
                _ => self.hash(batch, index, Seeds::of_column(index))?,
            }
        }
        xor_into(&mut self.hashes, &self.chain);
        self.chain.clear();
        self.checksum.rows += (batch.rows() - rejected.len()) as u64;
        self.checksum.hashed += self.rows.len() as u64;
        self.checksum.sum += self.hashes.iter().map(|&hash| i128::from(hash as i64)).sum::<i128>();
        Ok(())
    }

    /// The checksum of all batches.
    #[must_use]
    pub fn finish(self) -> Checksum {
        self.checksum
    }

    /// Chooses the rows to hash.
    fn choose(&mut self, batch: &PreparedBatch, rejected: &[usize]) -> Result<()> {
        self.rows.clear();
        let mut rejected = rejected.iter().copied().peekable();
        self.rows.extend((0..batch.rows()).filter(|&row| rejected.next_if_eq(&row).is_none()).map(|row| row as u32));
        if let Coverage::Sampled { residue } = self.coverage {
            self.hashes.clear();
            self.hashes.resize(self.rows.len(), 0);
            for (position, &index) in self.mapping.schema.key.iter().enumerate() {
                self.hash(batch, index, Seeds::of_key(position))?;
            }
            let mut hashes = self.hashes.iter();
            let mask = u64::from(SAMPLE_DIVISOR - 1);
            self.rows.retain(|_| hashes.next().is_some_and(|hash| hash & mask == u64::from(residue)));
        }
        Ok(())
    }

    fn hash(&mut self, batch: &PreparedBatch, index: usize, seeds: Seeds) -> Result<()> {
        hash_column(self.mapping, batch, index, seeds, &self.rows, &mut self.hashes)
    }
}

/// Adds up the hashes of each column by itself, to find the one that makes two checksums differ.
#[derive(Debug)]
pub struct ColumnHasher<'m> {
    mapping: &'m Mapping,
    sums: Vec<i128>,
}

impl<'m> ColumnHasher<'m> {
    /// A hasher over all rows.
    #[must_use]
    pub fn new(mapping: &'m Mapping) -> Self {
        ColumnHasher { mapping, sums: vec![0; mapping.schema.columns.len()] }
    }

    /// Adds a batch but for the rows that the encoder left out (ascending).
    ///
    /// # Errors
    /// [`crate::domain::Code::Internal`] where the batch is not of this hasher's mapping.
    pub fn update(&mut self, batch: &PreparedBatch, rejected: &[usize]) -> Result<()> {
        let rows: Vec<u32> = (0..batch.rows()).filter(|row| !rejected.contains(row)).map(|row| row as u32).collect();
        for (index, sum) in self.sums.iter_mut().enumerate() {
            let mut hashes = vec![0; rows.len()];
            hash_column(self.mapping, batch, index, Seeds::of_column(index), &rows, &mut hashes)?;
            *sum += hashes.iter().map(|&hash| i128::from(hash as i64)).sum::<i128>();
        }
        Ok(())
    }

    /// The sums by column, in the order of the table.
    #[must_use]
    pub fn finish(self) -> Vec<i128> {
        self.sums
    }
}

fn hash_column(
    mapping: &Mapping,
    batch: &PreparedBatch,
    index: usize,
    seeds: Seeds,
    rows: &[u32],
    hashes: &mut [u64],
) -> Result<()> {
    let column = mapping.schema.columns.get(index).zip(mapping.columns.get(index)).zip(batch.columns.get(index));
    let Some(((column, mapped), values)) = column else {
        return Err(crate::domain::Error::internal("a batch was prepared by another mapping"));
    };
    column_hash::xor(column.ty, &mapped.field, values, seeds, rows, hashes)
        .map_err(|error| error.at(format!("column `{}`", column.name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_seeds_are_the_same_and_none_is_zero() {
        let columns = (0..1600).map(Seeds::of_column).chain((0..32).map(Seeds::of_key));
        let all: Vec<u64> = columns.flat_map(|s| [s.value, s.other, s.third, s.fourth, s.null, s.null_item]).collect();
        assert!(all.iter().all(|&seed| seed != 0));
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }

    #[test]
    fn in_time_every_row_is_in_a_sample_whichever_runs_a_pipeline_gets() {
        for step in [1, 2, 16] {
            let residues: HashSet<u8> = (0..200)
                .map(|turn| match Coverage::sample_of_run(turn * step) {
                    Coverage::Sampled { residue } => residue,
                    Coverage::Full => panic!("not a sample"),
                })
                .collect();
            assert_eq!(residues, (0..SAMPLE_DIVISOR).collect(), "every {step}th run");
        }
    }
}
