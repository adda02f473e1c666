//! A broker inside the test's own process, and a client that speaks any version to it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use broker::{Config, Overrides, Server};
use bytes::Bytes;
use protocol::{Message, Request, Str, frame};

const PATIENCE: Duration = Duration::from_secs(20);

/// A broker with its data in a temporary folder.
pub(crate) struct Node {
    server: Option<Server>,
    address: SocketAddr,
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

impl Node {
    pub(crate) fn start(settings: &[&str]) -> Node {
        let folder = tempfile::tempdir().unwrap();
        let mut overrides = Overrides {
            data_dir: Some(folder.path().join("data")),
            listen: Some("127.0.0.1:0".parse().unwrap()),
            admin: Some("127.0.0.1:0".parse().unwrap()),
            ..Overrides::default()
        };
        for setting in settings {
            overrides.set(setting).unwrap();
        }
        let config = Config::compose([overrides]).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let server = runtime.block_on(Server::start(config)).unwrap();
        Node { address: server.listen_address(), server: Some(server), runtime, _folder: folder }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::to(self.address)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop());
        }
    }
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    /// Connects to a broker.
    pub(crate) fn to(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { stream, correlation_id: 0 }
    }

    /// Asks in `version`, and reads the answer in it, to its last byte.
    pub(crate) fn ask<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        let what = format!("{} of version {version}", R::KEY);
        self.correlation_id += 1;
        let sent = frame::request(request, version, self.correlation_id, Some(Str::from("test")))
            .unwrap_or_else(|error| panic!("{what} cannot be encoded: {error}"));
        self.stream.write_all(&sent.into_bytes()).unwrap();
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap_or_else(|error| panic!("{what} was not answered: {error}"));
        let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
        self.stream.read_exact(&mut answer).unwrap();
        let (correlation_id, mut reader) = frame::open_response(R::KEY, version, Bytes::from(answer)).unwrap();
        assert_eq!(correlation_id, self.correlation_id, "{what}");
        let response = R::Response::decode(&mut reader, version)
            .unwrap_or_else(|error| panic!("the answer to {what} cannot be read: {error}"));
        assert!(reader.into_rest().is_empty(), "bytes follow the answer to {what}");
        response
    }
}
