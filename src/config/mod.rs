//! Configuration: YAML files and environment variables → a validated [`Project`].
//!
//! [`load`] reads `lakegate.yaml`, the pipeline files and the contracts of their tables, and either returns the whole
//! project or every problem of every file, each with its place. What stands where decides: a pipeline's own key, else the `LAKEGATE_DEFAULTS_…`
//! variable, else `defaults` in `lakegate.yaml`, else the built-in default; for the project's settings the
//! `LAKEGATE_…` variable, else the file, else the built-in default.
//!
//! Text becomes settings in three steps: `yaml` parses it into a tree of placed nodes, `overrides` puts variables
//! over it, and the declarations in `project` and `pipeline` read it by way of `reader`, filling in `${VAR}`
//! and collecting problems. The same declarations yield the [`json_schema`].

mod auth;
mod checks;
mod columns;
mod contract;
mod environment;
mod fill;
pub mod json_schema;
mod overrides;
mod pipeline;
mod problem;
mod project;
mod reader;
mod redact;
pub mod reference;
mod schedule;
mod secret;
mod section;
mod serve;
mod settings;
mod source;
mod stamp;
#[cfg(test)]
mod tests;
mod units;
mod yaml;

use std::fs;
use std::io;
use std::path::Path;

pub use contract::contract_text;
pub use environment::Environment;
pub use problem::{Problem, Problems};
pub use stamp::{Stamp, stamp};

use crate::domain::{Code, Pipeline, Project};
use pipeline::{Declared, Defaults};
use problem::{Place, SourceFile};
use project::{ProjectFile, ProjectSettings};
use reader::{Reader, Setting};
use yaml::{Node, Value};

/// The project's own file.
pub const PROJECT_FILE: &str = "lakegate.yaml";
/// Where pipeline files are unless `pipelines` says otherwise.
const PIPELINES: &str = "pipelines";

/// A project without problems.
#[derive(Debug)]
pub struct Loaded {
    /// The project, complete.
    pub project: Project,
    /// What is suspicious but harmless.
    pub warnings: Vec<Problem>,
}

/// Reads the project in `dir`: `lakegate.yaml` where there is one, and all `*.yaml` and `*.yml` files directly in the
/// folder of pipelines. A folder with neither is a project only if variables declare settings.
///
/// # Errors
/// Everything that is wrong with any file or variable. A file that is not valid YAML has one problem; the others are
/// read nevertheless.
pub fn load(dir: &Path, env: &Environment) -> Result<Loaded, Problems> {
    let is_project =
        dir.join(PROJECT_FILE).exists() || dir.join(PIPELINES).is_dir() || overrides::any(env, &ProjectFile::paths());
    if !is_project || !dir.is_dir() {
        let detail = format!("there is neither `{PROJECT_FILE}` nor `{PIPELINES}/` in {}", dir.display());
        let hint = "name the project's folder with --project or LAKEGATE_DIR, or make one with `lakegate init`";
        return Err(Problems::new(vec![Problem::new(Code::ProjectNotFound, &Place::Project, detail).hint(hint)]));
    }
    let (mut file, mut reader, mut warnings) = declared(dir, env);
    let defaults = file.defaults.take().map(|defaults| defaults.value).unwrap_or_default();
    let files = pipeline_files(&file, &mut reader);
    let settings = project::settle(file, &mut reader);
    let mut pipelines = pipelines(&files, &defaults, &mut reader);
    for pipeline in &mut pipelines {
        pipeline.contract = contract::of(pipeline, &mut reader);
    }
    match settings {
        Some(settings) if reader.problems.is_empty() => {
            warnings.extend(contract::strays(dir, &pipelines));
            Ok(Loaded { project: assemble(dir, settings, pipelines), warnings })
        }
        _ => Err(Problems::new(reader.problems)),
    }
}

/// What `lakegate.yaml` and variables declare, defaults included; problems are in the reader, warnings apart.
fn declared<'a>(dir: &'a Path, env: &'a Environment) -> (ProjectFile, Reader<'a>, Vec<Problem>) {
    let mut reader = Reader::new(env, dir);
    let mut root = read_optional(PROJECT_FILE, &mut reader).unwrap_or_else(empty);
    let (problems, warnings) = overrides::apply(&mut root, env, &ProjectFile::paths());
    reader.problems.extend(problems);
    let file = ProjectFile::read(&root, &mut reader).unwrap_or_default().preset(&mut reader);
    (file, reader, warnings)
}

/// What to append to the text of `lakegate.yaml` for it to state the project's id; `None` where nothing appended can do
/// that (a mapping in braces, an end-of-document mark).
#[must_use]
pub fn project_id_lines(text: &str, id: &str) -> Option<String> {
    let line_break = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let lines = format!("{line_break}project: {id}\n");
    let stated = yaml::parse(&SourceFile::new(PROJECT_FILE, &format!("{text}{lines}"))).ok()?;
    let Value::Map(entries) = &stated.value else { return None };
    let states_id = |node: &Node| matches!(&node.value, Value::Scalar(scalar) if scalar.text == id);
    entries.iter().any(|(key, node)| key.name == "project" && states_id(node)).then_some(lines)
}

fn assemble(dir: &Path, settings: ProjectSettings, pipelines: Vec<Pipeline>) -> Project {
    let ProjectSettings { id, postgres, schemas, api, admin, auth, alerts, limits } = settings;
    Project { dir: dir.to_owned(), id, postgres, schemas, api, admin, auth, alerts, limits, pipelines }
}

fn empty() -> Node {
    Node { value: Value::Map(Vec::new()), place: Place::Project }
}

/// Reads and parses a file of the project; `None` if there is none, or after reporting what is wrong.
fn read_optional(name: &str, reader: &mut Reader<'_>) -> Option<Node> {
    let parsed = match read_text(&reader.dir.join(name)) {
        Ok(text) => yaml::parse(&SourceFile::new(name, &text)).map_err(|problem| *problem),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(Problem::new(Code::ConfigSyntax, &Place::Path(name.to_owned()), "the file is not UTF-8 text"))
        }
        Err(error) => Err(unreadable(name, "the file", &error)),
    };
    parsed.map_err(|problem| reader.problems.push(problem)).ok()
}

/// Reads one byte more than a file may have, so that the parser refuses it for its size without all of it in memory.
fn read_text(path: &Path) -> io::Result<String> {
    use io::Read;
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(yaml::MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > yaml::MAX_FILE_BYTES {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn unreadable(name: &str, what: &str, error: &io::Error) -> Problem {
    Problem::new(Code::UnreadableFile, &Place::Path(name.to_owned()), format!("{what} cannot be read: {error}"))
}

/// The pipeline files, relative to the project, in the order of their names. Only a folder that somebody declares has
/// to exist.
fn pipeline_files(file: &ProjectFile, reader: &mut Reader<'_>) -> Vec<String> {
    let Some(folder) = &file.pipelines else { return Vec::new() };
    let name = folder.value.0.trim_end_matches('/');
    let entries = fs::read_dir(reader.dir.join(name)).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.place.is_known() => return Vec::new(),
        Err(error) => {
            let detail = format!("the folder of pipelines cannot be read: {error}");
            let hint = "the folder is relative to the project's".to_owned();
            reader.refuse::<()>(Code::UnreadableFile, &folder.place, &detail, Some(hint));
            return Vec::new();
        }
    };
    let names = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let is_pipeline = |name: &String| {
        let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
        !name.starts_with('.') && matches!(extension, Some("yaml" | "yml"))
    };
    let mut files: Vec<String> = names.filter(is_pipeline).map(|file| format!("{name}/{file}")).collect();
    files.sort();
    files
}

/// Reads all pipelines, in the order of their names.
fn pipelines(files: &[String], defaults: &Defaults, reader: &mut Reader<'_>) -> Vec<Pipeline> {
    let mut pipelines: Vec<Pipeline> = Vec::with_capacity(files.len());
    for file in files {
        let Some(node) = read_optional(file, reader) else { continue };
        let Some(Declared { pipeline, name, schedule }) = pipeline::read(&node, file, defaults, reader) else {
            continue;
        };
        if let Some(other) = pipelines.iter().find(|other| other.name == pipeline.name) {
            let detail = format!("`{}` is also the name of {}", pipeline.name, other.file.display());
            let hint = "declare another `name:` in one of the two files";
            reader.problems.push(Problem::new(Code::DuplicateName, &name, detail).hint(hint));
            continue;
        }
        let grouped = |other: &&Pipeline| pipeline.group.is_some() && other.group == pipeline.group;
        if let Some(other) = pipelines.iter().find(grouped).filter(|other| other.schedule != pipeline.schedule) {
            let detail = format!(
                "{} and {} are of one group, but have different schedules",
                pipeline.file.display(),
                other.file.display()
            );
            let hint = "a group runs as one: declare the same `schedule` and `timezone` in all its files";
            reader.problems.push(Problem::new(Code::InvalidSchedule, &schedule, detail).hint(hint));
        }
        pipelines.push(pipeline);
    }
    pipelines.sort_by(|a, b| a.name.cmp(&b.name));
    pipelines
}
