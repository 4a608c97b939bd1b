//! `aosk`: the command line of the Agent OS Kernel.
//!
//! 1. **Wiring, not mechanism.** The binary connects store, models, tools and sandbox to a kernel
//!    and shows what happens; it decides nothing that a process could depend on.
//! 2. **Reading changes nothing.** `run`, `demo` and the daemon own a store, and a command that
//!    carries out a signal or tends the store for a moment; `ps`, `logs`, `show`, `mem` and `doctor` read
//!    beside whoever does, recover nothing and write no log.
//! 3. **Files of a project only ask.** Endpoints, keys, prices, data folders and higher spend
//!    limits come from the user's own files, variables and flags.
//! 4. **An error says what was wrong, where, and what to do next**, with a stable code and an exit
//!    code of its kind.

mod agent;
mod args;
mod config;
mod daemon;
mod demo;
mod devices;
mod diagnostics;
mod doctor;
mod endpoints;
mod error;
mod exit;
mod figures;
mod inbox;
mod init;
mod journal;
mod logs;
mod manifest;
mod mem;
mod memory;
mod pages;
mod print;
mod processes;
mod ps;
mod quota;
mod reader;
mod run;
mod show;
mod signals;
mod spawn;
mod store;
mod task;
mod tell;
mod text;
mod top;
mod version;
mod wiring;

use std::process::ExitCode;
use std::sync::Arc;

use aosk_abi::{Code, MicroDollars};
use aosk_kernel::Redactor;
use clap::Parser;
use clap::error::ErrorKind;

use args::{Cli, Command, Global};
use config::{Flags, Folders, Settings};
use error::Error;
use exit::Exit;
use print::{Color, Screen};

/// Steps are small allocations by the dozen. Together with linking the release as a whole, this one
/// took a step of 64 agents from about 75 to about 60 µs of processor time. It asks for no huge pages:
/// the system clears all 2 MB of one for the first byte that is used, and an agent that is alone on
/// PostgreSQL made 4 % fewer steps for it.
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
    tracing::info!(target: diagnostics::TOLD, "ended with exit code {}", exit.number());
    exit.into()
}

fn command(cli: Cli, screen: &mut Screen) -> Result<Exit, Error> {
    let Cli { command, global } = cli;
    diagnostics::start(global.verbose)?;
    match &command {
        // These do without settings, so a wrong one does not keep them from working.
        Command::Init(args) => init::init(args, screen),
        Command::Demo => wait(demo::demo(&global, screen)),
        Command::Doctor(args) => wait(doctor::doctor(args, &global, screen)),
        Command::Version(args) => version::version(args, screen),
        Command::Completions(args) => pages::completions(args, screen),
        Command::Man(args) => pages::man(args, screen),
        Command::Run(args) => {
            let (settings, folders) = settings(&global, args.max_spend_usd, screen)?;
            let screen = Arc::new(Screen::new(settings.color));
            wait(run::run(args, &settings, &folders, &screen))
        }
        Command::Spawn(args) => {
            let (settings, folders) = settings(&global, args.max_spend_usd, screen)?;
            wait(spawn::spawn(args, &settings, &folders, screen))
        }
        Command::Daemon(args) => {
            let (settings, folders) = settings(&global, None, screen)?;
            wait(daemon::daemon(&args.command, &settings, &folders, screen))
        }
        Command::Kill(args) => wait(inbox::kill(args, &settings(&global, None, screen)?.0, screen)),
        Command::Stop(args) => wait(inbox::stop(args, &settings(&global, None, screen)?.0, screen)),
        Command::Cont(args) => wait(inbox::cont(args, &settings(&global, None, screen)?.0, screen)),
        Command::Renice(args) => {
            wait(inbox::renice(args, &settings(&global, None, screen)?.0, screen))
        }
        Command::Send(args) => {
            let (settings, folders) = settings(&global, None, screen)?;
            wait(inbox::send(args, &settings, &folders, screen))
        }
        Command::Quota(args) => {
            let (settings, folders) = settings(&global, None, screen)?;
            wait(quota::quota(&args.command, &settings, &folders, screen))
        }
        Command::Top(args) => wait(top::top(args, &settings(&global, None, screen)?.0, screen)),
        Command::Devices(args) => {
            wait(devices::devices(args, &settings(&global, None, screen)?.0, screen))
        }
        Command::Ps(args) => wait(ps::ps(args, &settings(&global, None, screen)?.0, screen)),
        Command::Logs(args) => wait(logs::logs(args, &settings(&global, None, screen)?.0, screen)),
        Command::Store(args) => {
            wait(store::store(&args.command, &settings(&global, None, screen)?.0, screen))
        }
        Command::Mem(args) => {
            let (settings, folders) = settings(&global, None, screen)?;
            wait(mem::mem(args, &settings, &folders, screen))
        }
        Command::Show(args) => wait(show::show(args, &settings(&global, None, screen)?.0, screen)),
    }
}

/// Reads the settings; from here on they say when to colour.
fn settings(
    global: &Global,
    max_spend: Option<MicroDollars>,
    screen: &mut Screen,
) -> Result<(Settings, Folders), Error> {
    let folders = Folders::from_env(&|name| std::env::var_os(name))?;
    let settings = Settings::load(&folders, &Flags::of(global, max_spend))?;
    // What a file of the user's set is known only now.
    print::hide(Redactor::new(config::secret_variables()));
    *screen = Screen::new(settings.color);
    Ok((settings, folders))
}

/// Does what a command does asynchronously.
fn wait(command: impl Future<Output = Result<Exit, Error>>) -> Result<Exit, Error> {
    tokio::runtime::Runtime::new()
        .map_err(|error| Error::new(Code::CliUsage, format!("cannot start: {error}")))?
        .block_on(command)
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
            env!("BUILD_VERSION"),
            ")"
        ))
        .print(&Screen::new(Color::Auto).err);
}
