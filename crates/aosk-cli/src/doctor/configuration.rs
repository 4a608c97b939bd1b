//! The settings, as `aosk run` reads them.

use crate::args::Global;
use crate::config::{Flags, Folders, Settings};

use super::Check;

/// The project's settings, in the folder one stands in.
const PROJECT: &str = "aosk.toml";

/// Reads the settings; `None` where they are wrong.
pub(super) fn settings(global: &Global, checks: &mut Vec<Check>) -> Option<(Settings, Folders)> {
    let loaded = Folders::from_env(&|name| std::env::var_os(name)).and_then(|folders| {
        let settings = Settings::load(&folders, &Flags::of(global, None))?;
        Ok((settings, folders))
    });
    match loaded {
        Ok((settings, folders)) => {
            let user = folders.settings();
            let files = [user.display().to_string(), format!("./{PROJECT}")];
            let there: Vec<&str> = files
                .iter()
                .zip([user.exists(), std::path::Path::new(PROJECT).exists()])
                .filter_map(|(file, exists)| exists.then_some(file.as_str()))
                .collect();
            let limit =
                format!("a run may spend {} ({})", settings.max_spend, settings.max_spend_from);
            let said = if there.is_empty() {
                format!("no file; {limit}")
            } else {
                format!("{}; {limit}", there.join(", "))
            };
            checks.push(Check::ok("settings", said));
            Some((settings, folders))
        }
        Err(error) => {
            checks.push(Check::missing("settings", &error));
            None
        }
    }
}
