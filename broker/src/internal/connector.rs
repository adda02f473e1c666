//! Connections of the asking side, for `hyper`.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::runtime::Handle;
use tower_service::Service;

use crate::machine::sockets::TcpStream;

/// How long a connection may take to come about.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// Connects to whom a URI names, by HTTP without TLS, on one runtime.
#[derive(Debug, Clone)]
pub(super) struct Connector(pub(super) Handle);

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.spawn(async move {
            let host = uri.host().unwrap_or_default();
            let address = (host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(80));
            let slow = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
            let stream = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(address)).await.map_err(slow)??;
            // Without it a question waits for the acknowledgement of the one before.
            stream.set_nodelay(true)?;
            Ok(Stream(TokioIo::new(stream)))
        });
        Box::pin(async move { connecting.await.map_err(io::Error::other)? })
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Stream(TokioIo<TcpStream>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }
}
