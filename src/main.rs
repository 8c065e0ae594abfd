//! Arguments → configuration → runtime → subcommand → exit code.
//!
//! 0: done. 1: failed. 2: wrong command line, environment or set-up. An error is one line on standard error.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use weather::allocator;
#[cfg(target_os = "linux")]
use weather::allocator::Allocator;
use weather::cli::{self, Command, Invocation, Run};
use weather::config::LogLevel;
use weather::error::{Error, Result};
use weather::shutdown::{self, Shutdown};
use weather::telemetry::log;
use weather::{demo, inspect, processor, producer};

// Elsewhere the standard library's locks may allocate, which this allocator must not do.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    // The arguments start with the program's name.
    let invocation = cli::parse(std::env::args_os().skip(1), &|name| std::env::var_os(name));
    let result = invocation.and_then(|invocation| match invocation {
        Invocation::Run(run) => start(*run).map(|()| ExitCode::SUCCESS),
        Invocation::Print(text) => {
            // Whoever closed it has read enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            Ok(ExitCode::SUCCESS)
        }
        Invocation::NoCommand(help) => {
            let _ = std::io::stderr().write_all(help.as_bytes());
            Ok(ExitCode::from(2))
        }
    });
    result.unwrap_or_else(|e| {
        let _ = writeln!(std::io::stderr(), "weather: {e}");
        ExitCode::from(e.exit_code())
    })
}

/// Runs a subcommand on a runtime of its own.
fn start(run: Run) -> Result<()> {
    let Run { command, settings } = run;
    log::init(command.log());
    let word = command.word();
    let fields: Vec<(&str, &dyn Display)> =
        settings.iter().map(|(name, value)| (*name, value as &dyn Display)).collect();
    // Of a command that only looks, the answer is all there is to say.
    if log::enabled(LogLevel::Info) && !matches!(command, Command::Inspect(_)) {
        let message = format!("weather {} {word} starts", env!("CARGO_PKG_VERSION"));
        log::write(LogLevel::Info, &message, &fields);
    }
    let cannot_start = |e: std::io::Error| Error::failure(format!("cannot start: {e}"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Threads for blocking work would come and go, each leaving a little memory behind.
        .thread_keep_alive(Duration::from_secs(86_400))
        .on_thread_stop(allocator::give_back)
        .build()
        .map_err(cannot_start)?;
    let (trigger, shutdown) = shutdown::channel();
    // As a task, so that the thread that keeps the timers runs it, instead of waking this one each time.
    let work = runtime.spawn(async move {
        shutdown::on_signals(trigger).map_err(cannot_start)?;
        dispatch(command, shutdown).await
    });
    let result =
        runtime.block_on(work).unwrap_or_else(|e| Err(Error::failure(format!("ended by a bug: {e}"))));
    // A read from a terminal that nobody answers would keep the runtime for ever.
    runtime.shutdown_background();
    result
}

async fn dispatch(command: Command, mut shutdown: Shutdown) -> Result<()> {
    match command {
        Command::Producer(config) => producer::run(config, shutdown).await,
        Command::Process(config) => processor::run(config, shutdown).await,
        Command::Inspect(config) => tokio::select! {
            done = inspect::run(config) => done,
            () = shutdown.wait() => Ok(()),
        },
        Command::Demo(config) => demo::run(config, shutdown).await,
    }
}
