//! What a replica answers on the admin API's address.

use nix::sys::signal::Signal;

use super::code;
use crate::support::http::{get, get_with, request};
use crate::support::items::Items;
use crate::support::process::Process;

#[tokio::test]
async fn a_replica_shows_its_metrics_and_nothing_else() {
    let items = Items::new("").await;
    let replica = items.project.start("serve").await;
    assert_eq!(get(replica.address, "/v1/items/1").await.status, 200);
    let metrics = get(replica.admin(), "/metrics").await;
    assert_eq!(metrics.status, 200, "{metrics:?}");
    for shown in [
        r#"lakegate_answers_total{table="items",operation="row",status="200"} 1"#,
        "lakegate_hearing 1",
        "process_resident_memory_bytes",
        "# EOF",
    ] {
        assert!(metrics.body.contains(shown), "{shown} in {}", metrics.body);
    }
    assert_eq!(get(replica.admin(), "/livez").await.status, 200);
    for url in ["/v1/pipelines", "/v1/items/1", "/"] {
        let refused = get(replica.admin(), url).await;
        assert_eq!((refused.status, code(&refused)), (404, "LG6013".to_owned()), "{url}");
    }
    assert_eq!(request(replica.admin(), "DELETE", "/livez", &[]).await.status, 405);
    assert_eq!(get_with(replica.admin(), "/metrics", &[("Host", "evil.example")]).await.status, 421);
}

#[tokio::test]
async fn where_other_machines_may_ask_metrics_are_for_the_key_of_an_administrator() {
    let mut items = Items::new("").await;
    let made = items.project.run(&["keys", "create", "scraper", "--role", "admin"]).await.ok();
    items.project.set("LAKEGATE_AUTH", "{keys: true}");
    items.project.set("LAKEGATE_ADMIN_LISTEN", "0.0.0.0:0");
    let replica = items.project.start("serve").await;
    let asked = async |headers: &[(&str, &str)]| get_with(replica.admin(), "/metrics", headers).await.status;
    assert_eq!(asked(&[]).await, 401);
    let key = format!("Bearer {}", made.stdout.trim());
    assert_eq!(asked(&[("Authorization", key.as_str())]).await, 200);
    assert_eq!(get(replica.admin(), "/livez").await.status, 200);
}

#[tokio::test]
async fn a_replica_beside_a_process_with_the_same_address_for_metrics_serves_rows_without_them() {
    let mut items = Items::new("").await;
    let up = items.project.start("up").await;
    items.project.set("LAKEGATE_ADMIN_LISTEN", &up.admin().to_string());
    let replica = Process::start(items.project.command(&["serve"]));
    assert_eq!(get(replica.address().await, "/v1/items/1").await.status, 200);
    replica.says("this replica has no metrics").await;
    replica.signal(Signal::SIGTERM);
    assert_eq!(replica.end().await.code, Some(0));
}
