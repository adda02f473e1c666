//! Connections of the admin port: how many there are, and how long each may keep its place.
//!
//! A connection beyond the bound takes the place of the one that was quiet for longest, so that there is room for those who
//! ask for `/health` and metrics whatever others do. One that has a place among the open requests (`requests.rs`, fewer than
//! the connections) is never quiet.
//!
//! A request's head must be complete within a time, and a client that takes nothing of its answer for a time is cut off; not
//! where the answer is made at the client's pace, and bounded by who makes it.

use std::collections::BTreeMap;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use crate::machine::sockets::{HttpListener, TcpListener, TcpStream};

/// Connections that are open at once.
pub(crate) const MAX_CONNECTIONS: usize = 512;
/// Buffer of a connection for the heads of requests and answers, in bytes.
const BUFFER_BYTES: usize = 32 << 10;

/// The bounds of connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionLimits {
    /// How many there are.
    pub(super) count: usize,
    /// Until a request's head is complete, counted from the end of the answer before.
    pub(super) head: Duration,
    /// How long a client may take nothing of its answer.
    pub(super) stall: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        let (head, stall) = (Duration::from_secs(30), Duration::from_secs(30));
        ConnectionLimits { count: MAX_CONNECTIONS, head, stall }
    }
}

/// One connection, as its requests see it.
#[derive(Debug)]
pub(super) struct Connection {
    /// Cancelled when it must end.
    cut: CancellationToken,
    /// Its open requests.
    open: AtomicUsize,
    /// Those that are answered at the client's pace.
    unhurried: AtomicUsize,
    /// The turn in which it was used last.
    used: AtomicU64,
}

impl Connection {
    /// Ends it, whatever it is doing.
    pub(super) fn cut(&self) {
        self.cut.cancel();
    }

    /// It is not quiet as long as this lives.
    pub(super) fn open(self: Arc<Self>) -> Counted {
        Counted::new(self, |connection| &connection.open)
    }

    /// Its client may take nothing of its answer as long as this lives.
    pub(super) fn unhurried(self: Arc<Self>) -> Counted {
        Counted::new(self, |connection| &connection.unhurried)
    }
}

/// A request that a connection counts.
#[derive(Debug)]
pub(super) struct Counted {
    connection: Arc<Connection>,
    among: fn(&Connection) -> &AtomicUsize,
}

impl Counted {
    fn new(connection: Arc<Connection>, among: fn(&Connection) -> &AtomicUsize) -> Self {
        among(&connection).fetch_add(1, Ordering::Relaxed);
        Counted { connection, among }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.among)(&self.connection).fetch_sub(1, Ordering::Relaxed);
    }
}

/// All connections.
#[derive(Debug)]
struct Connections {
    limits: ConnectionLimits,
    turn: AtomicU64,
    all: Mutex<BTreeMap<u64, Arc<Connection>>>,
}

impl Connections {
    /// A place for another one; where there is none, the quiet one that was used least recently gives up its own.
    fn enter(self: &Arc<Self>) -> Entered {
        let number = self.next_turn();
        let cut = CancellationToken::new();
        let (open, unhurried) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let connection = Arc::new(Connection { cut, open, unhurried, used: AtomicU64::new(number) });
        let mut all = self.all.lock();
        if all.len() >= self.limits.count {
            let quiet = all.iter().filter(|(_, other)| other.open.load(Ordering::Relaxed) == 0);
            let oldest = quiet.min_by_key(|(_, other)| other.used.load(Ordering::Relaxed)).map(|(number, _)| *number);
            match oldest.and_then(|oldest| all.remove(&oldest)) {
                Some(oldest) => oldest.cut(),
                None => connection.cut(),
            }
            metrics::counter!("firn_admin_connections_cut_total").increment(1);
        }
        all.insert(number, Arc::clone(&connection));
        drop(all);
        Entered { connections: Arc::clone(self), number, connection }
    }

    fn next_turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }
}

/// A connection's place.
struct Entered {
    connections: Arc<Connections>,
    number: u64,
    connection: Arc<Connection>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.connections.all.lock().remove(&self.number);
    }
}

/// Serves `routes` until `stop`; each request carries its [`Connection`]. Answers that are on their way then are finished.
pub(super) async fn serve(routes: Router, listener: TcpListener, limits: ConnectionLimits, stop: CancellationToken) {
    let connections = Arc::new(Connections { limits, turn: AtomicU64::new(0), all: Mutex::default() });
    let mut listener = HttpListener(listener);
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            (stream, _) = listener.accept() => stream,
        };
        tokio::spawn(attend(stream, connections.enter(), routes.clone(), stop.clone()));
    }
}

async fn attend(stream: TcpStream, entered: Entered, routes: Router, stop: CancellationToken) {
    let limits = entered.connections.limits;
    let service = service_fn(|request: Request<Incoming>| {
        entered.connection.used.store(entered.connections.next_turn(), Ordering::Relaxed);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Arc::clone(&entered.connection));
        routes.clone().call(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(BUFFER_BYTES);
    let stream = TokioIo::new(Taking {
        stream,
        connection: Arc::clone(&entered.connection),
        stall: limits.stall,
        waiting: None,
    });
    let mut serving = pin!(builder.serve_connection(stream, service));
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = entered.connection.cut.cancelled() => return,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the admin port broke off");
    }
}

/// A stream whose peer must take what is sent.
struct Taking {
    stream: TcpStream,
    connection: Arc<Connection>,
    stall: Duration,
    /// Runs while the peer takes nothing.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Taking {
    fn watched<T>(&mut self, context: &mut Context<'_>, sent: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if sent.is_ready() {
            self.waiting = None;
            return sent;
        }
        let stall = self.stall;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(stall)));
        ready!(waiting.as_mut().poll(context));
        while self.connection.unhurried.load(Ordering::Relaxed) > 0 {
            waiting.as_mut().reset(Instant::now() + stall);
            ready!(waiting.as_mut().poll(context));
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing of its answer")))
    }
}

impl AsyncRead for Taking {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Taking {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let sent = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.watched(context, sent)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let sent = Pin::new(&mut this.stream).poll_write_vectored(context, bytes);
        this.watched(context, sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
