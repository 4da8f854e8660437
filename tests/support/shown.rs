//! What a person sees of a command, as text for snapshots.

use super::postgres::{PASSWORD, TestCluster};
use super::project::{Ran, TestProject};

/// The exit code and standard error of a command that printed nothing else. What differs from run to run is named:
/// the project's folder, its database, the port of the shared cluster, UUIDs. `names` are further texts and what
/// stands for them.
#[track_caller]
pub(crate) fn refusal(project: &TestProject, ran: &Ran, names: &[(&str, &str)]) -> String {
    assert_eq!(ran.stdout, "", "a refusal is not data: {ran:?}");
    format!("exit code {}\n{}", ran.code.expect("an exit code"), steady(project, &ran.stderr, names))
}

/// Text of a command without what differs from run to run. No text shows the password or has escape codes.
#[track_caller]
pub(crate) fn steady(project: &TestProject, text: &str, names: &[(&str, &str)]) -> String {
    assert!(!text.contains(PASSWORD) && !text.contains("battery"), "the password is shown: {text}");
    assert!(!text.contains('\u{1b}'), "escape codes where no terminal is: {text}");
    let port = format!(":{}", TestCluster::shared().port());
    let mut text = text.replace(&project.dir().display().to_string(), "PROJECT");
    for (found, name) in names {
        text = text.replace(found, name);
    }
    text = text.replace(&port, ":PORT").replace(project.database.name(), "DATABASE");
    without_uuids(&text)
}

/// `UUID` in place of each UUID.
fn without_uuids(text: &str) -> String {
    let is_uuid = |window: &str| uuid::Uuid::try_parse(window).is_ok() && window.as_bytes()[8] == b'-';
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let window = rest.get(..36).filter(|window| is_uuid(window));
        shown.push_str(if window.is_some() { "UUID" } else { &rest[..first.len_utf8()] });
        rest = &rest[window.map_or(first.len_utf8(), str::len)..];
    }
    shown
}
