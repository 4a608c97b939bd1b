//! The index on a server.

use std::sync::Arc;

use aosk_abi::{Code, Hash, PageId, PageKind, Pid, Seq, Tenant, Timestamp};
use aosk_conformance::{Library, Stems};
use aosk_ports::{Batch, Embedder, Entry, Item, Query, Retriever, Space};
use aosk_store::{PostgresOptions, SearchIndex};

use crate::postgres::server::{is_here, open, options, psql};
use crate::support::{block_on, refused};

struct Schema(PostgresOptions);

impl Schema {
    fn new() -> Self {
        let options = options();
        drop(open(&options));
        Self(options)
    }
}

impl Library for Schema {
    fn open(&mut self, embedder: Option<Arc<dyn Embedder>>) -> Arc<dyn Retriever> {
        Arc::new(SearchIndex::on_server(&self.0, embedder).expect("an index that opens"))
    }
}

aosk_conformance::retrieval_tests!(when is_here() => Schema::new());

/// A role that may not install pgvector: words are searched, and each answer says what is missing.
#[test]
fn a_server_without_vectors_is_searched_by_words_and_says_what_it_lacks() {
    if !is_here() {
        return;
    }
    block_on(async {
        let options = options();
        let client = psql(&options).await;
        let role = format!("seeker_{}", options.schema);
        let database = format!("bare_{}", options.schema);
        for sql in [
            format!("CREATE ROLE {role} LOGIN"),
            format!("CREATE DATABASE {database}"),
            format!("GRANT CREATE ON DATABASE {database} TO {role}"),
        ] {
            client.batch_execute(&sql).await.expect("made");
        }
        let url = options.url.replace("postgres@", &format!("{role}@"));
        let url = url.replace("/postgres?", &format!("/{database}?"));
        let options = PostgresOptions { url, ..options };
        refused(SearchIndex::on_server(&options, None), Code::StoreOpen);
        drop(open(&options));
        let stems = Stems::new("stems", 64);
        let index = SearchIndex::on_server(&options, Some(stems.clone())).expect("opens");
        let pid = Pid::from_bytes([1; 16]);
        let entry = Entry {
            space: Space::Process(pid),
            pid,
            page: PageId(1),
            start: 0,
            seq: Seq(1),
            hash: Hash::ZERO,
            kind: PageKind::Message,
            time: Timestamp::from_millis(0),
            tags: Vec::new(),
        };
        let item = Item { entry, text: "the lighthouse is lit".into() };
        let tenant = Tenant::local();
        let batch = Batch { tenant: tenant.clone(), items: vec![item], followed: None };
        index.index(batch).await.expect("put in");
        let coverage = index.embed(10).await.expect("answers");
        assert_eq!((coverage.items, coverage.waiting), (1, 1));
        assert_eq!(stems.calls(), 0, "nobody asks for vectors that cannot be kept");
        let query = Query::new(tenant, Space::Process(pid), "lighthouse", 10);
        let found = index.query(query).await.expect("an answer");
        assert_eq!(found.hits.len(), 1);
        assert!(found.words_only.is_some_and(|why| why.contains("CREATE EXTENSION vector")));
    });
}

/// Of two nodes with embedders of their own one keeps its vectors, and the other hears of it.
#[test]
fn two_embedders_never_fill_one_index() {
    if !is_here() {
        return;
    }
    block_on(async {
        let mut schema = Schema::new();
        let first = schema.open(Some(Stems::new("first", 64)));
        let _second = schema.open(Some(Stems::new("second", 96)));
        let pid = Pid::from_bytes([1; 16]);
        let entry = Entry {
            space: Space::Process(pid),
            pid,
            page: PageId(1),
            start: 0,
            seq: Seq(1),
            hash: Hash::ZERO,
            kind: PageKind::Message,
            time: Timestamp::from_millis(0),
            tags: Vec::new(),
        };
        let items = vec![Item { entry, text: "the lighthouse is lit".into() }];
        let tenant = Tenant::local();
        first.index(Batch { tenant, items, followed: None }).await.expect("put in");
        let error = refused(first.embed(10).await, Code::StoreConflict);
        assert!(error.message.contains("one embedder for all nodes"), "{error}");
    });
}

/// A graph that does not fit into the memory that it is made in takes many times as long.
#[test]
fn a_graph_is_made_in_512_mb_or_in_what_the_server_gives_if_need_be_without_workers() {
    if !is_here() {
        return;
    }
    block_on(async {
        // No machine has a terabyte for workers to share.
        for (given, taken, workers) in
            [("64MB", "512MB", "2"), ("600MB", "600MB", "2"), ("1TB", "1TB", "0")]
        {
            // Without this a small table gets no workers.
            let least = if workers == "0" { "0" } else { "8MB" };
            let options = options();
            let database = format!("roomy_{}", options.schema);
            let client = psql(&options).await;
            for sql in [
                format!("CREATE DATABASE {database}"),
                format!("ALTER DATABASE {database} SET maintenance_work_mem = '{given}'"),
                format!("ALTER DATABASE {database} SET min_parallel_table_scan_size = '{least}'"),
            ] {
                client.batch_execute(&sql).await.expect("made");
            }
            let url = options.url.replace("/postgres?", &format!("/{database}?"));
            let options = PostgresOptions { url, ..options };
            drop(open(&options));
            let client = psql(&options).await;
            let watch = "CREATE TABLE public.made (index text, memory text, workers text); \
                CREATE FUNCTION public.watch() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN \
                INSERT INTO public.made SELECT object_identity, \
                current_setting('maintenance_work_mem'), \
                current_setting('max_parallel_maintenance_workers') FROM pg_event_trigger_ddl_commands(); END $$; \
                CREATE EVENT TRIGGER watch ON ddl_command_end WHEN TAG IN ('CREATE INDEX') \
                EXECUTE FUNCTION public.watch()";
            client.batch_execute(watch).await.expect("watched");
            let stems = Stems::new("stems", 8);
            let index = SearchIndex::on_server(&options, Some(stems)).expect("opens");
            let pid = Pid::from_bytes([1; 16]);
            let item = |n: u32| {
                let entry = Entry {
                    space: Space::Process(pid),
                    pid,
                    page: PageId(n),
                    start: 0,
                    seq: Seq(n.into()),
                    hash: Hash::ZERO,
                    kind: PageKind::Message,
                    time: Timestamp::from_millis(0),
                    tags: Vec::new(),
                };
                Item { entry, text: format!("{n} lit lighthouses").into() }
            };
            let items = (0..2_100).map(item).collect();
            let tenant = Tenant::local();
            index.index(Batch { tenant, items, followed: None }).await.expect("put in");
            while index.embed(500).await.expect("answers").waiting > 0 {}
            let graph = "SELECT memory, workers FROM public.made \
                WHERE index LIKE '%search_vectors_graph'";
            let made = client.query_one(graph, &[]).await.expect("a graph");
            let made: (String, String) = (made.get(0), made.get(1));
            assert_eq!(made, (taken.to_owned(), workers.to_owned()), "of {given}");
        }
    });
}
