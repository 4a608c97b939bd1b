//! What a step costs in the database.

use aosk_abi::Tenant;
use aosk_conformance::Scribe;
use aosk_ports::JournalWriter;
use aosk_store::PostgresOptions;

use super::server::{is_here, open, options_in_a_database_of_its_own, psql};
use crate::child::pid;
use crate::growth::{PAYLOAD, step};
use crate::support::block_on;

const AGENTS: u64 = 16;

/// The bytes of all tables with their indexes and what was moved out of them.
async fn bytes(options: &PostgresOptions) -> i64 {
    let client = psql(options).await;
    client.batch_execute("VACUUM processes").await.expect("swept");
    let sql = "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class AS c \
               WHERE c.relnamespace = $1::text::regnamespace AND c.relkind = 'r'";
    client.query_one(sql, &[&options.schema]).await.expect("measured").get(0)
}

#[test]
fn a_step_costs_its_payload_and_a_constant_whatever_the_history() {
    if !is_here() {
        return;
    }
    let options = options_in_a_database_of_its_own();
    let store = open(&options);
    block_on(async {
        let mut scribes = Vec::new();
        for n in 0..AGENTS {
            scribes.push(Scribe::new(&store, &Tenant::local(), pid(n)).await);
        }
        let mut at = vec![bytes(&options).await];
        for n in 0..400 {
            let mut last = None;
            for (agent, scribe) in (0..).zip(&mut scribes) {
                let append = step(scribe, n, agent);
                scribe.follow(&append);
                last = Some(store.append(append));
            }
            if (n + 1) % 100 == 0 {
                last.expect("an agent").await.expect("acknowledged");
                at.push(bytes(&options).await);
            }
        }
        let per_step = |bytes: i64| bytes as f64 / (AGENTS * 100) as f64;
        let (first, last) = (per_step(at[1] - at[0]), per_step(at[4] - at[3]));
        println!("bytes a step: {first:.0} in the first hundred, {last:.0} in the last");
        assert!(last - PAYLOAD as f64 <= 900.0, "{last} bytes for {PAYLOAD} of payload");
        assert!((at[4] - at[0]) as f64 / (at[1] - at[0]) as f64 <= 4.1, "{at:?}");
    });
}
