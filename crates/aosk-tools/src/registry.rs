//! The tools that there are, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use aosk_abi::ToolSpec;
use aosk_ports::Tool;

use crate::builtin;
use crate::similar::similar;

/// Tools by name. Its order is that of the names, whatever the order of registration, because the
/// list of tools is the front of every prompt.
#[derive(Clone, Default)]
pub struct Registry {
    tools: BTreeMap<String, Arc<dyn Tool>>,
}

/// What is wrong with a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No tool has it.
    #[error("there is no tool `{name}`{}; there are: {}", question(.suggestion), .known.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// The name that was probably meant.
        suggestion: Option<String>,
        /// The names that there are.
        known: Vec<String>,
    },
    /// Another tool has it already.
    #[error("there is a tool `{name}` already: give the second one another name")]
    Taken {
        /// The name.
        name: String,
    },
    /// Endpoints would refuse it.
    #[error("{name:?} cannot name a tool: use 1 to 64 of `a-z A-Z 0-9 _ -`")]
    Unusable {
        /// The name.
        name: String,
    },
}

fn question(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}

impl Registry {
    /// A registry without tools.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A registry with the built-in tools: `calculator`, `list_dir`, `now`, `read_file`,
    /// `search_files`, `write_file`.
    #[must_use]
    pub fn builtin() -> Self {
        let tools = builtin::all();
        Self { tools: tools.map(|tool| (tool.spec().name.clone(), tool)).into() }
    }

    /// Adds a tool under the name of its spec.
    ///
    /// # Errors
    /// [`Error::Taken`], [`Error::Unusable`].
    pub fn register(&mut self, tool: Arc<dyn Tool>) -> Result<(), Error> {
        let name = tool.spec().name.clone();
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(letter) {
            return Err(Error::Unusable { name });
        }
        if self.tools.contains_key(&name) {
            return Err(Error::Taken { name });
        }
        self.tools.insert(name, tool);
        Ok(())
    }

    /// The tool with that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Tool>> {
        self.tools.get(name)
    }

    /// Every name, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tools.keys().map(String::as_str)
    }

    /// What the model is told of the tools with these names, in the order of the names given.
    ///
    /// # Errors
    /// [`Error::Unknown`] for the first name that no tool has.
    pub fn specs<S: AsRef<str>>(&self, names: &[S]) -> Result<Vec<ToolSpec>, Error> {
        let spec = |name: &S| {
            let name = name.as_ref();
            let tool = self.get(name).ok_or_else(|| self.unknown(name))?;
            Ok(tool.spec().clone())
        };
        names.iter().map(spec).collect()
    }

    /// All tools, for a kernel.
    #[must_use]
    pub fn into_tools(self) -> BTreeMap<String, Arc<dyn Tool>> {
        self.tools
    }

    fn unknown(&self, name: &str) -> Error {
        Error::Unknown {
            name: name.to_owned(),
            suggestion: similar(name, self.names()).map(str::to_owned),
            known: self.names().map(str::to_owned).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use aosk_abi::{Effect, ToolResult};
    use aosk_ports::ToolContext;
    use futures::future::BoxFuture;

    use super::*;

    struct Named(ToolSpec);

    impl Tool for Named {
        fn spec(&self) -> &ToolSpec {
            &self.0
        }

        fn isolation(&self) -> &'static str {
            "none"
        }

        fn call(
            &self,
            _: ToolContext,
            _: serde_json::Map<String, serde_json::Value>,
        ) -> BoxFuture<'static, ToolResult> {
            Box::pin(async { ToolResult::ok("done") })
        }
    }

    fn named(name: &str) -> Arc<dyn Tool> {
        Arc::new(Named(ToolSpec {
            name: name.to_owned(),
            description: String::new(),
            parameters: serde_json::json!({"type": "object"}),
            effect: Effect::Pure,
        }))
    }

    #[test]
    fn names_are_in_order_and_specs_in_the_order_asked() {
        let mut registry = Registry::new();
        for name in ["b", "c", "a"] {
            registry.register(named(name)).expect("free");
        }
        assert_eq!(registry.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        let specs = registry.specs(&["c", "a"]).expect("known");
        assert_eq!(specs.iter().map(|spec| &*spec.name).collect::<Vec<_>>(), ["c", "a"]);
        assert_eq!(registry.into_tools().len(), 3);
    }

    #[test]
    fn an_unknown_name_is_answered_with_what_was_meant() {
        let registry = Registry::builtin();
        let error = registry.specs(&["now", "calcluator"]).expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "there is no tool `calcluator` (did you mean `calculator`?); there are: calculator, \
             list_dir, now, read_file, search_files, write_file"
        );
        let error = registry.specs(&["shell"]).expect_err("unknown");
        assert!(error.to_string().starts_with("there is no tool `shell`; there are:"));
    }

    #[test]
    fn a_name_is_taken_once_and_has_one_to_sixty_four_letters() {
        let mut registry = Registry::builtin();
        let taken = registry.register(named("now"));
        assert_eq!(taken, Err(Error::Taken { name: "now".to_owned() }));
        registry.register(named(&"n".repeat(64))).expect("64 letters");
        for bad in ["", "a b", "é", "a.b", &"n".repeat(65)] {
            let refused = registry.register(named(bad));
            assert_eq!(refused, Err(Error::Unusable { name: bad.to_owned() }));
        }
    }
}
