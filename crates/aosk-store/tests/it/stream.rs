//! Long contents: in and out of a store with a chunk of them in memory, damage found on the way.

use std::path::Path;

use aosk_abi::{ChunkList, Code, ContentKey, Tenant};
use aosk_conformance::WholeStore;
use aosk_ports::{ContentReader, ContentWriter, Journal};
use aosk_store::SqliteStore;
use rusqlite::Connection;

use crate::child::{Other, say};
use crate::ledger::setting;
use crate::postgres::server;
use crate::support::{block_on, noise, open, random, refused};

/// The bytes of a content that goes in and out: 100 MB, or what `AOSK_STORE_STREAM_BYTES` asks for.
const LONG: u64 = 100_000_000;

/// By how many KiB the memory of a program may grow at its peak meanwhile.
const BOUND: u64 = 24 << 10;

/// Bytes that do not compress, in pieces, the same from the same seed.
struct Pieces {
    state: u64,
    left: u64,
}

impl Pieces {
    fn of(len: u64) -> Self {
        Self { state: 0x9e37_79b9_7f4a_7c15, left: len }
    }
}

impl Iterator for Pieces {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let len = self.left.min(50_000);
        self.left -= len;
        (len > 0).then(|| noise(random(&mut self.state), len as usize))
    }
}

/// A line of `/proc/self/status`, in KiB.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("there");
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
}

/// The role that writes a long content, reads it back and says by how much its memory grew.
pub(crate) fn stream(store: &dyn WholeStore) {
    let len = setting("AOSK_STORE_STREAM_BYTES", LONG);
    let local = Tenant::local();
    block_on(async {
        let key = store.content_key(&local).await.expect("its key");
        let before = memory("VmRSS");
        let mut writer = ContentWriter::new(store, &local, key);
        for piece in Pieces::of(len) {
            writer.write(&piece).await.expect("stored");
        }
        let written = writer.finish().await.expect("stored");
        assert_eq!(written.len, len);
        let mut reader =
            ContentReader::open(store, &local, key, written.hash).await.expect("there");
        let mut came = Vec::new();
        for piece in Pieces::of(len) {
            while came.len() < piece.len() {
                came.extend_from_slice(&reader.next().await.expect("whole").expect("all of it"));
            }
            assert!(came[..piece.len()] == piece, "other bytes");
            came.drain(..piece.len());
        }
        assert!(came.is_empty() && reader.next().await.expect("ended").is_none(), "no more");
        say(&format!("grew {}", memory("VmHWM") - before));
    });
}

/// By how many KiB a program in that role grew.
fn growth(role: &str, place: &Path) -> u64 {
    // The C library gives large buffers back at once then: what it keeps for later is not the store's.
    let exact = ("MALLOC_MMAP_THRESHOLD_", "131072".into());
    let mut other = Other::start_in(role, place, [exact]);
    other.line("grew ")["grew ".len()..].parse().expect("a number")
}

#[test]
fn a_long_content_goes_through_a_file_in_little_memory() {
    if cfg!(not(target_os = "linux")) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let grew = growth("stream", dir.path());
    println!("{{\"name\":\"stream\",\"peak_growth_kib\":{grew}}}");
    assert!(grew <= BOUND, "{grew} KiB where {BOUND} are allowed");
}

#[test]
fn a_long_content_goes_through_a_server_in_little_memory() {
    if cfg!(not(target_os = "linux")) || !server::is_here() {
        return;
    }
    let place = server::place(&server::options());
    let grew = growth("stream to a server", &place);
    println!("{{\"name\":\"stream to a server\",\"peak_growth_kib\":{grew}}}");
    assert!(grew <= BOUND, "{grew} KiB where {BOUND} are allowed");
}

fn sample(dir: &Path) -> (SqliteStore, ContentKey, aosk_abi::Hash) {
    let (store, local) = (open(dir), Tenant::local());
    let text = noise(5, 2 * ChunkList::CHUNK + 9);
    let (key, address) = block_on(async {
        let key = store.content_key(&local).await.expect("its key");
        let mut writer = ContentWriter::new(&store, &local, key);
        writer.write(&text).await.expect("stored");
        (key, writer.finish().await.expect("stored").hash)
    });
    (store, key, address)
}

#[test]
fn damage_of_a_long_content_is_met_where_it_is_and_never_given_out() {
    let local = Tenant::local();
    // What is altered, and how many chunks come out before that is met.
    for (sql, sound) in [
        ("UPDATE chunked SET len = len - 1", Some(2)),
        ("UPDATE chunked SET chunks = CAST(zeroblob(64) || substr(chunks, 65) AS BLOB)", None),
        ("UPDATE blobs SET bytes = zeroblob(9), codec = 0 WHERE len = 9", Some(2)),
        ("UPDATE blobs SET len = len + 1 WHERE len = 9", Some(2)),
        ("DELETE FROM blobs WHERE len = 9", Some(2)),
        // The chunks change places: each is sound, and stands where it does not belong.
        (
            "UPDATE chunked SET chunks = CAST(substr(chunks, 65, 32) || substr(chunks, 33, 32) \
             || substr(chunks, 1, 32) || substr(chunks, 97) AS BLOB)",
            Some(0),
        ),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        let (store, key, address) = sample(dir.path());
        let database = Connection::open(dir.path().join("aosk.db")).expect("opens");
        database.execute_batch(sql).expect(sql);
        block_on(async {
            let opened = ContentReader::open(&store, &local, key, address).await;
            let Some(sound) = sound else {
                let error = opened.err().expect("a wrong list");
                assert_eq!(error.code, Code::StoreCorrupt, "{sql}: {error}");
                return;
            };
            let mut reader = opened.expect("a sound list");
            for _ in 0..sound {
                assert!(reader.next().await.expect(sql).is_some());
            }
            let error = reader.next().await.expect_err(sql);
            let code = if sql.starts_with("DELETE") {
                Code::StoreContentMissing
            } else {
                Code::StoreCorrupt
            };
            assert_eq!(error.code, code, "{sql}: {error}");
        });
    }
}

#[test]
fn a_program_beside_the_owner_stores_and_reads_contents_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, key, address) = sample(dir.path());
    let (reader, local) =
        (aosk_store::SqliteReader::open(dir.path()).expect("opens"), Tenant::local());
    let text = noise(6, ChunkList::CHUNK + 1);
    block_on(async {
        let mut writer = ContentWriter::new(&reader, &local, key);
        writer.write(&text).await.expect("stored");
        let written = writer.finish().await.expect("stored");
        for (store, address, len) in [
            (&store as &dyn WholeStore as &dyn aosk_ports::ContentStore, written.hash, text.len()),
            (&reader, address, 2 * ChunkList::CHUNK + 9),
        ] {
            let mut read = ContentReader::open(store, &local, key, address).await.expect("there");
            let mut found = 0;
            while let Some(bytes) = read.next().await.expect("whole") {
                found += bytes.len();
            }
            assert_eq!(found, len);
        }
        drop(store);
        // Where nobody owns the store either.
        reader.content_key(&local).await.expect("there");
        let mut writer = ContentWriter::new(&reader, &local, key);
        writer.write(b"more").await.expect("stored");
        assert_eq!(writer.finish().await.expect("stored").len, 4);
        refused(
            ContentReader::open(&reader, &local, key, key.hash(b"none")).await,
            Code::StoreContentMissing,
        );
    });
}
