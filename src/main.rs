//! The program: parses what was typed, runs it, and ends with a code of the table.

use std::panic::catch_unwind;
use std::process::ExitCode;

use clap::Parser as _;
use snapmerge::base::error::{Error, Kind, Result};
use snapmerge::base::stop;
use snapmerge::cli::{Cli, exit, supervise};
use snapmerge::engine;

/// Records are made in one thread and dropped in another, which the system's allocator pays for
/// with locks: a sixth of a merge's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    engine::install();
    let code = catch_unwind(|| run(cli)).unwrap_or_else(|panic| {
        Err(
            Error::failed("working", engine::panic_message(panic.as_ref()))
                .next("this is a fault of snapmerge: please report it"),
        )
    });
    let code = code.unwrap_or_else(|err| {
        eprintln!("snapmerge: {err}");
        err.kind().exit_code()
    });
    ExitCode::from(code)
}

fn run(cli: Cli) -> Result<u8> {
    if cli.command.is_risky() && !supervise::is_worker() {
        return supervise::run();
    }
    if supervise::is_worker() {
        supervise::be_worker()?;
    } else if cli.command.puts_away() {
        stop::listen()?;
    }
    let ended = cli.command.run()?;
    Ok(ended.map_or(exit::DONE, Kind::exit_code))
}
