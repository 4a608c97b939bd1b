//! Watching a file or a folder, for those who would otherwise look again and again.
//!
//! The system tells (inotify), and a thread hands it on, so that the store works under any
//! executor. It sleeps until something happens: a kernel with nothing to do wakes the processor
//! not once, where a look every quarter of a second costs 240 wake-ups a minute. inotify has
//! limits (128 instances a user on many systems) and is missing on some file systems; whoever
//! cannot watch looks now and then.

use std::ffi::CStr;
use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread::JoinHandle;

use futures::task::AtomicWaker;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::{Errno, retry_on_intr, write};

/// What is watched until it is dropped. One task at a time may wait for it.
#[derive(Debug)]
pub struct Watch {
    news: Arc<News>,
    end: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread hands over: whether something happened since it was last taken.
#[derive(Debug, Default)]
struct News {
    there: AtomicBool,
    waker: AtomicWaker,
}

impl Watch {
    /// Tells when the file of that name in the folder is removed, gets another name, or another
    /// file gets its name. There need be no such file now.
    ///
    /// # Errors
    /// Those of the system: the folder is not there, or no more can be watched.
    pub fn removal(folder: &Path, name: &'static CStr) -> std::io::Result<Self> {
        let moved = WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        Self::start(folder, name, WatchFlags::DELETE | moved)
    }

    /// Tells when somebody who had the file of that name open for writing closes it, or dies.
    ///
    /// # Errors
    /// As for [`removal`](Self::removal).
    pub(super) fn closing(folder: &Path, name: &'static CStr) -> std::io::Result<Self> {
        Self::start(folder, name, WatchFlags::CLOSE_WRITE)
    }

    fn start(folder: &Path, name: &'static CStr, what: WatchFlags) -> std::io::Result<Self> {
        let watched = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        // The folder and not the file, because a file may be removed and made again.
        inotify::add_watch(&watched, folder, what | WatchFlags::ONLYDIR)?;
        let end = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let news = Arc::new(News::default());
        let thread = Thread { watched, name, end: Arc::clone(&end), news: Arc::clone(&news) };
        let name = "aosk-store-watch".to_owned();
        let thread = std::thread::Builder::new().name(name).spawn(move || thread.run())?;
        Ok(Self { news, end, thread: Some(thread) })
    }

    /// Resolves when something happened since the last time that it did.
    pub async fn changed(&self) {
        poll_fn(|context| {
            self.news.waker.register(context.waker());
            match self.news.there.swap(false, Ordering::SeqCst) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // An eventfd that was never written to takes a one.
        if write(&self.end, &1_u64.to_ne_bytes()).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

struct Thread {
    watched: OwnedFd,
    name: &'static CStr,
    end: Arc<OwnedFd>,
    news: Arc<News>,
}

impl Thread {
    fn run(self) {
        // Room for some events; a name takes up to 256 bytes.
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(self.watched.as_fd(), &mut buffer);
        loop {
            let mut ready =
                [PollFd::new(&self.watched, PollFlags::IN), PollFd::new(&self.end, PollFlags::IN)];
            let polled = retry_on_intr(|| poll(&mut ready, None));
            if polled.is_err() || !ready[1].revents().is_empty() {
                return;
            }
            loop {
                match reader.next() {
                    Ok(event) if event.file_name() == Some(self.name) => self.tell(),
                    // The folder is gone, or there were too many events to hold.
                    Ok(event) if event.file_name().is_none() => self.tell(),
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(Errno::WOULDBLOCK) => break,
                    Err(_) => return self.tell(),
                }
            }
        }
    }

    fn tell(&self) {
        self.news.there.store(true, Ordering::SeqCst);
        self.news.waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{OpenOptions, remove_file, rename, write};
    use std::time::Duration;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_secs(10);
    const LONG: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn a_watch_tells_of_its_file_and_of_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let (own, other) = (folder.path().join("own"), folder.path().join("other"));
        let closing = Watch::closing(folder.path(), c"own").expect("watched");
        let removal = Watch::removal(folder.path(), c"own").expect("watched");

        write(&other, "1").expect("written");
        remove_file(&other).expect("there");
        assert!(timeout(LONG, closing.changed()).await.is_err());
        for _ in 0..2 {
            write(&own, "1").expect("written");
            write(&own, "2").expect("written");
            timeout(SOON, closing.changed()).await.expect("told");
            assert!(timeout(LONG, removal.changed()).await.is_err());
            remove_file(&own).expect("there");
            timeout(SOON, removal.changed()).await.expect("told");
            write(&other, "3").expect("written");
            rename(&other, &own).expect("there");
            timeout(SOON, removal.changed()).await.expect("told");
            remove_file(&own).expect("there");
            timeout(SOON, removal.changed()).await.expect("told");
            // The second of the two may have come after the first was told.
            let _ = timeout(LONG, closing.changed()).await;
        }
    }

    #[tokio::test]
    async fn whoever_dies_with_the_file_open_closes_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = folder.path().join("own");
        write(&own, "").expect("written");
        let closing = Watch::closing(folder.path(), c"own").expect("watched");
        let holder = OpenOptions::new().append(true).open(&own).expect("open");
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .stdout(holder)
            .spawn()
            .expect("a child");
        assert!(timeout(LONG, closing.changed()).await.is_err());
        child.kill().expect("killed");
        timeout(SOON, closing.changed()).await.expect("told");
        child.wait().expect("gone");
    }
}
