//! Recorded execution: a future whose every turn is told to the flight recorder.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aosk_abi::Pid;
use aosk_ports::FlightRecorder;

/// Runs a process's future; while it is polled, the recorder names the process.
pub(crate) struct Recorded<F> {
    future: Pin<Box<F>>,
    recorder: Option<Arc<dyn FlightRecorder>>,
    pid: Pid,
}

impl<F> Recorded<F> {
    pub(crate) fn new(future: F, recorder: Option<Arc<dyn FlightRecorder>>, pid: Pid) -> Self {
        Self { future: Box::pin(future), recorder, pid }
    }
}

/// Leaves however the turn ends: a panic that is caught took nobody down.
struct Turn<'a>(&'a dyn FlightRecorder, Pid);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

impl<F: Future> Future for Recorded<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let (recorder, pid) = (self.recorder.clone(), self.pid);
        let turn = recorder.as_deref().map(|recorder| {
            recorder.enter(pid);
            Turn(recorder, pid)
        });
        let answer = self.future.as_mut().poll(context);
        drop(turn);
        answer
    }
}
