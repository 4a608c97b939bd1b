//! How a run is watched: live on a terminal, line by line elsewhere, or as events in JSON.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aosk_abi::{Pid, Seq, What};
use aosk_ports::{Journal, Store};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use super::board::{Board, News};
use super::live;
use crate::error::Error;
use crate::journal::{self, Texts};
use crate::print::Screen;

/// How often a live display is drawn anew.
const TICK: Duration = Duration::from_millis(100);

/// The task that prints.
pub(super) struct Watch(JoinHandle<()>);

impl Watch {
    /// Begins to print what the board hears.
    pub(super) fn begin(
        json: bool,
        store: Arc<dyn Store>,
        screen: &Arc<Screen>,
    ) -> (Arc<Board>, Self) {
        let (sender, news) = unbounded_channel();
        let board = Arc::new(Board::new(sender));
        let screen = screen.clone();
        let task = if json {
            tokio::spawn(events(news, store, screen))
        } else if screen.err.is_terminal() {
            tokio::spawn(display(news, board.clone(), screen))
        } else {
            tokio::spawn(lines(news, screen))
        };
        (board, Self(task))
    }

    /// Waits until everything is printed.
    pub(super) async fn end(self) {
        if let Err(error) = self.0.await {
            tracing::warn!(%error, "the display ended early");
        }
    }
}

async fn lines(mut news: UnboundedReceiver<News>, screen: Arc<Screen>) {
    while let Some(news) = news.recv().await {
        match news {
            News::Line(line) => screen.err.wrapped(&line),
            News::Durable { .. } => {}
            News::End => return,
        }
    }
}

async fn display(mut news: UnboundedReceiver<News>, board: Arc<Board>, screen: Arc<Screen>) {
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            biased;
            news = news.recv() => {
                if matches!(news, None | Some(News::End)) {
                    screen.err.live(&[]);
                    return;
                }
            }
            _ = tick.tick() => screen.err.live(&live::lines(&board, &screen.err)),
        }
    }
}

async fn events(mut news: UnboundedReceiver<News>, store: Arc<dyn Store>, screen: Arc<Screen>) {
    let mut texts: HashMap<Pid, Texts> = HashMap::new();
    while let Some(news) = news.recv().await {
        let (pid, from, last) = match news {
            News::Line(_) => continue,
            News::Durable { pid, from, last } => (pid, from, last),
            News::End => return,
        };
        let texts = texts.entry(pid).or_default();
        if let Err(error) = print(store.as_ref(), pid, from, last, texts, &screen).await {
            error.print(&screen.err);
        }
    }
}

/// Prints the events `from` to `last` as the journal has them. That of the end carries its text,
/// because it is what scripts wait for.
async fn print(
    store: &dyn Journal,
    pid: Pid,
    from: Seq,
    last: Seq,
    texts: &mut Texts,
    screen: &Screen,
) -> Result<(), Error> {
    let mut entries = journal::read(store, pid, from).await?;
    entries.retain(|entry| entry.record.seq <= last);
    if entries.iter().any(|entry| matches!(entry.event.what, What::Exited(_))) {
        let all = journal::read(store, pid, Seq(0)).await?;
        texts.load_last(store, pid, &all).await?;
    }
    let none = Texts::default();
    for entry in &entries {
        let ends = matches!(entry.event.what, What::Exited(_));
        screen.out.line(&journal::json(pid, entry, if ends { texts } else { &none })?)?;
    }
    Ok(())
}
