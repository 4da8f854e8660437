//! The page that shows the document.

use std::fs;
use std::path::Path;

use crate::support::http::{get, get_with};
use crate::support::postgres::TestDatabase;
use crate::support::published::{Publisher, Running, settings};

#[tokio::test]
async fn it_is_whole_without_anything_from_elsewhere() {
    let database = TestDatabase::new().await;
    let _publisher = Publisher::new(&database).await;
    let running = Running::start(settings(), database.connector()).await;
    let addr = running.server.addr;
    let page = get(addr, "/docs").await;
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let named = page.body.split('"').filter(|text| text.starts_with("docs/") || text.starts_with("v1/"));
    let named: Vec<&str> = named.collect();
    assert_eq!(named, ["docs/page.css", "docs/page.js", "v1/openapi.json"]);
    for path in ["docs", "docs/page.css", "docs/page.js"] {
        let file = get(addr, &format!("/{path}")).await;
        assert_eq!((file.status, file.header("x-content-type-options")), (200, Some("nosniff")), "{path}");
        let policy = file.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"), "{policy}");
        assert!(
            !file.body.contains("//cdn") && !file.body.contains("https://") && !file.body.contains("http://"),
            "{path}"
        );
        let tag = file.header("etag").unwrap();
        assert_eq!(get_with(addr, &format!("/{path}"), &[("If-None-Match", tag)]).await.status, 304);
    }
}

#[test]
fn no_markup_is_made_of_data() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/serve/docs");
    let script = fs::read_to_string(folder.join("page.js")).unwrap();
    for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser"]
    {
        assert!(!script.contains(way), "{way}");
    }
    let page = fs::read_to_string(folder.join("index.html")).unwrap();
    for way in ["<style", " style=", " onclick=", "<script>"] {
        assert!(!page.contains(way), "{way}");
    }
}
