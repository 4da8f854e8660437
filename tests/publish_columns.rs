//! Columns that come, go or change: what follows by itself, what on request, and what is refused before anything is
//! loaded.

use serde_json::Value;

use crate::support::items::Items;

/// The columns of the view with their types and comments, in order.
async fn columns(items: &Items) -> Vec<String> {
    let sql = "SELECT concat_ws(' ', attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum)) \
               FROM pg_attribute WHERE attrelid = 'lake.items'::regclass AND attnum > 0 ORDER BY attnum";
    items.project.sql().await.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// The error of a plan that must be refused; a sync is refused with the same, and has loaded nothing.
async fn refused(items: &Items) -> Value {
    let generations = items.generation_tables().await;
    let planned = items.project.run(&["plan", "items", "--output", "json"]).await;
    assert_eq!(planned.code, Some(1), "{planned:?}");
    let error = planned.json().remove(0)["error"].take();
    assert_eq!(items.project.sync_fails("items").await, error);
    assert_eq!(items.generation_tables().await, generations);
    let published = "SELECT (SELECT count(*) FROM lake.items), publish_no FROM lakegate.published";
    let row = items.project.sql().await.query_one(published, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (3, 1), "the old generation serves");
    error
}

fn detail(error: &Value) -> &str {
    error["detail"].as_str().unwrap()
}

#[tokio::test]
async fn an_added_column_comes_last_and_dependents_stay() {
    let mut items = Items::new("").await;
    let session = items.project.sql().await;
    session.batch_execute("CREATE VIEW daily AS SELECT id, name FROM lake.items").await.unwrap();

    items.replace_columns(&["price", "name", "id"]).await;
    let planned = items.project.run(&["plan", "items", "--output", "json"]).await.ok().json().remove(0);
    assert_eq!(planned["view"], "replaced in place");
    assert_eq!(planned["dependents"][0]["object"], "view public.daily");
    let last = &planned["columns"][2];
    assert_eq!((&last["name"], &last["change"]), (&"price".into(), &"added".into()));
    items.project.sync("items").await;

    assert_eq!(columns(&items).await, ["id bigint", "name text", "price numeric numeric(10,2)"]);
    let row = session.query_one("SELECT name FROM daily WHERE id = 1", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "b");
}

#[tokio::test]
async fn comments_of_the_lake_follow_it_and_those_of_people_stay() {
    let mut items = Items::unsynced("on_schema_change: follow\n").await;
    items.replace_columns(&["id", "price"]).await;
    items.project.sync("items").await;
    assert_eq!(columns(&items).await, ["id bigint", "price numeric numeric(10,2)"]);

    items.replace_columns(&["id", "price_fine"]).await;
    items.project.sync("items").await;
    assert_eq!(columns(&items).await, ["id bigint", "price numeric numeric(12,4)"]);

    let session = items.project.sql().await;
    session.batch_execute("COMMENT ON COLUMN lake.items.price IS 'net'").await.unwrap();
    items.replace_columns(&["id", "price"]).await;
    items.project.sync("items").await;
    assert_eq!(columns(&items).await, ["id bigint", "price numeric net"]);
}

#[tokio::test]
async fn a_column_that_goes_is_refused_unless_followed() {
    let mut items = Items::new("").await;
    items.replace_columns(&["id"]).await;
    let error = refused(&items).await;
    assert_eq!(error["code"], "LG2015");
    assert_eq!(
        detail(&error),
        "`items`: the published column `name` would go: it is no longer among the columns of the source that are taken"
    );

    items.pipeline("on_schema_change: follow\n");
    items.project.sync("items").await;
    assert_eq!(columns(&items).await, ["id bigint"]);
}

#[tokio::test]
async fn a_column_of_another_type_is_refused_unless_followed() {
    let mut items = Items::new("").await;
    items.replace_columns(&["id", "name_number"]).await;
    let error = refused(&items).await;
    assert_eq!(error["code"], "LG2015");
    assert_eq!(detail(&error), "`items`: the published column `name` would change from text to bigint");

    items.pipeline("on_schema_change: follow\n");
    items.project.sync("items").await;
    assert_eq!(columns(&items).await, ["id bigint", "name bigint"]);
}

#[tokio::test]
async fn a_followed_change_that_dependents_stand_against_is_refused_by_plan() {
    let mut items = Items::new("on_schema_change: follow\n").await;
    let session = items.project.sql().await;
    let dependents = "CREATE SCHEMA reports; CREATE VIEW reports.daily AS SELECT id FROM lake.items;
                      CREATE FUNCTION first_item() RETURNS lake.items LANGUAGE sql AS 'SELECT * FROM lake.items LIMIT 1'";
    session.batch_execute(dependents).await.unwrap();
    items.replace_columns(&["id"]).await;
    let error = refused(&items).await;
    assert_eq!(error["code"], "LG4016");
    assert!(detail(&error).contains("function public.first_item(), view reports.daily"), "{error}");

    session.batch_execute("DROP VIEW reports.daily; DROP FUNCTION first_item()").await.unwrap();
    items.project.sync("items").await;
    assert_eq!(columns(&items).await, ["id bigint"]);
}

#[tokio::test]
async fn a_key_never_changes_its_type() {
    let mut items = Items::new("").await;
    items.replace_columns(&["id_text", "name"]).await;
    for further in ["", "on_schema_change: follow\n", "on_schema_change: follow\nindexes: [name]\n"] {
        items.pipeline(further);
        let error = refused(&items).await;
        assert_eq!(error["code"], "LG2015", "{further}");
        assert!(detail(&error).contains("key column"), "{error}");
    }
}

#[tokio::test]
async fn any_change_is_refused_where_the_pipeline_says_so() {
    let mut items = Items::new("on_schema_change: fail\n").await;
    items.replace_columns(&["id", "name", "price"]).await;
    let error = refused(&items).await;
    assert_eq!(error["code"], "LG2015");
    assert_eq!(detail(&error), "`items`: the source has a new column `price`");
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused_by_plan() {
    let items = Items::unsynced("").await;
    let session = items.project.sql().await;
    let foreign = [
        ("CREATE SCHEMA lake; CREATE TABLE lake.items (id bigint)", "DROP TABLE lake.items"),
        ("CREATE VIEW lake.items AS SELECT 1 AS id", "DROP VIEW lake.items"),
        ("CREATE MATERIALIZED VIEW lake.items AS SELECT 1 AS id", "DROP MATERIALIZED VIEW lake.items"),
    ];
    for (take, free) in foreign {
        session.batch_execute(take).await.unwrap();
        let planned = items.project.run(&["plan", "items", "--output", "json"]).await;
        assert_eq!(planned.json()[0]["error"]["code"], "LG4021", "{take}: {planned:?}");
        assert_eq!(items.project.sync_fails("items").await["code"], "LG4021", "{take}");
        session.batch_execute(free).await.unwrap();
    }
    items.project.sync("items").await;
    assert_eq!(columns(&items).await, ["id bigint", "name text"]);
}
