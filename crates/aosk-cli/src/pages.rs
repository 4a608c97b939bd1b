//! `aosk completions` and `aosk man`: what the command line says of itself, for shells and `man`.
//!
//! Both are made from the very definition that parses, so they cannot fall behind it.

use std::path::Path;

use aosk_abi::Code;
use clap::CommandFactory;

use crate::args::{Cli, Completions, Man};
use crate::error::Error;
use crate::exit::Exit;
use crate::print::Screen;

pub(crate) fn completions(args: &Completions, screen: &Screen) -> Result<Exit, Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "aosk", &mut script);
    screen.out.raw(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

pub(crate) fn man(args: &Man, screen: &Screen) -> Result<Exit, Error> {
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(Cli::command()).render(&mut page);
        rendered.map_err(|error| Error::new(Code::CliFile, format!("no manual: {error}")))?;
        screen.out.raw(&String::from_utf8_lossy(&page))?;
        return Ok(Exit::Done);
    };
    write_all(dir).map_err(|error| {
        Error::new(Code::CliFile, format!("cannot write the manual pages: {error}")).at(dir, None)
    })?;
    screen.err.wrapped(&format!("Wrote the manual pages to {}.", dir.display()));
    Ok(Exit::Done)
}

fn write_all(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)
}
