//! Running the program: commands to their end, servers until they are dropped.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Nothing that is waited for takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program with nothing of this process's FIRN_ variables.
pub(crate) fn firn(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firn"));
    command.args(arguments).env("RUST_BACKTRACE", "0");
    std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FIRN_")).for_each(|(name, _)| {
        command.env_remove(name);
    });
    command
}

/// Runs a command with this input.
pub(crate) fn run_with(mut command: Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A command that fails early does not read its input.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// What a command that must succeed printed.
pub(crate) fn succeeded(output: Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The last line that a command with this exit status printed to standard error.
pub(crate) fn failed(output: &Output, status: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    stderr
}

/// Looks again and again until `look` finds something.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what} did not happen within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    bootstrap: String,
    admin: String,
    folder: TempDir,
}

/// Small segments that leave the local disk as soon as they are archived.
const SETTINGS: [&str; 8] = [
    "segment.bytes=16384",
    "local.retention.bytes=1",
    "log.retention.check.interval.ms=50",
    "firn.archive.interval.ms=20",
    "firn.journal.bytes=4194304",
    "offsets.topic.num.partitions=2",
    "group.initial.rebalance.delay.ms=0",
    "index.interval.bytes=1024",
];

impl Server {
    /// A server on free ports, with its data in a new folder.
    pub(crate) fn start() -> Self {
        Self::start_in(TempDir::new().unwrap())
    }

    fn start_in(folder: TempDir) -> Self {
        let data_dir = folder.path().to_str().unwrap();
        let mut arguments = vec!["server", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir", data_dir];
        arguments.extend(["--log-format", "json"]);
        arguments.extend(SETTINGS.iter().flat_map(|setting| ["--set", setting]));
        let mut child = firn(&arguments).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            // Ends with the server. Read on after the start, or the server would wait for room in the pipe.
            log.lines().map_while(Result::ok).for_each(|line| {
                let _ = sender.send(line);
            });
        });
        let mut seen = Vec::new();
        let ready = loop {
            let line = lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("the server does not start:\n{}", seen.join("\n")));
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if event["fields"]["message"] == "ready" {
                break event["fields"].clone();
            }
            seen.push(line);
        };
        let address = |name: &str| ready[name].as_str().unwrap().to_owned();
        Server { bootstrap: address("listen"), admin: address("admin"), child, folder }
    }

    /// A command that talks to this server.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = firn(arguments);
        command.env("FIRN_BOOTSTRAP", &self.bootstrap).env("FIRN_ADMIN_ADDRESS", &self.admin);
        command
    }

    /// Runs a command without input.
    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        run_with(self.command(arguments), b"")
    }

    /// What a command that must succeed printed.
    pub(crate) fn text(&self, arguments: &[&str]) -> String {
        succeeded(self.output(arguments))
    }

    /// The same, as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.text(arguments)).unwrap()
    }

    /// The lines that a command printed, as JSON.
    pub(crate) fn json_lines(&self, arguments: &[&str]) -> Vec<Value> {
        self.text(arguments).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Sends input to a topic.
    pub(crate) fn produce(&self, arguments: &[&str], input: &[u8]) -> String {
        let arguments: Vec<&str> = ["produce"].iter().chain(arguments).copied().collect();
        succeeded(run_with(self.command(&arguments), input))
    }

    /// The first partition of `topic` in `firn archive status`.
    pub(crate) fn archive_status(&self, topic: &str) -> Value {
        let status = self.json(&["archive", "status", "--json"]);
        let partitions = status["partitions"].as_array().unwrap();
        partitions.iter().find(|partition| partition["topic"] == topic).cloned().unwrap_or_default()
    }

    /// An HTTP GET on the admin port: status line and body.
    pub(crate) fn get(&self, path: &str) -> (String, String) {
        use std::io::Read;

        let mut stream = std::net::TcpStream::connect(&self.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: firn\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    /// Where Kafka clients connect to.
    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Where the server keeps its data.
    pub(crate) fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    /// All files below the data folder with this extension, in order.
    pub(crate) fn files(&self, extension: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.data_dir().to_owned()];
        while let Some(folder) = folders.pop() {
            // Folders of evicted segments may go while we look.
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|found| found == extension) {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }

    /// Asks the server to stop; its exit status and how long it took.
    pub(crate) fn terminate(&mut self) -> (Option<i32>, Duration) {
        let start = Instant::now();
        self.signal(Signal::TERM);
        let child = &mut self.child;
        let status = wait_for("the server's end", || child.try_wait().unwrap());
        (status.code(), start.elapsed())
    }

    /// Kills the server and starts another on the same data.
    pub(crate) fn kill_and_restart(mut self) -> Self {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
        self.restart()
    }

    /// Starts another server on the data of one that has ended.
    pub(crate) fn restart(mut self) -> Self {
        let folder = std::mem::replace(&mut self.folder, TempDir::new().unwrap());
        Self::start_in(folder)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
