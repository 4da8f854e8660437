//! What the records of runs must say, whatever died.

use lakegate::postgres::Session;

/// Fails unless the runs that succeeded have published one after the other, without gap or repetition, versions that only
/// rise, and no run did anything but that, nothing, or fail. For a source whose versions are numbers.
pub(crate) async fn assert_published_once(session: &Session, after: &str) {
    let sql = "SELECT publish_no, source_version::bigint FROM lakegate.runs WHERE state = 'succeeded' ORDER BY run";
    let runs = session.query(sql, &[]).await.unwrap();
    let numbers: Vec<i64> = runs.iter().map(|row| row.get(0)).collect();
    let last = session.query_one("SELECT publish_no FROM lakegate.published", &[]).await.unwrap();
    let expected: Vec<i64> = (1..=last.get(0)).collect();
    assert_eq!(numbers, expected, "{after}: the publish numbers of the runs that succeeded");
    let versions: Vec<i64> = runs.iter().map(|row| row.get(1)).collect();
    assert!(versions.is_sorted_by(|a, b| a < b), "{after}: published versions {versions:?}");
    let sql = "SELECT count(*) FROM lakegate.runs WHERE state NOT IN ('succeeded', 'skipped', 'failed')";
    let others: i64 = session.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(others, 0, "{after}: runs that neither did what they should nor failed");
}
