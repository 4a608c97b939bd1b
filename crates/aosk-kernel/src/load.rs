//! Loading an image: the last checkpoint and the events after it.

use aosk_abi::{Code, Hash, Pid, Record, Seq, Tenant};
use aosk_ports::{Journal, StoreError};

use crate::error::Error;
use crate::image::{FoldError, Image, Saved};

/// How many events are read at once. A record is about 300 bytes, so a chunk is well below 1 MB.
const CHUNK: usize = 1024;

/// Folds the journal of a process up to its end, or up to `at`, from its best checkpoint on.
///
/// # Errors
/// [`Error::Store`] where the journal cannot be read, there is none or its chain is broken;
/// [`Error::Fold`] where it does not fold.
pub async fn load(
    journal: &dyn Journal,
    tenant: &Tenant,
    pid: Pid,
    at: Option<Seq>,
) -> Result<Image, Error> {
    load_from(journal, tenant, pid, at).await.map(|loaded| loaded.image)
}

/// An image with what is known of how it was read.
pub(crate) struct Loaded {
    pub(crate) image: Image,
    /// The first event that had to be read: behind the checkpoint, or 0 where none was of use.
    pub(crate) first: Seq,
    /// What of its history the store has for the next checkpoint to stand on.
    pub(crate) saved: Saved,
}

/// The same with what is needed to write on.
pub(crate) async fn load_from(
    journal: &dyn Journal,
    tenant: &Tenant,
    pid: Pid,
    at: Option<Seq>,
) -> Result<Loaded, Error> {
    let checkpoint = journal.checkpoint(tenant, pid, at).await?;
    let is_its_own = |(image, _): &(Image, _)| image.pid == pid && image.tenant == *tenant;
    let found = checkpoint.as_ref().and_then(Image::from_checkpoint_with).filter(is_its_own);
    let (mut image, saved) = found.unzip();
    let (first, saved) =
        (image.as_ref().map_or(Seq(0), |image| image.next), saved.unwrap_or_default());
    loop {
        let from = image.as_ref().map_or(Seq(0), |image| image.next);
        if at.is_some_and(|at| from > at) {
            break;
        }
        let records = journal.read(tenant, pid, from, CHUNK).await?;
        let wanted = records.iter().filter(|record| at.is_none_or(|at| record.seq <= at));
        let mut any = false;
        for record in wanted {
            any = true;
            image = Some(fold(image, tenant, pid, record)?);
        }
        if !any {
            break;
        }
    }
    image.map(|image| Loaded { image, first, saved }).ok_or_else(|| {
        StoreError::new(
            Code::StoreUnknownProcess,
            format!("there is no process {pid}; `aosk ps --all` lists those there are"),
        )
        .into()
    })
}

fn fold(image: Option<Image>, tenant: &Tenant, pid: Pid, record: &Record) -> Result<Image, Error> {
    let error = |source: FoldError| Error::Fold { pid, source };
    let head = image.as_ref().map_or(Hash::ZERO, |image| image.head);
    record
        .verify(tenant, pid, head)
        .map_err(|broken| StoreError::new(Code::ChainBroken, broken.to_string()))?;
    let Some(mut image) = image else {
        return Image::begin(tenant, pid, record).map_err(error);
    };
    image.apply(record).map_err(error)?;
    Ok(image)
}
