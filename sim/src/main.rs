//! Deterministic simulation of whole clusters: the real broker on a simulated network, disk, store and clock.
//!
//! A seed decides everything: when messages arrive, which process dies, what a power cut leaves. A run that breaks a promise is
//! repeated by its seed. See `docs/reliability.md`.

mod client;
mod faults;
mod history;
mod invariants;
mod pinned;
mod store;
mod trace;
mod workload;
mod world;

use std::io::{Write, stdout};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use parking_lot::Mutex;

use world::{Outcome, Plan};

/// Pause between two looks whether a run is over.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// How long a run may really take.
const PATIENCE: Duration = Duration::from_secs(300);
/// Bytes of stack of a run: debug builds have large futures.
const STACK_BYTES: usize = 64 << 20;

/// Simulates clusters of three nodes under faults.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Only this one, in this process, with its log.
    #[arg(long)]
    seed: Option<u64>,
    /// Without the log, and with the outcome as JSON.
    #[arg(long, requires = "seed")]
    json: bool,
    /// Seeds at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Seconds of faults in each run, in simulated time.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Each seed twice: both runs must be the same to the last line.
    #[arg(long)]
    twice: bool,
    /// Power cuts take whole disks, which nobody is told: the checks must find out in one run at least.
    #[arg(long)]
    disks_lie: bool,
}

/// What all runs came to.
#[derive(Debug, Default)]
struct Sum {
    runs: u64,
    failed: Vec<u64>,
    faults: u64,
    acknowledged: u64,
    reads: u64,
    simulated_s: f64,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) => run_here(&arguments, seed),
        None => run_all(&arguments),
    }
}

/// One seed in this process. Libraries keep chance in the thread and in the process that they run in.
fn run_here(arguments: &Arguments, seed: u64) -> anyhow::Result<ExitCode> {
    let faults_for = Duration::from_secs(arguments.seconds);
    let plan = Plan { seed, faults_for, disks_lie: arguments.disks_lie, prints: !arguments.json };
    let began = Instant::now();
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || world::run(plan))?;
    let is_over = || thread.is_finished() || began.elapsed() > PATIENCE;
    while !is_over() {
        thread::sleep(LOOK_AGAIN_AFTER);
    }
    if !thread.is_finished() {
        bail!("something goes on for ever while no time passes: {PATIENCE:?} were not enough");
    }
    let Ok(outcome) = thread.join() else { bail!("something panicked") };
    if arguments.json {
        say(&serde_json::to_string(&outcome)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for violation in &outcome.violations {
        say(violation)?;
    }
    let Outcome { faults, acknowledged, reads, simulated_s, digest, .. } = outcome;
    say(&format!(
        "seed {seed}: {faults} faults, {acknowledged} records acknowledged, {reads} read in {simulated_s:.0} s, \
         log {digest:016x}"
    ))?;
    Ok(if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All seeds, each in a process of its own.
fn run_all(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let end = arguments.first + arguments.seeds;
    let (next, sum, began) = (AtomicU64::new(arguments.first), Mutex::new(Sum::default()), Instant::now());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return Ok(());
            }
            judge(arguments, seed, &sum)?;
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..arguments.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        let joined = |worker: thread::ScopedJoinHandle<'_, anyhow::Result<()>>| {
            worker.join().unwrap_or_else(|_| bail!("a worker panicked"))
        };
        workers.into_iter().try_for_each(joined)
    })?;
    let sum = sum.into_inner();
    if arguments.disks_lie {
        say(&format!("{} of {} runs found out that disks lied", sum.failed.len(), sum.runs))?;
        return Ok(if sum.failed.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    let failed = if sum.failed.is_empty() { String::new() } else { format!(" (seeds {:?})", sum.failed) };
    say(&format!(
        "{} runs, {} failed{failed}; {} faults, {} records acknowledged, {} read, {:.0} s simulated in {:.0} s",
        sum.runs,
        sum.failed.len(),
        sum.faults,
        sum.acknowledged,
        sum.reads,
        sum.simulated_s,
        began.elapsed().as_secs_f64(),
    ))?;
    Ok(if sum.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn judge(arguments: &Arguments, seed: u64, sum: &Mutex<Sum>) -> anyhow::Result<()> {
    let outcome = run_elsewhere(arguments, seed)?;
    let mut complaints = outcome.violations.clone();
    if arguments.twice && run_elsewhere(arguments, seed)?.digest != outcome.digest {
        complaints.push("a second run went another way".to_owned());
    }
    let mut sum = sum.lock();
    sum.runs += 1;
    sum.faults += outcome.faults;
    sum.acknowledged += outcome.acknowledged;
    sum.reads += outcome.reads;
    sum.simulated_s += outcome.simulated_s;
    if complaints.is_empty() {
        return Ok(());
    }
    sum.failed.push(seed);
    if arguments.disks_lie {
        return Ok(());
    }
    for line in &outcome.last_lines {
        say(line.trim_end())?;
    }
    for complaint in &complaints {
        say(&format!("seed {seed}: {complaint}"))?;
    }
    say(&format!("repeat it: make sim SEED={seed} SIM_SECONDS={}", arguments.seconds))
}

fn run_elsewhere(arguments: &Arguments, seed: u64) -> anyhow::Result<Outcome> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--json", "--seed", &seed.to_string(), "--seconds", &arguments.seconds.to_string()]);
    if arguments.disks_lie {
        command.arg("--disks-lie");
    }
    let output = command.output().context("cannot start a run")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || said.contains("panicked") {
        return Ok(Outcome::without_end(&said));
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("seed {seed} told no outcome"))
}

fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(stdout().lock(), "{line}")?)
}
