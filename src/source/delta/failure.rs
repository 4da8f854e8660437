//! Errors of the Delta kernel, as errors of Lakegate.

use delta_kernel::Error as KernelError;

use crate::domain::{Code, Error};

use crate::source::failure::{Wanted, corrupt, store_error, without_query};
use crate::source::object_store::Location;

use super::versions;

/// Translates an error met while reading the log of the table at `place`.
pub(super) fn kernel_error(error: KernelError, place: &str) -> Error {
    match error {
        KernelError::Backtraced { source, .. } => kernel_error(*source, place),
        KernelError::ObjectStore(error) => store_error(error, Wanted::Source, format!("the log of {place}")),
        KernelError::FileNotFound(path) => {
            corrupt(format!("the log of {place}"), format!("`{}` is missing", without_query(&path)))
        }
        KernelError::Unsupported(why) => unsupported(place, &why),
        KernelError::MaxCatalogVersion(_) => {
            unsupported(place, "Feature 'catalogManaged' is not supported: its commits are kept by a catalog")
        }
        KernelError::Generic(why) if why.contains("No files in log segment") => {
            Error::new(Code::SourceNotFound, format!("{place}: the Delta log is empty"))
                .hint("check the address, and that the table has been written there")
        }
        KernelError::InvalidProtocol(why) => unsupported(place, &format!("its protocol is not understood: {why}")),
        KernelError::Schema(why) if why.contains("Unsupported Delta table type") => unsupported(place, &why),
        KernelError::Generic(why) if why.contains("contiguous commit files") => {
            let files: Vec<&str> =
                why.split("filename: \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
            corrupt(format!("the log of {place}"), format!("commits are missing between {}", files.join(" and ")))
        }
        other => corrupt(format!("the log of {place}"), other),
    }
}

/// As [`kernel_error`], for a log at hand: where a commit is no JSON, it is named. Blocks.
pub(super) fn log_error(error: KernelError, location: &Location) -> Error {
    let place = location.display();
    let error = kernel_error(error, &place);
    if error.code() != Code::SourceCorrupt {
        return error;
    }
    match versions::broken_commit(location) {
        Some(commit) => corrupt(format!("{commit} in the log of {place}"), "not every line of it is JSON"),
        None => error,
    }
}

/// A table that needs what this reader does not do.
pub(super) fn unsupported(place: &str, why: &str) -> Error {
    Error::new(Code::UnsupportedFeature, format!("{place}: {why}"))
        .hint("drop the feature from the table, or write a copy without it")
}
