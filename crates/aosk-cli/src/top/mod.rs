//! `aosk top`: the machine as it stands, on a whole screen, once a second.
//!
//! It looks as `aosk ps` does: beside whoever owns the store, and changes nothing by looking. What only
//! the daemon knows (who waits for which endpoint, quotas, tokens a second) it asks the daemon for,
//! and says so where none answers. A key that is to change something leaves a wish in the inbox, as
//! the command of that name does. The terminal is put back as it was, however the program ends.

mod draw;
mod keys;
mod snapshot;
mod view;

use std::io::IsTerminal;
use std::time::Duration;

use aosk_abi::Code;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::args::Top;
use crate::config::Settings;
use crate::error::Error;
use crate::exit::Exit;
use crate::inbox;
use crate::print::Screen;
use crate::signals::Signals;

use keys::Deed;
use snapshot::Snapshot;
use view::View;

pub(crate) use view::Sort;

/// How long the thread that reads keys waits for one before it looks whether it is still needed.
const KEYS: Duration = Duration::from_millis(200);

pub(crate) async fn top(args: &Top, settings: &Settings, screen: &Screen) -> Result<Exit, Error> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err(Error::new(Code::CliUsage, "`aosk top` needs a terminal to draw on")
            .help("for a script: aosk ps --json, aosk devices --json, aosk quota show --json"));
    }
    // Whatever is wrong with the store is said before the screen is taken.
    let first = Snapshot::take(settings).await?;
    let mut view = View::new(first, args.sort);
    let signals = Signals::of_terminal()?;
    let failed = |error: std::io::Error| {
        Error::new(Code::CliUsage, format!("the terminal cannot be drawn on: {error}"))
    };
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let every = Duration::from_secs(args.every.into());
    let ended = watch(&mut terminal, &mut view, every, signals, (settings, screen)).await;
    ratatui::try_restore().map_err(failed)?;
    ended
}

async fn watch(
    terminal: &mut DefaultTerminal,
    view: &mut View,
    every: Duration,
    mut signals: Signals,
    (settings, screen): (&Settings, &Screen),
) -> Result<Exit, Error> {
    let mut keys = listen();
    let mut ticks = tokio::time::interval(every);
    // The first comes at once.
    ticks.tick().await;
    loop {
        terminal.draw(|frame| draw::draw(frame, view)).map_err(|error| {
            Error::new(Code::CliUsage, format!("the terminal cannot be drawn on: {error}"))
        })?;
        let event = tokio::select! {
            biased;
            exit = signals.next() => return Ok(exit),
            event = keys.recv() => event,
            _ = ticks.tick() => {
                view.see(Snapshot::take(settings).await);
                continue;
            }
        };
        let Some(event) = event else { return Ok(Exit::Done) };
        // Of a new size the next drawing takes account.
        let Event::Key(key) = event else { continue };
        if key.kind != KeyEventKind::Press {
            continue;
        }
        match view.press(key) {
            None => {}
            Some(Deed::Quit) => return Ok(Exit::Done),
            Some(Deed::Wish(pid, wish)) => {
                let said = inbox::leave_one(&wish.into(), pid, settings, screen).await;
                view.say(said.unwrap_or_else(|error| error.said()));
                view.see(Snapshot::take(settings).await);
            }
        }
    }
}

/// What is typed, read in a thread of its own: a terminal is read by waiting for it.
fn listen() -> UnboundedReceiver<Event> {
    let (sender, receiver) = unbounded_channel();
    std::thread::spawn(move || {
        while !sender.is_closed() {
            let read = event::poll(KEYS).and_then(|is_there| match is_there {
                true => event::read().map(Some),
                false => Ok(None),
            });
            match read {
                Ok(None) => {}
                Ok(Some(event)) => {
                    if sender.send(event).is_err() {
                        return;
                    }
                }
                // The terminal has gone.
                Err(_) => return,
            }
        }
    });
    receiver
}
