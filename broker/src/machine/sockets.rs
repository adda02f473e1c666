//! Sockets: the system's, or those of a simulated network.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;

use crate::config::HostPort;

#[cfg(not(feature = "simulation"))]
pub(crate) use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
#[cfg(not(feature = "simulation"))]
pub(crate) use tokio::net::{TcpListener, TcpStream};
#[cfg(feature = "simulation")]
pub(crate) use turmoil::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
#[cfg(feature = "simulation")]
pub(crate) use turmoil::net::{TcpListener, TcpStream};

/// Connections that wait to be accepted, if the system allows as many (`net.core.somaxconn`): with few places, a burst of
/// clients, for example after a restart, loses packets and waits for seconds.
#[cfg(not(feature = "simulation"))]
const BACKLOG_CONNECTIONS: u32 = 4_096;
/// Pause after `accept` itself failed, for example because the process is out of file descriptors.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Opens a listening socket.
///
/// # Errors
/// The system's error, with the address in front.
pub(crate) async fn bind(address: &HostPort) -> io::Result<TcpListener> {
    let name = |e: io::Error| io::Error::new(e.kind(), format!("cannot listen on {address}: {e}"));
    listen(address).await.map_err(name)
}

#[cfg(not(feature = "simulation"))]
async fn listen(address: &HostPort) -> io::Result<TcpListener> {
    let mut failure = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    for one in tokio::net::lookup_host((address.host.as_str(), address.port)).await? {
        match listen_at(one) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

#[cfg(not(feature = "simulation"))]
fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    use tokio::net::TcpSocket;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG_CONNECTIONS)
}

#[cfg(feature = "simulation")]
async fn listen(address: &HostPort) -> io::Result<TcpListener> {
    TcpListener::bind((address.host.as_str(), address.port)).await
}

/// Sends small replies at once, and has TCP find out when the client's machine is gone: probes once nothing came for
/// `stall`, an end after `2 * stall` without any sign of life.
#[cfg(not(feature = "simulation"))]
pub(crate) fn tune(stream: &TcpStream, stall: Duration) -> io::Result<()> {
    use socket2::TcpKeepalive;
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    let second = Duration::from_secs(1);
    let probes =
        TcpKeepalive::new().with_time(stall.max(second)).with_interval((stall / 4).max(second)).with_retries(4);
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(2 * stall.max(second)))?;
    Ok(())
}

/// A simulated network has no such settings.
#[cfg(feature = "simulation")]
#[expect(clippy::unnecessary_wraps, reason = "real sockets may refuse")]
pub(crate) fn tune(_: &TcpStream, _: Duration) -> io::Result<()> {
    Ok(())
}

/// Waits for something to read, without a buffer to read it into.
#[cfg(not(feature = "simulation"))]
pub(crate) async fn readable(stream: &mut OwnedReadHalf) -> io::Result<()> {
    stream.readable().await
}

/// The same, by a look at the first byte.
#[cfg(feature = "simulation")]
pub(crate) async fn readable(stream: &mut OwnedReadHalf) -> io::Result<()> {
    stream.peek(&mut [0]).await.map(drop)
}

/// Reads what is there, as far as the buffer has room. `None` when nothing is there after all.
///
/// Not a read that is polled once: tokio answers nothing once a task has had its share of time, and a loop around it and
/// [`readable`], which has no such share, never ends.
#[cfg(not(feature = "simulation"))]
pub(crate) fn try_read(stream: &mut OwnedReadHalf, buffer: &mut BytesMut) -> io::Result<Option<usize>> {
    match stream.try_read_buf(buffer) {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// The same; here [`readable`] has its share of time, too.
#[cfg(feature = "simulation")]
pub(crate) fn try_read(stream: &mut OwnedReadHalf, buffer: &mut BytesMut) -> io::Result<Option<usize>> {
    use futures::FutureExt;
    use tokio::io::AsyncReadExt;
    stream.read_buf(buffer).now_or_never().transpose()
}

/// A listener that `axum` serves. Connections answer at once: without that, an answer waits for the acknowledgement of
/// the one before.
pub(crate) struct HttpListener(pub(crate) TcpListener);

impl axum::serve::Listener for HttpListener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok((stream, peer)) => {
                    // A connection that is gone already fails when it is read.
                    let _ = stream.set_nodelay(true);
                    return (stream, peer);
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[cfg(all(test, not(feature = "simulation")))]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn a_task_that_had_its_share_of_time_still_reads() {
        let listener = bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(connecting, listener.accept());
        let (mut client, (stream, _)) = (client.unwrap(), accepted.unwrap());
        client.write_all(&[7; 3]).await.unwrap();
        let (mut stream, _other) = stream.into_split();
        readable(&mut stream).await.unwrap();
        // Nothing here waits, so that the whole share is gone in one turn.
        while tokio::task::coop::has_budget_remaining() {
            tokio::task::coop::consume_budget().await;
        }
        let mut buffer = BytesMut::with_capacity(16);
        assert_eq!(try_read(&mut stream, &mut buffer).unwrap(), Some(3));
        assert_eq!(try_read(&mut stream, &mut buffer).unwrap(), None);
    }
}
