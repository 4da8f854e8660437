//! The project's id at the end of `lakegate.yaml`.

use crate::config::project_id_lines;

#[test]
fn the_id_goes_on_a_line_of_its_own() {
    assert_eq!(project_id_lines("", "x").as_deref(), Some("project: x\n"));
    assert_eq!(project_id_lines("# nothing yet", "x").as_deref(), Some("\nproject: x\n"));
    assert_eq!(project_id_lines("api:\n  listen: 127.0.0.1:1\n", "x").as_deref(), Some("project: x\n"));
}

#[test]
fn a_file_that_ends_otherwise_is_left_alone() {
    for text in ["{limits: {memory: 64MiB}}\n", "limits: {}\n...\n", "limits: [\n", "- a\n"] {
        assert_eq!(project_id_lines(text, "x"), None, "{text:?}");
    }
}
