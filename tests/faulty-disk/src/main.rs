//! A disk of the tests whose device can be told to misbehave: a FUSE file system in memory.
//!
//! `faulty-disk FOLDER BYTES` mounts an empty device of that size at FOLDER, prints `mounted`, and takes commands, one in a
//! line, from standard input; each is answered by one line, `ok …` or `error …`. It unmounts when the input ends.
//!
//! | command | effect |
//! |---|---|
//! | `fail CALL PATH [TIMES]` | the call fails with EIO where the path contains PATH (`*`: everywhere); a failed sync marks its pages clean, as Linux does |
//! | `delay CALL MS PATH [TIMES]` | the call takes so much longer; a sync still covers only what was written before it began |
//! | `clear` | no rules any more |
//! | `capacity BYTES` | another size: below what is in use, the device is full |
//! | `flip PATH OFFSET BIT` | one bit of a file is another, in the page cache and on the device |
//! | `cut [SEED]` | the power goes: every call fails; what was not synced is gone, with SEED all but a random part of it |
//! | `restore` | the power is back |
//! | `hits` | how many calls the rules decided about |
//!
//! CALL is `read`, `write`, `sync`, `sync-folder` or `change` (of a name).

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::str::SplitAsciiWhitespace;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use fuser::{Config, MountOption};

use crate::faults::{Call, Effect};
use crate::mount::{Device, State};

mod faults;
mod mount;
mod pages;
mod tree;

/// Threads that take requests of the kernel.
const THREADS: usize = 2;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: faulty-disk FOLDER BYTES";
    let folder = PathBuf::from(args.next().context(usage)?);
    let capacity = args.next().context(usage)?.parse().context(usage)?;
    let device = Device::new(capacity);
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("faulty-disk".to_owned()), MountOption::NoAtime];
    config.n_threads = Some(THREADS);
    let mounted = fuser::spawn_mount(device.clone(), &folder, &config)
        .with_context(|| format!("cannot mount {}", folder.display()))?;
    let mut output = std::io::stdout().lock();
    writeln!(output, "mounted")?;
    output.flush()?;
    for line in std::io::stdin().lock().lines() {
        match device.with(|state| obey(state, &line?)) {
            Ok(answer) => writeln!(output, "ok {answer}")?,
            Err(error) => writeln!(output, "error {error:#}")?,
        }
        output.flush()?;
    }
    mounted.umount_and_join().context("cannot unmount")
}

/// Carries out one command.
fn obey(state: &mut State, line: &str) -> Result<String> {
    let mut words = line.split_ascii_whitespace();
    match words.next().unwrap_or_default() {
        "fail" => {
            let call = word(&mut words)?.parse()?;
            rule(state, call, Effect::Fail, &mut words)?;
        }
        "delay" => {
            let call = word(&mut words)?.parse()?;
            let delay = Duration::from_millis(word(&mut words)?.parse()?);
            rule(state, call, Effect::Delay(delay), &mut words)?;
        }
        "clear" => state.faults.clear(),
        "capacity" => state.tree.set_capacity(word(&mut words)?.parse()?),
        "flip" => {
            let path = word(&mut words)?;
            let found = state.find(path).map_err(|_| anyhow!("there is no {path}"))?;
            let (offset, bit) = (word(&mut words)?.parse()?, word(&mut words)?.parse()?);
            let file = state.tree.file(found).map_err(|_| anyhow!("{path} is a folder"))?;
            anyhow::ensure!(file.flip(offset, bit), "{path} has no byte {offset}");
        }
        "cut" => state.cut_power(words.next().map(str::parse).transpose()?),
        "restore" => state.restore_power(),
        "hits" => return Ok(state.faults.hits().to_string()),
        unknown => anyhow::bail!("no such command: {unknown}"),
    }
    Ok(String::new())
}

fn rule(state: &mut State, call: Call, effect: Effect, words: &mut SplitAsciiWhitespace<'_>) -> Result<()> {
    let path = word(words)?;
    let times = words.next().map(str::parse).transpose()?;
    state.faults.add(call, path, effect, times);
    Ok(())
}

fn word<'a>(words: &mut SplitAsciiWhitespace<'a>) -> Result<&'a str> {
    words.next().context("a word is missing")
}
