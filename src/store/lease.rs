//! One run of a pipeline at a time, across all processes.
//!
//! A lease is a row with a token and an expiry, renewed by a heartbeat. The connection that renews it also holds a
//! session advisory lock, which Postgres frees the moment that connection dies: a dead holder is replaced at once, and
//! the expiry serves only for one that hangs. Whoever takes over terminates the backends that the old holder noted
//! down, so that no half-finished statement of it goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_postgres::{Client, GenericClient};
use uuid::Uuid;

use crate::domain::{Code, Error, Result, TableName};
use crate::postgres::{Doing, OneTrip, Session};

use super::Control;

/// How long a backend that is told to end is waited for; it ends in milliseconds unless its machine is overloaded.
const TERMINATED_WITHIN_MILLIS: u32 = 5_000;

/// How often a run looks whether somebody has asked for its end.
const LOOK: Duration = Duration::from_secs(1);

/// The condition in SQL that a process holds the advisory lock of a pipeline's lease, so that it is not dead.
/// `{pipeline}` stands for the pipeline's name, `{schema}` for the (unquoted) name of the control schema.
pub(super) const HELD: &str = "EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted \
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
    AND (classid::bigint << 32 | objid::bigint) \
        = hashtextextended('lakegate lease ' || {schema} || ' ' || {pipeline}, 0::bigint))";

/// What came of asking for a lease.
#[derive(Debug)]
pub enum LeaseAttempt {
    /// It is ours.
    Acquired(Lease),
    /// Somebody else holds it; the text says who.
    Held {
        /// The holder as it described itself.
        holder: String,
    },
}

/// The right to run one pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The pipeline.
    pub pipeline: TableName,
    /// The token that fences statements of earlier holders.
    pub token: Uuid,
}

impl Control {
    /// Tries to take the lease on `client`, which must stay open as long as the lease is wanted.
    pub async fn acquire_lease(
        &self,
        client: &Client,
        pipeline: &TableName,
        holder: &str,
        ttl: Duration,
    ) -> Result<LeaseAttempt> {
        let doing = "take the pipeline's lease";
        if !self.try_advisory_lock(client, pipeline).await? {
            if self.end_silent_holder(client, pipeline, ttl).await? {
                return self.acquire_after_takeover(client, pipeline, holder, ttl).await;
            }
            let Some(holder) = self.expired_or_holder(client, pipeline).await? else {
                self.terminate_holder(client, pipeline).await?;
                return self.acquire_after_takeover(client, pipeline, holder, ttl).await;
            };
            return Ok(LeaseAttempt::Held { holder });
        }
        self.terminate_holder(client, pipeline).await?;
        let token = Uuid::new_v4();
        client
            .affected(
                &self.sql(
                    "INSERT INTO {control}.leases AS l (pipeline, token, holder, backend_pids, acquired_at, expires_at) \
                     VALUES ($1, $2::text::uuid, $3, ARRAY[pg_backend_pid()], clock_timestamp(), \
                             clock_timestamp() + make_interval(secs => $4)) \
                     ON CONFLICT (pipeline) DO UPDATE SET token = excluded.token, holder = excluded.holder, run = NULL, \
                         backend_pids = excluded.backend_pids, acquired_at = excluded.acquired_at, \
                         expires_at = excluded.expires_at",
                ),
                &[&pipeline.as_str(), &token.to_string(), &holder, &ttl.as_secs_f64()],
            )
            .await
            .doing(doing)?;
        Ok(LeaseAttempt::Acquired(Lease { pipeline: pipeline.clone(), token }))
    }

    /// After the backends of a hung holder were terminated its advisory lock comes free within moments.
    async fn acquire_after_takeover(
        &self,
        client: &Client,
        pipeline: &TableName,
        holder: &str,
        ttl: Duration,
    ) -> Result<LeaseAttempt> {
        for _ in 0..50 {
            if self.try_advisory_lock(client, pipeline).await? {
                self.advisory_unlock(client, pipeline).await?;
                return Box::pin(self.acquire_lease(client, pipeline, holder, ttl)).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(LeaseAttempt::Held { holder: "a process whose connection does not end".to_owned() })
    }

    /// Ends the session that has the advisory lock where no living lease goes with it and it has asked for nothing for
    /// longer than a lease lasts: its process hangs between the lock and the lease. True where there was one.
    async fn end_silent_holder(&self, client: &Client, pipeline: &TableName, ttl: Duration) -> Result<bool> {
        let sql = format!(
            "SELECT pg_terminate_backend(a.pid, {TERMINATED_WITHIN_MILLIS}) \
             FROM pg_locks k JOIN pg_stat_activity a ON a.pid = k.pid \
             WHERE k.locktype = 'advisory' AND k.objsubid = 1 AND k.granted AND a.pid <> pg_backend_pid() \
               AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
               AND (k.classid::bigint << 32 | k.objid::bigint) \
                   = hashtextextended('lakegate lease ' || $2 || ' ' || $1, 0::bigint) \
               AND a.state = 'idle' AND a.state_change < clock_timestamp() - make_interval(secs => $3) \
               AND NOT EXISTS (SELECT FROM {{control}}.leases \
                   WHERE pipeline = $1 AND expires_at > clock_timestamp())"
        );
        let ended = client
            .affected(&self.sql(&sql), &[&pipeline.as_str(), &self.name(), &ttl.as_secs_f64()])
            .await
            .doing("end the session of a process that hangs")?;
        Ok(ended > 0)
    }

    /// The holder's description, or `None` when its lease has expired.
    async fn expired_or_holder(&self, client: &Client, pipeline: &TableName) -> Result<Option<String>> {
        let row = client
            .opt_row(
                &self.sql("SELECT holder, expires_at < clock_timestamp() FROM {control}.leases WHERE pipeline = $1"),
                &[&pipeline.as_str()],
            )
            .await
            .doing("read the pipeline's lease")?;
        Ok(match row {
            Some(row) if row.get::<_, bool>(1) => None,
            Some(row) => Some(row.get(0)),
            None => Some("a process that is just starting".to_owned()),
        })
    }

    async fn try_advisory_lock(&self, client: &Client, pipeline: &TableName) -> Result<bool> {
        let row = client
            .one_row(
                "SELECT pg_try_advisory_lock(hashtextextended('lakegate lease ' || $1 || ' ' || $2, 0::bigint))",
                &[&self.name(), &pipeline.as_str()],
            )
            .await
            .doing("take the pipeline's advisory lock")?;
        Ok(row.get(0))
    }

    async fn advisory_unlock(&self, client: &Client, pipeline: &TableName) -> Result<()> {
        client
            .affected(
                "SELECT pg_advisory_unlock(hashtextextended('lakegate lease ' || $1 || ' ' || $2, 0::bigint))",
                &[&self.name(), &pipeline.as_str()],
            )
            .await
            .doing("free the pipeline's advisory lock")?;
        Ok(())
    }

    /// Ends the backends that the present holder has noted down, ours excepted, and waits until they are gone.
    async fn terminate_holder(&self, client: &Client, pipeline: &TableName) -> Result<()> {
        self.terminate_backends(client, pipeline, None, &[]).await
    }

    /// Ends the backends that work for a run which is over, that of its lease excepted, and waits until they are gone.
    /// A statement that nobody waits for any more, such as the build of an index, would otherwise run to its end and
    /// keep what it works on from being dropped.
    pub async fn terminate_run(&self, client: &Client, lease: &Lease, lease_backend: i32) -> Result<()> {
        self.terminate_backends(client, &lease.pipeline, Some(lease.token), &[lease_backend]).await
    }

    async fn terminate_backends(
        &self,
        client: &Client,
        pipeline: &TableName,
        token: Option<Uuid>,
        spared: &[i32],
    ) -> Result<()> {
        let sql = format!(
            "SELECT pg_terminate_backend(a.pid, {TERMINATED_WITHIN_MILLIS}) \
             FROM {{control}}.leases l, pg_stat_activity a \
             WHERE l.pipeline = $1 AND l.token = coalesce($2::text::uuid, l.token) AND a.pid = ANY (l.backend_pids) \
               AND a.pid <> pg_backend_pid() AND a.pid <> ALL ($3::integer[]) AND a.backend_start < l.expires_at \
               AND a.datname = current_database() AND a.application_name LIKE 'lakegate%'"
        );
        let token = token.map(|token| token.to_string());
        client
            .affected(&self.sql(&sql), &[&pipeline.as_str(), &token, &spared])
            .await
            .doing("end the sessions of a run that is over")?;
        Ok(())
    }

    /// Notes which run the lease is for and which backends work for it.
    pub async fn note_backends(
        &self,
        client: &impl GenericClient,
        lease: &Lease,
        run: i64,
        pids: &[i32],
    ) -> Result<()> {
        let noted = client
            .affected(
                &self.sql(
                    "UPDATE {control}.leases SET run = $3, backend_pids = ARRAY(SELECT DISTINCT unnest(backend_pids || $4::integer[])) \
                     WHERE pipeline = $1 AND token = $2::text::uuid",
                ),
                &[&lease.pipeline.as_str(), &lease.token.to_string(), &run, &pids],
            )
            .await
            .doing("note the sessions of the run")?;
        if noted == 1 { Ok(()) } else { Err(lost(lease)) }
    }

    /// Pipelines whose lease is held and alive.
    pub async fn held_leases(&self, client: &impl GenericClient) -> Result<Vec<String>> {
        let rows = client
            .rows(&self.sql("SELECT pipeline FROM {control}.leases WHERE expires_at > clock_timestamp()"), &[])
            .await
            .doing("read the leases")?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// The run that a pipeline's lease is for; `None` where there is none, or where its holder hangs or is dead, so that
    /// the lease is there to be taken.
    pub async fn leased_run(&self, client: &impl GenericClient, pipeline: &TableName) -> Result<Option<i64>> {
        let held = HELD.replace("{pipeline}", "$1").replace("{schema}", "$2");
        let row = client
            .opt_row(
                &self.sql(&format!(
                    "SELECT run FROM {{control}}.leases WHERE pipeline = $1 AND expires_at > clock_timestamp() AND {held}"
                )),
                &[&pipeline.as_str(), &self.name()],
            )
            .await
            .doing("read the pipeline's lease")?;
        Ok(row.and_then(|row| row.get(0)))
    }

    /// Fails with [`Code::LeaseLost`] when somebody else has taken the lease.
    pub async fn check_lease(&self, client: &impl GenericClient, lease: &Lease) -> Result<()> {
        let row = client
            .opt_row(
                &self.sql("SELECT FROM {control}.leases WHERE pipeline = $1 AND token = $2::text::uuid"),
                &[&lease.pipeline.as_str(), &lease.token.to_string()],
            )
            .await
            .doing("read the pipeline's lease")?;
        row.map(|_| ()).ok_or_else(|| lost(lease))
    }

    /// The fence: fails unless the lease is ours and alive, and keeps it so until the transaction ends. Must be the last
    /// statement before the commit: earlier it would block the heartbeat.
    pub async fn fence(&self, transaction: &impl GenericClient, lease: &Lease) -> Result<()> {
        let row = transaction
            .opt_row(
                &self.sql(
                    "SELECT FROM {control}.leases WHERE pipeline = $1 AND token = $2::text::uuid \
                     AND expires_at > clock_timestamp() FOR UPDATE",
                ),
                &[&lease.pipeline.as_str(), &lease.token.to_string()],
            )
            .await
            .doing("check the lease before the commit")?;
        row.map(|_| ()).ok_or_else(|| lost(lease))
    }

    /// Gives the lease back. The advisory lock goes with the connection or here, whichever comes first.
    pub async fn release_lease(&self, client: &Client, lease: &Lease) -> Result<()> {
        client
            .affected(
                &self.sql("DELETE FROM {control}.leases WHERE pipeline = $1 AND token = $2::text::uuid"),
                &[&lease.pipeline.as_str(), &lease.token.to_string()],
            )
            .await
            .doing("give the pipeline's lease back")?;
        self.advisory_unlock(client, &lease.pipeline).await
    }
}

fn lost(lease: &Lease) -> Error {
    Error::new(Code::LeaseLost, format!("the lease of `{}` was taken over or has expired", lease.pipeline))
        .hint("this process may have hung or lost its connection; the process that took over goes on with the work")
}

/// Why a run has to end before it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The lease could not be renewed.
    LeaseLost,
    /// Somebody has asked for it: who, for people.
    CancelAsked(String),
}

/// Renews a lease in the background until dropped or stopped, and looks whether the run is to be cancelled.
#[derive(Debug)]
pub struct Heartbeat {
    task: JoinHandle<()>,
    lost: Arc<AtomicBool>,
}

impl Heartbeat {
    /// Renews `lease` on `session` every third of `ttl`, and looks each second at what is asked of the lease's run. Calls
    /// `end` when the run has to end: once for each reason, of which the loss of the lease is the last.
    pub fn start(
        control: Control,
        session: Arc<Session>,
        lease: Lease,
        ttl: Duration,
        end: impl Fn(Ending) + Send + 'static,
    ) -> Self {
        let lost = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&lost);
        let task = tokio::spawn(async move {
            let mut renewed_at = Instant::now();
            let mut asked = false;
            loop {
                tokio::time::sleep(LOOK.min(ttl / 3)).await;
                let is_due = renewed_at.elapsed() + LOOK > ttl / 3;
                let beat = async {
                    if is_due {
                        control.renew(&session, &lease, ttl).await
                    } else {
                        control.look(&session, &lease).await
                    }
                };
                match tokio::time::timeout(ttl, beat).await {
                    Ok(Ok(Some(cancel))) => {
                        if is_due {
                            renewed_at = Instant::now();
                        }
                        if let Some(by) = cancel.filter(|_| !asked) {
                            asked = true;
                            end(Ending::CancelAsked(by));
                        }
                    }
                    // What a look did not find out, the next renewal does.
                    Ok(Err(_)) | Err(_) if !is_due => {}
                    _ => {
                        flag.store(true, Ordering::Release);
                        end(Ending::LeaseLost);
                        return;
                    }
                }
            }
        });
        Heartbeat { task, lost }
    }

    /// Whether the lease could not be renewed.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a beat finds: `None` where the lease is no longer ours, else who has asked for the end of its run.
type Beat = Option<Option<String>>;

impl Control {
    async fn renew(&self, client: &Client, lease: &Lease, ttl: Duration) -> Result<Beat> {
        let row = client
            .opt_row(
                &self.sql(
                    "UPDATE {control}.leases AS l SET expires_at = clock_timestamp() + make_interval(secs => $3) \
                     WHERE pipeline = $1 AND token = $2::text::uuid AND expires_at > clock_timestamp() \
                     RETURNING (SELECT cancel_asked_by FROM {control}.runs WHERE run = l.run)",
                ),
                &[&lease.pipeline.as_str(), &lease.token.to_string(), &ttl.as_secs_f64()],
            )
            .await
            .doing("renew the pipeline's lease")?;
        Ok(row.map(|row| row.get(0)))
    }

    async fn look(&self, client: &Client, lease: &Lease) -> Result<Beat> {
        let row = client
            .opt_row(
                &self.sql(
                    "SELECT (SELECT cancel_asked_by FROM {control}.runs WHERE run = l.run) \
                     FROM {control}.leases AS l WHERE pipeline = $1 AND token = $2::text::uuid",
                ),
                &[&lease.pipeline.as_str(), &lease.token.to_string()],
            )
            .await
            .doing("look whether the run is to be cancelled")?;
        Ok(row.map(|row| row.get(0)))
    }
}
