//! What tests share that can also be told to measure.

use std::str::FromStr;

/// The number that a variable holds, or this one where it is not set.
pub(crate) fn number<N: FromStr>(variable: &str, otherwise: N) -> N {
    std::env::var(variable).map_or(otherwise, |text| text.parse().ok().expect("a number"))
}

/// The middle one of some measures, which are sorted for it.
pub(crate) fn median(measures: &mut [f64]) -> f64 {
    measures.sort_by(f64::total_cmp);
    measures[measures.len() / 2]
}
