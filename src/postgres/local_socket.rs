//! Unix sockets with room for many rows on their way.

use std::io;
use std::path::PathBuf;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::UnixStream;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

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

    /// A new connection.
    pub(super) async fn connect(&self) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(&self.0).await?;
        // With less room it is slower, and works.
        let _ = setsockopt(&stream, sockopt::SndBuf, &ROOM);
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
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
        let roomy = socket.connect().await.unwrap();
        let room = |stream: &UnixStream| getsockopt(stream, sockopt::SndBuf).unwrap();
        assert!(room(&roomy) > room(&usual), "{} > {}", room(&roomy), room(&usual));
    }
}
