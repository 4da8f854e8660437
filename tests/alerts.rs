//! Who is told when a pipeline fails, is late or has recovered: once for every change, whatever dies, and without
//! standing in the way of any run.

use lakegate::domain::{Standing, TableName};
use lakegate::store::{Change, Control};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::items::Items;
use crate::support::lake::LakeTable;
use crate::support::project::{RunningServer, eventually};
use crate::support::webhook::Receiver;

/// A loaded table whose source is watched, and whose alerts go to this receiver.
async fn watched(receiver: &Receiver) -> Items {
    let mut items = Items::new("schedule: on change\n").await;
    items.project.set("LAKEGATE_ALERTS_WEBHOOK", &receiver.url);
    items
}

/// A second pipeline that runs each second: what it has done meanwhile shows that time has passed for the others, too.
async fn add_clock(items: &Items) {
    let (schema, batch) = LakeTable::numbered(0..1);
    LakeTable::create(&items.project.path("lake/clock"), &schema, vec![batch]).await;
    items.project.pipeline("clock", "source: lake/clock\nprimary_key: [id]\nschedule: every 1s\n");
}

async fn runs(items: &Items, pipeline: &str) -> i64 {
    let sql = "SELECT count(*) FROM lakegate.runs WHERE pipeline = $1";
    items.project.sql().await.query_one(sql, &[&pipeline]).await.unwrap().get(0)
}

/// Waits until the clock has run four times more.
async fn ticks(items: &Items) {
    let before = runs(items, "clock").await;
    eventually("the clock runs", async || runs(items, "clock").await >= before + 4).await;
}

async fn undelivered(items: &Items) -> i64 {
    let sql = "SELECT count(*) FROM lakegate.alert_messages";
    items.project.sql().await.query_one(sql, &[]).await.unwrap().get(0)
}

async fn status(items: &Items) -> Value {
    let mut lines = items.project.run(&["status", "--output", "json"]).await.ok().json();
    let tables = lines.remove(0)["tables"].take();
    tables.as_array().unwrap().iter().find(|table| table["name"] == "items").unwrap().clone()
}

/// Writes a row to the lake whose key another row has.
async fn refuse(items: &mut Items) {
    items.lake.append(vec![LakeTable::numbered(0..1).1]).await;
}

/// Writes rows to the lake that have all different keys, so many.
async fn mend(items: &mut Items, rows: i64) {
    items.lake.overwrite(vec![LakeTable::numbered(0..rows).1]).await;
}

async fn end(mut up: RunningServer) {
    kill(Pid::from_raw(up.child.id().unwrap().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(up.child.wait().await.unwrap().code(), Some(0));
}

/// The fields of an alert, as the page lists them.
fn documented() -> Vec<String> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/refresh.md")).unwrap();
    let (_, table) = page.split_once("\n| field | is |\n|---|---|\n").expect("the table of fields");
    let rows = table.lines().map_while(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(field, _)| field.to_owned()).collect()
}

fn told(statuses: &[&str]) -> Vec<(String, String)> {
    statuses.iter().map(|status| ("items".to_owned(), (*status).to_owned())).collect()
}

#[tokio::test]
async fn what_cannot_heal_is_told_at_once_and_its_recovery_too() {
    let receiver = Receiver::start(&[]).await;
    let mut items = watched(&receiver).await;
    let _up = items.project.start("up").await;
    refuse(&mut items).await;
    let post = receiver.nth(1).await;
    let alert = &post.alert;
    assert_eq!(post.key, alert["id"]);
    let fields = ["pipeline", "status", "previous", "source_version", "published_version", "failures", "next_try_at"];
    let expected = json!(["items", "failing", "ok", "2", "1", 1, null]);
    assert_eq!(json!(fields.map(|field| &alert[field])), expected, "{alert}");
    let run = "SELECT run, error::text FROM lakegate.runs ORDER BY run DESC LIMIT 1";
    let run = items.project.sql().await.query_one(run, &[]).await.unwrap();
    assert_eq!(alert["run"], run.get::<_, i64>(0));
    let recorded: Value = serde_json::from_str(run.get(1)).unwrap();
    assert_eq!((&alert["reason"], &alert["reason"]["code"]), (&recorded, &json!("LG4007")));
    assert_eq!(alert["project"].as_str().map(str::is_empty), Some(false), "{alert}");
    for time in ["since", "noticed_at", "checked_at"] {
        assert!(alert[time].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().is_ok(), "{alert}");
    }

    let posted: Vec<&str> = alert.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(posted, documented(), "docs/refresh.md");

    mend(&mut items, 5).await;
    let recovered = receiver.nth(2).await.alert;
    let fields = ["pipeline", "status", "previous", "source_version", "reason", "failures"];
    assert_eq!(json!(fields.map(|field| &recovered[field])), json!(["items", "recovered", "failing", "3", null, 0]));
    assert_ne!(recovered["id"], alert["id"]);
    eventually("nothing is left to deliver", async || undelivered(&items).await == 0).await;
    assert_eq!(receiver.taken(), told(&["failing", "recovered"]));
}

#[tokio::test]
async fn a_refused_version_is_not_run_again_until_it_or_the_definition_changes() {
    let receiver = Receiver::start(&[]).await;
    let mut items = watched(&receiver).await;
    add_clock(&items).await;
    let up = items.project.start("up").await;
    items.lake.update("name", "chr(0)", "id = 1").await;
    receiver.nth(1).await;
    let refused = runs(&items, "items").await;
    ticks(&items).await;
    let shown = status(&items).await;
    let fields = ["sync", "failures", "error_code", "next_try_at"].map(|field| shown[field].clone());
    assert_eq!(json!(fields), json!(["failing", 1, "LG3001", null]));
    let text = items.project.run(&["status"]).await.ok().stdout;
    assert!(text.contains("LG3001, next try when the source moves: "), "{text}");
    end(up).await;

    // Neither does a restart.
    let up = items.project.start("up").await;
    ticks(&items).await;
    assert_eq!(runs(&items, "items").await, refused);
    end(up).await;

    items.pipeline("schedule: on change\non_bad_row: {reject: {max_rows: 5}}\n");
    let up = items.project.start("up").await;
    eventually("the run under the new definition", async || status(&items).await["source_version"] == "2").await;
    let mended = runs(&items, "items").await;
    assert_eq!(mended, refused + 1);

    // A version that is refused for its own sake, and the next one that is not.
    refuse(&mut items).await;
    eventually("the refusal", async || runs(&items, "items").await == mended + 1).await;
    ticks(&items).await;
    assert_eq!(runs(&items, "items").await, mended + 1);
    mend(&mut items, 6).await;
    eventually("the next version", async || status(&items).await["source_version"] == "4").await;
    end(up).await;
}

#[tokio::test]
async fn data_older_than_its_freshness_is_told_even_of_a_paused_pipeline() {
    let receiver = Receiver::start(&[]).await;
    let items = watched(&receiver).await;
    items.pipeline("schedule: on change\nfreshness: 10m\n");
    items.project.run(&["pause", "items"]).await.ok();
    assert_eq!(status(&items).await["late"], false);
    let age = "UPDATE lakegate.published SET checked_at = checked_at - interval '1 hour'";
    items.project.sql().await.execute(age, &[]).await.unwrap();
    assert_eq!((&status(&items).await["late"], &status(&items).await["sync"]), (&json!(true), &json!("idle")));
    assert!(items.project.run(&["status"]).await.ok().stdout.contains("idle, late"));

    let _up = items.project.start("up").await;
    let alert = receiver.nth(1).await.alert;
    assert_eq!((&alert["status"], &alert["reason"]["code"]), (&json!("late"), &json!("LG7002")));
    let detail = alert["reason"]["detail"].as_str().unwrap();
    assert!(detail.contains("its `freshness` is 10m; its schedule is paused"), "{detail}");
    assert_eq!(alert["reason"]["hint"], "lakegate resume items");
    let times =
        ["since", "noticed_at"].map(|field| alert[field].as_str().unwrap().parse::<chrono::DateTime<_>>().unwrap());
    let [since, noticed]: [chrono::DateTime<chrono::Utc>; 2] = times;
    assert_eq!((noticed - since).num_minutes(), 50);

    // A person's sync finds nothing new, which is as good as fresh data.
    assert_eq!(items.project.sync("items").await["state"], "skipped");
    assert_eq!(receiver.nth(2).await.alert["status"], "recovered");
}

#[tokio::test]
async fn looks_that_find_nothing_new_keep_the_data_fresh() {
    let receiver = Receiver::start(&[]).await;
    let items = watched(&receiver).await;
    let age = "UPDATE lakegate.published SET checked_at = checked_at - interval '1 hour'";
    items.project.sql().await.execute(age, &[]).await.unwrap();
    let _up = items.project.start("up").await;
    let checked = "SELECT checked_at > now() - interval '1 minute' FROM lakegate.published";
    let session = items.project.sql().await;
    let is_checked = async || session.query_one(checked, &[]).await.unwrap().get::<_, bool>(0);
    eventually("the look is written down", is_checked).await;
    assert_eq!(runs(&items, "items").await, 1, "no run is needed for that");
}

#[tokio::test]
async fn two_processes_tell_every_change_once() {
    let receiver = Receiver::start(&[]).await;
    let mut items = watched(&receiver).await;
    let _ups = [items.project.start("up").await, items.project.start("up").await];
    let mut expected = Vec::new();
    for round in 1..=3 {
        refuse(&mut items).await;
        receiver.nth(2 * round - 1).await;
        mend(&mut items, 3).await;
        receiver.nth(2 * round).await;
        expected.extend(["failing", "recovered"]);
    }
    eventually("nothing is left to deliver", async || undelivered(&items).await == 0).await;
    assert_eq!(receiver.taken(), told(&expected));
}

#[tokio::test]
async fn of_those_who_notice_the_same_change_one_tells_it() {
    let items = Items::new("").await;
    let control = Control::new("lakegate");
    let name = TableName::new("items").unwrap();
    let (one, other) = (items.project.sql().await, items.project.sql().await);
    let now = chrono::Utc::now();
    for after in 0..20 {
        let standing = if after % 2 == 0 { Standing::Late } else { Standing::Ok };
        let change = Change { pipeline: &name, after, standing, since: now, id: "id", body: "{}" };
        let (first, second) = tokio::join!(control.tell(&*one, &change), control.tell(&*other, &change));
        assert!(first.unwrap() != second.unwrap(), "change {after}");
        // Whoever is behind tells nothing.
        assert!(!control.tell(&*one, &change).await.unwrap(), "change {after} once more");
    }
    assert_eq!(undelivered(&items).await, 20);
    // One is delivered at a time, in order, and by one process.
    let minute = std::time::Duration::from_secs(60);
    let (first, second) = tokio::join!(control.claim_alert(&*one, minute), control.claim_alert(&*other, minute));
    let mut claimed: Vec<_> = [first.unwrap(), second.unwrap()].into_iter().flatten().collect();
    assert_eq!(claimed.len(), 1);
    let first = claimed.remove(0);
    assert_eq!(control.claim_alert(&*other, minute).await.unwrap(), None);
    control.remove_alert(&*one, first.message).await.unwrap();
    let second = control.claim_alert(&*other, minute).await.unwrap().unwrap();
    assert!(second.message > first.message);
    control.postpone_alert(&*other, second.message, std::time::Duration::ZERO).await.unwrap();
    assert_eq!(
        control.claim_alert(&*one, minute).await.unwrap().map(|again| (again.message, again.tries)),
        Some((second.message, 2))
    );
}

#[tokio::test]
async fn a_delivery_that_fails_is_tried_again_with_the_same_id() {
    let receiver = Receiver::start(&[503, 429, 500]).await;
    let mut items = watched(&receiver).await;
    let _up = items.project.start("up").await;
    refuse(&mut items).await;
    receiver.nth(4).await;
    let posts = receiver.posts();
    assert_eq!(posts.iter().map(|post| post.status).collect::<Vec<_>>(), [503, 429, 500, 200]);
    assert!(posts.iter().all(|post| post.key == posts[0].key && post.alert == posts[0].alert), "{posts:?}");
    eventually("nothing is left to deliver", async || undelivered(&items).await == 0).await;
    assert_eq!(receiver.posts().len(), 4);
}

#[tokio::test]
async fn an_alert_outlives_the_process_and_a_refused_one_is_given_up() {
    let receiver = Receiver::start(&[503; 100]).await;
    let mut items = watched(&receiver).await;
    let mut up = items.project.start("up").await;
    refuse(&mut items).await;
    let first = receiver.nth(1).await;
    up.child.kill().await.unwrap();
    drop(up);

    receiver.answer_with(&[]);
    let seen = receiver.posts().len();
    // The dead process may have claimed it; its claim would run out after half a minute.
    items.project.sql().await.execute("UPDATE lakegate.alert_messages SET due_at = now()", &[]).await.unwrap();
    let _up = items.project.start("up").await;
    let again = receiver.nth(seen + 1).await;
    assert_eq!((again.key, again.status), (first.key, 200));

    receiver.answer_with(&[404]);
    mend(&mut items, 4).await;
    assert_eq!(receiver.nth(seen + 2).await.status, 404);
    eventually("it is given up", async || undelivered(&items).await == 0).await;
    assert_eq!(receiver.posts().len(), seen + 2);
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_up_no_run() {
    let receiver = Receiver::start(&[0]).await;
    let mut items = watched(&receiver).await;
    add_clock(&items).await;
    let _up = items.project.start("up").await;
    refuse(&mut items).await;
    assert_eq!(receiver.nth(1).await.status, 0);
    ticks(&items).await;
    mend(&mut items, 4).await;
    eventually("the next version", async || status(&items).await["source_version"] == "3").await;
    // Given up after ten seconds, and tried again: the next alert waits for its turn.
    receiver.nth(3).await;
    assert_eq!(receiver.posts()[0].key, receiver.posts()[1].key);
    assert_eq!(receiver.taken(), told(&["failing", "recovered"]));
}
