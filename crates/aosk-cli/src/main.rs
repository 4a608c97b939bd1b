//! `aosk`: the command line of the Agent OS Kernel.
//!
//! 1. **Wiring, not mechanism.** The binary connects store, models, tools and sandbox to a kernel
//!    and shows what happens; it decides nothing that a process could depend on.
//! 2. **Reading changes nothing.** Only `run` owns the store; `ps`, `logs` and `show` read beside
//!    whoever does, and recover nothing.
//! 3. **Files of a project only ask.** Endpoints, keys, prices, data folders and higher spend
//!    limits come from the user's own files, variables and flags.
//! 4. **An error says what was wrong, where, and what to do next**, with a stable code and an exit
//!    code of its kind.

mod args;
mod config;
mod error;
mod exit;
mod figures;
mod init;
mod journal;
mod logs;
mod manifest;
mod print;
mod processes;
mod ps;
mod run;
mod show;
mod task;
mod tell;
mod text;

use std::process::ExitCode;
use std::sync::Arc;

use aosk_abi::Code;
use aosk_kernel::Redactor;
use clap::Parser;
use clap::error::ErrorKind;
use tracing_subscriber::EnvFilter;

use args::{Cli, Command, Global};
use config::{Flags, Folders, Settings};
use error::Error;
use exit::Exit;
use print::{Color, Screen};

/// Steps are small allocations by the dozen. Together with linking the release as a whole, this one
/// took a step of 64 agents from about 75 to about 60 µs of processor time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(report_panic));
    // Before anything can be said: an error may quote what was given.
    print::hide(Redactor::new(config::secret_variables()));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error).into(),
    };
    let mut screen = Screen::new(cli.global.color.unwrap_or_default());
    let exit = command(cli, &mut screen).unwrap_or_else(|error| {
        error.print(&screen.err);
        error.exit()
    });
    exit.into()
}

fn command(cli: Cli, screen: &mut Screen) -> Result<Exit, Error> {
    start_log(&cli.global)?;
    if let Command::Init(args) = &cli.command {
        return init::init(args, screen);
    }
    let folders = Folders::from_env(&|name| std::env::var_os(name))?;
    let flags = Flags {
        max_spend: match &cli.command {
            Command::Run(args) => args.max_spend_usd,
            _ => None,
        },
        data_dir: cli.global.data_dir,
        color: cli.global.color,
    };
    let settings = Settings::load(&folders, &flags)?;
    *screen = Screen::new(settings.color);
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Error::new(Code::CliUsage, format!("cannot start: {error}")))?;
    runtime.block_on(async {
        match &cli.command {
            Command::Init(args) => init::init(args, screen),
            Command::Run(args) => {
                let screen = Arc::new(Screen::new(settings.color));
                run::run(args, &settings, &folders, &screen).await
            }
            Command::Ps(args) => ps::ps(args, &settings, screen).await,
            Command::Logs(args) => logs::logs(args, &settings, screen).await,
            Command::Show(args) => show::show(args, &settings, screen).await,
        }
    })
}

/// Help and version are answers; everything else that clap finds is an error of usage.
fn usage(error: &clap::Error) -> Exit {
    let screen = Screen::new(Color::Auto);
    let text = error.render();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let text =
                if screen.out.is_colored() { text.ansi().to_string() } else { text.to_string() };
            screen.out.raw(&text).map_or(Exit::Failed, |()| Exit::Done)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // Nobody is left to tell where standard error cannot be written.
            let _ = screen.err.raw(&text.to_string());
            Exit::Usage
        }
        _ => {
            let text = text.to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
            Error::new(Code::CliUsage, text).print(&screen.err);
            Exit::Usage
        }
    }
}

/// What happens inside goes to standard error: warnings; `-v` also notes, `-vv` everything.
/// `AOSK_LOG` says otherwise.
fn start_log(global: &Global) -> Result<(), Error> {
    let level = match global.verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = match std::env::var("AOSK_LOG") {
        Ok(directives) if !directives.is_empty() => {
            EnvFilter::try_new(&directives).map_err(|error| {
                Error::new(
                    Code::CliConfig,
                    format!("the variable AOSK_LOG is {directives:?}: {error}"),
                )
                .help("give a level, such as debug, or pairs, such as aosk_kernel=trace,warn")
            })?
        }
        _ => EnvFilter::new(level),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(|| print::Log)
        .init();
    Ok(())
}

/// A panic is a mistake of this program; whoever meets one learns what to report.
fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let payload = panic.payload();
    let said = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    Error::new(Code::KernelPanic, format!("aosk failed inside itself: {said} ({place})"))
        .help("nothing that was acknowledged is lost; `aosk run --resume` goes on")
        .help(concat!(
            "please report this with what you did: ",
            env!("CARGO_PKG_REPOSITORY"),
            "/issues (aosk ",
            env!("CARGO_PKG_VERSION"),
            ")"
        ))
        .print(&Screen::new(Color::Auto).err);
}
