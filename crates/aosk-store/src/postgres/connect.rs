//! How a connection is made, and what it must have before anything else is asked of it.

use std::pin::pin;
use std::time::Duration;

use deadpool_postgres::Connect;
use futures::future::{BoxFuture, Either, select};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::fault::quoted;
use super::host::{Berth, Wire};

/// Makes connections to one store.
#[derive(Clone)]
pub(super) struct Dial {
    tls: MakeRustlsConnect,
    settings: String,
    /// Where connections are left that their user hosts; without it each is a task of its own.
    berth: Option<Berth>,
}

impl Dial {
    pub(super) fn new(tls: MakeRustlsConnect, schema: &str, lease: Duration) -> Self {
        // Names are looked up in the store's schema alone. A server, a database or a role may be set
        // up to acknowledge before it wrote; a store may not be. Every statement is run thousands
        // of times with other values and one good plan, so none is planned anew.
        // Whoever falls asleep inside a transaction holds rows that nobody else could take over: the
        // server ends it well before the lease.
        let settings = format!(
            "SET search_path TO {}; \
             SELECT set_config('synchronous_commit', 'on', false) \
             WHERE current_setting('synchronous_commit') = 'off'; \
             SET plan_cache_mode = force_generic_plan; SET jit = off; \
             SET default_transaction_isolation = 'read committed'; \
             SET statement_timeout = 0; SET lock_timeout = '10s'; \
             SET idle_in_transaction_session_timeout = {}; SET client_min_messages = warning",
            quoted(schema),
            (lease / 2).as_millis()
        );
        Self { tls, settings, berth: None }
    }

    /// The same for connections that find every row by its key and live with their user.
    ///
    /// Of a table that was never analysed the server knows nothing and plans to read all of it, which
    /// with 10,000 processes takes each append 1.7 ms in place of 0.2. It is analysed up to a minute
    /// after it has grown.
    pub(super) fn by_key(&self, berth: Berth) -> Self {
        let settings = format!(
            "{}; SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off",
            self.settings
        );
        Self { tls: self.tls.clone(), settings, berth: Some(berth) }
    }

    /// What makes encrypted connections.
    pub(super) fn tls(&self) -> MakeRustlsConnect {
        self.tls.clone()
    }
}

impl Connect for Dial {
    fn connect(&self, config: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        let config = config.clone();
        Box::pin(async move {
            let (client, connection) = config.connect(self.tls.clone()).await?;
            let wire: Wire = Box::pin(async move {
                // Whoever uses the client hears of its end, with the reason.
                let _ = connection.await;
            });
            let task = match &self.berth {
                None => {
                    let task = tokio::spawn(wire);
                    client.batch_execute(&self.settings).await?;
                    task
                }
                Some(berth) => {
                    let set = pin!(client.batch_execute(&self.settings));
                    match select(set, wire).await {
                        Either::Left((set, wire)) => {
                            set?;
                            berth.leave(wire);
                        }
                        // It says why the wire has ended.
                        Either::Right(((), set)) => set.await?,
                    }
                    // The pool wants a task to end with the client.
                    tokio::spawn(async {})
                }
            };
            Ok((client, task))
        })
    }
}
