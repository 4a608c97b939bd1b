//! Aliases: one name for several pools, in the order in which they are tried.

use std::collections::BTreeMap;

use crate::error::Error;

/// Names that stand for pools or for other names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aliases {
    targets: BTreeMap<String, Vec<String>>,
}

impl Aliases {
    /// No alias.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets a name stand for others, the first of them first; what it stood for is forgotten.
    pub fn set(&mut self, alias: &str, targets: &[&str]) {
        let targets = targets.iter().map(|&target| target.to_owned()).collect();
        self.targets.insert(alias.to_owned(), targets);
    }

    /// The pools behind a name, in the order in which they are tried, each once. A name that is a
    /// pool stands for itself, whatever alias has the same name.
    ///
    /// # Errors
    /// [`Error::AliasCycle`], [`Error::UnknownTarget`].
    pub fn resolve<'a>(
        &'a self,
        name: &'a str,
        is_pool: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<&'a str>, Error> {
        let mut pools = Vec::new();
        self.collect(name, name, is_pool, &mut Vec::new(), &mut pools)?;
        Ok(pools)
    }

    fn collect<'a>(
        &'a self,
        alias: &str,
        name: &'a str,
        is_pool: &dyn Fn(&str) -> bool,
        way: &mut Vec<&'a str>,
        pools: &mut Vec<&'a str>,
    ) -> Result<(), Error> {
        if is_pool(name) {
            if !pools.contains(&name) {
                pools.push(name);
            }
            return Ok(());
        }
        if way.contains(&name) {
            let way = way.iter().map(|&step| step.to_owned()).collect();
            return Err(Error::AliasCycle(name.to_owned(), way));
        }
        let Some(targets) = self.targets.get(name) else {
            let (alias, name) = (alias.to_owned(), name.to_owned());
            return Err(Error::UnknownTarget { alias, name });
        };
        way.push(name);
        for target in targets {
            self.collect(name, target, is_pool, way, pools)?;
        }
        way.pop();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_pool(name: &str) -> bool {
        name.starts_with("pool")
    }

    #[test]
    fn an_alias_gives_its_pools_in_order_and_each_once() {
        let mut aliases = Aliases::new();
        aliases.set("fast", &["pool-b", "cheap", "pool-c"]);
        aliases.set("cheap", &["pool-a", "pool-b"]);
        let pools = aliases.resolve("fast", &is_pool);
        assert_eq!(pools, Ok(vec!["pool-b", "pool-a", "pool-c"]));
        assert_eq!(aliases.resolve("pool-a", &is_pool), Ok(vec!["pool-a"]));
    }

    #[test]
    fn a_cycle_and_a_name_without_a_pool_are_named() {
        let mut aliases = Aliases::new();
        aliases.set("a", &["pool-a", "b"]);
        aliases.set("b", &["a"]);
        let cycle = Error::AliasCycle("a".into(), vec!["a".into(), "b".into()]);
        assert_eq!(aliases.resolve("a", &is_pool), Err(cycle));
        aliases.set("b", &["nowhere"]);
        let unknown = Error::UnknownTarget { alias: "b".into(), name: "nowhere".into() };
        assert_eq!(aliases.resolve("a", &is_pool), Err(unknown));
    }
}
