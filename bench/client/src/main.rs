//! The one client of the benchmarks: the same process against every broker, on librdkafka, cheap on CPU.
//!
//! Each sub-command prints one JSON object to standard output; anything that is not as it must be (a record that failed, an offset
//! that is missing) ends the process with a message and status 1.

mod consume;
mod end_to_end;
mod idle;
mod latency;
mod paced;
mod produce;
mod settings;
mod values;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about = "The client of the benchmarks")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write records as fast as they are acknowledged; with --rate at that rate, timing each acknowledgement.
    Produce(produce::Arguments),
    /// Read, and check that no offset is missing.
    Consume(consume::Arguments),
    /// Time records from the producer's call to their arrival at a consumer.
    EndToEnd(end_to_end::Arguments),
    /// Hold open connections until standard input ends.
    Idle(idle::Arguments),
}

/// A failure, in words.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Produce(arguments) if arguments.rate.is_some() => paced::run(&arguments),
        Command::Produce(arguments) => produce::run(&arguments),
        Command::Consume(arguments) => consume::run(&arguments),
        Command::EndToEnd(arguments) => end_to_end::run(&arguments),
        Command::Idle(arguments) => idle::run(&arguments),
    };
    match outcome {
        Ok(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
