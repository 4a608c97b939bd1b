//! Recorded execution: what is done for a process is told to the flight recorder.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aosk_abi::Pid;
use aosk_ports::FlightRecorder;

/// Something that is executed for a process; the recorder names the process until it is dropped,
/// however that comes: a panic that is caught took nobody down.
pub(crate) struct Flight(Option<(Arc<dyn FlightRecorder>, Pid)>);

impl Flight {
    pub(crate) fn enter(recorder: Option<Arc<dyn FlightRecorder>>, pid: Pid) -> Self {
        Self(recorder.map(|recorder| {
            recorder.enter(pid);
            (recorder, pid)
        }))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some((recorder, pid)) = &self.0 {
            recorder.leave(*pid);
        }
    }
}

/// Runs a process's future; while it is polled, and no longer, the recorder names the process.
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

impl<F: Future> Future for Recorded<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _flight = Flight::enter(self.recorder.clone(), self.pid);
        self.future.as_mut().poll(context)
    }
}
