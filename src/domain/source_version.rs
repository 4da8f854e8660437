//! Which state of a source a generation holds.

use serde::{Deserialize, Serialize};

/// A state of a source. Two of them are compared by [`SourceVersion::is_same_state`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceVersion {
    /// What a person sees and `Lakegate-Version` carries: the Delta version in decimal digits, or for Parquet a
    /// fingerprint of the files' paths, sizes and entity tags.
    pub version: String,
    /// The Delta table's own id (`metaData.id`); differs after the table is dropped and recreated at the same path.
    pub table_id: Option<String>,
    /// A digest of the commit that made the version, where a Delta log holds it: a table that is restored from a backup
    /// and goes on from there keeps its id and comes by the same versions again, with other commits.
    #[serde(skip)]
    pub commit: Option<String>,
}

impl SourceVersion {
    /// Whether both are one state of one source, as far as both tell: a commit that a log no longer holds, or that was not
    /// noted, is no difference.
    #[must_use]
    pub fn is_same_state(&self, other: &SourceVersion) -> bool {
        let other_commits = matches!((&self.commit, &other.commit), (Some(one), Some(another)) if one != another);
        self.version == other.version && self.table_id == other.table_id && !other_commits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_tells_states_apart_where_both_are_known() {
        let state = |version: &str, commit: Option<&str>| SourceVersion {
            version: version.to_owned(),
            table_id: Some("t".to_owned()),
            commit: commit.map(str::to_owned),
        };
        assert!(state("7", Some("a")).is_same_state(&state("7", Some("a"))));
        assert!(!state("7", Some("a")).is_same_state(&state("7", Some("b"))));
        assert!(state("7", Some("a")).is_same_state(&state("7", None)));
        assert!(!state("7", None).is_same_state(&state("8", None)));
    }
}
