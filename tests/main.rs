//! The integration tests: one binary, so that there is one link and one Postgres cluster.

// What tests share fails them by panicking, as they do themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod support;

mod admin_api;
mod alerts;
mod bad_input;
mod bloat;
mod cancel;
mod checks;
mod cli;
mod crash;
mod cron;
mod embedded_sharing;
mod encode_round_trip;
mod examples;
mod freshness;
mod groups;
mod histories;
mod incremental;
mod incremental_latest;
mod incremental_row_tracking;
mod incremental_transform;
mod interrupt;
mod lake_tables;
mod leases;
mod lineitem;
mod lineitem_refresh;
mod logins;
mod parquet_refresh;
mod pin;
mod postgres_connect;
mod postgres_embedded;
mod postgres_tls;
mod publish_columns;
mod publish_keeps;
mod publish_waiting;
mod readers;
mod restored_table;
mod retire;
mod retry;
mod sample;
mod schema_in_place;
mod serve_batch;
mod serve_cache;
mod serve_formats;
mod serve_http;
mod serve_json;
mod serve_openapi;
mod serve_pages;
mod serve_publish;
mod source_delta;
mod source_lake_tables;
mod source_parquet;
mod source_s3;
mod sync_pipeline;
mod sync_s3;
mod table_life;
mod takeover;
mod tidy;
mod torture;
mod two_projects;
mod values;
mod verify_table;
