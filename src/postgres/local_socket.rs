//! Unix sockets with room for many rows on their way, and a short way into them.

use std::io::{self, IoSlice, Write as _};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix;
use std::path::PathBuf;
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::UnixStream;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::error::LOST;
use crate::domain::{Code, Error, Result};

/// Bytes that may be on their way to a server on the same machine. A sender learns that there is room when three quarters of
/// them have been read, and goes on when a processor is free; until then the server has to make do with the rest. Of what Linux
/// allows by itself, it has read that rest before: a COPY between busy processors waits for rows a tenth of its time. Linux doubles
/// this for what it notes beside the bytes, and `net.core.wmem_max` bounds it. It is memory of the kernel.
const ROOM: usize = 2 << 20;

/// The socket of a server on the same machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocalSocket(PathBuf);

impl LocalSocket {
    /// Where a configuration names one such server and asks for nothing that only the driver's own way of connecting does.
    pub(super) fn of(config: &Config) -> Option<LocalSocket> {
        let [Host::Unix(folder)] = config.get_hosts() else { return None };
        let is_plain = config.get_hostaddrs().is_empty()
            && config.get_ports().len() <= 1
            && matches!(config.get_ssl_mode(), SslMode::Disable | SslMode::Prefer)
            && config.get_target_session_attrs() == TargetSessionAttrs::Any;
        let port = config.get_ports().first().copied().unwrap_or(5432);
        is_plain.then(|| LocalSocket(folder.join(format!(".s.PGSQL.{port}"))))
    }

    /// A new connection, for the driver, and the short way into it.
    pub(super) async fn connect(&self) -> io::Result<(UnixStream, ShortWay)> {
        let stream = UnixStream::connect(&self.0).await?;
        // With less room it is slower, and works.
        let _ = setsockopt(&stream, sockopt::SndBuf, &ROOM);
        let second = unix::net::UnixStream::from(stream.as_fd().try_clone_to_owned()?);
        Ok((stream, ShortWay(Arc::new(second))))
    }
}

/// The sending end of a session's socket beside its driver, for a thread that may block: the data of a COPY goes into the socket
/// from where it was encoded, while the driver would hand it to another thread and copy it once more.
///
/// While a driver waits for the data of a COPY it sends nothing else, so that nothing comes in between; when its sink is dropped it
/// gives the COPY up, so that whoever may be in the midst of a message hangs up before.
#[derive(Debug, Clone)]
pub struct ShortWay(Arc<unix::net::UnixStream>);

impl ShortWay {
    /// Sends data of the COPY that the session is in the midst of, waiting for room, as one `CopyData` message
    /// (<https://www.postgresql.org/docs/current/protocol-message-formats.html>).
    ///
    /// # Errors
    /// [`Code::ConnectionLost`], after which the connection is of no use; [`Code::Internal`] for 2 GiB and more.
    pub fn send_copy_data(&self, data: &[u8]) -> Result<()> {
        let length = i32::try_from(data.len() + size_of::<i32>());
        let length = length.map_err(|error| Error::internal("a chunk of 2 GiB").because(error))?;
        let [a, b, c, d] = length.to_be_bytes();
        self.send(&[b'd', a, b, c, d], data).map_err(|error| {
            Error::new(Code::ConnectionLost, format!("the connection has ended: {error}")).hint(LOST).because(error)
        })
    }

    fn send(&self, header: &[u8], data: &[u8]) -> io::Result<()> {
        let (mut parts, mut socket) = ([IoSlice::new(header), IoSlice::new(data)], &*self.0);
        let mut left = parts.as_mut_slice();
        while !left.is_empty() {
            match socket.write_vectored(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => IoSlice::advance_slices(&mut left, sent),
                // The driver's end of the socket does not block, and this is the same one.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_for_room()?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait_for_room(&self) -> io::Result<()> {
        let socket = PollFd::new(self.0.as_fd(), PollFlags::POLLOUT);
        match poll(&mut [socket], PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends the connection under the driver, and with it what waits for room.
    pub fn hang_up(&self) {
        // It may have ended by itself.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use nix::sys::socket::getsockopt;
    use tokio::net::UnixListener;

    use super::*;

    fn socket_of(config: &str) -> Option<LocalSocket> {
        LocalSocket::of(&config.parse().unwrap())
    }

    #[test]
    fn only_a_single_plain_unix_socket_is_connected_to_without_the_driver() {
        let local = |path: &str| Some(LocalSocket(PathBuf::from(path)));
        assert_eq!(socket_of("host=/run/pg user=ann"), local("/run/pg/.s.PGSQL.5432"));
        assert_eq!(socket_of("host=/run/pg port=6432 user=ann sslmode=disable"), local("/run/pg/.s.PGSQL.6432"));
        for other in [
            "host=db user=ann",
            "host=/run/pg,/run/pg2 user=ann",
            "host=/run/pg user=ann sslmode=require",
            "host=/run/pg user=ann target_session_attrs=read-write",
        ] {
            assert_eq!(socket_of(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn more_bytes_may_be_on_their_way_than_the_system_allows_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let socket = LocalSocket(folder.path().join(".s.PGSQL.5432"));
        let _listener = UnixListener::bind(&socket.0).unwrap();
        let usual = UnixStream::connect(&socket.0).await.unwrap();
        let (roomy, _) = socket.connect().await.unwrap();
        let room = |stream: &UnixStream| getsockopt(stream, sockopt::SndBuf).unwrap();
        assert!(room(&roomy) > room(&usual), "{} > {}", room(&roomy), room(&usual));
    }

    /// A short way, and the other end of its socket.
    async fn connected() -> (ShortWay, UnixStream, unix::net::UnixStream) {
        let folder = tempfile::tempdir().unwrap();
        let socket = LocalSocket(folder.path().join(".s.PGSQL.5432"));
        let listener = unix::net::UnixListener::bind(&socket.0).unwrap();
        let (driver, way) = socket.connect().await.unwrap();
        (way, driver, listener.accept().unwrap().0)
    }

    #[tokio::test]
    async fn data_arrives_whole_through_a_socket_that_is_full_again_and_again() {
        let (way, _driver, mut server) = connected().await;
        let chunks: Vec<Vec<u8>> =
            [0, 1, 3 << 20, 5, 9 << 20].iter().zip(1..).map(|(&n, byte)| vec![byte; n]).collect();
        let sent = chunks.clone();
        let sending = std::thread::spawn(move || sent.iter().try_for_each(|chunk| way.send_copy_data(chunk)));
        for chunk in &chunks {
            let mut header = [0; 5];
            server.read_exact(&mut header).unwrap();
            assert_eq!((header[0], &header[1..]), (b'd', &(chunk.len() as u32 + 4).to_be_bytes()[..]));
            let mut data = vec![0; chunk.len()];
            server.read_exact(&mut data).unwrap();
            assert!(data == *chunk);
        }
        sending.join().unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_waits_for_room_hears_that_the_connection_has_ended() {
        // More than fits, of which the server has seen the beginning.
        let waiting = |way: &ShortWay, server: &mut unix::net::UnixStream| {
            let way = way.clone();
            let sending = std::thread::spawn(move || way.send_copy_data(&vec![0; 64 << 20]).unwrap_err());
            server.read_exact(&mut [0; 5]).unwrap();
            sending
        };
        let (way, driver, mut server) = connected().await;
        let sending = waiting(&way, &mut server);
        way.hang_up();
        assert_eq!(sending.join().unwrap().code(), Code::ConnectionLost);
        drop((driver, server));

        let (way, _driver, mut server) = connected().await;
        let sending = waiting(&way, &mut server);
        drop(server);
        assert_eq!(sending.join().unwrap().code(), Code::ConnectionLost);
    }
}
