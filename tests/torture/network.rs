//! A Postgres that may die, and the way to it, which may be cut.

use lakegate::postgres::{Purpose, quote};

use crate::support::postgres::TestCluster;
use crate::support::proxy::Proxy;

/// The server and the way to it.
pub(super) struct Network {
    pub(super) cluster: TestCluster,
    pub(super) proxy: Proxy,
}

impl Network {
    pub(super) async fn new() -> Network {
        let start = || TestCluster::start("torture", &[], |_| {});
        let cluster = tokio::task::spawn_blocking(start).await.unwrap();
        let proxy = Proxy::before(cluster.port()).await;
        Network { cluster, proxy }
    }

    pub(super) async fn create_database(&self, name: &str) {
        self.administer(&format!("CREATE DATABASE {}", quote(name))).await;
    }

    pub(super) async fn drop_database(&self, name: &str) {
        self.administer(&format!("DROP DATABASE {} WITH (FORCE)", quote(name))).await;
    }

    async fn administer(&self, statement: &str) {
        let session = self.cluster.connector("postgres").connect(Purpose::Control, "tests").await.unwrap();
        session.batch_execute(statement).await.unwrap();
    }
}
