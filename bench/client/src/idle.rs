//! Connections that are open and do nothing: each asks for the versions once, then waits.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::Outcome;

/// ApiVersions, version 0: size, API key 18, version, correlation id, client id "idle".
const API_VERSIONS: [u8; 18] = [0, 0, 0, 14, 0, 18, 0, 0, 0, 0, 0, 7, 0, 4, b'i', b'd', b'l', b'e'];
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
const LARGEST_ANSWER_BYTES: usize = 1 << 20;

/// Of the sub-command.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// HOST:PORT of the broker.
    #[arg(long)]
    bootstrap: String,
    /// How many.
    #[arg(long, default_value_t = 5000)]
    connections: usize,
}

/// Opens them, says so in a first line of JSON, and holds them until standard input ends.
pub(crate) fn run(arguments: &Arguments) -> Outcome<Value> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let address = arguments.bootstrap.to_socket_addrs()?.next().ok_or("no such address")?;
    let start = Instant::now();
    let mut open = Vec::with_capacity(arguments.connections);
    for number in 0..arguments.connections {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
        stream.write_all(&API_VERSIONS)?;
        read_answer(&mut stream).map_err(|error| format!("connection {number}: {error}"))?;
        open.push(stream);
    }
    println!("{}", json!({ "open": open.len(), "seconds": start.elapsed().as_secs_f64() }));
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    let held = open.len();
    drop(open);
    Ok(json!({ "held": held, "seconds": start.elapsed().as_secs_f64() }))
}

fn read_answer(stream: &mut TcpStream) -> Outcome<()> {
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let size = usize::try_from(u32::from_be_bytes(size))?;
    if size > LARGEST_ANSWER_BYTES {
        return Err(format!("an answer of {size} bytes").into());
    }
    stream.read_exact(&mut vec![0; size])?;
    Ok(())
}
