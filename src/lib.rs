//! Lakegate: sync lakehouse tables into Postgres and serve their rows by primary key over HTTP.

pub mod admin;
pub mod auth;
pub mod cli;
pub mod config;
pub mod destination;
pub mod domain;
pub mod encode;
pub mod engine;
pub mod failpoint;
pub mod http;
pub mod observe;
pub mod postgres;
pub mod sample;
pub mod schedule;
pub mod serve;
pub mod source;
pub mod store;
pub mod transform;
