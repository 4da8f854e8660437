//! `lakegate verify`: a whole published table against its source.

use serde_json::Value;

use crate::support::items::Items;

async fn verify_fails(items: &Items) -> Value {
    let ran = items.project.run(&["verify", "items", "--output", "json"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    ran.json().remove(0)["error"].take()
}

#[tokio::test]
async fn a_table_that_equals_its_source_is_said_to() {
    let mut items = Items::new("").await;
    // What is compared is the version that is published, though the source has moved on.
    items.lake.delete("id = 1").await;
    let verified = items.project.run(&["verify", "items", "--output", "json"]).await.ok().json().remove(0);
    assert_eq!(verified["rows"], 3);
    assert_eq!(verified["source_version"], "1");
}

#[tokio::test]
async fn a_changed_value_is_found_with_its_column() {
    let items = Items::new("").await;
    let session = items.project.sql().await;
    session.batch_execute("UPDATE lakegate_data.items__g1 SET name = 'row l' WHERE id = 1").await.unwrap();
    let error = verify_fails(&items).await;
    assert_eq!(error["code"], "LG5010");
    let detail = error["detail"].as_str().unwrap();
    assert!(detail.ends_with("the values of `name` differ"), "{detail}");
}

#[tokio::test]
async fn a_missing_row_is_found() {
    let items = Items::new("").await;
    let session = items.project.sql().await;
    session.batch_execute("DELETE FROM lakegate_data.items__g1 WHERE id = 1").await.unwrap();
    assert_eq!(verify_fails(&items).await["code"], "LG5010");
}
