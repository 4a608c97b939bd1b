//! The model: a store as a map, in as few words as possible. It is what the checks forgot to say.

use std::collections::BTreeMap;
use std::sync::Arc;

use aosk_abi::{Code, ContentKey, Hash, Pid, Record, Seq, Tenant};
use aosk_ports::{Append, Checkpoint, InboxId, InboxItem, Receipt, Stretch};

/// A process of the model.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) receipt: Receipt,
    pub(crate) records: Vec<Record>,
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) stretches: Vec<Stretch>,
    pub(crate) contents: BTreeMap<(Seq, Hash), Arc<[u8]>>,
}

/// The model.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) processes: BTreeMap<(Tenant, Pid), Process>,
    pub(crate) inbox: Vec<(Tenant, Pid, InboxId, InboxItem)>,
}

impl Model {
    /// What an append must answer; changes the model if it is accepted.
    pub(crate) fn append(&mut self, key: &ContentKey, append: &Append) -> Result<Seq, Code> {
        let (Some(first), Some(last)) = (append.records.first(), append.records.last()) else {
            return Err(Code::StoreConflict);
        };
        let mut prev = append.prev;
        for (record, seq) in append.records.iter().zip(first.seq.0..) {
            let linked = record.verify(&append.tenant, append.pid, prev).is_ok();
            if !linked || record.seq.0 != seq || record.epoch != append.epoch {
                return Err(Code::StoreConflict);
            }
            prev = record.hash;
        }
        if append.checkpoint.as_ref().is_some_and(|it| it.seq != last.seq) {
            return Err(Code::StoreConflict);
        }
        let name = (append.tenant.clone(), append.pid);
        let there = self.processes.get(&name);
        let (epoch, next, head) = there.map_or((append.epoch, Seq(0), append.prev), |it| {
            (it.receipt.epoch, it.receipt.next, it.receipt.head)
        });
        if append.epoch != epoch {
            return Err(Code::StoreStaleEpoch);
        }
        if first.seq < next {
            let stored = there.map_or(&[][..], |it| &it.records).iter().skip(first.seq.0 as usize);
            let same = stored.take(append.records.len()).eq(&append.records);
            return if same { Ok(last.seq) } else { Err(Code::StoreConflict) };
        }
        let mine = |id: &InboxId| {
            self.inbox.iter().any(|it| (&it.0, it.1, &it.2) == (&append.tenant, append.pid, id))
        };
        let sealed = append.contents.iter().all(|it| key.hash(it.bytes()) == it.hash());
        if (first.seq, append.prev) != (next, head) || !append.consumed.iter().all(mine) || !sealed
        {
            return Err(Code::StoreConflict);
        }

        self.inbox.retain(|it| !append.consumed.contains(&it.2));
        let receipt = Receipt {
            tenant: append.tenant.clone(),
            pid: append.pid,
            epoch,
            next: last.seq.next(),
            head: last.hash,
            row: append.row.clone(),
        };
        let process = self.processes.entry(name).or_insert_with(|| Process {
            receipt: receipt.clone(),
            records: Vec::new(),
            checkpoint: None,
            stretches: Vec::new(),
            contents: BTreeMap::new(),
        });
        process.receipt = receipt;
        process.records.extend(append.records.iter().cloned());
        if let Some(saved) = &append.checkpoint {
            process.checkpoint = Some(saved.settle(&mut process.stretches));
        }
        for content in &append.contents {
            for record in &append.records {
                process.contents.insert((record.seq, content.hash()), Arc::clone(content.bytes()));
            }
        }
        Ok(last.seq)
    }

    /// What removing items of a process must answer; of others' it removes none.
    pub(crate) fn dismiss(
        &mut self,
        tenant: &Tenant,
        pid: Pid,
        next: Seq,
        items: &[InboxId],
    ) -> Result<(), Code> {
        match self.processes.get(&(tenant.clone(), pid)) {
            None => return Err(Code::StoreUnknownProcess),
            Some(there) if there.receipt.next != next => return Err(Code::StoreConflict),
            Some(_) => {}
        }
        self.inbox.retain(|it| (&it.0, it.1) != (tenant, pid) || !items.contains(&it.2));
        Ok(())
    }
}
