//! Every credential × table × column × row, in every form of a request, held against what the policy says; and that nothing of
//! another tenant is in any answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use chrono::Utc;
use lakegate::domain::{ColumnType, NewKey, RolePolicy, ScalarType};
use lakegate::serve::ServeSettings;
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::{asking, control, key, named};
use crate::support::http::{Reply, request, send};
use crate::support::postgres::TestDatabase;
use crate::support::published::{Publisher, Running, Table};

const FORMATS: [&str; 5] = [
    "application/json",
    "application/json; numbers=string",
    "application/x-ndjson",
    "text/csv",
    "application/vnd.apache.arrow.stream",
];

/// Whoever asks, and what he should see.
struct Who {
    name: &'static str,
    credential: Option<String>,
    /// The code of the refusal, where he is not let in.
    refused: Option<&'static str>,
    roles: &'static [&'static str],
    tenant: Option<&'static str>,
}

/// A table and who may see what of it.
struct Case {
    table: &'static str,
    /// Roles that may read it with the columns hidden from each; none = whoever is let in.
    roles: &'static [(&'static str, &'static [&'static str])],
    filtered: bool,
}

const CASES: [Case; 4] = [
    Case { table: "open", roles: &[], filtered: false },
    Case { table: "staff", roles: &[("full", &[])], filtered: false },
    Case {
        table: "lines",
        roles: &[("basic", &["cost", "tenant"]), ("full", &["note"]), ("odd", &["cost"])],
        filtered: true,
    },
    Case { table: "own", roles: &[], filtered: true },
];

const COLUMNS: [&str; 6] = ["part", "id", "tenant", "note", "cost", "secret"];

/// Rows of every table: the whole key and whose they are. `None` = nobody's.
const ROWS: [(i32, i32, Option<&str>); 6] =
    [(1, 1, Some("a")), (1, 2, Some("b")), (1, 3, Some("a")), (1, 4, None), (1, 5, Some("b")), (2, 1, Some("b"))];

/// A key without a row.
const MISSING: (i32, i32) = (1, 9);

impl Case {
    fn table(&self) -> Table {
        let text = ColumnType::Scalar(ScalarType::Text);
        let int = ColumnType::Scalar(ScalarType::Int32);
        let types = [int, int, text, text, int, text];
        let columns: Vec<(&str, ColumnType)> = COLUMNS.into_iter().zip(types).collect();
        let mut table = Table::new(self.table, &columns, &["part", "id"]);
        table.policy.hide = vec!["secret".to_owned()];
        table.policy.cache_ttl = Some(60);
        let role = |hide: &[&str]| RolePolicy { hide: hide.iter().map(ToString::to_string).collect() };
        if !self.roles.is_empty() {
            table.policy.roles = Some(self.roles.iter().map(|(name, hide)| ((*name).to_owned(), role(hide))).collect());
        }
        if self.filtered {
            table.policy.row_filter = BTreeMap::from([("tenant".to_owned(), "tenant".to_owned())]);
        }
        table
    }

    /// The columns that somebody sees; `None` where there is no table for him.
    fn seen(&self, who: &Who) -> Option<Vec<&'static str>> {
        let shown = COLUMNS.into_iter().filter(|column| *column != "secret");
        let own: Vec<_> = self.roles.iter().filter(|(name, _)| who.roles.contains(name)).collect();
        if !self.roles.is_empty() && own.is_empty() {
            return None;
        }
        let is_seen = |column: &&str| own.is_empty() || own.iter().any(|(_, hide)| !hide.contains(column));
        Some(shown.filter(is_seen).collect())
    }

    fn is_his(&self, who: &Who, tenant: Option<&str>) -> bool {
        !self.filtered || (tenant.is_some() && tenant == who.tenant)
    }

    fn row(columns: &[&str], (part, id, tenant): (i32, i32, Option<&str>)) -> Value {
        let value = |column: &str| match column {
            "part" => json!(part),
            "id" => json!(id),
            "tenant" => json!(tenant),
            "note" => json!(format!("of tenant-{}", tenant.unwrap_or("nobody"))),
            "cost" => json!(part * 1000 + id),
            other => panic!("{other} is hidden"),
        };
        columns.iter().map(|column| ((*column).to_owned(), value(column))).collect::<serde_json::Map<_, _>>().into()
    }

    /// His rows under a prefix.
    fn page(&self, who: &Who, part: i32) -> Vec<Value> {
        let columns = self.seen(who).unwrap();
        let his = ROWS.iter().filter(|row| row.0 == part && self.is_his(who, row.2));
        his.map(|row| Self::row(&columns, *row)).collect()
    }
}

async fn everybody(client: &Client) -> Vec<Who> {
    let mut all = Vec::new();
    let who = |name, roles, tenant| Who { name, credential: None, refused: None, roles, tenant };
    for (name, roles, tenant) in [
        ("nobody in particular", &[][..], None),
        ("basic of a", &["basic"], Some("a")),
        ("full of a", &["full"], Some("a")),
        ("both of b", &["basic", "full"], Some("b")),
        ("three of a", &["basic", "odd", "other"], Some("a")),
        ("full without a tenant", &["full"], None),
        ("full of no tenant there is", &["full"], Some("c")),
        ("somebody else of a", &["other"], Some("a")),
    ] {
        let attributes = tenant.map(|tenant: &str| ("tenant".to_owned(), tenant.to_owned())).into_iter().collect();
        let roles_of_key = roles.iter().map(ToString::to_string).collect();
        let made = key(client, NewKey { roles: roles_of_key, attributes, ..named(name) }).await;
        all.push(Who { credential: Some(made.text), ..who(name, roles, tenant) });
    }
    let right = all[2].credential.clone().unwrap();
    let refused = |name, credential, code| Who { credential, refused: Some(code), ..who(name, &["full"], Some("a")) };
    let revoked = key(client, NewKey { roles: vec!["full".to_owned()], ..named("revoked") }).await;
    control().revoke_key(client, &revoked.id).await.unwrap().unwrap();
    let soon = Some(Utc::now() + std::time::Duration::from_millis(1));
    let expired = key(client, NewKey { roles: vec!["full".to_owned()], expires_at: soon, ..named("expired") }).await;
    all.push(refused("nobody", None, "LG6018"));
    all.push(refused("wrong", Some(right.replace(&right[16..], &revoked.text[16..])), "LG6019"));
    all.push(refused("expired", Some(expired.text), "LG6020"));
    all.push(refused("revoked", Some(revoked.text), "LG6021"));
    all
}

/// An answer without what differs between any two.
fn comparable(reply: &Reply) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let own = |name: &String| !["x-request-id", "date"].contains(&name.as_str());
    let headers = reply.names().filter(own).map(|name| (name.clone(), reply.header(&name).unwrap().to_owned()));
    (reply.status, headers.collect(), reply.bytes.clone())
}

struct Asker<'a> {
    addr: SocketAddr,
    who: &'a Who,
}

impl Asker<'_> {
    async fn ask(&self, method: &str, url: &str, accept: &str, body: &str) -> Reply {
        let credential = self.who.credential.as_ref().map(|key| format!("Bearer {key}"));
        let mut headers = vec![("Accept", accept)];
        headers.extend(credential.iter().map(|value| ("Authorization", value.as_str())));
        if !body.is_empty() {
            headers.push(("Content-Type", "application/json"));
        }
        let reply = send(self.addr, method, url, &headers, body).await;
        self.keeps_to_his_own(url, &reply);
        reply
    }

    async fn get(&self, url: &str) -> Reply {
        self.ask("GET", url, FORMATS[0], "").await
    }

    /// Nothing of anybody else, and no hidden value, is in any part of an answer about a filtered table.
    fn keeps_to_his_own(&self, url: &str, reply: &Reply) {
        let headers: Vec<String> = reply.names().filter_map(|name| reply.header(&name).map(str::to_owned)).collect();
        let all = format!("{} {}", headers.join(" "), reply.body);
        assert!(!all.contains("hush") && !all.contains("nobody") || !url.contains("lines"), "{url}: {all}");
        assert!(!all.contains("hush"), "{url}: {all}");
        if ["/v1/lines", "/v1/own"].iter().any(|filtered| url.starts_with(filtered)) {
            for other in ["a", "b"].into_iter().filter(|other| Some(*other) != self.who.tenant) {
                assert!(!all.contains(&format!("of tenant-{other}")), "{url} as {}: {all}", self.who.name);
            }
        }
    }

    async fn is_refused(&self, code: &str) {
        for case in &CASES {
            let table = case.table;
            for url in [format!("/v1/{table}/1/1"), format!("/v1/{table}/1"), format!("/v1/{table}?key=1&key=9")] {
                for accept in FORMATS {
                    let reply = self.ask("GET", &url, accept, "").await;
                    assert_eq!((reply.status, reply.code().as_str()), (401, code), "{url} as {}", self.who.name);
                }
                assert_eq!(self.ask("HEAD", &url, FORMATS[0], "").await.status, 401);
            }
            let batch = self.ask("POST", &format!("/v1/{table}/_batch"), FORMATS[0], r#"{"keys": [[1, 1]]}"#).await;
            assert_eq!((batch.status, batch.code().as_str()), (401, code));
        }
        assert_eq!(self.get("/v1/openapi.json").await.code(), code);
    }

    /// A table that is not for him is as one that does not exist.
    async fn has_no(&self, table: &str) {
        for (url, body) in [
            (format!("/v1/{table}/1/1"), ""),
            (format!("/v1/{table}/1"), ""),
            (format!("/v1/{table}/x/y/z"), ""),
            (format!("/v1/{table}/1/1?columns=nothing"), ""),
            (format!("/v1/{table}/1/1?limit=x"), ""),
            (format!("/v1/{table}"), ""),
            (format!("/v1/{table}/_batch"), r#"{"keys": [[1, 1]]}"#),
            (format!("/v1/{table}/_batch"), r#"{"keys": 1}"#),
        ] {
            let method = if body.is_empty() { "GET" } else { "POST" };
            for accept in [FORMATS[0], FORMATS[3], "image/png"] {
                // Names of other lengths are repeated in some answers.
                let told = |reply: &Reply, name: &str| {
                    let (status, mut headers, _) = comparable(reply);
                    headers.retain(|(name, _)| name != "content-length");
                    (status, headers, reply.body.replace(name, "this table"))
                };
                let closed = told(&self.ask(method, &url, accept, body).await, table);
                let nothing = self.ask(method, &url.replace(table, "nothing_here"), accept, body).await;
                let nothing = told(&nothing, "nothing_here");
                assert_eq!(closed, nothing, "{url} as {}", self.who.name);
            }
        }
    }

    async fn sees(&self, case: &Case, seen: &[&str]) {
        let table = case.table;
        // Every row of his, and no other, which are as missing ones in every form.
        for (part, id, tenant) in ROWS {
            let url = format!("/v1/{table}/{part}/{id}");
            if case.is_his(self.who, tenant) {
                let reply = self.get(&url).await;
                assert_eq!(reply.data(), json!([Case::row(seen, (part, id, tenant))]), "{url} as {}", self.who.name);
                let tag = reply.header("etag").unwrap().to_owned();
                let bearer = format!("Bearer {}", self.who.credential.as_ref().unwrap());
                let headers = [("Authorization", bearer.as_str()), ("If-None-Match", &tag)];
                assert_eq!(request(self.addr, "GET", &url, &headers).await.status, 304);
                continue;
            }
            for accept in FORMATS {
                let foreign = comparable(&self.ask("GET", &url, accept, "").await);
                let missing = format!("/v1/{table}/{}/{}", MISSING.0, MISSING.1);
                let missing = comparable(&self.ask("GET", &missing, accept, "").await);
                assert_eq!(foreign, missing, "{url} as {}", self.who.name);
                assert_eq!(foreign.0, 404, "{url}");
            }
            let head = self.ask("HEAD", &url, FORMATS[0], "").await;
            assert_eq!((head.status, head.header("etag")), (404, None), "{url}");
            let bearer = format!("Bearer {}", self.who.credential.as_ref().unwrap());
            let any = [("Authorization", bearer.as_str()), ("If-None-Match", "*")];
            assert_eq!(request(self.addr, "GET", &url, &any).await.status, 404, "{url}");
        }
        self.sees_columns(table, seen).await;
        self.sees_pages(case).await;
        self.sees_batches(case, seen).await;
    }

    /// What is hidden is refused as what does not exist, whatever the row.
    async fn sees_columns(&self, table: &str, seen: &[&str]) {
        for column in COLUMNS {
            for row in ["1/1", "1/2", "1/9", "1"] {
                let reply = self.get(&format!("/v1/{table}/{row}?columns={column}")).await;
                assert_eq!(reply.status != 400, seen.contains(&column), "{table}/{row} {column} as {}", self.who.name);
                if reply.status == 400 {
                    let nothing = self.get(&format!("/v1/{table}/{row}?columns=nothing")).await;
                    assert_eq!(reply.body.replace(column, "nothing"), nothing.body);
                }
            }
        }
        for accept in ["text/csv", "application/json; numbers=string"] {
            let page = self.ask("GET", &format!("/v1/{table}/1"), accept, "").await;
            assert_eq!(page.status, 200);
            if accept == "text/csv" {
                assert_eq!(page.body.lines().next().unwrap(), seen.join(","), "{table} as {}", self.who.name);
            }
        }
    }

    /// Pages hold his rows and go on after them alone.
    async fn sees_pages(&self, case: &Case) {
        let table = case.table;
        for part in [1, 2, 3] {
            let expected = case.page(self.who, part);
            let whole = self.get(&format!("/v1/{table}/{part}")).await;
            assert_eq!(whole.json(), json!({"data": expected, "error": [], "next": null}), "{table}/{part}");
            let (mut found, mut cursor) = (Vec::new(), String::new());
            loop {
                let page = self.get(&format!("/v1/{table}/{part}?limit=1{cursor}")).await.json();
                found.extend(page["data"].as_array().unwrap().clone());
                let Some(next) = page["next"].as_str() else { break };
                cursor = format!("&cursor={next}");
            }
            assert_eq!(found, expected, "{table}/{part} by ones as {}", self.who.name);
            let lines = self.ask("GET", &format!("/v1/{table}/{part}"), FORMATS[2], "").await;
            assert_eq!(lines.body.lines().count(), expected.len());
        }
    }

    /// Few keys, and more than are asked for one by one.
    async fn sees_batches(&self, case: &Case, seen: &[&str]) {
        let table = case.table;
        for filling in [0, 100] {
            let mut keys: Vec<[i32; 2]> = ROWS.iter().map(|(part, id, _)| [*part, *id]).collect();
            keys.push([MISSING.0, MISSING.1]);
            keys.extend((0..filling).map(|number| [7, number]));
            let row = |key: &[i32; 2]| {
                let row = ROWS.iter().find(|row| [row.0, row.1] == *key && case.is_his(self.who, row.2));
                row.map_or(Value::Null, |row| Case::row(seen, *row))
            };
            let expected: Vec<Value> = keys.iter().map(row).collect();
            let body = json!({"keys": keys}).to_string();
            let url = format!("/v1/{table}/_batch");
            let reply = self.ask("POST", &url, FORMATS[0], &body).await.json();
            assert_eq!(reply["data"], json!(expected), "{table} as {}", self.who.name);
            let missed: Vec<usize> = (0..keys.len()).filter(|at| expected[*at].is_null()).collect();
            let errors = reply["error"].as_array().unwrap();
            assert_eq!(errors.iter().map(|miss| miss["index"].as_u64().unwrap() as usize).collect::<Vec<_>>(), missed);
            let texts: std::collections::HashSet<String> =
                errors.iter().map(|miss| format!("{}{}", miss["code"], miss["detail"])).collect();
            assert!(texts.len() <= 1, "{texts:?}");
            for accept in [FORMATS[3], FORMATS[4]] {
                let reply = self.ask("POST", &url, accept, &body).await;
                let told = reply.header("lakegate-missing").unwrap_or("0").parse::<usize>().unwrap();
                assert_eq!(told, missed.len(), "{table} as {accept}");
            }
        }
    }

    /// The document names the tables and columns that he sees, and no others.
    async fn reads_of_his_own(&self) {
        let document = self.get("/v1/openapi.json").await;
        assert_eq!(document.status, 200);
        let document = document.json();
        for case in &CASES {
            let described = document["components"]["schemas"][case.table]["properties"].as_object();
            let described = described.map(|columns| columns.keys().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(described, case.seen(self.who), "{} as {}", case.table, self.who.name);
            assert_eq!(document.to_string().contains(&format!("/v1/{}/", case.table)), described.is_some());
        }
    }
}

async fn publish(publisher: &Publisher) {
    let rows: Vec<String> = ROWS
        .iter()
        .map(|(part, id, tenant)| {
            let owner = tenant.map_or("null".to_owned(), |tenant| format!("'{tenant}'"));
            let note = tenant.unwrap_or("nobody");
            format!("({part}, {id}, {owner}, 'of tenant-{note}', {}, 'hush')", part * 1000 + id)
        })
        .collect();
    for case in &CASES {
        publisher.publish(&case.table(), "17", &format!("VALUES {}", rows.join(", "))).await;
    }
}

async fn hold(cache_memory: u64) {
    let database = TestDatabase::new().await;
    let publisher = Publisher::new(&database).await;
    publish(&publisher).await;
    let everybody = everybody(&publisher.session).await;
    let settings = asking();
    let limits = lakegate::domain::Limits { cache_memory, ..settings.limits.clone() };
    let running = Running::start(ServeSettings { limits, ..settings }, database.connector()).await;
    // Twice: what one has asked for is in memory for the others.
    for _ in 0..2 {
        for who in &everybody {
            let asker = Asker { addr: running.server.addr, who };
            if let Some(code) = who.refused {
                asker.is_refused(code).await;
                continue;
            }
            for case in &CASES {
                match case.seen(who) {
                    Some(seen) => asker.sees(case, &seen).await,
                    None => asker.has_no(case.table).await,
                }
            }
            asker.reads_of_his_own().await;
        }
    }
}

#[tokio::test]
async fn everybody_sees_what_the_policy_says_and_nothing_else() {
    hold(0).await;
}

#[tokio::test]
async fn what_is_kept_for_one_is_not_told_another() {
    hold(1 << 20).await;
}
