//! The program: parses what was typed, runs it, and ends with a code of the table.

use std::panic::catch_unwind;
use std::process::ExitCode;

use clap::Parser as _;
use snapmerge::base::error::{Error, Kind, Result};
use snapmerge::base::{own, progress, stop};
use snapmerge::cli::{Cli, exit, typed};
use snapmerge::{engine, worker};

/// Records are made in one thread and dropped in another, which the system's allocator pays for
/// with locks: a sixth of a merge's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    own::be_private();
    engine::install();
    let code = catch_unwind(run).unwrap_or_else(|panic| {
        Err(
            Error::failed("working", engine::panic_message(panic.as_ref()))
                .next("this is a fault of snapmerge: please report it"),
        )
    });
    let code = code.unwrap_or_else(|err| {
        progress::fail(&err);
        err.kind().exit_code()
    });
    ExitCode::from(code)
}

fn run() -> Result<u8> {
    if worker::is_worker()
        && let Some(request) = worker::be_worker()?
    {
        worker::serve(&request)?;
        return Ok(exit::DONE);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(err) => {
            let (code, shown) = typed::refuse(&err);
            eprint!("{}", shown.unwrap_or_default());
            return Ok(code);
        }
    };
    cli.progress.choose();
    if cli.command.puts_away() {
        stop::listen()?;
    }
    let ended = cli.command.run()?;
    Ok(ended.map_or(exit::DONE, Kind::exit_code))
}
