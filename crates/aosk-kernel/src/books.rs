//! The books of budgets that processes share: what was drawn of each, durably, before it is spent.
//!
//! The scheduler holds back who has no money left, in memory. A crash would give a day's money back,
//! and another node knows nothing of it. So before a call leaves, its ceiling stands in a slice that
//! the store holds as drawn by this life of the kernel. A slice is a hundredth of the budget, so that
//! a commit is paid for once in many calls. A life that is cut off loses count of its last slice and
//! of the calls in flight: all of that stays spent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use aosk_abi::{MicroDollars, Period, Pid, QuotaOwner, Spend, Tenant, Timestamp};
use aosk_ports::{Clock, Draw, Drawn, Random, Store};
use aosk_scheduler::{Ledger, NoMoney};

use crate::dispatch::{Dispatcher, Purse, window};
use crate::error::Error;

/// The part of a budget that is drawn at once.
const SLICES: u64 = 100;

/// The books.
pub(crate) struct Books {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    dispatcher: Arc<Dispatcher>,
    /// Whose budgets those of pools are.
    tenant: Tenant,
    /// The number of this life of the kernel, drawn when it is first needed.
    drawer: OnceLock<u64>,
    pages: Mutex<BTreeMap<Which, Page>>,
    /// Held while the store is asked: a drawer has one number, so it asks one thing at a time.
    drawing: tokio::sync::Mutex<()>,
}

/// Who pays for a call: the process, its tenant and its group.
pub(crate) type Payer = (Pid, Tenant, String);

/// A budget: whose, and of which windows. One that is of days now and was of months before keeps
/// both pages, for a drawer that forgot what it had drawn would draw it again.
type Which = (Purse, Option<Period>);

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
    parts: Vec<(Which, Timestamp)>,
}

/// A budget that does not cover a call: others have spent of it.
#[derive(Debug)]
pub(crate) struct Unpaid {
    pub(crate) purse: Purse,
    pub(crate) left: MicroDollars,
}

impl Books {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        (clock, random): (Arc<dyn Clock>, Arc<dyn Random>),
        dispatcher: Arc<Dispatcher>,
        tenant: Tenant,
    ) -> Self {
        let (pages, drawing) = (Mutex::default(), tokio::sync::Mutex::default());
        let drawer = OnceLock::new();
        Self { store, clock, random, dispatcher, tenant, drawer, pages, drawing }
    }

    /// The budgets on a process's way to a device.
    fn way(&self, (pid, tenant, group): &Payer, device: &str) -> Vec<(Purse, Spend)> {
        let way = [
            QuotaOwner::Pool(device.to_owned()),
            QuotaOwner::Tenant(tenant.clone()),
            QuotaOwner::Group(tenant.clone(), group.clone()),
        ];
        self.dispatcher.purses(*pid, way)
    }

    /// Makes known to the scheduler what is left of the budgets on a process's way.
    pub(crate) async fn open(&self, payer: &Payer, device: &str) -> Result<(), Error> {
        for (purse, spend) in self.way(payer, device) {
            // Of one who was away the scheduler has forgotten what it had spent.
            if self.dispatcher.is_untold(&purse) {
                self.change(&purse, spend).await?;
            } else {
                self.turn_to(&purse, spend).await?;
            }
        }
        Ok(())
    }

    /// The budget is of other windows from now on: makes known to the scheduler what is left of the
    /// present one.
    pub(crate) async fn change(&self, purse: &Purse, spend: Spend) -> Result<(), Error> {
        if self.turn_to(purse, spend).await? {
            return Ok(());
        }
        let which = (purse.clone(), spend.per);
        let left = self.lock().get(&which).map(|page| page.ledger.left());
        left.map_or(Ok(()), |left| self.dispatcher.begin_window(purse, left))
    }

    /// Opens the page of the present window with that limit, if it is not open; whether the scheduler
    /// was told that a window begins.
    pub(crate) async fn turn_to(&self, purse: &Purse, spend: Spend) -> Result<bool, Error> {
        let which = (purse.clone(), spend.per);
        if self.is_open(&which, spend) {
            return Ok(false);
        }
        let _drawing = self.drawing.lock().await;
        if self.is_open(&which, spend) {
            return Ok(false);
        }
        let now = self.clock.now();
        let (began, ends) = match spend.per {
            Some(per) => window(per, now),
            None => (Timestamp::from_millis(0), Timestamp::from_millis(u64::MAX)),
        };
        let left = Duration::from_millis(ends.millis_since(now));
        let closes = spend.per.map(|_| self.clock.monotonic().saturating_add(left));
        let passed = self.clock.monotonic();
        let open = self.lock().get_mut(&which).filter(|page| began <= page.began).map(|page| {
            // The wall was put back meanwhile: the window is not over.
            if page.closes.is_some_and(|closes| closes <= passed) {
                page.closes = closes;
            }
            (page.began, page.ledger.carved(), page.spend == spend)
        });
        let (at, carved) = match open {
            Some((_, _, true)) => return Ok(false),
            Some((at, carved, false)) => (at, carved),
            None => (began, MicroDollars::ZERO),
        };
        let Drawn { others, .. } = self.draw(&which, at, carved, spend.limit).await?;
        let limit = spend.limit.saturating_sub(others);
        if open.is_some() {
            if let Some(page) = self.lock().get_mut(&which) {
                page.ledger.raise(limit);
                page.spend = spend;
            }
            return Ok(false);
        }
        let slice = MicroDollars(spend.limit.0 / SLICES);
        let ledger = Ledger::new(limit, slice, MicroDollars::ZERO);
        self.lock().insert(which, Page { spend, began, closes, ledger });
        self.dispatcher.begin_window(purse, limit)?;
        Ok(true)
    }

    fn is_open(&self, which: &Which, spend: Spend) -> bool {
        let now = self.clock.monotonic();
        let is_open =
            |page: &Page| page.spend == spend && page.closes.is_none_or(|closes| now < closes);
        self.lock().get(which).is_some_and(is_open)
    }

    /// Takes the ceiling of a call out of every budget on its way, durably; the inner error is a
    /// budget that has not that much left.
    pub(crate) async fn pay(
        &self,
        payer: &Payer,
        device: &str,
        amount: MicroDollars,
    ) -> Result<Result<Paid, Unpaid>, Error> {
        let mut paid = Paid { amount, parts: Vec::new() };
        if amount == MicroDollars::ZERO {
            return Ok(Ok(paid));
        }
        for (purse, spend) in self.way(payer, device) {
            let which = (purse, spend.per);
            let taken = match self.turn_to(&which.0, spend).await {
                Ok(_) => self.take(&which, amount).await,
                Err(error) => Err(error),
            };
            match taken {
                Ok(Ok(began)) => paid.parts.push((which, began)),
                Ok(Err(left)) => {
                    self.settle(&paid, MicroDollars::ZERO);
                    return Ok(Err(Unpaid { purse: which.0, left }));
                }
                Err(error) => {
                    self.settle(&paid, MicroDollars::ZERO);
                    return Err(error);
                }
            }
        }
        Ok(Ok(paid))
    }

    /// Takes an amount out of one budget; which window it was, or what is left.
    async fn take(
        &self,
        which: &Which,
        amount: MicroDollars,
    ) -> Result<Result<Timestamp, MicroDollars>, Error> {
        if let Some(Ok(began)) = self.reserve(which, amount) {
            return Ok(Ok(began));
        }
        let _drawing = self.drawing.lock().await;
        loop {
            let slice = match self.reserve(which, amount) {
                Some(Ok(began)) => return Ok(Ok(began)),
                Some(Err(NoMoney::Carve(slice))) => slice,
                Some(Err(NoMoney::Spent { left, .. })) => return Ok(Err(left)),
                // Its window was opened a moment ago and is never closed.
                None => return Ok(Err(MicroDollars::ZERO)),
            };
            let Some((spend, began, carved)) = self.page(which) else {
                return Ok(Err(MicroDollars::ZERO));
            };
            let Drawn { granted, others } =
                self.draw(which, began, carved + slice, spend.limit).await?;
            let mut pages = self.lock();
            if let Some(page) = pages.get_mut(which).filter(|page| page.began == began) {
                page.ledger.raise(spend.limit.saturating_sub(others));
                if granted {
                    // What was granted is within the limit that was just set.
                    let _ = page.ledger.carve(slice);
                }
            }
        }
    }

    fn page(&self, which: &Which) -> Option<(Spend, Timestamp, MicroDollars)> {
        self.lock().get(which).map(|page| (page.spend, page.began, page.ledger.carved()))
    }

    fn reserve(&self, which: &Which, amount: MicroDollars) -> Option<Result<Timestamp, NoMoney>> {
        let mut pages = self.lock();
        let page = pages.get_mut(which)?;
        Some(page.ledger.reserve(amount).map(|()| page.began))
    }

    /// Replaces what was taken for a call by what it cost. Of a window that is over nothing comes
    /// back.
    pub(crate) fn settle(&self, paid: &Paid, cost: MicroDollars) {
        let mut pages = self.lock();
        for (which, began) in &paid.parts {
            if let Some(page) = pages.get_mut(which).filter(|page| page.began == *began) {
                page.ledger.settle(paid.amount, cost);
            }
        }
    }

    /// Gives back what was drawn and not spent; for a kernel that begins no call any more.
    pub(crate) async fn close(&self) -> Result<(), Error> {
        let _drawing = self.drawing.lock().await;
        let back: Vec<_> = {
            let mut pages = self.lock();
            let unspent = pages.iter_mut().filter_map(|(which, page)| {
                let back = page.ledger.give_back();
                let kept = page.ledger.carved();
                (back > MicroDollars::ZERO).then(|| (which.clone(), page.began, kept, page.spend))
            });
            unspent.collect()
        };
        for (which, began, kept, spend) in back {
            self.draw(&which, began, kept, spend.limit).await?;
        }
        Ok(())
    }

    async fn draw(
        &self,
        (purse, per): &Which,
        window: Timestamp,
        drawn: MicroDollars,
        limit: MicroDollars,
    ) -> Result<Drawn, Error> {
        let tenant = match purse {
            Purse::Shared(QuotaOwner::Tenant(tenant) | QuotaOwner::Group(tenant, _)) => tenant,
            Purse::Shared(QuotaOwner::Pool(_)) | Purse::Process(_) => &self.tenant,
        };
        let tenant = tenant.clone();
        let drawer = *self.drawer.get_or_init(|| {
            let mut number = [0; 8];
            self.random.fill(&mut number);
            u64::from_le_bytes(number)
        });
        // The first day of a month begins when the month does: they must not be one budget.
        let budget = match per {
            None => purse.to_string(),
            Some(Period::Day) => format!("{purse} a day"),
            Some(Period::Month) => format!("{purse} a month"),
        };
        Ok(self.store.draw(Draw { tenant, budget, window, drawer, drawn, limit }).await?)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Which, Page>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
