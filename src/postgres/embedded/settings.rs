//! The server's settings for this job: a few large loads, index builds, many small reads.

use std::fmt::Write;
use std::fs;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The name of the file, inside the data directory, that `postgresql.conf` includes. It is written at every start;
/// `ALTER SYSTEM` overrides it.
pub(super) const FILE: &str = "lakegate.conf";

/// Taken where the system does not say how much memory it has.
const UNKNOWN_MEMORY: u64 = 4 * GIB;

/// The settings for a server on this port, sized by the machine's memory in bytes: modest, since Lakegate itself and
/// other programs run there too.
pub(super) fn render(port: u16, memory: u64) -> String {
    let shared_buffers = (memory / 8).clamp(64 * MIB, 2 * GIB);
    let maintenance_work_mem = (memory / 16).clamp(64 * MIB, GIB);
    let max_wal_size = if memory >= 16 * GIB { 8 * GIB } else { 4 * GIB };
    let settings = [
        ("port", port.to_string()),
        ("listen_addresses", "127.0.0.1".into()),
        // Relative to the data directory: never too long, and only the account may enter.
        ("unix_socket_directories", ".".into()),
        ("max_connections", "100".into()),
        ("shared_buffers", megabytes(shared_buffers)),
        ("effective_cache_size", megabytes(memory / 2)),
        ("maintenance_work_mem", megabytes(maintenance_work_mem)),
        ("random_page_cost", "1.1".into()),
        // Nothing is replicated from here, so tables and indexes made and filled in one transaction need no WAL.
        ("wal_level", "minimal".into()),
        ("max_wal_senders", "0".into()),
        // Compressing a page takes several times as long as writing it, and merges touch many pages after a checkpoint.
        ("wal_compression", "off".into()),
        ("max_wal_size", megabytes(max_wal_size)),
        ("min_wal_size", "512MB".into()),
        ("checkpoint_timeout", "15min".into()),
        ("log_checkpoints", "off".into()),
        ("log_timezone", "UTC".into()),
        ("timezone", "UTC".into()),
    ];
    let mut text = String::from("# Written by Lakegate at every start. Override a setting with ALTER SYSTEM.\n");
    for (name, value) in settings {
        let _ = writeln!(text, "{name} = '{value}'");
    }
    text
}

fn megabytes(bytes: u64) -> String {
    format!("{}MB", bytes / MIB)
}

/// The memory of the machine, or of the container where that has less, in bytes.
pub(super) fn machine_memory() -> u64 {
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    });
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse::<u64>().ok());
    let total = total.map_or(UNKNOWN_MEMORY, |kib| kib.saturating_mul(1024));
    total.min(limit.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_settings_follow_the_machine_within_bounds() {
        let small = render(1, GIB / 2);
        assert!(
            small.contains("shared_buffers = '64MB'") && small.contains("maintenance_work_mem = '64MB'"),
            "{small}"
        );
        let large = render(1, 256 * GIB);
        assert!(large.contains("shared_buffers = '2048MB'"), "{large}");
        assert!(large.contains("maintenance_work_mem = '1024MB'"), "{large}");
    }
}
