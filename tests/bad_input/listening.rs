//! The addresses of the APIs.

use super::{ITEMS, items, refused};

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let mut project = items(ITEMS).await;
    project.set("LAKEGATE_API_LISTEN", &address);
    refused!("port_taken", project, "serve", &address => "127.0.0.1:PORT");
    let up = project.run(&["up"]).await;
    assert!(up.code == Some(1) && up.stderr.contains("error[LG6012]"), "{up:?}");
}

#[tokio::test]
async fn an_address_of_another_machine_is_refused() {
    let mut project = items("source: lake/items\nprimary_key: [id]\n").await;
    project.set("LAKEGATE_API_LISTEN", "192.0.2.1:8080");
    project.set("LAKEGATE_AUTH", "none");
    refused!("foreign_address", project, "serve");
}

#[tokio::test]
async fn listening_for_other_machines_without_auth_is_refused() {
    let mut project = items(ITEMS).await;
    project.set("LAKEGATE_API_LISTEN", "0.0.0.0:0");
    refused!("listening_without_auth", project, "serve");
}

#[tokio::test]
async fn a_port_of_the_admin_api_that_is_taken_is_named_with_its_setting() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let mut project = items(ITEMS).await;
    project.set("LAKEGATE_ADMIN_LISTEN", &address);
    refused!("admin_port_taken", project, "up", &address => "127.0.0.1:PORT");
}

#[tokio::test]
async fn an_admin_api_for_other_machines_without_auth_is_refused() {
    let mut project = items(ITEMS).await;
    project.set("LAKEGATE_ADMIN_LISTEN", "0.0.0.0:0");
    refused!("admin_listening_without_auth", project, "up");
}
