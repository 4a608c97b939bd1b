//! Wake-ups: a hint that something waits, so that nobody needs to ask all the time.
//!
//! A `NOTIFY` inside a commit takes a lock that the whole database shares, which halves the
//! throughput; so it is never sent in the transaction of a step. A node sends at most one for each
//! [`TICK`], however much happened, over a connection of its own, on which it also listens. Hints
//! may be lost; a count that grows each [`POLL`] by itself makes up for them.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::future::poll_fn;
use tokio::sync::{Notify, watch};
use tokio_postgres::AsyncMessage;

use super::fault::{Fault, quoted};
use super::session::{Backoff, Sessions};

/// How long hints are gathered.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// After what time without a hint a look is due all the same.
pub(super) const POLL: Duration = Duration::from_secs(1);

/// The bell of a node.
#[derive(Debug)]
pub(super) struct Bell {
    rung: Notify,
    heard: watch::Sender<u64>,
}

impl Bell {
    pub(super) fn new() -> Self {
        Self { rung: Notify::new(), heard: watch::Sender::new(0) }
    }

    /// Tells all nodes that something waits, at the next tick.
    pub(super) fn ring(&self) {
        self.rung.notify_one();
    }

    /// A count that grows with every hint.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.heard.subscribe()
    }

    fn hear(&self) {
        self.heard.send_modify(|count| *count += 1);
    }
}

/// The channel of a store.
fn channel(schema: &str) -> String {
    quoted(&format!("aosk:{schema}").chars().take(50).collect::<String>())
}

/// The statement that tells all nodes at once, for those who have no bell.
pub(super) fn notify(schema: &str) -> String {
    format!("NOTIFY {}", channel(schema))
}

/// Listens and rings, for as long as it is polled.
pub(super) async fn attend(sessions: Arc<Sessions>, bell: Arc<Bell>) {
    let polls = async {
        loop {
            tokio::time::sleep(POLL).await;
            bell.hear();
        }
    };
    let hints = async {
        let mut backoff = Backoff::new();
        loop {
            if let Err(Fault::Lost(what)) = listen(&sessions, &bell, &mut backoff).await {
                sessions.line.down(&what);
            }
            backoff.pause().await;
        }
    };
    let ((), ()) = futures::join!(polls, hints);
}

/// One connection's life.
async fn listen(sessions: &Sessions, bell: &Bell, backoff: &mut Backoff) -> Result<(), Fault> {
    let (client, mut connection) = sessions.address.config.connect(sessions.dial.tls()).await?;
    let mut messages = pin!(async {
        loop {
            match poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(_))) => bell.hear(),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(Fault::from(error)),
                None => return Ok(()),
            }
        }
    });
    let schema = &sessions.address.schema;
    let mut ring = pin!(async {
        client.batch_execute(&format!("LISTEN {}", channel(schema))).await?;
        *backoff = Backoff::new();
        // What was posted before anybody listened.
        bell.hear();
        loop {
            bell.rung.notified().await;
            client.batch_execute(&notify(schema)).await?;
            tokio::time::sleep(TICK).await;
        }
    });
    poll_fn(|context| {
        if let Poll::Ready(end) = messages.as_mut().poll(context) {
            return Poll::Ready(end);
        }
        ring.as_mut().poll(context)
    })
    .await
}
