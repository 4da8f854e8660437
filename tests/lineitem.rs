//! A table as large as one likes, by way of text; time and memory are measured on the way.
//!
//! `LAKEGATE_TEST_LINEITEM_ROWS` says how many rows (60,000 unless set), `LAKEGATE_TEST_BINARY` which binary does it
//! (the one built with the tests unless set); `scripts/measure-load.sh` sets both.

use serde_json::Value;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::lineitem;
use crate::support::project::TestProject;
use crate::support::text_copy::Expected;

/// What the process may hold at most, whatever the table's size.
const MEMORY_MAX: u64 = 400_000_000;

fn rows() -> u64 {
    std::env::var("LAKEGATE_TEST_LINEITEM_ROWS").ok().map_or(60_000, |rows| rows.parse().expect("a number of rows"))
}

/// A sync and what it took.
struct Measured {
    outcome: Value,
    wall: Duration,
    /// The most memory that the process held (`VmHWM`), where the system tells.
    peak: Option<u64>,
}

impl Measured {
    fn seconds(&self, stage: &str) -> f64 {
        self.outcome["seconds"][stage].as_f64().unwrap()
    }

    fn print(&self, what: &str) {
        let stages = ["plan", "copy", "verify", "index", "publish", "total"];
        let stages = stages.map(|stage| format!("{stage} {:.2} s", self.seconds(stage))).join(", ");
        let peak = self.peak.map_or("unknown".to_owned(), |bytes| format!("{:.0} MB", bytes as f64 / 1e6));
        let (wall, outcome) = (self.wall.as_secs_f64(), &self.outcome);
        println!(
            "{what}: {} rows, {} bytes read, {} copied, coverage {}; {stages}; wall {wall:.2} s; peak memory {peak}",
            outcome["rows_inserted"], outcome["bytes_read"], outcome["bytes_copied"], outcome["coverage"],
        );
    }
}

/// Loads the table afresh and compares this much of it.
async fn sync(project: &TestProject, verify: &str) -> Measured {
    let yaml = format!("source: lake/lineitem\nprimary_key: [l_orderkey, l_linenumber]\nverify: {verify}\n");
    project.pipeline("lineitem", &yaml);
    let mut command = project.command(&["sync", "lineitem", "--full", "--output", "json"]);
    let started = Instant::now();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id().unwrap());
    let mut peak = None;
    let mut end = std::pin::pin!(child.wait_with_output());
    // The mark only rises, so that the last look before the end tells the peak.
    let output = loop {
        tokio::select! {
            output = &mut end => break output.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(5)) => peak = high_water_mark(&status).or(peak),
        }
    };
    let wall = started.elapsed();
    assert!(output.status.success(), "{output:?}");
    Measured { outcome: serde_json::from_slice(&output.stdout).unwrap(), wall, peak }
}

fn high_water_mark(status: &str) -> Option<u64> {
    let status = std::fs::read_to_string(status).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[tokio::test(flavor = "multi_thread")]
async fn lineitem_arrives_equal_to_its_source_within_the_bound_on_memory() {
    let rows = rows();
    let project = TestProject::new().await;
    lineitem::write(&project.path("lake/lineitem"), rows).await;
    let sampled = sync(&project, "sampled").await;
    sampled.print("sampled");
    let full = sync(&project, "full").await;
    full.print("full");
    for measured in [&sampled, &full] {
        assert_eq!(measured.outcome["rows_inserted"], rows);
        assert!(measured.peak.is_none_or(|peak| peak < MEMORY_MAX), "{:?} bytes", measured.peak);
    }
    assert_eq!(full.outcome["coverage"], 1.0);

    let session = project.sql().await;
    let expected = Expected::of(&session, "lineitem", &[]).await;
    for batch in lineitem::batches(rows) {
        expected.add(&batch, &[]).await.unwrap();
    }
    assert_eq!(expected.compare().await, Ok(rows as i64));
}
