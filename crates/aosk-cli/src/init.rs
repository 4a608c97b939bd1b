//! `aosk init`: a manifest that explains itself.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};

use aosk_abi::Code;

use crate::args::Init;
use crate::error::Error;
use crate::exit::Exit;
use crate::print::{Ink, Screen};

/// What a new manifest says.
const MANIFEST: &str = include_str!("agent.toml");

pub(crate) fn init(args: &Init, screen: &Screen) -> Result<Exit, Error> {
    let path = if args.path.is_dir() { args.path.join("agent.toml") } else { args.path.clone() };
    let failed = |error: std::io::Error| {
        let told = Error::new(Code::CliFile, format!("cannot write the manifest: {error}"));
        let told = told.at(&path, None);
        match error.kind() {
            ErrorKind::AlreadyExists => Error::new(Code::CliFile, "there is a file already")
                .at(&path, None)
                .help("nothing was changed; give another name: aosk init NAME.toml"),
            ErrorKind::NotFound => told.help("make the folder first"),
            _ => told,
        }
    };
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
    file.write_all(MANIFEST.as_bytes()).map_err(failed)?;
    let name = path.display();
    let strong = |text: &str| screen.out.paint(Ink::Strong, text);
    screen.out.line(&format!("Wrote {name}. Every key is explained there.\n"))?;
    screen.out.line("Next, say where models are asked, with one of:")?;
    screen.out.line(&strong("  export OPENAI_BASE_URL=http://127.0.0.1:8080/v1"))?;
    screen.out.line("      for a server on this machine, such as llama.cpp or Ollama")?;
    screen.out.line(&strong("  export OPENAI_API_KEY=…"))?;
    screen.out.line(&format!("      and a priced model: `model = \"gpt-5-mini\"` in {name}\n"))?;
    screen.out.line("Then:")?;
    screen.out.line(&strong(&format!("  aosk run {name} \"What is 17 * 23?\"")))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aosk_abi::Manifest;
    use aosk_tools::Registry;

    use super::*;

    /// The manifest with every key that stands there as a comment switched on.
    fn all_on() -> String {
        MANIFEST
            .lines()
            .map(|line| match line.strip_prefix("#: ") {
                Some(setting) => format!("{setting}\n"),
                None => format!("{line}\n"),
            })
            .collect()
    }

    #[test]
    fn the_manifest_is_valid_with_and_without_its_optional_keys() {
        assert!(Manifest::from_toml(MANIFEST).is_ok());
        let all = Manifest::from_toml(&all_on()).expect("valid");
        assert!(Registry::builtin().specs(&all.tools).is_ok());
    }

    #[test]
    fn every_key_of_a_manifest_is_explained() {
        // An unknown key is answered with all known ones, so serde itself says what there is.
        let keys = |table: &str, needed: &str| {
            let error =
                Manifest::from_toml(&format!("{needed}\n{table}\nx_x = 1")).expect_err("key");
            let names: BTreeSet<String> =
                error.message.split('`').skip(3).step_by(2).map(str::to_owned).collect();
            assert!(!names.is_empty(), "{}", error.message);
            names
        };
        let text = all_on();
        for (table, needed) in [
            ("", "name = \"a\""),
            ("[react]", "name = \"a\""),
            ("[sampling]", "name = \"a\""),
            ("[context]", "name = \"a\""),
            ("[quota]", "name = \"a\""),
            ("[restart]", "name = \"a\""),
        ] {
            for key in keys(table, needed) {
                let set = text.lines().any(|line| line.starts_with(&format!("{key} =")));
                let is_table = text.contains(&format!("[{key}]"));
                assert!(set || is_table, "{table} {key} is not explained");
            }
        }
    }

    #[test]
    fn lines_fit_into_eighty_columns() {
        assert!(MANIFEST.lines().all(|line| line.chars().count() <= 80));
    }
}
