//! Every path of a server with every type, asked as the document says and otherwise.

use std::net::SocketAddr;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use super::server;
use crate::support::http::{Reply, get, request, send};
use crate::support::json_schema::{resolve, violations};
use crate::support::postgres::TestDatabase;

/// Headers that HTTP itself has.
const OF_HTTP: &[&str] = &[
    "content-type",
    "content-length",
    "content-encoding",
    "date",
    "connection",
    "x-content-type-options",
    "referrer-policy",
    "content-security-policy",
];

/// The server and what it says of itself.
struct Promised {
    addr: SocketAddr,
    document: Value,
}

/// What is asked of one operation.
#[derive(Clone)]
struct Asked {
    path: String,
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Asked {
    fn query(mut self, more: &str) -> Self {
        let mark = if self.url.contains('?') { '&' } else { '?' };
        self.url = format!("{}{mark}{more}", self.url);
        self
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }
}

fn encoded(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string()
}

impl Promised {
    async fn of(addr: SocketAddr) -> Promised {
        let reply = get(addr, "/v1/openapi.json").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        Promised { addr, document: reply.json() }
    }

    fn item(&self, path: &str) -> &Map<String, Value> {
        self.document["paths"][path].as_object().unwrap_or_else(|| panic!("no path {path}"))
    }

    /// The operation, asked with the document's own examples.
    fn example(&self, path: &str, method: &str) -> Asked {
        let item = self.item(path);
        let operation = &item[method];
        let mut asked = Asked {
            path: path.to_owned(),
            method: method.to_owned(),
            url: path.to_owned(),
            headers: Vec::new(),
            body: String::new(),
        };
        let own = operation["parameters"].as_array().into_iter().flatten();
        let all = item.get("parameters").and_then(Value::as_array).into_iter().flatten().chain(own);
        for parameter in all.map(|parameter| resolve(&self.document, parameter)) {
            let name = parameter["name"].as_str().unwrap();
            let Some(example) = parameter.get("example") else {
                assert_ne!(parameter["required"], true, "{path}: {name} has no example");
                continue;
            };
            assert_eq!(violations(&self.document, &parameter["schema"], example), Vec::<String>::new(), "{path}");
            if parameter["in"] == "path" {
                asked.url = asked.url.replace(&format!("{{{name}}}"), &encoded(example));
            } else {
                for part in example.as_array().unwrap() {
                    asked = asked.query(&format!("{name}={}", encoded(part)));
                }
            }
        }
        if let Some(content) = operation.pointer("/requestBody/content/application~1json") {
            let wrong = violations(&self.document, &content["schema"], &content["example"]);
            assert_eq!(wrong, Vec::<String>::new(), "{path}");
            asked = asked.header("Content-Type", "application/json").body(&content["example"].to_string());
        }
        asked
    }

    /// Asks and holds the answer against the document: status, headers, type and body.
    async fn ask(&self, asked: Asked) -> Reply {
        let headers: Vec<(&str, &str)> = asked.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let reply = send(self.addr, &asked.method.to_uppercase(), &asked.url, &headers, &asked.body).await;
        let what = format!("{} {} {:?}: {reply:?}", asked.method, asked.url, asked.headers);
        let responses = &self.item(&asked.path)[&asked.method]["responses"];
        let described = responses.get(reply.status.to_string()).unwrap_or_else(|| panic!("no such status: {what}"));
        let described = resolve(&self.document, described);
        for name in reply.names().filter(|name| !OF_HTTP.contains(&name.as_str())) {
            let mut known = described["headers"].as_object().into_iter().flatten();
            let header =
                known.find(|(known, _)| known.eq_ignore_ascii_case(&name)).unwrap_or_else(|| panic!("{name}: {what}"));
            let schema = &resolve(&self.document, header.1)["schema"];
            let text = reply.header(&name).unwrap();
            let value = if schema["type"] == "integer" { text.parse::<i64>().unwrap().into() } else { text.into() };
            assert_eq!(violations(&self.document, schema, &value), Vec::<String>::new(), "{what}");
        }
        for (name, header) in described["headers"].as_object().into_iter().flatten() {
            let required = resolve(&self.document, header)["required"] == true;
            assert!(!required || reply.header(name).is_some(), "{name} is missing: {what}");
        }
        let Some(content) = described.get("content").and_then(Value::as_object) else {
            assert_eq!(reply.body, "", "{what}");
            return reply;
        };
        let kind = reply.header("content-type").unwrap_or_else(|| panic!("no type: {what}"));
        let exact = content.get(kind);
        let media =
            exact.or_else(|| content.get(kind.split(';').next().unwrap())).unwrap_or_else(|| panic!("{kind}: {what}"));
        if kind.starts_with("application/json") {
            assert_eq!(violations(&self.document, &media["schema"], &reply.json()), Vec::<String>::new(), "{what}");
        }
        reply
    }

    /// All paths that rows are read under, with the name of the table.
    fn reading(&self) -> Vec<(String, String)> {
        let paths = self.document["paths"].as_object().unwrap().iter();
        let reading = paths.filter(|(path, item)| path.starts_with("/v1/") && item["get"]["tags"][0] != "Server");
        let reading = reading.filter(|(_, item)| item.get("get").is_some());
        reading.map(|(path, item)| (path.clone(), item["get"]["tags"][0].as_str().unwrap().to_owned())).collect()
    }
}

#[tokio::test]
async fn every_request_by_example_finds_its_row_in_every_format() {
    let database = TestDatabase::new().await;
    let (_publisher, running) = server(&database).await;
    let promised = Promised::of(running.server.addr).await;
    let reading = promised.reading();
    assert!(reading.len() >= 12 * 2 + 3 + 3, "{reading:?}");
    for (path, _) in &reading {
        let asked = promised.example(path, "get");
        let response = &promised.item(path)["get"]["responses"]["200"];
        let formats: Vec<&String> =
            resolve(&promised.document, response)["content"].as_object().unwrap().keys().collect();
        assert_eq!(formats.len(), 5);
        for format in formats {
            let asked = asked.clone().header("Accept", format);
            let reply = promised.ask(asked.clone()).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            if format.starts_with("application/json") {
                assert_ne!(reply.data(), Value::Array(Vec::new()), "{path}");
            }
            let head = promised.ask(Asked { method: "head".to_owned(), ..asked.clone() }).await;
            assert_eq!((head.status, head.header("etag")), (200, reply.header("etag")));
            let same = promised.ask(asked.header("If-None-Match", reply.header("etag").unwrap())).await;
            assert_eq!(same.status, 304);
        }
    }
}

#[tokio::test]
async fn every_page_of_every_value_is_as_it_says() {
    let database = TestDatabase::new().await;
    let (_publisher, running) = server(&database).await;
    let promised = Promised::of(running.server.addr).await;
    for format in ["application/json", "application/json; numbers=string", "application/x-ndjson", "text/csv"] {
        let mut asked = promised.example("/v1/things/{part}", "get").header("Accept", format);
        let first = asked.url.clone();
        let mut rows = 0;
        loop {
            let reply = promised.ask(asked.clone()).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            let next = if format.contains("/json") {
                rows += reply.data().as_array().unwrap().len();
                reply.json()["next"].as_str().map(str::to_owned)
            } else {
                rows += 2;
                reply.header("lakegate-next").map(str::to_owned)
            };
            let Some(next) = next else { break };
            asked.url = format!("{first}?cursor={next}");
        }
        assert_eq!(rows, 4, "{format}");
    }
}

#[tokio::test]
async fn whatever_is_refused_is_refused_as_it_says() {
    let database = TestDatabase::new().await;
    let (publisher, running) = server(&database).await;
    let promised = Promised::of(running.server.addr).await;
    for (path, _) in &promised.reading() {
        for method in ["get", "head"] {
            let asked = promised.example(path, "get");
            let asked = Asked { method: method.to_owned(), ..asked };
            let statuses = [
                (asked.clone().query("columns=nothing"), 400),
                (asked.clone().query("unknown=1"), 400),
                (asked.clone().query("limit=0"), 400),
                (asked.clone().header("Lakegate-Max-Staleness", "soon"), 400),
                (asked.clone().header("Accept", "application/xml"), 406),
                (asked.clone().query(&format!("columns={}", "x".repeat(9000))), 413),
                (asked.clone().header("Host", "evil.example.com"), 421),
                (asked.clone().header("X-Filler", &"x".repeat(64 << 10)), 431),
                (asked.clone().header("Lakegate-Max-Staleness", "0ms"), 503),
            ];
            for (asked, status) in statuses {
                assert_eq!(promised.ask(asked.clone()).await.status, status, "{} {:?}", asked.url, asked.headers);
            }
        }
    }
    // A row that is not there, by every type of key.
    publisher.session.batch_execute("DELETE FROM lakegate_data.things__g13").await.unwrap();
    for (path, table) in promised.reading().iter().filter(|(path, _)| path.starts_with("/v1/things")) {
        let page = path == "/v1/things/{part}";
        let reply = promised.ask(promised.example(path, "get")).await;
        assert_eq!(reply.status, if page { 200 } else { 404 }, "{table}");
    }
    let cursor = promised.ask(promised.example("/v1/odd/{key1}", "get").query("limit=1")).await.json()["next"].take();
    let cursor = format!("cursor={}", cursor.as_str().unwrap());
    publisher.session.batch_execute("UPDATE lakegate.published SET publish_no = publish_no + 1").await.unwrap();
    let stale = promised.ask(promised.example("/v1/odd/{key1}", "get").query(&cursor)).await;
    assert_eq!((stale.status, stale.code().as_str()), (409, "LG6006"));
    let followed =
        promised.ask(promised.example("/v1/odd/{key1}", "get").query(&format!("{cursor}&follow=true"))).await;
    assert_eq!(followed.status, 200);
}

#[tokio::test]
async fn batches_are_as_they_say() {
    let database = TestDatabase::new().await;
    let (_publisher, running) = server(&database).await;
    let promised = Promised::of(running.server.addr).await;
    let paths = promised.document["paths"].as_object().unwrap().keys().filter(|path| path.ends_with("/_batch"));
    let paths: Vec<&String> = paths.collect();
    assert_eq!(paths.len(), 12 + 2);
    for path in paths {
        let asked = promised.example(path, "post");
        for format in ["application/json", "application/json; numbers=string", "application/x-ndjson", "text/csv"] {
            let reply = promised.ask(asked.clone().header("Accept", format)).await;
            assert_eq!((reply.status, reply.header("lakegate-missing")), (200, None), "{reply:?}");
            if format.contains("/json") {
                assert_eq!(reply.json()["error"].as_array().unwrap().len(), 0, "{path}: {reply:?}");
                assert!(reply.data()[0].is_object(), "{path}: {reply:?}");
            }
        }
        for (asked, status) in [
            (asked.clone().body(r#"{"keys": [null]}"#), 400),
            (asked.clone().body(r#"{"keys": [{}]}"#), 400),
            (asked.clone().query("limit=1"), 400),
            (asked.clone().header("Accept", "application/xml"), 406),
            (asked.clone().body(&format!("{{\"keys\": [{}1]}}", "1,".repeat(1001))), 413),
            (asked.clone().header("Content-Type", "text/plain"), 415),
            (asked.clone().header("Host", "evil.example.com"), 421),
            (asked.clone().header("Lakegate-Max-Staleness", "0ms"), 503),
        ] {
            assert_eq!(promised.ask(asked.clone()).await.status, status, "{}", asked.url);
        }
    }
    let missing = promised.example("/v1/t_int4/_batch", "post").body(r#"{"keys": [1, 42, 2]}"#);
    let reply = promised.ask(missing.clone()).await;
    assert_eq!(reply.json()["error"].as_array().unwrap().len(), 2);
    let lines = promised.ask(missing.header("Accept", "application/x-ndjson")).await;
    assert_eq!(lines.header("lakegate-missing"), Some("2"));
}

#[tokio::test]
async fn what_the_server_says_of_itself_is_as_it_says() {
    let database = TestDatabase::new().await;
    let (publisher, running) = server(&database).await;
    let promised = Promised::of(running.server.addr).await;
    let own = ["/v1/openapi.json", "/docs", "/livez", "/readyz"];
    for path in own {
        for method in ["get", "head"] {
            let asked = Asked { method: method.to_owned(), ..promised.example(path, "get") };
            let reply = promised.ask(asked.clone()).await;
            assert_eq!(reply.status, 200, "{path}");
            promised.ask(asked.clone().header("Host", "evil.example.com")).await;
            promised.ask(asked.clone().header("Content-Length", "5")).await;
            if let Some(tag) = reply.header("etag") {
                assert_eq!(promised.ask(asked.header("If-None-Match", tag)).await.status, 304);
            }
        }
    }
    publisher.session.batch_execute("UPDATE lakegate.published SET generation = 999 WHERE name = 'odd'").await.unwrap();
    publisher.session.batch_execute("NOTIFY lakegate, 'odd 2'").await.unwrap();
    crate::serve_http::until(async || request(running.server.addr, "GET", "/readyz", &[]).await.status == 503).await;
    promised.ask(promised.example("/readyz", "get")).await;
}

#[tokio::test]
async fn every_example_of_an_answer_fits_its_schema() {
    let database = TestDatabase::new().await;
    let (_publisher, running) = server(&database).await;
    let promised = Promised::of(running.server.addr).await;
    let mut examples = 0;
    for (name, response) in promised.document["components"]["responses"].as_object().unwrap() {
        for (kind, media) in response.get("content").and_then(Value::as_object).into_iter().flatten() {
            let Some(example) = media.get("example") else { continue };
            let wrong = violations(&promised.document, &media["schema"], example);
            assert_eq!(wrong, Vec::<String>::new(), "{name}, {kind}");
            examples += 1;
        }
    }
    assert!(examples > 50, "{examples}");
}
