//! What integration tests share.

pub(crate) mod delta_log;
pub(crate) mod history;
pub(crate) mod http;
pub(crate) mod items;
pub(crate) mod json_schema;
pub(crate) mod lake;
pub(crate) mod lake_tables;
pub(crate) mod leftovers;
pub(crate) mod lineitem;
pub(crate) mod live_items;
pub(crate) mod openssl;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod project;
pub(crate) mod proxy;
pub(crate) mod published;
pub(crate) mod roles;
pub(crate) mod rows;
pub(crate) mod run_records;
pub(crate) mod s3;
pub(crate) mod sales;
pub(crate) mod shown;
pub(crate) mod states;
pub(crate) mod text_copy;
pub(crate) mod text_value;
pub(crate) mod webhook;
