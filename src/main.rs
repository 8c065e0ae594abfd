//! Arguments → subcommand → exit code.

use std::process::ExitCode;

use weather::cli::{self, Command, Invocation, Run};
use weather::error::{Error, Result};
use weather::{processor, shutdown, telemetry};

fn main() -> ExitCode {
    let env = |name: &str| std::env::var_os(name);
    match cli::parse(std::env::args_os().skip(1), &env) {
        Ok(Invocation::Run(run)) => finish(execute(*run)),
        Ok(Invocation::Print(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Ok(Invocation::NoCommand(text)) => {
            eprint!("{text}");
            ExitCode::from(2)
        }
        Err(e) => finish(Err(e)),
    }
}

fn finish(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("weather: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}

fn execute(run: Run) -> Result<()> {
    telemetry::log::init(run.command.log());
    let runtime = tokio::runtime::Runtime::new().map_err(|e| Error::failure(e.to_string()))?;
    runtime.block_on(async {
        let (trigger, shutdown) = shutdown::channel();
        shutdown::on_signals(trigger).map_err(|e| Error::failure(e.to_string()))?;
        match run.command {
            Command::Process(config) => processor::run(config, shutdown).await,
            _ => Ok(()),
        }
    })
}
