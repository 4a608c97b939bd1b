//! Contents that come in and go out by themselves, of any length.

use std::sync::Arc;

use aosk_abi::{ChunkList, Chunker, Code, Content, ContentKey, Cut, Hash, Seq, Tenant};
use aosk_ports::{ContentReader, ContentStore, ContentWriter, Store, StoreError};

use super::content::noise;
use super::refused;
use crate::scribe::Scribe;
use crate::world::{ContentSite, pid};

const CHUNK: usize = ChunkList::CHUNK;

/// The most bytes that a store reads or takes in one buffer.
const BUFFER: usize = 64 << 20;

async fn write(
    store: &dyn ContentStore,
    key: ContentKey,
    bytes: &[u8],
    piece: usize,
) -> Result<Hash, StoreError> {
    let mut writer = ContentWriter::new(store, &Tenant::local(), key);
    for piece in bytes.chunks(piece) {
        writer.write(piece).await?;
    }
    let reference = writer.finish().await?;
    assert_eq!(reference.len, bytes.len() as u64);
    Ok(reference.hash)
}

async fn read(
    store: &dyn ContentStore,
    tenant: &Tenant,
    key: ContentKey,
    address: Hash,
) -> Result<Vec<u8>, StoreError> {
    let mut reader = ContentReader::open(store, tenant, key, address).await?;
    let mut all = Vec::new();
    while let Some(bytes) = reader.next().await? {
        assert!(bytes.len() <= CHUNK, "{} bytes at once", bytes.len());
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

/// Nothing, a byte, the bounds of what stands beside an event and of a chunk, several chunks; each is
/// durable when it is finished, and an event that names it without bringing it finds it.
pub async fn contents_of_any_length_come_in_and_go_out_by_themselves(
    mut site: Box<dyn ContentSite>,
) {
    let (store, local) = (site.open(), Tenant::local());
    let key = store.content_key(&local).await.expect("its key");
    let (inline, long) = (Content::INLINE_MAX, 3 * CHUNK + 7);
    let lens = [0, 1, inline, inline + 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, long];
    let texts = lens.map(noise);
    for (text, piece) in texts.iter().zip([1, 1000, CHUNK, usize::MAX].into_iter().cycle()) {
        let address = write(&*store, key, text, piece.min(text.len().max(1))).await;
        assert_eq!(address.expect("stored"), key.hash(text));
    }
    drop(store);
    let store = site.open();
    let mut scribe = Scribe::new(as_store(&store), &local, pid(1)).await;
    let borrowed: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    let mut append = scribe.append(&borrowed);
    append.contents.clear();
    store.append(append.clone()).await.expect("begins");
    scribe.follow(&append);
    for (text, seq) in texts.iter().zip(0..) {
        let address = key.hash(text);
        assert!(
            read(&*store, &local, key, address).await.expect("there") == *text,
            "{}",
            text.len()
        );
        let found =
            store.contents(&local, scribe.pid, &[(Seq(seq), address)]).await.expect("named");
        assert!(found[0][..] == text[..], "{}", text.len());
    }
    let nothing = key.hash(b"nothing");
    refused(read(&*store, &local, key, nothing).await, Code::StoreContentMissing);
    let other: Tenant = "other".parse().expect("a name");
    let foreign = read(&*store, &other, key, key.hash(&texts[8])).await;
    refused(foreign, Code::StoreContentMissing);
}

/// A content of the most bytes that fit a buffer is read in one, a longer one only in chunks.
pub async fn what_is_longer_than_a_buffer_is_read_in_chunks_alone(mut site: Box<dyn ContentSite>) {
    let (store, local) = (site.open(), Tenant::local());
    let key = store.content_key(&local).await.expect("its key");
    let mut scribe = Scribe::new(as_store(&store), &local, pid(1)).await;
    for len in [BUFFER, BUFFER + 1] {
        // Equal chunks are stored once, so this takes little.
        let text = vec![b'a'; len];
        let address = write(&*store, key, &text, CHUNK).await.expect("stored");
        let mut append = scribe.append(&[&text]);
        append.contents.clear();
        let seq = scribe.next;
        store.append(append.clone()).await.expect("continues");
        scribe.follow(&append);
        let found = store.contents(&local, scribe.pid, &[(seq, address)]).await;
        if len == BUFFER {
            assert!(found.expect("it fits")[0][..] == text);
        } else {
            refused(found, Code::StoreContentLong);
            assert!(read(&*store, &local, key, address).await.expect("there") == text);
        }
    }
    // Whole, it must fit a buffer too.
    store.put_content(&local, key.seal(vec![b'b'; BUFFER])).await.expect("it fits");
    let longer = key.seal(vec![b'b'; BUFFER + 1]);
    refused(store.put_content(&local, longer).await, Code::EventEncode);
}

/// Nothing is stored that its reader could not check or would not find.
pub async fn a_list_without_its_chunks_and_a_foreign_chunk_are_refused(
    mut site: Box<dyn ContentSite>,
) {
    let (store, local) = (site.open(), Tenant::local());
    let key = store.content_key(&local).await.expect("its key");
    let text = noise(2 * CHUNK + 1);
    let (mut chunker, mut chunks) = (Chunker::new(key), Vec::new());
    let mut rest = &text[..];
    while !rest.is_empty() {
        chunks.extend(chunker.take(&mut rest).expect("short"));
    }
    let Cut::Chunks(last, list) = chunker.finish() else { panic!("three chunks") };
    for chunk in chunks {
        store.put_content(&local, chunk).await.expect("stored");
        refused(store.put_chunks(&local, list.clone()).await, Code::StoreContentMissing);
    }
    assert_eq!(store.chunks(&local, key.hash(&text)).await.expect("answers"), None);
    store.put_content(&local, last).await.expect("stored");
    assert_eq!(store.put_chunks(&local, list.clone()).await.expect("stored"), key.hash(&text));
    assert_eq!(store.chunks(&local, key.hash(&text)).await.expect("answers"), Some(list));

    let other: Tenant = "other".parse().expect("a name");
    let foreign = store.content_key(&other).await.expect("its key").seal(*b"x");
    refused(store.put_content(&local, foreign).await, Code::StoreConflict);
}

fn as_store(store: &Arc<dyn crate::world::WholeStore>) -> &dyn Store {
    &**store
}
