//! Arguments → configuration → runtime → subcommand → exit code.
//!
//! 0: success. 1: failure. 2: wrong command line, environment or setup. 3: not everything could be checked.
//! An error is one line on standard error.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Runtime;

use weather::cli::{self, Command, Invocation, Run};
use weather::config::LogLevel;
use weather::error::{Error, Result};
use weather::shutdown::{self, Shutdown};
use weather::telemetry::{log, output};
use weather::{demo, inspect, processor, producer, readmit, verify};

fn main() -> ExitCode {
    // The arguments start with the program's name.
    match cli::parse(std::env::args_os().skip(1), &|name| std::env::var_os(name)) {
        Ok(Invocation::Run(run)) => start(*run),
        Ok(Invocation::Print(text)) => {
            // A closed output is not an error.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Ok(Invocation::NoCommand(help)) => {
            let _ = std::io::stderr().write_all(help.as_bytes());
            ExitCode::from(2)
        }
        Err(e) => {
            let _ = std::io::stderr().write_all(last_line(&e).as_bytes());
            ExitCode::from(e.exit_code())
        }
    }
}

fn last_line(error: &Error) -> String {
    format!("weather: {error}\n")
}

/// Runs a subcommand on its own runtime, and prints why it failed.
fn start(run: Run) -> ExitCode {
    let Run { command, settings } = run;
    log::init(command.log());
    let word = command.word();
    let fields: Vec<(&str, &dyn Display)> =
        settings.iter().map(|(name, value)| (*name, value as &dyn Display)).collect();
    // Of a command that only looks, the report is the output.
    if log::enabled(LogLevel::Info)
        && !matches!(command, Command::Inspect(_) | Command::Verify(_) | Command::Readmit(_))
    {
        let message = format!("weather {} {word} starts", env!("CARGO_PKG_VERSION"));
        log::write(LogLevel::Info, &message, &fields);
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(e) => {
            let e = cannot_start(&e);
            let _ = std::io::stderr().write_all(last_line(&e).as_bytes());
            return ExitCode::from(e.exit_code());
        }
    };
    let (trigger, shutdown) = shutdown::channel();
    // As a task, so that the thread that keeps the timers runs it, instead of waking this one each time.
    let work = runtime.spawn(async move {
        shutdown::on_signals(trigger).map_err(|e| cannot_start(&e))?;
        dispatch(command, shutdown).await
    });
    let result =
        runtime.block_on(work).unwrap_or_else(|e| Err(Error::failure(format!("internal error: {e}"))));
    runtime.block_on(output::finish(result.as_ref().err().map(last_line)));
    // A pending read from a terminal would keep the runtime alive forever.
    runtime.shutdown_background();
    result.map_or_else(|e| ExitCode::from(e.exit_code()), |()| ExitCode::SUCCESS)
}

/// One thread does all that waits for the network and all that is computed: a reading takes a fraction of a microsecond,
/// and handing it from thread to thread would cost more than a second thread gains. Files are written by others.
fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        // Else threads for blocking work would end and be started again between two checkpoints.
        .thread_keep_alive(Duration::from_secs(86_400))
        .build()
}

fn cannot_start(error: &std::io::Error) -> Error {
    Error::failure(format!("cannot start: {error}"))
}

async fn dispatch(command: Command, mut shutdown: Shutdown) -> Result<()> {
    match command {
        Command::Producer(config) => producer::run(config, shutdown).await,
        Command::Process(config) => processor::run(*config, shutdown).await,
        Command::Inspect(config) => tokio::select! {
            done = inspect::run(config) => done,
            () = shutdown.wait() => Ok(()),
        },
        Command::Verify(config) => verify::run(*config, shutdown).await,
        Command::Readmit(config) => readmit::run(*config, shutdown).await,
        Command::Demo(config) => demo::run(config, shutdown).await,
    }
}
