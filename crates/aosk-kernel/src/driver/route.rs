//! Where a call goes: which pool of the process's alias, and which model instead of one that is ill.
//!
//! The choice is made when a call is about to stand in a queue, and it is an event where it is another
//! one than before; a plan is made for the model that was chosen. Among the pools of an alias a process
//! moves freely. To a model that is asked instead it moves when none of them can be asked, and not
//! back: what was planned for the window of the one would not fit the other.

use aosk_abi::{Op, Routed, What};

use super::{Driver, demand_of};
use crate::dispatch::{Candidate, choose};
use crate::error::Error;
use crate::image::Pending;

impl Driver {
    /// Chooses the model that the call `op` goes to.
    pub(super) async fn route(&mut self, op: Op) -> Result<(), Error> {
        let shared = self.process.shared.clone();
        let image = &self.process.image;
        let (first, current) = (image.spawned.model.clone(), image.model.clone());
        let spread = shared.parts.spreads.get(&first);
        let instead = shared.parts.alternatives.get(&first);
        if spread.is_none() && instead.is_none() {
            return Ok(());
        }
        let has_begun =
            matches!(image.pending.get(&op), Some(Pending::Infer { attempts: 1.., .. }))
                || image.plan.is_some();
        let is_unplaced = spread.is_some() && current == first;
        // A call that was begun goes on where it is, while that can be asked.
        if has_begun && !is_unplaced && self.is_open(&current).await {
            return Ok(());
        }
        let own = vec![(first.clone(), 1)];
        let pools = spread.unwrap_or(&own);
        let at = instead.and_then(|list| list.iter().position(|name| *name == current));
        let mut chosen = None;
        if at.is_none() {
            let mut candidates = Vec::with_capacity(pools.len());
            for (name, weight) in pools {
                candidates.push(self.candidate(name, *weight).await);
            }
            chosen = choose(&candidates).map(|index| pools[index].0.clone());
        }
        if chosen.is_none() && !self.is_open(&current).await {
            let behind = at.map_or(0, |at| at + 1);
            for name in instead.into_iter().flatten().skip(behind) {
                if self.candidate(name, 1).await.admits {
                    chosen = Some(name.clone());
                    break;
                }
            }
        }
        // Where nobody can be asked, the first pool's turn is waited for.
        let chosen = chosen.or_else(|| is_unplaced.then(|| pools[0].0.clone()));
        match chosen {
            Some(model) if model != current => {
                self.process.emit(What::Routed(Routed { model, op }))
            }
            _ => Ok(()),
        }
    }

    /// Whether that model can be asked now.
    async fn is_open(&self, name: &str) -> bool {
        let shared = &self.process.shared;
        match shared.model(name).await {
            Ok(model) => shared.dispatcher.candidate(&model.device.info().name).admits,
            Err(_) => false,
        }
    }

    async fn candidate(&self, name: &str, weight: u32) -> Candidate {
        let (shared, image) = (&self.process.shared, &self.process.image);
        let is_warm = name == image.model && image.answered.is_some();
        let shut = Candidate { weight, calls: 0, admits: false, is_full: false, is_warm };
        let Ok(model) = shared.model(name).await else {
            return shut;
        };
        let demand = demand_of(&self.means.manifest, &self.means.specs);
        if model.device.accepts(&demand).is_err() {
            return shut;
        }
        // What it says serves whoever chooses after this one.
        drop(shared.dispatcher.look(&model.device));
        Candidate { weight, is_warm, ..shared.dispatcher.candidate(&model.device.info().name) }
    }
}
