//! Whole projects through [`load`](super::load).

mod bad;
mod contract;
mod good;
mod project_id;
mod properties;
mod reference;
mod sameness;
mod schemas;
mod secrets;

use std::fs;

use tempfile::TempDir;

use super::{Environment, Loaded, Problems, load};

/// A project folder with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn load_files(files: &[(&str, &str)], env: &[(&str, &str)]) -> Result<Loaded, Problems> {
    load(folder(files).path(), &env.iter().copied().collect())
}

/// Loads a project with one pipeline file that declares what every pipeline must, and `rest`.
fn load_pipeline(rest: &str, env: &[(&str, &str)]) -> Result<Loaded, Problems> {
    let text = format!("source: lake/orders\nprimary_key: id\n{rest}");
    load_files(&[("pipelines/orders.yaml", &text)], env)
}

fn load_project(text: &str, env: &[(&str, &str)]) -> Result<Loaded, Problems> {
    load_files(&[("lakegate.yaml", text)], env)
}
