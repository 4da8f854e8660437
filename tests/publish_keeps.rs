//! What people hang on a published view survives every refresh: grants, owner, options, comments, dependent views.

use lakegate::postgres::Session;

use crate::support::items::Items;
use crate::support::postgres::TestDatabase;
use crate::support::roles::{ask_as, role};

/// SQLSTATE of a missing privilege.
const DENIED: &str = "42501";

/// Everything that hangs on the view `lake.items`, one fact a line.
async fn decoration(session: &Session) -> Vec<String> {
    let facts = "
        SELECT 'owner ' || pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'lake.items'::regclass
        UNION ALL SELECT 'option ' || unnest(reloptions) FROM pg_class WHERE oid = 'lake.items'::regclass
        UNION ALL SELECT 'comment ' || coalesce(a.attname, 'view') || ': ' || d.description
            FROM pg_description d LEFT JOIN pg_attribute a ON a.attrelid = d.objoid AND a.attnum = nullif(d.objsubid, 0)
            WHERE d.objoid = 'lake.items'::regclass
        UNION ALL SELECT 'grant ' || x.privilege_type || ' to ' || coalesce(r.rolname, 'PUBLIC') || x.is_grantable
            FROM pg_class c, aclexplode(c.relacl) x LEFT JOIN pg_roles r ON r.oid = x.grantee
            WHERE c.oid = 'lake.items'::regclass
        UNION ALL SELECT 'grant ' || x.privilege_type || ' on ' || a.attname || ' to ' || coalesce(r.rolname, 'PUBLIC')
                || x.is_grantable
            FROM pg_attribute a, aclexplode(a.attacl) x LEFT JOIN pg_roles r ON r.oid = x.grantee
            WHERE a.attrelid = 'lake.items'::regclass
        ORDER BY 1";
    session.query(facts, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Hangs one thing of each kind on the view: the roles that may read it, a column of it, and pass it on.
async fn decorate(items: &Items, session: &Session) -> [String; 3] {
    let database = &items.project.database;
    let readers = [
        role(session, database, "whole").await,
        role(session, database, "column").await,
        role(session, database, "second").await,
    ];
    let owner = role(session, database, "owner").await;
    let [whole, column, second] = &readers;
    let sql = format!(
        "GRANT USAGE ON SCHEMA lake TO PUBLIC;
         GRANT SELECT ON lake.items TO {whole} WITH GRANT OPTION;
         GRANT INSERT ON lake.items TO {whole};
         GRANT SELECT (id) ON lake.items TO {column} WITH GRANT OPTION;
         GRANT SELECT (name) ON lake.items TO PUBLIC;
         SET ROLE {whole}; GRANT SELECT ON lake.items TO {second}; RESET ROLE;
         ALTER VIEW lake.items SET (security_barrier = true);
         COMMENT ON VIEW lake.items IS 'what we sell; ''quoted'' \\ and all';
         COMMENT ON COLUMN lake.items.name IS 'as printed';
         GRANT lakegate_owner TO {owner};
         GRANT CREATE ON SCHEMA lake TO {owner};
         ALTER VIEW lake.items OWNER TO {owner};"
    );
    session.batch_execute(&sql).await.unwrap();
    readers
}

#[tokio::test]
async fn what_hangs_on_the_view_survives_a_refresh() {
    let mut items = Items::with_roles("").await;
    let session = items.project.sql().await;
    let [whole, column, second] = decorate(&items, &session).await;
    session.batch_execute("CREATE VIEW public.daily AS SELECT count(*) AS items FROM lake.items").await.unwrap();
    let before = decoration(&session).await;
    assert!(before.len() > 9, "{before:?}");

    items.lake.update("name", "'changed'", "id = 1").await;
    assert_eq!(items.project.sync("items").await["publish_no"], 2);

    assert_eq!(decoration(&session).await, before);
    let changed = "SELECT name FROM lake.items WHERE id = 1";
    assert_eq!(ask_as(&session, &whole, changed).await, Ok("changed".to_owned()));
    assert_eq!(ask_as(&session, &second, changed).await, Ok("changed".to_owned()));
    assert_eq!(ask_as(&session, &column, "SELECT max(id) FROM lake.items").await, Ok("2".to_owned()));
    let count: i64 = session.query_one("SELECT items FROM public.daily", &[]).await.unwrap().get(0);
    assert_eq!(count, 3);
}

#[tokio::test]
async fn a_view_made_anew_gets_back_what_hung_on_it() {
    let mut items = Items::with_roles("on_schema_change: follow\n").await;
    let session = items.project.sql().await;
    // A view made anew must not keep what default privileges give to new ones either.
    let stranger = role(&session, &items.project.database, "stranger").await;
    let [whole, column, _] = decorate(&items, &session).await;
    let sql = format!("ALTER DEFAULT PRIVILEGES IN SCHEMA lake GRANT SELECT ON TABLES TO {stranger}");
    session.batch_execute(&sql).await.unwrap();
    let before = decoration(&session).await;
    let number = |rows: &[tokio_postgres::Row]| rows[0].get::<_, u32>(0);
    let oid = "SELECT 'lake.items'::regclass::oid";
    let old = number(&session.query(oid, &[]).await.unwrap());

    items.replace_columns(&["id"]).await;
    items.project.sync("items").await;

    assert_ne!(number(&session.query(oid, &[]).await.unwrap()), old, "the view was made anew");
    let gone = |fact: &&String| !fact.starts_with("comment name") && !fact.contains(" on name ");
    assert_eq!(decoration(&session).await, before.iter().filter(gone).cloned().collect::<Vec<_>>());
    for reader in [&whole, &column] {
        assert_eq!(ask_as(&session, reader, "SELECT max(id) FROM lake.items").await, Ok("2".to_owned()));
    }
    assert_eq!(ask_as(&session, &stranger, "SELECT max(id) FROM lake.items").await, Err(DENIED.to_owned()));
}

#[tokio::test]
async fn grants_let_a_role_read_the_view_and_nothing_below_it() {
    let items = Items::new("").await;
    let session = items.project.sql().await;
    let reader = role(&session, &items.project.database, "reader").await;
    assert_eq!(ask_as(&session, &reader, "SELECT count(*) FROM lake.items").await, Err(DENIED.to_owned()));

    items.pipeline(&format!("grants: [{reader}]\n"));
    items.project.run(&["sync", "items", "--full"]).await.ok();
    assert_eq!(ask_as(&session, &reader, "SELECT count(*) FROM lake.items").await, Ok("3".to_owned()));
    let below = "SELECT count(*) FROM lakegate_data.items__g2";
    assert_eq!(ask_as(&session, &reader, below).await, Err(DENIED.to_owned()));
    assert_eq!(ask_as(&session, &reader, "SELECT count(*) FROM lakegate.runs").await, Err(DENIED.to_owned()));
}

#[tokio::test]
async fn a_grant_to_a_missing_role_is_refused_by_plan() {
    let items = Items::new("").await;
    items.pipeline("grants: [nobody_of_this_name]\n");
    let planned = items.project.run(&["plan", "items", "--output", "json"]).await;
    assert_eq!(planned.code, Some(1));
    let error = &planned.json()[0]["error"];
    assert_eq!(error["code"], "LG4020");
    assert!(error["detail"].as_str().unwrap().contains("nobody_of_this_name"), "{error}");
    assert_eq!(items.project.sync_fails("items").await["code"], "LG4020");
    assert_eq!(items.generation_tables().await, 1);
}

#[tokio::test]
async fn a_refresh_leaves_grants_that_stand_alone() {
    let mut items = Items::new("").await;
    let session = items.project.sql().await;
    let reader = role(&session, &items.project.database, "reader").await;
    let other = role(&session, &items.project.database, "other").await;
    items.pipeline(&format!("grants: [{reader}]\n"));
    items.project.run(&["sync", "items", "--full"]).await.ok();

    // Whoever else grants on the schema holds its row in the catalogue: two publishes at a time would fail each other.
    session
        .batch_execute(&format!("BEGIN; GRANT USAGE ON SCHEMA lake, lakegate_data, lakegate TO {other}"))
        .await
        .unwrap();
    items.lake.update("name", "'changed'", "id = 1").await;
    items.pipeline(&format!("grants: [{reader}]\npublish_timeout: 1s\n"));
    assert_eq!(items.project.sync("items").await["state"], "succeeded");
    session.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(ask_as(&session, &reader, "SELECT count(*) FROM lake.items").await, Ok("3".to_owned()));
}

#[tokio::test]
async fn default_privileges_reach_no_generation_and_hide_no_view() {
    let mut items = Items::on(TestDatabase::alone().await, "").await;
    let session = items.project.sql().await;
    let curious = role(&session, &items.project.database, "curious").await;
    let reader = role(&session, &items.project.database, "reader").await;
    items.pipeline(&format!("grants: [{reader}]\n"));
    let sql = format!(
        "CREATE SCHEMA lakegate; CREATE SCHEMA lakegate_data; GRANT USAGE ON SCHEMA lakegate_data TO PUBLIC;
         ALTER DEFAULT PRIVILEGES IN SCHEMA lakegate_data GRANT ALL ON TABLES TO {curious}, PUBLIC;
         ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {curious};
         ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;"
    );
    session.batch_execute(&sql).await.unwrap();
    items.project.sync("items").await;
    items.lake.update("name", "'changed'", "id = 1").await;
    items.project.sync("items").await;

    let grantees = "SELECT DISTINCT coalesce(r.rolname, 'PUBLIC')::text FROM pg_class c, aclexplode(c.relacl) x
        LEFT JOIN pg_roles r ON r.oid = x.grantee
        WHERE c.relnamespace = 'lakegate_data'::regnamespace AND c.relname ~ '^items__g' AND x.grantee <> c.relowner";
    let grantees: Vec<String> = session.query(grantees, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(grantees, ["lakegate_api"]);
    let below = "SELECT count(*) FROM lakegate_data.items__g1";
    assert_eq!(ask_as(&session, &curious, below).await, Err(DENIED.to_owned()));
    assert_eq!(ask_as(&session, &reader, "SELECT count(*) FROM lake.items").await, Ok("3".to_owned()));
}
