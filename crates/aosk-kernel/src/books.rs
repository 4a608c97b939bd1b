//! The books of budgets that processes share: what was drawn of each, durably, before it is spent.
//!
//! The scheduler holds back who has no money left, in memory. A crash would give a day's money back,
//! and another node knows nothing of it. So before a call leaves, its ceiling stands in a slice that
//! the store holds as drawn by this life of the kernel. A slice is a hundredth of the budget, so that
//! a commit is paid for once in many calls. A life that is cut off loses count of its last slice and
//! of the calls in flight: all of that stays spent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aosk_abi::{Limits, MicroDollars, Sharing, Spend, Tenant, Timestamp};
use aosk_ports::{Clock, Draw, Drawn, Store};
use aosk_scheduler::{Ledger, NoMoney};

use crate::dispatch::{Dispatcher, Payer, window};
use crate::error::Error;

/// The part of a budget that is drawn at once.
const SLICES: u64 = 100;

/// The books.
pub(crate) struct Books {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    dispatcher: Arc<Dispatcher>,
    sharing: Sharing,
    /// Whose budgets those of pools are.
    tenant: Tenant,
    drawer: u64,
    pages: Mutex<BTreeMap<Payer, Page>>,
    /// Held while the store is asked: a drawer has one number, so it asks one thing at a time.
    drawing: tokio::sync::Mutex<()>,
}

/// A budget in one window.
struct Page {
    spend: Spend,
    began: Timestamp,
    /// When the window ends, by the monotonic clock: a wall that is put forward by a month must not
    /// give a month's money.
    closes: Option<Duration>,
    /// Of what others leave of the budget.
    ledger: Ledger,
}

/// What was taken out of budgets for a call.
#[derive(Debug, Default)]
pub(crate) struct Paid {
    amount: MicroDollars,
    /// With the window that it was taken from.
    parts: Vec<(Payer, Timestamp)>,
}

impl Books {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        dispatcher: Arc<Dispatcher>,
        (sharing, tenant): (Sharing, Tenant),
        drawer: u64,
    ) -> Self {
        let (pages, drawing) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { store, clock, dispatcher, sharing, tenant, drawer, pages, drawing }
    }

    /// The budgets on a process's way to a device.
    fn way(&self, tenant: &Tenant, group: &str, device: &str) -> Vec<(Payer, Spend)> {
        let owner = self.sharing.tenants.get(tenant.as_str());
        let group_of = owner.and_then(|owner| owner.groups.get(group));
        let pool = self.sharing.pools.get(device);
        let found: [(Payer, Option<&Limits>); 3] = [
            (Payer::Pool(device.to_owned()), pool.map(|pool| &pool.quota)),
            (Payer::Tenant(tenant.clone()), owner.map(|owner| &owner.quota)),
            (Payer::Group(tenant.clone(), group.to_owned()), group_of.map(|group| &group.quota)),
        ];
        let spends = found.into_iter().filter_map(|(payer, limits)| Some((payer, limits?.spend?)));
        spends.collect()
    }

    /// Makes known to the scheduler what is left of the budgets on a process's way.
    pub(crate) async fn open(
        &self,
        tenant: &Tenant,
        group: &str,
        device: &str,
    ) -> Result<(), Error> {
        for (payer, spend) in self.way(tenant, group, device) {
            self.turn_to(&payer, spend).await?;
        }
        Ok(())
    }

    /// Opens the page of the present window, if it is not open.
    async fn turn_to(&self, payer: &Payer, spend: Spend) -> Result<(), Error> {
        if self.is_open(payer) {
            return Ok(());
        }
        let _drawing = self.drawing.lock().await;
        if self.is_open(payer) {
            return Ok(());
        }
        let now = self.clock.now();
        let (began, ends) = match spend.per {
            Some(per) => window(per, now),
            None => (Timestamp::from_millis(0), Timestamp::from_millis(u64::MAX)),
        };
        let left = Duration::from_millis(ends.millis_since(now));
        let closes = spend.per.map(|_| self.clock.monotonic().saturating_add(left));
        if let Some(page) = self.lock().get_mut(payer).filter(|page| began <= page.began) {
            // The wall was put back meanwhile: the window is not over.
            page.closes = closes;
            return Ok(());
        }
        let Drawn { others, .. } = self.draw(payer, began, MicroDollars::ZERO, spend.limit).await?;
        let slice = MicroDollars(spend.limit.0 / SLICES);
        let left = spend.limit.saturating_sub(others);
        let ledger = Ledger::new(left, slice, MicroDollars::ZERO);
        self.lock().insert(payer.clone(), Page { spend, began, closes, ledger });
        self.dispatcher.begin_window(payer, left)
    }

    fn is_open(&self, payer: &Payer) -> bool {
        let now = self.clock.monotonic();
        let is_open = |page: &Page| page.closes.is_none_or(|closes| now < closes);
        self.lock().get(payer).is_some_and(is_open)
    }

    /// Takes the ceiling of a call out of every budget on its way, durably; `None` where one has not
    /// that much left, of which the scheduler knows then.
    pub(crate) async fn pay(
        &self,
        tenant: &Tenant,
        group: &str,
        device: &str,
        amount: MicroDollars,
    ) -> Result<Option<Paid>, Error> {
        let mut paid = Paid { amount, parts: Vec::new() };
        if amount == MicroDollars::ZERO {
            return Ok(Some(paid));
        }
        for (payer, spend) in self.way(tenant, group, device) {
            let taken = match self.turn_to(&payer, spend).await {
                Ok(()) => self.take(&payer, amount).await,
                Err(error) => Err(error),
            };
            match taken {
                Ok(Ok(began)) => paid.parts.push((payer, began)),
                Ok(Err(left)) => {
                    self.settle(&paid, MicroDollars::ZERO);
                    self.dispatcher.leave(&payer, left)?;
                    return Ok(None);
                }
                Err(error) => {
                    self.settle(&paid, MicroDollars::ZERO);
                    return Err(error);
                }
            }
        }
        Ok(Some(paid))
    }

    /// Takes an amount out of one budget; which window it was, or what is left.
    async fn take(
        &self,
        payer: &Payer,
        amount: MicroDollars,
    ) -> Result<Result<Timestamp, MicroDollars>, Error> {
        if let Some(Ok(began)) = self.reserve(payer, amount) {
            return Ok(Ok(began));
        }
        let _drawing = self.drawing.lock().await;
        loop {
            let slice = match self.reserve(payer, amount) {
                Some(Ok(began)) => return Ok(Ok(began)),
                Some(Err(NoMoney::Carve(slice))) => slice,
                Some(Err(NoMoney::Spent { left, .. })) => return Ok(Err(left)),
                // Its window was opened a moment ago and is never closed.
                None => return Ok(Err(MicroDollars::ZERO)),
            };
            let Some((spend, began, carved)) = self.page(payer) else {
                return Ok(Err(MicroDollars::ZERO));
            };
            let Drawn { granted, others } =
                self.draw(payer, began, carved + slice, spend.limit).await?;
            let mut pages = self.lock();
            if let Some(page) = pages.get_mut(payer).filter(|page| page.began == began) {
                page.ledger.raise(spend.limit.saturating_sub(others));
                if granted {
                    // What was granted is within the limit that was just set.
                    let _ = page.ledger.carve(slice);
                }
            }
        }
    }

    fn page(&self, payer: &Payer) -> Option<(Spend, Timestamp, MicroDollars)> {
        self.lock().get(payer).map(|page| (page.spend, page.began, page.ledger.carved()))
    }

    fn reserve(&self, payer: &Payer, amount: MicroDollars) -> Option<Result<Timestamp, NoMoney>> {
        let mut pages = self.lock();
        let page = pages.get_mut(payer)?;
        Some(page.ledger.reserve(amount).map(|()| page.began))
    }

    /// Replaces what was taken for a call by what it cost. Of a window that is over nothing comes
    /// back.
    pub(crate) fn settle(&self, paid: &Paid, cost: MicroDollars) {
        let mut pages = self.lock();
        for (payer, began) in &paid.parts {
            if let Some(page) = pages.get_mut(payer).filter(|page| page.began == *began) {
                page.ledger.settle(paid.amount, cost);
            }
        }
    }

    /// Gives back what was drawn and not spent; for a kernel that begins no call any more.
    pub(crate) async fn close(&self) -> Result<(), Error> {
        let _drawing = self.drawing.lock().await;
        let back: Vec<_> = {
            let mut pages = self.lock();
            let unspent = pages.iter_mut().filter_map(|(payer, page)| {
                let back = page.ledger.give_back();
                let kept = page.ledger.carved();
                (back > MicroDollars::ZERO).then(|| (payer.clone(), page.began, kept, page.spend))
            });
            unspent.collect()
        };
        for (payer, began, kept, spend) in back {
            self.draw(&payer, began, kept, spend.limit).await?;
        }
        Ok(())
    }

    async fn draw(
        &self,
        payer: &Payer,
        window: Timestamp,
        drawn: MicroDollars,
        limit: MicroDollars,
    ) -> Result<Drawn, Error> {
        let tenant = match payer {
            Payer::Tenant(tenant) | Payer::Group(tenant, _) => tenant.clone(),
            Payer::Pool(_) => self.tenant.clone(),
        };
        let (budget, drawer) = (payer.budget(), self.drawer);
        Ok(self.store.draw(Draw { tenant, budget, window, drawer, drawn, limit }).await?)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Payer, Page>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
