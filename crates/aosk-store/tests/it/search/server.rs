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
