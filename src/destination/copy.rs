//! One stream of COPY into a generation.

use bytes::Bytes;
use futures::SinkExt as _;
use scopeguard::{ScopeGuard, guard};
use tokio::sync::mpsc;
use tokio_postgres::CopyInSink;
use tokio_util::task::AbortOnDropHandle;

use crate::domain::{Column, Error, Generation, Result, TableName, TableSchema};
use crate::postgres::{Doing, Session, ShortWay};

use super::{Destination, column_list};

/// Chunks that may wait between an encoder and its connection: enough that neither waits for the other to be
/// scheduled, few enough that memory stays bounded by a handful of chunks.
const CHUNKS_IN_FLIGHT: usize = 2;

enum Message {
    Chunk(Bytes),
    /// The short way has ended before its time.
    Lost(Error),
    End,
}

/// The encoder's end of a COPY: takes chunks of the binary format from a thread that may block.
///
/// Dropping it without [`CopyInput::end`] gives the COPY up: nothing of it is stored.
#[derive(Debug)]
pub struct CopyInput {
    queue: mpsc::Sender<Message>,
    /// Where there is one, chunks go this way, and the queue brings the end alone.
    short_way: Option<ShortWay>,
}

impl CopyInput {
    /// Hands a chunk over, waiting while the connection is behind. False when the connection is lost, or nobody waits for the COPY
    /// any more; [`CopyStream::finish`] says why, and what the server has against rows.
    #[must_use]
    pub fn push(&self, chunk: Bytes) -> bool {
        let Some(way) = &self.short_way else { return self.queue.blocking_send(Message::Chunk(chunk)).is_ok() };
        if let Err(error) = way.send_copy_data(&chunk) {
            let _ = self.queue.blocking_send(Message::Lost(error));
            return false;
        }
        true
    }

    /// Ends the COPY after the last chunk. What comes of it, [`CopyStream::finish`] says.
    pub fn end(self) {
        let _ = self.queue.blocking_send(Message::End);
    }
}

/// The connection's end of a COPY. Dropping it gives the COPY up.
#[derive(Debug)]
pub struct CopyStream(AbortOnDropHandle<Result<u64>>);

impl CopyStream {
    /// Waits for the end of the COPY: the rows that Postgres counted.
    pub async fn finish(self) -> Result<u64> {
        self.0.await.map_err(|error| Error::internal("the COPY task ended").because(error))?
    }
}

/// What a COPY fills: a table and its columns, in the order in which rows bring them.
#[derive(Debug, Clone)]
pub struct CopyTarget {
    table: String,
    columns: String,
}

impl CopyTarget {
    pub(super) fn new<'a>(table: String, columns: impl IntoIterator<Item = &'a Column>) -> CopyTarget {
        CopyTarget { table, columns: column_list(columns.into_iter().map(|column| column.name.as_str())) }
    }

    /// Opens a COPY on a connection that does nothing else meanwhile.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn open(&self, session: &Session) -> Result<(CopyInput, CopyStream)> {
        let statement = format!("COPY {} ({}) FROM STDIN (FORMAT binary)", self.table, self.columns);
        let sink: CopyInSink<Bytes> = session.copy_in(&statement).await.doing("begin the COPY")?;
        let (input, queue) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let short_way = session.short_way().cloned();
        let given_up: HangUp = guard(short_way.clone(), hang_up);
        let task = tokio::spawn(feed(given_up, sink, queue));
        Ok((CopyInput { queue: input, short_way }, CopyStream(AbortOnDropHandle::new(task))))
    }
}

impl Destination {
    /// The rows of a generation as the target of a COPY.
    #[must_use]
    pub fn generation_rows(&self, name: &TableName, generation: Generation, schema: &TableSchema) -> CopyTarget {
        CopyTarget::new(self.table(name, generation), &schema.columns)
    }
}

/// What is done about a COPY that is given up: an encoder that waits for room in the socket would not hear of it, and in the midst
/// of a message the driver must not say so to the server.
type HangUp = ScopeGuard<Option<ShortWay>, fn(Option<ShortWay>)>;

fn hang_up(way: Option<ShortWay>) {
    way.iter().for_each(ShortWay::hang_up);
}

/// Hands over to the driver. `given_up` stands first: what a task that never ran was called with is dropped in this order.
async fn feed(given_up: HangUp, sink: CopyInSink<Bytes>, mut queue: mpsc::Receiver<Message>) -> Result<u64> {
    let mut sink = Box::pin(sink);
    while let Some(message) = queue.recv().await {
        match message {
            Message::Chunk(chunk) => sink.feed(chunk).await.doing("copy rows into Postgres")?,
            Message::Lost(error) => return Err(error.at("cannot copy rows into Postgres")),
            Message::End => {
                ScopeGuard::into_inner(given_up);
                return sink.as_mut().finish().await.doing("finish the COPY");
            }
        }
    }
    // The driver sends CopyFail when the sink is dropped unfinished.
    ScopeGuard::into_inner(given_up);
    Err(Error::internal("the encoder stopped before the end of its rows"))
}
