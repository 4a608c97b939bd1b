//! A tokenizer that has to ask somebody.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aosk_abi::{Exit, Ppm, Tokens, What};
use aosk_kernel::{Model, Outcome};
use aosk_ports::Tokenizer;
use futures::future::BoxFuture;

use crate::support::{Kit, Quarters, Say, spawn};

/// Knows only what it was prepared for, which takes it a while.
#[derive(Default)]
struct Asking {
    known: Mutex<HashSet<String>>,
    unknown: Mutex<Vec<String>>,
}

impl Tokenizer for Asking {
    fn id(&self) -> String {
        "asking".to_owned()
    }

    fn prepare<'a>(&'a self, texts: &'a [Arc<str>]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.known.lock().unwrap().extend(texts.iter().map(|text| text.to_string()));
        })
    }

    fn count(&self, text: &str) -> Tokens {
        if !self.known.lock().unwrap().contains(text) {
            self.unknown.lock().unwrap().push(text.to_owned());
        }
        Quarters.count(text)
    }

    fn per_message(&self) -> Tokens {
        Quarters.per_message()
    }

    fn error(&self) -> Ppm {
        Ppm(0)
    }

    fn observe(&self, _: Tokens, _: Tokens) {}
}

#[tokio::test(start_paused = true)]
async fn every_text_is_prepared_before_it_is_counted_and_the_plan_names_what_counted() {
    let calls = Say::Calls(vec![("pure", r#"{"a":1}"#), ("keyed", "{}")]);
    let kit = Kit::new(vec![Say::Call("pure", "{}"), calls, Say::Text("ok")]);
    let tokenizer = Arc::new(Asking::default());
    let model = Model { device: kit.puppet.clone(), tokenizer: tokenizer.clone() };
    let kernel = kit.kernel_of(kit.store(), |parts| {
        parts.models.insert("puppet".to_owned(), model);
    });
    let pid = kernel.spawn(spawn("a task")).await.unwrap();
    let outcome = kernel.wait(pid).await.unwrap();
    assert!(matches!(outcome, Outcome::Exited(Exit::Completed { .. })), "{outcome:?}");
    assert_eq!(*tokenizer.unknown.lock().unwrap(), Vec::<String>::new());
    assert!(tokenizer.known.lock().unwrap().len() > 8, "system, task, calls, ids, results");
    let events = kit.events(pid).await;
    let named = events.iter().find_map(|event| match event {
        What::Planned(planned) => planned.under.tokenizer.clone(),
        _ => None,
    });
    assert_eq!(named.as_deref(), Some("asking"));
}
