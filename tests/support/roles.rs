//! Roles for one test. Roles belong to the whole cluster, so their names bear the database's.

use lakegate::postgres::Session;

use super::postgres::TestDatabase;

/// The password of roles that log in.
const PASSWORD: &str = "test-only";

/// Makes a role that cannot log in: its name.
pub(crate) async fn role(session: &Session, database: &TestDatabase, name: &str) -> String {
    let role = format!("{name}_{}", database.name());
    session.batch_execute(&format!("CREATE ROLE {role} NOLOGIN")).await.unwrap();
    role
}

/// Makes a role that logs in, with no further privilege: its name and the URL it connects by.
pub(crate) async fn login(session: &Session, database: &TestDatabase, name: &str) -> (String, String) {
    let role = format!("{name}_{}", database.name());
    session.batch_execute(&format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")).await.unwrap();
    let port = database.port();
    let url = format!("postgres://{role}:{PASSWORD}@127.0.0.1:{port}/{}", database.name());
    (role, url)
}

/// Runs one statement as another role: its first value as text, or the SQLSTATE of its refusal.
pub(crate) async fn ask_as(session: &Session, role: &str, sql: &str) -> Result<String, String> {
    session.batch_execute(&format!("SET ROLE {role}")).await.unwrap();
    let answer = session.query_one(&format!("SELECT ({sql})::text"), &[]).await;
    session.batch_execute("RESET ROLE").await.unwrap();
    match answer {
        Ok(row) => Ok(row.get(0)),
        Err(error) => Err(error.code().unwrap_or_else(|| panic!("{error:?}")).code().to_owned()),
    }
}
