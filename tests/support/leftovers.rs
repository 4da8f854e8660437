//! What runs must not leave behind, however they ended.

use std::time::Duration;

use lakegate::postgres::Session;

/// Fails if anything is left of runs that are over: a run that says it runs, a lease, a session, a table that is
/// neither live nor kept. Sessions of a process that has just died may take a moment to end.
pub(crate) async fn none_in(session: &Session, after: &str) {
    let sql = "SELECT format('run %s is %s', run, state) FROM lakegate.runs WHERE finished_at IS NULL \
         OR state IN ('running', 'waiting') \
         UNION ALL SELECT 'the lease of ' || pipeline FROM lakegate.leases \
         UNION ALL SELECT format('a session: %s, %s', application_name, query) FROM pg_stat_activity \
         WHERE datname = current_database() \
           AND application_name = ANY ('{lakegate lease,lakegate sync,lakegate copy,lakegate index}') \
         UNION ALL SELECT 'the table ' || relname FROM pg_class c \
         WHERE relnamespace = 'lakegate_data'::regnamespace AND relkind <> 'i' AND NOT EXISTS ( \
           SELECT FROM lakegate.generations g WHERE c.relname = g.pipeline || '__g' || g.generation \
           AND g.published_at IS NOT NULL AND g.retired_at IS NULL)";
    let staged = "SELECT 'rows in ' || relname FROM pg_class WHERE relnamespace = 'lakegate'::regnamespace \
         AND relname ~ '^g[0-9]+_(coming|going)$' AND (xpath('/row/c/text()', query_to_xml( \
           format('SELECT count(*) AS c FROM lakegate.%I', relname), false, true, '')))[1]::text <> '0'";
    let sql = &format!("{sql} UNION ALL {staged}");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let left: Vec<String> = session.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        if left.is_empty() {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "left after {after}: {left:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
