//! Lakegate: sync lakehouse tables into Postgres and serve their rows by primary key over HTTP.

pub mod domain;
