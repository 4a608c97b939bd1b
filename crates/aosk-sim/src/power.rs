//! Power: how a simulated machine dies.
//!
//! `kill -9` gives a program no last word. Aborting a task does: its destructors run, and between
//! the decision and the abort other tasks take a few more turns in which they could still write to
//! a disk or call a tool. So a crash is a cut of the power, after which every device answers
//! nothing at all: what waits, waits for ever, and the owner of the executor drops it when it gets
//! to it. However late that is, the world has not moved.
//!
//! A machine can die at any await. The world sees a program only where the program touches it, so
//! two crashes between the same two touches are one crash; and each poll of something that a
//! program awaits from the world is a touch. A [fuse](Power::fused) counts them and blows at the
//! n-th: before the poll or, where that poll brought an answer, before anybody hears it.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tokio::sync::watch;

/// The power supply of one life of a machine. Clones are the same supply.
#[derive(Debug, Clone)]
pub struct Power(Arc<Supply>);

#[derive(Debug)]
struct Supply {
    why: watch::Sender<Option<&'static str>>,
    off: AtomicBool,
    touches: AtomicU64,
    /// The touch at which the fuse blows.
    fuse: u64,
}

impl Default for Power {
    fn default() -> Self {
        Self::fused(u64::MAX)
    }
}

impl Power {
    /// A supply that is on.
    #[must_use]
    pub fn on() -> Self {
        Self::default()
    }

    /// A supply that is cut at that touch of the world, the first being 1.
    #[must_use]
    pub fn fused(fuse: u64) -> Self {
        let (why, off, touches) = (watch::Sender::new(None), false.into(), 0.into());
        Self(Arc::new(Supply { why, off, touches, fuse }))
    }

    /// Cuts it, for that reason. Where it is cut already, the first reason stays.
    pub fn cut(&self, why: &'static str) {
        if !self.0.off.swap(true, Ordering::Relaxed) {
            self.0.why.send_replace(Some(why));
        }
    }

    /// Whether it is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.0.off.load(Ordering::Relaxed)
    }

    /// How often the world was touched.
    #[must_use]
    pub fn touches(&self) -> u64 {
        self.0.touches.load(Ordering::Relaxed)
    }

    /// Completes when it is cut, with the reason.
    pub async fn out(&self) -> &'static str {
        let mut why = self.0.why.subscribe();
        loop {
            if let Some(why) = *why.borrow_and_update() {
                return why;
            }
            // The sender lives in `self`, so the channel cannot close.
            if why.changed().await.is_err() {
                pending::<()>().await;
            }
        }
    }

    /// Goes on while it is on; never where it is cut.
    pub(crate) async fn hold(&self) {
        if !self.is_on() {
            pending::<()>().await;
        }
    }

    /// The same future, of which nothing is heard and in which nothing moves once it is cut.
    pub(crate) fn guard<'a, T>(&self, inner: BoxFuture<'a, T>) -> BoxFuture<'a, T>
    where
        T: 'a,
    {
        Box::pin(Guarded { power: self.clone(), inner })
    }

    /// Counts a touch; whether it is still on then.
    fn touch(&self) -> bool {
        if self.0.touches.fetch_add(1, Ordering::Relaxed) + 1 == self.0.fuse {
            self.cut("at an await");
        }
        self.is_on()
    }
}

/// A future that needs power.
struct Guarded<'a, T> {
    power: Power,
    inner: BoxFuture<'a, T>,
}

impl<T> Future for Guarded<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        if !self.power.touch() {
            return Poll::Pending;
        }
        match self.inner.as_mut().poll(context) {
            Poll::Ready(value) if self.power.touch() => Poll::Ready(value),
            _ => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn a_cut_is_heard_once_and_holds_for_ever() {
        let power = Power::on();
        assert!(power.is_on());
        assert!(power.hold().now_or_never().is_some());
        assert!(power.out().now_or_never().is_none());
        power.clone().cut("first");
        power.cut("second");
        assert!(!power.is_on());
        assert!(power.hold().now_or_never().is_none());
        assert_eq!(power.out().now_or_never(), Some("first"));
    }

    /// What one await does under a fuse: whether it acted, and whether anybody heard.
    fn under(fuse: u64) -> (bool, bool) {
        let (power, mut acted) = (Power::fused(fuse), false);
        let heard = power.guard(Box::pin(async { acted = true })).now_or_never().is_some();
        (acted, heard)
    }

    #[test]
    fn a_fuse_blows_before_an_effect_or_before_its_answer_is_heard() {
        assert_eq!(under(1), (false, false));
        assert_eq!(under(2), (true, false));
        assert_eq!(under(3), (true, true));
    }
}
