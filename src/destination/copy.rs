//! One stream of COPY into a generation.

use bytes::Bytes;
use futures::SinkExt as _;
use tokio::sync::mpsc;
use tokio_postgres::{Client, CopyInSink};
use tokio_util::task::AbortOnDropHandle;

use crate::domain::{Column, Error, Generation, Result, TableName, TableSchema};
use crate::postgres::Doing;

use super::{Destination, column_list};

/// Chunks that may wait between an encoder and its connection: enough that neither waits for the other to be
/// scheduled, few enough that memory stays bounded by a handful of chunks.
const CHUNKS_IN_FLIGHT: usize = 2;

/// What is copied need not be on disk before it is published: the commit that publishes it waits for all that was written
/// before, as Postgres writes its log in one line. A crash in between loses rows that nobody has seen.
const NOT_YET_DURABLE: &str = "SET synchronous_commit = off";

enum Message {
    Chunk(Bytes),
    End,
}

/// The encoder's end of a COPY: takes chunks of the binary format from a thread that may block.
///
/// Dropping it without [`CopyInput::end`] gives the COPY up: nothing of it is stored.
#[derive(Debug)]
pub struct CopyInput(mpsc::Sender<Message>);

impl CopyInput {
    /// Hands a chunk over, waiting while the connection is behind. False when the COPY has failed already;
    /// [`CopyStream::finish`] says why.
    #[must_use]
    pub fn push(&self, chunk: Bytes) -> bool {
        self.0.blocking_send(Message::Chunk(chunk)).is_ok()
    }

    /// Ends the COPY after the last chunk. What comes of it, [`CopyStream::finish`] says.
    pub fn end(self) {
        let _ = self.0.blocking_send(Message::End);
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

    /// Opens a COPY on a connection that does nothing else meanwhile, and whose commits do not wait for the disk from here on.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn open(&self, client: &Client) -> Result<(CopyInput, CopyStream)> {
        let statement = format!("COPY {} ({}) FROM STDIN (FORMAT binary)", self.table, self.columns);
        client.batch_execute(NOT_YET_DURABLE).await.doing("begin the COPY")?;
        let sink: CopyInSink<Bytes> = client.copy_in(&statement).await.doing("begin the COPY")?;
        let (input, queue) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let task = tokio::spawn(feed(sink, queue));
        Ok((CopyInput(input), CopyStream(AbortOnDropHandle::new(task))))
    }
}

impl Destination {
    /// The rows of a generation as the target of a COPY.
    #[must_use]
    pub fn generation_rows(&self, name: &TableName, generation: Generation, schema: &TableSchema) -> CopyTarget {
        CopyTarget::new(self.table(name, generation), &schema.columns)
    }
}

async fn feed(sink: CopyInSink<Bytes>, mut queue: mpsc::Receiver<Message>) -> Result<u64> {
    let mut sink = Box::pin(sink);
    while let Some(message) = queue.recv().await {
        match message {
            Message::Chunk(chunk) => sink.feed(chunk).await.doing("copy rows into Postgres")?,
            Message::End => return sink.as_mut().finish().await.doing("finish the COPY"),
        }
    }
    // The driver sends CopyFail when the sink is dropped unfinished.
    Err(Error::internal("the encoder stopped before the end of its rows"))
}
